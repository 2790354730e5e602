//! What a predecessor still serves counts in the limits of its successor: it writes that down as its
//! requests end, and the successor reads it until the other one has gone.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::super::App;
use crate::clock;
use crate::store::SpentRecord;

/// So often it is read, or more seldom where reading takes long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const WORK_PART: u32 = 20;

/// Of which record: its moment, key and model.
type Of = (i64, String, Option<String>);

/// What one record has added to the limits: requests, tokens, cost.
type Counted = [u64; 3];

/// What is known of the predecessor's requests.
#[derive(Default)]
pub(in crate::app) struct Heritage {
    /// By which number it writes; none: there was no predecessor.
    writer: OnceLock<i64>,
    counted: Mutex<HashMap<Of, Counted>>,
    /// The predecessor has gone.
    pub(super) is_over: AtomicBool,
}

impl Heritage {
    /// The predecessor writes by this number.
    pub(super) fn begin(&self, writer: i64) {
        // There is only one.
        let _ = self.writer.set(writer);
    }

    /// Of these records what was not counted before. Those of others than the predecessor are read only
    /// once, and count as they are.
    pub(in crate::app) fn news(&self, spent: Vec<SpentRecord>) -> Vec<SpentRecord> {
        let Some(writer) = self.writer.get() else {
            return spent;
        };
        let mut counted = self.counted.lock();
        let news = |record: SpentRecord| {
            if record.run != *writer {
                return record;
            }
            let place = (record.at, record.key.clone(), record.model.clone());
            let known = counted.entry(place).or_default();
            let [requests, tokens, cost] =
                std::mem::replace(known, [record.requests, record.tokens, record.cost]);
            SpentRecord {
                requests: record.requests.saturating_sub(requests),
                tokens: record.tokens.saturating_sub(tokens),
                cost: record.cost.saturating_sub(cost),
                ..record
            }
        };
        spent.into_iter().map(news).collect()
    }
}

/// Counts what the predecessor writes down, until it has gone and all of it was read.
pub(in crate::app) async fn follow(app: &App) {
    let heritage = &app.handing.heritage;
    let Some(writer) = heritage.writer.get() else {
        return;
    };
    let mut pause = LOOK_EVERY;
    loop {
        sleep(pause).await;
        let is_last = heritage.is_over.load(Ordering::SeqCst);
        // What it has left in a file is written by this process.
        if is_last && !app.usage.flushed(LOOK_EVERY).await {
            continue;
        }
        let began = clock::now();
        match app.remember_spent_by(*writer).await {
            Ok(()) if is_last => return heritage.counted.lock().clear(),
            Ok(()) => {}
            Err(error) => tracing::debug!("limits do not know what the predecessor used: {error}"),
        }
        pause = LOOK_EVERY.max((clock::now() - began) * WORK_PART);
    }
}
