//! Counters and histograms, read out by `http`. A sender writes its own and nobody else's, with plain stores; the
//! scrape reads and sums up. This is the second place, after the ring, where two threads look at the same memory.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use holdmusic_control::Counts;
use holdmusic_media::{MediaTime, pacer::Served};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Upper bounds of the lateness histogram, in nanoseconds: from the resolution of the timer to a skipped tick.
const LATENESS_BOUNDS_NS: [u64; 12] = [
    50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 3_000_000, 5_000_000, 7_500_000, 10_000_000,
    15_000_000, 20_000_000,
];

/// Upper bounds of the histogram of gaps between packets, in nanoseconds: from the 20 ms that they should be, in steps of
/// what a jitter buffer feels, to what everybody hears.
const GAP_BOUNDS_NS: [u64; 12] = [
    20_200_000,
    20_500_000,
    21_000_000,
    22_000_000,
    25_000_000,
    30_000_000,
    35_000_000,
    40_000_000,
    60_000_000,
    100_000_000,
    200_000_000,
    1_000_000_000,
];

/// Upper bounds of the first-packet histogram, in nanoseconds.
const LATENCY_BOUNDS_NS: [u64; 12] = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    5_000_000_000,
    20_000_000_000,
];

/// A histogram with one writer.
#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds_ns: [u64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum_ns: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds_ns: [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds_ns, counts, beyond: AtomicU64::new(0), sum_ns: AtomicU64::new(0) }
    }

    fn add(&self, value_ns: u64) {
        let place = self.bounds_ns.iter().position(|bound| value_ns <= *bound);
        let count = place.map_or(&self.beyond, |place| &self.counts[place]);
        add(count, 1);
        add(&self.sum_ns, value_ns);
    }

    /// Adds what is counted up to each bound, and beyond the last one, to `into`.
    fn sum_up(&self, into: &mut [u64]) {
        let counts = self.counts.iter().chain([&self.beyond]);
        into.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.load(Relaxed));
    }

    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        let mut buckets: Vec<_> = self
            .bounds_ns
            .iter()
            .zip(&self.counts)
            .map(|(bound, count)| (*bound as f64 / 1e9, count.load(Relaxed)))
            .collect();
        buckets.push((f64::MAX, self.beyond.load(Relaxed)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sum_ns.load(Relaxed) as f64 / 1e9;
        metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }
}

/// With one writer a load and a store are enough: no locked instruction on the sending path.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// What one sender counts.
#[derive(Debug)]
pub struct SenderCounts {
    legs: AtomicU64,
    playing: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
    rtcp_packets: AtomicU64,
    refused: AtomicU64,
    starved: AtomicU64,
    skipped: AtomicU64,
    late: AtomicU64,
    peer_datagrams_lost: AtomicU64,
    lateness: Histogram<12>,
    gaps: Histogram<12>,
    /// When its last round began.
    round: AtomicU64,
}

impl Default for SenderCounts {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            legs: zero(),
            playing: zero(),
            packets: zero(),
            bytes: zero(),
            rtcp_packets: zero(),
            refused: zero(),
            starved: zero(),
            skipped: zero(),
            late: zero(),
            peer_datagrams_lost: zero(),
            lateness: Histogram::new(LATENESS_BOUNDS_NS),
            gaps: Histogram::new(GAP_BOUNDS_NS),
            round: zero(),
        }
    }
}

impl SenderCounts {
    /// How many legs there are and how many of them play.
    pub fn set_legs(&self, legs: usize, playing: usize) {
        self.legs.store(legs as u64, Relaxed);
        self.playing.store(playing as u64, Relaxed);
    }

    /// The sender begins a round.
    pub fn round(&self, now: MediaTime) {
        self.round.store(now.as_nanos(), Relaxed);
    }

    /// RTP packets that have left.
    pub fn packets(&self) -> u64 {
        self.packets.load(Relaxed)
    }

    /// A datagram for a WebRTC peer came when the queue to their thread was full.
    pub fn lose_peer_datagram(&self) {
        add(&self.peer_datagrams_lost, 1);
    }

    /// Adds one round of sending.
    pub fn add(&self, served: &Served) {
        add(&self.packets, served.packets);
        add(&self.bytes, served.bytes);
        add(&self.rtcp_packets, served.rtcp_packets);
        add(&self.refused, served.refused);
        add(&self.starved, served.starved);
        add(&self.skipped, served.skipped);
        add(&self.late, served.late);
        self.lateness.add(served.lateness_ns);
        if served.longest_gap_ns > 0 {
            self.gaps.add(served.longest_gap_ns);
        }
    }
}

/// What the HTTP door counts of connections; every one of its threads does.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    open: AtomicU64,
    refused: AtomicU64,
}

impl ConnectionCounts {
    /// One more.
    pub fn enter(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// One that came when there was no room.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

/// Everything that `/metrics` tells.
#[derive(Debug)]
pub struct Metrics {
    senders: Vec<Arc<SenderCounts>>,
    connections: Arc<ConnectionCounts>,
    /// When the desk began its last round.
    desk_round: AtomicU64,
    control: Mutex<Counts>,
    /// Of each sender; the desk writes them all.
    first_packet: Vec<Histogram<12>>,
    /// The desk writes it.
    commits: Histogram<12>,
    store_refuses: AtomicU64,
}

impl Metrics {
    /// Metrics of so many senders.
    pub fn new(senders: usize) -> Arc<Self> {
        Arc::new(Self {
            senders: (0..senders).map(|_| Arc::default()).collect(),
            connections: Arc::default(),
            desk_round: AtomicU64::new(0),
            control: Mutex::default(),
            first_packet: (0..senders).map(|_| Histogram::new(LATENCY_BOUNDS_NS)).collect(),
            commits: Histogram::new(LATENCY_BOUNDS_NS),
            store_refuses: AtomicU64::new(0),
        })
    }

    /// What sender `index` writes to.
    pub fn sender(&self, index: usize) -> &Arc<SenderCounts> {
        &self.senders[index]
    }

    /// What the HTTP door writes to.
    pub fn connections(&self) -> &Arc<ConnectionCounts> {
        &self.connections
    }

    /// The desk begins a round. Only the desk calls it.
    pub fn desk_round(&self, now: MediaTime) {
        self.desk_round.store(now.as_nanos(), Relaxed);
    }

    /// The thread that has been in its round for longest, of those that must never stand still, and for how long. A thread
    /// that has not begun one yet has stood still for no time.
    pub fn longest_round(&self, now: MediaTime) -> (String, Duration) {
        let senders = self.senders.iter().map(|sender| &sender.round);
        let rounds = std::iter::once(&self.desk_round).chain(senders);
        let for_long = rounds.map(|began| match began.load(Relaxed) {
            0 => Duration::ZERO,
            began => now.since(MediaTime::from_nanos(began)),
        });
        let (thread, since) = for_long.enumerate().max_by_key(|(_, since)| *since).expect("there is a desk");
        (thread.checked_sub(1).map_or("hm-control".to_owned(), |index| format!("hm-sender-{index}")), since)
    }

    /// What control counts, as of now. Only the thread that owns control calls it, and [`Metrics::first_packet`].
    pub fn set_control(&self, counts: Counts) {
        *self.control.lock().expect("nobody panics while holding it") = counts;
    }

    /// A hold's first packet left `sender` so long after its request was accepted.
    pub fn first_packet(&self, sender: usize, latency_ns: u64) {
        self.first_packet[sender].add(latency_ns);
    }

    /// The disk has a batch, so long after it was sent there. Only the desk calls it.
    pub fn committed(&self, after: Duration) {
        self.commits.add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self.store_refuses.store(0, Relaxed);
    }

    /// The disk refuses. Only the desk calls it.
    pub fn store_refuses(&self) {
        self.store_refuses.store(1, Relaxed);
    }

    /// What all senders have counted so far, for the console's graphs.
    pub fn sending(&self) -> Sending {
        let mut sending = Sending::default();
        for sender in &self.senders {
            let count = |counter: &AtomicU64| counter.load(Relaxed);
            sending.playing += count(&sender.playing);
            sending.packets += count(&sender.packets);
            sending.late += count(&sender.late);
            sending.skipped += count(&sender.skipped);
            sending.starved += count(&sender.starved);
            sending.refused += count(&sender.refused);
            sender.lateness.sum_up(&mut sending.lateness);
            sender.gaps.sum_up(&mut sending.gaps);
        }
        sending
    }

    /// The text of OpenMetrics 1.0.
    pub fn text(self: &Arc<Self>) -> String {
        let mut registry = Registry::with_prefix("holdmusic");
        registry.register_collector(Box::new(Scrape(Arc::clone(self))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all text");
        text
    }
}

/// What all senders together have counted since the engine was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// Legs that are being sent to at present.
    pub playing: u64,
    /// RTP packets that have left.
    pub packets: u64,
    /// Of these, more than 5 ms late.
    pub late: u64,
    /// Packets left out because they were 20 ms late.
    pub skipped: u64,
    /// Packets without sound, for want of a frame.
    pub starved: u64,
    /// Datagrams that the network refused.
    pub refused: u64,
    /// Rounds of sending by how late they began: up to each of [`Sending::LATENESS_MS`], and beyond.
    pub lateness: [u64; 13],
    /// Rounds of sending by the longest gap before one of their packets: up to each of [`Sending::GAPS_MS`], and beyond.
    pub gaps: [u64; 13],
}

impl Sending {
    /// Upper bounds of what is counted in `lateness`, in milliseconds.
    pub const LATENESS_MS: [f64; 12] = millis(LATENESS_BOUNDS_NS);

    /// Upper bounds of what is counted in `gaps`, in milliseconds.
    pub const GAPS_MS: [f64; 12] = millis(GAP_BOUNDS_NS);
}

const fn millis(bounds_ns: [u64; 12]) -> [f64; 12] {
    let mut bounds = [0.0; 12];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = bounds_ns[at] as f64 / 1e6;
        at += 1;
    }
    bounds
}

#[derive(Debug)]
struct Scrape(Arc<Metrics>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = *self.0.control.lock().expect("nobody panics while holding it");
        let sum = |field: fn(&SenderCounts) -> &AtomicU64| {
            self.0.senders.iter().map(|sender| field(sender).load(Relaxed)).sum::<u64>()
        };
        let gauges = [
            ("calls", "Calls that have not ended", counts.calls),
            ("store_refuses", "Whether the store cannot be written", self.0.store_refuses.load(Relaxed)),
            ("applications", "Applications that have calls, or asked a moment ago", counts.owners),
            ("participants", "Participants registered", counts.participants),
            ("held_participants", "Participants on hold", counts.held),
            ("listeners", "Who listens in on participants", counts.listeners),
            ("prompts", "Prompts prepared or being prepared", counts.prompts),
            ("prompts_preparing", "Prompts being prepared", counts.preparing),
            ("notifications_pending", "Notifications owed", counts.notifications_pending),
            ("http_connections", "Connections of clients", self.0.connections.open.load(Relaxed)),
            ("legs", "Media legs registered with a sender", sum(|sender| &sender.legs)),
            ("legs_playing", "Media legs that are being sent to", sum(|sender| &sender.playing)),
        ];
        for (name, help, value) in gauges {
            encode(&mut encoder, name, help, &ConstGauge::new(value.cast_signed()))?;
        }
        let counters = [
            ("starts", "Start operations accepted", counts.starts),
            (
                "starts_completed",
                "Start operations completed with what was asked for",
                counts.starts_completed,
            ),
            (
                "starts_with_failed_prompt",
                "Start operations completed with default music because the prompt failed",
                counts.starts_with_failed_prompt,
            ),
            ("starts_failed", "Start operations failed", counts.starts_failed),
            ("stops", "Stop operations accepted", counts.stops),
            (
                "notifications_delivered",
                "Notifications accepted by their receivers",
                counts.notifications_delivered,
            ),
            ("notifications_undelivered", "Notifications given up", counts.notifications_undelivered),
            (
                "http_connections_refused",
                "Connections that came when there was no room",
                self.0.connections.refused.load(Relaxed),
            ),
            ("rtp_packets", "RTP packets handed to the network", sum(|sender| &sender.packets)),
            (
                "rtp_bytes",
                "Bytes of RTP handed to the network, headers included",
                sum(|sender| &sender.bytes),
            ),
            ("rtcp_packets", "RTCP packets handed to the network", sum(|sender| &sender.rtcp_packets)),
            ("send_errors", "Datagrams that the network refused", sum(|sender| &sender.refused)),
            (
                "peer_datagrams_lost",
                "Datagrams of ICE and DTLS that came when their queue was full",
                sum(|sender| &sender.peer_datagrams_lost),
            ),
            ("ring_underruns", "Packets without sound, for want of a frame", sum(|sender| &sender.starved)),
            ("skipped_ticks", "Packets left out because they were 20 ms late", sum(|sender| &sender.skipped)),
            ("late_packets", "Packets that left more than 5 ms late", sum(|sender| &sender.late)),
        ];
        for (name, help, value) in counters {
            encode(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        let mut failures = encoder.encode_descriptor(
            "prompt_failures",
            "Prompts that could not be played, by cause",
            None,
            MetricType::Counter,
        )?;
        for (cause, count) in counts.prompt_failures.iter() {
            failures
                .encode_family(&[("cause", cause.word())])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "From a batch of changes on its way to the disk until the disk has it";
        let name = "store_commit_seconds";
        let commits = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.0.commits.encode(&mut { commits })?;
        let first_packet = self.0.first_packet.iter();
        let help = "From the acceptance of a start request to its first RTP packet";
        of_senders(&mut encoder, "first_packet_latency_seconds", help, first_packet)?;
        let lateness = self.0.senders.iter().map(|sender| &sender.lateness);
        of_senders(&mut encoder, "tick_lateness_seconds", "How late a sender woke for a slot", lateness)?;
        let gaps = self.0.senders.iter().map(|sender| &sender.gaps);
        let help = "Of each round of sending: the longest time since the packet before on the same leg";
        of_senders(&mut encoder, "packet_gap_seconds", help, gaps)
    }
}

/// A histogram of each sender, named by its number.
fn of_senders<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histograms: impl Iterator<Item = &'a Histogram<12>>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (sender, histogram) in histograms.enumerate() {
        histogram.encode(&mut family.encode_family(&[("sender", sender.to_string())])?)?;
    }
    Ok(())
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrape_sums_up_what_the_senders_counted() {
        let metrics = Metrics::new(2);
        for (index, packets) in [(0, 3), (1, 4)] {
            let gap = 20_400_000;
            let served = Served { packets, lateness_ns: 600_000, longest_gap_ns: gap, ..Served::default() };
            metrics.sender(index).add(&served);
        }
        metrics.set_control(Counts { held: 5, ..Counts::default() });
        metrics.first_packet(1, 1_500_000);
        let text = metrics.text();
        for line in [
            "holdmusic_rtp_packets_total 7",
            "holdmusic_held_participants 5",
            "holdmusic_first_packet_latency_seconds_bucket{le=\"0.001\",sender=\"1\"} 0",
            "holdmusic_first_packet_latency_seconds_bucket{le=\"0.002\",sender=\"1\"} 1",
            "holdmusic_first_packet_latency_seconds_count{sender=\"1\"} 1",
            "holdmusic_first_packet_latency_seconds_count{sender=\"0\"} 0",
            "holdmusic_prompt_failures_total{cause=\"dnsFailed\"} 0",
            "holdmusic_prompt_failures_total{cause=\"encodeFailed\"} 0",
            "holdmusic_tick_lateness_seconds_bucket{le=\"0.001\",sender=\"1\"} 1",
            "holdmusic_packet_gap_seconds_bucket{le=\"0.0205\",sender=\"1\"} 1",
            "holdmusic_packet_gap_seconds_bucket{le=\"0.0202\",sender=\"1\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let sending = metrics.sending();
        assert_eq!((sending.packets, sending.lateness[4], sending.gaps[1]), (7, 2, 2));
        assert_eq!((sending.lateness.iter().sum::<u64>(), sending.gaps.iter().sum::<u64>()), (2, 2));
        assert_eq!((Sending::LATENESS_MS[4], Sending::GAPS_MS[1]), (1.0, 20.5));
    }

    #[test]
    fn the_longest_round_is_that_of_the_thread_that_stands_still() {
        let at = |ms: u64| MediaTime::from_nanos(ms * 1_000_000);
        let metrics = Metrics::new(2);
        assert_eq!(metrics.longest_round(at(9_000)).1, Duration::ZERO);
        metrics.desk_round(at(8_900));
        metrics.sender(0).round(at(8_990));
        metrics.sender(1).round(at(4_000));
        assert_eq!(metrics.longest_round(at(9_000)), ("hm-sender-1".to_owned(), Duration::from_secs(5)));
        metrics.sender(1).round(at(8_990));
        assert_eq!(metrics.longest_round(at(9_000)), ("hm-control".to_owned(), Duration::from_millis(100)));
    }
}
