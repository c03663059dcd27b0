//! Text to [`Config`], checked once: flags, then the environment, then a file, then defaults.

pub mod access;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory, Parser};
use holdmusic_codecs::{EncoderSettings, level::LevelSettings};
use holdmusic_control::{
    Origin, Settings,
    access::Identity,
    call::{CompletesWhen, OnPromptFailure},
    graph::{StatusCase, read_prompt},
    guard::Guard,
    prompt::Prompt,
};
use holdmusic_media::prepare::PrepareSettings;
use ipnet::IpNet;
use serde::Deserialize;

use crate::{egress::Egress, fetch::FetchLimits, mailbox::WORK};
use access::{Access, AccessOptions, AppTable, IssuerTable};

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

/// When a destination counts as unreachable, in seconds: longer than a phone takes to start again.
const DEFAULT_UNREACHABLE_AFTER_S: u64 = 10;

/// The most that `--call-lifetime` may be, in seconds: a year, beyond which no limit is meant.
const MOST_LIFETIME_S: u64 = 365 * 86_400;

/// What `sched_setaffinity` can name without an allocation: the kernel's own `CPU_SETSIZE`.
const MAX_CPUS: usize = 1024;

/// Every setting, as far as it was given: on the command line, in the environment (`HOLDMUSIC_LISTEN`, …) or, with
/// the same names, as keys of the file.
#[expect(rustdoc::bare_urls, reason = "a terminal shows this text as it is")]
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// TOML file with the same names as keys; flags and environment win over it
    #[arg(long, env = "HOLDMUSIC_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where the HTTP API listens; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, env = "HOLDMUSIC_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// What Location, nextLink and jwks_uri begin with behind a proxy [default: the request's own host]
    #[arg(long, env = "HOLDMUSIC_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Where keys and the generated token are kept [default: a directory of this user's]
    #[arg(long, env = "HOLDMUSIC_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where media sockets bind [default: 127.0.0.1]
    #[arg(long, env = "HOLDMUSIC_MEDIA_BIND", value_name = "IP")]
    pub media_bind: Option<IpAddr>,
    /// What SDP and legs show as our media address, behind NAT [default: where media sockets bind]
    #[arg(long, env = "HOLDMUSIC_MEDIA_ADDRESS", value_name = "IP")]
    pub media_address: Option<IpAddr>,
    /// Ports of media sockets, one for each sender [default: any free ones]
    #[arg(long, env = "HOLDMUSIC_MEDIA_PORTS", value_name = "FIRST-LAST")]
    pub media_ports: Option<String>,
    /// Static bearer token that clients send [default: generated once and kept in the data directory]
    #[arg(long, env = "HOLDMUSIC_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Application whose the token is; notifications are signed for the application of their call [default: holdmusic]
    #[arg(long, env = "HOLDMUSIC_APP_ID", value_name = "ID")]
    pub app_id: Option<String>,
    /// Its tenant [default: 00000000-0000-0000-0000-000000000000]
    #[arg(long, env = "HOLDMUSIC_TENANT_ID", value_name = "ID")]
    pub tenant_id: Option<String>,
    /// Issuer whose signed tokens clients may send: `iss`, as in https://login.microsoftonline.com/TENANT/v2.0
    #[arg(long, env = "HOLDMUSIC_AUTH_ISSUER", value_name = "URL")]
    pub auth_issuer: Option<String>,
    /// What `aud` of its tokens may be; may be repeated
    #[arg(long, env = "HOLDMUSIC_AUTH_AUDIENCE", value_name = "AUD", value_delimiter = ',')]
    pub auth_audience: Vec<String>,
    /// Its keys (JWKS): a file, or a URL instead of its discovery document
    #[arg(long, env = "HOLDMUSIC_AUTH_KEYS", value_name = "FILE|URL")]
    pub auth_keys: Option<String>,
    /// What `tid` of its tokens may be; may be repeated [default: any tenant]
    #[arg(long, env = "HOLDMUSIC_AUTH_TENANT", value_name = "ID", value_delimiter = ',')]
    pub auth_tenant: Vec<String>,
    /// Further issuers; only in the file.
    #[arg(skip)]
    pub issuers: Vec<IssuerTable>,
    /// Applications that may use the server; only in the file.
    #[arg(skip)]
    pub apps: Vec<AppTable>,
    /// `iss` of the tokens that sign notifications [default: https://api.botframework.com]
    #[arg(long, env = "HOLDMUSIC_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// Directory of prompts: a bot names one by `file:///name.wav`, seen from this directory
    #[arg(long, env = "HOLDMUSIC_PROMPTS", value_name = "DIR")]
    pub prompts: Option<PathBuf>,
    /// Default music of the whole server, instead of the built-in one
    #[arg(long, env = "HOLDMUSIC_DEFAULT_PROMPT", value_name = "URI")]
    pub default_prompt: Option<String>,
    /// Sender threads [default: one for each core but one, at least one]
    #[arg(long, env = "HOLDMUSIC_SENDERS", value_name = "N")]
    pub senders: Option<usize>,
    /// Producer threads, which decode and encode prompts [default: one for each core]
    #[arg(long, env = "HOLDMUSIC_PRODUCERS", value_name = "N")]
    pub producers: Option<usize>,
    /// Network that prompts may be fetched from besides public addresses; may be repeated
    #[arg(long, env = "HOLDMUSIC_ALLOW_FETCH", value_name = "CIDR", value_delimiter = ',')]
    pub allow_fetch: Vec<IpNet>,
    /// Network that legs may be sent to; may be repeated [default: loopback and private networks]
    #[arg(long, env = "HOLDMUSIC_ALLOW_MEDIA", value_name = "CIDR", value_delimiter = ',')]
    pub allow_media: Vec<IpNet>,
    /// Network that callbacks may go to besides public addresses (and loopback, while we listen there)
    #[arg(long, env = "HOLDMUSIC_ALLOW_CALLBACK", value_name = "CIDR", value_delimiter = ',')]
    pub allow_callback: Vec<IpNet>,
    /// Proxy by which prompts are fetched and callbacks go, http://[user:password@]host:port [default: all goes directly]
    #[arg(long, env = "HOLDMUSIC_EGRESS_PROXY", hide_env_values = true, value_name = "URL")]
    pub egress_proxy: Option<String>,
    /// Name (with all below it) or network that is reached without the proxy; may be repeated
    #[arg(long, env = "HOLDMUSIC_EGRESS_DIRECT", value_name = "HOST|CIDR", value_delimiter = ',')]
    pub egress_direct: Vec<String>,
    /// Certificate chain in PEM; with --tls-key the API speaks HTTPS
    #[arg(long, env = "HOLDMUSIC_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key in PEM
    #[arg(long, env = "HOLDMUSIC_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond loopback without TLS or without a configured token
    #[arg(long, env = "HOLDMUSIC_INSECURE")]
    pub insecure: bool,
    /// How the log on stderr is written [default: text] [possible values: text, json]
    #[arg(long, env = "HOLDMUSIC_LOG", value_name = "FORM")]
    pub log: Option<LogForm>,
    /// Real-time priority for senders, where the system allows it [default: true]
    #[arg(long, env = "HOLDMUSIC_REALTIME", value_name = "BOOL")]
    pub realtime: Option<bool>,
    /// Processors for senders, such as 1,2,3: one each in this order, and over again if there are more senders
    #[arg(long, env = "HOLDMUSIC_SENDER_CPUS", value_name = "LIST", value_delimiter = ',')]
    pub sender_cpus: Vec<usize>,
    /// Keep what is in memory there, never swapped out, where the system allows it [default: false]
    #[arg(long, env = "HOLDMUSIC_LOCK_MEMORY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub lock_memory: Option<bool>,
    /// Mark media with DSCP EF [default: true]
    #[arg(long, env = "HOLDMUSIC_DSCP_EF", value_name = "BOOL")]
    pub dscp_ef: Option<bool>,

    /// Calls at a time [default: 20000]
    #[arg(long, env = "HOLDMUSIC_MAX_CALLS", value_name = "N", help_heading = "Limits")]
    pub max_calls: Option<usize>,
    /// Held participants at a time, over all calls [default: 20000]
    #[arg(long, env = "HOLDMUSIC_MAX_HELD", value_name = "N", help_heading = "Limits")]
    pub max_held: Option<usize>,
    /// Participants at a time, held or not, over all calls [default: 100000]
    #[arg(long, env = "HOLDMUSIC_MAX_PARTICIPANTS", value_name = "N", help_heading = "Limits")]
    pub max_participants: Option<usize>,
    /// Longest prompt, in bytes [default: 268435456]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_BYTES", value_name = "N", help_heading = "Limits")]
    pub max_prompt_bytes: Option<u64>,
    /// Longest prompt, in seconds [default: 1800]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_SECONDS", value_name = "S", help_heading = "Limits")]
    pub max_prompt_seconds: Option<u32>,
    /// Bytes of prepared prompts kept on disk, so that they need not be encoded again; 0 keeps none [default: 1073741824]
    #[arg(long, env = "HOLDMUSIC_PROMPT_CACHE_BYTES", value_name = "N", help_heading = "Limits")]
    pub prompt_cache_bytes: Option<u64>,
    /// Most samples of a prompt, over all its channels [default: 172800000]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_SAMPLES", value_name = "N", help_heading = "Limits")]
    pub max_prompt_samples: Option<u64>,
    /// Most channels of a prompt [default: 8]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_CHANNELS", value_name = "N", help_heading = "Limits")]
    pub max_prompt_channels: Option<u16>,
    /// Lowest sample rate of a prompt, in Hz [default: 4000]
    #[arg(long, env = "HOLDMUSIC_MIN_PROMPT_RATE", value_name = "HZ", help_heading = "Limits")]
    pub min_prompt_rate: Option<u32>,
    /// Highest sample rate of a prompt, in Hz [default: 384000]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_RATE", value_name = "HZ", help_heading = "Limits")]
    pub max_prompt_rate: Option<u32>,
    /// CPU time that decoding one prompt may take, in seconds [default: 15]
    #[arg(long, env = "HOLDMUSIC_PROMPT_CPU_SECONDS", value_name = "S", help_heading = "Limits")]
    pub prompt_cpu_seconds: Option<u32>,
    /// Prompts that are prepared at the same time; more are refused with 503 [default: 256]
    #[arg(long, env = "HOLDMUSIC_MAX_PREPARING", value_name = "N", help_heading = "Limits")]
    pub max_preparing: Option<usize>,
    /// How long DNS and connecting to a prompt's origin may take, in seconds [default: 5]
    #[arg(long, env = "HOLDMUSIC_FETCH_CONNECT", value_name = "S", help_heading = "Limits")]
    pub fetch_connect: Option<u64>,
    /// How long a prompt's origin may be silent, in seconds [default: 5]
    #[arg(long, env = "HOLDMUSIC_FETCH_SILENCE", value_name = "S", help_heading = "Limits")]
    pub fetch_silence: Option<u64>,
    /// How long fetching a prompt may take in all, in seconds [default: 15]
    #[arg(long, env = "HOLDMUSIC_FETCH_TOTAL", value_name = "S", help_heading = "Limits")]
    pub fetch_total: Option<u64>,
    /// How long a new hold waits for its prompt before default music plays, in milliseconds [default: 300]
    #[arg(long, env = "HOLDMUSIC_GRACE", value_name = "MS", help_heading = "Holds")]
    pub grace: Option<u64>,
    /// How long a destination may answer "port unreachable" before its hold ends, in seconds [default: 10]
    #[arg(long, env = "HOLDMUSIC_UNREACHABLE_AFTER", value_name = "S", help_heading = "Holds")]
    pub unreachable_after: Option<u64>,
    /// Participants of one call that may be on hold at a time [default: 1]
    #[arg(long, env = "HOLDMUSIC_MAX_HELD_PARTICIPANTS", value_name = "N", help_heading = "Holds")]
    pub max_held_participants: Option<usize>,
    /// What happens when a prompt fails [default: default-music]
    #[arg(long, env = "HOLDMUSIC_ON_PROMPT_FAILURE", value_name = "WHAT", help_heading = "Holds")]
    pub on_prompt_failure: Option<PromptFailureChoice>,
    /// When a start operation completes [default: music-starts]
    #[arg(long, env = "HOLDMUSIC_COMPLETES_WHEN", value_name = "WHEN", help_heading = "Holds")]
    pub completes_when: Option<CompletionChoice>,
    /// How `status` is spelled: `running` or `Running` [default: camel]
    #[arg(long, env = "HOLDMUSIC_STATUS_CASE", value_name = "CASE", help_heading = "Holds")]
    pub status_case: Option<CaseChoice>,
    /// The longest that a hold may last, in seconds [default: no limit]
    #[arg(long, env = "HOLDMUSIC_MAX_DURATION", value_name = "S", help_heading = "Holds")]
    pub max_duration: Option<u64>,
    /// How long a call lives without `keepAlive`, in seconds; Graph's has 2700 [default: no limit]
    #[arg(long, env = "HOLDMUSIC_CALL_LIFETIME", value_name = "S", help_heading = "Holds")]
    pub call_lifetime: Option<u64>,
    /// Loudness of what is sent, in LUFS, or `off` to play every recording as it is [default: -20]
    #[arg(
        long,
        env = "HOLDMUSIC_TARGET_LUFS",
        value_name = "LUFS",
        help_heading = "Sound",
        allow_hyphen_values = true
    )]
    pub target_lufs: Option<String>,
    /// Highest true peak of what is sent, in dBTP [default: -2]
    #[arg(
        long,
        env = "HOLDMUSIC_CEILING_DBTP",
        value_name = "DBTP",
        help_heading = "Sound",
        allow_hyphen_values = true
    )]
    pub ceiling_dbtp: Option<f64>,
    /// Level below which a prompt's beginning and end are left out, in dB of full scale, or `off` to play all of it
    /// [default: off]
    #[arg(
        long,
        env = "HOLDMUSIC_TRIM_SILENCE",
        value_name = "DBFS",
        help_heading = "Sound",
        allow_hyphen_values = true
    )]
    pub trim_silence: Option<String>,
    /// Opus bit rate in bits per second, constant [default: 32000]
    #[arg(long, env = "HOLDMUSIC_OPUS_BITRATE", value_name = "N", help_heading = "Sound")]
    pub opus_bitrate: Option<u32>,
    /// Opus complexity, 0 to 10 [default: 9]
    #[arg(long, env = "HOLDMUSIC_OPUS_COMPLEXITY", value_name = "N", help_heading = "Sound")]
    pub opus_complexity: Option<u8>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogForm {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `--on-prompt-failure`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptFailureChoice {
    /// Default music plays and the operation completes, saying why.
    DefaultMusic,
    /// The operation fails, and a hold that it began ends.
    Fail,
}

/// `--completes-when`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompletionChoice {
    /// When the first packet of what was asked for has left.
    MusicStarts,
    /// When the hold ends.
    MusicEnds,
}

/// `--status-case`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseChoice {
    /// `running`, as the documentation says.
    Camel,
    /// `Running`, as the schema says.
    Pascal,
}

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
    /// Which way fetches and callbacks go.
    pub egress: Egress,
    /// What a fetch may cost.
    pub fetch: FetchLimits,
    /// Most bytes of prepared prompts on disk.
    pub prompt_cache_bytes: u64,
    /// What producers need to know.
    pub producer: PrepareSettings,
    /// When a leg counts as unreachable.
    pub unreachable_after: Duration,
    /// Control's settings; the local media addresses are filled in when the sockets are bound.
    pub control: Settings,
}

impl Options {
    /// These options, with those of the file for what is missing.
    ///
    /// # Errors
    ///
    /// One line: the file and what is wrong in it.
    pub fn with_file(self) -> Result<Self, String> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " "))
        })?;
        Ok(self.or(file))
    }

    /// Where keys and token are kept.
    ///
    /// # Errors
    ///
    /// One line, if no place is named and the user has none.
    pub fn data_directory(self) -> Result<PathBuf, String> {
        self.data.map_or_else(default_data, Ok)
    }

    /// What `self` leaves open is taken from `file`.
    fn or(self, file: Self) -> Self {
        macro_rules! merge {
            ($($single:ident),* ; $($list:ident),*) => {
                Self {
                    $($single: self.$single.or(file.$single),)*
                    $($list: if self.$list.is_empty() { file.$list } else { self.$list },)*
                    insecure: self.insecure || file.insecure,
                }
            };
        }
        merge!(
            config,
            listen,
            public_url,
            data,
            media_bind,
            media_address,
            media_ports,
            token,
            app_id,
            tenant_id,
            auth_issuer,
            auth_keys,
            issuer,
            egress_proxy,
            prompts,
            default_prompt,
            senders,
            producers,
            tls_cert,
            tls_key,
            log,
            realtime,
            lock_memory,
            dscp_ef,
            max_calls,
            max_held,
            max_participants,
            max_prompt_bytes,
            max_prompt_seconds,
            max_prompt_samples,
            max_prompt_channels,
            min_prompt_rate,
            max_prompt_rate,
            prompt_cpu_seconds,
            prompt_cache_bytes,
            max_preparing,
            fetch_connect,
            fetch_silence,
            fetch_total,
            grace,
            unreachable_after,
            max_held_participants,
            on_prompt_failure,
            completes_when,
            status_case,
            max_duration,
            call_lifetime,
            target_lufs,
            ceiling_dbtp,
            trim_silence,
            opus_bitrate,
            opus_complexity;
            allow_fetch,
            allow_media,
            allow_callback,
            auth_audience,
            auth_tenant,
            issuers,
            apps,
            egress_direct,
            sender_cpus
        )
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
        let mut producer =
            PrepareSettings { encoder, level, trim_silence_dbfs, ..PrepareSettings::default() };
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
            ..Settings::default()
        };
        control.grace = self.grace.map_or(control.grace, Duration::from_millis);
        control.max_calls = positive("--max-calls", self.max_calls.unwrap_or(control.max_calls), 1_000_000)?;
        control.max_preparing =
            positive("--max-preparing", self.max_preparing.unwrap_or(control.max_preparing), WORK)?;
        control.max_held = positive("--max-held", self.max_held.unwrap_or(control.max_held), 1_000_000)?;
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
        control.hold.completes_when = match self.completes_when {
            Some(CompletionChoice::MusicEnds) => CompletesWhen::MusicEnds,
            _ => CompletesWhen::MusicStarts,
        };
        control.hold.status_case = match self.status_case {
            Some(CaseChoice::Pascal) => StatusCase::Pascal,
            _ => StatusCase::Camel,
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
            issuer: self.issuer.unwrap_or_else(|| DEFAULT_ISSUER.to_owned()),
            producers,
            tls,
            log: self.log.unwrap_or_default(),
            realtime: self.realtime.unwrap_or(true),
            sender_cpus,
            lock_memory: self.lock_memory.unwrap_or(false),
            dscp_ef: self.dscp_ef.unwrap_or(true),
            egress,
            fetch,
            prompt_cache_bytes: self.prompt_cache_bytes.unwrap_or(DEFAULT_PROMPT_CACHE_BYTES),
            producer,
            unreachable_after: Duration::from_secs(
                self.unreachable_after.unwrap_or(DEFAULT_UNREACHABLE_AFTER_S),
            ),
            control,
        })
    }

    /// Every key with its explanation and, where it was given, its value: a file that `--config` reads.
    pub fn explained(&self) -> String {
        #[derive(Parser)]
        struct Keys {
            #[command(flatten)]
            options: Options,
        }
        let (given, defaults) = (self.given(), Self::defaults().given());
        let mut text = String::from(
            "# Settings of holdmusic. A key without '#' was given; the others show their default, if it is a value.\n",
        );
        for argument in Keys::command().get_arguments() {
            let Some(key) = argument.get_long().filter(|key| !matches!(*key, "config" | "help")) else {
                continue;
            };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("\n# {help}\n"));
            match given.get(key) {
                Some(value) => text.push_str(&format!("{key} = {value}\n")),
                None => match defaults.get(key) {
                    Some(value) => text.push_str(&format!("# {key} = {value}\n")),
                    None => text.push_str(&format!("# {key} =\n")),
                },
            }
        }
        text + &access::explained(&self.issuers, &self.apps)
    }

    /// What stands in place of a key that was not given, where that is a value: the rest is found out at start-up, or
    /// nothing at all.
    fn defaults() -> Self {
        let (fetch, prompt) = (FetchLimits::default(), PrepareSettings::default());
        let control = Settings::default();
        let limits = prompt.limits;
        Self {
            config: None,
            listen: Some(DEFAULT_LISTEN),
            public_url: None,
            data: None,
            media_bind: Some(DEFAULT_MEDIA_BIND),
            media_address: None,
            media_ports: None,
            token: None,
            app_id: Some(DEFAULT_APP_ID.to_owned()),
            tenant_id: Some(DEFAULT_TENANT_ID.to_owned()),
            auth_issuer: None,
            auth_audience: Vec::new(),
            auth_keys: None,
            auth_tenant: Vec::new(),
            issuers: Vec::new(),
            apps: Vec::new(),
            issuer: Some(DEFAULT_ISSUER.to_owned()),
            egress_proxy: None,
            prompts: None,
            default_prompt: None,
            senders: None,
            producers: None,
            allow_fetch: Vec::new(),
            allow_media: Vec::new(),
            allow_callback: Vec::new(),
            egress_direct: Vec::new(),
            tls_cert: None,
            tls_key: None,
            insecure: false,
            log: Some(LogForm::default()),
            realtime: Some(true),
            sender_cpus: Vec::new(),
            lock_memory: Some(false),
            dscp_ef: Some(true),
            max_calls: Some(control.max_calls),
            max_held: Some(control.max_held),
            max_participants: Some(control.max_participants),
            max_prompt_bytes: Some(fetch.max_bytes),
            max_prompt_seconds: Some(limits.max_seconds),
            max_prompt_samples: Some(limits.max_samples),
            max_prompt_channels: Some(limits.max_channels),
            min_prompt_rate: Some(limits.min_rate),
            max_prompt_rate: Some(limits.max_rate),
            prompt_cpu_seconds: Some(limits.max_cpu_seconds),
            prompt_cache_bytes: Some(DEFAULT_PROMPT_CACHE_BYTES),
            max_preparing: Some(control.max_preparing),
            fetch_connect: Some(fetch.connect.as_secs()),
            fetch_silence: Some(fetch.silence.as_secs()),
            fetch_total: Some(fetch.total.as_secs()),
            grace: u64::try_from(control.grace.as_millis()).ok(),
            unreachable_after: Some(DEFAULT_UNREACHABLE_AFTER_S),
            max_held_participants: Some(control.hold.max_held),
            on_prompt_failure: Some(PromptFailureChoice::DefaultMusic),
            completes_when: Some(CompletionChoice::MusicStarts),
            status_case: Some(CaseChoice::Camel),
            max_duration: None,
            call_lifetime: None,
            target_lufs: prompt.level.target_lufs.map(|target| target.to_string()),
            ceiling_dbtp: Some(prompt.level.ceiling_dbtp),
            trim_silence: Some("off".to_owned()),
            opus_bitrate: Some(prompt.encoder.opus_bitrate),
            opus_complexity: Some(prompt.encoder.opus_complexity),
        }
    }

    /// Keys that were given, as TOML writes their values; secrets are not shown.
    fn given(&self) -> std::collections::BTreeMap<&'static str, String> {
        let mut given = std::collections::BTreeMap::new();
        macro_rules! show {
            ($($field:ident = $key:literal: $value:expr),* $(,)?) => {
                $(if let Some($field) = &self.$field { given.insert($key, $value); })*
            };
        }
        fn quoted(text: impl std::fmt::Display) -> String {
            toml::Value::String(text.to_string()).to_string()
        }
        fn word(value: impl clap::ValueEnum) -> String {
            quoted(value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default())
        }
        show!(
            listen = "listen": quoted(listen),
            public_url = "public-url": quoted(public_url),
            data = "data": quoted(data.display()),
            media_bind = "media-bind": quoted(media_bind),
            media_address = "media-address": quoted(media_address),
            media_ports = "media-ports": quoted(media_ports),
            token = "token": { let _ = token; "\"(secret)\"".to_owned() },
            app_id = "app-id": quoted(app_id),
            tenant_id = "tenant-id": quoted(tenant_id),
            auth_issuer = "auth-issuer": quoted(auth_issuer),
            auth_keys = "auth-keys": quoted(shown_uri(auth_keys)),
            issuer = "issuer": quoted(issuer),
            egress_proxy = "egress-proxy": quoted(shown_uri(egress_proxy)),
            prompts = "prompts": quoted(prompts.display()),
            default_prompt = "default-prompt": quoted(shown_uri(default_prompt)),
            senders = "senders": senders.to_string(),
            producers = "producers": producers.to_string(),
            tls_cert = "tls-cert": quoted(tls_cert.display()),
            tls_key = "tls-key": quoted(tls_key.display()),
            log = "log": word(*log),
            realtime = "realtime": realtime.to_string(),
            lock_memory = "lock-memory": lock_memory.to_string(),
            dscp_ef = "dscp-ef": dscp_ef.to_string(),
            max_calls = "max-calls": max_calls.to_string(),
            max_held = "max-held": max_held.to_string(),
            max_participants = "max-participants": max_participants.to_string(),
            max_prompt_bytes = "max-prompt-bytes": max_prompt_bytes.to_string(),
            max_prompt_seconds = "max-prompt-seconds": max_prompt_seconds.to_string(),
            prompt_cache_bytes = "prompt-cache-bytes": prompt_cache_bytes.to_string(),
            max_prompt_samples = "max-prompt-samples": max_prompt_samples.to_string(),
            max_prompt_channels = "max-prompt-channels": max_prompt_channels.to_string(),
            min_prompt_rate = "min-prompt-rate": min_prompt_rate.to_string(),
            max_prompt_rate = "max-prompt-rate": max_prompt_rate.to_string(),
            prompt_cpu_seconds = "prompt-cpu-seconds": prompt_cpu_seconds.to_string(),
            max_preparing = "max-preparing": max_preparing.to_string(),
            fetch_connect = "fetch-connect": fetch_connect.to_string(),
            fetch_silence = "fetch-silence": fetch_silence.to_string(),
            fetch_total = "fetch-total": fetch_total.to_string(),
            grace = "grace": grace.to_string(),
            unreachable_after = "unreachable-after": unreachable_after.to_string(),
            max_held_participants = "max-held-participants": max_held_participants.to_string(),
            on_prompt_failure = "on-prompt-failure": word(*on_prompt_failure),
            completes_when = "completes-when": word(*completes_when),
            status_case = "status-case": word(*status_case),
            max_duration = "max-duration": max_duration.to_string(),
            call_lifetime = "call-lifetime": call_lifetime.to_string(),
            target_lufs = "target-lufs": quoted(target_lufs),
            ceiling_dbtp = "ceiling-dbtp": ceiling_dbtp.to_string(),
            trim_silence = "trim-silence": quoted(trim_silence),
            opus_bitrate = "opus-bitrate": opus_bitrate.to_string(),
            opus_complexity = "opus-complexity": opus_complexity.to_string(),
        );
        for (key, networks) in [
            ("allow-fetch", &self.allow_fetch),
            ("allow-media", &self.allow_media),
            ("allow-callback", &self.allow_callback),
        ] {
            if !networks.is_empty() {
                let networks: Vec<_> = networks.iter().map(quoted).collect();
                given.insert(key, format!("[{}]", networks.join(", ")));
            }
        }
        for (key, texts) in [
            ("auth-audience", &self.auth_audience),
            ("auth-tenant", &self.auth_tenant),
            ("egress-direct", &self.egress_direct),
        ] {
            if !texts.is_empty() {
                let texts: Vec<_> = texts.iter().map(quoted).collect();
                given.insert(key, format!("[{}]", texts.join(", ")));
            }
        }
        if !self.sender_cpus.is_empty() {
            given.insert("sender-cpus", format!("{:?}", self.sender_cpus));
        }
        if self.insecure {
            given.insert("insecure", "true".to_owned());
        }
        given
    }
}

/// Without secrets; a `data` URI has none, and is a sound only as a whole.
fn shown_uri(uri: &str) -> String {
    match url::Url::parse(uri) {
        Ok(url) if url.scheme() != "data" => holdmusic_control::guard::redact(&url),
        _ => uri.to_owned(),
    }
}

fn target_lufs(text: &str) -> Result<Option<f64>, String> {
    if text == "off" {
        return Ok(None);
    }
    let target = text.parse().map_err(|_| format!("--target-lufs is '{text}'; expected a number or off"))?;
    within("--target-lufs", target, -50.0, -5.0).map(Some)
}

/// A time of a fetch: at least a second, and no longer than an operation can wait for anything.
fn seconds(name: &str, given: Option<u64>, default: Duration) -> Result<Duration, String> {
    within(name, given.unwrap_or(default.as_secs()), 1, 600).map(Duration::from_secs)
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

    #[test]
    fn the_explained_settings_are_a_file_that_is_read_back() {
        let flags = "--default-prompt data:,RIFF --senders 2 --allow-fetch 10.0.0.0/8,fd00::/8 --status-case pascal --token s3cret \
                     --egress-proxy http://me:s3cret@proxy:3128 --egress-direct a.example,10.0.0.0/8";
        let line =
            Line::try_parse_from(std::iter::once("holdmusic").chain(flags.split_whitespace())).unwrap();
        let text = line.options.explained();
        assert!(!text.contains("s3cret") && text.contains("egress-proxy = \"http://proxy:3128/\""), "{text}");
        let read: Options = toml::from_str(&text).unwrap();
        assert_eq!((read.senders, read.allow_fetch.len()), (Some(2), 2));
        assert_eq!(read.status_case, Some(CaseChoice::Pascal));
        assert_eq!(read.default_prompt.as_deref(), Some("data:,RIFF"));
        assert!(text.contains("# How long a new hold waits"));
    }

    /// With the '#' taken away from each default the file says what holds without it, and so do the explanations.
    #[test]
    fn the_defaults_that_are_shown_are_those_that_hold() {
        let text = Options::default().explained();
        let shown: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "))
            .filter(|(key, _)| !key.contains(' '))
            .collect();
        let file: String = shown.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let read: Options = toml::from_str(&file).unwrap();
        let told = |config: Result<Config, String>| format!("{:?}", config.unwrap());
        assert_eq!(told(read.check()), told(Options::default().check()));
        assert!(shown.contains(&("listen", "\"127.0.0.1:8080\"")), "{file}");
        assert!(shown.contains(&("max-prompt-bytes", "268435456")), "{file}");

        // A default of one word is a value, and `--help` and the file say the same.
        for line in Line::command().get_arguments() {
            let (Some(key), Some(help)) = (line.get_long(), line.get_help()) else { continue };
            let help = help.to_string();
            let Some((_, rest)) = help.split_once("[default: ") else { continue };
            let default = rest.split(']').next().unwrap_or_default();
            let value = shown.iter().find(|(name, _)| *name == key).map(|(_, value)| value.trim_matches('"'));
            match value {
                Some(value) => assert_eq!(value, default, "--{key}"),
                None => {
                    assert!(default.contains(' '), "--{key} has the default {default}, which is not shown")
                }
            }
        }
    }
}
