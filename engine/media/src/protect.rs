//! [`Protector`]: SRTP for one leg. A packet comes in, the same packet encrypted and authenticated goes out (RFC 3711).
//!
//! For what we send only. The two suites are those that every SDES peer knows: AES in counter mode with HMAC-SHA1.
//! A packet is protected in place, nothing is allocated, and what depends on the keys alone (the schedule of AES, the
//! two pads of HMAC) is computed once: set up for every packet it would cost half as much again.

use std::fmt;

use aes::{
    Aes128Enc,
    cipher::{InnerIvInit, KeyInit, StreamCipherCore},
};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac};
use sha1::{Sha1, block_api::Sha1Core};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::{
    keys::{MasterKey, Suite},
    rtp::{HEADER_LEN, SeqNo},
};

/// The most bytes that a packet grows by: SRTCP's index and its tag.
pub const MAX_GROWTH: usize = INDEX_LEN + LONG_TAG_LEN;

/// Bytes of SRTCP's index with its E bit, and of the roll-over counter (RFC 3711 sections 3.4 and 4.2).
const INDEX_LEN: usize = 4;

/// 80 bits (RFC 4568 section 6.2).
const LONG_TAG_LEN: usize = 10;

/// 128 bits (RFC 4568 section 6.2).
const MASTER_KEY_LEN: usize = 16;

/// 112 bits (RFC 4568 section 6.2).
const MASTER_SALT_LEN: usize = 14;

/// 160 bits: the authentication key of HMAC-SHA1 (RFC 3711 section 5.2).
const AUTHENTICATION_KEY_LEN: usize = 20;

/// The header of RTCP and the SSRC of who speaks: the part of a compound that stays readable (RFC 3711 section 3.4).
const RTCP_CLEAR_LEN: usize = 8;

/// The longest datagram. A keystream has room for sixteen times as much before it would run into the packet index.
const MAX_DATAGRAM_LEN: usize = 65_535;

/// The last index of an SRTCP packet: 31 bits (RFC 3711 section 3.4).
const LAST_SRTCP_INDEX: u32 = u32::MAX >> 1;

/// The bit that says that an SRTCP packet is encrypted (RFC 3711 section 3.4).
const ENCRYPTED: u32 = 1 << 31;

/// The outgoing half of one SRTP session: its keys, and how far it has counted.
///
/// Its keys are wiped when it is dropped. What a move leaves behind is not, so it is made once, where it stays.
pub struct Protector {
    suite: Suite,
    rtp: Keys,
    rtcp: Keys,
    /// Goes with `last`, or with the first packet if there was none.
    rollover_counter: u32,
    last: Option<SeqNo>,
    /// Of the next packet; one more than [`LAST_SRTCP_INDEX`] when all are spent.
    srtcp_index: u32,
}

impl Protector {
    /// A session that begins: both counters are zero. The suite is one in counter mode.
    pub fn new(master: &MasterKey) -> Self {
        let suite = master.suite();
        let cipher = Aes128Enc::new_from_slice(master.key()).expect("a suite in counter mode");
        let salt = shifted(master.salt().first_chunk().expect("a suite in counter mode"));
        Self {
            suite,
            rtp: Keys::derive(&cipher, &salt, Labels::RTP),
            rtcp: Keys::derive(&cipher, &salt, Labels::RTCP),
            rollover_counter: 0,
            last: None,
            srtcp_index: 0,
        }
    }

    /// The suite of the session.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Protects the RTP packet in the first `len` bytes of `room` in place; returns its new length.
    ///
    /// Sequence numbers go forward, by less than 2^16 a step: a lower one than the last has come round. The same
    /// one again is the same place in the stream, for a packet that was prepared but never sent. Two packets that
    /// are both sent must never share one, because they would share a keystream (RFC 3711 section 9.1).
    ///
    /// # Errors
    ///
    /// [`ProtectError`], and neither the packet nor the counter has changed.
    pub fn protect(&mut self, room: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let grown = grown(room, len, self.suite.rtp_tag_len())?;
        let clear = rtp_clear_len(&room[..len]).ok_or(ProtectError::Malformed)?;
        let sequence = SeqNo(u16::from_be_bytes([room[2], room[3]]));
        let rollover_counter = self.rollover_counter(sequence).ok_or(ProtectError::Spent)?;
        self.rollover_counter = rollover_counter;
        self.last = Some(sequence);
        let index = u64::from(rollover_counter) << 16 | u64::from(sequence.0);
        self.rtp.encrypt(ssrc_at(room, 8), index, &mut room[clear..len]);
        // The tag covers the packet and the roll-over counter behind it (section 4.2), which is not sent: it stands
        // for a moment where the tag will stand.
        room[len..len + INDEX_LEN].copy_from_slice(&rollover_counter.to_be_bytes());
        let tag = self.rtp.tag(&room[..len + INDEX_LEN]);
        room[len..grown].copy_from_slice(&tag[..grown - len]);
        Ok(grown)
    }

    /// Protects the RTCP compound in the first `len` bytes of `room` in place; returns its new length. Each call takes
    /// an index: one of a packet that is never sent is a gap, which receivers allow.
    ///
    /// # Errors
    ///
    /// [`ProtectError`], and neither the packet nor the index has changed.
    pub fn protect_rtcp(&mut self, room: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let grown = grown(room, len, INDEX_LEN + self.suite.rtcp_tag_len())?;
        if len < RTCP_CLEAR_LEN || room[0] >> 6 != 2 {
            return Err(ProtectError::Malformed);
        }
        let index = self.srtcp_index;
        if index > LAST_SRTCP_INDEX {
            return Err(ProtectError::Spent);
        }
        self.srtcp_index = index + 1;
        self.rtcp.encrypt(ssrc_at(room, 4), index.into(), &mut room[RTCP_CLEAR_LEN..len]);
        room[len..len + INDEX_LEN].copy_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let covered = len + INDEX_LEN;
        let tag = self.rtcp.tag(&room[..covered]);
        room[covered..grown].copy_from_slice(&tag[..grown - covered]);
        Ok(grown)
    }

    /// The roll-over counter that goes with the sequence number `next`; `None` if all 2^48 packets are spent.
    pub fn rollover_counter(&self, next: SeqNo) -> Option<u32> {
        let came_round = self.last.is_some_and(|last| next.0 < last.0);
        self.rollover_counter.checked_add(came_round.into())
    }

    /// Goes on with another counter, which is that of the next packet, whatever its sequence number.
    pub fn set_rollover_counter(&mut self, rollover_counter: u32) {
        self.rollover_counter = rollover_counter;
        self.last = None;
    }

    /// The index of the next RTCP packet; `None` if all 2^31 are spent.
    pub fn srtcp_index(&self) -> Option<u32> {
        (self.srtcp_index <= LAST_SRTCP_INDEX).then_some(self.srtcp_index)
    }

    /// Goes on with another index for the next RTCP packet; what does not fit into 31 bits leaves none.
    pub fn set_srtcp_index(&mut self, index: u32) {
        self.srtcp_index = index.min(LAST_SRTCP_INDEX + 1);
    }
}

/// Without the keys.
impl fmt::Debug for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protector")
            .field("suite", &self.suite)
            .field("rollover_counter", &self.rollover_counter)
            .field("last", &self.last)
            .field("srtcp_index", &self.srtcp_index)
            .finish_non_exhaustive()
    }
}

/// Why a packet cannot be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectError {
    /// The packet would grow past the end of its buffer.
    NoRoom {
        /// Bytes that it would have.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// It is not an RTP or RTCP packet of version 2, or it is longer than a datagram.
    Malformed,
    /// As many packets as one key may protect have been (RFC 3711 section 9.2); only another key helps.
    Spent,
}

/// What a packet of `len` bytes in `room` grows to.
fn grown(room: &[u8], len: usize, by: usize) -> Result<usize, ProtectError> {
    if len > MAX_DATAGRAM_LEN {
        return Err(ProtectError::Malformed);
    }
    let (expected, found) = (len + by, room.len());
    if expected > found { Err(ProtectError::NoRoom { expected, found }) } else { Ok(expected) }
}

/// Header, contributing sources and extension: what stays readable (RFC 3711 section 3.1).
fn rtp_clear_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut len = HEADER_LEN + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let words = packet.get(len + 2..len + 4)?;
        len += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    (first >> 6 == 2 && len <= packet.len()).then_some(len)
}

fn ssrc_at(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// Which keys are derived: a label for each (RFC 3711 section 4.3.2).
#[derive(Clone, Copy)]
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

impl Labels {
    const RTP: Self = Self { encryption: 0, authentication: 1, salt: 2 };
    const RTCP: Self = Self { encryption: 3, authentication: 4, salt: 5 };
}

/// The session keys of RTP or of RTCP, in the form in which every packet wants them.
struct Keys {
    cipher: Aes128Enc,
    /// Multiplied by 2^16: the counter's bits are free.
    salt: Zeroizing<u128>,
    /// Has taken its key, and nothing else.
    mac: Hmac<Sha1>,
}

/// What the fields of [`Keys`] are made of wipes itself; if a crate's feature were lost, this would not compile.
const _: () = {
    const fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<Aes128Enc>();
    wiped::<Sha1Core>();
    wiped::<Zeroizing<u128>>();
};

impl Keys {
    fn derive(master: &Aes128Enc, master_salt: &Zeroizing<u128>, labels: Labels) -> Self {
        let mut key = Zeroizing::new([0; MASTER_KEY_LEN]);
        derive(master, master_salt, labels.encryption, key.as_mut());
        let mut salt = Zeroizing::new([0; MASTER_SALT_LEN]);
        derive(master, master_salt, labels.salt, salt.as_mut());
        let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY_LEN]);
        derive(master, master_salt, labels.authentication, authentication.as_mut());
        Self {
            cipher: Aes128Enc::new_from_slice(key.as_ref()).expect("16 bytes"),
            salt: shifted(&salt),
            mac: Hmac::new_from_slice(authentication.as_ref()).expect("HMAC takes keys of any length"),
        }
    }

    /// Encrypts (and decrypts) the payload of the packet `index` of `ssrc` (RFC 3711 section 4.1.1).
    fn encrypt(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let first = *self.salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
        apply_keystream(&self.cipher, first, payload);
    }

    /// The tag over these bytes, all 160 bits.
    fn tag(&self, covered: &[u8]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(covered);
        mac.finalize().into_bytes().into()
    }
}

/// A salt with 16 bits of zeros behind it, where counters count.
fn shifted(salt: &[u8; MASTER_SALT_LEN]) -> Zeroizing<u128> {
    let mut block = Zeroizing::new([0; 16]);
    block[..MASTER_SALT_LEN].copy_from_slice(salt);
    Zeroizing::new(u128::from_be_bytes(*block))
}

/// The session key with this label (RFC 3711 section 4.3.1). With a key derivation rate of zero, which is what SDES
/// means if it says nothing, the index of the packet has no part in it.
fn derive(master: &Aes128Enc, master_salt: &Zeroizing<u128>, label: u8, key: &mut [u8]) {
    // The label stands above 48 bits of index, and all above the counter's 16.
    apply_keystream(master, **master_salt ^ u128::from(label) << 64, key);
}

/// Adds the keystream that begins with the counter `first`.
fn apply_keystream(cipher: &Aes128Enc, first: u128, bytes: &mut [u8]) {
    let core = CtrCore::<_, Ctr128BE>::inner_iv_init(cipher, &first.to_be_bytes().into());
    core.apply_keystream_partial(bytes.into());
}

#[cfg(test)]
mod tests;
