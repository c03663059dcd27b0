//! The command line, as far as the listener needs it.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "holdmusic", version)]
enum Command {
    Listen(holdmusic::listen::ListenOptions),
}

fn main() -> ExitCode {
    let Command::Listen(options) = Command::parse();
    holdmusic::listen::run(&options)
}
