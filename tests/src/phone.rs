//! [`Phone`]: a participant's end. Datagrams go in; what was heard, and how it sounds, comes out.

use std::net::SocketAddr;

use holdmusic_codecs::{Codec, Pcm};
use holdmusic_media::{
    Decoded, Hearing, MediaTime, Receiver,
    receiver::PayloadFormats,
    rtp::{Header, Ssrc},
};

use crate::network::payload_type_of;

/// An RTP packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: MediaTime,
    /// Its header.
    pub header: Header,
}

/// A telephone at an address.
#[derive(Debug)]
pub struct Phone {
    /// Where it listens.
    pub address: SocketAddr,
    /// RTP packets in the order in which they arrived.
    pub arrivals: Vec<Arrival>,
    receiver: Receiver,
    from: Option<SocketAddr>,
}

/// The phone's own source, under which it reports.
const OWN_SSRC: u32 = 0x0f0f_0f0f;

impl Phone {
    /// A phone that has heard nothing yet.
    pub fn new(address: SocketAddr) -> Self {
        let mut formats = PayloadFormats::from(Codec::Opus);
        // Backwards, so that of those who share a number the first one has it.
        for &codec in Codec::ALL.iter().rev() {
            formats.insert(payload_type_of(codec), codec.into());
        }
        Self { address, arrivals: vec![], receiver: Receiver::new(formats), from: None }
    }

    /// A datagram arrives.
    pub(crate) fn hear(&mut self, at: MediaTime, from: SocketAddr, datagram: &[u8]) {
        self.from = Some(from);
        if let Ok((header, _)) = Header::read(datagram) {
            self.arrivals.push(Arrival { at, header });
        }
        self.receiver.handle_datagram(at, datagram);
    }

    /// Where its packets come from.
    pub fn heard_from(&self) -> Option<SocketAddr> {
        self.from
    }

    /// What it measured.
    pub fn hearing(&self) -> Hearing {
        self.receiver.hearing()
    }

    /// How it sounds.
    pub fn decode(&self) -> Decoded {
        self.receiver.decode()
    }

    /// The sound from `from` until `until`, as far as it was heard. Its time is that of the first packet's arrival.
    pub fn sound_between(&self, from: MediaTime, until: MediaTime) -> Pcm {
        let decoded = self.decode().sound;
        let Some(first) = self.arrivals.first() else { return decoded };
        let place = |at: MediaTime| {
            let samples = at.since(first.at).as_nanos() * u128::from(decoded.rate()) / 1_000_000_000;
            usize::try_from(samples).expect("a story is short").min(decoded.len())
        };
        Pcm::new(decoded.rate(), 1, decoded.samples()[place(from)..place(until)].to_vec())
    }

    /// The first packet that arrived at or after `at`.
    pub fn first_after(&self, at: MediaTime) -> Option<&Arrival> {
        self.arrivals.iter().find(|arrival| arrival.at >= at)
    }

    /// A receiver report about the last source that it heard, perhaps with a goodbye behind it.
    pub(crate) fn report(&self, goodbye: bool) -> Vec<u8> {
        let last = self.arrivals.last().expect("it reports what it has heard");
        let Ssrc(about) = last.header.ssrc;
        let mut datagram = vec![0x81, 201, 0, 7];
        datagram.extend(OWN_SSRC.to_be_bytes());
        datagram.extend(about.to_be_bytes());
        // Nothing lost so far, the highest sequence number, no jitter, no sender report yet.
        datagram.extend([0; 4]);
        datagram.extend(u32::from(last.header.sequence.0).to_be_bytes());
        datagram.extend([0; 12]);
        if goodbye {
            datagram.extend([0x81, 203, 0, 1]);
            datagram.extend(OWN_SSRC.to_be_bytes());
        }
        datagram
    }

    /// An empty report, a description and a goodbye: all that RFC 3550 section 6.1 asks of a receiver that leaves.
    pub(crate) fn bare_goodbye() -> Vec<u8> {
        let mut datagram = vec![0x80, 201, 0, 1];
        datagram.extend(OWN_SSRC.to_be_bytes());
        datagram.extend([0x81, 202, 0, 3]);
        datagram.extend(OWN_SSRC.to_be_bytes());
        datagram.extend([1, 2, b'm', b'e', 0, 0, 0, 0]);
        datagram.extend([0x81, 203, 0, 1]);
        datagram.extend(OWN_SSRC.to_be_bytes());
        datagram
    }
}
