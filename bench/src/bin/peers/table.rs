//! The table: what was measured of everybody, beside each other.

use holdmusic_bench::{
    chart::{Chart, Line},
    report::{Report, Target, quantile},
};

use crate::{
    cast::{Act, Cast, OURS, Part},
    stage::{FEW, Sound},
};

/// How far a peer went.
pub(crate) struct Climbed {
    pub(crate) part: Part,
    /// The most legs with which pacing held; 0 if it did not with the fewest that were tried.
    pub(crate) held: u32,
    /// More than these were not to be tried.
    pub(crate) most: u32,
    /// Legs that were tried, each with the lateness in ms (99.9 %) of its better try.
    pub(crate) points: Vec<(f64, f64)>,
}

/// All there is to tell.
pub(crate) struct Table<'a> {
    pub(crate) cast: &'a Cast,
    pub(crate) acts: &'a [Act],
    pub(crate) climbed: &'a [Climbed],
}

impl Table<'_> {
    pub(crate) fn write(&self, report: &mut Report) {
        for sound in [Sound::Opus, Sound::Pcmu] {
            report.section(&format!("Processor time for a second of a leg, {}", sound.name()));
            for act in self.played().filter(|act| act.part.sound == sound) {
                report.figure(&self.title(act), act.median(|cell| cell.cost_us), "µs");
            }
        }
        report.remark("holdmusic sends no PCMU yet: there is nothing of ours to compare with");
        self.ratios(report);
        self.limits(report);
        self.first_packets(report);
        self.memory(report);
        self.spacing(report);
        self.charts(report);
    }

    /// Acts of which there are figures; of others it is told why not.
    fn played(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|act| !act.cells.is_empty())
    }

    fn title(&self, act: &Act) -> String {
        self.cast.title(act.part)
    }

    fn ratios(&self, report: &mut Report) {
        report.section("Their processor time for a second of a leg ÷ ours, Opus, in the same round");
        let opus = || self.played().filter(|act| act.part.sound == Sound::Opus);
        let ours: Vec<_> = opus().filter(|act| act.part.peer == OURS).collect();
        let legs = || ours.iter().map(|act| act.part.legs);
        let (Some(few), Some(many)) = (legs().min(), legs().max()) else { return };
        for theirs in opus().filter(|act| act.part.peer != OURS) {
            let Part { peer, legs, .. } = theirs.part;
            let alone = self.cast.encodes_for_each(peer);
            let name = self.cast.peers[peer].name();
            for ours in &ours {
                let same = ours.part.legs == legs;
                // Who encodes for each leg has the same costs for one of many; we have our own with many.
                let strong = ours.part.legs == many && alone;
                let Some(ratio) = theirs.ratio(ours).filter(|_| same || strong) else { continue };
                let title = format!("{name} ({legs} legs) ÷ ours ({})", ours.part.legs);
                match self.cast.target(peer).filter(|_| strong || (!alone && legs > few)) {
                    Some(least) => report.judged(&title, ratio, "", Target::AtLeast(least)),
                    None => report.figure(&title, ratio, ""),
                }
            }
        }
        if self.cast.gstreamer.is_some() {
            report.remark(
                "GStreamer's is the easier job: one SSRC and one numbering for all, who begin together",
            );
        }
        for &peer in &self.cast.rtpengines {
            let name = self.cast.peers[peer].name();
            report.remark(&format!("{name} decodes and encodes for each leg: it has no --player-cache yet"));
        }
        for &peer in &self.cast.cached {
            report.remark(&format!("{} encodes a prompt once for all", self.cast.peers[peer].name()));
        }
    }

    fn limits(&self, report: &mut Report) {
        if self.climbed.is_empty() {
            return;
        }
        report.section("Legs on one core: each with 49.5 to 50.5 packets a second, 99.9 % within 5 ms");
        for climbed in self.climbed {
            let Part { peer, sound, .. } = climbed.part;
            let tried = climbed.points.iter().map(|point| format!("{}: {:.1} ms", point.0, point.1));
            let end = if climbed.held == climbed.most { ", more were not tried" } else { "" };
            let words = format!("(99.9 % with {}{end})", tried.collect::<Vec<_>>().join(", "));
            report.figure(
                &format!("{}, {}", self.cast.peers[peer].name(), sound.name()),
                climbed.held.into(),
                &words,
            );
        }
    }

    fn first_packets(&self, report: &mut Report) {
        report.section("From the request to the first packet, median");
        for act in self.played() {
            let mut first = act.all(|cell| &cell.first_ms);
            let words = format!("ms, 99 % {:.3}, of {}", quantile(&mut first, 0.99), first.len());
            report.figure(&self.title(act), quantile(&mut first, 0.5), &words);
        }
        report.remark("holdmusic: POST of startHoldMusic, its prompt is warm; rtpengine: play media");
        report.remark("GStreamer and FFmpeg: the start of the process");
        report.remark(&format!(
            "up to {FEW} legs are asked for one by one, to an idle peer; more as fast as it goes"
        ));
    }

    fn memory(&self, report: &mut Report) {
        report.section("Resident memory");
        for act in self.played() {
            let kib = act.median(|cell| cell.resident_bytes as f64) / 1024.0;
            report.figure(&format!("{}, all", self.title(act)), kib, "KiB");
            if let Some(bytes) = act.bytes_per_leg() {
                report.figure(&format!("{}, a further leg", self.title(act)), bytes / 1024.0, "KiB");
            }
        }
        // All begin together: further legs are those of another run.
        let theirs = self.played().filter(|act| Some(act.part.peer) == self.cast.gstreamer);
        let points: Vec<_> = theirs
            .filter(|act| act.part.sound == Sound::Opus)
            .map(|act| (f64::from(act.part.legs), act.median(|cell| cell.resident_bytes as f64) / 1024.0))
            .collect();
        let (few, many) = (points.first(), points.last());
        if let (Some(few), Some(many)) = (few, many)
            && few.0 < many.0
        {
            let slope = (many.1 - few.1) / (many.0 - few.0);
            report.figure(&format!("GStreamer, a further leg from {} to {}", few.0, many.0), slope, "KiB");
        }
    }

    fn spacing(&self, report: &mut Report) {
        report.section("Packets late on the grid of their own stream, median");
        for act in self.played() {
            let mut late = act.all(|cell| &cell.late_ms);
            let [most, nearly_all, largest] = [0.99, 0.999, 1.0].map(|share| quantile(&mut late, share));
            let steady = act.cells.iter().map(|(_, cell)| cell.steady).min().unwrap_or(0);
            let words = format!(
                "ms, 99 % {most:.3}, 99.9 % {nearly_all:.3}, largest {largest:.3}; legs at 50 packets a second: {steady}"
            );
            report.figure(&self.title(act), quantile(&mut late, 0.5), &words);
        }
    }

    fn charts(&self, report: &mut Report) {
        let mut costs: Vec<Line> = Vec::new();
        for act in self.played() {
            let name = format!("{}, {}", self.cast.peers[act.part.peer].name(), act.part.sound.name());
            let point = (f64::from(act.part.legs), act.median(|cell| cell.cost_us));
            match costs.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => costs.push(Line { name, points: vec![point] }),
            }
        }
        report.chart(Chart {
            title: "What a held participant costs".to_owned(),
            x: "legs".to_owned(),
            y: "µs of processor time for a second of a leg".to_owned(),
            ratios: true,
            lines: costs,
        });
        if self.climbed.is_empty() {
            return;
        }
        let line = |climbed: &Climbed| {
            let Part { peer, sound, .. } = climbed.part;
            let mut points = climbed.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name: format!("{}, {}", self.cast.peers[peer].name(), sound.name()), points }
        };
        report.chart(Chart {
            title: "How late packets are when legs become more".to_owned(),
            x: "legs on one core".to_owned(),
            y: "ms late, 99.9 %".to_owned(),
            ratios: true,
            lines: self.climbed.iter().map(line).collect(),
        });
    }
}
