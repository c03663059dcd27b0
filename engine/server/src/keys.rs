//! The keys that sign our notifications: one that signs, and the public halves of those that did; kept in the data
//! directory, published as JWKS.

mod command;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use aws_lc_rs::{
    digest,
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use holdmusic_control::graph::{read_wall, wall_text};
use holdmusic_media::WallTime;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use command::{KeysCommand, Where, run};

/// The private key, in the data directory.
const FILE: &str = "notification-key.pem";

/// The public halves of those that signed before.
const RETIRED: &str = "notification-keys-retired.json";

/// Held while any of them is read or written.
const LOCK: &str = "notification-key.lock";

/// A key that signed stays published for so long at least, however often the keys are rotated meanwhile, in
/// microseconds. A day: a token lives for 65 minutes, and clients keep a copy of the published keys for up to a day.
const PUBLISHED_US: i64 = 24 * 3600 * 1_000_000;

/// Retired keys that are published; whoever rotates more often within a day wants the old ones gone.
const MOST_RETIRED: usize = 8;

/// The public half of a key, as JWKS shows it (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    kid: String,
    n: String,
    e: String,
}

impl PublicKey {
    fn jwk(&self) -> serde_json::Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "x5t": self.kid, "n": self.n, "e": self.e,
        })
    }
}

/// A public key whose private half is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RetiredKey {
    #[serde(flatten)]
    key: PublicKey,
    /// When another began to sign, RFC 3339.
    retired: String,
}

/// RS256 by one RSA key of 2048 bits, beside what is published with it.
pub struct Keys {
    signing: EncodingKey,
    public: PublicKey,
    /// Newest first.
    retired: Vec<RetiredKey>,
}

impl Keys {
    /// Reads the keys in `data`; `None` if none was ever made there.
    fn read(data: &Path) -> io::Result<Option<Self>> {
        let path = data.join(FILE);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, &error)),
        };
        let refused = || {
            let message =
                format!("{} holds no RSA key in PKCS #8; remove it to have a new one made", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(base64).map_err(|_| refused())?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|_| refused())?;
        let signing = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| refused())?;
        let public = public(&pair);
        let mut retired = read_retired(&data.join(RETIRED))?;
        retired.retain(|old| old.key.kid != public.kid);
        Ok(Some(Self { signing, public, retired }))
    }

    /// `kid` of the key that signs.
    pub fn id(&self) -> &str {
        &self.public.kid
    }

    /// A token with these claims.
    ///
    /// # Errors
    ///
    /// If the library cannot sign.
    pub fn sign(&self, claims: &serde_json::Value) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header {
            kid: Some(self.public.kid.clone()),
            x5t: Some(self.public.kid.clone()),
            ..Header::new(Algorithm::RS256)
        };
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The public halves, as `jwks_uri` shows them (RFC 7517): the one that signs, then those that did.
    pub fn jwks(&self) -> serde_json::Value {
        let retired = self.retired.iter().map(|old| &old.key);
        let keys: Vec<_> = std::iter::once(&self.public).chain(retired).map(PublicKey::jwk).collect();
        json!({ "keys": keys })
    }
}

/// The keys of a running engine: read again when it is told to.
pub struct Keyring {
    data: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

impl Keyring {
    /// Reads the keys in `data`, or makes one and writes it there for the owner's eyes only.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written, or holds no key.
    pub fn open(data: &Path) -> io::Result<Self> {
        let _lock = lock(data)?;
        if !data.join(FILE).exists() {
            write_secret(&data.join(FILE), make()?.as_bytes())?;
        }
        let keys = Keys::read(data)?.ok_or_else(|| io::Error::other("the key that was made is not there"))?;
        Ok(Self { data: data.to_owned(), keys: RwLock::new(Arc::new(keys)) })
    }

    /// Reads them again. Says whether another one signs from now on.
    ///
    /// # Errors
    ///
    /// As [`Keyring::open`]; then those that were there stay.
    pub fn reload(&self) -> io::Result<bool> {
        let _lock = lock(&self.data)?;
        let Some(keys) = Keys::read(&self.data)? else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is gone", self.data.join(FILE).display()),
            ));
        };
        let before = std::mem::replace(
            &mut *self.keys.write().expect("nobody panics while holding it"),
            Arc::new(keys),
        );
        Ok(before.id() != self.current().id())
    }

    /// As they are now.
    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().expect("nobody panics while holding it"))
    }
}

/// A new key signs from now on. The one before stays published until the next rotation, and for a day in any case; with
/// `withdraw` no key stays published that does not sign. Gives back the names of the new key and of the one before.
fn rotate(data: &Path, now: WallTime, withdraw: bool) -> io::Result<(String, Option<String>)> {
    // Before the lock: it takes a second on a busy machine.
    let pem = make()?;
    let _lock = lock(data)?;
    let before = Keys::read(data)?;
    let before_id = before.as_ref().map(|keys| keys.id().to_owned());
    let mut retired = Vec::new();
    if let Some(keys) = before.filter(|_| !withdraw) {
        retired.push(RetiredKey { key: keys.public, retired: wall_text(now, 0) });
        let recent =
            |old: &RetiredKey| read_wall(&old.retired).is_some_and(|wall| now.0 - wall.0 < PUBLISHED_US);
        retired.extend(keys.retired.into_iter().filter(recent));
        retired.truncate(MOST_RETIRED);
    }
    // First what stays published, then what signs: whoever comes between finds the old key, once.
    let json = serde_json::to_vec(&json!({ "keys": retired })).map_err(io::Error::other)?;
    write_secret(&data.join(RETIRED), &json)?;
    write_secret(&data.join(FILE), pem.as_bytes())?;
    let keys = Keys::read(data)?.ok_or_else(|| io::Error::other("the key that was made is not there"))?;
    Ok((keys.id().to_owned(), before_id))
}

#[derive(Deserialize)]
struct RetiredKeys {
    keys: Vec<RetiredKey>,
}

fn read_retired(path: &Path) -> io::Result<Vec<RetiredKey>> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(path, &error)),
    };
    let keys: RetiredKeys = serde_json::from_slice(&json).map_err(|error| {
        let message = format!(
            "{} is not what was written there ({error}); remove it, and tokens that older keys signed verify no more",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(keys.keys)
}

/// Waits until no other process reads or writes the keys in `data`. Dropping it lets the next one in.
fn lock(data: &Path) -> io::Result<File> {
    let path = data.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| at(&path, &error))?;
    file.lock().map_err(|error| at(&path, &error))?;
    Ok(file)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn public(pair: &KeyPair) -> PublicKey {
    let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let exponent = pair.public_key().exponent().big_endian_without_leading_zero().to_vec();
    PublicKey {
        kid: URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, &modulus).as_ref()[..20]),
        n: URL_SAFE_NO_PAD.encode(modulus),
        e: URL_SAFE_NO_PAD.encode(exponent),
    }
}

fn make() -> io::Result<String> {
    let pair =
        KeyPair::generate(KeySize::Rsa2048).map_err(|_| io::Error::other("no RSA key could be made"))?;
    let der = pair.as_der().map_err(|_| io::Error::other("the RSA key could not be written"))?;
    let base64 = STANDARD.encode(der.as_ref());
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
///
/// As the file system says.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a crash has left there, or anybody else, may be open to others, or a link to elsewhere.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, thread};

    use super::*;

    const DAY_US: i64 = PUBLISHED_US;

    fn ids(data: &Path) -> Vec<String> {
        let jwks = Keys::read(data).unwrap().unwrap().jwks();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_old_key_stays_published_until_the_next_rotation_and_for_a_day() {
        let data = tempfile::tempdir().unwrap();
        let ring = Keyring::open(data.path()).unwrap();
        let first = ring.current().id().to_owned();
        let (second, before) = rotate(data.path(), WallTime(0), false).unwrap();
        assert_eq!(
            (before.as_deref(), ids(data.path())),
            (Some(&*first), vec![second.clone(), first.clone()])
        );
        assert_eq!(ring.current().id(), first, "until it is told");
        assert!(ring.reload().unwrap() && !ring.reload().unwrap());
        assert_eq!(ring.current().id(), second);

        let (third, _) = rotate(data.path(), WallTime(DAY_US - 1), false).unwrap();
        assert_eq!(ids(data.path()), [third.clone(), second.clone(), first]);
        let (fourth, _) = rotate(data.path(), WallTime(2 * DAY_US - 1), false).unwrap();
        assert_eq!(ids(data.path()), [fourth.clone(), third]);
        let (fifth, _) = rotate(data.path(), WallTime(2 * DAY_US), true).unwrap();
        assert_eq!(ids(data.path()), [fifth], "withdrawn");
    }

    #[test]
    fn who_rotates_at_the_same_time_loses_no_key() {
        let data = tempfile::tempdir().unwrap();
        let first = Keyring::open(data.path()).unwrap().current().id().to_owned();
        let path = data.path();
        let made: BTreeSet<String> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| rotate(path, WallTime(0), false).unwrap().0)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).chain([first]).collect()
        });
        assert_eq!(made.len(), 5);
        assert_eq!(ids(path).into_iter().collect::<BTreeSet<_>>(), made);
    }

    #[test]
    fn only_the_owner_reads_the_keys_and_what_is_no_key_is_refused() {
        let data = tempfile::tempdir().unwrap();
        rotate(data.path(), WallTime(0), false).unwrap();
        rotate(data.path(), WallTime(0), false).unwrap();
        for file in [FILE, RETIRED] {
            assert_eq!(fs::metadata(data.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let ring = Keyring::open(data.path()).unwrap();
        fs::write(data.path().join(FILE), "no key").unwrap();
        assert!(ring.reload().unwrap_err().to_string().contains("holds no RSA key"));
        assert!(!ring.current().id().is_empty(), "the old one stays");
        assert!(rotate(data.path(), WallTime(0), false).is_err());
    }

    /// What a crash left behind, or somebody else put there.
    #[test]
    fn a_secret_is_not_written_into_a_file_that_was_there() {
        let data = tempfile::tempdir().unwrap();
        let (secret, waiting) = (data.path().join("token"), data.path().join("token.new"));
        fs::write(&waiting, "old").unwrap();
        fs::set_permissions(&waiting, fs::Permissions::from_mode(0o666)).unwrap();
        write_secret(&secret, b"s3cret").unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);

        let elsewhere = data.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &waiting).unwrap();
        write_secret(&secret, b"s3cret").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "s3cret");
    }
}
