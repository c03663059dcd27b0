//! Hostile stores: records that anybody may have changed are read or refused, never a panic; an engine that starts with them
//! works, and what it writes can be read again.

use std::collections::BTreeMap;

use holdmusic_control::{
    Control, Input, Output, Settings, SourceFacts,
    record::{Write, dump, media_locals},
};
use holdmusic_media::{MediaTime, Now, WallTime};

type Records = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The most records of one input.
const MOST: usize = 64;

/// Records as an input: each is the length of its key in a byte, that of its value in two, key and value.
pub fn written<'a>(records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut bytes = vec![];
    for (key, value) in records {
        bytes.push(u8::try_from(key.len()).expect("keys are short"));
        bytes.extend(u16::try_from(value.len()).expect("these values are short").to_le_bytes());
        bytes.extend(key);
        bytes.extend(value);
    }
    bytes
}

fn read(mut input: &[u8]) -> Records {
    let mut records = Records::new();
    while let ([key, low, high, rest @ ..], true) = (input, records.len() < MOST) {
        let (key, value) = (usize::from(*key), usize::from(u16::from_le_bytes([*low, *high])));
        let (key, rest) = rest.split_at(key.min(rest.len()));
        let (value, rest) = rest.split_at(value.min(rest.len()));
        records.insert(key.into(), value.into());
        input = rest;
    }
    records
}

fn pairs(records: &Records) -> impl Iterator<Item = (&[u8], &[u8])> {
    records.iter().map(|(key, value)| (&**key, &**value))
}

fn settings() -> Settings {
    let locals = vec!["10.0.0.1:20000".parse().expect("an address")];
    Settings { media_locals: locals, durable: true, ..Settings::default() }
}

fn at(millis: u64) -> Now {
    let wall = WallTime(1_772_366_400_000_000 + i64::try_from(millis).unwrap_or(0) * 1000);
    Now { mono: MediaTime::from_millis(2_000_000 + millis), wall }
}

/// Any bytes as a store; whether an engine started with it.
pub fn records(input: &[u8]) -> bool {
    let mut records = read(input);
    let unreadable = dump(pairs(&records)).filter(Result::is_err).count();
    let _ = media_locals(pairs(&records));
    let Ok(mut control) = Control::restore(settings(), [7; 32], at(0), pairs(&records)) else { return false };
    assert_eq!(unreadable, 0, "what is started with can be shown");
    for millis in [0, 10, 400, 21_000, 4_000_000] {
        control.handle_timeout(at(millis));
        work(&mut control, &mut records, at(millis));
    }
    let again = Control::restore(settings(), [8; 32], at(4_000_100), pairs(&records));
    assert!(again.is_ok(), "what was written can be read: {:?}", again.err());
    !records.is_empty()
}

/// The doors do what they are told, and all goes well.
fn work(control: &mut Control, records: &mut Records, now: Now) {
    for _ in 0..10_000 {
        let Some(output) = control.poll_output() else { return };
        let input = match output {
            Output::Persist { ticket, writes } => {
                for Write { key, value } in writes {
                    match value {
                        Some(value) => records.insert(key, value),
                        None => records.remove(&key),
                    };
                }
                Input::Stored { ticket }
            }
            Output::Prepare { source, codec, .. } => {
                let facts = SourceFacts {
                    seconds: 1.0,
                    whole: true,
                    format: String::new(),
                    gain_db: 0.0,
                    ready_at: now.mono,
                    bytes: 1,
                    freshness: holdmusic_control::Freshness::FOR_EVER,
                };
                Input::SourceReady { source, codec, facts }
            }
            Output::Play { leg, source, .. } => Input::Started { leg, source, sent_at: now.mono },
            Output::Announce { leg, announcement, .. } => Input::Announced { leg, announcement },
            Output::Notify { notification, .. } => {
                Input::Delivered { notification, outcome: holdmusic_control::DeliveryOutcome::Accepted }
            }
            _ => continue,
        };
        control.handle_input(now, input);
    }
    panic!("it goes round in circles");
}
