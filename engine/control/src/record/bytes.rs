//! The bytes of a record: fields in their order, without names. Numbers are little-endian and as long as their type,
//! texts and lists have their length before them, and what may be missing has a 0 or a 1.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

/// Reads fields in the order in which they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a>(&'a [u8]);

/// The bytes are not those of a record: what was expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was expected", self.0)
    }
}

/// Numbers of every length that is used.
macro_rules! numbers {
    ($($name:ident: $type:ty),+) => {
        impl Encoder {
            $(pub(super) fn $name(&mut self, number: $type) {
                self.0.extend_from_slice(&number.to_le_bytes());
            })+
        }

        impl Decoder<'_> {
            $(pub(super) fn $name(&mut self) -> Result<$type, Unreadable> {
                let (bytes, rest) = self.0.split_first_chunk().ok_or(Unreadable(concat!("a ", stringify!($type))))?;
                self.0 = rest;
                Ok(<$type>::from_le_bytes(*bytes))
            })+
        }
    };
}

numbers! { u8: u8, u16: u16, u32: u32, u64: u64, u128: u128, i32: i32, i64: i64, f64: f64 }

impl Encoder {
    /// With room for a usual record.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    pub(super) fn bool(&mut self, flag: bool) {
        self.u8(flag.into());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn blob(&mut self, blob: &[u8]) {
        self.count(blob.len());
        self.0.extend_from_slice(blob);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("everything is bounded far below 2^32"));
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.count(values.len());
        values.for_each(|value| write(self, value));
    }

    pub(super) fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.0.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.0.extend_from_slice(&ip.octets());
            }
        }
        self.u16(address.port());
    }

    pub(super) fn bytes(self) -> Box<[u8]> {
        self.0.into()
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Unreadable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable("a 0 or a 1")),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unreadable> {
        let len = self.count()?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Unreadable("a text as long as it says"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Unreadable("UTF-8"))
    }

    pub(super) fn blob(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.count()?;
        let (blob, rest) = self.0.split_at_checked(len).ok_or(Unreadable("as many bytes as it says"))?;
        self.0 = rest;
        Ok(blob)
    }

    fn count(&mut self) -> Result<usize, Unreadable> {
        self.u32().map(|count| count as usize)
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// No more is set aside than was read, whatever length is written there.
    pub(super) fn list<T, L: FromIterator<T>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<L, Unreadable> {
        let count = self.count()?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn address(&mut self) -> Result<SocketAddr, Unreadable> {
        let ip: IpAddr = match self.u8()? {
            4 => self.u32()?.to_le_bytes().into(),
            6 => self.u128()?.to_le_bytes().into(),
            _ => return Err(Unreadable("an address of IPv4 or IPv6")),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// There is nothing more.
    pub(super) fn end(self) -> Result<(), Unreadable> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable("the end of the record")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let mut encoder = Encoder::new();
        encoder.u16(7);
        encoder.text("hold");
        encoder.option(Some(-1_i64), Encoder::i64);
        encoder.option(None, Encoder::i64);
        encoder.list([1_u8, 2].into_iter(), Encoder::u8);
        encoder.address("[::1]:5004".parse().unwrap());
        encoder.address("192.0.2.1:5004".parse().unwrap());
        let bytes = encoder.bytes();
        let read = |bytes: &[u8]| {
            let mut decoder = Decoder::new(bytes);
            assert_eq!((decoder.u16()?, decoder.text()?), (7, "hold"));
            assert_eq!((decoder.option(Decoder::i64)?, decoder.option(Decoder::i64)?), (Some(-1), None));
            assert_eq!(decoder.list::<_, Vec<_>>(Decoder::u8)?, [1, 2]);
            assert_eq!(decoder.address()?, "[::1]:5004".parse().unwrap());
            assert_eq!(decoder.address()?, "192.0.2.1:5004".parse().unwrap());
            decoder.end()
        };
        assert_eq!(read(&bytes), Ok(()));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err());
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(Unreadable("the end of the record")));
    }
}
