//! The report as a table for people.

use std::fmt;

use holdmusic_media::receiver::MAX_STREAMS;

use super::report::{Report, SoundReport, StreamReport};

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
        if self.auth_failures > 0 {
            row(f, "SRTP", format_args!("{} datagrams were not authentic: another key", self.auth_failures))?;
        }
        if self.replayed > 0 {
            row(f, "SRTP", format_args!("{} datagrams came again and were not heard", self.replayed))?;
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
