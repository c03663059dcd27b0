//! Prompts that were prepared before, on disk: finished renditions by the content they were made of, and by prompt what
//! its origin said about how long it is good. A restart finds them again.
//!
//! The files themselves are the index: each is written under another name and then renamed, carries its own check sum,
//! and is thrown away if that does not fit. What was used longest ago leaves first.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use aws_lc_rs::digest::{self, SHA256, digest};
use holdmusic_codecs::Codec;
use holdmusic_control::{
    Freshness,
    prompt::{Origin, Prompt},
};
use holdmusic_media::{Now, prepare::PrepareSettings, preserve::Preserved};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tracing::{debug, warn};

use crate::freshness::Validity;

/// Prompts whose origin is remembered; a file of some hundred bytes each.
const MAX_ORIGINS: usize = 10_000;

/// To be raised when the same settings no longer give the same sound.
const SOUND_VERSION: u32 = 1;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(digest(&SHA256, bytes))
    }
}

impl From<digest::Digest> for Hash {
    fn from(digest: digest::Digest) -> Self {
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err("expected 64 hexadecimal digits");
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("ASCII");
            *byte = u8::from_str_radix(digits, 16).map_err(|_| "expected hexadecimal digits")?;
        }
        Ok(Self(hash))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self)[..16])
    }
}

/// What was fetched for a prompt, and how long its origin allows it to be played.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// What it was.
    pub content: Hash,
    /// Where it came from at last, redirects followed: its validators are those of this address.
    pub address: Hash,
    /// What the origin said.
    pub validity: Validity,
    /// Whether a redirect led there. It may lead elsewhere the next time, whatever its target says.
    pub redirected: bool,
}

impl Fetched {
    /// How long it is good, on the clock of `now`. Redirects are followed again each time (RFC 9111 section 4.2.2 allows
    /// no guess for those that say nothing, and what others say is not worth a round trip).
    pub fn freshness(&self, now: Now) -> Freshness {
        let freshness = self.validity.freshness(now);
        match self.redirected {
            true => Freshness { until: now.mono, while_asked_until: now.mono, ..freshness },
            false => freshness,
        }
    }
}

/// The cache of one engine.
#[derive(Debug)]
pub struct Cache {
    origins: PathBuf,
    renditions: PathBuf,
    /// Most bytes of finished renditions.
    max_bytes: u64,
    /// How prompts are prepared: renditions of other settings are not ours.
    settings: PrepareSettings,
    purges: AtomicU64,
    /// Purges that have been asked for and not been done: until then nothing is known.
    purging: AtomicU64,
}

impl Cache {
    /// The cache in the data directory, for prompts that are prepared with `settings`.
    ///
    /// # Errors
    ///
    /// If its directories cannot be made.
    pub fn open(data: &Path, max_bytes: u64, settings: &PrepareSettings) -> io::Result<Self> {
        let directory = data.join("cache");
        let (origins, renditions) = (directory.join("origins"), directory.join("renditions"));
        for directory in [&origins, &renditions] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let (purges, purging) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { origins, renditions, max_bytes, settings: settings.clone(), purges, purging })
    }

    /// What was fetched for `prompt` when it was last fetched.
    pub fn fetched(&self, prompt: &Prompt) -> Option<Fetched> {
        (self.purging.load(Relaxed) == 0).then(|| self.read(prompt))?
    }

    fn read(&self, prompt: &Prompt) -> Option<Fetched> {
        let path = self.origins.join(name_of(prompt));
        let text = read_at_most(&path, 64 << 10)?;
        let fetched = serde_json::from_slice(&text).ok();
        if fetched.is_none() {
            discard(&path, "it cannot be read");
        }
        fetched
    }

    /// Remembers what was fetched for `prompt`.
    pub fn remember(&self, prompt: &Prompt, fetched: &Fetched) {
        let text = serde_json::to_vec(fetched).expect("texts and numbers can be written as JSON");
        if let Err(error) = write(&self.origins, &name_of(prompt), &[&text]) {
            return warn!(%error, "what an origin said cannot be kept");
        }
        evict(&self.origins, u64::MAX, MAX_ORIGINS);
    }

    /// The finished rendition of this content in a codec.
    pub fn rendition(&self, content: Hash, codec: Codec) -> Option<Preserved> {
        let path = self.renditions.join(self.name_of_rendition(content, codec));
        let bytes = read_at_most(&path, self.max_bytes)?;
        let whole = bytes.split_at_checked(32).filter(|(sum, bytes)| Hash::of(bytes).0 == *sum);
        match whole.map(|(_, bytes)| Preserved::from_bytes(bytes)) {
            Some(Ok(preserved)) => {
                // Used now: it leaves last.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now_here()));
                Some(preserved)
            }
            Some(Err(error)) => {
                discard(&path, &error.to_string());
                None
            }
            None => {
                discard(&path, "its check sum does not fit");
                None
            }
        }
    }

    /// Whether there is a finished rendition of this content, as far as names tell.
    pub fn has_rendition(&self, content: Hash, codec: Codec) -> bool {
        self.renditions.join(self.name_of_rendition(content, codec)).exists()
    }

    /// Keeps a finished rendition of this content, unless it alone is larger than all may be.
    pub fn keep(&self, content: Hash, codec: Codec, preserved: &Preserved) {
        let Some(bytes) = preserved.to_bytes().filter(|bytes| bytes.len() as u64 + 32 <= self.max_bytes)
        else {
            return;
        };
        let name = self.name_of_rendition(content, codec);
        if let Err(error) = write(&self.renditions, &name, &[&Hash::of(&bytes).0, &bytes]) {
            return warn!(%error, "a prepared prompt cannot be kept");
        }
        debug!(?content, bytes = bytes.len(), "a prepared prompt is kept");
        evict(&self.renditions, self.max_bytes, usize::MAX);
    }

    /// How many purges have been asked for.
    pub fn purges(&self) -> u64 {
        self.purges.load(Relaxed)
    }

    /// A purge is about to be done ([`Cache::purge`]): from now on nothing older counts.
    pub fn announce_purge(&self) {
        self.purges.fetch_add(1, Relaxed);
        self.purging.fetch_add(1, Relaxed);
    }

    /// Forgets what was fetched for `prompt`, or everything. It has been announced.
    pub fn purge(&self, prompt: Option<&Prompt>) {
        match prompt {
            Some(prompt) => {
                if let Some(fetched) = self.read(prompt) {
                    for &codec in Codec::ALL {
                        let name = self.name_of_rendition(fetched.content, codec);
                        let _ = fs::remove_file(self.renditions.join(name));
                    }
                }
                self.forget(prompt);
            }
            None => {
                evict(&self.origins, 0, 0);
                evict(&self.renditions, 0, 0);
            }
        }
        self.purging.fetch_sub(1, Relaxed);
    }

    /// Forgets what the origin of `prompt` said.
    pub fn forget(&self, prompt: &Prompt) {
        let _ = fs::remove_file(self.origins.join(name_of(prompt)));
    }

    fn name_of_rendition(&self, content: Hash, codec: Codec) -> String {
        let plan = Hash::of(plan(&self.settings, codec).as_bytes());
        Hash::of(&[content.0, plan.0].concat()).into()
    }
}

/// What the sound of a rendition depends on. For Opus the words are those of files that were written before there was more
/// than one codec.
fn plan(settings: &PrepareSettings, codec: Codec) -> String {
    let PrepareSettings { limits, trim_silence_dbfs, level, encoder } = settings;
    let opus_complexity = encoder.opus_complexity;
    let encoder = match codec {
        Codec::Opus => {
            let opus_bitrate = encoder.opus_bitrate;
            format!("EncoderSettings {{ opus_bitrate: {opus_bitrate}, opus_complexity: {opus_complexity} }}")
        }
        Codec::OpusFullband | Codec::OpusLow | Codec::OpusShort => {
            format!("{codec:?} of {} bytes, complexity {opus_complexity}", codec.payload_len(encoder))
        }
        _ => format!("{codec:?}"),
    };
    format!(
        "{SOUND_VERSION} PrepareSettings {{ limits: {limits:?}, trim_silence_dbfs: {trim_silence_dbfs:?}, \
         level: {level:?}, encoder: {encoder} }}"
    )
}

/// A name for the file of a prompt that tells nothing about its address, which may carry a secret.
fn name_of(prompt: &Prompt) -> String {
    let (kind, place) = match &prompt.origin {
        Origin::Web(url) => ("web", url.as_str().as_bytes()),
        Origin::Directory(url) => ("directory", url.as_str().as_bytes()),
        Origin::Data(data) => ("data", data.bytes()),
    };
    // Without a resource id is not the same as with an empty one.
    let resource = prompt.resource_id.as_ref().map_or(String::new(), |id| format!("+{id}"));
    Hash::of(&[kind.as_bytes(), b"\n", &Hash::of(place).0, resource.as_bytes()].concat()).into()
}

trait NowHere: Sized {
    fn now_here() -> Self;
}

impl NowHere for SystemTime {
    #[expect(clippy::disallowed_methods, reason = "a door: the time of the file system's own clock")]
    fn now_here() -> Self {
        Self::now()
    }
}

fn read_at_most(path: &Path, most: u64) -> Option<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(%error, path = %path.display(), "a kept prompt cannot be read");
            return None;
        }
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

fn write(directory: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    // Readable by its owner alone.
    let mut file = NamedTempFile::new_in(directory)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.persist(directory.join(name)).map_err(|error| error.error)?;
    Ok(())
}

fn discard(path: &Path, reason: &str) {
    warn!(path = %path.display(), reason, "a kept prompt is thrown away");
    let _ = fs::remove_file(path);
}

/// Removes what was used longest ago, until no more than `max_bytes` in `max_files` are left.
fn evict(directory: &Path, max_bytes: u64, max_files: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let facts = entry.metadata().ok().filter(|facts| facts.is_file())?;
            Some((facts.modified().ok()?, facts.len(), entry.path()))
        })
        .collect();
    let (mut bytes, mut count) = (files.iter().map(|(_, len, _)| len).sum::<u64>(), files.len());
    if bytes <= max_bytes && count <= max_files {
        return;
    }
    files.sort();
    for (_, len, path) in files {
        if bytes <= max_bytes && count <= max_files {
            break;
        }
        if fs::remove_file(path).is_ok() {
            bytes -= len;
            count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdmusic_codecs::Codec;
    use holdmusic_control::graph::read_prompt;
    use holdmusic_media::{
        WallTime,
        prepare::{Prepared, prepare},
        source::Progress,
    };

    use super::*;

    const MUSIC: &[u8] = include_bytes!("../../../assets/fixtures/kinds/pcm-16.wav");

    fn finished(bytes: &[u8]) -> Preserved {
        let settings = PrepareSettings::default();
        let Prepared { reader, mut job, seconds, format, gain_db, .. } =
            prepare(bytes, Codec::Opus, &settings, &|| true).unwrap();
        while job.step(1000).unwrap() != Progress::Closed {}
        Preserved { reader, seconds, format, gain_db }
    }

    fn prompt(uri: &str, resource_id: Option<&str>) -> Prompt {
        Prompt { resource_id: resource_id.map(str::to_owned), ..read_prompt(uri).unwrap() }
    }

    fn fetched(content: &[u8]) -> Fetched {
        let validity = Validity::of(&Default::default(), WallTime(1_700_000_000_000_000));
        Fetched { content: Hash::of(content), address: Hash::of(b"address"), validity, redirected: false }
    }

    #[test]
    fn what_was_kept_is_found_again_by_the_next_process() {
        let data = tempfile::tempdir().unwrap();
        let settings = PrepareSettings::default();
        let (one, kept) = (prompt("https://host/a.wav?sig=s3cret", None), fetched(MUSIC));
        let cache = Cache::open(data.path(), 1 << 20, &settings).unwrap();
        assert_eq!(cache.fetched(&one), None);
        assert!(cache.rendition(kept.content, Codec::Opus).is_none());
        cache.remember(&one, &kept);
        cache.keep(kept.content, Codec::Opus, &finished(MUSIC));

        let cache = Cache::open(data.path(), 1 << 20, &settings).unwrap();
        assert_eq!(cache.fetched(&one), Some(kept.clone()));
        let found = cache.rendition(kept.content, Codec::Opus).unwrap();
        assert_eq!(found.to_bytes(), finished(MUSIC).to_bytes());
        assert!(cache.fetched(&prompt("https://host/a.wav?sig=s3cret", Some(""))).is_none());
        // Prepared otherwise it is another rendition.
        let mut louder = settings;
        louder.level.target_lufs = Some(-16.0);
        assert!(
            Cache::open(data.path(), 1 << 20, &louder)
                .unwrap()
                .rendition(kept.content, Codec::Opus)
                .is_none()
        );
    }

    #[test]
    fn nothing_on_disk_tells_a_secret_or_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let cache = Cache::open(data.path(), 1 << 20, &PrepareSettings::default()).unwrap();
        cache.remember(&prompt("https://user:s3cret@host/a.wav?sig=s3cret", None), &fetched(MUSIC));
        cache.keep(Hash::of(MUSIC), Codec::Opus, &finished(MUSIC));
        for directory in [&cache.origins, &cache.renditions] {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
                let bytes = fs::read(&path).unwrap();
                assert!(!bytes.windows(6).any(|window| window == b"s3cret"));
                assert!(!path.to_string_lossy().contains("s3cret"));
            }
        }
    }

    #[test]
    fn what_is_damaged_is_thrown_away() {
        let data = tempfile::tempdir().unwrap();
        let cache = Cache::open(data.path(), 1 << 20, &PrepareSettings::default()).unwrap();
        let (one, kept) = (prompt("https://host/a.wav", None), fetched(MUSIC));
        cache.keep(kept.content, Codec::Opus, &finished(MUSIC));
        let path = cache.renditions.join(cache.name_of_rendition(kept.content, Codec::Opus));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(cache.rendition(kept.content, Codec::Opus).is_none());
        assert!(!path.exists());

        fs::write(cache.origins.join(name_of(&one)), "{\"content\":\"zz\"}").unwrap();
        assert!(cache.fetched(&one).is_none());
        assert!(cache.fetched(&one).is_none());
    }

    #[test]
    fn what_was_used_longest_ago_leaves_first() {
        let data = tempfile::tempdir().unwrap();
        let rendition = finished(MUSIC);
        let room = 32 + rendition.to_bytes().unwrap().len() as u64;
        let cache = Cache::open(data.path(), 2 * room, &PrepareSettings::default()).unwrap();
        let age = |content: Hash, seconds| {
            let file =
                File::open(cache.renditions.join(cache.name_of_rendition(content, Codec::Opus))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| Hash::of(content));
        cache.keep(a, Codec::Opus, &rendition);
        cache.keep(b, Codec::Opus, &rendition);
        age(a, 1_000);
        age(b, 2_000);
        assert!(cache.rendition(a, Codec::Opus).is_some(), "used again");
        cache.keep(c, Codec::Opus, &rendition);
        assert!(cache.rendition(b, Codec::Opus).is_none());
        assert!(cache.rendition(a, Codec::Opus).is_some() && cache.rendition(c, Codec::Opus).is_some());
        // One that is larger than all may be does not push out the rest.
        let small =
            Cache { max_bytes: room - 1, ..Cache::open(data.path(), 0, &Default::default()).unwrap() };
        small.keep(b, Codec::Opus, &rendition);
        assert!(cache.rendition(a, Codec::Opus).is_some() && cache.rendition(c, Codec::Opus).is_some());
    }

    #[test]
    fn a_purge_forgets_one_or_all() {
        let data = tempfile::tempdir().unwrap();
        let cache = Cache::open(data.path(), 1 << 20, &PrepareSettings::default()).unwrap();
        let [one, other] = ["https://host/a.wav", "https://host/b.wav"].map(|uri| prompt(uri, None));
        cache.remember(&one, &fetched(b"a"));
        cache.remember(&other, &fetched(b"b"));
        cache.keep(Hash::of(b"a"), Codec::Opus, &finished(MUSIC));
        cache.announce_purge();
        assert!(cache.fetched(&other).is_none(), "not before it is done");
        cache.purge(Some(&one));
        assert!(cache.fetched(&one).is_none() && cache.rendition(Hash::of(b"a"), Codec::Opus).is_none());
        assert!(cache.fetched(&other).is_some());
        cache.announce_purge();
        cache.purge(None);
        assert_eq!(cache.purges(), 2);
        assert!(cache.fetched(&other).is_none());
    }

    /// What was kept before there were other codecs is found: its name was made of all settings in words.
    #[test]
    fn renditions_in_other_codecs_are_kept_beside_those_that_were_there_before() {
        let data = tempfile::tempdir().unwrap();
        let settings = PrepareSettings::default();
        let cache = Cache::open(data.path(), 1 << 20, &settings).unwrap();
        let PrepareSettings { limits, level, .. } = &settings;
        let words = format!(
            "1 PrepareSettings {{ limits: {limits:?}, trim_silence_dbfs: None, level: {level:?}, encoder: \
             EncoderSettings {{ opus_bitrate: 32000, opus_complexity: 9 }} }}"
        );
        assert_eq!(plan(&settings, Codec::Opus), words);
        let content = Hash::of(MUSIC);
        cache.keep(content, Codec::Pcma, &finished(MUSIC));
        for &codec in Codec::ALL {
            assert_eq!(cache.has_rendition(content, codec), codec == Codec::Pcma, "{codec:?}");
        }
    }
}
