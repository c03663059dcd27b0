//! Everything that can be asked, and everything that can come of it: the list of which the document is made.

use holdmusic_control::{Refusal, graph::MAX_SDP};
use utoipa::openapi::{HttpMethod, Required};

use crate::http::{body::MAX_BODY, whep::SDP};

/// Something that can be asked.
pub(super) struct Asked {
    pub(super) path: &'static str,
    pub(super) method: HttpMethod,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Which of the options of [`parameters`] it has.
    pub(super) options: &'static [&'static str],
    /// The schema of its body, and whether there must be one.
    pub(super) body: Option<(&'static str, Required)>,
    /// What it is answered with.
    pub(super) answers: Vec<Answered>,
    /// Why it may be refused, beside what everything may be refused for.
    pub(super) refused: &'static [Situation],
    /// Whether it needs no token.
    pub(super) open: bool,
}

/// An answer to what was done.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: Said,
    /// Whether `Location` says where the new resource is.
    pub(super) location: bool,
}

/// What an answer holds.
#[derive(Clone, Copy)]
pub(super) enum Said {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// A whole number as text.
    Number,
    /// Text of this media type.
    Text(&'static str),
}

/// A reason for a refusal: the refusal itself, from which status and code are taken, and when it comes.
pub(super) type Situation = fn() -> (Refusal, &'static str);

pub(super) const UNAUTHENTICATED: Situation =
    || (Refusal::unauthenticated(""), "no token, or not one that is known");
pub(super) const NO_ROLE: Situation =
    || (Refusal::forbidden(""), "the token lacks a role, or its application is not registered here");
pub(super) const NOT_THEIRS: Situation =
    || (Refusal::not_theirs(""), "the call belongs to another application or tenant");
pub(super) const TOO_MANY: Situation = || (Refusal::too_many("", 1), "a limit is reached");
pub(super) const UNAVAILABLE: Situation =
    || (Refusal::unavailable("", 1), "a limit of the engine is reached, or it is shutting down");
pub(super) const INTERNAL: Situation = || (Refusal::internal(""), "a fault of the engine's");
pub(super) const TIMED_OUT: Situation = || (Refusal::timed_out(""), "the body did not come in time");
pub(super) const TOO_BIG: Situation = || (Refusal::body_too_big(MAX_BODY), "the body is larger than 256 KiB");
pub(super) const UNSUPPORTED_TYPE: Situation =
    || (Refusal::unsupported_type("", ""), "the body is not `application/json`");
pub(super) const TOO_LONG: Situation = || (Refusal::body_too_big(MAX_SDP), "the offer is longer than 64 KiB");
pub(super) const NO_OFFER: Situation =
    || (Refusal::unsupported_type("", ""), "the body is not `application/sdp`");
pub(super) const UNSUPPORTED_CODING: Situation =
    || (Refusal::unsupported_encoding(""), "the body is compressed, but not by gzip");
pub(super) const BAD_HEAD: Situation = || (Refusal::invalid(""), "the header `Host` is missing or malformed");
pub(super) const INVALID: Situation = || (Refusal::invalid(""), "something in the body is wrong");
pub(super) const BAD_QUERY: Situation =
    || (Refusal::invalid(""), "an option of the query is unknown or malformed");
pub(super) const NO_CALL: Situation = || (Refusal::unknown_call(""), "there is no such call, or no longer");
pub(super) const NO_PARTICIPANT: Situation =
    || (Refusal::unknown_participant(""), "there is no such participant");
pub(super) const NO_OPERATION: Situation =
    || (Refusal::unknown_operation(""), "there is no such operation, or no longer");
pub(super) const NO_NOTIFICATION: Situation =
    || (Refusal::unknown_notification(""), "there is no such notification among those that were given up");
pub(super) const NO_LEG: Situation = || (Refusal::unknown_leg(""), "the participant has no media leg");
pub(super) const NO_SESSION: Situation =
    || (Refusal::unknown_session(""), "there is no such session, or no longer");
pub(super) const BAD_OFFER: Situation = || (Refusal::bad_offer(""), "nothing can be made of the offer");
pub(super) const UNHEARD: Situation =
    || (Refusal::cannot_receive(""), "the participant hears nothing that could be listened in on");
pub(super) const NOT_THAT_TOKEN: Situation =
    || (Refusal::forbidden(""), "the listener was not made with this token");
pub(super) const ENDED: Situation = || (Refusal::call_ended(""), "the call has ended");
pub(super) const DEAF: Situation =
    || (Refusal::cannot_receive(""), "the participant has no media leg, or one that cannot receive");
pub(super) const HELD: Situation = || (Refusal::conflict(""), "as many participants are on hold as may be");

/// What everything may be refused for.
pub(super) const ALWAYS: &[Situation] = &[BAD_HEAD];
/// What everything may be refused for that needs a token.
pub(super) const WITH_TOKEN: &[Situation] = &[UNAUTHENTICATED, NO_ROLE, TOO_MANY, INTERNAL, UNAVAILABLE];
/// What everything may be refused for that is within a call.
pub(super) const WITH_CALL: &[Situation] = &[NOT_THEIRS];
/// What everything may be refused for that reads a body.
pub(super) const WITH_BODY: &[Situation] = &[TIMED_OUT, TOO_BIG, UNSUPPORTED_TYPE, UNSUPPORTED_CODING];

/// The same where the body is an offer.
pub(super) const WITH_OFFER: &[Situation] = &[TIMED_OUT, TOO_LONG, NO_OFFER, UNSUPPORTED_CODING];

pub(super) const CALLS: &str = "/v1.0/communications/calls";
pub(super) const CALL: &str = "/v1.0/communications/calls/{call-id}";
pub(super) const KEEP_ALIVE: &str = "/v1.0/communications/calls/{call-id}/keepAlive";
pub(super) const CALL_COUNT: &str = "/v1.0/communications/calls/$count";
pub(super) const PARTICIPANT_COUNT: &str = "/v1.0/communications/calls/{call-id}/participants/$count";
pub(super) const OPERATION_COUNT: &str = "/v1.0/communications/calls/{call-id}/operations/$count";
pub(super) const PARTICIPANTS: &str = "/v1.0/communications/calls/{call-id}/participants";
pub(super) const PARTICIPANT: &str = "/v1.0/communications/calls/{call-id}/participants/{participant-id}";
pub(super) const MEDIA_LEG: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/mediaLeg";
pub(super) const WHEP: &str = "/v1.0/communications/calls/{call-id}/participants/{participant-id}/whep";
pub(super) const WHEP_TOKEN: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/whep/token";
pub(super) const WHEP_SESSION: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/whep/{session-id}";
pub(super) const LISTENERS: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/listeners";
pub(super) const LISTENERS_TOKEN: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/listeners/token";
pub(super) const LISTENER: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/listeners/{listener-id}";
pub(super) const START: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/startHoldMusic";
pub(super) const STOP: &str =
    "/v1.0/communications/calls/{call-id}/participants/{participant-id}/stopHoldMusic";
pub(super) const MUTE: &str = "/v1.0/communications/calls/{call-id}/participants/{participant-id}/mute";
pub(super) const UNMUTE: &str = "/v1.0/communications/calls/{call-id}/participants/{participant-id}/unmute";
pub(super) const MUTE_CALL: &str = "/v1.0/communications/calls/{call-id}/mute";
pub(super) const UNMUTE_CALL: &str = "/v1.0/communications/calls/{call-id}/unmute";
pub(super) const PLAY_PROMPT: &str = "/v1.0/communications/calls/{call-id}/playPrompt";
pub(super) const CANCEL_MEDIA: &str = "/v1.0/communications/calls/{call-id}/cancelMediaProcessing";
pub(super) const INVITE: &str = "/v1.0/communications/calls/{call-id}/participants/invite";
pub(super) const OPERATIONS: &str = "/v1.0/communications/calls/{call-id}/operations";
pub(super) const OPERATION: &str = "/v1.0/communications/calls/{call-id}/operations/{operation-id}";
pub(super) const UNDELIVERED_ALL: &str = "/v1.0/communications/notifications/undelivered";
pub(super) const UNDELIVERED: &str = "/v1.0/communications/notifications/undelivered/{notification-id}";
pub(super) const REDELIVER: &str =
    "/v1.0/communications/notifications/undelivered/{notification-id}/redeliver";
pub(super) const REDELIVER_ALL: &str = "/v1.0/communications/notifications/redeliver";
pub(super) const PROMPT_CHECK: &str = "/v1.0/communications/prompts/check";
pub(super) const PROMPT_PURGE: &str = "/v1.0/communications/prompts/purge";

pub(super) const ONE: &[&str] = &["$select"];
pub(super) const MANY: &[&str] = &["$select", "$top", "$skip", "$count"];
pub(super) const FILTERED: &[&str] = &["$select", "$top", "$skip", "$filter", "$count"];

const fn json(status: u16, schema: &'static str, description: &'static str) -> Answered {
    Answered { status, description, content: Said::Json(schema), location: false }
}

const fn made(status: u16, schema: &'static str, description: &'static str) -> Answered {
    Answered { status, description, content: Said::Json(schema), location: true }
}

fn how_many() -> Vec<Answered> {
    vec![Answered { status: 200, description: "A number.", content: Said::Number, location: false }]
}

fn done() -> Vec<Answered> {
    vec![Answered { status: 204, description: "Done.", content: Said::Nothing, location: false }]
}

/// A session of WHEP that was made.
const fn session(description: &'static str) -> Answered {
    Answered { status: 201, description, content: Said::Text(SDP), location: true }
}

/// A session of WHEP that is over.
fn ended() -> Vec<Answered> {
    vec![Answered { status: 200, description: "Done.", content: Said::Nothing, location: false }]
}

/// Everything that can be asked, in the order of the document.
pub(super) fn asked() -> Vec<Asked> {
    let reading = |path, id, tag, summary, options, answers, refused| Asked {
        path,
        method: HttpMethod::Get,
        id,
        tag,
        summary,
        description: "",
        options,
        body: None,
        answers,
        refused,
        open: false,
    };
    let doing = |method, path, id, tag, summary, description, body, answers, refused| Asked {
        path,
        method,
        id,
        tag,
        summary,
        description,
        options: &[],
        body,
        answers,
        refused,
        open: false,
    };
    let open = |path, id, summary, answers| Asked {
        open: true,
        ..reading(path, id, "engine", summary, &[], answers, &[])
    };
    use HttpMethod::{Delete, Post, Put};
    vec![
        doing(
            Post,
            CALLS,
            "createCall",
            "calls",
            "Make a call",
            "The call is `established` at once. Notifications of it, of its participants and of its operations go to \
             `callbackUri`.",
            Some(("createCall", Required::True)),
            vec![made(201, "call", "The call.")],
            &[INVALID],
        ),
        reading(
            CALLS,
            "listCalls",
            "calls",
            "List calls",
            MANY,
            vec![json(200, "callCollection", "A page of calls.")],
            &[BAD_QUERY],
        ),
        reading(CALL_COUNT, "countCalls", "calls", "Count calls", &[], how_many(), &[BAD_QUERY]),
        reading(
            CALL,
            "getCall",
            "calls",
            "Read a call",
            ONE,
            vec![json(200, "call", "The call.")],
            &[BAD_QUERY, NO_CALL],
        ),
        doing(
            Delete,
            CALL,
            "deleteCall",
            "calls",
            "End a call",
            "Every hold in it ends. Its operations can be read for some time.",
            None,
            done(),
            &[NO_CALL, ENDED],
        ),
        doing(
            Post,
            KEEP_ALIVE,
            "keepAlive",
            "calls",
            "Keep a call alive",
            "Where the operator has set a lifetime without it, the call ends if this is not asked in time.",
            Some(("nothing", Required::False)),
            vec![Answered { status: 200, description: "Done.", content: Said::Nothing, location: false }],
            &[INVALID, NO_CALL, ENDED],
        ),
        doing(
            Post,
            PARTICIPANTS,
            "createParticipant",
            "participants",
            "Register a participant",
            "An extension: Graph's calls get their participants elsewhere. Its media leg can be given at once.",
            Some(("createParticipant", Required::False)),
            vec![made(201, "participant", "The participant.")],
            &[INVALID, NO_CALL, ENDED],
        ),
        reading(
            PARTICIPANTS,
            "listParticipants",
            "participants",
            "List the participants of a call",
            MANY,
            vec![json(
                200,
                "participantCollection",
                "A page of participants, in the order of their registration.",
            )],
            &[BAD_QUERY, NO_CALL, ENDED],
        ),
        reading(
            PARTICIPANT_COUNT,
            "countParticipants",
            "participants",
            "Count the participants of a call",
            &[],
            how_many(),
            &[BAD_QUERY, NO_CALL, ENDED],
        ),
        reading(
            PARTICIPANT,
            "getParticipant",
            "participants",
            "Read a participant",
            ONE,
            vec![json(200, "participant", "The participant, with its media leg.")],
            &[BAD_QUERY, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Delete,
            PARTICIPANT,
            "deleteParticipant",
            "participants",
            "Remove a participant",
            "Its hold ends.",
            None,
            done(),
            &[NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Put,
            MEDIA_LEG,
            "putMediaLeg",
            "participants",
            "Give a participant a media leg, or change it",
            "An extension. A hold goes on, on the new path.",
            Some(("putMediaLeg", Required::True)),
            vec![json(200, "mediaLeg", "The media leg; for an offer in SDP, with the answer.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        reading(
            MEDIA_LEG,
            "getMediaLeg",
            "participants",
            "Read a media leg",
            &[],
            vec![json(200, "mediaLeg", "The media leg.")],
            &[NO_CALL, NO_PARTICIPANT, NO_LEG, ENDED],
        ),
        doing(
            Delete,
            MEDIA_LEG,
            "deleteMediaLeg",
            "participants",
            "Remove a media leg",
            "An extension. A hold on it ends.",
            None,
            done(),
            &[NO_CALL, NO_PARTICIPANT, NO_LEG, ENDED],
        ),
        doing(
            Post,
            WHEP,
            "openWhep",
            "whep",
            "Give a participant a media leg by WHEP",
            "An extension: the same as `putMediaLeg`, by the protocol that browsers and media players speak \
             (draft-ietf-wish-whep). The body is an SDP offer with its candidates in it; neither trickle ICE nor ICE restarts \
             are supported. A token that `whepToken` gives is good here.",
            Some((SDP, Required::True)),
            vec![session("The answer in SDP.")],
            &[BAD_OFFER, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        reading(
            WHEP,
            "lookAtWhep",
            "whep",
            "Look whether WHEP is spoken",
            &[],
            done(),
            &[NO_CALL, NO_PARTICIPANT],
        ),
        doing(
            Post,
            WHEP_TOKEN,
            "whepToken",
            "whep",
            "Get a token for a media leg by WHEP",
            "An extension. It is good for 5 minutes, for this participant's `whep` alone, and to end what it began for longer, until \
             the engine is started again.",
            Some(("nothing", Required::False)),
            vec![json(200, "whepToken", "The token.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        reading(
            WHEP_SESSION,
            "lookAtWhepSession",
            "whep",
            "Look whether a session is there",
            &[],
            done(),
            &[NO_CALL, NO_PARTICIPANT, NO_SESSION],
        ),
        doing(
            Delete,
            WHEP_SESSION,
            "closeWhep",
            "whep",
            "End a session",
            "The media leg is removed, and a hold on it ends.",
            None,
            ended(),
            &[NO_CALL, NO_PARTICIPANT, NO_SESSION, ENDED],
        ),
        doing(
            Post,
            LISTENERS,
            "listen",
            "whep",
            "Listen in on a participant",
            "An extension, by WHEP: who listens gets, packet for packet, the payloads that the participant's media leg is sent, in \
             an RTP stream of its own, and nothing while it is sent nothing. It must be able to decode what the participant \
             hears. It is not in the roster. It ends with the participant, with its media leg and with that one's codec, by \
             RTCP BYE or without consent, after 8 hours, and when the engine is started again. A token that `listenersToken` \
             gives is good here, for one listener at a time.",
            Some((SDP, Required::True)),
            vec![session("The answer in SDP.")],
            &[BAD_OFFER, UNHEARD, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        reading(
            LISTENERS,
            "lookAtListeners",
            "whep",
            "Look whether WHEP is spoken",
            &[],
            done(),
            &[NO_CALL, NO_PARTICIPANT],
        ),
        doing(
            Post,
            LISTENERS_TOKEN,
            "listenersToken",
            "whep",
            "Get a token for listening in",
            "An extension. It is good for 5 minutes, for listening in on this participant alone, and to end that for longer, until the \
             engine is started again.",
            Some(("nothing", Required::False)),
            vec![json(200, "whepToken", "The token.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        reading(
            LISTENER,
            "lookAtListener",
            "whep",
            "Look whether somebody listens in",
            &[],
            done(),
            &[NO_CALL, NO_PARTICIPANT, NO_SESSION],
        ),
        doing(
            Delete,
            LISTENER,
            "stopListening",
            "whep",
            "Listen in no more",
            "",
            None,
            ended(),
            &[NO_CALL, NO_PARTICIPANT, NO_SESSION, NOT_THAT_TOKEN, ENDED],
        ),
        doing(
            Post,
            START,
            "startHoldMusic",
            "holds",
            "Put a participant on hold and play music to it",
            "The operation is `running` in the answer, and `completed` when the first packet of what was asked for has \
             left: one notification says so. Without a prompt, or while it is not ready, default music is heard. The \
             same request again is the same operation, while that hold lasts. One participant of a call can be on hold \
             at a time, unless the call was made with a higher `maxHeldParticipants`.",
            Some(("startHoldMusic", Required::False)),
            vec![made(202, "commsOperation", "A startHoldMusicOperation.")],
            &[INVALID, DEAF, NO_CALL, NO_PARTICIPANT, HELD, ENDED],
        ),
        doing(
            Post,
            STOP,
            "stopHoldMusic",
            "holds",
            "Take a participant back from hold",
            "The operation is `completed` in the answer, and no notification of it follows. `holdMusic` tells what was \
             sent, and how the stream can be gone on with. Without a hold it says that there was nothing to stop.",
            Some(("stopHoldMusic", Required::False)),
            vec![made(202, "commsOperation", "A stopHoldMusicOperation.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Post,
            MUTE,
            "muteParticipant",
            "participants",
            "Mute a participant",
            "",
            Some(("clientContext", Required::False)),
            vec![made(200, "commsOperation", "A muteParticipantOperation.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Post,
            UNMUTE,
            "unmuteParticipant",
            "participants",
            "Unmute a participant",
            "",
            Some(("clientContext", Required::False)),
            vec![made(200, "commsOperation", "An unmuteParticipantOperation.")],
            &[INVALID, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Post,
            MUTE_CALL,
            "muteCall",
            "calls",
            "Mute the bot itself",
            "",
            Some(("clientContext", Required::False)),
            vec![made(200, "commsOperation", "A muteParticipantOperation.")],
            &[INVALID, NO_CALL, ENDED],
        ),
        doing(
            Post,
            UNMUTE_CALL,
            "unmuteCall",
            "calls",
            "Unmute the bot itself",
            "",
            Some(("clientContext", Required::False)),
            vec![made(200, "commsOperation", "An unmuteParticipantOperation.")],
            &[INVALID, NO_CALL, ENDED],
        ),
        doing(
            Post,
            INVITE,
            "inviteParticipants",
            "participants",
            "Invite participants",
            "They are registered without a media leg, which can be given later.",
            Some(("inviteParticipants", Required::True)),
            vec![made(
                200,
                "commsOperation",
                "An inviteParticipantsOperation, with the ids of who was invited.",
            )],
            &[INVALID, NO_CALL, ENDED],
        ),
        doing(
            Post,
            PLAY_PROMPT,
            "playPrompt",
            "prompts",
            "Play prompts once",
            "They are heard one after the other, in place of hold music or without a hold; a notification says when they \
             are over. The operation is `running` in the answer.",
            Some(("playPrompt", Required::True)),
            vec![made(200, "commsOperation", "A playPromptOperation.")],
            &[INVALID, DEAF, NO_CALL, NO_PARTICIPANT, ENDED],
        ),
        doing(
            Post,
            CANCEL_MEDIA,
            "cancelMediaProcessing",
            "prompts",
            "Stop the prompts that play and those that wait",
            "Hold music goes on, unless `holdMusic.stop` says that it shall end too.",
            Some(("cancelMediaProcessing", Required::False)),
            vec![made(200, "commsOperation", "A cancelMediaProcessingOperation.")],
            &[INVALID, NO_CALL, ENDED],
        ),
        reading(
            OPERATIONS,
            "listOperations",
            "operations",
            "List the operations of a call",
            FILTERED,
            vec![json(
                200,
                "commsOperationCollection",
                "A page of operations, in the order of their acceptance.",
            )],
            &[BAD_QUERY, NO_CALL],
        ),
        reading(
            OPERATION_COUNT,
            "countOperations",
            "operations",
            "Count the operations of a call",
            &["$filter"],
            how_many(),
            &[BAD_QUERY, NO_CALL],
        ),
        reading(
            OPERATION,
            "getOperation",
            "operations",
            "Read an operation",
            ONE,
            vec![json(200, "commsOperation", "The operation.")],
            &[BAD_QUERY, NO_CALL, NO_OPERATION],
        ),
        reading(
            UNDELIVERED_ALL,
            "listUndelivered",
            "notifications",
            "List notifications that were given up",
            MANY,
            vec![json(200, "undeliveredNotificationCollection", "A page of them, oldest first.")],
            &[BAD_QUERY],
        ),
        reading(
            UNDELIVERED,
            "getUndelivered",
            "notifications",
            "Read a notification that was given up",
            ONE,
            vec![json(200, "undeliveredNotification", "What it says, and why it was not delivered.")],
            &[BAD_QUERY, NO_NOTIFICATION],
        ),
        doing(
            Delete,
            UNDELIVERED,
            "dropUndelivered",
            "notifications",
            "Throw a notification away that was given up",
            "",
            None,
            done(),
            &[NO_NOTIFICATION],
        ),
        doing(
            Post,
            REDELIVER,
            "redeliver",
            "notifications",
            "Send a notification again that was given up",
            "",
            Some(("nothing", Required::False)),
            vec![json(202, "undeliveredNotification", "It is owed again; this is how it was listed.")],
            &[INVALID, NO_NOTIFICATION, ENDED],
        ),
        doing(
            Post,
            REDELIVER_ALL,
            "redeliverAll",
            "notifications",
            "Send all notifications again that were given up",
            "",
            Some(("nothing", Required::False)),
            vec![json(202, "redelivery", "How many are owed again.")],
            &[INVALID],
        ),
        doing(
            Post,
            PROMPT_CHECK,
            "checkPrompt",
            "prompts",
            "Try a prompt",
            "An extension: a dry run. The prompt is fetched, decoded and prepared as for a hold, and looked at; nothing is \
             played. What is wrong with it stands in the report.",
            Some(("promptToCheck", Required::True)),
            vec![json(200, "promptCheckReport", "The report.")],
            &[INVALID],
        ),
        doing(
            Post,
            PROMPT_PURGE,
            "purgePrompts",
            "prompts",
            "Forget prompts",
            "An extension: what was kept of a prompt, or of all of them, is fetched anew for the next hold. Who hears it \
             now goes on hearing it.",
            Some(("promptsToPurge", Required::False)),
            done(),
            &[INVALID],
        ),
        open(
            "/v1/.well-known/OpenIdConfiguration",
            "getOpenIdConfiguration",
            "Where the keys are that sign our notifications",
            vec![json(200, "openIdConfiguration", "The discovery document.")],
        ),
        open(
            "/v1/keys",
            "getKeys",
            "The keys that sign our notifications",
            vec![json(200, "jsonWebKeySet", "A JWK set.")],
        ),
        open(
            "/healthz",
            "getHealth",
            "Whether the process is alive",
            vec![json(200, "health", "It is."), json(503, "health", "A thread has stood still for seconds.")],
        ),
        open(
            "/readyz",
            "getReadiness",
            "Whether requests are taken",
            vec![json(200, "readiness", "They are."), json(503, "readiness", "They are not, and why.")],
        ),
        Asked {
            refused: &[UNAUTHENTICATED],
            description: "Where the engine listens on other addresses than loopback, the token is needed.",
            ..open(
                "/metrics",
                "getMetrics",
                "What is counted",
                vec![Answered {
                    status: 200,
                    description: "OpenMetrics.",
                    content: Said::Text("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                    location: false,
                }],
            )
        },
        open(
            "/",
            "getConsole",
            "The console: a page for people",
            vec![Answered {
                status: 200,
                description: "A page. It asks for the token itself.",
                content: Said::Text("text/html; charset=utf-8"),
                location: false,
            }],
        ),
        open("/openapi.json", "getOpenApi", "This document", vec![json(200, "openApi", "OpenAPI 3.1.")]),
    ]
}
