//! Who listens in on a participant: a leg of its own that follows the participant's, and nothing else. It is not in the
//! roster, not on hold, and not durable.

use holdmusic_codecs::Codec;
use holdmusic_media::{LegId, MediaTime, Now, leg::MAX_FOLLOWERS};

use crate::{
    Control, Output,
    graph::{Answer, Refusal, Writer},
    id::{CallId, GrantId, ListenerId, ParticipantId},
    negotiation::{MediaOffer, Secured},
    participant::Leg,
    settings::Settings,
    timer::Timer,
    whep::receives_nothing,
};

/// On whom somebody listens in, and who that is.
pub(crate) type ListeningKey = (CallId, ParticipantId, ListenerId);

/// Somebody who listens in.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) leg: Leg,
    /// The token that it was let in by; none if that was the application's own.
    grant: Option<GrantId>,
    /// When it has listened for long enough.
    until: MediaTime,
}

impl Control {
    /// One more who listens in, if there is something to be heard and room for it.
    pub(crate) fn listen_in(
        &mut self,
        now: Now,
        base: &str,
        (call, id): (CallId, ParticipantId),
        offer: &MediaOffer,
        grant: Option<GrantId>,
    ) -> Result<Answer, Refusal> {
        if self.draining {
            return Err(Refusal::unavailable("The server is shutting down and takes nothing new.", 5));
        }
        let participant = self.live_call(call)?.participant(id)?;
        let leader = participant.leg.as_ref().filter(|leg| leg.receives && leg.added).ok_or_else(|| {
            Refusal::cannot_receive(format!(
                "Participant '{id}' has no media leg that receives anything: there is nothing to listen in on."
            ))
        })?;
        let (leader, sender, codec) = (leader.id, leader.spec.sender, leader.spec.codec);
        // Whoever comes again with the same token, as a page does that is loaded anew, takes its own place.
        let replaced = grant.and_then(|grant| self.let_in_by((call, id), grant));
        let leaves = usize::from(replaced.is_some());
        if usize::from(participant.listeners) >= MAX_FOLLOWERS + leaves {
            let words =
                format!("Participant '{id}' has {MAX_FOLLOWERS} listeners, the limit of this server.");
            return Err(Refusal::too_many(words, 5));
        }
        let most = self.settings.max_listeners;
        if self.listeners.len() >= most + leaves {
            let words = format!("There are {most} listeners, the limit of this server (max-listeners).");
            return Err(Refusal::too_many(words, 5));
        }
        // Nothing else than what the participant hears can be heard.
        let alone = Settings { codecs: vec![listed(codec)], ..self.settings.clone() };
        let mut negotiated = offer.negotiate(&alone).map_err(|refusal| {
            let (refusal, name) = (refusal.of_whep(), codec.name());
            let words = format!("Participant '{id}' hears {name}, and so must who listens in.");
            Refusal { message: format!("{} {words}", refusal.message), ..refusal }
        })?;
        if !negotiated.receives {
            return Err(receives_nothing());
        }
        if negotiated.codec == Codec::OpusLow && codec != Codec::OpusLow {
            return Err(Refusal::of_whep(Refusal::invalid(format!(
                "The offer allows fewer bits (maxaveragebitrate) than participant '{id}' is sent; expected more."
            ))));
        }
        if negotiated.codec.frame_ms() < codec.frame_ms() {
            return Err(Refusal::of_whep(Refusal::invalid(format!(
                "The offer takes packets of {} ms (maxptime), and participant '{id}' is sent packets of {needed}; expected \
                 a 'maxptime' of {needed} or more, or none.",
                negotiated.codec.frame_ms(),
                needed = codec.frame_ms(),
            ))));
        }
        // Whoever decodes one kind of Opus decodes all.
        negotiated.codec = codec;
        let local = self.settings.media_locals[sender];
        // A WebRTC peer is where its checks come from, whatever its offer says.
        let comes_by_itself = matches!(negotiated.secured, Secured::Dtls(_));
        if !comes_by_itself && local.is_ipv4() != negotiated.destination.is_ipv4() {
            let (offered, needed) = if local.is_ipv4() { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            return Err(Refusal::of_whep(Refusal::invalid(format!(
                "The offer wants to be sent to by {offered}; participant '{id}' hears by {needed}, and so must who listens in."
            ))));
        }
        let mut leg = self.leg_on(now, &negotiated, (sender, local), None);
        // From here on nothing is refused.
        if let Some(replaced) = replaced {
            self.end_listening(replaced);
        }
        self.register_leg(&mut leg);
        self.outputs.push_back(Output::Follow { leg: leg.id, leader });
        let listener = ListenerId::random(&mut self.rng);
        let key = (call, id, listener);
        let until = now.mono + self.settings.listen_for;
        self.timers.set(until, Timer::Listening(leg.id));
        let text = leg.answer.as_deref().map(|answer| answer.text.clone()).unwrap_or_default();
        self.listening_legs.insert(leg.id, key);
        self.listeners.insert(key, Box::new(Listening { leg, grant, until }));
        self.count_listeners(call, id);
        Ok(Writer { base }.session(call, id, "listeners", &listener.text(), &text))
    }

    /// Whether such a one listens in.
    pub(crate) fn listens(&self, call: CallId, id: ParticipantId, listener: ListenerId) -> bool {
        self.listeners.contains_key(&(call, id, listener))
    }

    /// Who listens in is asked to leave, by whom may ask that.
    pub(crate) fn hang_up(&mut self, key: ListeningKey, grant: Option<GrantId>) -> Result<(), Refusal> {
        let found = self.listeners.get(&key).ok_or_else(|| Refusal::unknown_session(key.2))?;
        if grant.is_some() && found.grant != grant {
            return Err(Refusal::forbidden(
                "The access token is for another listener; expected the one that this listener was made with.",
            ));
        }
        self.end_listening(key);
        Ok(())
    }

    /// Something happened at a leg: whether somebody listened in with it, who does so no more.
    pub(crate) fn end_listening_of(&mut self, leg: LegId) -> bool {
        let found = self.listening_legs.get(&leg).copied();
        if let Some(key) = found {
            self.end_listening(key);
        }
        found.is_some()
    }

    /// Nobody listens in on a participant any more.
    pub(crate) fn end_listeners(&mut self, call: CallId, id: ParticipantId) {
        let (first, last) = (ListenerId(u128::MIN), ListenerId(u128::MAX));
        while let Some((&key, _)) = self.listeners.range((call, id, first)..=(call, id, last)).next() {
            self.end_listening(key);
        }
    }

    fn end_listening(&mut self, key: ListeningKey) {
        let Some(Listening { leg, until, .. }) = self.listeners.remove(&key).map(|found| *found) else {
            return;
        };
        self.listening_legs.remove(&leg.id);
        self.timers.cancel(Some(until), Timer::Listening(leg.id));
        self.unregister_leg(&leg);
        self.outputs.push_back(Output::RemoveLeg { leg: leg.id });
        self.count_listeners(key.0, key.1);
    }

    /// Who was let in by this token and listens still.
    fn let_in_by(&self, (call, id): (CallId, ParticipantId), grant: GrantId) -> Option<ListeningKey> {
        let (first, last) = (ListenerId(u128::MIN), ListenerId(u128::MAX));
        let mut theirs = self.listeners.range((call, id, first)..=(call, id, last));
        theirs.find(|(_, found)| found.grant == Some(grant)).map(|(key, _)| *key)
    }

    fn count_listeners(&mut self, call: CallId, id: ParticipantId) {
        let (first, last) = (ListenerId(u128::MIN), ListenerId(u128::MAX));
        let count = self.listeners.range((call, id, first)..=(call, id, last)).count();
        self.counts.listeners = self.listeners.len() as u64;
        // Nothing that must survive a restart: nobody listens in then.
        let participant = self.calls.get_mut(&call).and_then(|call| call.participants.get_mut(&id));
        if let Some(participant) = participant {
            participant.listeners = u8::try_from(count).unwrap_or(u8::MAX);
        }
    }
}

/// As what a codec is listed among those in use: few bits of Opus go with the usual ones, short packets with the others.
fn listed(codec: Codec) -> Codec {
    match codec {
        Codec::OpusFullband => Codec::OpusFullband,
        other => other.on_the_wire(),
    }
}
