//! Notifications by way of many receivers, prompt, slow and dead ones at random; and what is done with those that were
//! given up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use expect_test::expect;
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::receivers::Callback;

const RECEIVERS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    NewCall { receiver: usize },
    NewParticipant { call: usize },
    EndCall { call: usize },
    Outcome { which: usize, how: usize },
    Pass { millis: u64 },
    Redeliver { which: usize },
    RedeliverAll,
    Drop { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..RECEIVERS).prop_map(|receiver| Step::NewCall { receiver }),
        4 => any::<usize>().prop_map(|call| Step::NewParticipant { call }),
        2 => any::<usize>().prop_map(|call| Step::EndCall { call }),
        12 => (any::<usize>(), 0..4_usize).prop_map(|(which, how)| Step::Outcome { which, how }),
        4 => prop_oneof![Just(0), Just(20), Just(700), Just(3_000), Just(40_000), Just(700_000)]
            .prop_map(|millis| Step::Pass { millis }),
        1 => any::<usize>().prop_map(|which| Step::Redeliver { which }),
        1 => Just(Step::RedeliverAll),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
    ]
}

/// An attempt under way.
#[derive(Clone, Debug)]
struct Attempt {
    call: CallId,
    receiver: String,
    began: u64,
}

/// What the receivers know, made of outputs alone.
#[derive(Default)]
struct Around {
    under_way: BTreeMap<NotificationId, Attempt>,
    attempts: BTreeMap<NotificationId, u32>,
    accepted: BTreeSet<NotificationId>,
    /// No receiver may have more attempts begun than this, by the rules of the window.
    most: BTreeMap<String, u32>,
    /// Version of what was told last, by call.
    etags: BTreeMap<CallId, u64>,
    /// Given up once, and told again.
    again: BTreeSet<NotificationId>,
    /// Call and state of every accepted change of a call.
    states: Vec<(String, String)>,
    bodies: BTreeMap<NotificationId, Value>,
}

impl Around {
    fn hear(&mut self, desk: &mut Desk) -> Result<(), TestCaseError> {
        for output in std::mem::take(&mut desk.said) {
            let Output::Notify { notification, call, uri, body, attempt, .. } = output else { continue };
            let receiver = uri.origin().ascii_serialization();
            prop_assert!(
                self.under_way.values().all(|other| other.call != call),
                "two POSTs of a call at a time"
            );
            prop_assert!(!self.accepted.contains(&notification), "told again although it was accepted");
            let begun = self.under_way.values().filter(|other| other.receiver == receiver).count() as u32;
            let most = *self.most.entry(receiver.clone()).or_insert(8);
            prop_assert!(begun < most, "{begun} under way, at most {most} may be");
            prop_assert!(self.under_way.len() < desk.control.settings.max_attempts);
            self.under_way.insert(notification, Attempt { call, receiver, began: desk.millis });
            let attempts = self.attempts.entry(notification).or_default();
            *attempts += 1;
            prop_assert_eq!(*attempts, attempt);
            let body: Value = serde_json::from_str(&body).unwrap();
            if attempt == 1 {
                let data = &body["value"][0]["resourceData"];
                let etag = data["@odata.etag"].as_str().or(data[0]["@odata.etag"].as_str());
                if let Some(etag) = etag.filter(|_| !self.again.contains(&notification)) {
                    let etag = etag.trim_start_matches("W/\"").trim_end_matches('"').parse().unwrap();
                    let before = self.etags.insert(call, etag).unwrap_or_default();
                    prop_assert!(etag > before, "out of order");
                }
                self.bodies.insert(notification, body);
            } else {
                prop_assert_eq!(&self.bodies[&notification], &body, "a retry says what was said");
            }
        }
        Ok(())
    }

    fn end(&mut self, desk: &mut Desk, which: usize, how: usize) {
        let Some((&id, attempt)) = self.under_way.iter().nth(which % self.under_way.len().max(1)) else {
            return;
        };
        let attempt = attempt.clone();
        self.under_way.remove(&id);
        let outcome = match how {
            0 | 1 => DeliveryOutcome::Accepted,
            2 => DeliveryOutcome::Retry { reason: "503".into(), after: None },
            _ => DeliveryOutcome::Refused { reason: "410".into() },
        };
        let most = self.most.get_mut(&attempt.receiver).expect("it was tried");
        if how == 2 {
            *most = (*most / 2).max(1);
        } else if desk.millis - attempt.began <= 1_000 {
            *most = (*most + 1).min(64);
        }
        if outcome == DeliveryOutcome::Accepted {
            self.accepted.insert(id);
            let told = &self.bodies[&id]["value"][0]["resourceData"];
            if let Some(state) = told["state"].as_str() {
                self.states.push((told["id"].as_str().unwrap().to_owned(), state.to_owned()));
            }
        }
        desk.delivered(id, outcome);
    }
}

fn call_at(desk: &mut Desk, callback: &str) -> CallId {
    let create = read_create_call(format!(r#"{{"callbackUri":"{callback}"}}"#).as_bytes()).unwrap();
    let answer = desk.ask(Ask::CreateCall(create)).unwrap();
    CallId::read(json(&answer)["id"].as_str().unwrap()).unwrap()
}

fn listed(desk: &mut Desk) -> Vec<Value> {
    let answer = json(&desk.ask(Ask::ListUndelivered { query: Query::default() }).unwrap());
    answer["value"].as_array().unwrap().clone()
}

fn name_of(entry: &Value) -> NotificationId {
    NotificationId::read(entry["id"].as_str().unwrap()).unwrap()
}

fn run(steps: &[Step], settings: Settings) -> Result<(), TestCaseError> {
    let mut desk = Desk::with(settings);
    desk.receiver_answers = false;
    let mut around = Around::default();
    let (mut calls, mut ended, mut dropped) = (vec![], vec![], BTreeSet::new());
    for step in steps {
        match *step {
            Step::NewCall { receiver } => {
                calls.push(call_at(&mut desk, &format!("https://bot-{receiver}.example/api?sig=1")))
            }
            Step::NewParticipant { call } if !calls.is_empty() => {
                let create = read_create_participant(b"{}").unwrap();
                desk.send(Ask::CreateParticipant { call: calls[call % calls.len()], create });
            }
            Step::EndCall { call } if !calls.is_empty() => {
                let call = calls[call % calls.len()];
                if desk.ask(Ask::DeleteCall { call }).is_ok() {
                    ended.push(call);
                }
            }
            Step::Outcome { which, how } => around.end(&mut desk, which, how),
            Step::Pass { millis } => desk.pass(millis),
            Step::Redeliver { which } => {
                let entries = listed(&mut desk);
                if let Some(entry) = entries.get(which % entries.len().max(1))
                    && desk.ask(Ask::Redeliver { notification: name_of(entry) }).is_ok()
                {
                    around.again.insert(name_of(entry));
                }
            }
            Step::RedeliverAll => {
                let before: Vec<_> = listed(&mut desk).iter().map(name_of).collect();
                let told = json(&desk.ask(Ask::RedeliverAll).unwrap());
                let (left, dropped) =
                    (told["remaining"].as_u64().unwrap(), told["dropped"].as_u64().unwrap());
                prop_assert_eq!(told["redelivered"].as_u64().unwrap() + left + dropped, before.len() as u64);
                // Nothing was told yet that is told again: the attempts come after the answer.
                around.again.extend(before);
            }
            Step::Drop { which } => {
                let entries = listed(&mut desk);
                if let Some(entry) = entries.get(which % entries.len().max(1)) {
                    desk.ask(Ask::DropUndelivered { notification: name_of(entry) }).unwrap();
                    let told = &entry["body"]["value"][0]["resourceData"];
                    if let Some(state) = told["state"].as_str() {
                        dropped.insert((entry["callId"].as_str().unwrap().to_owned(), state.to_owned()));
                    }
                }
            }
            _ => {}
        }
        around.hear(&mut desk)?;
    }
    // From now on everybody answers.
    loop {
        around.hear(&mut desk)?;
        if !around.under_way.is_empty() {
            around.end(&mut desk, 0, 0);
        } else if desk.control.counts().notifications_pending > 0 {
            desk.pass(31_000);
        } else {
            break;
        }
    }
    let mut known: BTreeSet<(String, String)> = dropped;
    for (call, state) in &around.states {
        prop_assert!(known.insert((call.clone(), state.clone())), "{state} of {call} was accepted twice");
    }
    for entry in listed(&mut desk) {
        let told = &entry["body"]["value"][0]["resourceData"];
        if let Some(state) = told["state"].as_str() {
            let call = entry["callId"].as_str().unwrap().to_owned();
            prop_assert!(known.insert((call, state.to_owned())), "{state} was accepted, and is listed");
        }
    }
    for call in &calls {
        let states: &[&str] = if ended.contains(call) {
            &["established", "terminating", "terminated"]
        } else {
            &["established"]
        };
        for state in states {
            prop_assert!(
                known.contains(&(call.to_string(), (*state).to_owned())),
                "{state} of {call} is lost"
            );
        }
    }
    desk.pass(4_000_000);
    around.hear(&mut desk)?;
    prop_assert_eq!(desk.control.poll_timeout(), MediaTime::NEVER, "leaked timers");
    desk.control.notifications.check_nothing_is_left();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_notification_is_told_in_order_or_listed_and_windows_hold(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps, Settings::default())?;
    }

    #[test]
    fn the_same_holds_where_attempts_are_scarce(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps, Settings { max_attempts: 3, ..Settings::default() })?;
    }
}

/// A desk with a call whose receiver refuses everything, and what is listed of it.
fn refused() -> (Desk, CallId, ParticipantId) {
    let mut desk = Desk::new();
    desk.receiver_answers = false;
    let call = desk.call("{}");
    let participant = desk.participant(call);
    desk.said.retain(|output| matches!(output, Output::Notify { .. }));
    while let Some(Output::Notify { notification, .. }) = desk.said.pop() {
        desk.delivered(
            notification,
            DeliveryOutcome::Refused { reason: "the receiver answered 410 Gone".into() },
        );
    }
    desk.receiver_answers = true;
    (desk, call, participant)
}

#[test]
fn what_was_given_up_is_listed_with_its_body_and_without_secrets() {
    let (mut desk, call, _) = refused();
    let entries = listed(&mut desk);
    assert_eq!(entries.len(), 2);
    let Value::Object(mut first) = entries[0].clone() else { panic!("an object") };
    assert_eq!(first["callId"], call.to_string());
    let body = first.remove("body").unwrap();
    assert_eq!(body["value"][0]["resourceData"]["state"], "established");
    assert!(!format!("{first:?}").contains("sig"));
    first.remove("id");
    first.remove("callId");
    expect![[r#"{"attempts":1,"callbackUri":"https://bot.contoso.com/api?…","createdDateTime":"2023-11-14T22:13:20.000Z","givenUpDateTime":"2023-11-14T22:13:20.000Z","reason":"the receiver answered 410 Gone"}"#]]
        .assert_eq(&Value::Object(first).to_string());
    let page = Query::read("$top=1&$count=true").unwrap();
    let page = json(&desk.ask(Ask::ListUndelivered { query: page }).unwrap());
    assert_eq!((page["@odata.count"].as_u64(), page["value"].as_array().unwrap().len()), (Some(2), 1));
    let next = page["@odata.nextLink"].as_str().unwrap();
    assert!(
        next.starts_with("http://127.0.0.1:8080/v1.0/communications/notifications/undelivered?"),
        "{next}"
    );
    let one = Ask::GetUndelivered { notification: name_of(&entries[1]), query: Query::default() };
    assert_eq!(json(&desk.ask(one).unwrap())["id"], entries[1]["id"]);
}

#[test]
fn it_is_told_again_under_its_name_even_when_its_call_is_forgotten() {
    let (mut desk, call, _) = refused();
    let entries = listed(&mut desk);
    desk.ask(Ask::DeleteCall { call }).unwrap();
    desk.pass(4_000_000);
    assert_eq!(desk.control.counts().ended_calls, 0);
    desk.said.clear();
    let notification = name_of(&entries[0]);
    let answer = desk.ask(Ask::Redeliver { notification }).unwrap();
    assert_eq!((answer.status, json(&answer)["id"].clone()), (202, entries[0]["id"].clone()));
    let Some(Output::Notify { notification: told, body, uri, attempt: 2, .. }) = desk.said.last() else {
        panic!("{:?}", desk.said)
    };
    assert_eq!((*told, uri.query()), (notification, Some("sig=1")));
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), entries[0]["body"]);
    assert_eq!(listed(&mut desk).len(), 1);
    let refusal = desk.ask(Ask::Redeliver { notification }).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (404, "8522"));
}

#[test]
fn nobody_sees_or_tells_what_was_meant_for_another_application() {
    let (mut desk, ..) = refused();
    let notification = name_of(&listed(&mut desk)[0]);
    let mine = std::mem::replace(&mut desk.caller, caller("other", Limits::NONE));
    assert!(listed(&mut desk).is_empty());
    let query = Query::default();
    for ask in [
        Ask::GetUndelivered { notification, query },
        Ask::DropUndelivered { notification },
        Ask::Redeliver { notification },
    ] {
        assert_eq!(desk.ask(ask).unwrap_err(), Refusal::unknown_notification(notification));
    }
    let told = json(&desk.ask(Ask::RedeliverAll).unwrap());
    assert_eq!(told, serde_json::json!({ "redelivered": 0, "remaining": 0, "dropped": 0 }));
    desk.caller = mine;
    assert_eq!(listed(&mut desk).len(), 2);
}

#[test]
fn what_is_thrown_away_is_gone() {
    let (mut desk, ..) = refused();
    let notification = name_of(&listed(&mut desk)[0]);
    assert_eq!(desk.ask(Ask::DropUndelivered { notification }).unwrap().status, 204);
    assert_eq!(listed(&mut desk).len(), 1);
    for ask in [Ask::DropUndelivered { notification }, Ask::Redeliver { notification }] {
        assert_eq!(desk.ask(ask).unwrap_err().code, "8522");
    }
    let told = json(&desk.ask(Ask::RedeliverAll).unwrap());
    assert_eq!(told, serde_json::json!({ "redelivered": 1, "remaining": 0, "dropped": 0 }));
    assert!(listed(&mut desk).is_empty());
}

/// The receiver hangs with the first, so the roster that comes next is never tried.
#[test]
fn a_roster_that_was_never_written_tells_who_is_there_when_it_is_told_again_or_nothing() {
    let mut desk = Desk::with(Settings { max_owed_per_call: 1, ..Settings::default() });
    desk.receiver_answers = false;
    let call = desk.call("{}");
    let Some(Output::Notify { notification: first, .. }) = desk.said.pop() else { panic!("nothing is told") };
    desk.participant(call);
    let [entry] = &listed(&mut desk)[..] else { panic!("one is given up") };
    assert_eq!((&entry["body"], &entry["attempts"]), (&Value::Null, &0.into()));
    desk.receiver_answers = true;
    desk.delivered(first, DeliveryOutcome::Accepted);
    desk.said.clear();
    desk.ask(Ask::Redeliver { notification: name_of(entry) }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        notify updated roster [sendReceive:none]
    "#]],
    );

    desk.receiver_answers = false;
    desk.participant(call);
    let Some(Output::Notify { notification: second, .. }) = desk.said.pop() else {
        panic!("nothing is told")
    };
    desk.participant(call);
    let [entry] = &listed(&mut desk)[..] else { panic!("one is given up") };
    desk.receiver_answers = true;
    desk.delivered(second, DeliveryOutcome::Accepted);
    desk.ask(Ask::DeleteCall { call }).unwrap();
    let refusal = desk.ask(Ask::Redeliver { notification: name_of(entry) }).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8528"));
    let told = json(&desk.ask(Ask::RedeliverAll).unwrap());
    // The other one is the call's end, for which there was no room either.
    assert_eq!(told, serde_json::json!({ "redelivered": 1, "remaining": 0, "dropped": 1 }));
}

/// One receiver hangs with a thousand calls; whoever calls at another is told at once.
#[test]
fn a_receiver_that_never_answers_delays_nobody_else() {
    let mut desk = Desk::new();
    desk.receiver_answers = false;
    for _ in 0..1_000 {
        call_at(&mut desk, "https://dead.example/api");
    }
    let at_dead = |desk: &Desk| desk.said.iter().filter(|o| matches!(o, Output::Notify { .. })).count();
    assert_eq!(at_dead(&desk), 8, "and no more of its calls");
    desk.said.clear();
    let good: Vec<_> = (0..8).map(|_| call_at(&mut desk, "https://good.example/api")).collect();
    let told: Vec<_> = desk
        .said
        .iter()
        .filter_map(|output| match output {
            Output::Notify { call, .. } => Some(*call),
            _ => None,
        })
        .collect();
    assert_eq!(told, good);
}

/// Where a thousand calls wait for one attempt at a time, none waits for longer than it is tried.
#[test]
fn what_finds_no_turn_in_its_time_is_listed() {
    let mut desk = Desk::new();
    desk.receiver_answers = false;
    for _ in 0..100 {
        call_at(&mut desk, "https://dead.example/api");
    }
    let mut under_way = VecDeque::new();
    for _ in 0..70 {
        for output in std::mem::take(&mut desk.said) {
            if let Output::Notify { notification, .. } = output {
                under_way.push_back(notification);
            }
        }
        desk.pass(10_000);
        while let Some(notification) = under_way.pop_front() {
            desk.delivered(notification, DeliveryOutcome::Retry { reason: "no answer".into(), after: None });
        }
    }
    assert_eq!((desk.control.counts().notifications_pending, listed(&mut desk).len()), (0, 100));
    let untried = listed(&mut desk).into_iter().filter(|entry| entry["attempts"] == 0).count();
    assert!((20..=60).contains(&untried), "{untried}");
}

#[test]
fn one_receiver_cannot_take_all_the_room_of_the_others() {
    let mut desk = Desk::with(Settings { max_owed: 40, ..Settings::default() });
    desk.receiver_answers = false;
    for _ in 0..30 {
        call_at(&mut desk, "https://dead.example/api");
    }
    assert_eq!(desk.control.counts().notifications_pending, 20);
    let call = call_at(&mut desk, "https://good.example/api");
    let participant = desk.participant(call);
    assert!(desk.start((call, participant), "", "").is_ok());
    let call = call_at(&mut desk, "https://dead.example/api");
    let participant = desk.participant(call);
    assert_eq!(desk.start((call, participant), "", "").unwrap_err().status, 503);
}

#[test]
fn the_list_is_bounded_at_the_cost_of_who_has_most() {
    let mut given_up = crate::undelivered::GivenUp::default();
    let settings = Settings { max_undelivered: 10, max_undelivered_bytes: 1000, ..Settings::default() };
    let mut push = |id: u128, host: &str, bytes: usize| {
        let entry = crate::undelivered::Undelivered {
            notification: NotificationId(id),
            call: CallId(1),
            owner: Arc::new(Identity::new("bot", "tenant")),
            callback: Callback::new(Url::parse(&format!("https://{host}/api")).unwrap()),
            reason: String::new(),
            attempts: 1,
            created: WallTime(0),
            given_up: WallTime(0),
            body: Some("x".repeat(bytes).into()),
        };
        given_up.push(entry, &settings);
        given_up.iter().map(|entry| entry.notification.0).collect::<Vec<_>>()
    };
    push(1, "small", 10);
    for id in 2..20 {
        push(id, "large", 10);
    }
    assert_eq!(push(20, "small", 10), [1, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    let kept = push(21, "large", 960);
    assert_eq!(kept, [1, 18, 19, 20, 21]);
}
