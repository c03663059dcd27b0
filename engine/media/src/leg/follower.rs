//! A leg that listens in: it gets, packet for packet, a copy of what another leg, its leader, sends, in its own numbering
//! and to its own destination.

use holdmusic_codecs::Codec;

use super::{Filled, Leg};
use crate::{
    rtcp,
    rtp::HEADER_LEN,
    time::{MediaTime, Tick},
};

/// Legs that may follow the same one: its slot sends that many packets more, and 8 of them take 40 µs.
pub const MAX_FOLLOWERS: usize = 8;

/// Who follows a leg, or whom it follows: never both. Legs are named by their place in the pacer.
#[derive(Debug)]
pub(crate) enum Company {
    /// These follow it.
    Leads(Vec<u32>),
    /// It follows another.
    Follows(Following),
}

/// What a leg that follows another must know.
#[derive(Debug)]
pub(crate) struct Following {
    leader: u32,
    /// The tick from which on the leader plays; `None` between its holds.
    since: Option<Tick>,
    /// Whether it has been told that the receiver said goodbye.
    pub(super) said_goodbye: bool,
}

impl Leg {
    /// Whether others follow it.
    pub(crate) fn leads(&self) -> bool {
        self.company.as_deref().is_some_and(|company| matches!(company, Company::Leads(_)))
    }

    /// Those who follow it.
    pub(crate) fn followers(&self) -> &[u32] {
        match self.company.as_deref() {
            Some(Company::Leads(followers)) => followers,
            _ => &[],
        }
    }

    /// Whom it follows.
    pub(crate) fn leader(&self) -> Option<u32> {
        self.following().map(|following| following.leader)
    }

    /// It has nobody for company and plays nothing, so that it may follow another.
    pub(crate) fn is_alone(&self) -> bool {
        self.company.is_none() && self.hold.is_none()
    }

    /// It follows `leader` from now on.
    pub(crate) fn follow(&mut self, leader: u32) {
        let following = Following { leader, since: None, said_goodbye: false };
        self.company = Some(Box::new(Company::Follows(following)));
    }

    /// It follows nobody any more.
    pub(crate) fn part(&mut self) {
        if self.leader().is_some() {
            self.copy_no_more();
            self.company = None;
        }
    }

    /// One more follows it; `false` if there are as many as there may be, or it follows somebody itself.
    pub(crate) fn lead(&mut self, follower: u32) -> bool {
        let company = self.company.get_or_insert_with(|| {
            // Room for all, so that it never moves.
            Box::new(Company::Leads(Vec::with_capacity(MAX_FOLLOWERS)))
        });
        match &mut **company {
            Company::Leads(followers) if followers.len() < MAX_FOLLOWERS => {
                followers.push(follower);
                true
            }
            _ => false,
        }
    }

    /// One does not follow it any more.
    pub(crate) fn lead_no_more(&mut self, follower: u32) {
        if let Some(Company::Leads(followers)) = self.company.as_deref_mut() {
            followers.retain(|other| *other != follower);
            if followers.is_empty() {
                self.company = None;
            }
        }
    }

    /// Its leader plays from `first` on, in a slot that is due then at `due`.
    pub(crate) fn copy_from(&mut self, first: Tick, due: MediaTime, random: u64) {
        self.packetizer.begin(first, due);
        self.report_due = Some(rtcp::next_report(due, true, random));
        self.unreachable = None;
        self.heard_at = self.heard_at.map(|_| due);
        if let Some(Company::Follows(following)) = self.company.as_deref_mut() {
            following.since = Some(first);
        }
    }

    /// Its leader plays no more.
    pub(crate) fn copy_no_more(&mut self) {
        self.packetizer.end();
        self.report_due = None;
        if let Some(Company::Follows(following)) = self.company.as_deref_mut() {
            following.since = None;
        }
    }

    /// Writes the packet of `tick` with a payload of its leader's into `datagram`; nothing changes until [`Leg::copied`].
    /// `None` if it has nothing to send then: it plays something that has no such payload, or there is no room.
    pub(crate) fn copy(
        &self,
        tick: Tick,
        codec: Codec,
        payload: &[u8],
        datagram: &mut [u8],
    ) -> Option<Filled> {
        self.copies_since().filter(|since| *since <= tick && codec == self.codec() && !self.awaits_keys())?;
        let (header, room) = datagram.split_first_chunk_mut::<HEADER_LEN>()?;
        room.get_mut(..payload.len())?.copy_from_slice(payload);
        self.packetizer.header(tick).write(header);
        let len = HEADER_LEN + payload.len();
        Some(Filled { len, sealed_len: len, starved: false, position: 0, beneath: None })
    }

    /// The copy of `tick` has left. `false` if it is none: the leg plays for itself.
    pub(crate) fn copied(&mut self, tick: Tick, filled: Filled) -> bool {
        if self.copies_since().is_none() {
            return false;
        }
        self.packetizer.sent(tick);
        self.count(filled);
        true
    }

    /// Its next packet is marked as the first after a pause is.
    pub(crate) fn pause(&mut self) {
        self.packetizer.pause();
    }

    /// Whether it will send nothing in the next tick, if nothing is asked of it until then.
    pub(crate) fn pauses(&self) -> bool {
        self.hold.as_ref().is_none_or(|hold| {
            let announcements = hold.announcements.as_ref();
            hold.only_announced && announcements.is_none_or(|announcements| announcements.is_empty())
        })
    }

    /// Since when it sends what its leader sends; `None` if it does not.
    pub(super) fn copies_since(&self) -> Option<Tick> {
        self.following()?.since
    }

    pub(super) fn following_mut(&mut self) -> Option<&mut Following> {
        match self.company.as_deref_mut()? {
            Company::Follows(following) => Some(following),
            Company::Leads(_) => None,
        }
    }

    fn following(&self) -> Option<&Following> {
        match self.company.as_deref()? {
            Company::Follows(following) => Some(following),
            Company::Leads(_) => None,
        }
    }
}
