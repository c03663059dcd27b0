//! Offers as telephones, gateways, browsers and relays send them (`assets/sdp`): what comes of each stands beside it, and
//! what must hold for every answer is tried with damaged ones.

use std::{fs, path::PathBuf};

use expect_test::expect_file;
use holdmusic_codecs::Codec;
use holdmusic_media::{
    Cname, Keying, LegSpec, MasterKey, MediaTime, Numbering, Protection,
    rtp::{SeqNo, Ssrc, Timestamp},
};
use proptest::{prelude::*, sample::Index};
use sdp_types::Session;

use super::{Local, MediaOffer, Negotiated, Secured, dtls::DtlsLocal};
use crate::{graph::Refusal, settings::Settings};

/// An engine that does all that can be done, and is asked to send to everywhere.
fn settings() -> Settings {
    let mut settings = Settings {
        codecs: vec![Codec::Opus, Codec::G722, Codec::L16, Codec::Pcma, Codec::Pcmu],
        fingerprint: Some([0xab; 32]),
        media_locals: ["198.51.100.1:20000", "[2001:db8::1]:20000"]
            .map(|local| local.parse().unwrap())
            .into(),
        ..Settings::default()
    };
    settings.guard.media = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap()).into();
    settings
}

/// Each offer by its name, as it comes off the wire.
fn offers() -> Vec<(String, String)> {
    let names =
        fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter_map(|name| Some(name.strip_suffix(".sdp")?.to_owned())).collect();
    names.sort();
    let text = |name: &str| fs::read_to_string(directory().join(format!("{name}.sdp"))).unwrap();
    names
        .into_iter()
        .map(|name| (text(&name).replace('\n', "\r\n"), name))
        .map(|(text, name)| (name, text))
        .collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/sdp")
}

/// The answer of a leg with keys and numbers that are the same each time.
fn answer(negotiated: &Negotiated, settings: &Settings) -> Box<str> {
    let of_family = |local: &&std::net::SocketAddr| local.is_ipv4() == negotiated.destination.is_ipv4();
    let address = *settings.media_locals.iter().find(of_family).unwrap();
    let protection = match &negotiated.secured {
        // No offer of SDP is one.
        Secured::Plain | Secured::Given(_) => Protection::Plain,
        Secured::Sdes(sdes) => Protection::Srtp(Box::new(Keying {
            send: MasterKey::new(sdes.peer.suite(), &vec![0; sdes.peer.suite().master_len()]).unwrap(),
            receive: Some(sdes.peer.clone()),
            mki: sdes.mki.clone(),
            rollover_counter: 0,
            srtcp_index: 0,
        })),
        Secured::Dtls(_) => Protection::Awaited,
    };
    let spec = LegSpec {
        sender: 0,
        destination: negotiated.destination,
        rtcp: negotiated.rtcp,
        codec: negotiated.codec,
        payload_type: negotiated.payload_type,
        numbering: Numbering {
            ssrc: Ssrc(7),
            sequence: SeqNo(0),
            timestamp: Timestamp(0),
            at: MediaTime::ZERO,
            rollover_counter: 0,
            srtcp_index: 0,
        },
        cname: Cname::new(0xc0ffee),
        protection,
        peer: negotiated.peer,
    };
    let dtls = DtlsLocal {
        ufrag: "Ours".to_owned(),
        pwd: "OurPasswordOf22Letters".to_owned(),
        fingerprint: settings.fingerprint.unwrap(),
        candidates: vec![address],
    };
    negotiated.answer(&Local { address, session: (5, 1), dtls: Some(&dtls) }, &spec).unwrap()
}

/// What is sent, in a line.
fn sent(negotiated: &Negotiated) -> String {
    let Negotiated { destination, rtcp, codec, payload_type, receives, secured, .. } = negotiated;
    let how = match secured {
        Secured::Plain => "plain RTP".to_owned(),
        Secured::Given(key) => format!("SRTP ({})", key.suite().name()),
        Secured::Sdes(sdes) => {
            let mki = sdes.mki.as_ref().map_or(String::new(), |mki| format!(", MKI {:02x?}", mki.bytes()));
            format!("SRTP ({}, line {}{mki})", sdes.peer.suite().name(), sdes.tag)
        }
        Secured::Dtls(dtls) => {
            let hashes: Vec<_> = dtls.fingerprints.iter().map(|(hash, _)| *hash).collect();
            let who = if dtls.we_begin() { "we begin" } else { "the peer begins" };
            format!("SRTP by DTLS ({}; {who})", hashes.join(", "))
        }
    };
    let what = if *receives { "music" } else { "nothing" };
    let reports = rtcp.map_or("no RTCP".to_owned(), |rtcp| format!("RTCP to {rtcp}"));
    let (number, packet_ms) = (payload_type.number(), codec.frame_ms());
    format!(
        "{what} as {codec:?} in payload type {number}, {packet_ms} ms a packet, to {destination}, {reports}, {how}\n"
    )
}

#[test]
fn what_comes_of_an_offer_stands_beside_it() {
    let settings = settings();
    let offers = offers();
    assert!(offers.len() >= 50, "only {} offers", offers.len());
    for (name, offer) in offers {
        let came = match MediaOffer::Sdp(offer.clone()).negotiate(&settings) {
            Ok(negotiated) => {
                let answer = answer(&negotiated, &settings);
                check(&offer, &negotiated, &answer);
                format!("{}\n{}", sent(&negotiated), answer.replace("\r\n", "\n"))
            }
            Err(refusal) => format!("{refusal}\n"),
        };
        expect_file![directory().join(format!("{name}.answer"))].assert_eq(&came);
    }
}

/// What holds for every answer.
fn check(offer: &str, negotiated: &Negotiated, answer: &str) {
    assert!(answer.ends_with("\r\n") && !answer.contains("\r\n\r\n"), "{answer:?}");
    let read = Session::parse(answer.as_bytes()).expect("what we answer can be read");
    // Each line is answered in its place, and as what it is.
    let lines: Vec<_> = offer.lines().filter_map(|line| line.strip_prefix("m=")).collect();
    assert_eq!(read.medias.len(), lines.len(), "{answer}");
    for (media, line) in read.medias.iter().zip(&lines) {
        let printable = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let mut words = line.split_ascii_whitespace().map(printable).filter(|word| !word.is_empty());
        assert!(media.media.eq_ignore_ascii_case(&words.next().unwrap()), "{answer}");
        assert_eq!(media.proto, words.nth(1).unwrap(), "{answer}");
        // One format for what is accepted; all of them, of which none counts, for what is not.
        let offered: Vec<_> = words.collect();
        let answered: Vec<_> = media.fmt.split_ascii_whitespace().collect();
        if media.port == 0 {
            // At least one must stand there (RFC 8866 section 5.14).
            assert!(offered == answered || offered.is_empty() && answered == ["0"], "{answer}");
        } else {
            assert!(answered.len() == 1 && offered.iter().any(|format| format == answered[0]), "{answer}");
        }
    }
    let accepted: Vec<_> = read.medias.iter().filter(|media| media.port != 0).collect();
    let [ours] = accepted[..] else { panic!("one line is accepted: {answer}") };
    assert_eq!(ours.fmt, negotiated.payload_type.number().to_string());
    // We send or we do not, and never listen.
    let direction = if negotiated.receives { "sendonly" } else { "inactive" };
    let directions = ["sendrecv", "recvonly", "sendonly", "inactive"];
    let given: Vec<_> = ours.attributes.iter().filter(|a| directions.contains(&&*a.attribute)).collect();
    assert!(matches!(given[..], [one] if one.attribute == direction), "{answer}");
    // A bundle of ours is part of one that was offered.
    for group in read.get_attribute_values("group").flatten() {
        let [semantics, mid] = group.split(' ').collect::<Vec<_>>()[..] else { panic!("{group}") };
        assert_eq!((semantics, Some(Some(mid))), ("BUNDLE", ours.get_first_attribute_value("mid")));
        let offered = offer.lines().filter(|line| line.starts_with("a=group:"));
        assert!(offered.flat_map(str::split_ascii_whitespace).any(|word| word == mid), "{group}");
    }
    assert_eq!(ours.has_attribute("crypto"), matches!(negotiated.secured, Secured::Sdes(_)));
    assert_eq!(ours.has_attribute("fingerprint"), matches!(negotiated.secured, Secured::Dtls(_)));
    check_secrets(offer, answer);
    check_secrets(offer, &format!("{negotiated:?}"));
}

/// No key of the peer comes back.
fn check_secrets(offer: &str, told: &str) {
    let keys = offer.match_indices("inline:").map(|(at, found)| &offer[at + found.len()..]);
    let keys = keys.filter_map(|rest| rest.split(['|', ';', ' ', '\r', '\n']).next());
    // Of the length of a key, and in no line that comes back as it is.
    for key in keys.filter(|key| key.len() >= 38 && offer.matches(key).count() == 1) {
        assert!(!told.contains(key), "{told}");
    }
}

/// One piece of damage.
#[derive(Clone, Debug)]
enum Damage {
    Lost(Index),
    Twice(Index, Index),
    Swapped(Index, Index),
    Replaced(Index, String),
    /// A character of a line becomes another one.
    Changed(Index, Index, char),
    /// A line that another offer has.
    Foreign(Index, Index, Index),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let line = any::<Index>;
    prop_oneof![
        line().prop_map(Damage::Lost),
        (line(), line()).prop_map(|(from, to)| Damage::Twice(from, to)),
        (line(), line()).prop_map(|(one, other)| Damage::Swapped(one, other)),
        (line(), "[a-z]=[ -~]{0,40}").prop_map(|(at, text)| Damage::Replaced(at, text)),
        (line(), line(), any::<char>()).prop_map(|(at, place, c)| Damage::Changed(at, place, c)),
        (line(), line(), line()).prop_map(|(at, offer, from)| Damage::Foreign(at, offer, from)),
        line().prop_map(Damage::Cut),
    ]
}

fn damaged(offer: &str, offers: &[(String, String)], damages: Vec<Damage>) -> String {
    let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
    for damage in damages {
        let len = lines.len();
        if len < 2 {
            break;
        }
        match damage {
            Damage::Lost(at) => drop(lines.remove(at.index(len))),
            Damage::Twice(from, to) => lines.insert(to.index(len), lines[from.index(len)].clone()),
            Damage::Swapped(one, other) => lines.swap(one.index(len), other.index(len)),
            Damage::Replaced(at, text) => lines[at.index(len)] = text,
            Damage::Changed(at, place, c) => {
                let line = &mut lines[at.index(len)];
                let mut text: Vec<char> = line.chars().collect();
                if !text.is_empty() {
                    let place = place.index(text.len());
                    text[place] = c;
                }
                *line = text.into_iter().collect();
            }
            Damage::Foreign(at, offer, from) => {
                let other: Vec<_> = offers[offer.index(offers.len())].1.lines().collect();
                lines.insert(at.index(len), other[from.index(other.len())].to_owned());
            }
            Damage::Cut(at) => lines.truncate(at.index(len).max(1)),
        }
    }
    lines.join("\r\n") + "\r\n"
}

proptest! {
    // Or as many as PROPTEST_CASES says, for a longer look.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn damaged_offers_are_answered_in_their_places_or_refused(
        which in any::<Index>(), damages in prop::collection::vec(damage(), 0..6), ours_first in any::<bool>(),
    ) {
        let offers = offers();
        let offer = damaged(&offers[which.index(offers.len())].1, &offers, damages);
        let mut settings = settings();
        if ours_first {
            settings.codec_order = crate::settings::CodecOrder::Ours;
            settings.codecs.insert(0, Codec::OpusFullband);
        }
        match MediaOffer::Sdp(offer.clone()).negotiate(&settings) {
            Ok(negotiated) => check(&offer, &negotiated, &answer(&negotiated, &settings)),
            Err(Refusal { status, code, message, .. }) => {
                prop_assert_eq!((status, code), (400, "8523"));
                prop_assert!(message.len() < 2_000 && !message.contains(char::is_control), "{}", message);
                check_secrets(&offer, &message);
            }
        }
    }
}
