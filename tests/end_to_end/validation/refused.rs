//! The bad requests, by what they are about.

use super::{Case, DOCUMENTED, get, gzip, post};

/// A GUID that nobody has.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// All of them.
pub(super) fn table() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("The body as bytes", bytes()),
        ("The body as JSON", json()),
        ("Content-Type", content_types()),
        ("Content-Encoding", encodings()),
        ("The size of the body", sizes()),
        ("POST calls: callbackUri", callback()),
        ("POST calls: holdMusic", call_hold()),
        ("POST calls: mediaConfig.preFetchMedia", prefetch()),
        ("POST participants", participants()),
        ("PUT mediaLeg: rtp", rtp()),
        ("PUT mediaLeg: sdp", sdp()),
        ("POST whep and listeners", whep()),
        ("POST startHoldMusic: customPrompt", prompts()),
        ("POST startHoldMusic: clientContext", contexts("startHoldMusic")),
        ("POST startHoldMusic: holdMusic.rtpState", states()),
        ("POST startHoldMusic: who can be held", holds()),
        ("POST stopHoldMusic", contexts("stopHoldMusic")),
        ("POST prompts/check and prompts/purge", checks()),
        ("POST playPrompt", announcements()),
        ("POST cancelMediaProcessing", cancels()),
        ("POST mute and unmute", mutes()),
        ("POST participants/invite", invitations()),
        ("Ids", ids()),
        ("Paths", paths()),
        ("Methods", methods()),
        ("Queries", queries()),
        ("Tokens", tokens()),
        ("Host and other headers", heads()),
    ]
}

const START: &str = "{talking}/startHoldMusic";

/// Each wrong kind of value in place of `{}` of a body.
fn kinds(member: &str, path: &str, body: &str, right: &str) -> Vec<Case> {
    let kinds = [
        ("a number", "7"),
        ("a text", "\"text\""),
        ("a boolean", "true"),
        ("an array", "[]"),
        ("an object", "{}"),
    ];
    let wrong = kinds.into_iter().filter(|(kind, _)| *kind != right);
    wrong.map(|(kind, value)| post(format!("{member} is {kind}"), path, body.replace("<>", value))).collect()
}

/// Bodies of one path.
fn each(path: &str, bodies: &[(&str, &str)]) -> Vec<Case> {
    bodies.iter().map(|(claim, body)| post(*claim, path, *body)).collect()
}

fn bytes() -> Vec<Case> {
    let bytes = |claim: &str, body: &[u8]| post(claim, START, body);
    vec![
        bytes("invalid UTF-8", b"{\"clientContext\":\"\xff\xfe\"}"),
        bytes("UTF-8 that is cut in the middle of a character", b"{\"clientContext\":\"\xc3"),
        bytes("an overlong form of '/'", b"{\"clientContext\":\"\xc0\xaf\"}"),
        bytes("a surrogate in UTF-8", b"{\"clientContext\":\"\xed\xa0\x80\"}"),
        bytes("UTF-16 with its byte order mark", b"\xff\xfe{\0}\0"),
        bytes("Latin-1", b"{\"clientContext\":\"caf\xe9\"}"),
        bytes("a NUL before the body", b"\0{}"),
        bytes("a NUL in a text", b"{\"clientContext\":\"a\0b\"}"),
        bytes("a NUL in the name of a member", b"{\"client\0Context\":\"a\"}"),
        bytes("two byte order marks", "\u{feff}\u{feff}{}".as_bytes()),
        bytes("a line break in a text", b"{\"clientContext\":\"a\nb\"}"),
    ]
}

fn json() -> Vec<Case> {
    let mut cases = each(
        START,
        &[
            ("an array", "[]"),
            ("a text", "\"startHoldMusic\""),
            ("a number", "7"),
            ("null", "null"),
            ("a boolean", "true"),
            ("cut", "{\"clientContext\":\"d4532"),
            ("nothing but an opening brace", "{"),
            ("two objects", "{}{}"),
            ("single quotes", "{'clientContext':'a'}"),
            ("names without quotes", "{clientContext:\"a\"}"),
            ("a form", "clientContext=a&customPrompt=b"),
            ("XML", "<startHoldMusic/>"),
            ("NaN", "{\"holdMusic\":{\"rtpState\":{\"ssrc\":NaN}}}"),
            ("a leading zero", "{\"holdMusic\":{\"rtpState\":{\"ssrc\":007}}}"),
            ("a number beyond all numbers", "{\"loop\":1e999}"),
            ("a comma too many in front", "{,\"clientContext\":\"a\"}"),
            ("two commas", "{\"clientContext\":\"a\",,}"),
            ("a comment without an end", "{\"clientContext\":\"a\"/* and so on"),
            ("a lone high surrogate", "{\"clientContext\":\"\\ud83d\"}"),
            ("a lone low surrogate", "{\"clientContext\":\"\\ude00\"}"),
            ("surrogates in the wrong order", "{\"clientContext\":\"\\ude00\\ud83d\"}"),
            ("an escape that is none", "{\"clientContext\":\"\\x41\"}"),
            ("clientContext twice", "{\"clientContext\":\"a\",\"clientContext\":\"b\"}"),
            (
                "clientContext twice, once written with an escape",
                "{\"clientContext\":\"a\",\"clientConte\\u0078t\":\"b\"}",
            ),
            ("a member twice that nobody reads", "{\"loop\":1,\"loop\":2}"),
            (
                "a URI twice, one of them harmless",
                "{\"customPrompt\":{\"mediaInfo\":{\"uri\":\"https://h.example/\",\"uri\":\"https://h.example/?sig=SECRET\"}}}",
            ),
            (
                "a member twice, with trailing commas",
                "{\"customPrompt\":{\"mediaInfo\":{},\"mediaInfo\":{},},}",
            ),
        ],
    );
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{{\"loop\":{}{}}}", open.repeat(depth), close.repeat(depth))
    };
    cases.extend([
        post("64 arrays in the body", START, deep("[", "]", 64)),
        post(
            "100 objects in the body",
            START,
            format!("{{\"loop\":{}1{}}}", "{\"a\":".repeat(100), "}".repeat(100)),
        ),
        post("100 000 arrays that never end", START, "[".repeat(100_000)),
        post("30 000 objects that never end", START, "{\"a\":".repeat(30_000)),
        post("a comment that is longer than the body should be", START, format!("/*{}", "*".repeat(100_000))),
    ]);
    cases
}

fn content_types() -> Vec<Case> {
    let mut cases = vec![];
    for kind in [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/problem+json",
        "application/json, application/xml",
        "application/jsonp",
        "json",
        "*/*",
        ";",
    ] {
        cases.push(post(format!("'{kind}'"), START, "{}").header("Content-Type", kind));
    }
    cases.extend([
        post("a body without one", START, "{}").without("Content-Type"),
        post("an empty one with a body", START, "{}").header("Content-Type", ""),
        post("a wrong one without a body", START, "").header("Content-Type", "text/plain"),
        Case {
            method: "PUT",
            ..post("of a media leg", "{bare}/mediaLeg", "v=0").header("Content-Type", "application/sdp")
        },
    ]);
    cases
}

fn encodings() -> Vec<Case> {
    let mut cases = vec![];
    for coding in ["deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "gzip;q=1", "gunzip", "*"] {
        cases.push(post(format!("'{coding}'"), START, "{}").header("Content-Encoding", coding));
    }
    let whole = gzip(b"{\"clientContext\":\"d45324c1-fcb5-430a-902c-f20af696537c\"}");
    let packed = |claim: &str, body: Vec<u8>, shown: &str| {
        post(claim, START, body).header("Content-Encoding", "gzip").shown(shown)
    };
    let mut damaged = whole.clone();
    let check = damaged.len() - 6;
    damaged[check] ^= 1;
    let mut odd = whole.clone();
    odd[2] = 9;
    cases.extend([
        packed("gzip that is none", b"{}".to_vec(), "{}"),
        packed("gzip cut in its header", whole[..5].to_vec(), "(the first 5 bytes of a gzip member)"),
        packed("gzip cut in its data", whole[..30].to_vec(), "(the first 30 bytes of a gzip member)"),
        packed(
            "gzip without its last byte",
            whole[..whole.len() - 1].to_vec(),
            "(a gzip member without its last byte)",
        ),
        packed("gzip with a wrong check sum", damaged, "(a gzip member whose CRC is wrong)"),
        packed("gzip by another method than deflate", odd, "(a gzip member of method 9)"),
        packed(
            "gzip with something behind it",
            [&whole[..], b"{}"].concat(),
            "(a gzip member, and two bytes more)",
        ),
        packed("gzip of gzip", gzip(&gzip(b"{}")), "(gzip of gzip of {})"),
        packed("gzip of what is no JSON", gzip(b"startHoldMusic"), "(gzip of startHoldMusic)"),
        packed("gzip of nothing but an array", gzip(b"[]"), "(gzip of [])"),
        packed("gzip of a wrong member", gzip(b"{\"clientContext\":7}"), "(gzip of {\"clientContext\":7})"),
        packed("a bomb of 100 MiB", gzip(&vec![b' '; 100 << 20]), "(gzip of 104857600 spaces)"),
        packed("one byte too many", gzip(&vec![b' '; (256 << 10) + 1]), "(gzip of 262145 spaces)"),
        packed(
            "a bomb in many members",
            gzip(&[b' '; 100_000]).repeat(30),
            "(gzip of 100000 spaces, thirty times)",
        ),
    ]);
    cases
}

fn sizes() -> Vec<Case> {
    let body = format!("{{\"clientContext\":\"{}\"}}", "a".repeat(300_000));
    let raw = |claim, head: &str, body: &str| {
        let line =
            "POST {talking}/startHoldMusic HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n";
        Case::raw(
            claim,
            format!("{line}Content-Type: application/json\r\nConnection: close\r\n{head}\r\n\r\n{body}"),
        )
    };
    vec![
        post("300 kB of one text", START, body),
        post("262 145 spaces", START, " ".repeat((256 << 10) + 1)),
        post("compressed, and too large as it is sent", START, vec![0x1f; 300_000])
            .header("Content-Encoding", "gzip")
            .shown("(300000 bytes)"),
        raw("a gigabyte that is only announced", "Content-Length: 1073741824", ""),
        raw("chunks whose length is no number", "Transfer-Encoding: chunked", "ZZ\r\n"),
        raw("a length that is no number", "Content-Length: many", ""),
        raw("two lengths", "Content-Length: 2\r\nContent-Length: 3", "{}"),
        raw("a transfer coding that nobody has", "Transfer-Encoding: gzip", "{}"),
    ]
}

fn callback() -> Vec<Case> {
    let mut cases = kinds("callbackUri", "{calls}", "{\"callbackUri\":<>}", "a text");
    cases.extend(each(
        "{calls}",
        &[
            ("it is missing", "{}"),
            ("there is no body", ""),
            ("it is null", "{\"callbackUri\":null}"),
            ("it is empty", "{\"callbackUri\":\"\"}"),
            ("in the wrong letter case", "{\"CallbackUri\":\"{callback}\"}"),
            ("relative", "{\"callbackUri\":\"/api/calls?sig=SECRET\"}"),
            ("without a scheme", "{\"callbackUri\":\"bot.example/api/calls?sig=SECRET\"}"),
            ("without a host", "{\"callbackUri\":\"https://?sig=SECRET\"}"),
            (
                "of a scheme that is not for callbacks",
                "{\"callbackUri\":\"ftp://user:SECRET@bot.example/?sig=SECRET\"}",
            ),
            ("javascript", "{\"callbackUri\":\"javascript:alert('SECRET')\"}"),
            ("a data URI", "{\"callbackUri\":\"data:,SECRET\"}"),
            (
                "http to elsewhere",
                "{\"callbackUri\":\"http://user:SECRET@bot.example/api/calls?sig=SECRET\"}",
            ),
            ("to a private address", "{\"callbackUri\":\"https://192.168.0.1/?sig=SECRET\"}"),
            (
                "to the address of a cloud's metadata",
                "{\"callbackUri\":\"https://169.254.169.254/latest?sig=SECRET\"}",
            ),
            (
                "to loopback in an odd form of IPv6",
                "{\"callbackUri\":\"https://[::ffff:10.0.0.1]/?sig=SECRET\"}",
            ),
            ("with a port that is none", "{\"callbackUri\":\"https://bot.example:99999/?sig=SECRET\"}"),
            (
                "@odata.type of something else",
                "{\"@odata.type\":\"#microsoft.graph.participant\",\"callbackUri\":\"{callback}\"}",
            ),
            ("@odata.type is a number", "{\"@odata.type\":1,\"callbackUri\":\"{callback}\"}"),
        ],
    ));
    let long = format!("{{\"callbackUri\":\"https://bot.example/?sig=SECRET{}\"}}", "a".repeat(8192));
    cases.push(post("longer than 8192 characters", "{calls}", long));
    cases
}

fn call_hold() -> Vec<Case> {
    let body =
        |member: &str| format!("{{\"callbackUri\":\"{{callback}}\",\"holdMusic\":{{\"{member}\":<>}}}}");
    let whole = "{\"callbackUri\":\"{callback}\",\"holdMusic\":<>}";
    let mut cases = kinds("holdMusic", "{calls}", whole, "an object");
    cases.extend(kinds("maxHeldParticipants", "{calls}", &body("maxHeldParticipants"), "a number"));
    cases.extend(kinds("defaultPrompt", "{calls}", &body("defaultPrompt"), ""));
    cases.extend(kinds("onPromptFailure", "{calls}", &body("onPromptFailure"), ""));
    cases.extend(kinds("completesWhen", "{calls}", &body("completesWhen"), ""));
    cases.extend(kinds("statusCase", "{calls}", &body("statusCase"), ""));
    cases.extend(kinds("maxDuration", "{calls}", &body("maxDuration"), "a number"));
    for (member, value) in [
        ("maxHeldParticipants", "0"),
        ("maxHeldParticipants", "-1"),
        ("maxHeldParticipants", "1.5"),
        ("maxHeldParticipants", "1000001"),
        ("maxHeldParticipants", "123456789012345678901234567890"),
        ("maxHeldParticipants", "\"2\""),
        ("maxDuration", "0"),
        ("maxDuration", "-1"),
        ("maxDuration", "1e300"),
        ("maxDuration", "\"PT0S\""),
        ("maxDuration", "\"30 minutes\""),
        ("maxDuration", "\"P1M\""),
        ("maxDuration", "\"P367D\""),
        ("defaultPrompt", "{\"mediaInfo\":{\"uri\":\"music.wav?sig=SECRET\"}}"),
        (
            "defaultPrompt",
            "{\"@odata.type\":\"#microsoft.graph.tonePrompt\",\"mediaInfo\":{\"uri\":\"https://h.example/\"}}",
        ),
        ("onPromptFailure", "\"silence\""),
        ("completesWhen", "\"never\""),
        ("statusCase", "\"kebab\""),
    ] {
        cases.push(post(format!("{member}: {value}"), "{calls}", body(member).replace("<>", value)));
    }
    cases
}

fn prefetch() -> Vec<Case> {
    let config = |value: &str| format!("{{\"callbackUri\":\"{{callback}}\",\"mediaConfig\":{value}}}");
    let list = |value: &str| config(&format!("{{\"preFetchMedia\":{value}}}"));
    let mut cases = kinds("mediaConfig", "{calls}", &config("<>"), "an object");
    cases.extend(kinds("preFetchMedia", "{calls}", &list("<>"), "an array"));
    cases.extend(kinds("an element", "{calls}", &list("[<>]"), ""));
    for (claim, value) in [
        ("an element is null", "[null]"),
        ("the second element has no uri", "[{\"uri\":\"https://h.example/a.wav\"},{\"resourceId\":\"1\"}]"),
        ("a uri that is relative", "[{\"uri\":\"a.wav?sig=SECRET\"}]"),
        ("a uri of a scheme that is not fetched", "[{\"uri\":\"s3://bucket/a.wav?sig=SECRET\"}]"),
        ("a resourceId that is a number", "[{\"uri\":\"https://h.example/\",\"resourceId\":7}]"),
        (
            "@odata.type of something else",
            "[{\"@odata.type\":\"#microsoft.graph.mediaPrompt\",\"uri\":\"https://h.example/\"}]",
        ),
    ] {
        cases.push(post(claim, "{calls}", list(value)));
    }
    let many = vec!["{\"uri\":\"https://h.example/\"}"; 33].join(",");
    cases.push(post("33 elements", "{calls}", list(&format!("[{many}]"))));
    cases
}

fn participants() -> Vec<Case> {
    let path = "{call}/participants";
    let mut cases = kinds("mediaLeg", path, "{\"mediaLeg\":<>}", "");
    cases.extend(kinds("mediaLeg.sdp", path, "{\"mediaLeg\":{\"sdp\":<>}}", ""));
    cases.extend(kinds("mediaLeg.rtp", path, "{\"mediaLeg\":{\"rtp\":<>}}", ""));
    cases.extend(kinds("info", path, "{\"info\":<>}", "an object"));
    cases.extend(kinds("metadata", path, "{\"metadata\":<>}", "a text"));
    cases.extend(each(
        path,
        &[
            ("@odata.type of something else", "{\"@odata.type\":\"#microsoft.graph.call\"}"),
            ("@odata.type without the right namespace", "{\"@odata.type\":\"#contoso.participant\"}"),
            ("mediaLeg with neither sdp nor rtp", "{\"mediaLeg\":{\"SDP\":\"v=0\"}}"),
            (
                "mediaLeg with both",
                "{\"mediaLeg\":{\"sdp\":\"v=0\",\"rtp\":{\"address\":\"127.0.0.1:9\",\"payloadType\":111}}}",
            ),
        ],
    ));
    cases.extend([
        post("metadata of 4097 characters", path, format!("{{\"metadata\":\"{}\"}}", "ä".repeat(4097))),
        post(
            "info of more than 16 KiB",
            path,
            format!("{{\"info\":{{\"a\":\"{}\"}}}}", "a".repeat(16 << 10)),
        ),
        post("in a call that nobody has", &format!("{{calls}}/{NOBODY}/participants"), "{}"),
        post("in a call that has ended", "{ended}/participants", "{}"),
    ]);
    cases
}

fn put(claim: impl Into<String>, body: impl Into<Vec<u8>>) -> Case {
    Case { method: "PUT", ..post(claim, "{bare}/mediaLeg", body) }
}

fn rtp() -> Vec<Case> {
    let body = |member: &str| {
        let usual = [("address", "\"127.0.0.1:9\""), ("payloadType", "111")];
        let others = usual.iter().filter(|(name, _)| *name != member);
        let others: String = others.map(|(name, value)| format!("\"{name}\":{value},")).collect();
        format!("{{\"mediaLeg\":{{\"rtp\":{{{others}\"{member}\":<>}}}}}}")
    };
    let mut cases = vec![];
    for (member, right) in [
        ("address", ""),
        ("rtcp", ""),
        ("codec", ""),
        ("payloadType", "a number"),
        ("ssrc", "a number"),
        ("sequenceNumber", "a number"),
        ("timestamp", "a number"),
        ("at", ""),
        ("rolloverCounter", "a number"),
        ("srtcpIndex", "a number"),
    ] {
        let wrong = kinds(member, "{bare}/mediaLeg", &body(member), right);
        cases.extend(wrong.into_iter().map(|case| Case { method: "PUT", ..case }));
    }
    for (member, value) in [
        ("address", "null"),
        ("address", "\"\""),
        ("address", "\"localhost:40000\""),
        ("address", "\"127.0.0.1\""),
        ("address", "\"127.0.0.1:0\""),
        ("address", "\"127.0.0.1:65536\""),
        ("address", "\"::1:40000\""),
        ("address", "\"rtp://127.0.0.1:40000\""),
        ("address", "\"8.8.8.8:40000\""),
        ("address", "\"224.0.0.1:40000\""),
        ("address", "\"255.255.255.255:40000\""),
        ("rtcp", "\"127.0.0.1\""),
        ("rtcp", "\"8.8.8.8:40001\""),
        ("rtcp", "\"[::1]:40001\""),
        ("codec", "\"g729\""),
        ("codec", "\"\""),
        ("payloadType", "null"),
        ("payloadType", "-1"),
        ("payloadType", "72"),
        ("payloadType", "128"),
        ("payloadType", "111.5"),
        ("payloadType", "1e3"),
        ("ssrc", "-1"),
        ("ssrc", "4294967296"),
        ("ssrc", "123456789012345678901234567890"),
        ("sequenceNumber", "65536"),
        ("sequenceNumber", "0.1"),
        ("timestamp", "4294967296"),
        ("at", "\"noon\""),
        ("at", "\"2026-02-30T12:00:00Z\""),
        ("at", "\"2026-01-31 12:00\""),
        ("rolloverCounter", "4294967296"),
        ("srtcpIndex", "2147483648"),
    ] {
        cases.push(put(format!("{member}: {value}"), body(member).replace("<>", value)));
    }
    cases.extend([
        put("no body", ""),
        put("an empty object", "{}"),
        put("the leg itself, without mediaLeg around it, and wrong", "{\"rtp\":{\"address\":\"127.0.0.1\"}}"),
        put("address of 257 characters", body("address").replace("<>", &format!("\"{}\"", "1".repeat(257)))),
    ]);
    cases
}

const OFFER: &str = "v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\n\
                     m=audio 9 RTP/AVP 96\\r\\na=rtpmap:96 opus/48000/2\\r\\n";

fn sdp() -> Vec<Case> {
    let offer = |sdp: &str| format!("{{\"mediaLeg\":{{\"sdp\":\"{sdp}\"}}}}");
    vec![
        put("empty", offer("")),
        put("no SDP", offer("hello")),
        put("JSON in it", offer("{}")),
        put("a line without a value", offer("v=0\\r\\ns")),
        put("a version that is none", offer(&OFFER.replace("v=0", "v=1"))),
        put("no audio", offer(&OFFER.replace("m=audio", "m=video"))),
        put("audio that is switched off", offer(&OFFER.replace("m=audio 9", "m=audio 0"))),
        put("a port that is none", offer(&OFFER.replace("m=audio 9", "m=audio 70000"))),
        put("a codec that nobody has", offer(&OFFER.replace("opus/48000/2", "evs/16000"))),
        put("Opus at a wrong rate", offer(&OFFER.replace("opus/48000/2", "opus/8000"))),
        put("no connection line", offer(&OFFER.replace("c=IN IP4 127.0.0.1\\r\\n", ""))),
        put(
            "a name in place of an address",
            offer(&OFFER.replace("c=IN IP4 127.0.0.1", "c=IN IP4 phone.example")),
        ),
        put(
            "a destination that is not allowed",
            offer(&OFFER.replace("c=IN IP4 127.0.0.1", "c=IN IP4 8.8.8.8")),
        ),
        put("multicast", offer(&OFFER.replace("c=IN IP4 127.0.0.1", "c=IN IP4 224.2.1.1/127"))),
        put("a=rtcp without a port", offer(&format!("{OFFER}a=rtcp:port\\r\\n"))),
        put("RTCP to where it is not allowed", offer(&format!("{OFFER}a=rtcp:9 IN IP4 8.8.8.8\\r\\n"))),
        put("longer than 64 KiB", offer(&format!("{OFFER}{}", "a=x\\r\\n".repeat(14_000)))),
    ]
}

fn whep() -> Vec<Case> {
    let offer = format!("{}a=recvonly\r\n", OFFER.replace("\\r\\n", "\r\n"));
    let sdp = |claim: &str, path: &str, body: &str| {
        post(claim, path, body).header("Content-Type", "application/sdp")
    };
    let listen = "{talking}/listeners";
    let id = "57dab8b1-894c-409a-b240-bd8beae78896";
    vec![
        sdp("an empty offer", listen, ""),
        sdp("no SDP", listen, "hello"),
        sdp("JSON", "{talking}/whep", "{}"),
        Case { body: vec![0xff, 0xfe], ..sdp("no text", listen, "") },
        sdp("an offer that sends", listen, &offer.replace("a=recvonly", "a=sendonly")),
        sdp("an own leg that hears nothing", "{talking}/whep", &offer.replace("a=recvonly", "a=inactive")),
        sdp("without the codec that is heard", listen, &offer.replace("opus/48000/2", "evs/16000")),
        sdp("to where it is not allowed", listen, &offer.replace("c=IN IP4 127.0.0.1", "c=IN IP4 8.8.8.8")),
        sdp("another address family", listen, &offer.replace("c=IN IP4 127.0.0.1", "c=IN IP6 ::1")),
        sdp("longer than 64 KiB", listen, &format!("{offer}{}", "a=x\r\n".repeat(14_000))).shown("(70 kB)"),
        sdp("to who hears nothing", "{quiet}/listeners", &offer),
        sdp("to who has no leg", "{bare}/listeners", &offer),
        sdp("in a call that has ended", "{ended}/participants/{held-id}/listeners", &offer),
        sdp("by trickle ICE", listen, &offer).header("Content-Type", "application/trickle-ice-sdpfrag"),
        post("as JSON", listen, "{}"),
        sdp("without a type", listen, &offer).without("Content-Type"),
        sdp("with a token of WHEP that is none", listen, &offer).header("Authorization", "Bearer hmw1.AAAA"),
        get("a token of WHEP elsewhere", "{call}").header("Authorization", "Bearer hmw1.AAAA"),
        post("a token with a body that is no JSON", "{talking}/listeners/token", "v=0"),
        Case::new("a session that is none", "DELETE", format!("{listen}/{id}")),
        Case::new("a session without a name of its kind", "DELETE", format!("{listen}/1")),
        Case::new("an own leg's session that is none", "DELETE", "{talking}/whep/1-1"),
        Case::new("a trickle", "PATCH", format!("{listen}/{id}")),
        Case::new("another answer", "PUT", listen),
    ]
}

fn prompts() -> Vec<Case> {
    let uri = |value: &str| format!("{{\"customPrompt\":{{\"mediaInfo\":{{\"uri\":{value}}}}}}}");
    let mut cases = kinds("customPrompt", START, "{\"customPrompt\":<>}", "");
    cases.extend(kinds("mediaInfo", START, "{\"customPrompt\":{\"mediaInfo\":<>}}", ""));
    cases.extend(kinds("uri", START, &uri("<>"), ""));
    cases.extend(kinds(
        "resourceId",
        START,
        "{\"customPrompt\":{\"mediaInfo\":{\"uri\":\"https://h.example/\",\"resourceId\":<>}}}",
        "a text",
    ));
    cases.extend(kinds(
        "@odata.type",
        START,
        "{\"customPrompt\":{\"@odata.type\":<>,\"mediaInfo\":{\"uri\":\"https://h.example/\"}}}",
        "",
    ));
    for (claim, value) in [
        ("null", "null"),
        ("empty", "\"\""),
        ("white space", "\"  \""),
        ("relative", "\"onHold.wav?sig=SECRET\""),
        ("relative to a host", "\"//cdn.example/onHold.wav?sig=SECRET\""),
        ("without a host", "\"https://\""),
        ("with a host that is none", "\"https://a b/?sig=SECRET\""),
        ("with a port that is none", "\"https://cdn.example:x/?sig=SECRET\""),
        ("ftp", "\"ftp://user:SECRET@cdn.example/onHold.wav?sig=SECRET\""),
        ("a file of another host", "\"file://host/etc/passwd\""),
        ("a file, and no directory for prompts is set", "\"file:///etc/passwd\""),
        ("javascript", "\"javascript:alert('SECRET')\""),
        ("a Windows path", "\"C:\\\\music\\\\onHold.wav\""),
        ("data without a comma", "\"data:audio/wav;base64\""),
        ("data that is no base64", "\"data:audio/wav;base64,SECRET*\""),
    ] {
        cases.push(post(format!("uri: {claim}"), START, uri(value)));
    }
    cases.extend([
        post("uri of 8193 bytes", START, uri(&format!("\"https://cdn.example/?sig=SECRET{}\"", "a".repeat(8162)))),
        post("a data URI of 131 073 characters", START, uri(&format!("\"data:,{}\"", "a".repeat((128 << 10) - 5)))),
        post(
            "resourceId of 1025 characters",
            START,
            format!(
                "{{\"customPrompt\":{{\"mediaInfo\":{{\"uri\":\"https://h.example/\",\"resourceId\":\"{}\"}}}}}}",
                "a".repeat(1025)
            ),
        ),
    ]);
    cases.extend(each(
        START,
        &[
            ("mediaInfo is missing", "{\"customPrompt\":{}}"),
            ("mediaInfo is null", "{\"customPrompt\":{\"mediaInfo\":null}}"),
            ("mediaInfo in the wrong letter case", "{\"customPrompt\":{\"MediaInfo\":{\"uri\":\"https://h.example/\"}}}"),
            ("uri is missing", "{\"customPrompt\":{\"mediaInfo\":{}}}"),
            ("uri in the wrong letter case", "{\"customPrompt\":{\"mediaInfo\":{\"URI\":\"https://h.example/\"}}}"),
            (
                "a kind of prompt that Graph does not have",
                "{\"customPrompt\":{\"@odata.type\":\"#microsoft.graph.ttsPrompt\",\"mediaInfo\":{\"uri\":\"https://h.example/\"}}}",
            ),
            (
                "mediaInfo of another type",
                "{\"customPrompt\":{\"mediaInfo\":{\"@odata.type\":\"#microsoft.graph.mediaPrompt\",\"uri\":\"https://h.example/\"}}}",
            ),
        ],
    ));
    cases
}

fn contexts(action: &str) -> Vec<Case> {
    let path = format!("{{talking}}/{action}");
    let mut cases = kinds("clientContext", &path, "{\"clientContext\":<>}", "a text");
    cases.extend([
        post("257 characters", &path, format!("{{\"clientContext\":\"{}\"}}", "ä".repeat(257))),
        post("a long text", &path, format!("{{\"clientContext\":\"{}\"}}", "a".repeat(200_000))),
        post("an array around it", &path, "[{\"clientContext\":\"a\"}]"),
        post("twice", &path, "{\"clientContext\":\"a\",\"clientContext\":\"a\"}"),
        post("of a participant that nobody has", &format!("{{call}}/participants/{NOBODY}/{action}"), "{}"),
        post(
            "of a call that nobody has",
            &format!("{{calls}}/{NOBODY}/participants/{{talking-id}}/{action}"),
            "{}",
        ),
        post("of a call that has ended", &format!("{{ended}}/participants/{{talking-id}}/{action}"), "{}"),
    ]);
    cases
}

fn states() -> Vec<Case> {
    let state = |value: &str| format!("{{\"holdMusic\":{{\"rtpState\":{value}}}}}");
    let mut cases = kinds("holdMusic", START, "{\"holdMusic\":<>}", "an object");
    cases.extend(kinds("rtpState", START, &state("<>"), ""));
    let whole =
        [("ssrc", "1"), ("sequenceNumber", "1"), ("timestamp", "1"), ("at", "\"2026-01-31T12:00:00Z\"")];
    let with = |member: &str, value: Option<&str>| {
        let members =
            whole.iter().map(|(name, usual)| (*name, if *name == member { value } else { Some(*usual) }));
        let members: Vec<_> =
            members.filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?))).collect();
        state(&format!("{{{}}}", members.join(",")))
    };
    for (member, _) in whole {
        cases.push(post(format!("{member} is missing"), START, with(member, None)));
        cases.push(post(format!("{member} is null"), START, with(member, Some("null"))));
        cases.push(post(format!("{member} is true"), START, with(member, Some("true"))));
        cases.push(post(format!("{member} is -1"), START, with(member, Some("-1"))));
        cases.push(post(format!("{member} is 1e40"), START, with(member, Some("1e40"))));
    }
    cases.push(post("a moment after the end of time", START, with("at", Some("\"99999-01-01T00:00:00Z\""))));
    cases
}

fn holds() -> Vec<Case> {
    let prompt = "{\"customPrompt\":{\"mediaInfo\":{\"uri\":\"https://h.example/?sig=SECRET\"}}}";
    vec![
        post("somebody else is held already", START, "{}"),
        post(
            "somebody else is held already, and the body is that of Graph's documentation",
            START,
            DOCUMENTED,
        ),
        post("somebody else is held already, with a prompt", START, prompt),
        post("no media leg", "{bare}/startHoldMusic", prompt),
        post("a leg that hears nothing", "{quiet}/startHoldMusic", prompt),
    ]
}

fn announcements() -> Vec<Case> {
    let path = "{call}/playPrompt";
    let one = "{\"mediaInfo\":{\"uri\":\"https://h.example/?sig=SECRET\"}}";
    let mut cases = kinds("prompts", path, "{\"prompts\":<>}", "");
    cases.extend(kinds("a prompt", path, "{\"prompts\":[<>]}", ""));
    let with = |member: &str| format!("{{\"prompts\":[{one}],{member}}}");
    cases.extend(kinds("clientContext", path, &with("\"clientContext\":<>"), "a text"));
    cases.extend(kinds("holdMusic", path, &with("\"holdMusic\":<>"), "an object"));
    cases.extend(kinds(
        "holdMusic.participants",
        path,
        &with("\"holdMusic\":{\"participants\":<>}"),
        "an array",
    ));
    cases.extend(kinds("a participant", path, &with("\"holdMusic\":{\"participants\":[<>]}"), ""));
    cases.extend(each(
        path,
        &[
            ("no body", ""),
            ("prompts is missing", "{}"),
            ("prompts is null", "{\"prompts\":null}"),
            ("a prompt is null", "{\"prompts\":[null]}"),
            (
                "the second prompt is relative",
                "{\"prompts\":[{\"mediaInfo\":{\"uri\":\"https://h.example/\"}},{\"mediaInfo\":{\"uri\":\"a.wav?sig=SECRET\"}}]}",
            ),
            (
                "a prompt of another type",
                "{\"prompts\":[{\"@odata.type\":\"#microsoft.graph.ttsPrompt\",\"mediaInfo\":{\"uri\":\"https://h.example/\"}}]}",
            ),
        ],
    ));
    cases.extend([
        post("21 prompts", path, format!("{{\"prompts\":[{}]}}", vec![one; 21].join(","))),
        post(
            "257 characters of clientContext",
            path,
            with(&format!("\"clientContext\":\"{}\"", "a".repeat(257))),
        ),
        post(
            "to somebody whom nobody knows",
            path,
            with(&format!("\"holdMusic\":{{\"participants\":[\"{NOBODY}\"]}}")),
        ),
        post("to somebody who has no leg", path, with("\"holdMusic\":{\"participants\":[\"{bare-id}\"]}")),
        post("in a call that has ended", "{ended}/playPrompt", with("\"loop\":1")),
    ]);
    cases
}

fn cancels() -> Vec<Case> {
    let path = "{call}/cancelMediaProcessing";
    let mut cases = kinds("clientContext", path, "{\"clientContext\":<>}", "a text");
    cases.extend(kinds("holdMusic", path, "{\"holdMusic\":<>}", "an object"));
    cases.extend(kinds("holdMusic.stop", path, "{\"holdMusic\":{\"stop\":<>}}", "a boolean"));
    cases.push(post("of a call that has ended", "{ended}/cancelMediaProcessing", "{}"));
    cases
}

fn mutes() -> Vec<Case> {
    let mut cases = vec![];
    for path in ["{call}/mute", "{call}/unmute", "{talking}/mute", "{talking}/unmute"] {
        cases.extend(kinds(&format!("clientContext of {path}"), path, "{\"clientContext\":<>}", "a text"));
        cases.push(post(format!("an array, {path}"), path, "[]"));
    }
    cases.extend([
        post("of a participant that nobody has", &format!("{{call}}/participants/{NOBODY}/mute"), "{}"),
        post("of a call that has ended", "{ended}/unmute", "{}"),
    ]);
    cases
}

fn invitations() -> Vec<Case> {
    let path = "{call}/participants/invite";
    let mut cases = kinds("participants", path, "{\"participants\":<>}", "");
    cases.extend(kinds("an invited one", path, "{\"participants\":[<>]}", ""));
    cases.extend(kinds("identity", path, "{\"participants\":[{\"identity\":<>}]}", "an object"));
    cases.extend(kinds(
        "clientContext",
        path,
        "{\"participants\":[{\"identity\":{}}],\"clientContext\":<>}",
        "a text",
    ));
    cases.extend(each(
        path,
        &[
            ("no body", ""),
            ("participants is missing", "{}"),
            ("identity is null", "{\"participants\":[{\"identity\":null}]}"),
            (
                "one of another type",
                "{\"participants\":[{\"@odata.type\":\"#microsoft.graph.participant\",\"identity\":{}}]}",
            ),
            ("identity twice", "{\"participants\":[{\"identity\":{},\"identity\":{}}]}"),
        ],
    ));
    let many = vec!["{\"identity\":{}}"; 101].join(",");
    let large = format!("{{\"participants\":[{{\"identity\":{{\"a\":\"{}\"}}}}]}}", "a".repeat(16 << 10));
    cases.extend([
        post("101 of them", path, format!("{{\"participants\":[{many}]}}")),
        post("identity of more than 16 KiB", path, large),
        post(
            "into a call that has ended",
            "{ended}/participants/invite",
            "{\"participants\":[{\"identity\":{}}]}",
        ),
    ]);
    cases
}

fn checks() -> Vec<Case> {
    let (check, purge) = ("/v1.0/communications/prompts/check", "/v1.0/communications/prompts/purge");
    let mut cases = kinds("customPrompt", check, "{\"customPrompt\":<>}", "");
    cases.extend(kinds("mediaInfo", check, "{\"mediaInfo\":<>}", ""));
    cases.extend(each(
        check,
        &[
            ("no body", ""),
            ("an empty object", "{}"),
            ("the uri alone", "{\"uri\":\"https://h.example/\"}"),
            ("a relative uri", "{\"mediaInfo\":{\"uri\":\"a.wav?sig=SECRET\"}}"),
            ("a scheme that is not fetched", "{\"prompt\":{\"mediaInfo\":{\"uri\":\"gopher://SECRET/\"}}}"),
            ("an array", "[{\"mediaInfo\":{\"uri\":\"https://h.example/\"}}]"),
        ],
    ));
    cases.extend(each(
        purge,
        &[
            ("purge of something without mediaInfo", "{\"uri\":\"https://h.example/\"}"),
            ("purge of a relative uri", "{\"mediaInfo\":{\"uri\":\"a.wav?sig=SECRET\"}}"),
            ("purge of a list", "[]"),
            (
                "purge of another type",
                "{\"@odata.type\":\"#microsoft.graph.call\",\"mediaInfo\":{\"uri\":\"https://h.example/\"}}",
            ),
        ],
    ));
    cases
}

fn ids() -> Vec<Case> {
    let mut cases = vec![];
    for id in [
        NOBODY,
        "7",
        "me",
        "null",
        "{call-id}0",
        "%7Bcall-id%7D",
        "..",
        "%00",
        "%ff%fe",
        "%F0%9F%8E%B5",
        "a%2Fb",
        "'{call-id}'",
        "57DAB8B1894C409AB240BD8BEAE78896",
    ] {
        cases.push(get(format!("a call '{id}'"), format!("{{calls}}/{id}")));
    }
    cases.push(get("a call with an id of 2000 characters", format!("{{calls}}/{}", "a".repeat(2000))));
    for (claim, path) in [
        ("a call that has ended", "{ended}"),
        ("participants of a call that has ended", "{ended}/participants"),
        ("a participant that nobody has", &*format!("{{call}}/participants/{NOBODY}")),
        ("a participant of another call", "{ended}/participants/{held-id}"),
        ("the bot is no participant", "{call}/participants/{call-id}"),
        ("an operation that nobody has", &*format!("{{call}}/operations/{NOBODY}")),
        ("an operation of another call", "{ended}/operations/{operation-id}"),
        ("an operation that is no id", "{call}/operations/latest"),
        ("a media leg that is not there", "{bare}/mediaLeg"),
        ("operations of a call that nobody has", &*format!("{{calls}}/{NOBODY}/operations")),
        ("how many operations a call has that nobody has", &*format!("{{calls}}/{NOBODY}/operations/$count")),
    ] {
        cases.push(get(claim, path));
    }
    for (claim, path) in [
        ("ends a call that nobody has", &*format!("{{calls}}/{NOBODY}")),
        ("ends a call that has ended", "{ended}"),
        ("removes a participant that nobody has", &*format!("{{call}}/participants/{NOBODY}")),
        ("removes a leg that is not there", "{bare}/mediaLeg"),
    ] {
        cases.push(Case::new(claim, "DELETE", path));
    }
    cases.extend([
        post("keeps a call alive that nobody has", &format!("{{calls}}/{NOBODY}/keepAlive"), ""),
        post("keeps a call alive that has ended", "{ended}/keepAlive", ""),
        post("keeps a call alive with what is no JSON", "{call}/keepAlive", "["),
        post("white space and nothing else", "{talking}/stopHoldMusic", " \r\n\t"),
        post("redelivers with a list", "/v1.0/communications/notifications/redeliver", "[null]"),
        post("keeps a call alive with a list", "{call}/keepAlive", "[null]"),
    ]);
    cases
}

fn paths() -> Vec<Case> {
    let mut cases = vec![];
    for path in [
        "/v1.0",
        "/v2.0/communications/calls",
        "/v1.0/communications",
        "/v1.0/communications/call",
        "/v1.0/communications/prompts/play",
        "/v1.0/users/me",
        "/communications/calls",
        "{call}/nonsense",
        "{call}/$count",
        "{calls}/$count/$count",
        "{talking}/nonsense",
        "{talking}/mediaLeg/sdp",
        "{operation}/status",
        "{calls}/../calls",
        "/v1.0/communications/calls%2F7",
        "/%2e%2e/etc/passwd",
        "/v1.0/%00",
        "/v1.0/%1b[2J",
        "/v1.0/%zz/%",
    ] {
        cases.push(get(format!("'{path}'"), path));
    }
    cases.extend([
        get("thousands of segments", "/a".repeat(5000)),
        get("200 000 characters", format!("/v1.0/{}", "a".repeat(200_000))),
        get("$batch", "/v1.0/$batch"),
        get("$metadata", "/v1.0/$metadata"),
        post("an action of Graph's that is not here", "{call}/recordResponse", "{}"),
        post("with its namespace", "{call}/microsoft.graph.subscribeToTone", "{}"),
        get("a collection of Graph's that is not here", "{call}/audioRoutingGroups"),
    ]);
    cases
}

fn methods() -> Vec<Case> {
    let mut cases = vec![];
    for (method, path) in [
        ("PATCH", "{calls}"),
        ("PUT", "{call}"),
        ("PATCH", "{call}"),
        ("POST", "{call}"),
        ("DELETE", "{calls}"),
        ("DELETE", "{call}/participants"),
        ("PUT", "{held}"),
        ("POST", "{held}/mediaLeg"),
        ("GET", "{held}/startHoldMusic"),
        ("PUT", "{held}/stopHoldMusic"),
        ("GET", "{call}/keepAlive"),
        ("PATCH", "{operation}"),
        ("DELETE", "{operation}"),
        ("POST", "{call}/operations"),
        ("POST", "{call}/operations/$count"),
        ("GET", "/v1.0/communications/prompts/check"),
        ("DELETE", "/v1.0/communications/prompts/purge"),
        ("POST", "/healthz"),
        ("POST", "/metrics"),
        ("DELETE", "/v1/keys"),
        ("TRACE", "{call}"),
        ("BREW", "{call}"),
        ("delete", "{call}"),
        ("PROPFIND", "/v1.0/communications/calls"),
    ] {
        cases.push(Case::new(format!("{method} {path}"), method, path));
    }
    cases.push(
        post("a wrong method is told before a wrong body", "{operation}", "[")
            .header("Content-Type", "text/plain"),
    );
    cases
}

fn queries() -> Vec<Case> {
    let mut cases = vec![];
    for query in [
        "$orderby=id",
        "$expand=participants",
        "$search=\"a\"",
        "$apply=aggregate($count as n)",
        "$top=-1",
        "$top=ten",
        "$top=",
        "$top=1.5",
        "$top=99999999999999999999999",
        "$skip=-1",
        "$skip=x",
        "$count=maybe",
        "$count=1",
        "$top=1&$top=2",
        "$count=true&count=false",
        "$filter=",
        "$filter=status",
        "$filter=status eq",
        "$filter=status eq completed",
        "$filter=status eq 'done'",
        "$filter=status gt 'completed'",
        "$filter=status eq 'completed",
        "$filter=(status eq 'completed'",
        "$filter=status eq 'completed')",
        "$filter=status eq 'completed' or status eq 'failed'",
        "$filter=status eq null",
        "$filter=id eq '7'",
        "$filter=startswith(clientContext,'a')",
        "$filter=clientContext eq \"a\"",
    ] {
        cases.push(get(
            query,
            format!("{{call}}/operations?{}", query.replace(' ', "%20").replace('"', "%22")),
        ));
    }
    let many: String = (0..65).map(|index| format!("m{index},")).collect();
    cases.extend([
        get("65 members of $select", format!("{{call}}/operations?$select={many}")),
        get("a query of 5000 characters", format!("{{call}}/operations?$select={}", "a".repeat(5000))),
        get("bytes that are no UTF-8", "{call}/operations?$filter=%ff%fe"),
        get("$filter of calls", "{calls}?$filter=status%20eq%20'completed'"),
        get("$filter of participants", "{call}/participants?$filter=clientContext%20eq%20'a'"),
        get("$filter of the count of calls", "{calls}/$count?$filter=status%20eq%20'completed'"),
        get("$orderby of one call", "{call}?$orderby=id"),
        get("$filter of a count that is wrong", "{call}/operations/$count?$filter=status%20eq"),
    ]);
    cases
}

fn tokens() -> Vec<Case> {
    let calls = |claim: &str| get(claim, "{calls}");
    vec![
        calls("no token").without("Authorization"),
        calls("an empty header").header("Authorization", ""),
        calls("a wrong token").header("Authorization", "Bearer SECRET"),
        calls("another scheme").header("Authorization", "Basic dXNlcjpTRUNSRVQ="),
        calls("no scheme").header("Authorization", "SECRET"),
        calls("nothing behind the scheme").header("Authorization", "Bearer"),
        calls("a token of 10 000 characters")
            .header("Authorization", format!("Bearer {}", "SECRET".repeat(1700))),
        post("no token, and a body that is wrong as well", "{calls}", "[").without("Authorization"),
        get("no token, and a path that is not there", "/v1.0/nothing").without("Authorization"),
        Case::new("no token, and a wrong method", "PATCH", "{calls}").without("Authorization"),
        post("no token, and a body of 300 kB", "{calls}", " ".repeat(300_000)).without("Authorization"),
    ]
}

fn heads() -> Vec<Case> {
    let head = |claim: &str, lines: &str| {
        Case::raw(
            claim,
            format!(
                "GET {{calls}} HTTP/1.1\r\nAuthorization: Bearer {{token}}\r\nConnection: close\r\n{lines}\r\n"
            ),
        )
    };
    let flood: String = (0..150).map(|index| format!("X-Flood-{index}: a\r\n")).collect();
    vec![
        head("no Host", ""),
        head("two Hosts", "Host: {host}\r\nHost: evil.example\r\n"),
        head("an empty Host", "Host:\r\n"),
        head("a Host with a path", "Host: evil.example/path\r\n"),
        head("a Host with a user", "Host: user:SECRET@evil.example\r\n"),
        head("a Host with a port that is none", "Host: evil.example:port\r\n"),
        head("a Host with spaces", "Host: evil example\r\n"),
        head("a Host with markup", "Host: <script>alert(1)</script>\r\n"),
        head("a Host that is too long", &format!("Host: {}.example\r\n", "a".repeat(300))),
        head("a Host that is not ASCII", "Host: ümlaut.example\r\n"),
        Case::raw(
            "no Host, for a page that needs no token",
            "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        ),
        head("a header without a colon", "Host: {host}\r\nnonsense\r\n"),
        head("a header whose name has a space", "Host: {host}\r\nX Y: z\r\n"),
        head("a folded header", "Host: {host}\r\nX: y\r\n z\r\n"),
        head("150 headers", &format!("Host: {{host}}\r\n{flood}")),
        head("a header of 500 kB", &format!("Host: {{host}}\r\nX: {}\r\n", "a".repeat(500_000))),
        Case::raw("a version that HTTP does not have", "GET / HTTP/9.9\r\nHost: {host}\r\n\r\n"),
        Case::raw("no HTTP at all", "hello\r\n\r\n"),
        Case::raw("a space in the path", "GET /v1.0/a b HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Case::raw("a NUL in the path", "GET /v1.0/\0 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ]
}
