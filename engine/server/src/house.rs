//! The house: builds the rooms, opens the doors, waits to be told to stop, and closes them again.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum_server::{Handle, tls_rustls::RustlsConfig};
use holdmusic_control::{Control, DEFAULT_SOURCE};
use holdmusic_media::pacer::Pacer;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::{info, warn};

use crate::{
    clock,
    config::Config,
    desk::Desk,
    dice,
    fetch::Fetcher,
    http::{self, Door},
    keys::{SigningKey, write_secret},
    mailbox::{Mailboxes, Tiding, Work},
    metrics::Metrics,
    producer, sender,
    udp::MediaSocket,
    webhook::Webhook,
};

/// The default music: composed by `codecs/src/music.rs`.
const DEFAULT_MUSIC: &[u8] = include_bytes!("../../../assets/default-music.wav");

/// From SIGTERM to the end at the latest; the contract says 5 s.
const DRAIN: Duration = Duration::from_secs(4);

/// How long the answers under way have after control has left.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long a client may take to send its first request after connecting.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// An engine at work, in this process.
pub struct House {
    /// Where the API answers.
    pub address: SocketAddr,
    scheme: &'static str,
    token: Option<String>,
    runtime: Runtime,
    handle: Handle<SocketAddr>,
    tell: crossbeam_channel::Sender<Tiding>,
    desk: JoinHandle<()>,
    senders: Vec<JoinHandle<()>>,
    door: Arc<Door>,
    tls: Option<(RustlsConfig, std::path::PathBuf, std::path::PathBuf)>,
}

impl House {
    /// Builds everything and returns when the API answers and the default music can be played.
    ///
    /// # Errors
    ///
    /// One line: what could not be opened, and why.
    pub fn open(config: Config) -> Result<Self, String> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data)
            .map_err(|error| format!("--data {}: {error}", config.data.display()))?;
        let key =
            SigningKey::open(&config.data).map_err(|error| format!("the key for notifications: {error}"))?;
        let key = Arc::new(key);
        let (token, generated) = match config.token {
            Some(token) => (token, None),
            None => {
                let (token, path) = kept_token(&config.data)?;
                info!("no --token was given: clients send the one in {path}");
                (token.clone(), Some(token))
            }
        };

        let listener = TcpListener::bind_to(config.listen)?;
        let address =
            listener.local_addr().map_err(|error| format!("--listen {}: {error}", config.listen))?;
        let sockets = config
            .media_binds
            .iter()
            .map(|bind| {
                MediaSocket::bind(*bind, config.dscp_ef)
                    .map_err(|error| format!("media socket {bind}: {error}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut settings = config.control;
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
        let fetcher = Fetcher::new(Arc::clone(&guard), config.fetch).map_err(tls_error)?;
        let issuer = config.token_facts.issuer.clone();
        let webhook = Webhook::new(guard, Arc::clone(&key), config.token_facts).map_err(tls_error)?;

        let metrics = Metrics::new(sockets.len());
        let Mailboxes { requests, tidings, commands, work, bridges } = Mailboxes::new(sockets.len());
        let mut senders = Vec::new();
        let mut commanders = Vec::new();
        for (index, (socket, (commander, orders))) in sockets.into_iter().zip(commands).enumerate() {
            let pacer = Pacer::new(dice::number(), config.unreachable_after);
            let (tell, counts) = (tidings.0.clone(), Arc::clone(metrics.sender(index)));
            let realtime = config.realtime;
            senders.push(start(&format!("hm-sender-{index}"), move || {
                sender::run(pacer, &socket, &orders, &tell, &counts, realtime);
            })?);
            commanders.push(commander);
        }
        for index in 0..config.producers {
            let settings = config.producer.clone();
            let (work, bridges, tell) = (work.1.clone(), bridges.1.clone(), tidings.0.clone());
            start(&format!("hm-producer-{index}"), move || producer::run(&settings, &work, &bridges, &tell))?;
        }

        // The default music is there before anybody can ask for it.
        let music = Work { source: DEFAULT_SOURCE, bytes: DEFAULT_MUSIC.to_vec() };
        work.0.send(music).map_err(|_| "no producer is at work")?;
        let ready = tidings.1.recv().map_err(|_| "no producer is at work")?;
        if !matches!(ready, Tiding::SourceReady { source: DEFAULT_SOURCE, .. }) {
            return Err(format!("the default music cannot be played: {ready:?}"));
        }
        let _ = tidings.0.send(ready);

        let desk = Desk {
            control: Control::new(settings, dice::seed()),
            requests: requests.1,
            tidings: tidings.1,
            tell: tidings.0.clone(),
            commands: commanders,
            work: work.0,
            bridges: bridges.0,
            runtime: runtime.handle().clone(),
            fetcher,
            webhook: Arc::new(webhook),
            metrics: Arc::clone(&metrics),
        };
        let desk = start("hm-control", move || desk.run())?;

        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let door = Arc::new(Door {
            requests: requests.0,
            token: RwLock::new(token),
            metrics_need_token: !address.ip().is_loopback(),
            public_url: config.public_url,
            scheme,
            metrics,
            key,
            issuer,
            not_ready: RwLock::new(String::new()),
        });
        let handle = Handle::new();
        let tls = serve(&runtime, listener, &door, &handle, config.tls)?;
        Ok(Self {
            address,
            scheme,
            token: generated,
            runtime,
            handle,
            tell: tidings.0,
            desk,
            senders,
            door,
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

    /// Waits for SIGTERM or SIGINT and closes; SIGHUP has `reload` called for a new token and reads the certificates
    /// again. A second signal ends the process at once.
    pub fn wait(self, reload: impl Fn() -> Option<String>) {
        let signals = self.runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => self.reload(&reload).await,
                }
            }
            tokio::spawn(async move {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                std::process::exit(1);
            });
            Ok::<_, io::Error>(())
        });
        if let Err(error) = signals {
            warn!(%error, "no signals can be received; closing");
        }
        self.close();
    }

    async fn reload(&self, reload: &impl Fn() -> Option<String>) {
        if let Some(token) = reload() {
            *self.door.token.write().expect("nobody panics while holding it") = token;
        }
        if let Some((config, certificate, key)) = &self.tls {
            match config.reload_from_pem_file(certificate, key).await {
                Ok(()) => info!("certificate and token are read again"),
                Err(error) => warn!(%error, "the certificate could not be read again; the old one stays"),
            }
        }
    }

    /// Takes no new holds, delivers what is owed as far as time allows, and ends all threads.
    pub fn close(self) {
        *self.door.not_ready.write().expect("nobody panics while holding it") =
            "the engine is draining".to_owned();
        let by = clock::mono() + DRAIN;
        let _ = self.tell.send(Tiding::Drain { by });
        if self.desk.join().is_err() {
            warn!("the control thread had panicked");
        }
        self.handle.graceful_shutdown(Some(LAST_ANSWERS));
        // Their commander went with the control thread.
        for sender in self.senders {
            if sender.join().is_err() {
                warn!("a sender had panicked");
            }
        }
        self.runtime.shutdown_timeout(LAST_ANSWERS);
    }
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
        let listener = Self::bind(address).map_err(|error| format!("--listen {address}: {error}"))?;
        listener.set_nonblocking(true).map_err(|error| format!("--listen {address}: {error}"))?;
        Ok(listener)
    }
}

fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    door: &Arc<Door>,
    handle: &Handle<SocketAddr>,
    tls: Option<(std::path::PathBuf, std::path::PathBuf)>,
) -> Result<Option<(RustlsConfig, std::path::PathBuf, std::path::PathBuf)>, String> {
    let service = http::router(Arc::clone(door)).into_make_service();
    let _inside = runtime.enter();
    let http_error = |error: io::Error| format!("the HTTP door: {error}");
    match tls {
        None => {
            let server = axum_server::from_tcp(listener).map_err(http_error)?;
            let server = server.handle(handle.clone()).first_request_timeout(FIRST_REQUEST);
            runtime.spawn(server.serve(service));
            Ok(None)
        }
        Some((certificate, key)) => {
            let config = runtime
                .block_on(RustlsConfig::from_pem_file(&certificate, &key))
                .map_err(|error| format!("--tls-cert {}: {error}", certificate.display()))?;
            let server = axum_server::from_tcp_rustls(listener, config.clone()).map_err(http_error)?;
            let server = server.handle(handle.clone()).first_request_timeout(FIRST_REQUEST);
            runtime.spawn(server.serve(service));
            Ok(Some((config, certificate, key)))
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| format!("thread {name}: {error}"))
}

/// The token in the data directory; made at first start.
fn kept_token(data: &Path) -> Result<(String, String), String> {
    let path = data.join("token");
    let shown = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => Ok((token.trim().to_owned(), shown)),
        Ok(_) => Err(format!("{shown} is empty; remove it to have a new token made")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token: String = dice::seed().iter().map(|byte| format!("{byte:02x}")).collect();
            write_secret(&path, format!("{token}\n").as_bytes())
                .map_err(|error| format!("{shown}: {error}"))?;
            let mut stderr = io::stderr();
            let _ = writeln!(stderr, "holdmusic: made a token for clients, kept in {shown}: {token}");
            Ok((token, shown))
        }
        Err(error) => Err(format!("{shown}: {error}")),
    }
}
