//! Peers against a DTLS client that knows nothing of them, and against whoever means ill.

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use holdmusic_media::Suite;

use super::{
    peer::{CONNECT_WITHIN, CONSENT},
    *,
};

const LEG: LegId = LegId(7);
const BROWSER: &str = "192.168.1.10:50000";
const ELSEWHERE: &str = "192.168.1.10:50001";
const STRANGER: &str = "203.0.113.9:4000";

fn certificate() -> DtlsCertificate {
    let home = tempfile::tempdir().expect("a directory");
    certificate::open(home.path()).expect("a certificate")
}

fn local(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.to_owned(), pwd: "a-password-of-ours-24-long".to_owned() }
}

/// A browser: checks by hand, DTLS by the library's client.
struct Browser {
    at: SocketAddr,
    local: IceCredentials,
    ufrag: String,
    certificate: DtlsCertificate,
    dtls: Option<Dtls>,
    checks: u32,
    material: Option<Vec<u8>>,
    server_certificate: Option<Vec<u8>>,
    closed: bool,
    connected: bool,
}

/// Peers and one browser, and the network between them.
struct Stage {
    peers: Peers,
    origin: (MediaTime, std::time::Instant),
    now: MediaTime,
    browser: Browser,
    events: Vec<PeerEvent>,
    /// Those that are only for reading.
    seen: Vec<Option<IpAddr>>,
    answers: usize,
    /// Who may also be sent something; it is lost.
    others: Vec<SocketAddr>,
}

impl Browser {
    fn new(at: &str, name: &str) -> Self {
        Self {
            at: at.parse().expect("an address"),
            local: local(name),
            ufrag: "browser".to_owned(),
            certificate: certificate(),
            dtls: None,
            checks: 0,
            material: None,
            server_certificate: None,
            closed: false,
            connected: false,
        }
    }

    fn offer(&self) -> PeerOffer {
        let fingerprint = certificate::fingerprint(&self.certificate);
        let fingerprints = vec![("sha-256", fingerprint.to_vec().into())];
        PeerOffer { ufrag: self.ufrag.clone(), fingerprints, is_passive: false }
    }

    fn check(&mut self, use_candidate: bool) -> Vec<u8> {
        self.checks += 1;
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&self.checks.to_be_bytes());
        let IceCredentials { ufrag, pwd } = &self.local;
        stun::check(transaction, (ufrag, pwd), &self.ufrag, 1, use_candidate)
    }
}

impl Stage {
    fn new() -> Self {
        Self::with(|offer| offer)
    }

    fn with(change: impl FnOnce(PeerOffer) -> PeerOffer) -> Self {
        let origin = clock::instant();
        let mut peers = Peers::new(House::new(certificate(), origin), Arc::default());
        let browser = Browser::new(BROWSER, "ours1234");
        let now = origin.0 + Duration::from_secs(1);
        peers.admit(now, LEG, 0, browser.local.clone(), change(browser.offer()), None);
        let (events, seen, others) = (vec![], vec![], vec![]);
        Self { peers, origin, now, browser, events, seen, answers: 0, others }
    }

    fn check(&mut self, use_candidate: bool) {
        let check = self.browser.check(use_candidate);
        let from = self.browser.at;
        self.send(from, &check);
    }

    fn send(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.peers.handle_datagram(self.now, 0, from, datagram);
        self.exchange();
    }

    fn instant(&self) -> std::time::Instant {
        self.origin.1 + self.now.since(self.origin.0)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.peers.handle_timeout(self.now);
        self.exchange();
    }

    /// Begins DTLS as a client, or as a server that waits.
    fn shake_hands(&mut self, active: bool) {
        let config = Arc::new(Config::default());
        let mut dtls = Dtls::new_auto(config, self.browser.certificate.clone(), self.instant());
        dtls.set_active(active);
        dtls.handle_timeout(self.instant()).expect("a client that begins");
        self.browser.dtls = Some(dtls);
        self.exchange();
    }

    /// Carries datagrams to and fro until nobody has any.
    fn exchange(&mut self) {
        for _ in 0..100 {
            let mut quiet = true;
            for (_, to, bytes) in self.peers.take_transmits() {
                quiet = false;
                if self.others.contains(&to) {
                    continue;
                }
                assert_eq!(to, self.browser.at, "nobody else has asked for anything");
                match bytes[0] {
                    0..=3 => self.answers += 1,
                    _ => {
                        if let Some(dtls) = &mut self.browser.dtls {
                            let _ = dtls.handle_packet(&bytes);
                        }
                    }
                }
            }
            let mut out = vec![];
            let mut room = vec![0; 4_096];
            while let Some(dtls) = &mut self.browser.dtls {
                match dtls.poll_output(&mut room) {
                    Output::Packet(bytes) => out.push(bytes.to_vec()),
                    Output::Timeout(_) => break,
                    Output::Connected => self.browser.connected = true,
                    Output::PeerCert(der) => self.browser.server_certificate = Some(der.to_vec()),
                    Output::KeyingMaterial(material, _) => self.browser.material = Some(material.to_vec()),
                    Output::CloseNotify => self.browser.closed = true,
                    _ => {}
                }
            }
            for bytes in out {
                quiet = false;
                self.peers.handle_datagram(self.now, 0, self.browser.at, &bytes);
            }
            for event in self.peers.take_events() {
                match event {
                    PeerEvent::Seen { leg: LEG, refused } => self.seen.push(refused),
                    event => self.events.push(event),
                }
            }
            if quiet {
                return;
            }
        }
        panic!("they never come to an end");
    }

    fn connect(&mut self) {
        self.check(true);
        self.shake_hands(true);
    }

    #[track_caller]
    fn disconnected(&self) -> &Disconnection {
        match self.events.last() {
            Some(PeerEvent::Disconnected { leg: LEG, why, .. }) => why,
            other => panic!("expected the end of the peer, and found {other:?}"),
        }
    }
}

#[test]
fn a_browser_connects_and_both_have_the_same_keys() {
    let mut stage = Stage::new();
    stage.connect();
    let [PeerEvent::Connected { leg, destination, keying: Some(keying) }] = &stage.events[..] else {
        panic!("{:?}", stage.events);
    };
    assert_eq!((*leg, *destination), (LEG, stage.browser.at));
    assert!(stage.browser.connected && stage.answers == 1 && stage.seen == [None]);
    let suite = keying.send.suite();
    let (key, salt) = (suite.master_key_len(), suite.master_salt_len());
    // RFC 5764 section 4.2: client's key, server's key, client's salt, server's salt.
    let material = stage.browser.material.as_deref().expect("keys");
    assert_eq!(material.len(), 2 * (key + salt));
    let (keys, salts) = material.split_at(2 * key);
    assert_eq!(keying.send.bytes(), [&keys[key..], &salts[salt..]].concat());
    let receive = keying.receive.as_ref().expect("a key for what comes in");
    assert_eq!(receive.bytes(), [&keys[..key], &salts[..salt]].concat());
    assert!(matches!(suite, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm));
    assert_eq!(stage.peers.counts(), (1, 0));
}

#[test]
fn a_peer_that_waits_for_us_gets_our_first_message() {
    let mut stage = Stage::with(|offer| PeerOffer { is_passive: true, ..offer });
    stage.shake_hands(false);
    stage.check(true);
    stage.exchange();
    let [PeerEvent::Connected { keying: Some(keying), .. }] = &stage.events[..] else {
        panic!("{:?}", stage.events);
    };
    let suite = keying.send.suite();
    let (key, salt) = (suite.master_key_len(), suite.master_salt_len());
    let (keys, salts) = stage.browser.material.as_deref().expect("keys").split_at(2 * key);
    assert_eq!(keying.send.bytes(), [&keys[..key], &salts[..salt]].concat(), "we are the client");
}

#[test]
fn our_certificate_is_the_one_whose_fingerprint_we_tell() {
    let home = tempfile::tempdir().unwrap();
    let kept = certificate::open(home.path()).unwrap();
    let mut stage = Stage::new();
    let told = certificate::fingerprint(&kept);
    stage.peers.house = House::new(kept, stage.origin);
    stage.connect();
    let shown = stage.browser.server_certificate.clone().expect("a certificate");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shown);
    assert_eq!(digest.as_ref(), told);
}

#[test]
fn without_a_check_no_handshake_begins() {
    let mut stage = Stage::new();
    stage.shake_hands(true);
    assert_eq!((stage.peers.counts(), stage.answers), ((1, 0), 0));
    assert!(stage.browser.server_certificate.is_none() && stage.events.is_empty());
    stage.pass(CONNECT_WITHIN);
    assert_eq!(*stage.disconnected(), Disconnection::NoCheck);
    assert_eq!(stage.peers.counts(), (0, 0));
}

#[test]
fn another_certificate_than_the_offers_is_refused() {
    let mut stage = Stage::new();
    stage.browser.certificate = certificate();
    stage.connect();
    assert_eq!(*stage.disconnected(), Disconnection::Stranger);
    assert_eq!(stage.peers.counts(), (0, 0));
}

#[test]
fn who_has_another_password_or_name_is_not_answered() {
    let mut stage = Stage::new();
    stage.browser.local.pwd.push('x');
    stage.check(true);
    stage.browser.local = local("ours1235");
    stage.check(true);
    stage.browser.local = local("ours1234");
    stage.browser.ufrag = "somebody".to_owned();
    stage.check(true);
    assert_eq!(stage.answers, 0);
}

#[test]
fn an_address_that_media_may_not_be_sent_to_is_not_answered_and_named() {
    let mut stage = Stage::new();
    stage.browser.at = STRANGER.parse().unwrap();
    stage.check(true);
    stage.check(true);
    assert_eq!((stage.answers, &stage.seen[..]), (0, &[Some(stage.browser.at.ip())][..]));
    stage.pass(CONNECT_WITHIN);
    assert_eq!(*stage.disconnected(), Disconnection::NotAllowed("203.0.113.9".parse().unwrap()));
    assert!(stage.disconnected().to_string().contains("--allow-media"));
}

#[test]
fn without_checks_consent_is_over_after_thirty_seconds_and_not_before() {
    let mut stage = Stage::new();
    stage.connect();
    for _ in 0..20 {
        stage.pass(CONSENT - Duration::from_secs(1));
        stage.check(false);
    }
    assert_eq!(stage.events.len(), 1, "{:?}", stage.events);
    stage.pass(CONSENT - Duration::from_millis(1));
    assert_eq!(stage.events.len(), 1);
    stage.pass(Duration::from_millis(1));
    assert_eq!(*stage.disconnected(), Disconnection::Silent);
    assert_eq!(stage.peers.counts(), (0, 0));
}

/// A check that somebody has seen, sent again from elsewhere: packets stay where they are.
#[test]
fn a_check_that_was_recorded_moves_nothing() {
    let mut stage = Stage::new();
    let check = stage.browser.check(true);
    stage.send(stage.browser.at, &check);
    stage.shake_hands(true);
    stage.pass(Duration::from_secs(5));
    let answers = stage.answers;
    stage.send(ELSEWHERE.parse().unwrap(), &check);
    assert_eq!((stage.answers, stage.events.len()), (answers, 1));
    // From where it came first it may be one whose answer was lost; it does not say that the peer still wants to hear.
    stage.send(stage.browser.at, &check);
    assert_eq!(stage.answers, answers + 1);
    for _ in 0..26 {
        stage.send(stage.browser.at, &check);
        stage.pass(Duration::from_secs(1));
    }
    assert_eq!(*stage.disconnected(), Disconnection::Silent);
}

#[test]
fn a_peer_that_chooses_another_address_is_sent_to_there() {
    let mut stage = Stage::new();
    stage.connect();
    stage.pass(Duration::from_secs(2));
    stage.browser.at = ELSEWHERE.parse().unwrap();
    stage.check(false);
    assert_eq!(stage.events.len(), 1, "it has only looked whether that would do");
    stage.check(true);
    let moved = PeerEvent::Connected { leg: LEG, destination: stage.browser.at, keying: None };
    assert_eq!(stage.events.last(), Some(&moved));
    // Checks from where it was no longer count.
    stage.pass(CONSENT - Duration::from_millis(1));
    stage.browser.at = BROWSER.parse().unwrap();
    stage.check(false);
    stage.pass(Duration::from_millis(1));
    assert_eq!(*stage.disconnected(), Disconnection::Silent);
}

#[test]
fn a_peer_that_closes_is_gone_and_one_that_is_dismissed_is_told() {
    let mut stage = Stage::new();
    stage.connect();
    stage.browser.dtls.as_mut().unwrap().close().unwrap();
    stage.exchange();
    assert_eq!(*stage.disconnected(), Disconnection::Closed);
    assert_eq!(stage.peers.counts(), (0, 0));

    let mut stage = Stage::new();
    stage.connect();
    stage.peers.dismiss(stage.now, LEG);
    stage.exchange();
    assert!(stage.browser.closed);
    assert_eq!((stage.peers.counts(), stage.events.len()), ((0, 0), 1));
    assert!(stage.peers.by_address.is_empty() && stage.peers.by_name.is_empty());
    assert!(stage.peers.deadlines.is_empty() && stage.peers.legs.is_empty());
}

/// A restart of ICE by the same browser: other names, the same association and the same keys, whoever began DTLS.
#[test]
fn ice_is_restarted_without_another_handshake() {
    for is_passive in [false, true] {
        ice_is_restarted(is_passive);
    }
}

fn ice_is_restarted(is_passive: bool) {
    let mut stage = Stage::with(|offer| PeerOffer { is_passive, ..offer });
    if is_passive {
        stage.shake_hands(false);
    }
    stage.check(true);
    if !is_passive {
        stage.shake_hands(true);
    }
    stage.browser.local = local("newname1");
    stage.browser.ufrag = "again".to_owned();
    let offer = PeerOffer { is_passive, ..stage.browser.offer() };
    stage.peers.admit(stage.now, LEG, 0, local("newname1"), offer, None);
    assert_eq!((stage.peers.counts(), stage.events.len()), ((2, 0), 1), "the first one is still heard");
    stage.browser.at = ELSEWHERE.parse().unwrap();
    stage.check(true);
    let moved = PeerEvent::Connected { leg: LEG, destination: stage.browser.at, keying: None };
    assert_eq!((stage.events.last(), stage.peers.counts()), (Some(&moved), (1, 0)));
    stage.peers.dismiss(stage.now, LEG);
    stage.exchange();
    assert!(stage.browser.closed, "the association went on");
}

/// The page was loaded anew: another certificate. The old one is heard until the new one is connected.
#[test]
fn another_browser_takes_the_place_of_the_first_when_it_is_connected() {
    let mut stage = Stage::new();
    stage.connect();
    let mut next = Browser::new(ELSEWHERE, "newname1");
    next.ufrag = "again".to_owned();
    stage.peers.admit(stage.now, LEG, 0, next.local.clone(), next.offer(), None);
    stage.check(false);
    assert_eq!(stage.events.len(), 1);
    stage.browser = next;
    stage.check(true);
    stage.others.push(BROWSER.parse().unwrap());
    stage.shake_hands(true);
    assert_eq!(stage.peers.counts(), (1, 0), "{:?}", stage.events);
    let is_new = |event: &PeerEvent| matches!(event, PeerEvent::Connected { destination, keying: Some(_), .. } if *destination == stage.browser.at);
    assert!(stage.events.last().is_some_and(is_new), "{:?}", stage.events);
}

/// Nobody comes for a new invitation, and the first goes on; then it is gone, while another is invited.
#[test]
fn control_hears_which_invitation_came_to_nothing() {
    let mut stage = Stage::new();
    stage.connect();
    let next = Browser::new(ELSEWHERE, "newname1");
    stage.peers.admit(stage.now, LEG, 0, next.local.clone(), next.offer(), None);
    for _ in 0..7 {
        stage.pass(Duration::from_secs(5));
        stage.check(false);
    }
    let not_replaced = PeerEvent::NotReplaced { leg: LEG, name: next.local.ufrag };
    assert_eq!(stage.events.last(), Some(&not_replaced));
    let mut last = Browser::new(ELSEWHERE, "newname2");
    last.ufrag = "again".to_owned();
    stage.peers.admit(stage.now, LEG, 0, last.local.clone(), last.offer(), None);
    stage.pass(Duration::from_secs(31));
    let names = stage.events.iter().filter_map(|event| match event {
        PeerEvent::Disconnected { name, why, .. } => Some((name.as_str(), why)),
        _ => None,
    });
    assert_eq!(names.collect::<Vec<_>>(), [("newname2", &Disconnection::Silent)]);
}

/// A page makes its new connection, closes the old one, and only then is the new one connected.
#[test]
fn who_says_goodbye_may_have_another_in_his_place_already() {
    for same_certificate in [false, true] {
        let mut stage = Stage::new();
        stage.connect();
        let mut next = Browser::new(ELSEWHERE, "newname1");
        next.ufrag = "again".to_owned();
        if same_certificate {
            next.certificate = stage.browser.certificate.clone();
        }
        stage.peers.admit(stage.now, LEG, 0, next.local.clone(), next.offer(), None);
        stage.browser.dtls.as_mut().unwrap().close().unwrap();
        stage.exchange();
        assert_eq!((stage.events.len(), stage.peers.counts()), (1, (1, 0)), "{:?}", stage.events);
        stage.others.push(BROWSER.parse().unwrap());
        stage.browser = next;
        stage.connect();
        let is_new = |event: &PeerEvent| matches!(event, PeerEvent::Connected { destination, keying: Some(_), .. } if *destination == stage.browser.at);
        assert!(stage.events.last().is_some_and(is_new), "{:?}", stage.events);
        assert_eq!(stage.peers.counts(), (1, 0));
    }
}

/// Another connection with the certificate of the first, which vanished without a word: it has an association of its own.
#[test]
fn the_same_certificate_may_begin_another_association() {
    let mut stage = Stage::new();
    stage.connect();
    let mut next = Browser::new(ELSEWHERE, "newname1");
    (next.ufrag, next.certificate) = ("again".to_owned(), stage.browser.certificate.clone());
    stage.peers.admit(stage.now, LEG, 0, next.local.clone(), next.offer(), None);
    stage.others.push(BROWSER.parse().unwrap());
    stage.browser = next;
    stage.check(false);
    stage.shake_hands(true);
    stage.check(true);
    let keys =
        stage.events.iter().filter(|event| matches!(event, PeerEvent::Connected { keying: Some(_), .. }));
    assert_eq!((keys.count(), stage.peers.counts()), (2, (1, 0)), "{:?}", stage.events);
}

/// After a restart of the engine the peer is known by its names and where it was.
#[test]
fn a_peer_that_was_connected_before_a_restart_goes_on() {
    let mut stage = Stage::new();
    let offer = stage.browser.offer();
    let at = stage.browser.at;
    stage.peers.dismiss(stage.now, LEG);
    stage.peers.admit(stage.now, LEG, 0, stage.browser.local.clone(), offer, Some(at));
    stage.pass(Duration::from_secs(20));
    stage.check(false);
    assert_eq!((stage.answers, stage.events.len()), (1, 0));
    stage.pass(CONSENT - Duration::from_secs(1));
    stage.check(true);
    assert!(stage.events.is_empty());
    stage.pass(CONSENT);
    assert_eq!(*stage.disconnected(), Disconnection::Silent);
}

/// More than a hundred checks in a second are not answered, and none that is not authentic costs any of them.
#[test]
fn a_flood_is_answered_a_hundred_times_a_second() {
    let mut stage = Stage::new();
    let good = stage.browser.local.clone();
    stage.browser.local.pwd.push('x');
    (0..1_000).for_each(|_| stage.check(true));
    stage.browser.local = good;
    (0..1_000).for_each(|_| stage.check(true));
    assert_eq!(stage.answers, 100);
    stage.pass(Duration::from_secs(1));
    stage.check(true);
    assert_eq!(stage.answers, 101);
    assert!(stage.peers.by_address.len() == 1);
    // Nor does what anybody can send from there.
    stage.pass(Duration::from_secs(1));
    (0..1_000).for_each(|_| stage.send(stage.browser.at, &[22; 40]));
    stage.check(true);
    assert_eq!(stage.answers, 102);
}

#[test]
fn addresses_are_forgotten_beyond_eight() {
    let mut stage = Stage::new();
    for port in 1_000..1_050 {
        stage.browser.at.set_port(port);
        stage.check(port == 1_000);
    }
    assert_eq!(stage.peers.by_address.len(), 8);
    assert!(stage.peers.by_address.contains_key(&(0, "192.168.1.10:1000".parse().unwrap())));
}

/// Whoever knows where the peer is can begin a handshake in its name, with something that is none; the peer's own succeeds.
#[test]
fn a_first_message_that_is_none_does_not_keep_the_peer_from_its_own() {
    let mut stage = Stage::new();
    stage.check(true);
    let mut hello = vec![0xaa; 120];
    hello[..25].copy_from_slice(&[
        22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 107, 1, 0, 0, 95, 0, 0, 0, 0, 0, 0, 0, 95,
    ]);
    for _ in 0..2 {
        stage.send(stage.browser.at, &hello);
        stage.send(stage.browser.at, &[22; 40]);
    }
    stage.shake_hands(true);
    for _ in 0..5 {
        stage.pass(Duration::from_secs(1));
    }
    assert!(stage.browser.connected, "{:?}", stage.events);
}

/// Whatever comes from where the peer is: it does no harm to an association that stands.
#[test]
fn garbage_does_not_end_an_association() {
    let mut stage = Stage::new();
    stage.connect();
    for first in [20_u8, 21, 22, 23, 25, 26, 63] {
        for len in [1, 12, 13, 14, 60, 1_400] {
            let mut datagram = vec![0xfe; len];
            datagram[0] = first;
            stage.send(stage.browser.at, &datagram);
            stage.pass(Duration::from_millis(20));
        }
    }
    stage.check(false);
    assert_eq!(stage.events.len(), 1, "{:?}", stage.events);
    stage.peers.dismiss(stage.now, LEG);
    stage.exchange();
    assert!(stage.browser.closed);
}
