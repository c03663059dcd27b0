//! Any bytes as a body of every action, as a query and as an id: read or refused, never a panic, and no refusal is long
//! or holds a control character. The first byte chooses how the rest is read.
#![no_main]

use holdmusic_control::{
    Refusal,
    graph::{self, Query},
};
use libfuzzer_sys::fuzz_target;

fn check<T>(read: Result<T, Refusal>) {
    if let Err(refusal) = read {
        assert!((400..500).contains(&refusal.status), "{refusal}");
        assert!(refusal.message.chars().count() < 1000, "{refusal}");
        assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match kind % 13 {
        0 => check(graph::read_create_call(bytes)),
        1 => check(graph::read_create_participant(bytes)),
        2 => check(graph::read_media_leg(bytes)),
        3 => check(graph::read_start_hold_music(bytes)),
        4 => check(graph::read_stop_hold_music(bytes)),
        5 => check(graph::read_play_prompt(bytes)),
        6 => check(graph::read_cancel_media(bytes)),
        7 => check(graph::read_mute(bytes, true)),
        8 => check(graph::read_invite(bytes)),
        9 => check(graph::read_purge(bytes)),
        10 => check(graph::read_prompt_check(bytes)),
        11 => {
            check(Query::read(&text));
            check(Query::read_count(&text));
        }
        _ => {
            check(graph::call_id(&text));
            check(graph::operation_id(&text));
        }
    }
});
