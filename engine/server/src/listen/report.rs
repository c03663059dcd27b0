//! [`Report`]: what a receiver heard, as JSON for scripts (`table.rs` shows it to people).

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, time::Duration};

use holdmusic_codecs::compare::loudness_lufs;
use holdmusic_media::{
    Decoded, Hearing, MediaTime,
    receiver::{Gap, PayloadFormats, StreamHearing},
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
    pub auth_failures: u64,
    pub replayed: u64,
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
            auth_failures: hearing.auth_failures,
            replayed: hearing.replayed,
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
            let timestamp = (960 * u32::from(n)).to_be_bytes();
            let datagram = [&[0x80, 111, 0, n][..], &timestamp, &[0, 0, 0, 9, 0xf8, 0xff]].concat();
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
            "address authFailures datagrams endedBy listenedSeconds notRtp replayed rtcpByes rtcpDatagrams rtcpPort \
             rtcpSenderReports sender sound streams unmeasuredPackets"
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
