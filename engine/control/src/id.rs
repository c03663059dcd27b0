//! Names of things: random 128-bit numbers go in, GUIDs as Graph prints them come out, and are read back in any
//! of the forms in which clients send them.

use std::{fmt, ops::Deref};

use rand::{Rng, rngs::StdRng};

/// Names a request of a door that waits for a [`crate::Output::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A GUID of version 4 (RFC 9562 section 5.4).
fn random_guid(rng: &mut StdRng) -> u128 {
    let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

/// Reads 32 hexadecimal digits in any letter case; dashes may stand anywhere and braces around them, since the
/// samples of Graph's documentation print ids with and without dashes, in upper and in lower case.
fn read_guid(text: &str) -> Option<u128> {
    let text = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
    let (mut bits, mut digits) = (0_u128, 0);
    for character in text.chars().filter(|&character| character != '-') {
        bits = bits << 4 | u128::from(character.to_digit(16)?);
        digits += 1;
        if digits > 32 {
            return None;
        }
    }
    (digits == 32).then_some(bits)
}

/// A GUID as text: lower case, with dashes.
#[derive(Clone, Copy, Debug)]
pub struct GuidText([u8; 36]);

impl Deref for GuidText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and dashes are ASCII")
    }
}

/// By hand, since every answer and notification has a handful of them: `write!` takes ten times as
/// long.
fn guid_text(bits: u128) -> GuidText {
    let mut text = [b'-'; 36];
    let mut place = 0;
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            place += 1;
        }
        for nibble in [byte >> 4, byte & 0xf] {
            text[place] = b"0123456789abcdef"[usize::from(nibble)];
            place += 1;
        }
    }
    GuidText(text)
}

/// Each id is a type of its own, so that none is taken for another.
macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u128);

        impl $name {
            /// A new one.
            pub fn random(rng: &mut StdRng) -> Self {
                Self(random_guid(rng))
            }

            /// Reads a GUID without regard to letter case and dashes; `None` if `text` is none.
            pub fn read(text: &str) -> Option<Self> {
                read_guid(text).map(Self)
            }

            /// As text, to be joined with other text.
            pub fn text(self) -> GuidText {
                guid_text(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&guid_text(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&guid_text(self.0))
            }
        }
    };
}

guid! {
    /// Names a call.
    CallId
}
guid! {
    /// Names a participant of a call.
    ParticipantId
}
guid! {
    /// Names one who listens in on a participant.
    ListenerId
}
guid! {
    /// Names a token of WHEP, by which somebody is let in without the application's own.
    GrantId
}
guid! {
    /// Names an operation of a call.
    OperationId
}
guid! {
    /// Names one notification for its life, all retries included; as a GUID it is the
    /// `X-Microsoft-Skype-Message-ID` of each POST.
    NotificationId
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn ids_are_read_without_regard_to_case_and_dashes() {
        let id = CallId(0x57da_b8b1_894c_409a_b240_bd8b_eae7_8896);
        for form in [
            "57dab8b1-894c-409a-b240-bd8beae78896",
            "57DAB8B1894C409AB240BD8BEAE78896",
            "{57DAB8B1-894C-409A-B240-BD8BEAE78896}",
        ] {
            assert_eq!(CallId::read(form), Some(id));
        }
        assert_eq!(id.to_string(), "57dab8b1-894c-409a-b240-bd8beae78896");
    }

    #[test]
    fn what_is_no_guid_is_not_read() {
        for form in [
            "",
            "-",
            "57dab8b1",
            "57dab8b1-894c-409a-b240-bd8beae788960",
            "57dab8b1-894c-409a-b240-bd8beae7889g",
        ] {
            assert_eq!(CallId::read(form), None, "{form}");
        }
    }

    #[test]
    fn random_ids_have_the_form_of_version_four() {
        let mut rng = StdRng::from_seed([7; 32]);
        for _ in 0..100 {
            let text = OperationId::random(&mut rng).to_string();
            assert_eq!(text.as_bytes()[14], b'4');
            assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
    }
}
