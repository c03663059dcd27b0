//! The RTP header of RFC 3550 section 5.1: its numbers as types, written into a datagram and read from one.

/// Bytes of a header without contributing sources and extension.
pub const HEADER_LEN: usize = 12;

/// The synchronisation source: who speaks (RFC 3550 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// A 16-bit sequence number: +1 for every packet, modulo 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// The number `count` packets later.
    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap at 2^16")]
    pub fn after(self, count: u64) -> Self {
        Self(self.0.wrapping_add(count as u16))
    }
}

/// A 32-bit timestamp in units of the codec's RTP clock, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// The timestamp `units` later.
    pub fn after(self, units: u32) -> Self {
        Self(self.0.wrapping_add(units))
    }
}

/// A payload type, 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayloadType(u8);

impl PayloadType {
    /// The payload type `number`; `None` above 127. With RTCP on the same port 64 to 95 would be mistaken for
    /// RTCP (RFC 5761 section 4), so they are refused as well.
    pub fn new(number: u8) -> Option<Self> {
        (number < 128 && !(64..96).contains(&number)).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// The fields of a header that differ from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet after a silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// What the payload is.
    pub payload_type: PayloadType,
    /// Its place among the packets.
    pub sequence: SeqNo,
    /// Its place in time.
    pub timestamp: Timestamp,
    /// Whose it is.
    pub ssrc: Ssrc,
}

impl Header {
    /// Writes the 12 bytes: version 2, no padding, no extension, no contributing sources.
    pub fn write(&self, into: &mut [u8; HEADER_LEN]) {
        into[0] = 0x80;
        into[1] = u8::from(self.marker) << 7 | self.payload_type.0;
        into[2..4].copy_from_slice(&self.sequence.0.to_be_bytes());
        into[4..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        into[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
    }

    /// Reads a datagram: its header and its payload, without contributing sources, extension and padding.
    ///
    /// # Errors
    ///
    /// [`NotRtp`] if the version is not 2, the payload type is one of RTCP's, or a length points past the end.
    pub fn read(datagram: &[u8]) -> Result<(Self, &[u8]), NotRtp> {
        let (fixed, mut rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(NotRtp)?;
        let [first, second, ..] = *fixed;
        if first >> 6 != 2 {
            return Err(NotRtp);
        }
        rest = rest.get(usize::from(first & 0x0f) * 4..).ok_or(NotRtp)?;
        if first & 0x10 != 0 {
            let (extension, after) = rest.split_first_chunk::<4>().ok_or(NotRtp)?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            rest = after.get(usize::from(words) * 4..).ok_or(NotRtp)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(NotRtp)?);
            if padding == 0 {
                return Err(NotRtp);
            }
            rest = &rest[..rest.len().checked_sub(padding).ok_or(NotRtp)?];
        }
        let header = Self {
            marker: second & 0x80 != 0,
            payload_type: PayloadType::new(second & 0x7f).ok_or(NotRtp)?,
            sequence: SeqNo(u16::from_be_bytes([fixed[2], fixed[3]])),
            timestamp: Timestamp(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
        };
        Ok((header, rest))
    }
}

/// The datagram is not an RTP packet of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRtp;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtp_types::RtpPacket;

    use super::*;

    proptest! {
        /// Against an implementation that is not ours.
        #[test]
        fn what_we_write_another_implementation_reads(
            marker: bool, number in 96u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let header = Header {
                marker,
                payload_type: PayloadType::new(number).unwrap(),
                sequence: SeqNo(sequence),
                timestamp: Timestamp(timestamp),
                ssrc: Ssrc(ssrc),
            };
            let mut datagram = vec![0; HEADER_LEN];
            header.write(datagram.first_chunk_mut().unwrap());
            datagram.extend_from_slice(&payload);
            let theirs = RtpPacket::parse(&datagram).unwrap();
            prop_assert_eq!(theirs.marker_bit(), marker);
            prop_assert_eq!(theirs.payload_type(), number);
            prop_assert_eq!(theirs.sequence_number(), sequence);
            prop_assert_eq!(theirs.timestamp(), timestamp);
            prop_assert_eq!(theirs.ssrc(), ssrc);
            prop_assert_eq!(theirs.payload(), &payload[..]);
            prop_assert_eq!(Header::read(&datagram), Ok((header, &payload[..])));
        }

        #[test]
        fn hostile_bytes_are_read_or_refused_but_never_panic(
            datagram in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Ok((_, payload)) = Header::read(&datagram) {
                prop_assert!(payload.len() + HEADER_LEN <= datagram.len());
            }
        }
    }

    #[test]
    fn rtcp_on_the_same_port_is_not_taken_for_rtp() {
        let sender_report = [0x80, 200, 0, 6, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Header::read(&sender_report), Err(NotRtp));
    }
}
