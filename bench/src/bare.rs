//! A bare sender: packets that were built beforehand, sent in time and nothing else. It shows what the kernel charges.

use std::{
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use holdmusic_media::rtp::{HEADER_LEN, Header, PayloadType, SeqNo, Ssrc, Timestamp};
use rustix::{
    net::{
        AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind,
        sendmmsg, sendto, socket_with, sockopt,
    },
    thread::ClockId,
};

use crate::{
    ours::per_packet_ns,
    probe::{now_ns, pin, sleep_until},
};

/// Bytes of payload in a packet: Opus at 32 kbit/s.
const PAYLOAD: usize = 80;

/// Slots of a millisecond in a packet interval.
const SLOTS: usize = 20;

/// Nanoseconds of a slot.
const SLOT_NS: u64 = 1_000_000;

/// Where the n-th of many legs hears: an address of its own in 127/8, all with the same port.
pub fn destination(number: u32, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x7f00_0001 + number), port))
}

/// A socket as the engine's: never blocking, a send buffer for thousands, don't fragment.
///
/// # Errors
///
/// If there is no socket to be had.
pub fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    if sockopt::set_socket_send_buffer_size_force(&socket, 4 << 20).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, 4 << 20)?;
    }
    sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(socket)
}

/// One packet for each of `legs` destinations, ready to leave.
pub struct Packets {
    bytes: Vec<[u8; HEADER_LEN + PAYLOAD]>,
    addresses: Vec<SocketAddrAny>,
}

impl Packets {
    /// For destinations with `port`.
    pub fn new(legs: u32, port: u16) -> Self {
        let packet = |number: u32| {
            let mut bytes = [0x5a; HEADER_LEN + PAYLOAD];
            let header = Header {
                marker: false,
                payload_type: PayloadType::new(111).expect("a dynamic one"),
                sequence: SeqNo(0),
                timestamp: Timestamp(0),
                ssrc: Ssrc(number),
            };
            header.write(bytes.first_chunk_mut().expect("longer than a header"));
            bytes
        };
        Self {
            bytes: (0..legs).map(packet).collect(),
            addresses: (0..legs).map(|number| destination(number, port).into()).collect(),
        }
    }

    /// Has `send` called with all headers in a form that `sendmmsg` takes.
    pub fn with_headers<T>(&self, send: impl FnOnce(&mut [MMsgHdr<'_>]) -> T) -> T {
        let slices: Vec<_> = self.bytes.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
        let mut controls: Vec<_> = self.bytes.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut headers: Vec<_> = self
            .addresses
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
            .collect();
        send(&mut headers)
    }

    /// Sends each once, with a system call of its own.
    pub fn send_singly(&self, socket: &OwnedFd) {
        for (bytes, address) in self.bytes.iter().zip(&self.addresses) {
            let _ = sendto(socket, bytes, SendFlags::DONTWAIT, address);
        }
    }
}

/// Sends `headers` in batches of `batch`; a refused one is passed over.
pub fn send_all(socket: &OwnedFd, mut headers: &mut [MMsgHdr<'_>], batch: usize) {
    while !headers.is_empty() {
        let now = batch.min(headers.len());
        let sent = sendmmsg(socket.as_fd(), &mut headers[..now], SendFlags::DONTWAIT).unwrap_or(1).max(1);
        headers = &mut headers[sent..];
    }
}

/// Sends `legs` packets every 20 ms, spread over slots of a millisecond, while `on` says so; counts them in `sent`.
/// Ends when `on` is the only one left.
///
/// # Errors
///
/// If there is no socket to be had.
pub fn pace(legs: u32, port: u16, batch: usize, on: &Arc<AtomicBool>, sent: &AtomicU64) -> io::Result<()> {
    let socket = socket()?;
    let packets = Packets::new(legs, port);
    packets.with_headers(|headers| {
        let share = headers.len().div_ceil(SLOTS);
        let mut place = now_ns(ClockId::Monotonic) / SLOT_NS;
        while Arc::strong_count(on) > 1 {
            place = (place + 1).max(now_ns(ClockId::Monotonic) / SLOT_NS);
            sleep_until(place * SLOT_NS);
            if !on.load(Relaxed) {
                // Out of the way of whoever is measured instead.
                place += SLOTS as u64;
                continue;
            }
            let slot = usize::try_from(place % SLOTS as u64).expect("below the number of slots");
            let from = (slot * share).min(headers.len());
            let to = (from + share).min(headers.len());
            send_all(&socket, &mut headers[from..to], batch);
            sent.fetch_add((to - from) as u64, Relaxed);
        }
    });
    Ok(())
}

/// Datagrams in one `sendmmsg`, as in `udp.rs`.
const BATCH: usize = 64;

/// A bare sender, which ends with this value.
pub struct Bare {
    on: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: i32,
}

impl Bare {
    /// Starts on `core` with `legs` destinations, silent at first.
    pub fn start(legs: u32, port: u16, core: usize) -> Self {
        let (on, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (name, named) = mpsc::channel();
        let (flag, count) = (Arc::clone(&on), Arc::clone(&sent));
        thread::spawn(move || {
            pin(core);
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            let _ = name.send(rustix::thread::gettid().as_raw_nonzero().get());
            pace(legs, port, BATCH, &flag, &count).expect("a socket can be had");
        });
        Self { on, sent, thread: named.recv().expect("the thread tells its name first") }
    }

    /// Its thread.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// Packets so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Whether it sends.
    pub fn set_on(&self, on: bool) {
        self.on.store(on, Relaxed);
    }

    /// Processor time for each packet during `slice`, in nanoseconds, with `settle` before it and behind it.
    ///
    /// # Errors
    ///
    /// If its thread has ended.
    pub fn per_packet_ns(&self, slice: Duration, settle: Duration) -> io::Result<f64> {
        self.set_on(true);
        thread::sleep(settle);
        let cost = per_packet_ns(self.thread, slice, || self.sent());
        self.set_on(false);
        thread::sleep(settle);
        cost
    }
}
