//! What was asked for: a prompt by URI and resourceId goes in, a source that all its listeners share comes out.

use std::collections::{BTreeMap, BTreeSet};

use holdmusic_media::{MediaTime, SourceId};
use url::Url;

use crate::{
    guard::redact,
    id::{CallId, ParticipantId},
};

/// The built-in default music: always ready.
pub const DEFAULT_SOURCE: SourceId = SourceId(0);

/// Where the bytes of a prompt come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Fetched by `http` or `https`.
    Web(Url),
    /// A file in the operator's directory (`--prompts`), named by a `file` URI whose path begins there.
    Directory(Url),
}

impl Origin {
    /// As messages may show it, without secrets.
    pub fn redacted(&self) -> String {
        match self {
            Self::Web(url) | Self::Directory(url) => redact(url),
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

/// Facts of a prepared source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceFacts {
    /// Length of the recording in seconds, as far as it is known.
    pub seconds: f64,
    /// What the recording was, for people: "WAV, PCM 16 bit, 8000 Hz, mono".
    pub format: String,
    /// Gain that was applied, in dB.
    pub gain_db: f64,
    /// When its first frame could be played.
    pub ready_at: MediaTime,
    /// Memory that it takes, in bytes.
    pub bytes: u64,
}

/// Why a prompt cannot be played. The text is for the customer: it names the reason, not the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptFailure {
    /// It could not be fetched: subcode 8536.
    Fetch(String),
    /// It is not sound that we can play: subcode 8535.
    Sound(String),
}

/// Who listens to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listener {
    /// A hold.
    Hold(CallId, ParticipantId),
    /// A call that has it for its default music.
    Call(CallId),
    /// The server, which has it for its default music.
    Server,
}

/// One source that is prepared or being prepared.
#[derive(Debug)]
struct Entry {
    prompt: Prompt,
    facts: Option<SourceFacts>,
    listeners: BTreeSet<Listener>,
    /// Since when nobody listens.
    unused: Option<MediaTime>,
}

/// All sources besides the built-in one. What is asked for twice is prepared once.
#[derive(Debug, Default)]
pub(crate) struct Prompts {
    by_prompt: BTreeMap<Prompt, SourceId>,
    entries: BTreeMap<SourceId, Entry>,
    /// Sources that nobody listens to, longest unused first.
    unused: BTreeSet<(MediaTime, SourceId)>,
    unused_bytes: u64,
    preparing: usize,
    last: u64,
}

impl Prompts {
    /// The source of `prompt`, if it is known.
    pub(crate) fn find(&self, prompt: &Prompt) -> Option<SourceId> {
        self.by_prompt.get(prompt).copied()
    }

    /// Whether `source` can be played.
    pub(crate) fn is_ready(&self, source: SourceId) -> bool {
        source == DEFAULT_SOURCE || self.facts(source).is_some()
    }

    /// Facts of `source`, once it is ready.
    pub(crate) fn facts(&self, source: SourceId) -> Option<&SourceFacts> {
        self.entries.get(&source).and_then(|entry| entry.facts.as_ref())
    }

    /// Sources known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Sources being prepared.
    pub(crate) fn preparing(&self) -> usize {
        self.preparing
    }

    /// A new source for `prompt`, which is not known yet and has no listener yet.
    pub(crate) fn add(&mut self, prompt: Prompt) -> SourceId {
        self.last += 1;
        let source = SourceId(self.last);
        let before = self.by_prompt.insert(prompt.clone(), source);
        assert!(before.is_none(), "a prompt is prepared once");
        let entry = Entry { prompt, facts: None, listeners: BTreeSet::new(), unused: None };
        self.entries.insert(source, entry);
        self.preparing += 1;
        source
    }

    /// `listener` wants to hear `source` from now on.
    pub(crate) fn listen(&mut self, source: SourceId, listener: Listener) {
        let entry = self.entries.get_mut(&source).expect("only known sources are listened to");
        entry.listeners.insert(listener);
        if let Some(since) = entry.unused.take() {
            self.unused.remove(&(since, source));
            self.unused_bytes -= entry.facts.as_ref().map_or(0, |facts| facts.bytes);
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
        self.unused_bytes += entry.facts.as_ref().map_or(0, |facts| facts.bytes);
        true
    }

    /// The source can be played. Its listeners, or `None` if it is not known (any more) or was ready before.
    pub(crate) fn ready(&mut self, source: SourceId, facts: SourceFacts) -> Option<Vec<Listener>> {
        let entry = self.entries.get_mut(&source).filter(|entry| entry.facts.is_none())?;
        if entry.unused.is_some() {
            self.unused_bytes += facts.bytes;
        }
        entry.facts = Some(facts);
        self.preparing -= 1;
        Some(entry.listeners.iter().copied().collect())
    }

    /// More is known about a source that is ready. It was ready when it was.
    pub(crate) fn update(&mut self, source: SourceId, facts: SourceFacts) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        let Some(before) = entry.facts.as_mut() else { return };
        if entry.unused.is_some() {
            self.unused_bytes = self.unused_bytes + facts.bytes - before.bytes;
        }
        *before = SourceFacts { ready_at: before.ready_at, ..facts };
    }

    /// Forgets the source; its former listeners, or `None` if it is not known.
    pub(crate) fn remove(&mut self, source: SourceId) -> Option<Vec<Listener>> {
        let entry = self.entries.remove(&source)?;
        self.by_prompt.remove(&entry.prompt);
        match &entry.facts {
            None => self.preparing -= 1,
            Some(facts) if entry.unused.is_some() => self.unused_bytes -= facts.bytes,
            Some(_) => {}
        }
        if let Some(since) = entry.unused {
            self.unused.remove(&(since, source));
        }
        Some(entry.listeners.into_iter().collect())
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
        SourceFacts { seconds: 1.0, format: "WAV".into(), gain_db: 0.0, ready_at: MediaTime::ZERO, bytes }
    }

    #[test]
    fn a_prompt_is_the_same_only_with_the_same_resource_id() {
        let mut prompts = Prompts::default();
        let plain = prompts.add(prompt("a.wav"));
        assert_eq!(prompts.find(&prompt("a.wav")), Some(plain));
        assert_eq!(prompts.find(&Prompt { resource_id: Some("1".into()), ..prompt("a.wav") }), None);
    }

    #[test]
    fn bytes_of_unused_sources_are_counted_in_every_order_of_events() {
        let mut prompts = Prompts::default();
        let (a, b) = (prompts.add(prompt("a")), prompts.add(prompt("b")));
        for source in [a, b] {
            prompts.listen(source, Listener::Server);
        }
        assert!(prompts.leave(MediaTime::from_millis(2), b, Listener::Server));
        prompts.ready(a, facts(10)).unwrap();
        prompts.ready(b, facts(5)).unwrap();
        assert!(prompts.leave(MediaTime::from_millis(1), a, Listener::Server));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(1), a, 15)));
        prompts.update(a, facts(12));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(1), a, 17)));
        prompts.listen(a, Listener::Server);
        prompts.update(a, facts(7));
        assert_eq!(prompts.longest_unused(), Some((MediaTime::from_millis(2), b, 5)));
        assert_eq!(prompts.remove(b), Some(vec![]));
        assert_eq!(prompts.longest_unused(), None);
        assert_eq!(prompts.remove(b), None);
        assert_eq!(prompts.preparing(), 0);
    }
}
