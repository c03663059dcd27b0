//! What memory does one more held participant take, everything included: the call, the participant, its operation, the
//! leg, all tables? Resident memory of the real engine with many on hold, less that with few, for each of those between.

#![expect(clippy::disallowed_methods, reason = "the bench waits while others hold")]

use std::{io, net::SocketAddr, thread, time::Duration};

use clap::Parser;
use holdmusic_bench::{
    bare::destination,
    chart::{Chart, Line},
    ear::Drain,
    engine::Engine,
    probe::pin,
    progress::Progress,
    report::{Report, Target},
};
use serde_json::json;

/// Memory for each participant on hold
#[derive(Parser)]
struct Options {
    /// How many are on hold when memory is first read, and last
    #[arg(long, value_delimiter = ',', default_values_t = [1000u32, 6000])]
    legs: Vec<u32>,
    /// Read it so often between
    #[arg(long, default_value_t = 5)]
    steps: u32,
    /// Each call has members that a bot of Microsoft's documentation sends, and each leg is offered in SDP
    #[arg(long)]
    talkative: bool,
}

/// Time for what was begun to be finished: notifications delivered, memory given back. The slowest of them takes tens of
/// milliseconds.
const SETTLE: Duration = Duration::from_secs(2);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let (&[few, many] | &[few, .., many]) = options.legs.as_slice() else {
        return Err(io::Error::other("--legs wants two numbers, as in --legs 1000,6000"));
    };
    if few >= many || options.steps == 0 {
        return Err(io::Error::other("--legs wants the smaller number first, and --steps at least 1"));
    }
    pin(1);
    // More legs than one core can send to: then packets are left out, and memory is the same.
    let engine = Engine::start(&["--senders", "1"], None)?;
    let drain = Drain::open(1)?;
    let bar = Progress::new(many.into());
    let mut points = Vec::new();
    let mut held = 0;
    for step in 0..=options.steps {
        let wanted = few + (many - few) * step / options.steps;
        while held < wanted {
            let to = destination(held, drain.port());
            let who =
                if options.talkative { talkative(&engine, held, to)? } else { engine.participant_at(to)? };
            engine.post(
                &format!("{who}/startHoldMusic"),
                &json!({ "clientContext": format!("hold {held}") }),
            )?;
            held += 1;
            bar.step("holds begun");
        }
        thread::sleep(SETTLE);
        points.push((f64::from(held), engine.resident_bytes()? as f64));
    }
    drop(bar);
    drain.close();
    let (first, last) = (points[0], points[points.len() - 1]);
    let mut report =
        Report::new("memory", "Resident memory of the engine with participants on hold, a call each");
    for (held, bytes) in &points {
        report.figure(&format!("{held} on hold"), bytes / f64::from(1 << 20), "MiB");
    }
    let each = (last.1 - first.1) / (last.0 - first.0);
    report.judged("for each participant on hold", each, "bytes", Target::AtMost(2048.0));
    report.chart(Chart {
        title: "Resident memory".to_owned(),
        x: "participants on hold".to_owned(),
        y: "MiB".to_owned(),
        lines: vec![Line {
            name: "engine".to_owned(),
            points: points.iter().map(|(held, bytes)| (*held, bytes / f64::from(1 << 20))).collect(),
        }],
        ..Chart::default()
    });
    report.end()
}

/// A participant whose call and leg say all that bots say.
fn talkative(engine: &Engine, number: u32, to: SocketAddr) -> io::Result<String> {
    let call = json!({
        "@odata.type": "#microsoft.graph.call",
        "direction": "outgoing",
        "subject": format!("Ticket {number}"),
        "callbackUri": engine.callback(),
        "requestedModalities": ["audio"],
        "mediaConfig": { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" },
        "tenantId": "aa67bd4c-8475-432d-bd41-39f255720e0a",
        "targets": [{
            "@odata.type": "#microsoft.graph.invitationParticipantInfo",
            "identity": {
                "@odata.type": "#microsoft.graph.identitySet",
                "user": {
                    "@odata.type": "#microsoft.graph.identity",
                    "displayName": "A customer",
                    "id": format!("112f7296-5fa4-42ca-bae8-{number:012}"),
                },
            },
        }],
    });
    let sdp = format!(
        "v=0\r\no=- {number} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 111 0 101\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\na=recvonly\r\n",
        ip = to.ip(),
        port = to.port(),
    );
    engine.participant_with(&call, &json!({ "mediaLeg": { "sdp": sdp } }))
}
