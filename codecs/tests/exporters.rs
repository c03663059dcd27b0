//! What other people's programs write from one recording is that recording again: as long to the sample, in time, and
//! without a gap when it repeats. Their output is at hand in `assets/fixtures/exporters`; none of it was written by us.

use std::{fs, path::Path};

use holdmusic_codecs::{
    DecodeLimits, Loop, LoopPoints, Pcm, Recording, compare::correlate, decode_mono, resample,
};

fn read(name: &str) -> Recording {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fixtures/exporters");
    let bytes = fs::read(home.join(name)).expect(name);
    decode_mono(&bytes, &DecodeLimits::default(), &|| true).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn source() -> Pcm {
    read("source.wav").pcm
}

#[test]
fn what_is_lossless_comes_back_to_the_last_bit() {
    let source = source();
    for (name, format) in [
        ("flac.flac", "FLAC"),
        ("sox.aiff", "AIFF"),
        ("sox-float.aifc", "AIFF"),
        ("sox.caf", "CAF"),
        ("libsndfile-loop.wav", "WAV, PCM 16-bit"),
    ] {
        let recording = read(name);
        assert_eq!(recording.pcm, source, "{name}");
        assert_eq!(recording.format, format!("{format}, 44100 Hz, 1 channel"), "{name}");
        assert!(!recording.cut_short, "{name}");
    }
}

/// Encoders look ahead and pad; their headers say by how much, and what is left is the recording.
#[test]
fn what_is_lossy_is_as_long_as_the_recording_and_in_time_with_it() {
    for (name, format, least) in [
        ("lame-cbr.mp3", "MP3, 44100 Hz, 1 channel", 0.998),
        ("lame-vbr.mp3", "MP3, 44100 Hz, 1 channel", 0.998),
        ("lame-8k.mp3", "MP3, 8000 Hz, 1 channel", 0.98),
        ("oggenc.ogg", "Ogg Vorbis, 44100 Hz, 1 channel", 0.995),
        ("opusenc.opus", "Ogg Opus, 48000 Hz, 1 channel", 0.99),
    ] {
        let recording = read(name);
        let reference = resample(&source(), recording.pcm.rate());
        assert_eq!(recording.format, format, "{name}");
        assert_eq!(recording.pcm.len(), reference.len(), "{name}");
        let alike = correlate(reference.samples(), recording.pcm.samples());
        assert!(alike > least, "{name}: {alike}");
        assert!(!recording.cut_short, "{name}");
    }
    let joint = read("lame-joint-stereo.mp3");
    // LAME has chosen 32 kHz for so few bits.
    assert_eq!((joint.channels, joint.pcm.len()), (2, resample(&source(), 32_000).len()));
}

/// Without LAME's header nobody knows how much is padding: all of it is played.
#[test]
fn an_mp3_without_a_header_is_played_whole() {
    let recording = read("lame-no-header.mp3");
    assert_eq!(recording.pcm.len() % 1_152, 0);
    assert!(recording.pcm.len() > source().len());
}

/// 60 ms around the seam, in windows of 5 ms: a gap would be a window far quieter than the recording's own, and a loop
/// that is off by a few milliseconds would not be like it.
#[test]
fn a_looped_mp3_has_no_gap() {
    let around_the_seam = |pcm: &Pcm| -> Vec<f32> {
        let circle = Loop::new(pcm, 16_000, 320);
        // Where one turn ends and the next begins, a few turns on.
        let turn = pcm.len() as f64 * 16_000.0 / f64::from(pcm.rate());
        let seam = (turn * 2.0).round() as usize;
        circle.samples()[seam - 480..seam + 480].to_vec()
    };
    let ideal = around_the_seam(&source());
    for name in ["lame-cbr.mp3", "lame-vbr.mp3", "oggenc.ogg", "opusenc.opus"] {
        let heard = around_the_seam(&read(name).pcm);
        let alike = correlate(&ideal, &heard);
        assert!(alike > 0.98, "{name}: {alike}");
        let energy = |part: &[f32]| part.iter().map(|sample| sample * sample).sum::<f32>();
        for (ideal, heard) in ideal.chunks(80).zip(heard.chunks(80)) {
            let db = 10.0 * (energy(heard) / energy(ideal)).log10();
            assert!(db.abs() < 3.0, "{name}: {db} dB");
        }
    }
    // With its padding, as a player without gapless playback hears it, there is one.
    let heard = around_the_seam(&read("lame-no-header.mp3").pcm);
    assert!(correlate(&ideal, &heard) < 0.9);
}

#[test]
fn loop_points_that_another_program_wrote_are_followed() {
    let recording = read("libsndfile-loop.wav");
    assert_eq!(recording.loop_points, Some(LoopPoints { start: 3_000, end: 11_000 }));
    let (circle, ignored) = Loop::with_points(&recording.pcm, recording.loop_points, 16_000, 320);
    assert!(ignored.is_none() && circle.intro_frames() > 0);
}
