//! [`Order`]: sequence numbers of 16 bits become places in one long row (RFC 3550 A.1).

use crate::rtp::SeqNo;

/// A sequence number up to this far ahead is loss (RFC 3550 A.1); further ahead it is a mistake or a restart.
pub(super) const MAX_DROPOUT: u16 = 3000;

/// A sequence number up to this far behind is reordering (RFC 3550 A.1). Also how far back duplicates are known.
const MAX_MISORDER: u16 = 100;

/// Extended sequence numbers (RFC 3550 A.1): 16 bits from the packet, the rest counts the cycles.
#[derive(Debug)]
pub(super) struct Order {
    lowest: u64,
    highest: u64,
    /// Bit n: whether `highest - n` has been seen.
    seen: u128,
    /// The number that would confirm that the sender restarted there.
    suspect: Option<SeqNo>,
    /// Numbers that restarts left out and nobody should miss.
    unused: u64,
}

/// Where a packet belongs.
pub(super) enum Place {
    /// Ahead of all others, after so many that are missing.
    Next { place: u64, missing: u64 },
    /// Behind one that came earlier.
    Late { place: u64 },
    /// It came before.
    Duplicate,
    /// Too far from the others to be believed.
    Refused,
    /// As far away, but the second one there.
    Restart { place: u64 },
}

impl Order {
    /// Unlike RFC 3550 A.1, which waits for a second packet in sequence, the first one counts: whoever listens
    /// wants to know when it came.
    pub(super) fn starting_at(sequence: SeqNo) -> Self {
        // One cycle up, so that a packet from before the first one has a place.
        let highest = (1 << 16) | u64::from(sequence.0);
        Self { lowest: highest, highest, seen: 1, suspect: None, unused: 0 }
    }

    /// The highest place so far.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    pub(super) fn place(&mut self, sequence: SeqNo) -> Place {
        let newest = self.highest as u16;
        let ahead = sequence.0.wrapping_sub(newest);
        let behind = newest.wrapping_sub(sequence.0);
        if ahead > 0 && ahead < MAX_DROPOUT {
            self.highest += u64::from(ahead);
            self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
            Place::Next { place: self.highest, missing: u64::from(ahead) - 1 }
        } else if behind <= MAX_MISORDER {
            let bit = 1 << behind;
            if self.seen & bit != 0 {
                return Place::Duplicate;
            }
            self.seen |= bit;
            let place = self.highest - u64::from(behind);
            self.lowest = self.lowest.min(place);
            Place::Late { place }
        } else if self.suspect == Some(sequence) {
            // Two in sequence: the sender restarted. Its numbers go on two cycles up, out of reach of what came
            // before.
            let place = (((self.highest >> 16) + 2) << 16) | u64::from(sequence.0);
            self.unused += place - self.highest - 1;
            (self.highest, self.seen, self.suspect) = (place, 1, None);
            Place::Restart { place }
        } else {
            self.suspect = Some(sequence.after(1));
            Place::Refused
        }
    }

    /// How many packets should have arrived (RFC 3550 A.3).
    pub(super) fn expected(&self) -> u64 {
        self.highest - self.lowest + 1 - self.unused
    }
}
