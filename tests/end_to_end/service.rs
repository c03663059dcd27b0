//! The service manager that started the engine hears of its life, and nothing once it hangs.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use rustix::process::Signal;

use crate::{
    engine::{Engine, PATIENCE, TOKEN, binary},
    http,
};

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    fn start(&self, watchdog_us: &str) -> Engine {
        let path = self.directory.path().join("notify");
        let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", watchdog_us)];
        Engine::start_among(tempfile::tempdir().unwrap(), &["--token", TOKEN], &variables)
    }

    /// The next word that is not only "all is well".
    fn hear(&self) -> String {
        loop {
            let words = self.hear_any();
            if words != "WATCHDOG=1" {
                return words;
            }
        }
    }

    fn hear_any(&self) -> String {
        let mut datagram = [0; 512];
        let length = self.socket.recv(&mut datagram).expect("the engine tells something");
        String::from_utf8(datagram[..length].to_vec()).expect("a text")
    }
}

#[test]
fn it_tells_when_it_is_ready_that_all_is_well_when_it_reads_settings_and_when_it_leaves() {
    let manager = Manager::open();
    let engine = manager.start("200000");
    let first = manager.hear_any();
    assert!(first.lines().any(|word| word == "READY=1"), "{first}");
    for _ in 0..3 {
        assert_eq!(manager.hear_any(), "WATCHDOG=1");
    }
    engine.signal(Signal::HUP);
    let reloading = manager.hear();
    assert!(reloading.lines().any(|word| word == "RELOADING=1"), "{reloading}");
    let since = reloading.lines().find_map(|word| word.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
    let again = manager.hear();
    assert!(again.lines().any(|word| word == "READY=1"), "{again}");
    engine.signal(Signal::TERM);
    let leaving = manager.hear();
    assert!(leaving.lines().any(|word| word == "STOPPING=1"), "{leaving}");
    assert_eq!(engine.end(PATIENCE).0, Some(0));
}

/// It is looked at with the path of this build's binary.
#[test]
fn the_unit_file_is_one_that_systemd_takes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("dist/holdmusic.service")).unwrap();
    let ours = text.replace("/usr/local/bin/holdmusic", binary().to_str().unwrap());
    assert_ne!(ours, text, "it starts the binary where docs/operations.md puts it");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdmusic.service");
    fs::write(&path, ours).unwrap();
    let Ok(said) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output() else {
        return eprintln!("nothing is shown: this machine has no systemd-analyze");
    };
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && stderr.is_empty(), "{stderr}");
}

/// As a debugger does, the desk alone is stopped: HTTP goes on, and so does the music. What was asked meanwhile has waited
/// for too long and is refused.
#[test]
fn once_the_desk_hangs_nobody_is_told_that_all_is_well_until_it_goes_on() {
    let manager = Manager::open();
    let engine = manager.start("200000");
    manager.hear_any();
    assert_eq!(manager.hear_any(), "WATCHDOG=1");
    let alive = || http::request(engine.address, "GET", "/healthz", &[], b"").status == 200;
    assert!(alive());

    let desk = Pid::from_raw(engine.thread("hm-control"));
    match ptrace::seize(desk, ptrace::Options::empty()) {
        Err(Errno::EPERM) => return eprintln!("nothing is shown: this machine lets nobody stop a thread"),
        seized => seized.expect("a thread of our own child"),
    }
    ptrace::interrupt(desk).expect("it was seized");
    waitpid(desk, Some(WaitPidFlag::__WALL)).expect("it stops");
    let (address, authorization) = (engine.address, format!("Bearer {TOKEN}"));
    let asked = thread::spawn(move || {
        let headers = [("Authorization", authorization.as_str())];
        http::request(address, "GET", "/v1.0/communications/calls", &headers, b"")
    });
    manager.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let until = Instant::now() + 2 * PATIENCE;
    while alive() {
        assert!(Instant::now() < until, "it passes for alive");
        let _ = manager.socket.recv(&mut [0; 512]);
    }
    // What was told before may still be there; without an end it would be ten times a second.
    manager.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let told = (0..1_000).take_while(|_| manager.socket.recv(&mut [0; 512]).is_ok()).count();
    assert!(told < 1_000, "it goes on telling");

    ptrace::detach(desk, None).expect("it was stopped");
    let refused = asked.join().unwrap().expect(503);
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(refused.json()["error"]["code"], "ServiceUnavailable");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(manager.hear_any(), "WATCHDOG=1");
    assert!(alive());
    engine.signal(Signal::TERM);
    let (code, _, stderr) = engine.end(PATIENCE);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("stands still") && stderr.contains("hm-control"), "{stderr}");
}
