//! [`Sink`]: where datagrams leave the house, a [`Batch`] at a time.

use std::net::SocketAddr;

/// Datagrams ready to leave, in one buffer, each with its destination. Room is made when legs come
/// ([`Batch::make_room`]); filling and sending allocate nothing.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
    filled: usize,
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    start: usize,
    len: usize,
    to: SocketAddr,
}

impl Batch {
    /// Room for `datagrams` of up to `max_len` bytes each.
    pub fn make_room(&mut self, datagrams: usize, max_len: usize) {
        let wanted = datagrams * max_len;
        if self.bytes.len() < wanted {
            // New zeroes come from the system untouched, and take no memory until a datagram is written there: most are a
            // tenth as long as they may be. Growing in place would touch them all.
            let mut bytes = vec![0; wanted.next_power_of_two()];
            bytes[..self.filled].copy_from_slice(&self.bytes[..self.filled]);
            self.bytes = bytes;
        }
        self.datagrams.reserve(datagrams.saturating_sub(self.datagrams.len()));
    }

    /// Empties the batch; its room stays.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.filled = 0;
    }

    /// The bytes that the next datagram may take; short (or empty) when room was not made.
    pub fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// The first `len` bytes of [`Batch::free`] are a datagram to `to`.
    pub fn push(&mut self, len: usize, to: SocketAddr) {
        self.datagrams.push(Datagram { start: self.filled, len, to });
        self.filled += len;
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The datagram at `index` (below [`Batch::len`]) and where it goes.
    pub fn datagram(&self, index: usize) -> (&[u8], SocketAddr) {
        let datagram = self.datagrams[index];
        (&self.bytes[datagram.start..][..datagram.len], datagram.to)
    }
}

/// Where datagrams leave the house: a socket, or a simulated network.
pub trait Sink {
    /// Hands every datagram of `batch` to the network, in order, without waiting. Those that the network refused
    /// are pushed to `refused` by index; each costs itself only. `refused` has room for all.
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>);
}
