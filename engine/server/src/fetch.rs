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

use axum::{body::Bytes, http::HeaderMap};
use holdmusic_control::{
    Origin, PromptCause, PromptFailure,
    guard::{Guard, UrlRefused, redact},
};
use percent_encoding::percent_decode_str;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, LOCATION},
    redirect::Policy,
};
use url::Url;

use crate::{
    cache::Hash,
    clock,
    egress::Egress,
    freshness::Validity,
    supply::{Passage, not_wanted},
};

/// Redirects followed for one prompt; each hop is checked like the first.
const MAX_REDIRECTS: usize = 5;

/// Longest `Location` that is followed, in bytes: as long as the URI of a prompt may be.
const MAX_LOCATION: usize = 8192;

/// Most headers of an answer, and their bytes: what common clients and servers allow each other.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: u32 = 64 << 10;

/// The head of an answer counts from the request on, connecting included: for so much longer than either may take, so
/// that a connection that does not come about is told as that.
const HEAD_MARGIN: Duration = Duration::from_millis(250);

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

/// What an origin is asked instead of everything.
#[derive(Clone, Debug)]
pub struct Questions {
    /// About the answer of this address.
    pub address: Hash,
    /// The conditions; none asks for everything.
    pub headers: HeaderMap,
}

/// What an origin has answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// All bytes, which have been passed on.
    Whole(Came),
    /// That they are still the same.
    Confirmed {
        /// And what else.
        headers: HeaderMap,
        /// Whether a redirect led there.
        redirected: bool,
    },
}

/// Bytes that have come.
#[derive(Clone, Debug)]
pub struct Came {
    /// Where from at last.
    pub address: Hash,
    /// How long they are good.
    pub validity: Validity,
    /// Whether a redirect led there.
    pub redirected: bool,
}

/// Fetches prompts.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    guard: Arc<Guard>,
    egress: Egress,
    limits: FetchLimits,
}

impl Fetcher {
    /// A fetcher that goes where `guard` lets it.
    ///
    /// # Errors
    ///
    /// If the TLS library finds no usable root certificates.
    pub fn new(guard: Arc<Guard>, egress: Egress, limits: FetchLimits) -> Result<Self, reqwest::Error> {
        let check = {
            let guard = Arc::clone(&guard);
            move |address: SocketAddr| guard.fetch(address.ip()).map_err(|refused| refused.to_string())
        };
        let client = client(check, &egress)
            .connect_timeout(limits.connect)
            // Every request has a connection of its own, to an address checked for it. A kept one would be faster by a
            // round trip, and fail when the origin closes it at the moment it is used again.
            .pool_max_idle_per_host(0)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .build()?;
        Ok(Self { client, guard, egress, limits })
    }

    /// Passes the bytes at `url` on as they come, unless the origin answers that they are what `questions` ask about.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the secrets of the URL.
    pub async fn fetch(
        &self,
        url: Url,
        questions: Option<Questions>,
        passage: &mut Passage,
    ) -> Result<Answer, PromptFailure> {
        let limit = self.limits.total;
        match tokio::time::timeout(limit, self.follow(url, questions, passage)).await {
            Ok(result) => result,
            Err(_) => Err(PromptFailure::new(
                PromptCause::FetchTimeout,
                format!("the prompt was not complete after {} s", limit.as_secs_f64()),
            )),
        }
    }

    /// All bytes of a prompt in one piece, for whoever looks at them without playing them.
    ///
    /// # Errors
    ///
    /// As [`Fetcher::fetch`] and [`Fetcher::read_file`].
    pub async fn whole(&self, origin: &Origin) -> Result<Vec<u8>, PromptFailure> {
        let mut passage = Passage::to_nowhere();
        match origin {
            Origin::Web(url) => drop(self.fetch(url.clone(), None, &mut passage).await?),
            Origin::Directory(url) => passage = self.read_file(url, passage).await?,
            Origin::Data(data) => return Ok(data.bytes().to_vec()),
        }
        Ok(passage.into_bytes())
    }

    /// Passes the bytes of a file in the operator's directory on: the path of `url` begins there.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the directory.
    pub async fn read_file(&self, url: &Url, mut passage: Passage) -> Result<Passage, PromptFailure> {
        let (limits, path) = (self.limits.clone(), url.path().to_owned());
        let reading =
            tokio::task::spawn_blocking(move || read_file(&limits, &path, &mut passage).map(|()| passage));
        let failed = |_| Err(PromptFailure::new(PromptCause::FileUnreadable, "the file could not be read"));
        reading.await.unwrap_or_else(failed)
    }

    async fn follow(
        &self,
        mut url: Url,
        questions: Option<Questions>,
        passage: &mut Passage,
    ) -> Result<Answer, PromptFailure> {
        for hops in 0..=MAX_REDIRECTS {
            let redirected = hops > 0;
            self.guard.fetch_url(&url).map_err(|refused| {
                PromptFailure::new(refusal(&refused), format!("{}: {refused}", redact(&url)))
            })?;
            let address = Hash::of(url.as_str().as_bytes());
            // Only where the answer came from that they are about.
            let asked = questions.as_ref().filter(|questions| questions.address == address);
            let asked = asked.map(|questions| questions.headers.clone()).unwrap_or_default();
            let may_confirm = !asked.is_empty();
            let request = self
                .client
                .get(url.clone())
                .header(ACCEPT, HeaderValue::from_static("audio/*, */*;q=0.5"))
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
                .headers(asked);
            let head = self.limits.connect.max(self.limits.silence) + HEAD_MARGIN;
            let response = tokio::time::timeout(head, request.send()).await;
            let way = self.egress.way(&url);
            let response = response.map_err(|_| silent(&url))?.map_err(|error| {
                let PromptFailure { cause, message } = failure(&url, error);
                PromptFailure::new(cause, format!("{message}{way}"))
            })?;
            match response.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => url = next_hop(&url, &response)?,
                StatusCode::NOT_MODIFIED if may_confirm => {
                    return Ok(Answer::Confirmed { headers: response.headers().clone(), redirected });
                }
                _ => {
                    let validity = Validity::of(response.headers(), clock::now().wall);
                    self.read(&url, response, passage).await?;
                    return Ok(Answer::Whole(Came { address, validity, redirected }));
                }
            }
        }
        Err(PromptFailure::new(
            PromptCause::RedirectLimit,
            format!("more than {MAX_REDIRECTS} redirects, the last one to {}", redact(&url)),
        ))
    }

    async fn read(
        &self,
        url: &Url,
        mut response: reqwest::Response,
        passage: &mut Passage,
    ) -> Result<(), PromptFailure> {
        let max = self.limits.max_bytes;
        let declared = declared_length(url, &response, max)?;
        loop {
            let next = self.chunk(url, &mut response);
            let chunk = match passage.patience() {
                None => next.await?,
                // What is held back goes on; the rest is waited for again.
                Some(patience) => match tokio::time::timeout(patience, next).await {
                    Ok(chunk) => chunk?,
                    Err(_) => {
                        passage.go_on().await.map_err(not_wanted)?;
                        continue;
                    }
                },
            };
            let Some(chunk) = chunk else { break };
            if passage.count() + chunk.len() as u64 > max {
                return Err(too_large(format!(
                    "the prompt is longer than {max} bytes, the most that are allowed"
                )));
            }
            passage.push(&chunk).await.map_err(not_wanted)?;
        }
        match declared {
            Some(declared) if declared != passage.count() => Err(PromptFailure::new(
                PromptCause::ShortBody,
                format!("{declared} bytes were declared, {} came", passage.count()),
            )),
            _ => Ok(()),
        }
    }

    /// The next piece of a body, unless the origin is silent for too long.
    async fn chunk(
        &self,
        url: &Url,
        response: &mut reqwest::Response,
    ) -> Result<Option<Bytes>, PromptFailure> {
        let chunk = tokio::time::timeout(self.limits.silence, response.chunk()).await;
        chunk.map_err(|_| silent(url))?.map_err(|error| failure(url, error))
    }
}

/// What we say of an origin that says nothing.
fn silent(url: &Url) -> PromptFailure {
    PromptFailure::new(PromptCause::OriginSilent, format!("{} sent nothing for too long", redact(url)))
}

/// Where a redirect leads. Not from `https` to `http`: what the customer asked to be protected on its way would be in
/// anybody's hands who stands there, and so would be what a participant hears.
fn next_hop(url: &Url, response: &reqwest::Response) -> Result<Url, PromptFailure> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let next = location
        .filter(|location| location.len() <= MAX_LOCATION)
        .and_then(|location| url.join(location).ok())
        .filter(|next| next.as_str().len() <= MAX_LOCATION);
    let Some(next) = next else {
        return Err(PromptFailure::new(
            PromptCause::RedirectInvalid,
            format!("{} answered {} without a usable Location", redact(url), response.status()),
        ));
    };
    if url.scheme() == "https" && next.scheme() == "http" {
        return Err(PromptFailure::new(
            PromptCause::SchemeRefused,
            format!("{} redirects from https to http, to {}", redact(url), redact(&next)),
        ));
    }
    Ok(next)
}

/// Whether the body of an answer is worth reading, and how long it says that it is.
fn declared_length(url: &Url, response: &reqwest::Response, max: u64) -> Result<Option<u64>, PromptFailure> {
    let status = response.status();
    if status != StatusCode::OK {
        let words = format!("{} answered {status}, expected 200 OK", redact(url));
        let cause = if status.is_server_error() { PromptCause::ServerError } else { PromptCause::HttpStatus };
        return Err(PromptFailure::new(cause, words));
    }
    // A compressed body may become a thousand times as long, and recordings are compressed already.
    let coding = response.headers().get_all(CONTENT_ENCODING).into_iter().find(|coding| {
        let coding = coding.as_bytes().trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    });
    if let Some(coding) = coding {
        let shown: String = String::from_utf8_lossy(coding.as_bytes()).chars().take(40).collect();
        let words = format!("{} answered with Content-Encoding '{shown}', expected none", redact(url));
        return Err(PromptFailure::new(PromptCause::ContentEncoded, words));
    }
    let declared = response.content_length();
    if let Some(declared) = declared.filter(|declared| *declared > max) {
        return Err(too_large(format!("the prompt is {declared} bytes long, at most {max} are allowed")));
    }
    Ok(declared)
}

fn too_large(words: String) -> PromptFailure {
    PromptFailure::new(PromptCause::TooLarge, words)
}

fn refusal(refused: &UrlRefused) -> PromptCause {
    match refused {
        UrlRefused::Scheme { .. } | UrlRefused::PlainHttp => PromptCause::SchemeRefused,
        UrlRefused::NoHost | UrlRefused::Address(_) => PromptCause::AddressRefused,
        UrlRefused::Port(_) => PromptCause::PortRefused,
    }
}

/// Bytes of a file that are passed on in one piece.
const PIECE: usize = 64 << 10;

/// Reads `path` below the operator's directory. Links that lead out of it are not followed.
fn read_file(limits: &FetchLimits, path: &str, passage: &mut Passage) -> Result<(), PromptFailure> {
    let missing = |words: String| PromptFailure::new(PromptCause::FileNotFound, words);
    let directory =
        limits.directory.as_deref().ok_or_else(|| missing("there is no directory of prompts".into()))?;
    let name = percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy();
    let told = |error: io::Error| {
        let cause = match error.kind() {
            // The two last: a file in the middle of the path, and a NUL in it.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
                PromptCause::FileNotFound
            }
            _ => PromptCause::FileUnreadable,
        };
        PromptFailure::new(cause, format!("the prompt '{name}' cannot be read: {error}"))
    };
    let root = directory.canonicalize().map_err(told)?;
    let found = root.join(&*name).canonicalize().map_err(told)?;
    if !found.starts_with(&root) || !found.is_file() {
        return Err(missing(format!("the prompt '{name}' is no file in the directory of prompts")));
    }
    let max = limits.max_bytes;
    let longer =
        || too_large(format!("the prompt '{name}' is longer than {max} bytes, the most that are allowed"));
    let mut file = File::open(found).map_err(told)?;
    if file.metadata().map_err(told)?.len() > max {
        return Err(longer());
    }
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(told)?;
        if piece.is_empty() {
            return Ok(());
        }
        // It may grow while it is read.
        if passage.count() + piece.len() as u64 > max {
            return Err(longer());
        }
        passage.push_waiting(&piece).map_err(not_wanted)?;
    }
}

/// A client that resolves names itself and connects only where `check` agrees, or goes by the proxy of `egress`, which
/// then resolves names. It follows no redirect, uses no proxy of the environment, keeps no cookies and sends no referer.
/// Addresses that stand in the URL itself never reach the resolver; they are to be checked before.
pub(crate) fn client(
    check: impl Fn(SocketAddr) -> Result<(), String> + Send + Sync + 'static,
    egress: &Egress,
) -> reqwest::ClientBuilder {
    let client = Client::builder()
        .dns_resolver(Resolver { check: Arc::new(check), proxy: egress.proxy_name().map(Box::from) })
        .redirect(Policy::none())
        .referer(false)
        .user_agent(concat!("holdmusic/", env!("CARGO_PKG_VERSION")));
    egress.apply(client)
}

type Check = dyn Fn(SocketAddr) -> Result<(), String> + Send + Sync;

struct Resolver {
    check: Arc<Check>,
    /// Its address is the operator's word. Nothing else of that name is resolved: it goes by the proxy.
    proxy: Option<Box<str>>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let check = Arc::clone(&self.check);
        let is_proxy = self.proxy.as_deref().is_some_and(|proxy| name.as_str().eq_ignore_ascii_case(proxy));
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(NameFailed::NotFound)?;
            if is_proxy {
                return Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs);
            }
            let allowed = allowed(found, &*check)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Those of a name's addresses that may be used. They are what is connected to: the name is not asked for again.
fn allowed(
    found: impl IntoIterator<Item = SocketAddr>,
    check: &Check,
) -> Result<Vec<SocketAddr>, NameFailed> {
    let mut refused = None;
    let allowed: Vec<_> = found
        .into_iter()
        .filter(|address| check(*address).map_err(|reason| refused = Some(reason)).is_ok())
        .collect();
    match refused {
        Some(reason) if allowed.is_empty() => Err(NameFailed::Refused(reason)),
        _ if allowed.is_empty() => Err(NameFailed::NotFound(io::Error::other("the name has no address"))),
        _ => Ok(allowed),
    }
}

/// Why a name leads nowhere.
#[derive(Debug)]
enum NameFailed {
    /// It has no address.
    NotFound(io::Error),
    /// It leads only to addresses that are not allowed.
    Refused(String),
}

impl fmt::Display for NameFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl Error for NameFailed {}

/// What went wrong with a request for a prompt.
fn failure(url: &Url, error: reqwest::Error) -> PromptFailure {
    PromptFailure::new(cause(url, &error), reason(url, error))
}

fn cause(url: &Url, error: &reqwest::Error) -> PromptCause {
    let chain = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (**error).source());
    let named = chain().find_map(|error| error.downcast_ref::<NameFailed>());
    let kind = chain().filter_map(|error| error.downcast_ref::<io::Error>()).map(innermost).last();
    match named {
        Some(NameFailed::Refused(_)) => return PromptCause::AddressRefused,
        Some(NameFailed::NotFound(_)) => return PromptCause::DnsFailed,
        None => {}
    }
    if error.is_timeout() {
        return if error.is_connect() { PromptCause::ConnectTimeout } else { PromptCause::OriginSilent };
    }
    if error.is_connect() {
        return match kind {
            Some(io::ErrorKind::ConnectionRefused) => PromptCause::ConnectionRefused,
            // The TLS library's own errors, and an origin that hangs up in the handshake.
            Some(io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) if url.scheme() == "https" => {
                PromptCause::TlsFailed
            }
            _ => PromptCause::ConnectionFailed,
        };
    }
    if !error.is_body() && !error.is_decode() {
        return PromptCause::ResponseInvalid;
    }
    match kind {
        // Chunks that are none.
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => PromptCause::ResponseInvalid,
        _ => PromptCause::ShortBody,
    }
}

/// The kind of an error that may stand inside another of the same type, which its `source` steps over.
fn innermost(error: &io::Error) -> io::ErrorKind {
    let mut error = error;
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = inner;
    }
    error.kind()
}

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
        "gave no valid answer"
    };
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{} {what}: {cause}", redact(url))
}

#[cfg(test)]
mod tests;
