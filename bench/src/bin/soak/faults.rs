//! What was found wrong, counted by kind, with the first few in words.

use std::sync::{Arc, Mutex};

/// What can be wrong. The words are the lines of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Gap,
    Lost,
    Step,
    Quiet,
    Moved,
    Counted,
    Sound,
    Result,
    Unended,
    Order,
    Twice,
    Missing,
    Ended,
    Reported,
    Refused,
    Left,
    Descriptors,
    Memory,
}

impl Fault {
    pub(crate) const ALL: [Self; 18] = [
        Self::Gap,
        Self::Lost,
        Self::Step,
        Self::Quiet,
        Self::Moved,
        Self::Counted,
        Self::Sound,
        Self::Result,
        Self::Unended,
        Self::Order,
        Self::Twice,
        Self::Missing,
        Self::Ended,
        Self::Reported,
        Self::Refused,
        Self::Left,
        Self::Descriptors,
        Self::Memory,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Gap => "gaps over 40 ms",
            Self::Lost => "packets lost, doubled or out of order",
            Self::Step => "timestamps or markers that nothing explains",
            Self::Quiet => "packets after the end of their hold",
            Self::Moved => "packets to an address that was left",
            Self::Counted => "holds whose report counts other packets than came",
            Self::Sound => "wrong sounds",
            Self::Result => "operations that ended with another result",
            Self::Unended => "operations that never ended",
            Self::Order => "notifications out of order",
            Self::Twice => "notifications told again after they were accepted",
            Self::Missing => "notifications missing",
            Self::Ended => "holds that did not end as their receiver did",
            Self::Reported => "receiver reports that no hold knows of",
            Self::Refused => "requests refused",
            Self::Left => "calls, participants, legs left over",
            Self::Descriptors => "descriptors left over",
            Self::Memory => "MiB of memory beyond what may be kept",
        }
    }
}

/// Examples kept of each kind: enough to see what is common to them.
const EXAMPLES: usize = 4;

#[derive(Default)]
struct Kind {
    count: u64,
    examples: Vec<String>,
}

/// Everything that was found wrong, shared by all who look.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<[Kind; Fault::ALL.len()]>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault, words: impl FnOnce() -> String) {
        self.add_many(fault, 1, words);
    }

    pub(crate) fn add_many(&self, fault: Fault, count: u64, words: impl FnOnce() -> String) {
        let mut kinds = self.0.lock().expect("nobody panics while holding it");
        let kind = &mut kinds[fault as usize];
        kind.count += count;
        if kind.examples.len() < EXAMPLES {
            kind.examples.push(words());
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.0.lock().expect("nobody panics while holding it")[fault as usize].count
    }

    /// One line for each kind that was found, with its examples below; empty if nothing is wrong.
    pub(crate) fn words(&self) -> String {
        let kinds = self.0.lock().expect("nobody panics while holding it");
        let mut text = String::new();
        for fault in Fault::ALL {
            let kind = &kinds[fault as usize];
            if kind.count > 0 {
                text.push_str(&format!("  FAILED: {}: {}\n", fault.words(), kind.count));
                kind.examples.iter().for_each(|example| text.push_str(&format!("    {example}\n")));
            }
        }
        text
    }
}
