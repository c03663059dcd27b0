//! A receiver of RTP: datagrams and the moments they arrived go in; what was heard ([`Hearing`]) and how it
//! sounds ([`Decoded`]) come out.
//!
//! It measures as RFC 3550 appendix A says (sequence A.1, loss A.3, jitter A.8), trusts nobody and keeps
//! bounded memory whatever arrives.

pub mod format;
mod order;
pub mod spacing;
pub mod stream;
pub mod playout;

use std::time::Duration;

use holdmusic_codecs::{Codec, Pcm};
use rtcp_types::{Compound, Packet};

pub use format::{PayloadFormat, PayloadFormats};
pub use playout::Decoded;
pub use spacing::{Spacing, SpacingColumn};
pub use stream::{Gap, Marker, StreamHearing, TimestampJump};

use crate::{
    rtp::{Header, Ssrc},
    time::MediaTime,
    unprotect::{UnprotectError, Unprotector},
};
use stream::Stream;

/// How many sources are measured side by side: a leg has one for life, a conference a handful. Further ones are
/// counted only.
pub const MAX_STREAMS: usize = 32;

/// How many payloads are kept for decoding: one hour at 20 ms, more than anybody listens to in one go.
pub const MAX_KEPT_PACKETS: usize = 180_000;

/// How many bytes of payload are kept for decoding: one hour of Opus at 128 kbit/s is 58 MB.
pub const MAX_KEPT_BYTES: usize = 64 << 20;

/// Listens to one port.
#[derive(Debug)]
pub struct Receiver {
    formats: PayloadFormats,
    streams: Vec<Stream>,
    kept_packets: usize,
    kept_bytes: usize,
    datagrams: u64,
    not_rtp: u64,
    unmeasured: u64,
    rtcp: RtcpHearing,
    last_rtp: Option<MediaTime>,
    /// For what is protected.
    unprotector: Option<Box<Unprotector>>,
    scratch: Vec<u8>,
    auth_failures: u64,
    replayed: u64,
}

impl Receiver {
    /// A receiver that has heard nothing yet. A [`Codec`] alone stands for its static payload type and for all
    /// dynamic ones (96 to 127).
    pub fn new(formats: impl Into<PayloadFormats>) -> Self {
        Self {
            formats: formats.into(),
            streams: Vec::new(),
            kept_packets: 0,
            kept_bytes: 0,
            datagrams: 0,
            not_rtp: 0,
            unmeasured: 0,
            rtcp: RtcpHearing::default(),
            last_rtp: None,
            unprotector: None,
            scratch: Vec::new(),
            auth_failures: 0,
            replayed: 0,
        }
    }

    /// Hears SRTP: what `unprotector` does not believe is counted, and not heard.
    #[must_use]
    pub fn unprotecting(mut self, unprotector: Unprotector) -> Self {
        self.unprotector = Some(Box::new(unprotector));
        self
    }

    /// Takes in one datagram, RTP or RTCP (told apart by RFC 5761), that arrived at `arrived`.
    pub fn handle_datagram(&mut self, arrived: MediaTime, datagram: &[u8]) {
        self.datagrams += 1;
        let Some(unprotector) = &mut self.unprotector else { return self.hear(arrived, datagram) };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(datagram);
        let read = if is_rtcp(&scratch) {
            unprotector.unprotect_rtcp(&mut scratch).map(|(len, _)| len)
        } else {
            unprotector.unprotect(&mut scratch).map(|(len, _)| len)
        };
        match read {
            Ok(len) => self.hear(arrived, &scratch[..len]),
            Err(UnprotectError::Replayed) => self.replayed += 1,
            Err(UnprotectError::NotAuthentic) => self.auth_failures += 1,
            Err(UnprotectError::Malformed) => self.not_rtp += 1,
        }
        self.scratch = scratch;
    }

    fn hear(&mut self, arrived: MediaTime, datagram: &[u8]) {
        if is_rtcp(datagram) {
            return self.handle_rtcp(arrived, datagram);
        }
        let Ok((header, payload)) = Header::read(datagram) else {
            self.not_rtp += 1;
            return;
        };
        let Some(stream) = self.stream(header.ssrc) else {
            self.unmeasured += 1;
            return;
        };
        let keep = self.kept_packets < MAX_KEPT_PACKETS && self.kept_bytes + payload.len() <= MAX_KEPT_BYTES;
        let format = self.formats.of(header.payload_type.number());
        if self.streams[stream].handle(arrived, header, payload, format, keep) {
            self.kept_packets += 1;
            self.kept_bytes += payload.len();
        }
        self.last_rtp = Some(arrived);
    }

    /// Packets of all measured sources so far, duplicates included.
    pub fn packets(&self) -> u64 {
        self.streams.iter().map(Stream::packets).sum()
    }

    /// How long the sender has been silent at `now` if it has said good-bye (RTCP BYE) and sent nothing since.
    pub fn quiet_after_bye(&self, now: MediaTime) -> Option<Duration> {
        let bye = self.rtcp.last_bye?;
        Some(now.since(self.last_rtp.map_or(bye, |rtp| rtp.max(bye))))
    }

    /// What was heard so far.
    pub fn hearing(&self) -> Hearing {
        Hearing {
            datagrams: self.datagrams,
            not_rtp: self.not_rtp,
            unmeasured: self.unmeasured,
            auth_failures: self.auth_failures,
            replayed: self.replayed,
            streams: self.streams.iter().map(Stream::hearing).collect(),
            rtcp: self.rtcp.clone(),
        }
    }

    /// The sound of the source with the most packets, in true time (see [`playout`]). Empty if no payload was of
    /// a codec that we decode.
    pub fn decode(&self) -> Decoded {
        let main = self.streams.iter().rev().max_by_key(|stream| stream.packets());
        main.map_or_else(Decoded::default, |stream| playout::decode(stream.kept(), &self.formats))
    }

    /// The sound of one source, in true time. Empty if it was not heard.
    pub fn decode_source(&self, ssrc: Ssrc) -> Decoded {
        let stream = self.streams.iter().find(|stream| stream.ssrc() == ssrc);
        stream.map_or_else(Decoded::default, |stream| playout::decode(stream.kept(), &self.formats))
    }

    /// The index of the source's stream, new if need be. When all places are taken, a source that was heard only
    /// once makes room: a flood of invented sources cannot lock out a real one.
    fn stream(&mut self, ssrc: Ssrc) -> Option<usize> {
        if let Some(index) = self.streams.iter().position(|stream| stream.ssrc() == ssrc) {
            return Some(index);
        }
        if self.streams.len() == MAX_STREAMS {
            let once = self.streams.iter().position(|stream| stream.packets() < 2)?;
            let gone = self.streams.remove(once);
            self.kept_packets -= gone.kept().len();
            self.kept_bytes -= gone.kept().bytes();
            self.unmeasured += gone.packets();
        }
        self.streams.push(Stream::new(ssrc));
        Some(self.streams.len() - 1)
    }

    fn handle_rtcp(&mut self, arrived: MediaTime, datagram: &[u8]) {
        let Ok(compound) = Compound::parse(datagram) else {
            self.not_rtp += 1;
            return;
        };
        self.rtcp.datagrams += 1;
        for packet in compound {
            match packet {
                Ok(Packet::Sr(_)) => self.rtcp.sender_reports += 1,
                Ok(Packet::Bye(_)) => {
                    self.rtcp.byes += 1;
                    self.rtcp.last_bye = Some(arrived);
                }
                Ok(_) => {}
                // What follows a broken packet cannot be found.
                Err(_) => break,
            }
        }
    }
}

/// RTCP's packet types, as seen where RTP has marker and payload type: 192 to 223 (RFC 5761 section 4).
fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

/// Everything that a receiver can say about what it heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hearing {
    /// Datagrams of any kind.
    pub datagrams: u64,
    /// Datagrams that were neither RTP nor RTCP.
    pub not_rtp: u64,
    /// RTP packets of sources that found no place among the measured ones ([`MAX_STREAMS`]).
    pub unmeasured: u64,
    /// Datagrams that are protected with another key, or were changed on their way.
    pub auth_failures: u64,
    /// Protected datagrams that came again, or so late that this is not known.
    pub replayed: u64,
    /// The sources, in the order in which they were first heard.
    pub streams: Vec<StreamHearing>,
    /// What came by RTCP.
    pub rtcp: RtcpHearing,
}

impl Hearing {
    /// The source with the most packets; the earlier one of two equals.
    pub fn main(&self) -> Option<&StreamHearing> {
        self.streams.iter().rev().max_by_key(|stream| stream.packets)
    }
}

/// What came by RTCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtcpHearing {
    /// Compound packets that could be read.
    pub datagrams: u64,
    /// Sender reports in them.
    pub sender_reports: u64,
    /// BYE packets in them.
    pub byes: u64,
    /// When the last BYE arrived.
    pub last_bye: Option<MediaTime>,
}

impl From<Codec> for Receiver {
    fn from(codec: Codec) -> Self {
        Self::new(codec)
    }
}

impl From<Decoded> for Pcm {
    fn from(decoded: Decoded) -> Self {
        decoded.sound
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::{HEADER_LEN, PayloadType, SeqNo, Timestamp};

    pub(super) const SSRC: Ssrc = Ssrc(0x1234_5678);

    /// A packet of Opus with every number chosen.
    pub(super) fn packet(ssrc: Ssrc, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            marker,
            payload_type: PayloadType::new(111).unwrap(),
            sequence: SeqNo(sequence),
            timestamp: Timestamp(timestamp),
            ssrc,
        };
        let mut datagram = vec![0; HEADER_LEN];
        header.write(datagram.first_chunk_mut().unwrap());
        datagram.extend_from_slice(payload);
        datagram
    }

    /// The n-th packet of a stream that begins just before both counters wrap.
    fn nth(n: u32) -> Vec<u8> {
        let (sequence, timestamp) = (65_530u16.wrapping_add(n as u16), 0xffff_f000u32.wrapping_add(960 * n));
        packet(SSRC, sequence, timestamp, n == 0, &[0xff; 4])
    }

    pub(super) fn tick(n: u32) -> MediaTime {
        MediaTime::from_millis(1_000 + 20 * u64::from(n))
    }

    /// Hears the packets named by `order`, one in each tick.
    fn hear(order: impl IntoIterator<Item = u32>) -> Hearing {
        let mut receiver = Receiver::new(Codec::Opus);
        for (slot, n) in (0..).zip(order) {
            receiver.handle_datagram(tick(slot), &nth(n));
        }
        receiver.hearing()
    }

    fn flaws(hearing: &Hearing) -> [u64; 5] {
        let main = hearing.main().unwrap();
        [main.lost, main.duplicates, main.reordered, main.sequence_errors, main.restarts]
    }

    #[test]
    fn a_perfect_stream_has_no_flaw_even_where_its_counters_wrap() {
        let hearing = hear(0..1000);
        let main = hearing.main().unwrap();
        assert!(main.is_continuous());
        assert_eq!((main.packets, main.payload_bytes, main.payload_types[&111]), (1000, 4000, 1000));
        assert_eq!((main.timestamp_jumps, main.gaps, main.longest_gap.as_millis()), (0, 0, 20));
        assert_eq!(main.first_markers, [Marker { packet: 0, at: tick(0) }]);
        assert_eq!((main.markers, main.max_jitter, main.spacing), (1, Duration::ZERO, Spacing::default()));
        assert_eq!(main.duration(), Duration::from_millis(999 * 20));
        assert_eq!((hearing.streams.len(), hearing.not_rtp, hearing.datagrams), (1, 0, 1000));
    }

    /// What is damaged or comes again is counted, and the rest is heard as if it had come in the clear.
    #[test]
    fn a_protected_stream_is_heard_by_who_has_the_key() {
        use crate::{keys::MasterKey, keys::Suite, protect::MAX_GROWTH, protect::Protector};
        let key = MasterKey::new(Suite::AeadAes128Gcm, &[5; 28]).unwrap();
        let protector = Protector::new(&key, None);
        let hear = |key: &MasterKey| {
            let mut receiver = Receiver::new(Codec::Opus).unprotecting(Unprotector::new(key, None));
            for n in 0..100 {
                let mut datagram = nth(n);
                let len = datagram.len();
                datagram.resize(len + MAX_GROWTH, 0);
                let rollover_counter = u32::from(n >= 6);
                let sealed = protector.protect(&mut datagram, len, rollover_counter).unwrap();
                if n % 10 == 0 {
                    let mut damaged = datagram[..sealed].to_vec();
                    damaged[sealed - 1] ^= 1;
                    receiver.handle_datagram(tick(n), &damaged);
                    receiver.handle_datagram(tick(n), &[0x80; 5]);
                }
                receiver.handle_datagram(tick(n), &datagram[..sealed]);
                if n % 10 == 0 {
                    receiver.handle_datagram(tick(n), &datagram[..sealed]);
                }
            }
            receiver.hearing()
        };
        let hearing = hear(&key);
        assert_eq!((hearing.auth_failures, hearing.replayed, hearing.not_rtp), (10, 10, 10));
        let main = hearing.main().unwrap();
        assert!(main.is_continuous());
        assert_eq!((main.packets, main.payload_bytes), (100, 400));
        let other = hear(&MasterKey::new(Suite::AeadAes128Gcm, &[6; 28]).unwrap());
        assert_eq!((other.streams.len(), other.auth_failures), (0, 120));
    }

    #[test]
    fn lost_packets_are_counted_and_their_gap_is_told() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in (0..1000).filter(|n| ![10, 500, 501, 502].contains(n)) {
            receiver.handle_datagram(tick(n), &nth(n));
        }
        let hearing = receiver.hearing();
        assert_eq!(flaws(&hearing), [4, 0, 0, 0, 0]);
        let main = hearing.main().unwrap();
        assert_eq!(main.timestamp_jumps, 0, "the timestamp is right for the sequence number");
        // One lost packet leaves 40 ms, which is not more than 40 ms.
        let gap = Gap { from: tick(499), until: tick(503), missing: 3, pause: false };
        assert_eq!((main.gaps, &main.first_gaps[..]), (1, &[gap][..]));
        assert_eq!(main.longest_gap, gap.length());
    }

    #[test]
    fn reordered_packets_are_neither_lost_nor_duplicates() {
        let hearing = hear([0, 1, 3, 2, 4, 8, 7, 6, 5, 9]);
        assert_eq!(flaws(&hearing), [0, 0, 4, 0, 0]);
    }

    #[test]
    fn a_packet_from_before_the_first_one_has_its_place() {
        let hearing = hear([1, 0, 2, 3]);
        assert_eq!(flaws(&hearing), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn duplicates_are_counted_and_never_make_up_for_a_loss() {
        let hearing = hear([0, 1, 1, 1, 2, 4, 2, 5]);
        assert_eq!(flaws(&hearing), [1, 3, 0, 0, 0]);
    }

    #[test]
    fn one_stray_sequence_number_is_an_error_and_two_in_a_row_are_a_restart() {
        let mut receiver = Receiver::new(Codec::Opus);
        let numbers = [100u16, 101, 40_000, 102, 103, 9_000, 9_001, 9_002, 9_004];
        for (slot, sequence) in (0..).zip(numbers) {
            receiver.handle_datagram(tick(slot), &packet(SSRC, sequence, 960 * slot, false, &[0xff]));
        }
        assert_eq!(flaws(&receiver.hearing()), [1, 0, 0, 2, 1]);
    }

    #[test]
    fn a_second_source_is_measured_on_its_own() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in 0..50 {
            receiver.handle_datagram(tick(n), &nth(n));
            if n % 5 == 0 {
                receiver.handle_datagram(tick(n), &packet(Ssrc(7), n as u16 * 2, 0, false, &[]));
            }
        }
        let hearing = receiver.hearing();
        assert_eq!(hearing.streams.iter().map(|stream| stream.ssrc).collect::<Vec<_>>(), [SSRC, Ssrc(7)]);
        assert_eq!(flaws(&hearing), [0; 5]);
        assert_eq!((hearing.streams[1].packets, hearing.streams[1].lost), (10, 81));
    }

    /// A hold that ends and begins again 3 s later: sequence +1, marker, timestamp advanced by the time away.
    #[test]
    fn a_pause_between_two_holds_is_told_as_a_jump_with_a_marker_and_is_no_jitter() {
        let mut receiver = Receiver::new(Codec::Opus);
        let first_timestamp = 5;
        for n in 0..100u32 {
            let away = if n < 50 { 0 } else { 150 };
            let datagram = packet(SSRC, n as u16, first_timestamp + 960 * (n + away), n == 50, &[0xff]);
            receiver.handle_datagram(tick(n + away), &datagram);
        }
        let hearing = receiver.hearing();
        let main = hearing.main().unwrap();
        let jump = TimestampJump {
            packet: 50,
            at: tick(200),
            sequence: SeqNo(50),
            units: 960 * 151,
            expected_units: 960,
            marker: true,
        };
        assert_eq!((main.timestamp_jumps, &main.first_timestamp_jumps[..]), (1, &[jump][..]));
        let gap = Gap { from: tick(49), until: tick(200), missing: 0, pause: true };
        assert_eq!((&main.first_gaps[..], main.gaps, main.pauses), (&[gap][..], 1, 1));
        assert_eq!(main.longest_gap, Duration::from_millis(20));
        assert_eq!((main.max_jitter, main.spacing, main.lost), (Duration::ZERO, Spacing::default(), 0));
    }

    /// As ffmpeg sends PCMU: 128 ms a packet, a marker on each, the first one shorter.
    #[test]
    fn an_unknown_packet_time_is_learnt_from_timestamps_that_agree_with_arrivals() {
        let formats = PayloadFormats::of_rfc_3551().with_dynamic(&PayloadFormat::named("opus", 48_000));
        let heard = |step: u32, spacing_ms: u64| {
            let mut receiver = Receiver::new(formats.clone());
            for n in 0..100u32 {
                let arrived = MediaTime::from_millis(spacing_ms * u64::from(n));
                receiver
                    .handle_datagram(arrived, &packet(SSRC, n as u16, step * n + 7 * n.min(1), true, &[]));
            }
            let main = receiver.hearing().streams.remove(0);
            (main.packet_time.as_millis(), main.timestamp_jumps, main.gaps, main.spacing.longest.as_millis())
        };
        assert_eq!(heard(6144, 128), (128, 0, 0, 0));
        assert_eq!(heard(960, 20), (20, 1, 0, 0));
        // Timestamps that run twice as fast as time are an error, not a packet time.
        assert_eq!(heard(1920, 20), (20, 99, 0, 0));
    }

    /// Every second packet is 8 ms late: the transit changes by 8 ms each time, and so A.8 tends to 8 ms.
    #[test]
    fn jitter_tends_to_the_mean_change_of_transit_time() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in 0..500 {
            receiver.handle_datagram(tick(n) + Duration::from_millis(8 * u64::from(n % 2)), &nth(n));
        }
        let hearing = receiver.hearing();
        let main = hearing.main().unwrap();
        assert!(
            main.jitter.abs_diff(Duration::from_millis(8)) < Duration::from_micros(1),
            "{:?}",
            main.jitter
        );
        assert!(main.mean_jitter < main.max_jitter && main.max_jitter <= Duration::from_millis(8));
        assert_eq!(main.spacing.longest, Duration::from_millis(8));
    }

    #[test]
    fn rtcp_on_the_same_port_is_heard_and_a_bye_starts_the_quiet() {
        let mut receiver = Receiver::new(Codec::Opus);
        receiver.handle_datagram(tick(0), &nth(0));
        let mut sender_report = vec![0x80, 200, 0, 6];
        sender_report.extend_from_slice(&[0; 24]);
        receiver.handle_datagram(tick(1), &sender_report);
        assert_eq!(receiver.quiet_after_bye(tick(100)), None);
        sender_report.extend_from_slice(&[0x81, 203, 0, 1, 0x12, 0x34, 0x56, 0x78]);
        receiver.handle_datagram(tick(2), &sender_report);
        let rtcp = RtcpHearing { datagrams: 2, sender_reports: 2, byes: 1, last_bye: Some(tick(2)) };
        assert_eq!(receiver.hearing().rtcp, rtcp);
        assert_eq!(receiver.quiet_after_bye(tick(52)), Some(Duration::from_secs(1)));
        receiver.handle_datagram(tick(60), &nth(1));
        assert_eq!(receiver.quiet_after_bye(tick(62)), Some(Duration::from_millis(40)));
    }

    #[test]
    fn a_payload_type_without_a_decoder_is_measured_and_not_kept() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in 0..10u32 {
            let mut datagram = packet(SSRC, n as u16, 160 * n, false, &[0xd5; 160]);
            // GSM: nobody's hold music, but somebody's.
            datagram[1] = 3;
            receiver.handle_datagram(tick(n), &datagram);
        }
        let main = &receiver.hearing().streams[0];
        assert_eq!((main.undecodable, main.timestamp_jumps, main.max_jitter), (10, 0, Duration::ZERO));
        assert!(receiver.decode().sound.is_empty());
    }

    #[test]
    fn a_flood_of_invented_sources_takes_bounded_memory_and_does_not_hide_the_real_one() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in 0..20_000 {
            receiver.handle_datagram(tick(n), &packet(Ssrc(n), 0, 0, false, &[0; 100]));
        }
        assert_eq!((receiver.streams.len(), receiver.kept_packets), (MAX_STREAMS, MAX_STREAMS));
        (0..100).for_each(|n| receiver.handle_datagram(tick(20_000 + n), &nth(n)));
        let hearing = receiver.hearing();
        assert_eq!((hearing.main().unwrap().ssrc, hearing.main().unwrap().packets), (SSRC, 100));
        assert_eq!(hearing.unmeasured + receiver.packets(), 20_100);
    }

    #[test]
    fn what_is_kept_for_decoding_is_bounded() {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in 0..2_000u32 {
            receiver.handle_datagram(tick(n), &packet(SSRC, n as u16, 960 * n, false, &[0; 65_000]));
        }
        let main = &receiver.hearing().streams[0];
        assert!(receiver.kept_bytes <= MAX_KEPT_BYTES && main.not_kept > 0);
        assert_eq!(receiver.kept_packets as u64 + main.not_kept, 2_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Bytes of which some are nearly RTP, at any time, and then decoded.
        #[test]
        fn hostile_datagrams_never_panic_and_never_grow_the_examples(
            datagrams in prop::collection::vec(
                (0u64..60_000, any::<[u8; 2]>(), any::<[u8; 4]>(), 0u8..3, prop::collection::vec(any::<u8>(), 0..40)),
                0..300,
            ),
            garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..50),
        ) {
            let mut receiver = Receiver::new(Codec::Opus);
            for (millis, [a, b], timestamp, source, payload) in &datagrams {
                let datagram = [&[0x80, 96 + a % 32 + (b & 0x80), 0, *a][..], timestamp, &[0, 0, 0, *source], payload];
                receiver.handle_datagram(MediaTime::from_millis(*millis), &datagram.concat());
            }
            for datagram in &garbage {
                receiver.handle_datagram(MediaTime::ZERO, datagram);
                let rtcp = [&[0x80, 200][..], datagram].concat();
                receiver.handle_datagram(MediaTime::NEVER, &rtcp);
            }
            let hearing = receiver.hearing();
            for stream in &hearing.streams {
                prop_assert!(stream.first_gaps.len() <= stream::MAX_EXAMPLES);
                prop_assert!(stream.first_markers.len() <= stream::MAX_EXAMPLES);
                prop_assert!(stream.first_timestamp_jumps.len() <= stream::MAX_EXAMPLES);
                // No sound is longer than the listening, its packets, and what timestamps may disagree.
                let longest_s = 60.0 + 2.0 + 0.12 * stream.packets as f64;
                prop_assert!(receiver.decode_source(stream.ssrc).sound.seconds() <= longest_s);
            }
        }
    }
}
