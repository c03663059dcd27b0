//! Notifications that were given up, as answers show them: an extension of ours beside Graph's resources.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Answer, Refusal,
    query::Query,
    words::wall_text,
    write::{Writer, text},
};
use crate::{
    guard::redact,
    id::{CallId, NotificationId},
    undelivered::Undelivered,
};

/// Where they are, behind `communications/`.
const PATH: &str = "notifications/undelivered";

/// The id of a notification in a path.
///
/// # Errors
///
/// 404 8522 if it is no GUID.
pub fn notification_id(text: &str) -> Result<NotificationId, Refusal> {
    NotificationId::read(text).ok_or_else(|| Refusal::unknown_notification(text))
}

impl Refusal {
    /// 400 8528: a roster update that was never written, of a call that has ended.
    pub(crate) fn no_roster_any_more(call: CallId) -> Self {
        Self::call_ended_with(format!(
            "Call '{call}' has ended, and this notification would have told who is in it: there is nothing to tell any \
             more. DELETE it."
        ))
    }
}

/// A notification that was given up: an extension of ours.
#[derive(Serialize, ToSchema)]
#[schema(as = undeliveredNotification)]
#[serde(rename_all = "camelCase")]
pub(super) struct UndeliveredJson<'a> {
    /// The URL of the description of this entity; only where it stands by itself.
    #[serde(rename = "@odata.context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    context: Option<String>,
    /// Its name: the `X-Microsoft-Skype-Message-ID` of every attempt.
    #[schema(value_type = String, format = "uuid")]
    id: NotificationId,
    /// The call whose it is, perhaps forgotten meanwhile.
    #[schema(value_type = String, format = "uuid")]
    call_id: CallId,
    /// Where it should have gone, without user, password and query.
    callback_uri: String,
    /// Why it did not.
    reason: &'a str,
    /// How often it was tried.
    attempts: u32,
    /// When what it tells happened, in UTC with milliseconds.
    #[schema(format = "date-time")]
    created_date_time: String,
    /// When it was given up, in UTC with milliseconds.
    #[schema(format = "date-time")]
    given_up_date_time: String,
    /// What was sent, a `commsNotifications`; `null` for a roster that was never tried, and so never written.
    #[schema(value_type = Option<Value>)]
    body: Option<&'a RawValue>,
}

/// What came of telling everything again: an extension of ours.
#[derive(Serialize, ToSchema)]
#[schema(as = redelivery)]
pub(super) struct RedeliveryJson {
    /// Notifications that are owed again.
    redelivered: usize,
    /// Those that stay listed, because too much is owed already.
    remaining: usize,
    /// Those that had nothing to tell any more: rosters of calls that are over.
    dropped: usize,
}

fn undelivered_json(entry: &Undelivered, context: Option<String>) -> UndeliveredJson<'_> {
    let body = entry.body.as_deref();
    UndeliveredJson {
        context,
        id: entry.notification,
        call_id: entry.call,
        callback_uri: redact(&entry.callback.url),
        reason: &entry.reason,
        attempts: entry.attempts,
        created_date_time: wall_text(entry.created, 3),
        given_up_date_time: wall_text(entry.given_up, 3),
        body: body.map(|body| serde_json::from_str(body).expect("bodies of notifications are JSON of ours")),
    }
}

impl Writer<'_> {
    /// A notification that was given up, by itself.
    pub(crate) fn undelivered(&self, status: u16, entry: &Undelivered, query: &Query) -> Answer {
        let context = self.context(&format!("{PATH}/$entity"));
        Self::entity(status, None, &undelivered_json(entry, Some(context)), query)
    }

    /// Notifications that were given up, in their order.
    pub(crate) fn undelivered_all(&self, entries: &[&Undelivered], query: &Query) -> Answer {
        self.collection(PATH, PATH, entries.len(), query, |index| undelivered_json(entries[index], None))
    }
}

/// So many are told again; for so many there was no room; so many had nothing to tell any more.
pub(crate) fn redelivered(owed: usize, left: usize, dropped: usize) -> Answer {
    let body = RedeliveryJson { redelivered: owed, remaining: left, dropped };
    Answer { status: 202, location: None, body: Some(text(&body)) }
}
