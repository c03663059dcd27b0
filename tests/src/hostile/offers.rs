//! Hostile offers of media: refused, or answered in their own order with one stream, and no packet goes where the guard
//! would not have it.

use std::{net::SocketAddr, sync::Arc};

use holdmusic_codecs::Codec;
use holdmusic_control::{
    Ask, Control, Input, Output, RequestId, Settings,
    access::{Caller, Identity, Limits},
    guard::Guard,
};
use holdmusic_media::{LegId, LegSpec, MediaTime, Now, Protection, SourceId, WallTime};
use sdp_types::Session;
use serde_json::json;

use super::requests::check;
use crate::graph::Reply;

/// What URLs in answers begin with.
pub(super) const BASE: &str = "https://engine.test/v1.0";

/// An offer as a telephone makes it.
const GOOD: &str = "v=0\r\no=- 1 1 IN IP4 192.168.1.10\r\ns=-\r\nc=IN IP4 192.168.1.10\r\nt=0 0\r\n\
                    m=audio 49170 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";

/// Any bytes as an offer. The first one says how it comes: as SDP or as the JSON of a media leg, and with a new participant
/// or in the middle of a hold.
pub fn offer(input: &[u8]) -> bool {
    let Some((&manner, bytes)) = input.split_first() else { return false };
    let text = String::from_utf8_lossy(bytes);
    let is_sdp = manner & 1 == 0;
    let leg = if is_sdp { json!({ "sdp": text }).to_string() } else { text.clone().into_owned() };
    let mut desk = Desk::new();
    let call = desk.call();
    let (method, path, body) = if manner & 2 == 0 {
        ("POST", format!("{call}/participants"), format!(r#"{{"mediaLeg":{leg}}}"#))
    } else {
        let good = json!({ "mediaLeg": { "sdp": GOOD } }).to_string();
        let participant = desk.post(&format!("{call}/participants"), &good).expect(201).id().to_owned();
        let participant = format!("{call}/participants/{participant}");
        desk.post(&format!("{participant}/startHoldMusic"), "{}").expect(202);
        ("PUT", format!("{participant}/mediaLeg"), leg)
    };
    let asked = crate::graph::read(method, &path, body.as_bytes());
    if !check(&asked) {
        return false;
    }
    desk.specs.clear();
    let reply = desk.ask(asked.expect("it was checked"));
    let guard = guard();
    // Where a leg goes that waits for a handshake is judged when that is done.
    for spec in desk.specs.iter().filter(|spec| spec.protection != Protection::Awaited) {
        for address in std::iter::once(spec.destination).chain(spec.rtcp) {
            assert_eq!(guard.media(address.ip()), Ok(()), "{address}");
            assert_eq!(address.is_ipv4(), spec.destination.is_ipv4(), "{address}");
            assert_ne!(address.port(), 0);
        }
    }
    if !matches!(reply.status, 200 | 201) {
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(desk.specs.is_empty(), "a bad request changes nothing");
        return false;
    }
    let leg = if reply.body["mediaLeg"].is_object() { &reply.body["mediaLeg"] } else { &reply.body };
    if is_sdp {
        check_answer(&text, leg["sdp"].as_str().expect("an offer in SDP is answered in SDP"));
    }
    true
}

/// What holds for every answer: each line of the offer in its place, and one of them ours.
fn check_answer(offer: &str, answer: &str) {
    assert!(answer.ends_with("\r\n"), "{answer:?}");
    for line in answer.trim_end_matches("\r\n").split("\r\n") {
        let (name, _) = line.split_once('=').unwrap_or_else(|| panic!("no line of SDP: {line:?}"));
        assert!(name.len() == 1 && !line.contains(char::is_control), "{line:?}");
    }
    let attributes = offer.split(['\r', '\n']).filter(|line| line.starts_with("a=crypto"));
    let keys = attributes.flat_map(|line| line.split("inline:").skip(1));
    let keys = keys.filter_map(|rest| rest.split(['|', ';', ' ']).next());
    // Of the length of a key, and in no line that comes back as it is, as formats do.
    for key in keys.filter(|key| key.len() >= 38 && offer.matches(key).count() == 1) {
        assert!(!answer.contains(key), "a key of the peer came back");
    }
    // By hand, since more is read than the parser likes.
    let offered: Vec<_> = offer.lines().filter_map(|line| line.strip_prefix("m=")).collect();
    let answer = Session::parse(answer.as_bytes()).expect("what we answer can be read");
    assert_eq!(answer.medias.len(), offered.len());
    let ours: Vec<_> = answer.medias.iter().filter(|media| media.port != 0).collect();
    assert!(matches!(&ours[..], [media] if media.media == "audio"), "{ours:?}");
    for (answered, offered) in answer.medias.iter().zip(offered) {
        let offered: String =
            offered.chars().filter(|c| c.is_ascii_whitespace() || !c.is_control()).collect();
        let kind = offered.split_ascii_whitespace().next().expect("it was read before");
        assert!(answered.media.eq_ignore_ascii_case(kind), "{answered:?}, {offered:?}");
    }
}

/// Legs may go to loopback and private networks, and to those of documentation, where the offers of `assets/sdp` are from.
fn guard() -> Guard {
    let networks =
        "127.0.0.0/8 192.168.0.0/16 fd00::/8 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32";
    let media = networks.split(' ').map(|network| network.parse().expect("a network")).collect();
    Guard { media, ..Guard::default() }
}

/// A control with nobody around it, whose time stands still.
pub(super) struct Desk {
    control: Control,
    requests: u64,
    caller: Arc<Caller>,
    /// Legs as media was told of them.
    specs: Vec<LegSpec>,
    /// What plays where.
    plays: Vec<(LegId, SourceId)>,
}

const NOW: Now = Now { mono: MediaTime::from_nanos(5_000_000_000), wall: WallTime(1_700_000_000_000_000) };

impl Desk {
    pub(super) fn new() -> Self {
        let local = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut settings = Settings {
            media_locals: vec![local("192.168.1.1:20000"), local("[fd00::1]:20000")],
            guard: guard(),
            codecs: vec![Codec::Opus, Codec::OpusFullband, Codec::G722, Codec::L16, Codec::Pcma, Codec::Pcmu],
            fingerprint: Some([0xab; 32]),
            ..Settings::default()
        };
        settings.hold.max_held = 4;
        Self {
            control: Control::new(settings, [42; 32]),
            requests: 0,
            caller: Arc::new(Caller::by_static_token(Identity::new("bot", "tenant"), Limits::NONE)),
            specs: vec![],
            plays: vec![],
        }
    }

    /// A new call's path behind the version.
    pub(super) fn call(&mut self) -> String {
        let call = self.post("/communications/calls", r#"{"callbackUri":"https://bot.example/"}"#);
        format!("/communications/calls/{}", call.expect(201).id())
    }

    pub(super) fn post(&mut self, path: &str, body: &str) -> Reply {
        let asked = crate::graph::read("POST", path, body.as_bytes());
        self.ask(asked.expect("a good request"))
    }

    pub(super) fn ask(&mut self, ask: Ask) -> Reply {
        self.requests += 1;
        let request = RequestId(self.requests);
        let (base, caller) = (BASE.into(), Arc::clone(&self.caller));
        self.control.handle_input(NOW, Input::Request { request, accepted: NOW.mono, base, caller, ask });
        let mut reply = None;
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Reply { result, .. } => reply = Some(result),
                Output::AddLeg { spec, .. } | Output::ChangeLeg { spec, .. } => self.specs.push(spec),
                Output::Play { leg, source, .. } => self.plays.push((leg, source)),
                // No answer leaves before the store has what it promises.
                Output::Persist { ticket, .. } => self.control.handle_input(NOW, Input::Stored { ticket }),
                _ => {}
            }
        }
        let result = reply.expect("what is asked here is answered at once");
        check(&result);
        result.into()
    }

    /// The first packets of everything that plays have left.
    pub(super) fn everything_started(&mut self) {
        for (leg, source) in self.plays.drain(..) {
            self.control.handle_input(NOW, Input::Started { leg, source, sent_at: NOW.mono });
        }
        while self.control.poll_output().is_some() {}
    }
}
