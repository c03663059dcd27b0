//! What must survive a restart: changes of control's memory go in, records to be written come out, and an answer or a
//! notification that promises something waits until they are durable.
//!
//! Whoever changes something marks it ([`Control::mark`]). At the end of each input what was marked is written as it then
//! is, or deleted if it is gone, all of it together ([`Output::Persist`]): so the store never has half of a change. What
//! leaves the house because of it waits for the store ([`Input::Stored`]); media does not.
//!
//! [`Output::Persist`]: crate::Output::Persist
//! [`Input::Stored`]: crate::Input::Stored

mod bytes;
mod dump;
mod entities;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use holdmusic_media::{LegId, MediaTime, Now, Tick, time::TICK_NS};

use crate::{
    CallId, Control, NotificationId, OperationId, Output, ParticipantId, Refusal, Settings,
    graph::results,
    operation::Operation,
    participant::EndedBy,
    prompt::{Origin, Prompt},
    timer::Timer,
};

pub use dump::{Dumped, dump};
pub use restore::RecordError;

/// How often the house writes that it lives, while there are calls: after a reboot of the machine, what was sent since is
/// known to be no more than fits into this. 10 s: one write, and receivers forgive a jump of 500 packets
/// (RFC 3550 appendix A.1 has MAX_DROPOUT at 3 000).
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a record is about. As bytes keys stand by kind, in this order, and those of one call together in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The engine itself.
    House,
    /// A prompt that others name.
    Prompt(u64),
    /// A call.
    Call(CallId),
    /// One of its participants, with its leg and its hold.
    Participant(CallId, ParticipantId),
    /// One of its operations.
    Operation(CallId, OperationId),
    /// A notification that is owed, by its place in the order of its call.
    Owed(CallId, u64),
    /// A notification that was given up.
    Undelivered(NotificationId),
}

impl Key {
    pub(crate) fn to_bytes(self) -> Box<[u8]> {
        let (kind, first, second): (u8, Option<u128>, Vec<u8>) = match self {
            Self::House => (0, None, vec![]),
            Self::Prompt(number) => (1, None, number.to_be_bytes().into()),
            Self::Call(call) => (2, Some(call.0), vec![]),
            Self::Participant(call, id) => (3, Some(call.0), id.0.to_be_bytes().into()),
            Self::Operation(call, id) => (4, Some(call.0), id.0.to_be_bytes().into()),
            Self::Owed(call, number) => (5, Some(call.0), number.to_be_bytes().into()),
            Self::Undelivered(id) => (6, Some(id.0), vec![]),
        };
        let first = first.map(u128::to_be_bytes);
        let first = first.as_ref().map_or(&[][..], |first| first);
        [&[kind][..], first, &second].concat().into()
    }

    /// What the keys of all operations of a call begin with.
    pub(crate) fn operations_of(call: CallId) -> Box<[u8]> {
        [&[4][..], &call.0.to_be_bytes()].concat().into()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let one = || rest.try_into().ok().map(u128::from_be_bytes);
        let two = || {
            let (call, id) = rest.split_first_chunk()?;
            Some((CallId(u128::from_be_bytes(*call)), id))
        };
        let guid = |id: &[u8]| id.try_into().ok().map(u128::from_be_bytes);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        Some(match kind {
            0 if rest.is_empty() => Self::House,
            1 => Self::Prompt(number(rest)?),
            2 => Self::Call(CallId(one()?)),
            3 => two().and_then(|(call, id)| Some(Self::Participant(call, ParticipantId(guid(id)?))))?,
            4 => two().and_then(|(call, id)| Some(Self::Operation(call, OperationId(guid(id)?))))?,
            5 => two().and_then(|(call, id)| Some(Self::Owed(call, number(id)?)))?,
            6 => Self::Undelivered(NotificationId(one()?)),
            _ => return None,
        })
    }

    /// The call whose state it is.
    fn call(self) -> Option<CallId> {
        match self {
            Self::Call(call)
            | Self::Participant(call, _)
            | Self::Operation(call, _)
            | Self::Owed(call, _) => Some(call),
            Self::House | Self::Prompt(_) | Self::Undelivered(_) => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::House => f.write_str("house"),
            Self::Prompt(number) => write!(f, "prompt {number}"),
            Self::Call(call) => write!(f, "call {call}"),
            Self::Participant(call, id) => write!(f, "participant {id} of call {call}"),
            Self::Operation(call, id) => write!(f, "operation {id} of call {call}"),
            Self::Owed(call, number) => write!(f, "notification {number} owed to call {call}"),
            Self::Undelivered(id) => write!(f, "undelivered notification {id}"),
        }
    }
}

/// Key and value of a record.
pub type Record = (Box<[u8]>, Box<[u8]>);

/// One record to be written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which.
    pub key: Box<[u8]>,
    /// What it is from now on; `None` deletes it.
    pub value: Option<Box<[u8]>>,
}

/// When the house wrote last, and on which clock: the origin of a monotonic clock is the boot of its machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    /// The boot.
    pub(crate) boot: u128,
    /// The moment on both clocks.
    pub(crate) now: Now,
}

/// Moments of the clock on which records were written, on the present one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    shift_ns: i128,
}

impl Moments {
    /// On the same boot the clock has gone on; otherwise the calendar says how long it was, and never less than nothing.
    fn new(anchor: &Anchor, now: Now, boot: u128) -> Self {
        let then = i128::from(anchor.now.mono.as_nanos());
        let mono = i128::from(now.mono.as_nanos());
        if anchor.boot == boot && then <= mono {
            return Self { shift_ns: 0 };
        }
        let away_ns = (i128::from(now.wall.0) - i128::from(anchor.now.wall.0)).max(0) * 1000;
        Self { shift_ns: mono - away_ns - then }
    }

    fn is_same_clock(self) -> bool {
        self.shift_ns == 0
    }

    /// What was before the origin of the present clock is at its origin.
    fn moment(&self, then: MediaTime) -> MediaTime {
        if then == MediaTime::NEVER {
            return then;
        }
        let nanos = i128::from(then.as_nanos()) + self.shift_ns;
        MediaTime::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    /// Ticks wrap round, so none is before the origin.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ticks wrap round")]
    fn tick(&self, then: Tick) -> Tick {
        Tick(then.0.wrapping_add(self.shift_ns.div_euclid(i128::from(TICK_NS)) as u64))
    }

    /// Nanoseconds from a moment of that clock to one of this.
    fn nanos_since(&self, then: MediaTime, now: MediaTime) -> i128 {
        i128::from(now.as_nanos()) - (i128::from(then.as_nanos()) + self.shift_ns)
    }
}

/// Prompts that records name by a number: many holds have the same, and one may be long.
#[derive(Debug, Default)]
pub(crate) struct KeptPrompts {
    numbers: BTreeMap<Arc<Prompt>, u64>,
    prompts: BTreeMap<u64, Arc<Prompt>>,
    last: u64,
    /// Those whose record is to be written or deleted.
    changed: Vec<u64>,
    /// Bytes of all, about.
    weight: usize,
    /// What they weighed when it was last looked which are needed.
    weighed: usize,
}

/// Below this nobody looks which prompts are needed.
const LIGHT: usize = 4 << 20;

impl KeptPrompts {
    /// The number of `prompt`, which is kept from now on.
    fn number(&mut self, prompt: &Prompt) -> u64 {
        if let Some(number) = self.numbers.get(prompt) {
            return *number;
        }
        self.last += 1;
        self.changed.push(self.last);
        self.keep(self.last, Arc::new(prompt.clone()));
        self.last
    }

    fn keep(&mut self, number: u64, prompt: Arc<Prompt>) {
        self.last = self.last.max(number);
        self.weight += weight(&prompt);
        self.numbers.insert(Arc::clone(&prompt), number);
        self.prompts.insert(number, prompt);
    }

    fn prompt(&self, number: u64) -> Option<Arc<Prompt>> {
        self.prompts.get(&number).cloned()
    }

    fn is_heavy(&self) -> bool {
        self.weight > LIGHT.max(2 * self.weighed)
    }

    fn keep_only(&mut self, needed: &BTreeSet<u64>) {
        let (changed, weighs) = (&mut self.changed, &mut self.weight);
        self.prompts.retain(|number, prompt| {
            let is_needed = needed.contains(number);
            if !is_needed {
                changed.push(*number);
                *weighs -= weight(prompt);
            }
            is_needed
        });
        self.numbers.retain(|_, number| needed.contains(number));
        self.weighed = self.weight;
    }
}

/// Bytes of a prompt, about.
fn weight(prompt: &Prompt) -> usize {
    let uri = match &prompt.origin {
        Origin::Web(url) | Origin::Directory(url) => url.as_str().len(),
        Origin::Data(data) => data.uri().len(),
    };
    uri + prompt.resource_id.as_ref().map_or(0, String::len) + 256
}

/// How it goes with the store.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    /// What was changed and is not yet on its way to the store.
    marked: Vec<Key>,
    pub(crate) kept: KeptPrompts,
    /// The last changes on their way to the store, and the last of which it has reported.
    last_ticket: u64,
    stored: u64,
    /// What leaves once the store has a ticket, in order.
    gated: BTreeMap<(u64, u64), Gated>,
    gated_so_far: u64,
    /// Legs that may send only when the store has this change: their numbers would come again with the same key if it were
    /// lost. What media is told about them meanwhile waits as well, so that it stays in order.
    waiting: BTreeMap<LegId, u64>,
    /// What leaves at the end of this input, and the call that it is about.
    pending: Vec<(Option<CallId>, Gated)>,
    /// Why nothing can be written at present.
    failing: Option<String>,
    heartbeat: Option<MediaTime>,
}

/// The leg that media is told something about.
fn about(output: &Output) -> Option<LegId> {
    match output {
        Output::AddLeg { leg, .. }
        | Output::ChangeLeg { leg, .. }
        | Output::Play { leg, .. }
        | Output::Announce { leg, .. }
        | Output::Hush { leg }
        | Output::Stop { leg }
        | Output::RemoveLeg { leg }
        // A peer is admitted to a leg that is there, and dismissed after it was admitted.
        | Output::Admit { leg, .. }
        | Output::Dismiss { leg, .. }
        // Nor does anybody follow a leg that is not there yet.
        | Output::Follow { leader: leg, .. } => Some(*leg),
        _ => None,
    }
}

/// Something that promises.
#[derive(Debug)]
struct Gated {
    output: Output,
    /// If it is the answer to new work, what was made: without a store there is none.
    made: Option<Made>,
}

/// What a request has made that would not be there without it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// A call.
    Call(CallId),
    /// A participant.
    Participant(CallId, ParticipantId),
    /// A hold.
    Hold(CallId, ParticipantId, OperationId),
    /// What ends by itself, or changed what was there before.
    Other,
}

impl Durability {
    /// Whether nothing can be written at present.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Music ends whatever the disk does: this stop (or removal) of a leg, and what waits to be told about that leg. What
    /// would have it play is told no more, and a change comes behind the stop, so that nothing is sent by it. What comes
    /// later waits as before.
    fn end_at_once(&mut self, end: Output) -> Vec<Output> {
        let leg = about(&end);
        let is_stop = matches!(end, Output::Stop { .. });
        let of_leg = self.gated.iter().filter(|(_, gated)| about(&gated.output) == leg);
        let places: Vec<_> = of_leg.map(|(place, _)| *place).collect();
        let held: Vec<_> = places.iter().filter_map(|place| Some(self.gated.remove(place)?.output)).collect();
        let is_new = held.iter().any(|output| matches!(output, Output::AddLeg { .. }));
        let (mut first, mut behind) = (Vec::new(), Vec::new());
        for output in held {
            match output {
                Output::Play { .. } | Output::Announce { .. } => {}
                Output::ChangeLeg { .. } | Output::Hush { .. } if !is_new => {
                    behind.extend(is_stop.then_some(output));
                }
                other => first.push(other),
            }
        }
        first.push(end);
        first.extend(behind);
        first
    }

    /// What the store has, and the change that goes to it next.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.stored, self.last_ticket + 1)
    }

    /// `key` has changed.
    pub(crate) fn mark(&mut self, settings: &Settings, key: Key) {
        if settings.durable {
            self.marked.push(key);
        }
    }
}

impl Control {
    /// `key` has changed.
    pub(crate) fn mark(&mut self, key: Key) {
        self.durability.mark(&self.settings, key);
    }

    /// `output` is said at the end of this input, or when what it is about is durable.
    pub(crate) fn promise(&mut self, call: Option<CallId>, output: Output, made: Option<Made>) {
        match self.settings.durable {
            true => self.durability.pending.push((call, Gated { output, made })),
            false => self.outputs.push_back(output),
        }
    }

    /// Whether new work can be taken: it must be made durable, and there must be time for it.
    pub(crate) fn takes_new_work(&self) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::unavailable("The server is shutting down and takes nothing new.", 5));
        }
        self.store_refuses()
    }

    /// Why nothing can be made durable, or read, if that is so.
    pub(crate) fn store_refuses(&self) -> Result<(), Refusal> {
        match &self.durability.failing {
            None => Ok(()),
            Some(reason) => Err(no_store(reason)),
        }
    }

    /// The end of an input: what was marked goes to the store, what was said leaves.
    pub(crate) fn commit(&mut self, now: Now) {
        if !self.settings.durable {
            return;
        }
        let before = self.durability.last_ticket;
        let mut marked = std::mem::take(&mut self.durability.marked);
        marked.extend(self.notifications.changed().map(|(call, number)| Key::Owed(call, number)));
        marked.extend(self.notifications.undelivered.changed().map(Key::Undelivered));
        if !marked.is_empty() {
            marked.sort_unstable();
            marked.dedup();
            self.persist(now, &marked);
        }
        marked.clear();
        self.durability.marked = marked;
        self.hold_back();
        let wrote = if self.durability.last_ticket > before { self.durability.last_ticket } else { 0 };
        for (call, gated) in std::mem::take(&mut self.durability.pending) {
            let needed = match call.and_then(|call| self.calls.get(&call)) {
                Some(call) => call.ticket,
                None => wrote,
            };
            let durability = &mut self.durability;
            let is_reply = matches!(gated.output, Output::Reply { .. });
            if needed <= durability.stored || is_reply && durability.failing.is_some() {
                self.outputs.push_back(gated.output);
            } else {
                durability.gated_so_far += 1;
                durability.gated.insert((needed, durability.gated_so_far), gated);
            }
        }
    }

    /// What is told about a leg from now on waits until what has been marked is durable.
    pub(crate) fn wait_for_store(&mut self, leg: LegId) {
        if self.settings.durable {
            self.durability.waiting.insert(leg, self.durability.last_ticket + 1);
        }
    }

    /// What is to be told about legs that wait for the store waits with them.
    fn hold_back(&mut self) {
        let durability = &mut self.durability;
        durability.waiting.retain(|_, ticket| *ticket > durability.stored);
        if durability.waiting.is_empty() {
            return;
        }
        for output in std::mem::take(&mut self.outputs) {
            match about(&output).and_then(|leg| durability.waiting.get(&leg)) {
                Some(_) if matches!(output, Output::Stop { .. } | Output::RemoveLeg { .. }) => {
                    self.outputs.extend(durability.end_at_once(output));
                }
                Some(&ticket) => {
                    durability.gated_so_far += 1;
                    let gated = Gated { output, made: None };
                    durability.gated.insert((ticket, durability.gated_so_far), gated);
                }
                None => self.outputs.push_back(output),
            }
        }
    }

    fn persist(&mut self, now: Now, marked: &[Key]) {
        let mut kept = std::mem::take(&mut self.durability.kept);
        let mut writes: Vec<_> = marked.iter().map(|key| self.write(*key, now, &mut kept)).collect();
        if marked.first() != Some(&Key::House) {
            writes.push(self.write(Key::House, now, &mut kept));
        }
        for number in std::mem::take(&mut kept.changed) {
            let value = kept.prompts.get(&number).map(|prompt| entities::prompt(prompt));
            writes.push(Write { key: Key::Prompt(number).to_bytes(), value });
        }
        self.durability.kept = kept;
        self.durability.last_ticket += 1;
        let ticket = self.durability.last_ticket;
        let mut last = None;
        for call in marked.iter().filter_map(|key| key.call()) {
            if last != Some(call)
                && let Some(call) = self.calls.get_mut(&call)
            {
                call.ticket = ticket;
            }
            last = Some(call);
        }
        for key in marked {
            if let Key::Operation(call, id) = *key
                && let Some(entry) = self.calls.get(&call)
                && entry.operation(id).is_some_and(|operation| operation.is_over())
            {
                self.settled.push_back((ticket, call, id));
            }
        }
        self.set_heartbeat(now);
        self.outputs.push_back(Output::Persist { ticket, writes });
    }

    /// The record of `key` as things are now.
    fn write(&self, key: Key, now: Now, kept: &mut KeptPrompts) -> Write {
        let value = match key {
            Key::House => {
                let anchor = Anchor { boot: self.settings.boot, now };
                Some(entities::house(&anchor, &self.settings.media_locals))
            }
            Key::Prompt(number) => kept.prompts.get(&number).map(|prompt| entities::prompt(prompt)),
            Key::Call(id) => self
                .calls
                .get(&id)
                .map(|call| entities::call(call, &self.owners.of(call.owner).identity, &self.prompts, kept)),
            Key::Participant(call, id) => self
                .calls
                .get(&call)
                .and_then(|call| call.participants.get(&id))
                .map(|participant| entities::participant(participant, &self.settings.media_locals, kept)),
            Key::Operation(call, id) => {
                self.calls.get(&call).and_then(|call| call.operation(id)).map(entities::operation)
            }
            Key::Owed(call, number) => self
                .notifications
                .find(call, number)
                .map(|(owner, callback, owed)| entities::owed(owner, callback, owed)),
            Key::Undelivered(id) => self
                .notifications
                .undelivered
                .numbered(id)
                .map(|(number, entry)| entities::undelivered(number, entry)),
        };
        Write { key: key.to_bytes(), value }
    }

    /// The store has everything up to `ticket`.
    pub(crate) fn stored(&mut self, ticket: u64) {
        let durability = &mut self.durability;
        durability.stored = durability.stored.max(ticket);
        if durability.failing.take().is_some() {
            // Those that waited for the store may be told now.
            self.to_notify.extend(self.notifications.calls());
        }
        let durability = &mut self.durability;
        let later = durability.gated.split_off(&(ticket + 1, 0));
        let open = std::mem::replace(&mut durability.gated, later);
        for ((_, number), gated) in open {
            let leg = about(&gated.output).and_then(|leg| durability.waiting.get(&leg));
            match leg.filter(|later| **later > durability.stored) {
                // In front of what is told about the leg after it, which waits for more.
                Some(&later) => drop(durability.gated.insert((later, number), gated)),
                None => self.outputs.push_back(gated.output),
            }
        }
    }

    /// The store can write nothing at present. What goes on goes on; who has asked for new work is told, and who has asked
    /// for anything else waits no longer: to stop music is worth more than to be sure of it. Notifications wait, since what
    /// they tell might not be so after a crash.
    pub(crate) fn store_failed(&mut self, now: Now, reason: String) {
        let refusal = no_store(&reason);
        for request in std::mem::take(&mut self.loading).into_keys() {
            self.reply(now.mono, request, None, None, Err(refusal.clone()));
        }
        self.durability.failing = Some(reason);
        let all = std::mem::take(&mut self.durability.gated);
        let is_reply = |gated: &Gated| matches!(gated.output, Output::Reply { .. });
        let (replies, others): (BTreeMap<_, _>, _) = all.into_iter().partition(|(_, gated)| is_reply(gated));
        self.durability.gated = others;
        let mut undone = vec![];
        for Gated { mut output, made } in replies.into_values() {
            if let (Output::Reply { result, .. }, Some(made)) = (&mut output, made)
                && result.is_ok()
            {
                *result = Err(refusal.clone());
                undone.push(made);
            }
            self.outputs.push_back(output);
        }
        undone.into_iter().rev().for_each(|made| self.undo(now, made));
    }

    /// Whoever was refused finds things as they were before, and nobody is held who is believed not to be.
    fn undo(&mut self, now: Now, made: Made) {
        match made {
            Made::Call(call) => self.end_call(now, call, &results::not_durable()),
            Made::Participant(call, id) => drop(self.delete_participant(now, call, id)),
            Made::Hold(call, id, operation) => {
                let hold = self.hold_mut(call, id);
                if hold.is_some_and(|hold| hold.operations.first() == Some(&operation)) {
                    self.end_hold(now, call, id, EndedBy::Stop, None);
                }
            }
            Made::Other => {}
        }
    }

    /// Whether the store has everything.
    pub fn is_durable(&self) -> bool {
        !self.settings.durable || self.durability.stored == self.durability.last_ticket
    }

    fn set_heartbeat(&mut self, now: Now) {
        if self.durability.heartbeat.is_none() && self.counts.calls > 0 {
            let at = now.mono + HEARTBEAT;
            self.durability.heartbeat = Some(at);
            self.timers.set(at, Timer::Heartbeat);
        }
    }

    /// The house writes that it lives, and looks which prompts are needed.
    pub(crate) fn heartbeat(&mut self) {
        self.durability.heartbeat = None;
        if self.counts.calls > 0 {
            self.mark(Key::House);
        }
        if self.durability.kept.is_heavy() {
            let needed = self.needed_prompts();
            self.durability.kept.keep_only(&needed);
            self.mark(Key::House);
        }
    }

    fn needed_prompts(&self) -> BTreeSet<u64> {
        let kept = &self.durability.kept;
        let mut needed = BTreeSet::new();
        let mut need = |prompt: &Prompt| needed.extend(kept.numbers.get(prompt));
        for call in self.calls.values() {
            call.default_prompt.iter().for_each(|prompt| need(prompt));
            let holds = call.participants.values().filter_map(|participant| participant.hold.as_deref());
            holds.filter_map(|hold| hold.asked.as_deref()).for_each(&mut need);
            let of_plays = call.plays.iter().flat_map(|play| play.left());
            let sources = call.prefetched.iter().copied().chain(of_plays);
            sources.filter_map(|source| self.prompts.prompt(source)).for_each(|prompt| need(prompt));
        }
        needed
    }

    /// All records as they should be in the store by now.
    #[cfg(test)]
    pub(crate) fn all_records(&mut self, now: Now) -> BTreeMap<Box<[u8]>, Box<[u8]>> {
        let mut keys = vec![];
        for call in self.calls.values() {
            keys.push(Key::Call(call.id));
            keys.extend(
                call.participants.values().map(|participant| Key::Participant(call.id, participant.id)),
            );
            keys.extend(call.operations.iter().map(|operation| Key::Operation(call.id, operation.id)));
        }
        keys.extend(self.notifications.keys().map(|(call, number)| Key::Owed(call, number)));
        keys.extend(self.notifications.undelivered.iter().map(|entry| Key::Undelivered(entry.notification)));
        keys.extend(self.durability.kept.prompts.keys().map(|number| Key::Prompt(*number)));
        let mut kept = std::mem::take(&mut self.durability.kept);
        let writes: Vec<_> = keys.into_iter().map(|key| self.write(key, now, &mut kept)).collect();
        assert!(kept.changed.is_empty(), "a prompt is named by no record that was written");
        self.durability.kept = kept;
        writes.into_iter().filter_map(|write| Some((write.key, write.value?))).collect()
    }
}

/// What the record of `key` is about, for tests that tell.
#[cfg(test)]
pub(crate) fn named(key: &[u8]) -> Option<Key> {
    Key::read(key)
}

fn no_store(reason: &str) -> Refusal {
    Refusal::unavailable(
        format!("The store cannot be written, so no new work is taken: {reason}. What plays goes on."),
        5,
    )
}

/// The operations in records of the store.
///
/// # Errors
///
/// The first record that is none.
pub(crate) fn read_operations(records: &[Record]) -> Result<Vec<Operation>, RecordError> {
    let as_written = Moments { shift_ns: 0 };
    let read = |(key, value): &Record| match Key::read(key) {
        Some(Key::Operation(_, id)) => {
            entities::read_operation(id, value, &as_written).map_err(|error| RecordError::new(key, &error))
        }
        _ => Err(RecordError::unknown_key(key)),
    };
    records.iter().map(read).collect()
}

/// Where the senders were bound when `records` were written, as peers see it: a restart binds them there again.
///
/// # Errors
///
/// If the record of the house cannot be read.
pub fn media_locals<'a>(
    records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<SocketAddr>, RecordError> {
    let house = Key::House.to_bytes();
    let Some((key, value)) = records.into_iter().find(|(key, _)| **key == *house) else { return Ok(vec![]) };
    let (_, locals) = entities::read_house(value).map_err(|error| RecordError::new(key, &error))?;
    Ok(locals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written_and_others_are_not() {
        let (call, id) = (CallId(1), u128::MAX);
        for key in [
            Key::House,
            Key::Prompt(7),
            Key::Call(call),
            Key::Participant(call, ParticipantId(id)),
            Key::Operation(call, OperationId(id)),
            Key::Owed(call, 3),
            Key::Undelivered(NotificationId(id)),
        ] {
            let bytes = key.to_bytes();
            assert_eq!(Key::read(&bytes), Some(key));
            assert_eq!(Key::read(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(Key::read(&[]), None);
        assert_eq!(Key::read(&[9]), None);
    }

    /// A reboot: the monotonic clock begins anew, and the calendar says how long it was.
    #[test]
    fn moments_of_another_boot_are_as_long_ago_as_the_calendar_says() {
        let at = |millis, wall_s: i64| Now {
            mono: MediaTime::from_millis(millis),
            wall: holdmusic_media::WallTime(wall_s * 1_000_000),
        };
        let anchor = Anchor { boot: 1, now: at(100_000, 1_000) };
        let same = Moments::new(&anchor, at(101_000, 5_000), 1);
        assert_eq!(same.moment(MediaTime::from_millis(99_000)), MediaTime::from_millis(99_000));
        let other = Moments::new(&anchor, at(40_000, 1_030), 2);
        assert_eq!(other.moment(MediaTime::from_millis(99_000)), MediaTime::from_millis(9_000));
        assert_eq!(other.moment(MediaTime::from_millis(10_000)), MediaTime::ZERO);
        assert_eq!(other.tick(Tick(0)).0.wrapping_add(4_500), 0, "90 s before the origin");
        // A calendar that was set back does not make what was written lie in the future.
        let back = Moments::new(&anchor, at(40_000, 900), 2);
        assert_eq!(back.moment(anchor.now.mono), MediaTime::from_millis(40_000));
    }
}
