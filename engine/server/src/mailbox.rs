//! Every queue between threads, declared side by side. All are bounded; a full one is an answer at the door.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use holdmusic_control::{Answer, Ask, DeliveryOutcome, NotificationId, PromptFailure, Refusal, SourceFacts};
use holdmusic_media::{
    Crossing, LegId, MediaTime, SourceId,
    bridge::Bridge,
    pacer::{Command, Event},
    ring::Reader,
};
use tokio::sync::{mpsc, oneshot};

/// Requests of customers that wait for control. A request takes some microseconds, so a full queue is a tenth of a
/// second of work.
pub const REQUESTS: usize = 8_192;

/// What doors and senders tell control. Doors have a bounded number of things under way, senders keep what does not
/// fit, so nothing is lost when it is full.
pub const TIDINGS: usize = 65_536;

/// Commands that wait for one sender; it takes thousands a millisecond.
pub const COMMANDS: usize = 16_384;

/// Prompts whose bytes have come and that wait for a producer.
pub const WORK: usize = 1_024;

/// Changes of music that wait for a producer. One takes 3 ms, and there are 160 ms for it; beyond this the change is a
/// plain switch.
pub const BRIDGES: usize = 64;

/// Threads that panicked and whose names wait to be told. The first one closes the engine.
pub const FALLEN: usize = 16;

/// What a customer asks, with the way back for the answer.
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// When the door had it.
    pub accepted: MediaTime,
    /// What URLs in the answer begin with.
    pub base: Arc<str>,
    /// Where the answer goes; closed when the customer has hung up.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What doors and senders tell control.
#[derive(Debug)]
pub enum Tiding {
    /// A sender has something to tell.
    Media(Event),
    /// A source can be played.
    SourceReady {
        /// Which.
        source: SourceId,
        /// Where its frames are.
        reader: Reader,
        /// What is known about it.
        facts: SourceFacts,
    },
    /// A source cannot be played.
    SourceFailed {
        /// Which.
        source: SourceId,
        /// Why.
        failure: PromptFailure,
    },
    /// A bridge was made, or cannot be made.
    Bridged {
        /// For which leg.
        leg: LegId,
        /// To which source.
        source: SourceId,
        /// The bridge.
        bridge: Option<Bridge>,
    },
    /// A notification was delivered, or not.
    Delivered {
        /// Which.
        notification: NotificationId,
        /// How it went.
        outcome: DeliveryOutcome,
    },
    /// Take no new holds, and leave when every owed notification is delivered or `by` has come.
    Drain {
        /// When to leave at the latest.
        by: MediaTime,
    },
}

/// Sound for a producer to make playable.
pub struct Work {
    /// The source it becomes.
    pub source: SourceId,
    /// The bytes as they were fetched.
    pub bytes: Vec<u8>,
}

/// A change of music for a producer to make a bridge for.
pub struct BridgeWork {
    /// Whose music changes.
    pub leg: LegId,
    /// From where to where.
    pub crossing: Crossing,
}

/// The two ends of every queue.
pub struct Mailboxes {
    /// Customers to control.
    pub requests: (Sender<Request>, Receiver<Request>),
    /// Doors and senders to control.
    pub tidings: (Sender<Tiding>, Receiver<Tiding>),
    /// Control to each sender.
    pub commands: Vec<(Sender<Command>, Receiver<Command>)>,
    /// Fetch to producers.
    pub work: (Sender<Work>, Receiver<Work>),
    /// Control to producers.
    pub bridges: (Sender<BridgeWork>, Receiver<BridgeWork>),
    /// Threads that panicked, by name, to the house.
    pub fallen: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

impl Mailboxes {
    /// Queues for so many senders.
    pub fn new(senders: usize) -> Self {
        Self {
            requests: bounded(REQUESTS),
            tidings: bounded(TIDINGS),
            commands: (0..senders).map(|_| bounded(COMMANDS)).collect(),
            work: bounded(WORK),
            bridges: bounded(BRIDGES),
            fallen: mpsc::channel(FALLEN),
        }
    }
}
