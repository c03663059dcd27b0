//! Which addresses a prompt, a callback or a leg may have: an address or a URL goes in, yes or a reason comes out.
//!
//! A customer chooses these addresses, the engine goes there: without this room it would be a way into the
//! network around it. Names are resolved by the doors, which ask again for every address they are about to use.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use url::{Host, Url};

/// The policy. The default is the contract's: prompts and callbacks at public addresses, legs at loopback and
/// private ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// `--allow-fetch`: networks that prompts may come from besides public addresses.
    pub fetch: Vec<IpNet>,
    /// `--allow-callback`: networks that callbacks may go to besides public addresses.
    pub callback: Vec<IpNet>,
    /// Callbacks may go to loopback: set while we listen on loopback.
    pub callback_loopback: bool,
    /// Callbacks may use `http` to any allowed address.
    pub callback_http: bool,
    /// `--allow-media`: networks that legs may be sent to; empty means loopback and private networks.
    pub media: Vec<IpNet>,
}

/// What an address is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Fetch,
    Callback,
    Media,
}

impl Use {
    fn flag(self) -> &'static str {
        match self {
            Self::Fetch => "--allow-fetch",
            Self::Callback => "--allow-callback",
            Self::Media => "--allow-media",
        }
    }
}

/// Why an address may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRefused {
    address: IpAddr,
    range: &'static str,
    flag: &'static str,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, range, flag } = self;
        write!(f, "address {address} ({range}) is not allowed; the operator can allow it with {flag}")
    }
}

/// Why a URL may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlRefused {
    /// The scheme is not one of the expected.
    Scheme {
        /// What came.
        found: String,
        /// What may come.
        expected: &'static str,
    },
    /// The URL names no host.
    NoHost,
    /// The host is an address that may not be used.
    Address(AddressRefused),
    /// `http` to an address that is not loopback.
    PlainHttp,
    /// Something else than HTTP speaks on this port.
    Port(u16),
}

impl fmt::Display for UrlRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { found, expected } => {
                write!(f, "scheme '{found}' is not allowed; expected {expected}")
            }
            Self::NoHost => f.write_str("it names no host"),
            Self::Address(refused) => refused.fmt(f),
            Self::Port(port) => {
                write!(f, "port {port} belongs to another protocol than HTTP, as browsers have it too")
            }
            Self::PlainHttp => f.write_str("http is allowed only to loopback; expected https"),
        }
    }
}

impl Guard {
    /// Whether a prompt may be fetched from `address`.
    ///
    /// # Errors
    ///
    /// [`AddressRefused`], which names the range and the flag.
    pub fn fetch(&self, address: IpAddr) -> Result<(), AddressRefused> {
        public_or_listed(address, &self.fetch, Use::Fetch)
    }

    /// Whether a callback may go to `address`.
    ///
    /// # Errors
    ///
    /// [`AddressRefused`], which names the range and the flag.
    pub fn callback(&self, address: IpAddr) -> Result<(), AddressRefused> {
        if self.callback_loopback && address.to_canonical().is_loopback() {
            return Ok(());
        }
        public_or_listed(address, &self.callback, Use::Callback)
    }

    /// Whether a leg may be sent to `address`.
    ///
    /// # Errors
    ///
    /// [`AddressRefused`], which names the range and the flag.
    pub fn media(&self, address: IpAddr) -> Result<(), AddressRefused> {
        let address = address.to_canonical();
        let range = special(address);
        let allowed = if self.media.is_empty() {
            matches!(range, Some(Range::Loopback | Range::Private))
        } else {
            listed(address, &self.media)
        };
        let range = range.map_or("public", Range::name);
        if allowed { Ok(()) } else { Err(AddressRefused { address, range, flag: Use::Media.flag() }) }
    }

    /// Whether a prompt may be fetched from `url`, as far as the URL itself tells.
    ///
    /// # Errors
    ///
    /// [`UrlRefused`]; a host name is not resolved here.
    pub fn fetch_url(&self, url: &Url) -> Result<(), UrlRefused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlRefused::Scheme { found: url.scheme().to_owned(), expected: "https or http" });
        }
        match literal(url)? {
            Some(address) => self.fetch(address).map_err(UrlRefused::Address)?,
            // Whatever a resolver makes of it.
            None if url.host_str().is_some_and(is_localhost) => {
                let [v4, v6] = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
                self.fetch(v4).or_else(|refused| self.fetch(v6).map_err(|_| UrlRefused::Address(refused)))?;
            }
            None => {}
        }
        match url.port() {
            Some(port) if BLOCKED_PORTS.contains(&port) => Err(UrlRefused::Port(port)),
            _ => Ok(()),
        }
    }

    /// Whether notifications may go to `url`, as far as the URL itself tells.
    ///
    /// # Errors
    ///
    /// [`UrlRefused`]; a host name is not resolved here.
    pub fn callback_url(&self, url: &Url) -> Result<(), UrlRefused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlRefused::Scheme { found: url.scheme().to_owned(), expected: "https" });
        }
        let address = literal(url)?;
        if let Some(address) = address {
            self.callback(address).map_err(UrlRefused::Address)?;
        }
        // In the clear a callback's token could be read on the way: only where there is no way to speak of.
        let plain_is_fine = self.callback_http
            || match address {
                Some(address) => address.to_canonical().is_loopback() || listed(address, &self.callback),
                None => url.host_str().is_some_and(is_localhost),
            };
        if url.scheme() == "http" && !plain_is_fine { Err(UrlRefused::PlainHttp) } else { Ok(()) }
    }
}

/// Ports of protocols that an HTTP request could be made to speak, mail and name servers above all: the list of the
/// Fetch standard, section 2.9, "port blocking".
const BLOCKED_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// RFC 6761 section 6.3: these names mean loopback.
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

/// The address that a URL names literally, if it does.
fn literal(url: &Url) -> Result<Option<IpAddr>, UrlRefused> {
    match url.host() {
        None | Some(Host::Domain("")) => Err(UrlRefused::NoHost),
        Some(Host::Domain(_)) => Ok(None),
        Some(Host::Ipv4(address)) => Ok(Some(address.into())),
        Some(Host::Ipv6(address)) => Ok(Some(address.into())),
    }
}

fn public_or_listed(address: IpAddr, networks: &[IpNet], what: Use) -> Result<(), AddressRefused> {
    let address = address.to_canonical();
    match special(address) {
        None => Ok(()),
        Some(_) if listed(address, networks) => Ok(()),
        Some(range) => Err(AddressRefused { address, range: range.name(), flag: what.flag() }),
    }
}

fn listed(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// A range that is not the public internet (IANA special-purpose registries, RFC 6890 and its updates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Unspecified,
    Loopback,
    Private,
    LinkLocal,
    Shared,
    Multicast,
    Broadcast,
    Documentation,
    Benchmark,
    Protocol,
    Reserved,
    Tunnel,
}

impl Range {
    fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "this network",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Shared => "shared by a carrier's customers",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmarking",
            Self::Protocol => "protocol assignments",
            Self::Reserved => "reserved",
            Self::Tunnel => "a tunnel or translation prefix",
        }
    }
}

/// The special range in which an address lies; `None` is public.
fn special(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Range> {
    Some(match address.octets() {
        [0, ..] => Range::Unspecified,
        [127, ..] => Range::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Range::Private,
        [169, 254, ..] => Range::LinkLocal,
        [100, 64..=127, ..] => Range::Shared,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Range::Documentation,
        // 192.88.99/24 was the anycast relay of 6to4 (RFC 7526).
        [192, 0, 0, _] | [192, 88, 99, _] => Range::Protocol,
        [198, 18..=19, ..] => Range::Benchmark,
        [224..=239, ..] => Range::Multicast,
        [255, 255, 255, 255] => Range::Broadcast,
        [240..=255, ..] => Range::Reserved,
        _ => return None,
    })
}

fn special_v6(address: Ipv6Addr) -> Option<Range> {
    let segments = address.segments();
    let [.., g, h] = segments;
    let embedded = |high: u16, low: u16| {
        let [[o1, o2], [o3, o4]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(o1, o2, o3, o4)
    };
    Some(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Range::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Range::Loopback,
        // Mapped, compatible and translated (RFC 4291, RFC 2765): as special as what is inside.
        [0, 0, 0, 0, 0, 0xffff, ..] => return special_v4(embedded(g, h)),
        [0, 0, 0, 0, 0xffff, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => {
            special_v4(embedded(g, h)).unwrap_or(Range::Reserved)
        }
        // NAT64 leads to the embedded address (RFC 6052); its local prefix to whatever the network says (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => return special_v4(embedded(g, h)),
        [0x64, 0xff9b, ..] => Range::Tunnel,
        [0x100, 0, 0, ..] => Range::Reserved,
        // 6to4 and Teredo carry an IPv4 address of somebody's choice.
        [0x2002, ..] | [0x2001, 0, ..] => Range::Tunnel,
        [0x2001, 0x2, 0, ..] => Range::Benchmark,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Range::Documentation,
        [0x2001, 0..=0x1ff, ..] => Range::Protocol,
        [0xfc00..=0xfdff, ..] => Range::Private,
        [0xfe80..=0xfebf, ..] => Range::LinkLocal,
        [0xfec0..=0xfeff, ..] => Range::Private,
        [0xff00..=0xffff, ..] => Range::Multicast,
        // Everything public is inside 2000::/3 (RFC 4291 section 2.4, IANA).
        [0x2000..=0x3fff, ..] => return None,
        _ => Range::Reserved,
    })
}

/// A URL as messages and logs may show it: without user, password, query and fragment, which carry access
/// signatures. A `?…` shows that there was a query.
pub fn redact(url: &Url) -> String {
    // `data:`, `javascript:`, `mailto:`: without a hierarchy all of it may be what must not be shown.
    if url.cannot_be_a_base() {
        return format!("{}:…", url.scheme());
    }
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have a user, which then have none.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let had_query = shown.query().is_some();
    shown.set_query(None);
    let mut text = String::from(shown);
    if had_query {
        text.push_str("?…");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn only_public_addresses_are_fetched_from() {
        let guard = Guard::default();
        for public in ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"] {
            assert_eq!(guard.fetch(address(public)), Ok(()), "{public}");
            assert_eq!(guard.callback(address(public)), Ok(()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::93.184.216.34",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2001:10::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(guard.fetch(address(special)).is_err(), "{special}");
            assert!(guard.callback(address(special)).is_err(), "{special}");
        }
    }

    #[test]
    fn edges_of_ranges_are_where_the_registries_put_them() {
        let guard = Guard::default();
        for public in [
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
        ] {
            assert_eq!(guard.fetch(address(public)), Ok(()), "{public}");
        }
    }

    #[test]
    fn a_listed_network_is_allowed_and_a_refusal_names_the_flag() {
        let guard = Guard { fetch: vec!["10.1.0.0/16".parse().unwrap()], ..Guard::default() };
        assert_eq!(guard.fetch(address("10.1.2.3")), Ok(()));
        assert_eq!(guard.fetch(address("::ffff:10.1.2.3")), Ok(()));
        let refused = guard.fetch(address("10.2.0.1")).unwrap_err().to_string();
        assert_eq!(
            refused,
            "address 10.2.0.1 (private) is not allowed; the operator can allow it with --allow-fetch"
        );
    }

    #[test]
    fn legs_go_to_loopback_and_private_networks_unless_a_list_says_otherwise() {
        let guard = Guard::default();
        for near in ["127.0.0.1", "192.168.7.9", "::1", "fd00::1", "::ffff:127.0.0.1"] {
            assert_eq!(guard.media(address(near)), Ok(()), "{near}");
        }
        for far in ["93.184.216.34", "224.0.0.1", "169.254.1.1", "0.0.0.0", "2606:2800:220:1::1"] {
            assert!(guard.media(address(far)).is_err(), "{far}");
        }
        let guard = Guard { media: vec!["93.184.216.0/24".parse().unwrap()], ..guard };
        assert_eq!(guard.media(address("93.184.216.34")), Ok(()));
        assert!(guard.media(address("127.0.0.1")).is_err());
    }

    #[test]
    fn callbacks_use_https_except_to_loopback() {
        let guard = Guard { callback_loopback: true, ..Guard::default() };
        for fine in
            ["https://bot.contoso.com/api", "http://127.0.0.1:9/x", "http://[::1]/", "http://localhost:3/"]
        {
            assert_eq!(guard.callback_url(&url(fine)), Ok(()), "{fine}");
        }
        assert_eq!(guard.callback_url(&url("http://bot.contoso.com/")), Err(UrlRefused::PlainHttp));
        assert!(matches!(guard.callback_url(&url("https://10.0.0.1/")), Err(UrlRefused::Address(_))));
        assert!(matches!(guard.callback_url(&url("ftp://x/")), Err(UrlRefused::Scheme { .. })));
        assert!(matches!(Guard::default().callback_url(&url("http://127.1/")), Err(UrlRefused::Address(_))));
    }

    /// What people write who want into the network behind the engine.
    #[test]
    fn no_spelling_of_a_forbidden_address_gets_through() {
        let guard = Guard::default();
        for hostile in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0X7F.0.0.1/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://0177.0x0.0.1/",
            "http://127.0.0.1./",
            "http://127。0。0。1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://１２７.0.0.1/",
            "http://%31%32%37.0.0.1/",
            "http://127.0.0.1:80@127.0.0.1/",
            "http://public.example@10.0.0.1/",
            "http://public.example:80@10.0.0.1/",
            "http://public.example%2f@10.0.0.1/",
            "http:\\\\10.0.0.1\\",
            "http:/10.0.0.1/",
            "http:10.0.0.1",
            "https://10.0.0.1#public.example/",
            "https://10.0.0.1?public.example/",
            "https://10.0.0.1\t/",
            "http://0/",
            "http://0.0.0.0/",
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://192.168.1.1/",
            "http://172.16.0.1/",
            "http://172.31.255.255/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://192.0.2.1/",
            "http://224.0.0.251/",
            "http://240.0.0.1/",
            "http://255.255.255.255/",
            "http://[::]/",
            "http://[::1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::127.0.0.1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::ffff:0:127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::1]/",
            "http://[2002:a00:1::]/",
            "http://[2001:0:53aa:64c:0:0:f5ff:fffe]/",
            "http://[fc00::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://localhost/",
            "http://LOCALHOST/",
            "http://localhost./",
            "http://a.localhost/",
            "http://ｌocalhost/",
            "http://localhost\u{ad}/",
        ] {
            let read = Url::parse(hostile).expect(hostile);
            let refused = guard.fetch_url(&read);
            assert!(matches!(refused, Err(UrlRefused::Address(_))), "{hostile} is {read}: {refused:?}");
        }
        // These are no URLs, whoever reads them.
        for broken in
            ["http://[fe80::1%25eth0]/", "http://[::1/", "http://1.2.3.4.5/", "http://0x7g.1/", "http:///"]
        {
            assert!(Url::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn only_http_is_spoken_and_only_where_it_is_at_home() {
        let guard = Guard { fetch: vec!["127.0.0.0/8".parse().unwrap()], ..Guard::default() };
        for scheme in
            ["file:///etc/passwd", "data:,x", "ftp://host/", "gopher://host/", "javascript:1", "ws://h/"]
        {
            assert!(matches!(guard.fetch_url(&url(scheme)), Err(UrlRefused::Scheme { .. })), "{scheme}");
        }
        for port in [1, 22, 25, 53, 110, 143, 389, 465, 587, 993, 2049, 5060, 6000, 6667, 10080] {
            for host in ["93.184.216.34", "host", "127.0.0.1"] {
                let refused = guard.fetch_url(&url(&format!("http://{host}:{port}/")));
                assert_eq!(refused, Err(UrlRefused::Port(port)), "{host}");
            }
        }
        for fine in [
            "http://host:80/",
            "https://host:443/",
            "http://host:8080/",
            "http://localhost:8000/",
            "http://h:1024/",
        ] {
            assert_eq!(guard.fetch_url(&url(fine)), Ok(()), "{fine}");
        }
    }

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        assert_eq!(redact(&url("https://me:pw@host/a.wav?sig=secret#part")), "https://host/a.wav?…");
        assert_eq!(redact(&url("https://host:8443/a%20b.wav")), "https://host:8443/a%20b.wav");
        assert_eq!(redact(&url("data:audio/wav;base64,UklGRg==")), "data:…");
    }
}
