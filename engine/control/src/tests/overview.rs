//! What an application's operators see at a glance: their own, newest first, without secrets, and never more than so much.

use super::*;

/// The rows of the overview by their names.
fn rows(desk: &mut Desk) -> BTreeMap<String, Value> {
    let answer = desk.ask(Ask::Overview { again: false }).unwrap();
    let rows = answer.body.unwrap();
    let parts = rows.lines().map(|line| line.split_once(' ').unwrap());
    parts.map(|(name, row)| (name.to_owned(), serde_json::from_str(row).unwrap())).collect()
}

fn of_kind<'a>(rows: &'a BTreeMap<String, Value>, kind: &str) -> Vec<&'a Value> {
    rows.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, row)| row).collect()
}

#[test]
fn a_hold_is_seen_from_its_start_to_its_end_and_without_the_secrets_of_its_urls() {
    let mut desk = Desk::new();
    let who @ (call, participant) = desk.one("{}");
    desk.start(who, "a.wav?signature=secret", "context").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    let seen = rows(&mut desk);
    let person = &seen[&format!("participant/{participant}")];
    assert_eq!((&person["state"], &person["prompt"]), (&"playing".into(), &"https://host/a.wav?…".into()));
    assert_eq!(person["plays"], person["prompt"]);
    assert_eq!(person["leg"]["remoteAddress"], "127.0.0.1:40000");
    assert_eq!(seen[&format!("call/{call}")]["callbackUri"], "https://bot.contoso.com/api?…");
    assert_eq!(seen["totals"], serde_json::json!({ "calls": 1, "held": 1, "preparing": 0, "callsShown": 1 }));
    let prompt = &seen["prompt/1"];
    assert_eq!((&prompt["holds"], &prompt["isReady"]), (&1.into(), &true.into()));
    let [operation] = of_kind(&seen, "operation/")[..] else { panic!("{seen:?}") };
    assert_eq!((&operation["kind"], &operation["status"]), (&"startHoldMusic".into(), &"completed".into()));
    assert!(!format!("{seen:?}").contains("secret") && !format!("{seen:?}").contains("sig=1"));

    desk.stop(who).unwrap();
    let seen = rows(&mut desk);
    let person = &seen[&format!("participant/{participant}")];
    assert_eq!((&person["state"], &person["endedBy"]), (&"none".into(), &"stop".into()));
    assert_eq!(of_kind(&seen, "operation/").len(), 2);

    desk.ask(Ask::DeleteCall { call }).unwrap();
    let seen = rows(&mut desk);
    assert!(of_kind(&seen, "call/").is_empty() && of_kind(&seen, "participant/").is_empty());
    assert_eq!(of_kind(&seen, "operation/").len(), 2, "what was over last is still seen");
}

#[test]
fn nobody_sees_what_is_anothers() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.caller = caller("other", Limits::NONE);
    let seen = rows(&mut desk);
    let names: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["prompt/0", "totals"]);
    assert_eq!(seen["totals"]["calls"], 0);
}

#[test]
fn of_a_full_house_the_newest_are_seen_and_those_who_are_held_first() {
    let mut desk = Desk::new();
    let calls: Vec<_> = (0..130).map(|_| desk.call(r#"{"maxHeldParticipants":30}"#)).collect();
    let newest = calls[129];
    for _ in 0..25 {
        desk.participant(newest);
    }
    let last = desk.participant(newest);
    desk.start((newest, last), "", "").unwrap();
    for call in &calls[100..129] {
        for _ in 0..10 {
            desk.participant(*call);
        }
    }
    for _ in 0..20 {
        desk.start((newest, last), "", "again").unwrap();
        desk.stop((newest, last)).unwrap();
    }
    desk.start((newest, last), "", "").unwrap();
    let seen = rows(&mut desk);
    let shown = of_kind(&seen, "call/");
    assert_eq!(shown.len(), 100);
    assert!(shown.iter().all(|call| call["number"].as_u64().unwrap() > 30), "the newest");
    let theirs = |call: CallId| {
        of_kind(&seen, "participant/").iter().filter(|person| person["call"] == call.to_string()).count()
    };
    assert_eq!((theirs(newest), seen[&format!("call/{newest}")]["participants"].as_u64()), (20, Some(26)));
    assert_eq!(seen[&format!("participant/{last}")]["state"], "starting", "who is held stands first");
    assert_eq!(of_kind(&seen, "participant/").len(), 200);
    assert!(of_kind(&seen, "operation/").len() <= 100);
    let length: usize = seen.values().map(|row| row.to_string().len()).sum();
    assert!(length < 300_000, "{length} bytes");
}

#[test]
fn watching_counts_as_one_request_however_long_it_goes_on() {
    use crate::access::Rate;
    let mut desk = Desk::new();
    let rate = Rate::per_second(0.1);
    desk.caller = caller("app", Limits { rate, ..Limits::NONE });
    desk.ask(Ask::Overview { again: false }).unwrap();
    for _ in 0..100 {
        desk.ask(Ask::Overview { again: true }).unwrap();
    }
    assert_eq!(desk.ask(Ask::Overview { again: false }).unwrap_err().status, 429);
}

#[test]
fn long_addresses_and_names_are_cut_and_long_information_is_not_read() {
    let mut desk = Desk::new();
    let call = desk.call("{}");
    let named = |name: &str| {
        let body = serde_json::json!({ "info": { "identity": { "user": { "displayName": name } } } });
        read_create_participant(body.to_string().as_bytes()).unwrap()
    };
    for name in ["Ada", &"x".repeat(1_000), &"y".repeat(10_000)] {
        desk.ask(Ask::CreateParticipant { call, create: named(name) }).unwrap();
    }
    let seen = rows(&mut desk);
    let mut names: Vec<_> = of_kind(&seen, "participant/").iter().map(|row| row["name"].clone()).collect();
    names.sort_by_key(|name| name.as_str().map(str::len));
    assert_eq!((&names[0], &names[1]), (&Value::Null, &"Ada".into()));
    assert_eq!(names[2].as_str().unwrap().chars().count(), 81);
    let who = (call, desk.participant(call));
    desk.start(who, &format!("{}/end.wav", "p".repeat(1_000)), "").unwrap();
    let seen = rows(&mut desk);
    let prompt = seen[&format!("participant/{}", who.1)]["prompt"].as_str().unwrap();
    assert!(prompt.chars().count() == 161 && prompt.ends_with("/end.wav"), "{prompt}");
}

#[test]
fn after_a_restart_the_same_calls_are_seen() {
    let mut desk = Desk::with(Settings { durable: true, ..Settings::default() });
    let (call, participant) = desk.one("{}");
    let ended = desk.call("{}");
    desk.ask(Ask::DeleteCall { call: ended }).unwrap();
    desk.crash();
    let seen = rows(&mut desk);
    assert!(
        seen.contains_key(&format!("call/{call}"))
            && seen.contains_key(&format!("participant/{participant}"))
    );
    assert_eq!(of_kind(&seen, "call/").len(), 1);
}
