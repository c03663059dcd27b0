//! A call and who is in it: its rules, its participants, its operations.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{MediaTime, SourceId, WallTime};
use litemap::LiteMap;

use crate::{
    access::OwnerKey,
    announce::Play,
    graph::{Refusal, StatusCase},
    id::{CallId, OperationId, ParticipantId},
    operation::Operation,
    participant::Participant,
    prompt::Prompt,
    receivers::Callback,
};

/// What happens when a prompt fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPromptFailure {
    /// Default music plays and the operation completes, saying why.
    #[default]
    DefaultMusic,
    /// The operation fails, and a hold that it began ends.
    Fail,
}

/// When a start operation completes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompletesWhen {
    /// When the first packet of what was asked for has left.
    #[default]
    MusicStarts,
    /// When the hold ends.
    MusicEnds,
}

/// How holds behave in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRules {
    /// Participants on hold at the same time.
    pub max_held: usize,
    /// What happens when a prompt fails.
    pub on_prompt_failure: OnPromptFailure,
    /// When a start operation completes.
    pub completes_when: CompletesWhen,
    /// How `status` is spelled.
    pub status_case: StatusCase,
    /// The longest a hold may last.
    pub max_duration: Option<Duration>,
}

impl Default for HoldRules {
    fn default() -> Self {
        Self {
            max_held: 1,
            on_prompt_failure: OnPromptFailure::default(),
            completes_when: CompletesWhen::default(),
            status_case: StatusCase::default(),
            max_duration: None,
        }
    }
}

/// One call. After its end it stays for the retention time, so that its operations can be read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    /// Whose it is.
    pub(crate) owner: OwnerKey,
    /// Order of creation.
    pub(crate) number: u64,
    /// Where notifications go. A bot has thousands of calls and few addresses, so they share it.
    pub(crate) callback: Arc<Callback>,
    pub(crate) rules: HoldRules,
    /// The call's own default music, and its source while it is being prepared or is ready.
    pub(crate) default_prompt: Option<Box<Prompt>>,
    pub(crate) default_source: Option<SourceId>,
    /// Prompts that are kept ready for it (`preFetchMedia`).
    pub(crate) prefetched: Box<[SourceId]>,
    /// Members of Graph's call that are given back as they came, in JSON: as text they take a tenth of the memory of a
    /// tree.
    pub(crate) echo: Option<Box<str>>,
    pub(crate) my_participant: ParticipantId,
    pub(crate) created: WallTime,
    pub(crate) participants: LiteMap<ParticipantId, Box<Participant>>,
    pub(crate) operations: Operations,
    /// How many of them are over.
    pub(crate) over: usize,
    /// Participants on hold.
    pub(crate) held: usize,
    /// Prompts that wait to be heard or are heard (`playPrompt`), in order.
    pub(crate) plays: Vec<Play>,
    /// Whether the bot has muted itself.
    pub(crate) muted: bool,
    /// Version of the resources of the call, told as `@odata.etag`.
    pub(crate) etag: u64,
    /// Numbers given to operations and participants.
    pub(crate) numbers: u64,
    /// When the lifetime without keepAlive is over.
    pub(crate) expires: Option<MediaTime>,
    /// When it ended, if it did.
    pub(crate) ended: Option<MediaTime>,
    /// The last change of it that went to the store.
    pub(crate) ticket: u64,
}

impl Call {
    /// The next version.
    pub(crate) fn next_etag(&mut self) -> u64 {
        self.etag += 1;
        self.etag
    }

    /// The next number.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The participant `id`.
    pub(crate) fn participant(&self, id: ParticipantId) -> Result<&Participant, Refusal> {
        self.participants.get(&id).map(Box::as_ref).ok_or_else(|| Refusal::unknown_participant(id))
    }

    /// The codecs in which those of `audience` hear something who are there; no audience is everybody.
    pub(crate) fn codecs(&self, audience: &[ParticipantId]) -> BTreeSet<Codec> {
        let hears = |one: &&Participant| audience.is_empty() || audience.contains(&one.id);
        let people = self.participants.values().map(Box::as_ref).filter(hears);
        let legs = people.filter_map(|one| one.leg.as_ref()).filter(|leg| leg.can_hear());
        legs.map(|leg| leg.spec.codec).collect()
    }

    /// The participant `id`, to be changed.
    pub(crate) fn participant_mut(&mut self, id: ParticipantId) -> Result<&mut Participant, Refusal> {
        self.participants.get_mut(&id).map(Box::as_mut).ok_or_else(|| Refusal::unknown_participant(id))
    }

    /// Participants in the order in which they were registered.
    pub(crate) fn roster(&self) -> Vec<&Participant> {
        let mut roster: Vec<_> = self.participants.values().map(Box::as_ref).collect();
        roster.sort_by_key(|participant| participant.number);
        roster
    }

    /// The operation `id`.
    pub(crate) fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(id)
    }
}

/// The operations of a call in the order in which they were accepted, which is that of their numbers. Who asks for one by
/// its name mostly asks for one of the last.
#[derive(Debug)]
pub(crate) struct Operations {
    at_hand: VecDeque<(OperationId, Box<Operation>)>,
    /// Number and name of those that are over and in the store alone. A box, since few calls have any.
    #[expect(
        clippy::box_collection,
        reason = "a third of the size where there are none, in thousands of calls"
    )]
    shelved: Option<Box<VecDeque<(u64, OperationId)>>>,
}

impl Operations {
    /// None yet, with room for one: most calls have one hold, and there are thousands of them.
    pub(crate) fn new() -> Self {
        Self { at_hand: VecDeque::with_capacity(1), shelved: None }
    }

    /// All of them.
    pub(crate) fn len(&self) -> usize {
        self.at_hand.len() + self.shelved().len()
    }

    /// Names of those that are in the store alone.
    pub(crate) fn shelved(&self) -> impl ExactSizeIterator<Item = (u64, OperationId)> {
        self.shelved.as_deref().map(|shelved| shelved.iter().copied()).unwrap_or_default()
    }

    /// One that is over stays in the store alone.
    pub(crate) fn shelve(&mut self, id: OperationId) {
        let Some(at) = self.at_hand.iter().position(|(name, operation)| *name == id && operation.is_over())
        else {
            return;
        };
        let Some((id, operation)) = self.at_hand.remove(at) else { return };
        let shelved = self.shelved.get_or_insert_default();
        let place = shelved.partition_point(|(number, _)| *number < operation.number);
        shelved.insert(place, (operation.number, id));
    }

    /// Those at hand, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.at_hand.iter().map(|(_, operation)| &**operation)
    }

    /// Those at hand, the latest first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = &Operation> {
        self.at_hand.iter().rev().map(|(_, operation)| &**operation)
    }

    /// The one at hand with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Operation> {
        self.at(number).map(|at| &*self.at_hand[at].1)
    }

    pub(crate) fn get(&self, id: OperationId) -> Option<&Operation> {
        self.at_hand.iter().rev().find(|(name, _)| *name == id).map(|(_, operation)| &**operation)
    }

    pub(crate) fn get_mut(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.at_hand.iter_mut().rev().find(|(name, _)| *name == id).map(|(_, operation)| &mut **operation)
    }

    /// One more, with the highest number so far.
    pub(crate) fn push(&mut self, operation: Operation) {
        self.at_hand.push_back((operation.id, Box::new(operation)));
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.at_hand.binary_search_by_key(&number, |(_, operation)| operation.number).ok()
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        self.at(number).is_some() || self.shelved_at(number).is_some()
    }

    /// Takes one out, if there is such a one: its name.
    pub(crate) fn remove(&mut self, number: u64) -> Option<OperationId> {
        match self.at(number) {
            Some(found) => self.at_hand.remove(found).map(|(id, _)| id),
            None => {
                let found = self.shelved_at(number)?;
                self.shelved.as_mut()?.remove(found).map(|(_, id)| id)
            }
        }
    }

    /// Takes out the one that was accepted first, of those that are over: its name.
    pub(crate) fn remove_oldest_over(&mut self) -> Option<OperationId> {
        let at_hand = self.iter().find(|operation| operation.is_over()).map(|operation| operation.number);
        let shelved = self.shelved().next().map(|(number, _)| number);
        self.remove(at_hand.into_iter().chain(shelved).min()?)
    }

    fn shelved_at(&self, number: u64) -> Option<usize> {
        self.shelved.as_ref()?.binary_search_by_key(&number, |(number, _)| *number).ok()
    }
}
