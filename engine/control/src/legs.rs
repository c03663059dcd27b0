//! The legs of participants: an offer becomes a leg that media knows, is negotiated anew, and goes away.

use std::{
    collections::btree_map::Entry,
    net::{IpAddr, SocketAddr},
};

use holdmusic_media::{
    Cname, Keying, LegId, LegSpec, MasterKey, MediaTime, Now, Numbering, Protection, Suite,
    pacer::Stream,
    rtp::{SeqNo, Ssrc, Timestamp},
    time::ClockRate,
};
use rand::Rng;
use zeroize::Zeroizing;

use crate::{
    Control, Output,
    graph::{Answer, Refusal, Writer},
    id::{CallId, ParticipantId},
    negotiation::{DtlsLocal, Local, MediaOffer, Negotiated, Secured, StateOffer},
    participant::{EndedBy, Leg, SdpAnswer, Sending},
    record::Key,
    transport::{IceCredentials, Transport, TransportState},
};

impl Control {
    /// A leg as `offer` wants it. Nothing is changed yet.
    pub(crate) fn leg_from(&mut self, now: Now, offer: &MediaOffer) -> Result<Leg, Refusal> {
        let negotiated = offer.negotiate(&self.settings)?;
        self.new_leg(now, &negotiated, None)
    }

    /// A leg that takes the place of one with the answer `before`, if there was one.
    fn new_leg(
        &mut self,
        now: Now,
        negotiated: &Negotiated,
        before: Option<&SdpAnswer>,
    ) -> Result<Leg, Refusal> {
        let place = self.choose_sender(negotiated.destination.ip())?;
        Ok(self.leg_on(now, negotiated, place, before))
    }

    /// A leg that is sent by `sender`, which peers see as `local`.
    pub(crate) fn leg_on(
        &mut self,
        now: Now,
        negotiated: &Negotiated,
        (sender, local): (usize, SocketAddr),
        before: Option<&SdpAnswer>,
    ) -> Leg {
        let protection = self.protection(&negotiated.secured, None);
        let transport = match &negotiated.secured {
            Secured::Dtls(offer) => {
                let local = IceCredentials::random(&mut self.rng);
                Some(Box::new(Transport::new(local, offer.peer())))
            }
            Secured::Plain | Secured::Given(_) | Secured::Sdes(_) => None,
        };
        let numbering = self.numbering(now, &negotiated.state, negotiated.codec.clock_rate());
        let spec = LegSpec {
            sender,
            destination: negotiated.destination,
            rtcp: negotiated.rtcp,
            codec: negotiated.codec,
            payload_type: negotiated.payload_type,
            numbering,
            // Random and of this leg alone (RFC 7022 section 4.2).
            cname: Cname::new(u128::from(self.rng.next_u64()) << 32 | u128::from(self.rng.next_u32())),
            protection,
            peer: negotiated.peer,
        };
        self.last_leg += 1;
        let answer = self.answer(negotiated, local, &spec, transport.as_deref(), before);
        let id = LegId(self.last_leg);
        Leg {
            id,
            spec,
            transport,
            receives: negotiated.receives,
            added: false,
            answer,
            sending: None,
            on_air: false,
            used: false,
        }
    }

    /// The answer to an SDP offer, if it was one, after the one before.
    fn answer(
        &mut self,
        negotiated: &Negotiated,
        local: SocketAddr,
        spec: &LegSpec,
        transport: Option<&Transport>,
        before: Option<&SdpAnswer>,
    ) -> Option<Box<SdpAnswer>> {
        let session = match before {
            Some(SdpAnswer { session: (id, version), .. }) => (*id, version + 1),
            // Within the signed 64 bits of which RFC 3264 section 5 speaks.
            None => (self.rng.next_u64() >> 2, 1),
        };
        let dtls = transport.map(|transport| DtlsLocal {
            ufrag: transport.local.ufrag.clone(),
            pwd: transport.local.pwd.clone(),
            fingerprint: self.settings.fingerprint.expect("without a certificate no DTLS was negotiated"),
            candidates: vec![local],
        });
        let text = negotiated.answer(&Local { address: local, session, dtls: dtls.as_ref() }, spec)?;
        Some(Box::new(SdpAnswer { text, session }))
    }

    /// How a leg is protected that was so `before`.
    fn protection(&mut self, secured: &Secured, before: Option<&Protection>) -> Protection {
        let sdes = match secured {
            Secured::Plain => return Protection::Plain,
            Secured::Given(key) => {
                return Protection::Srtp(Box::new(Keying {
                    send: MasterKey::clone(key),
                    receive: Some(MasterKey::clone(key)),
                    mki: None,
                    rollover_counter: 0,
                    srtcp_index: 0,
                }));
            }
            // As until now, until the peer has come.
            Secured::Dtls(_) => return Protection::Awaited,
            Secured::Sdes(sdes) => sdes,
        };
        match before {
            // The peer goes on as it was, and so do we: another key would be a gap for who notices it late.
            Some(Protection::Srtp(keying))
                if keying.receive.as_ref() == Some(&sdes.peer) && keying.mki == sdes.mki =>
            {
                Protection::Srtp(keying.clone())
            }
            _ => Protection::Srtp(Box::new(Keying {
                send: self.master_key(sdes.peer.suite()),
                receive: Some(sdes.peer.clone()),
                mki: sdes.mki.clone(),
                rollover_counter: 0,
                srtcp_index: 0,
            })),
        }
    }

    /// A key that nobody has had.
    fn master_key(&mut self, suite: Suite) -> MasterKey {
        let mut bytes = Zeroizing::new(vec![0; suite.master_len()]);
        self.rng.fill_bytes(&mut bytes);
        MasterKey::new(suite, &bytes).expect("of the suite's length")
    }

    /// The local address of the right family that carries the fewest legs.
    pub(crate) fn choose_sender(&self, destination: IpAddr) -> Result<(usize, SocketAddr), Refusal> {
        let locals = self.settings.media_locals.iter().enumerate();
        locals
            .filter(|(_, local)| local.is_ipv4() == destination.is_ipv4())
            .min_by_key(|(sender, _)| self.legs_of_sender[*sender])
            .map(|(sender, local)| (sender, *local))
            .ok_or_else(|| {
                let family = if destination.is_ipv4() { "IPv4" } else { "IPv6" };
                Refusal::invalid(format!(
                    "The media destination is {family}; this server has no such media address."
                ))
            })
    }

    /// The numbering that a customer asked for, where it did; random otherwise (RFC 3550 section 5.1).
    pub(crate) fn numbering(&mut self, now: Now, state: &StateOffer, clock_rate: u32) -> Numbering {
        let ssrc = state.ssrc.unwrap_or_else(|| {
            loop {
                // Receivers and our own sockets tell legs apart by it, so no two get the same.
                let ssrc = Ssrc(self.rng.next_u32());
                if !self.ssrcs.contains_key(&ssrc) {
                    break ssrc;
                }
            }
        });
        #[expect(clippy::cast_possible_truncation, reason = "any 16 of 32 random bits are random")]
        let sequence = state.sequence.unwrap_or_else(|| SeqNo(self.rng.next_u32() as u16));
        let timestamp = state.timestamp.unwrap_or_else(|| Timestamp(self.rng.next_u32()));
        // Carried to the present here, since `at` may lie before the origin of our clock.
        let timestamp = match state.at {
            Some(at) => timestamp.after(units_between(at.0, now.wall.0, ClockRate(clock_rate))),
            None => timestamp,
        };
        let rollover_counter = state.rollover_counter.unwrap_or_default();
        let srtcp_index = state.srtcp_index.unwrap_or_default();
        Numbering { ssrc, sequence, timestamp, at: now.mono, rollover_counter, srtcp_index }
    }

    /// The participant has `leg` from now on.
    pub(crate) fn admit_leg(&mut self, call: CallId, participant: ParticipantId, mut leg: Leg) {
        self.legs.insert(leg.id, (call, participant));
        self.register_leg(&mut leg);
        let codec = leg.spec.codec;
        let owner = self.participant_mut(call, participant);
        owner.expect("a leg is made for a participant that is there").leg = Some(leg);
        self.prefetch_in(call, codec);
    }

    /// A leg is there from now on, whoever has it.
    pub(crate) fn register_leg(&mut self, leg: &mut Leg) {
        self.legs_of_sender[leg.spec.sender] += 1;
        self.use_ssrc(leg.spec.numbering.ssrc);
        self.tell_leg(leg);
        let resumed = match leg.transport.as_deref().map(|transport| &transport.state) {
            Some(TransportState::Connected(destination)) => Some(*destination),
            _ => None,
        };
        self.admit_peer(leg, resumed);
    }

    /// It is not there any more.
    pub(crate) fn unregister_leg(&mut self, leg: &Leg) {
        self.outputs.extend(leg.transport.is_some().then_some(Output::Dismiss { leg: leg.id }));
        self.legs_of_sender[leg.spec.sender] -= 1;
        self.free_ssrc(leg.spec.numbering.ssrc);
    }

    /// Media hears of the leg once it can receive.
    fn tell_leg(&mut self, leg: &mut Leg) {
        if leg.receives && !leg.added {
            leg.added = true;
            self.outputs.push_back(Output::AddLeg { leg: leg.id, spec: leg.spec.clone() });
        }
    }

    /// The leg of a participant goes away; its hold has ended before.
    pub(crate) fn remove_leg(&mut self, now: Now, call: CallId, participant: ParticipantId) {
        let owner = self.participant_mut(call, participant);
        let Some(leg) = owner.and_then(|owner| owner.leg.take()) else { return };
        self.drop_leg(now, call, participant, &leg);
    }

    /// Media forgets the leg of a participant, which says RTCP BYE; the participant keeps it.
    pub(crate) fn say_goodbye(&mut self, now: Now, call: CallId, id: ParticipantId) {
        self.end_listeners(call, id);
        let owner = self.participant_mut(call, id);
        let Some(leg) = owner.and_then(|owner| owner.leg.as_mut()).filter(|leg| leg.added) else { return };
        leg.added = false;
        let (leg, had_peer) = (leg.id, leg.transport.is_some());
        self.outputs.push_back(Output::RemoveLeg { leg });
        self.outputs.extend(had_peer.then_some(Output::Dismiss { leg }));
        self.await_report(now, leg, call, id, None, None);
    }

    fn drop_leg(&mut self, now: Now, call: CallId, participant: ParticipantId, leg: &Leg) {
        self.end_listeners(call, participant);
        self.legs.remove(&leg.id);
        self.unregister_leg(leg);
        if leg.added {
            self.outputs.push_back(Output::RemoveLeg { leg: leg.id });
            self.await_report(now, leg.id, call, participant, None, None);
        }
        self.unheard(now, call, participant);
    }

    /// The leg of a participant is about to be told to play.
    pub(crate) fn begin_sending(&mut self, now: MediaTime, call: CallId, id: ParticipantId) {
        let Some(leg) = self.participant_mut(call, id).and_then(|owner| owner.leg.as_mut()) else { return };
        if !std::mem::replace(&mut leg.on_air, true) {
            leg.sending.get_or_insert(Sending { since: now, times: 0 }).times += 1;
            leg.used = true;
            let waits = leg.spec.protection != Protection::Plain;
            let leg = leg.id;
            if waits {
                self.mark(Key::Participant(call, id));
                self.wait_for_store(leg);
            }
        }
    }

    /// Whether a customer's numbers can be those of the next packet. Nothing but what has been sent with a key speaks
    /// against them: with the same numbers again two packets would share a keystream (RFC 3711 section 9.1).
    pub(crate) fn check_state(leg: &Leg, state: &StateOffer) -> Result<(), Refusal> {
        let next = &leg.spec.numbering;
        let (Some(sequence), true) = (state.sequence, repeats(leg, state)) else { return Ok(()) };
        let back = |(counter, sequence): (u32, SeqNo)| {
            (counter, sequence.0) < (next.rollover_counter, next.sequence.0)
        };
        if state.rollover_counter.is_some_and(|counter| back((counter, sequence))) {
            return Err(Refusal::invalid(format!(
                "'holdMusic.rtpState' has 'rolloverCounter' {} and 'sequenceNumber' {}, which this leg has used with its \
                 key; expected {} and {} or later ones.",
                state.rollover_counter.unwrap_or_default(),
                sequence.0,
                next.rollover_counter,
                next.sequence.0
            )));
        }
        if state.srtcp_index.is_some_and(|index| index < next.srtcp_index) {
            return Err(Refusal::invalid(format!(
                "'holdMusic.rtpState' has 'srtcpIndex' {}, which this leg has used with its key; expected {} or a later \
                 one.",
                state.srtcp_index.unwrap_or_default(),
                next.srtcp_index
            )));
        }
        Ok(())
    }

    /// The numbers with which `leg` goes on as a customer asks. What was not said about the counters of SRTP is found such
    /// that no number comes again.
    pub(crate) fn handed_over(&mut self, now: Now, leg: &Leg, state: &StateOffer) -> Numbering {
        let before = leg.spec.numbering;
        let mut numbering = self.numbering(now, state, leg.spec.codec.clock_rate());
        if repeats(leg, state) {
            let came_round = numbering.sequence.0 < before.sequence.0;
            let next = before.rollover_counter.saturating_add(came_round.into());
            numbering.rollover_counter = state.rollover_counter.unwrap_or(next);
            numbering.srtcp_index = state.srtcp_index.unwrap_or(before.srtcp_index);
        }
        numbering
    }

    /// The leg of a participant has other numbers from now on.
    pub(crate) fn renumber_leg(&mut self, call: CallId, id: ParticipantId, numbering: Numbering) {
        let Some(leg) = self.participant_mut(call, id).and_then(|owner| owner.leg.as_mut()) else { return };
        let before = std::mem::replace(&mut leg.spec.numbering, numbering);
        self.use_ssrc(numbering.ssrc);
        self.free_ssrc(before.ssrc);
    }

    fn use_ssrc(&mut self, ssrc: Ssrc) {
        *self.ssrcs.entry(ssrc).or_default() += 1;
    }

    fn free_ssrc(&mut self, ssrc: Ssrc) {
        if let Entry::Occupied(mut legs) = self.ssrcs.entry(ssrc) {
            *legs.get_mut() -= 1;
            if *legs.get() == 0 {
                legs.remove();
            }
        }
    }

    /// `PUT mediaLeg`.
    pub(crate) fn put_leg(
        &mut self,
        now: Now,
        base: &str,
        call: CallId,
        id: ParticipantId,
        offer: &MediaOffer,
    ) -> Result<Answer, Refusal> {
        let participant = self.live_call(call)?.participant(id)?;
        let old = participant.leg.clone();
        let negotiated = offer.negotiate(&self.settings)?;
        // Another address family means another socket: another leg, on which the hold goes on.
        let local = old.as_ref().map(|leg| self.settings.local(leg));
        let same_socket = local.is_some_and(|local| local.is_ipv4() == negotiated.destination.is_ipv4());
        let before = old.as_ref().and_then(|leg| leg.answer.as_deref());
        let new = if same_socket { None } else { Some(self.new_leg(now, &negotiated, before)?) };
        let codec = negotiated.codec;
        let recoded = old.as_ref().is_some_and(|leg| leg.spec.codec != codec);
        // From here on nothing is refused.
        if let Some(participant) = self.participant_mut(call, id) {
            participant.opened_by = None;
        }
        if !negotiated.receives {
            self.end_hold(now, call, id, EndedBy::Unreachable, None);
            self.stop_announcing(now, call, id);
        }
        match (old, new) {
            (Some(mut leg), None) => {
                if recoded {
                    // What they were answered cannot be sent to them any more.
                    self.end_listeners(call, id);
                    self.hush_recoded(now, call, id);
                }
                if recoded || !negotiated.receives {
                    // It may have been told to stop.
                    leg = self.live_call(call)?.participant(id)?.leg.clone().unwrap_or(leg);
                }
                if recoded {
                    // A leg with a key goes over to shorter packets when the store counts by them.
                    if leg.on_air
                        && leg.spec.protection != Protection::Plain
                        && codec.frame_ms() < leg.spec.codec.frame_ms()
                    {
                        self.wait_for_store(leg.id);
                    }
                    leg.count_up(now.mono, codec);
                }
                leg.receives = negotiated.receives;
                let &Negotiated { destination, rtcp, codec, payload_type, peer, .. } = &negotiated;
                leg.spec = LegSpec { codec, payload_type, peer, ..leg.spec };
                let protection = self.protection(&negotiated.secured, Some(&leg.spec.protection));
                let is_new_peer = self.renew_transport(&mut leg, &negotiated.secured);
                // Where a peer of ICE is, and what it has the keys of, is what it has said itself.
                if !leg.transport.as_deref().is_some_and(Transport::is_connected) {
                    if let (Protection::Plain | Protection::Awaited, Protection::Srtp(keying)) =
                        (&leg.spec.protection, &protection)
                        && !keying.may_come_again()
                    {
                        leg.begin_counters(now.mono, keying);
                    }
                    leg.spec.protection = protection;
                    if leg.receives {
                        leg.spec = LegSpec { destination, rtcp, ..leg.spec };
                    }
                }
                let (local, before) = (self.settings.local(&leg), leg.answer.as_deref());
                leg.answer = self.answer(&negotiated, local, &leg.spec, leg.transport.as_deref(), before);
                // Also where nothing is to be sent: media must not think that keys which come later follow those before.
                if leg.added {
                    self.outputs.push_back(Output::ChangeLeg { leg: leg.id, spec: leg.spec.clone() });
                }
                self.tell_leg(&mut leg);
                if is_new_peer {
                    self.admit_peer(&leg, None);
                }
                if let Some(participant) = self.participant_mut(call, id) {
                    participant.leg = Some(leg);
                }
                if recoded {
                    self.play_recoded(now.mono, call, id);
                    self.prefetch_in(call, codec);
                }
            }
            (_, Some(leg)) => {
                self.remove_leg(now, call, id);
                self.admit_leg(call, id, leg);
                // If it still is on hold.
                if recoded {
                    if let Some(hold) = self.hold_mut(call, id) {
                        hold.renumbered = false;
                    }
                    self.play_recoded(now.mono, call, id);
                } else {
                    self.play_on(now.mono, call, id);
                }
            }
            (None, None) => unreachable!("without an old leg there is a new one"),
        }
        if recoded || !negotiated.receives {
            // What is to be announced may have waited for this leg.
            self.recite(now, call);
        }
        self.read_leg(base, call, id)
    }

    /// The peer of `leg` is at another address: the leg goes there, if it may. Where RTP and RTCP share a port both go.
    pub(crate) fn latch(&mut self, leg: LegId, from: SocketAddr, stream: Stream) {
        if self.settings.guard.media(from.ip()).is_err() {
            return;
        }
        let Some(&(call, id)) = self.legs.get(&leg) else { return };
        let Some(leg) = self.participant_mut(call, id).and_then(|owner| owner.leg.as_mut()) else { return };
        // A peer of ICE says itself where it is.
        if !leg.added || leg.transport.is_some() || from.is_ipv4() != leg.spec.destination.is_ipv4() {
            return;
        }
        let shared = leg.spec.rtcp == Some(leg.spec.destination);
        if shared || stream == Stream::Rtp {
            leg.spec.destination = from;
        }
        if shared || stream == Stream::Rtcp {
            leg.spec.rtcp = Some(from);
        }
        let (leg, spec) = (leg.id, leg.spec.clone());
        self.outputs.push_back(Output::ChangeLeg { leg, spec });
    }

    /// `GET mediaLeg`.
    pub(crate) fn read_leg(&self, base: &str, call: CallId, id: ParticipantId) -> Result<Answer, Refusal> {
        let participant = self.readable_call(call)?.participant(id)?;
        let leg = participant.leg.as_ref().ok_or_else(|| Refusal::unknown_leg(id))?;
        Ok(Writer { base }.leg(call, participant, leg, self.settings.local(leg)))
    }

    /// `DELETE mediaLeg`.
    pub(crate) fn delete_leg(
        &mut self,
        now: Now,
        call: CallId,
        id: ParticipantId,
    ) -> Result<Answer, Refusal> {
        if self.live_call(call)?.participant(id)?.leg.is_none() {
            return Err(Refusal::unknown_leg(id));
        }
        self.end_hold(now, call, id, EndedBy::Removed, None);
        self.remove_leg(now, call, id);
        Ok(Answer { status: 204, location: None, body: None })
    }
}

/// Whether a customer's numbers belong to a stream that this leg has sent with its key.
fn repeats(leg: &Leg, state: &StateOffer) -> bool {
    leg.used && leg.spec.protection != Protection::Plain && state.ssrc == Some(leg.spec.numbering.ssrc)
}

/// RTP units that pass from one moment of the calendar to another, in microseconds; negative ones wrap round.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "timestamps wrap at 2^32 (RFC 3550 section 5.1), in both directions"
)]
fn units_between(from: i64, to: i64, rate: ClockRate) -> u32 {
    let micros = i128::from(to) - i128::from(from);
    (micros * i128::from(rate.0)).div_euclid(1_000_000) as u32
}
