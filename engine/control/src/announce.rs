//! `playPrompt`: a call's queue of prompts, each heard once, in order, by everybody who is there or by those who are
//! named. Who is on hold hears them in place of the music, which goes on beneath.
//!
//! A prompt is announced when all of it is known and it is its turn; media then plays what was announced on each leg
//! one after the other. An operation ends when the last of its prompts has ended on the last leg.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdmusic_codecs::Codec;
use holdmusic_media::{AnnouncementId, LegId, MediaTime, Now, SourceId};

use crate::{
    Control, Output,
    ask::{CancelMedia, PlayPrompt},
    cause::PromptFailure,
    graph::{Answer, Refusal, Writer, results},
    id::{CallId, OperationId, ParticipantId},
    operation::{Operation, OperationKind, ResultInfo},
    participant::EndedBy,
    prompt::{Listener, SourceFacts},
    record::Key,
};

/// Operations of one call that may wait or be heard. A bot that talks ahead by more has lost count.
const MAX_PLAYS: usize = 20;

/// One `playPrompt` that waits or is heard.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) operation: OperationId,
    /// Whom it is for; none named is everybody.
    pub(crate) audience: Box<[ParticipantId]>,
    /// What has not been announced yet, in order.
    waiting: VecDeque<SourceId>,
    /// All that it listens to.
    sources: BTreeSet<SourceId>,
    /// What was announced and has not ended, and on whose leg.
    announced: BTreeMap<(AnnouncementId, ParticipantId), SourceId>,
    /// Whether anybody has heard a prompt of it to its end.
    pub(crate) heard: bool,
    /// Why it fails once what was announced has ended.
    pub(crate) failure: Option<ResultInfo>,
}

impl Play {
    /// All that it listens to.
    pub(crate) fn sources(&self) -> impl Iterator<Item = SourceId> {
        self.sources.iter().copied()
    }

    /// As it was before the engine was started again: what was not heard to its end waits to be heard, all of it.
    pub(crate) fn restored(
        operation: OperationId,
        audience: Box<[ParticipantId]>,
        waiting: VecDeque<SourceId>,
        heard: bool,
        failure: Option<ResultInfo>,
    ) -> Self {
        let sources = waiting.iter().copied().collect();
        Self { operation, audience, waiting, sources, announced: BTreeMap::new(), heard, failure }
    }

    /// What has not been heard to its end, in order.
    pub(crate) fn left(&self) -> impl Iterator<Item = SourceId> {
        // What is announced to several is announced to all of them one after the other.
        let mut announced: Vec<_> = self.announced.values().copied().collect();
        announced.dedup();
        announced.into_iter().chain(self.waiting.iter().copied())
    }

    fn is_for(&self, participant: ParticipantId) -> bool {
        self.audience.is_empty() || self.audience.contains(&participant)
    }
}

impl Control {
    /// `playPrompt`.
    pub(crate) fn play_prompt(
        &mut self,
        now: Now,
        accepted: MediaTime,
        base: &str,
        call_id: CallId,
        play: PlayPrompt,
    ) -> Result<Answer, Refusal> {
        let call = self.live_call(call_id)?;
        for prompt in &play.prompts {
            self.settings.check_origin(Some(prompt))?;
        }
        for id in &play.audience {
            call.participant(*id)?;
        }
        let hears = |id: &ParticipantId| play.audience.is_empty() || play.audience.contains(id);
        let present = call.participants.values();
        if !present.into_iter().any(|participant| hears(&participant.id) && participant.can_hear()) {
            return Err(Refusal::cannot_receive(
                "Nobody could hear it: no participant that is meant has a media leg that can receive; register one \
                 with PUT mediaLeg.",
            ));
        }
        if self.draining {
            return Err(Refusal::unavailable("The server is shutting down and plays no new prompts.", 5));
        }
        if self.is_owed_much(call_id) {
            return Err(Refusal::unavailable("Too many notifications wait to be delivered.", 5));
        }
        if call.plays.len() >= MAX_PLAYS {
            let words = format!(
                "{MAX_PLAYS} playPrompt operations of the call wait or are heard; at most so many may."
            );
            return Err(Refusal::too_many(words, 2));
        }
        let (my_participant, case, owner) = (call.my_participant, call.rules.status_case, call.owner);
        let codecs = call.codecs(&play.audience);
        let operation = OperationId::random(&mut self.rng);
        let listener = Listener::Play(call_id, operation);
        let (mut waiting, mut failure) = (VecDeque::new(), None);
        for prompt in &play.prompts {
            if let Some(failed) = self.prompts.failed(now.mono, prompt) {
                // Nobody is asked again; what comes before it is heard.
                failure = Some(results::prompt(400, &failed));
                break;
            }
            // In the other codecs when its turn comes.
            let first = codecs.first().copied().unwrap_or(Codec::Opus);
            match self.acquire(now.mono, prompt, first, Some(owner)) {
                Ok(source) => {
                    self.prompts.listen(source, listener);
                    codecs.iter().for_each(|codec| self.render(source, *codec, Some(owner)));
                    waiting.push_back(source);
                }
                Err(refusal) => {
                    for source in waiting.into_iter().collect::<BTreeSet<_>>() {
                        self.leave(now.mono, source, listener);
                    }
                    return Err(refusal);
                }
            }
        }

        // From here on nothing is refused.
        let mut entry = Operation::new(
            OperationKind::PlayPrompt,
            operation,
            my_participant,
            play.client_context,
            accepted,
        );
        entry.run();
        let answer = Writer { base }.accepted(call_id, &entry, case);
        self.add_operation(call_id, entry);
        let sources = waiting.iter().copied().collect();
        let audience = play.audience.into();
        let announced = BTreeMap::new();
        let play = Play { operation, audience, waiting, sources, announced, heard: false, failure };
        self.live_call_mut(call_id)?.plays.push(play);
        self.recite(now, call_id);
        Ok(answer)
    }

    /// `cancelMediaProcessing`: no prompt is played any more. Hold music goes on unless it is meant too.
    pub(crate) fn cancel_media(
        &mut self,
        now: Now,
        accepted: MediaTime,
        base: &str,
        call_id: CallId,
        cancel: CancelMedia,
    ) -> Result<Answer, Refusal> {
        let call = self.live_call(call_id)?;
        let (my_participant, case) = (call.my_participant, call.rules.status_case);
        let held: Vec<_> = call.roster().iter().filter(|one| one.hold.is_some()).map(|one| one.id).collect();
        let kind = OperationKind::CancelMediaProcessing;
        let operation = OperationId::random(&mut self.rng);
        let mut entry = Operation::new(kind, operation, my_participant, cancel.client_context, accepted);
        entry.run();
        entry.complete(None);
        let answer = Writer { base }.accepted(call_id, &entry, case);
        self.add_operation(call_id, entry);
        self.cancel_plays(now, call_id, || results::cancelled("cancelMediaProcessing"));
        if cancel.stop_holds {
            for participant in held {
                self.end_hold(now, call_id, participant, EndedBy::Stop, None);
            }
        }
        Ok(answer)
    }

    /// Announces what can be announced, and ends what is over.
    pub(crate) fn recite(&mut self, now: Now, call_id: CallId) {
        let mut index = 0;
        while let Some(play) = self.calls.get(&call_id).and_then(|call| call.plays.get(index)) {
            match play.waiting.front().copied() {
                Some(source) => match self.seconds_in_all_codecs(call_id, index, source) {
                    Some(seconds) => self.announce(now, call_id, index, source, seconds),
                    // What comes behind it waits for its turn.
                    None => return,
                },
                None if play.announced.is_empty() => self.end_play(now, call_id, index),
                None => index += 1,
            }
        }
        if self.calls.get(&call_id).is_some_and(|call| call.plays.is_empty()) {
            self.quieten(now, call_id);
        }
    }

    /// How many seconds a prompt has that can be announced: all of it is known in the codec of everybody who is there to hear
    /// it. In codecs in which it is not, it is prepared from now on.
    fn seconds_in_all_codecs(&mut self, call_id: CallId, index: usize, source: SourceId) -> Option<f64> {
        let call = self.calls.get(&call_id)?;
        let (owner, codecs) = (call.owner, call.codecs(&call.plays.get(index)?.audience));
        codecs.iter().for_each(|codec| self.render(source, *codec, Some(owner)));
        let facts = |codec: &Codec| self.prompts.facts(source, *codec).filter(|facts| facts.whole);
        let seconds = |facts: &SourceFacts| facts.seconds;
        match codecs.is_empty() {
            // Nobody is there to hear it.
            true => Codec::ALL.iter().find_map(facts).map(seconds),
            false => codecs.iter().map(|codec| facts(codec).map(seconds)).try_fold(0.0, |_, seconds| seconds),
        }
    }

    /// Whether anybody who is to hear a play hears it in `codec`.
    pub(crate) fn is_heard_in(&self, call: CallId, operation: OperationId, codec: Codec) -> bool {
        let Some(call) = self.calls.get(&call) else { return false };
        let play = call.plays.iter().find(|play| play.operation == operation);
        play.is_some_and(|play| call.codecs(&play.audience).contains(&codec))
    }

    /// The leg of a participant has another codec: what was announced on it is not heard to its end.
    pub(crate) fn hush_recoded(&mut self, now: Now, call_id: CallId, id: ParticipantId) {
        self.stop_announcing(now, call_id, id);
        let Some(call) = self.calls.get(&call_id) else { return };
        let mut announced = call.plays.iter().flat_map(|play| play.announced.keys());
        if announced.any(|(_, participant)| *participant == id) {
            if let Some(leg) = call.participants.get(&id).and_then(|one| one.leg.as_ref()) {
                self.outputs.push_back(Output::Hush { leg: leg.id });
            }
            self.unheard(now, call_id, id);
        }
    }

    /// The first prompt of a play that waits is played to everybody who is there.
    fn announce(&mut self, now: Now, call_id: CallId, index: usize, source: SourceId, seconds: f64) {
        self.mark(Key::Call(call_id));
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        let play = &mut call.plays[index];
        play.waiting.pop_front();
        let present = call.participants.iter_mut().map(|(_, participant)| participant);
        let mut told = vec![];
        for participant in present {
            if !play.is_for(participant.id) {
                continue;
            }
            let Some(leg) = participant.leg.as_ref().filter(|leg| leg.can_hear()) else { continue };
            told.push(participant.id);
            self.last_announcement += 1;
            let announcement = AnnouncementId(self.last_announcement);
            let frames = frames_of(seconds, leg.spec.codec);
            self.outputs.push_back(Output::Announce { leg: leg.id, announcement, source, frames });
            play.announced.insert((announcement, participant.id), source);
            participant.announcing |= participant.hold.is_none();
        }
        if told.is_empty() {
            play.waiting.clear();
            play.failure.get_or_insert_with(|| results::vanished("nobody is there any more to hear it"));
        }
        for participant in told {
            self.begin_sending(now.mono, call_id, participant);
        }
    }

    /// All prompts of a play are over.
    fn end_play(&mut self, now: Now, call_id: CallId, index: usize) {
        let Some(call) = self.call_mut(call_id) else { return };
        let play = call.plays.remove(index);
        let result = match play.failure {
            Some(failure) => Err(failure),
            None if play.heard => Ok(results::success()),
            None => Err(results::vanished("nobody heard it to its end")),
        };
        self.finish(now, call_id, play.operation, result);
        for source in play.sources {
            self.leave(now.mono, source, Listener::Play(call_id, play.operation));
        }
    }

    /// Every play ends like this, at once.
    pub(crate) fn cancel_plays(&mut self, now: Now, call_id: CallId, result: impl Fn() -> ResultInfo) {
        self.mark(Key::Call(call_id));
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        let plays = std::mem::take(&mut call.plays);
        let hearing: BTreeSet<_> = plays
            .iter()
            .flat_map(|play| play.announced.keys().map(|(_, participant)| *participant))
            .collect();
        for participant in call.participants.values().filter(|participant| hearing.contains(&participant.id))
        {
            // Without a hold the leg is stopped below.
            if let (Some(_), Some(leg)) = (&participant.hold, &participant.leg) {
                self.outputs.push_back(Output::Hush { leg: leg.id });
            }
        }
        self.quieten(now, call_id);
        for play in plays {
            self.finish(now, call_id, play.operation, Err(result()));
            for source in play.sources {
                self.leave(now.mono, source, Listener::Play(call_id, play.operation));
            }
        }
    }

    /// Legs that play nothing but announcements are stopped: there are no more.
    fn quieten(&mut self, now: Now, call_id: CallId) {
        let Some(call) = self.call_mut(call_id) else { return };
        let participants = call.participants.iter_mut().map(|(_, participant)| participant);
        let announcing = participants.filter(|participant| participant.announcing);
        let stopped: Vec<_> = announcing
            .map(|participant| {
                participant.announcing = false;
                (participant.id, participant.leg.as_ref().map(|leg| leg.id))
            })
            .collect();
        for (participant, leg) in stopped {
            let Some(leg) = leg else { continue };
            self.outputs.push_back(Output::Stop { leg });
            self.await_report(now, leg, call_id, participant, None, None);
        }
    }

    /// The leg of a participant plays nothing any more, announcements included, or is about to be stopped.
    pub(crate) fn unheard(&mut self, now: Now, call_id: CallId, id: ParticipantId) {
        let Some(call) = self.call_mut(call_id) else { return };
        if let Some(participant) = call.participants.get_mut(&id) {
            participant.announcing = false;
        }
        if call.plays.is_empty() {
            return;
        }
        for play in &mut call.plays {
            play.announced.retain(|(_, participant), _| *participant != id);
        }
        self.recite(now, call_id);
    }

    /// The leg of a participant without a hold is to play nothing any more.
    pub(crate) fn stop_announcing(&mut self, now: Now, call_id: CallId, id: ParticipantId) {
        let Some(participant) = self.participant_mut(call_id, id) else { return };
        if std::mem::take(&mut participant.announcing)
            && let Some(leg) = participant.leg.as_ref().map(|leg| leg.id)
        {
            self.outputs.push_back(Output::Stop { leg });
            self.await_report(now, leg, call_id, id, None, None);
            self.unheard(now, call_id, id);
        }
    }

    /// The last packet of an announcement has left.
    pub(crate) fn announced(&mut self, now: Now, leg: LegId, announcement: AnnouncementId) {
        let Some(&(call_id, id)) = self.legs.get(&leg) else { return };
        let Some(call) = self.call_mut(call_id) else { return };
        // One that was stopped meanwhile is not known any more.
        let ended = (announcement, id);
        if let Some(play) = call.plays.iter_mut().find(|play| play.announced.contains_key(&ended)) {
            play.announced.remove(&ended);
            play.heard = true;
            self.recite(now, call_id);
        }
    }

    /// A prompt of a play cannot be played, or no further.
    pub(crate) fn play_failed(
        &mut self,
        now: Now,
        call_id: CallId,
        operation: OperationId,
        source: SourceId,
        failure: &PromptFailure,
    ) {
        let Some(call) = self.call_mut(call_id) else { return };
        let Some(play) = call.plays.iter_mut().find(|play| play.operation == operation) else { return };
        play.sources.remove(&source);
        if play.announced.values().any(|announced| *announced == source) {
            // It broke while it was heard, so its end will never come; on a leg it may stand before others.
            let result = results::prompt(400, failure);
            return self.break_off(now, call_id, operation, result);
        }
        play.failure = Some(results::prompt(400, failure));
        if let Some(at) = play.waiting.iter().position(|waiting| *waiting == source) {
            // What comes before it is heard.
            play.waiting.truncate(at);
        }
        self.recite(now, call_id);
    }

    /// A play ends at once because what is heard of it has broken. On a leg announcements end only all together, so what others
    /// had announced there is announced again.
    fn break_off(&mut self, now: Now, call_id: CallId, operation: OperationId, result: ResultInfo) {
        self.mark(Key::Call(call_id));
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        let Some(at) = call.plays.iter().position(|play| play.operation == operation) else { return };
        let broken = call.plays.remove(at);
        let mut hearing: BTreeSet<_> = broken.announced.keys().map(|(_, participant)| *participant).collect();
        for play in &mut call.plays {
            let announced = std::mem::take(&mut play.announced);
            hearing.extend(announced.keys().map(|(_, participant)| *participant));
            let mut again: Vec<_> = announced.into_values().collect();
            again.dedup();
            again.into_iter().rev().for_each(|source| play.waiting.push_front(source));
        }
        for participant in call.participants.values().filter(|participant| hearing.contains(&participant.id))
        {
            if let Some(leg) = &participant.leg {
                self.outputs.push_back(Output::Hush { leg: leg.id });
            }
        }
        self.finish(now, call_id, operation, Err(result));
        for source in broken.sources {
            self.leave(now.mono, source, Listener::Play(call_id, operation));
        }
        self.recite(now, call_id);
    }

    /// A play hears `to` where it was to hear `from`.
    pub(crate) fn move_play(
        &mut self,
        now: Now,
        (call_id, operation): (CallId, OperationId),
        from: SourceId,
        to: SourceId,
    ) {
        let Some(call) = self.call_mut(call_id) else { return };
        let Some(play) = call.plays.iter_mut().find(|play| play.operation == operation) else { return };
        if !play.waiting.contains(&from) {
            // Who hears what it was before goes on hearing it.
            return;
        }
        play.waiting.iter_mut().filter(|source| **source == from).for_each(|source| *source = to);
        let heard = play.announced.values().any(|source| *source == from);
        let listener = Listener::Play(call_id, operation);
        play.sources.insert(to);
        if !heard {
            play.sources.remove(&from);
        }
        self.prompts.listen(to, listener);
        if !heard {
            self.leave(now.mono, from, listener);
        }
        self.recite(now, call_id);
    }
}

/// How many frames of a codec a recording of `seconds` is heard for: to the nearest, so that the end is cut by half a frame at
/// most, and the beginning of the next turn heard for as long.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a recording has a bounded length"
)]
fn frames_of(seconds: f64, codec: Codec) -> u64 {
    let frames = seconds * 1000.0 / f64::from(codec.frame_ms());
    (frames.round() as u64).max(1)
}
