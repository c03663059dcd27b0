//! Legs that listen in on others: a pacer sends their copies in the slots of those whom they follow.

use super::{Index, Pacer, SLOTS, at, due_of, tick_of};
use crate::{
    leg::{Leg, LegId},
    time::Now,
};

impl Pacer {
    pub(super) fn follow(&mut self, now: Now, id: LegId, leader: LegId) {
        let (Some(&index), Some(&leader)) = (self.by_id.get(&id), self.by_id.get(&leader)) else { return };
        if index == leader || !self.leg(index).is_alone() || !self.leg(leader).lead(index) {
            return;
        }
        self.leg(index).follow(leader);
        if let Some((first, slot)) = self.leg(leader).plays_from() {
            // The next time that the slot is served, but not before the leader begins.
            let open = (now.mono.as_nanos() / super::SLOT_NS + 1).max(self.cursor);
            let ahead = (u64::from(slot) + SLOTS as u64 - open % SLOTS as u64) % SLOTS as u64;
            let place = (open + ahead).max(first.0 * SLOTS as u64 + u64::from(slot));
            self.copy_from(index, place);
            self.followers[usize::from(slot)] += 1;
            self.make_room(usize::from(slot));
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
        if let Some(slot) = self.leg(leader).slot() {
            self.followers[usize::from(slot)] -= 1;
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
        self.followers[super::slot_of(place)] += crowd;
    }

    /// A leg plays no more in `slot`.
    pub(super) fn end_followers(&mut self, leader: Index, slot: usize) {
        let crowd = self.leg(leader).followers().len();
        for number in 0..crowd {
            let follower = self.leg(leader).followers()[number];
            self.leg(follower).copy_no_more();
        }
        self.followers[slot] -= crowd;
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
        self.leg(follower).copy_from(tick_of(place), due_of(place), random);
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
