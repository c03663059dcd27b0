//! Prompt URI to bytes, with limits on size, time and address.

use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use holdmusic_control::{
    PromptFailure,
    guard::{Guard, redact},
};
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, HeaderValue, LOCATION},
    redirect::Policy,
};
use url::Url;

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
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(5),
            total: Duration::from_secs(15),
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

    /// The bytes at `url`.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice, without the secrets of the URL.
    pub async fn fetch(&self, url: Url) -> Result<Vec<u8>, PromptFailure> {
        let limit = self.limits.total;
        match tokio::time::timeout(limit, self.follow(url)).await {
            Ok(result) => result.map_err(PromptFailure::Fetch),
            Err(_) => {
                Err(PromptFailure::Fetch(format!("the prompt was not complete after {} s", limit.as_secs())))
            }
        }
    }

    async fn follow(&self, mut url: Url) -> Result<Vec<u8>, String> {
        for _ in 0..=MAX_REDIRECTS {
            self.guard.fetch_url(&url).map_err(|refused| format!("{}: {refused}", redact(&url)))?;
            let request =
                self.client.get(url.clone()).header(ACCEPT, HeaderValue::from_static("audio/*, */*;q=0.5"));
            let response = request.send().await.map_err(|error| reason(&url, error))?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return self.read(&url, response).await;
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url =
                next.ok_or_else(|| format!("{} answered {status} without a usable Location", redact(&url)))?;
        }
        Err(format!("more than {MAX_REDIRECTS} redirects, the last one to {}", redact(&url)))
    }

    async fn read(&self, url: &Url, mut response: reqwest::Response) -> Result<Vec<u8>, String> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("{} answered {status}, expected 200 OK", redact(url)));
        }
        let max = self.limits.max_bytes;
        let declared = response.content_length();
        if let Some(declared) = declared.filter(|declared| *declared > max) {
            return Err(format!("the prompt is {declared} bytes long, at most {max} are allowed"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(url, error))? {
            if bytes.len() as u64 + chunk.len() as u64 > max {
                return Err(format!("the prompt is longer than {max} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        match declared {
            Some(declared) if declared != bytes.len() as u64 => {
                Err(format!("{declared} bytes were declared, {} came", bytes.len()))
            }
            _ => Ok(bytes),
        }
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
