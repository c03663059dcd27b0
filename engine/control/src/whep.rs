//! WHEP (draft-ietf-wish-whep): an SDP offer in a POST becomes a participant's own leg, or one that listens in on it.
//! What HTTP has read goes in, what it answers comes out.

use std::fmt;

use holdmusic_media::Now;

use crate::{
    Control,
    graph::{Answer, Refusal, Writer},
    id::{CallId, GrantId, ListenerId, ParticipantId},
    negotiation::MediaOffer,
    participant::SdpAnswer,
};

/// What is asked at one of WHEP's endpoints of a participant.
#[derive(Clone, Debug, PartialEq)]
pub enum WhepAsk {
    /// Whether there is what was named: the participant, or something of it. Answered by 204.
    Look(Option<WhepResource>),
    /// Whether a token may be given for the participant. Answered by 200, and by the door with the token.
    Permit,
    /// The participant's own leg is to be what the offer says, with the token as for `Listen`.
    Open(MediaOffer, Option<GrantId>),
    /// One who listens in on the participant, with the token that it was let in by, if it was not the application's.
    Listen(MediaOffer, Option<GrantId>),
    /// The end of it; with a token of WHEP only of what was made with that.
    Close(WhepResource, Option<GrantId>),
}

/// What WHEP calls a session.
#[derive(Clone, Debug, PartialEq)]
pub enum WhepResource {
    /// The participant's own leg, as long as it is what was answered then.
    Leg(Box<str>),
    /// One who listens in.
    Listener(ListenerId),
}

impl WhepResource {
    /// One who listens in, by its name in a path.
    ///
    /// # Errors
    ///
    /// 404 8522 if no such name is given.
    pub fn listener(text: &str) -> Result<Self, Refusal> {
        ListenerId::read(text).map(Self::Listener).ok_or_else(|| Refusal::unknown_session(text))
    }
}

impl fmt::Display for WhepResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leg(name) => f.write_str(name),
            Self::Listener(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl Control {
    pub(crate) fn whep(
        &mut self,
        now: Now,
        base: &str,
        (call, id): (CallId, ParticipantId),
        ask: WhepAsk,
    ) -> Result<Answer, Refusal> {
        let answered = |status| Answer { status, location: None, body: None };
        match ask {
            WhepAsk::Look(resource) => {
                self.readable_call(call)?.participant(id)?;
                if let Some(resource) = resource {
                    self.find_session(call, id, &resource)?;
                }
                Ok(answered(204))
            }
            WhepAsk::Permit => {
                self.live_call(call)?.participant(id)?;
                Ok(answered(200))
            }
            WhepAsk::Open(offer, grant) => self.open_whep(now, base, (call, id), &offer, grant),
            WhepAsk::Listen(offer, grant) => self.listen_in(now, base, (call, id), &offer, grant),
            WhepAsk::Close(resource, grant) => {
                self.live_call(call)?.participant(id)?;
                self.find_session(call, id, &resource)?;
                match resource {
                    // Names of sessions follow each other: who had one could guess the next.
                    WhepResource::Leg(_)
                        if grant.is_some() && self.live_call(call)?.participant(id)?.opened_by != grant =>
                    {
                        return Err(Refusal::forbidden(
                            "The access token is for another session; expected the one that this session was made with.",
                        ));
                    }
                    WhepResource::Leg(_) => drop(self.delete_leg(now, call, id)?),
                    WhepResource::Listener(listener) => self.hang_up((call, id, listener), grant)?,
                }
                Ok(answered(200))
            }
        }
    }

    /// The same as `PUT mediaLeg`, but for an offer that wants to hear nothing: a session of WHEP without sound is none.
    fn open_whep(
        &mut self,
        now: Now,
        base: &str,
        (call, id): (CallId, ParticipantId),
        offer: &MediaOffer,
        grant: Option<GrantId>,
    ) -> Result<Answer, Refusal> {
        self.live_call(call)?.participant(id)?;
        if !offer.negotiate(&self.settings).map_err(Refusal::of_whep)?.receives {
            return Err(receives_nothing());
        }
        self.put_leg(now, base, call, id, offer).map_err(Refusal::of_whep)?;
        if let Some(participant) = self.participant_mut(call, id) {
            participant.opened_by = grant;
        }
        let leg = self.live_call(call)?.participant(id)?.leg.as_ref();
        let answer = leg.and_then(|leg| leg.answer.as_deref());
        let answer = answer.ok_or_else(|| Refusal::internal("An offer was not answered."))?;
        Ok(Writer { base }.session(call, id, "whep", &session_name(answer), &answer.text))
    }

    fn find_session(&self, call: CallId, id: ParticipantId, resource: &WhepResource) -> Result<(), Refusal> {
        let found = match resource {
            WhepResource::Listener(listener) => self.listens(call, id, *listener),
            WhepResource::Leg(name) => {
                let leg = self.readable_call(call)?.participant(id)?.leg.as_ref();
                let answer = leg.and_then(|leg| leg.answer.as_deref());
                answer.is_some_and(|answer| session_name(answer).eq_ignore_ascii_case(name))
            }
        };
        if found { Ok(()) } else { Err(Refusal::unknown_session(resource)) }
    }
}

/// An offer of which nothing would come.
pub(crate) fn receives_nothing() -> Refusal {
    Refusal::of_whep(Refusal::invalid(
        "The offer wants to hear nothing (a=sendonly, a=inactive or no address); expected a=recvonly.",
    ))
}

/// What an answer calls its session: 62 random bits and a version. A later answer for the same leg is another session.
fn session_name(answer: &SdpAnswer) -> String {
    let (id, version) = answer.session;
    format!("{id:x}-{version}")
}
