//! The audit record of what these commands do to keys: by the same words as that of the API.

use std::time::Duration;

use nix::unistd::{Uid, User};
use serde_json::Value;

use super::super::out;
use crate::clock;
use crate::store::{AuditRecord, Store, millis};

/// Where it was done from.
const SOURCE: &str = "command line";

/// What was done is told no later for being written down.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes down that the user of this process did this. It is done in any case: what cannot be written
/// down is told.
pub(super) async fn note(store: &Store, action: &str, target: &str, detail: Value) {
    let at = millis(clock::wall());
    let record = AuditRecord {
        id: AuditRecord::id_at(at, fastrand::i64(..)),
        at,
        actor: user(),
        action: action.to_owned(),
        target: target.to_owned(),
        source: SOURCE.to_owned(),
        detail,
    };
    let put = tokio::time::timeout(PATIENCE, store.put_audit(&record)).await;
    let why = match put {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the records do not answer".to_owned(),
    };
    out::tell(&format!("it is done, but not in the audit record: {why}"));
}

/// Its name; its number where the machine knows no name.
fn user() -> String {
    let id = Uid::effective();
    let known = User::from_uid(id).ok().flatten();
    known.map_or_else(|| format!("user {id}"), |user| user.name)
}
