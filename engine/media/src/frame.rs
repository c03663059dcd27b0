//! [`Frame`]: one tick of encoded sound, immutable.

use smallvec::SmallVec;

/// Bytes that a frame holds in place: Opus at 32 kbit/s, the default. A longer one stands elsewhere, and to read it costs a
/// look at memory more that no cache may have.
const IN_PLACE: usize = 80;

/// Bytes of memory that a frame of `payload_len` bytes takes in a ring: what it holds in place, 32 of slot and pointer, and
/// the allocator's share; if it is longer, that is elsewhere.
pub(crate) fn memory_bytes(payload_len: usize) -> u64 {
    let elsewhere = if payload_len > IN_PLACE { payload_len + 16 } else { 0 };
    (136 + elsewhere) as u64
}

/// The payload of one packet: 20 ms of sound in one codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    payload: SmallVec<[u8; IN_PLACE]>,
}

impl Frame {
    /// A frame that holds `payload`.
    pub fn new(payload: &[u8]) -> Self {
        Self { payload: SmallVec::from_slice(payload) }
    }

    /// What an RTP packet carries of it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}
