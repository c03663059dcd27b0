//! What comes in from peers: reports and goodbyes, where a peer is, and that nobody listens.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use smallvec::SmallVec;

use super::{
    Event, Index, Pacer, Stream, at, of_address,
    trust::{LOOKED_AT, Trust},
};
use crate::{
    leg::Quality,
    rtcp::{self, Word},
    rtp::{self, Ssrc},
    time::{MediaTime, Now},
};

/// Legs that a listener is remembered for, so that a goodbye costs little whoever sends it: a report has room for 31
/// blocks (RFC 3550 section 6.4.1). What it reported about last counts.
const HEARD_BY_ONE: usize = 31;

/// Legs with the same SSRC that a report is looked for: it costs little whoever sends it. Control gives each leg one of
/// its own; only customers can have several go on with the same.
const CALLED_THE_SAME: usize = 31;

/// A "port unreachable" more than this after the one before begins a new row. Kernels answer a flood at least once a
/// second (Linux: `icmp_ratelimit`), so three seconds without one mean that packets arrived.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(3);

impl Pacer {
    /// A datagram came in on the sender's socket.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        if rtcp::is_rtcp(datagram) {
            let authentic = self.authenticate(from, datagram);
            let scratch = std::mem::take(&mut self.scratch);
            let (trust, compound) = match authentic {
                Some((index, len)) => (Trust::Key(index), &scratch[..len]),
                None => (Trust::Anybody, datagram),
            };
            rtcp::read(compound, |word| match word {
                Word::Report { .. } => self.handle_report(now, from, trust, word),
                Word::Bye(ssrc) => self.handle_bye(from, trust, ssrc),
            });
            self.scratch = scratch;
        } else if self.settings.latching
            && let Ok((header, _)) = rtp::Header::read(datagram)
            && let Some(index) = the_only(&self.by_peer, header.ssrc)
            && self.is_peers(index, datagram)
        {
            self.latch(now.mono, index, from, Stream::Rtp);
        }
    }

    /// The peer of a leg has proved to be at `from`.
    fn latch(&mut self, now: MediaTime, index: Index, from: SocketAddr, stream: Stream) {
        let leg = self.leg(index);
        let known = match stream {
            Stream::Rtp => Some(leg.destination),
            Stream::Rtcp => leg.rtcp,
        };
        if known.is_some_and(|known| known != from) && leg.take_latch(now) {
            let leg = leg.id;
            self.events.push_back(Event::Latch { leg, from, stream });
        }
    }

    fn handle_report(&mut self, now: Now, from: SocketAddr, trust: Trust, word: Word) {
        let Word::Report {
            reporter,
            about,
            fraction_lost,
            cumulative_lost,
            jitter,
            last_sender_report,
            delay,
        } = word
        else {
            return;
        };
        if self.settings.latching {
            let index = the_only(&self.by_ssrc, about).or_else(|| the_only(&self.by_peer, reporter));
            if let Some(index) = index.filter(|index| self.counts(trust, *index)) {
                self.latch(now.mono, index, from, Stream::Rtcp);
            }
        }
        let hears = |index: &Index| {
            let leg = self.legs[at(*index)].as_ref();
            leg.is_some_and(|leg| leg.reported_as() == (about, from.ip())) && self.counts(trust, *index)
        };
        let called_so = self.by_ssrc.range((about, Index::MIN)..=(about, Index::MAX));
        let Some(index) = called_so.map(|&(_, index)| index).take(CALLED_THE_SAME).find(hears) else {
            return;
        };
        let leg = self.leg(index);
        leg.heard(
            now.mono,
            Quality {
                fraction_lost,
                cumulative_lost,
                jitter_us: micros(u64::from(jitter) * 1_000_000 / u64::from(leg.codec().clock_rate())),
                round_trip_us: rtcp::round_trip_us(now.wall, last_sender_report, delay).map(micros),
            },
        );
        if leg.listener != Some((reporter, from)) {
            self.forget_listener(index);
            self.leg(index).listener = Some((reporter, from));
        }
        let heard = self.by_listener.entry((reporter, from.ip())).or_default();
        if !heard.contains(&index) {
            if heard.len() == HEARD_BY_ONE {
                heard.remove(0);
            }
            heard.push(index);
        }
    }

    /// A goodbye names the listener, not us, and need not come with a report (RFC 3550 section 6.1). It counts for the
    /// legs that this listener has reported about from this address; else for the leg whose destination this is, if it
    /// is of one leg and nobody else is known to listen there; else for the only leg that this listener has reported
    /// about from this host. Many receivers of a host may have the same SSRC, so of several none is meant. Of protected legs
    /// only those are looked at whose receivers' key it was said with.
    fn handle_bye(&mut self, from: SocketAddr, trust: Trust, ssrc: Ssrc) {
        let listener_of = |index: Index| self.legs[at(index)].as_ref().and_then(|leg| leg.listener);
        let known = self.by_listener.get(&(ssrc, from.ip())).into_iter().flatten().copied();
        let known: SmallVec<[Index; HEARD_BY_ONE]> =
            known.filter(|index| self.counts(trust, *index)).collect();
        let here = |index: &Index| listener_of(*index) == Some((ssrc, from));
        let mut gone: Vec<Index> = known.iter().copied().filter(here).collect();
        if gone.is_empty() {
            let mut of_address =
                of_address(&self.by_address, from).take(LOOKED_AT).filter(|index| self.counts(trust, *index));
            match (of_address.next(), of_address.next(), &known[..]) {
                (Some(leg), None, _) if listener_of(leg).is_none_or(|(listener, _)| listener == ssrc) => {
                    gone.push(leg)
                }
                (_, _, [leg]) => gone.push(*leg),
                _ => {}
            }
        }
        for index in gone {
            self.forget_listener(index);
            let leg = self.leg(index);
            if leg.take_goodbye() {
                let leg = leg.id;
                self.events.push_back(Event::Bye { leg });
            }
        }
    }

    /// The network says that nobody listens at `destination`.
    pub fn handle_unreachable(&mut self, now: MediaTime, destination: SocketAddr) {
        for index in of_address(&self.by_address, destination) {
            let Some(leg) = self.legs[at(index)].as_mut() else { continue };
            // Never for RTCP alone.
            if !leg.is_sending() || leg.destination != destination {
                continue;
            }
            let (first, last) = leg.unreachable.unwrap_or((now, now));
            let first = if now.since(last) > UNREACHABLE_PAUSE { now } else { first };
            leg.unreachable = Some((first, now));
            if now.since(first) >= self.settings.unreachable_after {
                leg.unreachable = None;
                self.events.push_back(Event::Unreachable { leg: leg.id });
            }
        }
    }
}

/// The leg that is called so, if it is one and no more.
pub(super) fn the_only(names: &BTreeSet<(Ssrc, Index)>, ssrc: Ssrc) -> Option<Index> {
    let mut called_so = names.range((ssrc, Index::MIN)..=(ssrc, Index::MAX)).map(|&(_, index)| index);
    called_so.next().filter(|_| called_so.next().is_none())
}

/// What is longer than an hour is told as one.
fn micros(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(u32::MAX)
}
