//! Every fixture there is: those that are sound are decoded, and those that are not are refused for the right reason.

use std::{fs, path::Path};

use holdmusic_codecs::{DecodeError, DecodeLimits, decode, decode_mono};

/// Every recording below `assets/fixtures`, with its path from there; certificates are none.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fixtures");
    let mut files = Vec::new();
    let mut rooms = vec![home.clone()];
    while let Some(room) = rooms.pop() {
        for entry in fs::read_dir(room).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                rooms.extend(Some(path).filter(|path| !path.ends_with("tls")));
            } else {
                let name = path.strip_prefix(&home).expect("below it").to_str().expect("UTF-8");
                files.push((name.to_owned(), fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}

/// What is refused, and the words that a customer reads; everything else is played.
const REFUSED: &[(&str, &str)] = &[
    ("broken/alac.caf", "CAF with a codec that is not built in is not supported"),
    ("broken/bits-zero.wav", "0 bits"),
    ("broken/channels-65535.wav", "65535 channels"),
    ("broken/channels-zero.wav", "0 channels"),
    ("broken/cut-in-header.wav", "30 were found"),
    ("broken/data-empty.wav", "not one sample of sound"),
    ("broken/empty.wav", "0 bytes"),
    ("broken/html-page.wav", "an HTML page"),
    ("broken/no-data.wav", "data"),
    ("broken/no-fmt.wav", "fmt"),
    ("broken/rate-zero.wav", "0 Hz"),
    ("broken/silence.wav", "digital silence: every sample of its 0.500 seconds is the same"),
    ("broken/unsupported-tag.wav", "0x0055"),
    ("raw/tone.g722", "put it into a WAV"),
    ("raw/tone.sln", "put it into a WAV"),
    ("raw/tone.ulaw", "put it into a WAV"),
];

/// AAC is a feature.
const WITH_AAC: &[&str] = &["compressed/music.m4a", "tones/tone.aac", "tones/tone.m4a"];

#[test]
fn every_fixture_is_played_or_refused_for_the_right_reason() {
    let files = fixtures();
    assert!(files.len() > 70, "only {} fixtures", files.len());
    for (name, bytes) in &files {
        let mono = decode_mono(bytes, &DecodeLimits::default(), &|| true);
        let refused = REFUSED.iter().find(|(refused, _)| refused == name);
        if let Some((_, words)) = refused {
            let error = mono.expect_err(name).to_string();
            assert!(error.contains(words), "{name}: {error}");
        } else if !cfg!(feature = "aac") && WITH_AAC.contains(&name.as_str()) {
            assert!(matches!(mono, Err(DecodeError::Unsupported { .. })), "{name}: {mono:?}");
        } else {
            let recording = mono.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!((0.29..10.0).contains(&recording.pcm.seconds()), "{name}: {}", recording.pcm.seconds());
            let all = decode(bytes, &DecodeLimits::default()).expect(name);
            assert_eq!(all.pcm.channels(), recording.channels, "{name}");
        }
    }
    for (name, _) in REFUSED {
        assert!(files.iter().any(|(file, _)| file == name), "{name} is gone");
    }
}
