//! The doors of a simulated world: what control decides is done here, and what comes of it is told to control, at the
//! moment at which a fetch, a producer or a delivery would be done with it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use holdmusic_codecs::{Codec, EncoderSettings};
use holdmusic_control::{
    DeliveryOutcome, Freshness, Input, NotificationId, Origin, Output, PromptFailure, SourceFacts,
};
use holdmusic_media::{
    Crossing, LegId, MediaTime, Music, SourceId,
    bridge::bridge,
    pacer::Command,
    prepare::{PrepareSettings, Prepared},
    ring::Reader,
    source::{Job, Progress},
};

use super::World;
use crate::{shelf::Item, sound::asset};

/// Frames encoded at one turn, as in the product.
const TURN: usize = 50;

/// What will happen at a moment.
pub(super) enum Happening {
    Fetched(SourceId, Result<Arc<[u8]>, PromptFailure>),
    Ready(SourceId, Box<(Reader, Job, SourceFacts)>),
    Failed(SourceId, PromptFailure),
    Encode(Box<Job>),
    Bridge(LegId, Box<Crossing>),
    Delivered(NotificationId, DeliveryOutcome),
}

impl fmt::Debug for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetched(source, _) => write!(f, "Fetched({source:?})"),
            Self::Ready(source, _) => write!(f, "Ready({source:?})"),
            Self::Failed(source, failure) => write!(f, "Failed({source:?}, {failure:?})"),
            Self::Encode(_) => write!(f, "Encode"),
            Self::Bridge(leg, _) => write!(f, "Bridge({leg:?})"),
            Self::Delivered(notification, outcome) => write!(f, "Delivered({notification:?}, {outcome:?})"),
        }
    }
}

impl World {
    /// It will happen after so long.
    pub(super) fn later(&mut self, after: Duration, happening: Happening) {
        self.happenings += 1;
        self.agenda.insert((self.clock.mono() + after, self.happenings), happening);
    }

    /// Lets it happen.
    pub(super) fn happen(&mut self, happening: Happening) {
        let now = self.clock.now();
        match happening {
            Happening::Fetched(source, Ok(bytes)) => {
                self.preparations += 1;
                let after = self.settings.decoding;
                let happening = match prepare(&bytes, now.mono + after) {
                    Ok(prepared) => Happening::Ready(source, Box::new(prepared)),
                    Err(failure) => Happening::Failed(source, failure),
                };
                self.later(after, happening);
            }
            Happening::Ready(source, prepared) => {
                let (reader, job, facts) = *prepared;
                let Some(place) = self.sources.get_mut(&source) else { return };
                *place = Some(reader);
                self.control.handle_input(now, Input::SourceReady { source, facts });
                self.later(self.settings.turn, Happening::Encode(Box::new(job)));
            }
            Happening::Fetched(source, Err(failure)) | Happening::Failed(source, failure) => {
                if self.sources.contains_key(&source) {
                    self.control.handle_input(now, Input::SourceFailed { source, failure });
                }
            }
            Happening::Encode(mut job) => {
                if job.step(TURN) != Ok(Progress::Closed) {
                    self.later(self.settings.turn, Happening::Encode(job));
                }
            }
            Happening::Bridge(leg, crossing) => {
                let Crossing { from, at, to, source, codec } = *crossing;
                let bridge = bridge(codec, &EncoderSettings::default(), &from, at, &to);
                if self.legs.contains_key(&leg) {
                    self.command(leg, Command::Bridge { leg, source, bridge });
                }
            }
            Happening::Delivered(notification, outcome) => {
                self.control.handle_input(now, Input::Delivered { notification, outcome });
            }
        }
    }

    /// Does what control says.
    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Reply { request, result } => {
                let before = self.replies.insert(request, result.into());
                assert!(before.is_none(), "seed {}: a request was answered twice", self.seed);
            }
            Output::Prepare { source, prompt, instead_of: _ } => {
                let before = self.sources.insert(source, None);
                assert!(before.is_none(), "seed {}: a source was prepared twice", self.seed);
                let url = match prompt.origin {
                    Origin::Web(url) | Origin::Directory(url) => url,
                    Origin::Data(data) => {
                        return self
                            .later(Duration::ZERO, Happening::Fetched(source, Ok(data.bytes().into())));
                    }
                };
                match self.shelf.fetch(url.as_str()) {
                    Item::Bytes { bytes, after } => self.later(after, Happening::Fetched(source, Ok(bytes))),
                    Item::Fails { cause, reason, after } => {
                        let failure = PromptFailure::new(cause, reason);
                        self.later(after, Happening::Fetched(source, Err(failure)));
                    }
                    Item::Never => {}
                }
            }
            Output::Release { source } => {
                self.sources.remove(&source);
            }
            // Nothing is kept beyond a world.
            Output::Purge { .. } => {}
            Output::AddLeg { leg, spec } => {
                self.legs.insert(leg, spec.sender);
                self.command(leg, Command::AddLeg { leg, spec: Box::new(spec) });
            }
            Output::ChangeLeg { leg, spec } => {
                self.command(leg, Command::ChangeLeg { leg, spec: Box::new(spec) });
            }
            Output::Play { leg, source, is_default, numbering, since } => {
                let reader = self.sources.get(&source).cloned().flatten();
                let reader = reader.unwrap_or_else(|| {
                    panic!("seed {}: a source without frames was to be played", self.seed)
                });
                let music = Music { source, reader, is_default };
                self.command(leg, Command::Play { leg, music, numbering, since });
            }
            Output::Stop { leg } => self.command(leg, Command::Stop { leg }),
            Output::RemoveLeg { leg } => {
                self.command(leg, Command::RemoveLeg { leg });
                self.legs.remove(&leg);
            }
            Output::FirstPacket { .. } => {}
            Output::Notify { notification, call: _, uri, body, attempt } => {
                let now = self.now();
                let customer = self.customers.entry(uri.as_str().to_owned()).or_default();
                let (after, outcome) = customer.post(now, notification, attempt, &body);
                self.later(after, Happening::Delivered(notification, outcome));
            }
        }
    }

    fn command(&mut self, leg: LegId, command: Command) {
        let sender = *self.legs.get(&leg).expect("control commands legs that it has added");
        self.senders[sender].orders.push_back(command);
    }
}

/// What a producer does with the bytes of a prompt.
fn prepare(bytes: &[u8], ready_at: MediaTime) -> Result<(Reader, Job, SourceFacts), PromptFailure> {
    let prepared =
        holdmusic_media::prepare::prepare(bytes, Codec::Opus, &PrepareSettings::default(), &|| true);
    let Prepared { reader, job, seconds, format, gain_db, bytes, .. } =
        prepared.map_err(|error| PromptFailure::from(&error))?;
    Ok((
        reader,
        job,
        SourceFacts { seconds, format, gain_db, ready_at, bytes, freshness: Freshness::FOR_EVER },
    ))
}

/// The default music, encoded once for all worlds of a process: it never changes again.
pub(super) fn default_music() -> Reader {
    static READER: OnceLock<Reader> = OnceLock::new();
    let reader = READER.get_or_init(|| {
        let (reader, mut job, _) =
            prepare(&asset("default-music.wav"), MediaTime::ZERO).expect("the default music can be played");
        while job.step(1000).expect("whole frames can be encoded") != Progress::Closed {}
        reader
    });
    reader.clone()
}
