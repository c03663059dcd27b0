//! Which way requests of ours leave (for prompts, notifications, issuers' keys): by the operator's proxy or directly.
//!
//! Nothing is taken from the environment (`HTTP_PROXY` and the like): a proxy resolves names for us, and whether one may is
//! the operator's word alone.

use std::{fmt, net::IpAddr, sync::Arc};

use holdmusic_control::guard::redact;
use ipnet::IpNet;
use reqwest::{ClientBuilder, Proxy};
use url::{Host, Url};

/// The way out of the house.
#[derive(Clone, Default)]
pub struct Egress {
    proxy: Option<Url>,
    direct: Arc<[Direct]>,
}

/// What needs no proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    /// Addresses that stand in the URL itself.
    Network(IpNet),
    /// A name, and all below it; in lower case.
    Name(String),
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_ref().map(redact);
        f.debug_struct("Egress").field("proxy", &proxy).field("direct", &self.direct).finish()
    }
}

impl Egress {
    /// Reads `--egress-proxy` and `--egress-direct`.
    ///
    /// # Errors
    ///
    /// One line: which setting, what was found, what is expected; without credentials.
    pub fn read(proxy: Option<&str>, direct: &[String]) -> Result<Self, String> {
        let proxy = proxy.map(read_proxy).transpose()?;
        if proxy.is_none() && !direct.is_empty() {
            return Err(
                "--egress-direct is given without --egress-proxy; then everything goes directly".to_owned()
            );
        }
        let direct = direct.iter().map(|text| read_direct(text)).collect::<Result<Arc<_>, _>>()?;
        let egress = Self { proxy, direct };
        // A name that is resolved for the proxy is not asked about: it must not lead a prompt past the guard.
        if let (Some(name), Some(proxy)) = (egress.proxy_name(), &egress.proxy)
            && egress.is_direct(proxy)
        {
            return Err(format!("--egress-direct covers {name}, the proxy itself; leave it out"));
        }
        Ok(egress)
    }

    /// Whether requests for `url` go by the proxy.
    pub(crate) fn is_by_proxy(&self, url: &Url) -> bool {
        self.proxy.is_some() && !self.is_direct(url)
    }

    /// What to add to an error of a request for `url`.
    pub(crate) fn way(&self, url: &Url) -> &'static str {
        if self.is_by_proxy(url) { " (by the egress proxy)" } else { "" }
    }

    /// The name of the proxy, if it has one that is to be resolved.
    pub(crate) fn proxy_name(&self) -> Option<&str> {
        match self.proxy.as_ref()?.host()? {
            Host::Domain(name) => Some(name),
            _ => None,
        }
    }

    /// A client that goes this way and no other.
    pub(crate) fn apply(&self, client: ClientBuilder) -> ClientBuilder {
        let client = client.no_proxy();
        let Some(proxy) = self.proxy.clone() else { return client };
        let egress = self.clone();
        client.proxy(Proxy::custom(move |url| egress.is_by_proxy(url).then(|| proxy.clone())))
    }

    fn is_direct(&self, url: &Url) -> bool {
        let address: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        let name = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        self.direct.iter().any(|direct| match direct {
            Direct::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Direct::Name(wanted) => {
                address.is_none()
                    && name
                        .strip_suffix(wanted.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        })
    }
}

fn read_proxy(text: &str) -> Result<Url, String> {
    // Not repeated: it may be a password.
    let wrong = |what: &str| {
        format!(
            "--egress-proxy {what}; expected http://[user:password@]host:port, as in http://proxy.example.com:3128"
        )
    };
    let url = Url::parse(text).map_err(|_| wrong("is no URL"))?;
    if url.scheme() != "http" {
        return Err(wrong(&format!("has the scheme '{}'", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has more than a host and a port"));
    }
    Ok(url)
}

fn read_direct(text: &str) -> Result<Direct, String> {
    let text = text.trim();
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(Direct::Network(network));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(Direct::Network(address.into()));
    }
    let name = text.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!(
            "--egress-direct has '{text}'; expected names or networks, as in intranet.example.com,10.0.0.0/8"
        ));
    }
    Ok(Direct::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(proxy: &str, direct: &str) -> Result<Egress, String> {
        let direct: Vec<_> = direct.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        Egress::read(Some(proxy), &direct)
    }

    #[test]
    fn names_and_networks_go_directly_and_the_rest_by_the_proxy() {
        let egress =
            egress("http://proxy:3128", "Intranet.example,.corp.example,10.0.0.0/8,[fd00::1]").unwrap();
        for (url, by_proxy) in [
            ("https://music.example/a.wav", true),
            ("https://intranet.example/a.wav", false),
            ("https://media.intranet.example./a.wav", false),
            ("https://notintranet.example/a.wav", true),
            ("https://corp.example:8443/", false),
            ("http://10.1.2.3/", false),
            ("http://11.1.2.3/", true),
            ("http://[fd00::1]/", false),
            ("http://[fd00::2]/", true),
            ("http://proxy/", true),
        ] {
            assert_eq!(egress.is_by_proxy(&Url::parse(url).unwrap()), by_proxy, "{url}");
        }
        assert!(!Egress::default().is_by_proxy(&Url::parse("https://music.example/").unwrap()));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (proxy, direct, words) in [
            ("proxy:3128", "", "scheme 'proxy'"),
            ("https://user:s3cret@proxy:3128", "", "scheme 'https'"),
            ("http://user:s3cret@proxy:3128/path", "", "more than a host"),
            ("http://user:s3cret@", "", "no URL"),
            ("http://user:s3cret@proxy:3128", "*", "expected names or networks"),
            ("http://user:s3cret@proxy.corp.example:3128", "corp.example", "the proxy itself"),
        ] {
            let error = egress(proxy, direct).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
        }
        let shown = format!("{:?}", egress("http://user:s3cret@proxy:3128", "").unwrap());
        assert!(
            shown.contains("proxy:3128") && !shown.contains("s3cret") && !shown.contains("user"),
            "{shown}"
        );
        assert!(Egress::read(None, &["a".to_owned()]).is_err());
    }
}
