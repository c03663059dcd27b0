//! One WebRTC peer: datagrams of ICE and DTLS come in with the time, answers go out, and in the end an address that wants our
//! packets and the keys that they are protected with.
//!
//! The side of ICE is the lite one (RFC 8445 section 2.5), that of DTLS the server (RFC 5763 section 5: passive). Nothing is
//! sent to an address that has not proven, by a check with our password, that it wants to hear from us.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use aws_lc_rs::digest;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use holdmusic_control::transport::{Disconnection, IceCredentials, PeerOffer};
use holdmusic_media::{Keying, LegId, MasterKey, MediaTime, Suite};

use super::stun::{Request, Transaction};

/// How long a peer has, from the answer to its offer, until it is connected. 30 s: within the 40 s in which browsers give
/// up, and longer than people take to allow what a page asks.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Without a check for so long the peer no longer wants to hear anything (RFC 7675 section 5.1).
pub const CONSENT: Duration = Duration::from_secs(30);

/// Checks of one peer that are looked at in a second, and at once, and as many other datagrams: a browser sends some twenty a second for each pair of
/// addresses while it looks for one that works, and one in some seconds later.
const DATAGRAMS_A_SECOND: u32 = 100;

/// Addresses from which a peer has asked that are remembered: a machine has about four.
const MAX_ADDRESSES: usize = 8;

/// Numbers of checks that are remembered, so that somebody who has recorded one cannot send it from elsewhere. A browser
/// sends one in 2.5 s: so many are five minutes.
const MAX_TRANSACTIONS: usize = 128;

/// An address that was chosen last so long ago gives way to one of lower priority. A peer that checks all its addresses as
/// if it had chosen each (aggressive nomination, RFC 5245 section 8.1.1.2) is done with them sooner.
const CHOSEN_FOR: Duration = Duration::from_secs(1);

/// The largest record of DTLS that we write, and one in which nothing of it is fragmented.
const MAX_RECORD: usize = 2_048;

/// Handshakes that may fail before the peer is given up: anybody who knows its address can begin one in its name.
const MAX_FAILURES: u32 = 3;

/// What all peers share.
#[derive(Debug)]
pub struct House {
    /// How DTLS is spoken.
    pub config: Arc<Config>,
    /// Who we are.
    pub certificate: DtlsCertificate,
    /// A moment on both clocks: DTLS wants the standard library's.
    pub origin: (MediaTime, Instant),
}

impl House {
    /// With the certificate of this engine.
    pub fn new(certificate: DtlsCertificate, origin: (MediaTime, Instant)) -> Self {
        let config = Config::builder()
            // Whoever sends a ClientHello has shown by a check that it receives what we send to it; a cookie would show the
            // same once more, for another round trip.
            .use_server_cookie(false)
            .handshake_timeout(CONNECT_WITHIN)
            // 400 ms: a round trip round the world.
            .flight_start_rto(Duration::from_millis(400))
            .flight_retries(6)
            .build()
            .expect("these settings go together");
        Self { config: Arc::new(config), certificate, origin }
    }

    fn instant(&self, at: MediaTime) -> Instant {
        self.origin.1 + Duration::from_nanos(at.as_nanos().saturating_sub(self.origin.0.as_nanos()))
    }

    fn moment(&self, at: Instant) -> MediaTime {
        self.origin.0 + at.saturating_duration_since(self.origin.1)
    }
}

/// What a peer was invited with, and how.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What it calls us by, and the password.
    pub local: IceCredentials,
    /// What it offered.
    pub offer: PeerOffer,
}

/// What became of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its first check came; or the first from an address that may not be sent to.
    Seen {
        /// That address.
        refused: Option<IpAddr>,
    },
    /// It has proven who it is.
    Connected {
        /// Where it wants packets.
        destination: SocketAddr,
        /// What they are protected with.
        keying: Box<Keying>,
    },
    /// It wants packets elsewhere from now on.
    Moved {
        /// Where.
        destination: SocketAddr,
    },
    /// It is no longer there.
    Disconnected(Disconnection),
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Nothing: it is not the peer's, or not one to be heeded.
    Ignored,
    /// It is the peer's, and so is where it came from; another address of it is forgotten for that.
    Authentic { forgotten: Option<SocketAddr> },
}

/// How far it is.
enum Stage {
    /// No DTLS has come.
    Invited,
    Handshaking(Box<Handshake>),
    /// The association is there to be closed; a restarted engine has it no more.
    Connected(Option<Box<Dtls>>),
    Gone,
}

struct Handshake {
    dtls: Dtls,
    /// Whether the certificate has one of the fingerprints that were offered.
    is_known: bool,
    keying: Option<Box<Keying>>,
    connected: bool,
}

/// The address that the peer has chosen.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    address: SocketAddr,
    priority: u32,
    /// When it last said so.
    at: MediaTime,
}

/// One peer.
pub struct Peer {
    pub(super) leg: LegId,
    invitation: Invitation,
    stage: Stage,
    chosen: Option<Chosen>,
    /// Addresses that have asked with our password, the latest last.
    addresses: ArrayVec<SocketAddr, MAX_ADDRESSES>,
    transactions: VecDeque<(Transaction, SocketAddr)>,
    /// An address that asked and is not one that may be sent to.
    refused: Option<IpAddr>,
    /// Where DTLS goes.
    dtls_to: Option<SocketAddr>,
    /// Handshakes that failed.
    failures: u32,
    /// When DTLS wants to be called.
    dtls_at: MediaTime,
    /// When the last check came from where packets go.
    heard: MediaTime,
    connect_by: MediaTime,
    /// Of checks that nobody but the peer can have made.
    checks: Budget,
    /// Of what anybody can send who knows the peer's address, so that it takes nothing from the checks.
    unproven: Budget,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Peer {
    /// One that was invited at `now`.
    pub fn new(now: MediaTime, leg: LegId, invitation: Invitation) -> Self {
        Self {
            leg,
            invitation,
            stage: Stage::Invited,
            chosen: None,
            addresses: ArrayVec::new(),
            transactions: VecDeque::new(),
            refused: None,
            dtls_to: None,
            failures: 0,
            dtls_at: MediaTime::NEVER,
            heard: now,
            connect_by: now + CONNECT_WITHIN,
            checks: Budget::new(now),
            unproven: Budget::new(now),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// One that was connected before the engine was started again: it goes on asking, and its keys are known.
    pub fn resumed(now: MediaTime, leg: LegId, invitation: Invitation, destination: SocketAddr) -> Self {
        let mut peer = Self::new(now, leg, invitation);
        peer.stage = Stage::Connected(None);
        peer.chosen = Some(Chosen { address: destination, priority: 0, at: now });
        peer.addresses.push(destination);
        peer
    }

    /// What it calls us by.
    pub fn name(&self) -> &str {
        &self.invitation.local.ufrag
    }

    /// What it was invited with.
    pub fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// Whether media may be sent to it.
    pub fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected(_))
    }

    /// Whether it is in the middle of a handshake.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Handshaking(_))
    }

    /// Whether it is over.
    pub fn is_gone(&self) -> bool {
        matches!(self.stage, Stage::Gone)
    }

    /// Where its packets go: what it has chosen, or else where it speaks DTLS from.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.chosen.map(|chosen| chosen.address).or(self.dtls_to)
    }

    /// Whether `address` has asked with our password.
    pub fn is_of(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The addresses that have asked with our password, as many as are remembered.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied()
    }

    /// A check came that names us. `allowed` says whether its address may be sent to; one that may not is not answered.
    pub(super) fn handle_check(
        &mut self,
        now: MediaTime,
        from: SocketAddr,
        request: &Request<'_>,
        allowed: bool,
    ) -> Checked {
        let password = &self.invitation.local.pwd;
        if self.is_gone() || request.by != self.invitation.offer.ufrag || !request.is_authentic(password) {
            return Checked::Ignored;
        }
        if !allowed {
            if self.refused.replace(from.ip()).is_none() {
                self.events.push_back(Event::Seen { refused: self.refused });
            }
            return Checked::Ignored;
        }
        // Its integrity does not cover where it comes from: what came from one address does not count from another.
        let before = self.transactions.iter().find(|(transaction, _)| *transaction == request.transaction);
        let is_new = before.is_none();
        let budget = if is_new { &mut self.checks } else { &mut self.unproven };
        if before.is_some_and(|(_, address)| *address != from) || !budget.take(now) {
            return Checked::Ignored;
        }
        if is_new {
            if self.transactions.len() == MAX_TRANSACTIONS {
                self.transactions.pop_front();
            }
            self.transactions.push_back((request.transaction, from));
        }
        let answer = request.answer(from, password);
        self.transmits.push_back((from, answer.message));
        // One that came before may be sent again by anybody: it says nothing of whether the peer still wants to hear.
        if !answer.is_success || !is_new {
            return Checked::Ignored;
        }
        if self.addresses.is_empty() {
            self.events.push_back(Event::Seen { refused: None });
        }
        let mut forgotten = None;
        if !self.addresses.contains(&from) {
            if self.addresses.is_full() {
                // Not the one where packets go.
                let destination = self.destination();
                let oldest = self.addresses.iter().position(|address| Some(*address) != destination);
                forgotten = Some(self.addresses.remove(oldest.expect("one of eight is the destination")));
            }
            self.addresses.push(from);
        }
        if request.use_candidate {
            self.choose(now, from, request.priority);
        }
        if self.destination() == Some(from) {
            self.heard = now;
        }
        Checked::Authentic { forgotten }
    }

    /// The peer says that packets shall go to `address`. If it says so of several, the one of the highest priority is
    /// meant, unless that is no longer said.
    fn choose(&mut self, now: MediaTime, address: SocketAddr, priority: u32) {
        let before = self.destination();
        if let Some(chosen) = self.chosen.filter(|chosen| chosen.address != address)
            && chosen.priority >= priority
            && now.since(chosen.at) < CHOSEN_FOR
        {
            return;
        }
        self.chosen = Some(Chosen { address, priority, at: now });
        if self.is_connected() && before != Some(address) {
            self.events.push_back(Event::Moved { destination: address });
        }
    }

    /// A datagram of DTLS came from an address that is the peer's. `room` says whether another handshake may begin.
    pub fn handle_dtls(
        &mut self,
        now: MediaTime,
        house: &House,
        from: SocketAddr,
        datagram: &[u8],
        room: bool,
    ) {
        if !self.is_of(from) || !self.unproven.take(now) {
            return;
        }
        if matches!(self.stage, Stage::Invited) {
            if !room || !is_client_hello(datagram) {
                return;
            }
            self.begin(now, house);
        }
        let Some(dtls) = self.dtls() else { return };
        let instant = house.instant(now);
        let handled = dtls.handle_timeout(instant).and_then(|()| dtls.handle_packet(datagram));
        self.dtls_to = Some(from);
        self.drain(now, house);
        if let Err(error) = handled {
            self.stumble(&error.to_string());
        }
    }

    /// Begins DTLS with a peer that waits for us to, once it can be reached. `room` as for [`Peer::handle_dtls`].
    pub fn handle_reached(&mut self, now: MediaTime, house: &House, room: bool) {
        let is_awaited = self.invitation.offer.is_passive && matches!(self.stage, Stage::Invited);
        if is_awaited && room && self.has_chosen() {
            self.begin(now, house);
            let begun = self.dtls().map_or(Ok(()), |dtls| dtls.handle_timeout(house.instant(now)));
            self.drain(now, house);
            if let Err(error) = begun {
                self.fail(&error.to_string());
            }
        }
    }

    fn begin(&mut self, now: MediaTime, house: &House) {
        let (config, certificate) = (Arc::clone(&house.config), house.certificate.clone());
        let mut dtls = Dtls::new_auto(config, certificate, house.instant(now));
        dtls.set_active(self.invitation.offer.is_passive);
        let handshake = Handshake { dtls, is_known: false, keying: None, connected: false };
        self.stage = Stage::Handshaking(Box::new(handshake));
    }

    /// When [`Peer::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> MediaTime {
        match self.stage {
            Stage::Gone => MediaTime::NEVER,
            Stage::Connected(_) => self.dtls_at.min(self.heard + CONSENT),
            Stage::Invited | Stage::Handshaking(_) => self.dtls_at.min(self.connect_by),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: MediaTime, house: &House) {
        match self.stage {
            Stage::Gone => return,
            Stage::Connected(_) if now >= self.heard + CONSENT => {
                return self.leave(Disconnection::Silent);
            }
            Stage::Invited if now >= self.connect_by => {
                let refused = self.refused.filter(|_| self.addresses.is_empty());
                return self.leave(match (refused, self.addresses.is_empty()) {
                    (Some(address), _) => Disconnection::NotAllowed(address),
                    (None, true) => Disconnection::NoCheck,
                    (None, false) => Disconnection::NoHandshake,
                });
            }
            Stage::Handshaking(_) if now >= self.connect_by => return self.leave(Disconnection::Unfinished),
            _ => {}
        }
        if now >= self.dtls_at {
            let instant = house.instant(now);
            let Some(dtls) = self.dtls() else { return self.dtls_at = MediaTime::NEVER };
            let handled = dtls.handle_timeout(instant);
            self.drain(now, house);
            if let Err(error) = handled {
                self.fail(&error.to_string());
            }
        }
    }

    /// Takes the association of one that the same peer had before it restarted ICE (RFC 8842 section 4.4): it goes on by the
    /// new addresses.
    pub fn inherit(&mut self, before: &mut Self) {
        self.stage = std::mem::replace(&mut before.stage, Stage::Gone);
        self.dtls_at = before.dtls_at;
        self.dtls_to = self.chosen.map(|chosen| chosen.address);
        self.events.extend(self.dtls_to.map(|destination| Event::Moved { destination }));
    }

    /// Whether its addresses can be used: it has chosen one.
    pub fn has_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    /// We leave: it is told, if there is a way to.
    pub fn close(&mut self, now: MediaTime, house: &House) {
        if let Stage::Connected(Some(dtls)) = &mut self.stage
            && dtls.close().is_ok()
        {
            self.drain(now, house);
        }
        self.stage = Stage::Gone;
        self.events.clear();
    }

    /// What is to be sent, and where.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// What became of it.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn dtls(&mut self) -> Option<&mut Dtls> {
        match &mut self.stage {
            Stage::Handshaking(handshake) => Some(&mut handshake.dtls),
            Stage::Connected(dtls) => dtls.as_deref_mut(),
            Stage::Invited | Stage::Gone => None,
        }
    }

    /// Takes what DTLS has to say.
    fn drain(&mut self, now: MediaTime, house: &House) {
        let mut room = vec![0; MAX_RECORD];
        let mut closed = false;
        let mut foreign = false;
        let mut without_srtp = false;
        let is_client = self.invitation.offer.is_passive;
        loop {
            // Both are needed at once, so no method borrows all of us.
            let (dtls, mut handshake) = match &mut self.stage {
                Stage::Handshaking(handshake) => {
                    let Handshake { dtls, is_known, keying, connected } = &mut **handshake;
                    (dtls, Some((is_known, keying, connected)))
                }
                Stage::Connected(Some(dtls)) => (&mut **dtls, None),
                _ => return,
            };
            match dtls.poll_output(&mut room) {
                Output::Packet(bytes) => {
                    let to = self.chosen.map(|chosen| chosen.address).or(self.dtls_to);
                    self.transmits.extend(to.map(|to| (to, bytes.to_vec())));
                }
                Output::BufferTooSmall { needed } => room.resize(needed, 0),
                Output::Timeout(at) => {
                    self.dtls_at = house.moment(at);
                    break;
                }
                Output::PeerCert(certificate) => {
                    let known = is_offered(certificate, &self.invitation.offer);
                    foreign |= !known;
                    if let Some((is_known, ..)) = &mut handshake {
                        **is_known = known;
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    if let Some((_, keying, _)) = &mut handshake {
                        **keying = keys(&material, profile, is_client).map(Box::new);
                    }
                }
                Output::Connected => {
                    if let Some((.., connected)) = &mut handshake {
                        **connected = true;
                    }
                }
                Output::CloseNotify => closed = true,
                // Data channels are not offered.
                _ => {}
            }
        }
        // A timer that is due would have us called again at once.
        if self.dtls_at <= now {
            self.dtls_at = now + Duration::from_millis(1);
        }
        if foreign {
            return self.leave(Disconnection::Stranger);
        }
        if let Stage::Handshaking(handshake) = &mut self.stage
            && handshake.connected
            && handshake.is_known
        {
            match handshake.keying.take() {
                Some(keying) => self.establish(now, keying),
                None => without_srtp = true,
            }
        }
        if without_srtp {
            self.leave(Disconnection::NoSrtp);
        } else if closed {
            self.leave(Disconnection::Closed);
        }
    }

    fn establish(&mut self, now: MediaTime, keying: Box<Keying>) {
        let Some(destination) = self.destination() else { return };
        if let Stage::Handshaking(handshake) = std::mem::replace(&mut self.stage, Stage::Gone) {
            self.stage = Stage::Connected(Some(Box::new(handshake.dtls)));
        }
        self.heard = now;
        self.events.push_back(Event::Connected { destination, keying });
    }

    /// DTLS cannot go on. Before there is an association another one may be begun, a few times.
    fn stumble(&mut self, words: &str) {
        self.failures += 1;
        if matches!(self.stage, Stage::Handshaking(_)) && self.failures < MAX_FAILURES {
            self.stage = Stage::Invited;
            self.dtls_at = MediaTime::NEVER;
        } else {
            self.fail(words);
        }
    }

    /// DTLS cannot go on.
    pub(super) fn fail(&mut self, words: &str) {
        if !self.is_gone() {
            self.leave(Disconnection::Failed(words.to_owned()));
        }
    }

    fn leave(&mut self, why: Disconnection) {
        self.stage = Stage::Gone;
        self.events.push_back(Event::Disconnected(why));
    }
}

/// Whether a datagram begins with a first message of DTLS, as it stands in clear in a record of epoch 0 (RFC 6347 section
/// 4.2.2): nothing else begins a handshake.
pub(super) fn is_client_hello(datagram: &[u8]) -> bool {
    const RECORD_LEN: usize = 13;
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let Some((record, body)) = datagram.split_at_checked(RECORD_LEN) else { return false };
    record[0] == HANDSHAKE
        && record[1] == 0xfe
        && record[3..5] == [0, 0]
        && body.first() == Some(&CLIENT_HELLO)
}

/// Whether the certificate has a fingerprint that was offered, by a hash that is still good (RFC 8122 section 5).
fn is_offered(certificate: &[u8], offer: &PeerOffer) -> bool {
    offer.fingerprints.iter().any(|(name, expected)| {
        let algorithm = match name.to_ascii_lowercase().as_str() {
            "sha-256" => &digest::SHA256,
            "sha-384" => &digest::SHA384,
            "sha-512" => &digest::SHA512,
            _ => return false,
        };
        digest::digest(algorithm, certificate).as_ref() == &**expected
    })
}

/// The keys of both directions (RFC 5764 section 4.2): those of the client come first.
fn keys(material: &[u8], profile: SrtpProfile, we_are_client: bool) -> Option<Keying> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1_80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
        _ => return None,
    };
    let (key_len, salt_len) = (suite.master_key_len(), suite.master_salt_len());
    let (client_key, rest) = material.split_at_checked(key_len)?;
    let (server_key, rest) = rest.split_at_checked(key_len)?;
    let (client_salt, rest) = rest.split_at_checked(salt_len)?;
    let server_salt = rest.get(..salt_len)?;
    let key = |key: &[u8], salt: &[u8]| {
        let whole = zeroize::Zeroizing::new([key, salt].concat());
        MasterKey::new(suite, &whole).ok()
    };
    let (client, server) = (key(client_key, client_salt)?, key(server_key, server_salt)?);
    let (send, receive) = if we_are_client { (client, server) } else { (server, client) };
    Some(Keying { send, receive: Some(receive), mki: None, rollover_counter: 0, srtcp_index: 0 })
}

/// Datagrams that are still looked at: a bucket that fills by [`DATAGRAMS_A_SECOND`].
#[derive(Debug)]
struct Budget {
    left: u32,
    filled: MediaTime,
}

impl Budget {
    fn new(now: MediaTime) -> Self {
        Self { left: DATAGRAMS_A_SECOND, filled: now }
    }

    fn take(&mut self, now: MediaTime) -> bool {
        let each = Duration::from_secs(1) / DATAGRAMS_A_SECOND;
        let new = now.since(self.filled).as_nanos() / each.as_nanos();
        if new > 0 {
            let new = u32::try_from(new).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(new).min(DATAGRAMS_A_SECOND);
            self.filled = now;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}
