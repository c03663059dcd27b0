//! Who is owed what, in which order, and when to try again.

use std::time::Duration;

use holdmusic_media::WallTime;

use crate::id::{CallId, NotificationId};

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
    /// What it would have said; empty if it was never written because it was never tried.
    pub body: std::sync::Arc<str>,
}
