//! The formats of a media line -> which codec, under which number, in packets of which length.

use holdmusic_codecs::{Codec, FRAME_MS, SHORT_FRAME_MS};
use holdmusic_media::rtp::PayloadType;

use super::offer::Line;
use crate::{
    graph::shorten,
    settings::{CodecOrder, Settings},
};

/// What `maxaveragebitrate` may be, in bits per second; other values are to be ignored (RFC 7587 section 6.1).
const OPUS_BITRATES: std::ops::RangeInclusive<u64> = 6_000..=510_000;

/// What is sent, of what a line offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) codec: Codec,
    pub(super) payload_type: PayloadType,
}

/// The format of `line` that is sent: the first in the order of the offer, or in ours if the operator says so, that is one
/// of the codecs in use. What is no sound of ours (telephone events, comfort noise, redundancy) is passed over, and so not
/// in the answer: we would never send it.
///
/// # Errors
///
/// In words: none of the formats, or packets that are too short for us.
pub(super) fn choose(line: &Line<'_>, settings: &Settings) -> Result<Format, String> {
    let short = needs_short(line)?;
    let offered = offered(line);
    let found = match settings.codec_order {
        CodecOrder::Offer => offered.iter().find_map(|format| Some((format.codec(settings, short)?, format))),
        CodecOrder::Ours => settings.codecs.iter().find_map(|codec| {
            let mut same = offered.iter().filter(|format| format.is(*codec));
            same.find_map(|format| Some((format.codec(settings, short)?, format)))
        }),
    };
    if let Some((codec, format)) = found {
        return Ok(Format { codec, payload_type: format.payload_type });
    }
    let usable = settings.codecs.iter().filter(|codec| !short || codec.short().is_some());
    let usable: Vec<_> = usable.map(|codec| encoding(*codec)).collect();
    let in_packets = if short { format!(" in packets of {SHORT_FRAME_MS} ms") } else { String::new() };
    let of_opus = if short && settings.codecs.contains(&Codec::Opus) {
        format!(" (opus at {} bit/s)", settings.encoder.opus_bitrate)
    } else {
        String::new()
    };
    let expected =
        if usable.is_empty() { "none of ours".to_owned() } else { format!("one of {}", usable.join(", ")) };
    Err(format!("offers {}{in_packets}; expected {expected}{of_opus}", shown(line, &offered)))
}

/// Whether packets of the usual length are too long for the peer. `maxptime` is a limit, `ptime` is a wish (RFC 8866
/// section 6.4), and we have a habit.
///
/// # Errors
///
/// In words: our shortest packets are too long too.
fn needs_short(line: &Line<'_>) -> Result<bool, String> {
    let most = line.values("maxptime").next().and_then(leading_number).unwrap_or(u64::MAX);
    if most < u64::from(SHORT_FRAME_MS) {
        return Err(format!(
            "takes packets of at most {most} ms (a=maxptime); expected {SHORT_FRAME_MS} or more"
        ));
    }
    Ok(most < u64::from(FRAME_MS))
}

/// The number that a value begins with: `20`, but `20.0` and `20 ` have been seen.
fn leading_number(value: &str) -> Option<u64> {
    let value = value.trim_start();
    value[..value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len())].parse().ok()
}

/// One format of a line.
struct Offered<'a> {
    payload_type: PayloadType,
    /// Name, rate and channels.
    map: Option<&'a str>,
    /// Of `a=fmtp`.
    parameters: &'a str,
}

/// The formats of a line that have a number, in their order, each once.
fn offered<'a>(line: &Line<'a>) -> Vec<Offered<'a>> {
    let mut maps: [Option<&str>; 128] = [None; 128];
    let mut parameters = [""; 128];
    let numbered = |value: &'a str| {
        let (number, rest) = value.trim_start().split_once(' ')?;
        Some((number.parse::<usize>().ok()?, rest.trim()))
    };
    for (number, map) in line.values("rtpmap").filter_map(numbered) {
        if let Some(slot) = maps.get_mut(number) {
            slot.get_or_insert(map);
        }
    }
    for (number, text) in line.values("fmtp").filter_map(numbered) {
        if let Some(slot @ &mut "") = parameters.get_mut(number) {
            *slot = text;
        }
    }
    let mut seen = [false; 128];
    let formats = line.media.fmt.split_ascii_whitespace();
    let numbers = formats.filter_map(|format| PayloadType::new(format.parse().ok()?));
    let once = numbers
        .filter(|payload_type| !std::mem::replace(&mut seen[usize::from(payload_type.number())], true));
    once.map(|payload_type| {
        let number = usize::from(payload_type.number());
        Offered { payload_type, map: maps[number], parameters: parameters[number] }
    })
    .collect()
}

impl Offered<'_> {
    /// What of the codecs in use it is, if it is one of them, and if need be in short packets.
    fn codec(&self, settings: &Settings, short: bool) -> Option<Codec> {
        let same: Vec<_> = settings.codecs.iter().copied().filter(|codec| self.is(*codec)).collect();
        let codec = *same.first()?;
        let wishes = OpusWishes::read(self.parameters);
        match (codec.on_the_wire(), short) {
            (Codec::Opus, false) => Some(opus(&same, &wishes, settings)),
            (Codec::Opus, true) => {
                let is_usable = same.contains(&Codec::Opus) && wishes.allow(settings.encoder.opus_bitrate);
                is_usable.then_some(Codec::OpusShort)
            }
            (_, false) => Some(codec),
            (_, true) => codec.short(),
        }
    }

    fn is(&self, codec: Codec) -> bool {
        match self.map {
            Some(map) => is_encoding(map, codec),
            None => codec.static_payload_type() == Some(self.payload_type.number()),
        }
    }
}

/// Whether `map` is how `a=rtpmap` names `codec`.
fn is_encoding(map: &str, codec: Codec) -> bool {
    let mut parts = map.split('/').map(str::trim);
    parts.next().is_some_and(|name| name.eq_ignore_ascii_case(codec.name()))
        && parts.next().and_then(|rate| rate.parse().ok()) == Some(codec.clock_rate())
        && parts.next().map_or(Some(1), |channels| channels.parse().ok()) == Some(codec.rtpmap_channels())
}

/// What a receiver of Opus says about what it wants (RFC 7587 section 6.1), as far as it changes what we send. The rest
/// does not: `stereo`, since we send mono; `cbr`, since we send nothing else; `useinbandfec` and `usedtx`, which are
/// permissions, and would spoil music; `minptime` and `ptime`, which are wishes.
struct OpusWishes {
    max_playback_rate: Option<u64>,
    max_average_bitrate: Option<u64>,
}

impl OpusWishes {
    fn read(parameters: &str) -> Self {
        let value = |name: &str| {
            parameters.split(';').find_map(|parameter| {
                let (key, value) = parameter.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().parse::<u64>().ok()).flatten()
            })
        };
        Self {
            max_playback_rate: value("maxplaybackrate"),
            max_average_bitrate: value("maxaveragebitrate").filter(|rate| OPUS_BITRATES.contains(rate)),
        }
    }

    fn allow(&self, bitrate: u32) -> bool {
        self.max_average_bitrate.is_none_or(|most| u64::from(bitrate) <= most)
    }
}

/// The kind of Opus that suits the receiver best: the full band for one that plays it and allows its bits, few bits for one
/// that allows no more, and otherwise the usual one. `listed` are the kinds that are in use.
fn opus(listed: &[Codec], wishes: &OpusWishes, settings: &Settings) -> Codec {
    let encoder = &settings.encoder;
    let is_listed = |codec| listed.contains(&codec);
    // What is above 8 kHz cannot be heard by who plays 16 000 samples in a second, or fewer.
    let plays_it = wishes.max_playback_rate.is_none_or(|rate| rate > u64::from(Codec::Opus.sample_rate()));
    if is_listed(Codec::OpusFullband) && plays_it && wishes.allow(encoder.opus_fullband_bitrate) {
        return Codec::OpusFullband;
    }
    // The operator may have listed the full band alone; a rate that can be played is only a hint.
    let usual = if is_listed(Codec::Opus) { Codec::Opus } else { listed[0] };
    let bitrate = match usual {
        Codec::OpusFullband => encoder.opus_fullband_bitrate,
        _ => encoder.opus_bitrate,
    };
    if wishes.allow(bitrate) || bitrate <= encoder.opus_low_bitrate { usual } else { Codec::OpusLow }
}

/// As `a=rtpmap` writes it.
pub(super) fn encoding(codec: Codec) -> String {
    let (name, rate, channels) = (codec.name(), codec.clock_rate(), codec.rtpmap_channels());
    if channels > 1 { format!("{name}/{rate}/{channels}") } else { format!("{name}/{rate}") }
}

/// The formats of a line for people.
fn shown(line: &Line<'_>, offered: &[Offered<'_>]) -> String {
    if offered.is_empty() {
        return format!("'{}'", shorten(&line.media.fmt));
    }
    let names: Vec<_> = offered
        .iter()
        .map(|format| match format.map {
            Some(map) => map.to_owned(),
            None => format!("payload type {}", format.payload_type.number()),
        })
        .collect();
    shorten(&names.join(", "))
}
