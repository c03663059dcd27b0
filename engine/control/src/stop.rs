//! A stop, and the reports that media owes: each `Stop` and `RemoveLeg` is answered by one, in their order; a stop
//! operation's answer waits for its own, but not long.

use std::{collections::VecDeque, sync::Arc};

use holdmusic_media::{HoldReport, LegId, MediaTime, Now, Numbering};

use crate::{
    Control,
    ask::StopHoldMusic,
    graph::{Answer, Refusal, Writer, wire_state},
    id::{CallId, OperationId, ParticipantId, RequestId},
    operation::{Operation, OperationKind, StopFacts},
    participant::{EndedBy, Sending},
    timer::Timer,
};

/// A stop whose answer waits for the report.
#[derive(Debug)]
pub(crate) struct StopRequest {
    pub(crate) request: RequestId,
    pub(crate) base: Arc<str>,
    pub(crate) operation: OperationId,
}

/// A `Stopped` that media owes.
#[derive(Debug)]
pub(crate) struct OwedReport {
    number: u64,
    call: CallId,
    participant: ParticipantId,
    /// The last operation of the hold that it is about.
    hold: Option<OperationId>,
    stop: Option<OperationId>,
    /// Who waits for it, until they are answered.
    answer: Option<StopRequest>,
    /// Whether it has not been waited for long enough to answer and to tell the roster without it.
    early: bool,
    until: MediaTime,
}

impl Control {
    /// `stopHoldMusic`. `None` means that the answer follows with the report.
    pub(crate) fn stop_hold(
        &mut self,
        now: Now,
        (request, accepted, base): (RequestId, MediaTime, &Arc<str>),
        (call_id, id): (CallId, ParticipantId),
        stop: StopHoldMusic,
    ) -> Option<Result<Answer, Refusal>> {
        let (case, kind) = match self.live_call(call_id).and_then(|call| Ok((call, call.participant(id)?))) {
            Ok((call, participant)) => {
                (call.rules.status_case, participant.hold.as_ref().map(|hold| hold.kind))
            }
            Err(refusal) => return Some(Err(refusal)),
        };
        let operation = OperationId::random(&mut self.rng);
        let mut entry =
            Operation::new(OperationKind::StopHoldMusic, operation, id, stop.client_context, accepted);
        entry.run();
        entry.complete(None);
        entry.facts.heard = kind.flatten();
        entry.facts.nothing_to_stop = kind.is_none();
        self.counts.stops += 1;
        if kind.is_none() {
            let answer = Writer { base }.accepted(call_id, &entry, case);
            self.add_operation(call_id, entry);
            return Some(Ok(answer));
        }
        self.add_operation(call_id, entry);
        let answer = StopRequest { request, base: Arc::clone(base), operation };
        self.end_hold(now, call_id, id, EndedBy::Stop, Some(answer));
        None
    }

    /// Media owes a report about `leg`.
    pub(crate) fn await_report(
        &mut self,
        now: Now,
        leg: LegId,
        call: CallId,
        participant: ParticipantId,
        hold: Option<OperationId>,
        answer: Option<StopRequest>,
    ) {
        let of_participant = self.participant_mut(call, participant).and_then(|owner| owner.leg.as_mut());
        if let Some(leg) = of_participant.filter(|owned| owned.id == leg) {
            leg.on_air = false;
        }
        self.last_report += 1;
        let number = self.last_report;
        let early = hold.is_some();
        let (within, timer) = match early {
            true => (self.settings.stop_bound, Timer::StopAnswer(leg, number)),
            false => (self.settings.report_bound, Timer::StopLost(leg, number)),
        };
        let until = now.mono + within;
        self.timers.set(until, timer);
        let stop = answer.as_ref().map(|answer| answer.operation);
        let owed = OwedReport { number, call, participant, hold, stop, answer, early, until };
        self.reports.entry(leg).or_default().push_back(owed);
    }

    /// Whether a report is waited for that belongs into this stop.
    pub(crate) fn awaits_report_for(&self, stop: OperationId) -> bool {
        self.reports.values().flatten().any(|owed| owed.stop == Some(stop))
    }

    /// A report came.
    pub(crate) fn stopped(&mut self, now: Now, leg: LegId, report: HoldReport, next: Numbering) {
        let owed = self.reports.get_mut(&leg).and_then(VecDeque::pop_front);
        self.drop_settled(leg);
        self.numbered(leg, next);
        let Some(owed) = owed else { return };
        let timer = if owed.early { Timer::StopAnswer } else { Timer::StopLost };
        self.timers.cancel(Some(owed.until), timer(leg, owed.number));
        let participant = self.participant_mut(owed.call, owed.participant);
        if let Some(past) = participant.and_then(|participant| participant.past.as_deref_mut())
            && Some(past.operation) == owed.hold
        {
            past.report = Some(report);
        }
        let at = now.wall_at(next.at);
        let owner = self.participant_mut(owed.call, owed.participant);
        let protection = owner.and_then(|owner| owner.leg.as_ref()).map(|leg| leg.spec.protection.clone());
        let protection = protection.unwrap_or_default();
        if let Some(entry) = owed.stop.and_then(|stop| self.operation_mut(owed.call, stop)) {
            entry.facts.stopped =
                Some(Box::new(StopFacts { rtp_state: wire_state(next, at, &protection), report }));
        }
        if let Some(answer) = owed.answer {
            self.answer_stop(now.mono, owed.call, &answer);
        }
        self.tell_end(now, owed.call, owed.participant, owed.hold);
    }

    /// Media tells the numbering of a leg after a hold, also when that was believed lost; unless another hold has been
    /// told to go on with numbers of its own since, or another report will follow.
    fn numbered(&mut self, leg: LegId, next: Numbering) {
        let Some(&(call, id)) = self.legs.get(&leg).filter(|_| !self.reports.contains_key(&leg)) else {
            return;
        };
        let Some(participant) = self.participant_mut(call, id) else { return };
        if !participant.hold.as_deref().is_some_and(|hold| hold.renumbered) {
            if let Some(leg) = &mut participant.leg {
                leg.sending = leg.on_air.then_some(Sending { since: next.at, times: 1 });
            }
            self.renumber_leg(call, id, next);
        }
    }

    /// The roster shows how a hold ended, unless another has begun since, or there is nobody any more.
    fn tell_end(&mut self, now: Now, call: CallId, id: ParticipantId, hold: Option<OperationId>) {
        let past = self.participant_mut(call, id).and_then(|participant| participant.past.as_deref());
        if past.is_some_and(|past| Some(past.operation) == hold) {
            self.told(call, id);
            self.owe_roster(now, call);
        }
    }

    /// The roster is about to be told how the last hold of a participant ended.
    pub(crate) fn told(&mut self, call: CallId, id: ParticipantId) {
        if let Some(past) =
            self.participant_mut(call, id).and_then(|participant| participant.past.as_deref_mut())
        {
            past.untold = false;
        }
    }

    /// A stop is answered without its report, and the roster told.
    pub(crate) fn stop_unanswered(&mut self, now: Now, leg: LegId, number: u64) {
        let lost = self.settings.report_bound;
        let Some(owed) =
            self.reports.get_mut(&leg).and_then(|owed| owed.iter_mut().find(|o| o.number == number))
        else {
            return;
        };
        owed.until = owed.until + lost;
        owed.early = false;
        let (call, participant, hold) = (owed.call, owed.participant, owed.hold);
        let (answer, until) = (owed.answer.take(), owed.until);
        self.timers.set(until, Timer::StopLost(leg, number));
        if let Some(answer) = answer {
            self.answer_stop(now.mono, call, &answer);
        }
        self.tell_end(now, call, participant, hold);
    }

    /// A report is lost. Those owed before it are lost as well, since they come in order.
    pub(crate) fn report_lost(&mut self, leg: LegId, number: u64) {
        if let Some(owed) = self.reports.get_mut(&leg) {
            owed.retain(|owed| owed.number > number);
        }
        self.drop_settled(leg);
    }

    fn drop_settled(&mut self, leg: LegId) {
        if self.reports.get(&leg).is_some_and(VecDeque::is_empty) {
            self.reports.remove(&leg);
        }
    }

    fn answer_stop(&mut self, now: MediaTime, call_id: CallId, answer: &StopRequest) {
        let result = match self.calls.get(&call_id) {
            None => Err(Refusal::unknown_call(call_id)),
            Some(call) => match call.operation(answer.operation) {
                None => Err(Refusal::unknown_operation(answer.operation)),
                Some(operation) => {
                    Ok(Writer { base: &answer.base }.accepted(call_id, operation, call.rules.status_case))
                }
            },
        };
        let owner = self.calls.get(&call_id).map(|call| call.owner);
        self.reply(now, answer.request, Some((Some(call_id), None)), owner, result);
    }
}
