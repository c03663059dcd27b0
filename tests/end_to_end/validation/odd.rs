//! Requests that look wrong and are not: what is ignored, what is forgiven, and what is written in more than one way.

use super::{Case, DOCUMENTED, get, gzip, post};

/// A stop without a hold changes nothing, so it can be asked for as often as one likes.
const STOP: &str = "{talking}/stopHoldMusic";

/// All of them.
pub(super) fn table() -> Vec<Case> {
    let mut cases = vec![
        // A start would look for the prompt's host.
        post("the request of Graph's documentation, byte for byte, at the other action", STOP, DOCUMENTED),
        post(
            "members that nobody knows",
            STOP,
            r#"{"loop":3,"holdMusic":{"volume":{"left":[1,{"a":null}]}},"@odata.context":"x"}"#,
        ),
        post("members that are null", STOP, r#"{"clientContext":null,"customPrompt":null,"holdMusic":null}"#),
        post("members in other letter case are other members", STOP, r#"{"ClientContext":7}"#),
        post("a byte order mark", STOP, "\u{feff}{}"),
        post("comments", STOP, "{// one\n\"clientContext\":/* two */\"a\"# three\n}"),
        post("what looks like a comment and is a text", STOP, r#"{"clientContext":"a,} // b /* c */ # d"}"#),
        post("numbers that nobody reads", STOP, r#"{"a":123456789012345678901234567890,"b":-0,"c":1e300}"#),
        post(
            "63 arrays in a member that nobody reads",
            STOP,
            format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63)),
        ),
        post("escapes", STOP, r#"{"clientConte\u0078t":"\ud83c\udfb5 \u0000 \/"}"#),
        post("256 characters of two bytes", STOP, format!("{{\"clientContext\":\"{}\"}}", "ä".repeat(256))),
        post("nothing at all", STOP, "").without("Content-Type"),
        post("nothing at all that is JSON", STOP, ""),
        post("a Content-Type with parameters", STOP, "{}")
            .header("Content-Type", "Application/JSON; charset=UTF-8; odata.metadata=minimal"),
        post("gzip", STOP, gzip(b"{\"clientContext\":\"packed\"}"))
            .header("Content-Encoding", "gzip")
            .shown("(gzip of {\"clientContext\":\"packed\"})"),
        post("X-GZIP", STOP, gzip(b"{}")).header("Content-Encoding", "X-GZIP").shown("(gzip of {})"),
        post("gzip in two members", STOP, [gzip(b"{\"clientContext\":"), gzip(b"\"halves\"}")].concat())
            .header("Content-Encoding", "gzip")
            .shown("(gzip of {\"clientContext\":, gzip of \"halves\"})"),
        post("gzip of the documented request", STOP, gzip(DOCUMENTED.as_bytes()))
            .header("Content-Encoding", "gzip")
            .shown("(gzip of the request of Graph's documentation)"),
        post(
            "gzip of as much as there may be",
            STOP,
            gzip(&[&vec![b' '; (256 << 10) - 2][..], b"{}"].concat()),
        )
        .header("Content-Encoding", "gzip")
        .shown("(gzip of 262142 spaces and {})"),
        post("nothing at all, as gzip", STOP, "").header("Content-Encoding", "gzip"),
        post("identity", STOP, "{}").header("Content-Encoding", "identity"),
        post("query options of a POST are ignored", "{talking}/stopHoldMusic?$top=x&$nonsense=1", "{}"),
        Case::new("DELETE looks at no body", "DELETE", "{talking}/mediaLeg")
            .header("Content-Type", "text/plain"),
        post(
            "a participant with members that Graph writes and we do not read",
            "{call}/participants",
            r##"{"@odata.type":"#Microsoft.Graph.Participant","id":"mine","isMuted":true,"mediaStreams":[{"x":1}],"info":{"identity":{"phone":{"id":"+1"}}},"metadata":""}"##,
        ),
        post("a participant of nothing", "{call}/participants", ""),
        post(
            "a call with members that Graph knows and others",
            "{calls}",
            r##"{"@odata.type":"microsoft.graph.call","callbackUri":"{callback}","subject":"s","targets":[],"mediaConfig":{"@odata.type":"#microsoft.graph.appHostedMediaConfig","blob":"b"},"unheardOf":{"a":[]}}"##,
        ),
        Case {
            method: "PUT",
            ..post(
                "a leg itself, in place of mediaLeg around it",
                "{bare}/mediaLeg",
                r#"{"rtp":{"address":"127.0.0.1:9","codec":"OPUS","payloadType":111,"volume":11}}"#,
            )
        },
        Case::new("OPTIONS of calls", "OPTIONS", "{calls}"),
        Case::new("OPTIONS of an action", "OPTIONS", "{held}/startHoldMusic"),
        Case::new("OPTIONS of a page that needs no token", "OPTIONS", "/healthz").without("Authorization"),
        Case::new("HEAD", "HEAD", "{call}"),
        Case::new("HEAD of a page that needs no token", "HEAD", "/metrics").without("Authorization"),
        Case {
            method: "GET",
            ..post("a GET with a body", "{calls}/$count", "x=1").header("Content-Type", "text/plain")
        },
        get("$count of participants", "{call}/participants/$count"),
        get("$count of operations", "{call}/operations/$count?$filter=clientContext%20eq%20'the%20first'"),
        get(
            "$count of operations that are not so",
            "{call}/operations/$count?$filter=clientContext%20NE%20null%20AND%20(Status%20Eq%20'COMPLETED')",
        ),
        get(
            "$count with options that change nothing",
            "{call}/participants/%24count?$top=1&$skip=5&$select=id",
        ),
        get("$top=0", "{call}/operations?$top=0&$count=TRUE"),
        get("a page behind the last", "{call}/operations?$skip=1000"),
        get("options without their dollar sign", "{call}/operations?TOP=0&Count=true"),
        get("options that are not OData's", "{call}/operations?$top=0&api-version=1&_=1700000000"),
        get("$select of members that are not there", "{operation}?$select=nonsense,STATUS,%20clientContext"),
        get("$select of nothing", "{call}/operations?$select=&$top=0"),
        get("an odd form of a path", "/BETA//app/Calls('{call-id}')/Operations/$count/"),
        get("an encoded form of a path", "/v1%2E0/communications/%63alls/%24count"),
    ];
    cases.push(Case::raw(
        "an absolute target, as proxies are asked",
        "GET http://user:password@bot.example/v1.0/communications/calls?$top=0 HTTP/1.1\r\nHost: {host}\r\nAuthorization: bearer {token}\r\nConnection: close\r\n\r\n",
    ));
    cases.push(Case::raw(
        "HTTP/1.0 without a Host",
        "GET /v1.0/communications/calls?$top=0 HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n",
    ));
    cases.push(Case::raw(
        "a body in chunks, with a trailer",
        "POST {talking}/stopHoldMusic HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nX: y\r\n\r\n",
    ));
    cases
}
