//! The bots' web servers: fast ones, slow ones, failing ones. Each call has one of its own, which checks what it is told
//! and in which order.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use holdmusic_bench::engine::text;
use serde_json::Value;

use crate::{
    faults::{Fault, Faults},
    sabotage::Sabotage,
};

/// What a slow receiver takes for each notification.
const SLOW: Duration = Duration::from_millis(500);

/// A failing receiver says 503 so often before it accepts.
const FAILURES: u32 = 2;

/// How often a connection without requests looks whether it is to be closed.
const LOOK: Duration = Duration::from_millis(200);

/// How long a request may take to arrive whole.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Fast,
    Slow,
    Failing,
}

/// What one call's receiver has been told.
struct Bot {
    manner: Manner,
    /// A notification is being looked at.
    busy: bool,
    /// The one that was answered with 503, how often, and what it said.
    refused: Option<(String, Vec<u8>, u32)>,
    accepted: HashSet<String>,
    version: u64,
    /// Start operations that were accepted by the engine, and those whose end was told.
    started: HashSet<String>,
    ended: HashSet<String>,
}

struct State {
    bots: HashMap<u64, Bot>,
    faults: Faults,
    sabotage: Option<Sabotage>,
    accepted: u64,
    refused: u64,
    ends: u64,
}

/// All receivers.
pub(crate) struct Callbacks {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    open: Arc<AtomicBool>,
}

impl Callbacks {
    /// Serves on a free port of loopback.
    pub(crate) fn open(faults: Faults, sabotage: Option<Sabotage>) -> io::Result<Self> {
        let state = State { bots: HashMap::new(), faults, sabotage, accepted: 0, refused: 0, ends: 0 };
        let state = Arc::new(Mutex::new(state));
        let open = Arc::new(AtomicBool::new(true));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (shared, on) = (Arc::clone(&state), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, open) = (Arc::clone(&shared), Arc::clone(&on));
                thread::spawn(move || serve(&stream, &state, &open));
            }
        });
        Ok(Self { address, state, open })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Call `number` will be told here, by a receiver of this manner.
    pub(crate) fn expect(&self, number: u64, manner: Manner) {
        let bot = Bot {
            manner,
            busy: false,
            refused: None,
            accepted: HashSet::new(),
            version: 0,
            started: HashSet::new(),
            ended: HashSet::new(),
        };
        self.state().bots.insert(number, bot);
    }

    /// Nobody has made that call.
    pub(crate) fn forget(&self, number: u64) {
        self.state().bots.remove(&number);
    }

    /// The callback URI of call `number`.
    pub(crate) fn uri(&self, number: u64) -> String {
        format!("http://{}/{number}", self.address)
    }

    /// The engine has accepted a start.
    pub(crate) fn started(&self, number: u64, operation: &str) {
        if let Some(bot) = self.state().bots.get_mut(&number) {
            bot.started.insert(operation.to_owned());
        }
    }

    /// Notifications accepted, answers of 503, and ends of operations so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.accepted, state.refused, state.ends)
    }

    /// Nothing more is waited for; what was not told is missing. Connections are closed.
    pub(crate) fn close(&self) {
        self.open.store(false, Relaxed);
        let mut state = self.state();
        let bots = std::mem::take(&mut state.bots);
        for (number, bot) in bots {
            for operation in bot.started.difference(&bot.ended) {
                state.faults.add(Fault::Unended, || format!("call {number}: no end of {operation} was told"));
            }
            state.faults.add(Fault::Missing, || format!("call {number}: its end was not told"));
        }
    }
}

/// A connection's requests until it is closed.
fn serve(stream: &TcpStream, state: &Mutex<State>, open: &AtomicBool) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((number, id, body)) = request(&mut reader, stream, open)? {
        let slow = {
            let mut state = state.lock().expect("nobody panics while holding it");
            state.begin(number)
        };
        if slow {
            thread::sleep(SLOW);
        }
        let accepted = state.lock().expect("nobody panics while holding it").told(number, &id, body);
        let status = if accepted { "202 Accepted" } else { "503 Service Unavailable" };
        write!(&mut &*stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// The next request: whose it is, its message id, its body.
fn request(
    reader: &mut BufReader<&TcpStream>,
    stream: &TcpStream,
    open: &AtomicBool,
) -> io::Result<Option<(u64, String, Vec<u8>)>> {
    stream.set_read_timeout(Some(LOOK))?;
    loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(_) => break,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if !open.load(Relaxed) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    let number = path.trim_start_matches('/').parse().map_err(io::Error::other)?;
    let (mut id, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => len = value.trim().parse().map_err(io::Error::other)?,
            "x-microsoft-skype-message-id" => id = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.take(len).read_to_end(&mut body)?;
    Ok(Some((number, id, body)))
}

impl State {
    /// A notification for call `number` begins to be looked at; whether that takes its time.
    fn begin(&mut self, number: u64) -> bool {
        let Some(bot) = self.bots.get_mut(&number) else { return false };
        if bot.busy {
            self.faults.add(Fault::Order, || format!("call {number}: two notifications at once"));
        }
        bot.busy = true;
        bot.manner == Manner::Slow
    }

    /// Looks at a notification; whether it is accepted.
    fn told(&mut self, number: u64, id: &str, body: Vec<u8>) -> bool {
        let Some(bot) = self.bots.get_mut(&number) else {
            self.faults.add(Fault::Twice, || format!("call {number} was told something after its end"));
            return true;
        };
        bot.busy = false;
        if id.is_empty() {
            self.faults.add(Fault::Order, || format!("call {number}: a notification without a message id"));
        }
        let tries = match bot.refused.take() {
            Some((refused, said, tries)) => {
                if refused != id {
                    self.faults.add(Fault::Order, || {
                        format!("call {number}: {id} came while {refused} was to be tried again")
                    });
                } else if said != body {
                    self.faults.add(Fault::Order, || {
                        format!("call {number}: {id} said something else when it was tried again")
                    });
                }
                tries
            }
            None => 0,
        };
        if bot.manner == Manner::Failing && tries < FAILURES {
            bot.refused = Some((id.to_owned(), body, tries + 1));
            self.refused += 1;
            return false;
        }
        self.accepted += 1;
        let forgetful = self.sabotage == Some(Sabotage::Twice) && self.accepted.is_multiple_of(1000);
        if !bot.accepted.insert(id.to_owned()) || forgetful {
            self.faults.add(Fault::Twice, || format!("call {number}: {id} had been accepted before"));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&body) else {
            self.faults.add(Fault::Order, || format!("call {number}: a body that is not JSON"));
            return true;
        };
        self.understand(number, &body["value"][0]);
        true
    }

    fn understand(&mut self, number: u64, notification: &Value) {
        let Some(bot) = self.bots.get_mut(&number) else { return };
        let data = &notification["resourceData"];
        let etag = data.get("@odata.etag").or_else(|| data.get(0)?.get("@odata.etag"));
        let version = etag
            .and_then(|etag| etag.as_str()?.trim_start_matches("W/").trim_matches('"').parse::<u64>().ok());
        if let Some(mut version) = version {
            if self.sabotage == Some(Sabotage::Order) && self.accepted.is_multiple_of(1000) {
                version = 0;
            }
            if version < bot.version {
                self.faults.add(Fault::Order, || {
                    format!("call {number}: version {version} after version {}", bot.version)
                });
            }
            bot.version = bot.version.max(version);
        }
        let resource = text(notification, "resourceUrl");
        let is_deleted = text(notification, "changeType") == "deleted";
        if is_deleted && resource.contains("/operations/") {
            self.ends += 1;
            if self.sabotage == Some(Sabotage::Missing) && self.ends.is_multiple_of(100) {
                return;
            }
            let operation = text(data, "id").to_owned();
            if !bot.ended.insert(operation.clone()) {
                self.faults.add(Fault::Twice, || format!("call {number}: the end of {operation}"));
            }
        } else if is_deleted {
            for operation in bot.started.difference(&bot.ended) {
                self.faults.add(Fault::Missing, || {
                    format!("call {number}: the call has ended, and the end of {operation} was not told")
                });
            }
            for operation in bot.ended.difference(&bot.started) {
                self.faults.add(Fault::Twice, || {
                    format!("call {number}: the end of {operation}, which nobody started")
                });
            }
            self.bots.remove(&number);
        }
    }
}
