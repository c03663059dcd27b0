//! [`Preparation`]: a recording's bytes come in as they arrive, a ring is filled with music that can be played while
//! the rest is still on its way. All of it in steps of some milliseconds, but for one: see [`Analysis`].
//!
//! A recording that is whole before anything of it is played is analysed, and played at the loudness that the whole of
//! it has; that is [`prepare`]. One that takes longer is begun with what is there: *lap one* is resampled, levelled and
//! encoded as it comes, at a gain that is decided once. When all has come it is analysed all the same, for the loop in
//! which it goes on at that gain. If the whole asks for another gain, it is encoded a second time, for later plays.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use holdmusic_codecs::{
    Codec, DecodeError, DecodeLimits, EncodeError, EncoderSettings, Gain, LevelSettings, LimiterStream, Loop,
    Recording, StreamDecoder, StreamResampler, Warning, decode_mono, decode_mono_counted,
    level::{apply_loop, decide, fade_in, measure, soft_start},
    level_loop, trim_silence,
    wav::is_wav,
};

use crate::{
    frame,
    ring::{LoopWriter, Reader, Watch},
    source::{self, Job, Progress, rendition},
    time::{Grid, MediaTime, Tick},
};

/// Frames encoded before music is called playable, and in one step: half a second, some milliseconds of work.
pub const AHEAD: usize = 25;

/// So long after its first sound a recording is waited for, before it is begun with what there is. A file from the same
/// network is whole by then; and half of the grace time of 300 ms is left for what comes before and behind.
const GAIN_AFTER: Duration = Duration::from_millis(150);

/// Least sound that a gain is decided from, in seconds: one block of BS.1770's gate.
const LEAST_MEASURED: f64 = 0.4;

/// Most sound that a gain is decided from before the whole is there, in seconds: a few milliseconds of measuring.
const MOST_MEASURED: f64 = 10.0;

/// A sample below this, before anything louder, is the silence before the sound: -60 dB of full scale.
const SILENT: f32 = 1e-3;

/// Most gain upwards that is decided from a beginning, in dB: a quiet beginning may lead to something four times as
/// loud. The whole decides for the next play.
const MOST_EARLY_GAIN_DB: f64 = 6.0;

/// A recording is begun before it is whole if its sound comes so many times as fast as it is heard. One that is slower
/// would have holes; one that is hardly faster, soon.
const KEEPS_UP: f64 = 1.25;

/// Frames that a listener who was there from the beginning may miss before a recording that still comes is given up:
/// half a second, or a quarter in short frames. Silence for longer is worse than other music.
const MOST_MISSED: u64 = 25;

/// The next play has the gain of the whole if it differs by more than this, in LU: half of what R 128 tolerates.
const CORRECTED_FROM_LU: f64 = 0.5;

/// Sound that is resampled in one step, in seconds: below a millisecond of work, and twice what the step encodes.
const FED_AT_ONCE: f64 = 1.0;

/// Most sound of lap one that is kept for encoding when all has come, in seconds. The loop is made long before that has
/// been heard.
const MOST_REST: f64 = 60.0;

/// What a lap may be longer than the longest recording, in seconds: a short clip is repeated for up to a minute behind
/// what stands before its loop points.
const UNROLLED: usize = 62;

/// How prompts are made playable.
#[derive(Clone, Debug, Default)]
pub struct PrepareSettings {
    /// What a recording may be.
    pub limits: DecodeLimits,
    /// What counts as silence at both ends of a recording and is not played, in dB of full scale; `None` plays all.
    pub trim_silence_dbfs: Option<f64>,
    /// How loud it is played.
    pub level: LevelSettings,
    /// How it is encoded.
    pub encoder: EncoderSettings,
}

/// An empty ring with room for any recording within `limits`, from which it can be read before anything has arrived.
/// Whoever drops all its readers gives the preparation up.
pub fn room(codec: Codec, limits: &DecodeLimits) -> (LoopWriter, Reader) {
    source::room(longest_lap(codec, limits))
}

/// In frames.
fn longest_lap(codec: Codec, limits: &DecodeLimits) -> usize {
    let frames_a_second = codec.sample_rate() as usize / codec.samples_per_frame();
    (limits.max_seconds as usize + UNROLLED) * frames_a_second
}

/// What is known about music that can be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// How long the recording is, in seconds, as far as it is known.
    pub seconds: f64,
    /// Whether all of it is known.
    pub whole: bool,
    /// What it was, for a human: `WAV, PCM 16-bit, 8000 Hz, 1 channel`.
    pub format: String,
    /// The gain that it is played with, in dB.
    pub gain_db: f64,
    /// What an operator should know about its level.
    pub warning: Option<Warning>,
    /// Memory that its frames take, in bytes.
    pub bytes: u64,
}

/// Why a recording cannot be played.
#[derive(Clone, Debug, PartialEq)]
pub enum PrepareError {
    /// It is none that we can decode.
    Decode(DecodeError),
    /// It cannot be encoded.
    Encode(EncodeError),
    /// It came more slowly than it was heard, until there was nothing more to hear.
    RanDry {
        /// How much of it had come, in seconds.
        seconds: f64,
    },
    /// Whoever had it done does not want it any more, or has no more time or room for it.
    Stopped,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::RanDry { seconds } => write!(
                f,
                "the recording came more slowly than it was heard; {seconds:.1} seconds of it had come when there was \
                 nothing more to hear"
            ),
            Self::Stopped => write!(f, "preparing the recording was stopped"),
        }
    }
}

impl std::error::Error for PrepareError {}

impl From<DecodeError> for PrepareError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for PrepareError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// One recording on its way into a ring.
///
/// Bytes are pushed as they come, then [`Self::end`] is said; [`Self::step`] does a little of what can be done. Nobody
/// who waits for bytes, or for an analysis, needs to step. Dropping it gives it up.
pub struct Preparation {
    codec: Codec,
    settings: PrepareSettings,
    job: Job,
    /// The bytes that have come, until the analysis takes them.
    decoder: Option<StreamDecoder>,
    /// Whether they are all.
    is_whole: bool,
    /// When the first sound was known.
    since: Option<MediaTime>,
    /// How many samples there were when they were measured last.
    measured: usize,
    /// Once a gain was decided before all was there.
    lap_one: Option<LapOne>,
    /// What is known and was not told; untold until there are frames.
    news: Option<Facts>,
    /// Since when its music can be played.
    ready_at: Option<MediaTime>,
    /// Frames in the ring.
    frames: u64,
    correction: Option<Box<Correction>>,
}

/// From samples that have arrived to samples that can be encoded.
struct LapOne {
    rate: u32,
    resampler: StreamResampler,
    gain: Gain,
    limiter: LimiterStream,
    /// The very first samples, until there are enough to be faded in.
    beginning: Option<Vec<f32>>,
    /// What had come and was not taken when the analysis took it all.
    rest: VecDeque<f32>,
}

impl LapOne {
    fn feed(&mut self, codec: Codec, samples: &[f32], job: &mut Job) {
        let (mut resampled, mut levelled) = (Vec::new(), self.beginning.take().unwrap_or_default());
        let begins = job.is_unfed();
        self.resampler.push(samples, &mut resampled);
        self.limiter.push(&resampled, &mut levelled);
        if begins {
            // A fade takes a quarter of a frame.
            if levelled.len() < codec.samples_per_frame() {
                self.beginning = Some(levelled);
                return;
            }
            fade_in(&mut levelled, codec.sample_rate());
        }
        job.feed(&levelled);
    }
}

/// What comes of a [`Preparation::step`].
pub enum Step {
    /// There is more to do.
    Working,
    /// Nothing can be done before more bytes come, an analysis is back, or it is this moment.
    Waiting(MediaTime),
    /// This takes longer than a step: it is to be run elsewhere, and [`Preparation::analysed`] wants its result.
    Analyse(Box<Analysis>),
    /// The music can be played from its first frame. Said again when more is known about it.
    Ready(Facts),
    /// The same music at a better gain, for later plays. Once it says that it is ready it takes the place of this one,
    /// which goes on for those who hear it.
    Corrected(Box<Correction>),
    /// The loop is closed: it plays for ever at no further cost.
    Closed,
}

/// The same music once more.
pub struct Correction {
    /// What fills its ring.
    pub preparation: Preparation,
    /// Its ring.
    pub reader: Reader,
}

impl Preparation {
    /// Nothing of it has come yet. Its frames will be written by `writer`, which comes from [`room`].
    ///
    /// # Errors
    ///
    /// If the encoder refuses the settings.
    pub fn new(writer: LoopWriter, codec: Codec, settings: &PrepareSettings) -> Result<Self, PrepareError> {
        let job = Job::new(writer, codec, &settings.encoder)?;
        Ok(Self {
            decoder: Some(StreamDecoder::new(&settings.limits)),
            ..Self::of(job, codec, settings.clone())
        })
    }

    fn of(job: Job, codec: Codec, settings: PrepareSettings) -> Self {
        Self {
            codec,
            settings,
            job,
            decoder: None,
            is_whole: false,
            since: None,
            measured: 0,
            lap_one: None,
            news: None,
            ready_at: None,
            frames: 0,
            correction: None,
        }
    }

    /// The next bytes have come.
    ///
    /// # Errors
    ///
    /// As soon as they cannot become music any more.
    pub fn push(&mut self, now: MediaTime, bytes: &[u8]) -> Result<(), PrepareError> {
        if let Some(decoder) = &mut self.decoder {
            decoder.push(bytes)?;
            if decoder.known() > 0 {
                self.since.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// All bytes have come.
    pub fn end(&mut self) {
        self.is_whole = true;
    }

    /// Does a little, at `now`.
    ///
    /// # Errors
    ///
    /// If it cannot be played, or no further.
    pub fn step(&mut self, now: MediaTime) -> Result<Step, PrepareError> {
        if self.is_whole
            && let Some(mut decoder) = self.decoder.take()
        {
            if let Some(lap_one) = &mut self.lap_one {
                lap_one.rest = decoder.take((MOST_REST * f64::from(lap_one.rate)) as usize).into();
            }
            return Ok(Step::Analyse(Box::new(Analysis {
                bytes: decoder.into_bytes(),
                codec: self.codec,
                settings: self.settings.clone(),
                decided: self.lap_one.as_ref().map(|lap_one| lap_one.gain),
            })));
        }
        if self.is_ready()
            && let Some(facts) = self.news.take()
        {
            return Ok(Step::Ready(facts));
        }
        if self.is_ready()
            && let Some(correction) = self.correction.take()
        {
            return Ok(Step::Corrected(correction));
        }
        let mut is_fed = false;
        if self.job.sound().is_none() {
            if let Err(until) = self.begin(now) {
                return Ok(Step::Waiting(until));
            }
            is_fed = self.feed();
        }
        let progress = self.job.step(AHEAD)?;
        if let Progress::Working { frames } | Progress::Waiting { frames } = progress {
            self.frames = frames;
        }
        if !self.is_ready() && (self.frames >= AHEAD as u64 || progress == Progress::Closed) {
            self.ready_at = Some(now);
            return Ok(Step::Ready(self.news.take().unwrap_or_else(|| self.facts_so_far())));
        }
        Ok(match progress {
            Progress::Working { .. } => Step::Working,
            Progress::Waiting { .. } if is_fed => Step::Working,
            Progress::Waiting { .. } => Step::Waiting(self.lasts_until(now)?),
            Progress::Closed => Step::Closed,
        })
    }

    /// The result of [`Step::Analyse`].
    ///
    /// # Errors
    ///
    /// If there is no encoder for the correction.
    pub fn analysed(&mut self, analysed: Analysed) -> Result<(), PrepareError> {
        let Analysed { sound, mut facts, correction } = analysed;
        // What was encoded of lap one before, and the loop once.
        facts.bytes = ring_bytes(self.frames, &sound, self.codec, &self.settings);
        self.job.complete(sound);
        self.lap_one = None;
        self.news = Some(facts);
        if let Some((sound, facts)) = correction {
            let (reader, job) = rendition(sound, self.codec, &self.settings.encoder)?;
            let mut preparation = Self::of(job, self.codec, self.settings.clone());
            preparation.news = Some(facts);
            self.correction = Some(Box::new(Correction { preparation, reader }));
        }
        Ok(())
    }

    /// Whether its music can be played.
    pub fn is_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    /// How many frames of it can be read.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether nobody is left to hear it.
    pub fn is_abandoned(&self) -> bool {
        self.job.is_abandoned()
    }

    /// An eye on its ring.
    pub fn watch(&self) -> Option<Watch> {
        self.job.watch()
    }

    /// Bytes of memory that it takes besides its frames; what an [`Analysis`] takes is not among them.
    pub fn held_bytes(&self) -> usize {
        let bytes = self.decoder.as_ref().map_or(0, StreamDecoder::len);
        let correction = self.correction.as_ref().map_or(0, |other| other.preparation.held_bytes());
        let rest = self.lap_one.as_ref().map_or(0, |lap_one| lap_one.rest.len()) * size_of::<f32>();
        bytes + rest + self.job.sound_bytes() + correction
    }

    /// Decides the gain, if it is time and there is enough to decide it from; otherwise when to ask again.
    fn begin(&mut self, now: MediaTime) -> Result<(), MediaTime> {
        if self.lap_one.is_some() {
            return Ok(());
        }
        // How much is trimmed is known of a whole recording only.
        if self.settings.trim_silence_dbfs.is_some() {
            return Err(MediaTime::NEVER);
        }
        let (Some(since), Some(decoder)) = (self.since, &self.decoder) else { return Err(MediaTime::NEVER) };
        let Some(rate) = decoder.rate() else { return Err(MediaTime::NEVER) };
        if now < since + GAIN_AFTER {
            return Err(since + GAIN_AFTER);
        }
        let seconds = |samples: usize| samples as f64 / f64::from(rate);
        let known = decoder.known();
        let passed = now.since(since).as_nanos() as f64 / 1e9;
        if seconds(known - self.measured) < LEAST_MEASURED || seconds(known) < KEEPS_UP * passed {
            return Err(MediaTime::NEVER);
        }
        self.measured = known;
        let latest = decoder.latest((MOST_MEASURED * f64::from(rate)) as usize);
        // Half a block of silence would make a block half as loud.
        let silent = latest.iter().take_while(|sample| sample.abs() < SILENT).count();
        let measured = &latest[silent..];
        if seconds(measured.len()) < LEAST_MEASURED {
            return Err(MediaTime::NEVER);
        }
        let most_gain_db = self.settings.level.most_gain_db.min(MOST_EARLY_GAIN_DB);
        let settings = LevelSettings { most_gain_db, ..self.settings.level.clone() };
        let (gain, warning) = decide(measure(measured, rate, false), &settings);
        if let Some(Warning::NearSilence { .. }) = warning {
            // What is loud comes later, and is what the gain is for.
            return Err(MediaTime::NEVER);
        }
        let to_rate = self.codec.sample_rate();
        self.lap_one = Some(LapOne {
            rate,
            resampler: StreamResampler::new(rate, to_rate),
            gain,
            limiter: LimiterStream::new(to_rate, &gain),
            beginning: None,
            rest: VecDeque::new(),
        });
        Ok(())
    }

    /// Brings a little of what has arrived to where it can be encoded. Whether there was any.
    fn feed(&mut self) -> bool {
        let Some(lap_one) = &mut self.lap_one else { return false };
        let most = (FED_AT_ONCE * f64::from(lap_one.rate)) as usize;
        let samples: Vec<f32> = match &mut self.decoder {
            Some(decoder) => decoder.take(most),
            None => lap_one.rest.drain(..most.min(lap_one.rest.len())).collect(),
        };
        lap_one.feed(self.codec, &samples, &mut self.job);
        !samples.is_empty()
    }

    /// Until when a listener who was there from the beginning has something to hear, or misses little.
    fn lasts_until(&self, now: MediaTime) -> Result<MediaTime, PrepareError> {
        let (Some(ready_at), false) = (self.ready_at, self.is_whole) else { return Ok(MediaTime::NEVER) };
        let grid = Grid::of(self.codec);
        let last = grid.start(Tick(grid.tick_at(ready_at).0 + self.frames + MOST_MISSED));
        if now < last { Ok(last) } else { Err(PrepareError::RanDry { seconds: self.facts_so_far().seconds }) }
    }

    /// What is known while it arrives.
    fn facts_so_far(&self) -> Facts {
        let lap_one = self.lap_one.as_ref();
        let rate = lap_one.map_or(1, |lap_one| lap_one.rate);
        let known = self.decoder.as_ref().map_or(self.measured, StreamDecoder::known);
        Facts {
            seconds: known as f64 / f64::from(rate),
            whole: false,
            format: self.decoder.as_ref().and_then(StreamDecoder::format).unwrap_or_default(),
            gain_db: lap_one.map_or(0.0, |lap_one| lap_one.gain.db),
            warning: None,
            bytes: self.frames * frame::memory_bytes(self.codec.payload_len(&self.settings.encoder)),
        }
    }
}

/// A recording that is whole, to be decoded, closed into a loop and levelled: all that cannot be done in small steps.
pub struct Analysis {
    bytes: Vec<u8>,
    codec: Codec,
    settings: PrepareSettings,
    /// The gain at which it plays already.
    decided: Option<Gain>,
}

/// Bytes of a WAV, and of any other recording, that are analysed in a tenth of a second: a megabyte of WAV takes 6 ms,
/// one of MP3 80.
const SHORT_WAV: usize = 16 << 20;
const SHORT_OTHER: usize = 1 << 20;

/// What comes of an [`Analysis`].
pub struct Analysed {
    /// The loop, at the gain of the play under way if there is one.
    sound: Arc<Loop>,
    facts: Facts,
    /// The loop at the gain that the whole asks for, if that is another one.
    correction: Option<(Arc<Loop>, Facts)>,
}

impl Analysis {
    /// Whether it takes about a tenth of a second at most.
    pub fn is_short(&self) -> bool {
        self.bytes.len() <= if is_wav(&self.bytes) { SHORT_WAV } else { SHORT_OTHER }
    }

    /// The most time of a processor that it may take; who runs it sees to that.
    pub fn max_cpu(&self) -> Duration {
        Duration::from_secs(self.settings.limits.max_cpu_seconds.into())
    }

    /// Runs it. `may_go_on` is asked now and then, and told how many bytes of memory are taken at that moment: it is how
    /// a caller limits time and room, or gives it up.
    ///
    /// # Errors
    ///
    /// The reason in the customer's voice; [`PrepareError::Stopped`] or [`DecodeError::TookTooLong`] as soon as
    /// `may_go_on` says no.
    pub fn run(self, may_go_on: &dyn Fn(usize) -> bool) -> Result<Analysed, PrepareError> {
        let Self { bytes, codec, settings, decided } = self;
        let decoding = |samples: usize| may_go_on(bytes.len() + samples * size_of::<f32>());
        let recording = decode_mono_counted(&bytes, &settings.limits, &decoding)?;
        drop(bytes);
        analyse(recording, codec, &settings, decided, may_go_on)
    }
}

fn analyse(
    mut recording: Recording,
    codec: Codec,
    settings: &PrepareSettings,
    decided: Option<Gain>,
    may_go_on: &dyn Fn(usize) -> bool,
) -> Result<Analysed, PrepareError> {
    let seconds = recording.pcm.seconds();
    let (rate, frame) = (codec.sample_rate(), codec.samples_per_frame());
    // Beside the recording its resampled self, with margins; later two levelled ones, and what a limiter thinks of them.
    let recorded = recording.pcm.len() * size_of::<f32>();
    let resampled = (seconds * f64::from(rate)) as usize * size_of::<f32>();
    let go_on = |bytes: usize| if may_go_on(bytes) { Ok(()) } else { Err(PrepareError::Stopped) };
    go_on(recorded + 2 * resampled)?;
    // Loop points count from the recording's first sample, and say what silence is wanted.
    if let (Some(threshold_dbfs), None) = (settings.trim_silence_dbfs, recording.loop_points) {
        recording.pcm = trim_silence(&recording.pcm, threshold_dbfs);
    }
    // Points that cannot be meant are passed over: then all of it repeats.
    let (circle, _ignored) = Loop::with_points(&recording.pcm, recording.loop_points, rate, frame);
    drop(recording.pcm);
    go_on(5 * resampled)?;
    let levelled = level_loop(&circle, &settings.level);
    go_on(5 * resampled)?;
    let facts = |gain_db: f64, sound: &Loop| Facts {
        seconds,
        whole: true,
        format: recording.format.clone(),
        gain_db,
        warning: levelled.warning,
        bytes: ring_bytes(0, sound, codec, settings),
    };
    let begun_softly = |sound: &Loop| Arc::new(soft_start(sound));
    let Some(gain) = decided else {
        drop(circle);
        let sound = begun_softly(&levelled.sound);
        return Ok(Analysed { facts: facts(levelled.gain.db, &sound), sound, correction: None });
    };
    let sound = begun_softly(&apply_loop(&circle, &gain));
    let correction = ((levelled.gain.db - gain.db).abs() > CORRECTED_FROM_LU).then(|| {
        let sound = begun_softly(&levelled.sound);
        let facts = facts(levelled.gain.db, &sound);
        (sound, facts)
    });
    Ok(Analysed { facts: facts(gain.db, &sound), sound, correction })
}

/// Memory of a ring in which `sound` follows `before` frames, in bytes.
fn ring_bytes(before: u64, sound: &Loop, codec: Codec, settings: &PrepareSettings) -> u64 {
    let frames = before + (sound.intro_frames() + sound.frames()) as u64;
    let frame = frame::memory_bytes(codec.payload_len(&settings.encoder));
    frames * frame + source::room_bytes(longest_lap(codec, &settings.limits))
}

/// Music that can be played.
pub struct Prepared {
    /// Its frames, for the legs.
    pub reader: Reader,
    /// What is left to encode.
    pub job: Job,
    /// How long the recording is, in seconds.
    pub seconds: f64,
    /// What it was, for a human: `WAV, PCM 16-bit, 8000 Hz, 1 channel`.
    pub format: String,
    /// The gain that it is played with, in dB.
    pub gain_db: f64,
    /// What an operator should know about its level.
    pub warning: Option<Warning>,
    /// Memory that its frames take, in bytes.
    pub bytes: u64,
}

/// Makes a recording that is whole playable in `codec`, in one go. `may_go_on` is asked now and then; it is how a
/// caller who has a clock limits the time.
///
/// # Errors
///
/// The reason in the customer's voice.
pub fn prepare(
    bytes: &[u8],
    codec: Codec,
    settings: &PrepareSettings,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Prepared, PrepareError> {
    let recording = decode_mono(bytes, &settings.limits, may_go_on)?;
    let Analysed { sound, facts, .. } = analyse(recording, codec, settings, None, &|_| may_go_on())?;
    let (reader, mut job) = rendition(sound, codec, &settings.encoder)?;
    job.step(AHEAD)?;
    let Facts { seconds, whole: _, format, gain_db, warning, bytes } = facts;
    Ok(Prepared { reader, job, seconds, format, gain_db, warning, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::At;

    const KINDS: &[u8] = include_bytes!("../../../assets/fixtures/kinds/pcm-16.wav");
    const MUSIC: &[u8] = include_bytes!("../../../assets/fixtures/music-16k.wav");
    const SPEECH: &[u8] = include_bytes!("../../../assets/fixtures/speech-8k.wav");
    const COMPRESSED: &[u8] = include_bytes!("../../../assets/fixtures/compressed/music.mp3");

    fn settings() -> PrepareSettings {
        PrepareSettings::default()
    }

    fn begin(settings: &PrepareSettings) -> (Preparation, Reader) {
        let (writer, reader) = room(Codec::Opus, &settings.limits);
        (Preparation::new(writer, Codec::Opus, settings).unwrap(), reader)
    }

    /// A 16-bit mono WAV.
    fn wav(rate: u32, samples: impl IntoIterator<Item = f32>) -> Vec<u8> {
        let data: Vec<u8> =
            samples.into_iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
        let len = u32::try_from(data.len()).unwrap();
        let mut bytes = b"RIFF".to_vec();
        bytes.extend((36 + len).to_le_bytes());
        bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        bytes.extend([rate.to_le_bytes(), (2 * rate).to_le_bytes()].concat());
        bytes.extend(b"\x02\0\x10\0data");
        bytes.extend(len.to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn tone(rate: u32, seconds: f64, amplitude: impl Fn(f64) -> f64) -> Vec<u8> {
        let samples = (0..(seconds * f64::from(rate)) as usize).map(|n| {
            let t = n as f64 / f64::from(rate);
            ((t * 440.0 * std::f64::consts::TAU).sin() * amplitude(t)) as f32
        });
        wav(rate, samples)
    }

    fn payload(reader: &Reader, position: u64) -> Option<Vec<u8>> {
        let mut payload = [0; 1280];
        match reader.at(position, &mut payload) {
            At::Frame(len) => Some(payload[..len].to_vec()),
            At::NotYet | At::Gone => None,
        }
    }

    /// Steps at `now` until nothing more can be done; analyses are run on the spot. What it said.
    fn settle(preparation: &mut Preparation, now: MediaTime) -> Vec<Step> {
        let mut said = vec![];
        loop {
            match preparation.step(now).unwrap() {
                Step::Working => {}
                Step::Analyse(analysis) => preparation.analysed(analysis.run(&|_| true).unwrap()).unwrap(),
                last @ (Step::Waiting(_) | Step::Closed) => {
                    said.push(last);
                    return said;
                }
                step => said.push(step),
            }
        }
    }

    fn millis(millis: u64) -> MediaTime {
        MediaTime::from_millis(1_000_000 + millis)
    }

    /// Pushes `bytes` in 10 ms steps so that they come at `times` the speed of `seconds` of sound; what was said at
    /// which millisecond.
    fn arrive(
        preparation: &mut Preparation,
        bytes: &[u8],
        seconds: f64,
        times: f64,
    ) -> (u64, Vec<(u64, Step)>) {
        let piece = (bytes.len() as f64 / seconds * times * 0.01) as usize + 1;
        let mut said = vec![];
        let mut now = 0;
        for piece in bytes.chunks(piece) {
            now += 10;
            preparation.push(millis(now), piece).unwrap();
            said.extend(settle(preparation, millis(now)).into_iter().map(|step| (now, step)));
        }
        preparation.end();
        said.extend(settle(preparation, millis(now)).into_iter().map(|step| (now, step)));
        (now, said)
    }

    fn readiness(said: &[(u64, Step)]) -> Vec<(u64, Facts)> {
        let ready = |(at, step): &(u64, Step)| match step {
            Step::Ready(facts) => Some((*at, facts.clone())),
            _ => None,
        };
        said.iter().filter_map(ready).collect()
    }

    /// Sound as a listener's decoder gives it.
    fn heard(reader: &Reader, frames: u64) -> Vec<f32> {
        let mut decoder = Codec::Opus.decoder().unwrap();
        let mut samples = vec![];
        for position in 0..frames {
            let payload = payload(reader, position).unwrap_or_else(|| panic!("no frame at {position}"));
            decoder.decode(Some(&payload), &mut samples).unwrap();
        }
        samples
    }

    #[test]
    fn a_recording_can_be_played_from_its_first_frame_when_it_is_prepared() {
        let prepared = prepare(KINDS, Codec::Opus, &settings(), &|| true).unwrap();
        for position in 0..AHEAD as u64 {
            assert!(payload(&prepared.reader, position).is_some());
        }
        assert!(prepared.seconds > 0.5);
        assert!(prepared.format.starts_with("WAV, PCM 16-bit"), "{}", prepared.format);
    }

    /// Speech with a second and a half of noise at -70 dB before and behind it: with the setting the first frame is
    /// speech and a lap has no pause, without it all is played.
    #[test]
    fn silence_at_both_ends_is_left_out_where_that_is_wanted() {
        let speech: &[u8] = include_bytes!("../../../assets/fixtures/kinds/pcm-16.wav");
        let speech = holdmusic_codecs::decode(speech, &DecodeLimits::default()).unwrap().pcm;
        let noise = |n: usize| if n * 7919 % 13 < 6 { 10i16 } else { -10 };
        let mut samples: Vec<i16> = (0..24_000).map(noise).collect();
        samples.extend(speech.samples().iter().map(|sample| (sample * 32_767.0) as i16));
        samples.extend((0..24_000).map(noise));
        let mut wav = b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend([16_000u32.to_le_bytes(), 32_000u32.to_le_bytes()].concat());
        wav.extend(b"\x02\0\x10\0data\xFF\xFF\xFF\xFF");
        samples.iter().for_each(|sample| wav.extend(sample.to_le_bytes()));
        let sound = |trim_silence_dbfs| {
            let settings = PrepareSettings { trim_silence_dbfs, ..PrepareSettings::default() };
            let prepared = prepare(&wav, Codec::Opus, &settings, &|| true).unwrap();
            assert!((prepared.seconds - 3.8).abs() < 0.001, "{}", prepared.seconds);
            Arc::clone(prepared.job.sound().unwrap())
        };
        let energy = |frame: &[f32]| frame.iter().map(|sample| sample * sample).sum::<f32>();
        let (all, trimmed) = (sound(None), sound(Some(-60.0)));
        assert_eq!(all.frames(), 190);
        assert!(trimmed.seconds() / (trimmed.turns() as f64) < 0.81, "{} s", trimmed.seconds());
        assert!(energy(all.frame(0)) < 1e-3 && energy(trimmed.frame(0)) > 0.1);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let given_up = prepare(KINDS, Codec::Opus, &settings(), &|| false);
        assert!(matches!(given_up, Err(PrepareError::Decode(DecodeError::TookTooLong { .. }))));
    }

    /// Whatever the pieces: payload for payload, over three laps, and in every fact.
    #[test]
    fn what_is_whole_in_time_is_what_preparing_it_in_one_go_makes() {
        for (bytes, pieces) in [(MUSIC, 1 << 20), (MUSIC, 4_000), (SPEECH, 64), (KINDS, 1), (COMPRESSED, 700)]
        {
            let prepared = prepare(bytes, Codec::Opus, &settings(), &|| true).unwrap();
            let mut job = prepared.job;
            while job.step(1000).unwrap() != Progress::Closed {}
            let (mut preparation, reader) = begin(&settings());
            for piece in bytes.chunks(pieces) {
                preparation.push(millis(0), piece).unwrap();
                assert!(matches!(settle(&mut preparation, millis(140))[..], [Step::Waiting(_)]));
            }
            preparation.end();
            let said = settle(&mut preparation, millis(160));
            let [Step::Ready(facts), Step::Closed] = &said[..] else { panic!("{} things said", said.len()) };
            assert_eq!((facts.seconds, facts.gain_db), (prepared.seconds, prepared.gain_db));
            assert_eq!((&facts.format, facts.bytes), (&prepared.format, prepared.bytes));
            let lap = (prepared.seconds * 50.0) as u64 + 50;
            for position in 0..3 * lap {
                assert_eq!(payload(&reader, position), payload(&prepared.reader, position), "{position}");
            }
        }
    }

    /// A minute that comes over ten seconds: begun 160 ms after its first sound, and from then on always ahead of who
    /// hears it; in the end a loop of the same sound.
    #[test]
    fn a_recording_is_begun_while_the_rest_still_comes() {
        for rate in [8_000, 16_000, 22_050, 48_000] {
            let clip = tone(rate, 60.0, |t| 0.1 * (1.2 + (t * 2.0).sin()));
            let (mut preparation, reader) = begin(&settings());
            let piece = clip.len() / 1000;
            let mut ready = None;
            for (index, piece) in clip.chunks(piece).enumerate() {
                let now = 10 * index as u64;
                preparation.push(millis(now), piece).unwrap();
                for step in settle(&mut preparation, millis(now)) {
                    if let Step::Ready(facts) = step {
                        ready = ready.or(Some((now, facts)));
                    }
                }
                if let Some((at, _)) = ready {
                    assert!(preparation.frames() >= (now - at) / 20 + AHEAD as u64, "{rate} Hz, {now} ms");
                }
            }
            let (at, facts) = ready.expect("ready before the end");
            assert!((150..=200).contains(&at), "{rate} Hz: {at} ms");
            assert!(facts.format.starts_with("WAV, PCM 16-bit") && facts.seconds < 2.0, "{facts:?}");
            preparation.end();
            let said = settle(&mut preparation, millis(10_000));
            let Some(Step::Ready(whole)) = said.first() else { panic!("more is known") };
            assert_eq!((whole.seconds, whole.gain_db), (60.0, facts.gain_db));
            assert!(reader.is_closed());
            // The same sound as the loop made in one go, but for its level.
            let prepared = prepare(&clip, Codec::Opus, &settings(), &|| true).unwrap();
            let (mut job, frames) = (prepared.job, 2 * 3_000 + 100);
            while job.step(1000).unwrap() != Progress::Closed {}
            let (found, expected) = (heard(&reader, frames), heard(&prepared.reader, frames));
            let ratio = 10f32.powf(((facts.gain_db - prepared.gain_db) / 20.0) as f32);
            let energy = |samples: &[f32]| samples.iter().map(|s| f64::from(s * s)).sum::<f64>();
            for (index, (found, expected)) in found.chunks(8_000).zip(expected.chunks(8_000)).enumerate() {
                let off: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e * ratio).collect();
                let share = energy(&off) / energy(found);
                assert!(share < 0.02, "{rate} Hz, half second {index}: {share}");
            }
        }
    }

    #[test]
    fn a_gain_that_turns_out_to_be_another_is_that_of_the_next_play() {
        // Quiet for eight seconds, then loud.
        let clip = tone(16_000, 30.0, |t| if t < 8.0 { 0.04 } else { 0.4 });
        let (mut preparation, reader) = begin(&settings());
        let (_, said) = arrive(&mut preparation, &clip, 30.0, 4.0);
        let ready = readiness(&said);
        let [(_, first), (_, then)] = &ready[..] else { panic!("{ready:?}") };
        assert_eq!((first.gain_db, then.gain_db), (MOST_EARLY_GAIN_DB, MOST_EARLY_GAIN_DB));
        assert!(reader.is_closed());
        let corrected = said.into_iter().find_map(|(_, step)| match step {
            Step::Corrected(correction) => Some(*correction),
            _ => None,
        });
        let Correction { mut preparation, reader } = corrected.expect("a correction");
        let said = settle(&mut preparation, millis(20_000));
        let [Step::Ready(facts), Step::Closed] = &said[..] else { panic!("{} things said", said.len()) };
        let prepared = prepare(&clip, Codec::Opus, &settings(), &|| true).unwrap();
        assert_eq!(facts.gain_db, prepared.gain_db);
        assert!(facts.gain_db < first.gain_db - 5.0, "{facts:?}");
        assert_eq!(payload(&reader, 20).unwrap(), payload(&prepared.reader, 20).unwrap());
    }

    #[test]
    fn a_gain_that_is_right_is_not_corrected() {
        let (mut preparation, _reader) = begin(&settings());
        let (_, said) = arrive(&mut preparation, &tone(16_000, 30.0, |_| 0.2), 30.0, 4.0);
        assert!(said.iter().all(|(_, step)| !matches!(step, Step::Corrected(_))));
    }

    #[test]
    fn what_comes_more_slowly_than_it_is_heard_is_waited_for() {
        let clip = tone(16_000, 6.0, |_| 0.2);
        for (times, early) in [(1.1, false), (1.4, true)] {
            let (mut preparation, _reader) = begin(&settings());
            let (end, said) = arrive(&mut preparation, &clip, 6.0, times);
            let (ready_at, facts) = readiness(&said).remove(0);
            assert_eq!(ready_at < end, early, "{times}: {ready_at} of {end} ms");
            assert_eq!(facts.seconds == 6.0, !early);
        }
    }

    /// Sound for three seconds, at three times its speed, then nothing: given up half a second after the last of it was
    /// heard, however long the door would wait.
    #[test]
    fn what_stops_coming_is_given_up_when_there_is_nothing_more_to_hear() {
        let clip = tone(16_000, 30.0, |_| 0.2);
        let (mut preparation, _reader) = begin(&settings());
        let came = &clip[..44 + 3 * 32_000];
        let mut ready = None;
        let mut until = MediaTime::NEVER;
        for (index, piece) in came.chunks(960).enumerate() {
            let now = millis(10 * index as u64);
            preparation.push(now, piece).unwrap();
            for step in settle(&mut preparation, now) {
                match step {
                    Step::Ready(_) => ready = ready.or(Some(now)),
                    Step::Waiting(moment) => until = moment,
                    _ => panic!("nothing else is said"),
                }
            }
        }
        let heard = Duration::from_millis(20 * (preparation.frames() + MOST_MISSED));
        assert!(preparation.frames() > 120);
        assert!((ready.unwrap() + heard).since(until) < Duration::from_millis(20));
        let before = until - Duration::from_millis(1);
        assert!(matches!(preparation.step(before), Ok(Step::Waiting(again)) if again == until));
        assert!(matches!(preparation.step(until), Err(PrepareError::RanDry { seconds }) if seconds == 3.0));
    }

    #[test]
    fn a_silent_beginning_does_not_decide_the_gain() {
        let clip = tone(16_000, 12.0, |t| if t < 4.0 { 0.0 } else { 0.2 });
        let (mut preparation, _reader) = begin(&settings());
        let (_, said) = arrive(&mut preparation, &clip, 12.0, 4.0);
        let (at, facts) = readiness(&said).remove(0);
        assert!((1_000..1_400).contains(&at), "{at} ms");
        let prepared = prepare(&clip, Codec::Opus, &settings(), &|| true).unwrap();
        assert!((facts.gain_db - prepared.gain_db).abs() < 1.0, "{facts:?}");
    }

    #[test]
    fn what_is_no_recording_is_refused_as_soon_as_that_is_seen() {
        let (mut preparation, _reader) = begin(&settings());
        let page = [b"<!doctype html>".as_slice(), &[b' '; 600]].concat();
        assert!(matches!(preparation.push(millis(0), &page), Err(PrepareError::Decode(_))));
        let (mut preparation, _reader) = begin(&settings());
        preparation.end();
        let Step::Analyse(analysis) = preparation.step(millis(0)).unwrap() else { panic!("an analysis") };
        assert!(matches!(analysis.run(&|_| true), Err(PrepareError::Decode(DecodeError::NotAudio { .. }))));
    }

    #[test]
    fn an_analysis_says_what_it_takes_and_stops_when_that_is_too_much() {
        for limit in [MUSIC.len() + 1, MUSIC.len() + 100_000, 1_100_000] {
            let (mut preparation, _reader) = begin(&settings());
            preparation.push(millis(0), MUSIC).unwrap();
            assert!(preparation.held_bytes() >= MUSIC.len());
            preparation.end();
            let Step::Analyse(analysis) = preparation.step(millis(0)).unwrap() else { panic!("an analysis") };
            assert!(analysis.is_short());
            assert!(preparation.held_bytes() < 100_000, "the analysis has it now");
            assert!(analysis.run(&|bytes| bytes <= limit).is_err(), "{limit}");
        }
    }

    #[test]
    fn who_drops_the_reader_gives_the_preparation_up() {
        let (mut preparation, reader) = begin(&settings());
        let watch = preparation.watch().unwrap();
        preparation.push(millis(0), MUSIC).unwrap();
        assert!(!preparation.is_abandoned());
        drop(reader);
        assert!(preparation.is_abandoned() && watch.is_abandoned());
        drop(preparation);
        assert!(watch.is_gone());
    }

    /// The limiter works from the first frame on, and the loop behind it at the same gain.
    #[test]
    fn peaks_are_held_below_the_ceiling_in_lap_one_too() {
        let clip = tone(16_000, 10.0, |t| if (t * 3.0).fract() < 0.02 { 0.99 } else { 0.05 });
        let (mut preparation, reader) = begin(&settings());
        let (end, said) = arrive(&mut preparation, &clip, 10.0, 4.0);
        assert!(readiness(&said)[0].0 < end);
        let most = heard(&reader, 1_500).into_iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
        // -2 dBTP, and what an encoder adds.
        assert!(most < 0.9, "{most}");
    }
}
