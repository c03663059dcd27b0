//! WebRTC peers: the thread that does ICE and DTLS for all of them. Datagrams come from the senders' sockets, answers leave by
//! the same; a peer that is connected is told to control, which has its leg play.
//!
//! A handshake takes milliseconds, which no sender has. What control decides comes by one queue, what senders have received
//! by another, and nobody waits for this thread but the desk, for as long as its queue is full.

pub mod certificate;
pub mod peer;
pub mod stun;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use holdmusic_control::{
    guard::Guard,
    transport::{Disconnection, IceCredentials, PeerOffer},
};
use holdmusic_media::{Keying, LegId, MediaTime};
use tracing::error;

use crate::{
    clock,
    mailbox::{PeerCommand, PeerDatagram, Tiding},
    udp::MediaSocket,
};
use peer::{Checked, Event, House, Invitation, Peer};
use stun::Request;

/// Peers at a time: one for each participant that may be held, and as many that are about to be.
pub const MAX_PEERS: usize = 40_000;

/// Peers in the middle of a handshake at a time. Each takes a millisecond or two of this thread and some 50 kB; a client
/// whose first message finds no room sends it again.
pub const MAX_HANDSHAKES: usize = 1_000;

/// Things done between two looks at the deadlines.
const AT_ONCE: usize = 64;

/// How long the thread sleeps at most.
const IDLE: Duration = Duration::from_secs(1);

/// Whether a datagram is for a peer: STUN or DTLS by its first byte (RFC 7983 section 7).
pub fn is_for_peers(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3 | 20..=63))
}

/// What became of a peer, for control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Its first check came; or the first from an address that may not be sent to.
    Seen {
        /// On which leg.
        leg: LegId,
        /// That address.
        refused: Option<IpAddr>,
    },
    /// It can hear now.
    Connected {
        /// On which leg.
        leg: LegId,
        /// Where.
        destination: SocketAddr,
        /// What its packets are protected with; `None` if that has not changed.
        keying: Option<Box<Keying>>,
    },
    /// It can no longer, or never could.
    Disconnected {
        /// On which leg.
        leg: LegId,
        /// What the peer that is to take its place calls us, or else it itself.
        name: String,
        /// Why.
        why: Disconnection,
    },
    /// The peer that was to take the place of one that is connected has come to nothing; that one goes on.
    NotReplaced {
        /// On which leg.
        leg: LegId,
        /// What the peer calls us that did not come.
        name: String,
    },
}

/// Names a peer in this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PeerId(u64);

/// A peer with the socket that it is reached by.
struct Place {
    peer: Peer,
    sender: usize,
    /// When it wants to be called, as `deadlines` has it.
    deadline: MediaTime,
}

/// The peers of one leg: the one that is heard, and one that is to take its place when it is connected (a restart of ICE).
#[derive(Clone, Copy, Debug)]
struct Pair {
    current: PeerId,
    next: Option<PeerId>,
    /// Whether `next` goes on with the DTLS of `current`.
    inherits: bool,
}

/// All peers. Without IO: datagrams and time are handed in, what is to be sent and told is taken out.
pub struct Peers {
    house: House,
    guard: Arc<Guard>,
    peers: HashMap<PeerId, Place>,
    legs: HashMap<LegId, Pair>,
    /// By what they call us.
    by_name: HashMap<String, PeerId>,
    /// The last that has asked from there, by our socket and its address.
    by_address: HashMap<(usize, SocketAddr), PeerId>,
    deadlines: BTreeSet<(MediaTime, PeerId)>,
    handshakes: usize,
    last: u64,
    transmits: Vec<(usize, SocketAddr, Vec<u8>)>,
    events: Vec<PeerEvent>,
}

impl Peers {
    /// None yet.
    pub fn new(house: House, guard: Arc<Guard>) -> Self {
        Self {
            house,
            guard,
            peers: HashMap::new(),
            legs: HashMap::new(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            deadlines: BTreeSet::new(),
            handshakes: 0,
            last: 0,
            transmits: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A leg waits for its peer. A leg that has one gets another, which takes the place of the first when it is connected;
    /// if it is the same machine with the same certificate, its association goes on.
    pub fn admit(
        &mut self,
        now: MediaTime,
        leg: LegId,
        sender: usize,
        local: IceCredentials,
        offer: PeerOffer,
        resumed: Option<SocketAddr>,
    ) {
        let before = self.legs.get(&leg).copied();
        if let Some(stale) = before.and_then(|pair| pair.next) {
            self.forget(now, stale);
        }
        let current = before.map(|pair| pair.current);
        let connected = current.and_then(|id| self.peers.get(&id)).filter(|place| place.peer.is_connected());
        let kept = connected.map(|place| place.peer.invitation().offer.fingerprints == offer.fingerprints);
        if let (Some(current), None) = (current, kept) {
            self.forget(now, current);
        }
        if self.peers.len() >= MAX_PEERS {
            // Who is heard there goes on being heard.
            let name = local.ufrag;
            self.events.push(match (before, kept) {
                (Some(pair), Some(_)) => {
                    self.legs.insert(leg, Pair { next: None, ..pair });
                    PeerEvent::NotReplaced { leg, name }
                }
                _ => PeerEvent::Disconnected { leg, name, why: Disconnection::TooMany },
            });
            return;
        }
        let invitation = Invitation { local, offer };
        let peer = match resumed {
            Some(destination) => Peer::resumed(now, leg, invitation, destination),
            None => Peer::new(now, leg, invitation),
        };
        self.last += 1;
        let id = PeerId(self.last);
        self.by_name.insert(peer.name().to_owned(), id);
        if let Some(destination) = resumed {
            self.by_address.insert((sender, destination), id);
        }
        self.peers.insert(id, Place { peer, sender, deadline: MediaTime::NEVER });
        let pair = match (current, kept) {
            (Some(current), Some(inherits)) => Pair { current, next: Some(id), inherits },
            _ => Pair { current: id, next: None, inherits: false },
        };
        self.legs.insert(leg, pair);
        self.settle(now, id);
    }

    /// A leg goes away, or is no WebRTC leg any more. Its peer is told.
    pub fn dismiss(&mut self, now: MediaTime, leg: LegId) {
        let Some(pair) = self.legs.remove(&leg) else { return };
        for id in [Some(pair.current), pair.next].into_iter().flatten() {
            self.forget(now, id);
        }
    }

    /// A datagram came in on the socket of `sender`. What is neither an authentic check nor from where one came is passed
    /// over.
    pub fn handle_datagram(&mut self, now: MediaTime, sender: usize, from: SocketAddr, datagram: &[u8]) {
        let id = match datagram.first() {
            Some(0..=3) => {
                let Some(request) = Request::read(datagram) else { return };
                let Some(&id) = self.by_name.get(request.to) else { return };
                let Some(place) = self.peers.get_mut(&id).filter(|place| place.sender == sender) else {
                    return;
                };
                let allowed = self.guard.media(from.ip()).is_ok();
                if let Checked::Authentic { forgotten } =
                    place.peer.handle_check(now, from, &request, allowed)
                {
                    if let Some(forgotten) = forgotten {
                        self.by_address.remove(&(sender, forgotten));
                    }
                    self.by_address.insert((sender, from), id);
                    // Who goes on with the association of the one before begins none.
                    let leg = place.peer.leg;
                    let inherits =
                        self.legs.get(&leg).is_some_and(|pair| pair.inherits && pair.next == Some(id));
                    let room = !inherits && self.handshakes < MAX_HANDSHAKES;
                    let before = place.peer.is_handshaking();
                    let house = &self.house;
                    contained(&mut place.peer, |peer| peer.handle_reached(now, house, room));
                    if !before && place.peer.is_handshaking() {
                        self.handshakes += 1;
                    }
                }
                id
            }
            Some(20..=63) => {
                let Some(&id) = self.by_address.get(&(sender, from)) else { return };
                let Some(place) = self.peers.get_mut(&id) else { return };
                // It waits for the association of the one before, unless it begins its own: the same certificate may be used
                // for several.
                let waits = self.legs.get_mut(&place.peer.leg);
                if let Some(pair) = waits.filter(|pair| pair.inherits && pair.next == Some(id)) {
                    if !peer::is_client_hello(datagram) {
                        return;
                    }
                    pair.inherits = false;
                }
                let room = self.handshakes < MAX_HANDSHAKES;
                let before = place.peer.is_handshaking();
                let house = &self.house;
                contained(&mut place.peer, |peer| peer.handle_dtls(now, house, from, datagram, room));
                match (before, place.peer.is_handshaking()) {
                    (false, true) => self.handshakes += 1,
                    (true, false) => self.handshakes -= 1,
                    _ => {}
                }
                id
            }
            _ => return,
        };
        self.settle(now, id);
    }

    /// When [`Peers::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> MediaTime {
        self.deadlines.first().map_or(MediaTime::NEVER, |(at, _)| *at)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: MediaTime) {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(place) = self.peers.get_mut(&id) else { continue };
            place.deadline = MediaTime::NEVER;
            let before = place.peer.is_handshaking();
            let house = &self.house;
            contained(&mut place.peer, |peer| peer.handle_timeout(now, house));
            if before && !place.peer.is_handshaking() {
                self.handshakes -= 1;
            }
            self.settle(now, id);
        }
    }

    /// What is to be sent since the last call: by which sender's socket, where, what.
    pub fn take_transmits(&mut self) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.transmits)
    }

    /// What is to be told since the last call.
    pub fn take_events(&mut self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.events)
    }

    /// How many there are, and how many of them are in the middle of a handshake.
    pub fn counts(&self) -> (usize, usize) {
        (self.peers.len(), self.handshakes)
    }

    /// How many addresses are known to be a peer's.
    pub fn addresses(&self) -> usize {
        self.by_address.len()
    }

    /// Takes what a peer has to say, and draws the consequences.
    fn settle(&mut self, now: MediaTime, id: PeerId) {
        let Some(place) = self.peers.get_mut(&id) else { return };
        let leg = place.peer.leg;
        let Some(pair) = self.legs.get(&leg).copied() else { return };
        let is_next = pair.next == Some(id);
        if is_next && pair.inherits && place.peer.has_chosen() {
            return self.inherit(now, leg, pair, id);
        }
        while let Some((to, bytes)) = place.peer.poll_transmit() {
            self.transmits.push((place.sender, to, bytes));
        }
        let (mut gone, mut succeeded, mut ended) = (false, None, None);
        let mut took_over = false;
        while let Some(event) = place.peer.poll_event() {
            match event {
                Event::Seen { refused } if !is_next => {
                    self.events.push(PeerEvent::Seen { leg, refused });
                }
                Event::Seen { .. } => {}
                Event::Connected { destination, keying } => {
                    took_over |= is_next;
                    self.events.push(PeerEvent::Connected { leg, destination, keying: Some(keying) });
                }
                Event::Moved { destination } => {
                    self.events.push(PeerEvent::Connected { leg, destination, keying: None });
                }
                Event::Disconnected(why) => {
                    gone = true;
                    // The one before goes on without it; and who said goodbye may have another in his place already, who has
                    // half a minute to connect. Without consent nothing is sent any longer in any case.
                    succeeded = pair.next.filter(|_| why != Disconnection::Silent);
                    let name = place.peer.name().to_owned();
                    if is_next && !took_over {
                        self.events.push(PeerEvent::NotReplaced { leg, name });
                    } else if succeeded.is_none() {
                        ended = Some((name, why));
                    }
                }
            }
        }
        let deadline = place.peer.poll_timeout();
        let before = std::mem::replace(&mut place.deadline, deadline);
        if let Some((name, why)) = ended {
            let next = pair.next.and_then(|next| self.peers.get(&next));
            let name = next.map_or(name, |next| next.peer.name().to_owned());
            self.events.push(PeerEvent::Disconnected { leg, name, why });
        }
        if before != deadline {
            self.deadlines.remove(&(before, id));
            if deadline != MediaTime::NEVER {
                self.deadlines.insert((deadline, id));
            }
        }
        if took_over {
            self.forget(now, pair.current);
            self.legs.insert(leg, Pair { current: id, next: None, inherits: false });
            if gone {
                self.dismiss(now, leg);
            }
        } else if gone && is_next {
            self.forget(now, id);
            self.legs.insert(leg, Pair { next: None, ..pair });
        } else if let (true, Some(next)) = (gone, succeeded) {
            self.forget(now, id);
            self.legs.insert(leg, Pair { current: next, next: None, inherits: false });
        } else if gone {
            self.dismiss(now, leg);
        }
    }

    /// The peer of a leg has restarted ICE, and can be reached as it wanted.
    fn inherit(&mut self, now: MediaTime, leg: LegId, pair: Pair, id: PeerId) {
        let Some(mut before) = self.remove(pair.current) else { return };
        self.legs.insert(leg, Pair { current: id, next: None, inherits: false });
        if let Some(place) = self.peers.get_mut(&id) {
            place.peer.inherit(&mut before.peer);
        }
        self.settle(now, id);
    }

    /// Closes a peer, which is told.
    fn forget(&mut self, now: MediaTime, id: PeerId) {
        let Some(mut place) = self.remove(id) else { return };
        let house = &self.house;
        contained(&mut place.peer, |peer| peer.close(now, house));
        while let Some((to, bytes)) = place.peer.poll_transmit() {
            self.transmits.push((place.sender, to, bytes));
        }
    }

    fn remove(&mut self, id: PeerId) -> Option<Place> {
        let place = self.peers.remove(&id)?;
        self.handshakes -= usize::from(place.peer.is_handshaking());
        self.deadlines.remove(&(place.deadline, id));
        self.by_name.remove(place.peer.name());
        for address in place.peer.addresses() {
            if self.by_address.get(&(place.sender, address)) == Some(&id) {
                self.by_address.remove(&(place.sender, address));
            }
        }
        Some(place)
    }
}

/// Whatever a peer has sent costs itself: a panic of the library ends its association and nothing else.
fn contained(peer: &mut Peer, work: impl FnOnce(&mut Peer)) {
    if catch_unwind(AssertUnwindSafe(|| work(peer))).is_err() {
        error!(leg = peer.leg.0, "DTLS panicked; its peer is given up");
        peer.fail("it cannot go on");
    }
}

/// Runs until nobody commands it any more.
pub fn run(
    mut peers: Peers,
    sockets: &[Arc<MediaSocket>],
    commands: &Receiver<PeerCommand>,
    datagrams: &Receiver<PeerDatagram>,
    tidings: &Sender<Tiding>,
) {
    let mut untold = VecDeque::new();
    loop {
        let now = clock::mono();
        peers.handle_timeout(now);
        send(&mut peers, sockets);
        untold.extend(peers.take_events());
        tell(&mut untold, tidings);
        // What could not be told is tried again soon.
        let longest = if untold.is_empty() { IDLE } else { Duration::from_millis(5) };
        let wait = peers.poll_timeout().since(now).min(longest);
        select! {
            recv(commands) -> command => match command {
                Ok(command) => peers.obey(clock::mono(), command),
                // Who was dismissed last is still told.
                Err(_) => return send(&mut peers, sockets),
            },
            recv(datagrams) -> datagram => match datagram {
                Ok(datagram) => peers.hear(clock::mono(), datagram),
                // No sender is left.
                Err(_) => return,
            },
            default(wait) => {}
        }
        // The desk waits for none of these: a handshake takes a millisecond.
        for command in commands.try_iter().take(AT_ONCE) {
            peers.obey(clock::mono(), command);
        }
        for datagram in datagrams.try_iter().take(AT_ONCE) {
            peers.hear(clock::mono(), datagram);
        }
    }
}

fn send(peers: &mut Peers, sockets: &[Arc<MediaSocket>]) {
    for (sender, to, bytes) in peers.take_transmits() {
        if let Some(socket) = sockets.get(sender) {
            socket.send_to(&bytes, to);
        }
    }
}

impl Peers {
    fn obey(&mut self, now: MediaTime, command: PeerCommand) {
        match command {
            PeerCommand::Admit { leg, sender, local, offer, resumed } => {
                self.admit(now, leg, sender, local, offer, resumed);
            }
            PeerCommand::Dismiss { leg } => self.dismiss(now, leg),
        }
    }

    fn hear(&mut self, now: MediaTime, datagram: PeerDatagram) {
        let PeerDatagram { sender, from, bytes } = datagram;
        self.handle_datagram(now, sender, from, &bytes);
    }
}

/// Tells control, as far as its mailbox has room.
fn tell(untold: &mut VecDeque<PeerEvent>, tidings: &Sender<Tiding>) {
    while let Some(event) = untold.pop_front() {
        if let Err(TrySendError::Full(Tiding::Peer(event))) = tidings.try_send(Tiding::Peer(event)) {
            return untold.push_front(event);
        }
    }
}

#[cfg(test)]
mod tests;
