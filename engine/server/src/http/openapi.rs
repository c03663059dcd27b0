//! The OpenAPI document: our paths, with the schemas and the refusals of `control/graph`.
//!
//! docs/openapi.json is what comes out; `UPDATE_EXPECT=1 cargo test --release -p holdmusic openapi` writes it anew.

mod operations;

use std::{collections::BTreeMap, sync::LazyLock};

use holdmusic_control::graph::{self, MAX_SDP};
use serde_json::json;
use utoipa::openapi::{
    Components, Content, Header, HttpMethod, Info, KnownFormat, License, OpenApi, PathItem, Paths, Ref,
    RefOr, Required, Response, ResponseBuilder, Schema, SchemaFormat, Server, Tag, Type,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
    schema::{ArrayBuilder, ObjectBuilder, SchemaType},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    tag::TagBuilder,
};

use super::whep::SDP;
use operations::{
    ALWAYS, Answered, Asked, CALL, Said, Situation, WITH_BODY, WITH_CALL, WITH_OFFER, WITH_TOKEN, asked,
};

/// The document as it is served.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = document().to_pretty_json().expect("our own values can always be written as JSON");
        text.push('\n');
        text
    });
    &TEXT
}

const ABOUT: &str = "\
Hold music for bots: participants of a call are put on hold and hear a prompt, sent as Opus over RTP.

Paths, bodies, errors and notifications are those of Microsoft Graph's cloud communications; what this engine adds is \
said to be an extension. Everything below `/v1.0` also answers below `/beta`, and `/communications` may be written \
`/app`. Actions are found with and without the prefix `microsoft.graph.`, names in any letter case; `calls('ID')` is \
`calls/ID`; doubled slashes collapse. Ids are compared without regard to letter case and dashes.

HEAD is answered like GET, without a body, and OPTIONS with the header `Allow`. Any other method than those listed is refused with 405 \
`MethodNotAllowed`, and the header `Allow` lists the right ones. An unknown path is refused with 404 \
`ResourceNotFound`, an action of Graph that this engine does not have with 501 `NotImplemented`.

Bodies are JSON. Members that are not described are passed over, `null` counts as absent, words may be in any letter \
case, comments and trailing commas are forgiven, and an empty body counts as `{}`.

`/` is a console for people, with an event stream of its own (`/console/events`) that is no part of the API: it changes \
with the page.

Every answer has a `request-id`. A client names its request by the header `client-request-id`, up to 128 visible \
characters of ASCII, and the answer repeats it.";

fn document() -> OpenApi {
    let mut paths = Paths::new();
    for asked in asked() {
        let (path, method) = (asked.path, asked.method.clone());
        paths.add_path_operation(path, vec![method], operation(asked));
    }
    let mut info = Info::new("holdmusic", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    info.license = Some(license);
    let mut document = OpenApi::new(info, paths);
    document.servers = Some(vec![Server::new("/")]);
    document.tags = Some(tags());
    document.components = Some(components());
    document
}

fn tags() -> Vec<Tag> {
    let tag =
        |name: &str, description: &str| TagBuilder::new().name(name).description(Some(description)).build();
    vec![
        tag("calls", "Calls come, are kept alive, and go."),
        tag("participants", "Who is in a call, and where its sound goes."),
        tag("whep", "Media legs by WHEP, and listening in."),
        tag("holds", "Hold music starts and stops."),
        tag("operations", "What became of what was asked for."),
        tag("prompts", "What can be played."),
        tag("notifications", "What could not be told."),
        tag("engine", "The engine itself."),
    ]
}

fn components() -> Components {
    let mut components = Components::new();
    components.schemas = graph::schemas();
    components.schemas.extend(own_schemas());
    for (name, header) in headers() {
        components.headers.insert(name.to_owned(), header.into());
    }
    for (name, parameter) in parameters() {
        components.parameters.insert(name.to_owned(), parameter.into());
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "`Authorization: Bearer …`: the static token of the engine, or a token of an issuer that it is set to trust.",
    ));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    components
}

fn operation(asked: Asked) -> Operation {
    let Asked { path, method, id, tag, summary, description, options, body, answers, refused, open } = asked;
    let mut operation = OperationBuilder::new()
        .operation_id(Some(id))
        .tag(tag)
        .summary(Some(summary))
        .description(Some(description).filter(|description| !description.is_empty()));
    for name in path.split('/').filter_map(|word| word.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
    }
    for option in options {
        let name = option.trim_start_matches('$');
        operation = operation.parameter_ref(Ref::new(format!("#/components/parameters/{name}")));
    }
    let takes_body = matches!(method, HttpMethod::Post | HttpMethod::Put);
    let sdp = body.as_ref().is_some_and(|(schema, _)| *schema == SDP);
    if let Some((schema, required)) = body {
        operation = operation.request_body(Some(match schema {
            SDP => offer(),
            schema => request_body(schema, required),
        }));
    }
    for answered in &answers {
        operation = operation.response(answered.status.to_string(), response(answered, !open));
    }
    let with_token = if open { &[] } else { WITH_TOKEN };
    let with_body = match takes_body {
        true if sdp => WITH_OFFER,
        true => WITH_BODY,
        false => &[],
    };
    let with_call = if path.starts_with(CALL) { WITH_CALL } else { &[] };
    for (status, response) in
        refusals(&[refused, ALWAYS, with_token, with_call, with_body].concat(), !open, sdp)
    {
        operation = operation.response(status.to_string(), response);
    }
    if id == "createCall" {
        operation = operation.callback("notification", BTreeMap::from([notification()]));
    }
    let security: SecurityRequirement = if open {
        SecurityRequirement::default()
    } else {
        SecurityRequirement::new::<_, [_; 0], String>("bearer", [])
    };
    operation.security(security).build()
}

fn request_body(schema: &str, required: Required) -> RequestBody {
    RequestBodyBuilder::new()
        .content("application/json", Content::new(Some(Ref::from_schema_name(schema))))
        .required(Some(required))
        .build()
}

/// A body that is not JSON.
fn offer() -> RequestBody {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_SDP));
    RequestBodyBuilder::new().content(SDP, Content::new(Some(text))).required(Some(Required::True)).build()
}

fn with_ids(response: ResponseBuilder) -> ResponseBuilder {
    ["request-id", "client-request-id"].into_iter().fold(response, with_header)
}

fn with_header(response: ResponseBuilder, name: &str) -> ResponseBuilder {
    response.header_ref(name, Ref::new(format!("#/components/headers/{name}")))
}

/// How much is left of what a client may use.
fn with_limits(response: ResponseBuilder) -> ResponseBuilder {
    ["RateLimit-Policy", "RateLimit"].into_iter().fold(response, with_header)
}

fn response(answered: &Answered, limited: bool) -> Response {
    let mut response = with_ids(ResponseBuilder::new().description(answered.description));
    match answered.content {
        Said::Nothing => {}
        Said::Json(schema) => {
            response =
                response.content("application/json", Content::new(Some(Ref::from_schema_name(schema))));
        }
        Said::Number => {
            let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            response = response.content("text/plain", Content::new(Some(number)));
        }
        Said::Text(kind) => {
            let text = ObjectBuilder::new().schema_type(Type::String);
            response = response.content(kind, Content::new(Some(text)));
        }
    }
    if limited {
        response = with_limits(response);
    }
    if answered.location {
        response = with_header(response, "Location");
    }
    if let Said::Text(SDP) = answered.content {
        response = with_header(response, "ETag");
    }
    response.build()
}

/// A response for each status, which says for each of its codes when it comes.
fn refusals(situations: &[Situation], limited: bool, sdp: bool) -> BTreeMap<u16, Response> {
    let mut by_status: BTreeMap<u16, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for situation in situations {
        let (refusal, when) = situation();
        by_status.entry(refusal.status).or_default().entry(refusal.code).or_default().push(when);
    }
    let response = |(status, codes): (u16, BTreeMap<&str, Vec<&str>>)| {
        let told: Vec<_> =
            codes.into_iter().map(|(code, when)| format!("`{code}`: {}", when.join("; "))).collect();
        let mut response = with_ids(ResponseBuilder::new().description(format!("{}.", told.join(". "))));
        response = response.content("application/json", Content::new(Some(Ref::from_schema_name("error"))));
        if limited && status != 401 {
            response = with_limits(response);
        }
        response = match status {
            401 => with_header(response, "WWW-Authenticate"),
            415 if sdp => with_header(with_header(response, "Accept-Post"), "Accept-Encoding"),
            415 => with_header(with_header(response, "Accept"), "Accept-Encoding"),
            429 | 503 => with_header(response, "Retry-After"),
            _ => response,
        };
        (status, response.build())
    };
    by_status.into_iter().map(response).collect()
}

/// What is sent to a call's `callbackUri`.
fn notification() -> (String, RefOr<PathItem>) {
    let told = OperationBuilder::new()
        .operation_id(Some("notify"))
        .summary(Some("Something happened to a call, its participants or an operation"))
        .description(Some(
            "One notification in each request, in the order of the call, until it is accepted or given up. `Authorization` \
             carries a token signed by the keys of `/v1/keys`; `X-Microsoft-Skype-Message-ID` is the same whenever the same \
             notification is sent again.",
        ))
        .request_body(Some(request_body("commsNotifications", Required::True)))
        .response("2XX", Response::new("Accepted."))
        .response("default", Response::new("Sent again after 408, 429 and 5xx; given up after anything else."));
    ("{$request.body#/callbackUri}".to_owned(), PathItem::new(HttpMethod::Post, told).into())
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn headers() -> Vec<(&'static str, Header)> {
    let header = |schema: ObjectBuilder, description: &str| {
        let mut header = Header::new(schema);
        header.description = Some(description.to_owned());
        header
    };
    let uri = || string().format(Some(SchemaFormat::Custom("uri".to_owned())));
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    vec![
        ("request-id", header(string(), "Our name for the request: a GUID.")),
        (
            "client-request-id",
            header(string(), "The client's name for the request, or ours if it gave none."),
        ),
        ("Location", header(uri(), "Where the new resource is.")),
        (
            "ETag",
            header(
                string(),
                "The name of the ICE session (RFC 9725 section 4.3.1), which is never restarted.",
            ),
        ),
        ("Accept-Post", header(string(), "The media type that is read, where an offer is expected.")),
        ("Retry-After", header(seconds, "After how many seconds trying again makes sense.")),
        (
            "RateLimit-Policy",
            header(
                string(),
                "What the client may use, where it has limits (draft-ietf-httpapi-ratelimit-headers-10).",
            ),
        ),
        ("RateLimit", header(string(), "What is left of it.")),
        ("Accept", header(string(), "The media type that is read, where the body had another one.")),
        ("Accept-Encoding", header(string(), "The coding that is read, where the body had another one.")),
        (
            "WWW-Authenticate",
            header(string(), "`Bearer`, and what is wrong with the token that came (RFC 6750)."),
        ),
        ("Allow", header(string(), "The methods that are for this path.")),
    ]
}

/// What a filter certainly may be. Parentheses and other letter cases are understood too.
const FILTER_PATTERN: &str = r"^(status (eq|ne) '(notStarted|running|completed|failed)'|clientContext (eq|ne) ('([^']|'')*'|null))( and (status (eq|ne) '(notStarted|running|completed|failed)'|clientContext (eq|ne) ('([^']|'')*'|null)))*$";

fn parameters() -> Vec<(&'static str, Parameter)> {
    let parameter = |place: ParameterIn, name: &str, schema: Schema, description: &str| {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .schema(Some(schema))
            .description(Some(description))
            .build()
    };
    let path = |name: &'static str, description: &str| {
        let guid = string().format(Some(SchemaFormat::Custom("uuid".to_owned())));
        (name, parameter(ParameterIn::Path, name, guid.build().into(), description))
    };
    let query = |name: &'static str, option: &str, schema: ObjectBuilder, description: &str| {
        (name, parameter(ParameterIn::Query, option, schema.build().into(), description))
    };
    let number =
        || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(usize::MAX));
    vec![
        path("call-id", "The id of a call."),
        path("participant-id", "The id of a participant."),
        path("operation-id", "The id of an operation."),
        path("notification-id", "The id of a notification."),
        path("listener-id", "The id of one who listens in."),
        (
            "session-id",
            parameter(
                ParameterIn::Path,
                "session-id",
                string().build().into(),
                "The name of a session of WHEP, as `Location` ended with it.",
            ),
        ),
        query(
            "select",
            "$select",
            string(),
            "Members to show, separated by commas; annotations are shown anyway.",
        ),
        query("top", "$top", number(), "At most so many on the page, and 1000."),
        query("skip", "$skip", number(), "So many before the page."),
        query(
            "filter",
            "$filter",
            string().pattern(Some(FILTER_PATTERN)).examples([json!("status eq 'running'")]),
            "`status` or `clientContext`, `eq` or `ne`, and a text in single quotes; several of these joined by `and`.",
        ),
        query(
            "count",
            "$count",
            ObjectBuilder::new().schema_type(Type::Boolean),
            "Whether to say how many there are on all pages.",
        ),
    ]
}

/// The shapes of what this door answers without control.
fn own_schemas() -> BTreeMap<String, RefOr<Schema>> {
    let object = |description: &str, members: &[(&str, Schema)]| {
        let mut object = ObjectBuilder::new().schema_type(Type::Object).description(Some(description));
        for (name, schema) in members {
            object = object.property(*name, schema.clone()).required(*name);
        }
        object
    };
    let text = || Schema::from(string().build());
    let word = |words: &[&str]| Schema::from(string().enum_values(Some(words.iter().copied())).build());
    let uri = Schema::from(string().format(Some(SchemaFormat::Custom("uri".to_owned()))).build());
    let texts = || Schema::from(ArrayBuilder::new().items(string()).build());
    let key = object(
        "A key (RFC 7517).",
        &[("kty", text()), ("use", text()), ("kid", text()), ("n", text()), ("e", text())],
    );
    let keys = Schema::from(ArrayBuilder::new().items(key).build());
    let openapi = object("OpenAPI 3.1.", &[("openapi", text())]);
    [
        (
            "health",
            object("Whether the process is alive.", &[("status", word(&["alive", "standsStill"]))])
                .property("thread", string().description(Some("Which one stands still."))),
        ),
        (
            "readiness",
            object("Whether requests are taken.", &[("status", word(&["ready", "notReady"]))])
                .property("reason", string().description(Some("Why they are not."))),
        ),
        (
            "openIdConfiguration",
            object(
                "What a bot's framework needs to check our tokens.",
                &[
                    ("issuer", text()),
                    ("jwks_uri", uri.clone()),
                    ("id_token_signing_alg_values_supported", texts()),
                    ("response_types_supported", texts()),
                    ("subject_types_supported", texts()),
                ],
            ),
        ),
        ("jsonWebKeySet", object("A set of keys (RFC 7517).", &[("keys", keys)])),
        (
            "whepToken",
            object(
                "A token for WHEP.",
                &[
                    ("token", text()),
                    (
                        "expiresAt",
                        string()
                            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                            .build()
                            .into(),
                    ),
                    ("url", uri),
                ],
            ),
        ),
        (
            "nothing",
            ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Object))
                .description(Some("No member of it is read.")),
        ),
        ("openApi", openapi),
    ]
    .map(|(name, schema)| (name.to_owned(), schema.build().into()))
    .into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect_file;
    use serde_json::Value;

    use super::{
        operations::{
            CALL_COUNT, CALLS, CANCEL_MEDIA, INVITE, KEEP_ALIVE, LISTENER, LISTENERS, LISTENERS_TOKEN,
            MEDIA_LEG, MUTE, MUTE_CALL, OPERATION, OPERATION_COUNT, OPERATIONS, PARTICIPANT,
            PARTICIPANT_COUNT, PARTICIPANTS, PLAY_PROMPT, PROMPT_CHECK, PROMPT_PURGE, REDELIVER,
            REDELIVER_ALL, START, STOP, UNDELIVERED, UNDELIVERED_ALL, UNMUTE, UNMUTE_CALL, WHEP,
            WHEP_SESSION, WHEP_TOKEN,
        },
        *,
    };
    use crate::{
        authority::GrantKind,
        http::{
            route::{Place, Target},
            whep::{What, WhepPlace},
        },
    };

    #[test]
    fn docs_openapi_json_is_what_is_served() {
        expect_file!["../../../../docs/openapi.json"].assert_eq(text());
    }

    /// The path in the document that means `place`. Whoever adds a place is asked for its path by the compiler.
    fn documented(place: &Place) -> Option<&'static str> {
        Some(match place {
            Place::Console => "/",
            // Of the page alone, which comes with the same binary: its shape changes with it, and it has no end.
            Place::ConsoleEvents => return None,
            Place::Health => "/healthz",
            Place::Ready => "/readyz",
            Place::Metrics => "/metrics",
            Place::OpenApi => "/openapi.json",
            Place::Discovery => "/v1/.well-known/OpenIdConfiguration",
            Place::Keys => "/v1/keys",
            Place::Calls => CALLS,
            Place::Call(_) => CALL,
            Place::KeepAlive(_) => KEEP_ALIVE,
            Place::Participants(_) => PARTICIPANTS,
            Place::Participant(..) => PARTICIPANT,
            Place::MediaLeg(..) => MEDIA_LEG,
            Place::Whep(WhepPlace { kind, what, .. }) => match (kind, what) {
                (GrantKind::Leg, What::Endpoint) => WHEP,
                (GrantKind::Leg, What::Token) => WHEP_TOKEN,
                (GrantKind::Leg, What::Session(_)) => WHEP_SESSION,
                (GrantKind::Listener, What::Endpoint) => LISTENERS,
                (GrantKind::Listener, What::Token) => LISTENERS_TOKEN,
                (GrantKind::Listener, What::Session(_)) => LISTENER,
            },
            Place::StartHoldMusic(..) => START,
            Place::StopHoldMusic(..) => STOP,
            Place::MuteCall(_) => MUTE_CALL,
            Place::UnmuteCall(_) => UNMUTE_CALL,
            Place::MuteParticipant(..) => MUTE,
            Place::UnmuteParticipant(..) => UNMUTE,
            Place::PlayPrompt(_) => PLAY_PROMPT,
            Place::CancelMedia(_) => CANCEL_MEDIA,
            Place::Invite(_) => INVITE,
            Place::Count(of) => match **of {
                Place::Calls => CALL_COUNT,
                Place::Participants(_) => PARTICIPANT_COUNT,
                _ => OPERATION_COUNT,
            },
            Place::Operations(_) => OPERATIONS,
            Place::Operation(..) => OPERATION,
            Place::UndeliveredAll => UNDELIVERED_ALL,
            Place::Undelivered(_) => UNDELIVERED,
            Place::Redeliver(_) => REDELIVER,
            Place::RedeliverAll => REDELIVER_ALL,
            Place::PurgePrompts => PROMPT_PURGE,
            Place::PromptCheck => PROMPT_CHECK,
            Place::NotImplemented(_) | Place::Unknown => return None,
        })
    }

    /// Each documented path leads to a place, and that place to it; where a place has a path at all, it is documented.
    #[test]
    fn the_document_has_the_paths_and_methods_that_are_routed_and_no_others() {
        let document: Value = serde_json::from_str(text()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let id = "57dab8b1-894c-409a-b240-bd8beae78896";
        for (path, item) in paths {
            let place = Target::read(&path.replace("{call-id}", id).replace("{participant-id}", id)).place;
            assert_eq!(documented(&place), Some(path.as_str()));
            let listed: BTreeSet<_> =
                item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            let allowed: BTreeSet<_> = allowed(&place).into_iter().collect();
            assert_eq!(listed, allowed, "{path}");
        }
    }

    /// The methods of a place that are documented: HEAD and OPTIONS are not.
    fn allowed(place: &Place) -> Vec<String> {
        let allow = place.allow().split(", ").map(str::to_owned);
        allow.filter(|method| !["HEAD", "OPTIONS"].contains(&method.as_str())).collect()
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_what_can_come_of_it() {
        let document: Value = serde_json::from_str(text()).unwrap();
        let mut names = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                assert!(names.insert(operation["operationId"].as_str().unwrap()), "{operation}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.keys().any(|status| status.starts_with('2')), "{operation}");
            }
        }
    }
}
