//! Text to [`Config`], checked once: flags, then the environment, then a file, then defaults.

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
    call::{CompletesWhen, OnPromptFailure},
    graph::{StatusCase, read_prompt},
    guard::Guard,
    prompt::Prompt,
};
use holdmusic_media::prepare::PrepareSettings;
use ipnet::IpNet;
use serde::Deserialize;

use crate::{fetch::FetchLimits, webhook::TokenFacts};

/// Every setting, as far as it was given: on the command line, in the environment (`HOLDMUSIC_LISTEN`, …) or, with
/// the same names, as keys of the file.
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
    /// `aud` of the tokens that sign notifications: the bot's application id [default: holdmusic]
    #[arg(long, env = "HOLDMUSIC_APP_ID", value_name = "ID")]
    pub app_id: Option<String>,
    /// `tid` of those tokens: the bot's tenant [default: 00000000-0000-0000-0000-000000000000]
    #[arg(long, env = "HOLDMUSIC_TENANT_ID", value_name = "ID")]
    pub tenant_id: Option<String>,
    /// `iss` of those tokens [default: https://api.botframework.com]
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
    /// Mark media with DSCP EF [default: true]
    #[arg(long, env = "HOLDMUSIC_DSCP_EF", value_name = "BOOL")]
    pub dscp_ef: Option<bool>,

    /// Calls at a time [default: 20000]
    #[arg(long, env = "HOLDMUSIC_MAX_CALLS", value_name = "N", help_heading = "Limits")]
    pub max_calls: Option<usize>,
    /// Held participants at a time, over all calls [default: 20000]
    #[arg(long, env = "HOLDMUSIC_MAX_HELD", value_name = "N", help_heading = "Limits")]
    pub max_held: Option<usize>,
    /// Longest prompt, in bytes [default: 268435456]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_BYTES", value_name = "N", help_heading = "Limits")]
    pub max_prompt_bytes: Option<u64>,
    /// Longest prompt, in seconds [default: 1800]
    #[arg(long, env = "HOLDMUSIC_MAX_PROMPT_SECONDS", value_name = "S", help_heading = "Limits")]
    pub max_prompt_seconds: Option<u32>,
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
    /// The static token, if it was given.
    pub token: Option<String>,
    /// What notifications are signed with.
    pub token_facts: TokenFacts,
    /// Producer threads.
    pub producers: usize,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How the log is written.
    pub log: LogForm,
    /// Whether senders ask for real-time priority.
    pub realtime: bool,
    /// Whether media is marked Expedited Forwarding.
    pub dscp_ef: bool,
    /// What a fetch may cost.
    pub fetch: FetchLimits,
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
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " "))
        })?;
        Ok(self.or(file))
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
            config, listen, public_url, data, media_bind, media_address, media_ports, token, app_id, tenant_id,
            issuer, prompts, default_prompt, senders, producers, tls_cert, tls_key, log, realtime, dscp_ef, max_calls, max_held,
            max_prompt_bytes, max_prompt_seconds, fetch_connect, fetch_silence, fetch_total, grace,
            unreachable_after, max_held_participants, on_prompt_failure, completes_when, status_case,
            max_duration, target_lufs, ceiling_dbtp, trim_silence, opus_bitrate, opus_complexity;
            allow_fetch, allow_media, allow_callback
        )
    }

    /// Everything that was left open is filled in, and everything is checked.
    ///
    /// # Errors
    ///
    /// One line: which setting, what was found, what is expected.
    pub fn check(self) -> Result<Config, String> {
        let listen = self.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let loopback = listen.ip().is_loopback();
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err("--tls-cert is given without --tls-key; expected both".to_owned()),
            (None, Some(_)) => return Err("--tls-key is given without --tls-cert; expected both".to_owned()),
        };
        if !loopback && !self.insecure {
            if tls.is_none() {
                return Err(format!(
                    "--listen {listen} is not loopback and there is no TLS; give --tls-cert and --tls-key, or \
                     --insecure if a proxy in front of it speaks TLS"
                ));
            }
            if self.token.is_none() {
                return Err(format!(
                    "--listen {listen} is not loopback and no authentication is configured; give --token, or \
                     --insecure to use the generated one"
                ));
            }
        }
        if self.token.as_ref().is_some_and(|token| token.is_empty() || !token.is_ascii()) {
            return Err("--token is empty or not ASCII; expected a secret of printable ASCII".to_owned());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let senders = positive("--senders", self.senders.unwrap_or(cores.saturating_sub(1).max(1)), 256)?;
        let producers = positive("--producers", self.producers.unwrap_or(cores), 256)?;
        let media_bind = self.media_bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
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
            max_bytes: self.max_prompt_bytes.unwrap_or(fetch.max_bytes),
            connect: self.fetch_connect.map_or(fetch.connect, Duration::from_secs),
            silence: self.fetch_silence.map_or(fetch.silence, Duration::from_secs),
            total: self.fetch_total.map_or(fetch.total, Duration::from_secs),
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
        if let Some(seconds) = self.max_prompt_seconds {
            producer.limits.max_seconds = within("--max-prompt-seconds", seconds, 1, 24 * 3600)?;
        }
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
        control.max_held = positive("--max-held", self.max_held.unwrap_or(control.max_held), 1_000_000)?;
        control.hold.max_held = positive(
            "--max-held-participants",
            self.max_held_participants.unwrap_or(control.hold.max_held),
            1_000_000,
        )?;
        control.hold.max_duration = self.max_duration.map(Duration::from_secs);
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
        Ok(Config {
            listen,
            public_url,
            data: self.data.map_or_else(default_data, Ok)?,
            media_binds,
            media_address: self.media_address,
            token: self.token,
            token_facts: TokenFacts {
                issuer: self.issuer.unwrap_or_else(|| "https://api.botframework.com".to_owned()),
                audience: self.app_id.unwrap_or_else(|| "holdmusic".to_owned()),
                tenant: self.tenant_id.unwrap_or_else(|| "00000000-0000-0000-0000-000000000000".to_owned()),
            },
            producers,
            tls,
            log: self.log.unwrap_or_default(),
            realtime: self.realtime.unwrap_or(true),
            dscp_ef: self.dscp_ef.unwrap_or(true),
            fetch,
            producer,
            unreachable_after: Duration::from_secs(self.unreachable_after.unwrap_or(10)),
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
        let given = self.given();
        let mut text = String::from(
            "# Settings of holdmusic. A key without '#' was given; the others show their default.\n",
        );
        for argument in Keys::command().get_arguments() {
            let Some(key) = argument.get_long().filter(|key| !matches!(*key, "config" | "help")) else {
                continue;
            };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("\n# {help}\n"));
            match given.get(key) {
                Some(value) => text.push_str(&format!("{key} = {value}\n")),
                None => text.push_str(&format!("# {key} =\n")),
            }
        }
        text
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
            issuer = "issuer": quoted(issuer),
            prompts = "prompts": quoted(prompts.display()),
            default_prompt = "default-prompt": quoted(shown_uri(default_prompt)),
            senders = "senders": senders.to_string(),
            producers = "producers": producers.to_string(),
            tls_cert = "tls-cert": quoted(tls_cert.display()),
            tls_key = "tls-key": quoted(tls_key.display()),
            log = "log": word(*log),
            realtime = "realtime": realtime.to_string(),
            dscp_ef = "dscp-ef": dscp_ef.to_string(),
            max_calls = "max-calls": max_calls.to_string(),
            max_held = "max-held": max_held.to_string(),
            max_prompt_bytes = "max-prompt-bytes": max_prompt_bytes.to_string(),
            max_prompt_seconds = "max-prompt-seconds": max_prompt_seconds.to_string(),
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
        if self.insecure {
            given.insert("insecure", "true".to_owned());
        }
        given
    }
}

fn shown_uri(uri: &str) -> String {
    url::Url::parse(uri).map_or_else(|_| uri.to_owned(), |url| holdmusic_control::guard::redact(&url))
}

fn target_lufs(text: &str) -> Result<Option<f64>, String> {
    if text == "off" {
        return Ok(None);
    }
    let target = text.parse().map_err(|_| format!("--target-lufs is '{text}'; expected a number or off"))?;
    within("--target-lufs", target, -50.0, -5.0).map(Some)
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
        ] {
            let error = check(flags).expect_err(flags);
            assert!(error.contains(words), "{flags}: {error}");
        }
        assert!(check("--listen 0.0.0.0:8080 --insecure").is_ok());
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
        let flags = "--senders 2 --allow-fetch 10.0.0.0/8,fd00::/8 --status-case pascal --token s3cret";
        let line =
            Line::try_parse_from(std::iter::once("holdmusic").chain(flags.split_whitespace())).unwrap();
        let text = line.options.explained();
        assert!(!text.contains("s3cret"));
        let read: Options = toml::from_str(&text).unwrap();
        assert_eq!((read.senders, read.allow_fetch.len()), (Some(2), 2));
        assert_eq!(read.status_case, Some(CaseChoice::Pascal));
        assert!(text.contains("# How long a new hold waits"));
    }
}
