//! The house: builds the rooms, opens the doors, waits to be told to stop, and closes them again.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum_server::{Handle, Server, tls_rustls::RustlsConfig};
use holdmusic_codecs::Codec;
use holdmusic_control::{Control, DEFAULT_SOURCE, record};
use holdmusic_media::pacer::Pacer;
use rustix::mm::{MlockAllFlags, mlockall};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc},
    task::JoinHandle as Task,
};
use tracing::{error, info, warn};

use crate::{
    analyst::{self, ANALYSTS, FOR_SHORT},
    authority::Authority,
    cache::{Cache, Hash},
    check::Checker,
    clock,
    config::{Config, access::Access},
    data_directory,
    desk::{Desk, FETCHES},
    dice,
    fetch::Fetcher,
    http::{
        self, Door,
        connections::{ConnectionLimits, Places},
    },
    keys::{Keyring, write_secret},
    mailbox::{Commander, Mailboxes, Tiding, ToPeers},
    metrics::Metrics,
    not_ready::{Cause, NotReady},
    peers::{self, Peers},
    producer::{self, DEFAULT_MUSIC, Producer},
    room::{MEMORY_MIB, Memory},
    sender::{self, Precedence},
    store::{Outbox, Store},
    supervisor::Supervisor,
    supply::Supply,
    udp::MediaSocket,
    webhook::Webhook,
};

/// From SIGTERM to the end at the latest; the contract says 5 s.
const DRAIN: Duration = Duration::from_secs(4);

/// How long the answers under way have after control has left.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How often it is looked whether the disk has everything. 2 ms: the old engine's music ends when it has.
const LOOK: Duration = Duration::from_millis(2);

/// The longest head of a request, in bytes: the longest path, query and token that are read, and as much again.
const MAX_HEAD: u16 = 32 << 10;

/// Connections that wait to be accepted; the kernel's own default for the most that this may be. The standard library has
/// 128, and the next one's client tries again after a second.
const BACKLOG: i32 = 4_096;

/// Requests that a client may have under way by one connection of HTTP/2, and bytes of their bodies that are taken before
/// they are read: as many as one body may have.
const STREAMS: u32 = 100;
const WINDOW: u32 = 256 << 10;

/// An engine at work, in this process.
pub struct House {
    /// Where the API answers.
    pub address: SocketAddr,
    scheme: &'static str,
    token: Option<String>,
    runtime: Runtime,
    handle: Handle<SocketAddr>,
    tell: crossbeam_channel::Sender<Tiding>,
    fallen: mpsc::Receiver<String>,
    server: Task<io::Result<()>>,
    desk: JoinHandle<Option<Vec<Commander>>>,
    peers: JoinHandle<Option<()>>,
    store: JoinHandle<Option<()>>,
    senders: Vec<JoinHandle<Option<()>>>,
    not_ready: Arc<NotReady>,
    door: Arc<Door>,
    data: PathBuf,
    tls: Option<Tls>,
}

/// What HTTPS is spoken with, and the certificate and key that it is read from again.
type Tls = (RustlsConfig, PathBuf, PathBuf);

/// The signals of a service: from [`House::signals`] on they no longer end the process by themselves.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl House {
    /// Builds everything and returns when the API answers and the default music can be played.
    ///
    /// # Errors
    ///
    /// One line: what could not be opened, and why.
    pub fn open(config: Config) -> Result<Self, String> {
        data_directory::open(&config.data)?;
        let keys =
            Keyring::open(&config.data).map_err(|error| format!("the key for notifications: {error}"))?;
        let keys = Arc::new(keys);
        let certificate = peers::certificate::open(&config.data)?;
        let mut access = config.access;
        let mut generated = None;
        if !access.is_configured() {
            let (token, path) = kept_token(&config.data)?;
            info!("no --token was given: clients send the one in {path}");
            generated = Some(token.clone());
            access.token = Some(token);
        }

        let connections = config.connections.with_files();
        let listener = TcpListener::bind_to(config.listen)?;
        let address =
            listener.local_addr().map_err(|error| format!("--listen {}: {error}", config.listen))?;
        let mut store = Store::open(&config.data)?;
        let records = store.records()?;
        let pairs = || records.iter().map(|(key, value)| (&**key, &**value));
        let locals = record::media_locals(pairs()).map_err(damaged)?;
        let sockets = bind_senders(&config.media_binds, &locals, config.dscp_ef)?;
        let mut settings = config.control;
        (settings.durable, settings.boot) = (true, clock::boot());
        settings.fingerprint = Some(peers::certificate::fingerprint(&certificate));
        settings.media_locals = sockets
            .iter()
            .map(|socket| {
                let local = socket.local();
                SocketAddr::new(config.media_address.unwrap_or(local.ip()), local.port())
            })
            .collect();
        let guard = Arc::new(settings.guard.clone());

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("holdmusic-door")
            .build()
            .map_err(|error| format!("the runtime of the doors: {error}"))?;
        let tls_error = |error| format!("the TLS client: {error}");
        let cache = Cache::open(&config.data, config.prompt_cache_bytes, &config.producer)
            .map_err(|error| format!("the cache of prompts in {}: {error}", config.data.display()))?;
        let fetcher =
            Fetcher::new(Arc::clone(&guard), config.egress.clone(), config.fetch).map_err(tls_error)?;
        let checker = Checker::new(fetcher.clone(), config.producer.clone(), settings.clone());
        let issuer = config.issuer;
        let webhook = Webhook::new(Arc::clone(&guard), &config.egress, Arc::clone(&keys), issuer.clone())
            .map_err(tls_error)?;

        if config.lock_memory {
            lock_memory();
        }
        let metrics = Metrics::new(sockets.len());
        let Mailboxes {
            requests,
            tidings,
            commands,
            work,
            short_analyses,
            long_analyses,
            bridges,
            batches,
            reads,
            peer_commands,
            peer_datagrams,
            fallen,
        } = Mailboxes::new(sockets.len());
        let mut senders = Vec::new();
        let mut commanders = Vec::new();
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let peers = Peers::new(peers::peer::House::new(certificate, clock::instant()), guard);
        let (by, tell) = (sockets.clone(), tidings.0.clone());
        let peers = start("hm-peers", &fallen.0, move || {
            peers::run(peers, &by, &peer_commands.1, &peer_datagrams.1, &tell);
        })?;
        for (index, (socket, (commander, orders))) in sockets.into_iter().zip(commands).enumerate() {
            let pacer = Pacer::new(dice::number(), config.pacer);
            let (tell, counts) = (tidings.0.clone(), Arc::clone(metrics.sender(index)));
            let to_peers = ToPeers { sender: index, queue: peer_datagrams.0.clone() };
            let cpus = &config.sender_cpus;
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            let precedence = Precedence { realtime: config.realtime, cpu };
            let thread = start(&format!("hm-sender-{index}"), &fallen.0, move || {
                sender::run(pacer, &socket, orders, &tell, &to_peers, &counts, precedence);
            })?;
            commanders.push(Commander::new(commander, thread.thread().clone()));
            senders.push(thread);
        }
        let memory = Memory::new(MEMORY_MIB);
        for index in 0..config.producers {
            let producer = Producer {
                settings: config.producer.clone(),
                work: work.1.clone(),
                bridges: bridges.1.clone(),
                short_analyses: short_analyses.0.clone(),
                long_analyses: long_analyses.0.clone(),
                memory: memory.clone(),
                tell: tidings.0.clone(),
            };
            start(&format!("hm-producer-{index}"), &fallen.0, move || producer.run())?;
        }
        for index in 0..ANALYSTS {
            let short = short_analyses.1.clone();
            let long = if index < FOR_SHORT { crossbeam_channel::never() } else { long_analyses.1.clone() };
            start(&format!("hm-analyst-{index}"), &fallen.0, move || analyst::run(&short, &long))?;
        }

        // The default music is there before anybody can ask for it.
        // Encoded once for all starts: a hold that goes on may be at any place in it.
        let content = Hash::of(DEFAULT_MUSIC);
        let (mut default_music, mut awaited) = (Vec::new(), 0);
        // Opus with few bits goes with Opus. In codecs that are not in use it is made when a leg still has one.
        let low = settings.codecs.contains(&Codec::Opus).then_some(Codec::OpusLow);
        for codec in settings.codecs.iter().copied().chain(low) {
            if let Some(preserved) = cache.rendition(content, codec) {
                default_music.push((codec, preserved.reader));
                continue;
            }
            let reader = producer::begin_default_music(&work.0, codec).ok_or("no producer is at work")?;
            default_music.push((codec, reader));
            awaited += 1;
        }
        // What legs have wanted besides is kept too: a hold that goes on may be at any place in it.
        for &codec in Codec::ALL {
            if !default_music.iter().any(|(known, _)| *known == codec)
                && let Some(preserved) = cache.rendition(content, codec)
            {
                default_music.push((codec, preserved.reader));
            }
        }
        let mut told = Vec::new();
        while awaited > 0 {
            let tiding = tidings.1.recv().map_err(|_| "no producer is at work")?;
            match tiding {
                Tiding::SourceReady { source: DEFAULT_SOURCE, .. } => awaited -= 1,
                Tiding::SourceFailed { .. } => {
                    return Err(format!("the default music cannot be played: {tiding:?}"));
                }
                _ => {}
            }
            told.push(tiding);
        }
        for tiding in told {
            let _ = tidings.0.send(tiding);
        }

        let mut control = Control::restore(settings, dice::seed(), clock::now(), pairs()).map_err(damaged)?;
        let first = store.write_first(&mut control)?;
        let counts = control.counts();
        if counts.calls > 0 || counts.notifications_pending > 0 {
            let (calls, held, owed) = (counts.calls, counts.held, counts.notifications_pending);
            info!(calls, held, owed, "going on from where the engine was");
        }
        drop(records);
        let tell = tidings.0.clone();
        let store = start("hm-store", &fallen.0, move || store.run(&batches.1, &reads.1, &tell))?;
        let not_ready = Arc::new(NotReady::default());
        let desk = Desk {
            control,
            first,
            requests: requests.1,
            tidings: tidings.1,
            tell: tidings.0.clone(),
            commands: commanders,
            work: work.0,
            bridges: bridges.0,
            runtime: runtime.handle().clone(),
            supply: Supply { fetcher, cache: Arc::new(cache), places: Arc::new(Semaphore::new(FETCHES)) },
            prompts: config.producer.limits,
            default_music,
            default_content: content,
            webhook: Arc::new(webhook),
            outbox: Outbox::new(batches.0),
            reads: reads.0,
            peers: peer_commands.0,
            not_ready: Arc::clone(&not_ready),
            metrics: Arc::clone(&metrics),
        };
        let desk = start("hm-control", &fallen.0, move || desk.run())?;

        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let door = Arc::new(Door {
            requests: requests.0,
            authority: Authority::new(access, &config.egress, runtime.handle().clone())?,
            metrics_need_token: !address.ip().is_loopback(),
            public_url: config.public_url,
            scheme,
            metrics,
            checker,
            keys,
            issuer,
            cors_origins: config.cors_origins,
            not_ready: Arc::clone(&not_ready),
            console: Arc::default(),
        });
        runtime.spawn(Arc::clone(&door.console).keep_looking(Arc::clone(&door.metrics)));
        let handle = Handle::new();
        let (server, tls) = serve(&runtime, listener, &door, &handle, connections, config.tls)?;
        Ok(Self {
            address,
            scheme,
            token: generated,
            runtime,
            handle,
            tell: tidings.0,
            fallen: fallen.1,
            server,
            desk,
            peers,
            store,
            senders,
            not_ready,
            door,
            data: config.data,
            tls,
        })
    }

    /// Where the API answers, as clients write it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The token that clients send, if it was generated.
    pub fn generated_token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Takes the signals of a service over, before anybody is told that it is ready.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn signals(&self) -> Result<Signals, String> {
        let _inside = self.runtime.enter();
        let listen = |kind| signal(kind).map_err(|error| format!("no signals can be received: {error}"));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT and closes; SIGHUP has `reload` called for who gets in from now on (nobody named: who
    /// has the generated token) and reads certificates and signing keys again; what is under way is not disturbed. A
    /// second signal ends the process at once.
    ///
    /// # Errors
    ///
    /// The thread that panicked: without it the engine does not keep its promises, so all of it is closed, for
    /// whoever supervises it to start it again.
    pub fn wait(
        mut self,
        mut signals: Signals,
        reload: impl Fn() -> Result<Access, String>,
    ) -> Result<(), String> {
        let runtime = self.runtime.handle().clone();
        let supervisor = Arc::new(Supervisor::of_environment());
        supervisor.ready();
        runtime.spawn(Arc::clone(&supervisor).keep_told(Arc::clone(&self.door.metrics)));
        let fallen = runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = signals.terminate.recv() => return None,
                    _ = signals.interrupt.recv() => return None,
                    Some(thread) = self.fallen.recv() => return Some(thread),
                    _ = signals.hang_up.recv() => {
                        supervisor.reloading();
                        self.reload(&reload).await;
                        supervisor.ready();
                    }
                }
            }
        });
        supervisor.stopping();
        if let Some(thread) = &fallen {
            error!(thread, "a thread of the engine has panicked; closing");
        }
        runtime.spawn(async move {
            tokio::select! { _ = signals.terminate.recv() => {}, _ = signals.interrupt.recv() => {} }
            std::process::exit(1);
        });
        self.close();
        match fallen {
            Some(thread) => Err(format!("the thread {thread} panicked")),
            None => Ok(()),
        }
    }

    async fn reload(&self, reload: &impl Fn() -> Result<Access, String>) {
        let reloaded = reload().and_then(|mut access| {
            if !access.is_configured() {
                access.token = Some(kept_token(&self.data)?.0);
            }
            self.door.authority.reload(access)
        });
        match reloaded {
            Ok(()) => info!("tokens, issuers, applications and their limits are read again"),
            Err(error) => {
                warn!(
                    error,
                    "tokens, issuers and applications could not be read again; all stay as they were"
                )
            }
        }
        let keys = Arc::clone(&self.door.keys);
        match tokio::task::spawn_blocking(move || keys.reload()).await {
            Ok(Ok(true)) => info!(kid = self.door.keys.current().id(), "another key signs notifications now"),
            Ok(Ok(false)) => info!("the keys that sign notifications are read again"),
            Ok(Err(error)) => warn!(%error, "the keys could not be read again; the old ones stay"),
            Err(error) => warn!(%error, "the keys could not be read again; the old ones stay"),
        }
        if let Some((config, certificate, key)) = &self.tls {
            match config.reload_from_pem_file(certificate, key).await {
                Ok(()) => info!("the certificate is read again"),
                Err(error) => warn!(%error, "the certificate could not be read again; the old one stays"),
            }
        }
    }

    /// Takes no new holds, delivers what is owed as far as time allows, and ends all threads.
    pub fn close(self) {
        let Self { runtime, handle, tell, server, desk, peers, store, senders, not_ready, door, .. } = self;
        not_ready.say(Cause::Draining, "the engine is draining".to_owned());
        door.console.close();
        drop(door);
        let by = clock::mono() + DRAIN;
        // Without a control thread there is nobody to drain.
        let _ = tell.send(Tiding::Drain { by });
        drop(tell);
        let commanders = desk.join();
        // It ends with the desk, when everybody is told who is to be.
        let _ = peers.join();
        // What control said last is still on its way to clients; whoever is idle is let go at once.
        handle.graceful_shutdown(Some(LAST_ANSWERS));
        let answered = runtime.block_on(async { tokio::time::timeout(2 * LAST_ANSWERS, server).await });
        if answered.is_err() {
            warn!("leaving with answers under way");
        }
        let by = by + LAST_ANSWERS;
        runtime.block_on(async {
            while !store.is_finished() && clock::mono() < by {
                tokio::time::sleep(LOOK).await;
            }
        });
        if !store.is_finished() {
            error!("leaving although the disk has not answered: what it does not have is lost");
        }
        // Until here the music has played on.
        drop(commanders);
        for sender in senders {
            let _ = sender.join();
        }
        runtime.shutdown_timeout(Duration::ZERO);
    }
}

/// A record that cannot be read: nothing is started with half of what was.
fn damaged(error: record::RecordError) -> String {
    format!(
        "{error}; 'holdmusic store check' lists all such records. Put a copy of the store back, or move it away to begin without calls"
    )
}

/// Where senders are bound: any port is the one that they had before, so that peers go on hearing from where they do.
fn bind_senders(
    binds: &[SocketAddr],
    before: &[SocketAddr],
    dscp_ef: bool,
) -> Result<Vec<MediaSocket>, String> {
    let bind = |(index, bind): (usize, &SocketAddr)| {
        let had = before.get(index).filter(|had| bind.port() == 0 && had.is_ipv4() == bind.is_ipv4());
        if let Some(had) = had.map(|had| SocketAddr::new(bind.ip(), had.port())) {
            match MediaSocket::bind(had, dscp_ef) {
                Ok(socket) => return Ok(socket),
                Err(error) => {
                    warn!(%had, %error, "a sender cannot have the port that it had; legs move to another")
                }
            }
        }
        MediaSocket::bind(*bind, dscp_ef).map_err(|error| format!("media socket {bind}: {error}"))
    };
    binds.iter().enumerate().map(bind).collect()
}

trait BindTo: Sized {
    fn bind_to(address: SocketAddr) -> Result<Self, String>;
}

impl BindTo for TcpListener {
    #[expect(
        clippy::disallowed_methods,
        reason = "the HTTP door binds its listener here, before it is ready"
    )]
    fn bind_to(address: SocketAddr) -> Result<Self, String> {
        let told = |error: io::Error| format!("--listen {address}: {error}");
        let listener = Self::bind(address).map_err(told)?;
        listener.set_nonblocking(true).map_err(told)?;
        rustix::net::listen(&listener, BACKLOG).map_err(|error| told(error.into()))?;
        Ok(listener)
    }
}

fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    door: &Arc<Door>,
    handle: &Handle<SocketAddr>,
    limits: ConnectionLimits,
    tls: Option<(PathBuf, PathBuf)>,
) -> Result<(Task<io::Result<()>>, Option<Tls>), String> {
    let service = http::router(Arc::clone(door)).into_make_service();
    let _inside = runtime.enter();
    let http_error = |error: io::Error| format!("the HTTP door: {error}");
    let places = Places::new(limits, Arc::clone(door.metrics.connections()));
    let server = axum_server::from_tcp(listener).map_err(http_error)?.handle(handle.clone());
    match tls {
        None => {
            let server = bounded(server.acceptor(places), limits);
            Ok((runtime.spawn(server.serve(service)), None))
        }
        Some((certificate, key)) => {
            let config = runtime
                .block_on(RustlsConfig::from_pem_file(&certificate, &key))
                .map_err(|error| format!("--tls-cert {}: {error}", certificate.display()))?;
            let server = bounded(server.acceptor(places.with_tls(config.clone(), limits.head)), limits);
            Ok((runtime.spawn(server.serve(service)), Some((config, certificate, key))))
        }
    }
}

/// What one connection may cost.
fn bounded<A>(mut server: Server<SocketAddr, A>, limits: ConnectionLimits) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    // From the end of the answer before.
    builder.http1().max_buf_size(MAX_HEAD.into()).header_read_timeout(limits.idle);
    builder.http2().max_header_list_size(MAX_HEAD.into()).max_concurrent_streams(STREAMS);
    builder.http2().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    server.first_request_timeout(limits.head)
}

/// Keeps what is touched in memory. Where that is not allowed (neither root nor CAP_IPC_LOCK nor RLIMIT_MEMLOCK) one line
/// says so. Pages are locked once they are touched: most of a stack or a batch never is.
fn lock_memory() {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = mlockall(flags) {
        warn!(%error, "memory is not locked: what is swapped out may make packets late");
    }
}

/// Starts a thread whose panic is told to `fallen`, by its name.
fn start<T: Send + 'static>(
    name: &str,
    fallen: &mpsc::Sender<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<Option<T>>, String> {
    let (fallen, who) = (fallen.clone(), name.to_owned());
    let watched = move || {
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            // Full: others have told already, and the first one closes the engine.
            let _ = fallen.try_send(who);
        }
        done
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(watched)
        .map_err(|error| format!("thread {name}: {error}"))
}

/// The token in the data directory, and where that is shown to be; made at first start.
fn kept_token(data: &Path) -> Result<(String, String), String> {
    let path = data.join(TOKEN_FILE);
    let shown = path.display().to_string();
    if !path.exists() {
        let token: String = dice::seed().iter().map(|byte| format!("{byte:02x}")).collect();
        write_secret(&path, format!("{token}\n").as_bytes()).map_err(|error| format!("{shown}: {error}"))?;
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "holdmusic: made a token for clients, kept in {shown}: {token}");
    }
    Ok((generated_token(data)?, shown))
}

/// Where a generated token is kept, in the data directory.
const TOKEN_FILE: &str = "token";

fn generated_token(data: &Path) -> Result<String, String> {
    let path = data.join(TOKEN_FILE);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty; remove it to have a new token made", path.display())),
        token => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_named_and_one_that_ends_is_not() {
        let (tell, mut fallen) = mpsc::channel(4);
        start("hm-peaceful", &tell, || {}).unwrap().join().unwrap();
        start("hm-broken", &tell, || panic!("as the test wants")).unwrap().join().unwrap();
        assert_eq!(fallen.try_recv().as_deref(), Ok("hm-broken"));
        assert!(fallen.try_recv().is_err());
    }
}
