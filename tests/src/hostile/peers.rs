//! Hostile STUN and DTLS: whatever comes in, nothing is sent to who has not asked with the password of the leg, no more than
//! may be, and what is remembered stays small.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use holdmusic::{
    clock,
    peers::{
        PeerEvent, Peers, certificate,
        peer::{CONNECT_WITHIN, CONSENT, House},
        stun,
    },
};
use holdmusic_control::transport::{IceCredentials, PeerOffer};
use holdmusic_media::{LegId, MediaTime};

/// Things that happen in one run.
const MAX_STEPS: usize = 128;

/// Checks of one peer that are looked at in a second, and as many other datagrams; at once as many again.
const A_SECOND: usize = 100;

const LEG: LegId = LegId(1);
const NAME: &str = "abcdefgh";
const PASSWORD: &str = "a+password+of+24+letters";
const PEER: &str = "peer";

/// Who sends: a few that may be sent to, and one that may not.
const HOSTS: [(IpAddr, u16); 12] = {
    const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10));
    const NEXT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    [
        (NEAR, 1_000),
        (NEAR, 1_001),
        (NEAR, 1_002),
        (NEAR, 1_003),
        (NEAR, 1_004),
        (NEXT, 1_000),
        (NEXT, 1_001),
        (NEXT, 1_002),
        (NEXT, 1_003),
        (NEXT, 1_004),
        (PUBLIC, 1_000),
        (PUBLIC, 1_001),
    ]
};

/// Datagrams from anybody to a leg that waits for its peer, among checks that are the peer's. Each step is what happens, by
/// whom, and for a datagram its length and bytes.
pub fn peers(input: &[u8]) -> bool {
    let mut stage = Stage::new();
    let mut rest = input;
    for _ in 0..MAX_STEPS {
        let [kind, who, tail @ ..] = rest else { break };
        rest = tail;
        let host = SocketAddr::from(HOSTS[usize::from(*who) % HOSTS.len()]);
        match kind % 4 {
            0 => {
                let Some((&length, tail)) = rest.split_first() else { break };
                let (datagram, tail) = tail.split_at(usize::from(length).min(tail.len()));
                rest = tail;
                stage.datagram(host, datagram);
            }
            1 => stage.check(host, kind & 4 != 0, kind >> 3),
            2 => stage.pass(Duration::from_millis(u64::from(*who) * 20)),
            _ => {
                // A record of DTLS whose head is right: a handshake in clear, of any content.
                let (body, tail) = rest.split_at(usize::from(*who).min(rest.len()));
                rest = tail;
                let length = u16::try_from(body.len()).expect("a byte counts it").to_be_bytes();
                let head = [20 + (kind >> 4) % 6, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, length[0], length[1]];
                stage.datagram(SocketAddr::from(HOSTS[0]), &[&head[..], body].concat());
            }
        }
    }
    stage.pass(CONNECT_WITHIN.max(CONSENT));
    stage.reached
}

/// Peers, and what they may do.
struct Stage {
    peers: Peers,
    now: MediaTime,
    transaction: u32,
    /// Who has asked with the password from where may be sent to.
    asked: BTreeSet<SocketAddr>,
    /// Datagrams sent in each second since the beginning.
    sent: BTreeMap<u128, usize>,
    began: MediaTime,
    gone: bool,
    reached: bool,
}

impl Stage {
    fn new() -> Self {
        static MADE: OnceLock<(String, (MediaTime, Instant))> = OnceLock::new();
        let (pem, origin) =
            MADE.get_or_init(|| (certificate::make().expect("a certificate can be made"), clock::instant()));
        let ours = certificate::read(pem).expect("what was made can be read");
        let mut peers = Peers::new(House::new(ours, *origin), Arc::default());
        let now = origin.0 + Duration::from_secs(1);
        let local = IceCredentials { ufrag: NAME.to_owned(), pwd: PASSWORD.to_owned() };
        let fingerprints = vec![("sha-256", Box::from([7; 32].as_slice()))];
        let offer = PeerOffer { ufrag: PEER.to_owned(), fingerprints, is_passive: false };
        peers.admit(now, LEG, 0, local, offer, None);
        Self {
            peers,
            now,
            transaction: 0,
            asked: BTreeSet::new(),
            sent: BTreeMap::new(),
            began: now,
            gone: false,
            reached: false,
        }
    }

    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.peers.handle_datagram(self.now, 0, from, datagram);
        self.look();
    }

    /// A check that is the peer's.
    fn check(&mut self, from: SocketAddr, use_candidate: bool, priority: u8) {
        self.transaction += 1;
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&self.transaction.to_be_bytes());
        let check = stun::check(transaction, (NAME, PASSWORD), PEER, u32::from(priority), use_candidate);
        if from.ip() != HOSTS[10].0 {
            self.asked.insert(from);
        }
        self.datagram(from, &check);
        // The same from elsewhere, by somebody who has seen it.
        self.datagram(SocketAddr::from(HOSTS[11]), &check);
        let mut elsewhere = from;
        elsewhere.set_port(9);
        self.datagram(elsewhere, &check);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.peers.handle_timeout(self.now);
        self.look();
        assert!(self.peers.poll_timeout() > self.now, "what is due is done");
    }

    fn look(&mut self) {
        let second = self.now.since(self.began).as_secs();
        for (sender, to, bytes) in self.peers.take_transmits() {
            assert!(sender == 0 && self.asked.contains(&to), "{to} has not asked for {} bytes", bytes.len());
            assert!(bytes.len() <= 1_200, "{} bytes", bytes.len());
            let sent = self.sent.entry(u128::from(second)).or_default();
            *sent += 1;
            // An answer for each datagram that is looked at; for a ClientHello a flight of a few.
            assert!(*sent <= 6 * A_SECOND, "{sent} datagrams in a second");
            self.reached = true;
        }
        for event in self.peers.take_events() {
            match event {
                PeerEvent::Seen { .. } => {}
                PeerEvent::Connected { .. } => panic!("nobody has a certificate that is known"),
                PeerEvent::NotReplaced { .. } => panic!("nobody else is admitted"),
                PeerEvent::Disconnected { leg, .. } => {
                    assert!(leg == LEG && !self.gone, "a peer leaves once");
                    self.gone = true;
                }
            }
        }
        let (count, handshakes) = self.peers.counts();
        assert_eq!(count, usize::from(!self.gone));
        assert!(handshakes <= count && self.peers.addresses() <= 8);
    }
}
