//! Records to the disk and back: control's changes come in, and "stored" goes out when the disk has them.
//!
//! One change of control is one transaction or part of one, never two: while a commit is under way, what control decides
//! is gathered ([`Outbox`]), and all of it is the next commit. So a commit is as large as the disk is slow, nobody waits
//! for a window to close, and what is gathered is never more than the state itself, since a later change of a record takes
//! the place of an earlier one.
//!
//! A disk that refuses is asked again each second; it is opened anew for that, since redb trusts no file after an error.

pub mod command;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io,
    mem::ManuallyDrop,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use holdmusic_control::{
    Control, Input, Output, RequestId,
    record::{Record, Write},
};
use holdmusic_media::MediaTime;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, backends::FileBackend};
use tracing::{error, info, warn};

use crate::{clock, mailbox::Tiding};

/// Where records are, in the data directory.
const FILE: &str = "records.redb";

/// All records: keys and values are bytes of `control/src/record.rs`.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// Memory for pages of the file. 4 MiB: what is written is read at start and when somebody asks for what is over, and the system
/// caches the file as well.
const CACHE_BYTES: usize = 4 << 20;

/// How long a disk that refuses is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// A commit that takes so long counts as refused until it is done. 1.5 s: a disk that is alive takes a hundredth of it, and
/// whoever has asked is answered before they give up.
const STALLED: Duration = Duration::from_millis(1_500);

/// All records of a store, by key.
pub type Records = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// A change of many records, for the disk.
#[derive(Debug)]
pub struct Batch {
    /// The last of control's tickets that is in it.
    ticket: u64,
    changes: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
}

/// A wish to know the records whose keys begin so.
#[derive(Debug)]
pub struct Read {
    /// For which request.
    pub request: RequestId,
    /// What keys begin with.
    pub prefix: Box<[u8]>,
}

/// The file of records, opened by this process alone.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` after an error, until it can be opened again.
    database: Option<Database>,
    /// The data directory, locked: the lock of the file is gone while it is not open.
    _directory: File,
    /// Whether it had to be repaired when it was opened.
    repaired: bool,
    /// Which file it is: no other one takes its place.
    identity: (u64, u64),
}

impl Store {
    /// Opens the store in the data directory, made at first start, for its owner's eyes only: keys of SRTP are in it. Every
    /// page of it is looked at.
    ///
    /// # Errors
    ///
    /// One line: another engine has it, it is damaged, or the disk refuses; and what to do about it.
    pub fn open(data: &Path) -> Result<Self, String> {
        let path = data.join(FILE);
        let directory = locked(data).map_err(|error| explain(&path, &error))?;
        // redb believes what a file says of itself: of a damaged one it can panic.
        let opened = catch_unwind(AssertUnwindSafe(|| whole(&path)));
        let opened =
            opened.unwrap_or_else(|_| Err(redb::Error::Corrupted("its pages make no sense".to_owned())));
        let (database, repaired) = opened.map_err(|error| explain(&path, &error))?;
        if repaired {
            warn!(path = %path.display(), "the store was damaged, and is as it was a moment before; what came last is lost");
        }
        let identity = identity(&path).map_err(|error| explain(&path, &error.into()))?;
        Ok(Self { path, database: Some(database), _directory: directory, repaired, identity })
    }

    /// All that is in it.
    ///
    /// # Errors
    ///
    /// One line: it cannot be read.
    pub fn records(&self) -> Result<Records, String> {
        let database = self.database.as_ref().expect("it has just been opened");
        read(database).map_err(|error| explain(&self.path, &error))
    }

    fn write(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        if self.database.is_none() {
            if identity(&self.path)? != self.identity {
                return Err(io::Error::other("its file is another one now").into());
            }
            self.database = Some(open(&self.path)?);
        }
        let Some(database) = &self.database else { return Ok(()) };
        // redb believes what a file says of itself: of one that was damaged meanwhile it can panic.
        match catch_unwind(AssertUnwindSafe(|| write(database, batch))) {
            Ok(written) => {
                if written.is_err() {
                    self.database = None;
                }
                written
            }
            Err(_) => {
                // To drop it could panic again.
                std::mem::forget(self.database.take());
                Err(redb::Error::Corrupted("its pages make no sense".to_owned()))
            }
        }
    }

    /// Keys and values of the records whose keys begin so.
    fn load(&self, prefix: &[u8]) -> Result<Vec<Record>, String> {
        let Some(database) = &self.database else { return Err("the disk refuses".to_owned()) };
        let read = move || -> Result<_, redb::Error> {
            let table = database.begin_read()?.open_table(RECORDS)?;
            let mut records = vec![];
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                records.push((Box::from(key.value()), Box::from(value.value())));
            }
            Ok(records)
        };
        let read = catch_unwind(AssertUnwindSafe(read));
        read.unwrap_or_else(|_| Err(redb::Error::Corrupted(String::new()))).map_err(|error| in_short(&error))
    }

    /// Has what a restored control wants persisted on the disk before anything else is done. What else it said.
    ///
    /// # Errors
    ///
    /// One line: it cannot be written.
    pub fn write_first(&mut self, control: &mut Control) -> Result<Vec<Output>, String> {
        let (mut others, mut batch) = (vec![], Batch { ticket: 0, changes: BTreeMap::new() });
        while let Some(output) = control.poll_output() {
            match output {
                Output::Persist { ticket, writes } => {
                    batch.ticket = ticket;
                    batch.changes.extend(writes.into_iter().map(|Write { key, value }| (key, value)));
                }
                other => others.push(other),
            }
        }
        if !batch.changes.is_empty() {
            self.write(&batch).map_err(|error| explain(&self.path, &error))?;
            control.handle_input(clock::now(), Input::Stored { ticket: batch.ticket });
        }
        Ok(others)
    }

    /// Writes what comes and reads what is asked for, until nobody sends any more.
    pub fn run(mut self, batches: &Receiver<Batch>, reads: &Receiver<Read>, tell: &Sender<Tiding>) {
        loop {
            let batch = select! {
                recv(batches) -> batch => batch,
                recv(reads) -> read => {
                    if let Ok(Read { request, prefix }) = read {
                        let _ = tell.send(Tiding::Loaded { request, records: self.load(&prefix) });
                    }
                    continue;
                }
            };
            let Ok(batch) = batch else { return };
            let mut failed = false;
            while let Err(error) = self.write(&batch) {
                if !failed {
                    error!(%error, "the store cannot be written; no new work is taken until it can");
                }
                failed = true;
                let _ = tell.send(Tiding::StoreFailed { reason: in_short(&error) });
                while let Ok(Read { request, .. }) = reads.try_recv() {
                    let _ = tell.send(Tiding::Loaded { request, records: Err(in_short(&error)) });
                }
                if batches.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
                    return error!("leaving although the store does not have everything");
                }
            }
            if failed {
                info!("the store can be written again");
            }
            let _ = tell.send(Tiding::Stored { ticket: batch.ticket });
        }
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.ticket == other.ticket
    }
}

/// What waits for the disk, on the side of control. It sends one batch at a time.
#[derive(Debug)]
pub struct Outbox {
    to: Sender<Batch>,
    gathered: BTreeMap<Box<[u8]>, Option<Box<[u8]>>>,
    ticket: u64,
    /// Since when a batch is under way.
    since: Option<MediaTime>,
    /// Whether it has been said that the disk does not answer, or refuses.
    said: bool,
    /// Whether the disk did not answer for too long.
    stalled: bool,
}

impl Outbox {
    /// For the store at the other end of `to`.
    pub fn new(to: Sender<Batch>) -> Self {
        Self { to, gathered: BTreeMap::new(), ticket: 0, since: None, said: false, stalled: false }
    }

    /// One more change.
    pub fn gather(&mut self, ticket: u64, writes: Vec<Write>) {
        self.ticket = ticket;
        self.gathered.extend(writes.into_iter().map(|Write { key, value }| (key, value)));
    }

    /// Sends what was gathered, if the store has nothing in hand.
    pub fn send(&mut self, now: MediaTime) {
        if self.since.is_none() && !self.gathered.is_empty() {
            let changes = std::mem::take(&mut self.gathered);
            // Without a store there is nobody to tell either: its thread has been told of.
            if self.to.try_send(Batch { ticket: self.ticket, changes }).is_ok() {
                self.since = Some(now);
            }
        }
    }

    /// The store has what was sent: how long it took.
    pub fn stored(&mut self, now: MediaTime) -> Duration {
        let took = self.since.take().map_or(Duration::ZERO, |since| now.since(since));
        self.said = false;
        if std::mem::take(&mut self.stalled) {
            info!("the disk answers again");
        }
        took
    }

    /// The disk refuses what was sent, and says why.
    pub fn refused(&mut self) {
        self.said = true;
    }

    /// When it is to be asked whether the disk still answers.
    pub fn deadline(&self) -> MediaTime {
        self.since.filter(|_| !self.said).map_or(MediaTime::NEVER, |since| since + STALLED)
    }

    /// Whether the disk has not answered for too long, said once.
    pub fn has_stalled(&mut self, now: MediaTime) -> Option<String> {
        if now < self.deadline() {
            return None;
        }
        (self.said, self.stalled) = (true, true);
        let reason = format!("the disk has not answered for {} ms", STALLED.as_millis());
        error!(%reason, "the store cannot be written; no new work is taken until it can");
        Some(reason)
    }
}

/// The data directory, for one process. Where directories cannot be locked (NFS) there is the file's own lock.
fn locked(data: &Path) -> Result<File, redb::Error> {
    let directory = File::open(data)?;
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => Err(redb::Error::DatabaseAlreadyOpen),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(directory),
    }
}

/// Opened and looked at: an engine that was killed left it to redb to do so, one that was told to stop did not. Whether it
/// had to be repaired.
fn whole(path: &Path) -> Result<(Database, bool), redb::Error> {
    // A damaged one that is dropped can panic as well, a second time.
    let mut database = ManuallyDrop::new(open(path)?);
    let repaired = !database.check_integrity()?;
    // So that a store that was never written can be read.
    let transaction = database.begin_write()?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok((ManuallyDrop::into_inner(database), repaired))
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    let backend = FileBackend::new(file(path)?)?;
    Ok(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

/// Device and number of a file that is there.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = path.metadata()?;
    Ok((file.dev(), file.ino()))
}

fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read(database: &impl ReadableDatabase) -> Result<Records, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let mut records = Records::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        records.insert(key.value().into(), value.value().into());
    }
    Ok(records)
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (key, value) in &batch.changes {
            match value {
                Some(value) => drop(table.insert(&**key, &**value)?),
                None => drop(table.remove(&**key)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// For whoever starts an engine: what is wrong, and what can be done.
fn explain(path: &Path, error: &redb::Error) -> String {
    let path = path.display();
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            format!("{path} is open in another engine; each needs a data directory of its own (--data)")
        }
        redb::Error::Corrupted(what) => format!(
            "{path} is damaged ({what}). Put a copy of it back, or move it away to begin without calls"
        ),
        redb::Error::UpgradeRequired(version) => {
            format!("{path} has format {version}, which this version of holdmusic does not read")
        }
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            format!(
                "{path} is no store of holdmusic, or is damaged ({error}); move it away to begin without calls"
            )
        }
        error => format!("{path}: {error}"),
    }
}

/// For a customer: without paths.
fn in_short(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        redb::Error::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only".to_owned()
        }
        redb::Error::Io(error) => format!("the disk says: {error}"),
        redb::Error::Corrupted(_) => "the store is damaged".to_owned(),
        redb::Error::PreviousIo => "the disk has refused before".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ticket: u64, changes: &[(&str, Option<&str>)]) -> Batch {
        let bytes = |text: &str| Box::<[u8]>::from(text.as_bytes());
        Batch { ticket, changes: changes.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect() }
    }

    #[test]
    fn what_was_written_is_there_when_the_store_is_opened_again() {
        let data = tempfile::tempdir().unwrap();
        let mut store = Store::open(data.path()).unwrap();
        store.write(&batch(1, &[("a", Some("1")), ("b", Some("2"))])).unwrap();
        store.write(&batch(2, &[("a", None), ("c", Some("3"))])).unwrap();
        drop(store);
        let store = Store::open(data.path()).unwrap();
        let records = store.records().unwrap();
        let read: Vec<_> = records.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(read, [(&b"b"[..], &b"2"[..]), (b"c", b"3")]);
        let some = store.load(b"c").unwrap();
        assert_eq!(some, [(Box::from(&b"c"[..]), Box::from(&b"3"[..]))]);
        assert_eq!(store.load(b"a"), Ok(vec![]));
    }

    #[test]
    fn a_store_is_for_its_owner_and_for_one_engine_at_a_time() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let mode = std::fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Store::open(data.path()).unwrap_err();
        assert!(second.contains("open in another engine") && second.contains("--data"), "{second}");
        drop(store);
        assert!(Store::open(data.path()).is_ok());
    }

    #[test]
    fn a_store_that_cannot_be_written_is_still_nobody_elses() {
        let data = tempfile::tempdir().unwrap();
        let mut store = Store::open(data.path()).unwrap();
        // As after an error: the file is closed until it is tried again.
        store.database = None;
        let second = Store::open(data.path()).unwrap_err();
        assert!(second.contains("open in another engine"), "{second}");
        store.write(&batch(1, &[("a", Some("1"))])).unwrap();
    }

    #[test]
    fn what_is_no_store_is_said_to_be_none_and_left_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        for bytes in [b"not a store at all".repeat(400), b"x".to_vec()] {
            std::fs::write(&path, &bytes).unwrap();
            let error = Store::open(data.path()).unwrap_err();
            assert!(error.contains("records.redb"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    /// Shown by damaging each page in turn of a file that was closed in order, in three ways.
    #[test]
    fn a_damaged_store_is_refused_or_is_as_it_was() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        let mut store = Store::open(data.path()).unwrap();
        let keys: Vec<String> = (0..400).map(|number| format!("key {number}")).collect();
        let filler = "v".repeat(50);
        let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(filler.as_str()))).collect();
        store.write(&batch(1, &changes)).unwrap();
        let records = store.records().unwrap();
        drop(store);
        let good = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for page in (0..good.len()).step_by(4096) {
            for (offset, length) in [(5, 1), (300, 40), (0, 4096)] {
                let mut bytes = good.clone();
                bytes[page + offset..][..length].iter_mut().for_each(|byte| *byte ^= 0x41);
                let data = tempfile::tempdir().unwrap();
                std::fs::write(data.path().join(FILE), bytes).unwrap();
                match Store::open(data.path()) {
                    Ok(store) => assert_eq!(store.records().unwrap(), records, "page {page}, {offset}"),
                    Err(error) => {
                        assert!(error.contains("records.redb"), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 20, "{refused}");
    }

    #[test]
    fn changes_are_gathered_while_the_disk_works_and_a_stalled_one_is_told_once() {
        let (to, batches) = crossbeam_channel::bounded(1);
        let mut outbox = Outbox::new(to);
        let write = |key: &str| vec![Write { key: key.as_bytes().into(), value: None }];
        let at = MediaTime::from_millis;
        outbox.gather(1, write("a"));
        outbox.send(at(0));
        assert_eq!(batches.recv().unwrap().ticket, 1);
        outbox.gather(2, write("b"));
        outbox.gather(3, write("b"));
        outbox.send(at(1));
        assert!(batches.try_recv().is_err(), "one at a time");
        assert_eq!(outbox.has_stalled(at(1_499)), None);
        assert!(outbox.has_stalled(at(1_500)).is_some());
        assert_eq!(outbox.has_stalled(at(9_000)), None, "once");
        assert_eq!(outbox.stored(at(9_000)), Duration::from_secs(9));
        outbox.send(at(9_001));
        let batch = batches.recv().unwrap();
        assert_eq!((batch.ticket, batch.changes.len()), (3, 1));
        outbox.refused();
        assert_eq!(outbox.has_stalled(at(99_000)), None, "why it is refused is known");
    }
}
