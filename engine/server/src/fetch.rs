//! Prompt URI to bytes, with limits on size, time and address.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use holdmusic_control::{
    PromptFailure,
    guard::{Guard, redact},
};
use percent_encoding::percent_decode_str;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, HeaderValue, LOCATION},
    redirect::Policy,
};
use url::Url;

use crate::mailbox::{Chunk, Intake, NotWanted};

/// Redirects followed for one prompt; each hop is checked like the first.
const MAX_REDIRECTS: usize = 5;

/// What the prompt may cost.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    /// The longest body, in bytes.
    pub max_bytes: u64,
    /// For DNS and connecting.
    pub connect: Duration,
    /// The longest silence of the origin.
    pub silence: Duration,
    /// For everything.
    pub total: Duration,
    /// The operator's directory of prompts, if there is one.
    pub directory: Option<PathBuf>,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(5),
            total: Duration::from_secs(15),
            directory: None,
        }
    }
}

/// Fetches prompts.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    guard: Arc<Guard>,
    limits: FetchLimits,
}

impl Fetcher {
    /// A fetcher that goes where `guard` lets it.
    ///
    /// # Errors
    ///
    /// If the TLS library finds no usable root certificates.
    pub fn new(guard: Arc<Guard>, limits: FetchLimits) -> Result<Self, reqwest::Error> {
        let check = {
            let guard = Arc::clone(&guard);
            move |address: SocketAddr| guard.fetch(address.ip()).map_err(|refused| refused.to_string())
        };
        let client = client(check).connect_timeout(limits.connect).read_timeout(limits.silence).build()?;
        Ok(Self { client, guard, limits })
    }

    /// Passes the bytes at `url` on as they come; how many there were.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the secrets of the URL.
    pub async fn fetch(&self, url: Url, into: &Intake) -> Result<u64, PromptFailure> {
        let limit = self.limits.total;
        match tokio::time::timeout(limit, self.follow(url, into)).await {
            Ok(result) => result.map_err(PromptFailure::Fetch),
            Err(_) => {
                Err(PromptFailure::Fetch(format!("the prompt was not complete after {} s", limit.as_secs())))
            }
        }
    }

    /// Passes the bytes of a file in the operator's directory on: the path of `url` begins there. How many there were.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the directory.
    pub async fn read_file(&self, url: &Url, into: &Intake) -> Result<u64, PromptFailure> {
        let (limits, path, into) = (self.limits.clone(), url.path().to_owned(), into.clone());
        let reading = tokio::task::spawn_blocking(move || read_file(&limits, &path, &into));
        let failed = |_| Err("the file could not be read".to_owned());
        reading.await.unwrap_or_else(failed).map_err(PromptFailure::Fetch)
    }

    async fn follow(&self, mut url: Url, into: &Intake) -> Result<u64, String> {
        for _ in 0..=MAX_REDIRECTS {
            self.guard.fetch_url(&url).map_err(|refused| format!("{}: {refused}", redact(&url)))?;
            let request =
                self.client.get(url.clone()).header(ACCEPT, HeaderValue::from_static("audio/*, */*;q=0.5"));
            let response = request.send().await.map_err(|error| reason(&url, error))?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return self.read(&url, response, into).await;
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url =
                next.ok_or_else(|| format!("{} answered {status} without a usable Location", redact(&url)))?;
        }
        Err(format!("more than {MAX_REDIRECTS} redirects, the last one to {}", redact(&url)))
    }

    async fn read(&self, url: &Url, mut response: reqwest::Response, into: &Intake) -> Result<u64, String> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("{} answered {status}, expected 200 OK", redact(url)));
        }
        let max = self.limits.max_bytes;
        let declared = response.content_length();
        if let Some(declared) = declared.filter(|declared| *declared > max) {
            return Err(format!("the prompt is {declared} bytes long, at most {max} are allowed"));
        }
        let mut count = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(url, error))? {
            count += chunk.len() as u64;
            if count > max {
                return Err(format!("the prompt is longer than {max} bytes"));
            }
            into.push(Chunk::Bytes(chunk.to_vec())).await.map_err(not_wanted)?;
        }
        match declared {
            Some(declared) if declared != count => {
                Err(format!("{declared} bytes were declared, {count} came"))
            }
            _ => Ok(count),
        }
    }
}

/// Nobody is left to be told.
fn not_wanted(NotWanted: NotWanted) -> String {
    "the prompt was given up".to_owned()
}

/// Bytes of a file that are passed on in one piece.
const PIECE: usize = 64 << 10;

/// Reads `path` below the operator's directory. Links that lead out of it are not followed.
fn read_file(limits: &FetchLimits, path: &str, into: &Intake) -> Result<u64, String> {
    let directory = limits.directory.as_deref().ok_or("there is no directory of prompts")?;
    let name = percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy();
    let told = |error: io::Error| format!("the prompt '{name}' cannot be read: {error}");
    let root = directory.canonicalize().map_err(told)?;
    let found = root.join(&*name).canonicalize().map_err(told)?;
    if !found.starts_with(&root) || !found.is_file() {
        return Err(format!("the prompt '{name}' is no file in the directory of prompts"));
    }
    let max = limits.max_bytes;
    let mut file = File::open(found).map_err(told)?;
    let mut count = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(told)?;
        if piece.is_empty() {
            return Ok(count);
        }
        count += piece.len() as u64;
        if count > max {
            return Err(format!("the prompt '{name}' is longer than {max} bytes"));
        }
        into.push_waiting(Chunk::Bytes(piece)).map_err(not_wanted)?;
    }
}

/// A client that resolves names itself and connects only where `check` agrees. It follows no redirect, uses no proxy
/// of the environment (which would resolve names for us), keeps no cookies and sends no referer. Addresses that stand
/// in the URL itself never reach the resolver; they are to be checked before.
pub(crate) fn client(
    check: impl Fn(SocketAddr) -> Result<(), String> + Send + Sync + 'static,
) -> reqwest::ClientBuilder {
    Client::builder()
        .dns_resolver(Resolver(Arc::new(check)))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("holdmusic/", env!("CARGO_PKG_VERSION")))
}

type Check = dyn Fn(SocketAddr) -> Result<(), String> + Send + Sync;

struct Resolver(Arc<Check>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let check = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut refused = None;
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|address| check(*address).map_err(|reason| refused = Some(reason)).is_ok())
                .collect();
            match refused {
                Some(reason) if allowed.is_empty() => Err(AddressRefused(reason).into()),
                _ if allowed.is_empty() => Err(io::Error::other("the name has no address").into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// A name leads only to addresses that are not allowed.
#[derive(Debug)]
struct AddressRefused(String);

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for AddressRefused {}

/// What went wrong with a request, in words of ours around the library's innermost cause.
pub(crate) fn reason(url: &Url, error: reqwest::Error) -> String {
    let what = if error.is_timeout() && error.is_connect() {
        "could not be connected to in time"
    } else if error.is_timeout() {
        "sent nothing for too long"
    } else if error.is_connect() {
        "could not be connected to"
    } else if error.is_body() || error.is_decode() {
        "broke off in the middle"
    } else {
        "could not be reached"
    };
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{} {what}: {cause}", redact(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::intake;

    #[test]
    fn files_are_read_from_the_directory_of_prompts_and_from_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let inside = outside.path().join("prompts");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("on hold.wav"), "RIFF").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.join("link")).unwrap();
        let limits = FetchLimits { directory: Some(inside), max_bytes: 4, ..FetchLimits::default() };
        let read_file = |limits: &FetchLimits, path: &str| {
            let (into, chunks) = intake();
            let read = read_file(limits, path, &into)?;
            drop(into);
            let found: Vec<_> = chunks.iter().collect();
            assert_eq!(read, 4);
            Ok::<_, String>(found)
        };
        let whole = [Chunk::Bytes(b"RIFF".to_vec())];
        assert_eq!(read_file(&limits, "/on%20hold.wav").unwrap(), whole);
        for path in ["/link", "/%2e%2e/secret", "/../secret", "//etc/passwd", "/", "/none.wav"] {
            let error = read_file(&limits, path).unwrap_err();
            assert!(error.starts_with("the prompt "), "{path}: {error}");
        }
        let small = FetchLimits { max_bytes: 3, ..limits };
        assert!(read_file(&small, "/on%20hold.wav").unwrap_err().contains("longer than 3 bytes"));
        assert!(read_file(&FetchLimits::default(), "/on%20hold.wav").is_err());
    }
}
