//! Operations that are read: those at hand, and those that are over and in the store alone, which has to be asked.
//!
//! An operation leaves memory when it is over, the store has it as it is, and nothing will be done with it any more: no
//! hold repeats it, and no report is waited for that belongs into it.

use std::sync::Arc;

use holdmusic_media::MediaTime;

use crate::{
    Control, Output,
    access::OwnerKey,
    graph::{Answer, Query, Refusal, Writer, matches},
    id::{CallId, OperationId, RequestId},
    operation::{Operation, OperationKind},
    record::{Key, Record, read_operations},
};

/// Requests that wait for what the store has at a time.
const MAX_LOADING: usize = 64;

/// A request that waits for what the store has.
#[derive(Debug)]
pub(crate) struct Loading {
    base: Arc<str>,
    owner: OwnerKey,
    call: CallId,
    wanted: Wanted,
}

/// What is to be read.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// One operation.
    One(OperationId, Query),
    /// All that a filter lets through.
    All(Query),
}

impl Control {
    /// Reads operations of a call. `None` means that the answer follows when the store has been asked.
    pub(crate) fn read_operations(
        &mut self,
        request: RequestId,
        base: &Arc<str>,
        owner: OwnerKey,
        call_id: CallId,
        wanted: Wanted,
    ) -> Option<Result<Answer, Refusal>> {
        let Some(call) = self.calls.get(&call_id) else { return Some(Err(Refusal::unknown_call(call_id))) };
        let key = match &wanted {
            Wanted::One(id, query) => {
                if let Some(operation) = call.operation(*id) {
                    return Some(Ok(Writer { base }.operation(call, operation, query)));
                }
                if call.operations.shelved().len() == 0 {
                    return Some(Err(Refusal::unknown_operation(*id)));
                }
                Key::Operation(call_id, *id).to_bytes()
            }
            Wanted::All(query) => {
                if call.operations.shelved().len() == 0 {
                    let operations: Vec<_> =
                        call.operations.iter().filter(|operation| matches(operation, query)).collect();
                    return Some(Ok(Writer { base }.operations(call, &operations, query)));
                }
                Key::operations_of(call_id)
            }
        };
        // Without the store there is nobody to ask, and a few at a time are enough: each may be of a thousand records.
        if let Err(refusal) = self.store_refuses() {
            return Some(Err(refusal));
        }
        if self.loading.len() >= MAX_LOADING {
            let words =
                format!("{MAX_LOADING} requests wait for operations that are over; at most so many may.");
            return Some(Err(Refusal::unavailable(words, 1)));
        }
        let loading = Loading { base: Arc::clone(base), owner, call: call_id, wanted };
        self.loading.insert(request, loading);
        self.outputs.push_back(Output::Load { request, prefix: key });
        None
    }

    /// The store has been asked.
    pub(crate) fn loaded(
        &mut self,
        now: MediaTime,
        request: RequestId,
        records: Result<Vec<Record>, String>,
    ) {
        let Some(Loading { base, owner, call: id, wanted }) = self.loading.remove(&request) else { return };
        let owner = Some(owner);
        let read = records.and_then(|records| read_operations(&records).map_err(|error| error.to_string()));
        let result = match (self.calls.get(&id), read) {
            (None, _) => Err(Refusal::unknown_call(id)),
            (Some(_), Err(reason)) => {
                Err(Refusal::unavailable(format!("Operations that are over cannot be read: {reason}."), 5))
            }
            (Some(call), Ok(read)) => {
                // What is at hand is newer, and what left meanwhile is gone.
                let shelved = |operation: &&Operation| {
                    call.operations.has(operation.number) && call.operation(operation.id).is_none()
                };
                let mut all: Vec<_> = read.iter().filter(shelved).chain(call.operations.iter()).collect();
                match &wanted {
                    Wanted::One(id, query) => match all.into_iter().find(|operation| operation.id == *id) {
                        Some(operation) => Ok(Writer { base: &base }.operation(call, operation, query)),
                        None => Err(Refusal::unknown_operation(*id)),
                    },
                    Wanted::All(query) => {
                        all.retain(|operation| matches(operation, query));
                        all.sort_by_key(|operation| operation.number);
                        Ok(Writer { base: &base }.operations(call, &all, query))
                    }
                }
            }
        };
        self.reply(now, request, Some((Some(id), None)), owner, result);
    }

    /// Operations of which the store has everything stay there alone, as far as nothing will be done with them any more.
    pub(crate) fn shelve(&mut self) {
        let (stored, next) = self.durability.progress();
        for _ in 0..self.settled.len() {
            let Some(&(ticket, call_id, id)) = self.settled.front().filter(|(ticket, ..)| *ticket <= stored)
            else {
                return;
            };
            self.settled.pop_front();
            let Some(call) = self.calls.get(&call_id) else { continue };
            if call.ticket > stored {
                self.settled.push_back((call.ticket.max(ticket), call_id, id));
                continue;
            }
            let Some(operation) = call.operation(id).filter(|operation| operation.is_over()) else {
                continue;
            };
            let holds = call.participants.get(&operation.participant);
            if holds.and_then(|one| one.hold.as_ref()).is_some_and(|hold| hold.operations.contains(&id)) {
                // It is looked at again when the hold ends.
                continue;
            }
            let reported = operation.facts.nothing_to_stop || operation.facts.stopped.is_some();
            let is_stop = operation.kind == OperationKind::StopHoldMusic;
            if is_stop && !reported && self.awaits_report_for(id) {
                self.settled.push_back((next, call_id, id));
                continue;
            }
            if let Some(call) = self.calls.get_mut(&call_id) {
                call.operations.shelve(id);
            }
        }
    }

    /// Nothing will be done any more with an operation that a hold had.
    pub(crate) fn let_go(&mut self, call: CallId, id: OperationId) {
        if self.settings.durable {
            let (_, next) = self.durability.progress();
            self.settled.push_back((next, call, id));
        }
    }
}
