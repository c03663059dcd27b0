//! Payloads become sound in true time: what is missing is concealed or silent, never shortened.
//!
//! A receiver that decodes packets one after the other makes a recording that is shorter than the time it covers
//! as soon as one is lost. Here each packet sounds where its timestamp says. Timestamps are believed as long as
//! they agree with the arrivals; after that the arrivals are.

use holdmusic_codecs::{Codec, DecodePayload, Pcm, resample};

use super::{
    format::{PayloadFormat, PayloadFormats},
    order::MAX_DROPOUT,
};
use crate::{rtp::Timestamp, time::MediaTime};

/// Missing packets are concealed for this long, as a good telephone would for much less; silence follows.
pub const MAX_CONCEALED_MS: u32 = 1000;

/// By how many seconds timestamps may disagree with arrivals before they are no longer believed. Buffers on the way
/// hold less; a sender that began to count anew is further off.
const MAX_DISAGREEMENT_S: f64 = 2.0;

/// No sound longer than this is decoded: as long as the packets that are kept, if they hold 20 ms each.
pub const MAX_SOUND_S: u32 = 3600;

/// What a source sounded like.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The sound, mono; its first sample is the first of the first packet. Empty if nothing could be decoded.
    pub sound: Pcm,
    /// Seconds of it that the decoder made up for lost packets.
    pub concealed_s: f64,
    /// Seconds of it that are silent because no packet was meant to sound there, or too many were lost.
    pub silent_s: f64,
    /// Payloads that were empty or refused by the codec; treated as lost.
    pub refused: u64,
    /// How often timestamps disagreed with arrivals for so long that the arrivals were believed.
    pub realigned: u64,
}

impl Default for Decoded {
    fn default() -> Self {
        let sound = Pcm::new(Codec::Opus.sample_rate(), 1, Vec::new());
        Self { sound, concealed_s: 0.0, silent_s: 0.0, refused: 0, realigned: 0 }
    }
}

/// The payloads of one source, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    packets: Vec<KeptPacket>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct KeptPacket {
    place: u64,
    arrived: MediaTime,
    start: usize,
    len: u32,
    timestamp: Timestamp,
    payload_type: u8,
}

impl Kept {
    pub(super) fn push(
        &mut self,
        place: u64,
        arrived: MediaTime,
        timestamp: Timestamp,
        payload_type: u8,
        payload: &[u8],
    ) {
        let (start, len) = (self.bytes.len(), payload.len() as u32);
        self.packets.push(KeptPacket { place, arrived, start, len, timestamp, payload_type });
        self.bytes.extend_from_slice(payload);
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn in_order(&self) -> Vec<KeptPacket> {
        let mut packets = self.packets.clone();
        packets.sort_by_key(|packet| packet.place);
        packets
    }

    fn payload(&self, packet: &KeptPacket) -> &[u8] {
        &self.bytes[packet.start..][..packet.len as usize]
    }
}

/// Plays out everything that was kept of one source. Where its codec changes another decoder goes on; the recording has the
/// highest rate of them all.
pub(super) fn decode(kept: &Kept, formats: &PayloadFormats) -> Decoded {
    let packets = kept.in_order();
    let decodable = packets.iter().filter_map(|packet| {
        let format = formats.of(packet.payload_type)?;
        Some((packet, format, format.codec?))
    });
    let mut stretches: Vec<Playout> = Vec::new();
    for (packet, format, codec) in decodable {
        if stretches.last().is_none_or(|playout| playout.codec != codec) {
            if stretches.len() == MAX_STRETCHES {
                break;
            }
            let Ok(begun) = Playout::starting_with(packet, codec) else { return Decoded::default() };
            stretches.push(begun);
        }
        let playout = stretches.last_mut().expect("one was begun");
        playout.play(packet, kept.payload(packet), format);
        if playout.samples.len() >= playout.limit() {
            break;
        }
    }
    joined(stretches)
}

/// What was heard in one codec after the other, each from where the one before ended, or from when it came if that is later.
fn joined(stretches: Vec<Playout>) -> Decoded {
    let heard: Vec<_> =
        stretches.into_iter().map(|playout| (playout.first_arrival, playout.finish())).collect();
    if heard.len() < 2 {
        return heard.into_iter().next().map_or_else(Decoded::default, |(_, decoded)| decoded);
    }
    let rate = heard.iter().map(|(_, decoded)| decoded.sound.rate()).max().expect("there are two");
    let began = heard[0].0;
    let (mut whole, mut samples) = (Decoded::default(), Vec::new());
    for (arrived, decoded) in heard {
        let at = (arrived.since(began).as_secs_f64() * f64::from(rate)) as usize;
        let hole = at.saturating_sub(samples.len());
        if hole as f64 > MAX_DISAGREEMENT_S * f64::from(rate) {
            samples.resize(samples.len() + hole, 0.0);
            whole.silent_s += hole as f64 / f64::from(rate);
        }
        samples.extend_from_slice(resample(&decoded.sound, rate).samples());
        whole.concealed_s += decoded.concealed_s;
        whole.silent_s += decoded.silent_s;
        whole.refused += decoded.refused;
        whole.realigned += decoded.realigned;
        if samples.len() >= (MAX_SOUND_S * rate) as usize {
            break;
        }
    }
    samples.truncate((MAX_SOUND_S * rate) as usize);
    whole.sound = Pcm::new(rate, 1, samples);
    whole
}

/// Changes of codec that are followed. Nobody who is heard has so many.
const MAX_STRETCHES: usize = 1_000;

struct Playout {
    codec: Codec,
    decoder: Box<dyn DecodePayload>,
    samples: Vec<f32>,
    /// The last packet that was played, and where it began.
    before: KeptPacket,
    before_begins: usize,
    /// Samples of the last payload that was decoded.
    packet: usize,
    /// Whether any payload was decoded.
    heard: bool,
    concealed: usize,
    silent: usize,
    refused: u64,
    realigned: u64,
    /// Arrivals and samples are counted from here.
    first_arrival: MediaTime,
}

impl Playout {
    fn starting_with(first: &KeptPacket, codec: Codec) -> Result<Self, holdmusic_codecs::EncodeError> {
        Ok(Self {
            codec,
            decoder: codec.decoder()?,
            samples: Vec::new(),
            before: *first,
            before_begins: 0,
            packet: codec.samples_per_frame(),
            heard: false,
            concealed: 0,
            silent: 0,
            refused: 0,
            realigned: 0,
            first_arrival: first.arrived,
        })
    }

    fn play(&mut self, packet: &KeptPacket, payload: &[u8], format: &PayloadFormat) {
        let begins = self.begins(packet, format);
        self.fill_until(begins, packet.place - self.before.place);
        let decoded_from = self.samples.len();
        // Nothing in a packet, or nothing that the codec knows: as if it had been lost, and concealed like that when
        // the next one comes. (An empty payload would make Opus conceal as much as it has room for.)
        if payload.is_empty() || self.decoder.decode(Some(payload), &mut self.samples).is_err() {
            self.samples.truncate(decoded_from);
            self.refused += 1;
            return;
        }
        self.heard = true;
        // A packet that begins before the last one ended is heard from where that one ended.
        let overlap = decoded_from.saturating_sub(begins);
        let decoded = self.samples.len() - decoded_from;
        self.packet = decoded.max(1);
        self.samples.drain(decoded_from..decoded_from + overlap.min(decoded));
        (self.before, self.before_begins) = (*packet, begins);
    }

    /// The sample with which a packet begins: by its timestamp, or by its arrival if the two cannot both be true.
    fn begins(&mut self, packet: &KeptPacket, format: &PayloadFormat) -> usize {
        let rate = f64::from(self.codec.sample_rate());
        let units = packet.timestamp.0.wrapping_sub(self.before.timestamp.0).cast_signed();
        let shift =
            i64::from(units) * i64::from(self.codec.sample_rate()) / i64::from(format.clock_rate.0.max(1));
        let by_timestamp = self.before_begins as i64 + shift;
        let by_arrival_s = packet.arrived.since(self.first_arrival).as_secs_f64();
        // What begins where the last one ended is in its place even if the sender is faster than time (a file
        // sent in one go).
        let follows = usize::try_from(by_timestamp) == Ok(self.samples.len());
        if follows || (by_timestamp as f64 / rate - by_arrival_s).abs() <= MAX_DISAGREEMENT_S {
            return usize::try_from(by_timestamp).unwrap_or(0).min(self.limit());
        }
        self.realigned += 1;
        ((by_arrival_s * rate) as usize).min(self.limit()).max(self.samples.len())
    }

    /// Makes up for lost packets (places that nobody filled), then is silent until `begins`.
    fn fill_until(&mut self, begins: usize, places: u64) {
        // As much as is in the packets that come.
        let frame = self.packet;
        let hole = begins.saturating_sub(self.samples.len());
        let lost = if places < u64::from(MAX_DROPOUT) { places.saturating_sub(1) as usize } else { 0 };
        let most = self.codec.sample_rate() * MAX_CONCEALED_MS / 1000;
        let frames = lost.min(hole / frame).min(most as usize / frame);
        for _ in 0..frames {
            self.conceal_frame();
        }
        let silent = begins.saturating_sub(self.samples.len());
        self.silent += silent;
        self.samples.resize(self.samples.len() + silent, 0.0);
    }

    fn conceal_frame(&mut self) {
        let end = self.samples.len() + self.packet;
        while self.samples.len() < end {
            let before = self.samples.len();
            if self.decoder.decode(None, &mut self.samples).is_err() || self.samples.len() == before {
                self.samples.resize(end, 0.0);
            }
        }
        self.samples.truncate(end);
        self.concealed += self.packet;
    }

    fn limit(&self) -> usize {
        (MAX_SOUND_S * self.codec.sample_rate()) as usize
    }

    fn finish(mut self) -> Decoded {
        if !self.heard {
            return Decoded { refused: self.refused, ..Decoded::default() };
        }
        self.samples.truncate(self.limit());
        let rate = self.codec.sample_rate();
        let seconds = |samples: usize| samples as f64 / f64::from(rate);
        Decoded {
            concealed_s: seconds(self.concealed),
            silent_s: seconds(self.silent),
            refused: self.refused,
            realigned: self.realigned,
            sound: Pcm::new(rate, 1, self.samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdmusic_codecs::EncoderSettings;

    use crate::rtp::PayloadType;

    use super::{
        super::{
            Receiver,
            tests::{SSRC, packet, tick},
        },
        *,
    };

    /// A sweep of `seconds`, and the payloads of real Opus made of it.
    fn sweep(seconds: u32) -> (Vec<f32>, Vec<Vec<u8>>) {
        let codec = Codec::Opus;
        let tone = |n: u32| {
            let t = f64::from(n) / f64::from(codec.sample_rate());
            // A slow sweep: no two stretches are alike, so a shift cannot hide.
            let phase = std::f64::consts::TAU * (300.0 * t + 40.0 * t * t);
            (0.4 * phase.sin()) as f32
        };
        let source: Vec<f32> = (0..seconds * codec.sample_rate()).map(tone).collect();
        let mut encoder = codec.encoder(&EncoderSettings::default()).unwrap();
        let mut payload = vec![0; encoder.max_payload_len()];
        let payloads = source
            .chunks_exact(codec.samples_per_frame())
            .map(|frame| {
                let len = encoder.encode(frame, &mut payload).unwrap();
                payload[..len].to_vec()
            })
            .collect();
        (source, payloads)
    }

    fn correlation(one: &[f32], other: &[f32]) -> f64 {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    }

    /// Opus delays by 6.5 ms at 16 kHz (its look-ahead), found as the best of all shifts up to 10 ms.
    fn best_shift(source: &[f32], heard: &[f32]) -> (usize, f64) {
        (0..160)
            .map(|shift| (shift, correlation(&source[..source.len() - shift], &heard[shift..source.len()])))
            .max_by(|one, other| one.1.total_cmp(&other.1))
            .unwrap()
    }

    fn heard_of(payloads: &[Vec<u8>], skip: impl Fn(u32) -> bool) -> Decoded {
        let mut receiver = Receiver::new(Codec::Opus);
        for (n, payload) in (0..).zip(payloads).filter(|(n, _)| !skip(*n)) {
            receiver.handle_datagram(tick(n), &packet(SSRC, n as u16, 960 * n, n == 0, payload));
        }
        receiver.decode()
    }

    #[test]
    fn a_real_opus_stream_sounds_like_its_source() {
        let (source, payloads) = sweep(3);
        let heard = heard_of(&payloads, |_| false);
        assert_eq!(heard.sound.len(), source.len());
        let (shift, correlation) = best_shift(&source, heard.sound.samples());
        assert!(correlation > 0.99, "correlation {correlation} at {shift}");
        assert_eq!((heard.concealed_s, heard.silent_s, heard.refused, heard.realigned), (0.0, 0.0, 0, 0));
    }

    #[test]
    fn lost_packets_are_concealed_for_a_second_then_silent_and_time_stays_true() {
        let (source, payloads) = sweep(8);
        let heard = heard_of(&payloads, |n| [20, 21, 40].contains(&n) || (100..250).contains(&n));
        assert_eq!(heard.sound.len(), source.len());
        assert_eq!((heard.concealed_s, heard.silent_s), (0.06 + 1.0, 2.0));
        let samples = heard.sound.samples();
        let (shift, _) = best_shift(&source, heard_of(&payloads, |_| false).sound.samples());
        let (from, until) = (6 * 16_000, 8 * 16_000 - shift);
        let after = correlation(&source[from..until], &samples[from + shift..until + shift]);
        assert!(after > 0.99, "after the losses the sound is in its place: {after}");
        assert!(samples[4 * 16_000..5 * 16_000 - 320].iter().all(|sample| *sample == 0.0));
    }

    #[test]
    fn empty_and_broken_payloads_are_as_good_as_lost() {
        let (source, payloads) = sweep(4);
        let lost = heard_of(&payloads, |n| [20, 40].contains(&n));
        let mut broken = payloads.clone();
        broken[20].clear();
        // Code 3 with a frame count of 0 is forbidden (RFC 6716 section 3.2.5).
        broken[40] = vec![0xff, 0];
        let heard = heard_of(&broken, |_| false);
        assert_eq!((heard.sound.len(), heard.refused), (source.len(), 2));
        assert_eq!((&heard.sound, heard.concealed_s), (&lost.sound, lost.concealed_s));
        // Nothing but broken ones is no sound at all, however many there are.
        let nothing = heard_of(&vec![vec![0xff, 0]; 5_000], |_| false);
        assert_eq!(nothing, Decoded { refused: 5_000, ..Decoded::default() });
    }

    #[test]
    fn reordered_and_repeated_packets_sound_as_if_nothing_happened() {
        let (_, payloads) = sweep(1);
        let mut receiver = Receiver::new(Codec::Opus);
        for n in (0..50u32).flat_map(|n| [n ^ 1, n ^ 1]) {
            let datagram = packet(SSRC, n as u16, 960 * n, n == 0, &payloads[n as usize]);
            receiver.handle_datagram(tick(n), &datagram);
        }
        assert_eq!(receiver.decode(), heard_of(&payloads, |_| false));
    }

    #[test]
    fn a_pause_is_silent_for_as_long_as_it_lasted_and_a_new_numbering_goes_by_arrival() {
        let (_, payloads) = sweep(2);
        let mut receiver = Receiver::new(Codec::Opus);
        for (n, payload) in (0..100u32).zip(&payloads) {
            // 25 packets, 3 s away, 25 packets; then the timestamps begin anew, 5 s of arrivals later.
            let (slot, timestamp) = match n {
                0..25 => (n, 960 * n),
                25..50 => (n + 150, 960 * (n + 150)),
                _ => (n + 400, 0x8000_0000 + 960 * n),
            };
            receiver.handle_datagram(tick(slot), &packet(SSRC, n as u16, timestamp, n == 25, payload));
        }
        let heard = receiver.decode();
        assert_eq!(heard.sound.len(), 500 * 320);
        assert_eq!((heard.silent_s, heard.concealed_s, heard.realigned), (8.0, 0.0, 1));
    }

    /// Half a second each of A-law at 8 kHz, G.722 at 16, L16 at 16 by a dynamic payload type, and Opus; a sweep all through.
    #[test]
    fn where_the_codec_changes_the_sound_goes_on() {
        let numbers = [(Codec::Pcma, 8), (Codec::G722, 9), (Codec::L16, 97), (Codec::Opus, 111)];
        let mut formats = PayloadFormats::from(Codec::Opus);
        formats.insert(PayloadType::new(97).unwrap(), Codec::L16.into());
        let mut receiver = Receiver::new(formats);
        let (mut timestamp, mut number) = (1000, 0);
        let mut source = Vec::new();
        for (codec, payload_type) in numbers {
            let rate = f64::from(codec.sample_rate());
            let mut encoder = codec.encoder(&EncoderSettings::default()).unwrap();
            let mut payload = vec![0; encoder.max_payload_len()];
            for _ in 0..25 {
                let tone = |from: f64, rate: f64| {
                    move |n: usize| {
                        let t = from + n as f64 / rate;
                        (0.4 * (std::f64::consts::TAU * (300.0 * t + 40.0 * t * t)).sin()) as f32
                    }
                };
                let from = f64::from(number) * 0.02;
                let frame: Vec<f32> = (0..codec.samples_per_frame()).map(tone(from, rate)).collect();
                source.extend((0..320).map(tone(from, 16_000.0)));
                let len = encoder.encode(&frame, &mut payload).unwrap();
                let mut datagram = packet(SSRC, number as u16, timestamp, number == 0, &payload[..len]);
                datagram[1] = datagram[1] & 0x80 | payload_type;
                receiver.handle_datagram(tick(number), &datagram);
                timestamp += codec.timestamp_step();
                number += 1;
            }
        }
        let heard = receiver.decode();
        assert_eq!((heard.sound.rate(), heard.sound.len()), (16_000, source.len()));
        assert_eq!((heard.silent_s, heard.concealed_s, heard.refused, heard.realigned), (0.0, 0.0, 0, 0));
        for (stretch, (codec, _)) in numbers.iter().enumerate() {
            let part = stretch * 8_000 + 800..(stretch + 1) * 8_000 - 800;
            let delay = codec.delay_samples();
            let heard = &heard.sound.samples()[part.start + delay..part.end + delay];
            let found = correlation(&source[part], heard);
            assert!(found > 0.98, "{codec:?}: {found}");
        }
    }

    #[test]
    fn a_sender_faster_than_time_is_heard_without_holes() {
        let (_, payloads) = sweep(5);
        let mut receiver = Receiver::new(Codec::Opus);
        for (n, payload) in (0..).zip(&payloads) {
            receiver.handle_datagram(tick(0), &packet(SSRC, n as u16, 960 * n, n == 0, payload));
        }
        let heard = receiver.decode();
        assert_eq!((heard.sound.seconds(), heard.silent_s, heard.realigned), (5.0, 0.0, 0));
    }
}
