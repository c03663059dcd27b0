//! The doors of a simulated world: what control decides is done here, and what comes of it is told to control, at the
//! moment at which a fetch, a producer or a delivery would be done with it.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};

use holdmusic_codecs::{Codec, EncoderSettings};
use holdmusic_control::{
    DEFAULT_SOURCE, DeliveryOutcome, Freshness, Input, NotificationId, Origin, Output, PromptCause,
    PromptFailure, RequestId, SourceFacts,
};
use holdmusic_media::{
    Announcement, Crossing, LegId, MediaTime, Music, SourceId,
    bridge::bridge,
    pacer::Command,
    prepare::{Analysed, Facts, Preparation, PrepareError, PrepareSettings, Prepared, Step, prepare, room},
    ring::Reader,
    source::Progress,
};

use super::World;
use crate::{
    shelf::{End, Item},
    sound::asset,
};

/// How often a piece comes of what comes in pieces.
const PIECE: Duration = Duration::from_millis(10);

/// What will happen at a moment.
pub(super) enum Happening {
    Bytes(u64, Arc<[u8]>, Range<usize>),
    Ended(u64, Result<(), PromptFailure>),
    Step(u64, MediaTime),
    Analysed(u64, Box<Result<Analysed, PrepareError>>),
    Bridge(LegId, Box<Crossing>),
    Delivered(NotificationId, DeliveryOutcome),
    Committed(usize),
    Loaded(RequestId, Box<[u8]>),
    Kept(SourceId, Codec, SourceFacts),
    Crash(Duration),
    Restart,
}

impl fmt::Debug for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(number, _, range) => write!(f, "Bytes({number}, {range:?})"),
            Self::Ended(number, how) => write!(f, "Ended({number}, {how:?})"),
            Self::Step(number, _) => write!(f, "Step({number})"),
            Self::Analysed(number, _) => write!(f, "Analysed({number})"),
            Self::Bridge(leg, _) => write!(f, "Bridge({leg:?})"),
            Self::Committed(count) => write!(f, "Committed({count})"),
            Self::Loaded(request, _) => write!(f, "Loaded({request:?})"),
            Self::Kept(source, codec, _) => write!(f, "Kept({source:?}, {codec:?})"),
            Self::Crash(away) => write!(f, "Crash({away:?})"),
            Self::Restart => f.write_str("Restart"),
            Self::Delivered(notification, outcome) => write!(f, "Delivered({notification:?}, {outcome:?})"),
        }
    }
}

/// A source as the doors know it.
#[derive(Debug)]
pub(super) struct Place {
    reader: Reader,
    is_ready: bool,
}

impl Place {
    pub(super) fn ready(reader: Reader) -> Self {
        Self { reader, is_ready: true }
    }
}

/// A prompt that a producer has in hand.
pub(super) struct Underway {
    source: SourceId,
    codec: Codec,
    preparation: Preparation,
    /// The ring of a correction, until it takes its place.
    second: Option<Reader>,
    is_second: bool,
    /// Since when it can be played.
    ready_at: Option<MediaTime>,
    busy_until: MediaTime,
    /// When its next step is.
    next: MediaTime,
    /// Where it comes from; empty for a correction.
    uri: String,
    /// What control was told of it.
    facts: Option<SourceFacts>,
}

impl fmt::Debug for Underway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Underway({:?}, {} frames)", self.source, self.preparation.frames())
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
        self.underway.retain(|_, underway| !underway.preparation.is_abandoned());
        match happening {
            Happening::Bytes(number, bytes, range) => {
                let Some(underway) = self.underway.get_mut(&number) else { return };
                match underway.preparation.push(now.mono, &bytes[range]) {
                    Ok(()) => self.something_came(number),
                    Err(error) => {
                        self.preparations += 1;
                        self.give_up(number, PromptFailure::from(&error));
                    }
                }
            }
            Happening::Ended(number, Ok(())) => {
                let Some(underway) = self.underway.get_mut(&number) else { return };
                underway.preparation.end();
                self.something_came(number);
            }
            Happening::Ended(number, Err(failure)) => self.give_up(number, failure),
            Happening::Step(number, at) => {
                if self.underway.get(&number).is_some_and(|underway| underway.next == at) {
                    self.step_of(number);
                }
            }
            Happening::Analysed(number, analysed) => {
                let Some(underway) = self.underway.get_mut(&number) else { return };
                match analysed.and_then(|analysed| underway.preparation.analysed(analysed)) {
                    Ok(()) => self.something_came(number),
                    Err(error) => self.give_up(number, PromptFailure::from(&error)),
                }
            }
            Happening::Bridge(leg, crossing) => {
                let Crossing { from, at, to, source, codec } = *crossing;
                let bridge = bridge(codec, &EncoderSettings::default(), &from, at, &to);
                if self.legs.contains_key(&leg) {
                    self.command(leg, Command::Bridge { leg, source, bridge });
                }
            }
            Happening::Committed(count) => self.committed(count),
            Happening::Loaded(request, prefix) => self.loaded(request, &prefix),
            Happening::Kept(source, codec, facts) => {
                if self.sources.contains_key(&(source, codec)) {
                    self.control.handle_input(now, Input::SourceReady { source, codec, facts });
                }
            }
            Happening::Crash(away) => self.crash(away),
            Happening::Restart => self.restart(),
            Happening::Delivered(notification, outcome) => {
                self.control.handle_input(now, Input::Delivered { notification, outcome });
            }
        }
    }

    /// Does what control says.
    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Reply { request, result, standing: _ } => {
                let before = self.replies.insert(request, result.into());
                assert!(before.is_none(), "seed {}: a request was answered twice", self.seed);
            }
            Output::Persist { ticket, writes } => self.persist(ticket, writes),
            Output::Load { request, prefix } => self.load(request, prefix),
            Output::Prepare { source, codec, prompt, instead_of: _, unasked } => {
                let uri = match &prompt.origin {
                    Origin::Web(url) | Origin::Directory(url) => url.to_string(),
                    Origin::Data(data) => data.uri().to_owned(),
                };
                if let Some((reader, facts)) = self.store.kept(&uri, codec).filter(|_| unasked) {
                    self.sources.insert((source, codec), Place::ready(reader));
                    let facts = SourceFacts { ready_at: self.now(), ..facts };
                    return self.later(Duration::from_millis(3), Happening::Kept(source, codec, facts));
                }
                let (writer, reader) = room(codec, &PrepareSettings::default().limits);
                let before = self.sources.insert((source, codec), Place { reader, is_ready: false });
                assert!(before.is_none(), "seed {}: a source was prepared twice", self.seed);
                let preparation = Preparation::new(writer, codec, &PrepareSettings::default());
                let preparation = preparation.expect("the default settings are right");
                let number = self.take_in_hand((source, codec), preparation, None);
                if let Some(underway) = self.underway.get_mut(&number) {
                    underway.uri = uri;
                }
                let item = match prompt.origin {
                    Origin::Web(url) | Origin::Directory(url) => self.shelf.fetch(url.as_str()),
                    Origin::Data(data) => Item::Bytes { bytes: data.bytes().into(), after: Duration::ZERO },
                };
                match item {
                    Item::Bytes { bytes, after } => {
                        let all = 0..bytes.len();
                        self.later(after, Happening::Bytes(number, bytes, all));
                        self.later(after, Happening::Ended(number, Ok(())));
                    }
                    Item::Pieces { bytes, after, over, end } => {
                        self.in_pieces(number, &bytes, after, over, end);
                    }
                    Item::Fails { cause, reason, after } => {
                        let failure = PromptFailure::new(cause, reason);
                        self.later(after, Happening::Ended(number, Err(failure)));
                    }
                    Item::Never => {}
                }
            }
            Output::Release { source, codec } => {
                self.sources
                    .retain(|(known, kind), _| *known != source || codec.is_some_and(|codec| codec != *kind));
                self.underway.retain(|_, underway| !underway.preparation.is_abandoned());
            }
            // Nothing is kept beyond a world.
            Output::Purge { .. } => {}
            Output::AddLeg { leg, spec } => {
                self.legs.insert(leg, (spec.sender, spec.codec));
                self.command(leg, Command::AddLeg { leg, spec: Box::new(spec) });
            }
            Output::ChangeLeg { leg, spec } => {
                self.legs.insert(leg, (spec.sender, spec.codec));
                self.command(leg, Command::ChangeLeg { leg, spec: Box::new(spec) });
            }
            Output::Play { leg, source, is_default, numbering, since } => {
                let place = self.sources.get(&(source, self.legs[&leg].1)).filter(|place| place.is_ready);
                let reader = place.map(|place| place.reader.clone()).unwrap_or_else(|| {
                    panic!("seed {}: a source without frames was to be played", self.seed)
                });
                let music = Music { source, reader, is_default };
                self.command(leg, Command::Play { leg, music, numbering, since });
            }
            Output::Announce { leg, announcement, source, frames } => {
                let place = self.sources.get(&(source, self.legs[&leg].1)).filter(|place| place.is_ready);
                let place = place.unwrap_or_else(|| {
                    panic!("seed {}: {source:?} was announced before it was ready", self.seed)
                });
                let music = Music { source, reader: place.reader.clone(), is_default: false };
                let announcement = Announcement { id: announcement, music, frames };
                self.command(leg, Command::Announce { leg, announcement });
            }
            Output::Hush { leg } => self.command(leg, Command::Hush { leg }),
            Output::Follow { leg, leader } => self.command(leg, Command::Follow { leg, leader }),
            Output::Stop { leg } => self.command(leg, Command::Stop { leg }),
            Output::RemoveLeg { leg } => {
                self.command(leg, Command::RemoveLeg { leg });
                self.legs.remove(&leg);
            }
            // Phones of this world speak plain RTP; the tests of control and of `peers` have peers.
            Output::Admit { .. } | Output::Dismiss { .. } => {}
            Output::FirstPacket { .. } => {}
            Output::Notify { notification, call: _, owner: _, uri, body, attempt } => {
                let now = self.now();
                let customer = self.customers.entry(uri.as_str().to_owned()).or_default();
                let (after, outcome) = customer.post(now, notification, attempt, &body);
                self.later(after, Happening::Delivered(notification, outcome));
            }
        }
    }

    fn take_in_hand(
        &mut self,
        (source, codec): (SourceId, Codec),
        preparation: Preparation,
        second: Option<Reader>,
    ) -> u64 {
        self.happenings += 1;
        let underway = Underway {
            source,
            codec,
            preparation,
            is_second: second.is_some(),
            second,
            ready_at: None,
            busy_until: MediaTime::ZERO,
            next: MediaTime::NEVER,
            uri: String::new(),
            facts: None,
        };
        self.underway.insert(self.happenings, underway);
        self.happenings
    }

    fn in_pieces(&mut self, number: u64, bytes: &Arc<[u8]>, after: Duration, over: Duration, end: End) {
        let count = over.as_nanos().div_ceil(PIECE.as_nanos()).max(1);
        let count = u32::try_from(count).expect("a story is short");
        let size = bytes.len().div_ceil(usize::try_from(count).expect("few"));
        let (come, end, wait) = match end {
            End::Whole => (bytes.len(), Ok(()), Duration::ZERO),
            End::BreaksOff { at, reason, after } => {
                (at, Err(PromptFailure::new(PromptCause::ShortBody, reason)), after)
            }
        };
        let mut at = after;
        for from in (0..come).step_by(size) {
            self.later(at, Happening::Bytes(number, Arc::clone(bytes), from..come.min(from + size)));
            at += PIECE;
        }
        self.later(at + wait, Happening::Ended(number, end));
    }

    /// There may be something to do for a prompt, when the producer has time.
    fn something_came(&mut self, number: u64) {
        let now = self.now();
        if let Some(underway) = self.underway.get(&number) {
            let at = underway.busy_until.max(now);
            self.step_at(number, at);
        }
    }

    fn step_at(&mut self, number: u64, at: MediaTime) {
        if let Some(underway) = self.underway.get_mut(&number) {
            underway.next = at;
            self.later(at.since(self.clock.mono()), Happening::Step(number, at));
        }
    }

    /// A producer does one step.
    fn step_of(&mut self, number: u64) {
        let now = self.clock.now();
        let Some(underway) = self.underway.get_mut(&number) else { return };
        let (source, codec) = (underway.source, underway.codec);
        let step = match underway.preparation.step(now.mono) {
            Ok(step) => step,
            Err(error) => return self.give_up(number, PromptFailure::from(&error)),
        };
        // To find that there is nothing to do takes no time.
        let works = matches!(step, Step::Working | Step::Ready(_) | Step::Corrected(_));
        let again = if works { now.mono + self.settings.turn } else { now.mono };
        underway.busy_until = again;
        match step {
            Step::Working => self.step_at(number, again),
            Step::Waiting(MediaTime::NEVER) => underway.next = MediaTime::NEVER,
            Step::Waiting(until) => self.step_at(number, until),
            Step::Analyse(analysis) => {
                self.preparations += 1;
                let (after, analysed) = (self.settings.decoding, analysis.run(&|_| true));
                self.later(after, Happening::Analysed(number, Box::new(analysed)));
                // Lap one goes on meanwhile.
                self.step_at(number, now.mono);
            }
            Step::Ready(Facts { seconds, whole, format, gain_db, bytes, .. }) => {
                let ready_at = *underway.ready_at.get_or_insert(now.mono);
                let second = underway.second.take();
                self.step_at(number, again);
                let Some(place) = self.sources.get_mut(&(source, codec)) else { return };
                place.is_ready = true;
                if let Some(second) = second {
                    place.reader = second;
                }
                let facts = SourceFacts {
                    seconds,
                    whole,
                    format,
                    gain_db,
                    ready_at,
                    bytes,
                    freshness: Freshness::FOR_EVER,
                };
                if let Some(underway) = self.underway.get_mut(&number) {
                    underway.facts = Some(facts.clone());
                }
                self.control.handle_input(now, Input::SourceReady { source, codec, facts });
            }
            Step::Corrected(correction) => {
                let second =
                    self.take_in_hand((source, codec), correction.preparation, Some(correction.reader));
                self.step_at(second, again);
                self.step_at(number, again);
            }
            Step::Closed => {
                let closed = self.underway.remove(&number);
                if let Some(Underway { uri, facts: Some(facts), .. }) = closed.filter(|it| !it.uri.is_empty())
                    && let Some(place) = self.sources.get(&(source, codec))
                {
                    self.store.keep(uri, codec, place.reader.clone(), facts);
                }
            }
        }
    }

    /// A prompt cannot be played, or no further.
    fn give_up(&mut self, number: u64, failure: PromptFailure) {
        let Some(underway) = self.underway.remove(&number) else { return };
        let (source, codec) = (underway.source, underway.codec);
        if !underway.is_second && self.sources.contains_key(&(source, codec)) {
            self.control.handle_input(self.clock.now(), Input::SourceFailed { source, codec, failure });
        }
    }

    fn command(&mut self, leg: LegId, command: Command) {
        let (sender, _) = *self.legs.get(&leg).expect("control commands legs that it has added");
        self.senders[sender].orders.push_back(command);
    }
}

/// The default music in every codec, encoded once for all worlds of a process: it never changes again.
pub(super) fn default_music() -> HashMap<(SourceId, Codec), Place> {
    static READERS: OnceLock<Vec<(Codec, Reader)>> = OnceLock::new();
    let readers = READERS.get_or_init(|| {
        let encoded = |&codec: &Codec| {
            let music = asset("default-music.wav");
            let prepared = prepare(&music, codec, &PrepareSettings::default(), &|| true);
            let Prepared { reader, mut job, .. } = prepared.expect("the default music can be played");
            while job.step(1000).expect("whole frames can be encoded") != Progress::Closed {}
            (codec, reader)
        };
        Codec::ALL.iter().map(encoded).collect()
    });
    let place = |(codec, reader): &(Codec, Reader)| ((DEFAULT_SOURCE, *codec), Place::ready(reader.clone()));
    readers.iter().map(place).collect()
}
