//! What a held participant hears, compared with what was asked for.

use std::time::Duration;

use holdmusic_tests::{Likeness, World, asset, one_shot, reference, silences};
use serde_json::json;

const PROMPT: &str = "https://prompts.test/music.wav";

/// Three laps of 9.6 s, compared with the same three laps encoded and decoded once.
#[test]
fn a_held_participant_hears_the_prompt_from_its_first_sample_over_three_loops() {
    let mut world = World::new(1);
    let clip = asset("fixtures/music-16k.wav");
    world.shelf.put(PROMPT, &clip);
    let call = world.call(json!({}));
    let phone = world.new_phone();
    let alice = world.join(&call, phone);
    let asked = world.now();
    let operation = world.start(&alice, Some(PROMPT), Some("ctx")).expect(202);
    assert_eq!(operation.text("status"), "running");
    world.run(Duration::from_millis(3 * 9_600 + 200));

    // 20 ms of fetching, 5 ms of decoding, and a slot.
    let first = world.phone(phone).arrivals[0].at;
    assert!(first.since(asked) <= Duration::from_millis(30), "{:?}", first.since(asked));
    let expected = reference(&clip, 3);
    let heard = world.phone(phone).decode();
    let found = Likeness::of(&expected, &heard.sound);
    let best = Likeness::of(&expected, &one_shot(&expected));
    assert!((0.0..=20.0).contains(&found.offset_ms), "{found:?}");
    assert!(found.correlation >= best.correlation - 0.01, "{found:?}, one encoding leaves {best:?}");
    assert!(found.louder_lu.abs() <= 1.0, "{found:?}");
    assert_eq!(silences(&heard.sound, 100), []);
    assert_eq!(heard.concealed_s, 0.0);
}
