//! Bodies of notifications: what happened to an operation, a call or its roster -> `commsNotifications`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{
    words::StatusCase,
    write::{ResultJson, operation_json, participant_json, text},
};
use crate::{
    call::Call,
    id::CallId,
    operation::{Operation, ResultInfo},
};

#[derive(Serialize)]
struct Notifications<T> {
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    value: [Notification<T>; 1],
}

#[derive(Serialize)]
struct Notification<T> {
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    #[serde(rename = "changeType")]
    change: &'static str,
    resource: String,
    #[serde(rename = "resourceUrl")]
    url: String,
    #[serde(rename = "resourceData")]
    data: T,
}

/// `path` begins behind `calls/`. The form of `resourceUrl`, without a leading slash, is that of the page which
/// documents startHoldMusic.
fn notification<T: Serialize>(change: &'static str, path: &str, data: T) -> Arc<str> {
    let notification = Notification {
        kind: "#microsoft.graph.commsNotification",
        change,
        resource: format!("/app/calls/{path}"),
        url: format!("communications/calls/{path}"),
        data,
    };
    text(&Notifications { kind: "#microsoft.graph.commsNotifications", value: [notification] }).into()
}

fn etag(number: u64) -> String {
    format!("W/\"{number}\"")
}

/// The end of an operation.
pub(crate) fn operation_notification(
    call: CallId,
    operation: &Operation,
    case: StatusCase,
    version: u64,
) -> Arc<str> {
    let path = format!("{call}/operations/{}", operation.id);
    let odata_id = format!("communications/calls/{path}");
    let mut json = operation_json(operation, case);
    json.odata_id = Some(&odata_id);
    json.etag = Some(etag(version));
    notification("deleted", &path, json)
}

/// A change of a call: `established`, `terminating`, or `terminated` with a result.
pub(crate) fn call_notification(
    call: CallId,
    state: &str,
    result: Option<&ResultInfo>,
    version: u64,
) -> Arc<str> {
    let mut json = json!({
        "@odata.type": "#microsoft.graph.call",
        "@odata.id": format!("communications/calls/{call}"),
        "@odata.etag": etag(version),
        "id": call,
        "state": state,
    });
    if let Some(result) = result {
        json["resultInfo"] = json!(ResultJson::from(result));
    }
    let change = if result.is_some() { "deleted" } else { "updated" };
    notification(change, &call.to_string(), json)
}

/// Who is in a call.
pub(crate) fn roster_notification(call: &Call, version: u64) -> Arc<str> {
    let path = format!("{}/participants", call.id);
    let roster: Vec<_> = call
        .roster()
        .into_iter()
        .map(|participant| {
            let mut json = participant_json(participant);
            let id = format!("communications/calls/{path}/{}", participant.id);
            json.insert("@odata.id".to_owned(), json!(id));
            json.insert("@odata.etag".to_owned(), json!(etag(version)));
            json
        })
        .collect();
    notification("updated", &path, roster)
}
