//! Whom a pacer believes: what comes in for protected legs must be authentic, whoever sends it and at bounded cost.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::{Index, Pacer, at, inbound::the_only, of_address};
use crate::{protect::ssrc_at, rtp::Ssrc};

/// Legs whose keys are tried on an RTCP compound: one key costs about a microsecond, and where several legs share an address
/// or a host the first tells little about the others.
const TRIES: usize = 8;

/// Legs of an address or a host among which protected ones are looked for.
pub(super) const LOOKED_AT: usize = 64;

/// The longest datagram that is tried: what an Ethernet carries. A compound of 31 report blocks has half of that.
const MAX_PROTECTED_LEN: usize = 1500;

/// By which right something is said about a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anybody may have said it.
    Anybody,
    /// Who said it has the key of the receivers of this leg.
    Key(Index),
}

impl Pacer {
    /// Reads the RTCP compound `datagram` into `self.scratch`, if a receiver of a protected leg has sent it; which leg, and
    /// how long it is.
    ///
    /// What it reports about is encrypted, so the leg is found by where it comes from and by who sends it: legs that go to
    /// that address, legs that this listener has reported about, the leg whose peer is called so, legs that go to that host.
    pub(super) fn authenticate(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<(Index, usize)> {
        if self.protected == 0 || !(8..=MAX_PROTECTED_LEN).contains(&datagram.len()) {
            return None;
        }
        let reporter = Ssrc(ssrc_at(datagram, 4));
        let known = self.by_listener.get(&(reporter, from.ip())).map_or(&[][..], Vec::as_slice);
        let (first, last) = (SocketAddr::new(from.ip(), 0), SocketAddr::new(from.ip(), u16::MAX));
        let of_host = self.by_address.range((first, Index::MIN)..=(last, Index::MAX));
        let candidates = of_address(&self.by_address, from)
            .take(LOOKED_AT)
            .chain(known.iter().copied())
            .chain(the_only(&self.by_peer, reporter))
            .chain(of_host.map(|&(_, index)| index).take(LOOKED_AT));
        let mut tried = SmallVec::<[Index; TRIES]>::new();
        for index in candidates {
            let leg = self.legs[at(index)].as_ref();
            if leg.is_some_and(|leg| leg.receivers_key().is_some()) && !tried.contains(&index) {
                tried.push(index);
                if tried.len() == TRIES {
                    break;
                }
            }
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(datagram);
        tried.into_iter().find_map(|index| {
            let len = self.legs[at(index)].as_mut()?.unseal_rtcp(&mut self.scratch)?;
            Some((index, len))
        })
    }

    /// Whether an RTP packet proves that the peer of this leg has sent it: of a leg that is not protected any does.
    pub(super) fn is_peers(&mut self, index: Index, datagram: &[u8]) -> bool {
        if !self.leg(index).is_protected() {
            return true;
        }
        if datagram.len() > MAX_PROTECTED_LEN {
            return false;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(datagram);
        self.legs[at(index)].as_mut().is_some_and(|leg| leg.unseal(&mut self.scratch))
    }

    /// Whether what is said with this right counts for a leg.
    pub(super) fn counts(&self, trust: Trust, index: Index) -> bool {
        let leg = |index: Index| self.legs[at(index)].as_ref();
        let Some(about) = leg(index) else { return false };
        match trust {
            Trust::Anybody => !about.is_protected(),
            Trust::Key(by) => {
                let key = about.receivers_key();
                key.is_some() && key == leg(by).and_then(|by| by.receivers_key())
            }
        }
    }
}
