//! The media socket of a sender: batches of datagrams out, RTCP and ICMP errors in.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use arrayvec::ArrayVec;
use holdmusic_media::sink::{Batch, Sink};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags,
        SocketType, bind, getsockname, recvfrom, sendmmsg, sendto, socket_with, sockopt,
    },
};

/// Datagrams per `sendmmsg`: from 32 up the price per packet is flat (measured), and 64 headers fit on the stack.
const BATCH: usize = 64;

/// Expedited Forwarding, RFC 3246, as the upper six bits of the traffic class.
const DSCP_EF: u8 = 46 << 2;

/// Bytes of send buffer: a burst of 2 500 packets of 92 bytes, as the kernel accounts for them (768 each).
const SEND_BUFFER: usize = 4 << 20;

/// Bytes of receive buffer: 5 000 small datagrams, as the kernel accounts for them.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A UDP socket that sends for one sender.
#[derive(Debug)]
pub struct MediaSocket {
    socket: OwnedFd,
    local: SocketAddr,
}

impl MediaSocket {
    /// Binds to `address` (port 0: any), never blocking, marked Expedited Forwarding if `dscp_ef`.
    ///
    /// # Errors
    ///
    /// If the address is not ours or the port is in use.
    pub fn bind(address: SocketAddr, dscp_ef: bool) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        // Larger than the system's limit needs a privilege; without it the largest allowed one is taken.
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
        }
        // What comes in bursts waits here: checks of browsers must not be lost among it.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        // "Port unreachable" comes to the error queue, with the destination that it is about. Don't fragment spares
        // the kernel the choice of an identification (3 to 13 % of the price of a packet, measured).
        if address.is_ipv4() {
            setsockopt(&socket, Ipv4RecvErr, &true)?;
            sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
        } else {
            setsockopt(&socket, Ipv6RecvErr, &true)?;
        }
        if dscp_ef && address.is_ipv4() {
            sockopt::set_ip_tos(&socket, DSCP_EF)?;
        } else if dscp_ef {
            sockopt::set_ipv6_tclass(&socket, u32::from(DSCP_EF))?;
        }
        bind(&socket, &address)?;
        let local = getsockname(&socket)?.try_into()?;
        Ok(Self { socket, local })
    }

    /// Where it is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram, without waiting: what the network does not take is lost, as it may be under way. Also from other
    /// threads than the sender's; the kernel has one after the other.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) {
        // A pending ICMP error of some other destination shows up once, and is gone with it.
        for _ in 0..2 {
            match sendto(&self.socket, datagram, SendFlags::DONTWAIT, &to) {
                Err(Errno::CONNREFUSED | Errno::INTR | Errno::HOSTUNREACH | Errno::NETUNREACH) => {}
                _ => return,
            }
        }
    }

    /// The next datagram that came in and where it came from; `None` if there is none. Longer ones are cut to the
    /// buffer.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<(&'a [u8], SocketAddr)> {
        loop {
            match recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((len, _, from)) => {
                    let from = SocketAddr::try_from(from?).ok()?;
                    return Some((&buffer[..len], from));
                }
                // An ICMP error that waits; it is also in the error queue.
                Err(Errno::CONNREFUSED | Errno::INTR | Errno::HOSTUNREACH | Errno::NETUNREACH) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next destination that answered "port unreachable"; `None` if there is none.
    pub fn unreachable(&self) -> Option<SocketAddr> {
        loop {
            // The datagram that caused the error comes back; nobody needs it.
            let mut datagram = [0; 16];
            let mut slices = [io::IoSliceMut::new(&mut datagram)];
            let mut control = nix::cmsg_space!(libc_sock_extended_err::Room);
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message =
                recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
                    .ok()?;
            let destination = message.address.as_ref().and_then(to_std);
            let refused = message.cmsgs().ok()?.any(|control| match control {
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    error.ee_errno == Errno::CONNREFUSED.raw_os_error().cast_unsigned()
                }
                _ => false,
            });
            if let (true, Some(destination)) = (refused, destination) {
                return Some(destination);
            }
        }
    }
}

/// Room for an extended error and the offender's address in a control message.
mod libc_sock_extended_err {
    /// 16 bytes of `sock_extended_err` and 28 of `sockaddr_in6`.
    pub(super) type Room = [u8; 44];
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()))
}

impl Sink for &MediaSocket {
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>) {
        let mut next = 0;
        while next < batch.len() {
            let end = batch.len().min(next + BATCH);
            next += self.send_some(batch, next..end, refused);
        }
    }
}

impl MediaSocket {
    /// Sends a few datagrams; returns how many are dealt with, at least one.
    fn send_some(&self, batch: &Batch, range: std::ops::Range<usize>, refused: &mut Vec<usize>) -> usize {
        let mut addresses = ArrayVec::<SocketAddrAny, BATCH>::new();
        let mut slices = ArrayVec::<[IoSlice<'_>; 1], BATCH>::new();
        let mut controls = ArrayVec::<SendAncillaryBuffer<'_, '_, '_>, BATCH>::new();
        for index in range.clone() {
            let (bytes, to) = batch.datagram(index);
            addresses.push(to.into());
            slices.push([IoSlice::new(bytes)]);
            controls.push(SendAncillaryBuffer::default());
        }
        let mut headers = ArrayVec::<MMsgHdr<'_>, BATCH>::new();
        for ((address, slice), control) in addresses.iter().zip(&slices).zip(&mut controls) {
            headers.push(MMsgHdr::new_with_addr(address, slice, control));
        }
        // An error belongs to the first datagram of the call. A pending ICMP error of some other destination shows up
        // as ECONNREFUSED once, and is gone with it: the second try tells whose error it is.
        for last_try in [false, true] {
            match sendmmsg(self.socket.as_fd(), &mut headers, SendFlags::DONTWAIT) {
                Ok(sent) if sent > 0 => return sent,
                Ok(_) => {}
                Err(Errno::CONNREFUSED | Errno::INTR | Errno::HOSTUNREACH | Errno::NETUNREACH)
                    if !last_try => {}
                Err(_) => break,
            }
        }
        refused.push(range.start);
        1
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a door tested on real sockets of the loopback interface")]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;

    fn batch(datagrams: &[(&[u8], SocketAddr)]) -> Batch {
        let mut batch = Batch::default();
        batch.make_room(datagrams.len(), 64);
        for (bytes, to) in datagrams {
            batch.free()[..bytes.len()].copy_from_slice(bytes);
            batch.push(bytes.len(), *to);
        }
        batch
    }

    #[test]
    fn a_batch_arrives_where_it_is_sent_and_a_refused_datagram_costs_only_itself() {
        let socket = MediaSocket::bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let ears: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let to: Vec<_> = ears.iter().map(|ear| ear.local_addr().unwrap()).collect();
        // A v4 socket cannot send to a v6 address: EAFNOSUPPORT for this one.
        let nowhere = "[::1]:9".parse().unwrap();
        let batch = batch(&[(b"one", to[0]), (b"lost", nowhere), (b"two", to[1]), (b"three", to[2])]);
        let mut refused = vec![];
        (&socket).send(&batch, &mut refused);
        assert_eq!(refused, [1]);
        for (ear, expected) in ears.iter().zip([&b"one"[..], b"two", b"three"]) {
            ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 64];
            let (len, from) = ear.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
            assert_eq!(from, socket.local());
        }
    }

    #[test]
    fn a_dead_destination_is_named_and_the_others_get_every_datagram() {
        let socket = MediaSocket::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let ear = UdpSocket::bind("127.0.0.1:0").unwrap();
        ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let alive = ear.local_addr().unwrap();
        let dead = {
            let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap()
        };
        let mut named = vec![];
        for round in 0..20u8 {
            let batch = batch(&[(&[round, 0], dead), (&[round, 1], alive), (&[round, 2], alive)]);
            (&socket).send(&batch, &mut vec![]);
            let mut buffer = [0; 8];
            for part in 1..3 {
                let (len, _) = ear.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..len], [round, part]);
            }
            named.extend(std::iter::from_fn(|| socket.unreachable()));
        }
        assert!(!named.is_empty());
        assert!(named.iter().all(|destination| *destination == dead), "{named:?}");
    }
}
