//! What the customer is told: in order, at least once, and whoever is slow waits alone.

use std::{collections::BTreeSet, time::Duration};

use holdmusic_tests::{Manner, Told};
use serde_json::json;

use crate::stage::{MUSIC, hold, hold_and_wait, newcomer, no_rules, one, seconds};

/// The names of what was told, each once.
fn names(told: &[Told]) -> BTreeSet<holdmusic_control::NotificationId> {
    told.iter().map(|told| told.notification).collect()
}

#[test]
fn a_notification_says_what_graph_documents() {
    let (mut world, call, alice) = one(501, no_rules());
    let operation = world.start(&alice, Some(MUSIC), Some("ctx")).expect(202).id().to_owned();
    world.run(seconds(1.0));
    let customer = world.customer(&call);
    let [end] = customer.ends_of(&operation)[..] else { panic!("told once: {:?}", customer.told) };
    let id = call.path.rsplit('/').next().unwrap();
    assert_eq!(end.what["resourceUrl"], format!("communications/calls/{id}/operations/{operation}"));
    let data = &end.what["resourceData"];
    assert_eq!(data["@odata.type"], "#microsoft.graph.startHoldMusicOperation");
    assert_eq!((&data["status"], &data["clientContext"]), (&json!("completed"), &json!("ctx")));
    assert_eq!((&data["resultInfo"]["code"], &data["resultInfo"]["subcode"]), (&json!(200), &json!(0)));
}

/// When the customer reads what it is told of, it finds it finished.
#[test]
fn what_is_told_can_be_read_before() {
    let (mut world, call, alice) = one(502, no_rules());
    let operation = hold(&mut world, &alice, Some(MUSIC));
    let until = world.now() + seconds(2.0);
    while world.customer(&call).ends_of(&operation).is_empty() {
        assert!(world.step(until));
    }
    let over = world.operation(&call.path, &operation);
    let told = world.customer(&call).ends_of(&operation)[0].what["resourceData"]["status"].clone();
    assert_eq!(over["status"], told);
}

#[test]
fn a_callback_that_fails_three_times_gets_everything_once_and_in_order() {
    let (mut world, call, alice) = one(503, no_rules());
    world.customer(&call).next_answers([Manner::Fails(seconds(0.01)); 3]);
    let mut operations = vec![];
    for _ in 0..3 {
        operations.push(hold(&mut world, &alice, Some(MUSIC)));
        world.run(seconds(0.3));
        world.stop(&alice).expect(202);
    }
    world.run(seconds(60.0));
    let customer = world.customer(&call);
    assert_eq!(names(&customer.told).len(), customer.told.len(), "nothing twice");
    assert_eq!(customer.attempts.len(), customer.told.len() + 3);
    assert_eq!(customer.told[0].what["resourceData"]["state"], "established");
    // The call's own beginning had been told before; what came next was tried four times, and nothing overtook it.
    let next = customer.attempts[1].notification;
    assert!(customer.attempts[1..5].iter().all(|attempt| attempt.notification == next), "no overtaking");
    let ends: Vec<_> = customer.told.iter().filter(|told| told.change() == "deleted").collect();
    let ended: Vec<_> = ends.iter().map(|told| told.resource_id().to_owned()).collect();
    assert_eq!(ended, operations);
    assert_eq!(world.counts().notifications_pending, 0);
}

#[test]
fn a_callback_that_takes_and_drops_gets_it_again_under_the_same_name() {
    let (mut world, call, alice) = one(504, no_rules());
    world.customer(&call).next_answers([Manner::TakesAndDrops, Manner::TakesAndDrops]);
    hold_and_wait(&mut world, &alice, None);
    world.run(seconds(20.0));
    // The call's own beginning had been told before.
    let told = &world.customer(&call).told[1..];
    let first = told[0].notification;
    assert_eq!(told.iter().filter(|told| told.notification == first).count(), 3);
    assert!(told[..3].iter().all(|told| told.notification == first), "the rest waits for it");
    assert!(told[..3].iter().all(|other| other.what == told[0].what), "word for word");
    assert_eq!(names(told).len(), told.len() - 2);
}

#[test]
fn a_slow_callback_of_one_call_does_not_delay_another() {
    let (mut world, slow, alice) = one(505, no_rules());
    world.customer(&slow).answers(Manner::Accepts(seconds(5.0)));
    let quick = world.call(no_rules());
    let bob = newcomer(&mut world, &quick);
    let (of_alice, of_bob) = (hold(&mut world, &alice, None), hold(&mut world, &bob, None));
    let asked = world.now();
    world.run(seconds(0.1));
    let told = world.customer(&quick).ends_of(&of_bob)[0].at;
    assert!(told.since(asked) <= Duration::from_millis(50), "{:?}", told.since(asked));
    assert!(world.customer(&slow).ends_of(&of_alice).is_empty());
    world.run(seconds(30.0));
    assert_eq!(world.customer(&slow).ends_of(&of_alice).len(), 1);
}

#[test]
fn a_dead_callback_is_given_up_at_last_and_does_not_touch_the_music() {
    let (mut world, call, alice) = one(506, no_rules());
    world.customer(&call).answers(Manner::Hangs);
    let operation = hold_and_wait(&mut world, &alice, Some(MUSIC));
    assert_eq!(operation["status"], "completed");
    world.run(Duration::from_secs(700));
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
    assert!(world.counts().notifications_undelivered >= 1);
    assert!(world.customer(&call).attempts.len() < 100, "with more and more patience");
}

#[test]
fn a_callback_that_refuses_one_thing_is_told_the_next() {
    let (mut world, call, alice) = one(507, no_rules());
    world.customer(&call).next_answers([Manner::Refuses]);
    let operation = hold(&mut world, &alice, None);
    world.run(seconds(2.0));
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
    assert_eq!(world.counts().notifications_undelivered, 1);
}
