//! Payloads become sound in true time: what is missing is concealed or silent, never shortened.
//!
//! A receiver that decodes packets one after the other makes a recording that is shorter than the time it covers
//! as soon as one is lost. Here each packet sounds where its timestamp says. Timestamps are believed as long as
//! they agree with the arrivals; after that the arrivals are.

use holdmusic_codecs::{Codec, DecodePayload, Pcm};

use super::{
    format::{PayloadFormat, PayloadFormats},
    stream::MAX_DROPOUT,
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
    /// Payloads that the codec refused; each was concealed.
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

/// Plays out everything that was kept of one source.
pub(super) fn decode(kept: &Kept, formats: &PayloadFormats) -> Decoded {
    let packets = kept.in_order();
    let decodable = packets.iter().filter_map(|packet| {
        let format = formats.of(packet.payload_type)?;
        Some((packet, format, format.codec?))
    });
    let mut playout: Option<Playout> = None;
    for (packet, format, codec) in decodable {
        let playout = match &mut playout {
            Some(playout) => playout,
            none => {
                let Ok(begun) = Playout::starting_with(packet, codec) else { return Decoded::default() };
                none.insert(begun)
            }
        };
        // One recording has one rate: what another codec says is left out, and its time stays silent.
        if codec == playout.codec {
            playout.play(packet, kept.payload(packet), format);
        }
        if playout.samples.len() >= playout.limit() {
            break;
        }
    }
    playout.map_or_else(Decoded::default, Playout::finish)
}

struct Playout {
    codec: Codec,
    decoder: Box<dyn DecodePayload>,
    samples: Vec<f32>,
    /// The last packet that was played, and where it began.
    before: KeptPacket,
    before_begins: usize,
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
        if self.decoder.decode(Some(payload), &mut self.samples).is_err() {
            self.samples.truncate(decoded_from);
            self.refused += 1;
            self.conceal_frame();
        }
        // A packet that begins before the last one ended is heard from where that one ended.
        let overlap = decoded_from.saturating_sub(begins);
        let decoded = self.samples.len() - decoded_from;
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
        let frame = self.codec.samples_per_frame();
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
        let begun = self.samples.len();
        if self.decoder.decode(None, &mut self.samples).is_err() {
            self.samples.resize(begun + self.codec.samples_per_frame(), 0.0);
        }
        self.concealed += self.samples.len() - begun;
    }

    fn limit(&self) -> usize {
        (MAX_SOUND_S * self.codec.sample_rate()) as usize
    }

    fn finish(mut self) -> Decoded {
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
