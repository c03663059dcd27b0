//! An ear: one UDP socket that hears every participant, with the moment at which the kernel had each packet.

use std::{
    collections::HashMap,
    fs,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use holdmusic_media::rtp::{Header, Ssrc};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrStorage, recvmmsg, setsockopt,
    sockopt::{Ipv4PacketInfo, RcvBuf, RcvBufForce, ReceiveTimestampns},
};

use crate::probe::{go_ahead, pin};

/// One RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// When the kernel had it, in nanoseconds since 1970. On loopback that is inside the sender's system call.
    pub at_ns: u64,
    /// Its sequence number.
    pub sequence: u16,
    /// Its timestamp.
    pub timestamp: u32,
}

/// Packets of every source, in order of arrival.
pub type Streams = HashMap<Ssrc, Vec<Heard>>;

/// Hears in a thread of its own until it is asked for what it heard.
pub struct Ear {
    port: u16,
    hearing: Arc<AtomicBool>,
    thread: JoinHandle<Streams>,
}

/// Packets taken from the kernel at once.
const BATCH: usize = 256;

impl Ear {
    /// Listens on a free port of 127.0.0.1. `each` is told of every packet as it comes.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open(each: impl FnMut(Ssrc, Heard) + Send + 'static) -> io::Result<Self> {
        Self::open_at("127.0.0.1:0", false, each)
    }

    /// The same on every address of 127/8, so that each of thousands of legs has a destination of its own.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open_wide(each: impl FnMut(Ssrc, Heard) + Send + 'static) -> io::Result<Self> {
        Self::open_at("0.0.0.0:0", false, each)
    }

    /// The same for senders that give many legs one SSRC: instead of an SSRC a stream has the bits of the address that
    /// it was sent to.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open_by_address(each: impl FnMut(Ssrc, Heard) + Send + 'static) -> io::Result<Self> {
        Self::open_at("0.0.0.0:0", true, each)
    }

    fn open_at(
        address: &str,
        by_address: bool,
        mut each: impl FnMut(Ssrc, Heard) + Send + 'static,
    ) -> io::Result<Self> {
        let socket = listening(address)?;
        if by_address {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        }
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        let port = socket.local_addr()?.port();
        let hearing = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&hearing);
        let thread = thread::spawn(move || {
            let mut streams = Streams::new();
            while on.load(Relaxed) {
                hear(&socket, |ssrc, heard| {
                    each(ssrc, heard);
                    streams.entry(ssrc).or_default().push(heard);
                });
            }
            streams
        });
        Ok(Self { port, hearing, thread })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops and gives what was heard.
    pub fn close(self) -> Streams {
        self.hearing.store(false, Relaxed);
        self.thread.join().expect("the ear does not panic")
    }
}

/// Takes every datagram and counts it, at the least price, so that no queue is ever full.
pub struct Drain {
    port: u16,
    draining: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Drain {
    /// Listens on a free port of every address of 127/8, in a thread on `core`.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open(core: usize) -> io::Result<Self> {
        let socket = listening("0.0.0.0:0")?;
        let port = socket.local_addr()?.port();
        let draining = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&draining);
        let thread = thread::spawn(move || {
            pin(core);
            let mut count = 0;
            while on.load(Relaxed) {
                hear_any(&socket, |_, _| count += 1);
            }
            count
        });
        Ok(Self { port, draining, thread })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops, and says how many came.
    pub fn close(self) -> u64 {
        self.draining.store(false, Relaxed);
        self.thread.join().expect("the drain does not panic")
    }
}

/// Hears in a thread of its own and keeps nothing: `each` is given every datagram, RTP or not, and the moment at which
/// the kernel had it, in nanoseconds since 1970. For runs of hours, in which nobody could keep every packet.
pub struct Listener {
    port: u16,
    hearing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens on a free port of every address of 127/8, in a thread on `core`, ahead of everything there that has no
    /// real-time priority: its queue holds a tenth of a second of what a sender can send.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open_wide(core: usize, mut each: impl FnMut(&[u8], u64) + Send + 'static) -> io::Result<Self> {
        Self::open(Some(core), move |datagram, told| {
            if let Some(at_ns) = told.at_ns {
                each(datagram, at_ns);
            }
        })
    }

    /// The same, where `each` is told as well from which port a datagram comes, and on any core at the usual priority: so
    /// it takes no time from an engine beside it, and its queue may be full.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn open_beside(mut each: impl FnMut(&[u8], u64, u16) + Send + 'static) -> io::Result<Self> {
        Self::open(None, move |datagram, told| {
            if let (Some(at_ns), Some(from)) = (told.at_ns, told.from) {
                each(datagram, at_ns, from);
            }
        })
    }

    /// Ahead of others on `core`, or anywhere among them.
    fn open(core: Option<usize>, mut each: impl FnMut(&[u8], Told) + Send + 'static) -> io::Result<Self> {
        let socket = listening("0.0.0.0:0")?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        let port = socket.local_addr()?.port();
        let hearing = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&hearing);
        let thread = thread::spawn(move || {
            if let Some(core) = core {
                pin(core);
                go_ahead(5);
            }
            while on.load(Relaxed) {
                hear_any(&socket, &mut each);
            }
        });
        Ok(Self { port, hearing, thread })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Datagrams that the kernel dropped because this socket's queue was full: nobody else's loss (udp(7), proc(5)).
    pub fn dropped(&self) -> u64 {
        let sockets = fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let here = format!("00000000:{:04X}", self.port);
        let dropped = sockets.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.nth(1)? == here).then(|| fields.last()?.parse().ok()).flatten()
        });
        dropped.unwrap_or(0)
    }

    /// Stops.
    pub fn close(self) {
        self.hearing.store(false, Relaxed);
        self.thread.join().expect("a listener does not panic");
    }
}

/// A socket with room for what comes while its thread does not run, that looks up from waiting now and then.
fn listening(address: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Beyond the system's limit needs a privilege; without it the largest allowed one is taken.
    if setsockopt(&socket, RcvBufForce, &(16 << 20)).is_err() {
        setsockopt(&socket, RcvBuf, &(16 << 20))?;
    }
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

fn hear(socket: &UdpSocket, mut each: impl FnMut(Ssrc, Heard)) {
    hear_any(socket, |datagram, told| {
        if let (Ok((header, _)), Some(at_ns)) = (Header::read(datagram), told.at_ns) {
            let stream = told.address.map_or(header.ssrc, |address| Ssrc(address.to_bits()));
            each(stream, Heard { at_ns, sequence: header.sequence.0, timestamp: header.timestamp.0 });
        }
    });
}

/// What the kernel tells of a datagram, if the socket asks for it.
#[derive(Clone, Copy, Default)]
struct Told {
    /// When it had it.
    at_ns: Option<u64>,
    /// Where it was sent to.
    address: Option<Ipv4Addr>,
    /// The port that it was sent from.
    from: Option<u16>,
}

/// Every datagram that is there.
fn hear_any(socket: &UdpSocket, mut each: impl FnMut(&[u8], Told)) {
    let mut buffers = vec![[0u8; 256]; BATCH];
    let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let space = nix::cmsg_space!(nix::sys::time::TimeSpec, nix::libc::in_pktinfo);
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(space));
    let flags = MsgFlags::MSG_WAITFORONE;
    let Ok(messages) = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) else {
        return;
    };
    for message in messages {
        let from = message.address.as_ref().and_then(SockaddrStorage::as_sockaddr_in).map(SockaddrIn::port);
        let mut told = Told { from, ..Told::default() };
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => {
                    told.at_ns = Some((time.tv_sec() * 1_000_000_000 + time.tv_nsec()).cast_unsigned());
                }
                ControlMessageOwned::Ipv4PacketInfo(to) => {
                    told.address = Some(Ipv4Addr::from_bits(u32::from_be(to.ipi_addr.s_addr)));
                }
                _ => {}
            }
        }
        if let Some(datagram) = message.iovs().next() {
            each(datagram, told);
        }
    }
}

/// The grid of one stream at 48 kHz as its packets come: where they are due by their timestamps, of which the earliest
/// packet so far says where it is.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    timestamp: u32,
    due_ns: i64,
    earliest_ns: i64,
}

impl Grid {
    /// The grid of a stream whose first packet this is.
    pub fn new(at_ns: u64, timestamp: u32) -> Self {
        Self { timestamp, due_ns: at_ns.cast_signed(), earliest_ns: 0 }
    }

    /// How late a packet is, in nanoseconds.
    pub fn late_ns(&mut self, at_ns: u64, timestamp: u32) -> u64 {
        let units = timestamp.wrapping_sub(self.timestamp).cast_signed();
        self.timestamp = timestamp;
        // Exact for whole milliseconds, and a packet interval has twenty.
        self.due_ns += i64::from(units) * 1_000_000 / 48;
        let offset = at_ns.cast_signed() - self.due_ns;
        self.earliest_ns = self.earliest_ns.min(offset);
        (offset - self.earliest_ns).cast_unsigned()
    }
}

/// Packets that came late, each with the time it was late by, against the grid of its own stream: the earliest packet
/// of a stream says where its grid is.
pub fn lateness_ns(stream: &[Heard], units_per_second: u64) -> Vec<(u64, u64)> {
    let Some(first) = stream.first() else { return Vec::new() };
    let due_ns = |heard: &Heard| {
        u64::from(heard.timestamp.wrapping_sub(first.timestamp)) * 1_000_000_000 / units_per_second
    };
    let origin = stream.iter().map(|heard| heard.at_ns.saturating_sub(due_ns(heard))).min().unwrap_or(0);
    stream.iter().map(|heard| (heard.at_ns, heard.at_ns - due_ns(heard) - origin)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_where_the_earliest_packet_was_and_skips_are_not_late() {
        let start = 1_000_000_000;
        let mut grid = Grid::new(start, 0xffff_fc40);
        let mut late = |tick: u32, after_us: u64| {
            let at_ns = start + u64::from(tick) * 20_000_000 + after_us * 1_000 - 500_000;
            grid.late_ns(at_ns, 0xffff_fc40u32.wrapping_add(960 * tick)) / 1_000
        };
        // The timestamp wraps at the first, the third shows that the stream was late from its beginning.
        let found = [late(1, 700), late(2, 500), late(3, 100), late(4, 500), late(50, 700)];
        assert_eq!(found, [200, 0, 0, 400, 600]);
    }
}
