//! Bodies of notifications: what happened to an operation, a call or its roster -> `commsNotifications`.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    entities::{OperationJson, ParticipantJson, ResultJson},
    words::{CallState, ChangeType, StatusCase},
    write::{etag, operation_json, participant_json, text},
};
use crate::{
    call::Call,
    id::CallId,
    operation::{Operation, ResultInfo},
};

/// What is sent to a `callbackUri`: one notification.
#[derive(Serialize, ToSchema)]
#[schema(as = commsNotifications)]
pub(super) struct Notifications<'a> {
    /// Always `#microsoft.graph.commsNotifications`.
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    /// Always one.
    value: [Notification<'a>; 1],
}

/// Something that happened to a resource.
#[derive(Serialize, ToSchema)]
#[schema(as = commsNotification)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notification<'a> {
    /// Always `#microsoft.graph.commsNotification`.
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    /// What happened: an operation or a call that is over is `deleted`.
    change_type: ChangeType,
    /// The path of the resource, as older clients know it.
    resource: String,
    /// The path of the resource below `/v1.0/`.
    resource_url: String,
    /// The resource as it was when this was written.
    resource_data: ResourceData<'a>,
}

/// The resource of a notification: an operation, a call, or the participants of a call.
#[derive(Serialize, ToSchema)]
#[schema(as = resourceData)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "it lives no longer than it takes to write it")]
pub(super) enum ResourceData<'a> {
    Operation(OperationJson<'a>),
    Call(CallChange<'a>),
    Roster(Vec<ParticipantJson<'a>>),
}

/// A call as its changes are told.
#[derive(Serialize, ToSchema)]
#[schema(as = callChange)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallChange<'a> {
    /// Always `#microsoft.graph.call`.
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    /// Its path.
    #[serde(rename = "@odata.id")]
    odata_id: String,
    /// The version of the call's resources.
    #[serde(rename = "@odata.etag")]
    etag: String,
    /// Its name.
    #[schema(value_type = String, format = "uuid")]
    id: CallId,
    /// Where in its life it is.
    state: CallState,
    /// How it ended, once it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    result_info: Option<ResultJson<'a>>,
}

/// `path` begins behind `calls/`. The form of `resourceUrl`, without a leading slash, is that of the page which
/// documents startHoldMusic.
fn notification(change_type: ChangeType, path: &str, resource_data: ResourceData<'_>) -> Arc<str> {
    let notification = Notification {
        kind: "#microsoft.graph.commsNotification",
        change_type,
        resource: ["/app/calls/", path].concat(),
        resource_url: ["communications/calls/", path].concat(),
        resource_data,
    };
    text(&Notifications { kind: "#microsoft.graph.commsNotifications", value: [notification] }).into()
}

/// The end of an operation.
pub(crate) fn operation_notification(
    call: CallId,
    operation: &Operation,
    case: StatusCase,
    version: u64,
) -> Arc<str> {
    let path = [&*call.text(), "/operations/", &*operation.id.text()].concat();
    let odata_id = ["communications/calls/", &*path].concat();
    let mut json = operation_json(operation, case);
    json.odata_id = Some(&odata_id);
    json.etag = Some(etag(version));
    notification(ChangeType::Deleted, &path, ResourceData::Operation(json))
}

/// A change of a call: `established`, `terminating`, or `terminated` with a result.
pub(crate) fn call_notification(
    call: CallId,
    state: CallState,
    result: Option<&ResultInfo>,
    version: u64,
) -> Arc<str> {
    let json = CallChange {
        kind: "#microsoft.graph.call",
        odata_id: format!("communications/calls/{call}"),
        etag: etag(version),
        id: call,
        state,
        result_info: result.map(ResultJson::from),
    };
    let change = if result.is_some() { ChangeType::Deleted } else { ChangeType::Updated };
    notification(change, &call.to_string(), ResourceData::Call(json))
}

/// Who is in a call.
pub(crate) fn roster_notification(call: &Call, version: u64) -> Arc<str> {
    let path = [&*call.id.text(), "/participants"].concat();
    let roster = call.roster().into_iter().map(|participant| ParticipantJson {
        odata_id: Some(["communications/calls/", &*path, "/", &*participant.id.text()].concat()),
        etag: Some(etag(version)),
        ..participant_json(participant)
    });
    notification(ChangeType::Updated, &path, ResourceData::Roster(roster.collect()))
}
