//! What stands in the console's overview: not Graph's shapes but short ones, without what a customer gave at length and
//! without secrets. A row is one line: its name, a space, and an object in JSON.

use std::{fmt::Write as _, net::SocketAddr};

use holdmusic_media::{Now, SourceId};
use serde::{Deserialize, Serialize};

use super::{
    Answer,
    entities::{Reason, Report},
    errors::shorten,
    words::{Direction, HoldState, StatusCase, wall_text},
    write::hold_report,
};
use crate::{
    call::Call,
    guard::redact,
    id::{CallId, OperationId, ParticipantId},
    operation::Operation,
    participant::{EndedBy, Heard, Leg, Participant},
    prompt::{DEFAULT_SOURCE, Prompt, SourceFacts},
};

/// The longest `info` of a participant that is looked into for a name, in bytes; Graph's samples have some hundred.
const INFO_READ: usize = 4 << 10;

/// Characters of an address that are shown: of a long one its beginning, which says where, and its end, which says what.
const ADDRESS_SHOWN: usize = 160;

/// Rows as they are written one after the other.
pub(crate) struct OverviewRows<'a> {
    now: Now,
    locals: &'a [SocketAddr],
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TotalsRow {
    calls: u32,
    held: u32,
    preparing: u32,
    calls_shown: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallRow {
    id: CallId,
    number: u64,
    created_date_time: String,
    callback_uri: String,
    is_muted: bool,
    max_held_participants: usize,
    default_prompt: Option<String>,
    participants: usize,
    held: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ParticipantRow<'a> {
    id: ParticipantId,
    call: CallId,
    number: u64,
    name: Option<String>,
    is_muted: bool,
    leg: Option<LegRow>,
    state: HoldState,
    operation_id: Option<OperationId>,
    source: Option<Heard>,
    prompt: Option<String>,
    plays: Option<String>,
    since: Option<String>,
    ended_by: Option<EndedBy>,
    report: Option<Report<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LegRow {
    remote_address: String,
    local_address: Option<String>,
    codec: &'static str,
    payload_type: u8,
    ssrc: u32,
    direction: Direction,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationRow<'a> {
    id: OperationId,
    call: CallId,
    participant: ParticipantId,
    kind: &'static str,
    status: &'static str,
    client_context: Option<&'a str>,
    accepted_date_time: String,
    result: Option<ResultRow<'a>>,
    first_packet_latency_ms: Option<f64>,
    prompt_ready_ms: Option<f64>,
    source: Option<Heard>,
    gain_db: Option<f64>,
    reason: Option<Reason<'a>>,
}

#[derive(Serialize)]
struct ResultRow<'a> {
    code: u32,
    subcode: u32,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PromptRow<'a> {
    uri: Option<String>,
    resource_id: Option<String>,
    is_ready: bool,
    seconds: Option<f64>,
    format: Option<&'a str>,
    gain_db: Option<f64>,
    bytes: Option<u64>,
    holds: usize,
}

/// What `info` may say of who somebody is.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    identity: Option<Identities>,
}

#[derive(Deserialize)]
struct Identities {
    user: Option<Named>,
    phone: Option<Named>,
    application: Option<Named>,
    device: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    display_name: Option<String>,
    id: Option<String>,
}

impl<'a> OverviewRows<'a> {
    /// None yet; `locals` are what senders send from.
    pub(crate) fn new(now: Now, locals: &'a [SocketAddr]) -> Self {
        Self { now, locals, text: String::with_capacity(16 << 10) }
    }

    /// How much there is in all.
    pub(crate) fn totals(&mut self, calls: u32, held: u32, preparing: u32, calls_shown: usize) {
        self.row("totals", &"", &TotalsRow { calls, held, preparing, calls_shown });
    }

    /// A call.
    pub(crate) fn call(&mut self, call: &Call) {
        let row = CallRow {
            id: call.id,
            number: call.number,
            created_date_time: wall_text(call.created, 3),
            callback_uri: shown(redact(&call.callback.url)),
            is_muted: call.muted,
            max_held_participants: call.rules.max_held,
            default_prompt: call.default_prompt.as_deref().map(|prompt| shown(prompt.origin.redacted())),
            participants: call.participants.len(),
            held: call.held,
        };
        self.row("call/", &call.id, &row);
    }

    /// Somebody in a call, and what prompt `plays` for them, if it is one and not the built-in music.
    pub(crate) fn participant(&mut self, call: &Call, participant: &Participant, plays: Option<&Prompt>) {
        let leg = participant.leg.as_ref().map(|leg| leg_row(leg, self.locals));
        let (hold, past) = (participant.hold.as_deref(), participant.past.as_deref());
        let named = ParticipantRow {
            id: participant.id,
            call: call.id,
            number: participant.number,
            name: participant.info.as_deref().and_then(name_in),
            is_muted: participant.muted,
            leg,
            state: HoldState::None,
            operation_id: None,
            source: None,
            prompt: None,
            plays: None,
            since: None,
            ended_by: None,
            report: None,
        };
        let row = match (hold, past) {
            (Some(hold), _) => ParticipantRow {
                state: if hold.heard.is_some() { HoldState::Playing } else { HoldState::Starting },
                operation_id: hold.operations.last().copied(),
                source: hold.kind,
                prompt: hold.asked.as_deref().map(|prompt| shown(prompt.origin.redacted())),
                plays: plays.map(|prompt| shown(prompt.origin.redacted())),
                since: Some(wall_text(hold.since, 3)),
                report: Some(hold_report(&hold.report.unwrap_or_default(), hold.reason.as_deref())),
                ..named
            },
            (None, Some(past)) => ParticipantRow {
                operation_id: Some(past.operation),
                source: past.heard,
                since: Some(wall_text(past.since, 3)),
                ended_by: Some(past.ended_by),
                report: Some(hold_report(&past.report.unwrap_or_default(), past.reason.as_deref())),
                ..named
            },
            (None, None) => named,
        };
        self.row("participant/", &participant.id, &row);
    }

    /// What was asked for in a call.
    pub(crate) fn operation(&mut self, call: CallId, operation: &Operation) {
        let facts = &operation.facts;
        let millis = |nanos: u64| (nanos / 1000) as f64 / 1000.0;
        let result = operation.result();
        let row = OperationRow {
            id: operation.id,
            call,
            participant: operation.participant,
            kind: operation
                .kind
                .odata_type()
                .trim_start_matches("#microsoft.graph.")
                .trim_end_matches("Operation"),
            status: StatusCase::Camel.status(operation.status()),
            client_context: operation.client_context.as_deref(),
            accepted_date_time: wall_text(self.now.wall_at(operation.accepted), 3),
            result: result.map(|info| ResultRow {
                code: info.code,
                subcode: info.subcode,
                message: &info.message,
            }),
            first_packet_latency_ms: facts.first_packet_latency_ns.map(millis),
            prompt_ready_ms: facts.prompt_ready_ns.map(millis),
            source: facts.heard,
            gain_db: facts.gain_db,
            reason: facts.reason.as_deref().map(Reason::from),
        };
        self.row("operation/", &operation.id, &row);
    }

    /// A source that so many of the holds shown hear; the built-in music has no prompt.
    pub(crate) fn prompt(
        &mut self,
        source: SourceId,
        prompt: Option<&Prompt>,
        facts: Option<&SourceFacts>,
        holds: usize,
    ) {
        let row = PromptRow {
            uri: prompt.map(|prompt| shown(prompt.origin.redacted())),
            resource_id: prompt.and_then(|prompt| prompt.resource_id.as_deref()).map(shorten),
            is_ready: source == DEFAULT_SOURCE || facts.is_some(),
            seconds: facts.map(|facts| facts.seconds),
            format: facts.map(|facts| &*facts.format),
            gain_db: facts.map(|facts| facts.gain_db),
            bytes: facts.map(|facts| facts.bytes),
            holds,
        };
        self.row("prompt/", &source.0, &row);
    }

    fn row(&mut self, kind: &str, id: &dyn std::fmt::Display, row: &impl Serialize) {
        let json = super::write::text(row);
        // Writing to a string does not fail, and JSON has no bare end of a line in it.
        let _ = writeln!(self.text, "{kind}{id} {json}");
    }

    /// All of them.
    pub(crate) fn answer(self) -> Answer {
        Answer { status: 200, location: None, body: Some(self.text) }
    }
}

fn shown(address: String) -> String {
    let length = address.chars().count();
    if length <= ADDRESS_SHOWN {
        return address;
    }
    let half = ADDRESS_SHOWN / 2;
    let (beginning, end) = (address.chars().take(half), address.chars().skip(length - half));
    beginning.chain(['…']).chain(end).collect()
}

fn leg_row(leg: &Leg, locals: &[SocketAddr]) -> LegRow {
    let spec = &leg.spec;
    LegRow {
        remote_address: spec.destination.to_string(),
        local_address: locals.get(spec.sender).map(SocketAddr::to_string),
        codec: spec.codec.name(),
        payload_type: spec.payload_type.number(),
        ssrc: spec.numbering.ssrc.0,
        direction: if leg.receives { Direction::SendOnly } else { Direction::Inactive },
    }
}

/// The first name in `info`, or else the first id.
fn name_in(info: &str) -> Option<String> {
    if info.len() > INFO_READ {
        return None;
    }
    let Identities { user, phone, application, device } = serde_json::from_str::<Info>(info).ok()?.identity?;
    let all = [user, phone, application, device].map(|one| one.map(|one| (one.display_name, one.id)));
    let names = all.iter().flatten().filter_map(|(name, _)| name.as_deref());
    let ids = all.iter().flatten().filter_map(|(_, id)| id.as_deref());
    names.chain(ids).find(|name| !name.trim().is_empty()).map(shorten)
}
