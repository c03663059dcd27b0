//! Hostile requests: read or refused, never a panic; refusals are short and without control characters, and no way through
//! the pages of a collection is longer than the collection.

use std::cell::RefCell;

use holdmusic_control::{
    Ask, Refusal,
    graph::{self, Query},
};

use super::offers::{BASE, Desk};
use crate::graph::Reply;

/// The most characters of a refusal's message.
const LONGEST_REFUSAL: usize = 1_000;

/// What holds for everything that was read or refused; whether it was read.
pub(super) fn check<T>(read: &Result<T, Refusal>) -> bool {
    if let Err(refusal) = read {
        assert!((400..500).contains(&refusal.status), "{refusal}");
        assert!(refusal.message.chars().count() < LONGEST_REFUSAL, "{refusal}");
        assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
    }
    read.is_ok()
}

/// Any bytes as a body of every action, as a query and as an id. The first byte chooses how the rest is read.
pub fn graph(input: &[u8]) -> bool {
    let Some((&kind, bytes)) = input.split_first() else { return false };
    let text = String::from_utf8_lossy(bytes);
    match kind % 15 {
        0 => check(&graph::read_create_call(bytes)),
        1 => check(&graph::read_create_participant(bytes)),
        2 => check(&graph::read_media_leg(bytes)),
        3 => check(&graph::read_start_hold_music(bytes)),
        4 => check(&graph::read_stop_hold_music(bytes)),
        5 => check(&graph::read_play_prompt(bytes)),
        6 => check(&graph::read_cancel_media(bytes)),
        7 => check(&graph::read_mute(bytes, true)),
        8 => check(&graph::read_invite(bytes)),
        9 => check(&graph::read_purge(bytes)),
        10 => check(&graph::read_prompt_check(bytes)),
        11 => check(&Query::read(&text)) && check(&Query::read_count(&text)),
        12 => {
            let ids = [
                check(&graph::call_id(&text)),
                check(&graph::participant_id(&text)),
                check(&graph::operation_id(&text)),
                check(&graph::notification_id(&text)),
            ];
            ids.contains(&true)
        }
        13 => check(&graph::read_prompt(&text)),
        _ => check(&graph::read_nothing(bytes)),
    }
}

/// Any text as the query of everything that can be read, in a house with calls, participants and operations. The first byte
/// chooses the place.
pub fn query(input: &[u8]) -> bool {
    thread_local! {
        /// Reading changes nothing, so one house serves all.
        static HOUSE: RefCell<House> = RefCell::new(House::new());
    }
    let Some((&place, bytes)) = input.split_first() else { return false };
    let text = String::from_utf8_lossy(bytes);
    HOUSE.with_borrow_mut(|house| house.visit(place, &text))
}

struct House {
    desk: Desk,
    call: String,
    participant: String,
    operation: String,
}

impl House {
    fn new() -> Self {
        let mut desk = Desk::new();
        let mut operation = String::new();
        let calls: Vec<_> = (0..3).map(|_| desk.call()).collect();
        let call = calls[0].clone();
        let mut participant = String::new();
        for number in 0..4 {
            let leg = format!(
                r#"{{"mediaLeg":{{"rtp":{{"address":"127.0.0.1:{}","codec":"opus","payloadType":111}}}}}}"#,
                40_000 + number
            );
            participant = desk.post(&format!("{call}/participants"), &leg).expect(201).id().to_owned();
            let context = ["{}", r#"{"clientContext":"a"}"#, r#"{"clientContext":"it's"}"#][number % 3];
            let start = format!("{call}/participants/{participant}/startHoldMusic");
            operation = desk.post(&start, context).expect(202).id().to_owned();
            if number == 0 {
                desk.everything_started();
            }
        }
        Self { desk, call, participant, operation }
    }

    /// Asks, and goes on as long as there is a next page.
    fn visit(&mut self, place: u8, text: &str) -> bool {
        let Self { call, participant, operation, .. } = self;
        let (path, kept) = match place % 8 {
            0 => ("/communications/calls".to_owned(), 3),
            1 => (call.clone(), 0),
            2 => (format!("{call}/participants"), 4),
            3 => (format!("{call}/participants/{participant}"), 0),
            4 | 5 => (format!("{call}/operations"), 4),
            6 => (format!("{call}/operations/{operation}"), 0),
            _ => return self.count(text),
        };
        let (mut query, mut pages, mut seen) = (text.to_owned(), 0, 0);
        loop {
            let asked = crate::graph::read("GET", &format!("{path}?{query}"), b"");
            if !check(&asked) {
                assert_eq!(pages, 0, "the query of a next page is understood: {query}");
                return false;
            }
            let reply = self.desk.ask(asked.expect("it was checked"));
            if reply.status != 200 {
                assert!(pages == 0 && reply.status == 400, "{}", reply.body);
                return false;
            }
            seen += reply.body["value"].as_array().map_or(0, Vec::len);
            pages += 1;
            assert!(seen <= kept, "{seen} of {kept} entities: {text}");
            let Some(next) = reply.body["@odata.nextLink"].as_str() else { return true };
            assert!(pages <= kept, "more pages than entities: {text}");
            query =
                next.strip_prefix(BASE).and_then(|next| next.split_once('?')).expect("a query").1.to_owned();
        }
    }

    fn count(&mut self, text: &str) -> bool {
        let query = Query::read_count(text);
        if !check(&query) {
            return false;
        }
        let call = self.call.rsplit('/').next().expect("a path");
        let call = graph::call_id(call).expect("it was told");
        let reply: Reply = self.desk.ask(Ask::ListOperations { call, query: query.expect("it was checked") });
        assert!(reply.expect(200).body.as_u64().is_some_and(|count| count <= 4));
        true
    }
}
