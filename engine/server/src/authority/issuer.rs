//! One issuer: where its keys are goes in, the key with a name comes out, fetched again when that is not known.

use std::{
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use holdmusic_control::{Refusal, guard::redact};
use holdmusic_media::MediaTime;
use reqwest::{Client, StatusCode, header::ACCEPT};
use serde::Deserialize;
use tokio::{runtime::Handle, sync::watch};
use tracing::{info, warn};
use url::Url;

use super::{
    keys::{KeySet, Missing},
    token::named,
};
use crate::{
    clock,
    config::access::{IssuerSettings, KeysFrom, is_fetched_from},
    egress::Egress,
    fetch,
};

/// The longest document, in bytes: Entra ID's keys are 20 KB with their certificates.
const MAX_DOCUMENT: usize = 512 << 10;

/// How long one document may take, connecting included.
const TOTAL: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// How often keys that nobody misses are fetched again: so long a key that was taken away may still be believed, and
/// longer while its issuer cannot be reached. Music does not stop because an issuer does.
const EVERY: Duration = Duration::from_secs(3600);

/// How soon that is tried again when it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How soon keys that somebody misses are asked for again: anybody can miss one.
const AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// One issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    client: Client,
    keys: RwLock<Option<Arc<KeySet>>>,
    asking: Mutex<Asking>,
}

/// How the keys are asked for.
#[derive(Debug, Default)]
struct Asking {
    /// Closed when those under way have come, or not.
    under_way: Option<watch::Receiver<()>>,
    /// When somebody last missed one.
    missed: Option<MediaTime>,
    /// Why they could not be had, the last time that they were asked for.
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// What documents are fetched with, by the way that everything takes.
pub(super) fn client(egress: &Egress) -> Result<Client, reqwest::Error> {
    fetch::client(|_| Ok(()), egress).connect_timeout(CONNECT).timeout(TOTAL).build()
}

impl Issuer {
    /// An issuer whose keys are read, if they are in a file; else those of `before` stay, and they are fetched.
    ///
    /// # Errors
    ///
    /// One line: the file and what is wrong with it.
    pub(super) fn open(
        settings: IssuerSettings,
        before: &[Arc<Self>],
        client: &Client,
        runtime: &Handle,
    ) -> Result<Arc<Self>, String> {
        let is_file = matches!(settings.keys, KeysFrom::File(_));
        if let Some(same) = before.iter().find(|issuer| !is_file && issuer.settings == settings) {
            same.begin(runtime);
            return Ok(Arc::clone(same));
        }
        let keys = match &settings.keys {
            KeysFrom::File(path) => Some(Arc::new(read_file(path)?)),
            _ => None,
        };
        let (keys, asking) = (RwLock::new(keys), Mutex::default());
        let issuer = Arc::new(Self { settings, client: client.clone(), keys, asking });
        if !is_file {
            // Under way before the first request comes: that waits for them, and misses none.
            let mut done = issuer.begin(runtime);
            let weak = Arc::downgrade(&issuer);
            runtime.spawn(async move {
                loop {
                    let _ = done.changed().await;
                    // Until the settings are read again and it is not among them.
                    let Some(issuer) = weak.upgrade() else { return };
                    let pause = if issuer.failure().is_some() { AFTER_FAILURE } else { EVERY };
                    drop(issuer);
                    tokio::time::sleep(pause).await;
                    let Some(issuer) = weak.upgrade() else { return };
                    done = issuer.begin(&Handle::current());
                }
            });
        }
        Ok(issuer)
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.read().expect("nobody panics while holding it").clone()
    }

    fn failure(&self) -> Option<String> {
        self.asking.lock().expect("nobody panics while holding it").failure.clone()
    }

    /// Whether its keys are still these.
    pub(super) fn has(&self, keys: &Arc<KeySet>) -> bool {
        self.keys().is_some_and(|current| Arc::ptr_eq(&current, keys))
    }

    /// The keys, and where in them the one with this name is.
    ///
    /// # Errors
    ///
    /// 401 if there is none, 503 if the keys are not to be had.
    pub(super) async fn key(self: &Arc<Self>, id: Option<&str>) -> Result<(Arc<KeySet>, usize), Refusal> {
        let find = |keys: Option<Arc<KeySet>>| keys.map(|keys| (keys.find(id), keys));
        let mut found = find(self.keys());
        if matches!(found, None | Some((Err(Missing::Unknown), _))) && self.may_ask(clock::mono()) {
            self.ask().await;
            found = find(self.keys());
        }
        match found {
            Some((Ok(at), keys)) => return Ok((keys, at)),
            Some((Err(Missing::Unnamed), keys)) => {
                let words = format!(
                    "The access token does not name its key ('kid'); its issuer has {}.",
                    keys.keys.len()
                );
                return Err(Refusal::unauthenticated(words));
            }
            Some((Err(Missing::Unknown), _)) | None => {}
        }
        let issuer = named(Some(&self.settings.issuer));
        match self.failure() {
            // Why is for the operator: it may name what only the operator should know.
            Some(_) => {
                let words = format!(
                    "The keys of the issuer {issuer} are not to be had; the log of this server says why."
                );
                Err(Refusal::unavailable(words, self.ask_again_s(clock::mono())))
            }
            None => Err(Refusal::unauthenticated(format!(
                "The issuer {issuer} has no key {} ('kid') that may sign tokens; keys that are new are seen within \
                 {} s.",
                named(id),
                AT_MOST_EVERY.as_secs()
            ))),
        }
    }

    /// Whether keys that are missed may be asked for: not too often, unless they are on their way.
    fn may_ask(&self, now: MediaTime) -> bool {
        let mut asking = self.asking.lock().expect("nobody panics while holding it");
        if asking.under_way.is_some() {
            return true;
        }
        let too_soon = asking.missed.is_some_and(|missed| now.since(missed) < AT_MOST_EVERY);
        if !too_soon {
            asking.missed = Some(now);
        }
        !too_soon
    }

    /// In how many seconds that is.
    fn ask_again_s(&self, now: MediaTime) -> u32 {
        let asking = self.asking.lock().expect("nobody panics while holding it");
        let since = asking.missed.map_or(AT_MOST_EVERY, |missed| now.since(missed));
        let left = AT_MOST_EVERY.saturating_sub(since);
        u32::try_from(left.as_secs() + 1).unwrap_or(1)
    }

    /// Asks for the keys, or waits for those that somebody has asked for already. Who leaves before they come does not
    /// keep them from others.
    async fn ask(self: &Arc<Self>) {
        // Nothing is ever sent: it is closed.
        let _ = self.begin(&Handle::current()).changed().await;
    }

    /// Asks for the keys, unless they are on their way; closed when they have come, or not.
    fn begin(self: &Arc<Self>, runtime: &Handle) -> watch::Receiver<()> {
        let mut asking = self.asking.lock().expect("nobody panics while holding it");
        // Closed without having been taken away: its task panicked.
        if let Some(done) = asking.under_way.as_ref().filter(|done| done.has_changed().is_ok()) {
            return done.clone();
        }
        let (tell, done) = watch::channel(());
        asking.under_way = Some(done.clone());
        let issuer = Arc::clone(self);
        runtime.spawn(async move {
            let fetched = issuer.fetch().await;
            issuer.came(fetched);
            drop(tell);
        });
        done
    }

    /// Keys have come, or not: then those that there are stay.
    fn came(&self, fetched: Result<KeySet, String>) {
        let issuer = &self.settings.issuer;
        let failure = match fetched {
            Ok(keys) => {
                let mut current = self.keys.write().expect("nobody panics while holding it");
                // The same ones stay the same, so that what was verified with them need not be again.
                if !current.as_ref().is_some_and(|current| current.is_same(&keys)) {
                    info!(issuer, keys = keys.keys.len(), "the keys of an issuer are read");
                    *current = Some(Arc::new(keys));
                }
                None
            }
            Err(failure) => {
                warn!(issuer, failure, "the keys of an issuer could not be read; those that there are stay");
                Some(failure)
            }
        };
        let mut asking = self.asking.lock().expect("nobody panics while holding it");
        asking.failure = failure;
        asking.under_way = None;
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let url = match &self.settings.keys {
            KeysFrom::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || read_file(&path));
                return reading.await.unwrap_or_else(|_| Err("reading them panicked".to_owned()));
            }
            KeysFrom::Url(url) => url.clone(),
            KeysFrom::Discovery(url) => self.discover(url).await?,
        };
        let bytes = self.get(&url).await?;
        KeySet::read(&bytes).map_err(|error| format!("{} {error}", redact(&url)))
    }

    async fn discover(&self, url: &Url) -> Result<Url, String> {
        let bytes = self.get(url).await?;
        let shown = redact(url);
        let Discovery { issuer, jwks_uri } = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{shown} is no discovery document: {error}"))?;
        let jwks_uri =
            Url::parse(&jwks_uri).map_err(|error| format!("{shown} has no URL for its keys: {error}"))?;
        if issuer != self.settings.issuer {
            let (found, expected) = (named(Some(&issuer)), named(Some(&self.settings.issuer)));
            return Err(format!("{shown} is of the issuer {found}; expected {expected}"));
        }
        // A document from elsewhere does not lead to this machine.
        if !is_fetched_from(&jwks_uri) || (url.scheme() == "https" && jwks_uri.scheme() != "https") {
            return Err(format!("{shown} has its keys at {}; expected an https URL", redact(&jwks_uri)));
        }
        Ok(jwks_uri)
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, String> {
        let request = self.client.get(url.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| fetch::reason(url, error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("{} answered {}; expected 200", redact(url), response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| fetch::reason(url, error))? {
            if bytes.len() + chunk.len() > MAX_DOCUMENT {
                return Err(format!("{} has more than {MAX_DOCUMENT} bytes", redact(url)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn read_file(path: &Path) -> Result<KeySet, String> {
    use std::io::Read as _;

    let shown = path.display();
    let mut bytes = Vec::new();
    let limit = MAX_DOCUMENT as u64 + 1;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("{shown}: {error}"))?;
    if bytes.len() > MAX_DOCUMENT {
        return Err(format!("{shown} has more than {MAX_DOCUMENT} bytes"));
    }
    KeySet::read(&bytes).map_err(|error| format!("{shown} {error}"))
}
