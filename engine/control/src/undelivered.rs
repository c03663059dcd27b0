//! Notifications that were given up: kept for reading, told again or thrown away when the customer asks for it.

use std::{collections::BTreeMap, sync::Arc};

use holdmusic_media::{Now, WallTime};

use crate::{
    Control,
    access::{Identity, OwnerKey},
    graph::{Answer, Query, Refusal, Writer},
    id::{CallId, NotificationId},
    notification::Says,
    receivers::Callback,
    settings::Settings,
};

/// A notification that was given up. It does not need its call any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// Its name.
    pub(crate) notification: NotificationId,
    /// Whose it is.
    pub(crate) call: CallId,
    /// Whose the call is: who may see this, and for whom its token is signed.
    pub(crate) owner: Arc<Identity>,
    /// Where it should have gone.
    pub(crate) callback: Callback,
    /// Why it did not, without secrets.
    pub(crate) reason: String,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When what it tells happened.
    pub(crate) created: WallTime,
    /// When it was given up.
    pub(crate) given_up: WallTime,
    /// What it says, in JSON; `None` for a roster update that was never tried and so never written.
    pub(crate) body: Option<Arc<str>>,
}

/// All that were given up and are kept.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    /// In the order in which they were given up.
    entries: BTreeMap<u64, Undelivered>,
    numbers: BTreeMap<NotificationId, u64>,
    /// How many each receiver has.
    of_receiver: BTreeMap<Arc<str>, usize>,
    /// Of all bodies.
    bytes: usize,
    last: u64,
    /// What came or left since it was last asked for.
    changed: Vec<NotificationId>,
}

impl GivenUp {
    /// Keeps one. Beyond the limits the oldest leave of the receiver that has most: one that is dead does not cost the
    /// others theirs.
    pub(crate) fn push(&mut self, entry: Undelivered, settings: &Settings) {
        self.last += 1;
        self.insert(self.last, entry);
        while self.entries.len() > settings.max_undelivered || self.bytes > settings.max_undelivered_bytes {
            let Some(oldest) = self.oldest_of_most() else { break };
            self.remove(oldest);
        }
    }

    /// As it was when its record was written.
    pub(crate) fn restore(&mut self, number: u64, entry: Undelivered) {
        self.last = self.last.max(number);
        self.insert(number, entry);
        self.changed.clear();
    }

    fn insert(&mut self, number: u64, entry: Undelivered) {
        self.changed.push(entry.notification);
        self.bytes += entry.body.as_ref().map_or(0, |body| body.len());
        *self.of_receiver.entry(Arc::clone(&entry.callback.receiver)).or_default() += 1;
        self.numbers.insert(entry.notification, number);
        self.entries.insert(number, entry);
    }

    /// What came or left since this was last asked.
    pub(crate) fn changed(&mut self) -> impl Iterator<Item = NotificationId> {
        self.changed.drain(..)
    }

    /// The one of that name, and its place in the order.
    pub(crate) fn numbered(&self, id: NotificationId) -> Option<(u64, &Undelivered)> {
        let number = *self.numbers.get(&id)?;
        Some((number, self.entries.get(&number)?))
    }

    fn oldest_of_most(&self) -> Option<NotificationId> {
        let (most, _) = self.of_receiver.iter().max_by_key(|(_, count)| **count)?;
        let mut entries = self.entries.values();
        entries.find(|entry| entry.callback.receiver == *most).map(|entry| entry.notification)
    }

    /// The one of that name.
    pub(crate) fn get(&self, id: NotificationId) -> Option<&Undelivered> {
        self.entries.get(self.numbers.get(&id)?)
    }

    /// Takes the one of that name out.
    pub(crate) fn remove(&mut self, id: NotificationId) -> Option<Undelivered> {
        let entry = self.entries.remove(&self.numbers.remove(&id)?)?;
        self.changed.push(id);
        self.bytes -= entry.body.as_ref().map_or(0, |body| body.len());
        let receiver = &entry.callback.receiver;
        if let Some(count) = self.of_receiver.get_mut(receiver) {
            *count -= 1;
            if *count == 0 {
                self.of_receiver.remove(receiver);
            }
        }
        Some(entry)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Undelivered> {
        self.entries.values()
    }
}

/// What came of a wish to tell one again.
enum Again {
    /// It is owed again.
    Owed,
    /// Too much is owed already; it stays where it was.
    Full,
    /// It would tell who is in the call, and there is none any more; it stays where it was.
    NoRoster,
}

impl Control {
    /// What `owner` may see: what is about calls of theirs, whether the calls are still known or not.
    fn listed(&self, owner: OwnerKey) -> impl Iterator<Item = &Undelivered> {
        let identity = &self.owners.of(owner).identity;
        self.notifications.undelivered.iter().filter(move |entry| entry.owner == *identity)
    }

    /// The one of that name, if `owner` may see it. That others have one of that name is nobody's business.
    fn listed_one(&self, owner: OwnerKey, id: NotificationId) -> Result<&Undelivered, Refusal> {
        let entry = self.notifications.undelivered.get(id);
        let theirs = entry.filter(|entry| entry.owner == self.owners.of(owner).identity);
        theirs.ok_or_else(|| Refusal::unknown_notification(id))
    }

    pub(crate) fn list_undelivered(&self, base: &str, owner: OwnerKey, query: &Query) -> Answer {
        let entries: Vec<_> = self.listed(owner).collect();
        Writer { base }.undelivered_all(&entries, query)
    }

    pub(crate) fn read_undelivered(
        &self,
        base: &str,
        owner: OwnerKey,
        id: NotificationId,
        query: &Query,
    ) -> Result<Answer, Refusal> {
        Ok(Writer { base }.undelivered(200, self.listed_one(owner, id)?, query))
    }

    pub(crate) fn drop_undelivered(
        &mut self,
        owner: OwnerKey,
        id: NotificationId,
    ) -> Result<Answer, Refusal> {
        self.listed_one(owner, id)?;
        self.notifications.undelivered.remove(id);
        Ok(Answer { status: 204, location: None, body: None })
    }

    /// One is told again. The answer shows it as it was listed.
    pub(crate) fn redeliver(
        &mut self,
        now: Now,
        base: &str,
        owner: OwnerKey,
        id: NotificationId,
    ) -> Result<Answer, Refusal> {
        let entry = self.listed_one(owner, id)?;
        let (call, answer) = (entry.call, Writer { base }.undelivered(202, entry, &Query::default()));
        match self.tell_again(now, id) {
            Again::Owed => Ok(answer),
            Again::Full => {
                let words = "So many notifications are owed to this receiver that no more can be added.";
                Err(Refusal::unavailable(words, 5))
            }
            Again::NoRoster => Err(Refusal::no_roster_any_more(call)),
        }
    }

    /// All of `owner`'s are told again, oldest first, as far as there is room. Roster updates of calls that are gone are
    /// thrown away.
    pub(crate) fn redeliver_all(&mut self, now: Now, owner: OwnerKey) -> Answer {
        let ids: Vec<_> = self.listed(owner).map(|entry| entry.notification).collect();
        let (mut owed, mut left, mut dropped) = (0, 0, 0);
        for id in ids {
            match self.tell_again(now, id) {
                Again::Owed => owed += 1,
                Again::Full => left += 1,
                Again::NoRoster => {
                    self.notifications.undelivered.remove(id);
                    dropped += 1;
                }
            }
        }
        crate::graph::redelivered(owed, left, dropped)
    }

    fn tell_again(&mut self, now: Now, id: NotificationId) -> Again {
        let Some(entry) = self.notifications.undelivered.get(id) else { return Again::Full };
        if !self.notifications.has_room_for(entry, &self.settings) {
            return Again::Full;
        }
        let call = entry.call;
        let says = match &entry.body {
            Some(body) => Says::Text(Arc::clone(body)),
            // Never written: it tells who is in the call now, as a change of now.
            None => match self.live_call_mut(call) {
                Ok(live) => Says::Roster(live.next_etag()),
                Err(_) => return Again::NoRoster,
            },
        };
        if let Some(entry) = self.notifications.undelivered.remove(id) {
            self.notifications.owe_again(now, entry, says);
            self.to_notify.push(call);
        }
        Again::Owed
    }
}
