//! The report of a dry run as it is written, and as the OpenAPI document shows it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Notice;
use crate::graph::entities::{MediaPrompt, Reason, ResultJson};

/// What a dry run of a prompt found. Decibels are rounded to hundredths, times to microseconds.
#[derive(Serialize, ToSchema)]
#[schema(as = promptCheckReport)]
#[serde(rename_all = "camelCase")]
pub(in crate::graph) struct CheckReport<'a> {
    /// Whether it can be played.
    pub(super) playable: bool,
    /// The result that an operation with this prompt would have.
    pub(super) result_info: ResultJson<'a>,
    /// Why it cannot be played; `null` if it can.
    #[schema(required = true)]
    pub(super) reason: Option<Reason<'a>>,
    /// What was asked for, without query and user information; `null` for a file that was handed in.
    #[schema(required = true)]
    pub(super) prompt: Option<MediaPrompt<'a>>,
    /// Bytes of the recording; `null` if it was not fetched.
    #[schema(required = true)]
    pub(super) bytes: Option<u64>,
    /// How long it took; `null` if it cannot be played.
    #[schema(required = true)]
    pub(super) ready: Option<ReadyTimes>,
    /// The recording as it is; `null` if it cannot be played.
    #[schema(required = true)]
    pub(super) recording: Option<RecordingFacts<'a>>,
    /// What its listeners get; `null` if it cannot be played.
    #[schema(required = true)]
    pub(super) played: Option<PlayedFacts>,
    /// What an operator should know about a prompt that is played all the same, the weightiest first.
    pub(super) warnings: Vec<Notice>,
    /// Its outline, to be drawn; `null` if it cannot be played.
    #[schema(required = true)]
    pub(super) waveform: Option<WaveformFacts>,
}

/// How long it took from the request until a first frame could be played.
#[derive(Serialize, ToSchema)]
#[schema(as = promptReadyTimes)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadyTimes {
    /// Fetching, in milliseconds; `null` if nothing was fetched.
    #[schema(required = true)]
    pub(super) fetch_ms: Option<f64>,
    /// Decoding, levelling and encoding its first frames, in milliseconds.
    #[schema(required = true)]
    pub(super) prepare_ms: Option<f64>,
    /// Both, in milliseconds.
    #[schema(required = true)]
    pub(super) total_ms: Option<f64>,
    /// Whether a new hold would hear it at once rather than default music first.
    pub(super) within_grace: bool,
}

/// A recording as it is.
#[derive(Serialize, ToSchema)]
#[schema(as = promptRecording)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordingFacts<'a> {
    /// What it is, for people.
    pub(super) format: &'a str,
    /// Samples per second, in Hz.
    pub(super) sample_rate_hz: u32,
    /// Its channels.
    pub(super) channels: u16,
    /// Its length, in milliseconds.
    #[schema(required = true)]
    pub(super) duration_ms: Option<f64>,
    /// Integrated loudness (ITU-R BS.1770), in LUFS; `null` if it is too short or too quiet to be measured.
    #[schema(required = true)]
    pub(super) loudness_lufs: Option<f64>,
    /// The highest true peak, in dBTP; `null` for silence.
    #[schema(required = true)]
    pub(super) true_peak_dbtp: Option<f64>,
    /// Where it is clipped.
    pub(super) clipping: ClippingFacts,
    /// Silence at its beginning, in milliseconds.
    #[schema(required = true)]
    pub(super) silence_before_ms: Option<f64>,
    /// Silence at its end, in milliseconds.
    #[schema(required = true)]
    pub(super) silence_behind_ms: Option<f64>,
    /// Its mean, as a share of full scale.
    #[schema(required = true)]
    pub(super) dc_offset: Option<f64>,
    /// What mixing to one channel does compared with unrelated channels, in dB; `null` for one channel.
    #[schema(required = true)]
    pub(super) mix_db: Option<f64>,
    /// Whether it ends before its header says, or parts of it could not be decoded.
    pub(super) cut_short: bool,
    /// Where its author wants it to repeat; `null` if nothing is said.
    #[schema(required = true)]
    pub(super) loop_points: Option<LoopFacts>,
    /// How much its seam would stick out if it were simply repeated, in dB.
    #[schema(required = true)]
    pub(super) seam_db: Option<f64>,
}

/// Where a recording is clipped.
#[derive(Serialize, ToSchema)]
#[schema(as = promptClipping)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClippingFacts {
    /// Runs of three samples or more at full scale.
    pub(super) runs: u64,
    /// Samples in them.
    pub(super) samples: u64,
    /// Where the first one is, in milliseconds; `null` if there is none.
    #[schema(required = true)]
    pub(super) first_at_ms: Option<f64>,
}

/// Where a recording's author wants it to repeat.
#[derive(Serialize, ToSchema)]
#[schema(as = promptLoopPoints)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoopFacts {
    /// The first frame of the loop.
    pub(super) start: usize,
    /// The frame behind its last one.
    pub(super) end: usize,
    /// The same, in milliseconds.
    #[schema(required = true)]
    pub(super) start_ms: Option<f64>,
    /// The same, in milliseconds.
    #[schema(required = true)]
    pub(super) end_ms: Option<f64>,
    /// Whether it is played so; `false` says that they are passed over, and a warning says why.
    pub(super) used: bool,
}

/// What the listeners of a prompt get.
#[derive(Serialize, ToSchema)]
#[schema(as = promptPlayed)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlayedFacts {
    /// The codec of this report.
    pub(super) codec: &'static str,
    /// The gain that it is played with, in dB.
    #[schema(required = true)]
    pub(super) gain_db: Option<f64>,
    /// Integrated loudness of what is heard, in LUFS; `null` if it is too short to be measured.
    #[schema(required = true)]
    pub(super) loudness_lufs: Option<f64>,
    /// The highest true peak of what is heard, in dBTP.
    #[schema(required = true)]
    pub(super) true_peak_dbtp: Option<f64>,
    /// What is heard once, before the loop, in milliseconds.
    pub(super) intro_ms: u64,
    /// How often it repeats, in milliseconds.
    pub(super) lap_ms: u64,
    /// How often the recording is heard in a lap.
    pub(super) turns_per_lap: usize,
    /// Bytes of payload of a lap; `null` if there was no time to encode all of it.
    #[schema(required = true)]
    pub(super) lap_bytes: Option<u64>,
    /// Bit rate of the payload; `null` for a lap without length.
    #[schema(required = true)]
    pub(super) bits_per_second: Option<f64>,
    /// How much the seam sticks out of what is heard, in dB; `null` if it was not listened to.
    #[schema(required = true)]
    pub(super) seam_db: Option<f64>,
    /// How much the encoded loop's closing sticks out, in dB; `null` if it was not listened to.
    #[schema(required = true)]
    pub(super) turn_back_db: Option<f64>,
}

/// The outline of a recording: columns of the same length.
#[derive(Serialize, ToSchema)]
#[schema(as = promptWaveform)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaveformFacts {
    /// Length of a column, in milliseconds.
    #[schema(required = true)]
    pub(super) column_ms: Option<f64>,
    /// The lowest sample of each column, as a share of full scale.
    pub(super) lowest: Vec<Option<f64>>,
    /// The highest sample of each column, as a share of full scale.
    pub(super) highest: Vec<Option<f64>>,
    /// The root mean square of each column, as a share of full scale.
    pub(super) rms: Vec<Option<f64>>,
}
