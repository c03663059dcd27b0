//! Our values -> the entities of `entities.rs`, and those -> JSON as Graph prints it.

use std::{net::SocketAddr, time::Duration};

use holdmusic_media::{HoldReport, LegSpec, Numbering, Protection, RtpState, WallTime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Answer,
    entities::{
        CallHoldMusic, CallJson, Collection, Given, Invitation, MediaFacts, MediaLeg, MediaPrompt,
        MediaState, MediaStream, OperationHoldMusic, OperationJson, ParticipantHoldMusic, ParticipantJson,
        Reason, Report, ResultJson, Srtp, State, TransportJson, TransportWord,
    },
    query::Query,
    words::{CallState, Direction, HoldState, Spelled, StatusCase, wall_text},
};
use crate::{
    call::Call,
    cause::PromptFailure,
    id::{CallId, ParticipantId},
    operation::{HoldFacts, Invited, Operation, OperationKind, ResultInfo},
    participant::{Leg, Participant},
    prompt::{Origin, Prompt},
    transport::{Transport, TransportState},
};

impl<'a> From<&'a ResultInfo> for ResultJson<'a> {
    fn from(result: &'a ResultInfo) -> Self {
        let ResultInfo { code, subcode, message } = result;
        Self { kind: "#microsoft.graph.resultInfo", code: *code, subcode: *subcode, message }
    }
}

impl<'a> From<&'a PromptFailure> for Reason<'a> {
    fn from(failure: &'a PromptFailure) -> Self {
        Self { cause: failure.cause, message: &failure.message }
    }
}

impl From<&RtpState> for State {
    fn from(state: &RtpState) -> Self {
        Self {
            ssrc: state.ssrc.0,
            sequence_number: state.sequence.0,
            timestamp: state.timestamp.0,
            at: wall_text(state.at, 6),
            rollover_counter: state.rollover_counter,
            srtcp_index: state.srtcp_index,
        }
    }
}

/// An operation as its end is told: without what only its answers show.
pub(super) fn operation_json(operation: &Operation, case: StatusCase) -> OperationJson<'_> {
    OperationJson {
        context: None,
        kind: operation.kind.odata_type(),
        odata_id: None,
        etag: None,
        id: operation.id,
        status: Spelled(case, operation.status()),
        client_context: operation.client_context.as_deref(),
        result_info: operation.is_over().then(|| operation.result().map(ResultJson::from)),
        participants: operation.invited.as_deref().map(|invited| invited.iter().map(invitation).collect()),
        hold_music: None,
    }
}

fn invitation(invited: &Invited) -> Invitation<'_> {
    Invitation {
        kind: "#microsoft.graph.invitationParticipantInfo",
        participant_id: invited.participant,
        identity: read_back(&invited.identity),
    }
}

/// An operation as answers show it.
fn operation_entity(operation: &Operation, case: StatusCase, context: Option<String>) -> OperationJson<'_> {
    let hold_music = hold_facts(&operation.facts, operation.kind);
    OperationJson { context, hold_music, ..operation_json(operation, case) }
}

fn millis(nanos: u64) -> f64 {
    // Microseconds are as fine as the sender's clock means anything.
    #[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
    let micros = (nanos / 1000) as f64;
    micros / 1000.0
}

fn hold_facts(facts: &HoldFacts, kind: OperationKind) -> Option<OperationHoldMusic<'_>> {
    let stopped = facts.stopped.as_deref();
    let hold = OperationHoldMusic {
        first_packet_latency_ms: facts.first_packet_latency_ns.map(millis),
        prompt_ready_ms: facts.prompt_ready_ns.map(millis),
        source: facts.heard,
        gain_db: facts.gain_db.map(|gain| (gain * 100.0).round() / 100.0),
        reason: facts.reason.as_deref().map(Reason::from),
        rtp_state: stopped.map(|stopped| State::from(&stopped.rtp_state)),
        report: stopped.map(|stopped| hold_report(&stopped.report, None)),
        nothing_to_stop: (kind == OperationKind::StopHoldMusic).then_some(facts.nothing_to_stop),
    };
    (hold != OperationHoldMusic::default()).then_some(hold)
}

pub(super) fn hold_report<'a>(report: &HoldReport, reason: Option<&'a PromptFailure>) -> Report<'a> {
    let duration = match (report.first_sent, report.last_sent) {
        (Some(first), Some(last)) => last.since(first).as_nanos(),
        _ => 0,
    };
    let quality = report.quality.as_ref();
    Report {
        packets: report.packets,
        bytes: report.payload_bytes,
        duration_ms: millis(u64::try_from(duration).unwrap_or(u64::MAX)),
        late_ticks: report.late_ticks,
        skipped_ticks: report.skipped_ticks,
        starved_ticks: report.starved_ticks,
        send_errors: report.send_errors,
        longest_gap_ms: millis(report.longest_gap_ns),
        default_music_ms: report.default_music_ms,
        fraction_lost: quality.map(|quality| f64::from(quality.fraction_lost) / 256.0),
        packets_lost: quality.map(|quality| quality.cumulative_lost),
        jitter_ms: quality.map(|quality| millis(u64::from(quality.jitter_us) * 1000)),
        round_trip_ms: quality
            .map(|quality| quality.round_trip_us.map(|micros| millis(u64::from(micros) * 1000))),
        reason: reason.map(Reason::from),
    }
}

fn duration_text(duration: Duration) -> String {
    format!("PT{}S", duration.as_secs_f64())
}

impl<'a> MediaPrompt<'a> {
    /// A prompt whose address is shown as `uri`.
    pub(super) fn new(uri: &'a str, resource_id: Option<&'a str>) -> Self {
        let media_info = MediaFacts { kind: "#microsoft.graph.mediaInfo", uri, resource_id };
        Self { kind: "#microsoft.graph.mediaPrompt", media_info }
    }
}

fn prompt_json(prompt: &Prompt) -> MediaPrompt<'_> {
    let uri = match &prompt.origin {
        Origin::Web(uri) | Origin::Directory(uri) => uri.as_str(),
        Origin::Data(data) => data.uri(),
    };
    MediaPrompt::new(uri, prompt.resource_id.as_deref())
}

fn call_json(call: &Call, live: bool, context: Option<String>) -> CallJson<'_> {
    let given = call.echo.as_deref().map(read_back::<Given<'_>>).unwrap_or_default();
    let rules = &call.rules;
    CallJson {
        context,
        kind: "#microsoft.graph.call",
        etag: etag(call.etag),
        id: call.id,
        state: if live { CallState::Established } else { CallState::Terminated },
        callback_uri: call.callback.url.as_str(),
        my_participant_id: call.my_participant,
        created_date_time: wall_text(call.created, 3),
        media_state: MediaState { kind: "#microsoft.graph.callMediaState", audio: "active" },
        hold_music: CallHoldMusic {
            max_held_participants: rules.max_held,
            default_prompt: call.default_prompt.as_deref().map(prompt_json),
            on_prompt_failure: rules.on_prompt_failure,
            completes_when: rules.completes_when,
            status_case: rules.status_case,
            max_duration: rules.max_duration.map(duration_text),
        },
        is_muted: call.muted.then_some(true),
        direction: given.direction.is_none().then_some("outgoing"),
        given,
    }
}

fn leg_json<'a>(
    leg: &'a Leg,
    local: SocketAddr,
    report: Option<&HoldReport>,
    context: Option<String>,
) -> MediaLeg<'a> {
    let spec = &leg.spec;
    MediaLeg {
        context,
        local_address: local.to_string(),
        remote_address: spec.destination.to_string(),
        rtcp_address: spec.rtcp.map(|address| address.to_string()),
        codec: spec.codec.name(),
        payload_type: spec.payload_type.number(),
        ssrc: spec.numbering.ssrc.0,
        srtp: match &spec.protection {
            Protection::Srtp(keying) => Some(Srtp { suite: keying.send.suite().name() }),
            Protection::Plain | Protection::Awaited => None,
        },
        direction: if leg.receives { Direction::SendOnly } else { Direction::Inactive },
        transport: leg.transport.as_deref().map(|transport| transport_json(transport, spec)),
        counters: hold_report(&report.copied().unwrap_or_default(), None),
        sdp: leg.answer.as_ref().map(|answer| &*answer.text),
    }
}

fn transport_json(transport: &Transport, spec: &LegSpec) -> TransportJson {
    let (state, remote) = match &transport.state {
        TransportState::New { .. } => (TransportWord::New, None),
        TransportState::Checking => (TransportWord::Checking, None),
        TransportState::Connected(remote) => (TransportWord::Connected, Some(remote.to_string())),
        TransportState::Disconnected(_) => (TransportWord::Disconnected, None),
    };
    let suite = match &spec.protection {
        Protection::Srtp(keying) => Some(keying.send.suite().name()),
        Protection::Plain | Protection::Awaited => None,
    };
    let is_told = transport.is_over() || matches!(transport.state, TransportState::New { refused: Some(_) });
    let reason = transport.why_silent().filter(|_| is_told).map(|why| why.to_string());
    TransportJson { state, remote, suite, reason }
}

/// Who a participant is of whom nothing was told.
const NOBODY: &str = r##"{"@odata.type":"#microsoft.graph.participantInfo","identity":{"@odata.type":"#microsoft.graph.identitySet"}}"##;

pub(super) fn participant_json(participant: &Participant) -> ParticipantJson<'_> {
    let held = participant.hold.is_some();
    ParticipantJson {
        context: None,
        kind: "#microsoft.graph.participant",
        odata_id: None,
        etag: None,
        id: participant.id,
        info: read_back(participant.info.as_deref().unwrap_or(NOBODY)),
        is_in_lobby: false,
        is_muted: participant.muted,
        metadata: participant.metadata.as_deref(),
        media_streams: [MediaStream {
            kind: "#microsoft.graph.mediaStream",
            media_type: "audio",
            label: "main-audio",
            source_id: participant.number.to_string(),
            direction: if held { Direction::Inactive } else { Direction::SendReceive },
            server_muted: false,
        }],
        hold_music: participant_hold(participant),
        media_leg: None,
    }
}

fn participant_hold(participant: &Participant) -> ParticipantHoldMusic<'_> {
    if let Some(hold) = &participant.hold {
        return ParticipantHoldMusic {
            state: if hold.heard.is_some() { HoldState::Playing } else { HoldState::Starting },
            operation_id: Some(hold.operations.last().copied()),
            source: Some(hold.kind),
            since: Some(wall_text(hold.since, 6)),
            ended_by: None,
            listeners: listeners(participant),
            report: Some(hold_report(&hold.report.unwrap_or_default(), hold.reason.as_deref())),
        };
    }
    let past = participant.past.as_ref();
    ParticipantHoldMusic {
        state: HoldState::None,
        operation_id: past.map(|past| Some(past.operation)),
        source: past.map(|past| past.heard),
        since: past.map(|past| wall_text(past.since, 6)),
        ended_by: past.map(|past| past.ended_by),
        listeners: listeners(participant),
        report: past.map(|past| hold_report(&past.report.unwrap_or_default(), past.reason.as_deref())),
    }
}

fn listeners(participant: &Participant) -> Option<u8> {
    (participant.listeners > 0).then_some(participant.listeners)
}

/// `info` of a participant who was invited by its `identity`, an object in JSON.
pub(crate) fn participant_info(identity: &str) -> Box<str> {
    format!(r##"{{"@odata.type":"#microsoft.graph.participantInfo","identity":{identity}}}"##).into()
}

/// What was kept of a customer's object as text.
fn read_back<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).expect("it was written from an object")
}

pub(super) fn text(json: &impl Serialize) -> String {
    // An answer has some hundred bytes; growing to them in steps costs more than writing them.
    let mut text = Vec::with_capacity(1024);
    serde_json::to_writer(&mut text, json).expect("our own values can always be written as JSON");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// An entity as its members.
fn members(entity: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(entity) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("an entity is written as an object, not as {other:?}"),
    }
}

/// A version as OData writes it: weak, since counters change without a new one.
pub(super) fn etag(version: u64) -> String {
    format!("W/\"{version}\"")
}

/// Writes answers whose URLs begin with `base`.
pub(crate) struct Writer<'a> {
    pub(crate) base: &'a str,
}

impl Writer<'_> {
    pub(super) fn context(&self, path: &str) -> String {
        [self.base, "/$metadata#communications/", path].concat()
    }

    pub(super) fn entity(
        status: u16,
        location: Option<String>,
        entity: &impl Serialize,
        query: &Query,
    ) -> Answer {
        Answer { status, location, body: Some(text(&select(members(entity), query))) }
    }

    pub(super) fn collection<T: Serialize>(
        &self,
        path: &str,
        context: &str,
        total: usize,
        query: &Query,
        mut entity: impl FnMut(usize) -> T,
    ) -> Answer {
        if query.only_count {
            return Answer { status: 200, location: None, body: Some(total.to_string()) };
        }
        let (range, next) = query.page(total);
        let collection = Collection {
            context: self.context(context),
            count: query.count.then_some(total),
            next: next.map(|next| format!("{}/communications/{path}?{next}", self.base)),
            value: range.map(|index| select(members(&entity(index)), query)).collect(),
        };
        Answer { status: 200, location: None, body: Some(text(&collection)) }
    }

    /// A call by itself.
    pub(crate) fn call(&self, status: u16, call: &Call, query: &Query) -> Answer {
        let location = (status == 201).then(|| format!("{}/communications/calls/{}", self.base, call.id));
        let context = self.context("calls/$entity");
        Self::entity(status, location, &call_json(call, true, Some(context)), query)
    }

    /// Calls, in their order.
    pub(crate) fn calls(&self, calls: &[&Call], query: &Query) -> Answer {
        self.collection("calls", "calls", calls.len(), query, |index| call_json(calls[index], true, None))
    }

    /// A participant by itself, with its leg; `locals` are what senders send from.
    pub(crate) fn participant(
        &self,
        status: u16,
        call: &Call,
        participant: &Participant,
        locals: &[SocketAddr],
        query: &Query,
    ) -> Answer {
        let path = format!("{}/communications/calls/{}/participants/{}", self.base, call.id, participant.id);
        let leg = participant.leg.as_ref();
        let json = ParticipantJson {
            context: Some(self.context(&format!("calls('{}')/participants/$entity", call.id))),
            etag: Some(etag(call.etag)),
            media_leg: leg.map(|leg| leg_json(leg, locals[leg.spec.sender], participant.report(), None)),
            ..participant_json(participant)
        };
        Self::entity(status, (status == 201).then_some(path), &json, query)
    }

    /// Participants of a call, in their order.
    pub(crate) fn participants(&self, call: &Call, query: &Query) -> Answer {
        let (path, context) =
            (format!("calls/{}/participants", call.id), format!("calls('{}')/participants", call.id));
        let roster = call.roster();
        self.collection(&path, &context, roster.len(), query, |index| ParticipantJson {
            etag: Some(etag(call.etag)),
            ..participant_json(roster[index])
        })
    }

    /// The leg of a participant, which is sent from `local`.
    pub(crate) fn leg(
        &self,
        call: CallId,
        participant: &Participant,
        leg: &Leg,
        local: SocketAddr,
    ) -> Answer {
        let context = self.context(&format!("calls('{call}')/participants('{}')/mediaLeg", participant.id));
        let json = leg_json(leg, local, participant.report(), Some(context));
        Self::entity(200, None, &json, &Query::default())
    }

    /// A session of WHEP that was made below the endpoint `of`, with the answer to its offer.
    pub(crate) fn session(
        &self,
        call: CallId,
        participant: ParticipantId,
        of: &str,
        name: &str,
        sdp: &str,
    ) -> Answer {
        let participants = format!("{}/communications/calls/{call}/participants", self.base);
        let location = format!("{participants}/{participant}/{of}/{name}");
        Answer { status: 201, location: Some(location), body: Some(sdp.to_owned()) }
    }

    /// An operation as the answer to the action that made it.
    pub(crate) fn accepted(&self, call: CallId, operation: &Operation, case: StatusCase) -> Answer {
        let (call, id) = (call.text(), operation.id.text());
        let context =
            [self.base, "/$metadata#communications/calls('", &*call, "')/operations/$entity"].concat();
        let location = [self.base, "/communications/calls/", &*call, "/operations/", &*id].concat();
        let body = text(&operation_entity(operation, case, Some(context)));
        Answer { status: operation.kind.answered_with(), location: Some(location), body: Some(body) }
    }

    /// An operation by itself.
    pub(crate) fn operation(&self, call: &Call, operation: &Operation, query: &Query) -> Answer {
        let context = self.context(&format!("calls('{}')/operations/$entity", call.id));
        let json = operation_entity(operation, call.rules.status_case, Some(context));
        Self::entity(200, None, &OperationJson { etag: Some(etag(call.etag)), ..json }, query)
    }

    /// Operations of a call, in their order.
    pub(crate) fn operations(&self, call: &Call, operations: &[&Operation], query: &Query) -> Answer {
        let (path, context) =
            (format!("calls/{}/operations", call.id), format!("calls('{}')/operations", call.id));
        self.collection(&path, &context, operations.len(), query, |index| OperationJson {
            etag: Some(etag(call.etag)),
            ..operation_entity(operations[index], call.rules.status_case, None)
        })
    }
}

/// The members that `$select` names; annotations stay.
fn select(mut json: Map<String, Value>, query: &Query) -> Map<String, Value> {
    if let Some(names) = &query.select {
        json.retain(|name, _| {
            name.starts_with('@')
                || names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name) || wanted == "*")
        });
    }
    json
}

/// Whether a filter lets an operation through.
pub(crate) fn matches(operation: &Operation, query: &Query) -> bool {
    let (status, context) = (operation.status(), operation.client_context.as_deref());
    query.filter.iter().all(|condition| condition.holds(status, context))
}

/// The wire form of a numbering: what was right at a moment of the calendar.
pub(crate) fn wire_state(numbering: Numbering, at: WallTime, protection: &Protection) -> RtpState {
    let Numbering { ssrc, sequence, timestamp, at: _, rollover_counter, srtcp_index } = numbering;
    let is_protected = *protection != Protection::Plain;
    RtpState {
        ssrc,
        sequence,
        timestamp,
        at,
        rollover_counter: is_protected.then_some(rollover_counter),
        srtcp_index: is_protected.then_some(srtcp_index),
    }
}
