//! The whole story in one process and on loopback: a bot, a web server with a prompt, a participant with a UDP port,
//! and the engine between them. Everything is real; the engine's doors are the ones that `serve` opens.

mod stage;
mod verdict;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use holdmusic_codecs::{Codec, DecodeLimits, Loop, decode, to_mono};
use holdmusic_media::MediaTime;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    clock,
    config::Options,
    house::House,
    listen::save_wav,
    picture::{self, Mark},
};
use stage::{Bot, Participant, Stage};
use verdict::Verdict;

/// The prompt of the demo: ours, composed by a program; see `assets/README.md`.
const PROMPT: &[u8] = include_bytes!("../../../assets/fixtures/music-16k.wav");

/// The longest that the demo listens unless it is told otherwise: long enough to hear the loop's seam in most prompts.
const LONGEST_S: f64 = 20.0;

/// What is heard after the end of the first lap, if it is not told otherwise.
const BEYOND_SEAM_S: f64 = 3.0;

/// The contract: a start operation ends within so long after its acceptance.
const OPERATION_ENDS: Duration = Duration::from_secs(20);

/// How long the participant listens after the stop: fifty packet intervals of silence.
const AFTER_STOP: Duration = Duration::from_secs(1);

/// Hear what a held participant hears
///
/// Starts an engine, a bot, a web server with a prompt and a participant in this process, on loopback. The bot holds
/// the participant, the participant listens, the bot stops. Prints the operation's life as it happens and what the
/// participant received; writes held.wav and held.svg. The exit code is 0 only if the participant really heard the
/// prompt, and nothing more after the stop.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  holdmusic demo
  holdmusic demo --prompt /usr/share/asterisk/moh/macroform-cold_day.wav --seconds 15
  holdmusic demo --prompt https://example.com/onHold.wav --out /tmp/held")]
pub struct DemoOptions {
    /// What the participant shall hear: an http(s) address, or a file that the demo serves [default: a prompt of ours]
    #[arg(long, value_name = "URI|FILE")]
    pub prompt: Option<String>,
    /// How long the participant is on hold, in seconds [default: one lap and 3 s, at most 20 s]
    #[arg(long, value_name = "N")]
    pub seconds: Option<f64>,
    /// Where held.wav and held.svg are written
    #[arg(long, value_name = "DIR", default_value = "held")]
    pub out: PathBuf,
}

/// Plays the story; the exit code says whether the participant heard what was asked for.
pub fn run(options: &DemoOptions) -> ExitCode {
    match play(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "holdmusic demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn play(options: &DemoOptions) -> Result<bool, String> {
    if options.seconds.is_some_and(|seconds| !(0.5..=3600.0).contains(&seconds)) {
        return Err("--seconds is outside 0.5 to 3600".to_owned());
    }
    fs::create_dir_all(&options.out).map_err(|error| format!("--out {}: {error}", options.out.display()))?;
    let data = tempfile::tempdir().map_err(|error| format!("a directory for keys: {error}"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("the stage's runtime: {error}"))?;
    let prompt = Prompt::find(options.prompt.as_deref(), &runtime)?;
    let stage = runtime.block_on(Stage::open(prompt.bytes.clone()))?;
    let participant = Participant::listen()?;

    let house = House::open(
        Options {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            data: Some(data.path().to_owned()),
            token: Some("the-token-of-the-demo".to_owned()),
            app_id: Some("demo-bot".to_owned()),
            allow_fetch: vec!["127.0.0.0/8".parse().expect("a network")],
            ..Options::default()
        }
        .check()?,
    )?;
    let uri = prompt.uri.clone().unwrap_or_else(|| stage.prompt_url(&prompt.name));
    let seconds = options.seconds.unwrap_or((prompt.sound.seconds() + BEYOND_SEAM_S).min(LONGEST_S));

    let story = Story {
        bot: Bot::new(&house.url(), "the-token-of-the-demo", stage.callback_url()),
        began: clock::mono(),
        marks: Vec::new(),
    };
    say(&format!(
        "\nA bot puts a participant on hold for {seconds:.1} s. The prompt is {} ({}).\n\n",
        prompt.name, prompt.format
    ));
    let told = runtime.block_on(story.tell(&stage, &participant, &uri, seconds));
    house.close();
    let receiver = participant.end()?;
    let told = told?;

    let verdict = Verdict::of(&receiver, &prompt.sound, &told)?;
    let (wav, svg) = (options.out.join("held.wav"), options.out.join("held.svg"));
    save_wav(&wav, &verdict.sound).map_err(|error| format!("{}: {error}", wav.display()))?;
    picture::held(&svg, &verdict.sound, &verdict.hearing, &told.marks)
        .map_err(|error| format!("{}: {error}", svg.display()))?;
    say(&format!("\n{verdict}\n  written to       {} and {}\n\n", wav.display(), svg.display()));
    say(if verdict.heard() {
        "The participant heard the prompt, and nothing after the stop.\n"
    } else {
        "The participant did NOT hear what was asked for; the lines marked with ✗ say why.\n"
    });
    Ok(verdict.heard())
}

/// What is played, and what it should sound like.
struct Prompt {
    name: String,
    /// Where it is, if the demo does not serve it.
    uri: Option<String>,
    bytes: Vec<u8>,
    format: String,
    sound: Loop,
}

impl Prompt {
    fn find(asked: Option<&str>, runtime: &tokio::runtime::Runtime) -> Result<Self, String> {
        let (name, uri, bytes) = match asked {
            None => ("music-16k.wav".to_owned(), None, PROMPT.to_vec()),
            Some(uri) if uri.starts_with("http://") || uri.starts_with("https://") => {
                let url = url::Url::parse(uri).map_err(|error| format!("--prompt {uri}: {error}"))?;
                let name = holdmusic_control::guard::redact(&url);
                let bytes = runtime
                    .block_on(stage::download(url))
                    .map_err(|error| format!("--prompt {name}: {error}"))?;
                (name, Some(uri.to_owned()), bytes)
            }
            Some(path) => {
                let path = Path::new(path);
                let bytes =
                    fs::read(path).map_err(|error| format!("--prompt {}: {error}", path.display()))?;
                let name = path.file_name().map_or_else(|| "prompt".into(), |name| name.to_string_lossy());
                (name.into_owned(), None, bytes)
            }
        };
        let recording =
            decode(&bytes, &DecodeLimits::default()).map_err(|error| format!("--prompt {name}: {error}"))?;
        let codec = Codec::Opus;
        let sound = Loop::new(&to_mono(&recording.pcm), codec.sample_rate(), codec.samples_per_frame());
        Ok(Self { name, uri, bytes, format: recording.format, sound })
    }
}

/// The story as it is told.
struct Story {
    bot: Bot,
    began: MediaTime,
    marks: Vec<Mark>,
}

/// What the story left for the verdict.
struct Told {
    marks: Vec<Mark>,
    /// The start operation at its end.
    operation: Value,
    /// The notification of its end, and whether its token was ours.
    notification: Value,
    token: Result<(), String>,
    /// When the music that was asked for had begun, as far as the bot knows.
    completed: MediaTime,
    /// When the stop was answered.
    stopped: MediaTime,
    /// The stop operation.
    stop: Value,
}

impl Story {
    async fn tell(
        mut self,
        stage: &Stage,
        participant: &Participant,
        uri: &str,
        seconds: f64,
    ) -> Result<Told, String> {
        let callback = self.bot.callback.clone();
        let call = self.bot.post("/communications/calls", json!({ "callbackUri": callback })).await?;
        let call = format!("/communications/calls/{}", text(&call, "/id"));
        self.note("bot", &format!("POST calls                         {}", text_status(201)));
        let leg = json!({ "rtp": { "address": participant.address().to_string(), "codec": "opus", "payloadType": 111 } });
        let path = format!("{call}/participants");
        let who = self.bot.post(&path, json!({ "mediaLeg": leg })).await?;
        let who = format!("{path}/{}", text(&who, "/id"));
        self.note("bot", &format!("POST participants                  {}", text_status(201)));

        let body = json!({
            "customPrompt": {
                "@odata.type": "#microsoft.graph.mediaPrompt",
                "mediaInfo": { "@odata.type": "#microsoft.graph.mediaInfo", "uri": uri },
            },
            "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
        });
        self.mark("startHoldMusic");
        let started = self.bot.post(&format!("{who}/startHoldMusic"), body).await?;
        self.note("bot", &format!("POST startHoldMusic                202 {}", text(&started, "/status")));
        let operation = format!("{call}/operations/{}", text(&started, "/id"));

        let end = tokio::time::timeout(OPERATION_ENDS, stage.notification_of(&text(&started, "/id"))).await;
        let (notification, bearer, completed) =
            end.map_err(|_| "the operation did not end within 20 s")??;
        let token = self.bot.check(&bearer).await;
        let status = text(&notification, "/value/0/resourceData/status");
        self.mark_at(&status, completed);
        let signed = if token.is_ok() {
            "signed by the engine's key"
        } else {
            "with a token that is not the engine's"
        };
        self.note_at(completed, "engine", &format!("notification: {status}, {signed}"));
        let operation = self.bot.get(&operation).await?;
        self.note("bot", &format!("GET operation                      {}", summary(&operation)));

        self.listen(seconds, completed).await;
        let stop = self.bot.post(&format!("{who}/stopHoldMusic"), json!({})).await?;
        let stopped = clock::mono();
        self.mark_at("stopHoldMusic", stopped);
        self.note_at(
            stopped,
            "bot",
            &format!("POST stopHoldMusic                 202 {}", text(&stop, "/status")),
        );
        tokio::time::sleep(AFTER_STOP).await;
        self.bot.delete(&call).await?;
        self.note("bot", "DELETE call                        204");
        Ok(Told { marks: self.marks, operation, notification, token, completed, stopped, stop })
    }

    /// Waits while the participant listens, with a bar where people look.
    async fn listen(&self, seconds: f64, since: MediaTime) {
        let whole = Duration::from_secs_f64(seconds);
        let bar = ProgressBar::new(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX));
        let style = ProgressStyle::with_template("           participant  listening [{bar:40}] {elapsed}");
        bar.set_style(style.expect("the template is right"));
        loop {
            let heard = clock::mono().since(since);
            if heard >= whole {
                break bar.finish_and_clear();
            }
            bar.set_position(u64::try_from(heard.as_millis()).unwrap_or(u64::MAX));
            tokio::time::sleep((whole - heard).min(Duration::from_millis(100))).await;
        }
    }

    fn mark(&mut self, label: &str) {
        self.mark_at(label, clock::mono());
    }

    fn mark_at(&mut self, label: &str, at: MediaTime) {
        self.marks.push(Mark { at, label: label.to_owned() });
    }

    fn note(&self, who: &str, what: &str) {
        self.note_at(clock::mono(), who, what);
    }

    fn note_at(&self, at: MediaTime, who: &str, what: &str) {
        say(&format!("  {:>7.3} s  {who:<11}  {what}\n", at.since(self.began).as_secs_f64()));
    }
}

fn text_status(status: u16) -> String {
    format!("{status}")
}

/// The operation in a few words.
fn summary(operation: &Value) -> String {
    let mut words = text(operation, "/status");
    if let Some(latency) = operation.pointer("/holdMusic/firstPacketLatencyMs").and_then(Value::as_f64) {
        words.push_str(&format!(", first packet after {latency:.1} ms"));
    }
    if let Some(reason) = operation.pointer("/resultInfo/message").and_then(Value::as_str) {
        words.push_str(&format!(" ({reason})"));
    }
    words
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned()
}

fn say(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
