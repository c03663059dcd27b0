//! [`Ear`]: a participant's UDP port. A thread of its own hears, so that nothing is missed while a test talks.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use holdmusic_codecs::Codec;
use holdmusic_media::{Decoded, Hearing, MediaTime, Receiver};

use crate::engine::PATIENCE;

/// Who hears.
pub(crate) struct Ear {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Receiver>>,
}

impl Ear {
    /// Hears until the end of the test's process.
    pub(crate) fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::new(Receiver::new(Codec::Opus)));
        let receiver = Arc::clone(&heard);
        thread::spawn(move || {
            let (began, mut datagram) = (Instant::now(), [0; 2000]);
            while let Ok(len) = socket.recv(&mut datagram) {
                let at = u64::try_from(began.elapsed().as_nanos()).expect("a test is short");
                let mut receiver = receiver.lock().expect("nobody panics while holding it");
                receiver.handle_datagram(MediaTime::from_nanos(at), &datagram[..len]);
            }
        });
        Self { address, heard }
    }

    /// RTP packets so far.
    pub(crate) fn packets(&self) -> u64 {
        self.heard.lock().expect("nobody panics while holding it").packets()
    }

    pub(crate) fn hearing(&self) -> Hearing {
        self.heard.lock().expect("nobody panics while holding it").hearing()
    }

    pub(crate) fn decode(&self) -> Decoded {
        self.heard.lock().expect("nobody panics while holding it").decode()
    }

    /// Waits until so many packets have been heard, for as long as they take and then some.
    pub(crate) fn hear(&self, packets: u64) {
        let until = Instant::now() + Duration::from_millis(20 * packets) + PATIENCE;
        while self.packets() < packets {
            assert!(Instant::now() < until, "{} of {packets} packets were heard", self.packets());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
