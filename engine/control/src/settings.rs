//! What an operator may set: every limit and every time of control by name, with the reason for its default.

use std::{net::SocketAddr, time::Duration};

use holdmusic_codecs::{Codec, EncoderSettings};

use crate::{
    call::HoldRules,
    graph::Refusal,
    guard::Guard,
    participant::Leg,
    prompt::{Origin, Prompt},
};

/// What becomes of a hold when the engine ends and is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRestart {
    /// It goes on.
    #[default]
    Resume,
    /// It ends, when the engine does if that is in good order, and otherwise when it starts again.
    End,
}

/// Whose order decides, where an offer has several codecs that are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodecOrder {
    /// The offer's: whoever offers says first what it likes best (RFC 3264 section 5.1).
    #[default]
    Offer,
    /// That of [`Settings::codecs`].
    Ours,
}

/// The settings of [`crate::Control`]. Durations are of the monotonic clock.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Local addresses as peers see them, one per sender thread: the index is [`holdmusic_media::LegSpec::sender`].
    pub media_locals: Vec<SocketAddr>,
    /// Which addresses a prompt, a callback or a leg may have.
    pub guard: Guard,
    /// The codecs in use, in the operator's order of preference. All but the full band of Opus, which takes three times the
    /// bits.
    pub codecs: Vec<Codec>,
    /// Whose order decides among them.
    pub codec_order: CodecOrder,
    /// How producers encode: a receiver of Opus that wants fewer bits gets another kind of it.
    pub encoder: EncoderSettings,
    /// SHA-256 of the certificate that DTLS shows; `None` if there is none, and no leg with DTLS.
    pub fingerprint: Option<[u8; 32]>,
    /// Hold rules of calls that bring none of their own.
    pub hold: HoldRules,
    /// Whether `file` URIs name prompts in a directory of the operator's.
    pub prompt_directory: bool,
    /// Default music of the whole server instead of the built-in one.
    pub default_prompt: Option<Prompt>,

    /// Whether what must survive a restart goes to a store ([`crate::Output::Persist`]), and what promises it waits for
    /// that.
    pub durable: bool,
    /// The boot of the machine, which is the origin of its monotonic clock: whatever is different for each.
    pub boot: u128,
    /// What becomes of holds when the engine is started again.
    pub on_restart: OnRestart,

    /// How long a new hold waits for its prompt before it plays default music. 300 ms: longer silence is noticed.
    pub grace: Duration,
    /// Bound from acceptance to the end of a start operation. 19 s: clients give up after 30 s, the contract says
    /// 20 s, and the second between is for a slow sender and a slow clock.
    pub start_bound: Duration,
    /// How long the answer to a stop waits for the report of the sender. 200 ms: ten packet intervals.
    pub stop_bound: Duration,
    /// How long a report that a sender owes is waited for before it counts as lost, in all. 10 s.
    pub report_bound: Duration,

    /// Applications known at a time: those with calls, and those that asked a moment ago. 10 000 are 3 MB.
    pub max_owners: usize,
    /// Calls at a time.
    pub max_calls: usize,
    /// Held participants at a time, over all calls.
    pub max_held: usize,
    /// Listeners at a time, over all participants. 100: it is for who looks after an engine, and each costs as much as a
    /// held participant.
    pub max_listeners: usize,
    /// How long somebody may listen in. 8 h: a shift; a page that was forgotten stops being sent to.
    pub listen_for: Duration,
    /// Participants at a time, held or not, over all calls. 100 000: five for each call that may be.
    pub max_participants: usize,
    /// Participants in one call.
    pub max_participants_per_call: usize,
    /// Ended operations kept in one call.
    pub max_operations_per_call: usize,
    /// Operations kept in all; the oldest ended ones leave first. 500 000 are about 250 MB.
    pub max_operations: usize,
    /// Ended calls kept for reading their operations; the oldest leave first.
    pub max_ended_calls: usize,
    /// How long a call's operations stay readable after its end.
    pub retention: Duration,
    /// How long a call lives without `keepAlive`; `None` is without limit.
    pub lifetime: Option<Duration>,

    /// Prompts known at a time, prepared or being prepared.
    pub max_prompts: usize,
    /// Prompts being prepared at a time.
    pub max_preparing: usize,
    /// How long a prompt that nobody hears stays prepared, so that the next hold with it starts at once.
    pub keep_unused: Duration,
    /// How long a prompt that failed is not asked for again. 2 s: a storm of holds asks a broken origin once, and who has
    /// mended it does not notice.
    pub failure_remembered: Duration,
    /// Bytes of prepared prompts that nobody hears; above it the one unused longest leaves.
    pub max_unused_bytes: u64,

    /// Notifications owed to one call.
    pub max_owed_per_call: usize,
    /// Notifications owed in all. 100 000 are about 100 MB; one receiver may be owed half of them.
    pub max_owed: usize,
    /// Attempts under way at a time. 1 024: sixteen busy receivers, or a thousand dead ones. Each is a connection.
    pub max_attempts: usize,
    /// How long a notification is tried before it is given up.
    pub notify_for: Duration,
    /// Delay of the first retry; doubled for every further one.
    pub retry_first: Duration,
    /// Longest delay between retries.
    pub retry_longest: Duration,
    /// Notifications listed as undelivered; beyond it the oldest leave of the receiver that has most.
    pub max_undelivered: usize,
    /// Bytes of their bodies: the roster of a large call takes a hundred times as many as most.
    pub max_undelivered_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            media_locals: Vec::new(),
            guard: Guard::default(),
            codecs: vec![Codec::Opus, Codec::G722, Codec::L16, Codec::Pcma, Codec::Pcmu],
            codec_order: CodecOrder::default(),
            encoder: EncoderSettings::default(),
            fingerprint: None,
            hold: HoldRules::default(),
            prompt_directory: false,
            default_prompt: None,
            durable: false,
            boot: 0,
            on_restart: OnRestart::default(),
            grace: Duration::from_millis(300),
            start_bound: Duration::from_secs(19),
            stop_bound: Duration::from_millis(200),
            report_bound: Duration::from_secs(10),
            max_owners: 10_000,
            max_calls: 20_000,
            max_held: 20_000,
            max_listeners: 100,
            listen_for: Duration::from_secs(8 * 3600),
            max_participants: 100_000,
            max_participants_per_call: 1_000,
            max_operations_per_call: 1_000,
            max_operations: 500_000,
            max_ended_calls: 100_000,
            retention: Duration::from_secs(3600),
            lifetime: None,
            max_prompts: 1_000,
            max_preparing: 256,
            keep_unused: Duration::from_secs(60),
            failure_remembered: Duration::from_secs(2),
            max_unused_bytes: 32 << 20,
            max_owed_per_call: 1_000,
            max_owed: 100_000,
            max_attempts: 1_024,
            notify_for: Duration::from_secs(600),
            retry_first: Duration::from_millis(250),
            retry_longest: Duration::from_secs(30),
            max_undelivered: 10_000,
            max_undelivered_bytes: 32 << 20,
        }
    }
}

impl Settings {
    /// Where a leg is sent from, as peers see it.
    pub(crate) fn local(&self, leg: &Leg) -> SocketAddr {
        self.media_locals[leg.spec.sender]
    }

    /// Whether prompts may come from where this one is.
    ///
    /// # Errors
    ///
    /// 400 8523 for a file where the operator has named no directory.
    pub fn check_origin(&self, prompt: Option<&Prompt>) -> Result<(), Refusal> {
        match prompt.map(|prompt| &prompt.origin) {
            Some(Origin::Directory(_)) if !self.prompt_directory => Err(Refusal::invalid(
                "'uri' has the scheme 'file'; expected https or http. The operator can name a directory with --prompts.",
            )),
            _ => Ok(()),
        }
    }
}
