//! What a process promises whoever starts and ends it.

use std::{net::TcpListener, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    engine::{Engine, PATIENCE, TOKEN, command, said},
    http,
};

#[test]
fn it_says_one_line_when_it_is_ready_and_leaves_in_peace_when_told() {
    let engine = Engine::start();
    let address = engine.address;
    assert_ne!(address.port(), 0);
    engine.http("GET", "/readyz", &Value::Null).expect(200);
    engine.signal(Signal::TERM);
    let (code, stdout, stderr) = engine.end(Duration::from_secs(5));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("holdmusic ready http://{address}\n"));
    assert!(!stderr.contains(TOKEN), "tokens stay out of the log: {stderr}");
}

#[test]
fn an_interrupt_is_as_good_as_a_termination() {
    let engine = Engine::start();
    engine.signal(Signal::INT);
    assert_eq!(engine.end(Duration::from_secs(5)).0, Some(0));
}

#[test]
fn without_the_token_nothing_is_told() {
    let engine = Engine::start();
    let calls = "/v1.0/communications/calls";
    for headers in [&[][..], &[("Authorization", "Bearer wrong")], &[("Authorization", "Basic eDp5")]] {
        let refused = http::request(engine.address, "GET", calls, headers, b"").expect(401);
        assert_eq!(refused.json()["error"]["code"], "InvalidAuthenticationToken");
        assert_eq!(refused.header("Content-Type").unwrap().split(';').next(), Some("application/json"));
        assert!(refused.header("WWW-Authenticate").unwrap().starts_with("Bearer"));
        assert!(refused.header("request-id").is_some());
    }
    for open in ["/healthz", "/readyz", "/v1/keys", "/v1/.well-known/OpenIdConfiguration", "/metrics"] {
        http::request(engine.address, "GET", open, &[], b"").expect(200);
    }
    engine.http("GET", calls, &Value::Null).expect(200);
}

#[test]
fn what_it_keeps_can_be_read_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let engine = Engine::start();
    let kept: Vec<_> = std::fs::read_dir(engine.data()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(!kept.is_empty(), "at least the key for notifications is kept");
    for entry in kept {
        let others = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(others, 0, "{} can be read by others", entry.path().display());
    }
}

/// Whoever can write there could put a token or a key of his own in it.
#[test]
fn a_data_directory_in_which_everybody_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let place = data.path().to_str().unwrap();
    let refused = wrong(&["--token", "t", "--data", place]);
    assert!(refused.contains(place) && refused.contains("chmod o-w"), "{refused}");
    let mut rotate = command(["keys", "rotate", "--data"]);
    rotate.arg(place);
    let (code, _, refused) = said(rotate, PATIENCE);
    assert!(code != Some(0) && refused.contains("chmod o-w"), "{code:?} {refused}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "nothing was written");
}

/// The token that it makes for an owner who brought none lets the owner in, and is told in the first life only.
#[test]
fn a_token_of_its_own_making_is_told_once() {
    let engine = Engine::start_in(tempfile::tempdir().unwrap(), &[]);
    let token = std::fs::read_to_string(engine.data().join("token")).unwrap();
    let token = token.trim();
    assert!(token.len() >= 32, "nobody guesses it");
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str())];
    http::request(engine.address, "GET", "/v1.0/communications/calls", &headers, b"").expect(200);
    engine.signal(Signal::TERM);
    let (said, data) = engine.end_and_keep_data(Duration::from_secs(5));
    assert_eq!(said.matches(token).count(), 1, "{said}");

    let again = Engine::start_in(data, &[]);
    http::request(again.address, "GET", "/v1.0/communications/calls", &headers, b"").expect(200);
    again.signal(Signal::TERM);
    let (_, _, said) = again.end(Duration::from_secs(5));
    assert!(!said.contains(token), "{said}");
}

fn wrong(arguments: &[&str]) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut command = command(["serve"]);
    if !arguments.contains(&"--data") {
        command.arg("--data").arg(data.path());
    }
    command.args(arguments);
    let (code, stdout, stderr) = said(command, PATIENCE);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line is expected: {stderr}");
    stderr
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = wrong(&["--token", "t", "--listen", &address]);
    assert!(said.contains(&address), "{said}");
}

#[test]
fn the_street_is_not_listened_to_in_the_clear() {
    let said = wrong(&["--token", "t", "--listen", "0.0.0.0:0"]);
    assert!(said.contains("TLS") || said.contains("--tls-cert"), "{said}");
}

#[test]
fn a_file_with_an_unknown_key_is_one_line_and_exit_code_2() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = \"127.0.0.1:0\"\nlissten = 1\n").unwrap();
    let said = wrong(&["--config", file.path().to_str().unwrap()]);
    assert!(said.contains("lissten"), "{said}");
}
