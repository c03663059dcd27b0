//! What an origin said about how long its answer is good (RFC 9111, RFC 5861), and how it is asked again.
//!
//! The rules are those of http-cache-semantics. Two are ours: nothing is guessed, so an answer that says nothing about
//! its age is asked about each time (a changed file is heard by the next hold), and a date that is younger than the
//! second in which it was told proves nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{
        AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, PRAGMA,
        VARY,
    },
};
use holdmusic_control::Freshness;
use holdmusic_media::{Now, WallTime};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// The headers that say it; no other is kept.
const KEPT: [HeaderName; 8] = [AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA, VARY];

/// Longest value of such a header that is kept, in bytes; a longer one counts as absent. Entity tags are hashes.
const MAX_VALUE: usize = 1024;

/// An answer with `Last-Modified` proves something only if that lies so long before the answer: the file may have been
/// written again within the same second (RFC 9110 section 8.8.2.2).
const DATE_GRAIN: Duration = Duration::from_secs(2);

/// What an answer said, in a form that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// When it came, in microseconds since 1970.
    received_us: i64,
    /// The headers that count.
    headers: Vec<(String, String)>,
}

impl Validity {
    /// What the answer with these headers said, which came at `received`.
    pub fn of(headers: &HeaderMap, received: WallTime) -> Self {
        let mut kept = Vec::new();
        for name in &KEPT {
            for value in headers.get_all(name) {
                if let Some(text) = value.to_str().ok().filter(|text| text.len() <= MAX_VALUE) {
                    kept.push((name.as_str().to_owned(), text.to_owned()));
                }
            }
        }
        Self { received_us: received.0, headers: kept }
    }

    /// The origin has answered "304 Not Modified" with these headers: they take the place of the former ones.
    #[must_use]
    pub fn confirmed(&self, headers: &HeaderMap, received: WallTime) -> Self {
        let newer = Self::of(headers, received);
        let told = |name: &str| newer.headers.iter().any(|(newer, _)| newer == name);
        // An age is that of one answer.
        let kept = |(name, _): &&(String, String)| !told(name) && name != AGE.as_str();
        let headers = self.headers.iter().filter(kept).cloned().chain(newer.headers.clone()).collect();
        Self { received_us: newer.received_us, headers }
    }

    /// How long it is good, on the clock of `now`.
    pub fn freshness(&self, now: Now) -> Freshness {
        let policy = self.policy();
        let may_be_stale = policy.is_storable() && !self.has("no-cache");
        let left =
            if policy.is_storable() { policy.time_to_live(system_time(now.wall)) } else { Duration::ZERO };
        let window = self.seconds("stale-while-revalidate").filter(|_| may_be_stale).unwrap_or_default();
        let until = now.mono + left;
        Freshness {
            until,
            while_asked_until: until + window.saturating_sub(self.stale_for(now.wall)),
            when_slow: may_be_stale && !self.has("must-revalidate"),
        }
    }

    /// Whether it may be played although the origin cannot be asked: always if there is no connection (RFC 9111 section
    /// 4.2.4), and within `stale-if-error` if the origin itself has failed. Not where the origin forbids it.
    pub fn outlives_failure(&self, now: WallTime, origin_answered: bool) -> bool {
        if !self.may_be_kept() || self.has("no-cache") || self.has("must-revalidate") {
            return false;
        }
        !origin_answered || self.seconds("stale-if-error").is_some_and(|window| self.stale_for(now) <= window)
    }

    /// The headers that ask whether it is still the same; empty if there is nothing to ask by.
    pub fn questions(&self, now: WallTime) -> HeaderMap {
        let BeforeRequest::Stale { request, matches: true } =
            self.policy().before_request(&question(), system_time(now))
        else {
            // Fresh: asked all the same (a purge, a lost ring), but not by halves.
            return HeaderMap::new();
        };
        let mut asked = HeaderMap::new();
        if let Some(tag) = request.headers.get(IF_NONE_MATCH) {
            asked.insert(IF_NONE_MATCH, tag.clone());
        } else if let Some(date) = request.headers.get(IF_MODIFIED_SINCE).filter(|_| self.date_proves()) {
            asked.insert(IF_MODIFIED_SINCE, date.clone());
        }
        asked
    }

    /// Whether it may be kept at all.
    pub fn may_be_kept(&self) -> bool {
        self.policy().is_storable()
    }

    fn date_proves(&self) -> bool {
        let date = |name: HeaderName| {
            let text = &self.headers.iter().find(|(kept, _)| *kept == name.as_str())?.1;
            // What HTTP writes is what RFC 2822 reads, but for the name of the zone.
            OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()
        };
        let received = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.received_us) * 1000);
        match (date(LAST_MODIFIED), date(DATE).or(received.ok())) {
            (Some(modified), Some(told)) => told - modified >= DATE_GRAIN,
            _ => false,
        }
    }

    /// How long it has not been good any more.
    fn stale_for(&self, now: WallTime) -> Duration {
        let (policy, born) = (self.policy(), system_time(WallTime(self.received_us)));
        // What was stale when it came has been so for the whole of its age, as far as we know.
        let lifetime = match policy.time_to_live(born) {
            Duration::ZERO => Duration::ZERO,
            left => policy.age(born).saturating_add(left),
        };
        policy.age(system_time(now)).saturating_sub(lifetime)
    }

    fn has(&self, directive: &str) -> bool {
        self.directives().any(|(name, _)| name.eq_ignore_ascii_case(directive))
    }

    fn seconds(&self, directive: &str) -> Option<Duration> {
        let (_, value) = self.directives().find(|(name, _)| name.eq_ignore_ascii_case(directive))?;
        value.trim_matches('"').parse().ok().map(Duration::from_secs)
    }

    /// The directives of `Cache-Control`, each with its value.
    fn directives(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.headers.iter().filter(|(name, _)| name == CACHE_CONTROL.as_str());
        let directives = values.flat_map(|(_, value)| value.split(','));
        directives.map(|directive| {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            (name.trim(), value.trim())
        })
    }

    fn policy(&self) -> CachePolicy {
        let mut answer = Response::new(());
        // An age beyond a century is none, and http-cache-semantics would add to it until it overflows.
        let sane = |name: &str, value: &str| {
            name != AGE.as_str() || value.trim().parse().is_ok_and(|age: u32| age < 1 << 31)
        };
        for (name, value) in self.headers.iter().filter(|(name, value)| sane(name, value)) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                answer.headers_mut().append(name, value);
            }
        }
        let received = system_time(WallTime(self.received_us));
        let options = CacheOptions { shared: false, cache_heuristic: 0.0, ..CacheOptions::default() };
        CachePolicy::new_options(&question(), &answer, received, options)
    }
}

/// Our request, as far as answers depend on it: always the same, and the address is not the policy's business.
fn question() -> Request<()> {
    Request::new(())
}

fn system_time(wall: WallTime) -> SystemTime {
    let since = Duration::from_micros(wall.0.unsigned_abs());
    if wall.0 < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since }
}

#[cfg(test)]
mod tests {
    use holdmusic_media::MediaTime;

    use super::*;

    const BORN: WallTime = WallTime(1_700_000_000_000_000);

    /// So many seconds after [`BORN`], on a monotonic clock that began 1000 s before it.
    fn after(seconds: u64) -> Now {
        let wall = WallTime(BORN.0 + i64::try_from(seconds).unwrap() * 1_000_000);
        Now { mono: MediaTime::from_millis((1000 + seconds) * 1000), wall }
    }

    fn answer(headers: &[(&'static str, &'static str)]) -> Validity {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Validity::of(&headers.collect(), BORN)
    }

    /// Seconds that it is good from `now` on, and that it is played meanwhile; negative numbers are in the past.
    fn good(validity: &Validity, now: Now) -> (u64, u64) {
        let freshness = validity.freshness(now);
        let left = |until: MediaTime| until.since(now.mono).as_secs();
        (left(freshness.until), left(freshness.while_asked_until))
    }

    #[test]
    fn an_answer_is_good_as_long_as_it_says_and_no_longer() {
        let hour = answer(&[("cache-control", "max-age=3600")]);
        assert_eq!(good(&hour, after(0)), (3600, 3600));
        assert_eq!(good(&hour, after(3000)), (600, 600));
        assert_eq!(good(&hour, after(4000)), (0, 0));
        let old = answer(&[("cache-control", "max-age=3600"), ("age", "3000")]);
        assert_eq!(good(&old, after(0)).0, 600);
        let dated = answer(&[
            ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("expires", "Tue, 14 Nov 2023 22:14:20 GMT"),
        ]);
        assert_eq!(good(&dated, after(0)).0, 60);
    }

    #[test]
    fn nothing_is_guessed_from_the_age_of_a_file() {
        let silent = answer(&[("last-modified", "Mon, 01 Jan 2001 00:00:00 GMT")]);
        assert_eq!(good(&silent, after(0)), (0, 0));
        assert!(silent.may_be_kept() && silent.freshness(after(0)).when_slow);
    }

    #[test]
    fn what_an_origin_forbids_is_not_done() {
        for word in ["no-store", "no-cache", "must-revalidate", "max-age=0, must-revalidate"] {
            let strict = answer(&[("cache-control", word)]);
            assert_eq!(good(&strict, after(1)).0, 0, "{word}");
            assert!(!strict.freshness(after(1)).when_slow, "{word}");
            assert!(!strict.outlives_failure(after(1).wall, false), "{word}");
        }
        assert!(!answer(&[("cache-control", "no-store")]).may_be_kept());
    }

    #[test]
    fn an_origin_may_wish_to_be_asked_meanwhile() {
        let kind = answer(&[("cache-control", "max-age=60, stale-while-revalidate=600")]);
        assert_eq!(good(&kind, after(0)), (60, 660));
        assert_eq!(good(&kind, after(100)), (0, 560));
        assert_eq!(good(&kind, after(1000)), (0, 0));
    }

    #[test]
    fn without_a_connection_the_last_answer_counts_and_after_an_error_only_if_the_origin_said_so() {
        let plain = answer(&[("etag", "\"1\"")]);
        assert!(plain.outlives_failure(after(9).wall, false));
        assert!(!plain.outlives_failure(after(9).wall, true));
        let kind = answer(&[("cache-control", "max-age=60, stale-if-error=600")]);
        assert!(kind.outlives_failure(after(500).wall, true));
        assert!(!kind.outlives_failure(after(700).wall, true));
    }

    #[test]
    fn no_number_of_an_origin_is_too_large() {
        for headers in [
            [("age", "18446744073709551615"), ("cache-control", "max-age=60")],
            [("age", "-1"), ("cache-control", "max-age=18446744073709551615")],
            [
                ("age", "4294967295"),
                ("cache-control", "max-age=1, stale-while-revalidate=18446744073709551615"),
            ],
            [
                ("etag", "\"1\""),
                ("cache-control", "s-maxage=99999999999999999999, stale-if-error=18446744073709551615"),
            ],
        ] {
            let told = answer(&headers);
            for now in [after(0), after(1), after(1 << 30)] {
                let _ =
                    (told.freshness(now), told.questions(now.wall), told.outlives_failure(now.wall, true));
            }
        }
    }

    fn asked(validity: &Validity) -> Vec<String> {
        let questions = validity.questions(after(10).wall);
        questions.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn an_origin_is_asked_by_its_own_words() {
        assert_eq!(asked(&answer(&[("etag", "\"abc\"")])), ["if-none-match: \"abc\""]);
        let dated =
            [("date", "Tue, 14 Nov 2023 22:13:20 GMT"), ("last-modified", "Tue, 14 Nov 2023 22:13:00 GMT")];
        assert_eq!(asked(&answer(&dated)), ["if-modified-since: Tue, 14 Nov 2023 22:13:00 GMT"]);
        assert!(asked(&answer(&[])).is_empty());
        assert!(asked(&answer(&[("etag", "\"abc\""), ("vary", "*")])).is_empty());
    }

    #[test]
    fn a_file_that_was_just_written_may_be_written_again_within_the_second() {
        let young =
            [("date", "Tue, 14 Nov 2023 22:13:20 GMT"), ("last-modified", "Tue, 14 Nov 2023 22:13:19 GMT")];
        assert!(asked(&answer(&young)).is_empty());
    }

    /// Not every origin repeats its validators with a 304 (Python's http.server does not).
    #[test]
    fn a_confirmation_renews_what_it_repeats_and_keeps_the_rest() {
        let before = answer(&[("etag", "\"abc\""), ("cache-control", "max-age=60"), ("age", "50")]);
        let told = [(CACHE_CONTROL, HeaderValue::from_static("max-age=90"))];
        let confirmed = before.confirmed(&told.into_iter().collect(), after(100).wall);
        assert_eq!(good(&confirmed, after(100)).0, 90);
        let silent = before.confirmed(&HeaderMap::new(), after(100).wall);
        assert_eq!(good(&silent, after(100)).0, 60);
        assert_eq!(
            silent.questions(after(500).wall).get(IF_NONE_MATCH),
            Some(&HeaderValue::from_static("\"abc\""))
        );
    }

    #[test]
    fn what_an_answer_said_can_be_kept_and_holds_no_secret() {
        let told = answer(&[("etag", "\"abc\""), ("set-cookie", "session=s3cret"), ("server", "x")]);
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(serde_json::from_str::<Validity>(&text).unwrap(), told);
    }
}
