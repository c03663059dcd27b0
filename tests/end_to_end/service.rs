//! The service manager that started the engine hears of its life, and nothing once it hangs.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::engine::{Engine, PATIENCE, TOKEN};

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
