//! [`Frame`]: one tick of encoded sound, immutable.

/// The payload of one packet: 20 ms of sound in one codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    payload: Box<[u8]>,
}

impl Frame {
    /// A frame that holds `payload`.
    pub fn new(payload: &[u8]) -> Self {
        Self { payload: payload.into() }
    }

    /// What an RTP packet carries of it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}
