//! Every queue between threads, declared side by side. All are bounded; a full one is an answer at the door.

use std::{net::SocketAddr, sync::Arc, thread::Thread, time::Duration};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use holdmusic_codecs::Codec;
use holdmusic_control::{
    Answer, Ask, DeliveryOutcome, NotificationId, PromptFailure, Refusal, RequestId, SourceFacts,
    access::{Caller, Standing},
    record::Record,
    transport::{IceCredentials, PeerOffer},
};
use holdmusic_media::{
    Crossing, LegId, MediaTime, SourceId,
    bridge::Bridge,
    pacer::{Command, Event},
    prepare::{Analysed, Analysis},
    ring::{LoopWriter, Reader, Watch},
};
use rtrb::PushError;
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock,
    peers::PeerEvent,
    room::Room,
    store::{Batch, Read},
    supply::Supplied,
};

/// Requests of customers that wait for control. Most take some microseconds, so a full queue is a tenth of a second of
/// work.
pub const REQUESTS: usize = 8_192;

/// A request that has waited for longer is refused as if the queue had been full: a list of a thousand takes a hundred
/// times as long as a start, and a queue of lists would have starts wait for ten seconds.
pub const REQUEST_WAITS: Duration = Duration::from_secs(1);

/// What doors and senders tell control. Doors have a bounded number of things under way, senders keep what does not
/// fit, so nothing is lost when it is full.
pub const TIDINGS: usize = 65_536;

/// Commands that wait for one sender; it takes thousands a millisecond.
pub const COMMANDS: usize = 2_048;

/// Prompts that wait for a producer; control has fewer prepared at the same time.
pub const WORK: usize = 1_024;

/// Pieces of one prompt that wait for its producer. One has 8 to 64 kB; a producer that is behind by more has the fetch
/// wait for it, and so the origin.
pub const CHUNKS: usize = 16;

/// Analyses that wait for an analyst: none. They wait where they can be given up.
pub const ANALYSES: usize = 0;

/// Changes of music that wait for a producer. One takes 3 ms, and there are 160 ms for it; beyond this the change is a
/// plain switch.
pub const BRIDGES: usize = 64;

/// Batches that wait for the store: one, since control gathers while the disk works.
pub const BATCHES: usize = 1;

/// Requests that wait for what the store has: as many as control lets wait.
pub const READS: usize = 64;

/// What control decides about WebRTC peers. Each is done in some microseconds, but for a handshake that is under way.
pub const PEER_COMMANDS: usize = 1_024;

/// Datagrams of WebRTC peers that wait for their thread: a tenth of a second of handshakes, and a few milliseconds of
/// checks. Beyond that they are lost, and sent again by who sent them.
pub const PEER_DATAGRAMS: usize = 1_024;

/// Threads that panicked and whose names wait to be told. The first one closes the engine.
pub const FALLEN: usize = 16;

/// What a customer asks, with the way back for the answer.
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// When the door had it.
    pub accepted: MediaTime,
    /// When it was queued: its body may have taken its time.
    pub queued: MediaTime,
    /// What URLs in the answer begin with.
    pub base: Arc<str>,
    /// Who asks.
    pub caller: Arc<Caller>,
    /// Where the answer goes; closed when the customer has hung up.
    pub reply: oneshot::Sender<Reply>,
}

/// What control says to a request.
pub struct Reply {
    /// The answer.
    pub result: Result<Answer, Refusal>,
    /// How much is left of what the caller may use.
    pub standing: Standing,
}

/// Where a sender finds its commands. A queue with one writer and one reader, neither of which ever waits for the other: a
/// sender at real-time priority must not wait for a desk that it keeps from working.
pub type Orders = rtrb::Consumer<Command>;

/// Control's way to a sender: what is sent wakes it.
#[derive(Debug)]
pub struct Commander {
    queue: rtrb::Producer<Command>,
    /// Behind the queue, so that the sender finds it closed when it is woken for the last time.
    wake: Wake,
}

#[derive(Debug)]
struct Wake(Thread);

impl Commander {
    /// For the sender that runs in `thread` and takes its commands from the other end of `queue`.
    pub fn new(queue: rtrb::Producer<Command>, thread: Thread) -> Self {
        Self { queue, wake: Wake(thread) }
    }

    /// Sends a command, when there is room for it: a sender takes thousands a millisecond.
    ///
    /// # Errors
    ///
    /// The command, if the sender has ended.
    pub fn send(&mut self, mut command: Command) -> Result<(), Command> {
        while !self.queue.is_abandoned() {
            let sent = self.queue.push(command);
            self.wake.0.unpark();
            match sent {
                Ok(()) => return Ok(()),
                Err(PushError::Full(back)) => command = back,
            }
            clock::park(FULL);
        }
        Err(command)
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// What doors and senders tell control.
#[derive(Debug)]
pub enum Tiding {
    /// A sender has something to tell.
    Media(Event),
    /// Something became of a WebRTC peer.
    Peer(PeerEvent),
    /// A source can be played in a codec. Told again when more is known about it.
    SourceReady {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
        /// Where the frames of later plays are, if not where they were until now.
        reader: Option<Reader>,
        /// What is known about it.
        facts: SourceFacts,
    },
    /// The loop of a source is closed.
    SourceClosed {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
    },
    /// The bytes of a source have come, or need not.
    Supplied {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
        /// How it was supplied.
        supplied: Supplied,
    },
    /// A source cannot be played.
    SourceFailed {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
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
    /// The store has everything up to this.
    Stored {
        /// Control's.
        ticket: u64,
    },
    /// What the store has.
    Loaded {
        /// For which request.
        request: RequestId,
        /// Keys and values, or why they cannot be read.
        records: Result<Vec<Record>, String>,
    },
    /// The store cannot write at present.
    StoreFailed {
        /// Why, without paths.
        reason: String,
    },
    /// Take no new holds, and leave when every owed notification is delivered or `by` has come.
    Drain {
        /// When to leave at the latest.
        by: MediaTime,
    },
}

/// A prompt for a producer to make playable.
pub struct Work {
    /// The source it becomes.
    pub source: SourceId,
    /// What it is to be encoded with.
    pub codec: Codec,
    /// Its ring. Whoever drops all readers gives the prompt up.
    pub writer: LoopWriter,
    /// Its bytes. If they end without a mark, it is given up.
    pub chunks: Receiver<Chunk>,
}

/// What comes of a fetch, piece by piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// There are no more: all have come.
    End,
    /// There will be no more, and why.
    Failed(PromptFailure),
}

/// The way of one prompt's bytes to its producer.
#[derive(Clone, Debug)]
pub struct Intake(Sender<Chunk>);

/// Nobody waits for these bytes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWanted;

/// How long a full queue is left alone: a producer works chunks off in that time, and a sender commands.
const FULL: Duration = Duration::from_millis(1);

/// A queue for the bytes of one prompt.
pub fn intake() -> (Intake, Receiver<Chunk>) {
    let (into, chunks) = bounded(CHUNKS);
    (Intake(into), chunks)
}

impl Intake {
    /// Passes a chunk on, when there is room for it.
    ///
    /// # Errors
    ///
    /// [`NotWanted`] if the prompt was given up.
    pub async fn push(&self, mut chunk: Chunk) -> Result<(), NotWanted> {
        loop {
            match self.0.try_send(chunk) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => chunk = back,
                Err(TrySendError::Disconnected(_)) => return Err(NotWanted),
            }
            tokio::time::sleep(FULL).await;
        }
    }

    /// As [`Self::push`], from a thread that may wait.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub fn push_waiting(&self, chunk: Chunk) -> Result<(), NotWanted> {
        self.0.send(chunk).map_err(|_| NotWanted)
    }
}

/// A recording that is whole, for an analyst.
pub struct Errand {
    /// Whose it is.
    pub source: SourceId,
    /// And in what.
    pub codec: Codec,
    /// What is to be done.
    pub analysis: Box<Analysis>,
    /// Whether anybody still wants it.
    pub watch: Watch,
    /// The memory that it has.
    pub room: Room,
    /// Where the result goes.
    pub back: Sender<Finding>,
}

/// What came of an [`Errand`].
pub struct Finding {
    /// Whose it is.
    pub source: SourceId,
    /// And in what.
    pub codec: Codec,
    /// The result.
    pub result: Result<Analysed, PromptFailure>,
}

/// A change of music for a producer to make a bridge for.
pub struct BridgeWork {
    /// Whose music changes.
    pub leg: LegId,
    /// From where to where.
    pub crossing: Crossing,
}

/// What control decides about a WebRTC peer.
#[derive(Debug)]
pub enum PeerCommand {
    /// A leg waits for one.
    Admit {
        /// Which leg.
        leg: LegId,
        /// By which sender's socket.
        sender: usize,
        /// What the peer calls us by.
        local: IceCredentials,
        /// What it offered.
        offer: PeerOffer,
        /// Where it was connected before the engine was started again.
        resumed: Option<SocketAddr>,
    },
    /// A leg has none any more.
    Dismiss {
        /// Which leg.
        leg: LegId,
    },
}

/// A datagram of STUN or DTLS.
#[derive(Debug)]
pub struct PeerDatagram {
    /// On whose socket it came in.
    pub sender: usize,
    /// Where it came from.
    pub from: SocketAddr,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// A sender's way to the thread of peers.
#[derive(Clone, Debug)]
pub struct ToPeers {
    /// Which sender.
    pub sender: usize,
    /// Where datagrams of peers go.
    pub queue: Sender<PeerDatagram>,
}

impl ToPeers {
    /// Passes a datagram on.
    ///
    /// # Errors
    ///
    /// [`NotWanted`] if there is no room: it is lost.
    pub fn pass(&self, from: SocketAddr, datagram: &[u8]) -> Result<(), NotWanted> {
        let datagram = PeerDatagram { sender: self.sender, from, bytes: datagram.to_vec() };
        self.queue.try_send(datagram).map_err(|_| NotWanted)
    }
}

/// The two ends of every queue.
pub struct Mailboxes {
    /// Customers to control.
    pub requests: (Sender<Request>, Receiver<Request>),
    /// Doors and senders to control.
    pub tidings: (Sender<Tiding>, Receiver<Tiding>),
    /// Control to each sender.
    pub commands: Vec<(rtrb::Producer<Command>, Orders)>,
    /// Control to producers; the bytes come by an [`intake`] of each prompt.
    pub work: (Sender<Work>, Receiver<Work>),
    /// Producers to analysts: recordings that take a tenth of a second at most.
    pub short_analyses: (Sender<Errand>, Receiver<Errand>),
    /// Producers to analysts: those that may take seconds.
    pub long_analyses: (Sender<Errand>, Receiver<Errand>),
    /// Control to producers.
    pub bridges: (Sender<BridgeWork>, Receiver<BridgeWork>),
    /// Control to the store.
    pub batches: (Sender<Batch>, Receiver<Batch>),
    /// Control to the store, for what is to be read.
    pub reads: (Sender<Read>, Receiver<Read>),
    /// Control to the thread of peers.
    pub peer_commands: (Sender<PeerCommand>, Receiver<PeerCommand>),
    /// Senders to the thread of peers.
    pub peer_datagrams: (Sender<PeerDatagram>, Receiver<PeerDatagram>),
    /// Threads that panicked, by name, to the house.
    pub fallen: (mpsc::Sender<String>, mpsc::Receiver<String>),
}

impl Mailboxes {
    /// Queues for so many senders.
    pub fn new(senders: usize) -> Self {
        Self {
            requests: bounded(REQUESTS),
            tidings: bounded(TIDINGS),
            commands: (0..senders).map(|_| rtrb::RingBuffer::new(COMMANDS)).collect(),
            work: bounded(WORK),
            short_analyses: bounded(ANALYSES),
            long_analyses: bounded(ANALYSES),
            bridges: bounded(BRIDGES),
            batches: bounded(BATCHES),
            reads: bounded(READS),
            peer_commands: bounded(PEER_COMMANDS),
            peer_datagrams: bounded(PEER_DATAGRAMS),
            fallen: mpsc::channel(FALLEN),
        }
    }
}
