//! [`Customer`]: the receiver of a bot's notifications, in whatever manner it answers.

use std::{collections::VecDeque, time::Duration};

use holdmusic_control::{DeliveryOutcome, NotificationId};
use holdmusic_media::MediaTime;
use serde_json::Value;

/// How a customer's web server answers one POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// 200, after so long.
    Accepts(Duration),
    /// 503, after so long.
    Fails(Duration),
    /// It takes the notification and hangs up without an answer: the engine cannot know.
    TakesAndDrops,
    /// Nothing at all; the door gives up after ten seconds.
    Hangs,
    /// 400: it will never want it.
    Refuses,
}

/// How long a usual answer takes.
const USUAL: Manner = Manner::Accepts(Duration::from_millis(3));

/// When the door gives up waiting (`webhook.rs`).
const GIVEN_UP: Duration = Duration::from_secs(10);

/// A POST that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: MediaTime,
    /// Its name, the same in every attempt.
    pub notification: NotificationId,
    /// 1 for the first.
    pub number: u32,
}

/// A notification that the customer has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: MediaTime,
    /// Its name.
    pub notification: NotificationId,
    /// The one notification in the body's `value`.
    pub what: Value,
}

impl Told {
    /// `changeType`.
    pub fn change(&self) -> &str {
        self.what["changeType"].as_str().unwrap_or_default()
    }

    /// The last word of `resourceUrl`.
    pub fn resource_id(&self) -> &str {
        self.what["resourceUrl"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
    }

    /// Whether it tells of the end of `operation`.
    pub fn ends(&self, operation: &str) -> bool {
        self.change() == "deleted" && self.resource_id() == operation
    }
}

/// Whoever answers at a callback URI.
#[derive(Debug, Default)]
pub struct Customer {
    /// Every POST that came, in order.
    pub attempts: Vec<Attempt>,
    /// Every notification that was taken, in order.
    pub told: Vec<Told>,
    next: VecDeque<Manner>,
    usual: Option<Manner>,
}

impl Customer {
    /// The next POSTs are answered like this, one after the other.
    pub fn next_answers(&mut self, manners: impl IntoIterator<Item = Manner>) {
        self.next.extend(manners);
    }

    /// What [`Customer::next_answers`] said and has not come to pass yet is forgotten.
    pub fn forget_answers(&mut self) {
        self.next.clear();
    }

    /// From now on POSTs are answered like this.
    pub fn answers(&mut self, manner: Manner) {
        self.usual = Some(manner);
    }

    /// The notifications of one operation's end.
    pub fn ends_of(&self, operation: &str) -> Vec<&Told> {
        self.told.iter().filter(|told| told.ends(operation)).collect()
    }

    /// Takes a POST; what the door will tell of it, and after how long.
    pub(crate) fn post(
        &mut self,
        at: MediaTime,
        notification: NotificationId,
        number: u32,
        body: &str,
    ) -> (Duration, DeliveryOutcome) {
        self.attempts.push(Attempt { at, notification, number });
        let manner = self.next.pop_front().or(self.usual).unwrap_or(USUAL);
        let retry = |reason: &str| DeliveryOutcome::Retry { reason: reason.to_owned(), after: None };
        let (after, outcome) = match manner {
            Manner::Accepts(after) => (after, DeliveryOutcome::Accepted),
            Manner::Fails(after) => (after, retry("503 Service Unavailable")),
            Manner::TakesAndDrops => (Duration::from_millis(1), retry("the connection was closed")),
            Manner::Hangs => (GIVEN_UP, retry("no answer in time")),
            Manner::Refuses => {
                (Duration::from_millis(1), DeliveryOutcome::Refused { reason: "400 Bad Request".to_owned() })
            }
        };
        if matches!(manner, Manner::Accepts(_) | Manner::TakesAndDrops) {
            let body: Value = serde_json::from_str(body).expect("notifications are JSON");
            let all = body["value"].as_array().expect("a notification has its value");
            let [what] = &all[..] else { panic!("one notification in one POST, found {}", all.len()) };
            self.told.push(Told { at, notification, what: what.clone() });
        }
        (after, outcome)
    }
}
