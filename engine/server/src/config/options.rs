//! What can be set: flags, environment and keys of the file, with the same names and the same explanations.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use holdmusic_codecs::Codec;
use ipnet::IpNet;
use serde::Deserialize;

use super::access::{AppTable, IssuerTable};

/// Every setting, as far as it was given: on the command line, in the environment (`HOLDMUSIC_LISTEN`, …) or, with
/// the same names, as keys of the file.
#[expect(rustdoc::bare_urls, rustdoc::broken_intra_doc_links, reason = "a terminal shows this text as it is")]
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
    /// Origin of web pages that may use WHEP here, like https://console.example.com; may be repeated [default: no origin]
    #[arg(long, env = "HOLDMUSIC_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
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
    /// Who listens in on participants (WHEP) at a time, over all of them; 0 is nobody [default: 100]
    #[arg(long, env = "HOLDMUSIC_MAX_LISTENERS", value_name = "N", help_heading = "Limits")]
    pub max_listeners: Option<usize>,
    /// Connections of clients at a time; each is an open file [default: 10000]
    #[arg(long, env = "HOLDMUSIC_MAX_CONNECTIONS", value_name = "N", help_heading = "Limits")]
    pub max_connections: Option<usize>,
    /// How long a TLS handshake may take, and the head of a connection's first request, in seconds [default: 10]
    #[arg(long, env = "HOLDMUSIC_HEAD_TIMEOUT", value_name = "S", help_heading = "Limits")]
    pub head_timeout: Option<u64>,
    /// How long a connection is kept without another request, or with an answer that is not read, in seconds [default: 75]
    #[arg(long, env = "HOLDMUSIC_IDLE_TIMEOUT", value_name = "S", help_heading = "Limits")]
    pub idle_timeout: Option<u64>,
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
    /// How long a receiver that has reported (RTCP) may be silent before its hold ends, in seconds; at least 20
    /// [default: for ever]
    #[arg(long, env = "HOLDMUSIC_SILENT_AFTER", value_name = "S", help_heading = "Holds")]
    pub silent_after: Option<u64>,
    /// Follow a peer to the address that it sends from, for peers behind a NAT (symmetric RTP): one that reports about
    /// our SSRC, or sends with the SSRC of its offer [default: false]
    #[arg(long, env = "HOLDMUSIC_LATCHING", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Holds")]
    pub latching: Option<bool>,
    /// What becomes of holds when the engine is stopped and started again, or has died [default: resume]
    #[arg(long, env = "HOLDMUSIC_ON_RESTART", value_name = "WHAT", help_heading = "Holds")]
    pub on_restart: Option<RestartChoice>,
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
    /// Codecs that legs may have, best first: opus, opus-fullband, g722, l16, pcma, pcmu [default: opus, g722, l16, pcma, pcmu]
    #[arg(
        long,
        env = "HOLDMUSIC_CODECS",
        value_name = "LIST",
        help_heading = "Sound",
        value_delimiter = ','
    )]
    pub codecs: Vec<CodecChoice>,
    /// Whose order decides where an SDP offer has several of them [default: offer]
    #[arg(long, env = "HOLDMUSIC_CODEC_ORDER", value_name = "WHOSE", help_heading = "Sound")]
    pub codec_order: Option<CodecOrderChoice>,
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

/// `--codecs`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecChoice {
    /// Opus at 16 kHz.
    Opus,
    /// Opus at 48 kHz, for receivers that play it.
    OpusFullband,
    /// G.722: 7 kHz of sound at 64 kbit/s.
    G722,
    /// Linear samples at 16 kHz.
    L16,
    /// G.711 A-law.
    Pcma,
    /// G.711 µ-law.
    Pcmu,
}

impl CodecChoice {
    /// The codec that is meant.
    pub fn codec(self) -> Codec {
        match self {
            Self::Opus => Codec::Opus,
            Self::OpusFullband => Codec::OpusFullband,
            Self::G722 => Codec::G722,
            Self::L16 => Codec::L16,
            Self::Pcma => Codec::Pcma,
            Self::Pcmu => Codec::Pcmu,
        }
    }

    /// How `codec` is chosen, if it can be: Opus with few bits goes with Opus.
    pub fn of(codec: Codec) -> Option<Self> {
        Self::value_variants().iter().copied().find(|choice| choice.codec() == codec)
    }
}

/// `--codec-order`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecOrderChoice {
    /// The offer's.
    Offer,
    /// That of `--codecs`.
    Ours,
}

/// `--on-restart`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartChoice {
    /// They go on, in step with the music.
    Resume,
    /// They end.
    End,
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

    /// What `self` leaves open is taken from `file`.
    pub(super) fn or(self, file: Self) -> Self {
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
            max_listeners,
            max_connections,
            head_timeout,
            idle_timeout,
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
            silent_after,
            latching,
            on_restart,
            max_held_participants,
            on_prompt_failure,
            completes_when,
            status_case,
            max_duration,
            call_lifetime,
            target_lufs,
            ceiling_dbtp,
            trim_silence,
            codec_order,
            opus_bitrate,
            opus_complexity;
            allow_fetch,
            allow_media,
            allow_callback,
            auth_audience,
            auth_tenant,
            cors_origin,
            issuers,
            apps,
            egress_direct,
            codecs,
            sender_cpus
        )
    }
}
