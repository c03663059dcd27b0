//! Operations that are over: they leave memory once the store has them, and are read from there.

use super::*;

fn durable() -> Desk {
    Desk::with(Settings { durable: true, max_operations_per_call: 4, ..Settings::default() })
}

/// Starts and stops; the id of the start.
fn start_and_stop(desk: &mut Desk, who: (CallId, ParticipantId), context: &str) -> String {
    let started = json(&desk.start(who, "", context).unwrap())["id"].as_str().unwrap().to_owned();
    let leg = desk.control.calls[&who.0].participants[&who.1].leg.as_ref().unwrap().id.0;
    desk.started(leg, 0);
    desk.stop(who).unwrap();
    started
}

fn list(desk: &mut Desk, call: CallId, query: &str) -> Vec<String> {
    let query = Query::read(query).unwrap();
    let body = json(&desk.ask(Ask::ListOperations { call, query }).unwrap());
    let contexts =
        body["value"].as_array().unwrap().iter().map(|operation| operation["clientContext"].clone());
    contexts.map(|context| context.as_str().unwrap_or("-").to_owned()).collect()
}

fn read(desk: &mut Desk, call: CallId, operation: &str) -> Result<Value, Refusal> {
    let operation = crate::OperationId::read(operation).unwrap();
    desk.ask(Ask::GetOperation { call, operation, query: Query::default() }).map(|answer| json(&answer))
}

fn at_hand(desk: &Desk, call: CallId) -> usize {
    desk.control.calls[&call].operations.iter().count()
}

#[test]
fn an_operation_that_is_over_leaves_memory_and_is_read_from_the_store() {
    let mut desk = durable();
    let who = desk.one("{}");
    let first = start_and_stop(&mut desk, who, "first");
    assert_eq!((at_hand(&desk, who.0), desk.control.counts().operations), (0, 2));
    let told = read(&mut desk, who.0, &first).unwrap();
    assert_eq!((told["status"].as_str(), told["clientContext"].as_str()), (Some("completed"), Some("first")));
    assert_eq!(told["resultInfo"]["code"], 200);
    // One that a hold may repeat stays, and is in the same list, in its place.
    desk.start(who, "", "second").unwrap();
    let leg = desk.control.calls[&who.0].participants[&who.1].leg.as_ref().unwrap().id.0;
    desk.started(leg, 0);
    assert_eq!(at_hand(&desk, who.0), 1);
    assert_eq!(list(&mut desk, who.0, ""), ["first", "-", "second"]);
    assert_eq!(list(&mut desk, who.0, "$filter=clientContext eq 'first'"), ["first"]);
    assert_eq!(list(&mut desk, who.0, "$skip=1&$top=1"), ["-"]);
    let again = json(&desk.start(who, "", "second").unwrap());
    assert_eq!(again["clientContext"], "second");
    assert_eq!(desk.control.counts().operations, 3, "repeated, not made again");
    let unknown = read(&mut desk, who.0, "00000000-0000-4000-8000-000000000000").unwrap_err();
    assert_eq!((unknown.status, unknown.code), (404, "8522"));
}

#[test]
fn the_oldest_leave_the_store_beyond_the_limit_and_all_of_them_with_their_call() {
    let mut desk = durable();
    let who = desk.one("{}");
    let first = start_and_stop(&mut desk, who, "1");
    for context in ["2", "3"] {
        start_and_stop(&mut desk, who, context);
    }
    assert_eq!(list(&mut desk, who.0, ""), ["2", "-", "3", "-"]);
    assert_eq!(read(&mut desk, who.0, &first).unwrap_err().status, 404);
    let operations = |desk: &Desk| desk.store.durable.keys().filter(|key| key[0] == 4).count();
    assert_eq!(operations(&desk), 4);
    desk.ask(Ask::DeleteCall { call: who.0 }).unwrap();
    assert_eq!(list(&mut desk, who.0, "").len(), 4, "readable for the retention time");
    desk.pass(3_700_000);
    assert_eq!(operations(&desk), 0);
    assert_eq!(desk.control.counts().operations, 0);
}

#[test]
fn after_a_restart_they_are_where_they_were() {
    let mut desk = durable();
    let who = desk.one("{}");
    let first = start_and_stop(&mut desk, who, "first");
    desk.start(who, "", "second").unwrap();
    let leg = desk.control.calls[&who.0].participants[&who.1].leg.as_ref().unwrap().id.0;
    desk.started(leg, 0);
    let before = (list(&mut desk, who.0, ""), read(&mut desk, who.0, &first).unwrap());
    desk.crash();
    assert_eq!(at_hand(&desk, who.0), 1, "the one that the hold may repeat");
    assert_eq!((list(&mut desk, who.0, ""), read(&mut desk, who.0, &first).unwrap()), before);
    assert_eq!(desk.control.counts().operations, 3);
}

#[test]
fn a_stop_that_waits_for_its_report_stays_until_it_has_it() {
    let mut desk = durable();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    let leg = desk.control.calls[&who.0].participants[&who.1].leg.as_ref().unwrap().id;
    desk.started(leg.0, 0);
    desk.media_answers = false;
    let stop = read_stop_hold_music(b"").unwrap();
    let request = desk.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop });
    desk.pass(1_000);
    let stopped = json(&desk.reply(request).unwrap().unwrap())["id"].as_str().unwrap().to_owned();
    assert_eq!(at_hand(&desk, who.0), 1);
    let report = desk.report(leg);
    desk.tell(report);
    assert_eq!(at_hand(&desk, who.0), 0);
    assert_eq!(read(&mut desk, who.0, &stopped).unwrap()["holdMusic"]["report"]["packets"], 7);
}

#[test]
fn a_store_that_cannot_be_read_is_told() {
    let mut desk = durable();
    let who = desk.one("{}");
    let first = start_and_stop(&mut desk, who, "first");
    for (key, value) in desk.store.durable.iter_mut().filter(|(key, _)| key[0] == 4) {
        assert!(!key.is_empty());
        *value = Box::from(&[9][..]);
    }
    let refused = read(&mut desk, who.0, &first).unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.message.contains(&first), "{}", refused.message);
}
