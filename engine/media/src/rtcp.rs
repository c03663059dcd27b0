//! RTCP: sender reports and goodbyes out, what receivers say in.

use rtcp_types::{Compound, Packet, ReportBlock};

use crate::{
    rtp::{Ssrc, Timestamp},
    time::{MediaTime, WallTime},
};

/// The shortest mean interval between the reports of one participant, in nanoseconds: 5 s (RFC 3550 section 6.2).
/// With two participants and telephone bit rates the bandwidth share never asks for a longer one.
const MEAN_INTERVAL_NS: u64 = 5_000_000_000;

/// The longest compound packet that [`write_report`] and [`write_bye`] make, in bytes: a sender report without
/// blocks (28), a goodbye (8), and a description with the longest name (4 + 4 + 2 + 255, its end and padding).
pub const MAX_LEN: usize = 28 + 8 + 268;

/// Packet types, RFC 3550 section 12.1.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// What a leg tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderFacts<'a> {
    /// Whose report it is.
    pub ssrc: Ssrc,
    /// A moment on the calendar …
    pub wall: WallTime,
    /// … and the RTP timestamp of that same moment.
    pub timestamp: Timestamp,
    /// RTP packets sent since the leg began; both counts wrap round (RFC 3550 section 6.4.1).
    pub packets: u32,
    /// Bytes of payload in them.
    pub payload_bytes: u32,
    /// Canonical name in UTF-8, at most 255 bytes count.
    pub cname: &'a [u8],
}

/// Writes a compound of sender report and CNAME into `into`; returns its length, 0 if there is no room for it.
pub fn write_report(facts: &SenderFacts<'_>, into: &mut [u8]) -> usize {
    let mut out = Out { into, len: 0 };
    out.sender_report(facts);
    out.description(facts);
    out.finish()
}

/// Writes a compound of sender report, CNAME and BYE (RFC 3550 section 6.6) into `into`; returns its length, 0 if
/// there is no room for it.
pub fn write_bye(facts: &SenderFacts<'_>, into: &mut [u8]) -> usize {
    let mut out = Out { into, len: 0 };
    out.sender_report(facts);
    out.description(facts);
    out.header(1, GOODBYE, 1);
    out.put(&facts.ssrc.0.to_be_bytes());
    out.finish()
}

/// When the next report is due, `random` being anything: half to one and a half intervals later, divided by
/// e - 3/2 to compensate for reconsideration (RFC 3550 section 6.3.1); half of that for the first report.
pub fn next_report(now: MediaTime, first: bool, random: u64) -> MediaTime {
    let mean = if first { MEAN_INTERVAL_NS / 2 } else { MEAN_INTERVAL_NS };
    let spread = mean / 2 + (u128::from(mean) * u128::from(random) / (1 << 64)) as u64;
    MediaTime::from_nanos(now.as_nanos() + spread * 100_000 / 121_828)
}

/// Bytes put one after the other, as long as they fit.
struct Out<'a> {
    into: &'a mut [u8],
    len: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.into.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    fn header(&mut self, count: u8, packet_type: u8, words: u16) {
        self.put(&[0x80 | count, packet_type]);
        self.put(&words.to_be_bytes());
    }

    fn sender_report(&mut self, facts: &SenderFacts<'_>) {
        self.header(0, SENDER_REPORT, 6);
        self.put(&facts.ssrc.0.to_be_bytes());
        self.put(&facts.wall.ntp().to_be_bytes());
        self.put(&facts.timestamp.0.to_be_bytes());
        self.put(&facts.packets.to_be_bytes());
        self.put(&facts.payload_bytes.to_be_bytes());
    }

    fn description(&mut self, facts: &SenderFacts<'_>) {
        let name = facts.cname;
        let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        // The list of items ends with a zero byte and is padded to whole words (RFC 3550 section 6.5).
        let items = (2 + usize::from(name_len) + 1).next_multiple_of(4);
        self.header(1, SOURCE_DESCRIPTION, u16::try_from(1 + items / 4).expect("at most 66 words"));
        self.put(&facts.ssrc.0.to_be_bytes());
        self.put(&[1, name_len]);
        self.put(&name[..usize::from(name_len)]);
        self.put(&[0; 4][..items - 2 - usize::from(name_len)]);
    }

    fn finish(self) -> usize {
        if self.len <= self.into.len() { self.len } else { 0 }
    }
}

/// One thing that a datagram of RTCP said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `reporter` tells how it hears `about`.
    Report {
        /// Who listens.
        reporter: Ssrc,
        /// Whom it hears.
        about: Ssrc,
        /// Lost since its report before, in 256ths.
        fraction_lost: u8,
        /// Lost since it began to listen.
        cumulative_lost: i32,
        /// Interarrival jitter in timestamp units.
        jitter: u32,
        /// Middle 32 bits of the NTP time of the last sender report it got; 0 if none.
        last_sender_report: u32,
        /// Time since it got that one, in 1/65536 s.
        delay: u32,
    },
    /// This source says goodbye.
    Bye(Ssrc),
}

/// Reads a datagram of RTCP, compound or reduced (RFC 5506), and hands what matters to a leg to `each`, in order.
/// Whatever else it holds is passed over; a datagram that is not RTCP says nothing.
pub fn read(datagram: &[u8], mut each: impl FnMut(Word)) {
    let Ok(compound) = Compound::parse(datagram) else { return };
    for packet in compound {
        match packet {
            Ok(Packet::Rr(report)) => {
                report.report_blocks().for_each(|block| each(word(report.ssrc(), &block)));
            }
            Ok(Packet::Sr(report)) => {
                report.report_blocks().for_each(|block| each(word(report.ssrc(), &block)));
            }
            Ok(Packet::Bye(bye)) => bye.ssrcs().for_each(|ssrc| each(Word::Bye(Ssrc(ssrc)))),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn word(reporter: u32, block: &ReportBlock<'_>) -> Word {
    // 24 bits with sign (RFC 3550 section 6.4.1).
    let lost = block.cumulative_lost() << 8;
    Word::Report {
        reporter: Ssrc(reporter),
        about: Ssrc(block.ssrc()),
        fraction_lost: block.fraction_lost(),
        cumulative_lost: lost.cast_signed() >> 8,
        jitter: block.interarrival_jitter(),
        last_sender_report: block.last_sender_report_timestamp(),
        delay: block.delay_since_last_sender_report_timestamp(),
    }
}

/// Whether a datagram that came on a port shared with RTP is RTCP: second byte 192 to 223 (RFC 5761 section 4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 4 && datagram[0] >> 6 == 2 && (192..=223).contains(&datagram[1])
}

/// The round trip in microseconds that a report of `now` measured (RFC 3550 section 6.4.1); `None` if the receiver
/// has not had a sender report yet, or counts impossibly.
pub fn round_trip_us(now: WallTime, last_sender_report: u32, delay: u32) -> Option<u64> {
    if last_sender_report == 0 {
        return None;
    }
    let middle = u32::try_from((now.ntp() >> 16) & 0xffff_ffff).expect("32 bits");
    let units = middle.wrapping_sub(last_sender_report).wrapping_sub(delay);
    // More than half the range is less than nothing: the receiver's clock is off.
    (units < 1 << 31).then(|| u64::from(units) * 1_000_000 / 65_536)
}

/// Whether the packet is one that a receiver sends when it hears us (receiver or sender report first); cheap check
/// for what comes in floods.
pub fn begins_with_report(datagram: &[u8]) -> bool {
    is_rtcp(datagram) && matches!(datagram[1], SENDER_REPORT | RECEIVER_REPORT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FACTS: SenderFacts<'_> = SenderFacts {
        ssrc: Ssrc(0x0102_0304),
        wall: WallTime(946_684_800_500_000),
        timestamp: Timestamp(0xdead_beef),
        packets: 5,
        payload_bytes: 400,
        cname: b"",
    };

    proptest! {
        /// Every length of name, so every padding.
        #[test]
        fn another_implementation_reads_our_reports_and_goodbyes(cname in "[ -~]{0,300}") {
            let facts = SenderFacts { cname: cname.as_bytes(), ..FACTS };
            let mut datagram = [0; MAX_LEN];
            let len = write_bye(&facts, &mut datagram);
            let packets: Vec<_> = Compound::parse(&datagram[..len]).unwrap().map(Result::unwrap).collect();
            let [Packet::Sr(report), Packet::Sdes(description), Packet::Bye(bye)] = &packets[..] else {
                panic!("sender report, description, goodbye expected, found {packets:?}");
            };
            prop_assert_eq!(report.ssrc(), 0x0102_0304);
            prop_assert_eq!(report.ntp_timestamp(), (3_155_673_600 << 32) | (1 << 31));
            prop_assert_eq!(report.rtp_timestamp(), 0xdead_beef);
            prop_assert_eq!(report.packet_count(), 5);
            prop_assert_eq!(report.octet_count(), 400);
            let chunk = description.chunks().next().unwrap();
            let item = chunk.items().next().unwrap();
            prop_assert_eq!((chunk.ssrc(), item.type_()), (0x0102_0304, 1));
            prop_assert_eq!(item.value(), &cname.as_bytes()[..cname.len().min(255)]);
            prop_assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [0x0102_0304]);
            prop_assert!(write_report(&facts, &mut datagram) < len);
        }

        #[test]
        fn hostile_rtcp_never_panics(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&datagram, |_| {});
        }

        #[test]
        fn reports_come_at_the_intervals_of_the_rfc(random: u64) {
            let interval = next_report(MediaTime::ZERO, false, random).as_nanos();
            prop_assert!((2_052_000_000..6_157_000_000).contains(&interval));
            let first = next_report(MediaTime::ZERO, true, random).as_nanos();
            prop_assert!(first.abs_diff(interval / 2) <= 2);
        }
    }

    #[test]
    fn no_room_means_no_packet() {
        assert_eq!(write_report(&FACTS, &mut [0; 20]), 0);
    }

    #[test]
    fn a_receiver_report_in_a_compound_is_understood() {
        // RR of ssrc 9 about 0x01020304: 25/256 lost, -2 in all, jitter 96, LSR and DLSR; then BYE of 9.
        let mut datagram = vec![0x81, 201, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4, 25, 0xff, 0xff, 0xfe];
        datagram.extend([0, 0, 0, 7, 0, 0, 0, 96, 0, 1, 0, 0, 0, 0, 0x80, 0]);
        datagram.extend([0x81, 203, 0, 1, 0, 0, 0, 9]);
        let mut words = vec![];
        read(&datagram, |word| words.push(word));
        let report = Word::Report {
            reporter: Ssrc(9),
            about: Ssrc(0x0102_0304),
            fraction_lost: 25,
            cumulative_lost: -2,
            jitter: 96,
            last_sender_report: 0x1_0000,
            delay: 0x8000,
        };
        assert_eq!(words, [report, Word::Bye(Ssrc(9))]);
        assert!(begins_with_report(&datagram));
    }

    #[test]
    fn a_round_trip_is_what_neither_side_waited() {
        let sent = WallTime(1_700_000_000_000_000);
        let middle = u32::try_from((sent.ntp() >> 16) & 0xffff_ffff).unwrap();
        let now = WallTime(sent.0 + 1_000_000);
        let trip = round_trip_us(now, middle, 62_259).unwrap();
        assert!(trip.abs_diff(50_000) < 50, "{trip}");
        assert_eq!(round_trip_us(now, 0, 0), None);
        assert_eq!(round_trip_us(sent, middle, 65_536), None);
    }
}
