//! `holdmusic demo`: the story that the product tells about itself.

use std::{fs, time::Duration};

use crate::engine::{command, said};

#[test]
fn the_demo_hears_its_own_prompt_and_draws_it() {
    let out = tempfile::tempdir().unwrap();
    let mut command = command(["demo", "--seconds", "2", "--out"]);
    command.arg(out.path());
    let (code, stdout, stderr) = said(command, Duration::from_secs(60));
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(fs::read(out.path().join("held.wav")).unwrap().starts_with(b"RIFF"));
    assert!(fs::read_to_string(out.path().join("held.svg")).unwrap().contains("<svg"));
}
