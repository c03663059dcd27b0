//! The data directory: its path goes in; it is there, and nobody else can have put keys, tokens or prompts into it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use rustix::process::geteuid;

/// That everybody may write there, among the permissions of a file.
const OTHERS_WRITE: u32 = 0o002;

/// The one user that everybody has to trust.
const ROOT: u32 = 0;

/// Makes the directory for its owner alone, with those above it that are missing, or finds it good.
///
/// # Errors
///
/// One line: it cannot be made, or somebody else could have put things into it.
pub fn open(path: &Path) -> Result<(), String> {
    let at = |error| format!("--data {}: {error}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (itself, above) = (fs::metadata(path).map_err(at)?, fs::metadata(above).map_err(at)?);
    judge((itself.uid(), itself.mode()), above.mode(), geteuid().as_raw())
        .map_err(|reason| format!("--data {}: {reason}", path.display()))
}

/// Whether a directory of this owner and mode, below one of that mode, may be believed by the user `us`. Somebody else's is
/// what it shall be where an operator has put it, and a trap where everybody could have (in `/tmp`). Its group is the
/// operator's choice.
fn judge((owner, mode): (u32, u32), above: u32, us: u32) -> Result<(), String> {
    if mode & OTHERS_WRITE != 0 {
        let mode = mode & 0o7777;
        return Err(format!(
            "everybody may write there (mode {mode:o}); expected it not to be so (chmod o-w)"
        ));
    }
    if owner != us && owner != ROOT && above & OTHERS_WRITE != 0 {
        return Err(format!(
            "it belongs to user {owner}, and anybody could have put it there; expected one of our own"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_made_is_for_its_owner_alone_and_found_good_again() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("a/b");
        for _ in 0..2 {
            open(&data).unwrap();
            assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_directory_that_somebody_else_could_fill_is_refused() {
        const US: u32 = 1000;
        const OTHER: u32 = 1001;
        for (owner, mode, above) in [
            (US, 0o700, 0o1777),
            (US, 0o755, 0o755),
            // A volume that a group shares, one that root has made, one that an operator has brought along.
            (ROOT, 0o2775, 0o755),
            (ROOT, 0o700, 0o1777),
            (OTHER, 0o755, 0o755),
        ] {
            assert_eq!(judge((owner, mode), above, US), Ok(()), "{owner} {mode:o} {above:o}");
        }
        for (owner, mode, above, us) in [
            (US, 0o777, 0o755, US),
            (ROOT, 0o1777, 0o755, US),
            (OTHER, 0o755, 0o1777, US),
            (OTHER, 0o700, 0o1777, ROOT),
        ] {
            assert!(judge((owner, mode), above, us).is_err(), "{owner} {mode:o} {above:o}");
        }
    }
}
