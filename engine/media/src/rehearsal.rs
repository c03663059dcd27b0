//! [`rehearse`]: a prompt that can be played goes in, and what its listeners will get for ever goes out: the closed
//! loop, its bytes, and how its joins sound when they are decoded.

use std::sync::Arc;

use holdmusic_codecs::{Codec, EncodeError, FRAME_MS, Join, Level, Loop, LoopPoints, level::measure_loop};

use crate::{
    prepare::Prepared,
    ring::{At, Reader},
    source::Progress,
};

/// A prompt as it is played.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// How loud it is sent.
    pub level: Level,
    /// Frames that are heard once, before the loop.
    pub intro_frames: usize,
    /// Frames in one lap of the loop.
    pub lap_frames: usize,
    /// How often the clip sounds in one lap.
    pub turns: usize,
    /// Bytes of payload in one lap; `None` if there was no time to encode all of it.
    pub lap_bytes: Option<u64>,
    /// What a receiver hears where things were put together; `None` if there was no time to encode all of it.
    pub joins: Option<Joins>,
}

/// Where an end was put to a beginning, as a receiver decodes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Joins {
    /// Where the music begins again: of the first two laps the place that sticks out most.
    pub seam: Join,
    /// Where the ring turns back, in the middle of the music: the encoder's memory must be the same there.
    pub turn_back: Join,
}

impl Joins {
    /// How much the worse of the two sticks out of the music around it, in dB: see [`Join`].
    pub fn click_db(&self) -> f64 {
        self.seam.click_db().max(self.turn_back.click_db())
    }
}

impl Rehearsal {
    /// How long one lap is, in seconds.
    pub fn lap_seconds(&self) -> f64 {
        self.lap_frames as f64 * f64::from(FRAME_MS) / 1000.0
    }

    /// Bits of payload in a second.
    pub fn bit_rate(&self) -> Option<f64> {
        self.lap_bytes.map(|bytes| bytes as f64 * 8.0 / self.lap_seconds())
    }
}

/// Encodes a prompt to its end and listens to its joins. `points` are the recording's loop points that are followed,
/// with the rate that they count in. `go_on` is told how many frames are encoded, after each one, and ends the work by
/// saying no.
///
/// `None` for a prompt whose sound has not arrived as a whole.
///
/// # Errors
///
/// If the encoder or the decoder fails.
pub fn rehearse(
    prepared: Prepared,
    codec: Codec,
    points: Option<(LoopPoints, u32)>,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<Option<Rehearsal>, EncodeError> {
    let Prepared { reader, mut job, .. } = prepared;
    let Some(sound) = job.sound().map(Arc::clone) else { return Ok(None) };
    let mut rehearsal = Rehearsal {
        level: measure_loop(&sound),
        intro_frames: sound.intro_frames(),
        lap_frames: sound.frames(),
        turns: sound.turns(),
        lap_bytes: None,
        joins: None,
    };
    let mut written = 0;
    loop {
        match job.step(1)? {
            Progress::Working { frames } => written = frames,
            Progress::Closed => break,
            Progress::Waiting { .. } => return Ok(Some(rehearsal)),
        }
        if !go_on(written) {
            return Ok(Some(rehearsal));
        }
    }
    rehearsal.lap_bytes = Some(lap_bytes(&reader, &sound));
    let seams = seams(&sound, codec, points).into_iter().map(|place| heard(&reader, codec, place));
    let seams = seams.collect::<Result<Vec<_>, _>>()?;
    // The last step closed the loop, with one frame more. Frames overlap by 2.5 ms: the joint is in their middle.
    let turn_back = usize::try_from(written + 1).expect("in memory") * codec.samples_per_frame();
    let turn_back = heard(&reader, codec, turn_back + codec.sample_rate() as usize / 800)?;
    let worst = seams.into_iter().max_by(|one, other| one.click_db().total_cmp(&other.click_db()));
    rehearsal.joins = worst.map(|seam| Joins { seam, turn_back });
    Ok(Some(rehearsal))
}

fn lap_bytes(reader: &Reader, sound: &Loop) -> u64 {
    let intro = sound.intro_frames();
    let lap = intro..intro + sound.frames();
    lap.map(|position| payload(reader, position as u64).len() as u64).sum()
}

fn payload(reader: &Reader, position: u64) -> Vec<u8> {
    // RFC 6716 section 3.4: no Opus frame is longer than 1275 bytes.
    let mut payload = vec![0; 1280];
    match reader.at(position, &mut payload) {
        At::Frame(len) => payload.truncate(len),
        At::NotYet | At::Gone => payload.clear(),
    }
    payload
}

/// Where the music begins again in the first two laps, in samples that a decoder has given.
fn seams(sound: &Loop, codec: Codec, points: Option<(LoopPoints, u32)>) -> Vec<usize> {
    let turn = sound.samples().len() as f64 / sound.turns() as f64;
    let first = match points {
        Some((points, rate)) if points.start > 0 => {
            points.end as f64 * f64::from(codec.sample_rate()) / f64::from(rate)
        }
        _ => turn,
    };
    let last = sound.turns() - 1;
    let mut seams = vec![0, last, last + sound.turns()];
    seams.dedup();
    let behind_delay = |seam: usize| (first + seam as f64 * turn).round() as usize + codec.delay_samples();
    seams.into_iter().map(behind_delay).collect()
}

/// A second of run-in, so that a decoder that starts in the middle knows what one from the beginning would know.
const RUN_IN: usize = 50;
/// Frames decoded behind a join: 0.2 s and what the decoder is behind.
const BEHIND: usize = 12;

fn heard(reader: &Reader, codec: Codec, place: usize) -> Result<Join, EncodeError> {
    let frame = codec.samples_per_frame();
    let from = (place / frame).saturating_sub(RUN_IN);
    let mut decoder = codec.decoder()?;
    let mut sound = Vec::new();
    for position in from..=place / frame + BEHIND {
        decoder.decode(Some(&payload(reader, position as u64)), &mut sound)?;
    }
    Ok(Join::inside(&sound, place - from * frame, codec.sample_rate()))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use holdmusic_codecs::click::AUDIBLE_DB;

    use super::*;
    use crate::prepare::{PrepareSettings, prepare};

    /// A WAV of 16-bit PCM, mono at 16 kHz.
    fn wav(samples: impl Iterator<Item = f64>) -> Vec<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "within ±1")]
        let data: Vec<u8> = samples.flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
        let len = u32::try_from(data.len()).unwrap();
        let mut file = b"RIFF".to_vec();
        file.extend((36 + len).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
        file.extend(len.to_le_bytes());
        file.extend(data);
        file
    }

    fn rehearsed(file: &[u8], points: Option<(LoopPoints, u32)>) -> Rehearsal {
        let prepared = prepare(file, Codec::Opus, &PrepareSettings::default(), &|| true).unwrap();
        rehearse(prepared, Codec::Opus, points, &|_| true).unwrap().unwrap()
    }

    fn sine(periods: f64) -> Vec<u8> {
        let len = (periods * 40.0) as usize;
        wav((0..len).map(|n| (TAU * n as f64 / 40.0).sin() * 0.3))
    }

    /// The very joins that the measure's own tests have: whole periods of 400 Hz and half a one more.
    #[test]
    fn a_sine_of_whole_periods_has_no_seam_in_what_is_heard_and_half_a_period_has() {
        for periods in [600.0, 777.0, 801.0] {
            let found = rehearsed(&sine(periods), None);
            let click = found.joins.as_ref().unwrap().click_db();
            assert!(click < 3.0, "{periods} periods: {click}");
            assert_eq!(found.lap_bytes, Some(found.lap_frames as u64 * 80));
            assert_eq!(found.bit_rate(), Some(32_000.0));
        }
        for periods in [600.5, 777.5] {
            let joins = rehearsed(&sine(periods), None).joins.unwrap();
            assert!(joins.seam.click_db() > AUDIBLE_DB, "{periods} periods: {}", joins.seam.click_db());
            // In the middle of the music nothing was put together but frames.
            assert!(joins.turn_back.click_db() < 3.0, "{periods} periods: {}", joins.turn_back.click_db());
        }
    }

    #[test]
    fn what_is_played_is_at_the_target() {
        let found = rehearsed(&sine(1_000.0), None);
        assert!((found.level.lufs.unwrap() + 20.0).abs() < 0.1, "{found:?}");
        assert!(found.level.true_peak_dbtp < -2.0);
        assert_eq!((found.lap_frames, found.turns), (125, 1));
    }

    #[test]
    fn what_takes_too_long_is_left_unfinished() {
        let prepared = prepare(&sine(1_000.0), Codec::Opus, &PrepareSettings::default(), &|| true).unwrap();
        let found = rehearse(prepared, Codec::Opus, None, &|frames| frames < 60).unwrap().unwrap();
        assert_eq!((found.lap_bytes, found.joins, found.lap_frames), (None, None, 125));
    }

    /// An intro of noise, then whole periods between the points: the join is found where the points put it.
    #[test]
    fn a_join_between_loop_points_is_listened_to() {
        let sound = |last: usize| {
            let intro = (0..4_000usize).map(|n| (n * 7_919 % 1_000) as f64 / 5_000.0 - 0.1);
            let tone = (0..last).map(|n| (TAU * n as f64 / 40.0).sin() * 0.3);
            let mut file = wav(intro.chain(tone));
            let mut smpl = [0u8; 60];
            smpl[28] = 1;
            smpl[44..48].copy_from_slice(&4_000u32.to_le_bytes());
            let end = u32::try_from(4_000 + last - 1).unwrap();
            smpl[48..52].copy_from_slice(&end.to_le_bytes());
            file.extend(b"smpl");
            file.extend(60u32.to_le_bytes());
            file.extend(smpl);
            (file, Some((LoopPoints { start: 4_000, end: 4_000 + last }, 16_000)))
        };
        let click = |last| {
            let (file, points) = sound(last);
            let found = rehearsed(&file, points);
            assert!(found.intro_frames > 0);
            found.joins.unwrap().click_db()
        };
        assert!(click(32_000) < 3.0, "{}", click(32_000));
        assert!(click(32_020) > AUDIBLE_DB, "{}", click(32_020));
    }
}
