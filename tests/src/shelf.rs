//! [`Shelf`]: the prompts of a simulated world, by URL, each with the time it takes and what comes of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdmusic_control::PromptCause;

/// What comes of fetching one URL.
#[derive(Clone, Debug)]
pub enum Item {
    /// These bytes, after so long.
    Bytes {
        /// What comes.
        bytes: Arc<[u8]>,
        /// After how long all of it is there.
        after: Duration,
    },
    /// These bytes, a piece every ten milliseconds.
    Pieces {
        /// What comes.
        bytes: Arc<[u8]>,
        /// After how long the first piece comes.
        after: Duration,
        /// How long it would take until all of it is there.
        over: Duration,
        /// What comes behind the last piece.
        end: End,
    },
    /// This reason, after so long.
    Fails {
        /// What went wrong.
        cause: PromptCause,
        /// What the door says.
        reason: String,
        /// After how long.
        after: Duration,
    },
    /// The door never tells anything: worse than any origin, since a door has deadlines.
    Never,
}

/// How a prompt that comes in pieces ends.
#[derive(Clone, Debug)]
pub enum End {
    /// All of it has come.
    Whole,
    /// So many bytes come; then, so much later, the door gives up for this reason.
    BreaksOff {
        /// Bytes that come.
        at: usize,
        /// What the door says.
        reason: String,
        /// How long it waits for more.
        after: Duration,
    },
}

/// Prompts by URL. What is not on it is answered as a web server would, with 404.
#[derive(Debug, Default)]
pub struct Shelf {
    items: HashMap<String, Item>,
    fetches: Vec<String>,
}

/// How long a fetch takes that nobody said anything about: a web server in the next street.
const USUAL: Duration = Duration::from_millis(20);

impl Shelf {
    /// Puts sound at `url`; it comes after 20 ms.
    pub fn put(&mut self, url: &str, bytes: &[u8]) {
        self.put_slowly(url, bytes, USUAL);
    }

    /// Puts sound at `url` that takes so long to come.
    pub fn put_slowly(&mut self, url: &str, bytes: &[u8], after: Duration) {
        self.items.insert(url.to_owned(), Item::Bytes { bytes: bytes.into(), after });
    }

    /// Puts sound at `url` that comes evenly over so long, or as far as `end` lets it.
    pub fn put_in_pieces(&mut self, url: &str, bytes: &[u8], over: Duration, end: End) {
        let item = Item::Pieces { bytes: bytes.into(), after: USUAL, over, end };
        self.items.insert(url.to_owned(), item);
    }

    /// Fetching `url` fails after so long.
    pub fn put_failure(&mut self, url: &str, cause: PromptCause, reason: &str, after: Duration) {
        self.items.insert(url.to_owned(), Item::Fails { cause, reason: reason.to_owned(), after });
    }

    /// Fetching `url` leads to nothing, ever.
    pub fn put_silence(&mut self, url: &str) {
        self.items.insert(url.to_owned(), Item::Never);
    }

    /// How often `url` has been fetched.
    pub fn fetches(&self, url: &str) -> usize {
        self.fetches.iter().filter(|fetched| *fetched == url).count()
    }

    /// Fetches `url`.
    pub(crate) fn fetch(&mut self, url: &str) -> Item {
        self.fetches.push(url.to_owned());
        self.items.get(url).cloned().unwrap_or_else(|| Item::Fails {
            cause: PromptCause::HttpStatus,
            reason: format!("{url} answered 404 Not Found, expected 200 OK"),
            after: USUAL,
        })
    }
}
