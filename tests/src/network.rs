//! [`SimNetwork`]: datagrams go in from pacers, come out later, twice, in another order or never, as their path says.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    MediaTime,
    pacer::Event,
    rtcp,
    rtp::{Header, PayloadType, Ssrc},
    sink::{Batch, Sink},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What happens to datagrams on their way to one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// How long each is on its way at least.
    pub delay: Duration,
    /// How much longer it may take; with more than a packet interval, packets overtake each other.
    pub jitter: Duration,
    /// How many of them are lost, 0 to 1.
    pub loss: f64,
    /// How many of them arrive twice, 0 to 1.
    pub duplicates: f64,
    /// Whether the local network refuses them at once.
    pub refused: bool,
}

impl Default for Path {
    /// A good local network: one millisecond, nothing lost.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicates: 0.0,
            refused: false,
        }
    }
}

/// An RTP packet as it left the engine, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it left.
    pub at: MediaTime,
    /// From which local socket.
    pub from: SocketAddr,
    /// Where it was to go.
    pub to: SocketAddr,
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Everything that left the engine, in order: a tap on the wire.
#[derive(Debug, Default)]
pub struct Taps {
    /// RTP packets.
    pub rtp: Vec<Sent>,
    /// Datagrams of RTCP, with the moment each left at and where it went.
    pub rtcp: Vec<(MediaTime, SocketAddr, Vec<u8>)>,
}

impl Taps {
    /// The RTP packets of one source.
    pub fn of(&self, ssrc: Ssrc) -> Vec<&Sent> {
        self.rtp.iter().filter(|sent| sent.header.ssrc == ssrc).collect()
    }

    /// How the packets of one source followed each other.
    #[track_caller]
    pub fn flow(&self, ssrc: Ssrc) -> Flow {
        Flow::of(&self.of(ssrc))
    }

    /// The RTP packets to one destination.
    pub fn to(&self, to: SocketAddr) -> Vec<&Sent> {
        self.rtp.iter().filter(|sent| sent.to == to).collect()
    }

    /// When goodbyes of `ssrc` left, and where they went.
    pub fn goodbyes(&self, ssrc: Ssrc) -> Vec<(MediaTime, SocketAddr)> {
        let mut goodbyes = vec![];
        for (at, to, datagram) in &self.rtcp {
            rtcp::read(datagram, |word| {
                if word == rtcp::Word::Bye(ssrc) {
                    goodbyes.push((*at, *to));
                }
            });
        }
        goodbyes
    }
}

/// How the packets of one source followed each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// How many there were.
    pub packets: usize,
    /// Which of them had the marker bit.
    pub markers: Vec<usize>,
    /// Which of them were not as far behind the one before as that lasts, and how many timestamp units they were.
    pub jumps: Vec<(usize, u32)>,
    /// The longest time between two that left one after the other.
    pub longest_gap: Duration,
}

/// What stories mean by a payload type: those of RFC 3551, 97 for L16, a hundred more for short packets of these, 112 for
/// those of Opus, and Opus by any other.
pub fn codec_of(payload_type: u8) -> Codec {
    let has_it = |codec: &&Codec| payload_type_of(**codec).number() == payload_type;
    Codec::ALL.iter().find(has_it).copied().unwrap_or(Codec::Opus)
}

/// The payload type by which stories call a codec.
pub(crate) fn payload_type_of(codec: Codec) -> PayloadType {
    let number = match codec {
        Codec::OpusShort => 112,
        Codec::L16 => 97,
        Codec::L16Short => 107,
        codec => match codec.static_payload_type() {
            Some(number) if codec.short() == Some(codec) => number + 100,
            number => number.unwrap_or(111),
        },
    };
    PayloadType::new(number).expect("seven bits")
}

impl Flow {
    /// How these packets, of one source, follow each other.
    ///
    /// # Panics
    ///
    /// If a sequence number is not the one before plus one, or the source is another one: no story has that.
    #[track_caller]
    pub fn of(packets: &[&Sent]) -> Self {
        let mut flow = Self { packets: packets.len(), ..Self::default() };
        flow.markers = (0..packets.len()).filter(|&index| packets[index].header.marker).collect();
        for (index, pair) in packets.windows(2).enumerate() {
            let (before, after) = (&pair[0], &pair[1]);
            assert_eq!(after.header.ssrc, before.header.ssrc, "one source for life");
            assert_eq!(
                after.header.sequence,
                before.header.sequence.after(1),
                "contiguous at {:?}",
                after.at
            );
            let step = after.header.timestamp.0.wrapping_sub(before.header.timestamp.0);
            let codec = |sent: &Sent| codec_of(sent.header.payload_type.number());
            // As much as the packet before holds, by the clock of this one.
            if step != codec(after).clock_rate() * codec(before).frame_ms() / 1000 {
                flow.jumps.push((index + 1, step));
            }
            flow.longest_gap = flow.longest_gap.max(after.at.since(before.at));
        }
        flow
    }

    /// Whether it began with the only marker and had neither gap nor jump since.
    pub fn is_one_piece(&self) -> bool {
        // A packet interval, and what a sender's waking may be late by.
        let even = self.longest_gap <= Duration::from_millis(21);
        self.packets > 0 && self.markers == [0] && self.jumps.is_empty() && even
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Everything between sockets.
#[derive(Debug)]
pub struct SimNetwork {
    rng: StdRng,
    paths: HashMap<SocketAddr, Path>,
    usual: Path,
    under_way: BTreeMap<(MediaTime, u64), Datagram>,
    number: u64,
    taps: Taps,
}

impl SimNetwork {
    /// A network on which every path is as usual.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            paths: HashMap::new(),
            usual: Path::default(),
            under_way: BTreeMap::new(),
            number: 0,
            taps: Taps::default(),
        }
    }

    /// From now on the path to `to` is like this.
    pub fn set_path(&mut self, to: SocketAddr, path: Path) {
        self.paths.insert(to, path);
    }

    /// What has left the engine.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// What has left the engine so far; from now on the taps begin anew.
    pub fn take_taps(&mut self) -> Taps {
        std::mem::take(&mut self.taps)
    }

    /// The way from a local socket into the network, at one moment.
    pub fn port(&mut self, now: MediaTime, from: SocketAddr) -> Port<'_> {
        Port { network: self, now, from }
    }

    /// Puts a datagram on its way.
    pub(crate) fn carry(&mut self, now: MediaTime, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let path = self.paths.get(&to).copied().unwrap_or(self.usual);
        if self.rng.random_bool(path.loss) {
            return;
        }
        let copies = 1 + u64::from(self.rng.random_bool(path.duplicates));
        for _ in 0..copies {
            let arrives = now + path.delay + path.jitter.mul_f64(self.rng.random::<f64>());
            self.number += 1;
            let datagram = Datagram { from, to, bytes: bytes.to_vec() };
            self.under_way.insert((arrives, self.number), datagram);
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn next(&self) -> MediaTime {
        self.under_way.first_key_value().map_or(MediaTime::NEVER, |((at, _), _)| *at)
    }

    /// A datagram that has arrived by `now`.
    pub(crate) fn arrived(&mut self, now: MediaTime) -> Option<Datagram> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// A [`Sink`] into a simulated network.
#[derive(Debug)]
pub struct Port<'a> {
    network: &'a mut SimNetwork,
    now: MediaTime,
    from: SocketAddr,
}

impl Sink for Port<'_> {
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>) {
        for index in 0..batch.len() {
            let (bytes, to) = batch.datagram(index);
            let path = self.network.paths.get(&to).copied().unwrap_or(self.network.usual);
            if path.refused {
                refused.push(index);
                continue;
            }
            if rtcp::is_rtcp(bytes) {
                self.network.taps.rtcp.push((self.now, to, bytes.to_vec()));
            } else {
                let (header, payload) = Header::read(bytes).expect("the engine sends RTP or RTCP");
                let sent = Sent { at: self.now, from: self.from, to, header, payload: payload.to_vec() };
                self.network.taps.rtp.push(sent);
            }
            self.network.carry(self.now, self.from, to, bytes);
        }
    }
}

/// Whether an event is only to be dropped.
pub(crate) fn is_remains(event: &Event) -> bool {
    matches!(event, Event::Retired(_))
}
