//! What a negotiation promises.

use expect_test::{Expect, expect};
use holdmusic_media::{Cname, LegSpec, MediaTime, Numbering, Protection};
use proptest::prelude::*;
use sdp_types::Session;

use super::*;
use crate::settings::CodecOrder;

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
            rollover_counter: 0,
            srtcp_index: 0,
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
            m=audio 20000 RTP/AVP 0
            a=rtpmap:0 PCMU/8000
            a=ptime:20
            a=sendonly
            a=rtcp:20000
            a=ssrc:7 cname:000000000000000000c0ffee
        "#]],
    );
    let negotiated = negotiate(OFFER).unwrap();
    assert_eq!(negotiated.destination, "192.168.1.10:49170".parse().unwrap());
    assert_eq!(negotiated.rtcp, Some("192.168.1.10:49171".parse().unwrap()));
    assert_eq!(negotiated.payload_type.number(), 0, "the order of the offer");
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
            m=audio 20000 RTP/AVP 0
            a=mid:a
            a=rtpmap:0 PCMU/8000
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
    assert_eq!(at("a=rtcp:9 IN IP4 0.0.0.0"), Ok(None));
    assert_eq!(at("b=RS:0\r\nb=RR:0"), Ok(None));
    assert_eq!(at("b=RS:0"), Ok(Some("192.168.1.10:49171".parse().unwrap())));
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
        OFFER.replace("opus/48000/2", "opus/16000").replace("PCMU", "GSM"),
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
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line offers GSM/8000, opus/16000, telephone-event/8000; expected one of opus/48000/2, G722/8000, L16/16000, PCMA/8000, PCMU/8000.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has port 0, which switches it off; expected a port.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has no c= line; expected one, of its own or of the session.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line has 'phone.example.com' in its c= line; expected an IP address.
        'mediaLeg.sdp' offers no audio that can be sent to: its m=audio line is not to be sent to: address 224.2.1.1 (multicast) is not allowed; the operator can allow it with --allow-media.
    "#]].assert_eq(&told);
}

/// An offer of one line with these formats and attributes.
fn line(proto: &str, formats: &str, attributes: &[&str]) -> String {
    let attributes: String = attributes.iter().map(|attribute| format!("a={attribute}\r\n")).collect();
    format!("v=0\r\nc=IN IP4 192.168.1.10\r\nm=audio 49170 {proto} {formats}\r\n{attributes}")
}

fn all_codecs() -> Settings {
    let codecs = vec![Codec::Opus, Codec::G722, Codec::L16, Codec::Pcma, Codec::Pcmu];
    Settings { codecs, fingerprint: Some([0; 32]), ..Settings::default() }
}

fn negotiate_by(settings: &Settings, sdp: &str) -> Result<Negotiated, Refusal> {
    MediaOffer::Sdp(sdp.to_owned()).negotiate(settings)
}

/// Codec and payload type, or the reason.
fn chosen(settings: &Settings, sdp: &str) -> Result<(Codec, u8), String> {
    let negotiated = negotiate_by(settings, sdp).map_err(|refusal| refusal.message)?;
    Ok((negotiated.codec, negotiated.payload_type.number()))
}

#[test]
fn the_offer_says_which_codec_comes_first_unless_the_operator_does() {
    let mut settings = all_codecs();
    let sdp = line("RTP/AVP", "18 0 120 8", &["rtpmap:120 opus/48000/2"]);
    assert_eq!(chosen(&settings, &sdp), Ok((Codec::Pcmu, 0)));
    settings.codec_order = CodecOrder::Ours;
    assert_eq!(chosen(&settings, &sdp), Ok((Codec::Opus, 120)));
    settings.codecs = vec![Codec::Pcma, Codec::Opus];
    assert_eq!(chosen(&settings, &sdp), Ok((Codec::Pcma, 8)));
    settings.codecs = vec![Codec::G722];
    assert!(chosen(&settings, &sdp).unwrap_err().contains("expected one of G722/8000"));
}

#[test]
fn formats_are_known_by_name_rate_and_channels_and_static_ones_by_number() {
    let settings = all_codecs();
    for (formats, map, expected) in [
        ("9", "", Some((Codec::G722, 9))),
        ("8", "rtpmap:8 pcma/8000/1", Some((Codec::Pcma, 8))),
        // Who gives a static number another meaning means it.
        ("0", "rtpmap:0 PCMA/8000", Some((Codec::Pcma, 0))),
        ("96", "rtpmap:96 L16/16000", Some((Codec::L16, 96))),
        ("96", "rtpmap:96 L16/44100", None),
        ("11", "", None),
        ("96", "rtpmap:96 L16/16000/2", None),
        ("96", "rtpmap:96 opus/48000", None),
        ("96", "rtpmap:96 OPUS/48000/2", Some((Codec::Opus, 96))),
        ("96", "rtpmap:96 G722/16000", None),
        ("96", "", None),
        // RTCP uses these (RFC 5761 section 4).
        ("72", "rtpmap:72 opus/48000/2", None),
        ("128", "rtpmap:128 opus/48000/2", None),
    ] {
        let found = chosen(&settings, &line("RTP/AVP", formats, &[map]));
        assert_eq!(found.clone().ok(), expected, "{formats} {map}: {found:?}");
    }
}

#[test]
fn a_receiver_of_opus_gets_the_kind_that_it_can_use() {
    let kind = |codecs: &[Codec], parameters: &str| {
        let settings = Settings { codecs: codecs.to_vec(), ..Settings::default() };
        let attributes = ["rtpmap:96 opus/48000/2", &format!("fmtp:96 {parameters}")];
        chosen(&settings, &line("RTP/AVP", "96", &attributes)).unwrap().0
    };
    for (parameters, usual, wide) in [
        ("minptime=10;useinbandfec=1", Codec::Opus, Codec::OpusFullband),
        ("maxplaybackrate=48000; stereo=1", Codec::Opus, Codec::OpusFullband),
        ("maxplaybackrate=24000", Codec::Opus, Codec::OpusFullband),
        ("maxplaybackrate=16000", Codec::Opus, Codec::Opus),
        ("MaxPlaybackRate=8000;cbr=0", Codec::Opus, Codec::Opus),
        ("maxaveragebitrate=40000", Codec::Opus, Codec::Opus),
        ("maxaveragebitrate=32000", Codec::Opus, Codec::Opus),
        ("maxaveragebitrate=31999", Codec::OpusLow, Codec::OpusLow),
        ("maxplaybackrate=8000;maxaveragebitrate=6000", Codec::OpusLow, Codec::OpusLow),
        // Out of range, and no numbers: as if they were not there (RFC 7587 section 6.1).
        ("maxaveragebitrate=5999", Codec::Opus, Codec::OpusFullband),
        ("maxaveragebitrate=510001", Codec::Opus, Codec::OpusFullband),
        ("maxaveragebitrate=-1;maxplaybackrate=x;;=", Codec::Opus, Codec::OpusFullband),
    ] {
        assert_eq!(kind(&[Codec::Opus], parameters), usual, "{parameters}");
        assert_eq!(kind(&[Codec::Opus, Codec::OpusFullband], parameters), wide, "{parameters}");
    }
    assert_eq!(kind(&[Codec::OpusFullband], "maxplaybackrate=8000"), Codec::OpusFullband);
}

#[test]
fn packets_are_of_20_ms_whatever_is_wished_and_of_10_where_20_are_too_long() {
    let settings = all_codecs();
    for (wish, codec) in [
        ("ptime:10", Codec::Pcmu),
        ("ptime:60", Codec::Pcmu),
        ("maxptime:20", Codec::Pcmu),
        ("maxptime:150", Codec::Pcmu),
        ("maxptime:20.0", Codec::Pcmu),
        ("maxptime:", Codec::Pcmu),
        ("maxptime", Codec::Pcmu),
        ("maxptime:19", Codec::PcmuShort),
        ("maxptime:10", Codec::PcmuShort),
        ("maxptime: 10.0", Codec::PcmuShort),
    ] {
        let negotiated = negotiate_by(&settings, &line("RTP/AVP", "0", &[wish])).unwrap();
        assert_eq!(negotiated.codec, codec, "{wish}");
    }
    let refused = |lines: &[&str], formats| chosen(&settings, &line("RTP/AVP", formats, lines)).unwrap_err();
    assert!(refused(&["maxptime:9"], "0").contains("at most 9 ms (a=maxptime); expected 10 or more"));
    let reason = refused(&["maxptime:10", "rtpmap:96 speex/8000"], "96");
    assert!(
        reason.contains("offers speex/8000 in packets of 10 ms; expected one of opus/48000/2"),
        "{reason}"
    );
}

/// In short packets there is the usual Opus alone; what it is too much for is sent something else.
#[test]
fn short_packets_of_opus_are_of_the_usual_bit_rate_or_there_are_none() {
    let settings = |codecs: &[Codec]| Settings { codecs: codecs.into(), ..all_codecs() };
    let all = settings(&[Codec::OpusFullband, Codec::Opus, Codec::Pcma]);
    let offer = |parameters: &str| {
        let parameters = format!("fmtp:111 {parameters}");
        line("RTP/AVP", "111 8", &["maxptime:10", "rtpmap:111 opus/48000/2", &parameters])
    };
    let codec = |settings: &Settings, parameters: &str| {
        negotiate_by(settings, &offer(parameters)).map(|negotiated| negotiated.codec)
    };
    assert_eq!(codec(&all, "stereo=1"), Ok(Codec::OpusShort));
    assert_eq!(codec(&all, "maxaveragebitrate=32000"), Ok(Codec::OpusShort));
    assert_eq!(codec(&all, "maxaveragebitrate=12000"), Ok(Codec::PcmaShort));
    assert!(codec(&settings(&[Codec::Opus]), "maxaveragebitrate=12000").is_err());
    let refusal = codec(&settings(&[Codec::OpusFullband]), "").unwrap_err();
    assert!(refusal.message.contains("in packets of 10 ms; expected none of ours"), "{}", refusal.message);
}

/// 30 bytes in base64: key and salt of AES_CM_128.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

#[test]
fn keys_are_taken_as_they_are_offered_or_told_why_not() {
    let settings = all_codecs();
    let told: String = [
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY",
        "000000007 aes_cm_128_hmac_sha1_32 INLINE:KEY|2^20|1:4 WSH=128",
        "2 AES_CM_128_HMAC_SHA1_80 inline:KEY|1048576",
        "2 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:1;inline:KEY|2:1",
        "2 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=0 -NEW=1",
        "2 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|66051:3",
        // What follows cannot be done.
        "1 AES_256_CM_HMAC_SHA1_80 inline:KEY",
        "1 AEAD_AES_128_GCM inline:KEY",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEYKEY",
        "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubG!!",
        "1 AES_CM_128_HMAC_SHA1_80 prompt:KEY",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^49",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|0",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:0",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|256:1",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:129",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|1:1|x",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTP",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTCP",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNAUTHENTICATED_SRTP",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=10",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_ORDER=FEC_SRTP",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY NEW=1",
        "x AES_CM_128_HMAC_SHA1_80 inline:KEY",
        "1234567890 AES_CM_128_HMAC_SHA1_80 inline:KEY",
        "1 AES_CM_128_HMAC_SHA1_80",
        "1 inline:KEY",
        "1 KEY",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY inline:KEY",
        "1 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_KEY=inline:KEY",
        "",
    ]
    .iter()
    .map(|crypto| {
        let sdp = line("RTP/SAVP", "0", &[&format!("crypto:{}", crypto.replace("KEY", KEY))]);
        let came = match negotiate_by(&settings, &sdp) {
            Ok(Negotiated { secured: Secured::Sdes(sdes), .. }) => {
                format!("line {}, {}, {:?}", sdes.tag, sdes.peer.suite().name(), sdes.mki)
            }
            Ok(other) => panic!("{crypto}: {other:?}"),
            Err(refusal) => {
                let (_, reason) = refusal.message.split_once("a=crypto line 1 ").unwrap();
                reason.split("; expected one of AES").next().unwrap().to_owned()
            }
        };
        assert!(!came.contains(KEY));
        format!("{crypto}: {came}\n")
    })
    .collect();
    expect![[r#"
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY: line 1, AES_CM_128_HMAC_SHA1_80, None
        000000007 aes_cm_128_hmac_sha1_32 INLINE:KEY|2^20|1:4 WSH=128: line 7, AES_CM_128_HMAC_SHA1_32, Some(Mki([0, 0, 0, 1]))
        2 AES_CM_128_HMAC_SHA1_80 inline:KEY|1048576: line 2, AES_CM_128_HMAC_SHA1_80, None
        2 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:1;inline:KEY|2:1: line 2, AES_CM_128_HMAC_SHA1_80, Some(Mki([1]))
        2 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=0 -NEW=1: line 2, AES_CM_128_HMAC_SHA1_80, None
        2 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^31|66051:3: line 2, AES_CM_128_HMAC_SHA1_80, Some(Mki([1, 2, 3]))
        1 AES_256_CM_HMAC_SHA1_80 inline:KEY: has 'AES_256_CM_HMAC_SHA1_80'
        1 AEAD_AES_128_GCM inline:KEY: has 30 bytes of key and salt; expected 28
        1 AES_CM_128_HMAC_SHA1_80 inline:KEYKEY: has 60 bytes of key and salt; expected 30
        1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubG!!: has no base64; expected key and salt in base64
        1 AES_CM_128_HMAC_SHA1_80 prompt:KEY: has a key that is not 'inline:'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^49: has a key with something behind it that is no lifetime and no MKI
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|0: has a key with something behind it that is no lifetime and no MKI
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:0: has an MKI that is not a number and 1 to 128 bytes
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|256:1: has an MKI that is not a number and 1 to 128 bytes
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|1:129: has an MKI that is not a number and 1 to 128 bytes
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20|1:1|x: has a key with something behind it that is no lifetime and no MKI
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTP: asks for 'UNENCRYPTED_SRTP'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNENCRYPTED_SRTCP: asks for 'UNENCRYPTED_SRTCP'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY UNAUTHENTICATED_SRTP: asks for 'UNAUTHENTICATED_SRTP'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY KDR=10: asks for 'KDR'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_ORDER=FEC_SRTP: asks for 'FEC_ORDER'
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY NEW=1: asks for 'NEW'
        x AES_CM_128_HMAC_SHA1_80 inline:KEY: has no tag that is a number
        1234567890 AES_CM_128_HMAC_SHA1_80 inline:KEY: has no tag that is a number
        1 AES_CM_128_HMAC_SHA1_80: has no key
        1 inline:KEY: has something else in the place of a suite
        1 KEY: has something else in the place of a suite
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY inline:KEY: has something behind its key that is no parameter
        1 AES_CM_128_HMAC_SHA1_80 inline:KEY FEC_KEY=inline:KEY: has something behind its key that is no parameter
        : has no tag that is a number
    "#]].assert_eq(&told);
}

#[test]
fn the_first_line_of_keys_that_can_be_used_is() {
    let with = |cryptos: &[String]| {
        let attributes: Vec<_> = cryptos.iter().map(|crypto| format!("crypto:{crypto}")).collect();
        let attributes: Vec<_> = attributes.iter().map(|attribute| &**attribute).collect();
        match negotiate_by(&all_codecs(), &line("RTP/SAVP", "0", &attributes)).map(|it| it.secured) {
            Ok(Secured::Sdes(sdes)) => Some(sdes.tag),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    };
    let good = |tag: u32| format!("{tag} AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
    let bad = |tag: u32| format!("{tag} F8_128_HMAC_SHA1_80 inline:{KEY}");
    assert_eq!(with(&[bad(1), good(3), good(2)]), Some(3));
    let many: Vec<_> = (1..=16).map(bad).collect();
    assert_eq!(with(&[&many[1..], &[good(99)]].concat()), Some(99));
    // Not looked at any more.
    assert_eq!(with(&[&many[..], &[good(99)]].concat()), None);
}

#[test]
fn keys_on_a_plain_line_are_used_unless_capabilities_are_negotiated() {
    let crypto = format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    let secured =
        |attributes: &[&str]| negotiate_by(&all_codecs(), &line("RTP/AVP", "0", attributes)).unwrap().secured;
    assert!(matches!(secured(&[&crypto]), Secured::Sdes(_)));
    assert_eq!(secured(&[&crypto, "pcfg:1 t=1"]), Secured::Plain);
    assert_eq!(secured(&["crypto:1 F8_128_HMAC_SHA1_80 inline:x"]), Secured::Plain);
}

#[test]
fn the_first_line_that_can_be_sent_to_is_answered() {
    let lines = |first: &str, second: &str| {
        let sdp = format!("v=0\r\nc=IN IP4 192.168.1.10\r\nm=audio {first}\r\nm=audio {second}\r\n");
        let negotiated = negotiate_by(&all_codecs(), &sdp).map_err(|refusal| refusal.message)?;
        Ok::<_, String>(negotiated.destination.to_string())
    };
    assert_eq!(lines("10000 RTP/AVP 0", "20000 RTP/AVP 0").unwrap(), "192.168.1.10:10000");
    assert_eq!(lines("0 RTP/AVP 0", "20000 RTP/AVP 0").unwrap(), "192.168.1.10:20000");
    assert_eq!(lines("10000 RTP/SAVP 0", "20000 RTP/AVP 0").unwrap(), "192.168.1.10:20000");
    assert_eq!(lines("10000 RTP/AVP 18", "20000 RTP/AVP 0").unwrap(), "192.168.1.10:20000");
    let far = "10000 RTP/AVP 0\r\nc=IN IP4 8.8.8.8";
    assert_eq!(lines(far, "20000 RTP/AVP 0").unwrap(), "192.168.1.10:20000");
    expect!["'mediaLeg.sdp' offers no audio that can be sent to: m=audio line 1 asks for 'TCP/RTP/AVP'; expected RTP/AVP, RTP/SAVP or UDP/TLS/RTP/SAVP, or one of them with F; m=audio line 2 is not to be sent to: address 8.8.8.8 (public) is not allowed; the operator can allow it with --allow-media."].assert_eq(&lines("10000 TCP/RTP/AVP 0", far).unwrap_err());
}

#[test]
fn a_line_of_a_family_that_is_not_here_is_passed_over() {
    let settings = Settings { media_locals: vec!["192.168.1.1:20000".parse().unwrap()], ..all_codecs() };
    let six = "v=0\r\nm=audio 10000 RTP/AVP 0\r\nc=IN IP6 fd00::1\r\n";
    let both = format!("{six}m=audio 20000 RTP/AVP 0\r\nc=IN IP4 192.168.1.10\r\n");
    assert_eq!(negotiate_by(&settings, &both).unwrap().destination, "192.168.1.10:20000".parse().unwrap());
    let told = negotiate_by(&settings, six).unwrap_err().message;
    assert!(told.contains("goes to IPv6; this server has no such media address"), "{told}");
}

#[test]
fn a_handshake_needs_all_that_is_told_about_it() {
    let settings = all_codecs();
    let digest = "00:".repeat(31) + "ff";
    let good = [
        "rtcp-mux".to_owned(),
        "ice-ufrag:abcd".to_owned(),
        "ice-pwd:abcdefghijklmnopqrstuv".to_owned(),
        "setup:actpass".to_owned(),
        format!("fingerprint:sha-256 {digest}"),
    ];
    let come = |changes: &[(usize, &str)], settings: &Settings| {
        let mut attributes = good.clone();
        for (at, change) in changes {
            attributes[*at] = (*change).to_owned();
        }
        let attributes: Vec<_> = attributes.iter().map(|attribute| &**attribute).collect();
        match negotiate_by(settings, &line("UDP/TLS/RTP/SAVPF", "0", &attributes)) {
            Ok(Negotiated { secured: Secured::Dtls(dtls), .. }) => {
                let hashes: Vec<_> = dtls.fingerprints.iter().map(|(hash, _)| *hash).collect();
                format!("{hashes:?}, we begin: {}", dtls.we_begin())
            }
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => refusal.message.split_once("its m=audio line ").unwrap().1.to_owned(),
        }
    };
    let mut told = String::new();
    for changes in [
        &[][..],
        &[(3, "setup:active")],
        &[(3, "setup:passive")],
        &[(3, "x")],
        &[(3, "setup:holdconn")],
        &[(0, "rtcp-mux-only")],
        &[(0, "x")],
        &[(1, "ice-ufrag:abc")],
        &[(1, "ice-ufrag:ab:cd")],
        &[(1, "x")],
        &[(2, "ice-pwd:abcdefghijklmnopqrstu")],
        &[(4, "x")],
        &[(4, "fingerprint:sha-1 00")],
        &[(4, "fingerprint:sha-256 00")],
        &[(4, "fingerprint:sha-256 zz")],
    ] {
        told += &format!("{changes:?}: {}\n", come(changes, &settings));
    }
    told += &format!("switched off: {}\n", come(&[], &Settings { fingerprint: None, ..all_codecs() }));
    expect![[r#"
        []: ["sha-256"], we begin: false
        [(3, "setup:active")]: ["sha-256"], we begin: false
        [(3, "setup:passive")]: ["sha-256"], we begin: true
        [(3, "x")]: ["sha-256"], we begin: false
        [(3, "setup:holdconn")]: has a=setup:holdconn; expected actpass, active or passive.
        [(0, "rtcp-mux-only")]: ["sha-256"], we begin: false
        [(0, "x")]: has DTLS without a=rtcp-mux; expected one port for all.
        [(1, "ice-ufrag:abc")]: has an a=ice-ufrag of 3 bytes; expected 4 to 256 letters, digits, '+' or '/'.
        [(1, "ice-ufrag:ab:cd")]: has an a=ice-ufrag of 5 bytes; expected 4 to 256 letters, digits, '+' or '/'.
        [(1, "x")]: has no a=ice-ufrag; expected ICE, without which DTLS is not begun.
        [(2, "ice-pwd:abcdefghijklmnopqrstu")]: has an a=ice-pwd of 21 bytes; expected 22 to 256 letters, digits, '+' or '/'.
        [(4, "x")]: has a=fingerprint with none; expected sha-256, sha-384 or sha-512.
        [(4, "fingerprint:sha-1 00")]: has a=fingerprint with sha-1; expected sha-256, sha-384 or sha-512.
        [(4, "fingerprint:sha-256 00")]: has an a=fingerprint with sha-256 that is not 32 bytes in hexadecimal.
        [(4, "fingerprint:sha-256 zz")]: has an a=fingerprint with sha-256 that is not 32 bytes in hexadecimal.
        switched off: asks for DTLS-SRTP (UDP/TLS/RTP/SAVPF); this server has WebRTC switched off.
    "#]].assert_eq(&told);
}

#[test]
fn a_line_with_both_kinds_of_keys_takes_the_handshake_if_it_can() {
    let digest = "00:".repeat(31) + "ff";
    let attributes = [
        &format!("crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        "rtcp-mux",
        "ice-ufrag:abcd",
        "ice-pwd:abcdefghijklmnopqrstuv",
        &format!("fingerprint:sha-256 {digest}"),
    ];
    let sdp = line("RTP/SAVPF", "0", &attributes);
    assert!(matches!(negotiate_by(&all_codecs(), &sdp).unwrap().secured, Secured::Dtls(_)));
    let off = Settings { fingerprint: None, ..all_codecs() };
    assert!(matches!(negotiate_by(&off, &sdp).unwrap().secured, Secured::Sdes(_)));
    let sdp = line("RTP/SAVPF", "0", &attributes[1..]);
    assert!(negotiate_by(&off, &sdp).unwrap_err().message.contains("switched off"));
}

#[test]
fn an_offer_has_so_many_lines_and_no_more() {
    let sdp = |lines: usize| line("RTP/AVP", "0", &[]) + &"a=x\r\n".repeat(lines);
    assert!(negotiate_by(&all_codecs(), &sdp(3_997)).is_ok());
    assert!(negotiate_by(&all_codecs(), &sdp(3_998)).unwrap_err().message.contains("4000 lines"));
    let sdp = |media: usize| line("RTP/AVP", "0", &[]) + &"m=video 9 RTP/AVP 96\r\n".repeat(media);
    assert!(negotiate_by(&all_codecs(), &sdp(63)).is_ok());
    assert!(negotiate_by(&all_codecs(), &sdp(64)).unwrap_err().message.contains("65 m= lines"));
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
