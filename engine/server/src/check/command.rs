//! `holdmusic prompt check`: the same dry run at a terminal, of an address or of a file.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Arg, Args};
use holdmusic_control::{
    PromptCause, PromptFailure,
    graph::{PromptCheck, Terms, read_prompt},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Stage, fetched, look_at, table::Table};
use crate::{
    clock,
    config::{Config, Options},
    fetch::Fetcher,
    picture,
};

/// Say what a prompt is like and what an operation would get
///
/// Fetches the prompt as the engine would, or reads a file, decodes and encodes it, and tells: format, length,
/// loudness and true peak, clipping, silence at the ends, DC offset, the seam, the gain, the size, the time until it
/// can be heard, and the resultInfo that startHoldMusic would end with. Nothing is played, and no engine is needed.
///
/// Settings are read as by `serve`: flags, HOLDMUSIC_* in the environment, --config FILE.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The seam is measured by how sharply the sound bends at the join, against the
sharpest bend within 50 ms of it: at 0 dB or below nothing sticks out; from
6 dB on a click is likely to be heard.

Exit code: 0 if the prompt can be played, 1 if it cannot, 2 if the command line is wrong.

Examples:
  holdmusic prompt check on-hold.wav
  holdmusic prompt check on-hold.wav --svg on-hold.svg
  holdmusic prompt check https://example.com/on-hold.mp3 --json
  holdmusic prompt check http://10.1.2.3/on-hold.wav --allow-fetch 10.0.0.0/8
  holdmusic prompt check file:///on-hold.wav --prompts /srv/prompts")]
pub struct CheckOptions {
    /// An http(s) address, file:///NAME in the directory of --prompts, or a file
    #[arg(value_name = "URI|FILE")]
    pub prompt: String,
    /// Print the report as JSON, as POST /v1.0/communications/prompts/check answers it
    #[arg(long)]
    pub json: bool,
    /// Draw the recording and its seam into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Settings as `serve` has them.
    #[command(flatten)]
    pub options: Options,
}

/// Settings that a check depends on; the others are taken and not shown.
const SHOWN: &[&str] = &[
    "prompt",
    "json",
    "svg",
    "help",
    "config",
    "prompts",
    "allow_fetch",
    "egress_proxy",
    "egress_direct",
    "max_prompt_bytes",
    "max_prompt_seconds",
    "fetch_connect",
    "fetch_silence",
    "fetch_total",
    "grace",
    "on_prompt_failure",
    "target_lufs",
    "ceiling_dbtp",
    "opus_bitrate",
    "opus_complexity",
];

/// An argument as the help of `prompt check` shows it, or not.
pub fn shown_argument(argument: Arg) -> Arg {
    let shown = SHOWN.contains(&argument.get_id().as_str());
    argument.hide(!shown)
}

/// Checks a prompt and prints the report.
pub fn run(options: CheckOptions) -> ExitCode {
    let CheckOptions { prompt, json, svg, options } = options;
    let checked = settings(options).and_then(|config| checked(&prompt, config));
    let check = match checked {
        Ok(check) => check,
        Err(message) => return wrong(&message),
    };
    if let Some(path) = &svg {
        match &check.outcome {
            Ok(playable) => {
                if let Err(error) = picture::checked(path, &prompt, playable) {
                    return wrong(&format!("--svg {}: {error}", path.display()));
                }
            }
            Err(_) => say_aside("no picture is drawn of what cannot be played"),
        }
    }
    let text = match json {
        true => format!("{:#}\n", check.json()),
        false => Table { name: &shown_name(&prompt), check: &check }.to_string(),
    };
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
    if check.outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn wrong(message: &str) -> ExitCode {
    say_aside(message);
    ExitCode::from(2)
}

fn say_aside(message: &str) {
    let _ = writeln!(io::stderr(), "holdmusic: {message}");
}

/// What an engine with these settings would do with a prompt. Its doors are not opened, so what they need is not asked
/// for: a file of settings may name certificates that only the service can read.
fn settings(options: Options) -> Result<Config, String> {
    let options = options.with_file()?;
    Options {
        listen: None,
        tls_cert: None,
        tls_key: None,
        media_bind: None,
        media_ports: None,
        data: Some(options.data.unwrap_or_default()),
        ..options
    }
    .check()
}

fn is_address(prompt: &str) -> bool {
    (prompt.contains("://") || prompt.starts_with("data:")) && !Path::new(prompt).exists()
}

/// An address without its secrets; a file as it was called.
fn shown_name(prompt: &str) -> String {
    match read_prompt(prompt) {
        Ok(read) if is_address(prompt) => read.origin.redacted(),
        _ => prompt.to_owned(),
    }
}

fn checked(prompt: &str, config: Config) -> Result<PromptCheck, String> {
    let terms = Terms::from(&config.control);
    let bar = Bar::new();
    if !is_address(prompt) {
        let outcome = match read(Path::new(prompt), config.fetch.max_bytes)? {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                let outcome = look_at(bytes, &config.producer, &|stage| bar.show(stage));
                (Some(len), outcome)
            }
            Err(failure) => (None, Err(failure)),
        };
        let (bytes, outcome) = outcome;
        return Ok(PromptCheck { prompt: None, bytes, fetch: None, outcome, terms });
    }
    let read = read_prompt(prompt).map_err(|refusal| refusal.message)?;
    config.control.check_origin(Some(&read)).map_err(|refusal| refusal.message)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime of the fetch: {error}"))?;
    let fetcher = Fetcher::new(Arc::new(config.control.guard.clone()), config.egress, config.fetch)
        .map_err(|error| format!("the TLS client: {error}"))?;
    bar.say("fetching");
    let prompt = Some(read.clone());
    Ok(match runtime.block_on(fetched(&fetcher, &read.origin)) {
        Ok((bytes, fetch)) => {
            let len = bytes.len() as u64;
            let outcome = look_at(bytes, &config.producer, &|stage| bar.show(stage));
            PromptCheck { prompt, bytes: Some(len), fetch: Some(fetch), outcome, terms }
        }
        Err(failure) => PromptCheck { prompt, bytes: None, fetch: None, outcome: Err(failure), terms },
    })
}

/// The bytes of a file, or why an engine would not take so many.
fn read(path: &Path, max: u64) -> Result<Result<Vec<u8>, PromptFailure>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 > max {
        return Ok(Err(PromptFailure::new(
            PromptCause::TooLarge,
            format!("the prompt is longer than {max} bytes"),
        )));
    }
    Ok(Ok(bytes))
}

/// What takes longer than this is shown while it goes on.
const SHOWN_AFTER: Duration = Duration::from_millis(300);

/// Progress on stderr, for people who wait.
struct Bar {
    bar: ProgressBar,
    began: holdmusic_media::MediaTime,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.set_draw_target(ProgressDrawTarget::hidden());
        Self { bar, began: clock::mono() }
    }

    fn say(&self, what: &'static str) {
        self.unveil();
        self.bar.set_message(what);
        self.bar.tick();
    }

    fn show(&self, stage: Stage) {
        match stage {
            Stage::Preparing => self.say("decoding"),
            Stage::Looking => self.say("looking at every channel"),
            Stage::Encoding { frames, of } => {
                self.unveil();
                if self.bar.length().is_none() {
                    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent} %");
                    self.bar.set_style(style.expect("the template is right"));
                    self.bar.set_length(of);
                }
                self.bar.set_message("encoding a lap");
                self.bar.set_position(frames.min(of));
            }
        }
    }

    /// Nothing is drawn for what is over at once, and nothing but at a terminal.
    fn unveil(&self) {
        if self.bar.is_hidden() && io::stderr().is_terminal() && clock::mono().since(self.began) > SHOWN_AFTER
        {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(100));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        check: CheckOptions,
    }

    fn line(words: &str) -> CheckOptions {
        Line::try_parse_from(std::iter::once("check").chain(words.split_whitespace())).unwrap().check
    }

    #[test]
    fn every_setting_that_is_shown_exists() {
        use clap::CommandFactory;

        let command = Line::command();
        for name in SHOWN.iter().filter(|name| **name != "help") {
            assert!(command.get_arguments().any(|argument| argument.get_id() == name), "{name}");
        }
    }

    #[test]
    fn a_file_of_settings_for_a_service_is_good_enough_for_a_check() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "listen = \"0.0.0.0:443\"\ntls-cert = \"/none\"\ntls-key = \"/none\"\nmedia-bind = \"0.0.0.0\"\n\
             on-prompt-failure = \"fail\"\ntarget-lufs = \"-16\"\n",
        )
        .unwrap();
        let options = line(&format!("x.wav --config {}", file.path().display()));
        let config = settings(options.options).unwrap();
        assert_eq!(config.producer.level.target_lufs, Some(-16.0));
        assert!(settings(line("x.wav --opus-complexity 11").options).is_err());
    }

    #[test]
    fn an_address_is_told_from_a_file_and_shown_without_its_secrets() {
        for (prompt, is) in [
            ("on-hold.wav", false),
            ("/tmp/a b.wav", false),
            ("https://host/a.wav", true),
            ("file:///a.wav", true),
            ("ftp://host/a", true),
            ("data:audio/wav;base64,UklGRg==", true),
        ] {
            assert_eq!(is_address(prompt), is, "{prompt}");
        }
        assert!(!shown_name("https://u:secret@host/a.wav?sig=secret").contains("secret"));
    }
}
