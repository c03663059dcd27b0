//! The life of a hold: begun by a start operation, fed by sources, ended by a stop or by itself.
//!
//! A hold is never silent for longer than the grace time: what was asked for plays if it can, and default music
//! plays otherwise. Promises are settled in one place, [`Control::settle`], whatever happened before.

use std::sync::Arc;

use crate::{
    Control, Output,
    ask::StartHoldMusic,
    call::{Call, CompletesWhen, OnPromptFailure},
    cause::{PromptCause, PromptFailure},
    graph::{Answer, Refusal, Writer, results},
    id::{CallId, OperationId, ParticipantId},
    negotiation::StateOffer,
    operation::{Operation, OperationKind, ResultInfo},
    participant::{EndedBy, Heard, Hold, Participant, PastHold, Resume},
    prompt::{DEFAULT_SOURCE, Found, Freshness, Listener, Prompt, SourceFacts},
    record::{Key, Made},
    stop::StopRequest,
    timer::Timer,
    transport::Transport,
};
use holdmusic_codecs::Codec;
use holdmusic_media::{HoldReport, LegId, MediaTime, Now, SourceId, Tick};

/// Operations that may wait for, and be repeated on, the same music of one hold. Clients repeat a request three
/// times; the oldest beyond this many is superseded.
const MAX_SHARED: usize = 16;

impl Control {
    pub(crate) fn participant_mut(
        &mut self,
        call: CallId,
        participant: ParticipantId,
    ) -> Option<&mut Participant> {
        let found = self.calls.get_mut(&call)?.participants.get_mut(&participant)?;
        self.durability.mark(&self.settings, Key::Participant(call, participant));
        Some(found)
    }

    /// To change what is in no record.
    fn unmarked_hold_mut(&mut self, call: CallId, participant: ParticipantId) -> Option<&mut Hold> {
        self.calls.get_mut(&call)?.participants.get_mut(&participant)?.hold.as_deref_mut()
    }

    pub(crate) fn hold_mut(&mut self, call: CallId, participant: ParticipantId) -> Option<&mut Hold> {
        self.participant_mut(call, participant)?.hold.as_deref_mut()
    }

    /// `startHoldMusic`.
    pub(crate) fn start_hold(
        &mut self,
        now: Now,
        accepted: MediaTime,
        base: &str,
        (call_id, id): (CallId, ParticipantId),
        start: StartHoldMusic,
    ) -> Result<Answer, Refusal> {
        let call = self.live_call(call_id)?;
        let participant = call.participant(id)?;
        self.settings.check_origin(start.prompt.as_ref())?;
        match &participant.leg {
            None => {
                return Err(Refusal::cannot_receive(format!(
                    "Participant '{id}' has no media leg; register one with PUT mediaLeg."
                )));
            }
            Some(leg) if !leg.receives => {
                return Err(Refusal::cannot_receive(format!(
                    "The media leg of participant '{id}' cannot receive (sendonly, inactive or zero address)."
                )));
            }
            Some(_) => {}
        }
        let owner = Some(call.owner);
        let again =
            participant.hold.as_ref().is_some_and(|hold| hold.asked.as_deref() == start.prompt.as_ref());
        if again && let Some(operation) = repeated(call, participant, start.client_context.as_deref()) {
            return Ok(Writer { base }.accepted(call_id, operation, call.rules.status_case));
        }
        self.admit_hold(call, participant)?;
        // The same music goes on, unless it is a prompt that failed: then it is tried again.
        let goes_on = again
            && participant.hold.as_ref().is_some_and(|hold| hold.wants.is_some() || hold.asked.is_none());
        // What can be heard all the same is heard.
        let codec = self.codec_of(call_id, id);
        let failed = start.prompt.as_ref().and_then(|prompt| match self.prompts.find(now.mono, prompt) {
            Some(Found::Fresh(source) | Found::StaleMeanwhile(source)) if self.prompts.has(source, codec) => {
                None
            }
            _ => self.prompts.failed(now.mono, prompt),
        });
        // Before a source is made, which nobody would listen to.
        if let Some(state) = &start.rtp_state
            && let Some(leg) = &self.live_call(call_id)?.participant(id)?.leg
        {
            Self::check_state(leg, state)?;
        }
        let source = match &start.prompt {
            _ if goes_on => None,
            Some(_) if failed.is_some() => None,
            Some(prompt) => Some(self.acquire(now.mono, prompt, codec, owner)?),
            None => self.default_source(now.mono, call_id, codec),
        };
        // From here on nothing is refused.
        if start.rtp_state.is_some() {
            // Another numbering begins with a first packet.
            self.stop_announcing(now, call_id, id);
        }
        let operation = OperationId::random(&mut self.rng);
        let bound = accepted + self.settings.start_bound;
        let mut entry =
            Operation::new(OperationKind::StartHoldMusic, operation, id, start.client_context, accepted);
        entry.run();
        entry.bound = Some(bound);
        self.timers.set(bound, Timer::Bound(call_id, operation));
        self.add_operation(call_id, entry);
        self.counts.starts += 1;
        if self.hold_mut(call_id, id).is_none() {
            self.begin_hold(now, accepted, call_id, id, start.rtp_state.as_ref());
            self.made = Some(Made::Hold(call_id, id, operation));
        } else if !again {
            self.supersede(now, call_id, id, 0);
        }
        let hold = self.hold_mut(call_id, id).expect("it was begun or was there");
        hold.operations.push(operation);
        let surplus = hold.operations.len().saturating_sub(MAX_SHARED);
        if surplus > 0 {
            self.supersede(now, call_id, id, MAX_SHARED);
        }
        match failed {
            _ if goes_on => {}
            Some(failure) => self.want_failed(now, call_id, id, start.prompt, failure),
            None => self.want(now, accepted, call_id, id, start.prompt, source),
        }
        // The answer says running; what has been heard already is settled after it.
        let call = &self.calls[&call_id];
        let answer = Writer { base }.accepted(
            call_id,
            call.operation(operation).expect("it was added"),
            call.rules.status_case,
        );
        self.settle(now, call_id, id);
        if self.is_peer_gone(call_id, id) {
            self.end_hold(now, call_id, id, EndedBy::Unreachable, None);
        }
        Ok(answer)
    }

    /// The limits of new work.
    fn admit_hold(&self, call: &Call, participant: &Participant) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::unavailable("The server is shutting down and takes no new holds.", 5));
        }
        if self.is_owed_much(call.id) {
            return Err(Refusal::unavailable("Too many notifications wait to be delivered.", 5));
        }
        if participant.hold.is_some() {
            return Ok(());
        }
        if call.held >= call.rules.max_held {
            let held: Vec<_> =
                call.roster().iter().filter(|p| p.hold.is_some()).map(|p| p.id.to_string()).collect();
            let shown = held.iter().take(3).map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
            let more = if held.len() > 3 { format!(" and {} more", held.len() - 3) } else { String::new() };
            return Err(Refusal::conflict(format!(
                "Participant {shown}{more} is on hold; at most {} of this call can be on hold at a time \
                 (maxHeldParticipants).",
                call.rules.max_held
            )));
        }
        self.owners.of(call.owner).may_hold()?;
        if self.counts.held >= self.settings.max_held as u64 {
            let most = self.settings.max_held;
            return Err(Refusal::unavailable(
                format!("{most} participants are on hold, the limit of this server."),
                5,
            ));
        }
        Ok(())
    }

    fn begin_hold(
        &mut self,
        now: Now,
        accepted: MediaTime,
        call_id: CallId,
        id: ParticipantId,
        state: Option<&StateOffer>,
    ) {
        let numbering = state.map(|state| {
            let leg = self.participant_mut(call_id, id).and_then(|participant| participant.leg.clone());
            let leg = leg.expect("who is held has a leg");
            self.handed_over(now, &leg, state)
        });
        let call = self.calls.get_mut(&call_id).expect("the call is live");
        let ends = call.rules.max_duration.map(|longest| accepted + longest);
        if let Some(ends) = ends {
            self.timers.set(ends, Timer::Longest(call_id, id));
        }
        let participant = call.participants.get_mut(&id).expect("the participant is there");
        participant.past = None;
        // What is announced is heard to its end; the music goes on from there.
        participant.announcing = false;
        participant.hold = Some(Box::new(Hold::new(now.wall_at(accepted), ends, numbering.map(Box::new))));
        self.mark(Key::Participant(call_id, id));
        let call = self.calls.get_mut(&call_id).expect("the call is live");
        call.held += 1;
        self.owners.of_mut(call.owner).held += 1;
        self.counts.held += 1;
        self.owe_roster(now, call_id);
    }

    /// A hold is to play `source` from now on, or the built-in music if there is none.
    fn want(
        &mut self,
        now: Now,
        accepted: MediaTime,
        call: CallId,
        id: ParticipantId,
        asked: Option<Prompt>,
        source: Option<SourceId>,
    ) {
        let grace = accepted + self.settings.grace;
        let target = source.unwrap_or(DEFAULT_SOURCE);
        let ready = self.prompts.is_ready(target, self.codec_of(call, id));
        let asked = asked.map(|asked| self.prompts.shared(source, asked));
        let Some(hold) = self.hold_mut(call, id) else { return };
        let before = hold.sources();
        hold.asked = asked;
        hold.wants = source;
        hold.resume = None;
        hold.failure = None;
        hold.reason = None;
        let waits = !ready && hold.playing.is_none() && hold.grace.is_none();
        if waits {
            hold.grace = Some(grace);
            self.timers.set(grace, Timer::Grace(call, id));
        }
        self.watch(now.mono, call, id, before);
        if ready {
            self.play(now.mono, call, id, target);
        }
    }

    /// A hold is to play what failed a moment ago; nobody is asked again.
    fn want_failed(
        &mut self,
        now: Now,
        call: CallId,
        id: ParticipantId,
        asked: Option<Prompt>,
        failure: PromptFailure,
    ) {
        let Some(hold) = self.hold_mut(call, id) else { return };
        let before = hold.sources();
        hold.asked = asked.map(Arc::new);
        hold.wants = None;
        hold.resume = None;
        self.counts.prompt_failures.add(failure.cause);
        self.watch(now.mono, call, id, before);
        self.fail_prompt(now, call, id, failure);
    }

    /// Plays `source` on the leg of a hold, unless it does already.
    pub(crate) fn play(&mut self, now: MediaTime, call: CallId, id: ParticipantId, source: SourceId) {
        let Some(participant) = self.participant_mut(call, id) else { return };
        let (Some(hold), Some(leg)) = (&mut participant.hold, &participant.leg) else { return };
        if hold.playing == Some(source) {
            return;
        }
        let (before, leg) = (hold.sources(), leg.id);
        // What played before a restart goes on from where it would be; a change begins anew.
        let is_wanted = hold.wants_to_hear(source);
        let resume = hold.resume.take().filter(|resume| resume.is_wanted == is_wanted);
        let since = resume.and_then(|resume| resume.since);
        hold.playing = Some(source);
        hold.playing_since = since;
        let (grace, numbering) = (hold.grace.take(), hold.numbering.take().map(|numbering| *numbering));
        hold.renumbered |= numbering.is_some();
        self.timers.cancel(grace, Timer::Grace(call, id));
        if let Some(numbering) = numbering {
            self.renumber_leg(call, id, numbering);
        }
        self.begin_sending(now, call, id);
        let is_default = self.kind(call, id, source) == Heard::DefaultMusic;
        self.outputs.push_back(Output::Play { leg, source, is_default, numbering, since });
        self.watch(now, call, id, before);
    }

    /// What a hold plays goes on in the codec that its leg has now. What is not there in that codec yet begins anew when it is,
    /// and default music plays meanwhile.
    pub(crate) fn play_recoded(&mut self, now: MediaTime, call: CallId, id: ParticipantId) {
        let codec = self.codec_of(call, id);
        let owner = self.calls.get(&call).map(|call| call.owner);
        let fallback = self.fallback(call, codec);
        let Some(hold) = self.hold_mut(call, id) else { return };
        let before = hold.sources();
        let (wants, since) = (hold.wants, hold.playing_since);
        let playing = hold.playing.take();
        if let Some(wants) = wants {
            self.render(wants, codec, owner);
        }
        // Who waits in silence goes on waiting.
        let ready = |source: &SourceId| self.prompts.is_ready(*source, codec);
        let target = playing.filter(ready).or(wants.filter(ready)).or(playing.map(|_| fallback));
        if let Some(target) = target {
            if let Some(hold) = self.hold_mut(call, id) {
                let resume = Resume { is_wanted: hold.wants_to_hear(target), since };
                hold.resume = (Some(target) == playing).then_some(resume);
            }
            self.play(now, call, id, target);
        }
        self.watch(now, call, id, before);
    }

    /// What a hold plays goes on, on the new leg that its participant has.
    pub(crate) fn play_on(&mut self, now: MediaTime, call: CallId, id: ParticipantId) {
        let Some(participant) = self.participant_mut(call, id) else { return };
        let (Some(hold), Some(leg)) = (&mut participant.hold, &participant.leg) else { return };
        hold.renumbered = false;
        let (Some(source), since, leg) = (hold.playing, hold.playing_since, leg.id) else { return };
        self.begin_sending(now, call, id);
        let is_default = self.kind(call, id, source) == Heard::DefaultMusic;
        self.outputs.push_back(Output::Play { leg, source, is_default, numbering: None, since });
    }

    /// Whose music `source` is to the listener of a hold.
    fn kind(&self, call: CallId, id: ParticipantId, source: SourceId) -> Heard {
        let participant = self.calls.get(&call).and_then(|call| call.participants.get(&id));
        let hold = participant.and_then(|participant| participant.hold.as_deref());
        let default = match hold.filter(|hold| hold.wants == Some(source)) {
            Some(hold) => hold.asked.is_none(),
            None => self.is_default(call, source),
        };
        if default { Heard::DefaultMusic } else { Heard::CustomPrompt }
    }

    /// Brings the listeners of sources up to date with a hold that had `before`.
    pub(crate) fn watch(
        &mut self,
        now: MediaTime,
        call: CallId,
        id: ParticipantId,
        before: [Option<SourceId>; 2],
    ) {
        let after = self.hold_mut(call, id).map_or([None; 2], |hold| hold.sources());
        let listener = Listener::Hold(call, id);
        for source in after.into_iter().flatten().filter(|source| !before.contains(&Some(*source))) {
            self.prompts.listen(source, listener);
        }
        for source in before.into_iter().flatten().filter(|source| !after.contains(&Some(*source))) {
            self.leave(now, source, listener);
        }
    }

    /// Whether `source` is default music of `call`.
    fn is_default(&self, call: CallId, source: SourceId) -> bool {
        source == DEFAULT_SOURCE
            || self.server_default == Some(source)
            || self.calls.get(&call).is_some_and(|call| call.default_source == Some(source))
    }

    /// Default music that can be played now.
    pub(crate) fn fallback(&self, call: CallId, codec: Codec) -> SourceId {
        let of_call = self.calls.get(&call).and_then(|call| call.default_source);
        of_call
            .into_iter()
            .chain(self.server_default)
            .find(|source| self.prompts.is_ready(*source, codec))
            .unwrap_or(DEFAULT_SOURCE)
    }

    /// Ends the operations that asked for the music of a hold before it was changed, all but the last `keep`.
    fn supersede(&mut self, now: Now, call: CallId, id: ParticipantId, keep: usize) {
        let Some(hold) = self.hold_mut(call, id) else { return };
        let surplus = hold.operations.len().saturating_sub(keep);
        let old: Vec<_> = hold.operations.drain(..surplus).collect();
        for operation in old {
            self.close(now, call, operation, || results::cancelled("another startHoldMusic took its place"));
            self.let_go(call, operation);
        }
    }

    /// Ends an operation whose hold or music is over: completed if its promise was kept, else failed.
    fn close(&mut self, now: Now, call: CallId, operation: OperationId, failed: impl FnOnce() -> ResultInfo) {
        let Some(entry) = self.operation_mut(call, operation).filter(|entry| !entry.is_over()) else {
            return;
        };
        let result = entry.promised.take().map(|result| *result).ok_or_else(failed);
        self.finish(now, call, operation, result);
    }

    /// Completes every operation of a hold whose promise is kept by what is heard.
    pub(crate) fn settle(&mut self, now: Now, call_id: CallId, id: ParticipantId) {
        let Some(call) = self.calls.get(&call_id) else { return };
        let Some(hold) = call.participants.get(&id).and_then(|participant| participant.hold.as_deref())
        else {
            return;
        };
        let Some(heard) = hold.heard else { return };
        let result = match (&hold.failure, &hold.asked) {
            (Some(failure), _) => results::prompt(200, failure),
            (None, Some(_)) if hold.wants == Some(heard) => results::success(),
            // It may have been renewed since.
            (None, None) if hold.wants == Some(heard) || self.is_default(call_id, heard) => {
                results::success()
            }
            (None, _) => return,
        };
        let facts = self.prompts.facts(heard, self.codec_of(call_id, id));
        let (gain, ready) = (facts.map(|facts| facts.gain_db), facts.map(|facts| facts.ready_at));
        let failure = hold.failure.clone();
        let (heard_at, kind, when) = (hold.heard_at, hold.kind, call.rules.completes_when);
        for operation in hold.operations.clone() {
            let Some(entry) = self.operation_mut(call_id, operation) else { continue };
            if entry.is_over() || entry.promised.is_some() {
                continue;
            }
            let nanos = |later: MediaTime| later.as_nanos().saturating_sub(entry.accepted.as_nanos());
            entry.facts.first_packet_latency_ns.get_or_insert(nanos(heard_at));
            entry.facts.prompt_ready_ns = ready.map(nanos);
            entry.facts.heard = kind;
            entry.facts.gain_db = gain;
            entry.facts.reason = failure.clone();
            let bound = entry.bound.take();
            self.timers.cancel(bound, Timer::Bound(call_id, operation));
            match when {
                CompletesWhen::MusicStarts => self.finish(now, call_id, operation, Ok(result.clone())),
                CompletesWhen::MusicEnds => {
                    if let Some(entry) = self.operation_mut(call_id, operation) {
                        entry.promised = Some(Box::new(result.clone()));
                    }
                }
            }
            if let Some(hold) = self.hold_mut(call_id, id) {
                hold.kept = true;
            }
        }
    }

    /// What a hold was asked for will not be heard.
    fn fail_prompt(&mut self, now: Now, call_id: CallId, id: ParticipantId, failure: PromptFailure) {
        let fails =
            self.calls.get(&call_id).map(|call| call.rules.on_prompt_failure) == Some(OnPromptFailure::Fail);
        let fallback = self.fallback(call_id, self.codec_of(call_id, id));
        let Some(hold) = self.hold_mut(call_id, id) else { return };
        let before = hold.sources();
        let lost = hold.wants.take();
        let silent = hold.playing.is_none() || hold.playing == lost;
        hold.reason = Some(Box::new(failure.clone()));
        // Nobody asked for a default prompt that fails: the built-in music is as good.
        if hold.asked.is_some() {
            hold.failure = Some(Box::new(failure.clone()));
            if fails {
                for operation in hold.operations.clone() {
                    let waits = |entry: &&mut Operation| !entry.is_over() && entry.promised.is_none();
                    if let Some(entry) = self.operation_mut(call_id, operation).filter(waits) {
                        entry.facts.reason = Some(Box::new(failure.clone()));
                        self.finish(now, call_id, operation, Err(results::prompt(400, &failure)));
                    }
                }
            }
        }
        self.watch(now.mono, call_id, id, before);
        let Some(hold) = self.hold_mut(call_id, id) else { return };
        if fails && hold.asked.is_some() && !hold.kept {
            return self.end_hold(now, call_id, id, EndedBy::PromptFailed, None);
        }
        if silent {
            self.play(now.mono, call_id, id, fallback);
        }
        self.settle(now, call_id, id);
    }

    /// A source can be played: whoever waits for it hears it. Told again, more is known about it.
    pub(crate) fn source_ready(&mut self, now: Now, source: SourceId, codec: Codec, facts: SourceFacts) {
        if self.prompts.is_ready(source, codec) {
            self.prompts.update(source, codec, facts);
            self.recite_all(now, source);
            return self.drop_unused(now.mono);
        }
        let Some(listeners) = self.prompts.ready(source, codec, facts) else { return };
        self.count_prepared();
        if let Some(older) = self.prompts.older(source) {
            self.prompts.replace(older, source);
            for listener in self.prompts.listeners(older) {
                // Who hears what it was before goes on hearing it.
                if !matches!(listener, Listener::Hold(..)) {
                    self.move_listener(now, listener, older, source);
                }
            }
        }
        self.origin_answered(now.mono, source);
        for listener in listeners {
            if let Listener::Hold(call, id) = listener
                && self.codec_of(call, id) == codec
                && self.hold_mut(call, id).is_some_and(|hold| hold.wants == Some(source))
            {
                self.play(now.mono, call, id, source);
            }
        }
        self.recite_all(now, source);
        self.drop_unused(now.mono);
    }

    /// More is known of a source: what waits to be announced may have waited for that.
    fn recite_all(&mut self, now: Now, source: SourceId) {
        for listener in self.prompts.listeners(source) {
            if let Listener::Play(call, _) = listener {
                self.recite(now, call);
            }
        }
    }

    /// A source is what it was to take the place of: whoever waits for it hears that.
    pub(crate) fn source_unchanged(
        &mut self,
        now: Now,
        source: SourceId,
        codec: Codec,
        freshness: Freshness,
    ) {
        if self.prompts.is_ready(source, codec) {
            return;
        }
        let Some(older) = self.prompts.older(source) else {
            if let Some(prompt) = self.prompts.prompt(source).filter(|_| self.prompts.is_ready_at_all(source))
            {
                // In another codec it has taken the place of what it was before.
                let (prompt, instead_of) = (Prompt::clone(prompt), None);
                let output = Output::Prepare { source, codec, prompt, instead_of, unasked: false };
                return self.outputs.push_back(output);
            }
            // It has failed meanwhile, so there is nothing to be heard instead.
            let words = "what it was before can no longer be played";
            let failure = PromptFailure::new(PromptCause::NotReadyInTime, words);
            return self.source_failed(now, source, codec, &failure);
        };
        self.prompts.freshen(older, freshness);
        for listener in self.prompts.listeners(source) {
            self.move_listener(now, listener, source, older);
        }
        self.origin_answered(now.mono, source);
    }

    /// `listener` listens to another source from now on, which is ready (but perhaps not in every codec).
    fn move_listener(&mut self, now: Now, listener: Listener, from: SourceId, to: SourceId) {
        match listener {
            Listener::Refresh => return,
            Listener::Hold(call, id) => {
                let Some(hold) = self.hold_mut(call, id) else { return };
                let before = hold.sources();
                if hold.wants == Some(from) {
                    hold.wants = Some(to);
                }
                self.watch(now.mono, call, id, before);
                let codec = self.codec_of(call, id);
                if self.prompts.is_ready(to, codec) {
                    self.play(now.mono, call, id, to);
                    self.settle(now, call, id);
                } else {
                    let owner = self.calls.get(&call).map(|call| call.owner);
                    self.render(to, codec, owner);
                }
                return;
            }
            Listener::Call(call) => {
                let Some(call) = self.call_mut(call) else { return };
                call.default_source = Some(to);
            }
            Listener::Prefetch(call) => {
                let Some(call) = self.call_mut(call) else { return };
                call.prefetched.iter_mut().filter(|source| **source == from).for_each(|source| *source = to);
            }
            Listener::Play(call, operation) => return self.move_play(now, (call, operation), from, to),
            Listener::Server => self.server_default = Some(to),
        }
        self.prompts.listen(to, listener);
        self.leave(now.mono, from, listener);
    }

    /// A source cannot be played, or no longer.
    pub(crate) fn source_failed(
        &mut self,
        now: Now,
        source: SourceId,
        codec: Codec,
        failure: &PromptFailure,
    ) {
        self.prompts.remember_failure(source, now.mono + self.settings.failure_remembered, failure);
        if self.prompts.remove_rendition(source, codec) {
            return self.rendition_failed(now, source, codec, failure);
        }
        if let Some(older) = self.prompts.answered(source) {
            self.leave(now.mono, older, Listener::Refresh);
        }
        let Some(listeners) = self.prompts.remove(source) else { return };
        self.count_prepared();
        // Once for each hold that misses it, however many share it.
        let holds = listeners.iter().filter(|listener| matches!(listener, Listener::Hold(..))).count();
        (0..holds.max(1)).for_each(|_| self.counts.prompt_failures.add(failure.cause));
        // First the defaults, so that no hold falls back to what has just failed.
        for listener in &listeners {
            match listener {
                Listener::Hold(..) | Listener::Play(..) | Listener::Refresh => {}
                Listener::Prefetch(call) => {
                    if let Some(call) = self.call_mut(*call) {
                        let left = call.prefetched.iter().copied().filter(|prefetched| *prefetched != source);
                        call.prefetched = left.collect();
                    }
                }
                Listener::Call(call) => {
                    if let Some(call) = self.calls.get_mut(call) {
                        call.default_source = None;
                    }
                }
                Listener::Server => self.server_default = None,
            }
        }
        for listener in listeners {
            if let Listener::Play(call, operation) = listener {
                self.play_failed(now, call, operation, source, failure);
            }
            if let Listener::Hold(call, id) = listener {
                self.lose_source(now, call, id, source, failure);
            }
        }
        self.outputs.push_back(Output::Release { source, codec: None });
    }

    /// A source cannot be played in `codec`, or no longer; who hears it in another one goes on.
    fn rendition_failed(&mut self, now: Now, source: SourceId, codec: Codec, failure: &PromptFailure) {
        self.count_prepared();
        for listener in self.prompts.listeners(source) {
            match listener {
                Listener::Hold(call, id) if self.codec_of(call, id) == codec => {
                    self.counts.prompt_failures.add(failure.cause);
                    self.lose_source(now, call, id, source, failure);
                }
                Listener::Play(call, operation) if self.is_heard_in(call, operation, codec) => {
                    self.play_failed(now, call, operation, source, failure);
                }
                // It may have waited for those alone who hear it in another codec by now.
                Listener::Play(call, _) => self.recite(now, call),
                _ => {}
            }
        }
        self.outputs.push_back(Output::Release { source, codec: Some(codec) });
    }

    /// What a hold plays, or is to play, has failed.
    fn lose_source(
        &mut self,
        now: Now,
        call: CallId,
        id: ParticipantId,
        source: SourceId,
        failure: &PromptFailure,
    ) {
        let fallback = self.fallback(call, self.codec_of(call, id));
        let Some(hold) = self.hold_mut(call, id) else { return };
        if hold.wants == Some(source) {
            self.fail_prompt(now, call, id, failure.clone());
        } else if hold.playing == Some(source) {
            hold.reason = Some(Box::new(failure.clone()));
            self.play(now.mono, call, id, fallback);
        }
    }

    /// The first packet of a source left.
    pub(crate) fn started(&mut self, now: Now, leg: LegId, source: SourceId, sent_at: MediaTime) {
        // While a report is owed, this is about the hold before it.
        if self.reports.contains_key(&leg) {
            return;
        }
        let Some(&(call, id)) = self.legs.get(&leg) else { return };
        let kind = self.kind(call, id, source);
        let Some(hold) = self.hold_mut(call, id).filter(|hold| hold.playing.is_some()) else { return };
        let first = hold.heard.is_none() && !hold.was_heard;
        hold.heard = Some(source);
        hold.heard_at = sent_at;
        if hold.playing == Some(source) {
            hold.playing_since.get_or_insert(Tick::at(sent_at));
        }
        hold.kind = Some(kind);
        if first {
            hold.since = now.wall_at(sent_at);
            let operations = hold.operations.clone();
            // One figure for each hold, of the request that began it.
            if let Some(began) = operations.first().and_then(|first| self.operation_mut(call, *first)) {
                let latency = sent_at.since(began.accepted);
                self.outputs.push_back(Output::FirstPacket { leg, latency });
            }
            let Some(hold) = self.hold_mut(call, id) else { return };
            for operation in hold.operations.clone() {
                if let Some(entry) = self.operation_mut(call, operation).filter(|entry| !entry.is_over()) {
                    let latency = sent_at.as_nanos().saturating_sub(entry.accepted.as_nanos());
                    entry.facts.first_packet_latency_ns = Some(latency);
                }
            }
        }
        self.settle(now, call, id);
    }

    /// How a hold goes.
    pub(crate) fn progress(&mut self, leg: LegId, report: HoldReport) {
        if !self.reports.contains_key(&leg)
            && let Some(&(call, id)) = self.legs.get(&leg)
            && let Some(hold) = self.unmarked_hold_mut(call, id)
        {
            hold.report = Some(report);
        }
    }

    /// The grace time is over: default music until the prompt is ready, or what the prompt was when it was last fetched.
    pub(crate) fn grace_over(&mut self, now: Now, call: CallId, id: ParticipantId) {
        let wants = self.hold_mut(call, id).and_then(|hold| hold.wants);
        let codec = self.codec_of(call, id);
        let before = wants.and_then(|source| self.prompts.meanwhile(source, codec));
        let source = before.unwrap_or_else(|| self.fallback(call, codec));
        if let Some(hold) = self.hold_mut(call, id).filter(|hold| hold.grace.is_some()) {
            hold.grace = None;
            self.play(now.mono, call, id, source);
        }
    }

    /// An operation must end, whatever it waits for.
    pub(crate) fn bound_over(&mut self, now: Now, call: CallId, operation: OperationId) {
        let Some(entry) = self.operation_mut(call, operation).filter(|entry| !entry.is_over()) else {
            return;
        };
        entry.bound = None;
        let id = entry.participant;
        if let Some(hold) = self.hold_mut(call, id).filter(|hold| hold.operations.contains(&operation)) {
            let late = hold.wants.filter(|_| hold.asked.is_some());
            let heard = hold.heard;
            let codec = self.codec_of(call, id);
            if late.is_some_and(|source| !self.prompts.is_ready(source, codec)) {
                let seconds = self.settings.start_bound.as_secs();
                let failure = PromptFailure::new(
                    PromptCause::NotReadyInTime,
                    format!("timeout: not ready within {seconds} s"),
                );
                self.counts.prompt_failures.add(failure.cause);
                self.fail_prompt(now, call, id, failure);
            }
            // A promise that was not even a packet cannot be kept any more.
            let silent = self.why_silent(call, id).map(|why| why.to_string());
            let why = silent.as_deref().unwrap_or("no packet could be sent in time");
            if self
                .operation_mut(call, operation)
                .is_some_and(|entry| !entry.is_over() && entry.promised.is_none())
            {
                self.finish(now, call, operation, Err(results::vanished(why)));
                if heard.is_none() {
                    self.end_hold(now, call, id, EndedBy::Unreachable, None);
                }
            }
        }
    }

    /// A hold ends by itself, because of something at the leg.
    pub(crate) fn end_by_leg(&mut self, now: Now, leg: LegId, by: EndedBy) {
        if self.end_listening_of(leg) {
            return;
        }
        if !self.reports.contains_key(&leg)
            && let Some(&(call, id)) = self.legs.get(&leg)
        {
            self.end_hold(now, call, id, by, None);
            self.stop_announcing(now, call, id);
        }
    }

    /// Ends the hold of a participant, if it is on hold. The leg stays.
    pub(crate) fn end_hold(
        &mut self,
        now: Now,
        call: CallId,
        id: ParticipantId,
        by: EndedBy,
        answer: Option<StopRequest>,
    ) {
        let Some(participant) = self.participant_mut(call, id) else { return };
        let Some(hold) = participant.hold.take() else { return };
        let leg = participant.leg.as_ref().map(|leg| leg.id);
        let transport = participant.leg.as_ref().and_then(|leg| leg.transport.as_deref());
        let silent = transport.and_then(Transport::why_silent).map(|why| why.to_string());
        let last = hold.operations.last().copied();
        participant.past = last.map(|operation| {
            Box::new(PastHold {
                operation,
                ended_by: by,
                heard: hold.kind,
                since: hold.since,
                reason: hold.reason.clone(),
                report: hold.report,
                untold: true,
            })
        });
        // The roster is told with the report; a hold has a leg.
        if let Some(leg) = leg {
            self.outputs.push_back(Output::Stop { leg });
            self.await_report(now, leg, call, id, last, answer);
        }
        if let Some(call) = self.calls.get_mut(&call) {
            call.held -= 1;
            self.owners.of_mut(call.owner).held -= 1;
        }
        self.counts.held -= 1;
        self.timers.cancel(hold.grace, Timer::Grace(call, id));
        self.timers.cancel(hold.ends, Timer::Longest(call, id));
        for source in hold.sources().into_iter().flatten() {
            self.leave(now.mono, source, Listener::Hold(call, id));
        }
        for operation in hold.operations {
            self.close(now, call, operation, || match by {
                EndedBy::Stop => results::cancelled("stopped before the music began"),
                EndedBy::Removed => results::cancelled("the participant or its media leg was removed"),
                EndedBy::MaxDuration => results::cancelled("the longest duration of a hold was over"),
                EndedBy::PromptFailed => results::cancelled("the prompt failed"),
                EndedBy::CallEnded => results::call_ended(),
                EndedBy::Unreachable => {
                    results::vanished(silent.as_deref().unwrap_or("nobody listens at the destination"))
                }
                EndedBy::Restart => results::cancelled("the engine was started again, and holds end then"),
                EndedBy::Bye => results::vanished(silent.as_deref().unwrap_or("the receiver said RTCP BYE")),
            });
            self.let_go(call, operation);
        }
        self.unheard(now, call, id);
    }
}

/// The operation that a repeated request means: the same context on the same music.
fn repeated<'a>(call: &'a Call, participant: &Participant, context: Option<&str>) -> Option<&'a Operation> {
    let context = context?;
    let operations = participant.hold.iter().flat_map(|hold| &hold.operations);
    operations
        .filter_map(|operation| call.operation(*operation))
        .find(|operation| operation.client_context.as_deref() == Some(context))
}
