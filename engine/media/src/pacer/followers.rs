//! Legs that listen in on others: a pacer sends their copies in the slots of those whom they follow.

use super::{Index, Pacer, SLOT_NS, at, due_of, seats};
use crate::{
    leg::{Leg, LegId},
    time::{Grid, Now},
};

impl Pacer {
    pub(super) fn follow(&mut self, now: Now, id: LegId, leader: LegId) {
        let (Some(&index), Some(&leader)) = (self.by_id.get(&id), self.by_id.get(&leader)) else { return };
        if index == leader || !self.leg(index).is_alone() || !self.leg(leader).lead(index) {
            return;
        }
        self.leg(index).follow(leader);
        self.join(index, leader, now.mono.as_nanos() / SLOT_NS + 1);
        for slot in self.seats_of(leader) {
            self.followers[slot] += 1;
            self.make_room(slot);
        }
    }

    /// The slots of a leg that plays; none of one that does not.
    fn seats_of(&mut self, index: Index) -> impl Iterator<Item = usize> + use<> {
        let leg = self.leg(index);
        let (slot, grid) = (leg.slot(), Grid::of(leg.codec()));
        slot.into_iter().flat_map(move |slot| seats(slot.into(), grid))
    }

    /// A follower gets copies from the next time that its leader is served, which is not before `earliest` and not before
    /// the leader begins.
    pub(super) fn join(&mut self, index: Index, leader: Index, earliest: u64) {
        let open = earliest.max(self.cursor);
        let leader = self.leg(leader);
        let slots = Grid::of(leader.codec()).tick_ns() / SLOT_NS;
        if let Some((first, slot)) = leader.plays_from() {
            let slot = u64::from(slot) % slots;
            let ahead = (slot + slots - open % slots) % slots;
            self.copy_from(index, (open + ahead).max(first.0 * slots + slot));
        }
    }

    pub(super) fn unfollow(&mut self, id: LegId) {
        if let Some(&index) = self.by_id.get(&id) {
            self.leave(index);
        }
    }

    fn leave(&mut self, index: Index) {
        let Some(leader) = self.leg(index).leader() else { return };
        self.leg(leader).lead_no_more(index);
        for slot in self.seats_of(leader) {
            self.followers[slot] -= 1;
        }
        self.leg(index).part();
    }

    /// A leg goes away: nobody follows it any more, and it follows nobody.
    pub(super) fn part(&mut self, index: Index) {
        while let Some(&follower) = self.leg(index).followers().last() {
            self.leg(index).lead_no_more(follower);
            self.leg(follower).part();
        }
        self.leave(index);
    }

    /// A leg begins to play at `place`.
    pub(super) fn begin_followers(&mut self, leader: Index, place: u64) {
        let crowd = self.leg(leader).followers().len();
        for number in 0..crowd {
            let follower = self.leg(leader).followers()[number];
            self.copy_from(follower, place);
        }
    }

    /// A leg plays no more.
    pub(super) fn end_followers(&mut self, leader: Index) {
        let crowd = self.leg(leader).followers().len();
        for number in 0..crowd {
            let follower = self.leg(leader).followers()[number];
            self.leg(follower).copy_no_more();
        }
    }

    /// A leg is silent for a while, if it is.
    pub(super) fn pause_followers(&mut self, leader: Index) {
        for number in 0..self.leg(leader).followers().len() {
            let follower = self.leg(leader).followers()[number];
            pause(&mut self.legs, follower);
        }
    }

    /// A leg has been negotiated anew: who follows it, or whom it follows, may have another codec. Then it is silent, and
    /// its next packet will be the first after a pause.
    pub(super) fn compare_codecs(&mut self, index: Index) {
        let codec = self.leg(index).codec();
        for number in 0..self.leg(index).followers().len() {
            let follower = self.leg(index).followers()[number];
            if self.leg(follower).codec() != codec {
                self.leg(follower).pause();
            }
        }
        if let Some(leader) = self.leg(index).leader()
            && self.leg(leader).codec() != codec
        {
            self.leg(index).pause();
        }
    }

    fn copy_from(&mut self, follower: Index, place: u64) {
        let random = self.random.next();
        let leg = self.leg(follower);
        leg.copy_from(Grid::of(leg.codec()).tick_at(due_of(place)), due_of(place), random);
    }
}

/// A leg pauses if the one that it follows, if it follows any, does.
pub(super) fn pause(legs: &mut [Option<Box<Leg>>], index: Index) {
    let leg = |index: Index| legs[at(index)].as_ref();
    let leader = leg(index).and_then(|leg| leg.leader()).and_then(leg);
    if leader.is_some_and(|leader| leader.pauses())
        && let Some(leg) = &mut legs[at(index)]
    {
        leg.pause();
    }
}

/// Keeps a payload for those who are to get a copy of it.
pub(super) fn keep<'a>(room: &'a mut [u8], payload: &[u8]) -> Option<&'a [u8]> {
    let room = room.get_mut(..payload.len())?;
    room.copy_from_slice(payload);
    Some(room)
}
