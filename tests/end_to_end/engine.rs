//! [`Engine`]: a `holdmusic serve` of our own, ended by its id whatever happens.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{self, Response};

/// How long anything may take that takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The token that our engines want.
pub(crate) const TOKEN: &str = "the-token-of-the-tests";

/// The `holdmusic` beside this test. Cargo tells a test where the binaries of its own crate are, but not those of
/// another, so it is looked for in the target directory that this test was built into; if it is missing or older than
/// the sources, cargo builds it, once. `cargo build --release` before `cargo test --release` saves that.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let this = env::current_exe().expect("a test knows where it is");
        // target/<profile>/deps/end_to_end-<hash>
        let profile = this.ancestors().nth(2).expect("cargo's directories");
        let binary = profile.join("holdmusic");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = fs::metadata(&binary).and_then(|file| file.modified()).ok();
        let sources =
            ["codecs/src", "engine", "assets/default-music.wav"].map(|path| newest(&root.join(path)));
        if built.is_none_or(|built| sources.into_iter().any(|source| source > built)) {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(&root).args(["build", "-p", "holdmusic", "--bin", "holdmusic", "--target-dir"]);
            cargo.arg(profile.parent().expect("cargo's directories"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().expect("cargo can be run").success(), "holdmusic cannot be built");
        }
        binary
    })
}

/// When the newest file at or below `path` was changed.
fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = fs::read_dir(path) else {
        return fs::metadata(path).and_then(|file| file.modified()).expect("a source can be looked at");
    };
    let below = entries.map(|entry| newest(&entry.expect("a directory can be read").path()));
    below.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `holdmusic` with nothing of our own environment that it would take for settings.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    alone(Command::new(binary()), arguments)
}

fn alone<S: AsRef<OsStr>>(mut command: Command, arguments: impl IntoIterator<Item = S>) -> Command {
    for (name, _) in env::vars_os() {
        let given = command.get_envs().any(|(given, _)| given == name);
        if !given && (name.to_string_lossy().starts_with("HOLDMUSIC_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Waits for its end; `None` if it goes on for longer than that.
    pub(crate) fn ended_within(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().expect("our own child") {
                return Some(status);
            }
            if Instant::now() > until {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // By its id, and nothing else; harmless if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command that ends by itself said: exit code, stdout, stderr.
pub(crate) fn said(mut command: Command, within: Duration) -> (Option<i32>, String, String) {
    let mut child = Guarded(command.spawn().expect("holdmusic can be run"));
    let stdout = read_all(child.0.stdout.take().expect("piped"));
    let stderr = read_all(child.0.stderr.take().expect("piped"));
    let status = child.ended_within(within);
    drop(child);
    let (stdout, stderr) = (stdout.join().expect("read"), stderr.join().expect("read"));
    let status = status.unwrap_or_else(|| panic!("it goes on after {within:?}: {stdout}\n{stderr}"));
    (status.code(), stdout, stderr)
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        let _ = from.read_to_string(&mut text);
        text
    })
}

/// An engine that is ready.
pub(crate) struct Engine {
    /// Where its API is.
    pub(crate) address: SocketAddr,
    child: Guarded,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    data: tempfile::TempDir,
}

impl Engine {
    /// Starts one on a free port, which may fetch from loopback.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let mut all = vec!["--token", TOKEN, "--allow-fetch", "127.0.0.0/8"];
        all.extend(["--app-id", "the-bot", "--tenant-id", "the-tenant"]);
        all.extend(flags);
        Self::start_in(tempfile::tempdir().expect("a directory for its data"), &all)
    }

    /// Starts one on a free port with these flags alone.
    pub(crate) fn start_in(data: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_among(data, flags, &[])
    }

    /// As [`Engine::start_in`], where another one was.
    pub(crate) fn start_at(address: SocketAddr, data: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_as(Command::new(binary()), address, data, flags)
    }

    /// As [`Engine::start_in`], with these variables in its environment.
    pub(crate) fn start_among(data: tempfile::TempDir, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.envs(variables.iter().copied());
        Self::start_by(command, data, flags)
    }

    /// As [`Engine::start_in`], by this command, which ends as the binary.
    pub(crate) fn start_by(command: Command, data: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_as(command, SocketAddr::from(([127, 0, 0, 1], 0)), data, flags)
    }

    fn start_as(command: Command, listen: SocketAddr, data: tempfile::TempDir, flags: &[&str]) -> Self {
        let mut command = alone(command, ["serve", "--listen", &listen.to_string()]);
        command.arg("--data").arg(data.path()).args(flags);
        let mut child = Guarded(command.spawn().expect("holdmusic can be run"));
        let stderr = read_all(child.0.stderr.take().expect("piped"));
        let mut stdout = BufReader::new(child.0.stdout.take().expect("piped"));
        let (tell, told) = mpsc::channel();
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_line(&mut text);
            let _ = tell.send(text.clone());
            let _ = stdout.read_to_string(&mut text);
            text
        });
        // Its first start makes a key, which may take seconds on a busy machine.
        let line = told.recv_timeout(Duration::from_secs(60)).expect("it becomes ready");
        let address =
            line.strip_prefix("holdmusic ready http").map(|url| url.trim_start_matches('s').trim_end());
        let address = address.and_then(|address| address.strip_prefix("://")?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the ready line is expected, found {line:?}"));
        Self { address, child, stdout: Some(stdout), stderr: Some(stderr), data }
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// A request with the token; a body of `null` is none.
    pub(crate) fn http(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        self.http_bytes(method, path, &body)
    }

    /// A request with the token and any bytes.
    pub(crate) fn http_bytes(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        http::request(self.address, method, path, &headers, body)
    }

    /// The most memory that it has ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("the kernel tells it") << 10
    }

    /// The kernel's id of one of its threads.
    pub(crate) fn thread(&self, name: &str) -> i32 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.0.id())).expect("it runs");
        let mut tasks = tasks.map(|task| task.expect("a directory can be read").path());
        let found = tasks
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|found| found.trim_end() == name));
        let id = found.and_then(|task| task.file_name()?.to_str()?.parse().ok());
        id.unwrap_or_else(|| panic!("there is no thread {name}"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.0.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(id, signal).expect("it runs");
    }

    /// Waits for its end; exit code, everything on stdout, everything on stderr.
    pub(crate) fn end(mut self, within: Duration) -> (Option<i32>, String, String) {
        self.wait(within)
    }

    /// As [`Engine::end`]; its data stays.
    pub(crate) fn end_and_keep_data(mut self, within: Duration) -> (String, tempfile::TempDir) {
        let (_, _, stderr) = self.wait(within);
        let other = tempfile::tempdir().expect("a directory nobody needs");
        (stderr, std::mem::replace(&mut self.data, other))
    }

    fn wait(&mut self, within: Duration) -> (Option<i32>, String, String) {
        let status = self.child.ended_within(within).expect("it ends in time");
        let text = |reader: &mut Option<JoinHandle<String>>| {
            reader.take().expect("read once").join().expect("it was read")
        };
        (status.code(), text(&mut self.stdout), text(&mut self.stderr))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() && self.stderr.is_some() {
            let _ = self.child.0.kill();
            let log = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
            eprintln!("the engine's log:\n{log}");
        }
    }
}
