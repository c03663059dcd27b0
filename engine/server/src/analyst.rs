//! Analysts: the threads that decode whole recordings, close them into loops and level them. Each takes one at a time,
//! and may take seconds; the system shares the cores between them and the producers.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, select_biased};
use holdmusic_control::PromptFailure;
use tracing::error;

use crate::{
    clock,
    mailbox::{Errand, Finding},
    producer::{no_room, unplayable},
};

/// How many recordings are analysed at the same time. With more, each would be slower than its customer waits.
pub const ANALYSTS: usize = 8;

/// How many analysts take nothing that may be long, so that a short recording is not held up by any number of long ones.
pub const FOR_SHORT: usize = 2;

/// The longest that analysing one recording may take, of its thread's own time. Half an hour of MP3 takes about ten
/// seconds on one slow core.
const ANALYSING: Duration = Duration::from_secs(15);

/// Runs until there is no producer left.
pub fn run(short: &Receiver<Errand>, long: &Receiver<Errand>) {
    // As for producers: senders come first.
    let _ = rustix::process::nice(10);
    loop {
        let errand = select_biased! {
            recv(short) -> errand => errand,
            recv(long) -> errand => errand,
        };
        match errand {
            Ok(errand) => analyse(errand),
            Err(_) => return,
        }
    }
}

/// Why an analysis did not go on.
#[derive(Clone, Copy)]
enum Stop {
    NotWanted,
    TooLong,
    NoRoom,
}

fn analyse(errand: Errand) {
    let Errand { source, analysis, watch, room, back } = errand;
    let began = clock::thread_cpu();
    let (room, stopped) = (RefCell::new(room), Cell::new(None));
    let may_go_on = |bytes: usize| {
        let stop = if watch.is_abandoned() {
            Some(Stop::NotWanted)
        } else if clock::thread_cpu().saturating_sub(began) > ANALYSING {
            Some(Stop::TooLong)
        } else if !room.borrow_mut().hold(bytes) {
            Some(Stop::NoRoom)
        } else {
            None
        };
        stopped.set(stop);
        stop.is_none()
    };
    let run = catch_unwind(AssertUnwindSafe(|| analysis.run(&may_go_on)));
    let result = match (run, stopped.get()) {
        (Ok(Ok(analysed)), _) => Ok(analysed),
        (Ok(Err(_)), Some(Stop::NoRoom)) => Err(no_room()),
        (Ok(Err(_)), Some(Stop::TooLong)) => {
            let words = format!("decoding the recording took longer than {} s", ANALYSING.as_secs());
            Err(PromptFailure::Sound(words))
        }
        (Ok(Err(error)), Some(Stop::NotWanted) | None) => Err(unplayable(&error)),
        (Err(_), _) => {
            error!(source = source.0, "a decoder panicked; the prompt is refused");
            Err(PromptFailure::Sound("the recording is corrupt".to_owned()))
        }
    };
    drop(room);
    // Its producer has gone with the engine.
    let _ = back.send(Finding { source, result });
}
