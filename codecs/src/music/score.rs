//! The score: forty bars of a slow bossa nova in F, as notes and chord names, read into [`Note`]s and [`Chord`]s.
//!
//! Form: A A' B A'' C, eight bars each, and C ends on the dominant that leads back into A. A states a motif
//! (a long note, a step down, two falling thirds) and answers it, three times a step higher; the same three
//! rising notes (C E G) lead into every A. B is a change of light: B flat, then A flat, borrowed from the minor.
//! C walks through D minor and C major in threes against the four.

/// Sixteenths in one bar of four quarters.
pub(super) const STEPS_PER_BAR: usize = 16;

/// Which of the five parts a bar belongs to; the arrangement follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The song, played by the guitar.
    A,
    /// The song again, pushed ahead of the beat, with a second voice under it.
    A2,
    /// The bridge, sung by the reed.
    B,
    /// The song on the vibraphone, with a new end.
    A3,
    /// The second bridge: electric piano over a walking bass.
    C,
}

/// One bar: chord names (one, or two of half a bar), the tune and the second voice.
///
/// A voice is written `A5:6 G5:2 -:4 C5:4`: note name and octave, then the length in sixteenths; `-` is a rest
/// and `~` holds the note before it.
pub(super) struct Bar {
    /// The part it belongs to.
    pub(super) part: Part,
    chords: &'static str,
    tune: &'static str,
    second: &'static str,
}

const fn bar(part: Part, chords: &'static str, tune: &'static str, second: &'static str) -> Bar {
    Bar { part, chords, tune, second }
}

use Part::{A, A2, A3, B, C};

/// The forty bars.
pub(super) const BARS: [Bar; 40] = [
    bar(A, "Fmaj9", "A5:6 G5:2 E5:4 C5:4", "-:16"),
    bar(A, "Dm9", "D5:2 E5:2 F5:8 -:2 A5:2", "-:8 A4:2 C5:2 E5:4"),
    bar(A, "Gm9", "Bb5:6 A5:2 F5:4 D5:4", "-:16"),
    bar(A, "C13", "E5:2 F5:2 G5:8 -:2 Bb5:2", "-:8 Bb4:2 D5:2 E5:4"),
    bar(A, "Am7", "C6:6 A5:2 G5:4 E5:4", "-:16"),
    bar(A, "D7b9", "F#5:2 G5:2 A5:6 C6:2 Eb6:4", "-:8 C5:8"),
    bar(A, "Gm9", "D6:6 C6:2 Bb5:2 A5:2 F5:4", "Bb4:8 A4:8"),
    bar(A, "C9sus C13", "G5:8 -:2 C5:2 E5:2 G5:2", "Bb4:6 -:10"),
    //
    bar(A2, "Fmaj9", "A5:3 Bb5:1 A5:2 G5:2 E5:2 G5:2 C5:4", "G4:8 A4:8"),
    bar(A2, "Dm9", "D5:2 E5:2 F5:2 E5:2 F5:2 A5:4 Bb5:2", "A4:8 C5:8"),
    bar(A2, "Gm9", "~:4 A5:2 C6:2 F5:2 A5:2 D5:4", "Bb4:8 A4:8"),
    bar(A2, "C13", "E5:2 F5:2 G5:2 A5:2 Bb5:2 D6:4 C6:2", "Bb4:8 G4:8"),
    bar(A2, "Am7", "~:6 A5:2 G5:2 A5:2 C6:2 Eb6:2", "G4:8 C5:8"),
    bar(A2, "D7b9", "~:6 D6:2 C6:2 A5:2 F#5:2 G5:2", "C5:8 A4:8"),
    bar(A2, "Gm9 C13", "~:2 A5:2 Bb5:4 A5:2 G5:2 E5:2 F5:2", "D5:8 Bb4:8"),
    bar(A2, "F69 F13", "~:8 -:2 D5:2 F5:2 A5:2", "A4:8 G4:6 -:2"),
    //
    bar(B, "Bbmaj9", "C6:8 A5:2 Bb5:2 C6:4", "-:16"),
    bar(B, "Bbm9 Eb13", "Db6:8 C6:4 Bb5:2 G5:2", "-:16"),
    bar(B, "Abmaj9", "Bb5:8 G5:2 Ab5:2 Bb5:4", "-:16"),
    bar(B, "Dbmaj9", "C6:8 Ab5:4 F5:2 Eb5:2", "-:16"),
    bar(B, "Gm9", "D5:2 F5:2 A5:6 Bb5:2 A5:4", "-:16"),
    bar(B, "C9sus C7b9", "G5:6 F5:2 E5:2 G5:2 Db6:4", "-:16"),
    bar(B, "Am7 D7b9", "C6:6 A5:2 F#5:2 A5:2 Eb6:4", "-:16"),
    bar(B, "Gm9 C13", "D6:6 Bb5:2 -:2 C5:2 E5:2 G5:2", "-:16"),
    //
    bar(A3, "Fmaj9", "A5:6 G5:2 E5:2 G5:2 C6:2 A5:2", "C5:8 G4:8"),
    bar(A3, "Dm9", "~:6 F5:2 E5:2 F5:2 A5:2 Bb5:2", "A4:8 C5:8"),
    bar(A3, "Gm9", "~:6 A5:2 F5:2 A5:2 D6:2 Bb5:2", "D5:8 A4:8"),
    bar(A3, "C13", "~:6 G5:2 E5:2 G5:2 Bb5:2 C6:2", "G4:8 Bb4:8"),
    bar(A3, "Am7", "~:6 A5:2 G5:2 C6:2 E6:2 Eb6:2", "E5:8 C5:8"),
    bar(A3, "D7b9", "~:6 C6:2 A5:2 C6:2 F#5:2 G5:2", "C5:8 Eb5:8"),
    bar(A3, "Gm9 C13", "~:2 Bb5:2 D6:4 Bb5:2 A5:2 E5:2 F5:2", "D5:8 Bb4:8"),
    bar(A3, "F69 A7b13", "~:8 -:2 C#5:2 E5:2 G5:2", "A4:8 G4:6 -:2"),
    //
    bar(C, "Dm9", "F5:3 E5:3 D5:2 A5:6 -:2", "A4:8 -:2 D5:2 E5:2 F5:2"),
    bar(C, "G13", "B5:3 A5:3 F5:2 E5:6 -:2", "~:8 -:2 G4:2 A4:2 B4:2"),
    bar(C, "Cmaj9", "E5:3 D5:3 C5:2 G5:6 -:2", "~:8 -:2 C5:2 D5:2 E5:2"),
    bar(C, "Am9", "B5:3 A5:3 G5:2 E5:6 -:2", "~:8 C5:6 -:2"),
    bar(C, "Bbmaj9", "D5:3 F5:3 A5:2 C6:4 A5:4", "A4:8 D5:8"),
    bar(C, "Am7 D7b9", "G5:3 E5:3 C5:2 F#5:3 A5:3 C6:2", "C5:8 A4:8"),
    bar(C, "Gm9", "D6:6 C6:2 Bb5:4 A5:4", "Bb4:8 D5:8"),
    bar(C, "C9sus C7b9", "G5:8 -:2 C5:2 E5:2 G5:2", "D5:8 Bb4:6 -:2"),
];

/// The first bar (from 0) in which the bass walks.
pub(super) const WALK_BEGINS: usize = 32;

/// The walking bass of part C, one word per quarter.
const WALK: [&str; 8] = [
    "D3:4 E3:4 F3:4 F#3:4",
    "G3:4 F3:4 D3:4 B2:4",
    "C3:4 E3:4 G3:4 G#3:4",
    "A3:4 G3:4 E3:4 B2:4",
    "Bb2:4 D3:4 F3:4 Bb3:4",
    "A3:4 E3:4 D3:4 F#3:4",
    "G3:4 F3:4 D3:4 Db3:4",
    "C3:4 G2:4 C3:4 E3:4",
];

/// A sound to play: when, how long and how high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Start in sixteenths from the beginning of the piece.
    pub(super) step: usize,
    /// Length in sixteenths.
    pub(super) steps: usize,
    /// MIDI key: 69 is the A of 440 Hz.
    pub(super) key: i32,
}

/// A harmony with the notes in which it is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chord {
    /// The bass note, around 80 to 160 Hz, as a MIDI key.
    pub(super) root: i32,
    /// Whether the fifth over the root is in the chord (else a diminished one, or none to lean on).
    pub(super) fifth: bool,
    /// The four notes of the keyboard player, low to high, without the root.
    pub(super) voicing: [i32; 4],
}

/// How each chord name is played. The voicings are chosen so that most voices move by a step or stay.
fn chord(name: &str) -> Chord {
    let (root, voicing) = match name {
        "Fmaj9" => ("F2", "A3 C4 E4 G4"),
        "F69" => ("F2", "A3 C4 D4 G4"),
        "F13" => ("F2", "A3 D4 Eb4 G4"),
        "Dm9" => ("D3", "A3 C4 E4 F4"),
        "Gm9" => ("G2", "Bb3 D4 F4 A4"),
        "C13" => ("C3", "Bb3 D4 E4 A4"),
        "C9sus" => ("C3", "Bb3 D4 F4 G4"),
        "C7b9" => ("C3", "Bb3 Db4 E4 G4"),
        "Am7" => ("A2", "G3 C4 E4 A4"),
        "Am9" => ("A2", "B3 C4 E4 G4"),
        "D7b9" => ("D3", "A3 C4 Eb4 F#4"),
        "Bbmaj9" => ("Bb2", "A3 C4 D4 F4"),
        "Bbm9" => ("Bb2", "Ab3 C4 Db4 F4"),
        "Eb13" => ("Eb3", "G3 C4 Db4 F4"),
        "Abmaj9" => ("Ab2", "G3 Bb3 C4 Eb4"),
        "Dbmaj9" => ("Db3", "Ab3 C4 Eb4 F4"),
        "A7b13" => ("A2", "G3 C#4 F4 A4"),
        "G13" => ("G2", "B3 E4 F4 A4"),
        "Cmaj9" => ("C3", "B3 D4 E4 G4"),
        other => panic!("the score names a chord that nobody can play: {other}"),
    };
    let mut keys = [0; 4];
    for (slot, note) in keys.iter_mut().zip(voicing.split(' ')) {
        *slot = key(note);
    }
    Chord { root: key(root), fifth: name != "A7b13", voicing: keys }
}

/// The MIDI key of a note name such as `Bb4`.
fn key(name: &str) -> i32 {
    let (letters, octave) = name.split_at(name.len() - 1);
    let mut signs = letters.chars();
    let white = match signs.next() {
        Some('C') => 0,
        Some('D') => 2,
        Some('E') => 4,
        Some('F') => 5,
        Some('G') => 7,
        Some('A') => 9,
        Some('B') => 11,
        _ => panic!("not a note: {name}"),
    };
    let shift = match signs.next() {
        Some('b') => -1,
        Some('#') => 1,
        _ => 0,
    };
    let octave: i32 = octave.parse().expect("every note in the score ends with its octave");
    12 * (octave + 1) + white + shift
}

/// The harmony of every half bar, two per bar.
pub(super) fn harmony() -> Vec<Chord> {
    let mut halves = Vec::with_capacity(2 * BARS.len());
    for bar in &BARS {
        let mut names = bar.chords.split(' ');
        let first = chord(names.next().expect("every bar has a chord"));
        halves.push(first);
        halves.push(names.next().map_or(first, chord));
    }
    halves
}

/// The tune of the whole piece.
pub(super) fn tune() -> Vec<Note> {
    read(BARS.iter().map(|bar| bar.tune))
}

/// The second voice of the whole piece.
pub(super) fn second() -> Vec<Note> {
    read(BARS.iter().map(|bar| bar.second))
}

/// The walking bass, from [`WALK_BEGINS`] on.
pub(super) fn walk() -> Vec<Note> {
    let mut notes = read(WALK.iter().copied());
    for note in &mut notes {
        note.step += WALK_BEGINS * STEPS_PER_BAR;
    }
    notes
}

fn read(bars: impl Iterator<Item = &'static str>) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for (index, text) in bars.enumerate() {
        let mut step = index * STEPS_PER_BAR;
        for word in text.split(' ') {
            let (name, steps) = word.split_once(':').expect("a word of the score is name:length");
            let steps: usize = steps.parse().expect("a length in the score is a number of sixteenths");
            match name {
                "-" => {}
                "~" => notes.last_mut().expect("a hold follows a note").steps += steps,
                _ => notes.push(Note { step, steps, key: key(name) }),
            }
            step += steps;
        }
        assert_eq!(step, (index + 1) * STEPS_PER_BAR, "bar {} is not full", index + 1);
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On beats one and three, and on the others if it is held, what sounds in the tune or the second voice is a tone of the chord or its ninth,
    /// thirteenth or sixth as written in the voicing; passing notes are short and stand between.
    #[test]
    fn no_wrong_note_on_a_beat() {
        let harmony = harmony();
        for (voice, notes) in [("tune", tune()), ("second", second())] {
            for note in notes {
                for step in note.step..note.step + note.steps {
                    // Beats two and four may carry a short passing note.
                    if step % 8 != 0 && (step % 4 != 0 || note.steps < 4) {
                        continue;
                    }
                    let chord = harmony[step / 8 % harmony.len()];
                    let mut tones: Vec<i32> = chord.voicing.iter().map(|k| k % 12).collect();
                    tones.push(chord.root % 12);
                    if chord.fifth {
                        tones.push((chord.root + 7) % 12);
                    }
                    let bar = step / STEPS_PER_BAR + 1;
                    assert!(
                        tones.contains(&(note.key % 12)),
                        "{voice}, bar {bar}, sixteenth {}: key {} over {}",
                        step % 16,
                        note.key,
                        BARS[bar - 1].chords
                    );
                }
            }
        }
    }

    /// No voice of the keyboard jumps by more than a major third from one chord to the next, around the seam too.
    #[test]
    fn the_chords_are_led_by_small_steps() {
        let harmony = harmony();
        for (i, from) in harmony.iter().enumerate() {
            let to = harmony[(i + 1) % harmony.len()];
            for (a, b) in from.voicing.iter().zip(to.voicing) {
                assert!((a - b).abs() <= 4, "half bar {i}: {from:?} to {to:?}");
            }
        }
    }

    /// The second voice stays under the tune wherever both sound.
    #[test]
    fn the_second_voice_stays_below() {
        let tune = tune();
        for low in second() {
            for high in &tune {
                let together = low.step < high.step + high.steps && high.step < low.step + low.steps;
                assert!(!together || low.key <= high.key, "{low:?} over {high:?}");
            }
        }
    }
}
