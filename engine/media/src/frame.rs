//! [`Frame`]: one tick of encoded sound, immutable.

use smallvec::SmallVec;

/// Bytes that a frame holds in place: Opus at 32 kbit/s, the default. A longer one stands elsewhere, and to read it costs a
/// look at memory more that no cache may have.
const IN_PLACE: usize = 80;

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
