//! Stories: what one call goes through, step by step, as the dice fall.

use holdmusic_bench::dice::Dice;

use crate::{
    callbacks::Manner,
    origin::{Broken, Origin},
};

/// What a hold is to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Default music.
    Default,
    /// A prompt that others hear too.
    Clip(usize),
    /// A prompt that nobody has asked for before.
    Cold(usize),
    /// The prompt that changes at its origin.
    Changing,
    /// One that cannot be played.
    Broken(Broken),
}

/// One step; `who` counts the participants of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A call is made with so many participants.
    Open { participants: usize, deaf: bool },
    /// startHoldMusic; if the hold goes on already, its music changes.
    Start { who: usize, prompt: Prompt },
    /// startHoldMusic with the same prompt and context: the same operation.
    Again { who: usize },
    /// The operation must have ended as it should.
    Ends { who: usize },
    /// What is heard from now on is kept.
    Listen { who: usize },
    /// It must be what was asked for.
    Compare { who: usize },
    /// The receiver reports.
    Report { who: usize },
    /// Somebody sends rubbish in the receiver's name.
    Rubbish { who: usize },
    /// The leg goes elsewhere.
    Move { who: usize },
    /// stopHoldMusic.
    Stop { who: usize },
    /// As many packets came as the stop has told.
    Counted { who: usize },
    /// The receiver says goodbye.
    Bye { who: usize },
    /// The receiver's port is closed.
    HangUp { who: usize },
    /// The hold must have ended by itself, for this reason.
    EndedBy { who: usize, reason: &'static str },
    /// The participant is removed.
    Remove { who: usize },
    /// The call is ended.
    Close,
}

/// What one call goes through: each step so many milliseconds after the one before.
pub(crate) struct Story {
    pub(crate) manner: Manner,
    pub(crate) steps: Vec<(u64, Step)>,
}

/// A bridge to other music is announced 160 ms ahead and takes 60 ms; after so long the new music is heard alone.
const CHANGED_MS: u64 = 400;

/// What is compared, at least: two seconds.
const HEARD_MS: u64 = 2_200;

/// As long as a report may take from the receiver to the hold: the next round of its sender, and a busy core.
const REPORTED_MS: u64 = 100;

/// So long after a stop its last packet has come and has been looked at.
const COUNTED_MS: u64 = 500;

impl Story {
    /// As the dice fall.
    pub(crate) fn throw(dice: &mut Dice) -> Self {
        let manner = match dice.below(10) {
            0 | 1 => Manner::Slow,
            2 | 3 => Manner::Failing,
            _ => Manner::Fast,
        };
        let mut story = Self { manner, steps: Vec::new() };
        match dice.below(12) {
            0..=2 => story.plain(dice),
            3 | 4 => story.prompt(dice),
            5 => story.change(dice),
            6 => story.broken(dice),
            7 => story.moved(dice),
            8 => story.company(dice),
            9 => story.goodbye(dice),
            10 => story.dies(dice),
            _ => story.hasty(dice),
        }
        story
    }

    fn then(&mut self, after_ms: u64, step: Step) {
        self.steps.push((after_ms, step));
    }

    fn open(&mut self) {
        self.then(0, Step::Open { participants: 1, deaf: false });
    }

    fn close(&mut self, dice: &mut Dice) {
        if dice.below(3) == 0 {
            self.then(dice.between(0, 50), Step::Remove { who: 0 });
        }
        self.then(dice.between(0, 50), Step::Close);
    }

    fn stop(&mut self, after_ms: u64) {
        self.then(after_ms, Step::Stop { who: 0 });
        self.then(COUNTED_MS, Step::Counted { who: 0 });
    }

    fn heard(&mut self, after_ms: u64) {
        self.then(after_ms, Step::Listen { who: 0 });
        self.then(HEARD_MS, Step::Compare { who: 0 });
    }

    /// Default music, stopped, and perhaps once more.
    fn plain(&mut self, dice: &mut Dice) {
        self.open();
        for _ in 0..dice.between(1, 3) {
            self.then(dice.between(0, 50), Step::Start { who: 0, prompt: Prompt::Default });
            self.then(dice.between(20, 100), Step::Ends { who: 0 });
            if dice.below(2) == 0 {
                self.then(dice.between(50, 500), Step::Report { who: 0 });
            }
            if dice.below(3) == 0 {
                self.then(REPORTED_MS, Step::Rubbish { who: 0 });
            }
            if dice.below(4) == 0 {
                self.heard(0);
            }
            self.stop(dice.between(REPORTED_MS, 3_000));
        }
        self.close(dice);
    }

    fn any_prompt(dice: &mut Dice) -> Prompt {
        let clip = dice.below(Origin::CLIPS) as usize;
        match dice.below(4) {
            0 => Prompt::Cold(clip),
            1 => Prompt::Changing,
            _ => Prompt::Clip(clip),
        }
    }

    /// A prompt is heard.
    fn prompt(&mut self, dice: &mut Dice) {
        self.open();
        self.then(0, Step::Start { who: 0, prompt: Self::any_prompt(dice) });
        if dice.below(2) == 0 {
            self.then(dice.between(0, 100), Step::Again { who: 0 });
        }
        self.then(dice.between(50, 300), Step::Ends { who: 0 });
        self.heard(CHANGED_MS);
        self.stop(dice.between(0, 1_000));
        self.close(dice);
    }

    /// The prompt changes in mid-hold, and once more to a broken one: then what plays goes on.
    fn change(&mut self, dice: &mut Dice) {
        self.open();
        let first = dice.below(Origin::CLIPS) as usize;
        let second = (first + 1) % Origin::CLIPS as usize;
        for prompt in [Prompt::Clip(first), Prompt::Clip(second)] {
            self.then(0, Step::Start { who: 0, prompt });
            self.then(dice.between(50, 300), Step::Ends { who: 0 });
            self.heard(CHANGED_MS);
        }
        let broken = Broken::ALL[dice.below(2) as usize];
        self.then(0, Step::Start { who: 0, prompt: Prompt::Broken(broken) });
        self.then(dice.between(50, 300), Step::Ends { who: 0 });
        self.heard(CHANGED_MS);
        self.stop(dice.between(0, 300));
        self.close(dice);
    }

    /// A broken prompt: default music is heard.
    fn broken(&mut self, dice: &mut Dice) {
        let broken = Broken::ALL[dice.below(Broken::ALL.len() as u64) as usize];
        self.open();
        self.then(0, Step::Start { who: 0, prompt: Prompt::Broken(broken) });
        self.then(dice.between(300, 500), Step::Ends { who: 0 });
        self.heard(CHANGED_MS);
        self.stop(dice.between(0, 500));
        self.close(dice);
    }

    /// The leg moves in mid-hold, and back.
    fn moved(&mut self, dice: &mut Dice) {
        self.open();
        self.then(0, Step::Start { who: 0, prompt: Prompt::Default });
        self.then(dice.between(20, 100), Step::Ends { who: 0 });
        self.then(0, Step::Listen { who: 0 });
        self.then(dice.between(300, 900), Step::Move { who: 0 });
        self.then(dice.between(300, 900), Step::Move { who: 0 });
        self.then(HEARD_MS, Step::Compare { who: 0 });
        self.stop(dice.between(0, 300));
        self.close(dice);
    }

    /// Three at once; one is removed, and the call ends while the others are on hold.
    fn company(&mut self, dice: &mut Dice) {
        self.then(0, Step::Open { participants: 3, deaf: false });
        for who in 0..3 {
            let prompt = if who == 1 { Self::any_prompt(dice) } else { Prompt::Default };
            self.then(dice.between(0, 100), Step::Start { who, prompt });
        }
        for who in 0..3 {
            self.then(dice.between(50, 100), Step::Ends { who });
        }
        self.then(dice.between(200, 1_500), Step::Remove { who: dice.below(3) as usize });
        self.then(dice.between(200, 1_500), Step::Close);
    }

    /// The receiver says goodbye.
    fn goodbye(&mut self, dice: &mut Dice) {
        self.open();
        self.then(0, Step::Start { who: 0, prompt: Prompt::Default });
        self.then(dice.between(20, 100), Step::Ends { who: 0 });
        self.then(dice.between(200, 1_000), Step::Report { who: 0 });
        self.then(dice.between(200, 1_000), Step::Bye { who: 0 });
        self.then(REPORTED_MS, Step::EndedBy { who: 0, reason: "bye" });
        self.close(dice);
    }

    /// The receiver's port is closed.
    fn dies(&mut self, dice: &mut Dice) {
        self.then(0, Step::Open { participants: 1, deaf: true });
        self.then(0, Step::Start { who: 0, prompt: Prompt::Default });
        self.then(dice.between(20, 100), Step::Ends { who: 0 });
        self.then(dice.between(200, 2_000), Step::HangUp { who: 0 });
        self.then(3_000, Step::EndedBy { who: 0, reason: "unreachable" });
        self.close(dice);
    }

    /// One start after the other, and the end before they are done.
    fn hasty(&mut self, dice: &mut Dice) {
        self.open();
        for _ in 0..dice.between(1, 4) {
            self.then(dice.between(0, 30), Step::Start { who: 0, prompt: Self::any_prompt(dice) });
        }
        if dice.below(2) == 0 {
            self.then(dice.between(0, 30), Step::Stop { who: 0 });
        }
        self.then(dice.between(0, 30), Step::Close);
    }
}
