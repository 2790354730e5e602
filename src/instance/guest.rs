//! While another poolgate looks after the programs, this one serves through those that it finds
//! running: as the successor it has to be ready before the other one goes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Identity, Process};
use super::record::{self, Record};
use super::run::wanted;
use super::{Instances, Owner};
use crate::clock::{self, Instant};
use crate::pool::{Account, Pool};

/// The programs through which accounts serve meanwhile.
#[derive(Default)]
pub(super) struct Guest(HashMap<String, Identity>);

impl Guest {
    /// Looks at what the other one has written down. A program counts once it answers its health
    /// path, and no more once it is gone or another one is in its place. Returns when to look again:
    /// soon while one has not answered yet.
    pub(super) async fn look(&mut self, instances: &Instances, owner: &dyn Owner) -> Instant {
        const SOON: Duration = Duration::from_millis(100);
        const LATER: Duration = Duration::from_secs(1);
        let folder = instances.folder.clone();
        let found = tokio::task::spawn_blocking(move || running(&folder)).await;
        // It ends early only with the process.
        let running = found.unwrap_or_default();
        self.0.retain(|id, process| {
            let stays = running.get(id).is_some_and(|now| now.process == *process);
            if let Some(pool) = pool_of(owner, id).filter(|_| !stays) {
                pool.program_down(id, None);
            }
            stays
        });
        let wanted = wanted(owner);
        self.trust(&wanted, &running, owner);
        let new = wanted
            .iter()
            .filter(|account| !self.0.contains_key(&*account.id));
        let new = new.filter_map(|account| running.get(&*account.id));
        let new: Vec<&Record> = new.collect();
        let missing = new.len();
        let asked = futures::future::join_all(new.into_iter().map(|record| async move {
            instances
                .ports
                .keep(&record.id.as_str().into(), record.port);
            owner.listens(&record.id, record.port);
            let pool = pool_of(owner, &record.id)?;
            let account = pool.account_named(&record.id)?;
            owner.health().ask(&account).await.ok()?;
            pool.program_up(&record.id);
            Some((record.id.clone(), record.process.clone()))
        }));
        let up: Vec<_> = asked.await.into_iter().flatten().collect();
        let wait = if up.len() < missing { SOON } else { LATER };
        self.0.extend(up);
        clock::now() + wait
    }

    /// Accounts serve already where the predecessor said that their programs are ready.
    fn trust(
        &mut self,
        wanted: &[Arc<Account>],
        running: &HashMap<String, Record>,
        owner: &dyn Owner,
    ) {
        let serving = wanted.iter().filter(|account| !account.awaits_program());
        for account in serving {
            let id = &*account.id;
            match (self.0.contains_key(id), running.get(id), pool_of(owner, id)) {
                (false, Some(record), _) => {
                    self.0.insert(id.to_owned(), record.process.clone());
                }
                (false, None, Some(pool)) => pool.program_down(id, None),
                _ => {}
            }
        }
    }
}

/// What is written down and runs, by account.
fn running(folder: &Path) -> HashMap<String, Record> {
    let records = record::all(folder).into_iter();
    let running = records.filter(|record| Process::adopt(&record.process).is_some());
    running.map(|record| (record.id.clone(), record)).collect()
}

fn pool_of(owner: &dyn Owner, id: &str) -> Option<Arc<Pool>> {
    let pools = owner.pools();
    pools
        .iter()
        .find(|pool| pool.account_named(id).is_some())
        .cloned()
}
