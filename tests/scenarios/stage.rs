//! What most stories begin with: a call, a participant with a phone, and prompts on the shelf.

use std::time::Duration;

use holdmusic_codecs::Pcm;
use holdmusic_media::MediaTime;
use holdmusic_tests::{Call, Likeness, Member, World, asset, reference};
use serde_json::{Value, json};

/// 9.6 s of music.
pub(crate) const MUSIC: &str = "https://prompts.test/music.wav";

/// 8 s of speech.
pub(crate) const SPEECH: &str = "https://prompts.test/speech.wav";

/// The files behind them.
pub(crate) const MUSIC_FILE: &str = "fixtures/music-16k.wav";
pub(crate) const SPEECH_FILE: &str = "fixtures/speech-8k.wav";
pub(crate) const DEFAULT_FILE: &str = "default-music.wav";

/// How long a start operation may take to end.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A world with both prompts.
pub(crate) fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    fill(&mut world);
    world
}

/// Puts both prompts on the shelf.
pub(crate) fn fill(world: &mut World) {
    world.shelf.put(MUSIC, &asset(MUSIC_FILE));
    world.shelf.put(SPEECH, &asset(SPEECH_FILE));
}

/// A world, a call with `rules` and one participant with a phone.
pub(crate) fn one(seed: u64, rules: Value) -> (World, Call, Member) {
    let mut world = world(seed);
    let call = world.call(rules);
    let member = newcomer(&mut world, &call);
    (world, call, member)
}

/// A participant with a phone of its own.
pub(crate) fn newcomer(world: &mut World, call: &Call) -> Member {
    let phone = world.new_phone();
    world.join(call, phone)
}

/// Starts; the id of the operation.
#[track_caller]
pub(crate) fn hold(world: &mut World, member: &Member, prompt: Option<&str>) -> String {
    world.start(member, prompt, None).expect(202).id().to_owned()
}

/// Starts, and time passes until the operation is over.
#[track_caller]
pub(crate) fn hold_and_wait(world: &mut World, member: &Member, prompt: Option<&str>) -> Value {
    let operation = hold(world, member, prompt);
    world.ended_within(&member.call, &operation, ENDS_WITHIN)
}

/// `resultInfo` as code and subcode.
pub(crate) fn result(operation: &Value) -> (u64, u64) {
    let result = &operation["resultInfo"];
    (result["code"].as_u64().unwrap_or(0), result["subcode"].as_u64().unwrap_or(0))
}

/// All went well.
pub(crate) const DONE: (u64, u64) = (200, 0);

/// The first `length` of what a recording becomes.
pub(crate) fn beginning(file: &str, length: Duration) -> Pcm {
    let whole = reference(&asset(file), 1);
    let samples = (length.as_secs_f64() * f64::from(whole.rate())) as usize;
    Pcm::new(whole.rate(), 1, whole.samples()[..samples].to_vec())
}

/// That what the phone of `member` heard from `from` on, for `length`, is the beginning of a recording, and begins
/// there but for a frame.
#[track_caller]
pub(crate) fn assert_hears(world: &World, member: &Member, from: MediaTime, length: Duration, file: &str) {
    // One frame more, for what the encoder looks ahead.
    let heard = world.phone(member.phone).sound_between(from, from + length + seconds(0.04));
    let found = Likeness::of(&beginning(file, length), &heard);
    assert!(found.correlation > 0.9, "{file}: {found:?}");
    assert!((0.0..=40.0).contains(&found.offset_ms), "{file}: {found:?}");
}

/// A member's `holdMusic`.
pub(crate) fn state(world: &mut World, member: &Member) -> Value {
    world.read_member(member)["holdMusic"].clone()
}

/// A call with the rules of the house.
pub(crate) fn no_rules() -> Value {
    json!({})
}
