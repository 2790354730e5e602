//! The accounts of a pretended gateway, as its API changes them.

use std::future::ready;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{Gateway, account};
use crate::admin::{AccountError, Keys, NotKept, Roster};

pub(super) type Changed<'a> = BoxFuture<'a, Result<(), AccountError>>;

pub(super) fn done(is_known: bool, id: &str) -> Changed<'_> {
    let unknown = || AccountError::NoSuchAccount(id.to_owned());
    Box::pin(ready(is_known.then_some(()).ok_or_else(unknown)))
}

pub(super) type Switched<'a> = BoxFuture<'a, Result<Option<NotKept>, AccountError>>;

/// An account called `unkept` is switched, and not written down.
pub(super) fn switched(is_known: bool, id: &str) -> Switched<'_> {
    Box::pin(async move {
        done(is_known, id).await?;
        Ok((id == "unkept").then(|| NotKept("the disk is full".to_owned())))
    })
}

/// It takes every word for it.
impl Roster for Gateway {
    fn add(&self, _: String, id: String, _: Keys) -> Changed<'_> {
        // One is kept, and in force only later.
        if id != "late" {
            self.accounts.lock().push(account(&id));
        }
        Box::pin(ready(Ok(())))
    }

    fn change<'a>(&'a self, id: &'a str, keys: Keys) -> Changed<'a> {
        let weight = keys.get("weight").and_then(Value::as_u64);
        done(
            self.change(id, |a| a.weight = weight.unwrap_or(1) as u32),
            id,
        )
    }

    fn remove<'a>(&'a self, id: &'a str) -> Changed<'a> {
        self.accounts.lock().retain(|account| account.id != id);
        Box::pin(ready(Ok(())))
    }

    fn restore<'a>(&'a self, id: &'a str) -> Changed<'a> {
        let unknown = AccountError::NotChanged(id.to_owned());
        Box::pin(ready(Err(unknown)))
    }
}
