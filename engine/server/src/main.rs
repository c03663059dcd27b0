//! The command line: read settings, build the house, wait to be told to stop.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use holdmusic::{
    check::{self, CheckOptions},
    config::{LogForm, Options},
    demo::{self, DemoOptions},
    house::House,
    keys::{self, KeysCommand},
    listen::{self, ListenOptions},
    store::command::{self as store, StoreCommand},
};
use tracing_subscriber::EnvFilter;

/// Hold music for held participants: one encoding, thousands of ears.
///
/// Start with `holdmusic demo`, which shows everything in one process and on loopback. `holdmusic serve` is the engine:
/// it answers Microsoft Graph's startHoldMusic and stopHoldMusic and sends RTP.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(DemoOptions),
    /// Run the engine
    ///
    /// Prints one line to stdout when it is ready: `holdmusic ready http://127.0.0.1:8080`. The log goes to stderr;
    /// RUST_LOG chooses what is in it. SIGTERM drains and ends; SIGHUP reads tokens, issuers, applications, certificates and
    /// signing keys again.
    Serve(Box<Options>),
    Listen(ListenOptions),
    /// Look at prompts before anybody hears them
    #[command(subcommand)]
    Prompt(PromptCommand),
    #[command(subcommand)]
    Keys(KeysCommand),
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print the effective settings, every key explained, as a file that --config reads
    Config(Box<Options>),
}

#[derive(Subcommand)]
enum PromptCommand {
    Check(Box<CheckOptions>),
}

fn main() -> ExitCode {
    // A check takes every setting that `serve` takes, and shows those that it depends on.
    let command = Line::command().mut_subcommand("prompt", |prompt| {
        prompt.mut_subcommand("check", |check| check.mut_args(check::shown_argument))
    });
    let line = Line::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match line.command {
        Command::Demo(options) => {
            log(LogForm::Text, "warn");
            demo::run(&options)
        }
        Command::Serve(options) => serve(*options),
        Command::Listen(options) => listen::run(&options),
        Command::Prompt(PromptCommand::Check(options)) => {
            log(LogForm::Text, "off");
            check::run(*options)
        }
        Command::Keys(command) => keys::run(command),
        Command::Store(command) => store::run(command),
        Command::Config(options) => config(*options),
    }
}

/// Bad settings, a port in use: one line and exit code 2.
fn wrong(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "holdmusic: {message}");
    ExitCode::from(2)
}

fn say(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn serve(options: Options) -> ExitCode {
    let again = options.clone();
    let config = match options.with_file().and_then(Options::check) {
        Ok(config) => config,
        Err(message) => return wrong(&message),
    };
    log(config.log, "info");
    let opened = House::open(config).and_then(|house| Ok((house.signals()?, house)));
    let (signals, house) = match opened {
        Ok(opened) => opened,
        Err(message) => return wrong(&message),
    };
    say(&format!("holdmusic ready {}\n", house.url()));
    match house.wait(signals, move || Ok(again.clone().with_file()?.check()?.access)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "holdmusic: {message}");
            ExitCode::FAILURE
        }
    }
}

fn config(options: Options) -> ExitCode {
    match options.with_file().and_then(|options| options.clone().check().map(|_| options)) {
        Ok(options) => {
            say(&options.explained());
            ExitCode::SUCCESS
        }
        Err(message) => wrong(&message),
    }
}

/// The log goes to stderr; RUST_LOG wins over `usually`.
fn log(form: LogForm, usually: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usually));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    match form {
        LogForm::Text => log.init(),
        LogForm::Json => log.json().init(),
    }
}
