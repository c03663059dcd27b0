//! The report as a table for people.

use std::fmt;

use holdmusic_control::graph::{Playable, PromptCheck};

/// A report and what the prompt was called.
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) check: &'a PromptCheck,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, check } = self;
        let verdict = if check.outcome.is_ok() { "can be played" } else { "CANNOT be played" };
        writeln!(f, "{name} {verdict}.\n")?;
        if let Ok(playable) = &check.outcome {
            recording(f, check, playable)?;
            played(f, playable)?;
        }
        if let (Some(ready), Ok(playable)) = (check.ready(), &check.outcome) {
            let fetch = check
                .fetch
                .map_or(String::new(), |fetch| format!("{:.1} ms to fetch it and ", millis(fetch)));
            let prepare = millis(playable.prepare);
            row(
                f,
                "ready",
                format_args!(
                    "after {:.1} ms: {fetch}{prepare:.1} ms to decode, level and encode its first frames",
                    millis(ready)
                ),
            )?;
        }
        let result = check.result();
        row(f, "an operation", format_args!("{}/{} {}", result.code, result.subcode, result.message))?;
        let notices = check.notices();
        if !notices.is_empty() {
            writeln!(f)?;
        }
        for notice in notices {
            writeln!(f, "! {}", notice.message)?;
        }
        Ok(())
    }
}

fn recording(f: &mut fmt::Formatter<'_>, check: &PromptCheck, playable: &Playable) -> fmt::Result {
    let inspection = &playable.inspection;
    let bytes = check.bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
    row(f, "recording", format_args!("{}; {:.3} s{bytes}", playable.format, inspection.seconds))?;
    let level = inspection.level;
    row(f, "loudness", format_args!("{}", loudness(level.lufs, level.true_peak_dbtp)))?;
    match inspection.clipping.first {
        Some(first) => {
            let at = first as f64 / f64::from(inspection.rate);
            let (runs, samples) = (inspection.clipping.runs, inspection.clipping.samples);
            row(f, "clipping", format_args!("{runs} runs, {samples} samples, the first at {at:.3} s"))?;
        }
        None => row(f, "clipping", format_args!("none"))?,
    }
    let (before, behind) = (inspection.silence_before * 1000.0, inspection.silence_behind * 1000.0);
    row(f, "silence", format_args!("{before:.0} ms at the beginning, {behind:.0} ms at the end"))?;
    row(f, "DC offset", format_args!("{:.2} %", near(inspection.dc_offset * 100.0, 100.0)))?;
    if let Some(db) = inspection.mix_db {
        row(f, "mixed to one", format_args!("{} against unrelated channels", decibels(db)))?;
    }
    match playable.loop_points {
        None => row(f, "loop points", format_args!("none; all of it repeats")),
        Some((points, ignored)) => {
            let rate = f64::from(inspection.rate);
            let (start, end) = (points.start as f64 / rate, points.end as f64 / rate);
            let used = if ignored.is_none() { "followed" } else { "passed over" };
            row(f, "loop points", format_args!("{start:.3} s to {end:.3} s, {used}"))
        }
    }
}

fn played(f: &mut fmt::Formatter<'_>, playable: &Playable) -> fmt::Result {
    let before = decibels(playable.before.click_db());
    let after = playable.click_after_db().map_or("not measured".to_owned(), decibels);
    row(f, "seam", format_args!("{after} as it is heard; {before} if the recording is simply repeated"))?;
    let rehearsal = &playable.rehearsal;
    if let Some(joins) = &rehearsal.joins {
        let turn_back = decibels(joins.turn_back.click_db());
        row(
            f,
            "turn-back",
            format_args!("{turn_back} where the encoded loop closes, in the middle of the music"),
        )?;
    }
    let level = loudness(rehearsal.level.lufs, rehearsal.level.true_peak_dbtp);
    row(f, "played at", format_args!("{level}, gain {}", decibels(playable.gain_db)))?;
    let lap = rehearsal.lap_seconds();
    let turns = match rehearsal.turns {
        1 => String::new(),
        turns => format!(" of {turns} turns"),
    };
    match (rehearsal.lap_bytes, rehearsal.bit_rate()) {
        (Some(bytes), Some(rate)) => row(
            f,
            "encoded",
            format_args!("Opus, {bytes} bytes a lap{turns} of {lap:.2} s, {:.1} kbit/s", rate / 1000.0),
        ),
        _ => row(
            f,
            "encoded",
            format_args!("Opus, a lap{turns} of {lap:.2} s; not encoded to its end in time"),
        ),
    }
}

fn loudness(lufs: Option<f64>, true_peak_dbtp: f64) -> String {
    let lufs = lufs.map_or("below -70 LUFS".to_owned(), |lufs| format!("{lufs:.1} LUFS"));
    format!("{lufs}, true peak {true_peak_dbtp:.1} dBTP")
}

fn decibels(value: f64) -> String {
    format!("{:+.1} dB", near(value, 10.0))
}

/// Rounded to a fraction of so many parts, and never to -0.
fn near(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts + 0.0
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<13} {value}")
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
