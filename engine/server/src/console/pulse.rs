//! How the senders did in each of the last seconds: their counters come in, differences stay for the graphs of the console.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{
    clock,
    metrics::{Metrics, Sending},
};

/// From one look at the counters to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Seconds that are kept: five minutes, 90 KB.
const KEPT: usize = 300;

/// What happened between two looks. The histograms leave out the zeros at their end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Beat {
    /// Its number.
    n: u64,
    /// When the second look was, in milliseconds since 1970.
    at: i64,
    playing: u64,
    packets: u64,
    late: u64,
    skipped: u64,
    starved: u64,
    refused: u64,
    lateness: Vec<u64>,
    gaps: Vec<u64>,
}

/// The last seconds, and the number of the latest.
#[derive(Debug)]
pub(super) struct Pulse {
    beats: Mutex<VecDeque<Beat>>,
    latest: watch::Sender<u64>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { beats: Mutex::default(), latest: watch::Sender::new(0) }
    }

    /// Looks at the counters once a second, for as long as the runtime lives.
    pub(super) async fn beat(&self, metrics: Arc<Metrics>) {
        let mut every = tokio::time::interval(EVERY);
        // A machine that slept has slept.
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = metrics.sending();
        every.tick().await;
        for n in 1.. {
            every.tick().await;
            let now = metrics.sending();
            self.add(n, clock::now().wall.0 / 1000, &before, &now);
            before = now;
        }
    }

    fn add(&self, n: u64, at: i64, before: &Sending, now: &Sending) {
        let since = |now: u64, before: u64| now.wrapping_sub(before);
        let beat = Beat {
            n,
            at,
            playing: now.playing,
            packets: since(now.packets, before.packets),
            late: since(now.late, before.late),
            skipped: since(now.skipped, before.skipped),
            starved: since(now.starved, before.starved),
            refused: since(now.refused, before.refused),
            lateness: differences(&now.lateness, &before.lateness),
            gaps: differences(&now.gaps, &before.gaps),
        };
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        if beats.len() == KEPT {
            beats.pop_front();
        }
        beats.push_back(beat);
        drop(beats);
        self.latest.send_replace(n);
    }

    /// Tells of each new beat.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// The beats behind number `n`.
    pub(super) fn since(&self, n: u64) -> Vec<Beat> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().filter(|beat| beat.n > n).cloned().collect()
    }
}

impl Beat {
    pub(super) fn number(&self) -> u64 {
        self.n
    }
}

fn differences(now: &[u64], before: &[u64]) -> Vec<u64> {
    let mut all: Vec<u64> = now.iter().zip(before).map(|(now, before)| now.wrapping_sub(*before)).collect();
    while all.last() == Some(&0) {
        all.pop();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_what_happened_since_the_last_one_and_the_oldest_leave() {
        let pulse = Pulse::new();
        let watched = pulse.watch();
        let mut before = Sending::default();
        for n in 1..=KEPT as u64 + 5 {
            let mut now = Sending { packets: before.packets + n, playing: 7, ..before };
            now.lateness[3] += 2;
            pulse.add(n, 1_000 * n as i64, &before, &now);
            before = now;
        }
        assert_eq!(*watched.borrow(), 305);
        assert_eq!(pulse.since(0).len(), KEPT);
        let last = pulse.since(304);
        let shown = r#"[{"n":305,"at":305000,"playing":7,"packets":305,"late":0,"skipped":0,"starved":0,"refused":0,"lateness":[0,0,0,2],"gaps":[]}]"#;
        assert_eq!(serde_json::to_string(&last).unwrap(), shown);
        assert!(pulse.since(305).is_empty());
    }
}
