//! What a held participant hears, compared with what was asked for.

use std::time::Duration;

use holdmusic_codecs::{Pcm, align_loop};
use holdmusic_tests::{Likeness, Path, asset, one_shot, reference, silences};

use crate::stage::{
    DEFAULT_FILE, DONE, MUSIC, MUSIC_FILE, SPEECH_FILE, assert_hears, beginning, hold, hold_and_wait,
    newcomer, no_rules, one, result, seconds, world,
};

/// Three laps, compared with the same three laps encoded and decoded once: music at the rate of the codec, speech at
/// another one, and a clip that is shorter than a second.
#[test]
fn a_held_participant_hears_the_prompt_from_its_first_sample_over_three_loops() {
    for (seed, file) in [(1, MUSIC_FILE), (2, SPEECH_FILE), (3, "fixtures/kinds/pcm-16.wav")] {
        let (mut world, _, alice) = one(seed, no_rules());
        let clip = asset(file);
        let url = "https://prompts.test/this.wav";
        world.shelf.put(url, &clip);
        let expected = reference(&clip, 3);
        let asked = world.now();
        let operation = hold(&mut world, &alice, Some(url));
        world.run(seconds(expected.seconds() + 0.2));

        // 20 ms of fetching, 5 ms of decoding, and a slot.
        let first = world.taps().rtp[0].at;
        assert!(first.since(asked) <= Duration::from_millis(28), "{file}: {:?}", first.since(asked));
        let over = world.operation(&alice.call, &operation);
        assert_eq!(result(&over), DONE);
        let gain = over["holdMusic"]["gainDb"].as_f64().unwrap();
        let heard = world.phone(alice.phone).decode();
        let found = Likeness::of(&expected, &heard.sound);
        let best = Likeness::of(&expected, &one_shot(&expected));
        // One lap later or earlier is the same place.
        let phase_ms = found.offset_ms.rem_euclid(expected.seconds() * 1000.0 / 3.0);
        assert!((0.0..=20.0).contains(&phase_ms), "{file}: {found:?}");
        assert!(found.correlation >= best.correlation - 0.01, "{file}: {found:?}, at best {best:?}");
        assert!((found.louder_lu - gain).abs() <= 1.0, "{file}: {found:?}, reported {gain} dB");
        assert_eq!(heard.concealed_s, 0.0, "{file}");
        // Speech has pauses of 0.6 s.
        assert_eq!(silences(&heard.sound, 700), [], "{file}");
    }
}

#[test]
fn without_a_prompt_default_music_begins_at_once() {
    let (mut world, _, alice) = one(4, no_rules());
    let asked = world.now();
    let operation = hold_and_wait(&mut world, &alice, None);
    assert_eq!((operation["status"].as_str(), result(&operation)), (Some("completed"), DONE));
    assert_eq!(operation["holdMusic"]["source"], "default");
    world.run(seconds(6.0));
    let first = world.taps().rtp[0].at;
    assert!(first.since(asked) <= Duration::from_millis(2), "{:?}", first.since(asked));
    assert_hears(&world, &alice, first, seconds(5.0), DEFAULT_FILE);
    let sound = world.phone(alice.phone).decode().sound;
    assert_eq!(silences(&sound, 200), []);
}

/// The default music is longer than anybody's patience, so its seam is heard by who stays.
#[test]
fn the_default_music_comes_round_without_a_gap() {
    let (mut world, _, alice) = one(5, no_rules());
    hold(&mut world, &alice, None);
    world.run(seconds(200.0));
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
    let sound = world.phone(alice.phone).decode().sound;
    let circle = reference(&asset(DEFAULT_FILE), 1);
    let found = align_loop(circle.samples(), sound.samples());
    assert!(found.correlation > 0.95, "{found:?}");
    assert_eq!(silences(&sound, 300), []);
}

#[test]
fn what_is_asked_for_again_begins_from_its_beginning() {
    let (mut world, _, alice) = one(6, no_rules());
    for _ in 0..2 {
        hold(&mut world, &alice, Some(MUSIC));
        let asked = world.now();
        world.run(seconds(4.0));
        let first = world.phone(alice.phone).first_after(asked).unwrap().at;
        assert_hears(&world, &alice, first, seconds(3.0), MUSIC_FILE);
        world.stop(&alice).expect(202);
        world.run(seconds(1.3));
    }
    assert_eq!(world.shelf.fetches(MUSIC), 1, "a prompt that was heard a moment ago is still there");
}

/// A twentieth is lost, some come twice, and more than a packet interval of jitter makes them overtake each other.
#[test]
fn a_bad_network_costs_sound_but_not_time_and_does_not_disturb_the_engine() {
    let (mut world, _, alice) = one(7, no_rules());
    world.set_path(
        alice.phone,
        Path {
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(30),
            loss: 0.05,
            duplicates: 0.02,
            refused: false,
        },
    );
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(31.0));
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");

    let hearing = world.phone(alice.phone).hearing();
    let main = hearing.main().unwrap();
    assert!((30..=140).contains(&main.lost) && main.reordered > 20 && main.duplicates > 5, "{main:?}");
    // Five seconds at the beginning and five at the end stand at the same place of the loop as true time says.
    let (decoded, circle) = (world.phone(alice.phone).decode(), reference(&asset(MUSIC_FILE), 1));
    let period = i64::try_from(circle.len()).unwrap();
    let phase = |from: usize| {
        let found = align_loop(circle.samples(), &decoded.sound.samples()[from..from + 80_000]);
        assert!(found.correlation > 0.8, "{found:?}");
        (found.offset_samples + i64::try_from(from).unwrap()).rem_euclid(period)
    };
    let (early, late) = (phase(16_000), phase(25 * 16_000));
    let apart = (early - late).rem_euclid(period);
    assert!(apart.min(period - apart) <= 16, "{early} and {late}");
    assert!(decoded.concealed_s > 0.5 && decoded.realigned == 0, "{decoded:?}");
}

/// Ten calls of twenty, on two senders.
#[test]
fn two_hundred_participants_on_one_prompt_cost_one_preparation_and_all_hear_it() {
    let mut world = holdmusic_tests::World::with(8, |settings| settings.senders = 2);
    crate::stage::fill(&mut world);
    let mut held = vec![];
    for _ in 0..10 {
        let call = world.call(serde_json::json!({ "maxHeldParticipants": 20 }));
        for _ in 0..20 {
            held.push(newcomer(&mut world, &call));
        }
    }
    for member in &held {
        hold(&mut world, member, Some(MUSIC));
        world.run(Duration::from_micros(700));
    }
    world.run(seconds(3.0));
    assert_eq!((world.shelf.fetches(MUSIC), world.preparations()), (1, 1));
    assert_eq!(world.counts().starts_completed, 200);
    let senders: std::collections::BTreeSet<_> = world.taps().rtp.iter().map(|sent| sent.from).collect();
    assert_eq!(senders.len(), 2, "the load is shared");
    let first: Vec<_> =
        world.taps().to(held[0].phone).iter().map(|sent| sent.payload.clone()).take(140).collect();
    for member in &held {
        let packets = world.taps().to(member.phone);
        assert!(holdmusic_tests::Flow::of(&packets).is_one_piece(), "{member:?}");
        let payloads: Vec<_> = packets.iter().map(|sent| sent.payload.clone()).take(140).collect();
        assert!(payloads == first, "each hears the same from its own beginning");
    }
    let from = world.phone(held[199].phone).arrivals[0].at;
    assert_hears(&world, &held[199], from, seconds(2.5), MUSIC_FILE);
}

#[test]
fn a_phone_that_is_not_held_hears_nothing() {
    let mut world = world(9);
    let call = world.call(no_rules());
    let (alice, bob) = (newcomer(&mut world, &call), newcomer(&mut world, &call));
    hold(&mut world, &alice, None);
    world.run(seconds(10.0));
    assert!(world.phone(bob.phone).arrivals.is_empty());
}

/// What the other stories lean on: these ears hear a difference where there is one.
#[test]
fn these_ears_tell_sounds_apart() {
    let files = [MUSIC_FILE, SPEECH_FILE, DEFAULT_FILE];
    for file in files {
        let sound = beginning(file, seconds(5.0));
        for other in files.into_iter().filter(|other| *other != file) {
            let found = Likeness::of(&sound, &one_shot(&beginning(other, seconds(6.0))));
            assert!(found.correlation < 0.5, "{file} and {other}: {found:?}");
        }
        // Half as loud is 6 LU less; a tenth of a second left out moves everything behind it.
        let half = Pcm::new(16_000, 1, sound.samples().iter().map(|sample| sample / 2.0).collect());
        let found = Likeness::of(&sound, &half);
        assert!((found.louder_lu + 6.02).abs() < 0.05, "{file}: {found:?}");
        let cut = [&sound.samples()[..32_000], &sound.samples()[33_600..]].concat();
        let found = Likeness::of(&sound, &Pcm::new(16_000, 1, cut));
        assert!(found.correlation < 0.9, "{file}: {found:?}");
    }
}
