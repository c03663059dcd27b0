//! [`Report`]: what a receiver heard, as a table for people and as JSON for scripts.

use std::{fmt, net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration};

use holdmusic_codecs::compare::loudness_lufs;
use holdmusic_media::{
    Decoded, Hearing, MediaTime,
    receiver::{Gap, MAX_STREAMS, PayloadFormats, StreamHearing},
};
use serde::Serialize;

/// The circumstances of the listening.
#[derive(Clone, Debug)]
pub struct Session {
    /// The local address.
    pub bind: IpAddr,
    /// The port of RTP.
    pub port: u16,
    /// The port of RTCP, if it was another one and free.
    pub rtcp_port: Option<u16>,
    /// Where the first datagram came from.
    pub sender: Option<SocketAddr>,
    /// How long it took.
    pub listened: Duration,
    /// Why it ended.
    pub ended_by: EndedBy,
    /// Where the sound was written.
    pub wav: Option<PathBuf>,
}

/// Why the listening ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndedBy {
    /// The time that was asked for had passed.
    Seconds,
    /// SIGINT or SIGTERM.
    Signal,
    /// The sender said RTCP BYE and then nothing more.
    Bye,
}

/// The report. Its JSON field names are stable; times are milliseconds since the listening began.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "each field repeats one of Session, Hearing or Decoded, where it is described"
)]
pub struct Report {
    pub address: String,
    pub rtcp_port: Option<u16>,
    pub sender: Option<SocketAddr>,
    pub listened_seconds: f64,
    pub ended_by: EndedBy,
    pub datagrams: u64,
    pub not_rtp: u64,
    pub unmeasured_packets: u64,
    pub rtcp_datagrams: u64,
    pub rtcp_sender_reports: u64,
    pub rtcp_byes: u64,
    /// The source with the most packets first.
    pub streams: Vec<StreamReport>,
    /// `null` if nothing could be decoded.
    pub sound: Option<SoundReport>,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each field repeats one of StreamHearing, where it is described")]
pub struct StreamReport {
    pub ssrc: u32,
    pub payload_types: Vec<PayloadTypeReport>,
    pub packets: u64,
    pub payload_bytes: u64,
    pub duration_seconds: f64,
    pub continuous: bool,
    pub lost: u64,
    pub lost_percent: f64,
    pub duplicates: u64,
    pub reordered: u64,
    pub sequence_errors: u64,
    pub restarts: u64,
    pub markers: u64,
    pub marker_packets: Vec<u64>,
    pub timestamp_jumps: u64,
    pub first_timestamp_jumps: Vec<JumpReport>,
    pub first_arrival_ms: f64,
    pub last_arrival_ms: f64,
    pub gaps: u64,
    pub first_gaps: Vec<GapReport>,
    pub pauses: u64,
    pub longest_gap_ms: f64,
    pub jitter_ms: f64,
    pub jitter_mean_ms: f64,
    pub jitter_max_ms: f64,
    pub spacing_error_p50_ms: f64,
    pub spacing_error_p99_ms: f64,
    pub spacing_error_max_ms: f64,
    pub packet_time_ms: f64,
    pub undecodable_packets: u64,
    pub packets_not_kept: u64,
}

/// The packets of one payload type.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct PayloadTypeReport {
    pub payload_type: u8,
    pub name: Option<String>,
    pub decodable: bool,
    pub packets: u64,
}

/// A timestamp that did not follow from the one before.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each field repeats one of TimestampJump, where it is described")]
pub struct JumpReport {
    pub packet: u64,
    pub at_ms: f64,
    pub sequence_number: u16,
    pub units: i32,
    pub expected_units: u32,
    pub marker: bool,
}

/// A time without packets.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each field repeats one of Gap, where it is described")]
pub struct GapReport {
    pub from_ms: f64,
    pub length_ms: f64,
    pub missing_packets: u64,
    pub pause: bool,
}

/// The sound of the source with the most packets.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each field repeats one of Decoded, where it is described")]
pub struct SoundReport {
    pub seconds: f64,
    pub sample_rate: u32,
    /// Highest sample, in dB of full scale; `null` for digital silence.
    pub peak_dbfs: Option<f64>,
    /// Root mean square of all samples, in dB of full scale; `null` for digital silence.
    pub rms_dbfs: Option<f64>,
    /// Integrated loudness (EBU R 128); `null` for silence.
    pub loudness_lufs: Option<f64>,
    pub concealed_seconds: f64,
    pub silent_seconds: f64,
    pub refused_payloads: u64,
    pub realigned: u64,
    pub wav: Option<PathBuf>,
}

impl Report {
    /// Brings together what is known.
    pub fn new(session: &Session, hearing: &Hearing, decoded: &Decoded, formats: &PayloadFormats) -> Self {
        let mut streams: Vec<_> =
            hearing.streams.iter().map(|stream| StreamReport::new(stream, formats)).collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.packets));
        Self {
            address: SocketAddr::new(session.bind, session.port).to_string(),
            rtcp_port: session.rtcp_port,
            sender: session.sender,
            listened_seconds: rounded(session.listened.as_secs_f64()),
            ended_by: session.ended_by,
            datagrams: hearing.datagrams,
            not_rtp: hearing.not_rtp,
            unmeasured_packets: hearing.unmeasured,
            rtcp_datagrams: hearing.rtcp.datagrams,
            rtcp_sender_reports: hearing.rtcp.sender_reports,
            rtcp_byes: hearing.rtcp.byes,
            streams,
            sound: SoundReport::new(decoded, session),
        }
    }

    /// Whether any RTP packet came.
    pub fn heard(&self) -> bool {
        !self.streams.is_empty()
    }

    /// What to check when nothing was heard.
    pub fn advice(&self) -> String {
        let came = match (self.datagrams, self.rtcp_datagrams) {
            (0, _) => "Nothing arrived at all".to_owned(),
            (all, rtcp) if all == rtcp => "Only RTCP arrived, no RTP".to_owned(),
            (all, _) => format!("{all} datagrams arrived, but none was RTP (encrypted, perhaps, or STUN)"),
        };
        format!(
            "{came} on {}. Check that the sender is sending now, that it sends to this machine's address and \
             this port (a media leg's \"address\", or c= and m= of the SDP), and that no firewall is in between.",
            self.address
        )
    }

    /// As JSON, in lines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, strings and lists of them are always JSON")
    }
}

impl StreamReport {
    fn new(stream: &StreamHearing, formats: &PayloadFormats) -> Self {
        let payload_types = stream.payload_types.iter().map(|(&number, &packets)| {
            let format = formats.of(number);
            PayloadTypeReport {
                payload_type: number,
                name: format.map(|format| format.name.clone()),
                decodable: format.is_some_and(|format| format.codec.is_some()),
                packets,
            }
        });
        let jumps = stream.first_timestamp_jumps.iter().map(|jump| JumpReport {
            packet: jump.packet,
            at_ms: moment_ms(jump.at),
            sequence_number: jump.sequence.0,
            units: jump.units,
            expected_units: jump.expected_units,
            marker: jump.marker,
        });
        let gaps = stream.first_gaps.iter().map(|gap: &Gap| GapReport {
            from_ms: moment_ms(gap.from),
            length_ms: ms(gap.length()),
            missing_packets: gap.missing,
            pause: gap.pause,
        });
        let expected = stream.packets - stream.duplicates - stream.sequence_errors + stream.lost;
        Self {
            ssrc: stream.ssrc.0,
            payload_types: payload_types.collect(),
            packets: stream.packets,
            payload_bytes: stream.payload_bytes,
            duration_seconds: rounded(stream.duration().as_secs_f64()),
            continuous: stream.is_continuous(),
            lost: stream.lost,
            lost_percent: rounded(100.0 * stream.lost as f64 / expected.max(1) as f64),
            duplicates: stream.duplicates,
            reordered: stream.reordered,
            sequence_errors: stream.sequence_errors,
            restarts: stream.restarts,
            markers: stream.markers,
            marker_packets: stream.first_markers.iter().map(|marker| marker.packet).collect(),
            timestamp_jumps: stream.timestamp_jumps,
            first_timestamp_jumps: jumps.collect(),
            first_arrival_ms: moment_ms(stream.first_arrival),
            last_arrival_ms: moment_ms(stream.last_arrival),
            gaps: stream.gaps,
            first_gaps: gaps.collect(),
            pauses: stream.pauses,
            longest_gap_ms: ms(stream.longest_gap),
            jitter_ms: ms(stream.jitter),
            jitter_mean_ms: ms(stream.mean_jitter),
            jitter_max_ms: ms(stream.max_jitter),
            spacing_error_p50_ms: ms(stream.spacing.median),
            spacing_error_p99_ms: ms(stream.spacing.p99),
            spacing_error_max_ms: ms(stream.spacing.longest),
            packet_time_ms: ms(stream.packet_time),
            undecodable_packets: stream.undecodable,
            packets_not_kept: stream.not_kept,
        }
    }
}

impl SoundReport {
    fn new(decoded: &Decoded, session: &Session) -> Option<Self> {
        let samples = decoded.sound.samples();
        if samples.is_empty() {
            return None;
        }
        let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let power =
            samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64;
        Some(Self {
            seconds: rounded(decoded.sound.seconds()),
            sample_rate: decoded.sound.rate(),
            peak_dbfs: dbfs(peak.into()),
            rms_dbfs: dbfs(power.sqrt()),
            loudness_lufs: loudness_lufs(&decoded.sound).map(|lufs| (lufs * 10.0).round() / 10.0),
            concealed_seconds: rounded(decoded.concealed_s),
            silent_seconds: rounded(decoded.silent_s),
            refused_payloads: decoded.refused,
            realigned: decoded.realigned,
            wav: session.wav.clone(),
        })
    }
}

fn dbfs(amplitude: f64) -> Option<f64> {
    (amplitude > 0.0).then(|| (200.0 * amplitude.log10()).round() / 10.0)
}

fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1000.0)
}

fn moment_ms(moment: MediaTime) -> f64 {
    ms(moment.since(MediaTime::ZERO))
}

/// Three decimals: microseconds where the unit is a millisecond.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Of sources, gaps, jumps and markers the table shows so many; JSON has more.
const SHOWN: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listened on {} for {:.1} s", self.address, self.listened_seconds)?;
        match self.sender {
            Some(sender) => writeln!(f, "; the first datagram came from {sender}.")?,
            None => writeln!(f, "; nothing came.")?,
        }
        for stream in self.streams.iter().take(SHOWN) {
            writeln!(f)?;
            stream.fmt(f)?;
        }
        if self.streams.len() > SHOWN {
            writeln!(f, "\n  and {} more sources with fewer packets", self.streams.len() - SHOWN)?;
        }
        if let Some(sound) = &self.sound {
            writeln!(f)?;
            sound.fmt(f)?;
        }
        writeln!(f)?;
        let (reports, byes) = (self.rtcp_sender_reports, self.rtcp_byes);
        row(f, "RTCP", format_args!("{reports} sender reports, {byes} BYE"))?;
        if self.not_rtp + self.unmeasured_packets > 0 {
            row(f, "else", format_args!("{} datagrams were neither RTP nor RTCP", self.not_rtp))?;
        }
        if self.unmeasured_packets > 0 {
            let packets = self.unmeasured_packets;
            row(
                f,
                "",
                format_args!("{packets} packets of more than {MAX_STREAMS} sources were not measured"),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "source", format_args!("SSRC 0x{:08x}", self.ssrc))?;
        for payload in &self.payload_types {
            let name = payload.name.as_deref().unwrap_or("unknown");
            let decoder = if payload.decodable { "" } else { ", no decoder for it: measured only" };
            let (number, packets) = (payload.payload_type, payload.packets);
            row(f, "codec", format_args!("{name} (payload type {number}), {packets} packets{decoder}"))?;
        }
        let seconds = self.duration_seconds.max(0.001);
        let (rate, kbit) =
            ((self.packets - 1) as f64 / seconds, self.payload_bytes as f64 * 8.0 / seconds / 1000.0);
        let rates =
            if self.packets > 1 { format!(", {rate:.1} a second, {kbit:.1} kbit/s") } else { String::new() };
        row(
            f,
            "packets",
            format_args!(
                "{} of {:.0} ms in {:.2} s{rates}",
                self.packets, self.packet_time_ms, self.duration_seconds
            ),
        )?;
        row(f, "continuity", format_args!("{}", if self.continuous { "perfect" } else { "FLAWED" }))?;
        row(f, "  lost", format_args!("{} ({:.2} %)", self.lost, self.lost_percent))?;
        row(f, "  duplicates", format_args!("{}", self.duplicates))?;
        row(f, "  reordered", format_args!("{}", self.reordered))?;
        let (errors, restarts) = (self.sequence_errors, self.restarts);
        row(f, "  sequence", format_args!("{errors} errors, {restarts} restarts"))?;
        let packets = list(self.marker_packets.iter().map(|packet| format!("packet {packet}")), self.markers);
        row(f, "markers", format_args!("{}{packets}", self.markers))?;
        let jumps = list(
            self.first_timestamp_jumps
                .iter()
                .map(|jump| format!("packet {} {:+} for {:+}", jump.packet, jump.units, jump.expected_units)),
            self.timestamp_jumps,
        );
        row(f, "timestamps", format_args!("{} jumps{jumps}", self.timestamp_jumps))?;
        let gaps = list(
            self.first_gaps.iter().map(|gap| {
                let why = match (gap.missing_packets, gap.pause) {
                    (0, true) => "a pause, announced".to_owned(),
                    (0, false) => "nothing missing".to_owned(),
                    (missing, _) => format!("{missing} lost"),
                };
                format!("{:.0} ms at {:.2} s, {why}", gap.length_ms, gap.from_ms / 1000.0)
            }),
            self.gaps,
        );
        row(f, "gaps", format_args!("{} over {:.0} ms{gaps}", self.gaps, 2.0 * self.packet_time_ms))?;
        row(f, "longest gap", format_args!("{:.1} ms", self.longest_gap_ms))?;
        let (mean, max) = (self.jitter_mean_ms, self.jitter_max_ms);
        row(f, "jitter", format_args!("{mean:.3} ms mean, {max:.3} ms at most (RFC 3550)"))?;
        let (p50, p99) = (self.spacing_error_p50_ms, self.spacing_error_p99_ms);
        let worst = self.spacing_error_max_ms;
        row(
            f,
            "spacing",
            format_args!("off by {p50:.3} ms in the median, {p99:.3} ms p99, {worst:.3} ms at most"),
        )?;
        if self.packets_not_kept > 0 {
            row(
                f,
                "",
                format_args!(
                    "{} packets are not in the sound: only an hour or 64 MiB is kept",
                    self.packets_not_kept
                ),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for SoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rate) = (self.seconds, self.sample_rate);
        let mut levels = match (self.peak_dbfs, self.rms_dbfs) {
            (Some(peak), Some(rms)) => format!("peak {peak:.1} dBFS, RMS {rms:.1} dBFS"),
            _ => "digital silence".to_owned(),
        };
        if let Some(lufs) = self.loudness_lufs {
            levels += &format!(", loudness {lufs:.1} LUFS");
        }
        row(f, "sound", format_args!("{seconds:.2} s at {rate} Hz, {levels}"))?;
        let (concealed, silent) = (self.concealed_seconds, self.silent_seconds);
        row(f, "made up", format_args!("{concealed:.2} s concealed, {silent:.2} s silent"))?;
        if self.refused_payloads > 0 {
            row(f, "", format_args!("{} payloads were refused by the decoder", self.refused_payloads))?;
        }
        match &self.wav {
            Some(path) => row(f, "written to", format_args!("{}", path.display())),
            None => Ok(()),
        }
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {name:<14}{value}")
}

/// `: one, two, …`, or nothing of nothing.
fn list(examples: impl Iterator<Item = String>, total: u64) -> String {
    let shown: Vec<_> = examples.take(SHOWN).collect();
    match shown.len() {
        0 => String::new(),
        len if (len as u64) < total => format!(": {}; …", shown.join("; ")),
        _ => format!(": {}", shown.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use holdmusic_codecs::Codec;
    use holdmusic_media::Receiver;
    use serde_json::Value;

    use super::*;

    fn session() -> Session {
        Session {
            bind: [127, 0, 0, 1].into(),
            port: 5004,
            rtcp_port: None,
            sender: None,
            listened: Duration::from_secs(2),
            ended_by: EndedBy::Seconds,
            wav: None,
        }
    }

    /// Three packets of full-band Opus of which the second is lost.
    fn report() -> Report {
        let mut receiver = Receiver::new(Codec::Opus);
        for n in [0u8, 2] {
            let datagram =
                [0x80, 111, 0, n, 0, 0, (960 * u16::from(n) >> 8) as u8, (960 * u16::from(n)) as u8];
            let datagram = [&datagram[..], &[0, 0, 0, 9, 0xf8, 0xff]].concat();
            receiver.handle_datagram(MediaTime::from_millis(100 + 30 * u64::from(n)), &datagram);
        }
        Report::new(&session(), &receiver.hearing(), &receiver.decode(), &Codec::Opus.into())
    }

    /// Scripts read these names.
    #[test]
    fn the_names_in_json_are_stable() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            names(&json),
            "address datagrams endedBy listenedSeconds notRtp rtcpByes rtcpDatagrams rtcpPort rtcpSenderReports \
             sender sound streams unmeasuredPackets"
        );
        assert_eq!(
            names(&json["streams"][0]),
            "continuous duplicates durationSeconds firstArrivalMs firstGaps firstTimestampJumps gaps jitterMaxMs \
             jitterMeanMs jitterMs lastArrivalMs longestGapMs lost lostPercent markerPackets markers \
             packetTimeMs packets packetsNotKept pauses payloadBytes payloadTypes reordered restarts \
             sequenceErrors spacingErrorMaxMs spacingErrorP50Ms spacingErrorP99Ms ssrc timestampJumps \
             undecodablePackets"
        );
        assert_eq!(
            names(&json["sound"]),
            "concealedSeconds loudnessLufs peakDbfs realigned refusedPayloads rmsDbfs sampleRate seconds \
             silentSeconds wav"
        );
        let stream = &json["streams"][0];
        assert_eq!(
            (&stream["lost"], &stream["gaps"], &stream["longestGapMs"]),
            (&1.into(), &1.into(), &60.0.into())
        );
        assert_eq!(json["sound"]["seconds"], 0.06);
    }

    #[test]
    fn the_table_says_what_was_lost_and_where() {
        let table = report().to_string();
        for words in ["opus (payload type 111)", "FLAWED", "1 (33.33 %)", "60 ms at 0.10 s, 1 lost"] {
            assert!(table.contains(words), "{words} is missing in\n{table}");
        }
    }

    #[test]
    fn hearing_nothing_is_told_with_what_to_check() {
        let receiver = Receiver::new(Codec::Opus);
        let report = Report::new(&session(), &receiver.hearing(), &receiver.decode(), &Codec::Opus.into());
        assert!(!report.heard());
        assert!(report.advice().starts_with("Nothing arrived at all on 127.0.0.1:5004."));
    }
}
