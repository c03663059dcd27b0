//! More holds than there is room for: the newest are refused in words, and those who are held hear nothing of it. The
//! bench `overload` does the same for longer, with hundreds, and looks at times.

use std::thread;

use serde_json::json;

use crate::{ear::Ear, engine::Engine, hold::Held, http::Response, web::Web};

const CALLS: &str = "/v1.0/communications/calls";

/// Who is held, and how many more ask: three times as many.
const ROOM: usize = 4;

fn refused(answer: &Response) {
    assert!(matches!(answer.status, 429 | 503), "{}: {}", answer.status, answer.text());
    let wait = answer.header("Retry-After").expect("when to come back");
    assert!(wait.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{wait}");
    let error = answer.json();
    let code = error["error"]["code"].as_str().expect("a code");
    assert_eq!(code, if answer.status == 429 { "TooManyRequests" } else { "ServiceUnavailable" });
    assert!(error["error"]["innerError"]["request-id"].is_string(), "{error}");
}

#[test]
fn three_times_as_many_as_there_is_room_for_are_refused_and_the_music_goes_on() {
    let web = Web::open([]);
    let most = (4 * ROOM).to_string();
    let flags = ["--max-held", "4", "--max-calls", &most, "--max-participants", &most];
    let engine = Engine::start_with(&flags);
    let inside: Vec<_> = (0..ROOM)
        .map(|_| {
            let ear = Ear::open();
            (Held::new(&engine, &web, &ear), ear)
        })
        .collect();
    let others: Vec<_> = (0..3 * ROOM)
        .map(|_| {
            let ear = Ear::open();
            (Held::new(&engine, &web, &ear), ear)
        })
        .collect();
    for (held, _) in &inside {
        engine.http("POST", &format!("{}/startHoldMusic", held.participant), &json!({})).expect(202);
    }
    for (_, ear) in &inside {
        ear.hear(10);
    }
    let callback = json!({ "callbackUri": web.url("/callback") });
    thread::scope(|scope| {
        for (other, _) in &others {
            scope.spawn(|| {
                for _ in 0..40 {
                    let path = format!("{}/startHoldMusic", other.participant);
                    refused(&engine.http("POST", &path, &json!({})));
                    refused(&engine.http("POST", CALLS, &callback));
                    refused(&engine.http("POST", &format!("{}/participants", other.call), &json!({})));
                }
            });
        }
    });
    for (_, ear) in &inside {
        ear.hear(ear.packets() + 10);
        let hearing = ear.hearing();
        let [stream] = &hearing.streams[..] else { panic!("one stream: {hearing:?}") };
        assert_eq!((stream.lost, stream.duplicates, stream.reordered, stream.sequence_errors), (0, 0, 0, 0));
        assert_eq!((stream.restarts, stream.markers), (0, 1));
    }
    for (_, ear) in &others {
        assert_eq!(ear.packets(), 0, "who is refused hears nothing");
    }
    // A place is free, and the next one has it.
    inside[0].0.stop();
    let (next, ear) = &others[0];
    engine.http("POST", &format!("{}/startHoldMusic", next.participant), &json!({})).expect(202);
    ear.hear(5);
}
