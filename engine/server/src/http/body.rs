//! The body of a request as it comes over the wire -> its bytes, within bounds of size and time, inflated if it was
//! compressed.

use std::{future::poll_fn, io::Read, pin::Pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT},
    },
};
use flate2::read::MultiGzDecoder;
use holdmusic_control::Refusal;

use super::{Denial, Readable};

/// The longest body of a request, in bytes, as it is sent and once it is inflated: an SDP offer of a browser is 10 KiB.
pub(super) const MAX_BODY: usize = 256 << 10;

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What is read of a body that nobody wants, so that its sender, who may look for an answer only after it, finds one:
/// as long, and as many bytes.
const UNWANTED_TIME: Duration = Duration::from_secs(1);
const MAX_UNWANTED: usize = 4 * MAX_BODY;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

/// The body of a request that has one, of the kind that is `expected`.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut Body,
    expected: Readable,
) -> Result<Vec<u8>, Denial> {
    let coding = coding(headers)?;
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Refusal::body_too_big(MAX_BODY).into());
    }
    let sent = match tokio::time::timeout(BODY_TIME, collect(body)).await {
        Ok(sent) => sent?,
        Err(_) => {
            let words = format!("The body was not complete after {} s.", BODY_TIME.as_secs());
            return Err(Refusal::timed_out(words).into());
        }
    };
    content_type(headers, sent.is_empty(), expected)?;
    match coding {
        Coding::Gzip if !sent.is_empty() => Ok(inflate(&sent)?),
        _ => Ok(sent),
    }
}

/// Lets a client finish a body that is not looked at: it would see its connection reset instead of the answer. Who waits
/// to be told whether to send it (RFC 9110 section 10.1.1) is not told to.
pub(super) async fn pass_over(headers: &HeaderMap, body: &mut Body) {
    if headers.contains_key(EXPECT) || body.size_hint().lower() > MAX_UNWANTED as u64 {
        return;
    }
    let passing = async {
        let mut left = MAX_UNWANTED;
        while let Ok(Some(bytes)) = piece(body).await {
            match left.checked_sub(bytes.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(UNWANTED_TIME, passing).await;
}

/// The next piece of a body; `None` at its end.
async fn piece(body: &mut Body) -> Result<Option<axum::body::Bytes>, axum::Error> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.transpose()? {
            None => return Ok(None),
            // Trailers are passed over.
            Some(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

async fn collect(body: &mut Body) -> Result<Vec<u8>, Refusal> {
    let mut sent = Vec::new();
    loop {
        match piece(body).await {
            Ok(None) => return Ok(sent),
            Ok(Some(bytes)) if sent.len() + bytes.len() > MAX_BODY => {
                return Err(Refusal::body_too_big(MAX_BODY));
            }
            Ok(Some(bytes)) => sent.extend_from_slice(&bytes),
            Err(reason) => {
                return Err(Refusal::invalid(format!(
                    "The body ended before its time: {reason}; expected all of it, as its headers announce."
                )));
            }
        }
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Denial> {
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let named = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        found.extend(named.map(str::to_ascii_lowercase));
    }
    match &found[..] {
        [] => Ok(Coding::Identity),
        [one] if one == "identity" => Ok(Coding::Identity),
        // RFC 9110 section 8.4.1.3: x-gzip is the same.
        [one] if one == "gzip" || one == "x-gzip" => Ok(Coding::Gzip),
        others => Err(Denial {
            accept: Some(Readable::Gzip),
            ..Refusal::unsupported_encoding(&others.join(", ")).into()
        }),
    }
}

fn content_type(headers: &HeaderMap, empty: bool, expected: Readable) -> Result<(), Denial> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let kind = content_type.as_deref().map(|value| value.split(';').next().unwrap_or_default().trim());
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case(expected.name()) => Ok(()),
        None | Some("") if empty && expected == Readable::Json => Ok(()),
        kind => Err(Denial {
            accept: Some(expected),
            ..Refusal::unsupported_type(kind.unwrap_or_default(), expected.name()).into()
        }),
    }
}

/// Inflates one member after the other (RFC 1952 section 2.2), and stops when there is more than a body may be: what a
/// bomb would become is never made.
fn inflate(sent: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let most = MAX_BODY as u64 + 1;
    match MultiGzDecoder::new(sent).take(most).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > MAX_BODY => Err(Refusal::inflates_too_big(MAX_BODY)),
        Ok(_) => Ok(bytes),
        Err(reason) => Err(Refusal::broken_gzip(&reason.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_are_inflated_one_after_the_other() {
        assert_eq!(inflate(&gzip(b"{}")), Ok(b"{}".to_vec()));
        assert_eq!(inflate(&[gzip(b"{\"a\":"), gzip(b""), gzip(b"1}")].concat()), Ok(b"{\"a\":1}".to_vec()));
        assert_eq!(inflate(&gzip(&[b' '; MAX_BODY])).map(|bytes| bytes.len()), Ok(MAX_BODY));
    }

    #[test]
    fn a_bomb_is_refused_and_not_inflated() {
        let bomb = gzip(&vec![b' '; 100 << 20]);
        assert!(bomb.len() < MAX_BODY);
        assert_eq!(inflate(&bomb).unwrap_err().status, 413);
        assert_eq!(inflate(&gzip(&[b' '; MAX_BODY + 1])).unwrap_err().status, 413);
    }

    #[test]
    fn what_is_cut_or_damaged_anywhere_is_refused() {
        let whole = gzip(br#"{"clientContext":"d45324c1-fcb5-430a-902c-f20af696537c"}"#);
        for cut in 1..whole.len() {
            let refusal = inflate(&whole[..cut]).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (400, "8523"), "{cut}: {}", refusal.message);
        }
        for at in (10..whole.len()).chain([0, 1, 2]) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert!(inflate(&damaged).is_err(), "{at}");
        }
        assert!(inflate(&[&whole[..], b"tail"].concat()).is_err());
        assert!(inflate(b"{}").is_err());
    }

    fn denied(name: &'static str, value: &str) -> Option<(u16, Option<Readable>)> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let found = match name {
            "content-encoding" => coding(&headers).err(),
            _ => content_type(&headers, false, Readable::Json).err(),
        };
        found.map(|denial| (denial.refusal.status, denial.accept))
    }

    #[test]
    fn gzip_has_two_names_in_any_letter_case_and_other_codings_are_answered_with_what_is_read() {
        for read in ["gzip", "GZIP", "x-gzip", " X-GZip ", "identity", "", ","] {
            assert_eq!(denied("content-encoding", read), None, "{read}");
        }
        for unread in ["deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "gzip;q=1"] {
            assert_eq!(denied("content-encoding", unread), Some((415, Some(Readable::Gzip))), "{unread}");
        }
    }

    #[test]
    fn an_offer_says_that_it_is_one() {
        let read = |kind: Option<&str>, empty| {
            let mut headers = HeaderMap::new();
            kind.map(|kind| headers.insert(CONTENT_TYPE, kind.parse().unwrap()));
            content_type(&headers, empty, Readable::Sdp)
                .map_err(|denial| (denial.refusal.status, denial.accept))
        };
        assert_eq!(read(Some("Application/SDP; charset=utf-8"), false), Ok(()));
        for kind in [None, Some(""), Some("application/json"), Some("text/plain")] {
            for empty in [false, true] {
                assert_eq!(read(kind, empty), Err((415, Some(Readable::Sdp))), "{kind:?}");
            }
        }
    }

    #[test]
    fn only_json_is_read() {
        for read in
            ["application/json", "Application/JSON; charset=utf-8", "application/json;odata.metadata=minimal"]
        {
            assert_eq!(denied("content-type", read), None, "{read}");
        }
        for unread in ["text/plain", "application/jsonp", "application/xml, application/json", ""] {
            assert_eq!(denied("content-type", unread), Some((415, Some(Readable::Json))), "{unread}");
        }
    }
}
