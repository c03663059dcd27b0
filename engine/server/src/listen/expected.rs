//! A session description becomes what a listener expects: the port, and what each payload type is.

use std::{fmt, time::Duration};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    MasterKey, Mki, Suite,
    receiver::{PayloadFormat, PayloadFormats},
    rtp::PayloadType,
};
use sdp_types::{Media, Session};

/// What a listener may expect to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The port that the session description names.
    pub port: Option<u16>,
    /// Whether RTCP comes to the same port (RFC 5761), so that nothing else need be opened.
    pub rtcp_multiplexed: bool,
    /// What each payload type is.
    pub formats: PayloadFormats,
    /// What it is protected with, and what packets then carry behind them.
    pub srtp: Option<(MasterKey, Option<Mki>)>,
}

impl Default for Expected {
    /// Without a description: every dynamic payload type is Opus, in packets of whatever length.
    fn default() -> Self {
        let opus = PayloadFormat::named(Codec::Opus.name(), Codec::Opus.clock_rate());
        let formats = PayloadFormats::of_rfc_3551().with_dynamic(&opus);
        Self { port: None, rtcp_multiplexed: false, formats, srtp: None }
    }
}

impl Expected {
    /// Reads the first sound of a session description.
    ///
    /// # Errors
    ///
    /// If it is no session description, or one without sound over plain RTP.
    pub fn of_sdp(text: &[u8]) -> Result<Self, SdpError> {
        // ffmpeg prints a heading before the description, and people copy it along.
        let start = text.windows(2).position(|pair| pair == b"v=").ok_or(SdpError::NotSdp)?;
        let session = Session::parse(&text[start..]).map_err(|error| SdpError::Broken(error.to_string()))?;
        let media = session.medias.iter().find(|media| media.media == "audio").ok_or(SdpError::NoSound)?;
        let srtp = values(media, "crypto").find_map(crypto);
        if media.proto.contains("SAVP") && srtp.is_none() {
            return Err(SdpError::Encrypted(media.proto.clone()));
        }
        let mut formats = PayloadFormats::of_rfc_3551();
        let packet_ms = values(media, "ptime").find_map(|value| value.trim().parse::<f64>().ok());
        let packet_ms = packet_ms.filter(|ms| (1.0..=1000.0).contains(ms));
        let described = values(media, "rtpmap").filter_map(rtpmap);
        let named = media.fmt.split_whitespace().filter_map(|number| number.parse().ok());
        let fixed = named.filter_map(|number| Some((PayloadType::new(number)?, formats.of(number)?.clone())));
        // What `a=rtpmap` says about a number goes over what the number alone says.
        for (payload_type, mut format) in fixed.collect::<Vec<_>>().into_iter().chain(described) {
            if let Some(ms) = packet_ms {
                format.packet_time = Some(Duration::from_secs_f64(ms / 1000.0));
            }
            formats.insert(payload_type, format);
        }
        let rtcp_multiplexed = media.attributes.iter().any(|attribute| attribute.attribute == "rtcp-mux");
        Ok(Self { port: (media.port > 0).then_some(media.port), rtcp_multiplexed, formats, srtp })
    }
}

fn values<'a>(media: &'a Media, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = media.attributes.iter().filter(move |attribute| attribute.attribute == name);
    named.filter_map(|attribute| attribute.value.as_deref())
}

/// `1 AEAD_AES_128_GCM inline:KEY|2^31|1:4`: tag, suite, key with its lifetime and its MKI (RFC 4568 section 9.1).
fn crypto(value: &str) -> Option<(MasterKey, Option<Mki>)> {
    let mut words = value.split_ascii_whitespace().skip(1);
    let suite = Suite::named(words.next()?)?;
    let mut parts = words.next()?.strip_prefix("inline:")?.split('|');
    let key = MasterKey::from_base64(suite, parts.next()?).ok()?;
    let mki = parts.find_map(|part| part.split_once(':'));
    match mki {
        None => Some((key, None)),
        Some((value, len)) => Some((key, Some(Mki::new(value.parse().ok()?, len.parse().ok()?)?))),
    }
}

/// `111 opus/48000/2`: number, name, clock rate, channels (RFC 8866 section 6.6).
fn rtpmap(value: &str) -> Option<(PayloadType, PayloadFormat)> {
    let (number, encoding) = value.trim().split_once(' ')?;
    let mut parts = encoding.trim().split('/');
    let (name, rate) = (parts.next()?, parts.next()?.parse().ok()?);
    Some((PayloadType::new(number.parse().ok()?)?, PayloadFormat::named(name, rate)))
}

/// Why a session description cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdpError {
    /// There is no `v=` line.
    NotSdp,
    /// The parser's words.
    Broken(String),
    /// There is no `m=audio` line.
    NoSound,
    /// The sound is encrypted, with no key (`a=crypto`) that is ours to use; the transport it names.
    Encrypted(String),
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSdp => f.write_str("is no session description: it has no line v=0"),
            Self::Broken(words) => write!(f, "is no session description: {words}"),
            Self::NoSound => f.write_str("describes no sound: it has no line m=audio"),
            Self::Encrypted(proto) => {
                write!(
                    f,
                    "describes encrypted sound ({proto}), which listen cannot open without a line a=crypto"
                )
            }
        }
    }
}

impl std::error::Error for SdpError {}

#[cfg(test)]
mod tests {
    use super::*;

    const FFMPEG: &str = "SDP:\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=No Name\nc=IN IP4 127.0.0.1\nt=0 0\n\
        a=tool:libavformat 59.27.100\nm=audio 5004 RTP/AVP 97\nb=AS:96\na=rtpmap:97 opus/48000/2\n";

    #[test]
    fn what_ffmpeg_prints_is_understood_with_its_heading() {
        let expected = Expected::of_sdp(FFMPEG.as_bytes()).unwrap();
        assert_eq!((expected.port, expected.rtcp_multiplexed), (Some(5004), false));
        assert_eq!(expected.formats.of(97).unwrap().codec, Some(Codec::Opus));
        assert_eq!(expected.formats.of(98), None);
    }

    #[test]
    fn static_payload_types_need_no_map_and_ptime_sets_the_interval() {
        let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n\
            a=rtpmap:101 telephone-event/8000\r\na=ptime:30\r\na=rtcp-mux\r\n";
        let expected = Expected::of_sdp(text.as_bytes()).unwrap();
        let pcmu = expected.formats.of(0).unwrap();
        assert_eq!((pcmu.name.as_str(), pcmu.packet_time), ("PCMU", Some(Duration::from_millis(30))));
        assert!(expected.rtcp_multiplexed);
        assert_eq!(expected.formats.of(101).unwrap().codec, None);
    }

    #[test]
    fn a_line_of_crypto_says_the_key() {
        let text = "v=0\ns=-\nt=0 0\nm=audio 1 RTP/SAVP 111\na=crypto:1 ROT13 inline:AAAA\n\
            a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4\n";
        let (key, mki) = Expected::of_sdp(text.as_bytes()).unwrap().srtp.unwrap();
        assert_eq!((key.suite(), mki), (Suite::AesCm128HmacSha1_32, Mki::new(1, 4)));
        assert_eq!(key.bytes(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#");
    }

    #[test]
    fn what_cannot_be_heard_is_refused_in_words() {
        assert_eq!(Expected::of_sdp(b"hello"), Err(SdpError::NotSdp));
        assert_eq!(Expected::of_sdp(b"v=0\ns=-\nt=0 0\nm=video 1 RTP/AVP 96\n"), Err(SdpError::NoSound));
        let encrypted = Expected::of_sdp(b"v=0\ns=-\nt=0 0\nm=audio 1 RTP/SAVPF 111\n");
        assert_eq!(encrypted, Err(SdpError::Encrypted("RTP/SAVPF".to_owned())));
    }
}
