//! Bencode, the notation of rtpengine's NG protocol: values to bytes and back.

use std::{collections::BTreeMap, str};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(i64),
    Text(String),
    List(Vec<Self>),
    Dictionary(BTreeMap<String, Self>),
}

/// Values inside of values: an answer has two or three.
const MAX_DEPTH: u32 = 16;

impl Value {
    /// A dictionary of texts.
    pub(crate) fn of(members: &[(&str, &str)]) -> Self {
        let member = |(name, text): &(&str, &str)| ((*name).to_owned(), Self::Text((*text).to_owned()));
        Self::Dictionary(members.iter().map(member).collect())
    }

    /// The text under `name`, if this is a dictionary that has it.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self {
            Self::Dictionary(members) => match members.get(name)? {
                Self::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Appends it to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Integer(number) => bytes.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::Text(text) => bytes.extend_from_slice(format!("{}:{text}", text.len()).as_bytes()),
            Self::List(values) => {
                bytes.push(b'l');
                values.iter().for_each(|value| value.write(bytes));
                bytes.push(b'e');
            }
            Self::Dictionary(members) => {
                bytes.push(b'd');
                for (name, value) in members {
                    bytes.extend_from_slice(format!("{}:{name}", name.len()).as_bytes());
                    value.write(bytes);
                }
                bytes.push(b'e');
            }
        }
    }

    /// Reads one value that is all of `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (value, rest) = take(bytes, MAX_DEPTH)?;
        rest.is_empty().then_some(value)
    }
}

fn take(bytes: &[u8], depth: u32) -> Option<(Value, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let (&first, inside) = bytes.split_first()?;
    match first {
        b'i' => {
            let (number, rest) = until(inside, b'e')?;
            Some((Value::Integer(number), rest))
        }
        b'l' => {
            let (mut values, mut rest) = (Vec::new(), inside);
            while *rest.first()? != b'e' {
                let (value, behind) = take(rest, depth)?;
                values.push(value);
                rest = behind;
            }
            Some((Value::List(values), &rest[1..]))
        }
        b'd' => {
            let (mut members, mut rest) = (BTreeMap::new(), inside);
            while *rest.first()? != b'e' {
                let (name, behind) = text(rest)?;
                let (value, behind) = take(behind, depth)?;
                members.insert(name, value);
                rest = behind;
            }
            Some((Value::Dictionary(members), &rest[1..]))
        }
        _ => text(bytes).map(|(text, rest)| (Value::Text(text), rest)),
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (len, rest) = until::<usize>(bytes, b':')?;
    let (text, rest) = rest.split_at_checked(len)?;
    Some((str::from_utf8(text).ok()?.to_owned(), rest))
}

/// A number that ends with the byte `end`, and what stands behind that.
fn until<T: str::FromStr>(bytes: &[u8], end: u8) -> Option<(T, &[u8])> {
    let place = bytes.iter().position(|&byte| byte == end)?;
    Some((str::from_utf8(&bytes[..place]).ok()?.parse().ok()?, &bytes[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let value = Value::Dictionary(BTreeMap::from([
            ("duration".to_owned(), Value::Integer(-30_000)),
            ("flags".to_owned(), Value::List(vec![Value::Text("a:b".to_owned()), Value::List(Vec::new())])),
            ("inside".to_owned(), Value::of(&[("result", "ok")])),
            ("sdp".to_owned(), Value::Text("v=0\r\n".to_owned())),
        ]));
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        let expected = b"d8:durationi-30000e5:flagsl3:a:blee6:insided6:result2:oke3:sdp5:v=0\r\ne".as_slice();
        assert_eq!((bytes.as_slice(), Value::read(&bytes)), (expected, Some(value)));
    }

    #[test]
    fn what_is_not_bencode_is_nothing() {
        let deep = "l".repeat(100) + &"e".repeat(100);
        for text in
            ["", "d", "i5", "9:short", "d6:resulti1ee!", "l", "x", "di1ei2ee", "99999999999999999999:", &deep]
        {
            assert_eq!(Value::read(text.as_bytes()), None, "{text}");
        }
    }
}
