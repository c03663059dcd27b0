//! What a dry run of a prompt found -> the report of `prompts/check`: its members, its warnings in words, and the
//! `resultInfo` that an operation would get.

mod report;

use std::time::Duration;

use holdmusic_codecs::{
    Codec, Inspection, Join, LoopPoints, PointsIgnored, Warning, click::AUDIBLE_DB, inspect::SILENCE_DBFS,
};
use holdmusic_media::rehearsal::Rehearsal;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    entities::{MediaPrompt, Reason, ResultJson},
    results,
};
use crate::{PromptFailure, Settings, call::OnPromptFailure, operation::ResultInfo, prompt::Prompt};
pub(super) use report::CheckReport;
use report::{ClippingFacts, LoopFacts, PlayedFacts, ReadyTimes, RecordingFacts, WaveformFacts};

/// A dry run of a prompt: everything that an operation would have done with it, and what was seen on the way.
#[derive(Clone, Debug)]
pub struct PromptCheck {
    /// What was asked for; `None` for a file that was handed in.
    pub prompt: Option<Prompt>,
    /// Bytes of the recording, if it was fetched.
    pub bytes: Option<u64>,
    /// How long fetching took, if it was fetched.
    pub fetch: Option<Duration>,
    /// What it sounds like, or why it cannot be played.
    pub outcome: Result<Box<Playable>, PromptFailure>,
    /// What it was checked against.
    pub terms: Terms,
}

/// What of the settings a check depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What happens when a prompt fails.
    pub on_prompt_failure: OnPromptFailure,
    /// How long a new hold waits for its prompt.
    pub grace: Duration,
    /// When a start operation has ended at the latest.
    pub start_bound: Duration,
}

impl From<&Settings> for Terms {
    fn from(settings: &Settings) -> Self {
        Self {
            on_prompt_failure: settings.hold.on_prompt_failure,
            grace: settings.grace,
            start_bound: settings.start_bound,
        }
    }
}

/// A prompt that can be played.
#[derive(Clone, Debug)]
pub struct Playable {
    /// What it was, for people.
    pub format: String,
    /// What the recording is like.
    pub inspection: Inspection,
    /// Whether it ends before its header says, or parts of it could not be decoded.
    pub cut_short: bool,
    /// Where its author wants it to repeat, and why that is passed over if it is.
    pub loop_points: Option<(LoopPoints, Option<PointsIgnored>)>,
    /// Its seam if it is simply repeated.
    pub before: Join,
    /// The gain that it is played with, in dB.
    pub gain_db: f64,
    /// What is odd about its level.
    pub level_warning: Option<Warning>,
    /// How long it took to decode and level it and to encode its first frames.
    pub prepare: Duration,
    /// What its listeners will get.
    pub rehearsal: Rehearsal,
}

/// Something that an operator should know about a prompt that is played all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = promptWarning)]
pub struct Notice {
    /// For scripts: `clipping`, `nearSilence`, …
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// Silence at an end that is longer than this is a pause in every lap.
const LONG_SILENCE_SECONDS: f64 = 0.5;
/// A mean beyond this share of full scale costs room for sound, and clicks where the music begins and ends.
const LARGE_DC: f64 = 0.01;
/// Mixing takes away more than half of what unrelated channels would leave.
const CANCELS_DB: f64 = -3.0;
/// Nobody wants to hear less than this over and over: not a bar of music.
const SHORT_SECONDS: f64 = 2.0;
/// Below this rate a recording has less than what Opus carries here: 8 kHz of it.
const FULL_RATE: u32 = 16_000;

impl PromptCheck {
    /// What an operation would get.
    pub fn result(&self) -> ResultInfo {
        match (&self.outcome, self.terms.on_prompt_failure) {
            (Ok(_), _) => results::success(),
            (Err(failure), OnPromptFailure::DefaultMusic) => results::prompt(200, failure),
            (Err(failure), OnPromptFailure::Fail) => results::prompt(400, failure),
        }
    }

    /// From the request until its first frame can be played; `None` if it never can be.
    pub fn ready(&self) -> Option<Duration> {
        let playable = self.outcome.as_ref().ok()?;
        Some(self.fetch.unwrap_or_default() + playable.prepare)
    }

    /// What an operator should know, the weightiest first.
    pub fn notices(&self) -> Vec<Notice> {
        let Ok(playable) = &self.outcome else { return Vec::new() };
        let mut notices = playable.notices();
        let ready = self.ready().unwrap_or_default();
        if ready > self.terms.start_bound {
            notices.push(Notice {
                code: "tooSlow",
                message: format!(
                    "It took {:.1} s to be ready; an operation ends after {} s and would say that the prompt was not ready.",
                    ready.as_secs_f64(),
                    self.terms.start_bound.as_secs()
                ),
            });
        } else if ready > self.terms.grace {
            notices.push(Notice {
                code: "slow",
                message: format!(
                    "It took {:.0} ms to be ready; after {} ms a new hold hears default music first.",
                    ready.as_secs_f64() * 1000.0,
                    self.terms.grace.as_millis()
                ),
            });
        }
        notices
    }

    /// The body of the answer, and what `--json` prints. Decibels are rounded to hundredths, times to microseconds.
    pub fn json(&self) -> Value {
        let result = self.result();
        let uri =
            self.prompt.as_ref().map(|prompt| (prompt.origin.redacted(), prompt.resource_id.as_deref()));
        let playable = self.outcome.as_ref().ok();
        let report = CheckReport {
            playable: playable.is_some(),
            result_info: ResultJson::from(&result),
            reason: self.outcome.as_ref().err().map(Reason::from),
            prompt: uri.as_ref().map(|(uri, resource_id)| MediaPrompt::new(uri, *resource_id)),
            bytes: self.bytes,
            ready: self.ready().map(|ready| ReadyTimes {
                fetch_ms: self.fetch.and_then(millis),
                prepare_ms: playable.and_then(|playable| millis(playable.prepare)),
                total_ms: millis(ready),
                within_grace: ready <= self.terms.grace,
            }),
            recording: playable.map(|playable| playable.recording()),
            played: playable.map(|playable| playable.played()),
            warnings: self.notices(),
            waveform: playable.map(|playable| playable.waveform()),
        };
        serde_json::to_value(report).expect("our own values can always be written as JSON")
    }
}

impl Playable {
    fn notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut notice = |code, message| notices.push(Notice { code, message });
        let inspection = &self.inspection;
        match &self.level_warning {
            Some(warning @ Warning::NearSilence { .. }) => notice("nearSilence", sentence(warning)),
            Some(warning @ Warning::StaysQuiet { .. }) => notice("staysQuiet", sentence(warning)),
            None => {}
        }
        if self.cut_short {
            notice(
                "cutShort",
                "The recording ends before its own header says, or parts of it could not be decoded; what is there is played."
                    .to_owned(),
            );
        }
        let clipping = inspection.clipping;
        if let Some(first) = clipping.first {
            notice(
                "clipping",
                format!(
                    "The recording is clipped: {} of three samples or more at full scale, the first one at {:.3} s.",
                    counted(clipping.runs, "run"),
                    first as f64 / f64::from(inspection.rate)
                ),
            );
        }
        if let Some(db) = inspection.mix_db.filter(|db| *db < CANCELS_DB) {
            notice(
                "cancelsOut",
                format!(
                    "The channels partly cancel each other out: mixed to one channel, as it is played, they are {:.1} dB \
                     below what unrelated channels would be.",
                    -db
                ),
            );
        }
        if self.click_after_db().is_some_and(|db| db >= AUDIBLE_DB) {
            notice(
                "seam",
                "The seam sticks out. If the recording does not begin with a beat, its end does not lead into its \
                 beginning, and that is heard as a click: cut it where the music can go on, or give it loop points."
                    .to_owned(),
            );
        }
        if self.rehearsal.joins.as_ref().is_some_and(|joins| joins.turn_back.click_db() >= AUDIBLE_DB) {
            notice(
                "turnBack",
                "The encoder did not settle: once in every lap it may be heard that the encoded loop closes."
                    .to_owned(),
            );
        }
        if let Some((_, Some(ignored))) = &self.loop_points {
            notice("loopPointsIgnored", sentence(ignored));
        }
        for (code, seconds, place) in [
            ("silenceBefore", inspection.silence_before, "begins"),
            ("silenceBehind", inspection.silence_behind, "ends"),
        ] {
            if seconds > LONG_SILENCE_SECONDS && seconds < inspection.seconds {
                notice(
                    code,
                    format!(
                        "The recording {place} with {seconds:.2} s of silence (below {SILENCE_DBFS} dBFS), which is heard \
                         in every lap."
                    ),
                );
            }
        }
        if inspection.dc_offset.abs() > LARGE_DC {
            notice(
                "dcOffset",
                format!(
                    "The recording has a DC offset of {:.1} % of full scale.",
                    inspection.dc_offset * 100.0
                ),
            );
        }
        let repeated = self.repeated_seconds();
        if repeated < SHORT_SECONDS {
            notice("short", format!("It repeats every {repeated:.2} s, which tires whoever listens to it."));
        }
        if inspection.rate < FULL_RATE {
            notice(
                "lowRate",
                format!(
                    "The sample rate is {} Hz: it sounds no better than a telephone of {:.1} kHz, although {FULL_RATE} \
                     Hz are sent.",
                    inspection.rate,
                    f64::from(inspection.rate) / 2000.0
                ),
            );
        }
        notices
    }

    /// How long the part is that repeats, in seconds.
    fn repeated_seconds(&self) -> f64 {
        match self.loop_points {
            Some((points, None)) => (points.end - points.start) as f64 / f64::from(self.inspection.rate),
            _ => self.inspection.seconds,
        }
    }

    /// How much the seam sticks out of what is heard, in dB; `None` if it was not listened to.
    pub fn click_after_db(&self) -> Option<f64> {
        self.rehearsal.joins.as_ref().map(|joins| joins.seam.click_db())
    }

    fn recording(&self) -> RecordingFacts<'_> {
        let inspection = &self.inspection;
        let rate = f64::from(inspection.rate);
        let at = |frames: f64| rounded(frames / rate * 1000.0, 3);
        RecordingFacts {
            format: &self.format,
            sample_rate_hz: inspection.rate,
            channels: inspection.channels,
            duration_ms: rounded(inspection.seconds * 1000.0, 3),
            loudness_lufs: inspection.level.lufs.and_then(|lufs| rounded(lufs, 2)),
            true_peak_dbtp: rounded(inspection.level.true_peak_dbtp, 2),
            clipping: ClippingFacts {
                runs: inspection.clipping.runs,
                samples: inspection.clipping.samples,
                first_at_ms: inspection.clipping.first.and_then(|first| at(first as f64)),
            },
            silence_before_ms: rounded(inspection.silence_before * 1000.0, 3),
            silence_behind_ms: rounded(inspection.silence_behind * 1000.0, 3),
            dc_offset: rounded(inspection.dc_offset, 5),
            mix_db: inspection.mix_db.and_then(|db| rounded(db, 2)),
            cut_short: self.cut_short,
            loop_points: self.loop_points.map(|(points, ignored)| LoopFacts {
                start: points.start,
                end: points.end,
                start_ms: at(points.start as f64),
                end_ms: at(points.end as f64),
                used: ignored.is_none(),
            }),
            seam_db: rounded(self.before.click_db(), 2),
        }
    }

    fn played(&self) -> PlayedFacts {
        let Rehearsal { level, intro_frames, lap_frames, turns, lap_bytes, .. } = &self.rehearsal;
        let frames_ms = |frames: usize| frames as u64 * u64::from(holdmusic_codecs::FRAME_MS);
        PlayedFacts {
            codec: Codec::Opus.name(),
            gain_db: rounded(self.gain_db, 2),
            loudness_lufs: level.lufs.and_then(|lufs| rounded(lufs, 2)),
            true_peak_dbtp: rounded(level.true_peak_dbtp, 2),
            intro_ms: frames_ms(*intro_frames),
            lap_ms: frames_ms(*lap_frames),
            turns_per_lap: *turns,
            lap_bytes: *lap_bytes,
            bits_per_second: self.rehearsal.bit_rate().and_then(|rate| rounded(rate, 0)),
            seam_db: self.click_after_db().and_then(|db| rounded(db, 2)),
            turn_back_db: self
                .rehearsal
                .joins
                .as_ref()
                .and_then(|joins| rounded(joins.turn_back.click_db(), 2)),
        }
    }

    fn waveform(&self) -> WaveformFacts {
        let waveform = &self.inspection.waveform;
        let all = |value: fn(&holdmusic_codecs::inspect::Column) -> f32| {
            waveform.columns.iter().map(|column| rounded(f64::from(value(column)), 4)).collect()
        };
        WaveformFacts {
            column_ms: rounded(waveform.column_seconds * 1000.0, 6),
            lowest: all(|column| column.lowest),
            highest: all(|column| column.highest),
            rms: all(|column| column.rms),
        }
    }
}

fn millis(duration: Duration) -> Option<f64> {
    rounded(duration.as_secs_f64() * 1000.0, 3)
}

/// A number to so many decimals; `None`, and in JSON `null`, for what JSON has no number for, such as the peak of silence.
fn rounded(value: f64, decimals: i32) -> Option<f64> {
    let scale = 10f64.powi(decimals);
    let value = (value * scale).round() / scale;
    // A gain of -0 is none.
    value.is_finite().then_some(value + 0.0)
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Words that stand alone.
fn sentence(words: &impl std::fmt::Display) -> String {
    let words = words.to_string();
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use holdmusic_codecs::inspect;
    use holdmusic_media::{
        prepare::{PrepareSettings, prepare},
        rehearsal::{Joins, rehearse},
    };
    use serde_json::json;

    use super::*;
    use crate::graph::read_prompt_check;

    fn checked(prompt: Option<Prompt>, bytes: &[u8], settings: &Settings) -> PromptCheck {
        let terms = Terms::from(settings);
        let prepare_settings = PrepareSettings::default();
        let prepared = match prepare(bytes, Codec::Opus, &prepare_settings, &|| true) {
            Ok(prepared) => prepared,
            Err(error) => {
                let outcome = Err(PromptFailure::from(&error));
                return PromptCheck { prompt, bytes: Some(bytes.len() as u64), fetch: None, outcome, terms };
            }
        };
        let (recording, inspection) = inspect(bytes, &prepare_settings.limits, &|| true).unwrap();
        let ignored = |points| PointsIgnored::of(points, &recording.pcm);
        let loop_points = recording.loop_points.map(|points| (points, ignored(points)));
        let (gain_db, level_warning) = (prepared.gain_db, prepared.warning);
        let used = loop_points.filter(|(_, ignored)| ignored.is_none()).map(|(points, _)| points);
        let points = used.map(|points| (points, recording.pcm.rate()));
        let playable = Playable {
            format: recording.format.clone(),
            inspection,
            cut_short: recording.cut_short,
            loop_points,
            before: Join::of_repeated(&recording.pcm, used, 16_000),
            gain_db,
            level_warning,
            prepare: Duration::from_millis(29),
            rehearsal: rehearse(prepared, Codec::Opus, points, &|_| true).unwrap().unwrap(),
        };
        PromptCheck {
            prompt,
            bytes: Some(bytes.len() as u64),
            fetch: Some(Duration::from_micros(12_345)),
            outcome: Ok(Box::new(playable)),
            terms,
        }
    }

    /// The waveform is told by its length: six hundred numbers say nothing to a reader. The seams are told in whole
    /// decibels: not every processor decodes to the same last bit.
    fn shown(check: &PromptCheck) -> String {
        let mut json = check.json();
        for name in ["lowest", "highest", "rms"] {
            if let Some(columns) = json["waveform"][name].as_array() {
                json["waveform"][name] = json!(format!("{} columns", columns.len()));
            }
        }
        for (part, name) in [("recording", "seamDb"), ("played", "seamDb"), ("played", "turnBackDb")] {
            if let Some(click) = json[part][name].as_f64() {
                json[part][name] = json!(rounded(click, 0));
            }
        }
        serde_json::to_string_pretty(&json).unwrap()
    }

    #[test]
    fn a_recording_that_is_played_is_told_in_full() {
        let body = br##"{
          "@odata.type": "#microsoft.graph.mediaPrompt",
          "mediaInfo": {
            "@odata.type": "#microsoft.graph.mediaInfo",
            "uri": "https://user:secret@cdn.contoso.com/beep.wav?sig=secret",
            "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
          },
        }"##;
        let prompt = read_prompt_check(body).unwrap();
        let clip = include_bytes!("../../../../assets/fixtures/rates/stereo-44100.wav");
        expect![[r##"
            {
              "bytes": 70604,
              "playable": true,
              "played": {
                "bitsPerSecond": 32000.0,
                "codec": "opus",
                "gainDb": 5.06,
                "introMs": 20,
                "lapBytes": 4800,
                "lapMs": 1200,
                "loudnessLufs": -20.0,
                "seamDb": -2.0,
                "truePeakDbtp": -8.97,
                "turnBackDb": 0.0,
                "turnsPerLap": 3
              },
              "prompt": {
                "@odata.type": "#microsoft.graph.mediaPrompt",
                "mediaInfo": {
                  "@odata.type": "#microsoft.graph.mediaInfo",
                  "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
                  "uri": "https://cdn.contoso.com/beep.wav?…"
                }
              },
              "ready": {
                "fetchMs": 12.345,
                "prepareMs": 29.0,
                "totalMs": 41.345,
                "withinGrace": true
              },
              "reason": null,
              "recording": {
                "channels": 2,
                "clipping": {
                  "firstAtMs": null,
                  "runs": 0,
                  "samples": 0
                },
                "cutShort": false,
                "dcOffset": 0.00011,
                "durationMs": 400.0,
                "format": "WAV, PCM 16-bit, 44100 Hz, 2 channels",
                "loopPoints": null,
                "loudnessLufs": -19.09,
                "mixDb": -0.01,
                "sampleRateHz": 44100,
                "seamDb": -4.0,
                "silenceBeforeMs": 0.0,
                "silenceBehindMs": 0.0,
                "truePeakDbtp": -7.9
              },
              "resultInfo": {
                "@odata.type": "#microsoft.graph.resultInfo",
                "code": 200,
                "message": "Action completed successfully.",
                "subcode": 0
              },
              "warnings": [
                {
                  "code": "short",
                  "message": "It repeats every 0.40 s, which tires whoever listens to it."
                }
              ],
              "waveform": {
                "columnMs": 0.725624,
                "highest": "552 columns",
                "lowest": "552 columns",
                "rms": "552 columns"
              }
            }"##]]
        .assert_eq(&shown(&checked(Some(prompt), clip, &Settings::default())));
    }

    #[test]
    fn a_recording_that_is_refused_is_told_what_an_operation_would_say() {
        let mut settings = Settings::default();
        settings.hold.on_prompt_failure = OnPromptFailure::Fail;
        let silence = include_bytes!("../../../../assets/fixtures/broken/silence.wav");
        expect![[r##"
            {
              "bytes": 16044,
              "playable": false,
              "played": null,
              "prompt": null,
              "ready": null,
              "reason": {
                "cause": "silent",
                "message": "the recording is digital silence: every sample of its 0.500 seconds is the same"
              },
              "recording": null,
              "resultInfo": {
                "@odata.type": "#microsoft.graph.resultInfo",
                "code": 400,
                "message": "The prompt cannot be played (silent): the recording is digital silence: every sample of its 0.500 seconds is the same",
                "subcode": 8535
              },
              "warnings": [],
              "waveform": null
            }"##]].assert_eq(&shown(&checked(None, silence, &settings)));
    }

    /// Everything that can be wrong with one recording at once.
    #[test]
    fn warnings_are_words() {
        let clip = include_bytes!("../../../../assets/fixtures/lengths/cut-in-data.wav");
        let mut check = checked(None, clip, &Settings::default());
        check.fetch = Some(Duration::from_millis(400));
        let playable = check.outcome.as_mut().unwrap();
        let inspection = &mut playable.inspection;
        inspection.clipping.runs = 2;
        inspection.clipping.first = Some(8_000);
        inspection.rate = 8_000;
        inspection.silence_before = 0.7;
        inspection.silence_behind = 0.6;
        inspection.seconds = 1.5;
        inspection.dc_offset = -0.02;
        inspection.mix_db = Some(-12.34);
        playable.level_warning = Some(Warning::StaysQuiet { lufs: -31.2 });
        let points = LoopPoints { start: 0, end: 100 };
        playable.loop_points = Some((points, Some(PointsIgnored::TooShort { millis: 12 })));
        let mut step = vec![0.0; 6_400];
        step[3_200..].fill(0.5);
        let join = Join::inside(&step, 3_200, 16_000);
        playable.rehearsal.joins = Some(Joins { seam: join.clone(), turn_back: join });
        let told: Vec<_> = check
            .notices()
            .into_iter()
            .map(|notice| format!("{}: {}\n", notice.code, notice.message))
            .collect();
        expect![[r#"
            staysQuiet: The recording is so quiet that it is played at -31.2 LUFS.
            cutShort: The recording ends before its own header says, or parts of it could not be decoded; what is there is played.
            clipping: The recording is clipped: 2 runs of three samples or more at full scale, the first one at 1.000 s.
            cancelsOut: The channels partly cancel each other out: mixed to one channel, as it is played, they are 12.3 dB below what unrelated channels would be.
            seam: The seam sticks out. If the recording does not begin with a beat, its end does not lead into its beginning, and that is heard as a click: cut it where the music can go on, or give it loop points.
            turnBack: The encoder did not settle: once in every lap it may be heard that the encoded loop closes.
            loopPointsIgnored: The loop points are only 12 ms apart; all of the recording repeats.
            silenceBefore: The recording begins with 0.70 s of silence (below -60 dBFS), which is heard in every lap.
            silenceBehind: The recording ends with 0.60 s of silence (below -60 dBFS), which is heard in every lap.
            dcOffset: The recording has a DC offset of -2.0 % of full scale.
            short: It repeats every 1.50 s, which tires whoever listens to it.
            lowRate: The sample rate is 8000 Hz: it sounds no better than a telephone of 4.0 kHz, although 16000 Hz are sent.
            slow: It took 429 ms to be ready; after 300 ms a new hold hears default music first.
        "#]].assert_eq(&told.concat());
        check.fetch = Some(Duration::from_secs(20));
        assert_eq!(check.notices().last().unwrap().code, "tooSlow");
    }

    #[test]
    fn a_prompt_to_check_is_read_bare_or_as_it_stands_in_a_request() {
        let bare = r#"{"mediaInfo": {"uri": "https://host/a.wav"}}"#;
        let read = |body: &str| read_prompt_check(body.as_bytes());
        let prompt = read(bare).unwrap();
        for wrapped in [
            format!(r#"{{"prompt": {bare},}}"#),
            format!(r#"{{"customPrompt": {bare}, "clientContext": "c"}}"#),
        ] {
            assert_eq!(read(&wrapped).unwrap(), prompt);
        }
        for wrong in ["", "{}", "[]", r#"{"prompt": 1}"#, r#"{"mediaInfo": {"uri": "ftp://host/a.wav"}}"#] {
            assert_eq!(read(wrong).unwrap_err().code, "8523", "{wrong}");
        }
    }
}
