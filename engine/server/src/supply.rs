//! A prompt's address to its bytes, or to what was made of them before: from the cache as long as its origin allows,
//! from the origin otherwise, which is asked first whether the prompt is still the same.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use holdmusic_codecs::Codec;
use holdmusic_control::{
    Freshness, PromptCause, PromptFailure,
    prompt::{Origin, Prompt},
};
use holdmusic_media::{MediaTime, WallTime, preserve::Preserved};
use tokio::sync::Semaphore;
use tracing::{debug, info};
use url::Url;

use crate::{
    cache::{Cache, Fetched, Hash},
    clock,
    fetch::{Answer, Came, Fetcher, Questions},
    freshness::Validity,
    mailbox::{Chunk, Intake, NotWanted},
};

/// A new prompt that is whole so soon after its first bytes is looked for by its content before it is passed on: the
/// same recording may have been prepared under another address. Files from the same network are; who waits for one that
/// is not does not notice.
const HELD_BACK: Duration = Duration::from_millis(20);

/// Most bytes that are held back: a minute and a half of 44.1 kHz stereo.
const MOST_HELD_BACK: usize = 16 << 20;

/// Bytes in one piece of what is held back, at least, but for the last.
const PIECE: usize = 64 << 10;

/// Where prompts come from.
#[derive(Clone, Debug)]
pub struct Supply {
    /// The way to origins.
    pub fetcher: Fetcher,
    /// What was prepared before.
    pub cache: Arc<Cache>,
    /// Places for fetches under way.
    pub places: Arc<Semaphore>,
}

/// How a prompt was supplied.
#[derive(Debug)]
pub enum Supplied {
    /// All of its bytes have been passed on.
    Bytes {
        /// What they are.
        content: Hash,
        /// How long they are good.
        freshness: Freshness,
        /// Whether what is made of them may be kept beyond this process.
        may_be_kept: bool,
    },
    /// It is what it was; nothing has been passed on.
    Unchanged {
        /// How long that is good.
        freshness: Freshness,
    },
    /// What was made of it before is as good; nothing has been passed on.
    Finished {
        /// What it is made of.
        content: Hash,
        /// What was made of it.
        preserved: Preserved,
        /// How long that is good.
        freshness: Freshness,
    },
}

/// A prompt that is not to be asked about again: its content is its name.
const NEVER_ASKED: Freshness = Freshness::FOR_EVER;

impl Supply {
    /// Supplies `prompt` for who hears it in `codec`: passes its bytes on through `into`, or finds that it need not. `before` is
    /// the content that it had when it was last fetched, if what was made of it in that codec is still at hand. If it
    /// goes on after a restart, what is kept of it is good enough: `goes_on`. Each codec has its own supply, so that the
    /// bytes of a prompt that is heard in two come twice; nobody keeps them.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the secrets of the URL.
    pub async fn supply(
        &self,
        (prompt, codec): (&Prompt, Codec),
        before: Option<Hash>,
        goes_on: bool,
        into: &Intake,
    ) -> Result<Supplied, PromptFailure> {
        let mut passage = Passage::new(into.clone(), before.is_some());
        match &prompt.origin {
            Origin::Data(data) => {
                passage.push(data.bytes()).await.map_err(not_wanted)?;
                self.passed(passage, codec, before, NEVER_ASKED, true).await
            }
            Origin::Directory(url) => {
                // The disk is quick to ask.
                let passage = self.fetcher.read_file(url, passage.held_to_the_end()).await?;
                let now = clock::now().mono;
                let freshness = Freshness { until: now, while_asked_until: now, when_slow: true };
                self.passed(passage, codec, before, freshness, true).await
            }
            Origin::Web(url) => self.supply_web((prompt, codec), url, before, goes_on, passage).await,
        }
    }

    async fn supply_web(
        &self,
        (prompt, codec): (&Prompt, Codec),
        url: &Url,
        before: Option<Hash>,
        goes_on: bool,
        mut passage: Passage,
    ) -> Result<Supplied, PromptFailure> {
        let remembered = self.recall(prompt).await;
        if let Some(fetched) = remembered.as_ref().filter(|_| before.is_none()) {
            let now = clock::now();
            let freshness = fetched.freshness(now);
            if (goes_on || now.mono < freshness.until)
                && let Some(finished) = self.finished(fetched.content, codec, freshness).await
            {
                return Ok(finished);
            }
        }
        let at_hand = remembered.filter(|fetched| {
            before == Some(fetched.content) || self.cache.has_rendition(fetched.content, codec)
        });
        let since = self.cache.purges();
        let _place = self.places.acquire().await;
        match self.ask(url, at_hand.as_ref(), &mut passage).await {
            Ok(Answer::Whole(came)) => self.came((prompt, codec), came, since, passage, before).await,
            Ok(Answer::Confirmed { headers, redirected }) => {
                let Some(fetched) = at_hand else { return Err(unasked()) };
                let now = clock::now();
                let validity = fetched.validity.confirmed(&headers, now.wall);
                let fetched = Fetched { validity, redirected, ..fetched };
                debug!(content = ?fetched.content, "the origin says that a prompt is still the same");
                self.remember(prompt, fetched.clone(), since).await;
                let freshness = fetched.freshness(now);
                if before == Some(fetched.content) {
                    return Ok(Supplied::Unchanged { freshness });
                }
                if let Some(finished) = self.finished(fetched.content, codec, freshness).await {
                    return Ok(finished);
                }
                // It was damaged, or has just been thrown away: once more, without asking.
                match self.ask(url, None, &mut passage).await? {
                    Answer::Whole(came) => self.came((prompt, codec), came, since, passage, before).await,
                    Answer::Confirmed { .. } => Err(unasked()),
                }
            }
            Err(failure) => {
                let now = clock::now();
                let lasts = |fetched: &&Fetched| {
                    passage.is_held() && outlives(&fetched.validity, now.wall, failure.cause)
                };
                let Some(fetched) = at_hand.as_ref().filter(lasts) else { return Err(failure) };
                info!(?failure, "the origin cannot be asked; what it sent before is played");
                let stale = Freshness { until: now.mono, while_asked_until: now.mono, when_slow: true };
                if before == Some(fetched.content) {
                    return Ok(Supplied::Unchanged { freshness: stale });
                }
                self.finished(fetched.content, codec, stale).await.ok_or(failure)
            }
        }
    }

    async fn ask(
        &self,
        url: &Url,
        about: Option<&Fetched>,
        passage: &mut Passage,
    ) -> Result<Answer, PromptFailure> {
        let now = clock::now().wall;
        let questions = about
            .map(|fetched| Questions { address: fetched.address, headers: fetched.validity.questions(now) });
        self.fetcher.fetch(url.clone(), questions, passage).await
    }

    /// All bytes have come from an origin.
    async fn came(
        &self,
        (prompt, codec): (&Prompt, Codec),
        came: Came,
        since: u64,
        passage: Passage,
        before: Option<Hash>,
    ) -> Result<Supplied, PromptFailure> {
        let Came { address, validity, redirected } = came;
        let fetched = Fetched { content: passage.content(), address, validity, redirected };
        let (freshness, may_be_kept) = (fetched.freshness(clock::now()), fetched.validity.may_be_kept());
        self.remember(prompt, fetched, since).await;
        self.passed(passage, codec, before, freshness, may_be_kept).await
    }

    /// All bytes have come: if they are known, nothing need be made of them again.
    async fn passed(
        &self,
        passage: Passage,
        codec: Codec,
        before: Option<Hash>,
        freshness: Freshness,
        may_be_kept: bool,
    ) -> Result<Supplied, PromptFailure> {
        let content = passage.content();
        if passage.is_held() {
            if before == Some(content) {
                return Ok(Supplied::Unchanged { freshness });
            }
            if let Some(finished) = self.finished(content, codec, freshness).await {
                return Ok(finished);
            }
        }
        passage.end().await.map_err(not_wanted)?;
        Ok(Supplied::Bytes { content, freshness, may_be_kept })
    }

    async fn finished(&self, content: Hash, codec: Codec, freshness: Freshness) -> Option<Supplied> {
        let preserved = self.on_disk(move |cache| cache.rendition(content, codec)).await??;
        debug!(?content, "a prompt was prepared before");
        Some(Supplied::Finished { content, preserved, freshness })
    }

    async fn recall(&self, prompt: &Prompt) -> Option<Fetched> {
        let prompt = prompt.clone();
        self.on_disk(move |cache| cache.fetched(&prompt)).await?
    }

    /// Unless something was purged `since`: then what came may be what was to be forgotten.
    async fn remember(&self, prompt: &Prompt, fetched: Fetched, since: u64) {
        let prompt = prompt.clone();
        let remember = move |cache: &Cache| match fetched.validity.may_be_kept() {
            true if cache.purges() == since => cache.remember(&prompt, &fetched),
            true => {}
            false => cache.forget(&prompt),
        };
        self.on_disk(remember).await;
    }

    /// Does something that may wait for the disk, where nobody else waits for it. `None` if the engine is closing.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Cache) -> T + Send + 'static) -> Option<T> {
        let cache = Arc::clone(&self.cache);
        tokio::task::spawn_blocking(move || work(&cache)).await.ok()
    }
}

/// Whether what the origin sent before may be played although this has happened. What an origin or an operator says
/// about the prompt itself is believed.
fn outlives(validity: &Validity, now: WallTime, cause: PromptCause) -> bool {
    match cause {
        PromptCause::DnsFailed
        | PromptCause::ConnectionRefused
        | PromptCause::ConnectionFailed
        | PromptCause::ConnectTimeout
        | PromptCause::OriginSilent
        | PromptCause::FetchTimeout => validity.outlives_failure(now, false),
        PromptCause::ServerError => validity.outlives_failure(now, true),
        _ => false,
    }
}

/// A "304 Not Modified" to a request without conditions.
fn unasked() -> PromptFailure {
    let words = "the origin answered 304 Not Modified to a request without conditions, expected 200 OK";
    PromptFailure::new(PromptCause::ResponseInvalid, words)
}

/// Nobody is left to be told.
pub(crate) fn not_wanted(NotWanted: NotWanted) -> PromptFailure {
    PromptFailure::new(PromptCause::NotReadyInTime, "the prompt was given up")
}

/// The way of a prompt's bytes to its producer, on which they are counted, summed up, and held back for a while.
pub struct Passage {
    /// `None` holds everything back for ever.
    into: Option<Intake>,
    sum: Context,
    count: u64,
    /// What has not been passed on; `None` once everything is.
    held: Option<Vec<Vec<u8>>>,
    to_the_end: bool,
    began: Option<MediaTime>,
}

impl Passage {
    /// Holds everything back for a moment, or, `to_the_end`, until it is whole.
    pub fn new(into: Intake, to_the_end: bool) -> Self {
        Self { into: Some(into), to_the_end, ..Self::to_nowhere() }
    }

    /// Holds everything back, for whoever wants it in one piece: see [`Passage::into_bytes`].
    pub fn to_nowhere() -> Self {
        let sum = Context::new(&SHA256);
        Self { into: None, sum, count: 0, held: Some(Vec::new()), to_the_end: true, began: None }
    }

    /// What was held back.
    pub fn into_bytes(self) -> Vec<u8> {
        self.held.unwrap_or_default().concat()
    }

    fn held_to_the_end(self) -> Self {
        Self { to_the_end: true, ..self }
    }

    /// How many bytes have come.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long the next bytes may be waited for before what is held back must go on; `None` is for ever.
    pub fn patience(&self) -> Option<Duration> {
        let holds = self.held.as_ref().is_some_and(|held| !held.is_empty()) && !self.to_the_end;
        self.began.filter(|_| holds).map(|began| (began + HELD_BACK).since(clock::mono()))
    }

    /// The next bytes.
    ///
    /// # Errors
    ///
    /// If nobody waits for them any more.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), NotWanted> {
        match self.take(bytes) {
            Some(bytes) => self.pass(Chunk::Bytes(bytes)).await,
            None if self.must_go_on() => self.go_on().await,
            None => Ok(()),
        }
    }

    /// The same where waiting keeps nobody else.
    ///
    /// # Errors
    ///
    /// If nobody waits for them any more.
    pub fn push_waiting(&mut self, bytes: &[u8]) -> Result<(), NotWanted> {
        let mut ready: Vec<_> = self.take(bytes).into_iter().collect();
        if self.must_go_on() {
            ready = self.held.take().unwrap_or_default();
        }
        let Some(into) = &self.into else { return Ok(()) };
        ready.into_iter().try_for_each(|bytes| into.push_waiting(Chunk::Bytes(bytes)))
    }

    /// What is held back goes on.
    ///
    /// # Errors
    ///
    /// If nobody waits for it any more.
    pub async fn go_on(&mut self) -> Result<(), NotWanted> {
        for bytes in self.held.take().unwrap_or_default() {
            self.pass(Chunk::Bytes(bytes)).await?;
        }
        Ok(())
    }

    async fn pass(&self, chunk: Chunk) -> Result<(), NotWanted> {
        match &self.into {
            Some(into) => into.push(chunk).await,
            None => Ok(()),
        }
    }

    /// Takes bytes into account; gives them back if they are not held.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.sum.update(bytes);
        self.count += bytes.len() as u64;
        self.began.get_or_insert_with(clock::mono);
        match &mut self.held {
            // However small the pieces are in which it comes.
            Some(held) => {
                match held.last_mut().filter(|last| last.len() < PIECE) {
                    Some(last) => last.extend_from_slice(bytes),
                    None => held.push(bytes.to_vec()),
                }
                None
            }
            None => Some(bytes.to_vec()),
        }
    }

    fn must_go_on(&self) -> bool {
        let long = self.patience().is_some_and(|left| left.is_zero());
        self.into.is_some() && self.held.is_some() && (long || self.count > MOST_HELD_BACK as u64)
    }

    fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn content(&self) -> Hash {
        self.sum.clone().finish().into()
    }

    async fn end(mut self) -> Result<(), NotWanted> {
        self.go_on().await?;
        self.pass(Chunk::End).await
    }
}
