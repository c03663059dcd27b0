//! Who is owed what, in which order, and when to try again: changes go in, POSTs come out, one at a time for each
//! call, at least once, in order. A queue outlives its call.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use holdmusic_media::{MediaTime, Now, WallTime};
use rand::{Rng, rngs::StdRng};
use url::Url;

use crate::{
    access::Identity,
    guard::redact,
    id::{CallId, NotificationId},
    settings::Settings,
};

/// How the delivery of a notification went, as far as the doors can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// 2xx.
    Accepted,
    /// Worth another try: network error, 408, 429, 5xx.
    Retry {
        /// Why, for people and without secrets.
        reason: String,
        /// What the receiver asked for in `Retry-After`.
        after: Option<Duration>,
    },
    /// Not worth another try.
    Refused {
        /// Why, for people and without secrets.
        reason: String,
    },
}

/// A notification that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Its name.
    pub notification: NotificationId,
    /// Whose it is.
    pub call: CallId,
    /// Where it should have gone, without secrets.
    pub uri: String,
    /// Why it did not.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub at: WallTime,
    /// What it would have said; empty for a roster update that was never tried and so never written.
    pub body: Arc<str>,
}

/// What a notification says.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// This, and nothing else for ever.
    Text(Arc<str>),
    /// Who is in the call, as it is when the first attempt is made. However often the roster changes meanwhile,
    /// one notification tells it all. Its version is that of the first change.
    Roster(u64),
}

#[derive(Debug)]
struct Owed {
    id: NotificationId,
    says: Says,
    since: MediaTime,
    attempts: u32,
}

#[derive(Debug)]
struct Queue {
    owner: Arc<Identity>,
    uri: Url,
    owed: VecDeque<Owed>,
    /// An attempt is under way.
    in_flight: bool,
    /// When the next attempt may be made; `None` is at once.
    retry: Option<MediaTime>,
}

/// An attempt that is to be made now.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: NotificationId,
    pub(crate) says: Says,
    /// Whose the call is.
    pub(crate) owner: Arc<Identity>,
    pub(crate) uri: Url,
    /// 1 for the first.
    pub(crate) number: u32,
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    queues: BTreeMap<CallId, Queue>,
    /// Whose the attempts under way are.
    in_flight: BTreeMap<NotificationId, CallId>,
    undelivered: VecDeque<Undelivered>,
    /// Owed in all.
    pub(crate) pending: usize,
    /// Delivered since the beginning.
    pub(crate) delivered: u64,
    /// Given up since the beginning.
    pub(crate) given_up: u64,
}

impl Notifications {
    /// Whether so much is owed that no more work which owes notifications should be taken.
    pub(crate) fn is_full(&self, call: CallId, settings: &Settings) -> bool {
        let owed = self.queues.get(&call).map_or(0, |queue| queue.owed.len());
        // A hold owes three: the roster twice and its operation.
        owed + 3 > settings.max_owed_per_call || self.pending + 3 > settings.max_owed
    }

    /// `call` is owed a notification, signed for its owner and sent to its callback. Above the limits the oldest that is not under way is given up for it.
    pub(crate) fn owe(
        &mut self,
        now: Now,
        call: CallId,
        (owner, uri): (&Arc<Identity>, &str),
        id: NotificationId,
        says: Says,
        settings: &Settings,
    ) {
        let queue = self.queues.entry(call).or_insert_with(|| Queue {
            owner: Arc::clone(owner),
            uri: Url::parse(uri).expect("a callback was a URL when its call was created"),
            owed: VecDeque::new(),
            in_flight: false,
            retry: None,
        });
        let untried = |owed: &Owed| matches!(owed.says, Says::Roster(_)) && owed.attempts == 0;
        if matches!(says, Says::Roster(_)) && queue.owed.iter().any(untried) {
            return;
        }
        queue.owed.push_back(Owed { id, says, since: now.mono, attempts: 0 });
        self.pending += 1;
        let first = usize::from(queue.in_flight);
        if (queue.owed.len() > settings.max_owed_per_call || self.pending > settings.max_owed)
            && let Some(oldest) = queue.owed.remove(first)
        {
            self.give_up(now, call, oldest, "too many notifications were owed".to_owned(), settings);
        }
    }

    /// Roster updates of `call` that were never tried are owed no more: there is no roster any more.
    pub(crate) fn forget_roster(&mut self, call: CallId) {
        if let Some(queue) = self.queues.get_mut(&call) {
            let before = queue.owed.len();
            queue.owed.retain(|owed| !matches!(owed.says, Says::Roster(_)) || owed.attempts > 0);
            self.pending -= before - queue.owed.len();
        }
    }

    /// The attempt that may be made for `call` now. What a roster update says is to be given back by
    /// [`Notifications::written`].
    pub(crate) fn attempt(&mut self, now: MediaTime, call: CallId) -> Option<Attempt> {
        let queue = self.queues.get_mut(&call)?;
        if queue.in_flight || queue.retry.is_some_and(|at| at > now) {
            return None;
        }
        let Some(owed) = queue.owed.front_mut() else {
            self.queues.remove(&call);
            return None;
        };
        owed.attempts += 1;
        queue.in_flight = true;
        queue.retry = None;
        self.in_flight.insert(owed.id, call);
        Some(Attempt {
            id: owed.id,
            says: owed.says.clone(),
            owner: Arc::clone(&queue.owner),
            uri: queue.uri.clone(),
            number: owed.attempts,
        })
    }

    /// What the attempt under way for `call` says, now and in every retry.
    pub(crate) fn written(&mut self, call: CallId, text: &Arc<str>) {
        if let Some(owed) = self.queues.get_mut(&call).and_then(|queue| queue.owed.front_mut()) {
            owed.says = Says::Text(Arc::clone(text));
        }
    }

    /// How an attempt went. Says whose it was, and when to try again if not at once.
    pub(crate) fn outcome(
        &mut self,
        now: Now,
        id: NotificationId,
        outcome: DeliveryOutcome,
        settings: &Settings,
        rng: &mut StdRng,
    ) -> Option<(CallId, Option<MediaTime>)> {
        let call = self.in_flight.remove(&id)?;
        let queue = self.queues.get_mut(&call).expect("an attempt under way has a queue");
        queue.in_flight = false;
        let owed = queue.owed.front().expect("an attempt under way is of the first in the queue");
        let (reason, after) = match outcome {
            DeliveryOutcome::Accepted => {
                queue.owed.pop_front();
                self.pending -= 1;
                self.delivered += 1;
                return Some((call, None));
            }
            DeliveryOutcome::Retry { reason, after } if now.mono.since(owed.since) < settings.notify_for => {
                (reason, Some(after.unwrap_or_default()))
            }
            DeliveryOutcome::Retry { reason, .. } | DeliveryOutcome::Refused { reason } => (reason, None),
        };
        let Some(after) = after else {
            let owed = queue.owed.pop_front().expect("it was there a moment ago");
            self.give_up(now, call, owed, reason, settings);
            return Some((call, None));
        };
        let delay = retry_delay(owed.attempts, after, settings, rng);
        // The last attempt is made when the time is over, not long after.
        let at =
            (now.mono + delay).min((owed.since + settings.notify_for).max(now.mono + settings.retry_first));
        queue.retry = Some(at);
        Some((call, Some(at)))
    }

    fn give_up(&mut self, now: Now, call: CallId, owed: Owed, reason: String, settings: &Settings) {
        self.pending -= 1;
        self.given_up += 1;
        let uri = self.queues.get(&call).map(|queue| redact(&queue.uri)).unwrap_or_default();
        let body = match owed.says {
            Says::Text(text) => text,
            Says::Roster(_) => Arc::from(""),
        };
        let Owed { id, attempts, .. } = owed;
        self.undelivered.push_back(Undelivered {
            notification: id,
            call,
            uri,
            reason,
            attempts,
            at: now.wall,
            body,
        });
        while self.undelivered.len() > settings.max_undelivered {
            self.undelivered.pop_front();
        }
    }

    /// What was given up, oldest first.
    pub(crate) fn undelivered(&self) -> impl Iterator<Item = &Undelivered> {
        self.undelivered.iter()
    }
}

/// Exponential, between the first and the longest delay, or what the receiver asked for if that is longer, and up
/// to a quarter more, so that the calls of one dead receiver do not come back all at once.
fn retry_delay(attempts: u32, asked: Duration, settings: &Settings, rng: &mut StdRng) -> Duration {
    let doubled = settings.retry_first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let delay = doubled.min(settings.retry_longest).max(asked);
    delay.saturating_add(delay.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) / 4.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const CALL: CallId = CallId(1);

    struct Desk {
        notifications: Notifications,
        settings: Settings,
        rng: StdRng,
        ids: u128,
    }

    impl Desk {
        fn new() -> Self {
            let settings = Settings { max_owed_per_call: 3, ..Settings::default() };
            Self {
                notifications: Notifications::default(),
                settings,
                rng: StdRng::from_seed([1; 32]),
                ids: 0,
            }
        }

        fn owe(&mut self, at: u64, says: Says) -> NotificationId {
            self.ids += 1;
            let id = NotificationId(self.ids);
            let owner = Arc::new(Identity::new("bot", "tenant"));
            self.notifications.owe(now(at), CALL, (&owner, "https://bot/?secret"), id, says, &self.settings);
            id
        }

        fn attempt(&mut self, at: u64) -> Option<(NotificationId, u32)> {
            self.notifications.attempt(MediaTime::from_millis(at), CALL).map(|a| (a.id, a.number))
        }

        fn outcome(&mut self, at: u64, id: NotificationId, outcome: DeliveryOutcome) -> Option<MediaTime> {
            self.notifications.outcome(now(at), id, outcome, &self.settings, &mut self.rng).unwrap().1
        }
    }

    fn now(millis: u64) -> Now {
        Now { mono: MediaTime::from_millis(millis), wall: WallTime(0) }
    }

    fn text(text: &str) -> Says {
        Says::Text(Arc::from(text))
    }

    fn retry(after: Option<Duration>) -> DeliveryOutcome {
        DeliveryOutcome::Retry { reason: "503".into(), after }
    }

    #[test]
    fn one_post_at_a_time_and_in_order() {
        let mut desk = Desk::new();
        let (first, second) = (desk.owe(0, text("1")), desk.owe(0, text("2")));
        assert_eq!(desk.attempt(0), Some((first, 1)));
        assert_eq!(desk.attempt(0), None);
        desk.outcome(1, first, DeliveryOutcome::Accepted);
        assert_eq!(desk.attempt(1), Some((second, 1)));
    }

    #[test]
    fn retries_wait_longer_and_longer_and_at_least_as_long_as_asked() {
        let mut desk = Desk::new();
        let id = desk.owe(0, text("1"));
        let mut at = 0;
        for least in [250, 500, 1000, 2000] {
            assert!(desk.attempt(at).is_some());
            let next = desk.outcome(at, id, retry(None)).unwrap().as_nanos() / 1_000_000;
            assert!((least..=least + least / 4 + 1).contains(&(next - at)), "{} for {least}", next - at);
            assert_eq!(desk.attempt(next - 1), None);
            at = next + 1;
        }
        assert!(desk.attempt(at).is_some());
        let next = desk.outcome(at, id, retry(Some(Duration::from_secs(60)))).unwrap();
        assert!(next >= MediaTime::from_millis(at + 60_000));
    }

    #[test]
    fn what_cannot_be_delivered_is_given_up_listed_and_delays_the_rest_no_longer() {
        let mut desk = Desk::new();
        let (first, second) = (desk.owe(0, text("1")), desk.owe(0, text("2")));
        desk.attempt(0);
        desk.outcome(600_000, first, retry(None));
        assert_eq!(desk.attempt(600_000), Some((second, 1)));
        desk.outcome(600_000, second, DeliveryOutcome::Refused { reason: "410".into() });
        assert_eq!(desk.attempt(600_000), None);
        let listed: Vec<_> =
            desk.notifications.undelivered().map(|u| (u.uri.as_str(), u.reason.as_str())).collect();
        assert_eq!(listed, [("https://bot/?…", "503"), ("https://bot/?…", "410")]);
        assert_eq!((desk.notifications.pending, desk.notifications.given_up), (0, 2));
    }

    #[test]
    fn many_changes_of_the_roster_are_told_at_once() {
        let mut desk = Desk::new();
        for _ in 0..10 {
            desk.owe(0, Says::Roster(1));
        }
        assert_eq!(desk.notifications.pending, 1);
        desk.attempt(0);
        desk.owe(0, Says::Roster(1));
        assert_eq!(desk.notifications.pending, 2);
        desk.notifications.forget_roster(CALL);
        assert_eq!(desk.notifications.pending, 1);
    }

    #[test]
    fn above_the_limit_the_oldest_that_is_not_under_way_is_given_up() {
        let mut desk = Desk::new();
        let ids: Vec<_> = (0..3).map(|_| desk.owe(0, text("x"))).collect();
        desk.attempt(0);
        desk.owe(0, text("y"));
        assert_eq!(desk.notifications.pending, 3);
        assert_eq!(desk.notifications.undelivered().next().unwrap().notification, ids[1]);
    }
}
