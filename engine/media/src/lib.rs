//! Frames to packets. Read the modules from top to bottom and you have followed a frame from its birth to the
//! wire. Time is handed in; media never knows what a call is.

pub mod time;
pub mod frame;
pub mod ring;
pub mod source;
pub mod prepare;
pub mod preserve;
pub mod rehearsal;
pub mod bridge;
pub mod rtp;
pub mod packetizer;
pub mod rtcp;
pub mod keys;
mod session;
pub mod protect;
pub mod unprotect;
pub mod announcement;
pub mod leg;
pub mod pacer;
pub mod sink;
pub mod receiver;

pub use announcement::{Announcement, AnnouncementId};
pub use keys::{Keying, MasterKey, Mki, Protection, Suite};
pub use leg::{Cname, Crossing, HoldReport, LegId, LegSpec, Music, Numbering, Quality, RtpState};
pub use receiver::{Decoded, Hearing, Receiver};
pub use time::{Grid, MediaTime, Now, Tick, WallTime};

/// Names a source (one prompt made playable) for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);
