//! What an application's operators see at a glance: their calls, newest first, with who is in them, what is heard, and
//! what was asked for. The console asks for it once a second, so its price is bounded, however full the house is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdmusic_media::{Now, SourceId};

use crate::{
    Control,
    access::OwnerKey,
    call::Call,
    graph::{Answer, OverviewRows},
    id::{CallId, OperationId},
    operation::Operation,
    participant::Participant,
    prompt::DEFAULT_SOURCE,
};

/// Calls that are shown: more than a page of the console.
const CALLS: usize = 100;

/// Participants that are shown, and how many of one call: a conference does not hide the other calls.
const PARTICIPANTS: usize = 200;
const PARTICIPANTS_OF_CALL: usize = 20;

/// Participants that are looked at to find those who are on hold. Calls that are reached later show how many they have.
const LOOKED_AT: usize = 2_000;

/// Operations that are shown, and how many of one call that are still at hand.
const OPERATIONS: usize = 100;
const OPERATIONS_OF_CALL: usize = 10;

/// Prompts that are shown.
const PROMPTS: usize = 100;

/// Operations that are over and remembered, of all applications: most leave memory for the store at once.
const REMEMBERED: usize = 512;

/// What makes it cheap.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    /// Calls that have not ended, in the order in which their owners made them.
    calls: BTreeSet<(OwnerKey, u64, CallId)>,
    /// Operations that were over last, the latest last.
    over: VecDeque<(OwnerKey, CallId, Operation)>,
}

impl Glance {
    /// A call came.
    pub(crate) fn add(&mut self, call: &Call) {
        self.calls.insert((call.owner, call.number, call.id));
    }

    /// A call ended.
    pub(crate) fn remove(&mut self, call: &Call) {
        self.calls.remove(&(call.owner, call.number, call.id));
    }

    /// An operation is over.
    pub(crate) fn remember(&mut self, call: &Call, operation: &Operation) {
        if self.over.len() == REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((call.owner, call.id, operation.clone()));
    }

    /// The calls of `owner`, newest first.
    fn calls(&self, owner: OwnerKey) -> impl Iterator<Item = CallId> {
        let all = (owner, u64::MIN, CallId(u128::MIN))..=(owner, u64::MAX, CallId(u128::MAX));
        self.calls.range(all).rev().map(|&(.., id)| id)
    }
}

impl Control {
    /// Everything that `owner` may see, within the limits above.
    pub(crate) fn overview(&self, now: Now, owner: OwnerKey) -> Answer {
        let calls: Vec<&Call> = self
            .glance
            .calls(owner)
            .filter_map(|id| self.calls.get(&id))
            .map(Box::as_ref)
            .take(CALLS)
            .collect();
        let mut rows = OverviewRows::new(now, &self.settings.media_locals);
        let theirs = self.owners.of(owner);
        rows.totals(theirs.calls, theirs.held, theirs.preparing, calls.len());
        let (mut shown, mut looked_at) = (0, 0);
        let mut sources: BTreeMap<SourceId, usize> = BTreeMap::from([(DEFAULT_SOURCE, 0)]);
        for call in &calls {
            rows.call(call);
            let least = call.prefetched.iter().copied().chain(call.default_source);
            for source in least.chain(call.plays.iter().flat_map(|play| play.sources())).take(PROMPTS) {
                sources.entry(source).or_default();
            }
            let room = PARTICIPANTS_OF_CALL.min(PARTICIPANTS - shown);
            for participant in first(call, room, &mut looked_at) {
                shown += 1;
                let hold = participant.hold.as_deref();
                let (playing, wanted) =
                    (hold.and_then(|hold| hold.playing), hold.and_then(|hold| hold.wants));
                let plays = playing.and_then(|source| self.prompts.prompt(source));
                rows.participant(call, participant, plays.map(|prompt| &**prompt));
                if let Some(playing) = playing {
                    *sources.entry(playing).or_default() += 1;
                }
                if let Some(wanted) = wanted {
                    sources.entry(wanted).or_default();
                }
            }
        }
        for (call, operation) in self.latest(owner, &calls) {
            rows.operation(call, operation);
        }
        for (source, holds) in sources.into_iter().take(PROMPTS) {
            let (prompt, facts) = (self.prompts.prompt(source), self.prompts.facts_at_all(source));
            if source == DEFAULT_SOURCE || prompt.is_some() {
                rows.prompt(source, prompt.map(|prompt| &**prompt), facts, holds);
            }
        }
        rows.answer()
    }

    /// The operations that `owner` asked for last: those of these calls that are at hand, and those that were over last.
    fn latest<'a>(&'a self, owner: OwnerKey, calls: &[&'a Call]) -> Vec<(CallId, &'a Operation)> {
        let at_hand = calls.iter().flat_map(|call| {
            call.operations.latest().take(OPERATIONS_OF_CALL).map(|operation| (call.id, operation))
        });
        let mut found: Vec<(CallId, &Operation)> = at_hand.collect();
        let named: BTreeSet<OperationId> = found.iter().map(|(_, operation)| operation.id).collect();
        let over = self.glance.over.iter().filter(|(whose, ..)| *whose == owner);
        found.extend(
            over.filter(|(.., operation)| !named.contains(&operation.id))
                .map(|(_, call, operation)| (*call, operation)),
        );
        found.sort_by_key(|(_, operation)| std::cmp::Reverse((operation.accepted, operation.number)));
        found.truncate(OPERATIONS);
        found
    }
}

/// Participants of a call, those on hold first, then in the order of their registration.
fn first<'a>(call: &'a Call, room: usize, looked_at: &mut usize) -> Vec<&'a Participant> {
    let look_at = if room == 0 { 0 } else { LOOKED_AT - *looked_at };
    let mut found: Vec<_> = call.participants.values().map(Box::as_ref).take(look_at).collect();
    *looked_at += found.len();
    found.sort_by_key(|participant| (participant.hold.is_none(), participant.number));
    found.truncate(room);
    found
}
