//! Who is owed what, in which order, and when to try again: changes go in, POSTs come out, one at a time for each
//! call, at least once, in order. A queue outlives its call. How many a receiver has under way is said by
//! `receivers.rs`; what is given up goes to `undelivered.rs`.

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
    id::{CallId, NotificationId},
    receivers::{Callback, Ending, Receivers},
    settings::Settings,
    undelivered::{GivenUp, Undelivered},
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

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// This, and nothing else for ever.
    Text(Arc<str>),
    /// Who is in the call, as it is when the first attempt is made. However often the roster changes meanwhile,
    /// one notification tells it all. Its version is that of the first change.
    Roster(u64),
}

/// A notification that is owed.
#[derive(Debug)]
pub(crate) struct Owed {
    /// Its place in the order of its call.
    pub(crate) number: u64,
    pub(crate) id: NotificationId,
    pub(crate) says: Says,
    /// From when on it is tried.
    pub(crate) since: MediaTime,
    pub(crate) created: WallTime,
    /// All attempts.
    pub(crate) attempts: u32,
    /// Those of them that were made before it was given up and asked for again.
    pub(crate) earlier: u32,
}

#[derive(Debug)]
struct Queue {
    owner: Arc<Identity>,
    callback: Callback,
    owed: VecDeque<Owed>,
    /// The number of the last one.
    last: u64,
    /// When the attempt under way began, if there is one.
    in_flight: Option<MediaTime>,
    /// When the next attempt may be made; `None` is at once.
    retry: Option<MediaTime>,
    /// It waits for its receiver, but no longer than that.
    waits_until: Option<MediaTime>,
    /// A timer has been set for that.
    timed: bool,
}

/// An attempt that is to be made now.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) id: NotificationId,
    pub(crate) call: CallId,
    pub(crate) says: Says,
    /// Whose the call is.
    pub(crate) owner: Arc<Identity>,
    pub(crate) uri: Url,
    /// 1 for the first.
    pub(crate) number: u32,
    /// The timer of its wait, if one was set: it is not needed any more.
    pub(crate) timer: Option<MediaTime>,
}

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Notifications {
    queues: BTreeMap<CallId, Queue>,
    receivers: Receivers,
    /// Whose the attempts under way are.
    in_flight: BTreeMap<NotificationId, CallId>,
    /// What was given up.
    pub(crate) undelivered: GivenUp,
    /// Owed in all.
    pub(crate) pending: usize,
    /// Delivered since the beginning.
    pub(crate) delivered: u64,
    /// Given up since the beginning.
    pub(crate) given_up: u64,
    /// Those that came, left or were written since it was last asked.
    changed: Vec<(CallId, u64)>,
}

impl Notifications {
    /// Whether so much is owed to `call`, or by way of its receiver, that no more work which owes notifications should
    /// be taken.
    pub(crate) fn is_full(&self, call: CallId, callback: &Callback, settings: &Settings) -> bool {
        // A hold owes three: the roster twice and its operation.
        let owed = self.queues.get(&call).map_or(0, |queue| queue.owed.len());
        owed + 3 > settings.max_owed_per_call || self.crowds(&callback.receiver, 3, settings)
    }

    /// Whether, with so many more, what is owed by way of a receiver would be more than the room that is left for all.
    /// By this rule one receiver can fill half of the room and two of them a third each: however many are dead, there is
    /// room for one that is not.
    fn crowds(&self, receiver: &str, more: usize, settings: &Settings) -> bool {
        self.receivers.owed(receiver) + more > settings.max_owed.saturating_sub(self.pending + more)
    }

    /// `call` is owed a notification, signed for its owner and sent to its callback. Above the limits the oldest that is
    /// not under way is given up for it.
    pub(crate) fn owe(
        &mut self,
        now: Now,
        call: CallId,
        (owner, callback): (&Arc<Identity>, &Callback),
        id: NotificationId,
        says: Says,
        settings: &Settings,
    ) {
        let untold = |owed: &Owed| matches!(owed.says, Says::Roster(_));
        let known = self.queues.get(&call);
        if matches!(says, Says::Roster(_)) && known.is_some_and(|queue| queue.owed.iter().any(untold)) {
            return;
        }
        let owed = Owed { number: 0, id, says, since: now.mono, created: now.wall, attempts: 0, earlier: 0 };
        self.push(call, owed, owner, callback);
        let queue = &self.queues[&call];
        let first = usize::from(queue.in_flight.is_some());
        let too_many = queue.owed.len() > settings.max_owed_per_call;
        if (too_many || self.crowds(&callback.receiver, 0, settings))
            && let Some(oldest) = self.queues.get_mut(&call).and_then(|queue| queue.owed.remove(first))
        {
            self.give_up(now, call, oldest, "too many notifications were owed".to_owned(), settings);
        }
    }

    /// Whether what was given up could be owed again.
    pub(crate) fn has_room_for(&self, entry: &Undelivered, settings: &Settings) -> bool {
        let owed = self.queues.get(&entry.call).map_or(0, |queue| queue.owed.len());
        owed < settings.max_owed_per_call && !self.crowds(&entry.callback.receiver, 1, settings)
    }

    /// What was given up is owed again, behind everything else of its call and under its old name. `says` is what it
    /// says now.
    pub(crate) fn owe_again(&mut self, now: Now, entry: Undelivered, says: Says) {
        let Undelivered { notification, call, owner, callback, attempts, created, .. } = entry;
        let (number, since, earlier) = (0, now.mono, attempts);
        let owed = Owed { number, id: notification, says, since, created, attempts, earlier };
        self.push(call, owed, &owner, &callback);
    }

    /// One is owed as it was when its record was written, behind those of its call that were restored before.
    pub(crate) fn restore(&mut self, call: CallId, owed: Owed, owner: &Arc<Identity>, callback: &Callback) {
        self.queue(call, owner, callback).last = owed.number.saturating_sub(1);
        self.push(call, owed, owner, callback);
    }

    /// Calls to which something is owed.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallId> {
        self.queues.keys().copied()
    }

    /// Those that came, left or were written since this was last asked.
    pub(crate) fn changed(&mut self) -> impl Iterator<Item = (CallId, u64)> {
        self.changed.drain(..)
    }

    /// What is owed to `call` under `number`, for whom and where it goes.
    pub(crate) fn find(&self, call: CallId, number: u64) -> Option<(&Identity, &Callback, &Owed)> {
        let queue = self.queues.get(&call)?;
        let at = queue.owed.binary_search_by_key(&number, |owed| owed.number).ok()?;
        Some((&queue.owner, &queue.callback, &queue.owed[at]))
    }

    fn queue(&mut self, call: CallId, owner: &Arc<Identity>, callback: &Callback) -> &mut Queue {
        self.queues.entry(call).or_insert_with(|| Queue {
            owner: Arc::clone(owner),
            callback: callback.clone(),
            owed: VecDeque::new(),
            last: 0,
            in_flight: None,
            retry: None,
            waits_until: None,
            timed: false,
        })
    }

    /// At the end of its call's queue, which may have to be made.
    fn push(&mut self, call: CallId, mut owed: Owed, owner: &Arc<Identity>, callback: &Callback) {
        let queue = self.queue(call, owner, callback);
        queue.last += 1;
        owed.number = queue.last;
        queue.owed.push_back(owed);
        let (receiver, number) = (Arc::clone(&queue.callback.receiver), queue.last);
        self.changed.push((call, number));
        self.pending += 1;
        self.receivers.owe(&receiver);
    }

    /// Roster updates of `call` that were never tried are owed no more: there is no roster any more.
    pub(crate) fn forget_roster(&mut self, call: CallId) {
        if let Some(queue) = self.queues.get_mut(&call) {
            let before = queue.owed.len();
            let changed = &mut self.changed;
            queue.owed.retain(|owed| {
                let untold = matches!(owed.says, Says::Roster(_));
                if untold {
                    changed.push((call, owed.number));
                }
                !untold
            });
            let forgotten = before - queue.owed.len();
            self.pending -= forgotten;
            self.receivers.settle(&queue.callback.receiver, forgotten);
        }
    }

    /// `call` may have something that can be told now: then it waits for its turn. If it has waited for too long, what
    /// it has waited with is given up.
    pub(crate) fn wait(&mut self, now: Now, call: CallId, settings: &Settings) {
        let Some(queue) = self.queues.get_mut(&call) else { return };
        if queue.in_flight.is_some() || queue.retry.is_some_and(|at| at > now.mono) {
            return;
        }
        let first = queue.owed.front();
        match (queue.waits_until, first) {
            (Some(MediaTime::NEVER), Some(first)) => {
                queue.waits_until = Some(patience(now.mono, first, settings));
                return;
            }
            (Some(until), _) if now.mono >= until => return self.waited_in_vain(now, call, settings),
            (Some(_), _) => return,
            (None, _) => {}
        }
        let Some(first) = first else {
            self.queues.remove(&call);
            return;
        };
        queue.waits_until = Some(patience(now.mono, first, settings));
        queue.retry = None;
        queue.timed = false;
        self.receivers.wait(&queue.callback.receiver, call);
    }

    /// Its receiver had no turn for it while it should have been tried. It keeps its place in the order with the rest.
    fn waited_in_vain(&mut self, now: Now, call: CallId, settings: &Settings) {
        let overdue = |owed: &Owed| owed.since + settings.notify_for <= now.mono;
        while let Some(queue) = self.queues.get_mut(&call)
            && queue.owed.front().is_some_and(overdue)
            && let Some(owed) = queue.owed.pop_front()
        {
            let seconds = settings.notify_for.as_secs();
            let reason = format!(
                "its turn did not come within {seconds} s: the receiver was too slow with what went before, or failed"
            );
            self.give_up(now, call, owed, reason, settings);
        }
        let Some(queue) = self.queues.get_mut(&call) else { return };
        // Without anything to tell it waits on, until its turn comes and is passed over.
        queue.waits_until =
            Some(queue.owed.front().map_or(MediaTime::NEVER, |first| patience(now.mono, first, settings)));
        queue.timed = false;
    }

    /// Until when `call` waits for its turn, if it does and no timer has been set for that: now one is.
    pub(crate) fn timer(&mut self, call: CallId) -> Option<MediaTime> {
        let queue = self.queues.get_mut(&call).filter(|queue| !queue.timed)?;
        let until = queue.waits_until.filter(|until| *until < MediaTime::NEVER)?;
        queue.timed = true;
        Some(until)
    }

    /// The attempt whose turn it is. What a roster update says is to be given back by [`Notifications::written`].
    pub(crate) fn attempt(&mut self, now: MediaTime, settings: &Settings) -> Option<Attempt> {
        loop {
            let call = self.receivers.next(settings)?;
            let queue = self.queues.get_mut(&call).expect("who waits has a queue");
            let until = queue.waits_until.take();
            let timer = until.filter(|_| std::mem::take(&mut queue.timed));
            let Some(owed) = queue.owed.front_mut() else {
                // Forgotten while it waited. A timer that was set finds nothing.
                let receiver = Arc::clone(&queue.callback.receiver);
                self.queues.remove(&call);
                self.receivers.unused(&receiver);
                continue;
            };
            owed.attempts += 1;
            queue.in_flight = Some(now);
            self.in_flight.insert(owed.id, call);
            let (id, says, number) = (owed.id, owed.says.clone(), owed.attempts);
            let (owner, uri) = (Arc::clone(&queue.owner), queue.callback.url.clone());
            return Some(Attempt { id, call, says, owner, uri, number, timer });
        }
    }

    /// What the attempt under way for `call` says, now and in every retry.
    pub(crate) fn written(&mut self, call: CallId, text: &Arc<str>) {
        if let Some(owed) = self.queues.get_mut(&call).and_then(|queue| queue.owed.front_mut()) {
            owed.says = Says::Text(Arc::clone(text));
            self.changed.push((call, owed.number));
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
        let began = queue.in_flight.take().expect("an attempt under way has begun");
        let ending = match outcome {
            DeliveryOutcome::Accepted | DeliveryOutcome::Refused { .. } => Ending::Answered,
            DeliveryOutcome::Retry { .. } => Ending::Failed,
        };
        self.receivers.ended(&queue.callback.receiver, now.mono.since(began), ending);
        let owed = queue.owed.front().expect("an attempt under way is of the first in the queue");
        let (reason, after) = match outcome {
            DeliveryOutcome::Accepted => {
                self.changed.push((call, owed.number));
                queue.owed.pop_front();
                self.pending -= 1;
                self.delivered += 1;
                self.receivers.settle(&queue.callback.receiver, 1);
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
        let delay = retry_delay(owed.attempts - owed.earlier, after, settings, rng);
        // The last attempt is made when the time is over, not long after.
        let at =
            (now.mono + delay).min((owed.since + settings.notify_for).max(now.mono + settings.retry_first));
        queue.retry = Some(at);
        Some((call, Some(at)))
    }

    fn give_up(&mut self, now: Now, call: CallId, owed: Owed, reason: String, settings: &Settings) {
        let queue = self.queues.get(&call).expect("what is given up was in a queue");
        self.pending -= 1;
        self.given_up += 1;
        self.receivers.settle(&queue.callback.receiver, 1);
        let Owed { number, id, says, created, attempts, .. } = owed;
        self.changed.push((call, number));
        let entry = Undelivered {
            notification: id,
            call,
            owner: Arc::clone(&queue.owner),
            callback: queue.callback.clone(),
            reason,
            attempts,
            created,
            given_up: now.wall,
            body: match says {
                Says::Text(text) => Some(text),
                Says::Roster(_) => None,
            },
        };
        self.undelivered.push(entry, settings);
    }
}

/// How long a call waits for its receiver at most: as long as the first of what it has to tell is tried, and if that is
/// over soon, as long as between two retries.
fn patience(now: MediaTime, first: &Owed, settings: &Settings) -> MediaTime {
    (first.since + settings.notify_for).max(now + settings.retry_longest)
}

/// Exponential, between the first and the longest delay, or what the receiver asked for if that is longer, and up
/// to a quarter more, so that the calls of one dead receiver do not come back all at once.
fn retry_delay(attempts: u32, asked: Duration, settings: &Settings, rng: &mut StdRng) -> Duration {
    let doubled = settings.retry_first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let delay = doubled.min(settings.retry_longest).max(asked);
    delay.saturating_add(delay.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) / 4.0))
}

#[cfg(test)]
impl Notifications {
    /// All that is owed, by call and number.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (CallId, u64)> {
        self.queues.iter().flat_map(|(call, queue)| queue.owed.iter().map(|owed| (*call, owed.number)))
    }

    /// For tests that have told everything.
    pub(crate) fn check_nothing_is_left(&self) {
        assert!(self.queues.is_empty() && self.in_flight.is_empty(), "{:?}", self.queues);
        assert_eq!(self.pending, 0);
        self.receivers.check_all_rest();
    }
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
            let callback = Callback::new(Url::parse("https://bot/?secret").unwrap());
            self.notifications.owe(now(at), CALL, (&owner, &callback), id, says, &self.settings);
            id
        }

        fn attempt(&mut self, at: u64) -> Option<(NotificationId, u32)> {
            self.notifications.wait(now(at), CALL, &self.settings);
            let attempt = self.notifications.attempt(MediaTime::from_millis(at), &self.settings)?;
            if let Says::Roster(_) = attempt.says {
                self.notifications.written(CALL, &Arc::from("roster"));
            }
            Some((attempt.id, attempt.number))
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
    fn no_time_that_a_receiver_asks_for_is_longer_than_its_notification_is_tried() {
        for asked in [Duration::from_secs(601), Duration::from_secs(u64::MAX), Duration::MAX] {
            let mut desk = Desk::new();
            let id = desk.owe(0, text("1"));
            desk.attempt(0);
            assert_eq!(
                desk.outcome(1, id, retry(Some(asked))),
                Some(MediaTime::from_millis(600_000)),
                "{asked:?}"
            );
        }
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
        let listed: Vec<_> = desk
            .notifications
            .undelivered
            .iter()
            .map(|u| (u.callback.url.as_str(), u.reason.as_str()))
            .collect();
        assert_eq!(listed, [("https://bot/?secret", "503"), ("https://bot/?secret", "410")]);
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
        assert_eq!(desk.notifications.undelivered.iter().next().unwrap().notification, ids[1]);
    }
}
