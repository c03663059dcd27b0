//! What the participant heard against what it should have heard.

use std::{fmt, time::Duration};

use holdmusic_codecs::{
    Codec, EncoderSettings, Loop, Pcm, align, align_loop, compare::correlate, loudness_lufs,
};
use holdmusic_media::{Hearing, Receiver};
use serde_json::Value;

use super::Told;

/// How much less than a plain encoding and decoding of the prompt the sound that was heard may be like the prompt.
const TOLERANCE: f64 = 0.01;

/// How far its loudness may be from the prompt's plus the gain, in LU.
const LOUDNESS_TOLERANCE_LU: f64 = 1.0;

/// A packet that had left before the stop may still arrive: one packet interval.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// Figures and findings.
pub(super) struct Verdict {
    pub(super) hearing: Hearing,
    pub(super) sound: Pcm,
    findings: Vec<Finding>,
}

struct Finding {
    name: &'static str,
    holds: Option<bool>,
    figure: String,
}

impl Verdict {
    pub(super) fn of(receiver: &Receiver, prompt: &Loop, told: &Told) -> Result<Self, String> {
        let hearing = receiver.hearing();
        let sound = receiver.decode().sound;
        let mut findings = Findings(Vec::new());
        let Some(main) = hearing.main() else {
            findings.check("packets", false, "none arrived".to_owned());
            return Ok(Self { hearing, sound, findings: findings.0 });
        };

        let status = super::text(&told.operation, "/status");
        let code = told.operation.pointer("/resultInfo/subcode").and_then(Value::as_i64);
        findings.check(
            "operation",
            status == "completed" && code == Some(0),
            super::summary(&told.operation),
        );
        let told_once = super::text(&told.notification, "/value/0/changeType") == "deleted";
        let words = told.token.as_ref().err().map_or("deleted, token verified", String::as_str);
        findings.check("notification", told_once && told.token.is_ok(), words.to_owned());

        // A machine that was busy elsewhere for 20 ms costs a tick, which the engine counts and the stream shows.
        let skipped =
            told.stop.pointer("/holdMusic/report/skippedTicks").and_then(Value::as_u64).unwrap_or(0);
        let in_step = main.timestamp_jumps <= skipped && main.markers == 1 && hearing.streams.len() == 1;
        findings.check(
            "packets",
            main.is_continuous() && in_step,
            format!(
                "{} received, {} lost, {} out of order, {} timestamp jumps, {} marker, {} SSRC",
                main.packets,
                main.lost,
                main.reordered,
                main.timestamp_jumps,
                main.markers,
                hearing.streams.len()
            ),
        );
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let spacing =
            format!("{:.2} ms on average, {:.2} ms at most", ms(main.mean_jitter), ms(main.max_jitter));
        findings.tell("jitter", spacing);
        findings.tell("longest gap", format!("{:.1} ms between packets", ms(main.longest_gap)));
        findings.tell("skipped", format!("{skipped} ticks, as the engine says"));
        let late = main.last_arrival.since(told.stopped);
        findings.check(
            "after the stop",
            late <= ON_ITS_WAY,
            if late.is_zero() { "nothing".to_owned() } else { format!("a packet {:.1} ms later", ms(late)) },
        );
        if let Some(latency) =
            told.operation.pointer("/holdMusic/firstPacketLatencyMs").and_then(Value::as_f64)
        {
            findings.tell("first packet", format!("{latency:.2} ms after the request was accepted"));
        }

        let heard = &sound.samples()[music_begins(told, &hearing, sound.rate()).min(sound.len())..];
        let alignment = align_loop(prompt.samples(), heard);
        let lap = prompt.samples().len();
        let from = (-alignment.offset_samples).rem_euclid(lap as i64);
        let from = usize::try_from(from).expect("not negative");
        let meant: Vec<f32> = prompt.samples().iter().cycle().skip(from).take(heard.len()).copied().collect();
        let correlation = correlation_of_what_sounded(&meant, heard);
        let plain = plain_correlation(prompt)?;
        findings.check(
            "the prompt",
            correlation >= plain - TOLERANCE,
            format!("correlation {correlation:.4}; Opus alone {plain:.4}"),
        );
        let gain_db = told.operation.pointer("/holdMusic/gainDb").and_then(Value::as_f64).unwrap_or(0.0);
        let rate = Codec::Opus.sample_rate();
        let source = loudness_lufs(&Pcm::new(rate, 1, meant));
        let received = loudness_lufs(&Pcm::new(rate, 1, heard.to_vec()));
        if let (Some(source), Some(received)) = (source, received) {
            findings.check(
                "loudness",
                (received - source - gain_db).abs() <= LOUDNESS_TOLERANCE_LU,
                format!("{received:.1} LUFS; the prompt {source:.1} LUFS, gain {gain_db:+.1} dB"),
            );
        }
        Ok(Self { sound, findings: findings.0, hearing })
    }

    /// Whether everything that was checked holds.
    pub(super) fn heard(&self) -> bool {
        self.findings.iter().all(|finding| finding.holds != Some(false))
    }
}

/// The sample with which the prompt begins: the first one, unless default music played until the prompt was ready.
fn music_begins(told: &Told, hearing: &Hearing, rate: u32) -> usize {
    let latency = told.operation.pointer("/holdMusic/promptReadyMs").and_then(Value::as_f64);
    let first = told.operation.pointer("/holdMusic/firstPacketLatencyMs").and_then(Value::as_f64);
    let Some(main) = hearing.main() else { return 0 };
    match (latency, first) {
        (Some(ready), Some(first)) if ready > first => {
            (told.completed.since(main.first_arrival).as_secs_f64() * f64::from(rate)) as usize
        }
        _ => 0,
    }
}

/// How like what was meant is what was heard, where something was: a tick that the engine left out for want of time is
/// silence at the receiver, and so it is told and not judged; a decoder needs two frames to find back into the music.
fn correlation_of_what_sounded(meant: &[f32], heard: &[f32]) -> f64 {
    let frame = Codec::Opus.samples_per_frame();
    let mut recovering = 0;
    let (mut meant_there, mut heard_there) = (Vec::new(), Vec::new());
    for (meant, heard) in meant.chunks(frame / 2).zip(heard.chunks(frame / 2)) {
        if heard.iter().all(|sample| *sample == 0.0) {
            recovering = 4;
        } else if recovering > 0 {
            recovering -= 1;
        } else {
            meant_there.extend_from_slice(meant);
            heard_there.extend_from_slice(heard);
        }
    }
    correlate(&meant_there, &heard_there)
}

/// How like itself the prompt is after one plain encoding and decoding by the same codec.
fn plain_correlation(prompt: &Loop) -> Result<f64, String> {
    let words = |error: holdmusic_codecs::EncodeError| error.to_string();
    let mut encoder = Codec::Opus.encoder(&EncoderSettings::default()).map_err(words)?;
    let mut decoder = Codec::Opus.decoder().map_err(words)?;
    let mut payload = vec![0; encoder.max_payload_len()];
    let mut decoded = Vec::new();
    for index in 0..prompt.frames() {
        let len = encoder.encode(prompt.frame(index), &mut payload).map_err(words)?;
        decoder.decode(Some(&payload[..len]), &mut decoded).map_err(words)?;
    }
    Ok(align(prompt.samples(), &decoded).correlation)
}

struct Findings(Vec<Finding>);

impl Findings {
    fn check(&mut self, name: &'static str, holds: bool, figure: String) {
        self.0.push(Finding { name, holds: Some(holds), figure });
    }

    fn tell(&mut self, name: &'static str, figure: String) {
        self.0.push(Finding { name, holds: None, figure });
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "What the participant received:\n")?;
        for Finding { name, holds, figure } in &self.findings {
            let sign = match holds {
                Some(true) => "✓",
                Some(false) => "✗",
                None => " ",
            };
            writeln!(f, "{sign} {name:<16} {figure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_left_out_is_not_held_against_the_music_but_other_music_is() {
        let music = |n: usize| (n as f32 * 0.37).sin() * 0.3 + (n as f32 * 0.011).sin() * 0.2;
        let meant: Vec<f32> = (0..32_000).map(music).collect();
        let mut heard = meant.clone();
        heard[8_000..8_960].fill(0.0);
        heard[8_960..9_400].iter_mut().for_each(|sample| *sample *= 0.3);
        assert!(correlation_of_what_sounded(&meant, &heard) > 0.999);
        heard[20_000..21_000].iter_mut().for_each(|sample| *sample = -*sample);
        assert!(correlation_of_what_sounded(&meant, &heard) < 0.95);
    }
}
