//! What a table of accounts shows live, and which of it is new since the last look.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::clock;
use crate::pool::AccountView;

/// One account, as far as it changes by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    id: String,
    status: &'static str,
    since: String,
    until: Option<String>,
    enabled: bool,
    available: bool,
    in_flight: u32,
    max_concurrent: u32,
    requests: u64,
    successes: u64,
    failures: u64,
    tokens: u64,
    ewma_ms: Option<u64>,
}

impl Row {
    fn of(view: &AccountView) -> Self {
        Row {
            id: view.id.clone(),
            status: view.status.name(),
            since: clock::rfc3339(view.since),
            until: view.until.map(clock::rfc3339),
            enabled: view.enabled,
            available: view.available,
            in_flight: view.in_flight,
            max_concurrent: view.max_concurrent,
            requests: view.requests,
            successes: view.successes,
            failures: view.failures,
            tokens: view.tokens,
            ewma_ms: view.response_ms.map(|ms| ms.ewma as u64),
        }
    }
}

/// The rows that listeners know.
#[derive(Default)]
pub(super) struct Rows(HashMap<String, Row>);

#[derive(Debug, Serialize)]
pub(super) struct Changes {
    changed: Vec<Row>,
    gone: Vec<String>,
}

impl Rows {
    /// What one who knows nothing is told.
    pub(super) fn all(views: &[AccountView]) -> Changes {
        Changes {
            changed: views.iter().map(Row::of).collect(),
            gone: Vec::new(),
        }
    }

    /// What is new, if anything is.
    pub(super) fn changes(&mut self, views: &[AccountView]) -> Option<Changes> {
        let mut changed = Vec::new();
        for view in views {
            let row = Row::of(view);
            if self.0.get(&row.id) != Some(&row) {
                self.0.insert(row.id.clone(), row.clone());
                changed.push(row);
            }
        }
        let mut gone = Vec::new();
        if self.0.len() > views.len() {
            let ids: HashSet<&str> = views.iter().map(|view| &*view.id).collect();
            let is_gone = |id: &String| !ids.contains(&**id);
            gone = self.0.keys().filter(|id| is_gone(id)).cloned().collect();
            gone.iter().for_each(|id| drop(self.0.remove(id)));
        }
        let is_news = !changed.is_empty() || !gone.is_empty();
        is_news.then_some(Changes { changed, gone })
    }

    /// Nobody listens.
    pub(super) fn forget(&mut self) {
        self.0 = HashMap::new();
    }
}
