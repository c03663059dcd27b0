//! The corpora of the fuzzers, and what a run of them has found, played to the functions behind the targets by an ordinary
//! compiler: as they are, cut, and damaged. What was found once is not met again.

use std::{
    cell::RefCell,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Once,
};

use holdmusic_tests::hostile::{self, TARGETS};

/// Files of one corpus: it is for reaching everything, the fuzzer makes the rest.
const MAX_FILES: usize = 60;

/// The longest file of a corpus, in bytes.
const MAX_BYTES: u64 = 12_000;

/// Of each file so many are made by cutting it, and as many by changing one byte.
const VARIANTS: usize = 24;

thread_local! {
    /// Panics that are findings, in words.
    static FOUND: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Files of a directory with their names, in order; none if there is no such directory.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a directory can be read").path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file can be read")))
        .collect();
    files.sort();
    files
}

/// Keeps what panics say, also those that are caught where they happen.
fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !hostile::is_expected(panic) {
                FOUND.with_borrow_mut(|found| found.push(panic.to_string()));
                usual(panic);
            }
        }));
    });
}

/// Plays `input`; whether anything came of it.
#[track_caller]
fn play(target: hostile::Target, name: &str, input: &[u8]) -> bool {
    watch();
    let played = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    let found = FOUND.take();
    assert!(played.is_ok() && found.is_empty(), "{name}: {found:?}\nas it was played: {input:?}");
    played.unwrap_or(false)
}

/// Cut in many places, and with one byte changed in as many.
fn damaged(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = whole.len().div_ceil(VARIANTS).max(1);
    let places = (0..whole.len()).step_by(step);
    places.enumerate().flat_map(move |(number, at)| {
        let mut changed = whole.to_vec();
        // Bits, numbers at the edges of a byte, and letters.
        let to = [whole[at] ^ 1 << (number % 8), 0, 0xff, 0x7f, b'"', b'\'', b'='];
        changed[at] = to[number % to.len()];
        [whole[..at].to_vec(), changed]
    })
}

#[track_caller]
fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(other, _)| *other == name).expect("a target");
    let corpus = files(&home().join("corpus").join(name));
    let reached = corpus.iter().filter(|(name, input)| play(target, name, input)).count();
    assert!(
        reached * 3 >= corpus.len() && reached > 2,
        "of {} files only {reached} reach anything",
        corpus.len()
    );
    for (name, input) in files(&home().join("artifacts").join(name)) {
        play(target, &name, &input);
    }
    for (name, input) in &corpus {
        for input in damaged(input) {
            play(target, name, &input);
        }
    }
}

#[test]
fn recordings_do_no_harm() {
    replay("decode");
}

#[test]
fn wav_files_do_no_harm() {
    replay("wav");
}

#[test]
fn opus_packets_do_no_harm() {
    replay("opus_ogg");
}

#[test]
fn bodies_of_requests_are_read_or_refused() {
    replay("graph");
}

#[test]
fn queries_are_answered_or_refused() {
    replay("query");
}

#[test]
fn offers_lead_to_allowed_addresses_or_nowhere() {
    replay("offer");
    // Those of real equipment, with a new participant and in the middle of a hold.
    let offers = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/sdp"));
    let offers: Vec<_> = offers.into_iter().filter(|(name, _)| name.ends_with(".sdp")).collect();
    assert!(!offers.is_empty());
    for (name, offer) in offers {
        for manner in [0, 2] {
            let input = [&[manner], &offer[..]].concat();
            play(hostile::offer, &name, &input);
            for input in damaged(&input) {
                play(hostile::offer, &name, &input);
            }
        }
    }
}

#[test]
fn datagrams_to_a_sender_end_nothing_of_others() {
    replay("pacer");
}

#[test]
fn datagrams_to_a_webrtc_leg_are_answered_to_its_peer_alone() {
    replay("peers");
}

#[test]
fn datagrams_to_a_receiver_are_counted_and_take_bounded_memory() {
    replay("receiver");
}

#[test]
fn hostile_stores_are_read_or_refused_and_what_is_started_with_works() {
    replay("records");
}

#[test]
fn every_target_is_fuzzed_and_replayed_and_has_a_small_corpus() {
    let manifest = fs::read_to_string(home().join("Cargo.toml")).expect("the fuzzers' manifest");
    let tests = include_str!("main.rs");
    for (name, _) in TARGETS {
        assert!(home().join("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name}");
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "{name}");
        assert!(tests.contains(&format!("replay(\"{name}\")")), "{name}");
        let corpus = files(&home().join("corpus").join(name));
        assert!(corpus.len() <= MAX_FILES, "{name}: {}", corpus.len());
        for (file, bytes) in corpus {
            assert!(bytes.len() as u64 <= MAX_BYTES, "{file}");
        }
    }
    for (path, _) in files(&home().join("fuzz_targets")) {
        let name = Path::new(&path).file_stem().expect("it has a name").to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{path} is no target of hostile.rs");
    }
}
