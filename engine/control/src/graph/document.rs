//! Every shape of JSON that leaves or enters, by its name: what the OpenAPI document's schemas are.

use std::collections::BTreeMap;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::AllOf},
};

use super::{
    bodies::bodies,
    check::CheckReport,
    entities::{CallJson, Collection, MediaLeg, OperationJson, ParticipantJson},
    errors::Body,
    tell::Notifications,
    undelivered::{RedeliveryJson, UndeliveredJson},
};

/// The members that stay whatever `$select` names.
const ALWAYS: &[&str] = &["@odata.type"];

/// Schemas by name, made of the types that are written and of the limits of what is read.
pub fn schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut schemas = Vec::new();
    with::<CallJson<'_>>(&mut schemas);
    with::<ParticipantJson<'_>>(&mut schemas);
    with::<OperationJson<'_>>(&mut schemas);
    with::<MediaLeg<'_>>(&mut schemas);
    with::<CheckReport<'_>>(&mut schemas);
    with::<Notifications<'_>>(&mut schemas);
    with::<Body<'_>>(&mut schemas);
    with::<UndeliveredJson<'_>>(&mut schemas);
    with::<RedeliveryJson>(&mut schemas);
    schemas
        .push(("undeliveredNotificationCollection".to_owned(), Collection::<UndeliveredJson<'_>>::schema()));
    schemas.push(("callCollection".to_owned(), Collection::<CallJson<'_>>::schema()));
    schemas.push(("participantCollection".to_owned(), Collection::<ParticipantJson<'_>>::schema()));
    schemas.push(("commsOperationCollection".to_owned(), Collection::<OperationJson<'_>>::schema()));
    schemas.extend(bodies().into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    let mut schemas: BTreeMap<_, _> = schemas.into_iter().collect();
    for name in ["call", "participant", "commsOperation", "undeliveredNotification"] {
        if let Some(RefOr::T(schema)) = schemas.get_mut(name) {
            select_from(schema);
        }
    }
    schemas
}

fn with<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// `$select` leaves members out.
fn select_from(schema: &mut Schema) {
    match schema {
        Schema::Object(object) => object.required.retain(|name| ALWAYS.contains(&name.as_str())),
        Schema::AllOf(AllOf { items, .. }) => {
            for item in items {
                if let RefOr::T(schema) = item {
                    select_from(schema);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reference that leads nowhere makes the document useless for generators.
    #[test]
    fn every_schema_that_is_referred_to_is_there() {
        let schemas = schemas();
        let text = serde_json::to_string(&schemas).unwrap();
        for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
