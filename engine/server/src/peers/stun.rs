//! STUN as an ICE-lite peer needs it (RFC 8489, RFC 8445 section 7): a datagram -> an authenticated connectivity check, and
//! the answer to it.
//!
//! By hand: of STUN this side has Binding requests to read and their answers to write, and nothing is to be kept or
//! repeated, while an ICE agent brings candidate pairs, checks of its own and their timers.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

/// Type, length, magic cookie, transaction.
const HEADER_LEN: usize = 20;

const MAGIC_COOKIE: u32 = 0x2112_a442;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// Types from here on may be passed over by who does not know them (RFC 8489 section 14).
const OPTIONAL: u16 = 0x8000;

/// Bytes of an HMAC-SHA1.
const INTEGRITY_LEN: usize = 20;

/// What a CRC-32 is changed with, so that it is not one of another protocol (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Attributes that are looked at; a browser's check has about eight.
const MAX_ATTRIBUTES: usize = 32;

/// Unknown attributes that an answer names.
const MAX_UNKNOWN: usize = 4;

/// The longest answer: header, an IPv6 address or an error with its words, integrity, fingerprint.
pub(super) const MAX_ANSWER: usize = 128;

/// The number of a request and of its answer.
pub(super) type Transaction = [u8; 12];

/// A Binding request that is well-formed, with whom it names. Nothing in it is to be believed before
/// [`Request::is_authentic`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    message: &'a [u8],
    /// Where its MESSAGE-INTEGRITY begins.
    integrity: usize,
    pub(super) transaction: Transaction,
    /// Who is asked: the first half of USERNAME.
    pub(super) to: &'a str,
    /// Who asks: the second half.
    pub(super) by: &'a str,
    /// The priority that a candidate of this address would have.
    pub(super) priority: u32,
    /// Whether the pair of addresses is the one to be used.
    pub(super) use_candidate: bool,
    /// Whether the peer believes that we choose, which a lite side never does.
    pub(super) is_controlled: bool,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl<'a> Request<'a> {
    /// The request in a datagram; `None` if it is something else, or one that an ICE peer does not send: without name,
    /// integrity or fingerprint (RFC 8445 section 7.1 wants all three).
    pub(super) fn read(datagram: &'a [u8]) -> Option<Self> {
        let (header, body) = datagram.split_at_checked(HEADER_LEN)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if word(0) != BINDING_REQUEST
            || usize::from(word(2)) != body.len()
            || body.len() % 4 != 0
            || header[4..8] != MAGIC_COOKIE.to_be_bytes()
        {
            return None;
        }
        let mut request = Request {
            message: datagram,
            integrity: 0,
            transaction: header[8..].try_into().ok()?,
            to: "",
            by: "",
            priority: 0,
            use_candidate: false,
            is_controlled: false,
            unknown: [0; MAX_UNKNOWN],
            unknown_count: 0,
        };
        let mut at = HEADER_LEN;
        for _ in 0..MAX_ATTRIBUTES {
            let [kind_high, kind_low, len_high, len_low, rest @ ..] = &datagram[at..] else { return None };
            let kind = u16::from_be_bytes([*kind_high, *kind_low]);
            let value = rest.get(..usize::from(u16::from_be_bytes([*len_high, *len_low])))?;
            let next = at + 4 + value.len().next_multiple_of(4);
            if next > datagram.len() {
                return None;
            }
            match kind {
                // The last attribute, over everything before it.
                FINGERPRINT => {
                    let right = next == datagram.len() && value == fingerprint(&datagram[..at]);
                    return (right && request.integrity > 0 && !request.to.is_empty()).then_some(request);
                }
                // What stands behind the integrity is not protected by it (RFC 8489 section 14.5).
                _ if request.integrity > 0 => {}
                MESSAGE_INTEGRITY if value.len() == INTEGRITY_LEN => request.integrity = at,
                USERNAME => (request.to, request.by) = std::str::from_utf8(value).ok()?.split_once(':')?,
                PRIORITY => request.priority = u32::from_be_bytes(value.try_into().ok()?),
                USE_CANDIDATE => request.use_candidate = true,
                ICE_CONTROLLED => request.is_controlled = true,
                kind if kind < OPTIONAL => {
                    if let Some(free) = request.unknown.get_mut(request.unknown_count) {
                        *free = kind;
                        request.unknown_count += 1;
                    }
                }
                _ => {}
            }
            at = next;
        }
        None
    }

    /// Whether who asks knows `password`.
    pub(super) fn is_authentic(&self, password: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let covered = covered(&self.message[..self.integrity], INTEGRITY_LEN);
        let tag = &self.message[self.integrity + 4..][..INTEGRITY_LEN];
        // In constant time.
        hmac::verify(&key, &covered, tag).is_ok()
    }

    /// The answer: where the request was seen to come from, or what was wrong with it. A check that says that we choose is
    /// told to choose itself (RFC 8445 section 7.3.1.1: 487), since a lite side is always controlled.
    pub(super) fn answer(&self, from: SocketAddr, password: &str) -> Answer {
        let mut message = Vec::with_capacity(MAX_ANSWER);
        if self.unknown_count > 0 {
            begin(&mut message, BINDING_ERROR, self.transaction);
            error(&mut message, 420, "Unknown Attribute");
            let unknown = self.unknown[..self.unknown_count].iter().flat_map(|kind| kind.to_be_bytes());
            attribute(&mut message, UNKNOWN_ATTRIBUTES, &unknown.collect::<Vec<_>>());
        } else if self.is_controlled {
            begin(&mut message, BINDING_ERROR, self.transaction);
            error(&mut message, 487, "Role Conflict");
        } else {
            begin(&mut message, BINDING_SUCCESS, self.transaction);
            attribute(&mut message, XOR_MAPPED_ADDRESS, &xor_mapped(from, self.transaction));
        }
        let is_success = message[..2] == BINDING_SUCCESS.to_be_bytes();
        seal(&mut message, password);
        Answer { message, is_success }
    }
}

/// What goes back to who asked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) message: Vec<u8>,
    pub(super) is_success: bool,
}

fn begin(message: &mut Vec<u8>, kind: u16, transaction: Transaction) {
    message.extend(kind.to_be_bytes());
    message.extend([0, 0]);
    message.extend(MAGIC_COOKIE.to_be_bytes());
    message.extend(transaction);
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).expect("what we write is short").to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// RFC 8489 section 14.8: class and number of the error, each in a byte of its own, and words for people.
fn error(message: &mut Vec<u8>, code: u16, words: &str) {
    let [class, number] = [code / 100, code % 100].map(|digits| digits.to_be_bytes()[1]);
    let value: Vec<u8> = [0, 0, class, number].into_iter().chain(words.bytes()).collect();
    attribute(message, ERROR_CODE, &value);
}

fn xor_mapped(address: SocketAddr, transaction: Transaction) -> Vec<u8> {
    let mask: Vec<u8> = MAGIC_COOKIE.to_be_bytes().into_iter().chain(transaction).collect();
    let (family, octets) = match address.ip() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let bytes = address.port().to_be_bytes().into_iter().zip(&mask).map(|(byte, mask)| byte ^ mask);
    let address = octets.into_iter().zip(&mask).map(|(byte, mask)| byte ^ mask);
    [0, family].into_iter().chain(bytes).chain(address).collect()
}

/// Adds integrity and fingerprint.
fn seal(message: &mut Vec<u8>, password: &str) {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &covered(message, INTEGRITY_LEN));
    attribute(message, MESSAGE_INTEGRITY, tag.as_ref());
    let whole = u16::try_from(message.len() + 8 - HEADER_LEN).expect("what we write is short");
    message[2..4].copy_from_slice(&whole.to_be_bytes());
    let crc = fingerprint(message);
    attribute(message, FINGERPRINT, &crc);
}

/// What an integrity covers: all before it, with a length as if it were the last attribute (RFC 8489 section 14.5).
fn covered(before: &[u8], tag_len: usize) -> Vec<u8> {
    let mut covered = before.to_vec();
    let len = u16::try_from(before.len() + 4 + tag_len - HEADER_LEN).unwrap_or(u16::MAX);
    covered[2..4].copy_from_slice(&len.to_be_bytes());
    covered
}

/// Over all before it; the length there counts it already.
fn fingerprint(before: &[u8]) -> [u8; 4] {
    (crc32fast::hash(before) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// A check as a peer sends it, for tests and tools that are one.
pub fn check(
    transaction: [u8; 12],
    (to, password): (&str, &str),
    by: &str,
    priority: u32,
    use_candidate: bool,
) -> Vec<u8> {
    let mut message = Vec::with_capacity(MAX_ANSWER);
    begin(&mut message, BINDING_REQUEST, transaction);
    attribute(&mut message, USERNAME, format!("{to}:{by}").as_bytes());
    attribute(&mut message, PRIORITY, &priority.to_be_bytes());
    if use_candidate {
        attribute(&mut message, USE_CANDIDATE, &[]);
    }
    seal(&mut message, password);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2: the password of its samples, and who they name.
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    /// RFC 5769 section 2.1.
    const SAMPLE_REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e740024\
         00046e0001ff80290008932ff9b151263b36000600096576746a3a683676592020200008001\
         49aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";

    /// RFC 5769 section 2.2: an answer to 192.0.2.1:32853.
    const SAMPLE_RESPONSE_ADDRESS: &str = "002000080001a147e112a643";

    /// RFC 5769 section 2.3: to [2001:db8:1234:5678:11:2233:4455:6677]:32853.
    const SAMPLE_RESPONSE_ADDRESS_V6: &str = "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    #[test]
    fn the_request_of_rfc_5769_is_authentic_and_says_who_asks_whom() {
        let message = bytes(SAMPLE_REQUEST);
        assert_eq!(message.len(), 108);
        let request = Request::read(&message).expect("a request");
        assert_eq!((request.to, request.by), ("evtj", "h6vY"));
        assert_eq!(request.priority, 0x6e00_01ff);
        assert!(request.is_controlled && !request.use_candidate);
        assert!(request.is_authentic(PASSWORD));
        assert!(!request.is_authentic("VOkJxbRl1RmTxUk/WvJxBu"));
    }

    #[test]
    fn addresses_are_written_as_in_rfc_5769() {
        let transaction = bytes("b7e7a701bc34d686fa87dfae").try_into().unwrap();
        for (address, expected) in [
            ("192.0.2.1:32853", SAMPLE_RESPONSE_ADDRESS),
            ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", SAMPLE_RESPONSE_ADDRESS_V6),
        ] {
            let mut message = vec![];
            let value = xor_mapped(address.parse().unwrap(), transaction);
            attribute(&mut message, XOR_MAPPED_ADDRESS, &value);
            assert_eq!(message, bytes(expected), "{address}");
        }
    }

    /// Read by the same rules by which requests are: the tag and the CRC of what we write are right by RFC 5769 if those
    /// that we read are.
    #[test]
    fn what_we_write_is_sealed_as_what_we_read() {
        let check = check([7; 12], ("local", PASSWORD), "remote", 1, true);
        let request = Request::read(&check).expect("a request");
        assert!(request.is_authentic(PASSWORD) && request.use_candidate && !request.is_controlled);
        let answer = request.answer("192.0.2.1:32853".parse().unwrap(), PASSWORD);
        assert!(answer.is_success);
        let mut message = answer.message;
        assert!(message.len() <= MAX_ANSWER);
        assert_eq!(&message[..2], &BINDING_SUCCESS.to_be_bytes());
        assert_eq!(&message[8..20], &[7; 12]);
        let len = message.len();
        assert_eq!(message[len - 4..], fingerprint(&message[..len - 8]));
        let at = len - 8 - 24;
        let tag = message.split_off(at)[4..24].to_vec();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
        hmac::verify(&key, &covered(&message, INTEGRITY_LEN), &tag).expect("the integrity of the answer");
    }

    #[test]
    fn a_peer_that_waits_for_us_to_choose_is_told_to_choose() {
        let message = bytes(SAMPLE_REQUEST);
        let answer = Request::read(&message).unwrap().answer("192.0.2.1:1".parse().unwrap(), PASSWORD);
        assert!(!answer.is_success && answer.message.len() <= MAX_ANSWER);
        assert_eq!(answer.message[20..28], bytes("0009001100000457"));
    }

    #[test]
    fn an_attribute_that_must_be_understood_and_is_not_is_named() {
        let mut message = vec![];
        begin(&mut message, BINDING_REQUEST, [1; 12]);
        attribute(&mut message, USERNAME, b"a:b");
        attribute(&mut message, 0x7777, b"?");
        seal(&mut message, PASSWORD);
        let request = Request::read(&message).expect("a request");
        assert!(request.is_authentic(PASSWORD));
        let answer = request.answer("192.0.2.1:1".parse().unwrap(), PASSWORD);
        assert!(!answer.is_success);
        let wanted = bytes("000a000277770000");
        assert!(answer.message.windows(8).any(|window| window == wanted), "{:02x?}", answer.message);
    }

    /// Every prefix, and every message with one bit changed: nothing that is not what the peer sent is authentic.
    #[test]
    fn what_was_cut_or_changed_is_not_authentic() {
        let whole = check([9; 12], ("local", PASSWORD), "remote", 1, true);
        for len in 0..whole.len() {
            assert!(Request::read(&whole[..len]).is_none(), "{len} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let authentic = Request::read(&changed).is_some_and(|request| request.is_authentic(PASSWORD));
            assert!(!authentic, "bit {bit}");
        }
    }
}
