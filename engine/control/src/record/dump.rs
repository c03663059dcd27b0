//! A record as an operator may read it: key and value come in, words come out, without the secrets of URLs.

use holdmusic_media::Protection;
use serde_json::{Value, json};

use super::{KeptPrompts, Key, Moments, RecordError, entities};
use crate::{guard::redact, notification::Says};

/// A record in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Dumped {
    /// What it is about.
    pub key: String,
    /// What it says.
    pub says: Value,
}

/// `records`, in words. Moments are those of the clock on which they were written.
///
/// # Errors
///
/// For each one that cannot be read, what was expected in it.
pub fn dump<'a>(
    records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> impl Iterator<Item = Result<Dumped, RecordError>> {
    // Keys of prompts stand before those who name them.
    let mut kept = KeptPrompts::default();
    records.into_iter().map(move |(key, value)| one(key, value, &mut kept))
}

fn one(key: &[u8], value: &[u8], kept: &mut KeptPrompts) -> Result<Dumped, RecordError> {
    let moments = Moments { shift_ns: 0 };
    let name = Key::read(key).ok_or_else(|| RecordError::unknown_key(key))?;
    let mut told = || -> Result<Value, super::bytes::Unreadable> {
        Ok(match name {
            Key::House => {
                let (anchor, locals) = entities::read_house(value)?;
                json!({ "boot": format!("{:032x}", anchor.boot), "writtenAtMicros": anchor.now.wall.0, "senders": locals })
            }
            Key::Prompt(number) => {
                let prompt = entities::read_prompt(value)?;
                let told = json!({ "uri": prompt.origin.redacted(), "resourceId": prompt.resource_id });
                kept.keep(number, prompt.into());
                told
            }
            Key::Call(_) => {
                let call = entities::read_call(value, &moments, kept)?;
                json!({
                    "owner": call.owner.to_string(),
                    "callback": redact(&call.callback),
                    "etag": call.etag,
                    "ended": call.ended.is_some(),
                    "prompts": call.default_prompt.iter().chain(&call.prefetch).map(|p| p.origin.redacted()).collect::<Vec<_>>(),
                    "plays": call.plays.iter().map(|play| play.operation).collect::<Vec<_>>(),
                })
            }
            Key::Participant(_, id) => {
                let (participant, local) = entities::read_participant(id, value, &moments, kept)?;
                let leg = participant.leg.as_ref().map(|leg| {
                    let numbering = &leg.spec.numbering;
                    // The suite, and nothing of the key.
                    let srtp = match &leg.spec.protection {
                        Protection::Plain => None,
                        Protection::Srtp(keying) => Some(keying.send.suite().name()),
                        Protection::Awaited => Some("awaited"),
                    };
                    json!({
                        "from": local, "to": leg.spec.destination, "rtcp": leg.spec.rtcp, "codec": leg.spec.codec.name(),
                        "ssrc": numbering.ssrc.0, "sequenceNumber": numbering.sequence.0,
                        "timestamp": numbering.timestamp.0, "rolloverCounter": numbering.rollover_counter,
                        "srtcpIndex": numbering.srtcp_index, "srtp": srtp, "sending": leg.sending.is_some(),
                    })
                });
                let hold = participant.hold.as_ref().map(|hold| {
                    json!({
                        "operations": hold.operations.to_vec(),
                        "prompt": hold.asked.as_ref().map(|prompt| prompt.origin.redacted()),
                        "heard": hold.was_heard,
                        "reason": hold.reason.as_ref().map(|failure| &failure.message),
                    })
                });
                let past = participant.past.as_ref().map(|past| past.ended_by);
                json!({ "muted": participant.muted, "leg": leg, "hold": hold, "endedBy": past })
            }
            Key::Operation(_, id) => {
                let operation = entities::read_operation(id, value, &moments)?;
                json!({
                    "kind": format!("{:?}", operation.kind), "status": format!("{:?}", operation.status()),
                    "participant": operation.participant, "clientContext": operation.client_context,
                    "result": operation.result().map(|result| (result.code, result.subcode, &result.message)),
                })
            }
            Key::Owed(_, number) => {
                let record = entities::read_owed(number, value, &moments)?;
                let bytes = match &record.owed.says {
                    Says::Text(text) => Some(text.len()),
                    Says::Roster(_) => None,
                };
                json!({ "id": record.owed.id, "to": redact(&record.callback.url), "bytes": bytes })
            }
            Key::Undelivered(id) => {
                let (_, entry) = entities::read_undelivered(id, value)?;
                json!({
                    "call": entry.call, "to": redact(&entry.callback.url), "reason": entry.reason,
                    "attempts": entry.attempts,
                })
            }
        })
    };
    told().map(|says| Dumped { key: name.to_string(), says }).map_err(|error| RecordError::new(key, &error))
}
