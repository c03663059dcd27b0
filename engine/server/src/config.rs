//! Text to [`Config`], checked once: flags, then the environment, then a file, then defaults.

pub mod access;
mod explained;
mod options;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use holdmusic_codecs::{Codec, EncoderSettings, level::LevelSettings};
use holdmusic_control::{
    Origin, Settings,
    access::Identity,
    call::{CompletesWhen, OnPromptFailure},
    graph::{StatusCase, read_prompt},
    guard::Guard,
    prompt::Prompt,
    settings::{CodecOrder, OnRestart},
};
use holdmusic_media::{pacer::PacerSettings, prepare::PrepareSettings};

use crate::{egress::Egress, fetch::FetchLimits, http::connections::ConnectionLimits, mailbox::WORK};
use access::{Access, AccessOptions};

pub use options::{
    CaseChoice, CodecChoice, CodecOrderChoice, CompletionChoice, LogForm, Options, PromptFailureChoice,
    RestartChoice,
};

/// The most that `--max-prompt-bytes` may be: 4 GiB, as long as a WAV can be.
const MOST_PROMPT_BYTES: u64 = 4 << 30;

/// What `--min-prompt-rate` and `--max-prompt-rate` may be, in Hz: what the resampler is tried with.
const LEAST_PROMPT_RATE: u32 = 1_000;
const MOST_PROMPT_RATE: u32 = 384_000;

/// The most that `--max-prompt-samples` may be: 16 GiB while they are decoded.
const MOST_PROMPT_SAMPLES: u64 = 4 << 30;

/// Where the API listens: nobody but this machine is let in unasked.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Where media sockets bind.
const DEFAULT_MEDIA_BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Bytes of prepared prompts on disk: some seventy hours of music.
const DEFAULT_PROMPT_CACHE_BYTES: u64 = 1 << 30;

/// `iss` of the tokens that sign notifications: what Graph's bots trust.
const DEFAULT_ISSUER: &str = "https://api.botframework.com";

/// Whose the static token is, where nobody says.
const DEFAULT_APP_ID: &str = "holdmusic";
const DEFAULT_TENANT_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Receivers report every 2 to 8 s or so (RFC 3550 section 6.2): two in a row may be lost.
const LEAST_SILENCE_S: u64 = 20;

/// When a destination counts as unreachable, in seconds: longer than a phone takes to start again.
const DEFAULT_UNREACHABLE_AFTER_S: u64 = 10;

/// The most that `--call-lifetime` may be, in seconds: a year, beyond which no limit is meant.
const MOST_LIFETIME_S: u64 = 365 * 86_400;

/// What `sched_setaffinity` can name without an allocation: the kernel's own `CPU_SETSIZE`.
const MAX_CPUS: usize = 1024;

/// What the server runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// What absolute URLs begin with.
    pub public_url: Option<String>,
    /// Where keys and token are kept.
    pub data: PathBuf,
    /// Where media sockets bind; one for each sender, port 0 meaning any.
    pub media_binds: Vec<SocketAddr>,
    /// What peers see instead of the bound address.
    pub media_address: Option<IpAddr>,
    /// Who gets in.
    pub access: Access,
    /// Pages of these origins may use WHEP.
    pub cors_origins: Vec<String>,
    /// `iss` of the tokens that sign notifications.
    pub issuer: String,
    /// Producer threads.
    pub producers: usize,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How the log is written.
    pub log: LogForm,
    /// Whether senders ask for real-time priority.
    pub realtime: bool,
    /// Processors for senders; none is any.
    pub sender_cpus: Vec<usize>,
    /// Whether memory is locked.
    pub lock_memory: bool,
    /// Whether media is marked Expedited Forwarding.
    pub dscp_ef: bool,
    /// What clients of the API may cost.
    pub connections: ConnectionLimits,
    /// Which way fetches and callbacks go.
    pub egress: Egress,
    /// What a fetch may cost.
    pub fetch: FetchLimits,
    /// Most bytes of prepared prompts on disk.
    pub prompt_cache_bytes: u64,
    /// What producers need to know.
    pub producer: PrepareSettings,
    /// What senders need to know.
    pub pacer: PacerSettings,
    /// Control's settings; the local media addresses are filled in when the sockets are bound.
    pub control: Settings,
}

impl Options {
    /// Where keys and token are kept.
    ///
    /// # Errors
    ///
    /// One line, if no place is named and the user has none.
    pub fn data_directory(self) -> Result<PathBuf, String> {
        self.data.map_or_else(default_data, Ok)
    }

    /// Everything that was left open is filled in, and everything is checked.
    ///
    /// # Errors
    ///
    /// One line: which setting, what was found, what is expected.
    pub fn check(self) -> Result<Config, String> {
        let listen = self.listen.unwrap_or(DEFAULT_LISTEN);
        let loopback = listen.ip().is_loopback();
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err("--tls-cert is given without --tls-key; expected both".to_owned()),
            (None, Some(_)) => return Err("--tls-key is given without --tls-cert; expected both".to_owned()),
        };
        let identity = Identity::new(
            self.app_id.as_deref().unwrap_or(DEFAULT_APP_ID),
            self.tenant_id.as_deref().unwrap_or(DEFAULT_TENANT_ID),
        );
        let access = AccessOptions {
            token: self.token,
            identity: Some(identity),
            issuer: self.auth_issuer,
            audiences: self.auth_audience,
            keys: self.auth_keys,
            tenants: self.auth_tenant,
            issuers: self.issuers,
            apps: self.apps,
        };
        let access = access.check()?;
        if !loopback && !self.insecure {
            if tls.is_none() {
                return Err(format!(
                    "--listen {listen} is not loopback and there is no TLS; give --tls-cert and --tls-key, or \
                     --insecure if a proxy in front of it speaks TLS"
                ));
            }
            if !access.is_configured() {
                return Err(format!(
                    "--listen {listen} is not loopback and no authentication is configured; give --auth-issuer or \
                     --token, or --insecure to use a generated token"
                ));
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let senders = positive("--senders", self.senders.unwrap_or(cores.saturating_sub(1).max(1)), 256)?;
        let sender_cpus = self.sender_cpus;
        if let Some(cpu) = sender_cpus.iter().find(|cpu| **cpu >= MAX_CPUS) {
            return Err(format!("--sender-cpus {cpu} is no processor; expected 0 to {}", MAX_CPUS - 1));
        }
        let producers = positive("--producers", self.producers.unwrap_or(cores), 256)?;
        let media_bind = self.media_bind.unwrap_or(DEFAULT_MEDIA_BIND);
        let media_binds = media_binds(media_bind, self.media_ports.as_deref(), senders)?;
        if media_bind.is_unspecified() && self.media_address.is_none() {
            return Err(format!(
                "--media-bind {media_bind} names no address that peers could be told; give --media-address"
            ));
        }
        let public_url = self.public_url.map(|url| checked_public_url(&url)).transpose()?;
        let default_prompt = self
            .default_prompt
            .map(|uri| read_prompt(&uri).map_err(|refusal| format!("--default-prompt: {}", refusal.message)))
            .transpose()?;
        if let (Some(Prompt { origin: Origin::Directory(_), .. }), None) = (&default_prompt, &self.prompts) {
            return Err(
                "--default-prompt is a file; give the directory that it is in with --prompts".to_owned()
            );
        }
        let encoder = EncoderSettings::default();
        let encoder = EncoderSettings {
            opus_bitrate: within(
                "--opus-bitrate",
                self.opus_bitrate.unwrap_or(encoder.opus_bitrate),
                6_000,
                256_000,
            )?,
            opus_complexity: within(
                "--opus-complexity",
                self.opus_complexity.unwrap_or(encoder.opus_complexity),
                0,
                10,
            )?,
            ..encoder
        };
        let fetch = FetchLimits::default();
        let fetch = FetchLimits {
            max_bytes: within(
                "--max-prompt-bytes",
                self.max_prompt_bytes.unwrap_or(fetch.max_bytes),
                1,
                MOST_PROMPT_BYTES,
            )?,
            connect: seconds("--fetch-connect", self.fetch_connect, fetch.connect)?,
            silence: seconds("--fetch-silence", self.fetch_silence, fetch.silence)?,
            total: seconds("--fetch-total", self.fetch_total, fetch.total)?,
            directory: self.prompts,
        };
        let connections = ConnectionLimits::default();
        let connections = ConnectionLimits {
            most: positive("--max-connections", self.max_connections.unwrap_or(connections.most), 1_000_000)?,
            head: seconds("--head-timeout", self.head_timeout, connections.head)?,
            idle: seconds("--idle-timeout", self.idle_timeout, connections.idle)?,
        };
        let level = LevelSettings::default();
        let level = LevelSettings {
            target_lufs: self.target_lufs.as_deref().map_or(Ok(level.target_lufs), target_lufs)?,
            ceiling_dbtp: within(
                "--ceiling-dbtp",
                self.ceiling_dbtp.unwrap_or(level.ceiling_dbtp),
                -20.0,
                0.0,
            )?,
            ..level
        };
        let trim_silence_dbfs = self.trim_silence.as_deref().map_or(Ok(None), trim_silence)?;
        let mut producer = PrepareSettings {
            encoder: encoder.clone(),
            level,
            trim_silence_dbfs,
            ..PrepareSettings::default()
        };
        let limits = &mut producer.limits;
        limits.max_seconds = within(
            "--max-prompt-seconds",
            self.max_prompt_seconds.unwrap_or(limits.max_seconds),
            1,
            24 * 3600,
        )?;
        limits.max_samples = within(
            "--max-prompt-samples",
            self.max_prompt_samples.unwrap_or(limits.max_samples),
            1,
            MOST_PROMPT_SAMPLES,
        )?;
        limits.max_channels =
            within("--max-prompt-channels", self.max_prompt_channels.unwrap_or(limits.max_channels), 1, 64)?;
        let most = self.max_prompt_rate.unwrap_or(limits.max_rate);
        limits.max_rate = within("--max-prompt-rate", most, LEAST_PROMPT_RATE, MOST_PROMPT_RATE)?;
        let least = self.min_prompt_rate.unwrap_or(limits.min_rate);
        limits.min_rate = within("--min-prompt-rate", least, LEAST_PROMPT_RATE, limits.max_rate)?;
        limits.max_cpu_seconds = within(
            "--prompt-cpu-seconds",
            self.prompt_cpu_seconds.unwrap_or(limits.max_cpu_seconds),
            1,
            3600,
        )?;
        let mut control = Settings {
            guard: Guard {
                fetch: self.allow_fetch,
                callback: self.allow_callback,
                callback_loopback: loopback,
                callback_http: false,
                media: self.allow_media,
            },
            prompt_directory: fetch.directory.is_some(),
            default_prompt,
            encoder,
            ..Settings::default()
        };
        control.grace = self.grace.map_or(control.grace, Duration::from_millis);
        control.max_calls = positive("--max-calls", self.max_calls.unwrap_or(control.max_calls), 1_000_000)?;
        control.max_preparing =
            positive("--max-preparing", self.max_preparing.unwrap_or(control.max_preparing), WORK)?;
        control.max_held = positive("--max-held", self.max_held.unwrap_or(control.max_held), 1_000_000)?;
        control.max_listeners = self.max_listeners.unwrap_or(control.max_listeners);
        control.max_participants = positive(
            "--max-participants",
            self.max_participants.unwrap_or(control.max_participants),
            10_000_000,
        )?;
        control.hold.max_held = positive(
            "--max-held-participants",
            self.max_held_participants.unwrap_or(control.hold.max_held),
            1_000_000,
        )?;
        control.hold.max_duration = self.max_duration.map(Duration::from_secs);
        control.lifetime = self
            .call_lifetime
            .map(|seconds| within("--call-lifetime", seconds, 1, MOST_LIFETIME_S).map(Duration::from_secs))
            .transpose()?;
        control.hold.on_prompt_failure = match self.on_prompt_failure {
            Some(PromptFailureChoice::Fail) => OnPromptFailure::Fail,
            _ => OnPromptFailure::DefaultMusic,
        };
        control.on_restart = match self.on_restart {
            Some(RestartChoice::End) => OnRestart::End,
            _ => OnRestart::Resume,
        };
        control.hold.completes_when = match self.completes_when {
            Some(CompletionChoice::MusicEnds) => CompletesWhen::MusicEnds,
            _ => CompletesWhen::MusicStarts,
        };
        control.hold.status_case = match self.status_case {
            Some(CaseChoice::Pascal) => StatusCase::Pascal,
            _ => StatusCase::Camel,
        };
        let silent_after = self
            .silent_after
            .map(|seconds| {
                within("--silent-after", seconds, LEAST_SILENCE_S, MOST_LIFETIME_S).map(Duration::from_secs)
            })
            .transpose()?;
        if !self.codecs.is_empty() {
            control.codecs = codecs(&self.codecs)?;
        }
        control.codec_order = match self.codec_order {
            Some(CodecOrderChoice::Ours) => CodecOrder::Ours,
            _ => CodecOrder::Offer,
        };
        let egress = Egress::read(self.egress_proxy.as_deref(), &self.egress_direct)?;
        let data = self.data.map_or_else(default_data, Ok)?;
        Ok(Config {
            listen,
            public_url,
            data,
            media_binds,
            media_address: self.media_address,
            access,
            cors_origins: self.cors_origin.iter().map(|text| origin(text)).collect::<Result<_, _>>()?,
            issuer: self.issuer.unwrap_or_else(|| DEFAULT_ISSUER.to_owned()),
            producers,
            tls,
            log: self.log.unwrap_or_default(),
            realtime: self.realtime.unwrap_or(true),
            sender_cpus,
            lock_memory: self.lock_memory.unwrap_or(false),
            dscp_ef: self.dscp_ef.unwrap_or(true),
            connections,
            egress,
            fetch,
            prompt_cache_bytes: self.prompt_cache_bytes.unwrap_or(DEFAULT_PROMPT_CACHE_BYTES),
            producer,
            pacer: PacerSettings {
                unreachable_after: Duration::from_secs(
                    self.unreachable_after.unwrap_or(DEFAULT_UNREACHABLE_AFTER_S),
                ),
                silent_after,
                latching: self.latching.unwrap_or(false),
            },
            control,
        })
    }
}

/// An origin as browsers write it: `https://host`, perhaps with a port.
fn origin(text: &str) -> Result<String, String> {
    let wrong =
        || format!("--cors-origin is '{text}'; expected an origin, like https://console.example.com:8443");
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let origin = url.origin().ascii_serialization();
    let is_bare =
        matches!(url.scheme(), "http" | "https") && text.trim_end_matches('/').len() == origin.len();
    if is_bare { Ok(origin) } else { Err(wrong()) }
}

fn target_lufs(text: &str) -> Result<Option<f64>, String> {
    if text == "off" {
        return Ok(None);
    }
    let target = text.parse().map_err(|_| format!("--target-lufs is '{text}'; expected a number or off"))?;
    within("--target-lufs", target, -50.0, -5.0).map(Some)
}

/// A time that the network may take: at least a second, and no longer than an operation can wait for anything.
fn seconds(name: &str, given: Option<u64>, default: Duration) -> Result<Duration, String> {
    within(name, given.unwrap_or(default.as_secs()), 1, 600).map(Duration::from_secs)
}

fn codecs(given: &[CodecChoice]) -> Result<Vec<Codec>, String> {
    let mut codecs = Vec::new();
    for choice in given {
        let codec = choice.codec();
        if codecs.contains(&codec) {
            return Err(format!("--codecs names {codec:?} twice; expected each once"));
        }
        codecs.push(codec);
    }
    Ok(codecs)
}

fn trim_silence(text: &str) -> Result<Option<f64>, String> {
    if text == "off" {
        return Ok(None);
    }
    let level = text.parse().map_err(|_| format!("--trim-silence is '{text}'; expected a number or off"))?;
    // Above -20 it would be sound; below -90 nothing that 16 bits hold is silence but zeros.
    within("--trim-silence", level, -90.0, -20.0).map(Some)
}

fn positive(name: &str, value: usize, most: usize) -> Result<usize, String> {
    within(name, value, 1, most)
}

fn within<N: PartialOrd + std::fmt::Display>(name: &str, value: N, least: N, most: N) -> Result<N, String> {
    if (&least..=&most).contains(&&value) {
        return Ok(value);
    }
    Err(format!("{name} is {value}; expected {least} to {most}"))
}

fn media_binds(ip: IpAddr, ports: Option<&str>, senders: usize) -> Result<Vec<SocketAddr>, String> {
    let Some(text) = ports else { return Ok(vec![SocketAddr::new(ip, 0); senders]) };
    let range = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    let Some((first, last)) = range.filter(|(first, last)| *first > 0 && first <= last) else {
        return Err(format!("--media-ports is '{text}'; expected FIRST-LAST, as in 40000-40010"));
    };
    let binds: Vec<_> = (first..=last).take(senders).map(|port| SocketAddr::new(ip, port)).collect();
    if binds.len() < senders {
        return Err(format!(
            "--media-ports {text} has {} ports; {senders} senders need one each",
            binds.len()
        ));
    }
    Ok(binds)
}

fn checked_public_url(text: &str) -> Result<String, String> {
    let expected =
        || format!("--public-url is '{text}'; expected an absolute URL, as in https://hold.example.com");
    let url = url::Url::parse(text).map_err(|_| expected())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(expected());
    }
    Ok(String::from(url).trim_end_matches('/').to_owned())
}

/// The state directory of the user, as the XDG Base Directory Specification says.
fn default_data() -> Result<PathBuf, String> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".local/state")))
        .map(|state| state.join("holdmusic"))
        .ok_or_else(|| "there is no home directory to keep data in; give --data".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;
    use holdmusic_codecs::DecodeLimits;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn check(flags: &str) -> Result<Config, String> {
        let line = Line::try_parse_from(std::iter::once("holdmusic").chain(flags.split_whitespace()));
        line.map_err(|error| error.to_string())?.options.check()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file: Options = toml::from_str("listen = \"127.0.0.1:1\"\nsenders = 3\n").unwrap();
        let flags = Options { senders: Some(5), ..Options::default() };
        let config = flags.or(file).check().unwrap();
        assert_eq!((config.listen.port(), config.media_binds.len()), (1, 5));
        assert_eq!(config.control.max_calls, 20_000);
    }

    #[test]
    fn bad_values_are_told_with_what_was_expected() {
        for (flags, words) in [
            ("--listen 0.0.0.0:8080", "there is no TLS"),
            ("--listen 0.0.0.0:8080 --tls-cert a --tls-key b", "no authentication"),
            ("--tls-cert a", "without --tls-key"),
            ("--tls-key a", "without --tls-cert"),
            ("--auth-audience a", "without --auth-issuer"),
            ("--auth-issuer https://host", "no audience"),
            ("--token ü", "printable ASCII"),
            ("--senders 0", "expected 1 to 256"),
            ("--media-ports 5000", "FIRST-LAST"),
            ("--media-ports 5000-5001 --senders 3", "3 senders need one each"),
            ("--media-bind 0.0.0.0", "--media-address"),
            ("--default-prompt file:///a.wav", "--prompts"),
            ("--target-lufs loud", "a number or off"),
            ("--target-lufs 3", "expected -50 to -5"),
            ("--trim-silence yes", "a number or off"),
            ("--trim-silence -3", "expected -90 to -20"),
            ("--opus-complexity 11", "expected 0 to 10"),
            ("--public-url hold.example.com", "absolute URL"),
            ("--default-prompt ftp://a/b.wav", "scheme"),
            ("--allow-fetch 10.0.0.0/40", "--allow-fetch"),
            ("--default-prompt data:;base64,*", "no data URI"),
            ("--max-prompt-bytes 0", "expected 1 to 4294967296"),
            ("--max-prompt-seconds 0", "expected 1 to 86400"),
            ("--max-prompt-samples 0", "expected 1 to 4294967296"),
            ("--max-prompt-channels 65", "expected 1 to 64"),
            ("--max-prompt-rate 384001", "expected 1000 to 384000"),
            ("--min-prompt-rate 999", "expected 1000 to 384000"),
            ("--min-prompt-rate 48000 --max-prompt-rate 44100", "expected 1000 to 44100"),
            ("--prompt-cpu-seconds 0", "expected 1 to 3600"),
            ("--max-preparing 1025", "expected 1 to 1024"),
            ("--call-lifetime 0", "expected 1 to 31536000"),
            ("--max-connections 0", "expected 1 to 1000000"),
            ("--head-timeout 0", "expected 1 to 600"),
            ("--idle-timeout 601", "expected 1 to 600"),
            ("--fetch-total 0", "expected 1 to 600"),
            ("--fetch-connect 601", "expected 1 to 600"),
            ("--egress-proxy socks5://proxy:1080", "--egress-proxy has the scheme 'socks5'"),
            ("--egress-direct 10.0.0.0/8", "without --egress-proxy"),
        ] {
            let error = check(flags).expect_err(flags);
            assert!(error.contains(words), "{flags}: {error}");
        }
        assert!(check("--listen 0.0.0.0:8080 --insecure").is_ok());
        let flags = "--tls-cert a --tls-key b --auth-issuer https://login --auth-audience a,b";
        assert_eq!(
            check(&format!("--listen 0.0.0.0:8080 {flags}")).unwrap().access.issuers[0].audiences.len(),
            2
        );
    }

    #[test]
    fn the_limits_of_prompts_reach_those_who_keep_them() {
        let config = check(
            "--max-prompt-bytes 1 --max-prompt-seconds 2 --max-prompt-samples 3 --max-prompt-channels 4 \
             --min-prompt-rate 5000 --max-prompt-rate 6000 --prompt-cpu-seconds 7 --max-preparing 8 --fetch-connect 9 \
             --fetch-silence 10 --fetch-total 11",
        )
        .unwrap();
        let limits = DecodeLimits {
            max_seconds: 2,
            max_samples: 3,
            max_channels: 4,
            min_rate: 5_000,
            max_rate: 6_000,
            max_cpu_seconds: 7,
        };
        assert_eq!(
            (config.producer.limits, config.fetch.max_bytes, config.control.max_preparing),
            (limits, 1, 8)
        );
        let times = [config.fetch.connect, config.fetch.silence, config.fetch.total];
        assert_eq!(times, [9, 10, 11].map(Duration::from_secs));
    }

    #[test]
    fn silence_is_trimmed_only_where_a_level_is_given() {
        let trimmed = |flags| check(flags).unwrap().producer.trim_silence_dbfs;
        assert_eq!(trimmed(""), None);
        assert_eq!(trimmed("--trim-silence off"), None);
        assert_eq!(trimmed("--trim-silence -60"), Some(-60.0));
    }

    #[test]
    fn an_unknown_key_of_the_file_is_named() {
        let error = toml::from_str::<Options>("lisen = 1").unwrap_err();
        assert!(error.message().contains("lisen"), "{error}");
    }
}
