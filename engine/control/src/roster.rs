//! Calls and participants come, are read and go; operations are kept and read; sources are shared and released.

use std::sync::Arc;

use holdmusic_codecs::Codec;
use holdmusic_media::{MediaTime, Now, SourceId};
use litemap::LiteMap;
use url::Url;

use crate::{
    Control, Output,
    access::OwnerKey,
    ask::{CreateCall, CreateParticipant, Invite, Mute},
    call::{Call, Operations},
    graph::{
        Answer, CallState, Query, Refusal, Writer, call_notification, operation_notification,
        participant_info, results, roster_notification,
    },
    guard::redact,
    id::{CallId, NotificationId, OperationId, ParticipantId},
    notification::{Attempt, Says},
    operation::{Invited, Operation, OperationKind, ResultInfo},
    participant::{EndedBy, Participant},
    prompt::{Found, Listener, Prompt},
    receivers::Callback,
    record::{Key, Made},
    timer::Timer,
};

const DONE: Answer = Answer { status: 204, location: None, body: None };

impl Control {
    /// The call `id`, if it can be changed.
    pub(crate) fn live_call(&self, id: CallId) -> Result<&Call, Refusal> {
        match self.calls.get(&id) {
            None => Err(Refusal::unknown_call(id)),
            Some(call) if call.ended.is_some() => Err(Refusal::call_ended(id)),
            Some(call) => Ok(call),
        }
    }

    /// The call `id`, to be changed.
    pub(crate) fn live_call_mut(&mut self, id: CallId) -> Result<&mut Call, Refusal> {
        match self.call_mut(id) {
            None => Err(Refusal::unknown_call(id)),
            Some(call) if call.ended.is_some() => Err(Refusal::call_ended(id)),
            Some(call) => Ok(call),
        }
    }

    /// The call `id`, to be changed, whether it has ended or not.
    pub(crate) fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        let found = self.calls.get_mut(&id)?;
        self.durability.mark(&self.settings, Key::Call(id));
        Some(found)
    }

    /// The call `id`, if it can be read: an ended one is gone, except for its operations.
    pub(crate) fn readable_call(&self, id: CallId) -> Result<&Call, Refusal> {
        let call = self.calls.get(&id).filter(|call| call.ended.is_none());
        call.map(Box::as_ref).ok_or_else(|| Refusal::unknown_call(id))
    }

    pub(crate) fn create_call(
        &mut self,
        now: Now,
        base: &str,
        owner: OwnerKey,
        create: CreateCall,
    ) -> Result<Answer, Refusal> {
        self.settings.guard.callback_url(&create.callback).map_err(|refused| {
            Refusal::invalid(format!(
                "'callbackUri' ({}) is not allowed: {refused}.",
                redact(&create.callback)
            ))
        })?;
        for prompt in create.hold.default_prompt.iter().chain(&create.prefetch) {
            self.settings.check_origin(Some(prompt))?;
        }
        if self.counts.calls >= self.settings.max_calls as u64 {
            let most = self.settings.max_calls;
            return Err(Refusal::too_many(format!("There are {most} calls, the limit of this server."), 5));
        }
        self.owners.of(owner).may_call()?;
        let id = CallId::random(&mut self.rng);
        let expires = self.settings.lifetime.map(|lifetime| now.mono + lifetime);
        if let Some(expires) = expires {
            self.timers.set(expires, Timer::Lifetime(id));
        }
        self.last_call += 1;
        let call = Call {
            id,
            owner,
            number: self.last_call,
            callback: self.callback(create.callback),
            rules: create.hold.over(&self.settings.hold),
            default_prompt: create.hold.default_prompt.map(Box::new),
            default_source: None,
            prefetched: Box::default(),
            echo: create.echo,
            my_participant: ParticipantId::random(&mut self.rng),
            created: now.wall,
            participants: LiteMap::with_capacity(1),
            operations: Operations::new(),
            over: 0,
            held: 0,
            plays: Vec::new(),
            muted: false,
            etag: 0,
            numbers: 0,
            expires,
            ended: None,
            ticket: 0,
        };
        let answer = Writer { base }.call(201, &call, &Query::default());
        self.glance.add(&call);
        self.calls.insert(id, Box::new(call));
        self.mark(Key::Call(id));
        self.counts.calls += 1;
        self.made = Some(Made::Call(id));
        let owner = self.owners.of_mut(owner);
        owner.calls += 1;
        owner.kept += 1;
        // So that the first hold need not wait for it. If it cannot be had now, a hold will try again.
        self.default_source(now.mono, id, Codec::Opus);
        self.prefetch(now.mono, id, &create.prefetch);
        self.owe_call(now, id, CallState::Established, None);
        Ok(answer)
    }

    pub(crate) fn list_calls(&self, base: &str, owner: OwnerKey, query: &Query) -> Answer {
        let theirs = |call: &&Call| call.ended.is_none() && call.owner == owner;
        let mut calls: Vec<_> = self.calls.values().map(Box::as_ref).filter(theirs).collect();
        calls.sort_by_key(|call| call.number);
        Writer { base }.calls(&calls, query)
    }

    pub(crate) fn keep_alive(&mut self, now: Now, id: CallId) -> Result<Answer, Refusal> {
        let lifetime = self.settings.lifetime;
        let call = self.live_call_mut(id)?;
        if let Some(lifetime) = lifetime {
            let before = call.expires.replace(now.mono + lifetime);
            self.timers.cancel(before, Timer::Lifetime(id));
            self.timers.set(now.mono + lifetime, Timer::Lifetime(id));
        }
        Ok(Answer { status: 200, location: None, body: None })
    }

    /// Ends a call. One that has ended is refused like every other change of it (8528): it cannot be ended again, and
    /// its retention is not the customer's to cut short.
    pub(crate) fn delete_call(&mut self, now: Now, id: CallId) -> Result<Answer, Refusal> {
        self.live_call(id)?;
        self.end_call(now, id, &results::call_deleted());
        Ok(DONE)
    }

    pub(crate) fn lifetime_over(&mut self, now: Now, id: CallId) {
        self.end_call(now, id, &results::call_expired());
    }

    pub(crate) fn end_call(&mut self, now: Now, id: CallId, result: &ResultInfo) {
        let Ok(call) = self.live_call(id) else { return };
        let roster: Vec<_> = call.roster().iter().map(|participant| participant.id).collect();
        self.cancel_plays(now, id, results::call_ended);
        for participant in roster.iter().copied() {
            self.end_hold(now, id, participant, EndedBy::CallEnded, None);
            self.remove_leg(now, id, participant);
        }
        self.notifications.forget_roster(id);
        self.owe_call(now, id, CallState::Terminating, None);
        self.owe_call(now, id, CallState::Terminated, Some(result));
        let until = now.mono + self.settings.retention;
        for participant in roster {
            self.mark(Key::Participant(id, participant));
        }
        self.mark(Key::Call(id));
        let Some(call) = self.calls.get_mut(&id) else { return };
        self.counts.participants -= call.participants.len() as u64;
        call.participants = LiteMap::new();
        call.echo = None;
        call.ended = Some(now.mono);
        self.glance.remove(call);
        self.owners.of_mut(call.owner).calls -= 1;
        let (expires, default) = (call.expires.take(), call.default_source.take());
        let prefetched = std::mem::take(&mut call.prefetched);
        self.timers.cancel(expires, Timer::Lifetime(id));
        if let Some(source) = default {
            self.leave(now.mono, source, Listener::Call(id));
        }
        for source in prefetched {
            self.leave(now.mono, source, Listener::Prefetch(id));
        }
        self.counts.calls -= 1;
        self.counts.ended_calls += 1;
        self.ended.push_back((until, id));
        self.timers.set(until, Timer::Retention(id));
        while self.ended.len() > self.settings.max_ended_calls {
            let Some((until, oldest)) = self.ended.pop_front() else { break };
            self.timers.cancel(Some(until), Timer::Retention(oldest));
            self.forget_call(oldest);
        }
    }

    /// The retention time of the call that ended first is over; all are kept equally long.
    pub(crate) fn retention_over(&mut self, id: CallId) {
        if let Some(at) = self.ended.iter().position(|(_, ended)| *ended == id) {
            self.ended.remove(at);
        }
        self.forget_call(id);
    }

    /// `url`, shared with the calls that have the same.
    pub(crate) fn callback(&mut self, url: Url) -> Arc<Callback> {
        let new = Arc::new(Callback::new(url));
        let known = self.callbacks.get(&new).cloned();
        known.unwrap_or_else(|| {
            self.callbacks.insert(Arc::clone(&new));
            new
        })
    }

    fn forget_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(&id) {
            self.mark(Key::Call(id));
            call.operations.iter().for_each(|operation| self.mark(Key::Operation(id, operation.id)));
            call.operations.shelved().for_each(|(_, operation)| self.mark(Key::Operation(id, operation)));
            // The call's own, and that of the set.
            if Arc::strong_count(&call.callback) == 2 {
                self.callbacks.remove(&call.callback);
            }
            self.counts.operations -= call.operations.len() as u64;
            self.counts.ended_calls -= 1;
            self.owners.of_mut(call.owner).kept -= 1;
        }
    }

    pub(crate) fn create_participant(
        &mut self,
        now: Now,
        base: &str,
        call_id: CallId,
        create: CreateParticipant,
    ) -> Result<Answer, Refusal> {
        self.admit_participants(call_id, 1)?;
        let leg = create.offer.map(|offer| self.leg_from(now, &offer)).transpose()?;
        let id = ParticipantId::random(&mut self.rng);
        let call = self.live_call_mut(call_id)?;
        let number = call.next_number();
        let CreateParticipant { info, metadata, .. } = create;
        let participant = Participant::new(id, number, info, metadata);
        call.participants.insert(id, Box::new(participant));
        self.counts.participants += 1;
        self.made = Some(Made::Participant(call_id, id));
        self.mark(Key::Participant(call_id, id));
        if let Some(leg) = leg {
            self.admit_leg(call_id, id, leg);
        }
        self.owe_roster(now, call_id);
        let (call, locals) = (self.live_call(call_id)?, &self.settings.media_locals);
        Ok(Writer { base }.participant(201, call, call.participant(id)?, locals, &Query::default()))
    }

    /// `mute` and `unmute` of the bot itself. We mix nothing, so it is a word to be read back.
    pub(crate) fn mute_call(
        &mut self,
        accepted: MediaTime,
        base: &str,
        id: CallId,
        mute: Mute,
    ) -> Result<Answer, Refusal> {
        let call = self.live_call_mut(id)?;
        call.muted = mute.muted;
        let who = call.my_participant;
        self.muted(accepted, base, (id, who), mute)
    }

    /// `mute` and `unmute` of a participant: told to the roster, and no matter of what it hears.
    pub(crate) fn mute_participant(
        &mut self,
        now: Now,
        accepted: MediaTime,
        base: &str,
        (call, id): (CallId, ParticipantId),
        mute: Mute,
    ) -> Result<Answer, Refusal> {
        let participant = self.live_call_mut(call)?.participant_mut(id)?;
        let before = std::mem::replace(&mut participant.muted, mute.muted);
        self.mark(Key::Participant(call, id));
        if before != mute.muted {
            self.owe_roster(now, call);
        }
        self.muted(accepted, base, (call, id), mute)
    }

    /// Such an operation is complete in its own answer.
    fn muted(
        &mut self,
        accepted: MediaTime,
        base: &str,
        (call_id, who): (CallId, ParticipantId),
        mute: Mute,
    ) -> Result<Answer, Refusal> {
        let case = self.live_call(call_id)?.rules.status_case;
        let kind = if mute.muted { OperationKind::Mute } else { OperationKind::Unmute };
        let operation = OperationId::random(&mut self.rng);
        let mut entry = Operation::new(kind, operation, who, mute.client_context, accepted);
        entry.run();
        entry.complete(None);
        let answer = Writer { base }.accepted(call_id, &entry, case);
        self.add_operation(call_id, entry);
        Ok(answer)
    }

    /// `participants/invite`: there is no phone network here to ring anybody, so the invited are registered, and wait for
    /// their legs.
    pub(crate) fn invite(
        &mut self,
        now: Now,
        accepted: MediaTime,
        base: &str,
        call_id: CallId,
        invite: Invite,
    ) -> Result<Answer, Refusal> {
        self.admit_participants(call_id, invite.identities.len())?;
        if self.is_owed_much(call_id) {
            return Err(Refusal::unavailable("Too many notifications wait to be delivered.", 5));
        }
        let mut invited = Vec::new();
        for identity in invite.identities {
            let id = ParticipantId::random(&mut self.rng);
            let call = self.live_call_mut(call_id)?;
            let number = call.next_number();
            let info = participant_info(&identity);
            call.participants.insert(id, Box::new(Participant::new(id, number, Some(info), None)));
            self.counts.participants += 1;
            self.mark(Key::Participant(call_id, id));
            invited.push(Invited { participant: id, identity });
        }
        let call = self.live_call(call_id)?;
        let (who, case) = (call.my_participant, call.rules.status_case);
        let operation = OperationId::random(&mut self.rng);
        let kind = OperationKind::InviteParticipants;
        let mut entry = Operation::new(kind, operation, who, invite.client_context, accepted);
        entry.invited = Some(invited.into());
        entry.run();
        let answer = Writer { base }.accepted(call_id, &entry, case);
        self.add_operation(call_id, entry);
        self.finish(now, call_id, operation, Ok(results::success()));
        self.owe_roster(now, call_id);
        Ok(answer)
    }

    /// Whether a call may have so many more participants.
    fn admit_participants(&self, call: CallId, more: usize) -> Result<(), Refusal> {
        let most = self.settings.max_participants_per_call;
        if self.live_call(call)?.participants.len() + more > most {
            let words =
                format!("The call would have more than {most} participants, the limit of this server.");
            return Err(Refusal::too_many(words, 5));
        }
        let most = self.settings.max_participants;
        if self.counts.participants + more as u64 > most as u64 {
            let words = format!("There would be more than {most} participants, the limit of this server.");
            return Err(Refusal::unavailable(words, 5));
        }
        Ok(())
    }

    pub(crate) fn delete_participant(
        &mut self,
        now: Now,
        call: CallId,
        id: ParticipantId,
    ) -> Result<Answer, Refusal> {
        self.live_call(call)?.participant(id)?;
        self.end_hold(now, call, id, EndedBy::Removed, None);
        self.remove_leg(now, call, id);
        self.live_call_mut(call)?.participants.remove(&id);
        self.mark(Key::Participant(call, id));
        self.counts.participants -= 1;
        self.owe_roster(now, call);
        Ok(DONE)
    }

    pub(crate) fn operation_mut(&mut self, call: CallId, id: OperationId) -> Option<&mut Operation> {
        let found = self.calls.get_mut(&call)?.operations.get_mut(id)?;
        self.durability.mark(&self.settings, Key::Operation(call, id));
        Some(found)
    }

    /// The call has one more operation.
    pub(crate) fn add_operation(&mut self, call_id: CallId, mut operation: Operation) {
        self.mark(Key::Operation(call_id, operation.id));
        let Some(call) = self.call_mut(call_id) else { return };
        operation.number = call.next_number();
        let (number, over) = (operation.number, operation.is_over());
        call.operations.push(operation);
        self.counts.operations += 1;
        if over {
            self.keep(call_id, number);
        }
    }

    /// An operation ends, completed or failed, and its notification is owed.
    pub(crate) fn finish(
        &mut self,
        now: Now,
        call_id: CallId,
        id: OperationId,
        result: Result<ResultInfo, ResultInfo>,
    ) {
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        if call.operation(id).is_none_or(Operation::is_over) {
            return;
        }
        self.durability.mark(&self.settings, Key::Operation(call_id, id));
        self.durability.mark(&self.settings, Key::Call(call_id));
        let version = call.next_etag();
        let Some(operation) = call.operations.get_mut(id) else { return };
        let number = operation.number;
        let bound = operation.bound.take();
        if operation.kind == OperationKind::StartHoldMusic {
            match &result {
                Ok(result) if result.subcode == 0 => self.counts.starts_completed += 1,
                Ok(_) => self.counts.starts_with_failed_prompt += 1,
                Err(_) => self.counts.starts_failed += 1,
            }
        }
        match result {
            Ok(result) => operation.complete(Some(result)),
            Err(result) => operation.fail(result),
        }
        let text = operation_notification(call_id, operation, call.rules.status_case, version);
        self.timers.cancel(bound, Timer::Bound(call_id, id));
        self.keep(call_id, number);
        self.owe(now, call_id, Says::Text(text));
    }

    /// An operation is over and is kept for reading; the oldest beyond the limits leave.
    fn keep(&mut self, call_id: CallId, number: u64) {
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        call.over += 1;
        self.over.push_back((call_id, number));
        if let Some(operation) = call.operations.numbered(number) {
            self.glance.remember(call, operation);
        }
        while call.over > self.settings.max_operations_per_call {
            let Some(oldest) = call.operations.remove_oldest_over() else { break };
            self.durability.mark(&self.settings, Key::Operation(call_id, oldest));
            call.over -= 1;
            self.counts.operations -= 1;
        }
        while self.counts.operations > self.settings.max_operations as u64 {
            let Some((id, oldest)) = self.over.pop_front() else { break };
            if let Some(call) = self.calls.get_mut(&id)
                && let Some(oldest) = call.operations.remove(oldest)
            {
                self.durability.mark(&self.settings, Key::Operation(id, oldest));
                call.over -= 1;
                self.counts.operations -= 1;
            }
        }
        // Operations that left with their call or by its limit are still named here, but never more of them than
        // of those that are kept.
        if self.over.len() as u64 > 2 * self.counts.operations.max(1024) {
            let calls = &self.calls;
            self.over
                .retain(|(call, number)| calls.get(call).is_some_and(|call| call.operations.has(*number)));
        }
    }

    /// The source of `prompt`, prepared in `codec` from now on if it was not before. The caller listens to it at once.
    ///
    /// What was fetched before is played again as long as its origin allowed; later the origin is asked first whether
    /// it is still the same (by all who want it, once), or meanwhile.
    /// What is prepared counts for `owner`; `None` is the server.
    pub(crate) fn acquire(
        &mut self,
        now: MediaTime,
        prompt: &Prompt,
        codec: Codec,
        owner: Option<OwnerKey>,
    ) -> Result<SourceId, Refusal> {
        match self.prompts.find(now, prompt) {
            Some(Found::Fresh(source)) if self.prompts.has(source, codec) => return Ok(source),
            Some(Found::Fresh(source)) => {
                self.may_prepare(owner)?;
                self.render(source, codec, owner);
                return Ok(source);
            }
            Some(Found::StaleMeanwhile(source)) if self.prompts.is_ready(source, codec) => {
                if self.may_prepare(owner).is_ok() {
                    self.refresh(source, prompt, codec, owner);
                }
                return Ok(source);
            }
            Some(Found::Stale(source) | Found::StaleMeanwhile(source)) => {
                self.may_prepare(owner)?;
                return Ok(self.refresh(source, prompt, codec, owner));
            }
            None => {}
        }
        self.may_prepare(owner)?;
        if self.prompts.len() >= self.settings.max_prompts {
            let Some((_, unused, _)) = self.prompts.longest_unused() else {
                return Err(Refusal::unavailable("Too many different prompts are in use.", 5));
            };
            self.release(now, unused);
        }
        let source = self.prompts.add(prompt.clone(), codec, owner);
        self.count_preparing(owner);
        self.outputs.push_back(Output::Prepare {
            source,
            codec,
            prompt: prompt.clone(),
            instead_of: None,
            unasked: false,
        });
        Ok(source)
    }

    fn refresh(
        &mut self,
        older: SourceId,
        prompt: &Prompt,
        codec: Codec,
        owner: Option<OwnerKey>,
    ) -> SourceId {
        let source = self.prompts.refresh(older, codec, owner);
        self.count_preparing(owner);
        let instead_of = Some(older);
        let (prompt, unasked) = (prompt.clone(), false);
        self.outputs.push_back(Output::Prepare { source, codec, prompt, instead_of, unasked });
        source
    }

    /// A known source is prepared in `codec` too, if it is not already: without regard to limits, since each source has few
    /// renditions at most.
    pub(crate) fn render(&mut self, source: SourceId, codec: Codec, owner: Option<OwnerKey>) {
        let Some(prompt) = self.prompts.prompt(source).filter(|_| !self.prompts.has(source, codec)) else {
            return;
        };
        let (prompt, instead_of) = (Prompt::clone(prompt), self.prompts.older(source));
        self.prompts.add_rendition(source, codec, owner);
        self.count_preparing(owner);
        self.outputs.push_back(Output::Prepare { source, codec, prompt, instead_of, unasked: false });
    }

    /// What a participant hears is encoded with this. Without a leg it is what most legs have.
    pub(crate) fn codec_of(&self, call: CallId, id: ParticipantId) -> Codec {
        let participant = self.calls.get(&call).and_then(|call| call.participants.get(&id));
        participant.and_then(|one| one.leg.as_ref()).map_or(Codec::Opus, |leg| leg.spec.codec)
    }

    /// A call has a leg in `codec`: what it wants to find ready is prepared in that codec too.
    pub(crate) fn prefetch_in(&mut self, id: CallId, codec: Codec) {
        let Some(call) = self.calls.get(&id).filter(|call| !call.prefetched.is_empty()) else { return };
        let (owner, prefetched) = (Some(call.owner), call.prefetched.clone());
        for source in prefetched {
            if !self.prompts.has(source, codec) && self.may_prepare(owner).is_ok() {
                self.render(source, codec, owner);
            }
        }
    }

    pub(crate) fn count_preparing(&mut self, owner: Option<OwnerKey>) {
        if let Some(owner) = owner {
            self.owners.of_mut(owner).preparing += 1;
        }
    }

    /// Sources are ready or gone that were prepared for somebody.
    pub(crate) fn count_prepared(&mut self) {
        for owner in self.prompts.prepared() {
            self.owners.of_mut(owner).preparing -= 1;
        }
    }

    fn may_prepare(&self, owner: Option<OwnerKey>) -> Result<(), Refusal> {
        if let Some(owner) = owner {
            self.owners.of(owner).may_prepare()?;
        }
        if self.prompts.preparing() < self.settings.max_preparing {
            return Ok(());
        }
        let most = self.settings.max_preparing;
        let words = format!("{most} prompts are being prepared, the limit of this server.");
        Err(Refusal::unavailable(words, 2))
    }

    /// A call wants to find these prompts ready. What cannot be had now is fetched when it is asked for.
    fn prefetch(&mut self, now: MediaTime, id: CallId, prompts: &[Prompt]) {
        let mut prefetched = Vec::new();
        let owner = self.calls.get(&id).map(|call| call.owner);
        for prompt in prompts {
            let Ok(source) = self.acquire(now, prompt, Codec::Opus, owner) else { break };
            self.prompts.listen(source, Listener::Prefetch(id));
            prefetched.push(source);
        }
        if let Some(call) = self.call_mut(id) {
            call.prefetched = prefetched.into();
        }
    }

    /// `POST prompts/purge`: what is known of a prompt, or of all, is good for nothing any more; who hears it goes on.
    pub(crate) fn purge(&mut self, now: MediaTime, prompt: Option<Prompt>) -> Answer {
        for source in self.prompts.disown(prompt.as_ref()) {
            if self.prompts.is_unused(source) {
                self.release(now, source);
            }
        }
        self.outputs.push_back(Output::Purge { prompt });
        DONE
    }

    /// The source of a call's default prompt, or else of the server's, if there is one and it can be had; in `codec`.
    pub(crate) fn default_source(&mut self, now: MediaTime, id: CallId, codec: Codec) -> Option<SourceId> {
        let call = self.calls.get(&id)?;
        let owner = call.owner;
        if let (None, Some(prompt)) = (call.default_source, call.default_prompt.clone())
            && let Ok(source) = self.acquire(now, &prompt, codec, Some(owner))
        {
            self.prompts.listen(source, Listener::Call(id));
            self.calls.get_mut(&id)?.default_source = Some(source);
        }
        let (source, owner) = match self.calls.get(&id)?.default_source {
            Some(source) => (source, Some(owner)),
            None => (self.server_source(now, codec)?, None),
        };
        // It may be time to ask its origin again.
        let prompt = self.prompts.prompt(source).cloned()?;
        let Ok(current) = self.acquire(now, &prompt, codec, owner) else { return Some(source) };
        if current != source && self.prompts.older(current) != Some(source) {
            // It was purged: nothing of what it was is wanted.
            let call = self.calls.get_mut(&id).filter(|call| call.default_source == Some(source));
            let listener = match call {
                Some(call) => {
                    call.default_source = Some(current);
                    Listener::Call(id)
                }
                None => {
                    self.server_default = Some(current);
                    Listener::Server
                }
            };
            self.prompts.listen(current, listener);
            self.leave(now, source, listener);
        }
        Some(current)
    }

    /// The source of the server's default prompt, if there is one and it can be had.
    pub(crate) fn server_source(&mut self, now: MediaTime, codec: Codec) -> Option<SourceId> {
        if let (None, Some(prompt)) = (self.server_default, self.settings.default_prompt.clone())
            && let Ok(source) = self.acquire(now, &prompt, codec, None)
        {
            self.prompts.listen(source, Listener::Server);
            self.server_default = Some(source);
        }
        self.server_default
    }

    /// `listener` is gone. A source that nobody listens to stays for a while if a new hold may be given it; otherwise
    /// its preparation is given up, or its sound dropped.
    pub(crate) fn leave(&mut self, now: MediaTime, source: SourceId, listener: Listener) {
        if self.prompts.leave(now, source, listener) {
            if self.prompts.is_ready_at_all(source) && self.prompts.is_current(source) {
                self.timers.set(now + self.settings.keep_unused, Timer::Unused);
                self.drop_unused(now);
            } else {
                self.release(now, source);
            }
        }
    }

    /// The origin has answered about `newer`, and so about what it may take the place of, if that is still there.
    pub(crate) fn origin_answered(&mut self, now: MediaTime, newer: SourceId) {
        let older = self.prompts.answered(newer);
        for source in [Some(newer), older].into_iter().flatten() {
            self.leave(now, source, Listener::Refresh);
        }
    }

    /// Releases what has been unused for too long, or is too much.
    pub(crate) fn drop_unused(&mut self, now: MediaTime) {
        while let Some((since, source, bytes)) = self.prompts.longest_unused() {
            if since + self.settings.keep_unused > now && bytes <= self.settings.max_unused_bytes {
                break;
            }
            self.release(now, source);
        }
    }

    fn release(&mut self, now: MediaTime, source: SourceId) {
        if let Some(older) = self.prompts.answered(source) {
            self.leave(now, older, Listener::Refresh);
        }
        if self.prompts.remove(source).is_some() {
            self.count_prepared();
            self.outputs.push_back(Output::Release { source, codec: None });
        }
    }

    fn owe_call(&mut self, now: Now, id: CallId, state: CallState, result: Option<&ResultInfo>) {
        let Some(call) = self.call_mut(id) else { return };
        let version = call.next_etag();
        self.owe(now, id, Says::Text(call_notification(id, state, result, version)));
    }

    /// The roster of a call has changed.
    pub(crate) fn owe_roster(&mut self, now: Now, call: CallId) {
        if let Some(entry) = self.call_mut(call) {
            let version = entry.next_etag();
            self.owe(now, call, Says::Roster(version));
        }
    }

    /// Whether a call, or its receiver, is owed so much that no more work which owes notifications should be taken.
    pub(crate) fn is_owed_much(&self, call: CallId) -> bool {
        let callback = self.calls.get(&call).map(|entry| &entry.callback);
        callback.is_some_and(|callback| self.notifications.is_full(call, callback, &self.settings))
    }

    fn owe(&mut self, now: Now, call: CallId, says: Says) {
        let Some(entry) = self.calls.get(&call) else { return };
        let id = NotificationId::random(&mut self.rng);
        let owner = &self.owners.of(entry.owner).identity;
        self.notifications.owe(now, call, (owner, &entry.callback), id, says, &self.settings);
        self.to_notify.push(call);
    }

    /// Has an attempt made whose turn it is.
    pub(crate) fn notify(&mut self, attempt: Attempt) {
        let Attempt { id: notification, call, says, owner, uri, number: attempt, timer } = attempt;
        self.timers.cancel(timer, Timer::Notify(call));
        let body = match says {
            Says::Text(text) => text,
            Says::Roster(version) => {
                // Rosters that were never told are forgotten with their call, so it is there.
                let Some(entry) = self.calls.get(&call) else { return };
                let text = roster_notification(entry, version);
                self.notifications.written(call, &text);
                text
            }
        };
        let output = Output::Notify { notification, call, owner, uri, body, attempt };
        self.promise(Some(call), output, None);
    }
}
