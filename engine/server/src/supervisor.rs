//! What happens to the engine -> one datagram each for the service manager that started it, where there is one
//! (sd_notify(3)): ready, reading settings again, leaving, and, as long as nobody stands still, that all is well.
//!
//! By hand: the protocol is a line of text to a socket that the environment names.

use std::{
    env,
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    sync::Arc,
    time::Duration,
};

use tracing::{error, info, warn};

use crate::{clock, metrics::Metrics};

/// A desk or a sender whose round takes longer has hung: the desk's takes a millisecond, 250 ms when there is nothing to
/// do, and a sender's a second at most.
pub const STANDSTILL: Duration = Duration::from_secs(5);

/// Who stands still may go on at any moment, and is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The service manager.
#[derive(Debug)]
pub struct Supervisor {
    to: Option<SocketAddr>,
    socket: Option<UnixDatagram>,
    /// It wants to hear from us so often.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names; one that hears nothing if there is none.
    pub fn of_environment() -> Self {
        let to = env::var_os("NOTIFY_SOCKET").and_then(address);
        let watchdog = watchdog(env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok(), process::id());
        let socket = to.as_ref().and_then(|_| UnixDatagram::unbound().ok());
        if let Some(socket) = &socket {
            // What it does not take at once is not waited for.
            let _ = socket.set_nonblocking(true);
        }
        Self { to, socket, watchdog }
    }

    /// Everything answers.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=ready");
    }

    /// Settings are read again; [`Self::ready`] says when that is over.
    pub fn reloading(&self) {
        let now_us = clock::mono().as_nanos() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reading settings again"));
    }

    /// No new holds; what is owed is delivered. The time until then counts from now.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nWATCHDOG=1\nSTATUS=draining");
    }

    /// Tells that all is well twice as often as it must be told, as long as that is so.
    pub async fn keep_told(self: Arc<Self>, metrics: Arc<Metrics>) {
        let Some(interval) = self.watchdog.filter(|_| self.to.is_some()) else { return };
        loop {
            let mut told = false;
            while let Some((thread, stood)) = standing_still(&metrics) {
                if !told {
                    error!(
                        thread,
                        ?stood,
                        "a thread stands still; the service manager is not told that all is well"
                    );
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            if told {
                info!("all threads go on");
            }
            self.tell("WATCHDOG=1");
            tokio::time::sleep(interval / 2).await;
        }
    }

    fn tell(&self, words: &str) {
        let (Some(socket), Some(to)) = (&self.socket, &self.to) else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), to) {
            warn!(%error, words, "the service manager cannot be told");
        }
    }
}

/// The thread that has stood still for too long, if there is one.
pub fn standing_still(metrics: &Metrics) -> Option<(String, Duration)> {
    Some(metrics.longest_round(clock::mono())).filter(|(_, stood)| *stood > STANDSTILL)
}

/// A path, or a name behind `@` that is in no file system. Sockets of other kinds are a virtual machine's.
fn address(name: OsString) -> Option<SocketAddr> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(&name),
        _ => return None,
    };
    address.ok()
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that it is meant for another process.
fn watchdog(microseconds: Option<String>, meant_for: Option<String>, id: u32) -> Option<Duration> {
    if meant_for.is_some_and(|meant| meant.parse() != Ok(id)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_is_meant_for_another_process_is_left_alone() {
        let given =
            |usec: &str, pid: Option<&str>| watchdog(Some(usec.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(given("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(given("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!(given("3000000", Some("8")), None);
        assert_eq!(given("0", None), None);
        assert_eq!(given("soon", None), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_socket_has_a_path_or_an_abstract_name() {
        let path = address("/run/systemd/notify".into()).expect("a path");
        assert_eq!(path.as_pathname(), Some(std::path::Path::new("/run/systemd/notify")));
        let name = address("@notify".into()).expect("a name");
        assert_eq!(name.as_abstract_name(), Some(&b"notify"[..]));
        assert!(address("vsock:2:1".into()).is_none() && address("".into()).is_none());
    }
}
