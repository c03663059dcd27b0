//! Bodies as clients send them -> [`crate::ask`]. Comments and trailing commas are forgiven, because the request printed
//! in Graph's own documentation has some.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    MasterKey, Suite,
    keys::KeyError,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
};
use serde_json::{Map, Value};
use url::Url;

use super::{
    errors::shorten,
    shapes::{Object, parse_body},
    words::{StatusCase, read_wall},
    write::text,
};
use crate::{
    ask::{
        CancelMedia, CreateCall, CreateParticipant, HoldOverrides, Invite, Mute, PlayPrompt, StartHoldMusic,
        StopHoldMusic,
    },
    call::{CompletesWhen, OnPromptFailure},
    data_uri::DataUri,
    graph::Refusal,
    id::{CallId, OperationId, ParticipantId},
    negotiation::{MediaOffer, RtpOffer, StateOffer},
    prompt::{Origin, Prompt},
};

/// Longest `clientContext`, in characters (Graph's documentation).
pub(super) const MAX_CONTEXT: usize = 256;
/// Longest URI, in bytes: what browsers and proxies commonly carry.
pub(super) const MAX_URI: usize = 8192;
/// Longest `data` URI of a prompt, in bytes: half of the longest body, and 12 s of G.711 or 24 s of Opus in base64.
/// Whoever has more to say has a web server.
pub(super) const MAX_DATA_URI: usize = 128 << 10;
/// Longest `resourceId`, in characters.
pub(super) const MAX_RESOURCE_ID: usize = 1024;
/// Longest `metadata`, in characters.
pub(super) const MAX_METADATA: usize = 4096;
/// Longest SDP, in bytes: an offer of a browser with all its codecs has about 10 kB.
pub const MAX_SDP: usize = 64 << 10;
/// Most bytes of Graph's own members that are kept to be given back.
const MAX_ECHO: usize = 16 << 10;
/// Most prompts that a call has kept ready for it: a bot's greeting, its menus and its music are a dozen.
pub(super) const MAX_PREFETCH: usize = 32;
/// Most prompts of one `playPrompt` (Graph's documentation).
pub(super) const MAX_PROMPTS: usize = 20;
/// Most participants of one invitation (Graph's documentation).
pub(super) const MAX_INVITED: usize = 5;
/// Most participants that a `playPrompt` names.
pub(super) const MAX_AUDIENCE: usize = 1000;
/// Most participants that a call may have on hold at the same time: more than this engine can have.
pub(super) const MAX_HELD: u64 = 1_000_000;
/// Longest IP address with a port, in characters: more than any has.
pub(super) const MAX_SOCKET_ADDRESS: usize = 256;
/// Longest moment, in characters: more than any to the nanosecond has.
pub(super) const MAX_WALL: usize = 64;
/// The largest index of SRTCP: 31 bits, RFC 3711 section 3.4.
pub(super) const MAX_SRTCP_INDEX: u64 = u32::MAX as u64 >> 1;
/// The shortest longest duration of a hold, in seconds.
pub(super) const SHORTEST_DURATION_S: f64 = 1.0;
/// The longest one: 366 days. Beyond it "no limit" is meant, and is said by leaving the member out.
pub(super) const LONGEST_DURATION_S: f64 = 31_622_400.0;
/// Members of Graph's call that a bot may read back.
const ECHOED: &[&str] = &[
    "callChainId",
    "callOptions",
    "callRoutes",
    "chatInfo",
    "direction",
    "incomingContext",
    "mediaConfig",
    "meetingInfo",
    "requestedModalities",
    "source",
    "subject",
    "targets",
    "tenantId",
];

/// The id of a call in a path.
///
/// # Errors
///
/// 404 8522 if it is no GUID, for then no call has it.
pub fn call_id(text: &str) -> Result<CallId, Refusal> {
    CallId::read(text).ok_or_else(|| Refusal::unknown_call(text))
}

/// The id of a participant in a path.
///
/// # Errors
///
/// 404 8522 if it is no GUID.
pub fn participant_id(text: &str) -> Result<ParticipantId, Refusal> {
    ParticipantId::read(text).ok_or_else(|| Refusal::unknown_participant(text))
}

/// The id of an operation in a path.
///
/// # Errors
///
/// 404 8522 if it is no GUID.
pub fn operation_id(text: &str) -> Result<OperationId, Refusal> {
    OperationId::read(text).ok_or_else(|| Refusal::unknown_operation(text))
}

/// The body of `POST calls`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_create_call(body: &[u8]) -> Result<CreateCall, Refusal> {
    let body = parse_body(body)?;
    let call = Object::root(&body);
    call.odata_type(&["call"])?;
    let callback = call.required_text("callbackUri", MAX_URI, "an absolute URI")?;
    let callback = absolute(&call.path("callbackUri"), callback)?;
    let hold = match call.object("holdMusic")? {
        Some(hold) => read_overrides(&hold)?,
        None => HoldOverrides::default(),
    };
    let mut echo = Map::new();
    let mut left = MAX_ECHO;
    for &name in ECHOED {
        let Some(value) = body.get(name).filter(|value| !value.is_null()) else { continue };
        let size = serde_json::to_string(value).map_or(usize::MAX, |text| text.len());
        if let Some(rest) = left.checked_sub(size) {
            left = rest;
            echo.insert(name.to_owned(), value.clone());
        }
    }
    let prefetch = match call.object("mediaConfig")? {
        Some(config) => {
            let wanted = config.objects("preFetchMedia", MAX_PREFETCH)?;
            wanted.iter().map(read_media).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    let echo = (!echo.is_empty()).then(|| text(&echo).into());
    Ok(CreateCall { callback, hold, echo, prefetch })
}

fn read_overrides(hold: &Object<'_>) -> Result<HoldOverrides, Refusal> {
    let max_held = hold.number("maxHeldParticipants", 1, MAX_HELD)?;
    Ok(HoldOverrides {
        max_held: max_held.map(|number| usize::try_from(number).expect("at most a million")),
        default_prompt: hold.object("defaultPrompt")?.map(|prompt| read_media_prompt(&prompt)).transpose()?,
        on_prompt_failure: hold.word(
            "onPromptFailure",
            &[OnPromptFailure::DefaultMusic, OnPromptFailure::Fail].map(|choice| (choice.word(), choice)),
        )?,
        completes_when: hold.word(
            "completesWhen",
            &[CompletesWhen::MusicStarts, CompletesWhen::MusicEnds].map(|choice| (choice.word(), choice)),
        )?,
        status_case: hold.word(
            "statusCase",
            &[StatusCase::Camel, StatusCase::Pascal].map(|choice| (choice.word(), choice)),
        )?,
        max_duration: read_duration(hold, "maxDuration")?,
    })
}

/// Seconds as a number, or a duration of ISO 8601 as Graph writes them (`PT30M`); at least a second.
fn read_duration(object: &Object<'_>, name: &str) -> Result<Option<Duration>, Refusal> {
    let seconds = match object.value(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => iso_seconds(text),
        Some(_) => None,
    };
    match seconds.filter(|seconds| (SHORTEST_DURATION_S..=LONGEST_DURATION_S).contains(seconds)) {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => Err(object.wrong(name, "seconds from 1 on as a number, or a duration such as \"PT30M\"")),
    }
}

/// Days, hours, minutes and seconds of an ISO 8601 duration, in seconds.
fn iso_seconds(text: &str) -> Option<f64> {
    let text = text.strip_prefix('P')?;
    let (days, clock) = text.split_once('T').unwrap_or((text, ""));
    let mut seconds = 0.0;
    for (part, units) in
        [(days, &[('D', 86_400.0)][..]), (clock, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)][..])]
    {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let number: f64 = rest.get(..end)?.parse().ok()?;
            let unit = rest.chars().nth(end)?;
            seconds += number * units.iter().find(|(letter, _)| *letter == unit)?.1;
            rest = rest.get(end + 1..)?;
        }
    }
    Some(seconds)
}

/// The body of `POST participants`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_create_participant(body: &[u8]) -> Result<CreateParticipant, Refusal> {
    let body = parse_body(body)?;
    let participant = Object::root(&body);
    participant.odata_type(&["participant"])?;
    let offer = participant.object("mediaLeg")?.map(|leg| read_offer(&leg)).transpose()?;
    let info = participant.object("info")?.map(|info| Box::<str>::from(text(info.map())));
    if let Some(found) = info.as_ref().map(|info| info.len()).filter(|found| *found > MAX_ECHO) {
        return Err(Refusal::invalid(format!("'info' has {found} bytes; expected at most {MAX_ECHO}.")));
    }
    let metadata = participant.text("metadata", MAX_METADATA)?.map(Box::from);
    Ok(CreateParticipant { offer, info, metadata })
}

/// The body of `PUT mediaLeg`: the leg itself, or an object with the member `mediaLeg`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_media_leg(body: &[u8]) -> Result<MediaOffer, Refusal> {
    let body = parse_body(body)?;
    let root = Object::root(&body);
    match root.object("mediaLeg")? {
        Some(leg) => read_offer(&leg),
        None => read_offer(&root),
    }
}

/// The body of a POST to one of WHEP's endpoints: an offer and nothing else.
///
/// # Errors
///
/// 413 if it is longer than an offer of ours may be, 422 8523 if it is no text.
pub fn read_whep(body: &[u8]) -> Result<MediaOffer, Refusal> {
    if body.len() > MAX_SDP {
        return Err(Refusal::body_too_big(MAX_SDP));
    }
    match std::str::from_utf8(body) {
        Ok(sdp) => Ok(MediaOffer::Sdp(sdp.to_owned())),
        Err(_) => Err(Refusal::invalid("The offer is not UTF-8; expected SDP (RFC 8866).").of_whep()),
    }
}

fn read_offer(leg: &Object<'_>) -> Result<MediaOffer, Refusal> {
    match (leg.text("sdp", MAX_SDP)?, leg.object("rtp")?) {
        (Some(sdp), None) => Ok(MediaOffer::Sdp(sdp.to_owned())),
        (None, Some(rtp)) => read_rtp(&rtp).map(MediaOffer::Rtp),
        (Some(_), Some(_)) => {
            Err(Refusal::invalid(format!("{} has both 'sdp' and 'rtp'; expected one of them.", leg.shown())))
        }
        (None, None) => Err(Refusal::invalid(format!(
            "{} has neither 'sdp' nor 'rtp'; expected one of them.",
            leg.shown()
        ))),
    }
}

fn read_rtp(rtp: &Object<'_>) -> Result<RtpOffer, Refusal> {
    let address = rtp.required_text("address", MAX_SOCKET_ADDRESS, ADDRESS)?;
    let address = socket_address(rtp, "address", address)?;
    let rtcp = match rtp.text("rtcp", MAX_SOCKET_ADDRESS)? {
        Some(text) => Some(socket_address(rtp, "rtcp", text)?),
        None => None,
    };
    let known = Codec::ALL.iter().filter(|codec| codec.on_the_wire() == **codec);
    let codecs: Vec<_> = known.map(|&codec| (codec.name(), codec)).collect();
    let codec = rtp.word("codec", &codecs)?.unwrap_or(Codec::Opus);
    let number = match rtp.number("payloadType", 0, 127)? {
        Some(number) => u8::try_from(number).expect("at most 127"),
        None => codec
            .static_payload_type()
            .ok_or_else(|| rtp.missing("payloadType", "a number, since this codec has none of its own"))?,
    };
    let payload_type = PayloadType::new(number).ok_or_else(|| {
        rtp.wrong("payloadType", "0 to 63 or 96 to 127: RTCP uses those between (RFC 5761)")
    })?;
    let srtp = rtp.object("srtp")?.map(|srtp| read_srtp(&srtp)).transpose()?;
    Ok(RtpOffer { address, rtcp, codec, payload_type, srtp, state: read_state(rtp)? })
}

/// Suite and key; no refusal shows anything of the key.
fn read_srtp(srtp: &Object<'_>) -> Result<MasterKey, Refusal> {
    let suites = Suite::ALL.map(|suite| (suite.name(), suite));
    let suite = srtp.word("suite", &suites)?;
    let suite = suite.ok_or_else(|| srtp.missing("suite", "one of those that SDES names"))?;
    let expected = format!("{} bytes of key and salt in base64", suite.master_len());
    let key = srtp.text("key", MAX_SRTP_KEY)?.ok_or_else(|| srtp.missing("key", &expected))?;
    MasterKey::from_base64(suite, key).map_err(|reason| {
        let found = match reason {
            KeyError::Length { found, .. } => format!("{found} bytes"),
            KeyError::NotBase64 => "no base64".to_owned(),
        };
        Refusal::invalid(format!("'{}' is {found}; expected {expected}.", srtp.path("key")))
    })
}

/// Characters of a key of SRTP: the longest has 60.
pub(super) const MAX_SRTP_KEY: usize = 128;

/// What an address of RTP or RTCP looks like.
const ADDRESS: &str = "an IP address and a port, such as \"192.0.2.1:40000\" or \"[::1]:40000\"";

fn socket_address(object: &Object<'_>, name: &str, text: &str) -> Result<SocketAddr, Refusal> {
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() != 0).ok_or_else(|| object.wrong(name, ADDRESS))
}

/// The members of `rtpState` that are there.
fn read_state(object: &Object<'_>) -> Result<StateOffer, Refusal> {
    const U32: u64 = u32::MAX as u64;
    let narrow = |number: u64| u32::try_from(number).expect("the range was checked");
    let ssrc = object.number("ssrc", 0, U32)?.map(|number| Ssrc(narrow(number)));
    let sequence = object
        .number("sequenceNumber", 0, u64::from(u16::MAX))?
        .map(|number| SeqNo(u16::try_from(number).expect("the range was checked")));
    let timestamp = object.number("timestamp", 0, U32)?.map(|number| Timestamp(narrow(number)));
    let at = match object.text("at", MAX_WALL)? {
        Some(text) => Some(
            read_wall(text)
                .ok_or_else(|| object.wrong("at", "a moment such as \"2026-01-31T12:00:00.000000Z\""))?,
        ),
        None => None,
    };
    let rollover_counter = object.number("rolloverCounter", 0, U32)?.map(narrow);
    let srtcp_index = object.number("srtcpIndex", 0, MAX_SRTCP_INDEX)?.map(narrow);
    Ok(StateOffer { ssrc, sequence, timestamp, at, rollover_counter, srtcp_index })
}

/// The body of `startHoldMusic`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_start_hold_music(body: &[u8]) -> Result<StartHoldMusic, Refusal> {
    let body = parse_body(body)?;
    let start = Object::root(&body);
    let prompt = start.object("customPrompt")?.map(|prompt| read_media_prompt(&prompt)).transpose()?;
    let client_context = start.text("clientContext", MAX_CONTEXT)?.map(Box::from);
    let mut rtp_state = None;
    if let Some(hold) = start.object("holdMusic")?
        && let Some(state) = hold.object("rtpState")?
    {
        for name in ["ssrc", "sequenceNumber", "timestamp", "at"] {
            if state.value(name).is_none() {
                return Err(state.missing(name, "ssrc, sequenceNumber, timestamp and at together"));
            }
        }
        rtp_state = Some(read_state(&state)?);
    }
    Ok(StartHoldMusic { prompt, client_context, rtp_state })
}

/// The body of `stopHoldMusic`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_stop_hold_music(body: &[u8]) -> Result<StopHoldMusic, Refusal> {
    let body = parse_body(body)?;
    let client_context = Object::root(&body).text("clientContext", MAX_CONTEXT)?.map(Box::from);
    Ok(StopHoldMusic { client_context })
}

/// The body of `mute` (`muted`) or `unmute`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_mute(body: &[u8], muted: bool) -> Result<Mute, Refusal> {
    let body = parse_body(body)?;
    let client_context = Object::root(&body).text("clientContext", MAX_CONTEXT)?.map(Box::from);
    Ok(Mute { muted, client_context })
}

/// The body of `playPrompt`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_play_prompt(body: &[u8]) -> Result<PlayPrompt, Refusal> {
    let body = parse_body(body)?;
    let play = Object::root(&body);
    let prompts = play.objects("prompts", MAX_PROMPTS)?;
    if prompts.is_empty() {
        return Err(play.wrong("prompts", "an array of at least one prompt"));
    }
    let prompts = prompts.iter().map(read_media_prompt).collect::<Result<_, _>>()?;
    let audience = match play.object("holdMusic")? {
        Some(hold) => hold
            .texts("participants", MAX_AUDIENCE)?
            .into_iter()
            .map(|(path, id)| {
                ParticipantId::read(id).ok_or_else(|| {
                    Refusal::invalid(format!("'{path}' is '{}'; expected a participant's id.", shorten(id)))
                })
            })
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let client_context = play.text("clientContext", MAX_CONTEXT)?.map(Box::from);
    Ok(PlayPrompt { prompts, client_context, audience })
}

/// The body of `cancelMediaProcessing`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_cancel_media(body: &[u8]) -> Result<CancelMedia, Refusal> {
    let body = parse_body(body)?;
    let cancel = Object::root(&body);
    let client_context = cancel.text("clientContext", MAX_CONTEXT)?.map(Box::from);
    let stop_holds = match cancel.object("holdMusic")? {
        Some(hold) => hold.boolean("stop")?.unwrap_or(false),
        None => false,
    };
    Ok(CancelMedia { client_context, stop_holds })
}

/// The body of `participants/invite`.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_invite(body: &[u8]) -> Result<Invite, Refusal> {
    let body = parse_body(body)?;
    let invite = Object::root(&body);
    let invited = invite.objects("participants", MAX_INVITED)?;
    if invited.is_empty() {
        return Err(invite.wrong("participants", "an array of at least one participant"));
    }
    let identities = invited
        .iter()
        .map(|one| {
            one.odata_type(&["invitationParticipantInfo"])?;
            let identity = one.object("identity")?.ok_or_else(|| one.missing("identity", "an object"))?;
            let identity = text(identity.map());
            if identity.len() > MAX_ECHO {
                let path = one.path("identity");
                let found = identity.len();
                return Err(Refusal::invalid(format!(
                    "'{path}' has {found} bytes; expected at most {MAX_ECHO}."
                )));
            }
            Ok(identity.into())
        })
        .collect::<Result<_, _>>()?;
    let client_context = invite.text("clientContext", MAX_CONTEXT)?.map(Box::from);
    Ok(Invite { identities, client_context })
}

/// The body of an action that is asked with nothing: it must be an object all the same.
///
/// # Errors
///
/// 400 8523 if it is none.
pub fn read_nothing(body: &[u8]) -> Result<(), Refusal> {
    parse_body(body).map(drop)
}

/// The body of `prompts/purge`: a `mediaPrompt`, or nothing for all prompts.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_purge(body: &[u8]) -> Result<Option<Prompt>, Refusal> {
    let body = parse_body(body)?;
    if body.is_empty() { Ok(None) } else { read_media_prompt(&Object::root(&body)).map(Some) }
}

/// A prompt that is named by its URI alone, as in the settings.
///
/// # Errors
///
/// 400 8523 if the URI is relative or of a scheme that is not allowed.
pub fn read_prompt(uri: &str) -> Result<Prompt, Refusal> {
    read_uri("uri", uri).map(|origin| Prompt { origin, resource_id: None })
}

/// The body of `prompts/check`: a prompt, or an object that has one as `startHoldMusic` does (`customPrompt`), so that
/// the body of a request can be checked as it is; `prompt` is the name that the other actions of Graph use.
///
/// # Errors
///
/// 400 8523, naming the member, what was found and what was expected.
pub fn read_prompt_check(body: &[u8]) -> Result<Prompt, Refusal> {
    let body = parse_body(body)?;
    let root = Object::root(&body);
    for name in ["customPrompt", "prompt"] {
        if let Some(prompt) = root.object(name)? {
            return read_media_prompt(&prompt);
        }
    }
    read_media_prompt(&root)
}

/// Graph types the parameter as the abstract `prompt`; without a discriminator it is the only kind there is.
fn read_media_prompt(prompt: &Object<'_>) -> Result<Prompt, Refusal> {
    prompt.odata_type(&["mediaPrompt", "prompt"])?;
    let media = prompt.object("mediaInfo")?.ok_or_else(|| prompt.missing("mediaInfo", "an object"))?;
    read_media(&media)
}

/// Graph's `mediaInfo`.
fn read_media(facts: &Object<'_>) -> Result<Prompt, Refusal> {
    facts.odata_type(&["mediaInfo"])?;
    let uri = facts.required_text("uri", MAX_DATA_URI, "an absolute URI")?;
    Ok(Prompt {
        origin: read_uri(&facts.path("uri"), uri)?,
        resource_id: facts.text("resourceId", MAX_RESOURCE_ID)?.map(str::to_owned),
    })
}

fn read_uri(path: &str, text: &str) -> Result<Origin, Refusal> {
    let url = absolute(path, text)?;
    let longest = if url.scheme() == "data" { MAX_DATA_URI } else { MAX_URI };
    if text.len() > longest {
        let length = text.len();
        return Err(Refusal::invalid(format!("'{path}' has {length} bytes; expected at most {longest}.")));
    }
    match url.scheme() {
        "http" | "https" => Ok(Origin::Web(url)),
        "file" if url.host_str().is_none() => Ok(Origin::Directory(url)),
        "data" => match DataUri::read(url) {
            Ok(data) => Ok(Origin::Data(Arc::new(data))),
            Err(wrong) => Err(Refusal::invalid(format!("'{path}' is no data URI: {wrong}."))),
        },
        scheme => Err(Refusal::invalid(format!(
            "'{path}' has the scheme '{}'; expected https, http or data.",
            shorten(scheme)
        ))),
    }
}

/// An absolute URL. The message shows nothing of a bad one: it may carry a secret.
fn absolute(path: &str, text: &str) -> Result<Url, Refusal> {
    Url::parse(text).map_err(|reason| match reason {
        url::ParseError::RelativeUrlWithoutBase => {
            Refusal::invalid(format!("'{path}' is a relative URI; expected an absolute one."))
        }
        reason => Refusal::invalid(format!("'{path}' is no URI: {reason}; expected an absolute one.")),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    /// The request printed in Graph's documentation of startHoldMusic, trailing commas included.
    const DOCUMENTED: &str = r##"{
  "customPrompt": {
    "@odata.type": "#microsoft.graph.mediaPrompt",
    "mediaInfo": {
      "@odata.type": "#microsoft.graph.mediaInfo",
      "uri": "https://bot.contoso.com/onHold.wav",
    },
  },
  "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
}
"##;

    #[test]
    fn the_documented_request_is_read_byte_for_byte() {
        let start = read_start_hold_music(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!(start.client_context.as_deref(), Some("d45324c1-fcb5-430a-902c-f20af696537c"));
        assert_eq!(start.prompt, Some(read_prompt("https://bot.contoso.com/onHold.wav").unwrap()));
        assert_eq!(start.rtp_state, None);
        for other in
            [DOCUMENTED.replace('\n', "\r\n"), DOCUMENTED.replace('\n', ""), format!("\u{feff}{DOCUMENTED}")]
        {
            assert_eq!(read_start_hold_music(other.as_bytes()), Ok(start.clone()));
        }
    }

    #[test]
    fn commas_and_comment_signs_inside_texts_are_left_alone() {
        let body = r#"{"clientContext":"a,} // b /* c */ # d",}"#;
        let start = read_start_hold_music(body.as_bytes()).unwrap();
        assert_eq!(start.client_context.as_deref(), Some("a,} // b /* c */ # d"));
    }

    #[test]
    fn nothing_at_all_is_an_empty_request_and_unknown_members_are_passed_over() {
        for body in ["", "{}", r#"{"loop":3,"clientContext":null,"customPrompt":null}"#] {
            assert_eq!(read_start_hold_music(body.as_bytes()), Ok(StartHoldMusic::default()), "{body}");
        }
        for body in ["null_is_no_object", "null", " \n", "\u{feff}", "// nothing"] {
            assert!(read_start_hold_music(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn context_is_counted_in_characters() {
        let body = |length| format!(r#"{{"clientContext":"{}"}}"#, "ä".repeat(length));
        assert!(read_start_hold_music(body(256).as_bytes()).is_ok());
        assert!(read_start_hold_music(body(257).as_bytes()).is_err());
    }

    fn refusals(read: impl Fn(&[u8]) -> Option<Refusal>, bodies: &[&str]) -> String {
        let mut told = String::new();
        for body in bodies {
            let refusal = read(body.as_bytes()).unwrap_or_else(|| panic!("{body} was read"));
            assert_eq!((refusal.status, refusal.code), (400, "8523"), "{body}");
            told += &format!("{}\n", refusal.message);
        }
        told
    }

    #[test]
    fn a_bad_start_is_told_what_where_and_what_was_expected() {
        let told = refusals(
            |body| read_start_hold_music(body).err(),
            &[
                "{",
                "[]",
                "7",
                r#"{"clientContext":7}"#,
                r#"{"customPrompt":"x"}"#,
                r#"{"customPrompt":{}}"#,
                r##"{"customPrompt":{"@odata.type":"#microsoft.graph.callRecord","mediaInfo":{"uri":"https://h/"}}}"##,
                r#"{"customPrompt":{"@odata.type":7,"mediaInfo":{"uri":"https://h/"}}}"#,
                r#"{"customPrompt":{"mediaInfo":[]}}"#,
                r#"{"customPrompt":{"mediaInfo":{}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":null}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":1}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":""}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":"onHold.wav?sig=secret"}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":"file://host/etc/passwd"}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":"https://"}}}"#,
                r#"{"customPrompt":{"mediaInfo":{"uri":"https://h/","resourceId":{}}}}"#,
                r#"{"holdMusic":{"rtpState":{"ssrc":1}}}"#,
                r#"{"holdMusic":{"rtpState":{"ssrc":4294967296,"sequenceNumber":1,"timestamp":1,"at":"x"}}}"#,
                r#"{"holdMusic":{"rtpState":{"ssrc":1,"sequenceNumber":-1,"timestamp":1,"at":"x"}}}"#,
                r#"{"holdMusic":{"rtpState":{"ssrc":1,"sequenceNumber":1.5,"timestamp":1,"at":"x"}}}"#,
                r#"{"holdMusic":{"rtpState":{"ssrc":1,"sequenceNumber":1,"timestamp":1,"at":"noon"}}}"#,
            ],
        );
        expect![[r#"
            The body cannot be read as JSON: EOF while parsing an object at line 1 column 1.
            The body is an empty array; expected a JSON object.
            The body is a number; expected a JSON object.
            'clientContext' is a number; expected a string.
            'customPrompt' is a string; expected an object.
            'customPrompt.mediaInfo' is missing; expected an object.
            'customPrompt.@odata.type' is '#microsoft.graph.callRecord'; expected '#microsoft.graph.mediaPrompt'.
            'customPrompt.@odata.type' is 7; expected '#microsoft.graph.mediaPrompt'.
            'customPrompt.mediaInfo' is an empty array; expected an object.
            'customPrompt.mediaInfo.uri' is missing; expected an absolute URI.
            'customPrompt.mediaInfo.uri' is missing; expected an absolute URI.
            'customPrompt.mediaInfo.uri' is a number; expected a string.
            'customPrompt.mediaInfo.uri' is empty; expected an absolute URI.
            'customPrompt.mediaInfo.uri' is a relative URI; expected an absolute one.
            'customPrompt.mediaInfo.uri' has the scheme 'file'; expected https, http or data.
            'customPrompt.mediaInfo.uri' is no URI: empty host; expected an absolute one.
            'customPrompt.mediaInfo.resourceId' is an object; expected a string.
            'holdMusic.rtpState.sequenceNumber' is missing; expected ssrc, sequenceNumber, timestamp and at together.
            'holdMusic.rtpState.ssrc' is 4294967296; expected a whole number from 0 to 4294967295.
            'holdMusic.rtpState.sequenceNumber' is -1; expected a whole number from 0 to 65535.
            'holdMusic.rtpState.sequenceNumber' is 1.5; expected a whole number from 0 to 65535.
            'holdMusic.rtpState.at' is 'noon'; expected a moment such as "2026-01-31T12:00:00.000000Z".
        "#]].assert_eq(&told);
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction() {
        let read = |held: &str| {
            let body = format!(
                r#"{{"callbackUri": "https://bot", "holdMusic": {{"maxHeldParticipants": {held}}}}}"#
            );
            read_create_call(body.as_bytes()).map(|call| call.hold.max_held).ok().flatten()
        };
        assert_eq!((read("854.0"), read("8.54e2"), read("854")), (Some(854), Some(854), Some(854)));
        for wrong in ["854.5", "-1.0", "1e300", "0.0", "9007199254740993.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_data_uri_is_read_within_its_own_limit() {
        let read = |uri: &str| read_prompt(uri).map_err(|refusal| refusal.message);
        match read("data:audio/wav;base64,UklGRg==").unwrap().origin {
            Origin::Data(data) => assert_eq!(data.bytes(), b"RIFF"),
            other => panic!("{other:?}"),
        }
        let uri = |scheme: &str, length: usize| format!("{scheme}{}", "a".repeat(length - scheme.len()));
        assert!(read(&uri("data:,", MAX_DATA_URI)).is_ok());
        assert!(read(&uri("https://host/", MAX_URI)).is_ok());
        let told: Vec<_> = [
            uri("data:,", MAX_DATA_URI + 1),
            uri("https://host/", MAX_URI + 1),
            "data:audio/wav;base64".to_owned(),
            "data:;base64,*".to_owned(),
        ]
        .map(|uri| read(&uri).unwrap_err())
        .into();
        expect![[r#"
            'uri' has 131073 bytes; expected at most 131072.
            'uri' has 8193 bytes; expected at most 8192.
            'uri' is no data URI: a comma before the data was expected.
            'uri' is no data URI: base64 was expected behind the comma."#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn a_bad_call_or_leg_is_told_what_where_and_what_was_expected() {
        let told = refusals(
            |body| read_create_call(body).err(),
            &[
                "{}",
                r#"{"callbackUri":"/api"}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"maxHeldParticipants":0}}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"onPromptFailure":"explode"}}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"completesWhen":1}}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"maxDuration":"soon"}}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"maxDuration":0}}"#,
                r#"{"callbackUri":"https://bot/","holdMusic":{"defaultPrompt":{}}}"#,
            ],
        );
        let legs = refusals(
            |body| read_media_leg(body).err(),
            &[
                "{}",
                r#"{"sdp":"v=0","rtp":{}}"#,
                r#"{"rtp":{}}"#,
                r#"{"rtp":{"address":"localhost:40000","payloadType":111}}"#,
                r#"{"rtp":{"address":"127.0.0.1","payloadType":111}}"#,
                r#"{"rtp":{"address":"127.0.0.1:0","payloadType":111}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000"}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":128}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":72}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"codec":"g729"}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{}}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{"suite":"ROT13","key":"c2VjcmV0"}}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{"suite":"AEAD_AES_128_GCM"}}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{"suite":"AEAD_AES_256_GCM","key":"c2VjcmV0"}}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{"suite":"AES_CM_128_HMAC_SHA1_80","key":"secret!?"}}}"#,
                r#"{"rtp":{"address":"127.0.0.1:4000","payloadType":111,"srtp":{"suite":"AES_CM_128_HMAC_SHA1_80","key":7}}}"#,
            ],
        );
        expect![[r#"
            'callbackUri' is missing; expected an absolute URI.
            'callbackUri' is a relative URI; expected an absolute one.
            'holdMusic.maxHeldParticipants' is 0; expected a whole number from 1 to 1000000.
            'holdMusic.onPromptFailure' is 'explode'; expected 'defaultMusic' or 'fail'.
            'holdMusic.completesWhen' is 1; expected 'musicStarts' or 'musicEnds'.
            'holdMusic.maxDuration' is 'soon'; expected seconds from 1 on as a number, or a duration such as "PT30M".
            'holdMusic.maxDuration' is 0; expected seconds from 1 on as a number, or a duration such as "PT30M".
            'holdMusic.defaultPrompt.mediaInfo' is missing; expected an object.
            The body has neither 'sdp' nor 'rtp'; expected one of them.
            The body has both 'sdp' and 'rtp'; expected one of them.
            'rtp.address' is missing; expected an IP address and a port, such as "192.0.2.1:40000" or "[::1]:40000".
            'rtp.address' is 'localhost:40000'; expected an IP address and a port, such as "192.0.2.1:40000" or "[::1]:40000".
            'rtp.address' is '127.0.0.1'; expected an IP address and a port, such as "192.0.2.1:40000" or "[::1]:40000".
            'rtp.address' is '127.0.0.1:0'; expected an IP address and a port, such as "192.0.2.1:40000" or "[::1]:40000".
            'rtp.payloadType' is missing; expected a number, since this codec has none of its own.
            'rtp.payloadType' is 128; expected a whole number from 0 to 127.
            'rtp.payloadType' is 72; expected 0 to 63 or 96 to 127: RTCP uses those between (RFC 5761).
            'rtp.codec' is 'g729'; expected 'opus' or 'G722' or 'L16' or 'PCMA' or 'PCMU'.
            'rtp.srtp.suite' is missing; expected one of those that SDES names.
            'rtp.srtp.suite' is 'ROT13'; expected 'AES_CM_128_HMAC_SHA1_80' or 'AES_CM_128_HMAC_SHA1_32' or 'AEAD_AES_128_GCM' or 'AEAD_AES_256_GCM'.
            'rtp.srtp.key' is missing; expected 28 bytes of key and salt in base64.
            'rtp.srtp.key' is 6 bytes; expected 44 bytes of key and salt in base64.
            'rtp.srtp.key' is no base64; expected 30 bytes of key and salt in base64.
            'rtp.srtp.key' is a number; expected a string.
        "#]].assert_eq(&format!("{told}{legs}"));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
            assert_eq!(read_start_hold_music(body.as_bytes()).unwrap_err().code, "8523");
        }
    }

    #[test]
    fn durations_are_seconds_or_in_the_form_of_iso_8601() {
        for (text, seconds) in
            [("PT30M", 1800.0), ("P1DT1H", 90_000.0), ("PT1.5S", 1.5), ("PT1H2M3S", 3723.0)]
        {
            assert_eq!(iso_seconds(text), Some(seconds));
        }
        for text in ["", "30M", "PT30", "PTM", "P1X", "PT1D", "PTäS"] {
            assert_eq!(iso_seconds(text).filter(|seconds| *seconds > 0.0), None, "{text}");
        }
    }

    fn member() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("customPrompt"),
            Just("mediaInfo"),
            Just("uri"),
            Just("clientContext"),
            Just("holdMusic"),
            Just("rtpState"),
            Just("ssrc"),
            Just("at"),
            Just("mediaLeg"),
            Just("rtp"),
            Just("sdp"),
            Just("address"),
            Just("payloadType"),
            Just("callbackUri"),
            Just("maxDuration"),
            Just("@odata.type"),
            Just("defaultPrompt"),
        ]
        .prop_map(str::to_owned)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            Just(Value::from("127.0.0.1:40000")),
            Just(Value::from("https://host/a.wav")),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(member(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn read_all(body: &[u8]) {
        let _ = read_start_hold_music(body);
        let _ = read_stop_hold_music(body);
        let _ = read_prompt_check(body);
        let _ = read_create_call(body);
        let _ = read_create_participant(body);
        let _ = read_media_leg(body);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_or_refused_but_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            read_all(&body);
        }

        #[test]
        fn hostile_shapes_are_read_or_refused_but_never_panic(value in json(), cut in 0_usize..200) {
            let text = value.to_string();
            read_all(text.as_bytes());
            read_all(&text.as_bytes()[..cut.min(text.len())]);
        }
    }
}
