//! A connection as it is accepted -> one that has a place and ends by itself when its client is slow, silent or gone; or
//! none. Beyond the limit the newest are told so, a few at a time, and the others are closed.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::http::Request;
use axum_server::{
    accept::{Accept, DefaultAcceptor},
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use holdmusic_media::MediaTime;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tower_service::Service;
use tracing::warn;

use crate::{clock, metrics::ConnectionCounts};

/// Connections beyond the limit that are answered all the same, with 503 for all but the questions of whoever looks
/// after the engine. More at a time are closed without a word.
const PORCH: usize = 64;

/// How long one of those may stay.
const PORCH_TIME: Duration = Duration::from_secs(2);

/// Open files that are no connections of clients: 1 024 attempts at notifications (`settings.rs`), and 512 for fetches,
/// dry runs, media sockets, the data directory, and what libraries open.
const OTHER_FILES: u64 = 1_024 + 512;

/// What clients may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at a time.
    pub most: usize,
    /// How long the TLS handshake may take, and then the head of the first request.
    pub head: Duration,
    /// How long a connection may be kept without a request, how long the head of the next one may take from then on, and
    /// how long a client may read nothing of an answer.
    pub idle: Duration,
}

impl Default for ConnectionLimits {
    /// 10 000: half the calls of a full house, each with a bot that keeps a connection of its own, and 200 MB while they are idle. 10 s and
    /// 75 s: what web servers have, and longer than most proxies keep theirs.
    fn default() -> Self {
        Self { most: 10_000, head: Duration::from_secs(10), idle: Duration::from_secs(75) }
    }
}

impl ConnectionLimits {
    /// As many open files as the system allows us (usually a process starts with 1 024, for the sake of programs that use
    /// `select`, and may have many times as many), and as many connections as that is enough for.
    #[must_use]
    pub fn with_files(self) -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                warn!(%error, "the limit of open files stays as it is");
            }
        }
        let Some(files) = getrlimit(Resource::Nofile).current else { return self };
        let most = enough_for(files);
        if most >= self.most {
            return self;
        }
        warn!(
            "the limit of open files is {files}, too small for --max-connections {}: at most {most} connections are taken; \
             {} open files are enough (LimitNOFILE, ulimit -n)",
            self.most,
            self.most as u64 + OTHER_FILES
        );
        Self { most, ..self }
    }
}

/// Connections for which so many open files are enough: with few, half of them.
fn enough_for(files: u64) -> usize {
    usize::try_from(files - OTHER_FILES.min(files / 2)).unwrap_or(usize::MAX)
}

/// Gives connections their places. It stands before TLS.
#[derive(Clone, Debug)]
pub struct Places {
    inside: Arc<Semaphore>,
    porch: Arc<Semaphore>,
    idle: Duration,
    counts: Arc<ConnectionCounts>,
}

impl Places {
    /// So many.
    pub fn new(limits: ConnectionLimits, counts: Arc<ConnectionCounts>) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self { inside: semaphore(limits.most), porch: semaphore(PORCH), idle: limits.idle, counts }
    }

    /// TLS behind them.
    pub fn with_tls(self, config: RustlsConfig, head: Duration) -> RustlsAcceptor<Self> {
        RustlsAcceptor::<DefaultAcceptor>::new(config).handshake_timeout(head).acceptor(self)
    }
}

impl<S> Accept<TcpStream, S> for Places {
    type Stream = Kept<TcpStream>;
    type Service = Visit<S>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (place, crowded) = match Arc::clone(&self.inside).try_acquire_owned() {
            Ok(place) => (place, false),
            Err(_) => {
                self.counts.refuse();
                match Arc::clone(&self.porch).try_acquire_owned() {
                    Ok(place) => (place, true),
                    Err(_) => return ready(Err(io::ErrorKind::ConnectionRefused.into())),
                }
            }
        };
        self.counts.enter();
        let line = Arc::new(Line { crowded, under_way: AtomicUsize::new(0) });
        let now = clock::mono();
        let kept = Kept {
            stream,
            idle: if crowded { PORCH_TIME } else { self.idle },
            leave_by: crowded.then(|| now + PORCH_TIME),
            moved: now,
            blocked: None,
            timer: None,
            line: Arc::clone(&line),
            counts: Arc::clone(&self.counts),
            _place: place,
        };
        ready(Ok((kept, Visit { service, line })))
    }
}

/// What a connection's stream and its service know of each other.
#[derive(Debug)]
struct Line {
    crowded: bool,
    under_way: AtomicUsize,
}

/// The service of one connection: every request knows that it is under way.
#[derive(Clone, Debug)]
pub struct Visit<S> {
    service: S,
    line: Arc<Line>,
}

impl<B, S: Service<Request<B>>> Service<Request<B>> for Visit<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.line.under_way.fetch_add(1, Relaxed);
        request.extensions_mut().insert(UnderWay(Arc::new(Counted(Arc::clone(&self.line)))));
        self.service.call(request)
    }
}

/// Stands in a request's extensions: as long as that is there, its connection is not idle.
#[derive(Clone, Debug)]
pub struct UnderWay(Arc<Counted>);

impl UnderWay {
    /// Whether the connection came when there was no room.
    pub(super) fn is_crowded(&self) -> bool {
        self.0.0.crowded
    }
}

#[derive(Debug)]
struct Counted(Arc<Line>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// A connection with a place. What neither comes nor leaves for long enough is an error, and ends it.
#[derive(Debug)]
pub struct Kept<S> {
    stream: S,
    idle: Duration,
    leave_by: Option<MediaTime>,
    /// When the last byte came or left.
    moved: MediaTime,
    /// Since when there is no room for what is to leave.
    blocked: Option<MediaTime>,
    /// Wakes this connection's task for the next look.
    timer: Option<Pin<Box<Sleep>>>,
    line: Arc<Line>,
    counts: Arc<ConnectionCounts>,
    _place: OwnedSemaphorePermit,
}

impl<S> Kept<S> {
    /// When it is over, as it stands: a request under way takes as long as it takes.
    fn over(&self, now: MediaTime) -> MediaTime {
        let silent = match self.line.under_way.load(Relaxed) {
            0 => self.moved + self.idle,
            _ => now + self.idle,
        };
        let stuck = self.blocked.map_or(MediaTime::NEVER, |since| since + self.idle);
        silent.min(stuck).min(self.leave_by.unwrap_or(MediaTime::NEVER))
    }

    /// Nothing moves: is it over? If not, this task looks again when it may be.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            let now = clock::mono();
            let over = self.over(now);
            if over <= now {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(over.since(now))));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }

    fn moves(&mut self) {
        self.moved = clock::mono();
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            self.blocked.get_or_insert_with(clock::mono);
            return self.wait(context);
        }
        self.blocked = None;
        self.moves();
        written
    }
}

impl<S> Drop for Kept<S> {
    fn drop(&mut self) {
        self.counts.leave();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Kept<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            return self.wait(context);
        }
        self.moves();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Kept<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_files_half_of_them_are_for_connections() {
        assert_eq!(enough_for(256), 128);
        assert_eq!(enough_for(4_096), 2_560);
        assert_eq!(enough_for(11_536), 10_000);
    }
}
