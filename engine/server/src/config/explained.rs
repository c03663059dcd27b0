//! `holdmusic config`: what was given and what else holds, as a file that is read back.

use clap::{CommandFactory, Parser};
use holdmusic_control::Settings;
use holdmusic_media::prepare::PrepareSettings;

use super::{
    DEFAULT_APP_ID, DEFAULT_ISSUER, DEFAULT_LISTEN, DEFAULT_MEDIA_BIND, DEFAULT_PROMPT_CACHE_BYTES,
    DEFAULT_TENANT_ID, DEFAULT_UNREACHABLE_AFTER_S, access,
    options::{
        CaseChoice, CodecChoice, CodecOrderChoice, CompletionChoice, LogForm, Options, PromptFailureChoice,
        RestartChoice,
    },
};
use crate::{fetch::FetchLimits, http::connections::ConnectionLimits};

impl Options {
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
        let connections = ConnectionLimits::default();
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
            cors_origin: Vec::new(),
            max_listeners: Some(control.max_listeners),
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
            max_connections: Some(connections.most),
            head_timeout: Some(connections.head.as_secs()),
            idle_timeout: Some(connections.idle.as_secs()),
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
            silent_after: None,
            latching: Some(false),
            on_restart: Some(RestartChoice::Resume),
            max_held_participants: Some(control.hold.max_held),
            on_prompt_failure: Some(PromptFailureChoice::DefaultMusic),
            completes_when: Some(CompletionChoice::MusicStarts),
            status_case: Some(CaseChoice::Camel),
            max_duration: None,
            call_lifetime: None,
            target_lufs: prompt.level.target_lufs.map(|target| target.to_string()),
            ceiling_dbtp: Some(prompt.level.ceiling_dbtp),
            trim_silence: Some("off".to_owned()),
            codecs: control.codecs.iter().filter_map(|codec| CodecChoice::of(*codec)).collect(),
            codec_order: Some(CodecOrderChoice::Offer),
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
            max_listeners = "max-listeners": max_listeners.to_string(),
            max_connections = "max-connections": max_connections.to_string(),
            head_timeout = "head-timeout": head_timeout.to_string(),
            idle_timeout = "idle-timeout": idle_timeout.to_string(),
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
            silent_after = "silent-after": silent_after.to_string(),
            latching = "latching": latching.to_string(),
            on_restart = "on-restart": word(*on_restart),
            max_held_participants = "max-held-participants": max_held_participants.to_string(),
            on_prompt_failure = "on-prompt-failure": word(*on_prompt_failure),
            completes_when = "completes-when": word(*completes_when),
            status_case = "status-case": word(*status_case),
            max_duration = "max-duration": max_duration.to_string(),
            call_lifetime = "call-lifetime": call_lifetime.to_string(),
            target_lufs = "target-lufs": quoted(target_lufs),
            ceiling_dbtp = "ceiling-dbtp": ceiling_dbtp.to_string(),
            trim_silence = "trim-silence": quoted(trim_silence),
            codec_order = "codec-order": word(*codec_order),
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
            ("cors-origin", &self.cors_origin),
            ("egress-direct", &self.egress_direct),
        ] {
            if !texts.is_empty() {
                let texts: Vec<_> = texts.iter().map(quoted).collect();
                given.insert(key, format!("[{}]", texts.join(", ")));
            }
        }
        if !self.codecs.is_empty() {
            let codecs: Vec<_> = self.codecs.iter().map(|codec| word(*codec)).collect();
            given.insert("codecs", format!("[{}]", codecs.join(", ")));
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
pub(super) fn shown_uri(uri: &str) -> String {
    match url::Url::parse(uri) {
        Ok(url) if url.scheme() != "data" => holdmusic_control::guard::redact(&url),
        _ => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
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
            let value = shown
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.replace(['"', '[', ']'], ""));
            match value {
                Some(value) => assert_eq!(value, default, "--{key}"),
                None => {
                    assert!(default.contains(' '), "--{key} has the default {default}, which is not shown")
                }
            }
        }
    }
}
