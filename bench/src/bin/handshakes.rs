//! What does a browser that connects cost? CPU time of our side of ICE and DTLS, for each peer, beside that of the client in
//! the same loop; and of a check of consent later.
//!
//! One thread and no network: datagrams are handed over. What the kernel takes for some ten of them is not in it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use holdmusic::{
    clock,
    peers::{PeerEvent, Peers, certificate, peer::House, stun},
};
use holdmusic_control::transport::{IceCredentials, PeerOffer};
use holdmusic_media::{LegId, MediaTime};

#[derive(Parser)]
#[command(about = "CPU time of our side for a WebRTC peer that connects, and for a check of consent")]
struct Options {
    /// Peers that connect, one after the other; all stay.
    #[arg(long, default_value_t = 500)]
    peers: u32,
    /// Checks of consent, of all in turn.
    #[arg(long, default_value_t = 100_000)]
    checks: u32,
}

const PASSWORD: &str = "a+password+of+24+letters";

struct Bench {
    peers: Peers,
    origin: (MediaTime, Instant),
    now: MediaTime,
    /// CPU time of ours, of the client.
    ours: Duration,
    client: Duration,
    datagrams: u64,
    connected: u32,
}

impl Bench {
    fn instant(&self) -> Instant {
        self.origin.1 + self.now.since(self.origin.0)
    }

    fn address(number: u32) -> std::net::SocketAddr {
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        std::net::SocketAddr::from(([10, 0, high, low], 5_000))
    }

    fn check(number: u32, round: u32) -> Vec<u8> {
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&number.to_be_bytes());
        transaction[4..8].copy_from_slice(&round.to_be_bytes());
        stun::check(transaction, (&format!("ours{number}"), PASSWORD), "peer", 1, true)
    }

    /// What `work` takes of this thread, added to ours.
    fn timed(&mut self, work: impl FnOnce(&mut Peers, MediaTime)) {
        let before = clock::thread_cpu();
        work(&mut self.peers, self.now);
        self.ours += clock::thread_cpu().saturating_sub(before);
    }

    fn connect(&mut self, number: u32, theirs: &DtlsCertificate) {
        self.now = self.now + Duration::from_millis(1);
        let from = Self::address(number);
        let fingerprint = certificate::fingerprint(theirs);
        let fingerprints = vec![("sha-256", Box::from(fingerprint.as_slice()))];
        let offer = PeerOffer { ufrag: "peer".to_owned(), fingerprints, is_passive: false };
        let local = IceCredentials { ufrag: format!("ours{number}"), pwd: PASSWORD.to_owned() };
        let check = Self::check(number, 0);
        self.timed(|peers, now| {
            peers.admit(now, LegId(number.into()), 0, local, offer, None);
            peers.handle_datagram(now, 0, from, &check);
        });
        let (at, before) = (self.instant(), clock::thread_cpu());
        let mut dtls = Dtls::new_auto(Arc::new(Config::default()), theirs.clone(), at);
        dtls.set_active(true);
        dtls.handle_timeout(at).expect("a client that begins");
        self.client += clock::thread_cpu().saturating_sub(before);
        let mut room = vec![0; 4_096];
        loop {
            let before = clock::thread_cpu();
            let mut out = vec![];
            loop {
                match dtls.poll_output(&mut room) {
                    Output::Packet(bytes) => out.push(bytes.to_vec()),
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
            self.client += clock::thread_cpu().saturating_sub(before);
            for bytes in &out {
                self.datagrams += 1;
                self.timed(|peers, now| peers.handle_datagram(now, 0, from, bytes));
            }
            let answers = self.peers.take_transmits();
            let done = out.is_empty() && answers.is_empty();
            let before = clock::thread_cpu();
            for (_, _, bytes) in answers {
                self.datagrams += 1;
                if bytes[0] >= 20 {
                    dtls.handle_packet(&bytes).expect("what we say is understood");
                }
            }
            self.client += clock::thread_cpu().saturating_sub(before);
            let connected = |event: &PeerEvent| matches!(event, PeerEvent::Connected { .. });
            self.connected += u32::from(self.peers.take_events().iter().any(connected));
            if done {
                return;
            }
        }
    }
}

fn main() {
    let options = Options::parse();
    let made = || {
        let pem = certificate::make().expect("a certificate can be made");
        certificate::read(&pem).expect("what was made can be read")
    };
    let (ours, theirs) = (made(), made());
    let origin = clock::instant();
    let mut bench = Bench {
        peers: Peers::new(House::new(ours, origin), Arc::default()),
        origin,
        now: origin.0,
        ours: Duration::ZERO,
        client: Duration::ZERO,
        datagrams: 0,
        connected: 0,
    };
    let count = options.peers.max(1);
    (0..count).for_each(|number| bench.connect(number, &theirs));
    assert_eq!(bench.connected, count, "all connect");
    let each = bench.ours / count;
    eprintln!(
        "connect: {:.3} ms of CPU each ({:.0} a second on one core), {:.3} ms of the client's; {:.1} datagrams each",
        each.as_secs_f64() * 1e3,
        1.0 / each.as_secs_f64(),
        (bench.client / count).as_secs_f64() * 1e3,
        bench.datagrams as f64 / f64::from(count),
    );
    bench.ours = Duration::ZERO;
    for round in 0..options.checks.max(1) {
        bench.now = bench.now + Duration::from_millis(1);
        let number = round % count;
        let check = Bench::check(number, round + 1);
        bench.timed(|peers, now| {
            peers.handle_datagram(now, 0, Bench::address(number), &check);
            peers.take_transmits();
        });
    }
    let each = bench.ours / options.checks.max(1);
    eprintln!("check of consent: {:.2} µs of CPU each", each.as_secs_f64() * 1e6);
}
