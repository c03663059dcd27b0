//! What was asked for: a prompt by URI and resourceId goes in, a source that all its listeners share comes out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{MediaTime, SourceId};
use url::Url;

use crate::{
    PromptFailure,
    access::OwnerKey,
    data_uri::DataUri,
    guard::redact,
    id::{CallId, OperationId, ParticipantId},
};

/// The built-in default music: always ready, in every codec.
pub const DEFAULT_SOURCE: SourceId = SourceId(0);

/// Where the bytes of a prompt come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Fetched by `http` or `https`.
    Web(Url),
    /// A file in the operator's directory (`--prompts`), named by a `file` URI whose path begins there.
    Directory(Url),
    /// In the URI itself.
    Data(Arc<DataUri>),
}

impl Origin {
    /// As messages may show it, without secrets.
    pub fn redacted(&self) -> String {
        match self {
            Self::Web(url) | Self::Directory(url) => redact(url),
            Self::Data(data) => data.redacted(),
        }
    }
}

/// What a customer asked to hear (Graph: `mediaPrompt` with its `mediaInfo`). Two prompts are the same if both
/// members are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prompt {
    /// `mediaInfo.uri`.
    pub origin: Origin,
    /// `mediaInfo.resourceId`.
    pub resource_id: Option<String>,
}

/// Facts of a source that is prepared in one codec.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFacts {
    /// Length of the recording in seconds, as far as it is known.
    pub seconds: f64,
    /// Whether all of it is known.
    pub whole: bool,
    /// What the recording was, for people: "WAV, PCM 16 bit, 8000 Hz, mono".
    pub format: String,
    /// Gain that was applied, in dB.
    pub gain_db: f64,
    /// When its first frame could be played.
    pub ready_at: MediaTime,
    /// Memory that it takes, in bytes.
    pub bytes: u64,
    /// How long it may be played again without asking its origin.
    pub freshness: Freshness,
}

/// How long what was fetched may be played again without asking its origin (RFC 9111, RFC 5861).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Until when the origin need not be asked at all.
    pub until: MediaTime,
    /// Until when it is played at once all the same, and the origin is asked meanwhile (`stale-while-revalidate`).
    pub while_asked_until: MediaTime,
    /// Whether it is played in place of default music when the origin takes longer than the grace time to say whether
    /// it is still the same (not with `no-cache` or `must-revalidate`).
    pub when_slow: bool,
}

impl Freshness {
    /// Never asked about again.
    pub const FOR_EVER: Self =
        Self { until: MediaTime::NEVER, while_asked_until: MediaTime::NEVER, when_slow: true };
}

/// Who listens to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listener {
    /// A hold.
    Hold(CallId, ParticipantId),
    /// A call that has it for its default music.
    Call(CallId),
    /// A call that wants to find it ready (`preFetchMedia`).
    Prefetch(CallId),
    /// A `playPrompt` that will play it once, or does.
    Play(CallId, OperationId),
    /// The server, which has it for its default music.
    Server,
    /// Ourselves, while the origin is asked whether it is still the same.
    Refresh,
}

/// One source that is prepared or being prepared: in each codec of those who want to hear it.
#[derive(Debug)]
struct Entry {
    prompt: Arc<Prompt>,
    /// Few, so that looking through them is quickest.
    renditions: Vec<Rendition>,
    listeners: BTreeSet<Listener>,
    /// Since when nobody listens.
    unused: Option<MediaTime>,
    /// What may take its place: the origin is being asked.
    newer: Option<SourceId>,
    /// What it may take the place of, if it turns out to be something else.
    older: Option<SourceId>,
}

/// A source in one codec.
#[derive(Debug)]
struct Rendition {
    codec: Codec,
    /// Once it is ready.
    facts: Option<SourceFacts>,
    /// For whom it is prepared, until it is ready; `None` is the server.
    on_behalf_of: Option<OwnerKey>,
}

impl Entry {
    fn rendition_mut(&mut self, codec: Codec) -> Option<&mut Rendition> {
        self.renditions.iter_mut().find(|rendition| rendition.codec == codec)
    }

    fn facts(&self) -> impl Iterator<Item = &SourceFacts> {
        self.renditions.iter().filter_map(|rendition| rendition.facts.as_ref())
    }

    /// What was said last about how long it is good, as far as that reaches; `None` while it is not ready in any codec.
    fn freshness(&self) -> Option<Freshness> {
        self.facts().map(|facts| facts.freshness).max_by_key(|freshness| freshness.until)
    }

    fn bytes(&self) -> u64 {
        self.facts().map(|facts| facts.bytes).sum()
    }
}

/// What a new hold with a known prompt is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This source: it is fresh, or on its way.
    Fresh(SourceId),
    /// This source, but the origin must be asked first whether it is still the same.
    Stale(SourceId),
    /// This source at once; the origin is to be asked meanwhile.
    StaleMeanwhile(SourceId),
}

/// Prompts whose failure is remembered. With more, the oldest are asked for again.
const MAX_FAILED: usize = 1_000;

/// All sources besides the built-in one. What is asked for twice is prepared once.
#[derive(Debug, Default)]
pub(crate) struct Prompts {
    by_prompt: BTreeMap<Arc<Prompt>, SourceId>,
    entries: BTreeMap<SourceId, Entry>,
    /// Sources that nobody listens to, longest unused first.
    unused: BTreeSet<(MediaTime, SourceId)>,
    unused_bytes: u64,
    preparing: usize,
    /// Those for whom one was prepared that is now ready or gone: to be told to who counts them.
    prepared: Vec<OwnerKey>,
    last: u64,
    /// Prompts that failed a moment ago, why, and until when nobody is asked again; in order of that moment.
    failed: VecDeque<(MediaTime, Arc<Prompt>, PromptFailure)>,
}

impl Prompts {
    /// What is to be heard of `prompt`, if it is known.
    pub(crate) fn find(&self, now: MediaTime, prompt: &Prompt) -> Option<Found> {
        let source = *self.by_prompt.get(prompt)?;
        let entry = &self.entries[&source];
        let Some(freshness) = entry.freshness() else { return Some(Found::Fresh(source)) };
        Some(match entry.newer {
            _ if now < freshness.until => Found::Fresh(source),
            // The origin is being asked already.
            Some(_) if now < freshness.while_asked_until => Found::Fresh(source),
            Some(newer) => Found::Fresh(newer),
            None if now < freshness.while_asked_until => Found::StaleMeanwhile(source),
            None => Found::Stale(source),
        })
    }

    /// Why `prompt` failed a moment ago, if it did.
    pub(crate) fn failed(&mut self, now: MediaTime, prompt: &Prompt) -> Option<PromptFailure> {
        while self.failed.front().is_some_and(|(until, ..)| *until <= now) {
            self.failed.pop_front();
        }
        self.failed.iter().find(|(_, failed, _)| **failed == *prompt).map(|(.., failure)| failure.clone())
    }

    /// The prompt of `source` failed; until then nobody is asked again.
    pub(crate) fn remember_failure(&mut self, source: SourceId, until: MediaTime, failure: &PromptFailure) {
        let Some(entry) = self.entries.get(&source) else { return };
        if self.failed.len() == MAX_FAILED {
            self.failed.pop_front();
        }
        self.failed.push_back((until, entry.prompt.clone(), failure.clone()));
    }

    /// Whether `source` can be played in `codec`.
    pub(crate) fn is_ready(&self, source: SourceId, codec: Codec) -> bool {
        source == DEFAULT_SOURCE || self.facts(source, codec).is_some()
    }

    /// Whether `source` can be played in any codec.
    pub(crate) fn is_ready_at_all(&self, source: SourceId) -> bool {
        source == DEFAULT_SOURCE
            || self.entries.get(&source).is_some_and(|entry| entry.facts().next().is_some())
    }

    /// Facts of `source` in `codec`, once it is ready.
    pub(crate) fn facts(&self, source: SourceId, codec: Codec) -> Option<&SourceFacts> {
        let renditions = &self.entries.get(&source)?.renditions;
        renditions.iter().find(|rendition| rendition.codec == codec)?.facts.as_ref()
    }

    /// Facts of `source` in the first codec in which it is ready, if it is in any.
    pub(crate) fn facts_at_all(&self, source: SourceId) -> Option<&SourceFacts> {
        self.entries.get(&source)?.facts().next()
    }

    /// Whether `source` is prepared in `codec`, or being prepared.
    pub(crate) fn has(&self, source: SourceId, codec: Codec) -> bool {
        source == DEFAULT_SOURCE
            || self
                .entries
                .get(&source)
                .is_some_and(|entry| entry.renditions.iter().any(|rendition| rendition.codec == codec))
    }

    /// `source`, which is known, is prepared in `codec` too from now on.
    pub(crate) fn add_rendition(&mut self, source: SourceId, codec: Codec, on_behalf_of: Option<OwnerKey>) {
        let entry = self.entries.get_mut(&source).expect("it is known");
        entry.renditions.push(Rendition { codec, facts: None, on_behalf_of });
        self.preparing += 1;
    }

    /// Sources known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Sources being prepared.
    pub(crate) fn preparing(&self) -> usize {
        self.preparing
    }

    /// For whom sources were prepared that are ready or gone since this was last asked.
    pub(crate) fn prepared(&mut self) -> impl Iterator<Item = OwnerKey> {
        self.prepared.drain(..)
    }

    /// A new source for `prompt`, which is not known yet and has no listener yet. It is prepared in `codec`.
    pub(crate) fn add(&mut self, prompt: Prompt, codec: Codec, on_behalf_of: Option<OwnerKey>) -> SourceId {
        let prompt = Arc::new(prompt);
        let source = self.add_entry(Arc::clone(&prompt), None);
        self.add_rendition(source, codec, on_behalf_of);
        let before = self.by_prompt.insert(prompt, source);
        assert!(before.is_none(), "a prompt is prepared once");
        source
    }

    fn add_entry(&mut self, prompt: Arc<Prompt>, older: Option<SourceId>) -> SourceId {
        self.last += 1;
        let source = SourceId(self.last);
        let (renditions, listeners) = (Vec::with_capacity(1), BTreeSet::new());
        let entry = Entry { prompt, renditions, listeners, unused: None, newer: None, older };
        self.entries.insert(source, entry);
        source
    }

    /// A source that may take the place of `older`, which is known: its origin is being asked. Both stay until it has
    /// answered ([`Prompts::answered`]).
    pub(crate) fn refresh(
        &mut self,
        older: SourceId,
        codec: Codec,
        on_behalf_of: Option<OwnerKey>,
    ) -> SourceId {
        let prompt = self.entries[&older].prompt.clone();
        let newer = self.add_entry(prompt, Some(older));
        self.add_rendition(newer, codec, on_behalf_of);
        self.entries.get_mut(&older).expect("it is known").newer = Some(newer);
        self.listen(older, Listener::Refresh);
        self.listen(newer, Listener::Refresh);
        newer
    }

    /// What `newer` may take the place of, while that is not known.
    pub(crate) fn older(&self, newer: SourceId) -> Option<SourceId> {
        self.entries.get(&newer)?.older
    }

    /// The source that plays while the origin of `source` takes its time: what it may take the place of.
    pub(crate) fn meanwhile(&self, source: SourceId, codec: Codec) -> Option<SourceId> {
        let older = self.older(source)?;
        self.facts(older, codec).filter(|facts| facts.freshness.when_slow).map(|_| older)
    }

    /// The origin has answered about what `newer` may take the place of; that is left to whom it still has.
    pub(crate) fn answered(&mut self, newer: SourceId) -> Option<SourceId> {
        let older = self.entries.get_mut(&newer)?.older.take()?;
        self.entries.get_mut(&older)?.newer = None;
        Some(older)
    }

    /// From now on the prompt of `older` means `newer`, unless what was known of it has been thrown away meanwhile.
    pub(crate) fn replace(&mut self, older: SourceId, newer: SourceId) {
        if self.is_current(older) {
            let prompt = self.entries[&older].prompt.clone();
            self.by_prompt.insert(prompt, newer);
        }
    }

    /// Whether a new hold may still be given `source`: nothing newer has taken its place, and it was not thrown away.
    pub(crate) fn is_current(&self, source: SourceId) -> bool {
        self.entries.get(&source).is_some_and(|entry| self.by_prompt.get(&entry.prompt) == Some(&source))
    }

    /// No new hold gets what is known of `prompt`, or of all prompts. The sources that it was.
    pub(crate) fn disown(&mut self, prompt: Option<&Prompt>) -> Vec<SourceId> {
        self.failed.retain(|(_, failed, _)| prompt.is_some_and(|prompt| *prompt != **failed));
        match prompt {
            Some(prompt) => self.by_prompt.remove(prompt).into_iter().collect(),
            None => std::mem::take(&mut self.by_prompt).into_values().collect(),
        }
    }

    /// `listener` wants to hear `source` from now on.
    pub(crate) fn listen(&mut self, source: SourceId, listener: Listener) {
        let entry = self.entries.get_mut(&source).expect("only known sources are listened to");
        entry.listeners.insert(listener);
        if let Some(since) = entry.unused.take() {
            self.unused.remove(&(since, source));
            self.unused_bytes -= entry.bytes();
        }
    }

    /// `listener` is gone. Says whether nobody is left.
    pub(crate) fn leave(&mut self, now: MediaTime, source: SourceId, listener: Listener) -> bool {
        let Some(entry) = self.entries.get_mut(&source) else { return false };
        if !entry.listeners.remove(&listener) || !entry.listeners.is_empty() {
            return false;
        }
        entry.unused = Some(now);
        self.unused.insert((now, source));
        self.unused_bytes += entry.bytes();
        true
    }

    /// The source can be played in `codec`. Its listeners, or `None` if it is not known (any more) or was ready before.
    pub(crate) fn ready(
        &mut self,
        source: SourceId,
        codec: Codec,
        facts: SourceFacts,
    ) -> Option<Vec<Listener>> {
        let entry = self.entries.get_mut(&source)?;
        let is_unused = entry.unused.is_some();
        let rendition = entry.rendition_mut(codec).filter(|rendition| rendition.facts.is_none())?;
        if is_unused {
            self.unused_bytes += facts.bytes;
        }
        rendition.facts = Some(facts);
        self.preparing -= 1;
        self.prepared.extend(rendition.on_behalf_of.take());
        Some(entry.listeners.iter().copied().collect())
    }

    /// More is known about a source that is ready in `codec`. It was ready when it was.
    pub(crate) fn update(&mut self, source: SourceId, codec: Codec, facts: SourceFacts) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        let is_unused = entry.unused.is_some();
        let Some(before) = entry.rendition_mut(codec).and_then(|rendition| rendition.facts.as_mut()) else {
            return;
        };
        if is_unused {
            self.unused_bytes = self.unused_bytes + facts.bytes - before.bytes;
        }
        *before = SourceFacts { ready_at: before.ready_at, ..facts };
    }

    /// The origin says that `source` is good for so much longer.
    pub(crate) fn freshen(&mut self, source: SourceId, freshness: Freshness) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        for facts in entry.renditions.iter_mut().filter_map(|rendition| rendition.facts.as_mut()) {
            facts.freshness = freshness;
        }
    }

    /// Forgets the source in `codec`. Whether it is left in others, or being prepared; if not, nothing is forgotten.
    pub(crate) fn remove_rendition(&mut self, source: SourceId, codec: Codec) -> bool {
        let Some(entry) = self.entries.get_mut(&source) else { return false };
        if entry.renditions.iter().all(|rendition| rendition.codec == codec) {
            return false;
        }
        let Some(at) = entry.renditions.iter().position(|rendition| rendition.codec == codec) else {
            return true;
        };
        let Rendition { facts, on_behalf_of, .. } = entry.renditions.remove(at);
        match facts {
            None => {
                self.preparing -= 1;
                self.prepared.extend(on_behalf_of);
            }
            Some(facts) if entry.unused.is_some() => self.unused_bytes -= facts.bytes,
            Some(_) => {}
        }
        true
    }

    /// Forgets the source; its former listeners, or `None` if it is not known.
    pub(crate) fn remove(&mut self, source: SourceId) -> Option<Vec<Listener>> {
        let entry = self.entries.remove(&source)?;
        if entry.unused.is_some() {
            self.unused_bytes -= entry.bytes();
        }
        if self.by_prompt.get(&entry.prompt) == Some(&source) {
            match entry.newer {
                Some(newer) => self.by_prompt.insert(entry.prompt, newer),
                None => self.by_prompt.remove(&entry.prompt),
            };
        }
        if let Some(older) = entry.older.and_then(|older| self.entries.get_mut(&older)) {
            older.newer = None;
        }
        if let Some(newer) = entry.newer.and_then(|newer| self.entries.get_mut(&newer)) {
            newer.older = None;
        }
        for rendition in entry.renditions.into_iter().filter(|rendition| rendition.facts.is_none()) {
            self.preparing -= 1;
            self.prepared.extend(rendition.on_behalf_of);
        }
        if let Some(since) = entry.unused {
            self.unused.remove(&(since, source));
        }
        Some(entry.listeners.into_iter().collect())
    }

    /// What `source` was asked for as.
    pub(crate) fn prompt(&self, source: SourceId) -> Option<&Arc<Prompt>> {
        self.entries.get(&source).map(|entry| &entry.prompt)
    }

    /// `prompt` as what `source` was asked for as, if it is the same: then it takes no more memory.
    pub(crate) fn shared(&self, source: Option<SourceId>, prompt: Prompt) -> Arc<Prompt> {
        let known = source.and_then(|source| self.prompt(source)).filter(|known| ***known == prompt);
        known.cloned().unwrap_or_else(|| Arc::new(prompt))
    }

    /// Who listens to `source`.
    pub(crate) fn listeners(&self, source: SourceId) -> Vec<Listener> {
        self.entries.get(&source).map(|entry| entry.listeners.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether nobody listens to `source`.
    pub(crate) fn is_unused(&self, source: SourceId) -> bool {
        self.entries.get(&source).is_some_and(|entry| entry.listeners.is_empty())
    }

    /// The source unused longest, since when, and how many bytes all unused ones take.
    pub(crate) fn longest_unused(&self) -> Option<(MediaTime, SourceId, u64)> {
        self.unused.first().map(|&(since, source)| (since, source, self.unused_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(path: &str) -> Prompt {
        Prompt {
            origin: Origin::Web(Url::parse("https://host/").unwrap().join(path).unwrap()),
            resource_id: None,
        }
    }

    fn facts(bytes: u64) -> SourceFacts {
        SourceFacts {
            seconds: 1.0,
            whole: true,
            format: "WAV".into(),
            gain_db: 0.0,
            ready_at: MediaTime::ZERO,
            bytes,
            freshness: Freshness::FOR_EVER,
        }
    }

    #[test]
    fn a_prompt_is_the_same_only_with_the_same_resource_id() {
        let mut prompts = Prompts::default();
        let plain = prompts.add(prompt("a.wav"), Codec::Opus, None);
        let now = MediaTime::ZERO;
        assert_eq!(prompts.find(now, &prompt("a.wav")), Some(Found::Fresh(plain)));
        assert_eq!(prompts.find(now, &Prompt { resource_id: Some("1".into()), ..prompt("a.wav") }), None);
    }

    #[test]
    fn bytes_of_unused_sources_are_counted_in_every_order_of_events() {
        let mut prompts = Prompts::default();
        let (a, b) =
            (prompts.add(prompt("a"), Codec::Opus, None), prompts.add(prompt("b"), Codec::Opus, None));
        for source in [a, b] {
            prompts.listen(source, Listener::Server);
        }
        assert!(prompts.leave(MediaTime::from_millis(2), b, Listener::Server));
        prompts.ready(a, Codec::Opus, facts(10)).unwrap();
        prompts.ready(b, Codec::Opus, facts(5)).unwrap();
        assert!(prompts.leave(MediaTime::from_millis(1), a, Listener::Server));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(1), a, 15)));
        prompts.update(a, Codec::Opus, facts(12));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(1), a, 17)));
        prompts.listen(a, Listener::Server);
        prompts.update(a, Codec::Opus, facts(7));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(2), b, 5)));
        assert_eq!(prompts.remove(b), Some(vec![]));
        assert_eq!(prompts.longest_unused(), None);
        assert_eq!(prompts.remove(b), None);
        assert_eq!(prompts.preparing(), 0);
    }
    /// One source in three codecs: of one nothing is left, one is never ready, and all are counted.
    #[test]
    fn renditions_of_unused_sources_are_counted_too() {
        let mut prompts = Prompts::default();
        let now = MediaTime::ZERO;
        let source = prompts.add(prompt("a"), Codec::Opus, None);
        prompts.listen(source, Listener::Server);
        prompts.add_rendition(source, Codec::Pcma, None);
        prompts.add_rendition(source, Codec::L16, None);
        assert_eq!((prompts.len(), prompts.preparing()), (1, 3));
        prompts.ready(source, Codec::Opus, facts(10)).unwrap();
        assert!(!prompts.is_ready(source, Codec::Pcma) && prompts.is_ready_at_all(source));
        assert!(prompts.leave(now, source, Listener::Server));
        prompts.ready(source, Codec::Pcma, facts(20)).unwrap();
        assert_eq!(prompts.ready(source, Codec::Pcma, facts(20)), None);
        assert_eq!(prompts.longest_unused(), Some((now, source, 30)));
        assert!(prompts.remove_rendition(source, Codec::Opus));
        assert_eq!(prompts.longest_unused(), Some((now, source, 20)));
        assert!(prompts.remove_rendition(source, Codec::L16));
        assert!(!prompts.remove_rendition(source, Codec::Pcma), "the last one goes with its source");
        assert_eq!(prompts.preparing(), 0);
        assert_eq!(prompts.remove(source), Some(vec![]));
        assert_eq!(prompts.unused_bytes, 0);
    }
}
