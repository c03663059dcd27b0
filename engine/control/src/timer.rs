//! What is to happen when: deadlines go in, the one that is due comes out.

use std::collections::BTreeSet;

use holdmusic_media::{LegId, MediaTime};

use crate::id::{CallId, OperationId, ParticipantId};

/// A deadline's meaning. Who sets one remembers its moment, so as to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A hold has waited long enough for its prompt.
    Grace(CallId, ParticipantId),
    /// An operation must end.
    Bound(CallId, OperationId),
    /// A hold has lasted long enough.
    Longest(CallId, ParticipantId),
    /// A stop must be answered, with a report or without.
    StopAnswer(LegId, u64),
    /// A report is lost.
    StopLost(LegId, u64),
    /// A notification is to be tried again.
    Notify(CallId),
    /// Somebody has listened in for long enough.
    Listening(LegId),
    /// A call was not kept alive.
    Lifetime(CallId),
    /// An ended call is to be forgotten.
    Retention(CallId),
    /// The store is to be told that the engine lives.
    Heartbeat,
    /// The source unused longest is to be released.
    Unused,
}

/// All deadlines, in order.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(MediaTime, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: MediaTime, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, at: Option<MediaTime>, timer: Timer) {
        if let Some(at) = at {
            self.0.remove(&(at, timer));
        }
    }

    /// Takes the first deadline that has passed at `now`.
    pub(crate) fn due(&mut self, now: MediaTime) -> Option<Timer> {
        let &(at, timer) = self.0.first()?;
        (at <= now).then(|| {
            self.0.pop_first();
            timer
        })
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> MediaTime {
        self.0.first().map_or(MediaTime::NEVER, |&(at, _)| at)
    }
}
