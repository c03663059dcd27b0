//! Paths as Graph's clients write them: a path goes in, the place it means comes out.

use axum::http::Method;
use holdmusic_control::{
    Ask, Refusal,
    graph::{self, Query},
};
use percent_encoding::percent_decode_str;

use super::whep::WhepPlace;

/// Segments that a path may have; the longest of ours has eight.
const MAX_SEGMENTS: usize = 12;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `v1.0` or `beta`, for URLs in the answer.
    pub(super) version: &'static str,
    /// Where it leads.
    pub(super) place: Place,
}

/// Everything that has a path. Ids are as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The page for whoever looks after the engine.
    Console,
    /// What that page lives on.
    ConsoleEvents,
    Health,
    Ready,
    Metrics,
    OpenApi,
    Discovery,
    Keys,
    Calls,
    Call(String),
    KeepAlive(String),
    Participants(String),
    Participant(String, String),
    MediaLeg(String, String),
    Whep(WhepPlace),
    StartHoldMusic(String, String),
    StopHoldMusic(String, String),
    MuteCall(String),
    UnmuteCall(String),
    MuteParticipant(String, String),
    UnmuteParticipant(String, String),
    PlayPrompt(String),
    CancelMedia(String),
    Invite(String),
    Operations(String),
    Operation(String, String),
    /// How many a collection has: a number and nothing else.
    Count(Box<Self>),
    PurgePrompts,
    /// Notifications that were given up.
    UndeliveredAll,
    Undelivered(String),
    Redeliver(String),
    RedeliverAll,
    /// A dry run of a prompt: answered without control.
    PromptCheck,
    /// Something of Graph's that this engine does not have.
    NotImplemented(&'static str),
    Unknown,
}

impl Target {
    /// Reads a path: doubled slashes collapse, `calls('ID')` is `calls/ID`, names are compared without regard to case,
    /// `/app` is `/communications`, actions may carry their namespace.
    pub(super) fn read(path: &str) -> Self {
        let segments = segments(path);
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (version, rest) = match &words[..] {
            [version, rest @ ..] if version.eq_ignore_ascii_case("v1.0") => ("v1.0", rest),
            [version, rest @ ..] if version.eq_ignore_ascii_case("beta") => ("beta", rest),
            words => return Self { version: "v1.0", place: own(words) },
        };
        let place = match rest {
            [root, calls, rest @ ..]
                if (is(root, "communications") || is(root, "app")) && is(calls, "calls") =>
            {
                calls_place(rest)
            }
            [root, prompts, action]
                if (is(root, "communications") || is(root, "app")) && is(prompts, "prompts") =>
            {
                if is_action(action, "check") {
                    Place::PromptCheck
                } else if is_action(action, "purge") {
                    Place::PurgePrompts
                } else {
                    Place::Unknown
                }
            }
            [root, notifications, rest @ ..]
                if (is(root, "communications") || is(root, "app")) && is(notifications, "notifications") =>
            {
                notifications_place(rest)
            }
            _ => Place::Unknown,
        };
        Self { version, place }
    }
}

/// Paths of ours beside Graph's.
fn own(words: &[&str]) -> Place {
    match words {
        [] => Place::Console,
        ["console", "events"] => Place::ConsoleEvents,
        ["healthz"] => Place::Health,
        ["readyz"] => Place::Ready,
        ["metrics"] => Place::Metrics,
        ["openapi.json"] => Place::OpenApi,
        [v1, well_known, document]
            if is(v1, "v1") && *well_known == ".well-known" && is(document, "openidconfiguration") =>
        {
            Place::Discovery
        }
        [v1, keys] if is(v1, "v1") && is(keys, "keys") => Place::Keys,
        _ => Place::Unknown,
    }
}

fn notifications_place(rest: &[&str]) -> Place {
    match rest {
        [action] if is_action(action, "redeliver") => Place::RedeliverAll,
        [word] if is(word, "undelivered") => Place::UndeliveredAll,
        [word, id] if is(word, "undelivered") => Place::Undelivered((*id).to_owned()),
        [word, id, action] if is(word, "undelivered") && is_action(action, "redeliver") => {
            Place::Redeliver((*id).to_owned())
        }
        _ => Place::Unknown,
    }
}

fn calls_place(rest: &[&str]) -> Place {
    let own = |id: &&str| (*id).to_owned();
    match rest {
        [] => Place::Calls,
        [count] if is(count, "$count") => Place::Count(Box::new(Place::Calls)),
        [call, word, count] if is(count, "$count") => match calls_place(&[call, word]) {
            of @ (Place::Participants(_) | Place::Operations(_)) => Place::Count(Box::new(of)),
            _ => Place::Unknown,
        },
        // `logTeleconferenceDeviceQuality` is an action of the collection. No call has an action's name.
        [word] if graph::known_action(word).is_some() => known(word),
        [call] => Place::Call(own(call)),
        [call, word] if is_action(word, "keepAlive") => Place::KeepAlive(own(call)),
        [call, word] if is(word, "participants") => Place::Participants(own(call)),
        [call, word] if is(word, "operations") => Place::Operations(own(call)),
        [call, word] if is_action(word, "mute") => Place::MuteCall(own(call)),
        [call, word] if is_action(word, "unmute") => Place::UnmuteCall(own(call)),
        [call, word] if is_action(word, "playPrompt") => Place::PlayPrompt(own(call)),
        [call, word] if is_action(word, "cancelMediaProcessing") => Place::CancelMedia(own(call)),
        [_, word] => known(word),
        [call, word, operation] if is(word, "operations") => Place::Operation(own(call), own(operation)),
        [call, word, action] if is(word, "participants") && is_action(action, "invite") => {
            Place::Invite(own(call))
        }
        [_, word, action] if is(word, "participants") && graph::known_action(action).is_some() => {
            known(action)
        }
        [call, word, participant] if is(word, "participants") => {
            Place::Participant(own(call), own(participant))
        }
        [call, word, participant, last] if is(word, "participants") => {
            let ids = (own(call), own(participant));
            if is(last, "mediaLeg") {
                Place::MediaLeg(ids.0, ids.1)
            } else if is_action(last, "startHoldMusic") {
                Place::StartHoldMusic(ids.0, ids.1)
            } else if is_action(last, "stopHoldMusic") {
                Place::StopHoldMusic(ids.0, ids.1)
            } else if is_action(last, "mute") {
                Place::MuteParticipant(ids.0, ids.1)
            } else if is_action(last, "unmute") {
                Place::UnmuteParticipant(ids.0, ids.1)
            } else {
                WhepPlace::read(call, participant, &[last]).map_or_else(|| known(last), Place::Whep)
            }
        }
        [call, word, participant, rest @ ..] if is(word, "participants") => {
            WhepPlace::read(call, participant, rest).map_or_else(|| known(word), Place::Whep)
        }
        [_, word, ..] => known(word),
    }
}

fn known(word: &str) -> Place {
    graph::known_action(word).map_or(Place::Unknown, Place::NotImplemented)
}

fn is(word: &str, name: &str) -> bool {
    word.eq_ignore_ascii_case(name)
}

fn is_action(word: &str, name: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let bare = word.strip_prefix("microsoft.").unwrap_or(&word);
    is(bare.strip_prefix("graph.").unwrap_or(bare), name)
}

fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode_str(segment).decode_utf8_lossy();
        match segment.strip_suffix("')").and_then(|segment| segment.split_once("('")) {
            Some((name, key)) => segments.extend([name.to_owned(), key.to_owned()]),
            None => segments.push(segment.into_owned()),
        }
        if segments.len() > MAX_SEGMENTS {
            break;
        }
    }
    segments
}

impl Place {
    /// Whether no token is asked for; for `/metrics` that is a setting.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Console
                | Self::Health
                | Self::Ready
                | Self::Metrics
                | Self::OpenApi
                | Self::Discovery
                | Self::Keys
        )
    }

    /// The methods that are for this place, as the header `Allow` lists them.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Calls | Self::Participants(_) => "GET, HEAD, POST, OPTIONS",
            Self::Call(_) | Self::Participant(..) | Self::Undelivered(_) => "GET, HEAD, DELETE, OPTIONS",
            Self::MediaLeg(..) => "GET, HEAD, PUT, DELETE, OPTIONS",
            Self::Whep(place) => place.allow(),
            Self::KeepAlive(_)
            | Self::StartHoldMusic(..)
            | Self::StopHoldMusic(..)
            | Self::MuteCall(_)
            | Self::UnmuteCall(_)
            | Self::MuteParticipant(..)
            | Self::UnmuteParticipant(..)
            | Self::PlayPrompt(_)
            | Self::CancelMedia(_)
            | Self::Invite(_)
            | Self::PromptCheck
            | Self::PurgePrompts
            | Self::Redeliver(_)
            | Self::RedeliverAll => "POST, OPTIONS",
            // An answer without an end has no use for HEAD.
            Self::ConsoleEvents => "GET, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// What a method that is allowed asks here.
    pub(super) fn ask(&self, method: &Method, body: &[u8], query: &str) -> Result<Ask, Refusal> {
        if let Self::Count(of) = self {
            let query = Query::read_count(query)?;
            return match &**of {
                Self::Operations(call) => Ok(Ask::ListOperations { call: graph::call_id(call)?, query }),
                Self::Participants(call) => {
                    Ok(Ask::ListParticipants { call: graph::call_id(call)?, query: query.without_filter()? })
                }
                _ => Ok(Ask::ListCalls { query: query.without_filter()? }),
            };
        }
        if let Self::Whep(place) = self {
            return place.ask(method, body);
        }
        let query = || Query::read(query);
        let call_id = |id: &String| graph::call_id(id);
        let ask = match (self, method.as_str()) {
            (Self::Calls, "POST") => Ask::CreateCall(graph::read_create_call(body)?),
            (Self::ConsoleEvents, _) => Ask::Overview { again: false },
            (Self::Calls, _) => Ask::ListCalls { query: query()?.without_filter()? },
            (Self::Call(call), "DELETE") => Ask::DeleteCall { call: call_id(call)? },
            (Self::Call(call), _) => Ask::GetCall { call: call_id(call)?, query: query()? },
            (Self::KeepAlive(call), _) => {
                graph::read_nothing(body)?;
                Ask::KeepAlive { call: call_id(call)? }
            }
            (Self::MuteCall(call), _) => {
                Ask::MuteCall { call: call_id(call)?, mute: graph::read_mute(body, true)? }
            }
            (Self::UnmuteCall(call), _) => {
                Ask::MuteCall { call: call_id(call)?, mute: graph::read_mute(body, false)? }
            }
            (Self::PlayPrompt(call), _) => {
                Ask::PlayPrompt { call: call_id(call)?, play: graph::read_play_prompt(body)? }
            }
            (Self::CancelMedia(call), _) => {
                Ask::CancelMedia { call: call_id(call)?, cancel: graph::read_cancel_media(body)? }
            }
            (Self::Invite(call), _) => {
                Ask::Invite { call: call_id(call)?, invite: graph::read_invite(body)? }
            }
            (Self::Participants(call), "POST") => {
                Ask::CreateParticipant { call: call_id(call)?, create: graph::read_create_participant(body)? }
            }
            (Self::Participants(call), _) => {
                Ask::ListParticipants { call: call_id(call)?, query: query()?.without_filter()? }
            }
            (Self::PurgePrompts, _) => Ask::PurgePrompts { prompt: graph::read_purge(body)? },
            (Self::UndeliveredAll, _) => Ask::ListUndelivered { query: query()?.without_filter()? },
            (Self::Undelivered(id), "DELETE") => {
                Ask::DropUndelivered { notification: graph::notification_id(id)? }
            }
            (Self::Undelivered(id), _) => {
                Ask::GetUndelivered { notification: graph::notification_id(id)?, query: query()? }
            }
            (Self::Redeliver(id), _) => {
                graph::read_nothing(body)?;
                Ask::Redeliver { notification: graph::notification_id(id)? }
            }
            (Self::RedeliverAll, _) => {
                graph::read_nothing(body)?;
                Ask::RedeliverAll
            }
            (Self::Operations(call), _) => Ask::ListOperations { call: call_id(call)?, query: query()? },
            (Self::Operation(call, operation), _) => Ask::GetOperation {
                call: call_id(call)?,
                operation: graph::operation_id(operation)?,
                query: query()?,
            },
            (
                Self::Participant(call, participant)
                | Self::MediaLeg(call, participant)
                | Self::StartHoldMusic(call, participant)
                | Self::StopHoldMusic(call, participant)
                | Self::MuteParticipant(call, participant)
                | Self::UnmuteParticipant(call, participant),
                method,
            ) => {
                let (call, participant) = (call_id(call)?, graph::participant_id(participant)?);
                match (self, method) {
                    (Self::Participant(..), "DELETE") => Ask::DeleteParticipant { call, participant },
                    (Self::Participant(..), _) => Ask::GetParticipant { call, participant, query: query()? },
                    (Self::MediaLeg(..), "PUT") => {
                        Ask::PutMediaLeg { call, participant, offer: graph::read_media_leg(body)? }
                    }
                    (Self::MediaLeg(..), "DELETE") => Ask::DeleteMediaLeg { call, participant },
                    (Self::MediaLeg(..), _) => Ask::GetMediaLeg { call, participant },
                    (Self::MuteParticipant(..), _) => {
                        Ask::MuteParticipant { call, participant, mute: graph::read_mute(body, true)? }
                    }
                    (Self::UnmuteParticipant(..), _) => {
                        Ask::MuteParticipant { call, participant, mute: graph::read_mute(body, false)? }
                    }
                    (Self::StartHoldMusic(..), _) => {
                        Ask::StartHoldMusic { call, participant, start: graph::read_start_hold_music(body)? }
                    }
                    _ => Ask::StopHoldMusic { call, participant, stop: graph::read_stop_hold_music(body)? },
                }
            }
            _ => return Err(Refusal::unknown_path("")),
        };
        Ok(ask)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{authority::GrantKind, http::whep::What};

    #[test]
    fn every_form_of_a_path_that_clients_write_leads_to_the_same_place() {
        let start = Place::StartHoldMusic("C-1".into(), "P-2".into());
        for path in [
            "/v1.0/communications/calls/C-1/participants/P-2/startHoldMusic",
            "/v1.0//communications/calls/C-1//participants/P-2/startHoldMusic/",
            "/V1.0/Communications/Calls/C-1/Participants/P-2/STARTHOLDMUSIC",
            "/v1.0/app/calls/C-1/participants/P-2/microsoft.graph.startHoldMusic",
            "/v1.0/communications/calls('C-1')/participants('P-2')/Microsoft.Graph.startHoldMusic",
            "/v1.0/communications/calls(%27C-1%27)/participants/P-2/graph.startholdmusic",
        ] {
            assert_eq!(Target::read(path), Target { version: "v1.0", place: start.clone() }, "{path}");
        }
        let beta = "/beta/app/calls/C-1/participants/P-2/startHoldMusic";
        assert_eq!(Target::read(beta), Target { version: "beta", place: start });
    }

    #[test]
    fn what_graph_has_and_we_have_not_is_named() {
        for (path, action) in [
            ("/v1.0/communications/calls/C/transfer", "transfer"),
            ("/v1.0/communications/calls/C/participants/muteAll", "muteAll"),
            ("/v1.0/communications/calls/C/microsoft.graph.recordResponse", "recordResponse"),
            ("/v1.0/communications/calls/C/audioRoutingGroups/1", "audioRoutingGroups"),
            ("/v1.0/communications/calls/logTeleconferenceDeviceQuality", "logTeleconferenceDeviceQuality"),
            (
                "/beta/app/calls/microsoft.graph.logTeleconferenceDeviceQuality",
                "logTeleconferenceDeviceQuality",
            ),
        ] {
            let place = Target::read(path).place;
            assert_eq!(place, Place::NotImplemented(action), "{path}");
        }
        for (path, place) in [
            ("/", Place::Console),
            ("//", Place::Console),
            ("/console/events", Place::ConsoleEvents),
            ("/console", Place::Unknown),
        ] {
            assert_eq!(Target::read(path).place, place, "{path}");
        }
        for path in ["/v1.0", "/v1.0/users", "/v1.0/communications/calls/C/nonsense", "/v2/keys"] {
            assert_eq!(Target::read(path).place, Place::Unknown, "{path}");
        }
        for path in ["/v1.0/communications/prompts/check", "/beta//app/Prompts/microsoft.graph.Check/"] {
            assert_eq!(Target::read(path).place, Place::PromptCheck, "{path}");
        }
        let long = "/a".repeat(100_000);
        assert_eq!(Target::read(&long).place, Place::Unknown);
    }

    #[test]
    fn undelivered_notifications_are_found_in_every_form() {
        for (path, place) in [
            ("/v1.0/communications/notifications/undelivered", Place::UndeliveredAll),
            ("/beta/app//Notifications/Undelivered/", Place::UndeliveredAll),
            ("/v1.0/communications/notifications/undelivered/N-1", Place::Undelivered("N-1".into())),
            ("/v1.0/communications/notifications/undelivered('N-1')", Place::Undelivered("N-1".into())),
            ("/v1.0/communications/notifications/undelivered/N-1/redeliver", Place::Redeliver("N-1".into())),
            (
                "/beta/communications/notifications/undelivered/N-1/microsoft.graph.Redeliver",
                Place::Redeliver("N-1".into()),
            ),
            ("/v1.0/communications/notifications/REDELIVER", Place::RedeliverAll),
            ("/v1.0/communications/notifications", Place::Unknown),
            ("/v1.0/communications/notifications/undelivered/N-1/else", Place::Unknown),
        ] {
            assert_eq!(Target::read(path).place, place, "{path}");
        }
        let id = "57DAB8B1894C409AB240BD8BEAE78896".to_owned();
        for (place, allow) in [
            (Place::UndeliveredAll, "GET, HEAD, OPTIONS"),
            (Place::Undelivered(id.clone()), "GET, HEAD, DELETE, OPTIONS"),
            (Place::Redeliver(id.clone()), "POST, OPTIONS"),
            (Place::RedeliverAll, "POST, OPTIONS"),
        ] {
            assert_eq!(place.allow(), allow, "{place:?}");
        }
        assert!(Place::Undelivered(id).ask(&Method::DELETE, b"", "").is_ok());
        let refusal = Place::Undelivered("nonsense".into()).ask(&Method::GET, b"", "").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (404, "8522"));
    }

    #[test]
    fn whep_is_found_below_a_participant_in_every_form() {
        let place =
            |kind, what| Place::Whep(WhepPlace { call: "C".into(), participant: "P".into(), kind, what });
        let session = |name: &str| What::Session(name.into());
        for (path, found) in [
            ("/v1.0/communications/calls/C/participants/P/whep", place(GrantKind::Leg, What::Endpoint)),
            ("/beta/app/calls('C')//participants('P')/WHEP/", place(GrantKind::Leg, What::Endpoint)),
            ("/v1.0/app/calls/C/participants/P/whep/4d-1", place(GrantKind::Leg, session("4d-1"))),
            ("/v1.0/app/calls/C/participants/P/whep/Token", place(GrantKind::Leg, What::Token)),
            ("/v1.0/app/calls/C/participants/P/Listeners", place(GrantKind::Listener, What::Endpoint)),
            ("/v1.0/app/calls/C/participants/P/listeners('L')", place(GrantKind::Listener, session("L"))),
            ("/v1.0/app/calls/C/participants/P/listeners/token", place(GrantKind::Listener, What::Token)),
            ("/v1.0/app/calls/C/participants/P/listeners/L/else", Place::Unknown),
            ("/v1.0/app/calls/C/participants/P/mediaLeg/L", Place::Unknown),
            ("/v1.0/app/calls/C/whep", Place::Unknown),
        ] {
            assert_eq!(Target::read(path).place, found, "{path}");
        }
        let found = |path: &str| Target::read(&format!("/v1.0/app/calls/C/participants/P/{path}")).place;
        for (path, allow) in [
            ("whep", "GET, HEAD, POST, OPTIONS"),
            ("listeners", "GET, HEAD, POST, OPTIONS"),
            ("whep/1-1", "GET, HEAD, DELETE, OPTIONS"),
            ("listeners/L", "GET, HEAD, DELETE, OPTIONS"),
            ("listeners/token", "POST, OPTIONS"),
        ] {
            assert_eq!(found(path).allow(), allow, "{path}");
        }
    }

    #[test]
    fn a_collection_can_be_counted_and_nothing_else() {
        let count = |of| Place::Count(Box::new(of));
        for (path, place) in [
            ("/v1.0/communications/calls/$count", count(Place::Calls)),
            ("/beta/app/calls('C')/participants/%24count", count(Place::Participants("C".into()))),
            ("/v1.0/communications/calls/C/operations/$COUNT/", count(Place::Operations("C".into()))),
            ("/v1.0/communications/calls/C/mediaLeg/$count", Place::Unknown),
            ("/v1.0/communications/calls/C/$count", Place::Unknown),
            ("/v1.0/communications/calls/$count/$count", Place::Unknown),
        ] {
            assert_eq!(Target::read(path).place, place, "{path}");
        }
        let ask = |query| count(Place::Calls).ask(&Method::GET, b"", query);
        assert!(ask("$top=1&$select=id").is_ok());
        assert_eq!(ask("$filter=status eq 'running'").unwrap_err().code, "8523");
    }

    #[test]
    fn every_place_that_is_read_is_read_without_its_body_too() {
        for path in ["/healthz", "/v1.0/app/calls", "/v1.0/app/calls/C/participants/P/mediaLeg"] {
            let allow = Target::read(path).place.allow();
            assert!(allow.starts_with("GET, HEAD, ") && allow.ends_with(", OPTIONS"), "{path}");
        }
        assert_eq!(Target::read("/v1.0/app/calls/C/keepAlive").place.allow(), "POST, OPTIONS");
    }

    proptest! {
        #[test]
        fn hostile_paths_lead_somewhere_or_nowhere(
            path in "(/(v1\\.0|communications|app|calls|\\$count|participants|invite|%[0-9a-f]{2}|\\PC{0,9}|'\\)|\\('x'\\)){1,2}){0,14}",
            query in "(\\$?(top|filter|count)=\\PC{0,9}&){0,2}",
        ) {
            let place = Target::read(&path).place;
            for method in place.allow().split(", ") {
                let _ = place.ask(&method.parse().unwrap(), b"{}", &query);
            }
        }
    }
}
