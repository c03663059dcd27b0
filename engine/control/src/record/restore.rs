//! Control as it was: the records of a store go in, and out comes who was there, with what must be done so that it is as
//! if nothing had happened.
//!
//! A hold that played plays again on the same leg, from where the music would be, with numbers that are past everything
//! that can have been sent. An operation that was under way goes on. A notification that was owed is owed, under its old
//! name.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{LegId, MediaTime, Now, Numbering, Protection, SourceId};
use litemap::LiteMap;

use super::{
    Anchor, HEARTBEAT, KeptPrompts, Key, Moments,
    bytes::Unreadable,
    entities::{self, CallRecord, OwedRecord, PlayRecord},
};
use crate::{
    CallId, Control, Output, ParticipantId, Settings,
    access::{Caller, Identity, Known, Limits, OwnerKey},
    announce::Play,
    call::{Call, Operations},
    notification::Says,
    operation::Operation,
    participant::{EndedBy, Leg, Participant},
    prompt::{DEFAULT_SOURCE, Found, Listener, Prompt},
    settings::OnRestart,
    timer::Timer,
    undelivered::Undelivered,
};

/// Packets that a leg may have sent after the last change that the store has, at most: the house writes every
/// [`HEARTBEAT`], unless the disk refuses. 30 s of them, or 15 s of short ones: with many more, receivers would take the
/// jump for another stream (RFC 3550 appendix A.1: MAX_DROPOUT is 3 000).
const UNSTORED: u64 = 1_500;

/// How long at least an operation that was under way has from the restart on, and a call whose lifetime would be over. 5 s:
/// what was under way had the time that the restart took from it.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Which.
    pub key: String,
    /// What was expected in it.
    pub expected: String,
}

impl RecordError {
    pub(super) fn new(key: &[u8], expected: &Unreadable) -> Self {
        let name = Key::read(key).map_or_else(|| hex(key), |key| key.to_string());
        Self { key: name, expected: expected.to_string() }
    }

    pub(super) fn unknown_key(key: &[u8]) -> Self {
        Self { key: hex(key), expected: "a key of a known kind was expected".to_owned() }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record of {} cannot be read: {}", self.key, self.expected)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(40).map(|byte| format!("{byte:02x}")).collect()
}

/// All records, read.
#[derive(Default)]
struct Read {
    calls: BTreeMap<CallId, CallRecord>,
    participants: BTreeMap<(CallId, ParticipantId), (Participant, Option<SocketAddr>)>,
    operations: BTreeMap<CallId, Vec<Operation>>,
    owed: BTreeMap<(CallId, u64), OwedRecord>,
    undelivered: BTreeMap<u64, Undelivered>,
}

/// What was written, and how far it was from now.
struct Before {
    anchor: Anchor,
    moments: Moments,
    kept: KeptPrompts,
}

impl Control {
    /// A house with what is in `records`, which [`Output::Persist`] has written. Without any it is empty. What it wants
    /// persisted first must be durable before anything else is done: the numbers are in it with which streams go on.
    ///
    /// # Errors
    ///
    /// The first record that cannot be read; nothing is left out silently.
    pub fn restore<'a>(
        settings: Settings,
        seed: [u8; 32],
        now: Now,
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, RecordError> {
        let boot = settings.boot;
        let mut control = Self::new(settings, seed);
        // The server's own default music goes on as well.
        for output in &mut control.outputs {
            if let Output::Prepare { unasked, .. } = output {
                *unasked = true;
            }
        }
        let Some((before, read)) = read_all(records, now, boot)? else { return Ok(control) };
        let Before { anchor, moments, kept } = before;
        control.durability.kept = kept;
        let away = now.mono.since(moments.moment(anchor.now.mono));
        control.restore_notifications(away, read.owed, read.undelivered);
        let mut operations = read.operations;
        let (mut plays, mut prompts) = (vec![], vec![]);
        let mut calls: Vec<_> = read.calls.into_iter().collect();
        calls.sort_by_key(|(_, call)| call.number);
        for (id, mut record) in calls {
            plays.push((id, std::mem::take(&mut record.plays)));
            prompts.push((
                id,
                control.restore_call(now, id, record, operations.remove(&id).unwrap_or_default()),
            ));
        }
        for ((call, id), (participant, local)) in read.participants {
            control.restore_participant(now, (call, id), participant, local, &anchor, &moments);
        }
        for (call, prompts) in prompts {
            control.restore_prompts(now, call, prompts);
        }
        for (call, records) in plays {
            for record in records {
                control.restore_play(now, call, record);
            }
            control.recite(now, call);
        }
        control.count_operations();
        control.shelve_restored();
        control.restart_holds(now);
        let notified: BTreeSet<_> = control.notifications.calls().collect();
        control.to_notify.extend(notified);
        control.mark(Key::House);
        control.notify_all(now);
        control.commit(now);
        Ok(control)
    }

    fn restore_call(
        &mut self,
        now: Now,
        id: CallId,
        record: CallRecord,
        operations: Vec<Operation>,
    ) -> (Option<Arc<Prompt>>, Vec<Arc<Prompt>>) {
        let owner = self.restore_owner(now, record.owner);
        let mut kept = Operations::new();
        let mut over = 0;
        for mut operation in operations {
            if let Some(bound) = operation.bound.take().filter(|_| !operation.is_over()) {
                let bound = bound.max(now.mono + AFTERWARDS);
                operation.bound = Some(bound);
                self.mark(Key::Operation(id, operation.id));
                self.timers.set(bound, Timer::Bound(id, operation.id));
            }
            over += usize::from(operation.is_over());
            kept.push(operation);
        }
        let expires = record.expires.map(|expires| expires.max(now.mono + AFTERWARDS));
        if let Some(expires) = expires {
            self.mark(Key::Call(id));
            self.timers.set(expires, Timer::Lifetime(id));
        }
        if let Some(ended) = record.ended {
            let until = ended + self.settings.retention;
            self.ended.push_back((until, id));
            self.timers.set(until, Timer::Retention(id));
            self.counts.ended_calls += 1;
        } else {
            self.counts.calls += 1;
            self.owners.of_mut(owner).calls += 1;
        }
        self.owners.of_mut(owner).kept += 1;
        self.last_call = self.last_call.max(record.number);
        let call = Call {
            id,
            owner,
            number: record.number,
            callback: self.callback(record.callback),
            rules: record.rules,
            default_prompt: record.default_prompt.as_ref().map(|prompt| Box::new(Prompt::clone(prompt))),
            default_source: None,
            prefetched: Box::default(),
            echo: record.echo,
            my_participant: record.my_participant,
            created: record.created,
            participants: LiteMap::with_capacity(1),
            operations: kept,
            over,
            held: 0,
            plays: Vec::new(),
            muted: record.muted,
            etag: record.etag,
            numbers: record.numbers,
            expires,
            ended: record.ended,
            ticket: 0,
        };
        if call.ended.is_none() {
            self.glance.add(&call);
        }
        self.calls.insert(id, Box::new(call));
        // Nobody hears anything in a call that has ended.
        match record.ended {
            None => (record.default_prompt, record.prefetch),
            Some(_) => (None, vec![]),
        }
    }

    /// Its limits are told with its first request.
    fn restore_owner(&mut self, now: Now, identity: Identity) -> OwnerKey {
        let caller = Caller { identity: Arc::new(identity), known: Known::BySignature, limits: Limits::NONE };
        self.owners.know(now.mono, &caller, usize::MAX).expect("there is no limit")
    }

    fn restore_prompts(
        &mut self,
        now: Now,
        id: CallId,
        (default, prefetch): (Option<Arc<Prompt>>, Vec<Arc<Prompt>>),
    ) {
        let codecs = self.calls.get(&id).map(|call| call.codecs(&[])).unwrap_or_default();
        let mut acquired = |prompt: Arc<Prompt>, listener| {
            let source = self.reacquire(now.mono, id, &prompt, &codecs);
            self.prompts.listen(source, listener);
            source
        };
        let default_source = default.map(|prompt| acquired(prompt, Listener::Call(id)));
        let prefetched =
            prefetch.into_iter().map(|prompt| acquired(prompt, Listener::Prefetch(id))).collect();
        if let Some(call) = self.calls.get_mut(&id) {
            (call.default_source, call.prefetched) = (default_source, prefetched);
        }
    }

    fn restore_participant(
        &mut self,
        now: Now,
        (call, id): (CallId, ParticipantId),
        mut participant: Participant,
        local: Option<SocketAddr>,
        anchor: &Anchor,
        moments: &Moments,
    ) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        let held = participant.hold.is_some();
        entry.held += usize::from(held);
        let owner = entry.owner;
        self.owners.of_mut(owner).held += u32::from(held);
        self.counts.held += u64::from(held);
        self.counts.participants += 1;
        let leg = participant.leg.take();
        entry.participants.insert(id, Box::new(participant));
        if let (Some(mut leg), Some(local)) = (leg, local) {
            leg.spec.numbering = past_everything(&leg, now, anchor, moments);
            leg.sending = None;
            self.restore_leg((call, id), leg, local);
        }
    }

    /// The leg is sent from where it was, or if we are not there any more, from the like.
    fn restore_leg(&mut self, (call, id): (CallId, ParticipantId), mut leg: Leg, local: SocketAddr) {
        let same = self.settings.media_locals.iter().position(|known| *known == local);
        let sender =
            same.or_else(|| self.choose_sender(leg.spec.destination.ip()).ok().map(|(sender, _)| sender));
        let Some(sender) = sender else { return };
        leg.spec.sender = sender;
        self.last_leg += 1;
        leg.id = LegId(self.last_leg);
        self.admit_leg(call, id, leg);
    }

    fn restore_play(&mut self, now: Now, call: CallId, record: PlayRecord) {
        let listener = Listener::Play(call, record.operation);
        let mut waiting = VecDeque::new();
        let codecs = self.calls.get(&call).map(|call| call.codecs(&record.audience)).unwrap_or_default();
        for prompt in &record.left {
            let source = self.reacquire(now.mono, call, prompt, &codecs);
            self.prompts.listen(source, listener);
            waiting.push_back(source);
        }
        let play = Play::restored(record.operation, record.audience, waiting, record.heard, record.failure);
        if let Ok(call) = self.live_call_mut(call) {
            call.plays.push(play);
        }
    }

    /// Nobody tried while the engine was `away`, so that time does not count.
    fn restore_notifications(
        &mut self,
        away: Duration,
        owed: BTreeMap<(CallId, u64), OwedRecord>,
        undelivered: BTreeMap<u64, Undelivered>,
    ) {
        let mut owners: BTreeSet<Arc<Identity>> = BTreeSet::new();
        for ((call, _), OwedRecord { owner, callback, mut owed }) in owed {
            owed.since = owed.since + away;
            let owner = Arc::new(owner);
            let owner = owners.get(&owner).cloned().unwrap_or(owner);
            owners.insert(Arc::clone(&owner));
            self.notifications.restore(call, owed, &owner, &callback);
        }
        for (number, entry) in undelivered {
            self.notifications.undelivered.restore(number, entry);
        }
    }

    /// Ended operations in the order in which they leave.
    fn count_operations(&mut self) {
        let of_call = |call: &Call| {
            let over = call.operations.iter().filter(|operation| operation.is_over());
            over.map(|operation| (operation.accepted, call.id, operation.number)).collect::<Vec<_>>()
        };
        let mut over: Vec<_> = self.calls.values().flat_map(|call| of_call(call)).collect();
        over.sort_unstable();
        self.over = over.into_iter().map(|(_, call, number)| (call, number)).collect();
        self.counts.operations = self.calls.values().map(|call| call.operations.len() as u64).sum();
        let mut ended: Vec<_> = std::mem::take(&mut self.ended).into();
        ended.sort_unstable();
        self.ended = ended.into();
    }

    /// What is over stays in the store, but for what a hold may repeat.
    fn shelve_restored(&mut self) {
        if !self.settings.durable {
            return;
        }
        for call in self.calls.values_mut() {
            let holds = call.participants.values().filter_map(|participant| participant.hold.as_deref());
            let needed: BTreeSet<_> = holds.flat_map(|hold| hold.operations.iter().copied()).collect();
            let over =
                call.operations.iter().filter(|operation| operation.is_over()).map(|operation| operation.id);
            for id in over.filter(|id| !needed.contains(id)).collect::<Vec<_>>() {
                call.operations.shelve(id);
            }
        }
    }

    /// What played plays on, or ends if that is wanted.
    fn restart_holds(&mut self, now: Now) {
        let everybody = self.calls.values().flat_map(|call| {
            let people = call.participants.values();
            people.map(|one| {
                (call.id, one.id, one.hold.is_some(), one.past.as_ref().is_some_and(|past| past.untold))
            })
        });
        let everybody: Vec<_> = everybody.collect();
        for (call, id, is_held, untold) in everybody {
            if untold {
                // Media cannot tell any more how that hold ended.
                self.told(call, id);
                self.owe_roster(now, call);
            }
            match self.settings.on_restart {
                _ if !is_held => {}
                OnRestart::End => self.end_hold(now, call, id, EndedBy::Restart, None),
                OnRestart::Resume => self.restart_hold(now, call, id),
            }
        }
    }

    fn restart_hold(&mut self, now: Now, call: CallId, id: ParticipantId) {
        let Some(participant) = self.participant_mut(call, id) else { return };
        let has_leg = participant.leg.as_ref().is_some_and(|leg| leg.receives);
        let Some(hold) = participant.hold.as_deref_mut() else { return };
        if !has_leg {
            // There is no sender of its address family any more.
            return self.end_hold(now, call, id, EndedBy::Restart, None);
        }
        let (ends, asked) = (hold.ends, hold.asked.clone());
        // It was waited for what is wanted, while something else played.
        let was_instead = hold.resume.is_some_and(|resume| !resume.is_wanted);
        if let Some(ends) = ends {
            self.timers.set(ends, Timer::Longest(call, id));
        }
        let failed = self.hold_mut(call, id).is_some_and(|hold| hold.failure.is_some());
        let codec = self.codec_of(call, id);
        let source = match asked.filter(|_| !failed) {
            Some(prompt) => Some(self.reacquire(now.mono, call, &prompt, &[codec].into())),
            None if failed => None,
            None => self.default_source(now.mono, call, codec),
        };
        let target = match source {
            Some(source) => source,
            None if failed => self.fallback(call, codec),
            None => DEFAULT_SOURCE,
        };
        let is_ready = self.prompts.is_ready(target, codec);
        let grace = now.mono + self.settings.grace;
        let Some(hold) = self.hold_mut(call, id) else { return };
        let before = hold.sources();
        hold.wants = source;
        if !is_ready && !was_instead {
            hold.grace = Some(grace);
            self.timers.set(grace, Timer::Grace(call, id));
        }
        self.watch(now.mono, call, id, before);
        if is_ready {
            self.play(now.mono, call, id, target);
        } else if was_instead {
            let fallback = self.fallback(call, codec);
            self.play(now.mono, call, id, fallback);
        }
    }

    /// The source of a prompt that is needed again, without regard to limits: whoever has it had it before. It comes from
    /// what is kept of it, without its origin being asked, if there is such. In the codecs of those who hear it; while there
    /// are none, in the one that most have.
    fn reacquire(
        &mut self,
        now: MediaTime,
        call: CallId,
        prompt: &Prompt,
        codecs: &BTreeSet<Codec>,
    ) -> SourceId {
        let owner = self.calls.get(&call).map(|call| call.owner);
        let mut acquired = None;
        let most = [Codec::Opus].into();
        for &codec in if codecs.is_empty() { &most } else { codecs } {
            let known = match self.prompts.find(now, prompt) {
                Some(Found::Fresh(source) | Found::Stale(source) | Found::StaleMeanwhile(source)) => {
                    Some(source)
                }
                None => None,
            };
            let source = acquired.or(known);
            if let Some(source) = source.filter(|source| self.prompts.has(*source, codec)) {
                acquired = Some(source);
                continue;
            }
            let source = match source {
                Some(source) => {
                    self.prompts.add_rendition(source, codec, owner);
                    source
                }
                None => self.prompts.add(prompt.clone(), codec, owner),
            };
            self.count_preparing(owner);
            let (prompt, instead_of) = (prompt.clone(), None);
            self.outputs.push_back(Output::Prepare { source, codec, prompt, instead_of, unasked: true });
            acquired = Some(source);
        }
        acquired.expect("there is one codec at least")
    }
}

/// Numbers that the next packet of a leg can carry: past everything that it can have sent.
fn past_everything(leg: &Leg, now: Now, anchor: &Anchor, moments: &Moments) -> Numbering {
    // On another boot the calendar may have been set back, but the house lived until its last heartbeat at least, and not
    // longer than until the next one.
    let mut away_ns = moments.nanos_since(anchor.now.mono, now.mono).max(0);
    if !moments.is_same_clock() {
        away_ns = away_ns.max((HEARTBEAT + HEARTBEAT / 2).as_nanos().try_into().unwrap_or(i128::MAX));
    }
    let away = Duration::from_nanos(u64::try_from(away_ns).unwrap_or(u64::MAX));
    // So long it may have sent after it wrote last; while it was dead it sent nothing, however long that was.
    // With a key no number may come again, whatever the disk has refused before, so there is no bound.
    let most = if leg.spec.protection == Protection::Plain { UNSTORED } else { u64::MAX };
    // Moments of the leg are those of the clock on which they were written.
    Numbering { at: now.mono, ..leg.past_everything(anchor.now.mono, away, most) }
}

fn read_all<'a>(
    records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    now: Now,
    boot: u128,
) -> Result<Option<(Before, Read)>, RecordError> {
    let mut records: Vec<_> = records.into_iter().collect();
    // The house first, then prompts, then those who name them.
    records.sort_unstable_by_key(|(key, _)| *key);
    let mut records = records.into_iter();
    let Some((key, value)) = records.next() else { return Ok(None) };
    if Key::read(key) != Some(Key::House) {
        return Err(RecordError {
            key: "house".to_owned(),
            expected: "it was expected and is missing".to_owned(),
        });
    }
    let (anchor, _) = entities::read_house(value).map_err(|error| RecordError::new(key, &error))?;
    let mut before =
        Before { moments: Moments::new(&anchor, now, boot), anchor, kept: KeptPrompts::default() };
    let mut read = Read::default();
    for (key, value) in records {
        let name = Key::read(key).ok_or_else(|| RecordError::unknown_key(key))?;
        read.one(name, value, &mut before).map_err(|error| RecordError::new(key, &error))?;
    }
    for operations in read.operations.values_mut() {
        operations.sort_by_key(|operation| operation.number);
    }
    Ok(Some((before, read)))
}

impl Read {
    fn one(&mut self, key: Key, value: &[u8], before: &mut Before) -> Result<(), Unreadable> {
        let (moments, kept) = (before.moments, &mut before.kept);
        let has_call = |call: CallId| match self.calls.contains_key(&call) {
            true => Ok(call),
            false => Err(Unreadable("a call that is known")),
        };
        match key {
            Key::House => return Err(Unreadable("one house")),
            Key::Prompt(number) => kept.keep(number, Arc::new(entities::read_prompt(value)?)),
            Key::Call(id) => drop(self.calls.insert(id, entities::read_call(value, &moments, kept)?)),
            Key::Participant(call, id) => {
                let participant = entities::read_participant(id, value, &moments, kept)?;
                self.participants.insert((has_call(call)?, id), participant);
            }
            Key::Operation(call, id) => {
                let call = has_call(call)?;
                let operation = entities::read_operation(id, value, &moments)?;
                self.operations.entry(call).or_default().push(operation);
            }
            Key::Owed(call, number) => {
                let record = entities::read_owed(number, value, &moments)?;
                if matches!(record.owed.says, Says::Roster(_)) {
                    has_call(call)?;
                }
                self.owed.insert((call, number), record);
            }
            Key::Undelivered(id) => {
                let (number, entry) = entities::read_undelivered(id, value)?;
                self.undelivered.insert(number, entry);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use holdmusic_media::{
        Cname, Keying, LegSpec, MasterKey, Suite, WallTime,
        rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
    };

    use super::*;
    use crate::participant::Sending;

    fn at(millis: u64) -> Now {
        Now {
            mono: MediaTime::from_millis(millis),
            wall: WallTime(1_700_000_000_000_000 + i64::try_from(millis).unwrap() * 1000),
        }
    }

    fn leg(sending: Option<Sending>) -> Leg {
        let numbering = Numbering {
            ssrc: Ssrc(7),
            sequence: SeqNo(65_530),
            timestamp: Timestamp(1_000),
            at: MediaTime::from_millis(1_000),
            rollover_counter: 3,
            srtcp_index: 5,
        };
        let spec = LegSpec {
            sender: 0,
            destination: "127.0.0.1:4000".parse().unwrap(),
            rtcp: None,
            codec: Codec::Opus,
            payload_type: PayloadType::new(111).unwrap(),
            numbering,
            cname: Cname::new(1),
            protection: Protection::Plain,
            peer: None,
        };
        Leg {
            id: LegId(1),
            spec,
            transport: None,
            receives: true,
            added: false,
            answer: None,
            sending,
            on_air: false,
            used: true,
        }
    }

    fn sending(millis: u64, times: u32) -> Option<Sending> {
        Some(Sending { since: MediaTime::from_millis(millis), times })
    }

    /// From 5 s on a packet every 20 ms; the last change was written at 6 s, and at 9 s we are back: 4 s are 200 packets
    /// and the one at their beginning, and one more since neither part of the time need be whole ticks.
    #[test]
    fn on_the_same_boot_numbers_go_on_behind_one_packet_a_tick() {
        let (anchor, now) = (Anchor { boot: 1, now: at(6_000) }, at(9_000));
        let moments = Moments::new(&anchor, now, 1);
        let next = past_everything(&leg(sending(5_000, 1)), now, &anchor, &moments);
        assert_eq!(next.sequence, SeqNo(65_530).after(200 + 2));
        assert_eq!(next.timestamp, Timestamp(1_000 + 8 * 48_000), "8 s since its moment");
        assert_eq!((next.ssrc, next.at), (Ssrc(7), now.mono));
        let quiet = past_everything(&leg(None), now, &anchor, &moments);
        assert_eq!(quiet.sequence, SeqNo(65_530).after(3_000 / 20 + 1), "a hold that the store never had");
    }

    /// As above, but with the counters; and a disk that refused for an hour makes no number come again.
    #[test]
    fn with_a_key_numbers_go_on_behind_all_that_can_have_been_sent() {
        let protected = |sending| {
            let mut leg = leg(sending);
            let send = MasterKey::new(Suite::AeadAes128Gcm, &[1; 28]).unwrap();
            let keying = Keying { send, receive: None, mki: None, rollover_counter: 0, srtcp_index: 0 };
            leg.spec.protection = Protection::Srtp(Box::new(keying));
            leg
        };
        let (anchor, now) = (Anchor { boot: 1, now: at(6_000) }, at(9_000));
        let moments = Moments::new(&anchor, now, 1);
        let next = past_everything(&protected(sending(5_000, 1)), now, &anchor, &moments);
        assert_eq!((next.sequence, next.rollover_counter), (SeqNo(196), 4), "65 530 + 202 comes round");
        assert_eq!(next.srtcp_index, 5 + 202 / 50 + 2);
        let quiet = past_everything(&protected(None), now, &anchor, &moments);
        assert_eq!((quiet.sequence, quiet.rollover_counter), (SeqNo(65_530), 3), "it waits for the store");
        assert_eq!(quiet.srtcp_index, 6, "a goodbye");
        let now = at(6_000 + 3_600_000);
        let next =
            past_everything(&protected(sending(5_000, 1)), now, &anchor, &Moments::new(&anchor, now, 1));
        let index = |numbering: Numbering| {
            u64::from(numbering.rollover_counter) << 16 | u64::from(numbering.sequence.0)
        };
        assert_eq!(index(next), (3 << 16 | 65_530) + 50 + 3_600 * 50 + 2);
    }

    /// What was sent without a key is counted too, since one may come; and what is counted by short packets is counted on by
    /// long ones.
    #[test]
    fn before_another_codec_everything_is_counted_by_the_one_before() {
        let mut leg = leg(sending(5_000, 1));
        leg.spec.codec = Codec::PcmuShort;
        let index = |numbering: Numbering| {
            u64::from(numbering.rollover_counter) << 16 | u64::from(numbering.sequence.0)
        };
        leg.count_up(at(6_000).mono, Codec::Pcmu);
        // A second of short packets, two that one more may be, and two seconds until media obeys at the latest.
        assert_eq!(index(leg.spec.numbering), (3 << 16 | 65_530) + 100 + 2 + 200);
        assert_eq!(leg.spec.numbering.timestamp, Timestamp(1_000 + 5 * 8_000));
        leg.spec.codec = Codec::Pcmu;
        leg.count_up(at(7_000).mono, Codec::Opus);
        assert_eq!(index(leg.spec.numbering), (3 << 16 | 65_530) + 302 + 50 + 2);
        leg.spec.codec = Codec::Opus;
        assert_eq!(leg.spec.numbering.timestamp, Timestamp(1_000 + 6 * 8_000));
        // New keys begin to count.
        let send = MasterKey::new(Suite::AeadAes128Gcm, &[1; 28]).unwrap();
        let keying = Keying { send, receive: None, mki: None, rollover_counter: 0, srtcp_index: 0 };
        leg.begin_counters(at(20_000).mono, &keying);
        let sequence = SeqNo(65_530).after(302 + 52 + 651);
        assert_eq!((leg.spec.numbering.rollover_counter, leg.spec.numbering.sequence), (0, sequence));
        // It may have sent a little less, and come round only now.
        leg.spec.numbering.sequence = SeqNo(65_500);
        leg.begin_counters(at(21_000).mono, &keying);
        assert_eq!((leg.spec.numbering.rollover_counter, leg.spec.numbering.sequence), (1, SeqNo(15)));
    }

    /// After a reboot whose calendar was set back nothing is known but that the last heartbeat was the last one.
    #[test]
    fn on_another_boot_numbers_go_on_behind_the_next_heartbeat() {
        let anchor = Anchor { boot: 1, now: at(6_000) };
        let now = Now { mono: MediaTime::from_millis(30_000), wall: WallTime(0) };
        let moments = Moments::new(&anchor, now, 2);
        let leg = leg(sending(5_000, 1));
        let next = past_everything(&leg, now, &anchor, &moments);
        assert_eq!(next.sequence, SeqNo(65_530).after((1_000 + 15_000) / 20 + 2));
    }
}
