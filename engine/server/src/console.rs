//! The console: one page for whoever looks after the engine, in one answer, and the stream of events that it lives on.
//!
//! The page brings its style and its script with it and asks for nothing else but the API and the events, both with the
//! token that it was given. What it may do beside that, its `Content-Security-Policy` says: nothing.

mod feed;
mod pulse;

use std::{fmt::Write as _, sync::LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

pub use feed::{Console, Look, PATIENCE};

/// The page, with two places where style and script belong.
const PAGE: &str = include_str!("console/page.html");

const STYLE: &str = include_str!("console/style.css");

/// The script in reading order; together it is one module.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("console/script/words.js"),
    include_str!("console/script/dom.js"),
    include_str!("console/script/api.js"),
    include_str!("console/script/graphs.js"),
    include_str!("console/script/listen.js"),
    include_str!("console/script/views.js"),
    include_str!("console/script/check.js"),
    include_str!("console/script/main.js"),
);

/// The page as it is sent, and the policy that fits it.
static WHOLE: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let page = PAGE.replace("/* style */", STYLE).replace("/* script */", SCRIPT);
    (page, HeaderValue::try_from(policy()).expect("base64 is ASCII"))
});

/// What the page may do. Style and script are named by their hashes, so that nothing that gets into the page by whatever way
/// is ever run; there is no sink that takes text for markup (Trusted Types); and nobody may frame it. Its icon is a `data:`
/// image.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    let mut policy = String::from("default-src 'none'");
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    let _ = write!(policy, "; script-src {script}; style-src {style}; connect-src 'self'; img-src data:");
    policy += "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
    policy
}

/// The page.
pub fn page() -> Response {
    let (page, policy) = &*WHOLE;
    let mut response = Response::new(Body::from(page.as_str()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    protect(headers);
    // Another version of the engine has another page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Headers for what a browser shows: it guesses no types, tells nobody where it was, shares no window and no device.
fn protect(headers: &mut HeaderMap) {
    let of_our_own = [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in of_our_own {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_asks_for_nothing_else_and_runs_only_what_its_policy_names() {
        let (page, policy) = &*WHOLE;
        let policy = policy.to_str().unwrap();
        for (open, close) in [("<script type=\"module\">", "</script>"), ("<style>", "</style>")] {
            let parts: Vec<_> = page.split(open).collect();
            assert_eq!(parts.len(), 2, "one {open}");
            let inside = parts[1].split(close).next().unwrap();
            let hash = STANDARD.encode(digest(&SHA256, inside.as_bytes()));
            assert!(policy.contains(&hash), "{open} is what the policy names");
        }
        assert_eq!(page.matches("<script").count() + page.matches("<style").count(), 2);
        // Nothing of others, no handlers and styles in the markup; the namespace of SVG is a name.
        let names_nobody = page.replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!names_nobody.contains(word), "{word}");
        }
        for word in [" src=", " style=\"", " on"] {
            assert!(!PAGE.split('<').any(|tag| tag.split('>').next().unwrap().contains(word)), "{word}");
        }
        assert!(policy.starts_with("default-src 'none'; "));
        for word in ["unsafe", "*", "http"] {
            assert!(!policy.contains(word), "{word}");
        }
        assert!(page.len() < 150_000, "{} bytes", page.len());
    }
}
