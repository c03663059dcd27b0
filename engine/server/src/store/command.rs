//! `holdmusic store`: what is in the store, whether it is whole, and making it small.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use holdmusic_control::{
    Control, Settings,
    record::{self, dump},
};
use serde_json::json;

use super::{FILE, Store};
use crate::{clock, keys::Where};

/// Look at what survives a restart: calls, holds, operations and notifications that are owed
///
/// An engine writes it while it works. No secret of a URL is shown; the file itself has them, and is for its owner only.
#[derive(Subcommand, Clone, Debug)]
pub enum StoreCommand {
    /// Print every record, one line of JSON each; the engine must not be running
    Dump(Where),
    /// Read everything as a start would, and say whether it can be read; the engine must not be running
    ///
    /// Exit code 0 if all is well, 1 if something is not.
    Check(Where),
    /// Give space that is not needed any more back to the disk; the engine must not be running
    #[command(after_help = "\
Example:
  systemctl stop holdmusic && holdmusic store compact --data /var/lib/holdmusic; systemctl start holdmusic")]
    Compact(Where),
}

/// What came of a command: what to print, and whether all is well.
type Said = Result<(String, bool), String>;

/// Does what is asked, and says what came of it.
pub fn run(command: StoreCommand) -> ExitCode {
    let said = match command {
        StoreCommand::Dump(place) => place.directory().and_then(|data| dumped(&data)),
        StoreCommand::Check(place) => place.directory().and_then(|data| checked(&data)),
        StoreCommand::Compact(place) => place.directory().and_then(|data| compacted(&data)),
    };
    match said {
        Ok((text, is_well)) => {
            let mut stdout = io::stdout();
            let _ = stdout.write_all(text.as_bytes());
            let _ = stdout.flush();
            if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "holdmusic: {message}");
            ExitCode::from(2)
        }
    }
}

fn existing(data: &Path) -> Result<PathBuf, String> {
    let path = data.join(FILE);
    if !path.exists() {
        return Err(format!("{} is not there; an engine makes it at its first start", path.display()));
    }
    Ok(path)
}

fn dumped(data: &Path) -> Said {
    existing(data)?;
    let records = Store::open(data)?.records()?;
    let (mut text, mut is_well) = (String::new(), true);
    for record in dump(records.iter().map(|(key, value)| (&**key, &**value))) {
        let line = match record {
            Ok(record) => json!({ "record": record.key, "says": record.says }),
            Err(error) => {
                is_well = false;
                json!({ "record": error.key, "unreadable": error.expected })
            }
        };
        text.push_str(&line.to_string());
        text.push('\n');
    }
    Ok((text, is_well))
}

fn checked(data: &Path) -> Said {
    let path = existing(data)?;
    let store = Store::open(data)?;
    let whole = !store.repaired;
    let mut text = match whole {
        true => format!("{}: every page is as it was written\n", path.display()),
        false => format!("{}: pages did not fit and were repaired\n", path.display()),
    };
    let records = store.records()?;
    let pairs = || records.iter().map(|(key, value)| (&**key, &**value));
    let unreadable: Vec<_> = dump(pairs()).filter_map(Result::err).collect();
    for error in &unreadable {
        text.push_str(&format!("{error}\n"));
    }
    let locals = record::media_locals(pairs()).unwrap_or_default();
    let settings = Settings { media_locals: locals, ..Settings::default() };
    let restored = Control::restore(settings, [0; 32], clock::now(), pairs());
    match &restored {
        Ok(control) => {
            let counts = control.counts();
            text.push_str(&format!(
                "{} records: {} calls, {} participants, {} on hold, {} operations, {} notifications owed\n",
                records.len(),
                counts.calls,
                counts.participants,
                counts.held,
                counts.operations,
                counts.notifications_pending
            ));
        }
        Err(error) => text.push_str(&format!("an engine would not start with it: {error}\n")),
    }
    Ok((text, whole && unreadable.is_empty() && restored.is_ok()))
}

fn compacted(data: &Path) -> Said {
    let path = existing(data)?;
    let size =
        || path.metadata().map(|meta| meta.len()).map_err(|error| format!("{}: {error}", path.display()));
    let before = size()?;
    let mut store = Store::open(data)?;
    let database = store.database.as_mut().expect("it has just been opened");
    database.compact().map_err(|error| format!("{}: {error}", path.display()))?;
    drop(store);
    Ok((format!("{}: {before} bytes, now {}\n", path.display(), size()?), true))
}
