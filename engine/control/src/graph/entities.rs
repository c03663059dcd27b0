//! Entities and their parts as answers and notifications show them: the types that are written as JSON, and of which
//! the OpenAPI document is made. What fills them stands in `write.rs`.
//!
//! The comments on fields are what customers read in the document.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::words::{CallState, Direction, HoldState, Spelled};
use crate::{
    call::{CompletesWhen, OnPromptFailure},
    cause::PromptCause,
    graph::StatusCase,
    id::{CallId, OperationId, ParticipantId},
    participant::{EndedBy, Heard},
};

/// Many entities; `value` is one page of them.
#[derive(Serialize, ToSchema)]
pub(super) struct Collection<T> {
    /// The URL of the description of what `value` holds.
    #[serde(rename = "@odata.context")]
    pub(super) context: String,
    /// With `$count=true`: how many there are on all pages.
    #[serde(rename = "@odata.count", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) count: Option<usize>,
    /// Where the next page is, if there is one.
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = "uri")]
    pub(super) next: Option<String>,
    /// The page.
    pub(super) value: Vec<T>,
}

/// A call of this engine. It is an open type: further members are Graph's own, as they were given.
#[derive(Serialize, ToSchema)]
#[schema(as = call)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallJson<'a> {
    /// The URL of the description of this entity; only where it stands by itself.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) context: Option<String>,
    /// Always `#microsoft.graph.call`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// The version of the call's resources: it rises with every change that is notified.
    #[serde(rename = "@odata.etag")]
    pub(super) etag: String,
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    pub(super) id: CallId,
    /// Where in its life it is.
    pub(super) state: CallState,
    /// Where notifications go.
    #[schema(format = "uri")]
    pub(super) callback_uri: &'a str,
    /// The participant that is the bot itself; it is not listed among the participants.
    #[schema(value_type = String, format = "uuid")]
    pub(super) my_participant_id: ParticipantId,
    /// When it was created, in UTC with milliseconds.
    #[schema(format = "date-time")]
    pub(super) created_date_time: String,
    /// Whether sound can flow.
    pub(super) media_state: MediaState,
    /// How holds behave in this call.
    pub(super) hold_music: CallHoldMusic<'a>,
    /// `true` if the bot has muted itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) is_muted: Option<bool>,
    /// `outgoing` if nothing else was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub(super) direction: Option<&'static str>,
    /// What the customer gave at creation.
    #[serde(flatten)]
    pub(super) given: Given<'a>,
}

/// Members of Graph's call that a bot gives at creation and reads back as they came.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[schema(as = callGiven)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Given<'a> {
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) call_chain_id: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) call_options: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) call_routes: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) chat_info: Option<&'a RawValue>,
    /// As given, or `outgoing`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) direction: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) incoming_context: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) media_config: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) meeting_info: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) requested_modalities: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) source: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) subject: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) targets: Option<&'a RawValue>,
    /// As given.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub(super) tenant_id: Option<&'a RawValue>,
}

/// Whether sound can flow.
#[derive(Serialize, ToSchema)]
#[schema(as = callMediaState)]
pub(super) struct MediaState {
    /// Always `#microsoft.graph.callMediaState`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// Always `active`.
    pub(super) audio: &'static str,
}

/// How holds behave in a call.
#[derive(Serialize, ToSchema)]
#[schema(as = callHoldMusic)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallHoldMusic<'a> {
    /// Participants that may be on hold at the same time.
    pub(super) max_held_participants: usize,
    /// What is heard where nothing else was asked for; `null` is the server's.
    #[schema(required = true)]
    pub(super) default_prompt: Option<MediaPrompt<'a>>,
    /// What happens when a prompt fails.
    pub(super) on_prompt_failure: OnPromptFailure,
    /// When a start operation completes.
    pub(super) completes_when: CompletesWhen,
    /// How `status` of operations is spelled.
    pub(super) status_case: StatusCase,
    /// The longest a hold may last, as a duration of ISO 8601 in seconds; `null` is without end.
    #[schema(required = true, examples("PT1800S"))]
    pub(super) max_duration: Option<String>,
}

/// A prompt: what the customer asked to hear.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaPrompt)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaPrompt<'a> {
    /// Always `#microsoft.graph.mediaPrompt`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// Where it is.
    pub(super) media_info: MediaFacts<'a>,
}

/// Where a prompt is.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaInfo)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaFacts<'a> {
    /// Always `#microsoft.graph.mediaInfo`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// Its address. In the report of a check, query and user information are left out.
    pub(super) uri: &'a str,
    /// The customer's name for its content.
    #[schema(required = true)]
    pub(super) resource_id: Option<&'a str>,
}

/// A participant of a call.
#[derive(Serialize, ToSchema)]
#[schema(as = participant)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParticipantJson<'a> {
    /// The URL of the description of this entity; only where it stands by itself.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) context: Option<String>,
    /// Always `#microsoft.graph.participant`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// Its path; only in notifications.
    #[serde(rename = "@odata.id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) odata_id: Option<String>,
    /// The version of the call's resources: it rises with every change that is notified.
    #[serde(rename = "@odata.etag", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) etag: Option<String>,
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    pub(super) id: ParticipantId,
    /// Who it is, as given at registration.
    #[schema(value_type = Object)]
    pub(super) info: &'a RawValue,
    /// Always `false`: nobody waits in a lobby here.
    pub(super) is_in_lobby: bool,
    /// Whether it was muted.
    pub(super) is_muted: bool,
    /// As given at registration.
    #[schema(required = true)]
    pub(super) metadata: Option<&'a str>,
    /// Its one stream of audio.
    pub(super) media_streams: [MediaStream; 1],
    /// Whether it is on hold, and what it hears.
    pub(super) hold_music: ParticipantHoldMusic<'a>,
    /// Its media path, if it has one; only where the participant stands by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) media_leg: Option<MediaLeg<'a>>,
}

/// A stream of a participant.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaStream)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaStream {
    /// Always `#microsoft.graph.mediaStream`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// Always `audio`.
    pub(super) media_type: &'static str,
    /// Always `main-audio`.
    pub(super) label: &'static str,
    /// Its number within the call.
    pub(super) source_id: String,
    /// `inactive` while the participant is on hold.
    pub(super) direction: Direction,
    /// Whether the server muted it.
    pub(super) server_muted: bool,
}

/// Whether a participant is on hold, what it hears, and how its last hold ended.
#[derive(Serialize, ToSchema)]
#[schema(as = participantHoldMusic)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParticipantHoldMusic<'a> {
    /// Whether it is on hold.
    pub(super) state: HoldState,
    /// The operation that asked for the present music, or for that of the last hold. Absent before the first hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub(super) operation_id: Option<Option<OperationId>>,
    /// Whose music it is. Absent before the first hold, `null` before its first packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Heard>)]
    pub(super) source: Option<Option<Heard>>,
    /// When the music of the hold began, in UTC with microseconds; until its first packet, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = "date-time")]
    pub(super) since: Option<String>,
    /// What ended the last hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) ended_by: Option<EndedBy>,
    /// How many listen in. Absent if nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) listeners: Option<u8>,
    /// What was sent in this hold, or in the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) report: Option<Report<'a>>,
}

/// Who was invited.
#[derive(Serialize, ToSchema)]
#[schema(as = invitationParticipantInfo)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invitation<'a> {
    /// Always `#microsoft.graph.invitationParticipantInfo`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// The participant that was registered.
    #[schema(value_type = String, format = "uuid")]
    pub(super) participant_id: ParticipantId,
    /// Who it is, as given.
    #[schema(value_type = Object)]
    pub(super) identity: &'a RawValue,
}

/// The media path of a participant.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaLeg)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaLeg<'a> {
    /// The URL of the description of this entity; only where it stands by itself.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) context: Option<String>,
    /// Where packets come from: IP address and port.
    pub(super) local_address: String,
    /// Where packets go: IP address and port.
    pub(super) remote_address: String,
    /// Where RTCP goes: IP address and port; `null` is nowhere.
    #[schema(required = true)]
    pub(super) rtcp_address: Option<String>,
    /// The codec's name.
    pub(super) codec: &'static str,
    /// The RTP payload type.
    #[schema(maximum = 127)]
    pub(super) payload_type: u8,
    /// The RTP source identifier, the same for the life of the leg.
    #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
    pub(super) ssrc: u32,
    /// How packets are protected; absent if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) srtp: Option<Srtp>,
    /// `sendOnly`, or `inactive` where the participant wants to hear nothing.
    pub(super) direction: Direction,
    /// How the peer is reached, where that is by ICE and DTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) transport: Option<TransportJson>,
    /// What was sent in the present hold, or in the last one.
    pub(super) counters: Report<'a>,
    /// The answer, where the leg was offered as SDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) sdp: Option<&'a str>,
}

/// How the peer of a WebRTC leg is reached.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaLegTransport)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransportJson {
    /// How far it is.
    pub(super) state: TransportWord,
    /// The address that the peer has chosen; only while it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) remote: Option<String>,
    /// What packets are protected with, as SDES names it; only while it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) suite: Option<&'static str>,
    /// Why it is not connected any more, or cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<String>,
}

/// How far the transport of a WebRTC leg is.
#[derive(Serialize, ToSchema)]
#[schema(as = transportState)]
#[serde(rename_all = "camelCase")]
pub(super) enum TransportWord {
    /// The peer is waited for.
    New,
    /// Its ICE checks come.
    Checking,
    /// It can hear.
    Connected,
    /// It cannot any more, or never came.
    Disconnected,
}

/// What was sent during a hold, and what its receiver reported.
#[derive(PartialEq, Serialize, ToSchema)]
#[schema(as = holdReport)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    /// RTP packets handed to the network.
    pub(super) packets: u64,
    /// Bytes of payload in them.
    pub(super) bytes: u64,
    /// From the first packet to the last, in milliseconds.
    pub(super) duration_ms: f64,
    /// Packets that left more than 5 ms after their time.
    pub(super) late_ticks: u32,
    /// Packets left out because their time had passed.
    pub(super) skipped_ticks: u32,
    /// Packets without music because none was there yet.
    pub(super) starved_ticks: u32,
    /// Packets that the network refused.
    pub(super) send_errors: u32,
    /// The longest time between two packets, in milliseconds.
    pub(super) longest_gap_ms: f64,
    /// How much of it was default music, in milliseconds.
    pub(super) default_music_ms: u64,
    /// Of the receiver's last report: the share of packets lost since the report before, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) fraction_lost: Option<f64>,
    /// Of the receiver's last report: packets lost; negative when duplicates came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) packets_lost: Option<i32>,
    /// Of the receiver's last report: interarrival jitter, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) jitter_ms: Option<f64>,
    /// Of the receiver's last report: the round trip, in milliseconds; `null` while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(super) round_trip_ms: Option<Option<f64>>,
    /// Why a prompt of this hold is not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<Reason<'a>>,
}

/// Why a prompt is not heard.
#[derive(PartialEq, Serialize, ToSchema)]
#[schema(as = promptReason)]
pub(super) struct Reason<'a> {
    /// For programs: which cause.
    pub(super) cause: PromptCause,
    /// For people: what was expected, what was found.
    pub(super) message: &'a str,
}

/// The RTP values that the next packet will carry.
#[derive(PartialEq, Serialize, ToSchema)]
#[schema(as = rtpState)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// The source identifier.
    #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
    pub(super) ssrc: u32,
    /// The next sequence number.
    #[schema(maximum = 65_535)]
    pub(super) sequence_number: u16,
    /// The timestamp that is right at `at`.
    #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
    pub(super) timestamp: u32,
    /// The moment for which `timestamp` is right, in UTC with microseconds.
    #[schema(format = "date-time")]
    pub(super) at: String,
    /// How often the sequence number has come round (RFC 3711); only where SRTP is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, maximum = 4_294_967_295_u64, nullable = false, required = false)]
    pub(super) rollover_counter: Option<u32>,
    /// The index of the next SRTCP packet (RFC 3711); only where SRTP is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, maximum = 2_147_483_647_u64, nullable = false, required = false)]
    pub(super) srtcp_index: Option<u32>,
}

/// How a media path is protected; never with what key.
#[derive(Serialize, ToSchema)]
#[schema(as = mediaLegSrtp)]
pub(super) struct Srtp {
    /// The suite, as SDES calls it (RFC 4568).
    pub(super) suite: &'static str,
}

/// An operation: something that was asked for, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = commsOperation)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationJson<'a> {
    /// The URL of the description of this entity; only where it stands by itself.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) context: Option<String>,
    /// Which kind of operation.
    #[serde(rename = "@odata.type")]
    #[schema(examples("#microsoft.graph.startHoldMusicOperation"))]
    pub(super) kind: &'a str,
    /// Its path; only in notifications.
    #[serde(rename = "@odata.id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) odata_id: Option<&'a str>,
    /// The version of the call's resources: it rises with every change that is notified.
    #[serde(rename = "@odata.etag", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) etag: Option<String>,
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    pub(super) id: OperationId,
    /// Where in its life it is, spelled as the call wants it.
    pub(super) status: Spelled,
    /// As given with the request, to the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) client_context: Option<&'a str>,
    // `null` once the operation is over without one, absent before: as in Graph's samples.
    /// How it ended. Absent before the end; `null` where the answer to the request was the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ResultJson<'a>>)]
    pub(super) result_info: Option<Option<ResultJson<'a>>>,
    /// Who was invited; only of an invitation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) participants: Option<Vec<Invitation<'a>>>,
    /// What became of the music.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) hold_music: Option<OperationHoldMusic<'a>>,
}

/// What an operation tells of the music.
#[derive(Default, PartialEq, Serialize, ToSchema)]
#[schema(as = operationHoldMusic)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationHoldMusic<'a> {
    /// From the acceptance of the request to the first packet of what was asked for, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) first_packet_latency_ms: Option<f64>,
    /// From the acceptance of the request until the prompt could be played, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) prompt_ready_ms: Option<f64>,
    /// Whose music it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) source: Option<Heard>,
    /// The gain that the recording is played with, in dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) gain_db: Option<f64>,
    /// Why what was asked for is not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<Reason<'a>>,
    /// Of a stop: how the stream can be gone on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) rtp_state: Option<State>,
    /// Of a stop: what was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) report: Option<Report<'a>>,
    /// Of a stop: whether there was no hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) nothing_to_stop: Option<bool>,
}

/// How an operation or a call ended.
#[derive(Serialize, ToSchema)]
#[schema(as = resultInfo)]
pub(super) struct ResultJson<'a> {
    /// Always `#microsoft.graph.resultInfo`.
    #[serde(rename = "@odata.type")]
    pub(super) kind: &'static str,
    /// 2xx: all went well; 4xx: not, for a reason that the customer can change; 5xx: not, for a reason of ours.
    pub(super) code: u32,
    /// The detail; 0 when all went well.
    pub(super) subcode: u32,
    /// For people.
    pub(super) message: &'a str,
}
