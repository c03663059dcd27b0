//! The cast: who is installed, and what each of them plays in every round and at its limit.

use holdmusic_bench::report::quantile;

use crate::{
    Options,
    cell::Cell,
    ffmpeg::Ffmpeg,
    gstreamer::{Gstreamer, MOST_CLIENTS},
    ours::Ours,
    rtpengine::{MOST_LEGS, Rtpengine},
    stage::{Peer, Sound},
};

/// One peer, one sound, so many legs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place among the peers.
    pub(crate) peer: usize,
    pub(crate) sound: Sound,
    pub(crate) legs: u32,
}

/// A part that is played in every round, and what came of it.
pub(crate) struct Act {
    pub(crate) part: Part,
    /// With the round; one that failed has none.
    pub(crate) cells: Vec<(u32, Cell)>,
}

impl Act {
    /// The median over rounds of what `value` takes from each.
    pub(crate) fn median(&self, value: impl Fn(&Cell) -> f64) -> f64 {
        let mut values: Vec<_> = self.cells.iter().map(|(_, cell)| value(cell)).collect();
        quantile(&mut values, 0.5)
    }

    /// The median of this one's processor time divided by that of `other` in the same round.
    pub(crate) fn ratio(&self, other: &Self) -> Option<f64> {
        let of = |round| other.cells.iter().find(|cell| cell.0 == round).map(|(_, cell)| cell.cost_us);
        let ratios = self.cells.iter().filter_map(|(round, cell)| Some(cell.cost_us / of(*round)?));
        let mut ratios: Vec<_> = ratios.collect();
        (!ratios.is_empty()).then(|| quantile(&mut ratios, 0.5))
    }

    /// What all rounds have of something, together.
    pub(crate) fn all(&self, values: impl Fn(&Cell) -> &[f64]) -> Vec<f64> {
        self.cells.iter().flat_map(|(_, cell)| values(cell)).copied().collect()
    }

    /// What further legs took, each, in bytes: the median over rounds.
    pub(crate) fn bytes_per_leg(&self) -> Option<f64> {
        self.cells.first()?.1.bytes_per_leg?;
        Some(self.median(|cell| cell.bytes_per_leg.unwrap_or_default()))
    }
}

/// A part that is played with more and more legs.
pub(crate) struct Climb {
    /// With its first number of legs.
    pub(crate) part: Part,
    /// No more than these.
    pub(crate) most: u32,
}

/// Processes of FFmpeg at most.
const MOST_PROCESSES: u32 = 64;

/// The least that our targets want of a peer's processor time divided by ours: rtpengine that encodes for each leg, one
/// that encodes once for all, and GStreamer.
const RTPENGINE: f64 = 40.0;
const RTPENGINE_CACHED: f64 = 1.8;
const GSTREAMER: f64 = 1.0;

/// Who is measured.
pub(crate) struct Cast {
    pub(crate) peers: Vec<Box<dyn Peer>>,
    /// Why somebody is not.
    pub(crate) skipped: Vec<String>,
    pub(crate) gstreamer: Option<usize>,
    /// Those that encode for each leg.
    pub(crate) rtpengines: Vec<usize>,
    /// Those that encode once for all.
    pub(crate) cached: Vec<usize>,
    ffmpeg: Option<usize>,
}

/// The place of our engine.
pub(crate) const OURS: usize = 0;

impl Cast {
    pub(crate) fn find(options: &Options, url: String) -> Self {
        let mut cast = Self {
            peers: vec![Box::new(Ours::new(url))],
            skipped: Vec::new(),
            gstreamer: None,
            rtpengines: Vec::new(),
            cached: Vec::new(),
            ffmpeg: None,
        };
        cast.gstreamer = cast.add(Gstreamer::find());
        for program in &options.rtpengine {
            let found = Rtpengine::find(program);
            let cached = found.as_ref().is_ok_and(|rtpengine| rtpengine.player_cache);
            let peer = cast.add(found);
            if cached { &mut cast.cached } else { &mut cast.rtpengines }.extend(peer);
        }
        cast.ffmpeg = cast.add(Ffmpeg::find());
        cast
    }

    fn add<P: Peer + 'static>(&mut self, found: Result<P, String>) -> Option<usize> {
        match found {
            Ok(peer) => {
                self.peers.push(Box::new(peer));
                Some(self.peers.len() - 1)
            }
            Err(why) => {
                self.skipped.push(format!("skipped: {why}"));
                None
            }
        }
    }

    pub(crate) fn title(&self, part: Part) -> String {
        format!("{}, {}, {} legs", self.peers[part.peer].name(), part.sound.name(), part.legs)
    }

    /// Whether this peer encodes the prompt for each leg.
    pub(crate) fn encodes_for_each(&self, peer: usize) -> bool {
        Some(peer) == self.ffmpeg || self.rtpengines.contains(&peer)
    }

    /// What its processor time divided by ours is to be, at least.
    pub(crate) fn target(&self, peer: usize) -> Option<f64> {
        if Some(peer) == self.gstreamer {
            Some(GSTREAMER)
        } else if self.cached.contains(&peer) {
            Some(RTPENGINE_CACHED)
        } else if self.rtpengines.contains(&peer) {
            Some(RTPENGINE)
        } else {
            None
        }
    }

    /// What is played in every round. We send no PCMU.
    pub(crate) fn acts(&self, options: &Options) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut act = |peers: &[usize], sound, legs| {
            let part = |&peer| Act { part: Part { peer, sound, legs }, cells: Vec::new() };
            acts.extend(peers.iter().map(part));
        };
        let (gstreamer, ffmpeg) = (self.gstreamer.as_slice(), self.ffmpeg.as_slice());
        act(&[OURS], Sound::Opus, options.legs);
        for sound in [Sound::Opus, Sound::Pcmu] {
            act(&self.rtpengines, sound, options.legs);
            act(&self.cached, sound, options.legs);
            act(gstreamer, sound, options.legs);
            act(ffmpeg, sound, options.ffmpeg_legs);
        }
        for &legs in &options.many {
            // One after the other: their ratios have targets.
            act(gstreamer, Sound::Opus, legs);
            act(&[OURS], Sound::Opus, legs);
            act(&self.cached, Sound::Opus, legs);
        }
        acts
    }

    pub(crate) fn climbs(&self, options: &Options) -> Vec<Climb> {
        let many = options.many.iter().copied().max().unwrap_or(options.legs);
        let mut climbs = Vec::new();
        let mut climb = |peers: &[usize], sound, legs: u32, most: u32| {
            let part = |&peer| Climb { part: Part { peer, sound, legs: legs.min(most) }, most };
            climbs.extend(peers.iter().map(part));
        };
        climb(&[OURS], Sound::Opus, many, MOST_CLIENTS);
        climb(self.gstreamer.as_slice(), Sound::Opus, many, MOST_CLIENTS);
        for sound in [Sound::Opus, Sound::Pcmu] {
            climb(&self.cached, sound, many, MOST_LEGS);
            climb(&self.rtpengines, sound, options.legs, MOST_LEGS);
        }
        climb(self.ffmpeg.as_slice(), Sound::Opus, options.ffmpeg_legs, MOST_PROCESSES);
        climbs
    }
}
