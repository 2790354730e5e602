//! Any sequence of what can happen to a pool keeps its promises (a model test over random histories).

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Rig, SECOND, config};
use crate::pool::{Lease, Outcome};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const STRATEGIES: [&str; 7] = [
    "round_robin",
    "weighted",
    "least_connections",
    "least_used",
    "response_time",
    "hash",
    "random",
];

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    /// One of the held leases ends with one of the outcomes; beyond these it is just dropped.
    End(usize, usize),
    Pass(u64),
    Enable(usize, bool),
    Reset(usize),
    /// Which accounts there are, their ceiling, the strategy, and the pool's ceiling.
    Reload(Vec<bool>, u32, usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..6u64).prop_map(Step::Take),
        8 => (any::<usize>(), 0..11usize).prop_map(|(lease, end)| Step::End(lease, end)),
        3 => (0..100_000u64).prop_map(Step::Pass),
        1 => (0..NAMES.len(), any::<bool>()).prop_map(|(n, on)| Step::Enable(n, on)),
        1 => (0..NAMES.len()).prop_map(Step::Reset),
        1 => (prop::collection::vec(any::<bool>(), NAMES.len()), 0..4u32, 0..STRATEGIES.len(), 0..9u32)
            .prop_map(|(there, most, strategy, pool)| Step::Reload(there, most, strategy, pool)),
    ]
}

fn outcomes() -> [Outcome; 10] {
    let wait = 20 * SECOND;
    [
        Outcome::Success,
        Outcome::ClientFault,
        Outcome::AuthDead,
        super::limited(wait),
        Outcome::QuotaDead { wait: None },
        Outcome::Overloaded,
        Outcome::Transient,
        Outcome::BrokenStream,
        Outcome::ClientGone,
        Outcome::Transient,
    ]
}

/// What must be so at any time.
struct World {
    rig: Rig,
    held: Vec<Lease>,
    most: u32,
    most_of_pool: u32,
}

fn settings(there: &[bool], most: u32, strategy: usize, pool: u32) -> crate::config::Pool {
    let name = STRATEGIES[strategy];
    let keys =
        format!("strategy: {name}, max_concurrent: {pool}, breaker: {{consecutive_failures: 2}},");
    let accounts: Vec<String> = NAMES
        .iter()
        .zip(there)
        .filter(|(_, there)| **there)
        .map(|(id, _)| format!("id: {id}, max_concurrent: {most}"))
        .collect();
    if accounts.is_empty() {
        let mut none = config(&keys, &["id: a"]);
        none.accounts.clear();
        return none;
    }
    config(&keys, &accounts)
}

impl World {
    fn take_a_step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Take(caller) => {
                let lease = self.rig.take_for(&super::by_caller(caller));
                if let Some(lease) = lease {
                    let view = self.rig.view(&lease.account().id);
                    prop_assert!(self.most == 0 || view.in_flight <= self.most, "{view:?}");
                    self.held.push(lease);
                    let all = self.held.len() as u32;
                    prop_assert!(self.most_of_pool == 0 || all <= self.most_of_pool);
                }
            }
            Step::End(_, _) if self.held.is_empty() => {}
            Step::End(lease, end) => {
                let lease = self.held.swap_remove(lease % self.held.len());
                match outcomes().get(end) {
                    Some(outcome) => drop(self.rig.end(lease, outcome)),
                    None => drop(lease),
                }
            }
            Step::Pass(ms) => self.rig.pass(Duration::from_millis(ms)),
            Step::Enable(n, enabled) => _ = self.rig.pool.set_enabled(NAMES[n], enabled),
            Step::Reset(n) => _ = self.rig.pool.reset(NAMES[n]),
            Step::Reload(there, most, strategy, pool) => {
                (self.most, self.most_of_pool) = (most, pool);
                self.rig
                    .pool
                    .reconfigure(&settings(&there, most, strategy, pool));
            }
        }
        self.check()
    }

    /// Every lease is counted once: on its account and in the pool.
    fn check(&self) -> Result<(), TestCaseError> {
        let rig = &self.rig;
        prop_assert_eq!(rig.pool.summary().in_flight as usize, self.held.len());
        let mut held: HashMap<usize, u32> = HashMap::new();
        for lease in &self.held {
            let live = std::sync::Arc::as_ptr(&lease.account().live) as usize;
            *held.entry(live).or_default() += 1;
        }
        for account in rig.pool.accounts() {
            let live = std::sync::Arc::as_ptr(&account.live) as usize;
            let expected = held.get(&live).copied().unwrap_or(0);
            prop_assert_eq!(account.live.in_flight(), expected);
        }
        // Who is ready is found; who is found was ready.
        let full = self.most_of_pool != 0 && self.held.len() as u32 >= self.most_of_pool;
        let any = rig.pool.accounts().iter().any(|account| account.is_ready());
        if any && !full {
            let found = rig.pool.try_lease(&super::anything(), rig.now);
            prop_assert!(found.is_some(), "an account is lost");
        }
        Ok(())
    }

    /// All requests end, all accounts are switched on, and more time passes than any recovery takes.
    fn recovers(mut self) -> Result<(), TestCaseError> {
        self.held.clear();
        prop_assert_eq!(self.rig.pool.summary().in_flight, 0);
        self.rig.pass(Duration::from_secs(2 * 3600));
        let ids: Vec<_> = self
            .rig
            .pool
            .accounts()
            .iter()
            .map(|a| a.id.clone())
            .collect();
        for id in ids {
            for other in NAMES {
                self.rig.pool.set_enabled(other, *other == *id);
            }
            let lease = self.rig.take();
            prop_assert_eq!(lease.as_ref().map(|l| l.account().id.clone()), Some(id));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_history_loses_an_account_or_breaks_a_ceiling(steps in prop::collection::vec(step(), 1..120)) {
        let rig = Rig::new("breaker: {consecutive_failures: 2},", &["id: a", "id: b", "id: c"]);
        let mut world = World { rig, held: vec![], most: 0, most_of_pool: 0 };
        for step in steps {
            world.take_a_step(step)?;
        }
        world.recovers()?;
    }
}
