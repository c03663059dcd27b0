//! Why the engine is not ready: what keeps it from its work comes in, what `/readyz` says goes out.

use std::{collections::BTreeMap, sync::RwLock};

/// What keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is about to end.
    Draining,
    /// What must be durable cannot be made durable.
    Store,
}

/// All that keeps it at present.
#[derive(Debug, Default)]
pub struct NotReady(RwLock<BTreeMap<Cause, String>>);

impl NotReady {
    /// From now on this keeps it, for that reason.
    pub fn say(&self, cause: Cause, reason: String) {
        self.0.write().expect("nobody panics while holding it").insert(cause, reason);
    }

    /// This keeps it no more.
    pub fn clear(&self, cause: Cause) {
        if self.says(cause) {
            self.0.write().expect("nobody panics while holding it").remove(&cause);
        }
    }

    /// Whether this keeps it.
    pub fn says(&self, cause: Cause) -> bool {
        self.0.read().expect("nobody panics while holding it").contains_key(&cause)
    }

    /// The first reason, if there is one.
    pub fn reason(&self) -> Option<String> {
        self.0.read().expect("nobody panics while holding it").values().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_hides_no_other() {
        let not_ready = NotReady::default();
        assert_eq!(not_ready.reason(), None);
        not_ready.say(Cause::Store, "full".to_owned());
        not_ready.say(Cause::Draining, "the engine is draining".to_owned());
        assert_eq!(not_ready.reason().as_deref(), Some("the engine is draining"));
        not_ready.clear(Cause::Draining);
        assert_eq!(not_ready.reason().as_deref(), Some("full"));
        not_ready.clear(Cause::Store);
        assert_eq!(not_ready.reason(), None);
    }
}
