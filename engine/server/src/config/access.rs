//! Flags and tables to who gets in: static tokens, issuers whose tokens are good, applications and their limits.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, time::Duration};

use holdmusic_control::access::{Identity, Limits, Rate};
use serde::Deserialize;
use url::{Host, Url};

/// How far the clock of an issuer may be from ours, where nobody says: what Microsoft's own libraries allow.
const DEFAULT_CLOCK_SKEW_S: u64 = 300;

/// What stands for the tenant of a token in the `issuer` of Entra ID's common discovery document.
pub const TENANT: &str = "{tenantid}";

/// `[[issuers]]`: whose tokens are good.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IssuerTable {
    issuer: String,
    discovery: Option<String>,
    keys: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    tenants: Vec<String>,
    clock_skew: Option<u64>,
}

/// `[[apps]]`: an application that may use the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AppTable {
    id: String,
    tenant: Option<String>,
    token: Option<String>,
    max_calls: Option<u32>,
    max_held: Option<u32>,
    requests_per_second: Option<f64>,
    max_preparing: Option<u32>,
}

/// Everything that was said about who gets in, unchecked.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// `--token`
    pub token: Option<String>,
    /// Whose it is.
    pub identity: Option<Identity>,
    /// `--auth-issuer`
    pub issuer: Option<String>,
    /// `--auth-audience`
    pub audiences: Vec<String>,
    /// `--auth-keys`
    pub keys: Option<String>,
    /// `--auth-tenant`
    pub tenants: Vec<String>,
    /// `[[issuers]]`
    pub issuers: Vec<IssuerTable>,
    /// `[[apps]]`
    pub apps: Vec<AppTable>,
}

/// Who gets in.
#[derive(Clone, Debug)]
pub struct Access {
    /// The static token that is no application's of the list.
    pub token: Option<String>,
    /// Whose it is.
    pub identity: Identity,
    /// Applications that may use the server; none is all.
    pub apps: Vec<App>,
    /// Whose tokens are good.
    pub issuers: Vec<IssuerSettings>,
}

/// An application that may use the server.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id.
    pub id: String,
    /// Its tenant; `None` is any.
    pub tenant: Option<String>,
    /// A static token of its own.
    pub token: Option<String>,
    /// What it may use, in each tenant.
    pub limits: Limits,
}

/// Whose tokens are good, and what must be in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `iss`, in which [`TENANT`] stands for `tid`.
    pub issuer: String,
    /// Where its keys are.
    pub keys: KeysFrom,
    /// `aud`: one of these.
    pub audiences: Vec<String>,
    /// `tid`: one of these; none is any.
    pub tenants: Vec<String>,
    /// How far its clock may be from ours.
    pub clock_skew: Duration,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFrom {
    /// Where this discovery document says (`jwks_uri`).
    Discovery(Url),
    /// A set of keys (RFC 7517).
    Url(Url),
    /// A file with one.
    File(PathBuf),
}

impl Access {
    /// Whether anybody was named who gets in.
    pub fn is_configured(&self) -> bool {
        self.token.is_some() || !self.issuers.is_empty() || self.apps.iter().any(|app| app.token.is_some())
    }
}

impl AccessOptions {
    /// Checks everything.
    ///
    /// # Errors
    ///
    /// One line: which setting, what was found, what is expected.
    pub fn check(self) -> Result<Access, String> {
        let identity = self.identity.unwrap_or_else(|| Identity::new("", ""));
        if self.token.as_ref().is_some_and(|token| !is_secret(token)) {
            return Err("--token is empty, or has spaces; expected a secret of printable ASCII".to_owned());
        }
        let mut tables: Vec<_> = self.issuers.into_iter().map(|table| ("[[issuers]]", table)).collect();
        match self.issuer {
            Some(issuer) => {
                let (keys, audiences, tenants) = (self.keys, self.audiences, self.tenants);
                let table = IssuerTable { issuer, keys, audiences, tenants, ..IssuerTable::default() };
                tables.push(("--auth-issuer", table));
            }
            None => {
                let given = [
                    ("--auth-audience", !self.audiences.is_empty()),
                    ("--auth-keys", self.keys.is_some()),
                    ("--auth-tenant", !self.tenants.is_empty()),
                ];
                if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                    return Err(format!("{flag} is given without --auth-issuer; expected both"));
                }
            }
        }
        let issuers: Vec<_> =
            tables.into_iter().map(|(place, table)| table.check(place)).collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = issuers.iter().find(|issuer| !names.insert(issuer.issuer.as_str())) {
            return Err(format!("the issuer '{}' is given twice; expected once", twice.issuer));
        }
        let apps: Vec<_> = self.apps.into_iter().map(AppTable::check).collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        let name = |app: &App| (app.id.clone(), app.tenant.clone());
        if let Some(twice) = apps.iter().find(|app| !names.insert(name(app))) {
            return Err(format!(
                "[[apps]]: '{}' is given twice for the same tenant; expected once",
                twice.id
            ));
        }
        let mut tokens = BTreeSet::new();
        if self
            .token
            .iter()
            .chain(apps.iter().filter_map(|app| app.token.as_ref()))
            .any(|t| !tokens.insert(t))
        {
            return Err("[[apps]]: two applications have the same token; expected one each".to_owned());
        }
        Ok(Access { token: self.token, identity, apps, issuers })
    }
}

/// A secret that fits into a header as it is.
fn is_secret(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl IssuerTable {
    fn check(self, place: &str) -> Result<IssuerSettings, String> {
        let Self { issuer, discovery, keys, audiences, tenants, clock_skew } = self;
        let wrong = |words: String| format!("{place} '{issuer}': {words}");
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(wrong(
                "no audience; expected what 'aud' of its tokens is, such as api://holdmusic".into(),
            ));
        }
        if clock_skew.is_some_and(|seconds| seconds > 3600) {
            return Err(wrong("clock-skew is over an hour; expected 0 to 3600 seconds".into()));
        }
        let keys = match (discovery, keys) {
            (Some(_), Some(_)) => {
                return Err(wrong("discovery and keys are given; expected one of them".into()));
            }
            (Some(url), None) => KeysFrom::Discovery(fetched(&url).map_err(wrong)?),
            (None, Some(keys)) if keys.contains("://") => KeysFrom::Url(fetched(&keys).map_err(wrong)?),
            (None, Some(file)) => KeysFrom::File(file.into()),
            (None, None) => {
                // Entra ID has one document for all tenants.
                let base = issuer.replace(TENANT, "common");
                let url = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
                KeysFrom::Discovery(fetched(&url).map_err(wrong)?)
            }
        };
        let clock_skew = Duration::from_secs(clock_skew.unwrap_or(DEFAULT_CLOCK_SKEW_S));
        Ok(IssuerSettings { issuer, keys, audiences, tenants, clock_skew })
    }
}

impl AppTable {
    fn check(self) -> Result<App, String> {
        let Self { id, tenant, token, max_calls, max_held, requests_per_second, max_preparing } = self;
        let wrong = |words: String| format!("[[apps]] '{id}': {words}");
        if id.is_empty() {
            return Err(wrong("id is empty; expected the application id".into()));
        }
        if token.as_ref().is_some_and(|token| !is_secret(token)) {
            return Err(wrong("token is empty, or has spaces; expected a secret of printable ASCII".into()));
        }
        let rate = requests_per_second
            .map(|rate| {
                let (least, most) = Rate::RANGE;
                let expected = || wrong(format!("requests-per-second is {rate}; expected {least} to {most}"));
                Rate::per_second(rate).ok_or_else(expected)
            })
            .transpose()?;
        let limits = Limits { calls: max_calls, held: max_held, rate, preparing: max_preparing };
        Ok(App { id, tenant, token, limits })
    }
}

/// Whether keys may be fetched from there: by HTTPS, or from this machine.
pub fn is_fetched_from(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

fn fetched(text: &str) -> Result<Url, String> {
    let expected = || {
        let shown = super::explained::shown_uri(text);
        format!("'{shown}' is not where keys may be fetched; expected an https URL (http only to loopback)")
    };
    Url::parse(text).ok().filter(is_fetched_from).ok_or_else(expected)
}

/// What `holdmusic config` says about the tables; a key of theirs does not begin a comment, so that nobody takes it for
/// a setting of the whole server.
const EXPLAINED_ISSUERS: &str = "
# [[issuers]]: whose signed tokens are good besides --auth-issuer, a table for each.
#   - issuer: `iss` of its tokens, exactly; {tenantid} in it stands for their `tid`
#   - discovery: where its discovery document is [default: issuer and /.well-known/openid-configuration]
#   - keys: a URL or a file with its keys (JWKS), instead of a discovery document
#   - audiences: what `aud` of its tokens may be, a list
#   - tenants: what `tid` of its tokens may be, a list [default: any]
#   - clock-skew: how far its clock may be from ours, in seconds [default: 300]
";
const EXPLAINED_APPS: &str = "
# [[apps]]: applications that may use this server, a table for each; if there is none, every one with a good token may.
#   - id: its application id (`appid` or `azp` of a token)
#   - tenant: its tenant (`tid`) [default: any; for its static token that of --tenant-id]
#   - token: a static token of its own, which has every role
#   - max-calls: calls at a time, in each tenant [default: as many as the server has; likewise below]
#   - max-held: participants on hold at a time
#   - requests-per-second: requests, as many at once as come in a second
#   - max-preparing: prompts being prepared at a time on its behalf
";

/// The tables as a file has them, explained; secrets are not shown.
pub fn explained(issuers: &[IssuerTable], apps: &[AppTable]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |texts: &[String]| {
        let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        format!("[{}]", texts.join(", "))
    };
    let mut text = String::from(EXPLAINED_ISSUERS);
    // Writing to a string does not fail.
    let line = |text: &mut String, key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value}");
        }
    };
    for table in issuers {
        text.push_str("\n[[issuers]]\n");
        let uri = |uri: &Option<String>| uri.as_deref().map(|uri| quoted(&super::explained::shown_uri(uri)));
        line(&mut text, "issuer", Some(quoted(&table.issuer)));
        line(&mut text, "discovery", uri(&table.discovery));
        line(&mut text, "keys", uri(&table.keys));
        line(&mut text, "audiences", Some(list(&table.audiences)));
        line(&mut text, "tenants", (!table.tenants.is_empty()).then(|| list(&table.tenants)));
        line(&mut text, "clock-skew", table.clock_skew.map(|seconds| seconds.to_string()));
    }
    text.push_str(EXPLAINED_APPS);
    for table in apps {
        text.push_str("\n[[apps]]\n");
        line(&mut text, "id", Some(quoted(&table.id)));
        line(&mut text, "tenant", table.tenant.as_deref().map(quoted));
        line(&mut text, "token", table.token.as_ref().map(|_| quoted("(secret)")));
        line(&mut text, "max-calls", table.max_calls.map(|n| n.to_string()));
        line(&mut text, "max-held", table.max_held.map(|n| n.to_string()));
        line(&mut text, "requests-per-second", table.requests_per_second.map(|n| n.to_string()));
        line(&mut text, "max-preparing", table.max_preparing.map(|n| n.to_string()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tables {
        #[serde(default)]
        issuers: Vec<IssuerTable>,
        #[serde(default)]
        apps: Vec<AppTable>,
    }

    fn check(file: &str) -> Result<Access, String> {
        let Tables { issuers, apps } = toml::from_str(file).map_err(|error| error.message().to_owned())?;
        AccessOptions { issuers, apps, ..AccessOptions::default() }.check()
    }

    #[test]
    fn an_issuer_says_where_its_keys_are_unless_the_file_does() {
        let keys = |more: &str| {
            let issuer = "issuer = 'https://login.microsoftonline.com/{tenantid}/v2.0'\naudiences = ['a']\n";
            check(&format!("[[issuers]]\n{issuer}{more}")).unwrap().issuers.remove(0).keys
        };
        let url = |text| Url::parse(text).unwrap();
        let common = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration";
        assert_eq!(keys(""), KeysFrom::Discovery(url(common)));
        assert_eq!(
            keys("discovery = 'http://127.0.0.1:1/x'"),
            KeysFrom::Discovery(url("http://127.0.0.1:1/x"))
        );
        assert_eq!(keys("keys = 'https://host/keys'"), KeysFrom::Url(url("https://host/keys")));
        assert_eq!(keys("keys = '/etc/keys.json'"), KeysFrom::File("/etc/keys.json".into()));
    }

    #[test]
    fn what_is_wrong_in_a_table_is_told_with_what_was_expected() {
        let issuer = "[[issuers]]\nissuer = 'https://host'\n";
        for (file, words) in [
            (issuer.to_owned(), "no audience"),
            (format!("{issuer}audiences = ['']"), "no audience"),
            (format!("{issuer}audiences = ['a']\nclock-skew = 3601"), "0 to 3600"),
            (
                format!("{issuer}audiences = ['a']\ndiscovery = 'https://a'\nkeys = 'b'"),
                "expected one of them",
            ),
            (format!("{issuer}audiences = ['a']\nkeys = 'http://host/?sesame'"), "http only to loopback"),
            (format!("{issuer}audiences = ['a']\n{issuer}audiences = ['a']"), "given twice"),
            ("[[issuers]]\nissuer = 'name'\naudiences = ['a']".to_owned(), "expected an https URL"),
            ("[[issuers]]\nissuer = 'name'\naudience = ['a']".to_owned(), "unknown field"),
            ("[[apps]]\nid = ''".to_owned(), "expected the application id"),
            ("[[apps]]\nid = 'a'\ntoken = 'a b'".to_owned(), "printable ASCII"),
            ("[[apps]]\nid = 'a'\n[[apps]]\nid = 'a'".to_owned(), "given twice"),
            ("[[apps]]\nid = 'a'\ntoken = 't'\n[[apps]]\nid = 'b'\ntoken = 't'".to_owned(), "same token"),
            ("[[apps]]\nid = 'a'\nrequests-per-second = 0".to_owned(), "expected 0.001 to 1000000"),
        ] {
            let error = check(&file).expect_err(&file);
            assert!(error.contains(words), "{file}: {error}");
            assert!(!error.contains("sesame") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_token_of_an_application_and_an_issuer_are_authentication() {
        assert!(!check("[[apps]]\nid = 'a'").unwrap().is_configured());
        assert!(check("[[apps]]\nid = 'a'\ntoken = 't'").unwrap().is_configured());
        assert!(check("[[issuers]]\nissuer = 'https://a'\naudiences = ['b']").unwrap().is_configured());
    }

    #[test]
    fn the_explained_tables_are_read_back_without_their_secrets() {
        let file = "[[issuers]]\nissuer = 'https://host'\naudiences = ['a', 'b']\nclock-skew = 5\n\
                    [[apps]]\nid = 'bot'\ntoken = 's3cret'\nrequests-per-second = 50\nmax-calls = 7\n";
        let Tables { issuers, apps } = toml::from_str(file).unwrap();
        let text = explained(&issuers, &apps);
        assert!(!text.contains("s3cret"), "{text}");
        let access = check(&text).unwrap();
        assert_eq!(access.issuers, check(file).unwrap().issuers);
        assert_eq!(access.apps[0].limits, check(file).unwrap().apps[0].limits);
        assert!(text.contains("#   - max-held: participants on hold at a time"));
    }
}
