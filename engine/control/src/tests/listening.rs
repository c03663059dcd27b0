//! Stories of WHEP: a participant's own leg by another door, and who listens in on it.

use expect_test::expect;

use super::*;
use crate::{GrantId, ListenerId, WhepAsk, WhepResource, graph::read_media_leg, negotiation::MediaOffer};

/// Receives Opus.
pub(super) const LISTENER: &str = "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 45000 RTP/AVP 0 96\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\na=rtcp-mux\r\na=recvonly\r\n";

type Who = (CallId, ParticipantId);

fn whep(desk: &mut Desk, (call, participant): Who, ask: WhepAsk) -> Result<Answer, Refusal> {
    desk.ask(Ask::Whep { call, participant, ask })
}

fn listen(desk: &mut Desk, who: Who, grant: Option<u128>) -> Result<ListenerId, Refusal> {
    listen_with(desk, who, LISTENER, grant)
}

fn listen_with(desk: &mut Desk, who: Who, sdp: &str, grant: Option<u128>) -> Result<ListenerId, Refusal> {
    let ask = WhepAsk::Listen(MediaOffer::Sdp(sdp.to_owned()), grant.map(GrantId));
    let answer = whep(desk, who, ask)?;
    assert_eq!(answer.status, 201);
    assert!(answer.body.unwrap().contains("a=sendonly"));
    let location = answer.location.unwrap();
    let path = format!("{BASE}/communications/calls/{}/participants/{}/listeners/", who.0, who.1);
    Ok(ListenerId::read(location.strip_prefix(&path).unwrap()).unwrap())
}

fn hang_up(desk: &mut Desk, who: Who, listener: ListenerId, grant: Option<u128>) -> Result<u16, Refusal> {
    let ask = WhepAsk::Close(WhepResource::Listener(listener), grant.map(GrantId));
    whep(desk, who, ask).map(|answer| answer.status)
}

fn listeners(desk: &mut Desk, who: Who) -> Value {
    desk.read(who)["holdMusic"]["listeners"].clone()
}

#[test]
fn who_listens_in_has_a_leg_that_follows_and_is_in_no_roster() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let listener = listen(&mut desk, who, None).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            add leg 2 to 127.0.0.1:45000
            leg 2 follows leg 1
        "#]],
    );
    assert_eq!(listeners(&mut desk, who), 1);
    let roster = desk.ask(Ask::ListParticipants { call: who.0, query: Query::default() }).unwrap();
    assert_eq!(json(&roster)["value"].as_array().unwrap().len(), 1);
    desk.start(who, "", "").unwrap();
    desk.stop(who).unwrap();
    desk.said.clear();
    // A look says whether it is there; what is over is so once.
    let look = WhepAsk::Look(Some(WhepResource::Listener(listener)));
    assert_eq!(whep(&mut desk, who, look.clone()).unwrap().status, 204);
    assert_eq!(hang_up(&mut desk, who, listener, None), Ok(200));
    assert_eq!(hang_up(&mut desk, who, listener, None).unwrap_err().status, 404);
    assert_eq!(whep(&mut desk, who, look).unwrap_err().code, "8522");
    check(&mut desk, &expect![["remove leg 2\n"]]);
    assert_eq!(listeners(&mut desk, who), Value::Null);
    assert_eq!(desk.control.counts().listeners, 0);
    assert_eq!(desk.control.poll_timeout(), MediaTime::NEVER);
}

#[test]
fn there_must_be_something_to_listen_in_on_and_an_offer_that_can_be_sent_it() {
    let mut desk = Desk::new();
    let call = desk.call("{}");
    let create = read_create_participant(b"{}").unwrap();
    let answer = desk.ask(Ask::CreateParticipant { call, create }).unwrap();
    let nobody = (call, ParticipantId::read(json(&answer)["id"].as_str().unwrap()).unwrap());
    let refusal = listen(&mut desk, nobody, None).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8504"));
    let silent = read_media_leg(br#"{"rtp":{"address":"0.0.0.0:4000","payloadType":96}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant: nobody.1, offer: silent }).unwrap();
    assert_eq!(listen(&mut desk, nobody, None).unwrap_err().code, "8504");
    let who = (call, desk.participant(call));
    let ipv6 = LISTENER.replace("IP4", "IP6").replace("127.0.0.1", "::1");
    for (sdp, words) in [
        (LISTENER.replace("opus", "iLBC"), "opus"),
        (LISTENER.replace("recvonly", "sendonly"), "a=recvonly"),
        (LISTENER.replace("recvonly", "inactive"), "a=recvonly"),
        (ipv6, "IPv4"),
        (LISTENER.replace("127.0.0.1", "8.8.8.8"), "--allow-media"),
        ("hello".to_owned(), "The offer"),
    ] {
        let refusal = listen_with(&mut desk, who, &sdp, None).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (422, "8523"), "{sdp}");
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
    desk.said.clear();
    assert_eq!(listeners(&mut desk, who), Value::Null);
    let gone = (call, ParticipantId(7));
    assert_eq!(listen(&mut desk, gone, None).unwrap_err().status, 404);
    check(&mut desk, &expect![[""]]);
}

/// With the participant's leg, with the participant, with the call, with a socket of another family, by what the receiver says or
/// does not say, by time, and when the engine is to say goodbye.
/// What is copied is as long as the participant's packets.
#[test]
fn who_takes_no_long_packets_can_listen_in_on_short_ones_alone() {
    for (number, rtpmap) in [(96, "opus/48000/2"), (8, "PCMA/8000")] {
        for (is_short, limit, heard) in [
            (false, "", true),
            (false, "a=maxptime:10\r\n", false),
            (false, "a=maxptime:20\r\n", true),
            (true, "", true),
            (true, "a=maxptime:10\r\n", true),
            (true, "a=maxptime:60\r\n", true),
        ] {
            let mut desk = Desk::new();
            let who = desk.one("{}");
            let offer = |port: u16, limit: &str| {
                format!(
                    "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                     m=audio {port} RTP/AVP {number}\r\na=rtpmap:{number} {rtpmap}\r\n{limit}a=rtcp-mux\r\n"
                )
            };
            let leader = offer(40_000, if is_short { "a=maxptime:10\r\n" } else { "" });
            let body = serde_json::json!({ "sdp": leader }).to_string();
            let leader = read_media_leg(body.as_bytes()).unwrap();
            desk.ask(Ask::PutMediaLeg { call: who.0, participant: who.1, offer: leader }).unwrap();
            desk.said.clear();
            let came = listen_with(&mut desk, who, &offer(45_000, limit), None);
            let what = format!("{rtpmap}, {is_short}, {limit}");
            match came {
                Ok(_) => assert!(heard, "{what}"),
                Err(refusal) => {
                    assert!(!heard, "{what}: {refusal:?}");
                    assert!(refusal.message.contains("is sent packets of 20"), "{}", refusal.message);
                    continue;
                }
            }
            let codecs: Vec<_> = desk
                .said
                .iter()
                .filter_map(|said| match said {
                    Output::AddLeg { spec, .. } => Some(spec.codec.frame_ms()),
                    _ => None,
                })
                .collect();
            assert_eq!(codecs, [if is_short { 10 } else { 20 }], "{what}");
        }
    }
}

#[test]
fn listening_ends_with_what_is_listened_to() {
    type End = (&'static str, fn(&mut Desk, Who));
    let ends: [End; 8] = [
        ("leg removed", |desk, (call, participant)| {
            desk.ask(Ask::DeleteMediaLeg { call, participant }).unwrap();
        }),
        ("participant removed", |desk, (call, participant)| {
            desk.ask(Ask::DeleteParticipant { call, participant }).unwrap();
        }),
        ("call deleted", |desk, (call, _)| {
            desk.ask(Ask::DeleteCall { call }).unwrap();
        }),
        ("other socket", |desk, (call, participant)| {
            let offer = read_media_leg(br#"{"rtp":{"address":"[::1]:4000","payloadType":96}}"#).unwrap();
            desk.ask(Ask::PutMediaLeg { call, participant, offer }).unwrap();
        }),
        ("goodbye", |desk, _| desk.tell(Input::Bye { leg: LegId(2) })),
        ("unreachable", |desk, _| desk.tell(Input::Unreachable { leg: LegId(2) })),
        ("eight hours", |desk, _| desk.pass(8 * 3_600_000)),
        ("drain", |desk, _| desk.tell(Input::Drain)),
    ];
    for (how, end) in ends {
        let on_restart = crate::settings::OnRestart::End;
        let mut desk = Desk::with(Settings { on_restart, ..Settings::default() });
        let who = desk.one("{}");
        let listener = listen(&mut desk, who, None).unwrap();
        desk.start(who, "", "").unwrap();
        desk.started(1, 0);
        desk.said.clear();
        end(&mut desk, who);
        let heard = desk.heard();
        assert!(heard.contains("remove leg 2\n"), "{how}: {heard}");
        let held = desk.control.counts().held;
        let goes_on = matches!(how, "other socket" | "goodbye" | "unreachable" | "eight hours");
        assert_eq!(held, u64::from(goes_on), "{how}: the hold is none of its business");
        assert!(hang_up(&mut desk, who, listener, None).is_err(), "{how}");
        assert_eq!(desk.control.counts().listeners, 0, "{how}");
    }
}

#[test]
fn a_renegotiation_that_changes_only_where_to_is_not_noticed() {
    let mut desk = Desk::new();
    let who @ (call, participant) = desk.one("{}");
    listen(&mut desk, who, None).unwrap();
    desk.said.clear();
    let offer = read_media_leg(br#"{"rtp":{"address":"127.0.0.1:4444","payloadType":96}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant, offer }).unwrap();
    check(&mut desk, &expect![["change leg 1 to 127.0.0.1:4444\n"]]);
    assert_eq!(listeners(&mut desk, who), 1);
}

#[test]
fn a_token_lets_one_in_at_a_time_and_hangs_up_only_what_it_let_in() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let others = listen(&mut desk, who, None).unwrap();
    let first = listen(&mut desk, who, Some(1)).unwrap();
    desk.said.clear();
    let second = listen(&mut desk, who, Some(1)).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            remove leg 3
            add leg 4 to 127.0.0.1:45000
            leg 4 follows leg 1
        "#]],
    );
    assert_eq!(hang_up(&mut desk, who, first, Some(1)).unwrap_err().status, 404);
    for (listener, grant) in [(others, 1), (second, 2)] {
        let refusal = hang_up(&mut desk, who, listener, Some(grant)).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (403, "7504"));
    }
    assert_eq!(hang_up(&mut desk, who, second, Some(1)), Ok(200));
    // The application may end any.
    assert_eq!(hang_up(&mut desk, who, others, None), Ok(200));
    // A refused offer does not end what was there.
    let third = listen(&mut desk, who, Some(1)).unwrap();
    assert!(listen_with(&mut desk, who, "v=0", Some(1)).is_err());
    assert_eq!(hang_up(&mut desk, who, third, Some(1)), Ok(200));
}

#[test]
fn there_are_only_so_many_of_a_participant_and_in_all() {
    let mut desk = Desk::with(Settings { max_listeners: 10, ..Settings::default() });
    let who = desk.one("{}");
    let other = (who.0, desk.participant(who.0));
    for grant in 1..=8 {
        listen(&mut desk, who, Some(grant)).unwrap();
    }
    let refusal = listen(&mut desk, who, Some(9)).unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(5)));
    assert!(refusal.message.contains("8 listeners"), "{}", refusal.message);
    listen(&mut desk, who, Some(8)).unwrap();
    listen(&mut desk, other, None).unwrap();
    listen(&mut desk, other, Some(10)).unwrap();
    let refusal = listen(&mut desk, other, None).unwrap_err();
    assert_eq!(refusal.status, 429);
    assert!(refusal.message.contains("10 listeners"), "{}", refusal.message);
    listen(&mut desk, other, Some(10)).unwrap();
    assert_eq!(desk.control.counts().listeners, 10);
}

/// They are not durable: whoever listened comes again.
#[test]
fn nobody_listens_in_after_a_restart_and_nothing_new_is_taken_at_the_end() {
    let mut desk = Desk::with(Settings { durable: true, ..Settings::default() });
    let who = desk.one("{}");
    let listener = listen(&mut desk, who, None).unwrap();
    let written = desk.store.written.clone();
    desk.crash();
    assert_eq!(listeners(&mut desk, who), Value::Null);
    assert_eq!(hang_up(&mut desk, who, listener, None).unwrap_err().status, 404);
    listen(&mut desk, who, None).unwrap();
    let keys = |records: &BTreeMap<Box<[u8]>, Box<[u8]>>| records.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&desk.store.written), keys(&written), "no record is of a listener");
    desk.tell(Input::Drain);
    assert_eq!(listen(&mut desk, who, None).unwrap_err().status, 503);
}

#[test]
fn a_participants_own_leg_comes_by_whep_too() {
    let mut desk = Desk::new();
    let call = desk.call("{}");
    let create = read_create_participant(b"{}").unwrap();
    let answer = desk.ask(Ask::CreateParticipant { call, create }).unwrap();
    let who = (call, ParticipantId::read(json(&answer)["id"].as_str().unwrap()).unwrap());
    desk.said.clear();
    let open = || WhepAsk::Open(MediaOffer::Sdp(LISTENER.to_owned()), None);
    let session = |answer: Answer| -> WhepResource {
        let path = format!("{BASE}/communications/calls/{}/participants/{}/whep/", who.0, who.1);
        assert!(answer.body.unwrap().starts_with("v=0\r\n"));
        WhepResource::Leg(answer.location.unwrap().strip_prefix(&path).unwrap().into())
    };
    let first = session(whep(&mut desk, who, open()).unwrap());
    desk.start(who, "", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
            add leg 1 to 127.0.0.1:45000
            play 0 on leg 1
            notify updated roster [inactive:starting]
        "#]],
    );
    // Another offer is another session of the same leg: the hold goes on, and the old session is gone.
    let second = session(whep(&mut desk, who, open()).unwrap());
    check(&mut desk, &expect![["change leg 1 to 127.0.0.1:45000\n"]]);
    let close = |session: &WhepResource| WhepAsk::Close(session.clone(), None);
    assert_eq!(whep(&mut desk, who, close(&first)).unwrap_err().code, "8522");
    assert_eq!(whep(&mut desk, who, WhepAsk::Look(Some(second.clone()))).unwrap().status, 204);
    let silent = WhepAsk::Open(MediaOffer::Sdp(LISTENER.replace("recvonly", "inactive")), None);
    assert_eq!(whep(&mut desk, who, silent).unwrap_err().status, 422);
    assert_eq!(desk.control.counts().held, 1, "a refused offer changes nothing");
    // Who came by a token ends what came by it, and nothing else.
    let by = |grant| Some(GrantId(grant));
    assert_eq!(whep(&mut desk, who, WhepAsk::Close(second, by(1))).unwrap_err().status, 403);
    let third = WhepAsk::Open(MediaOffer::Sdp(LISTENER.to_owned()), by(2));
    let third = session(whep(&mut desk, who, third).unwrap());
    assert_eq!(whep(&mut desk, who, WhepAsk::Close(third.clone(), by(1))).unwrap_err().status, 403);
    assert_eq!(whep(&mut desk, who, WhepAsk::Close(third, by(2))).unwrap().status, 200);
    let second = session(whep(&mut desk, who, open()).unwrap());
    desk.start(who, "", "").unwrap();
    assert_eq!(whep(&mut desk, who, close(&second)).unwrap().status, 200);
    assert_eq!(desk.control.counts().held, 0);
    assert!(desk.heard().contains("remove leg 1"));
    assert_eq!(whep(&mut desk, who, close(&second)).unwrap_err().status, 404);
}
