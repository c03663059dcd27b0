//! The fuzzers' corpus, played again with an ordinary compiler: what was found once is not met again.

use std::{fs, path::Path};

use holdmusic_codecs::{DecodeLimits, StreamDecoder, decode, decode_mono, wav};

/// The bytes behind so many that only steer the target.
fn corpus(target: &str, steering: usize) -> Vec<Vec<u8>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let read =
        |entry: std::io::Result<fs::DirEntry>| fs::read(entry.expect("an entry").path()).expect("a file");
    let files = fs::read_dir(home).expect("a corpus").map(read);
    files.filter(|file| file.len() > steering).map(|file| file[steering..].to_vec()).collect()
}

#[test]
fn nothing_in_the_corpus_does_harm() {
    let limits = DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() };
    let mut played = 0;
    for (target, steering) in [("wav", 1), ("decode", 1), ("opus_ogg", 2)] {
        let files = corpus(target, steering);
        assert!(!files.is_empty(), "{target}");
        for bytes in files {
            let _ = wav::read(&bytes, &limits);
            let whole = decode_mono(&bytes, &limits, &|| true);
            if let Ok(recording) = &whole {
                played += 1;
                assert!(recording.pcm.seconds() <= 5.0);
                assert!(recording.pcm.samples().iter().all(|sample| sample.is_finite()));
                let all = decode(&bytes, &limits).expect("the same with all channels");
                assert!(all.pcm.samples().len() <= 500_000);
            }
            let mut stream = StreamDecoder::new(&limits);
            if bytes.chunks(97).try_for_each(|piece| stream.push(piece)).is_err() {
                assert!(whole.is_err());
            } else {
                assert_eq!(stream.finish(&|| true), whole);
            }
        }
    }
    assert!(played >= 15, "only {played} files of the corpus are sound");
}
