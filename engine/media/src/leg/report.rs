//! [`HoldReport`]: what was sent during one hold, and how well it was heard.

use crate::time::MediaTime;

/// What was sent during one hold, and how well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldReport {
    /// RTP packets handed to the network.
    pub packets: u64,
    /// Bytes of payload in them, without headers.
    pub payload_bytes: u64,
    /// When the first packet left; `None` if none did.
    pub first_sent: Option<MediaTime>,
    /// When the last packet left.
    pub last_sent: Option<MediaTime>,
    /// Packets that left more than [`LATE_NS`] after their time, but still went out. Ticks are counted in 32 bits, which
    /// are a year and four months of 10 ms.
    pub late_ticks: u32,
    /// Ticks whose packet was left out because its time had passed.
    pub skipped_ticks: u32,
    /// The longest time between two packets that left one after the other, in nanoseconds.
    pub longest_gap_ns: u64,
    /// Ticks for which the source had no frame yet.
    pub starved_ticks: u32,
    /// Packets that the network refused.
    pub send_errors: u32,
    /// For how long packets carried the default music, in milliseconds.
    pub default_music_ms: u64,
    /// What the receiver reported, if it did.
    pub quality: Option<Quality>,
}

/// A packet counts as late when it leaves so many nanoseconds after its time: 5 ms, a quarter of a frame, about what
/// a jitter buffer of one frame forgives twice over.
pub const LATE_NS: u64 = 5_000_000;

/// What receiver reports (RFC 3550 section 6.4.2) said about a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Share of packets lost since the report before, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the receiver began to listen; negative when duplicates came.
    pub cumulative_lost: i32,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u32,
    /// Round trip in microseconds, once the receiver has echoed a sender report.
    pub round_trip_us: Option<u32>,
}
