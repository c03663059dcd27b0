//! The engine as a process of its own, and a client that speaks to it over one kept connection.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::ClockId,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::probe::now_ns;

/// A running engine; it ends with this value.
pub struct Engine {
    child: Guarded,
    url: String,
    agent: ureq::Agent,
    callback: String,
    data: TempDir,
    ready_after: Duration,
    ready_ns: u64,
}

/// An engine that has ended, and can be started again where it was.
pub struct Stopped {
    address: String,
    callback: String,
    data: TempDir,
    ended_ns: u64,
}

/// A process that does not outlive the bench.
struct Guarded(Child);

const TOKEN: &str = "the-token-of-the-bench";
const AUTHORIZATION: &str = "Authorization";
/// What its clients send as `Authorization`.
pub const BEARER: &str = "Bearer the-token-of-the-bench";

impl Engine {
    /// Starts the `holdmusic` that was built beside this program, with further flags, on `core` alone if one is given.
    ///
    /// # Errors
    ///
    /// If it was not built, or did not become ready.
    pub fn start(flags: &[&str], core: Option<usize>) -> io::Result<Self> {
        Self::start_in(tempfile::tempdir()?, flags, core)
    }

    /// The same with a data directory, which ends with the engine.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn start_in(data: TempDir, flags: &[&str], core: Option<usize>) -> io::Result<Self> {
        Self::begin(data, "127.0.0.1:0", accept_callbacks()?, flags, core)
    }

    fn begin(
        data: TempDir,
        listen: &str,
        callback: String,
        flags: &[&str],
        core: Option<usize>,
    ) -> io::Result<Self> {
        let binary = binary()?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core.to_string()]).arg(&binary);
                command
            }
            None => Command::new(&binary),
        };
        command
            .args(["serve", "--listen", listen, "--token", TOKEN, "--data"])
            .arg(data.path())
            .args(flags)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = Guarded(command.spawn()?);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let (ready_after, ready_ns) = (began.elapsed(), now_ns(ClockId::Realtime));
        let Some(url) = line.trim().strip_prefix("holdmusic ready ").map(str::to_owned) else {
            return Err(io::Error::other(format!(
                "the engine said '{}' instead of being ready",
                line.trim()
            )));
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            // Each client that shares it keeps a connection.
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build()
            .into();
        Ok(Self { child, url, agent, callback, data, ready_after, ready_ns })
    }

    /// Sends it a signal that ends it, and waits for its end.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn end(mut self, signal: Signal) -> io::Result<Stopped> {
        kill_process(Pid::from_child(&self.child.0), signal)?;
        self.child.0.wait()?;
        let ended_ns = now_ns(ClockId::Realtime);
        let address = self.address().to_owned();
        Ok(Stopped { address, callback: self.callback, data: self.data, ended_ns })
    }

    /// What it took from its start to the line that says so.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// When it said that it is ready, in nanoseconds since 1970.
    pub fn ready_ns(&self) -> u64 {
        self.ready_ns
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// POSTs `body` to a path behind `/v1.0`, and gives the answer's JSON.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached or refuses.
    pub fn post(&self, path: &str, body: &Value) -> io::Result<Value> {
        self.answered(
            "POST",
            path,
            self.agent.post(self.place(path)).header(AUTHORIZATION, BEARER).send_json(body),
        )
    }

    /// PUTs `body` to a path behind `/v1.0`, and gives the answer's JSON.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn put(&self, path: &str, body: &Value) -> io::Result<Value> {
        self.answered(
            "PUT",
            path,
            self.agent.put(self.place(path)).header(AUTHORIZATION, BEARER).send_json(body),
        )
    }

    /// GETs a path behind `/v1.0`.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn get(&self, path: &str) -> io::Result<Value> {
        self.answered("GET", path, self.agent.get(self.place(path)).header(AUTHORIZATION, BEARER).call())
    }

    /// DELETEs a path behind `/v1.0`.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn delete(&self, path: &str) -> io::Result<()> {
        let answer = self.agent.delete(self.place(path)).header(AUTHORIZATION, BEARER).call();
        self.answered("DELETE", path, answer).map(drop)
    }

    /// Asks whether it is alive: HTTP and nothing else.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached.
    pub fn health(&self) -> io::Result<()> {
        let answer = self.agent.get(format!("{}/healthz", self.url)).call();
        self.answered("GET", "/healthz", answer).map(drop)
    }

    fn place(&self, path: &str) -> String {
        format!("{}/v1.0{path}", self.url)
    }

    /// The JSON of an answer; `null` for an empty one.
    fn answered(
        &self,
        method: &str,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> io::Result<Value> {
        let mut response = answer.map_err(io::Error::other)?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(io::Error::other)?;
        if !status.is_success() {
            return Err(io::Error::other(format!("{method} {path}: {status}: {text}")));
        }
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).map_err(io::Error::other) }
    }

    /// What `/metrics` tells.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached.
    pub fn metrics(&self) -> io::Result<Metrics> {
        let mut response =
            self.agent.get(format!("{}/metrics", self.url)).call().map_err(io::Error::other)?;
        response.body_mut().read_to_string().map(Metrics).map_err(io::Error::other)
    }

    /// Makes a call with one participant whose leg goes to `port` of 127.0.0.1; returns the participant's path.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn participant(&self, port: u16) -> io::Result<String> {
        self.participant_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The same with a leg that goes anywhere on loopback.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn participant_at(&self, address: SocketAddr) -> io::Result<String> {
        let leg = json!({ "address": address.to_string(), "codec": "opus", "payloadType": 111 });
        self.participant_with(
            &json!({ "callbackUri": self.callback }),
            &json!({ "mediaLeg": { "rtp": leg } }),
        )
    }

    /// The same with these bodies.
    ///
    /// # Errors
    ///
    /// As [`Engine::post`].
    pub fn participant_with(&self, call: &Value, participant: &Value) -> io::Result<String> {
        let call = self.post("/communications/calls", call)?;
        let participants = format!("/communications/calls/{}/participants", text(&call, "id"));
        let who = self.post(&participants, participant)?;
        Ok(format!("{participants}/{}", text(&who, "id")))
    }

    /// Where the bot of this bench is called back.
    pub fn callback(&self) -> &str {
        &self.callback
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Where its API is: `host:port`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }

    /// Processor time that the engine has used so far, all threads together.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // Behind the name, which may hold spaces: fields 14 and 15, in ticks of 1/100 s (proc(5)).
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }
}

/// The text of `/metrics`.
pub struct Metrics(String);

impl Metrics {
    /// The value of `name`, labels included; 0 if it is not there.
    pub fn value(&self, name: &str) -> f64 {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    /// A histogram of the first sender: upper bounds in ascending order, each with how many values were not above it.
    pub fn histogram(&self, name: &str) -> Vec<(f64, u64)> {
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\",sender=\"0\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.parse().ok()?))
        };
        self.0.lines().filter_map(bucket).collect()
    }
}

impl Stopped {
    /// When it had ended, in nanoseconds since 1970.
    pub fn ended_ns(&self) -> u64 {
        self.ended_ns
    }

    /// Starts it again, on the same data directory and with the same address of its API.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    pub fn start(self, flags: &[&str]) -> io::Result<Engine> {
        Engine::begin(self.data, &self.address, self.callback, flags, None)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // By its id; harmless if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bot that accepts every notification, in a thread that lives as long as the bench.
fn accept_callbacks() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/callback", listener.local_addr()?);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || accept(&connection));
        }
    });
    Ok(url)
}

/// Answers one connection's requests with 202 until it is closed.
fn accept(connection: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut len = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        io::copy(&mut (&mut reader).take(len), &mut io::sink())?;
        (&mut &*connection).write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn binary() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("holdmusic")).find(|path| path.is_file());
    found.ok_or_else(|| {
        io::Error::other("there is no holdmusic beside this program; run: cargo build --release -p holdmusic")
    })
}

/// A member of a JSON object, as text.
pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metrics_tell_is_found_by_its_whole_name() {
        let metrics = Metrics(
            "a_b 3\na_b_total 7\nlate_seconds_bucket{le=\"0.001\",sender=\"0\"} 5\n\
             late_seconds_bucket{le=\"+Inf\",sender=\"0\"} 6\nlate_seconds_bucket{le=\"+Inf\",sender=\"1\"} 9\n"
                .to_owned(),
        );
        assert_eq!((metrics.value("a_b"), metrics.value("a_b_total"), metrics.value("a")), (3.0, 7.0, 0.0));
        assert_eq!(metrics.histogram("late_seconds"), [(0.001, 5), (f64::INFINITY, 6)]);
    }
}
