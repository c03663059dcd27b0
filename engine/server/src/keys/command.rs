//! `holdmusic keys`: which keys sign notifications, and a new one.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{FILE, Keys, lock, rotate};
use crate::{clock, config::Options, data_directory};

/// Look at the keys that sign notifications, or make a new one
///
/// Every notification carries a token that this engine signs (RS256). A bot verifies it by the public key that
/// `/v1/keys` publishes under the same `kid`. The private key is in the data directory; nobody else needs it.
#[derive(Subcommand, Clone, Debug)]
pub enum KeysCommand {
    /// Print the names of the keys: the one that signs, and those that are still published
    Show(Where),
    /// Make a new key that signs from now on
    ///
    /// The old key stays published until the next rotation, and for a day in any case, so that tokens under way and
    /// copies of the published keys stay good. Its private half is gone at once. A running engine goes on with the old
    /// key until it gets SIGHUP.
    #[command(after_help = "\
Examples:
  holdmusic keys rotate --data /var/lib/holdmusic && systemctl reload holdmusic
  holdmusic keys rotate --withdraw      the private key may be in other hands: its tokens verify no more")]
    Rotate {
        /// Publish no old key any more: tokens that it has signed, and forged ones, are refused from the SIGHUP on
        #[arg(long)]
        withdraw: bool,
        /// Where.
        #[command(flatten)]
        place: Where,
    },
}

/// Where an engine keeps what outlives it.
#[derive(Args, Clone, Debug)]
pub struct Where {
    /// The data directory [default: a directory of this user's, as for `serve`]
    #[arg(long, env = "HOLDMUSIC_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// TOML file of `serve`, which may name the directory
    #[arg(long, env = "HOLDMUSIC_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Where {
    /// The data directory.
    ///
    /// # Errors
    ///
    /// One line: the file cannot be read, or there is no such directory of this user's.
    pub fn directory(self) -> Result<PathBuf, String> {
        let Self { data, config } = self;
        Options { data, config, ..Options::default() }.with_file()?.data_directory()
    }
}

/// Does what is asked, and says what came of it.
pub fn run(command: KeysCommand) -> ExitCode {
    let said = match command {
        KeysCommand::Show(place) => place.directory().and_then(|data| show(&data)),
        KeysCommand::Rotate { withdraw, place } => {
            place.directory().and_then(|data| rotated(&data, withdraw))
        }
    };
    match said {
        Ok(text) => {
            let mut stdout = io::stdout();
            let _ = stdout.write_all(text.as_bytes());
            let _ = stdout.flush();
            ExitCode::SUCCESS
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "holdmusic: {message}");
            ExitCode::from(2)
        }
    }
}

fn show(data: &Path) -> Result<String, String> {
    let none = || {
        let data = data.display();
        format!(
            "there is no key in {data}; `holdmusic serve` makes one when it first starts, --data names another place"
        )
    };
    if !data.join(FILE).exists() {
        return Err(none());
    }
    let keys = lock(data).and_then(|_lock| Keys::read(data)).map_err(|error| error.to_string())?;
    let keys = keys.ok_or_else(none)?;
    let mut text = format!("{}  signs, kept in {}\n", keys.id(), data.join(FILE).display());
    for old in &keys.retired {
        text += &format!("{}  published, signed until {}\n", old.key.kid, old.retired);
    }
    Ok(text)
}

fn rotated(data: &Path, withdraw: bool) -> Result<String, String> {
    data_directory::open(data)?;
    let (new, old) = rotate(data, clock::now().wall, withdraw).map_err(|error| error.to_string())?;
    let mut text = format!("{new}  signs, kept in {}\n", data.join(FILE).display());
    match old {
        Some(old) if withdraw => text += &format!("{old}  withdrawn, and every older one\n"),
        Some(old) => {
            text += &format!("{old}  published until the next rotation, and for a day in any case\n")
        }
        None => text += "There was none before.\n",
    }
    text += "A running engine takes it when it gets SIGHUP: kill -HUP <its process id>, or systemctl reload holdmusic.\n";
    Ok(text)
}
