//! Who may do what: a caller and what it asks go in, leave or a refusal comes out, with how much of its limits is left.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use holdmusic_media::MediaTime;

use crate::graph::{Refusal, shorten};

/// The application roles of which one is needed, as Graph's permissions reference spells them.
pub const ROLES: [&str; 2] = ["Calls.JoinGroupCallAsGuest.All", "Calls.JoinGroupCall.All"];

/// What a token may say instead: the misspellings of Graph's documentation, and the ids of the two roles.
const ALIASES: [&str; 4] = [
    "Calls.JoinGroupCallsAsGuest.All",
    "Calls.JoinGroupCalls.All",
    "fd7ccf6b-3d28-418b-9701-cd10f5cd2fd4",
    "f6b49018-60ab-4f81-83bd-22caeabfed2d",
];

/// Roles of a token that a refusal repeats.
const SHOWN_ROLES: usize = 5;

/// An application in a tenant: whose a call is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    app: Box<str>,
    tenant: Box<str>,
}

impl Identity {
    /// GUIDs are the same in every letter case; other names are as they are written.
    pub fn new(app: &str, tenant: &str) -> Self {
        Self { app: canonical(app), tenant: canonical(tenant) }
    }

    /// The application id.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The tenant id.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application '{}' of tenant '{}'", shorten(&self.app), shorten(&self.tenant))
    }
}

/// An id as ids are compared: a GUID in small letters, anything else unchanged.
fn canonical(id: &str) -> Box<str> {
    let is_guid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_guid { id.to_ascii_lowercase().into() } else { id.into() }
}

/// How it is known who a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// By a static token of the configuration, which has every role.
    ByStaticToken,
    /// By a token that an issuer signed.
    BySignature,
}

/// Who asks, and may: whoever has no role for it does not become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    /// How that is known.
    pub known: Known,
    /// What it may use. What it said last holds for its application.
    pub limits: Limits,
}

impl Caller {
    /// Whose token is one of the configuration.
    pub fn by_static_token(identity: Identity, limits: Limits) -> Self {
        Self { identity: Arc::new(identity), known: Known::ByStaticToken, limits }
    }

    /// Whose token an issuer signed, with these application roles in it.
    ///
    /// # Errors
    ///
    /// 403 7504 if none of them is one of [`ROLES`].
    pub fn by_signature(identity: Identity, roles: &[String], limits: Limits) -> Result<Self, Refusal> {
        if roles.iter().any(|role| is_sufficient(role)) {
            return Ok(Self { identity: Arc::new(identity), known: Known::BySignature, limits });
        }
        let shown: Vec<_> =
            roles.iter().take(SHOWN_ROLES).map(|role| format!("'{}'", shorten(role))).collect();
        let has = match roles.len() {
            0 => "has no application roles ('roles')".to_owned(),
            n if n > SHOWN_ROLES => format!("has {} and {} more", shown.join(", "), n - SHOWN_ROLES),
            _ => format!("has only {}", shown.join(", ")),
        };
        let [least, more] = ROLES;
        Err(Refusal::forbidden(format!(
            "The token of {identity} {has}; expected the application role '{least}' or '{more}'. An administrator of \
             the tenant grants it to the application; delegated permissions ('scp') are not enough."
        )))
    }
}

/// Whether an application that has `role` may use this engine.
fn is_sufficient(role: &str) -> bool {
    ROLES.iter().chain(&ALIASES).any(|known| known.eq_ignore_ascii_case(role))
}

/// What one application may use at a time; `None` is as much as the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls.
    pub calls: Option<u32>,
    /// Participants on hold.
    pub held: Option<u32>,
    /// Requests.
    pub rate: Option<Rate>,
    /// Prompts being prepared on its behalf.
    pub preparing: Option<u32>,
}

impl Limits {
    /// No limits but the server's.
    pub const NONE: Self = Self { calls: None, held: None, rate: None, preparing: None };
}

/// How many requests may come. A bucket holds one second's worth of them, and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one request to the next at an even rate.
    interval_ns: u64,
    burst: u32,
}

impl Rate {
    /// The rates that there may be, in requests per second: one a quarter of an hour to more than a machine answers.
    pub const RANGE: (f64, f64) = (0.001, 1_000_000.0);

    /// So many requests a second; `None` if that is outside [`Rate::RANGE`].
    pub fn per_second(requests: f64) -> Option<Self> {
        let (least, most) = Self::RANGE;
        if !(least..=most).contains(&requests) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Some(Self { interval_ns: (1e9 / requests) as u64, burst: (requests as u32).max(1) })
    }

    /// From empty to full, in nanoseconds.
    fn window_ns(self) -> u64 {
        self.interval_ns * u64::from(self.burst)
    }
}

/// How full a bucket is, as the moment at which it will be full again: so nothing need be done while time passes.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: MediaTime,
}

impl Bucket {
    /// Takes one request out.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one.
    fn take(&mut self, now: MediaTime, rate: Rate) -> Result<(), Duration> {
        let missing_ns = self.missing_ns(now, rate) + rate.interval_ns;
        if let Some(over @ 1..) = missing_ns.checked_sub(rate.window_ns()) {
            return Err(Duration::from_nanos(over));
        }
        self.full_at = now + Duration::from_nanos(missing_ns);
        Ok(())
    }

    /// Requests that are left, and the seconds until it is full.
    fn left(self, now: MediaTime, rate: Rate) -> (u32, u32) {
        let missing_ns = self.missing_ns(now, rate);
        let left = (rate.window_ns() - missing_ns) / rate.interval_ns;
        (u32::try_from(left).unwrap_or(u32::MAX), whole_seconds(Duration::from_nanos(missing_ns)))
    }

    /// What a rate that was lowered meanwhile cannot hold does not count.
    fn missing_ns(self, now: MediaTime, rate: Rate) -> u64 {
        self.full_at.as_nanos().saturating_sub(now.as_nanos()).min(rate.window_ns())
    }
}

/// Rounded up, and at least one: for `Retry-After` and for `t`.
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Names an owner in the memory of this process: what a call keeps of whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnerKey(u32);

/// An application that asks or has calls.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) identity: Arc<Identity>,
    limits: Limits,
    bucket: Bucket,
    /// Calls that have not ended.
    pub(crate) calls: u32,
    /// Calls in memory, ended ones too.
    pub(crate) kept: u32,
    /// Participants on hold.
    pub(crate) held: u32,
    /// Prompts being prepared on its behalf.
    pub(crate) preparing: u32,
}

impl Owner {
    /// Whether nothing would be different without it.
    fn is_idle(&self, now: MediaTime) -> bool {
        self.kept == 0 && self.preparing == 0 && self.bucket.full_at <= now
    }

    /// Whether it may have one more call.
    pub(crate) fn may_call(&self) -> Result<(), Refusal> {
        self.within("calls", self.calls, self.limits.calls, "max-calls", 5)
    }

    /// Whether one more of its participants may be on hold.
    pub(crate) fn may_hold(&self) -> Result<(), Refusal> {
        self.within("participants on hold", self.held, self.limits.held, "max-held", 5)
    }

    /// Whether one more prompt may be prepared for it.
    pub(crate) fn may_prepare(&self) -> Result<(), Refusal> {
        self.within("prompts being prepared", self.preparing, self.limits.preparing, "max-preparing", 2)
    }

    fn within(
        &self,
        what: &str,
        used: u32,
        limit: Option<u32>,
        setting: &str,
        retry_s: u32,
    ) -> Result<(), Refusal> {
        match limit {
            Some(limit) if used >= limit => {
                let who = &self.identity;
                let words = format!("The {who} has {used} {what}; its limit is {limit} ({setting}).");
                Err(Refusal::too_many(words, retry_s))
            }
            _ => Ok(()),
        }
    }

    fn standing(&self, now: MediaTime) -> Standing {
        let Limits { calls, held, rate, preparing } = self.limits;
        let left = |limit: Option<u32>, used: u32| limit.map(|limit| (limit, limit.saturating_sub(used)));
        Standing {
            requests: rate.map(|rate| (rate, self.bucket.left(now, rate))),
            calls: left(calls, self.calls),
            held: left(held, self.held),
            preparing: left(preparing, self.preparing),
        }
    }
}

/// All applications that ask or have calls.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    by_identity: BTreeMap<Arc<Identity>, OwnerKey>,
    owners: BTreeMap<OwnerKey, Owner>,
    last: u32,
    /// With so many they are looked through for idle ones.
    look_at: usize,
}

/// Owners of which none is looked for that could leave.
const FEW: usize = 64;

impl Owners {
    /// The owner that `caller` is, known from now on; nothing is taken from its limits yet.
    ///
    /// # Errors
    ///
    /// 429 if `most` others are known and have calls.
    pub(crate) fn know(&mut self, now: MediaTime, caller: &Caller, most: usize) -> Result<OwnerKey, Refusal> {
        if let Some(key) = self.by_identity.get(&*caller.identity) {
            self.owners.get_mut(key).expect("both maps have the same").limits = caller.limits;
            return Ok(*key);
        }
        if self.owners.len() >= self.look_at.clamp(FEW.min(most), most) {
            self.owners.retain(|_, owner| !owner.is_idle(now));
            let owners = &self.owners;
            self.by_identity.retain(|_, key| owners.contains_key(key));
            self.look_at = 2 * self.owners.len();
        }
        if self.owners.len() >= most {
            return Err(Refusal::too_many(
                format!("There are {most} applications with calls, the limit of this server."),
                5,
            ));
        }
        self.last += 1;
        let key = OwnerKey(self.last);
        let identity = Arc::clone(&caller.identity);
        self.by_identity.insert(Arc::clone(&identity), key);
        let owner = Owner {
            identity,
            limits: caller.limits,
            bucket: Bucket::default(),
            calls: 0,
            kept: 0,
            held: 0,
            preparing: 0,
        };
        self.owners.insert(key, owner);
        Ok(key)
    }

    /// Counts one request of `key`.
    ///
    /// # Errors
    ///
    /// 429 if it comes too soon; then it is not counted.
    pub(crate) fn take_request(&mut self, now: MediaTime, key: OwnerKey) -> Result<(), Refusal> {
        let owner = self.of_mut(key);
        let Some(rate) = owner.limits.rate else { return Ok(()) };
        owner.bucket.take(now, rate).map_err(|wait| {
            let (who, burst, seconds) =
                (&owner.identity, rate.burst, whole_seconds(Duration::from_nanos(rate.window_ns())));
            let words = format!(
                "The {who} has sent {burst} requests; its limit is {burst} in {seconds} s (requests-per-second)."
            );
            Refusal::too_many(words, whole_seconds(wait))
        })
    }

    /// The owner with this key.
    pub(crate) fn of(&self, key: OwnerKey) -> &Owner {
        self.owners.get(&key).expect("an owner stays while it has calls")
    }

    /// The same, to be changed.
    pub(crate) fn of_mut(&mut self, key: OwnerKey) -> &mut Owner {
        self.owners.get_mut(&key).expect("an owner stays while it has calls")
    }

    /// How much is left of what `key` may use.
    pub(crate) fn standing(&self, now: MediaTime, key: OwnerKey) -> Standing {
        self.owners.get(&key).map(|owner| owner.standing(now)).unwrap_or_default()
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}

/// How much is left of what an application may use, for those things that have a limit: the limit and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    requests: Option<(Rate, (u32, u32))>,
    calls: Option<(u32, u32)>,
    held: Option<(u32, u32)>,
    preparing: Option<(u32, u32)>,
}

impl Standing {
    /// The value of `RateLimit-Policy`, and that of `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 writes them;
    /// `None` without limits.
    pub fn fields(&self) -> Option<(String, String)> {
        if *self == Self::default() {
            return None;
        }
        let (mut policy, mut state) = (String::with_capacity(96), String::with_capacity(96));
        // Writing to a string does not fail.
        if let Some((rate, (left, seconds))) = self.requests {
            let window = whole_seconds(Duration::from_nanos(rate.window_ns()));
            let _ = write!(policy, "\"requests\";q={};w={window}", rate.burst);
            let _ = write!(state, "\"requests\";r={left};t={seconds}");
        }
        let others = [("calls", self.calls), ("held", self.held), ("preparing", self.preparing)];
        for (name, (limit, left)) in others.into_iter().filter_map(|(name, of)| Some((name, of?))) {
            let comma = if policy.is_empty() { "" } else { ", " };
            let _ = write!(policy, "{comma}\"{name}\";q={limit}");
            let _ = write!(state, "{comma}\"{name}\";r={left}");
        }
        Some((policy, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(app: &str, limits: Limits) -> Caller {
        Caller::by_static_token(Identity::new(app, "tenant"), limits)
    }

    fn at(millis: u64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn roles(roles: &[&str]) -> Result<Caller, Refusal> {
        let roles: Vec<_> = roles.iter().map(|role| (*role).to_owned()).collect();
        Caller::by_signature(Identity::new("app", "tenant"), &roles, Limits::NONE)
    }

    #[test]
    fn every_spelling_of_the_roles_in_graphs_documentation_is_enough() {
        for role in [
            "Calls.JoinGroupCallAsGuest.All",
            "Calls.JoinGroupCallasGuest.All",
            "Calls.JoinGroupCallsasGuest.All",
            "Calls.JoinGroupCall.All",
            "Calls.JoinGroupCalls.All",
            "CALLS.JOINGROUPCALL.ALL",
            "f6b49018-60ab-4f81-83bd-22caeabfed2d",
            "FD7CCF6B-3D28-418B-9701-CD10F5CD2FD4",
        ] {
            assert!(roles(&["Other", role]).is_ok(), "{role}");
        }
    }

    #[test]
    fn a_missing_role_is_named_with_what_the_token_has() {
        for (has, words) in [
            (&[][..], "has no application roles"),
            (&["Calls.Initiate.All"], "has only 'Calls.Initiate.All'"),
            (&["1", "2", "3", "4", "5", "6", "7"], "'5' and 2 more"),
            (&["Calls.JoinGroupCall.All.Not"], "has only 'Calls.JoinGroupCall.All.Not'"),
        ] {
            let refusal = roles(has).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (403, "7504"));
            for words in [words, ROLES[0], ROLES[1], "application 'app' of tenant 'tenant'"] {
                assert!(refusal.message.contains(words), "{}", refusal.message);
            }
        }
    }

    #[test]
    fn guids_are_the_same_in_any_letter_case_and_other_names_are_not() {
        let guid = "57DAB8B1-894C-409A-B240-BD8BEAE78896";
        assert_eq!(Identity::new(guid, "T"), Identity::new(&guid.to_lowercase(), "T"));
        assert_ne!(Identity::new("Bot", "T"), Identity::new("bot", "T"));
        assert_ne!(Identity::new("bot", guid), Identity::new("bot", "other"));
    }

    #[test]
    fn a_second_has_one_seconds_worth_of_requests_and_they_come_back_evenly() {
        let mut owners = Owners::default();
        let rate = Rate::per_second(4.0);
        let key = owners.know(at(1000), &caller("a", Limits { rate, ..Limits::NONE }), 10).unwrap();
        for left in [3, 2, 1, 0] {
            owners.take_request(at(1000), key).unwrap();
            let fields = owners.standing(at(1000), key).fields().unwrap();
            assert_eq!(fields, (r#""requests";q=4;w=1"#.to_owned(), format!(r#""requests";r={left};t=1"#)));
        }
        let refusal = owners.take_request(at(1249), key).unwrap_err();
        assert_eq!((refusal.status, refusal.code, refusal.retry_after_s), (429, "TooManyRequests", Some(1)));
        assert_eq!(
            refusal.message,
            "The application 'a' of tenant 'tenant' has sent 4 requests; its limit is 4 in 1 s (requests-per-second)."
        );
        owners.take_request(at(1250), key).unwrap();
        assert!(owners.take_request(at(1250), key).is_err());
        for _ in 0..4 {
            owners.take_request(at(9000), key).unwrap();
        }
        assert!(owners.take_request(at(9000), key).is_err());
    }

    #[test]
    fn a_rate_below_one_a_second_lets_one_through_and_says_when_the_next_may_come() {
        let mut owners = Owners::default();
        let rate = Rate::per_second(0.1);
        let key = owners.know(at(0), &caller("a", Limits { rate, ..Limits::NONE }), 10).unwrap();
        owners.take_request(at(0), key).unwrap();
        let refusal = owners.take_request(at(2500), key).unwrap_err();
        assert_eq!(refusal.retry_after_s, Some(8));
        let fields = owners.standing(at(2500), key).fields().unwrap();
        assert_eq!(fields, (r#""requests";q=1;w=10"#.to_owned(), r#""requests";r=0;t=8"#.to_owned()));
        owners.take_request(at(10_000), key).unwrap();
    }

    #[test]
    fn a_lowered_rate_holds_at_once_and_for_no_longer_than_its_own_window() {
        let mut owners = Owners::default();
        let limits = |rate| Limits { rate: Rate::per_second(rate), ..Limits::NONE };
        let key = owners.know(at(0), &caller("a", limits(0.01)), 10).unwrap();
        owners.take_request(at(0), key).unwrap();
        owners.know(at(0), &caller("a", limits(2.0)), 10).unwrap();
        assert_eq!(owners.take_request(at(0), key).unwrap_err().retry_after_s, Some(1));
        assert!(Rate::per_second(0.0).is_none() && Rate::per_second(f64::NAN).is_none());
    }

    #[test]
    fn only_what_has_a_limit_is_told() {
        let mut owners = Owners::default();
        let key = owners.know(at(0), &caller("free", Limits::NONE), 10).unwrap();
        assert_eq!(owners.standing(at(0), key).fields(), None);
        let limits = Limits { calls: Some(5), preparing: Some(0), ..Limits::NONE };
        let key = owners.know(at(0), &caller("a", limits), 10).unwrap();
        owners.of_mut(key).calls = 7;
        let fields = owners.standing(at(0), key).fields().unwrap();
        assert_eq!(
            fields,
            (r#""calls";q=5, "preparing";q=0"#.to_owned(), r#""calls";r=0, "preparing";r=0"#.to_owned())
        );
        let refusal = owners.of(key).may_call().unwrap_err();
        assert_eq!(
            refusal.message,
            "The application 'a' of tenant 'tenant' has 7 calls; its limit is 5 (max-calls)."
        );
        assert!(owners.of(key).may_hold().is_ok());
    }

    #[test]
    fn who_has_no_calls_leaves_when_room_is_needed_and_who_has_stays() {
        let mut owners = Owners::default();
        let limits = Limits { rate: Rate::per_second(1.0), ..Limits::NONE };
        let most = 100;
        let busy = owners.know(at(0), &caller("busy", limits), most).unwrap();
        owners.of_mut(busy).kept = 1;
        for app in 0..1000 {
            let key = owners.know(at(app * 2000), &caller(&app.to_string(), limits), most).unwrap();
            owners.take_request(at(app * 2000), key).unwrap();
            assert!(owners.len() <= most);
        }
        assert_eq!(owners.know(at(0), &caller("busy", limits), most), Ok(busy));
        // A bucket that is not full again is remembered: leaving does not fill it.
        for app in 0..most as u64 {
            let Ok(key) = owners.know(at(5_000_000), &caller(&format!("late {app}"), limits), most) else {
                continue;
            };
            owners.take_request(at(5_000_000), key).unwrap();
        }
        let refusal = owners.know(at(5_000_000), &caller("one more", limits), most).unwrap_err();
        assert_eq!(refusal.status, 429);
        assert!(refusal.message.contains("100 applications"), "{}", refusal.message);
        assert!(owners.know(at(5_001_000), &caller("one more", limits), most).is_ok());
    }
}
