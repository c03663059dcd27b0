//! Bodies of requests as the OpenAPI document shows them: JSON Schema of what `read.rs` reads, within the limits that it
//! keeps.
//!
//! Reading is more lenient than any schema can say: comments and trailing commas are forgiven, and words may be in any
//! letter case. Members that are not named here are passed over, and `null` counts as absent.

use holdmusic_codecs::Codec;
use holdmusic_media::Suite;
use serde_json::{Value, json};
use utoipa::openapi::{
    Object, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
    schema::{AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, OneOfBuilder, SchemaType},
};

use super::{
    StatusCase,
    read::{
        LONGEST_DURATION_S, MAX_AUDIENCE, MAX_CONTEXT, MAX_DATA_URI, MAX_HELD, MAX_INVITED, MAX_METADATA,
        MAX_PREFETCH, MAX_PROMPTS, MAX_RESOURCE_ID, MAX_SDP, MAX_SOCKET_ADDRESS, MAX_SRTCP_INDEX,
        MAX_SRTP_KEY, MAX_URI, MAX_WALL, SHORTEST_DURATION_S,
    },
};
use crate::call::{CompletesWhen, OnPromptFailure};

type Named = (&'static str, RefOr<Schema>);

/// Every body, by the name of its schema.
pub(super) fn bodies() -> Vec<Named> {
    vec![
        ("createCall", create_call()),
        ("createCallHoldMusic", call_hold_music()),
        ("createParticipant", create_participant()),
        ("mediaLegOffer", media_leg()),
        ("rtpOffer", rtp()),
        ("putMediaLeg", put_media_leg()),
        ("startHoldMusic", start_hold_music()),
        (
            "stopHoldMusic",
            with_context("What stopHoldMusic is asked with; nothing of it is required.").into(),
        ),
        (
            "clientContext",
            with_context("What mute and unmute are asked with; nothing of it is required.").into(),
        ),
        ("playPrompt", play_prompt()),
        ("cancelMediaProcessing", cancel_media()),
        ("inviteParticipants", invite()),
        ("rtpStateOffer", rtp_state()),
        ("mediaPromptOffer", media_prompt()),
        ("mediaInfoOffer", media_facts()),
        ("promptToCheck", prompt_to_check()),
        ("promptsToPurge", prompts_to_purge()),
    ]
}

fn create_call() -> RefOr<Schema> {
    let described = [
        ("callChainId", "string"),
        ("callOptions", "object"),
        ("callRoutes", "array"),
        ("chatInfo", "object"),
        ("direction", "string"),
        ("incomingContext", "object"),
        ("meetingInfo", "object"),
        ("requestedModalities", "array"),
        ("source", "object"),
        ("subject", "string"),
        ("targets", "array"),
        ("tenantId", "string"),
    ];
    let mut body = object("A call to be made. Any member of Graph's call may be given.")
        .property("@odata.type", odata_type("call"))
        .property("callbackUri", callback())
        .property(
            "holdMusic",
            optional("createCallHoldMusic", "How holds behave, where not as the server has it."),
        )
        .property(
            "mediaConfig",
            object_or_null("Graph's service-hosted media.").property(
                "preFetchMedia",
                ArrayBuilder::new()
                    .schema_type(nullable(Type::Array))
                    .items(reference("mediaInfoOffer"))
                    .max_items(Some(MAX_PREFETCH))
                    .description(Some("Prompts that shall be ready when they are asked for.")),
            ),
        )
        .required("callbackUri")
        .examples([
            json!({ "callbackUri": "https://bot.contoso.com/api/calls" }),
            json!({
                "@odata.type": "#microsoft.graph.call",
                "callbackUri": "https://bot.contoso.com/api/calls",
                "requestedModalities": ["audio"],
                "mediaConfig": { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
                "holdMusic": { "maxHeldParticipants": 10, "onPromptFailure": "fail", "maxDuration": "PT30M" },
            }),
        ]);
    for (name, kind) in described {
        let words = format!("Graph's {name} ({kind}): taken as it is, and given back.");
        body = body.property(name, anything(&words));
    }
    body.into()
}

fn call_hold_music() -> RefOr<Schema> {
    object("How holds behave in a call, where not as the server has it.")
        .property(
            "maxHeldParticipants",
            whole("Participants that may be on hold at the same time.", 1, MAX_HELD),
        )
        .property(
            "defaultPrompt",
            optional("mediaPromptOffer", "What is heard where nothing else was asked for."),
        )
        .property(
            "onPromptFailure",
            word(
                "Whether a prompt that fails is replaced by default music, or fails its operation.",
                &[OnPromptFailure::DefaultMusic.word(), OnPromptFailure::Fail.word()],
            ),
        )
        .property(
            "completesWhen",
            word(
                "When a start operation completes.",
                &[CompletesWhen::MusicStarts.word(), CompletesWhen::MusicEnds.word()],
            ),
        )
        .property(
            "statusCase",
            word(
                "How `status` of operations is spelled: `running`, or `Running`.",
                &[StatusCase::Camel.word(), StatusCase::Pascal.word()],
            ),
        )
        .property("maxDuration", duration())
        .into()
}

/// A duration that is certainly within the limits: its first number is not 0, and none has too many digits.
const DURATION_PATTERN: &str = r"^P([1-9][0-9]?D(T([0-9]{1,3}H)?([0-9]{1,4}M)?([0-9]{1,4}(\.[0-9]{1,9})?S)?)?|T([1-9][0-9]{0,2}H([0-9]{1,4}M)?([0-9]{1,4}(\.[0-9]{1,9})?S)?|[1-9][0-9]{0,4}M([0-9]{1,4}(\.[0-9]{1,9})?S)?|[1-9][0-9]{0,6}(\.[0-9]{1,9})?S))$";

/// Seconds, or a duration of ISO 8601.
fn duration() -> Schema {
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(SHORTEST_DURATION_S))
        .maximum(Some(LONGEST_DURATION_S))
        .description(Some("Seconds."));
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(DURATION_PATTERN))
        .description(Some("A duration of ISO 8601, in days, hours, minutes and seconds."));
    AnyOfBuilder::new()
        .item(seconds)
        .item(text)
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .description(Some(
            "The longest a hold may last, at least a second. Without it there is no such limit.",
        ))
        .examples([json!(1800), json!("PT30M")])
        .build()
        .into()
}

fn create_participant() -> RefOr<Schema> {
    object("A participant to be registered: an extension of this engine.")
        .property("@odata.type", odata_type("participant"))
        .property("mediaLeg", optional("mediaLegOffer", "Its media path. It can also be given later."))
        .property("info", object_or_null("Graph's participantInfo: taken as it is, and given back."))
        .property("metadata", text("Taken as it is, and given back.", MAX_METADATA))
        .examples([json!({
            "info": { "identity": { "user": { "id": "112f7296-5fa4-42ca-bae8-6a692b15d4b8" } } },
            "mediaLeg": { "rtp": { "address": "127.0.0.1:40000", "codec": "opus", "payloadType": 111 } },
        })])
        .into()
}

fn media_leg() -> RefOr<Schema> {
    let sdp = object("An offer; the answer comes back in `sdp`.")
        .property(
            "sdp",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .max_length(Some(MAX_SDP))
                .description(Some("SDP (RFC 8866) with one stream of audio that wants to receive.")),
        )
        .property("rtp", nothing())
        .required("sdp");
    let rtp = object("An address and a format, without negotiation.")
        .property("rtp", reference("rtpOffer"))
        .property("sdp", nothing())
        .required("rtp");
    one_of("A media path: either `sdp` or `rtp`.", [sdp, rtp])
}

fn put_media_leg() -> RefOr<Schema> {
    let wrapped = object("As it stands in the body that registers a participant.")
        .property("mediaLeg", reference("mediaLegOffer"))
        .required("mediaLeg");
    let bare = object("").property("mediaLeg", nothing());
    let bare = AllOfBuilder::new().item(reference("mediaLegOffer")).item(bare);
    OneOfBuilder::new()
        .item(bare)
        .item(wrapped)
        .description(Some("A media path, by itself or as the member `mediaLeg`."))
        .examples([json!({ "rtp": { "address": "192.0.2.1:40000", "codec": "opus", "payloadType": 111 } })])
        .into()
}

fn rtp() -> RefOr<Schema> {
    let known = Codec::ALL.iter().filter(|codec| codec.on_the_wire() == **codec);
    let codecs: Vec<_> = known.map(|codec| codec.name()).collect();
    rtp_state_members(object("Where packets go, and in which format."), &[Type::Null])
        .property(
            "address",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .max_length(Some(MAX_SOCKET_ADDRESS))
                .pattern(Some(ADDRESS_PATTERN))
                .description(Some("Where RTP goes: an IP address and a port. The networks are the operator's choice."))
                .examples(["192.0.2.1:40000", "[::1]:40000"]),
        )
        .property(
            "rtcp",
            text("Where RTCP goes: an IP address and a port. Without it, to the same place.", MAX_SOCKET_ADDRESS)
                .pattern(Some(ADDRESS_PATTERN)),
        )
        .property("codec", word("The codec; without it, the first of these.", &codecs))
        .property(
            "payloadType",
            AnyOfBuilder::new().item(between(0, 63)).item(between(96, 127)).description(Some(
                "The RTP payload type. RTCP uses those between (RFC 5761). Required where the codec has none of its own.",
            )),
        )
        .property(
            "srtp",
            object_or_null("What packets are protected with, in both directions; without it RTP is sent as it is.")
                .property("suite", word("The suite, as SDES calls it (RFC 4568, RFC 7714).", &Suite::ALL.map(Suite::name)))
                .property("key", text("Key and salt in base64, as in `a=crypto`.", MAX_SRTP_KEY))
                .required("suite")
                .required("key"),
        )
        .required("address")
        .required("payloadType")
        .into()
}

fn between(least: u64, most: u64) -> ObjectBuilder {
    let (least, most) = (Some(least), Some(most));
    ObjectBuilder::new().schema_type(Type::Integer).minimum(least).maximum(most)
}

fn start_hold_music() -> RefOr<Schema> {
    object("What startHoldMusic is asked with; nothing of it is required.")
        .property(
            "customPrompt",
            optional("mediaPromptOffer", "What is to be heard; without it, default music."),
        )
        .property("clientContext", context())
        .property(
            "holdMusic",
            object_or_null("An extension of this engine.").property(
                "rtpState",
                optional(
                    "rtpStateOffer",
                    "With which numbers the stream goes on; what a stop handed back will do.",
                ),
            ),
        )
        .examples([
            json!({
                "customPrompt": {
                    "@odata.type": "#microsoft.graph.mediaPrompt",
                    "mediaInfo": {
                        "@odata.type": "#microsoft.graph.mediaInfo",
                        "uri": "https://bot.contoso.com/onHold.wav",
                    },
                },
                "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
            }),
            json!({}),
        ])
        .into()
}

fn rtp_state() -> RefOr<Schema> {
    rtp_state_members(object("The RTP values that the next packet will carry."), &[])
        .required("ssrc")
        .required("sequenceNumber")
        .required("timestamp")
        .required("at")
        .into()
}

/// The members of an RTP state; `or_null` says whether those that stand together may be left out.
fn rtp_state_members(object: ObjectBuilder, or_null: &[Type]) -> ObjectBuilder {
    let u32_max = u64::from(u32::MAX);
    let kind = |kind: Type| SchemaType::from_iter([kind].into_iter().chain(or_null.iter().cloned()));
    object
        .property("ssrc", whole("The source identifier.", 0, u32_max).schema_type(kind(Type::Integer)))
        .property(
            "sequenceNumber",
            whole("The sequence number of the next packet.", 0, u64::from(u16::MAX))
                .schema_type(kind(Type::Integer)),
        )
        .property(
            "timestamp",
            whole("The timestamp that is right at `at`.", 0, u32_max).schema_type(kind(Type::Integer)),
        )
        .property(
            "at",
            ObjectBuilder::new()
                .schema_type(kind(Type::String))
                .format(Some(SchemaFormat::Custom("date-time".to_owned())))
                .max_length(Some(MAX_WALL))
                .description(Some("The moment for which `timestamp` is right: RFC 3339, to the microsecond."))
                .examples(["2026-01-31T12:00:00.000000Z"]),
        )
        .property("rolloverCounter", whole("The rollover counter of SRTP (RFC 3711).", 0, u32_max))
        .property("srtcpIndex", whole("The index of SRTCP (RFC 3711).", 0, MAX_SRTCP_INDEX))
}

fn media_prompt() -> RefOr<Schema> {
    object("A prompt: a recording that is to be heard.")
        .property("@odata.type", odata_type("mediaPrompt"))
        .property("mediaInfo", reference("mediaInfoOffer"))
        .required("mediaInfo")
        .into()
}

fn media_facts() -> RefOr<Schema> {
    object("Where a recording is.")
        .property("@odata.type", odata_type("mediaInfo"))
        .property(
            "uri",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some(URI_PATTERN))
                .max_length(Some(MAX_DATA_URI))
                .description(Some(format!(
                    "An absolute URI: `https`, `http` or `data`, or `file` where the operator named a directory. At most \
                     {MAX_URI} bytes, as `data` {MAX_DATA_URI}."
                )))
                .examples(["https://bot.contoso.com/onHold.wav"]),
        )
        .property("resourceId", text("The customer's name for its content.", MAX_RESOURCE_ID))
        .required("uri")
        .into()
}

/// URIs by their schemes, and not by the format `uri`, which is narrower than what is read (the WHATWG's URL standard).
/// Whether a host is one is not for a pattern to say.
const URI_PATTERN: &str = r"^(https?://[^\s/?#]+([/?#]\S*)?|file:///\S*|data:[^\s,;#]*,\S*|data:[^\s,#]*;base64,([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?)$";

/// A URI that notifications may go to.
const WEB_PATTERN: &str = r"^https?://[^\s/?#]+([/?#]\S*)?$";

/// An IP address with a port: RFC 3986's dotted numbers, and RFC 4291's groups within brackets.
const ADDRESS_PATTERN: &str = concat!(
    r"^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])|\[(",
    r"([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|",
    r"([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|",
    r"([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|",
    r"[0-9A-Fa-f]{1,4}:(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:))\])",
    r":(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})$"
);

fn prompt_to_check() -> RefOr<Schema> {
    let wrapped = |name: &'static str| {
        object("A body that has a prompt.").property(name, reference("mediaPromptOffer")).required(name)
    };
    AnyOfBuilder::new()
        .item(reference("mediaPromptOffer"))
        .item(wrapped("customPrompt"))
        .item(wrapped("prompt"))
        .description(Some(
            "A prompt by itself, or as the member `customPrompt` (so that the body of startHoldMusic can be checked as it \
             is) or `prompt`.",
        ))
        .examples([json!({ "mediaInfo": { "uri": "https://bot.contoso.com/onHold.wav" } })])
        .into()
}

fn prompts_to_purge() -> RefOr<Schema> {
    let all = object("Nothing: all prompts.").max_properties(Some(0));
    AnyOfBuilder::new()
        .item(all)
        .item(reference("mediaPromptOffer"))
        .description(Some("The prompt to forget, or nothing for all of them."))
        .examples([json!({})])
        .into()
}

fn play_prompt() -> RefOr<Schema> {
    let prompts = ArrayBuilder::new()
        .items(reference("mediaPromptOffer"))
        .min_items(Some(1))
        .max_items(Some(MAX_PROMPTS))
        .description(Some("What is to be heard, in this order."));
    let audience = ArrayBuilder::new()
        .schema_type(nullable(Type::Array))
        .items(guid("The id of a participant."))
        .max_items(Some(MAX_AUDIENCE))
        .description(Some("Who is to hear them; everybody if nobody is named."));
    object("Prompts that are to be heard once.")
        .property("prompts", prompts)
        .property("clientContext", context())
        .property(
            "holdMusic",
            object_or_null("An extension of this engine.").property("participants", audience),
        )
        .required("prompts")
        .into()
}

fn cancel_media() -> RefOr<Schema> {
    let stop = ObjectBuilder::new()
        .schema_type(nullable(Type::Boolean))
        .description(Some("Whether holds are to end too; without it, they are not."));
    with_context("What cancelMediaProcessing is asked with; nothing of it is required.")
        .property("holdMusic", object_or_null("An extension of this engine.").property("stop", stop))
        .into()
}

fn invite() -> RefOr<Schema> {
    let invited = object("Who is invited.")
        .property("@odata.type", odata_type("invitationParticipantInfo"))
        .property("identity", object("Graph's identitySet: taken as it is, and given back."))
        .required("identity");
    let invited = ArrayBuilder::new()
        .items(invited)
        .min_items(Some(1))
        .max_items(Some(MAX_INVITED))
        .description(Some("Everybody who is invited."));
    object("Participants to be invited.")
        .property("participants", invited)
        .property("clientContext", context())
        .required("participants")
        .examples([json!({
            "participants": [{
                "@odata.type": "#microsoft.graph.invitationParticipantInfo",
                "identity": { "user": { "id": "112f7296-5fa4-42ca-bae8-6a692b15d4b8" } },
            }],
            "clientContext": "f2fa86af-3c51-4bc2-8fc0-475452d9764f",
        })])
        .into()
}

fn guid(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uuid".to_owned())))
        .description(Some(description))
}

fn with_context(description: &str) -> ObjectBuilder {
    object(description)
        .property("clientContext", context())
        .examples([json!({ "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c" })])
}

fn context() -> ObjectBuilder {
    text("Given back to the byte, in the answer and in the notification.", MAX_CONTEXT)
}

fn callback() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(WEB_PATTERN))
        .max_length(Some(MAX_URI))
        .description(Some(
            "Where notifications go: an absolute `https` URI; `http` where the operator allows it. The networks are the \
             operator's choice.",
        ))
        .examples(["https://bot.contoso.com/api/calls"])
}

/// Graph's discriminator, which may be left out.
fn odata_type(name: &str) -> ObjectBuilder {
    let words = format!("`#microsoft.graph.{name}`, or nothing.");
    ObjectBuilder::new()
        .schema_type(nullable(Type::String))
        .enum_values(Some([json!(format!("#microsoft.graph.{name}")), Value::Null]))
        .description(Some(words))
}

/// An object. What is not named in it is passed over.
fn object(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description).filter(|description| !description.is_empty()))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
}

fn object_or_null(description: &str) -> ObjectBuilder {
    object(description).schema_type(nullable(Type::Object))
}

fn text(description: &str, longest: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(nullable(Type::String))
        .max_length(Some(longest))
        .description(Some(description))
}

fn whole(description: &str, least: u64, most: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(nullable(Type::Integer))
        .format(Some(SchemaFormat::Custom("int64".to_owned())))
        .minimum(Some(least))
        .maximum(Some(most))
        .description(Some(description))
}

fn word(description: &str, words: &[&str]) -> ObjectBuilder {
    let words = words.iter().map(|word| json!(word)).chain([Value::Null]);
    ObjectBuilder::new()
        .schema_type(nullable(Type::String))
        .enum_values(Some(words))
        .description(Some(description))
}

fn anything(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description))
}

fn nothing() -> Object {
    ObjectBuilder::new().schema_type(Type::Null).build()
}

fn nullable(kind: Type) -> SchemaType {
    SchemaType::from_iter([kind, Type::Null])
}

/// The schema of that name.
pub(super) fn reference(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

/// The schema of that name, or `null`.
fn optional(name: &str, description: &str) -> Schema {
    OneOfBuilder::new().item(nothing()).item(reference(name)).description(Some(description)).build().into()
}

fn one_of(description: &str, choices: [ObjectBuilder; 2]) -> RefOr<Schema> {
    let [first, second] = choices;
    OneOfBuilder::new().item(first).item(second).description(Some(description)).into()
}
