//! What a simulated world has on disk, and how it loses the rest: records reach it some time after control has decided,
//! in order and each change whole, and whatever has not reached it when the engine dies is gone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_control::{Control, Input, Output, RequestId, SourceFacts, record::Write};
use holdmusic_media::{MediaTime, pacer::Pacer, ring::Reader};
use rand::{Rng, RngExt};

use super::{
    World,
    doors::{self, Happening},
};

/// The disk of one engine.
#[derive(Debug)]
pub(super) struct SimStore {
    records: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Changes on their way, with the tickets that control gave them.
    waiting: VecDeque<(u64, Vec<Write>)>,
    /// Whether a commit is under way.
    busy: bool,
    /// How long a commit takes at most.
    pub(super) slowness: Duration,
    /// Until when it refuses.
    pub(super) fails_until: MediaTime,
    /// Prompts that were prepared before, by address: what a cache keeps.
    kept: HashMap<(String, Codec), (Reader, SourceFacts)>,
}

impl Default for SimStore {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            waiting: VecDeque::new(),
            busy: false,
            slowness: Duration::from_millis(2),
            fails_until: MediaTime::ZERO,
            kept: HashMap::new(),
        }
    }
}

impl SimStore {
    fn apply(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for (ticket, writes) in self.waiting.drain(..count) {
            for Write { key, value } in writes {
                match value {
                    Some(value) => self.records.insert(key, value),
                    None => self.records.remove(&key),
                };
            }
            last = Some(ticket);
        }
        last
    }

    /// What is kept of a prompt.
    pub(super) fn kept(&self, uri: &str, codec: Codec) -> Option<(Reader, SourceFacts)> {
        self.kept.get(&(uri.to_owned(), codec)).cloned()
    }

    pub(super) fn keep(&mut self, uri: String, codec: Codec, reader: Reader, facts: SourceFacts) {
        self.kept.insert((uri, codec), (reader, facts));
    }
}

impl World {
    /// The engine dies, with all that it had in hand, and is started again after so long.
    pub fn crash(&mut self, away: Duration) {
        if self.is_down {
            return;
        }
        self.crashes += 1;
        self.is_down = true;
        // Some of what was on its way had reached the disk, whether the engine knew it or not.
        let reached = self.rng.random_range(0..=self.store.waiting.len());
        self.store.apply(reached);
        self.store.waiting.clear();
        self.store.busy = false;
        // There is no engine; this one decides nothing and is told nothing.
        self.control = Control::new(self.settings.control.clone(), [0; 32]);
        for sender in &mut self.senders {
            sender.pacer = Pacer::new(self.rng.next_u64(), self.settings.pacer);
            sender.orders.clear();
            (sender.wakes, sender.stalled_until) = (None, MediaTime::ZERO);
        }
        self.legs.clear();
        self.sources = doors::default_music();
        self.underway.clear();
        self.agenda.retain(|_, happening| matches!(happening, Happening::Crash(_)));
        self.later(away, Happening::Restart);
    }

    /// The engine will die in a while, whatever it does then.
    pub fn crash_in(&mut self, after: Duration, away: Duration) {
        self.later(after, Happening::Crash(away));
    }

    /// The engine is started again.
    pub(super) fn restart(&mut self) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let records = self.store.records.iter().map(|(key, value)| (&**key, &**value));
        // Now and then it was the machine that died: then another boot's clock counts.
        let rebooted = self.reboots && self.rng.random_bool(0.25);
        if rebooted {
            self.settings.control.boot += 1;
            self.rebooted = self.crashes;
        }
        let settings = self.settings.control.clone();
        let restored = Control::restore(settings, seed, self.clock.now(), records);
        let mut control = restored.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        if self.now() < self.store.fails_until {
            // It does not start without a disk; whoever supervises it tries again.
            return self.later(Duration::from_millis(100), Happening::Restart);
        }
        let mut others = vec![];
        while let Some(output) = control.poll_output() {
            match output {
                Output::Persist { ticket, writes } => self.store.waiting.push_back((ticket, writes)),
                other => others.push(other),
            }
        }
        let all = self.store.waiting.len();
        if let Some(ticket) = self.store.apply(all) {
            control.handle_input(self.clock.now(), Input::Stored { ticket });
        }
        self.control = control;
        self.is_down = false;
        others.into_iter().for_each(|output| self.perform(output));
    }

    /// Whether the engine is dead at present.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// How often the engine has died.
    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// From now on a crash may be one of the whole machine, after which only the calendar tells how long it was.
    pub fn may_reboot(&mut self) {
        self.reboots = true;
    }

    /// The last crash that was one of the whole machine, counted among all of them.
    pub fn rebooted(&self) -> u32 {
        self.rebooted
    }

    /// How many records the disk has.
    pub fn records(&self) -> usize {
        self.store.records.len()
    }

    /// All of them, as the fuzz target for stores reads them.
    pub fn written(&self) -> Vec<u8> {
        crate::hostile::written(self.store.records.iter().map(|(key, value)| (&**key, &**value)))
    }

    /// What was kept of prompts is gone.
    pub fn forget_prompts(&mut self) {
        self.store.kept.clear();
    }

    /// From now on a commit takes so long at most.
    pub fn slow_store(&mut self, slowness: Duration) {
        self.store.slowness = slowness;
    }

    /// The disk refuses for so long.
    pub fn fail_store(&mut self, pause: Duration) {
        self.store.fails_until = self.now() + pause;
    }

    /// The calendar is set: no clock of the machine jumps but that.
    pub fn step_calendar(&mut self, micros: i64) {
        self.clock.step_wall(micros);
    }

    pub(super) fn persist(&mut self, ticket: u64, writes: Vec<Write>) {
        self.store.waiting.push_back((ticket, writes));
        self.commit();
    }

    /// A commit begins, if none is under way: of all that waits.
    fn commit(&mut self) {
        if self.store.busy || self.store.waiting.is_empty() {
            return;
        }
        self.store.busy = true;
        let count = self.store.waiting.len();
        let takes = self.store.slowness.mul_f64(self.rng.random::<f64>());
        self.later(takes, Happening::Committed(count));
    }

    pub(super) fn load(&mut self, request: RequestId, prefix: Box<[u8]>) {
        self.later(Duration::from_micros(300), Happening::Loaded(request, prefix));
    }

    pub(super) fn loaded(&mut self, request: RequestId, prefix: &[u8]) {
        let found = self.store.records.iter().filter(|(key, _)| key.starts_with(prefix));
        let records = Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect());
        self.control.handle_input(self.clock.now(), Input::Loaded { request, records });
    }

    pub(super) fn committed(&mut self, count: usize) {
        let now = self.clock.now();
        if now.mono < self.store.fails_until {
            let again = Duration::from_secs(1);
            self.later(again, Happening::Committed(count));
            return self
                .control
                .handle_input(now, Input::StoreFailed { reason: "the disk is full".to_owned() });
        }
        self.store.busy = false;
        if let Some(ticket) = self.store.apply(count) {
            self.control.handle_input(now, Input::Stored { ticket });
        }
        self.commit();
    }
}
