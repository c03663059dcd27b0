//! Receivers of notifications: calls that have something to tell wait here, and the one whose turn it is comes out, so
//! that whoever is slow, dead or leads elsewhere holds few attempts and delays nobody else.
//!
//! A receiver is the origin of a callback: scheme, host and port. How many attempts it may have under way is its
//! *window*. It begins at eight, enough for the few calls of a bot that nothing is known of. It grows by one with each
//! prompt answer that comes while it is in full use, which doubles it with each round, up to 64: beyond that a receiver
//! that answers within a tenth of a second takes more than is ever owed. Each answer that is slow takes one away, down
//! to eight: what is slow and works must still work. Each failure halves it, down to one: who is dead is asked by one
//! attempt at a time, and who comes back has its eight after a few answers.
//!
//! There is a limit over all of them, too, and half of it is kept for those whose last answer was prompt: however many
//! receivers are dead or unknown, these find a place.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use url::Url;

use crate::{id::CallId, settings::Settings};

/// Attempts under way at a receiver of which nothing is known, and at one that is slow.
const FIRST_WINDOW: u32 = 8;

/// The most.
const WIDEST: u32 = 64;

/// At one that fails.
const NARROWEST: u32 = 1;

/// An answer within this is prompt. 1 s: a bot acknowledges and works later; more than a round trip around the world
/// and a handshake take.
const PROMPT: Duration = Duration::from_secs(1);

/// Receivers with nothing to be told that are remembered, so that one which was dead is not taken for a new one. The
/// ones unused longest are forgotten first.
const IDLE_KNOWN: usize = 1_000;

/// How an attempt ended, as far as the window is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It answered, whatever it said.
    Answered,
    /// It did not, or said that it cannot at the moment.
    Failed,
}

/// What is known of a receiver: whether its last answer was prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Prompt = 0,
    Doubtful = 1,
}

#[derive(Debug)]
struct Receiver {
    window: u32,
    in_flight: u32,
    standing: Standing,
    /// Calls that could be told something now, in the order in which they came.
    waiting: VecDeque<CallId>,
    /// Notifications owed by way of it.
    owed: usize,
    /// Its turn among those that may have an attempt now, if it is one of them.
    turn: Option<u64>,
    /// Since which turn it has had nothing to be told.
    idle: Option<u64>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            window: FIRST_WINDOW,
            in_flight: 0,
            standing: Standing::Doubtful,
            waiting: VecDeque::new(),
            owed: 0,
            turn: None,
            idle: None,
        }
    }
}

/// All receivers.
#[derive(Debug, Default)]
pub(crate) struct Receivers {
    known: BTreeMap<Arc<str>, Receiver>,
    /// Those that may have an attempt, by standing, in the order of their turns: each attempt puts a receiver at the end.
    listed: [BTreeMap<u64, Arc<str>>; 2],
    /// Attempts under way, by standing.
    under_way: [usize; 2],
    /// Those with nothing to be told.
    idle: BTreeMap<u64, Arc<str>>,
    /// The last turn that was given.
    last_turn: u64,
    /// Whose turn it is when both have somebody waiting, so that neither keeps the other from any.
    doubtful_next: bool,
}

/// Where notifications of a call go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Callback {
    /// Secrets may be in it.
    pub(crate) url: Url,
    /// The receiver that it leads to, by its name.
    pub(crate) receiver: Arc<str>,
}

impl Callback {
    pub(crate) fn new(url: Url) -> Self {
        let receiver = url.origin().ascii_serialization().into();
        Self { url, receiver }
    }
}

impl Receivers {
    /// One more notification is owed by way of a receiver.
    pub(crate) fn owe(&mut self, name: &Arc<str>) {
        let receiver = self.known.entry(Arc::clone(name)).or_default();
        receiver.owed += 1;
        if let Some(turn) = receiver.idle.take() {
            self.idle.remove(&turn);
        }
    }

    /// So many are owed no more, one way or the other.
    pub(crate) fn settle(&mut self, name: &str, count: usize) {
        if let Some(receiver) = self.known.get_mut(name) {
            receiver.owed -= count;
        }
        self.rest(name);
    }

    /// Notifications owed by way of a receiver.
    pub(crate) fn owed(&self, name: &str) -> usize {
        self.known.get(name).map_or(0, |receiver| receiver.owed)
    }

    /// A call that has something to be told waits for its turn. It is not to wait twice.
    pub(crate) fn wait(&mut self, name: &str, call: CallId) {
        if let Some(receiver) = self.known.get_mut(name) {
            receiver.waiting.push_back(call);
        }
        self.list(name);
    }

    /// The call whose turn it is. An attempt of it is under way from now on, until [`Receivers::ended`] or
    /// [`Receivers::unused`].
    pub(crate) fn next(&mut self, settings: &Settings) -> Option<CallId> {
        let [prompt, doubtful] = self.under_way;
        if prompt + doubtful >= settings.max_attempts {
            return None;
        }
        // Half, but never none.
        let doubtful_may = doubtful < settings.max_attempts.div_ceil(2);
        let standing = match (!self.listed[0].is_empty(), !self.listed[1].is_empty() && doubtful_may) {
            (true, true) => {
                self.doubtful_next = !self.doubtful_next;
                if self.doubtful_next { Standing::Doubtful } else { Standing::Prompt }
            }
            (true, false) => Standing::Prompt,
            (false, true) => Standing::Doubtful,
            (false, false) => return None,
        };
        let (_, name) = self.listed[standing as usize].pop_first()?;
        let receiver = self.known.get_mut(&name).expect("who is listed is known");
        receiver.turn = None;
        let call = receiver.waiting.pop_front().expect("who is listed has somebody waiting");
        receiver.in_flight += 1;
        self.under_way[standing as usize] += 1;
        self.list(&name);
        Some(call)
    }

    /// The attempt that [`Receivers::next`] offered is not made.
    pub(crate) fn unused(&mut self, name: &str) {
        if let Some(receiver) = self.known.get_mut(name) {
            receiver.in_flight -= 1;
            self.under_way[receiver.standing as usize] -= 1;
        }
        self.list(name);
        self.rest(name);
    }

    /// An attempt ended after so long.
    pub(crate) fn ended(&mut self, name: &str, took: Duration, ending: Ending) {
        let Some(receiver) = self.known.get_mut(name) else { return };
        let full = receiver.in_flight >= receiver.window;
        let before = receiver.standing;
        let prompt = ending == Ending::Answered && took <= PROMPT;
        receiver.standing = if prompt { Standing::Prompt } else { Standing::Doubtful };
        receiver.window = match ending {
            // An answer says nothing of a wider window while this one is not used.
            Ending::Answered if prompt && (full || receiver.window < FIRST_WINDOW) => {
                (receiver.window + 1).min(WIDEST)
            }
            Ending::Answered if !prompt && receiver.window > FIRST_WINDOW => receiver.window - 1,
            Ending::Answered => receiver.window,
            Ending::Failed => (receiver.window / 2).max(NARROWEST),
        };
        self.under_way[before as usize] -= receiver.in_flight as usize;
        receiver.in_flight -= 1;
        self.under_way[receiver.standing as usize] += receiver.in_flight as usize;
        // With the others of its standing from now on; in its old place if that is the same.
        if before != receiver.standing
            && let Some(turn) = receiver.turn.take()
        {
            self.listed[before as usize].remove(&turn);
        }
        self.list(name);
        self.rest(name);
    }

    /// Lists a receiver or not, as it stands now.
    fn list(&mut self, name: &str) {
        let Some((name, receiver)) = self.known.get_key_value(name) else { return };
        let may = !receiver.waiting.is_empty() && receiver.in_flight < receiver.window;
        let (name, standing) = (Arc::clone(name), receiver.standing as usize);
        match (receiver.turn, may) {
            (None, true) => {
                let turn = self.new_turn();
                self.listed[standing].insert(turn, Arc::clone(&name));
                if let Some(receiver) = self.known.get_mut(&name) {
                    receiver.turn = Some(turn);
                }
            }
            (Some(turn), false) => {
                self.listed[standing].remove(&turn);
                if let Some(receiver) = self.known.get_mut(&name) {
                    receiver.turn = None;
                }
            }
            _ => {}
        }
    }

    /// A receiver with nothing to be told is remembered for a while.
    fn rest(&mut self, name: &str) {
        let Some((name, receiver)) = self.known.get_key_value(name) else { return };
        let busy = receiver.owed > 0 || receiver.in_flight > 0 || !receiver.waiting.is_empty();
        if busy || receiver.idle.is_some() {
            return;
        }
        let name = Arc::clone(name);
        let turn = self.new_turn();
        self.idle.insert(turn, Arc::clone(&name));
        if let Some(receiver) = self.known.get_mut(&name) {
            receiver.idle = Some(turn);
        }
        while self.idle.len() > IDLE_KNOWN {
            let Some((_, oldest)) = self.idle.pop_first() else { break };
            self.known.remove(&oldest);
        }
    }

    fn new_turn(&mut self) -> u64 {
        self.last_turn += 1;
        self.last_turn
    }
}

#[cfg(test)]
impl Receivers {
    /// For tests that have told everything.
    pub(crate) fn check_all_rest(&self) {
        assert_eq!(self.under_way, [0, 0]);
        assert!(self.listed.iter().all(BTreeMap::is_empty), "{:?}", self.listed);
        for receiver in self.known.values() {
            assert!(receiver.owed == 0 && receiver.in_flight == 0 && receiver.idle.is_some(), "{receiver:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    /// Receivers of which `calls` calls wait for each of `names`, call `n` of receiver `r` being `1000 r + n`.
    fn waiting(names: &[&str], calls: u128) -> Receivers {
        let mut receivers = Receivers::default();
        for (number, name) in names.iter().enumerate() {
            for call in 0..calls {
                receivers.owe(&named(name));
                receivers.wait(name, CallId(number as u128 * 1000 + call));
            }
        }
        receivers
    }

    fn take(receivers: &mut Receivers, settings: &Settings) -> Vec<u128> {
        std::iter::from_fn(|| receivers.next(settings)).map(|call| call.0).collect()
    }

    const QUICK: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_secs(3);

    #[test]
    fn an_unknown_receiver_has_eight_attempts_at_a_time_whatever_waits() {
        let mut receivers = waiting(&["https://dead"], 1000);
        assert_eq!(take(&mut receivers, &Settings::default()), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn the_window_grows_with_prompt_answers_and_only_while_it_is_used() {
        let settings = Settings::default();
        let mut receivers = waiting(&["https://good"], 400);
        let mut under_way = take(&mut receivers, &settings).len();
        let mut widest = under_way;
        while under_way > 0 {
            receivers.ended("https://good", QUICK, Ending::Answered);
            receivers.settle("https://good", 1);
            under_way = under_way - 1 + take(&mut receivers, &settings).len();
            widest = widest.max(under_way);
        }
        assert_eq!(widest, 64);

        // One call at a time: eight are enough.
        for _ in 0..100 {
            receivers.owe(&named("https://calm"));
            receivers.wait("https://calm", CallId(1));
            assert!(receivers.next(&settings).is_some());
            receivers.ended("https://calm", QUICK, Ending::Answered);
            receivers.settle("https://calm", 1);
        }
        assert_eq!(receivers.known["https://calm"].window, FIRST_WINDOW);
    }

    #[test]
    fn failures_narrow_it_to_one_and_slowness_to_eight() {
        let settings = Settings::default();
        let mut receivers = waiting(&["https://dead", "https://slow"], 900);
        for name in ["https://dead", "https://slow"] {
            receivers.known.get_mut(name).unwrap().window = WIDEST;
            receivers.list(name);
        }
        take(&mut receivers, &settings);
        for _ in 0..64 {
            receivers.ended("https://dead", SLOW, Ending::Failed);
            receivers.ended("https://slow", SLOW, Ending::Answered);
        }
        assert_eq!(receivers.known["https://dead"].window, 1);
        assert_eq!(receivers.known["https://slow"].window, 8);
        // And back: five answers and it is as if it were new, or better.
        for _ in 0..7 {
            assert!(
                !take(&mut receivers, &settings).is_empty() || receivers.known["https://dead"].in_flight > 0
            );
            receivers.ended("https://dead", QUICK, Ending::Answered);
        }
        assert_eq!(receivers.known["https://dead"].window, 8);
    }

    #[test]
    fn receivers_take_turns_and_so_do_the_calls_of_each() {
        let settings = Settings { max_attempts: 12, ..Settings::default() };
        let mut receivers = waiting(&["https://a", "https://b"], 5);
        assert_eq!(take(&mut receivers, &settings), [0, 1000, 1, 1001, 2, 1002]);
        receivers.ended("https://b", SLOW, Ending::Failed);
        receivers.ended("https://b", SLOW, Ending::Failed);
        receivers.ended("https://b", SLOW, Ending::Failed);
        // The window of b is one now. The freed places are taken by a, and by one of b.
        assert_eq!(take(&mut receivers, &settings), [3, 1003, 4]);
    }

    #[test]
    fn half_of_the_places_are_kept_for_those_who_answer_promptly() {
        let settings = Settings { max_attempts: 20, ..Settings::default() };
        let mut receivers = waiting(&["https://good"], 1);
        take(&mut receivers, &settings);
        receivers.ended("https://good", QUICK, Ending::Answered);
        for number in 0..50_u128 {
            let name = named(&format!("https://dead-{number}"));
            for call in 0..8 {
                receivers.owe(&name);
                receivers.wait(&name, CallId(1_000_000 + number * 1000 + call));
            }
        }
        assert_eq!(take(&mut receivers, &settings).len(), 10);
        for call in 0..8 {
            receivers.owe(&named("https://good"));
            receivers.wait("https://good", CallId(call));
        }
        assert_eq!(take(&mut receivers, &settings), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn only_so_many_receivers_are_remembered_and_those_with_something_to_tell_always() {
        let mut receivers = waiting(&["https://owing"], 1);
        for number in 0..3_000 {
            let name = named(&format!("https://bot-{number}"));
            receivers.owe(&name);
            receivers.settle(&name, 1);
        }
        assert_eq!(receivers.known.len(), IDLE_KNOWN + 1);
        assert!(
            receivers.known.contains_key("https://owing") && receivers.known.contains_key("https://bot-2999")
        );
    }
}
