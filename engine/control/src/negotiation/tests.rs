//! What a negotiation promises.

use expect_test::{Expect, expect};
use holdmusic_media::{Cname, LegSpec, MediaTime, Numbering, Protection};
use proptest::prelude::*;
use sdp_types::Session;

use super::*;

const OFFER: &str = "v=0\r\n\
    o=alice 2890844526 2890844526 IN IP4 192.168.1.10\r\n\
    s=-\r\n\
    c=IN IP4 192.168.1.10\r\n\
    t=0 0\r\n\
    m=audio 49170 RTP/AVP 0 96 101\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:96 opus/48000/2\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=sendrecv\r\n";

fn negotiate(sdp: &str) -> Result<Negotiated, Refusal> {
    MediaOffer::Sdp(sdp.to_owned()).negotiate(&Settings::default())
}

fn answer(sdp: &str) -> Box<str> {
    let negotiated = negotiate(sdp).unwrap();
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
        },
        cname: Cname::new(0xc0ffee),
        protection: Protection::Plain,
        peer: None,
    };
    let local = Local { address: "192.168.1.1:20000".parse().unwrap(), session: (5, 1), dtls: None };
    negotiated.answer(&local, &spec).unwrap()
}

fn check(sdp: &str, expected: &Expect) {
    let answer = answer(sdp);
    assert!(answer.lines().all(|line| !line.is_empty()) && answer.ends_with("\r\n"));
    Session::parse(answer.as_bytes()).expect("what we answer can be read");
    expected.assert_eq(&answer.replace("\r\n", "\n"));
}

#[test]
fn an_offer_is_answered_with_one_stream_of_music() {
    check(
        OFFER,
        &expect![[r#"
        v=0
        o=- 5 1 IN IP4 192.168.1.1
        s=-
        c=IN IP4 192.168.1.1
        t=0 0
        m=audio 20000 RTP/AVP 96
        a=rtpmap:96 opus/48000/2
        a=fmtp:96 sprop-maxcapturerate=16000;sprop-stereo=0
        a=ptime:20
        a=sendonly
        a=rtcp:20000
        a=ssrc:7 cname:000000000000000000c0ffee
    "#]],
    );
    let negotiated = negotiate(OFFER).unwrap();
    assert_eq!(negotiated.destination, "192.168.1.10:49170".parse().unwrap());
    assert_eq!(negotiated.rtcp, Some("192.168.1.10:49171".parse().unwrap()));
    assert_eq!(negotiated.payload_type.number(), 96);
    assert!(negotiated.receives);
}

#[test]
fn other_lines_are_rejected_in_their_places() {
    let sdp = format!(
        "{}m=video 5000 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\na=mid:v\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        OFFER.replace("a=sendrecv", "a=recvonly\r\na=mid:a\r\na=rtcp-mux")
    );
    check(
        &sdp,
        &expect![[r#"
        v=0
        o=- 5 1 IN IP4 192.168.1.1
        s=-
        c=IN IP4 192.168.1.1
        t=0 0
        m=audio 20000 RTP/AVP 96
        a=mid:a
        a=rtpmap:96 opus/48000/2
        a=fmtp:96 sprop-maxcapturerate=16000;sprop-stereo=0
        a=ptime:20
        a=sendonly
        a=rtcp-mux
        a=ssrc:7 cname:000000000000000000c0ffee
        m=video 0 RTP/AVP 97
        a=mid:v
        m=application 0 UDP/DTLS/SCTP webrtc-datachannel
    "#]],
    );
    assert_eq!(negotiate(&sdp).unwrap().rtcp, Some("192.168.1.10:49170".parse().unwrap()));
}

#[test]
fn rtcp_goes_where_the_offer_says() {
    let at = |line: &str| negotiate(&OFFER.replace("a=sendrecv", line)).map(|negotiated| negotiated.rtcp);
    assert_eq!(at("a=rtcp:53020"), Ok(Some("192.168.1.10:53020".parse().unwrap())));
    assert_eq!(at("a=rtcp:53020 IN IP4 192.168.1.11"), Ok(Some("192.168.1.11:53020".parse().unwrap())));
    assert!(at("a=rtcp:x").unwrap_err().message.contains("a=rtcp:x"));
    assert!(at("a=rtcp:53020 IN IP4 8.8.8.8").unwrap_err().message.contains("--allow-media"));
}

#[test]
fn who_wants_to_hear_nothing_gets_a_leg_that_is_inactive() {
    for quiet in ["a=sendonly", "a=inactive"] {
        let sdp = OFFER.replace("a=sendrecv", quiet);
        assert!(!negotiate(&sdp).unwrap().receives);
        assert!(answer(&sdp).contains("a=inactive\r\n"));
    }
    let sdp = OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 0.0.0.0");
    assert!(!negotiate(&sdp).unwrap().receives);
    // A direction of the whole session holds where the line says nothing (RFC 8866 section 6.7).
    let sdp = OFFER.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
    assert!(!negotiate(&sdp).unwrap().receives);
    assert!(negotiate(&OFFER.replace("a=sendrecv\r\n", "")).unwrap().receives);
}

#[test]
fn an_offer_that_cannot_be_served_is_told_why() {
    let told: String = [
        "hello".to_owned(),
        OFFER.replace("RTP/AVP", "RTP/SAVP"),
        OFFER.replace("opus/48000/2", "opus/16000"),
        OFFER.replace("m=audio 49170", "m=audio 0"),
        OFFER.replace("c=IN IP4 192.168.1.10\r\n", ""),
        OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 phone.example.com"),
        OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 224.2.1.1/127"),
    ]
    .iter()
    .map(|sdp| {
        let refusal = negotiate(sdp).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "8523"));
        format!("{}\n", refusal.message)
    })
    .collect();
    expect![[r#"
        'mediaLeg.sdp' is no SDP: Invalid formatted line 1: "Line not in key=value format"; expected an offer (RFC 8866).
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line asks for RTP/SAVP and has no keys; expected a=crypto.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line offers PCMU/8000, opus/16000, telephone-event/8000; expected one of opus/48000/2.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has port 0, which switches it off; expected a port.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has no c= line; expected one, of its own or of the session.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has 'phone.example.com' in its c= line; expected an IP address.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line is not to be sent to: address 224.2.1.1 (multicast) is not allowed; the operator can allow it with --allow-media.
    "#]].assert_eq(&told);
}

#[test]
fn bare_line_feeds_are_read_as_well() {
    assert_eq!(negotiate(&OFFER.replace("\r\n", "\n")), negotiate(OFFER));
}

proptest! {
    #[test]
    fn hostile_offers_are_answered_or_refused_but_never_panic(
        line in "[a-z]=[ -~]{0,60}", at in 0_usize..10, cut in 0_usize..400,
    ) {
        let mut lines: Vec<_> = OFFER.lines().collect();
        lines[at] = &line;
        let sdp = lines.join("\r\n");
        for text in [&sdp[..], &sdp[..cut.min(sdp.len())]] {
            if negotiate(text).is_ok() {
                let answer = answer(text);
                prop_assert!(Session::parse(answer.as_bytes()).is_ok(), "{}", answer);
            }
        }
    }
}
