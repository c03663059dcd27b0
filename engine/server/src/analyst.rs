//! Analysts: the threads that decode whole recordings, close them into loops and level them. Each takes one at a time,
//! and may take seconds; the system shares the cores between them and the producers.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crossbeam_channel::{Receiver, select_biased};
use holdmusic_control::{DEFAULT_SOURCE, PromptCause, PromptFailure};
use tracing::error;

use crate::{
    clock,
    mailbox::{Errand, Finding},
    producer::{corrupt, no_room},
};

/// How many recordings are analysed at the same time. With more, each would be slower than its customer waits.
pub const ANALYSTS: usize = 8;

/// How many analysts take nothing that may be long, so that a short recording is not held up by any number of long ones.
pub const FOR_SHORT: usize = 2;

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
    let Errand { source, codec, analysis, watch, room, back } = errand;
    let limit = analysis.max_cpu();
    let began = clock::thread_cpu();
    let (room, stopped) = (RefCell::new(room), Cell::new(None));
    let may_go_on = |bytes: usize| {
        let stop = if watch.is_abandoned() {
            Some(Stop::NotWanted)
        } else if clock::thread_cpu().saturating_sub(began) > limit {
            Some(Stop::TooLong)
        } else if !room.borrow_mut().hold(bytes) && source != DEFAULT_SOURCE {
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
            let words = format!("preparing the recording took more than {} s of CPU time", limit.as_secs());
            Err(PromptFailure::new(PromptCause::DecodeTimeout, words))
        }
        (Ok(Err(error)), Some(Stop::NotWanted) | None) => Err(PromptFailure::from(&error)),
        (Err(_), _) => {
            error!(source = source.0, "a decoder panicked; the prompt is refused");
            Err(corrupt())
        }
    };
    drop(room);
    // Its producer has gone with the engine.
    let _ = back.send(Finding { source, codec, result });
}
