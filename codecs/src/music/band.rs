//! The arrangement: who plays what in which part, and how humanly; the score goes in, [`Tracks`] come out.

use super::exact::{Chance, Wave};
use super::score::{self, BARS, Chord, Note, Part, STEPS_PER_BAR, WALK_BEGINS};
use super::voices::{self, Beat, Bus, Stroke};

/// Samples per sixteenth at 16 kHz: 2400 make 100 quarters a minute, and a bar of 38 400 samples that is exactly
/// 120 frames of 20 ms.
pub(super) const STEP: usize = 2_400;

/// Samples of the whole piece: 40 bars, 96 s, 4800 frames of 20 ms.
pub(super) const LENGTH: usize = BARS.len() * STEPS_PER_BAR * STEP;

/// One track per instrument, each as long as the piece and circular.
pub(super) struct Tracks {
    pub(super) guitar: Bus,
    pub(super) piano: Bus,
    pub(super) vibraphone: Bus,
    pub(super) reed: Bus,
    pub(super) strings: Bus,
    pub(super) bass: Bus,
    pub(super) beat: Bus,
}

/// Keyboard hits of the first bar of each pair, (sixteenth, length); the last one pushes the next chord.
const COMP_EVEN: [(usize, usize); 4] = [(0, 5), (6, 3), (10, 3), (14, 5)];

/// Keyboard hits of the second bar of each pair.
const COMP_ODD: [(usize, usize); 3] = [(4, 3), (8, 3), (11, 4)];

/// The clave of the bossa nova on sixteenths, for rim and guitar.
const CLAVE: [usize; 5] = [0, 3, 6, 10, 13];

/// The band with its instruments and its bit of chance.
struct Band {
    tracks: Tracks,
    chance: Chance,
    sine: Wave,
    reed: Wave,
    harmony: Vec<Chord>,
}

/// Plays the whole piece.
pub(super) fn play() -> Tracks {
    let mut band = Band {
        tracks: Tracks {
            guitar: Bus::new(LENGTH),
            piano: Bus::new(LENGTH),
            vibraphone: Bus::new(LENGTH),
            reed: Bus::new(LENGTH),
            strings: Bus::new(LENGTH),
            bass: Bus::new(LENGTH),
            beat: Bus::new(LENGTH),
        },
        chance: Chance::new(0x0b0a_55a0_0f0f_1960),
        sine: Wave::new(&[1.0]),
        reed: voices::reed_wave(),
        harmony: score::harmony(),
    };
    band.tune();
    band.second();
    band.strings();
    for bar in 0..BARS.len() {
        band.keyboard(bar);
        band.bass(bar);
        band.beat(bar);
    }
    for note in score::walk() {
        let force = if note.step % 8 == 0 { 1.0 } else { 0.88 };
        band.pluck_bass(note.step, 4, note.key, force);
    }
    band.tracks
}

impl Band {
    /// The sample of a sixteenth, late by chance up to `late_ms`, never on the very first step: a hold begins
    /// there and is to begin at once.
    fn moment(&mut self, step: usize, late_ms: f64) -> usize {
        let late = (self.chance.unit() * late_ms * 16.0) as usize;
        step * STEP + if step == 0 { 0 } else { late }
    }

    /// A stroke for `note`, `hold` of its length, with an accent on the beats and a little chance.
    fn stroke(&mut self, note: Note, hold: f64, late_ms: f64) -> Stroke {
        let accent = match note.step % 4 {
            0 => 1.0,
            2 => 0.92,
            _ => 0.85,
        };
        // Phrases breathe: the higher the note, the slightly stronger, as a player would.
        let rise = f64::from(note.key - 76) * 0.008;
        Stroke {
            at: self.moment(note.step, late_ms),
            length: ((note.steps * STEP) as f64 * hold) as usize,
            key: note.key,
            force: accent + rise + 0.05 * self.chance.spread(),
        }
    }

    fn part(step: usize) -> Part {
        BARS[step / STEPS_PER_BAR].part
    }

    fn tune(&mut self) {
        for note in score::tune() {
            match Self::part(note.step) {
                Part::A | Part::A2 => {
                    let stroke = self.stroke(note, 1.05, 9.0);
                    voices::guitar(&mut self.tracks.guitar, stroke, &mut self.chance);
                }
                Part::B => {
                    let stroke = self.stroke(note, 0.97, 12.0);
                    voices::reed(&mut self.tracks.reed, stroke, &self.reed, &mut self.chance);
                }
                Part::A3 => {
                    let stroke = self.stroke(note, 1.2, 7.0);
                    voices::vibraphone(&mut self.tracks.vibraphone, stroke, &mut self.chance);
                    let soft = Stroke { force: stroke.force * 0.35, ..stroke };
                    voices::guitar(&mut self.tracks.guitar, soft, &mut self.chance);
                }
                Part::C => {
                    let stroke = self.stroke(note, 1.0, 7.0);
                    let strong = Stroke { force: stroke.force * 1.4, ..stroke };
                    voices::piano(&mut self.tracks.piano, strong, &self.sine, &mut self.chance);
                    let soft = Stroke { force: stroke.force * 0.25, ..stroke };
                    voices::vibraphone(&mut self.tracks.vibraphone, soft, &mut self.chance);
                }
            }
        }
    }

    fn second(&mut self) {
        for note in score::second() {
            let mut stroke = self.stroke(note, 0.98, 12.0);
            if Self::part(note.step) == Part::C {
                stroke.force *= 0.8;
                voices::vibraphone(&mut self.tracks.vibraphone, stroke, &mut self.chance);
            } else {
                stroke.force *= 0.62;
                voices::reed(&mut self.tracks.reed, stroke, &self.reed, &mut self.chance);
            }
        }
    }

    /// Held chords, one stroke for as long as the harmony stays.
    fn strings(&mut self) {
        let mut half = 0;
        while half < self.harmony.len() {
            let chord = self.harmony[half];
            let halves = if half % 2 == 0 && self.harmony[half + 1] == chord { 2 } else { 1 };
            let force = match Self::part(half * 8) {
                Part::A | Part::A2 => 0.8,
                Part::B => 1.1,
                Part::A3 => 0.9,
                Part::C => 0.7,
            };
            for key in chord.voicing {
                let length = halves * 8 * STEP;
                let stroke = Stroke { at: half * 8 * STEP, length, key, force };
                voices::strings(&mut self.tracks.strings, stroke);
            }
            half += halves;
        }
    }

    /// The chord that sounds at `step`; a hit on the last eighth of a bar belongs to the next one.
    fn chord_at(&self, step: usize) -> Chord {
        let pushed = if step % STEPS_PER_BAR >= 14 { step + 2 } else { step };
        self.harmony[pushed / 8 % self.harmony.len()]
    }

    fn keyboard(&mut self, bar: usize) {
        let begin = bar * STEPS_PER_BAR;
        match BARS[bar].part {
            Part::A | Part::A2 | Part::A3 => {
                let hits: &[_] = if bar.is_multiple_of(2) { &COMP_EVEN } else { &COMP_ODD };
                for &(step, steps) in hits {
                    let force = if step == 0 { 0.62 } else { 0.54 };
                    self.comp(begin + step, steps, force);
                }
            }
            Part::B => {
                self.comp(begin, 7, 0.56);
                self.comp(begin + 8, 7, 0.50);
                self.arpeggio(begin);
            }
            Part::C => {
                for step in CLAVE {
                    self.strum(begin + step, 2);
                }
            }
        }
    }

    /// A chord of the electric piano, rolled a little from below.
    fn comp(&mut self, step: usize, steps: usize, force: f64) {
        let chord = self.chord_at(step);
        // A held chord does not sound on into the next harmony.
        let edge = 8 - step % 8;
        let steps = if steps > edge && self.chord_at(step + edge) != chord { edge } else { steps };
        let at = self.moment(step, 6.0);
        for (i, key) in chord.voicing.into_iter().enumerate() {
            let roll = if step == 0 { 0 } else { i * 40 };
            let force = force * (1.0 + 0.08 * self.chance.spread()) * if i == 3 { 1.1 } else { 1.0 };
            let stroke = Stroke { at: at + roll, length: steps * STEP - 300, key, force };
            voices::piano(&mut self.tracks.piano, stroke, &self.sine, &mut self.chance);
        }
    }

    /// The guitar breaks the chords of the bridge in eighths, two voices an octave up so that they carry.
    fn arpeggio(&mut self, begin: usize) {
        const ORDER: [usize; 8] = [0, 2, 1, 3, 2, 3, 1, 2];
        for (i, voice) in ORDER.into_iter().enumerate() {
            let step = begin + 2 * i;
            let chord = self.harmony[step / 8];
            let key = chord.voicing[voice] + if voice < 2 { 12 } else { 0 };
            let force = if i % 4 == 0 { 0.5 } else { 0.42 } + 0.04 * self.chance.spread();
            let stroke = Stroke { at: self.moment(step, 6.0), length: 4 * STEP, key, force };
            voices::guitar(&mut self.tracks.guitar, stroke, &mut self.chance);
        }
    }

    /// A short chord of the guitar.
    fn strum(&mut self, step: usize, steps: usize) {
        let chord = self.chord_at(step);
        let at = self.moment(step, 5.0);
        for (i, key) in chord.voicing.into_iter().enumerate() {
            let force = 0.36 * (1.0 + 0.1 * self.chance.spread());
            let stroke = Stroke { at: at + i * 70, length: steps * STEP, key, force };
            voices::guitar(&mut self.tracks.guitar, stroke, &mut self.chance);
        }
    }

    fn pluck_bass(&mut self, step: usize, steps: usize, key: i32, force: f64) {
        let at = self.moment(step, 4.0);
        let force = force * (1.0 + 0.05 * self.chance.spread());
        let stroke = Stroke { at, length: steps * STEP - 200, key, force };
        voices::bass(&mut self.tracks.bass, stroke, &mut self.chance);
    }

    /// Root, and fifth on the half bar, each with an eighth before the next: the step of the bossa nova.
    fn bass(&mut self, bar: usize) {
        if bar >= WALK_BEGINS {
            return;
        }
        let begin = bar * STEPS_PER_BAR;
        let (first, second) = (self.harmony[2 * bar], self.harmony[2 * bar + 1]);
        let next = self.harmony[(2 * bar + 2) % self.harmony.len()];
        let fifth = |chord: Chord| match (chord.fifth, chord.root > 45) {
            (false, _) => chord.root,
            (true, true) => chord.root - 5,
            (true, false) => chord.root + 7,
        };
        self.pluck_bass(begin, 6, first.root, 1.0);
        if first == second {
            self.pluck_bass(begin + 6, 2, first.root, 0.72);
            self.pluck_bass(begin + 8, 6, fifth(first), 0.92);
        } else {
            self.pluck_bass(begin + 6, 2, fifth(first), 0.72);
            self.pluck_bass(begin + 8, 6, second.root, 0.95);
        }
        // Into the next bar: now by its neighbour, now by the fifth of the chord that still sounds.
        let from = fifth(second);
        let lead = match bar % 2 {
            1 if from > next.root => next.root + 1,
            1 => next.root - 1,
            _ => from,
        };
        self.pluck_bass(begin + 14, 2, lead, 0.75);
    }

    fn beat(&mut self, bar: usize) {
        let begin = bar * STEPS_PER_BAR;
        let part = BARS[bar].part;
        for step in 0..STEPS_PER_BAR {
            let shake = match step % 4 {
                0 => 0.80,
                2 => 0.62,
                3 => 0.44,
                _ => 0.34,
            };
            let shake = if part == Part::C && step % 2 == 1 { 0.3 } else { shake };
            self.hit(Beat::Shaker, begin + step, shake);
        }
        for step in [4, 12] {
            self.hit(Beat::Brush, begin + step, 0.8);
        }
        if matches!(part, Part::A | Part::A2 | Part::A3) {
            for step in CLAVE {
                self.hit(Beat::Rim, begin + step, if step == 0 { 0.85 } else { 0.7 });
            }
        }
        let conga: &[usize] = match (bar % 8, part) {
            (7, _) => &[10, 12, 13, 14],
            (_, Part::C) => &[6, 12, 14],
            (n, _) if n % 2 == 1 => &[12, 14],
            _ => &[14],
        };
        for &step in conga {
            self.hit(Beat::Conga, begin + step, 0.6);
        }
    }

    fn hit(&mut self, kind: Beat, step: usize, force: f64) {
        let at = self.moment(step, 3.0);
        let force = force * (1.0 + 0.12 * self.chance.spread());
        voices::beat(&mut self.tracks.beat, kind, at, force, &mut self.chance);
    }
}
