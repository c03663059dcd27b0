//! What control remembers of a call, a participant, an operation and a notification, as bytes and back. Each record
//! begins with the version of its layout; a layout that has been released is never written differently, only followed by
//! a higher version, and old ones are read for ever.
//!
//! Not in them: what follows from others (counts, listeners, timers), and what media tells anew (reports of a hold that
//! goes on).

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use holdmusic_codecs::{Codec, FRAME_MS};
use holdmusic_media::{
    Cname, HoldReport, Keying, LegId, LegSpec, MasterKey, MediaTime, Mki, Numbering, Protection, Quality,
    RtpState, Suite, Tick, WallTime,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
};
use url::Url;

use super::{
    Anchor, KeptPrompts, Moments,
    bytes::{Decoder, Encoder, Unreadable},
};
use crate::{
    CallId, NotificationId, OperationId, ParticipantId, PromptCause, PromptFailure,
    access::Identity,
    announce::Play,
    call::{Call, CompletesWhen, HoldRules, OnPromptFailure},
    data_uri::DataUri,
    graph::StatusCase,
    negotiation::hash_named,
    notification::{Owed, Says},
    operation::{HoldFacts, Invited, Operation, OperationKind, ResultInfo, Status, StopFacts},
    participant::{EndedBy, Heard, Hold, Leg, Participant, PastHold, Resume, SdpAnswer, Sending},
    prompt::{Origin, Prompt, Prompts},
    receivers::Callback,
    transport::{Disconnection, IceCredentials, PeerOffer, Transport, TransportState},
    undelivered::Undelivered,
};

/// The layout that is written. 2 has how legs are protected, and the counters of SRTP in numberings.
const VERSION: u16 = 2;

/// A closed set of values, each with a number that it keeps for ever.
trait Coded: Copy + PartialEq + 'static {
    const CODES: &'static [(u8, Self)];
    const NAME: &'static str;
}

macro_rules! codes {
    ($($type:ident { $($code:literal: $variant:ident),+ $(,)? })+) => {
        $(impl Coded for $type {
            const CODES: &'static [(u8, Self)] = &[$(($code, Self::$variant)),+];
            const NAME: &'static str = concat!("a known ", stringify!($type));
        })+
    };
}

codes! {
    OnPromptFailure { 0: DefaultMusic, 1: Fail }
    CompletesWhen { 0: MusicStarts, 1: MusicEnds }
    StatusCase { 0: Camel, 1: Pascal }
    Heard { 0: CustomPrompt, 1: DefaultMusic }
    Codec {
        0: Opus, 1: OpusFullband, 2: OpusLow, 3: G722, 4: L16, 5: Pcma, 6: Pcmu,
        7: OpusShort, 8: G722Short, 9: L16Short, 10: PcmaShort, 11: PcmuShort,
    }
    Status { 0: NotStarted, 1: Running, 2: Completed, 3: Failed }
    OperationKind {
        0: StartHoldMusic, 1: StopHoldMusic, 2: Mute, 3: Unmute, 4: PlayPrompt, 5: CancelMediaProcessing,
        6: InviteParticipants,
    }
    Suite { 0: AesCm128HmacSha1_80, 1: AesCm128HmacSha1_32, 2: AeadAes128Gcm, 3: AeadAes256Gcm }
    EndedBy {
        0: Stop, 1: Removed, 2: CallEnded, 3: MaxDuration, 4: Unreachable, 5: Bye, 6: PromptFailed, 7: Restart,
    }
}

/// Fields that stand in more than one record.
impl Encoder {
    fn version(&mut self) {
        self.u16(VERSION);
    }

    fn code<T: Coded>(&mut self, value: T) {
        let code = T::CODES.iter().find(|(_, known)| *known == value);
        self.u8(code.expect("every variant has its code").0);
    }

    fn moment(&mut self, moment: MediaTime) {
        self.u64(moment.as_nanos());
    }

    fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn wall(&mut self, wall: WallTime) {
        self.i64(wall.0);
    }

    fn identity(&mut self, identity: &Identity) {
        self.text(identity.app());
        self.text(identity.tenant());
    }

    fn numbering(&mut self, numbering: &Numbering) {
        self.u32(numbering.ssrc.0);
        self.u16(numbering.sequence.0);
        self.u32(numbering.timestamp.0);
        self.moment(numbering.at);
        self.u32(numbering.rollover_counter);
        self.u32(numbering.srtcp_index);
    }

    fn master_key(&mut self, key: &MasterKey) {
        self.code(key.suite());
        self.blob(key.bytes());
    }

    /// Keys that a handshake has made are kept as well: the peer has them still, and makes no other ones.
    fn protection(&mut self, protection: &Protection) {
        match protection {
            Protection::Plain => self.u8(0),
            Protection::Srtp(keying) => {
                let Keying { send, receive, mki, rollover_counter, srtcp_index } = &**keying;
                self.u8(1);
                self.master_key(send);
                self.option(receive.as_ref(), Self::master_key);
                self.option(mki.as_ref(), |encoder, mki| encoder.blob(mki.bytes()));
                self.u32(*rollover_counter);
                self.u32(*srtcp_index);
            }
            Protection::Awaited => self.u8(2),
        }
    }

    fn disconnection(&mut self, why: &Disconnection) {
        match why {
            Disconnection::Closed => self.u8(0),
            Disconnection::Silent => self.u8(1),
            Disconnection::NoCheck => self.u8(2),
            Disconnection::NotAllowed(address) => {
                self.u8(3);
                self.address(SocketAddr::new(*address, 0));
            }
            Disconnection::NoHandshake => self.u8(4),
            Disconnection::Unfinished => self.u8(5),
            Disconnection::Stranger => self.u8(6),
            Disconnection::NoSrtp => self.u8(7),
            Disconnection::Failed(words) => {
                self.u8(8);
                self.text(words);
            }
            Disconnection::TooMany => self.u8(9),
        }
    }

    fn failure(&mut self, failure: &PromptFailure) {
        self.text(failure.cause.word());
        self.text(&failure.message);
    }

    fn result(&mut self, result: &ResultInfo) {
        self.u32(result.code);
        self.u32(result.subcode);
        self.text(&result.message);
    }

    fn report(&mut self, report: &HoldReport) {
        self.u64(report.packets);
        self.u64(report.payload_bytes);
        self.option(report.first_sent, Self::moment);
        self.option(report.last_sent, Self::moment);
        self.u32(report.late_ticks);
        self.u32(report.skipped_ticks);
        self.u64(report.longest_gap_ns);
        self.u32(report.starved_ticks);
        self.u32(report.send_errors);
        // In packets of 20 ms, as when there were no others.
        let packets = report.default_music_ms / u64::from(FRAME_MS);
        self.u32(u32::try_from(packets).unwrap_or(u32::MAX));
        self.option(report.quality, |encoder, quality| {
            encoder.u8(quality.fraction_lost);
            encoder.i32(quality.cumulative_lost);
            encoder.u32(quality.jitter_us);
            encoder.option(quality.round_trip_us, Self::u32);
        });
    }
}

/// The same, read.
impl Decoder<'_> {
    fn version(&mut self) -> Result<u16, Unreadable> {
        match self.u16()? {
            version @ 1..=VERSION => Ok(version),
            _ => Err(Unreadable("a layout that this version of holdmusic knows")),
        }
    }

    fn code<T: Coded>(&mut self) -> Result<T, Unreadable> {
        let code = self.u8()?;
        let found = T::CODES.iter().find(|(known, _)| *known == code);
        found.map(|(_, value)| *value).ok_or(Unreadable(T::NAME))
    }

    fn duration(&mut self) -> Result<Duration, Unreadable> {
        self.u64().map(Duration::from_nanos)
    }

    fn wall(&mut self) -> Result<WallTime, Unreadable> {
        self.i64().map(WallTime)
    }

    fn boxed(&mut self) -> Result<Box<str>, Unreadable> {
        self.text().map(Box::from)
    }

    fn identity(&mut self) -> Result<Identity, Unreadable> {
        let (app, tenant) = (self.text()?, self.text()?);
        Ok(Identity::new(app, tenant))
    }

    fn url(&mut self) -> Result<Url, Unreadable> {
        Url::parse(self.text()?).map_err(|_| Unreadable("a URL"))
    }

    fn failure(&mut self) -> Result<PromptFailure, Unreadable> {
        let word = self.text()?;
        let cause = PromptCause::ALL.into_iter().find(|cause| cause.word() == word);
        Ok(PromptFailure::new(cause.ok_or(Unreadable("a known cause"))?, self.text()?))
    }

    fn result(&mut self) -> Result<ResultInfo, Unreadable> {
        let (code, subcode) = (self.u32()?, self.u32()?);
        Ok(ResultInfo { code, subcode, message: Cow::Owned(self.text()?.to_owned()) })
    }

    fn numbering(&mut self, version: u16, moments: &Moments) -> Result<Numbering, Unreadable> {
        let (ssrc, sequence, timestamp) = (Ssrc(self.u32()?), SeqNo(self.u16()?), Timestamp(self.u32()?));
        let at = moments.read(self)?;
        let (rollover_counter, srtcp_index) = if version < 2 { (0, 0) } else { (self.u32()?, self.u32()?) };
        Ok(Numbering { ssrc, sequence, timestamp, at, rollover_counter, srtcp_index })
    }

    fn master_key(&mut self) -> Result<MasterKey, Unreadable> {
        let suite = self.code()?;
        MasterKey::new(suite, self.blob()?).map_err(|_| Unreadable("a key of its suite's length"))
    }

    fn protection(&mut self, version: u16) -> Result<Protection, Unreadable> {
        if version < 2 {
            return Ok(Protection::Plain);
        }
        Ok(match self.u8()? {
            0 => Protection::Plain,
            1 => Protection::Srtp(Box::new(Keying {
                send: self.master_key()?,
                receive: self.option(Self::master_key)?,
                mki: self.option(|decoder| Mki::from_bytes(decoder.blob()?).ok_or(Unreadable("an MKI")))?,
                rollover_counter: self.u32()?,
                srtcp_index: self.u32()?,
            })),
            2 => Protection::Awaited,
            _ => return Err(Unreadable("a known protection")),
        })
    }

    fn disconnection(&mut self) -> Result<Disconnection, Unreadable> {
        Ok(match self.u8()? {
            0 => Disconnection::Closed,
            1 => Disconnection::Silent,
            2 => Disconnection::NoCheck,
            3 => Disconnection::NotAllowed(self.address()?.ip()),
            4 => Disconnection::NoHandshake,
            5 => Disconnection::Unfinished,
            6 => Disconnection::Stranger,
            7 => Disconnection::NoSrtp,
            8 => Disconnection::Failed(self.text()?.to_owned()),
            9 => Disconnection::TooMany,
            _ => return Err(Unreadable("why a peer is gone")),
        })
    }

    fn report(&mut self, moments: &Moments) -> Result<HoldReport, Unreadable> {
        Ok(HoldReport {
            packets: self.u64()?,
            payload_bytes: self.u64()?,
            first_sent: self.option(|decoder| moments.read(decoder))?,
            last_sent: self.option(|decoder| moments.read(decoder))?,
            late_ticks: self.u32()?,
            skipped_ticks: self.u32()?,
            longest_gap_ns: self.u64()?,
            starved_ticks: self.u32()?,
            send_errors: self.u32()?,
            default_music_ms: u64::from(self.u32()?) * u64::from(FRAME_MS),
            quality: self.option(|decoder| {
                Ok(Quality {
                    fraction_lost: decoder.u8()?,
                    cumulative_lost: decoder.i32()?,
                    jitter_us: decoder.u32()?,
                    round_trip_us: decoder.option(Decoder::u32)?,
                })
            })?,
        })
    }
}

/// The house: when it wrote last, on which clock, and where its senders are bound.
pub(super) fn house(anchor: &Anchor, locals: &[SocketAddr]) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.u128(anchor.boot);
    encoder.moment(anchor.now.mono);
    encoder.wall(anchor.now.wall);
    encoder.list(locals.iter(), |encoder, local| encoder.address(*local));
    encoder.bytes()
}

pub(super) fn read_house(bytes: &[u8]) -> Result<(Anchor, Vec<SocketAddr>), Unreadable> {
    let mut decoder = Decoder::new(bytes);
    decoder.version()?;
    let boot = decoder.u128()?;
    let (mono, wall) = (MediaTime::from_nanos(decoder.u64()?), decoder.wall()?);
    let locals = decoder.list(Decoder::address)?;
    decoder.end()?;
    Ok((Anchor { boot, now: holdmusic_media::Now { mono, wall } }, locals))
}

pub(super) fn prompt(prompt: &Prompt) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    let (kind, uri) = match &prompt.origin {
        Origin::Web(url) => (0, url.as_str()),
        Origin::Directory(url) => (1, url.as_str()),
        Origin::Data(data) => (2, data.uri()),
    };
    encoder.u8(kind);
    encoder.text(uri);
    encoder.option(prompt.resource_id.as_deref(), Encoder::text);
    encoder.bytes()
}

pub(super) fn read_prompt(bytes: &[u8]) -> Result<Prompt, Unreadable> {
    let mut decoder = Decoder::new(bytes);
    decoder.version()?;
    let (kind, uri) = (decoder.u8()?, decoder.url()?);
    let origin = match kind {
        0 => Origin::Web(uri),
        1 => Origin::Directory(uri),
        2 => Origin::Data(Arc::new(DataUri::read(uri).map_err(|_| Unreadable("a data URI"))?)),
        _ => return Err(Unreadable("a known kind of prompt")),
    };
    let resource_id = decoder.option(|decoder| decoder.text().map(str::to_owned))?;
    decoder.end()?;
    Ok(Prompt { origin, resource_id })
}

/// A call as its record has it.
pub(super) struct CallRecord {
    pub(super) owner: Identity,
    pub(super) number: u64,
    pub(super) callback: Url,
    pub(super) rules: HoldRules,
    pub(super) default_prompt: Option<Arc<Prompt>>,
    pub(super) prefetch: Vec<Arc<Prompt>>,
    pub(super) echo: Option<Box<str>>,
    pub(super) my_participant: ParticipantId,
    pub(super) created: WallTime,
    pub(super) muted: bool,
    pub(super) etag: u64,
    pub(super) numbers: u64,
    pub(super) expires: Option<MediaTime>,
    pub(super) ended: Option<MediaTime>,
    pub(super) plays: Vec<PlayRecord>,
}

/// A `playPrompt` as the record of its call has it.
pub(super) struct PlayRecord {
    pub(super) operation: OperationId,
    pub(super) audience: Box<[ParticipantId]>,
    /// What has not been heard to its end.
    pub(super) left: Vec<Arc<Prompt>>,
    pub(super) heard: bool,
    pub(super) failure: Option<ResultInfo>,
}

pub(super) fn call(call: &Call, owner: &Identity, prompts: &Prompts, kept: &mut KeptPrompts) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.identity(owner);
    encoder.u64(call.number);
    encoder.text(call.callback.url.as_str());
    let HoldRules { max_held, on_prompt_failure, completes_when, status_case, max_duration } = &call.rules;
    encoder.u64(*max_held as u64);
    encoder.code(*on_prompt_failure);
    encoder.code(*completes_when);
    encoder.code(*status_case);
    encoder.option(*max_duration, Encoder::duration);
    encoder.option(call.default_prompt.as_deref(), |encoder, prompt| encoder.u64(kept.number(prompt)));
    let prefetched: Vec<_> = call.prefetched.iter().filter_map(|source| prompts.prompt(*source)).collect();
    encoder.list(prefetched.into_iter(), |encoder, prompt| encoder.u64(kept.number(prompt)));
    encoder.option(call.echo.as_deref(), Encoder::text);
    encoder.u128(call.my_participant.0);
    encoder.wall(call.created);
    encoder.bool(call.muted);
    encoder.u64(call.etag);
    encoder.u64(call.numbers);
    encoder.option(call.expires, Encoder::moment);
    encoder.option(call.ended, Encoder::moment);
    encoder.list(call.plays.iter(), |encoder, play| play_fields(encoder, play, prompts, kept));
    encoder.bytes()
}

fn play_fields(encoder: &mut Encoder, play: &Play, prompts: &Prompts, kept: &mut KeptPrompts) {
    encoder.u128(play.operation.0);
    encoder.list(play.audience.iter(), |encoder, id| encoder.u128(id.0));
    let left: Vec<_> = play.left().filter_map(|source| prompts.prompt(source)).collect();
    encoder.list(left.into_iter(), |encoder, prompt| encoder.u64(kept.number(prompt)));
    encoder.bool(play.heard);
    encoder.option(play.failure.as_ref(), Encoder::result);
}

pub(super) fn read_call(
    bytes: &[u8],
    moments: &Moments,
    kept: &KeptPrompts,
) -> Result<CallRecord, Unreadable> {
    let mut decoder = Decoder::new(bytes);
    let decoder = &mut decoder;
    decoder.version()?;
    let record = CallRecord {
        owner: decoder.identity()?,
        number: decoder.u64()?,
        callback: decoder.url()?,
        rules: HoldRules {
            max_held: usize::try_from(decoder.u64()?).map_err(|_| Unreadable("a limit"))?,
            on_prompt_failure: decoder.code()?,
            completes_when: decoder.code()?,
            status_case: decoder.code()?,
            max_duration: decoder.option(Decoder::duration)?,
        },
        default_prompt: decoder.option(|decoder| kept.read(decoder))?,
        prefetch: decoder.list(|decoder| kept.read(decoder))?,
        echo: decoder.option(Decoder::boxed)?,
        my_participant: ParticipantId(decoder.u128()?),
        created: decoder.wall()?,
        muted: decoder.bool()?,
        etag: decoder.u64()?,
        numbers: decoder.u64()?,
        expires: decoder.option(|decoder| moments.read(decoder))?,
        ended: decoder.option(|decoder| moments.read(decoder))?,
        plays: decoder.list(|decoder| {
            Ok(PlayRecord {
                operation: OperationId(decoder.u128()?),
                audience: decoder.list(|decoder| decoder.u128().map(ParticipantId))?,
                left: decoder.list(|decoder| kept.read(decoder))?,
                heard: decoder.bool()?,
                failure: decoder.option(Decoder::result)?,
            })
        })?,
    };
    decoder.end()?;
    Ok(record)
}

pub(super) fn participant(
    participant: &Participant,
    locals: &[SocketAddr],
    kept: &mut KeptPrompts,
) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.u64(participant.number);
    encoder.option(participant.info.as_deref(), Encoder::text);
    encoder.option(participant.metadata.as_deref(), Encoder::text);
    encoder.bool(participant.muted);
    encoder.option(participant.leg.as_ref(), |encoder, leg| leg_fields(encoder, leg, locals));
    encoder.option(participant.hold.as_deref(), |encoder, hold| hold_fields(encoder, hold, kept));
    encoder.option(participant.past.as_deref(), past_fields);
    encoder.bytes()
}

fn leg_fields(encoder: &mut Encoder, leg: &Leg, locals: &[SocketAddr]) {
    let spec = &leg.spec;
    encoder.address(locals[spec.sender]);
    encoder.address(spec.destination);
    encoder.option(spec.rtcp, Encoder::address);
    encoder.code(spec.codec);
    encoder.u8(spec.payload_type.number());
    encoder.numbering(&spec.numbering);
    encoder.u128(spec.cname.number());
    encoder.protection(&spec.protection);
    encoder.bool(leg.receives);
    encoder.option(leg.answer.as_deref(), |encoder, answer| {
        encoder.text(&answer.text);
        encoder.u64(answer.session.0);
        encoder.u64(answer.session.1);
    });
    encoder.option(leg.sending, |encoder, sending| {
        encoder.moment(sending.since);
        encoder.u32(sending.times);
    });
    encoder.option(leg.transport.as_deref(), transport_fields);
}

fn transport_fields(encoder: &mut Encoder, transport: &Transport) {
    let Transport { local, offer, state, failed: _ } = transport;
    encoder.text(&local.ufrag);
    encoder.text(&local.pwd);
    encoder.text(&offer.ufrag);
    encoder.list(offer.fingerprints.iter(), |encoder, (hash, digest)| {
        encoder.text(hash);
        encoder.blob(digest);
    });
    encoder.bool(offer.is_passive);
    match state {
        // Whoever was about to connect goes on.
        TransportState::New { .. } | TransportState::Checking => encoder.u8(0),
        TransportState::Connected(remote) => {
            encoder.u8(1);
            encoder.address(*remote);
        }
        TransportState::Disconnected(why) => {
            encoder.u8(2);
            encoder.disconnection(why);
        }
    }
}

fn hold_fields(encoder: &mut Encoder, hold: &Hold, kept: &mut KeptPrompts) {
    encoder.wall(hold.since);
    encoder.list(hold.operations.iter(), |encoder, id| encoder.u128(id.0));
    encoder.bool(hold.kept);
    encoder.option(hold.asked.as_deref(), |encoder, prompt| encoder.u64(kept.number(prompt)));
    encoder.option(hold.kind, Encoder::code);
    encoder.option(hold.resume(), |encoder, resume| {
        encoder.bool(resume.is_wanted);
        encoder.option(resume.since, |encoder, tick| encoder.u64(tick.0));
    });
    encoder.bool(hold.was_heard || hold.heard.is_some());
    encoder.option(hold.ends, Encoder::moment);
    encoder.option(hold.numbering.as_deref(), Encoder::numbering);
    encoder.option(hold.failure.as_deref(), Encoder::failure);
    encoder.option(hold.reason.as_deref(), Encoder::failure);
}

fn past_fields(encoder: &mut Encoder, past: &PastHold) {
    encoder.u128(past.operation.0);
    encoder.code(past.ended_by);
    encoder.option(past.heard, Encoder::code);
    encoder.wall(past.since);
    encoder.option(past.reason.as_deref(), Encoder::failure);
    encoder.option(past.report.as_ref(), Encoder::report);
    encoder.bool(past.untold);
}

/// A participant as its record has it, and where its leg was sent from. The sender of the leg is to be found by that; the
/// leg has no name, and media does not know it.
pub(super) fn read_participant(
    id: ParticipantId,
    bytes: &[u8],
    moments: &Moments,
    kept: &KeptPrompts,
) -> Result<(Participant, Option<SocketAddr>), Unreadable> {
    let mut decoder = Decoder::new(bytes);
    let decoder = &mut decoder;
    let version = decoder.version()?;
    let number = decoder.u64()?;
    let (info, metadata) = (decoder.option(Decoder::boxed)?, decoder.option(Decoder::boxed)?);
    let mut participant = Participant::new(id, number, info, metadata);
    participant.muted = decoder.bool()?;
    let leg = decoder.option(|decoder| read_leg(decoder, version))?;
    participant.hold = decoder.option(|decoder| read_hold(decoder, version, moments, kept))?.map(Box::new);
    participant.past = decoder.option(|decoder| read_past(decoder, moments))?.map(Box::new);
    decoder.end()?;
    let (leg, local) = leg.unzip();
    participant.leg = leg;
    Ok((participant, local))
}

fn read_leg(decoder: &mut Decoder<'_>, version: u16) -> Result<(Leg, SocketAddr), Unreadable> {
    // Its numbers are carried to the present as a whole, also from before the origin of the present clock.
    let as_written = Moments { shift_ns: 0 };
    let local = decoder.address()?;
    let spec = LegSpec {
        sender: 0,
        destination: decoder.address()?,
        rtcp: decoder.option(Decoder::address)?,
        codec: decoder.code()?,
        payload_type: PayloadType::new(decoder.u8()?).ok_or(Unreadable("a payload type"))?,
        numbering: decoder.numbering(version, &as_written)?,
        cname: Cname::new(decoder.u128()?),
        protection: decoder.protection(version)?,
        peer: None,
    };
    let receives = decoder.bool()?;
    let answer = decoder.option(|decoder| {
        Ok(Box::new(SdpAnswer { text: decoder.boxed()?, session: (decoder.u64()?, decoder.u64()?) }))
    })?;
    let sending =
        decoder.option(|decoder| Ok(Sending { since: as_written.read(decoder)?, times: decoder.u32()? }))?;
    let transport = if version < 2 { None } else { decoder.option(read_transport)?.map(Box::new) };
    Ok((
        Leg {
            id: LegId(0),
            spec,
            transport,
            receives,
            added: false,
            answer,
            sending,
            on_air: false,
            used: true,
        },
        local,
    ))
}

fn read_transport(decoder: &mut Decoder<'_>) -> Result<Transport, Unreadable> {
    let text = |decoder: &mut Decoder<'_>| decoder.text().map(str::to_owned);
    let local = IceCredentials { ufrag: text(decoder)?, pwd: text(decoder)? };
    let ufrag = text(decoder)?;
    let fingerprints = decoder.list(|decoder| {
        let hash = hash_named(decoder.text()?).ok_or(Unreadable("a hash function"))?;
        Ok((hash, decoder.blob()?.into()))
    })?;
    let offer = PeerOffer { ufrag, fingerprints, is_passive: decoder.bool()? };
    let state = match decoder.u8()? {
        0 => TransportState::New { refused: None },
        1 => TransportState::Connected(decoder.address()?),
        2 => TransportState::Disconnected(decoder.disconnection()?),
        _ => return Err(Unreadable("how far a peer is")),
    };
    Ok(Transport { local, offer, state, failed: false })
}

fn read_hold(
    decoder: &mut Decoder<'_>,
    version: u16,
    moments: &Moments,
    kept: &KeptPrompts,
) -> Result<Hold, Unreadable> {
    let (since, operations) = (decoder.wall()?, decoder.list(|decoder| decoder.u128().map(OperationId))?);
    let was_kept = decoder.bool()?;
    let asked = decoder.option(|decoder| kept.read(decoder))?;
    let kind = decoder.option(Decoder::code)?;
    let resume = decoder.option(|decoder| {
        let is_wanted = decoder.bool()?;
        let since = decoder.option(|decoder| decoder.u64().map(|tick| moments.tick(Tick(tick))))?;
        Ok(Resume { is_wanted, since })
    })?;
    let was_heard = decoder.bool()?;
    let ends = decoder.option(|decoder| moments.read(decoder))?;
    let numbering = decoder.option(|decoder| decoder.numbering(version, moments))?.map(Box::new);
    let failure = decoder.option(Decoder::failure)?.map(Box::new);
    let reason = decoder.option(Decoder::failure)?.map(Box::new);
    let mut hold = Hold::new(since, ends, numbering);
    (hold.operations, hold.kept, hold.asked, hold.kind) = (operations, was_kept, asked, kind);
    (hold.resume, hold.was_heard, hold.failure, hold.reason) = (resume, was_heard, failure, reason);
    Ok(hold)
}

fn read_past(decoder: &mut Decoder<'_>, moments: &Moments) -> Result<PastHold, Unreadable> {
    Ok(PastHold {
        operation: OperationId(decoder.u128()?),
        ended_by: decoder.code()?,
        heard: decoder.option(Decoder::code)?,
        since: decoder.wall()?,
        reason: decoder.option(Decoder::failure)?.map(Box::new),
        report: decoder.option(|decoder| decoder.report(moments))?,
        untold: decoder.bool()?,
    })
}

pub(super) fn operation(operation: &Operation) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.u64(operation.number);
    encoder.code(operation.kind);
    encoder.u128(operation.participant.0);
    encoder.option(operation.client_context.as_deref(), Encoder::text);
    encoder.moment(operation.accepted);
    encoder.option(operation.bound, Encoder::moment);
    encoder.option(operation.promised.as_deref(), Encoder::result);
    facts_fields(&mut encoder, &operation.facts);
    encoder.option(operation.invited.as_deref(), |encoder, invited| {
        encoder.list(invited.iter(), |encoder, invited| {
            encoder.u128(invited.participant.0);
            encoder.text(&invited.identity);
        });
    });
    encoder.code(operation.status());
    encoder.option(operation.result(), Encoder::result);
    encoder.bytes()
}

fn facts_fields(encoder: &mut Encoder, facts: &HoldFacts) {
    encoder.option(facts.first_packet_latency_ns, Encoder::u64);
    encoder.option(facts.prompt_ready_ns, Encoder::u64);
    encoder.option(facts.heard, Encoder::code);
    encoder.option(facts.gain_db, Encoder::f64);
    encoder.option(facts.reason.as_deref(), Encoder::failure);
    encoder.bool(facts.nothing_to_stop);
    encoder.option(facts.stopped.as_deref(), |encoder, stopped| {
        let state = &stopped.rtp_state;
        encoder.u32(state.ssrc.0);
        encoder.u16(state.sequence.0);
        encoder.u32(state.timestamp.0);
        encoder.wall(state.at);
        encoder.option(state.rollover_counter, Encoder::u32);
        encoder.option(state.srtcp_index, Encoder::u32);
        encoder.report(&stopped.report);
    });
}

pub(super) fn read_operation(
    id: OperationId,
    bytes: &[u8],
    moments: &Moments,
) -> Result<Operation, Unreadable> {
    let mut decoder = Decoder::new(bytes);
    let decoder = &mut decoder;
    let version = decoder.version()?;
    let (number, kind, participant) = (decoder.u64()?, decoder.code()?, ParticipantId(decoder.u128()?));
    let (client_context, accepted) = (decoder.option(Decoder::boxed)?, moments.read(decoder)?);
    let mut operation = Operation::new(kind, id, participant, client_context, accepted);
    operation.number = number;
    operation.bound = decoder.option(|decoder| moments.read(decoder))?;
    operation.promised = decoder.option(Decoder::result)?.map(Box::new);
    operation.facts = HoldFacts {
        first_packet_latency_ns: decoder.option(Decoder::u64)?,
        prompt_ready_ns: decoder.option(Decoder::u64)?,
        heard: decoder.option(Decoder::code)?,
        gain_db: decoder.option(Decoder::f64)?,
        reason: decoder.option(Decoder::failure)?.map(Box::new),
        nothing_to_stop: decoder.bool()?,
        stopped: decoder.option(|decoder| {
            let srtp = |decoder: &mut Decoder<'_>| match version {
                1 => Ok(None),
                _ => decoder.option(Decoder::u32),
            };
            let rtp_state = RtpState {
                ssrc: Ssrc(decoder.u32()?),
                sequence: SeqNo(decoder.u16()?),
                timestamp: Timestamp(decoder.u32()?),
                at: decoder.wall()?,
                rollover_counter: srtp(decoder)?,
                srtcp_index: srtp(decoder)?,
            };
            Ok(Box::new(StopFacts { rtp_state, report: decoder.report(moments)? }))
        })?,
    };
    operation.invited = decoder.option(|decoder| {
        decoder.list(|decoder| {
            Ok(Invited { participant: ParticipantId(decoder.u128()?), identity: decoder.boxed()? })
        })
    })?;
    let (status, result) = (decoder.code()?, decoder.option(Decoder::result)?);
    decoder.end()?;
    operation.restore(status, result);
    Ok(operation)
}

/// A notification that is owed, as its record has it.
pub(super) struct OwedRecord {
    pub(super) owner: Identity,
    pub(super) callback: Callback,
    pub(super) owed: Owed,
}

pub(super) fn owed(owner: &Identity, callback: &Callback, owed: &Owed) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.identity(owner);
    encoder.text(callback.url.as_str());
    encoder.u128(owed.id.0);
    match &owed.says {
        Says::Text(text) => {
            encoder.u8(0);
            encoder.text(text);
        }
        Says::Roster(version) => {
            encoder.u8(1);
            encoder.u64(*version);
        }
    }
    encoder.moment(owed.since);
    encoder.wall(owed.created);
    encoder.u32(owed.earlier);
    encoder.bytes()
}

pub(super) fn read_owed(number: u64, bytes: &[u8], moments: &Moments) -> Result<OwedRecord, Unreadable> {
    let mut decoder = Decoder::new(bytes);
    let decoder = &mut decoder;
    decoder.version()?;
    let (owner, callback) = (decoder.identity()?, Callback::new(decoder.url()?));
    let id = NotificationId(decoder.u128()?);
    let says = match decoder.u8()? {
        0 => Says::Text(Arc::from(decoder.text()?)),
        1 => Says::Roster(decoder.u64()?),
        _ => return Err(Unreadable("a text or a roster")),
    };
    let (since, created, earlier) = (moments.read(decoder)?, decoder.wall()?, decoder.u32()?);
    decoder.end()?;
    let owed = Owed { number, id, says, since, created, attempts: earlier, earlier };
    Ok(OwedRecord { owner, callback, owed })
}

pub(super) fn undelivered(number: u64, entry: &Undelivered) -> Box<[u8]> {
    let mut encoder = Encoder::new();
    encoder.version();
    encoder.u64(number);
    encoder.u128(entry.call.0);
    encoder.identity(&entry.owner);
    encoder.text(entry.callback.url.as_str());
    encoder.text(&entry.reason);
    encoder.u32(entry.attempts);
    encoder.wall(entry.created);
    encoder.wall(entry.given_up);
    encoder.option(entry.body.as_deref(), Encoder::text);
    encoder.bytes()
}

pub(super) fn read_undelivered(id: NotificationId, bytes: &[u8]) -> Result<(u64, Undelivered), Unreadable> {
    let mut decoder = Decoder::new(bytes);
    let decoder = &mut decoder;
    decoder.version()?;
    let number = decoder.u64()?;
    let entry = Undelivered {
        notification: id,
        call: CallId(decoder.u128()?),
        owner: Arc::new(decoder.identity()?),
        callback: Callback::new(decoder.url()?),
        reason: decoder.text()?.to_owned(),
        attempts: decoder.u32()?,
        created: decoder.wall()?,
        given_up: decoder.wall()?,
        body: decoder.option(|decoder| decoder.text().map(Arc::from))?,
    };
    decoder.end()?;
    Ok((number, entry))
}

impl Moments {
    fn read(&self, decoder: &mut Decoder<'_>) -> Result<MediaTime, Unreadable> {
        decoder.u64().map(|nanos| self.moment(MediaTime::from_nanos(nanos)))
    }
}

impl KeptPrompts {
    fn read(&self, decoder: &mut Decoder<'_>) -> Result<Arc<Prompt>, Unreadable> {
        self.prompt(decoder.u64()?).ok_or(Unreadable("a prompt that is kept"))
    }
}
