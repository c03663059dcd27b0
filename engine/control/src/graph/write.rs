//! Our values -> JSON as Graph prints it: entities for answers, and the bodies of notifications.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use holdmusic_media::{HoldReport, RtpState, WallTime};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Answer,
    query::Query,
    words::{StatusCase, wall_text},
};
use crate::{
    call::Call,
    cause::PromptFailure,
    id::{CallId, OperationId},
    operation::{HoldFacts, Operation, OperationKind, ResultInfo, Status},
    participant::{Leg, Participant},
    prompt::Origin,
};

#[derive(Serialize)]
pub(super) struct OperationJson<'a> {
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(rename = "@odata.type")]
    kind: &'a str,
    #[serde(rename = "@odata.id", skip_serializing_if = "Option::is_none")]
    pub(super) odata_id: Option<&'a str>,
    #[serde(rename = "@odata.etag", skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    id: OperationId,
    status: &'a str,
    #[serde(rename = "clientContext", skip_serializing_if = "Option::is_none")]
    client_context: Option<&'a str>,
    // `null` once the operation is over without one, absent before: as in Graph's samples.
    #[serde(rename = "resultInfo", skip_serializing_if = "Option::is_none")]
    result: Option<Option<ResultJson<'a>>>,
    #[serde(rename = "holdMusic", skip_serializing_if = "Option::is_none")]
    hold: Option<Value>,
}

#[derive(Serialize)]
pub(super) struct ResultJson<'a> {
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    code: u32,
    subcode: u32,
    message: &'a str,
}

impl<'a> From<&'a ResultInfo> for ResultJson<'a> {
    fn from(result: &'a ResultInfo) -> Self {
        let ResultInfo { code, subcode, message } = result;
        Self { kind: "#microsoft.graph.resultInfo", code: *code, subcode: *subcode, message }
    }
}

pub(super) fn operation_json(operation: &Operation, case: StatusCase) -> OperationJson<'_> {
    OperationJson {
        context: None,
        kind: operation.kind.odata_type(),
        odata_id: None,
        etag: None,
        id: operation.id,
        status: case.status(operation.status()),
        client_context: operation.client_context.as_deref(),
        result: operation.is_over().then(|| operation.result().map(ResultJson::from)),
        hold: None,
    }
}

fn millis(nanos: u64) -> Value {
    // Microseconds are as fine as the sender's clock means anything.
    #[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
    let millis = (nanos / 1000) as f64 / 1000.0;
    json!(millis)
}

fn hold_facts(facts: &HoldFacts, kind: OperationKind) -> Option<Value> {
    let mut hold = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            hold.insert(name.to_owned(), value);
        }
    };
    put("firstPacketLatencyMs", facts.first_packet_latency_ns.map(millis));
    put("promptReadyMs", facts.prompt_ready_ns.map(millis));
    put("source", facts.heard.map(|heard| json!(heard.word())));
    put("gainDb", facts.gain_db.map(|gain| json!((gain * 100.0).round() / 100.0)));
    put("reason", facts.reason.as_deref().map(prompt_reason));
    put("rtpState", facts.stopped.as_ref().map(|stopped| rtp_state(&stopped.rtp_state)));
    put("report", facts.stopped.as_ref().map(|stopped| hold_report(&stopped.report, None)));
    if kind == OperationKind::StopHoldMusic {
        put("nothingToStop", Some(json!(facts.nothing_to_stop)));
    }
    (!hold.is_empty()).then_some(Value::Object(hold))
}

fn rtp_state(state: &RtpState) -> Value {
    json!({
        "ssrc": state.ssrc.0,
        "sequenceNumber": state.sequence.0,
        "timestamp": state.timestamp.0,
        "at": wall_text(state.at, 6),
    })
}

pub(super) fn prompt_reason(failure: &PromptFailure) -> Value {
    json!({ "cause": failure.cause.word(), "message": failure.message })
}

fn hold_report(report: &HoldReport, reason: Option<&PromptFailure>) -> Value {
    let duration = match (report.first_sent, report.last_sent) {
        (Some(first), Some(last)) => last.since(first).as_nanos(),
        _ => 0,
    };
    let mut json = json!({
        "packets": report.packets,
        "bytes": report.payload_bytes,
        "durationMs": millis(u64::try_from(duration).unwrap_or(u64::MAX)),
        "lateTicks": report.late_ticks,
        "skippedTicks": report.skipped_ticks,
        "starvedTicks": report.starved_ticks,
        "sendErrors": report.send_errors,
        "longestGapMs": millis(report.longest_gap_ns),
        "defaultMusicMs": u64::from(report.default_music_packets) * u64::from(holdmusic_codecs::FRAME_MS),
    });
    if let Some(quality) = report.quality {
        json["fractionLost"] = json!(f64::from(quality.fraction_lost) / 256.0);
        json["packetsLost"] = json!(quality.cumulative_lost);
        json["jitterMs"] = millis(u64::from(quality.jitter_us) * 1000);
        json["roundTripMs"] =
            quality.round_trip_us.map_or(Value::Null, |micros| millis(u64::from(micros) * 1000));
    }
    if let Some(reason) = reason {
        json["reason"] = prompt_reason(reason);
    }
    json
}

fn duration_text(duration: Duration) -> String {
    format!("PT{}S", duration.as_secs_f64())
}

fn prompt_json(prompt: &crate::prompt::Prompt) -> Value {
    let uri = match &prompt.origin {
        Origin::Web(uri) | Origin::Directory(uri) => uri.as_str(),
        Origin::Data(data) => data.uri(),
    };
    json!({
        "@odata.type": "#microsoft.graph.mediaPrompt",
        "mediaInfo": {
            "@odata.type": "#microsoft.graph.mediaInfo",
            "uri": uri,
            "resourceId": prompt.resource_id,
        },
    })
}

fn call_json(call: &Call, live: bool) -> Map<String, Value> {
    let mut json = call.echo.as_deref().map(object).unwrap_or_default();
    let rules = &call.rules;
    let mut put = |name: &str, value: Value| {
        json.insert(name.to_owned(), value);
    };
    put("@odata.type", json!("#microsoft.graph.call"));
    put("id", json!(call.id));
    put("state", json!(if live { "established" } else { "terminated" }));
    put("callbackUri", json!(&*call.callback));
    put("myParticipantId", json!(call.my_participant));
    put("createdDateTime", json!(wall_text(call.created, 3)));
    put("mediaState", json!({ "@odata.type": "#microsoft.graph.callMediaState", "audio": "active" }));
    put(
        "holdMusic",
        json!({
            "maxHeldParticipants": rules.max_held,
            "defaultPrompt": call.default_prompt.as_deref().map(prompt_json),
            "onPromptFailure": rules.on_prompt_failure.word(),
            "completesWhen": rules.completes_when.word(),
            "statusCase": rules.status_case.word(),
            "maxDuration": rules.max_duration.map(duration_text),
        }),
    );
    json.entry("direction").or_insert_with(|| json!("outgoing"));
    json
}

fn leg_json(leg: &Leg, local: SocketAddr, report: Option<&HoldReport>) -> Map<String, Value> {
    let spec = &leg.spec;
    let Value::Object(mut json) = json!({
        "localAddress": local.to_string(),
        "remoteAddress": spec.destination.to_string(),
        "rtcpAddress": spec.rtcp.map(|address| address.to_string()),
        "codec": spec.codec.name(),
        "payloadType": spec.payload_type.number(),
        "ssrc": spec.numbering.ssrc.0,
        "direction": if leg.receives { "sendOnly" } else { "inactive" },
        "counters": hold_report(&report.copied().unwrap_or_default(), None),
    }) else {
        unreachable!("an object was written")
    };
    if let Some(answer) = &leg.answer {
        json.insert("sdp".to_owned(), json!(answer.text));
    }
    json
}

pub(super) fn participant_json(participant: &Participant) -> Map<String, Value> {
    let held = participant.hold.is_some();
    let info = participant.info.as_deref().map_or_else(
        || {
            json!({
                "@odata.type": "#microsoft.graph.participantInfo",
                "identity": { "@odata.type": "#microsoft.graph.identitySet" },
            })
        },
        |info| Value::Object(object(info)),
    );
    let Value::Object(json) = json!({
        "@odata.type": "#microsoft.graph.participant",
        "id": participant.id,
        "info": info,
        "isInLobby": false,
        "isMuted": false,
        "metadata": participant.metadata,
        "mediaStreams": [{
            "@odata.type": "#microsoft.graph.mediaStream",
            "mediaType": "audio",
            "label": "main-audio",
            "sourceId": participant.number.to_string(),
            "direction": if held { "inactive" } else { "sendReceive" },
            "serverMuted": false,
        }],
        "holdMusic": participant_hold(participant),
    }) else {
        unreachable!("an object was written")
    };
    json
}

fn participant_hold(participant: &Participant) -> Value {
    if let Some(hold) = &participant.hold {
        let report = hold.report.unwrap_or_default();
        return json!({
            "state": if hold.heard.is_some() { "playing" } else { "starting" },
            "operationId": hold.operations.last(),
            "source": hold.kind.map(|heard| heard.word()),
            "since": wall_text(hold.since, 6),
            "report": hold_report(&report, hold.reason.as_deref()),
        });
    }
    match &participant.past {
        None => json!({ "state": "none" }),
        Some(past) => json!({
            "state": "none",
            "operationId": past.operation,
            "source": past.heard.map(|heard| heard.word()),
            "since": wall_text(past.since, 6),
            "endedBy": past.ended_by.word(),
            "report": hold_report(&past.report.unwrap_or_default(), past.reason.as_deref()),
        }),
    }
}

/// What was kept of a customer's object as text.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("it was written from an object")
}

pub(super) fn text(json: &impl Serialize) -> String {
    serde_json::to_string(json).expect("our own values can always be written as JSON")
}

/// Writes answers whose URLs begin with `base`.
pub(crate) struct Writer<'a> {
    pub(crate) base: &'a str,
}

impl Writer<'_> {
    fn context(&self, path: &str) -> String {
        format!("{}/$metadata#communications/{path}", self.base)
    }

    fn entity(
        &self,
        status: u16,
        location: Option<String>,
        context: &str,
        json: Map<String, Value>,
        query: &Query,
    ) -> Answer {
        let mut json = select(json, query);
        json.insert("@odata.context".to_owned(), json!(self.context(context)));
        Answer { status, location, body: Some(text(&json)) }
    }

    fn collection(
        &self,
        path: &str,
        context: &str,
        total: usize,
        query: &Query,
        mut entity: impl FnMut(usize) -> Map<String, Value>,
    ) -> Answer {
        let (range, next) = query.page(total);
        let value: Vec<_> = range.map(|index| select(entity(index), query)).collect();
        let mut json =
            BTreeMap::from([("@odata.context", json!(self.context(context))), ("value", json!(value))]);
        if query.count {
            json.insert("@odata.count", json!(total));
        }
        if let Some(next) = next {
            json.insert("@odata.nextLink", json!(format!("{}/communications/{path}?{next}", self.base)));
        }
        Answer { status: 200, location: None, body: Some(text(&json)) }
    }

    /// A call by itself.
    pub(crate) fn call(&self, status: u16, call: &Call, query: &Query) -> Answer {
        let location = (status == 201).then(|| format!("{}/communications/calls/{}", self.base, call.id));
        self.entity(status, location, "calls/$entity", call_json(call, true), query)
    }

    /// Calls, in their order.
    pub(crate) fn calls(&self, calls: &[&Call], query: &Query) -> Answer {
        self.collection("calls", "calls", calls.len(), query, |index| call_json(calls[index], true))
    }

    /// A participant by itself, with its leg; `locals` are what senders send from.
    pub(crate) fn participant(
        &self,
        status: u16,
        call: CallId,
        participant: &Participant,
        locals: &[SocketAddr],
        query: &Query,
    ) -> Answer {
        let path = format!("{}/communications/calls/{call}/participants/{}", self.base, participant.id);
        let mut json = participant_json(participant);
        if let Some(leg) = &participant.leg {
            json.insert(
                "mediaLeg".to_owned(),
                Value::Object(leg_json(leg, locals[leg.spec.sender], participant.report())),
            );
        }
        let context = format!("calls('{call}')/participants/$entity");
        self.entity(status, (status == 201).then_some(path), &context, json, query)
    }

    /// Participants, in their order.
    pub(crate) fn participants(&self, call: CallId, roster: &[&Participant], query: &Query) -> Answer {
        let (path, context) = (format!("calls/{call}/participants"), format!("calls('{call}')/participants"));
        self.collection(&path, &context, roster.len(), query, |index| participant_json(roster[index]))
    }

    /// The leg of a participant, which is sent from `local`.
    pub(crate) fn leg(
        &self,
        call: CallId,
        participant: &Participant,
        leg: &Leg,
        local: SocketAddr,
    ) -> Answer {
        let context = format!("calls('{call}')/participants('{}')/mediaLeg", participant.id);
        self.entity(200, None, &context, leg_json(leg, local, participant.report()), &Query::default())
    }

    /// An operation as the answer to the action that made it.
    pub(crate) fn accepted(&self, call: CallId, operation: &Operation, case: StatusCase) -> Answer {
        let mut json = operation_json(operation, case);
        json.context = Some(self.context(&format!("calls('{call}')/operations/$entity")));
        json.hold = hold_facts(&operation.facts, operation.kind);
        let location = format!("{}/communications/calls/{call}/operations/{}", self.base, operation.id);
        Answer { status: 202, location: Some(location), body: Some(text(&json)) }
    }

    /// An operation by itself.
    pub(crate) fn operation(
        &self,
        call: CallId,
        operation: &Operation,
        case: StatusCase,
        query: &Query,
    ) -> Answer {
        let context = format!("calls('{call}')/operations/$entity");
        self.entity(200, None, &context, operation_map(operation, case), query)
    }

    /// Operations, in their order.
    pub(crate) fn operations(
        &self,
        call: CallId,
        operations: &[&Operation],
        case: StatusCase,
        query: &Query,
    ) -> Answer {
        let (path, context) = (format!("calls/{call}/operations"), format!("calls('{call}')/operations"));
        self.collection(&path, &context, operations.len(), query, |index| {
            operation_map(operations[index], case)
        })
    }
}

fn operation_map(operation: &Operation, case: StatusCase) -> Map<String, Value> {
    let mut json = operation_json(operation, case);
    json.hold = hold_facts(&operation.facts, operation.kind);
    match serde_json::to_value(&json) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("an operation is written as an object, not as {other:?}"),
    }
}

/// The members that `$select` names; annotations stay.
fn select(mut json: Map<String, Value>, query: &Query) -> Map<String, Value> {
    if let Some(names) = &query.select {
        json.retain(|name, _| {
            name.starts_with('@') || names.iter().any(|wanted| wanted == name || wanted == "*")
        });
    }
    json
}

/// Whether a filter lets an operation through.
pub(crate) fn matches(operation: &Operation, query: &Query) -> bool {
    query.status.is_none_or(|status: Status| operation.status() == status)
        && query
            .client_context
            .as_ref()
            .is_none_or(|context| operation.client_context.as_deref() == Some(context.as_str()))
}

/// The wire form of a numbering: what was right at a moment of the calendar.
pub(crate) fn wire_state(numbering: holdmusic_media::Numbering, at: WallTime) -> RtpState {
    RtpState { ssrc: numbering.ssrc, sequence: numbering.sequence, timestamp: numbering.timestamp, at }
}
