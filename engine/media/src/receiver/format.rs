//! [`PayloadFormats`]: which payload type is what, as a session description or RFC 3551 says.

use std::{collections::BTreeMap, time::Duration};

use holdmusic_codecs::Codec;

use crate::{rtp::PayloadType, time::ClockRate};

/// What the payloads of one payload type are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFormat {
    /// The encoding name as in `a=rtpmap`.
    pub name: String,
    /// Units of the RTP timestamp in a second.
    pub clock_rate: ClockRate,
    /// How much sound a packet holds, and so how often one is sent; `None` if that is to be learnt from the first
    /// packets, and 20 ms until then.
    pub packet_time: Option<Duration>,
    /// The codec that decodes it, if we have one.
    pub codec: Option<Codec>,
}

impl PayloadFormat {
    /// A format of `name` at `clock_rate`, its packet time to be learnt, decoded if we know the name.
    pub fn named(name: &str, clock_rate: u32) -> Self {
        let ours =
            |codec: &Codec| codec.name().eq_ignore_ascii_case(name) && codec.clock_rate() == clock_rate;
        Self {
            name: name.to_owned(),
            clock_rate: ClockRate(clock_rate),
            packet_time: None,
            codec: Codec::ALL.iter().copied().find(ours),
        }
    }
}

impl From<Codec> for PayloadFormat {
    /// As a leg of ours sends it: one frame in a packet, and nothing else is right.
    fn from(codec: Codec) -> Self {
        let packet_time = Some(Duration::from_millis(codec.frame_ms().into()));
        Self { packet_time, codec: Some(codec), ..Self::named(codec.name(), codec.clock_rate()) }
    }
}

/// Payload types and their formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFormats(BTreeMap<u8, PayloadFormat>);

impl PayloadFormats {
    /// The static payload types for sound of RFC 3551 table 4, as far as anybody still sends them.
    pub fn of_rfc_3551() -> Self {
        const STATIC: [(u8, &str, u32); 8] = [
            (0, "PCMU", 8_000),
            (3, "GSM", 8_000),
            (8, "PCMA", 8_000),
            (9, "G722", 8_000),
            (10, "L16", 44_100),
            (11, "L16", 44_100),
            (13, "CN", 8_000),
            (18, "G729", 8_000),
        ];
        Self(STATIC.map(|(number, name, rate)| (number, PayloadFormat::named(name, rate))).into())
    }

    /// The same, and `format` for every dynamic payload type (96 to 127): what to assume of a sender that is not
    /// described.
    pub fn with_dynamic(mut self, format: &PayloadFormat) -> Self {
        self.0.extend((96..128).map(|number| (number, format.clone())));
        self
    }

    /// Says what one payload type is.
    pub fn insert(&mut self, payload_type: PayloadType, format: PayloadFormat) {
        self.0.insert(payload_type.number(), format);
    }

    /// What payload type `number` is, if that is known.
    pub fn of(&self, number: u8) -> Option<&PayloadFormat> {
        self.0.get(&number)
    }
}

impl From<Codec> for PayloadFormats {
    fn from(codec: Codec) -> Self {
        Self::of_rfc_3551().with_dynamic(&codec.into())
    }
}
