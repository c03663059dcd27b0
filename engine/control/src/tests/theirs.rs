//! Stories of several applications side by side: what is one's own, and how much of it one may have.

use super::*;
use crate::{
    WhepAsk, WhepResource,
    access::{Rate, Standing},
    ask::{CancelMedia, Invite, Mute, PlayPrompt},
    graph::{read_media_leg, read_prompt},
};

/// `desk` as another application's.
fn as_app<T>(desk: &mut Desk, caller: &Arc<Caller>, does: impl FnOnce(&mut Desk) -> T) -> T {
    let before = std::mem::replace(&mut desk.caller, Arc::clone(caller));
    let done = does(desk);
    desk.caller = before;
    done
}

fn standing(desk: &mut Desk, ask: Ask) -> (Result<Answer, Refusal>, Standing) {
    let request = desk.send(ask);
    let said = std::mem::take(&mut desk.said);
    let reply = said.into_iter().find_map(|output| match output {
        Output::Reply { request: to, result, standing } if to == request => Some((result, standing)),
        _ => None,
    });
    reply.expect("it is answered at once")
}

#[test]
fn nothing_of_a_call_can_be_read_or_done_by_another_application_or_tenant() {
    let mut desk = Desk::new();
    let who @ (call, participant) = desk.one("{}");
    let started = json(&desk.start(who, "", "").unwrap());
    let operation = crate::graph::operation_id(started["id"].as_str().unwrap()).unwrap();
    let query = Query::default;
    let offer = || read_media_leg(br#"{"rtp":{"address":"127.0.0.1:1","codec":"opus","payloadType":96}}"#);
    let asks: Vec<Box<dyn Fn() -> Ask>> = vec![
        Box::new(|| Ask::GetCall { call, query: query() }),
        Box::new(|| Ask::DeleteCall { call }),
        Box::new(|| Ask::KeepAlive { call }),
        Box::new(|| Ask::CreateParticipant { call, create: read_create_participant(b"{}").unwrap() }),
        Box::new(|| Ask::ListParticipants { call, query: query() }),
        Box::new(|| Ask::GetParticipant { call, participant, query: query() }),
        Box::new(|| Ask::DeleteParticipant { call, participant }),
        Box::new(|| Ask::PutMediaLeg { call, participant, offer: offer().unwrap() }),
        Box::new(|| Ask::GetMediaLeg { call, participant }),
        Box::new(|| Ask::DeleteMediaLeg { call, participant }),
        Box::new(|| Ask::Whep { call, participant, ask: WhepAsk::Look(None) }),
        Box::new(|| Ask::Whep { call, participant, ask: WhepAsk::Permit }),
        Box::new(|| Ask::Whep { call, participant, ask: WhepAsk::Open(offer().unwrap(), None) }),
        Box::new(|| Ask::Whep { call, participant, ask: WhepAsk::Listen(offer().unwrap(), None) }),
        Box::new(|| {
            let session = WhepResource::Leg("1-1".into());
            Ask::Whep { call, participant, ask: WhepAsk::Close(session, None) }
        }),
        Box::new(|| {
            let start = read_start_hold_music(b"{}").unwrap();
            Ask::StartHoldMusic { call, participant, start }
        }),
        Box::new(|| {
            let stop = read_stop_hold_music(b"").unwrap();
            Ask::StopHoldMusic { call, participant, stop }
        }),
        Box::new(|| Ask::MuteCall { call, mute: Mute { muted: true, client_context: None } }),
        Box::new(|| {
            let mute = Mute { muted: true, client_context: None };
            Ask::MuteParticipant { call, participant, mute }
        }),
        Box::new(|| {
            let prompts = vec![read_prompt("https://host/a.wav").unwrap()];
            Ask::PlayPrompt { call, play: PlayPrompt { prompts, client_context: None, audience: vec![] } }
        }),
        Box::new(|| Ask::CancelMedia {
            call,
            cancel: CancelMedia { client_context: None, stop_holds: true },
        }),
        Box::new(|| Ask::Invite { call, invite: Invite { identities: vec![], client_context: None } }),
        Box::new(|| Ask::ListOperations { call, query: query() }),
        Box::new(|| Ask::GetOperation { call, operation, query: query() }),
    ];
    let strangers = [
        caller("other", Limits::NONE),
        Arc::new(Caller::by_static_token(Identity::new("bot", "elsewhere"), Limits::NONE)),
    ];
    desk.said.clear();
    for (at, ask) in asks.iter().enumerate() {
        for stranger in &strangers {
            let refusal = as_app(&mut desk, stranger, |desk| desk.ask(ask())).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (403, "7505"), "{at}");
        }
    }
    assert_eq!(desk.heard(), "", "nothing happens");
    // What has ended is still somebody's.
    desk.ask(Ask::DeleteCall { call }).unwrap();
    let read = || Ask::GetOperation { call, operation, query: query() };
    assert_eq!(as_app(&mut desk, &strangers[0], |desk| desk.ask(read())).unwrap_err().code, "7505");
    assert!(desk.ask(read()).is_ok());
}

#[test]
fn a_list_of_calls_has_ones_own_and_notifications_are_for_whose_call_it_is() {
    let mut desk = Desk::new();
    desk.receiver_answers = false;
    let other = caller("other", Limits::NONE);
    let mine = desk.call("{}");
    let theirs = as_app(&mut desk, &other, |desk| desk.call("{}"));
    let list = |desk: &mut Desk| {
        let answer = desk.ask(Ask::ListCalls { query: Query::default() }).unwrap();
        let calls = json(&answer)["value"].as_array().unwrap().clone();
        calls.iter().map(|call| CallId::read(call["id"].as_str().unwrap()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut desk), [mine]);
    assert_eq!(as_app(&mut desk, &other, list), [theirs]);
    let told: Vec<_> = desk
        .said
        .iter()
        .filter_map(|output| match output {
            Output::Notify { call, owner, .. } => Some((*call, owner.app().to_owned())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(mine, "bot".to_owned()), (theirs, "other".to_owned())]);
}

#[test]
fn a_limit_is_one_applications_and_what_it_gives_back_it_has_again() {
    let mut desk = Desk::new();
    let limits = Limits { calls: Some(2), held: Some(1), ..Limits::NONE };
    let small = caller("small", limits);
    as_app(&mut desk, &small, |desk| {
        let (first, second) = (desk.one(r#"{"maxHeldParticipants":9}"#), desk.one("{}"));
        let body = br#"{"callbackUri":"https://bot.contoso.com/api"}"#;
        let create = || Ask::CreateCall(read_create_call(body).unwrap());
        let (result, standing) = standing(desk, create());
        let refusal = result.unwrap_err();
        assert_eq!((refusal.status, refusal.code, refusal.retry_after_s), (429, "TooManyRequests", Some(5)));
        assert!(refusal.message.contains("has 2 calls; its limit is 2 (max-calls)"), "{}", refusal.message);
        let fields = standing.fields().unwrap();
        assert_eq!(
            fields,
            (r#""calls";q=2, "held";q=1"#.to_owned(), r#""calls";r=0, "held";r=1"#.to_owned())
        );
        desk.start(first, "", "").unwrap();
        let refusal = desk.start(second, "", "").unwrap_err();
        assert!(
            refusal.message.contains("has 1 participants on hold; its limit is 1"),
            "{}",
            refusal.message
        );
        desk.stop(first).unwrap();
        desk.start(second, "", "").unwrap();
        desk.ask(Ask::DeleteCall { call: second.0 }).unwrap();
        desk.ask(create()).unwrap();
        desk.start(first, "", "").unwrap();
    });
    let free = desk.one("{}");
    desk.start(free, "", "").unwrap();
}

#[test]
fn prompts_count_for_whom_they_are_prepared_and_as_long_as_that_takes() {
    let mut desk = Desk::new();
    let small = caller("small", Limits { preparing: Some(1), ..Limits::NONE });
    let other = desk.one("{}");
    let (a, b) = as_app(&mut desk, &small, |desk| (desk.one("{}"), desk.one("{}")));
    as_app(&mut desk, &small, |desk| {
        desk.start(a, "a.wav", "").unwrap();
        let refusal = desk.start(b, "b.wav", "").unwrap_err();
        assert_eq!(refusal.status, 429);
        assert!(refusal.message.contains("has 1 prompts being prepared"), "{}", refusal.message);
        // The same prompt is prepared already.
        desk.start(b, "a.wav", "").unwrap();
    });
    desk.start(other, "b.wav", "").unwrap();
    as_app(&mut desk, &small, |desk| {
        // And that one for somebody else.
        desk.start(b, "b.wav", "").unwrap();
        desk.ready(1);
        desk.start(a, "c.wav", "").unwrap();
        assert!(desk.start(b, "d.wav", "").is_err());
        // Given up, and refused: each leaves room.
        desk.start(a, "a.wav", "").unwrap();
        desk.start(b, "d.wav", "").unwrap();
        desk.fail(4);
        desk.start(a, "e.wav", "").unwrap();
    });
    assert_eq!(read_prompt("https://host/e.wav").map(|prompt| prompt.resource_id), Ok(None));
}

#[test]
fn requests_that_come_too_fast_do_nothing_and_what_cannot_be_read_counts_too() {
    let mut desk = Desk::new();
    let limits = Limits { rate: Rate::per_second(2.0), ..Limits::NONE };
    let hasty = caller("hasty", limits);
    as_app(&mut desk, &hasty, |desk| {
        let refused = Ask::Refused(Refusal::unknown_path("/nowhere"));
        let (result, standing) = standing(desk, refused);
        assert_eq!(result.unwrap_err().status, 404);
        assert_eq!(standing.fields().unwrap().1, r#""requests";r=1;t=1"#);
        assert!(desk.ask(Ask::CheckPrompt).is_ok());
        let body = br#"{"callbackUri":"https://bot.contoso.com/api"}"#;
        let refusal = desk.ask(Ask::CreateCall(read_create_call(body).unwrap())).unwrap_err();
        assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(1)));
        assert_eq!(desk.control.counts().calls, 0);
        desk.pass(500);
        desk.call("{}");
    });
    assert!(desk.ask(Ask::CheckPrompt).is_ok(), "others are not slowed down");
}
