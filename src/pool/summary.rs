//! What may be said of all accounts together: a pool's totals, and the one object that `/health`
//! answers for itself and for four older systems (`contract/http.md` §1).

use std::time::SystemTime;

use serde_json::{Value, json};

use super::view::{AccountView, Status};
use crate::clock;

/// A copy of one pool's state.
#[derive(Clone, Debug)]
pub struct PoolView {
    pub name: String,
    /// The strategy's first name in the configuration, such as `round_robin`.
    pub strategy: &'static str,
    pub breaker_enabled: bool,
    pub accounts: usize,
    /// Accounts that may serve.
    pub available: usize,
    pub in_flight: u32,
    /// Requests waiting for an account.
    pub waiting: usize,
    /// How many may wait.
    pub max_waiting: usize,
}

/// Requests of all pools together, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    pub waiting: u64,
    pub active: u64,
    pub completed: u64,
    pub failed: u64,
}

impl QueueView {
    pub fn json(&self) -> Value {
        json!({
            "waiting": self.waiting,
            "active": self.active,
            "completed": self.completed,
            "failed": self.failed,
        })
    }
}

/// The answer to `/health`, with counts only and no names.
#[derive(Clone, Debug)]
pub struct Health {
    /// 200 when true, else 503: an account could serve and the process is not stopping. One that is
    /// full, cooling or behind an open breaker counts, because our own 429 or 503 is then the better
    /// answer than none.
    pub ready: bool,
    pub body: Value,
}

impl Health {
    /// `healthy` while one account can serve.
    pub fn word(&self) -> &'static str {
        word(self.ready)
    }

    /// `redis`: whether it answers; None without one.
    pub fn of(
        accounts: &[AccountView],
        queue: QueueView,
        draining: bool,
        redis: Option<bool>,
        at: SystemTime,
    ) -> Self {
        let total = accounts.len();
        let available = accounts.iter().filter(|a| a.available).count();
        let ready = !draining && accounts.iter().any(could_serve);
        let instances: Vec<&AccountView> = instances(accounts).collect();
        let in_state = |state| {
            instances
                .iter()
                .filter(|a| instance_state(a) == state)
                .count()
        };
        let body = json!({
            "status": word(ready),
            "degraded": available < total,
            "timestamp": clock::rfc3339(at),
            "instances": {"total": total, "healthy": available, "unhealthy": total - available},
            "accounts": {"total": total, "available": available, "unavailable": total - available},
            "multi_instance_mode": instances.len() > 1,
            "total_instances": instances.len(),
            "ready_instances": in_state("ready"),
            "busy_instances": in_state("busy"),
            "error_instances": in_state("error"),
            "queue": queue.json(),
            "redis": redis,
        });
        Health { ready, body }
    }
}

fn word(ready: bool) -> &'static str {
    if ready { "healthy" } else { "unhealthy" }
}

fn could_serve(account: &AccountView) -> bool {
    let waiting = matches!(
        account.status,
        Status::Full | Status::Cooling | Status::Open | Status::HalfOpen
    );
    account.available || (account.enabled && waiting)
}

/// The accounts that the older systems call instances: those with a local program, or, when none
/// has one, all of them.
pub fn instances(accounts: &[AccountView]) -> impl Iterator<Item = &AccountView> {
    let any = accounts.iter().any(|a| a.has_instance);
    accounts.iter().filter(move |a| a.has_instance || !any)
}

/// `ready`, `busy`, `starting`, `stopped`, `disabled` or `error`.
pub fn instance_state(account: &AccountView) -> &'static str {
    match account.status {
        Status::Disabled => "disabled",
        Status::Draining => "stopped",
        Status::Unknown => "starting",
        Status::Full => "busy",
        Status::Healthy | Status::HalfOpen if account.in_flight > 0 => "busy",
        Status::Healthy | Status::HalfOpen => "ready",
        Status::Unhealthy | Status::Cooling | Status::Open | Status::NeedsLogin => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, QueueView};
    use crate::pool::{AccountView, BreakerView, Status};
    use serde_json::json;
    use std::time::{Duration, SystemTime};

    fn account(id: &str, status: Status) -> AccountView {
        AccountView {
            id: id.to_owned(),
            pool: "default".to_owned(),
            status,
            since: SystemTime::UNIX_EPOCH,
            until: None,
            last_error: None,
            enabled: status != Status::Disabled,
            available: matches!(status, Status::Healthy | Status::Full),
            weight: 1,
            priority: 0,
            in_flight: u32::from(status == Status::Full),
            max_concurrent: 1,
            requests: 0,
            successes: 0,
            failures: 0,
            tokens: 0,
            consecutive_failures: 0,
            breaker: BreakerView::Closed,
            cooling_until: None,
            cooling_models: Vec::new(),
            limited_by: None,
            rate_limits: Vec::new(),
            last_used: None,
            last_success: None,
            last_failure: None,
            last_heartbeat: None,
            response_ms: None,
            upstream_port: 443,
            credential: "api_key",
            token_expires_at: None,
            token_granted_at: None,
            auth_file: None,
            mishaps: 0,
            current_request: None,
            has_instance: false,
        }
    }

    fn health(states: &[Status], draining: bool) -> Health {
        let accounts: Vec<_> = states.iter().map(|s| account("a", *s)).collect();
        let queue = QueueView {
            waiting: 1,
            active: 2,
            completed: 3,
            failed: 4,
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        Health::of(&accounts, queue, draining, None, at)
    }

    #[test]
    fn the_object_satisfies_all_four_older_shapes_at_once() {
        let health = health(
            &[
                Status::Healthy,
                Status::Full,
                Status::Cooling,
                Status::Disabled,
            ],
            false,
        );
        assert!(health.ready);
        assert_eq!(
            health.body,
            json!({
                "status": "healthy", "degraded": true, "timestamp": "1970-01-01T00:00:01.500Z",
                "instances": {"total": 4, "healthy": 2, "unhealthy": 2},
                "accounts": {"total": 4, "available": 2, "unavailable": 2},
                "multi_instance_mode": true, "total_instances": 4, "ready_instances": 1,
                "busy_instances": 1, "error_instances": 1,
                "queue": {"waiting": 1, "active": 2, "completed": 3, "failed": 4},
                "redis": null,
            })
        );
    }

    #[test]
    fn a_gateway_whose_accounts_only_wait_is_still_ready() {
        for state in [
            Status::Full,
            Status::Cooling,
            Status::Open,
            Status::HalfOpen,
        ] {
            assert!(health(&[state], false).ready, "{state:?}");
        }
    }

    #[test]
    fn without_an_account_that_could_serve_it_is_not() {
        for state in [
            Status::Unhealthy,
            Status::Disabled,
            Status::NeedsLogin,
            Status::Draining,
        ] {
            let health = health(&[state, state], false);
            assert!(!health.ready, "{state:?}");
            assert_eq!(health.body["status"], "unhealthy");
        }
        assert!(!health(&[], false).ready);
    }

    #[test]
    fn a_stopping_gateway_is_not_ready() {
        assert!(!health(&[Status::Healthy], true).ready);
    }
}
