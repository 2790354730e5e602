//! How `status` shows the answers of the management API.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::super::out::Screen;
use super::super::table::{Cell, Column, Paint, Table, cut};

/// What is shown, taken from the answers. What an answer lacks counts as none.
#[derive(Deserialize)]
pub(super) struct View {
    overview: Overview,
    accounts: Vec<Account>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Overview {
    version: String,
    status: String,
    draining: bool,
    accounts: Totals,
    pools: Vec<Pool>,
    queue: Queue,
    slots: Slots,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Slots {
    slots: u64,
    used: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Totals {
    total: u64,
    available: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pool {
    name: String,
    strategy: String,
    accounts: u64,
    in_flight: u64,
    waiting: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Queue {
    waiting: u64,
    active: u64,
    completed: u64,
    failed: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Account {
    id: String,
    pool: String,
    status: String,
    until: Option<String>,
    last_error: Option<String>,
    limited_by: Option<String>,
    in_flight: u64,
    max_concurrent: u64,
    requests: u64,
    failures: u64,
    instance: Option<Instance>,
    credential: Credential,
}

/// The local program that serves an account.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Instance {
    port: Option<u16>,
    state: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Credential {
    kind: String,
    expires_at: Option<String>,
}

impl View {
    pub(super) fn of(state: &Value) -> anyhow::Result<View> {
        View::deserialize(state).context("the gateway's answer is not understood; another version?")
    }

    /// The lines to show, none wider than the screen. `now` is compared with the times in the answers.
    pub(super) fn lines(&self, url: &str, screen: Screen, now: SystemTime) -> Vec<String> {
        let cut = |text: String| cut(&text, screen.width);
        let mut lines = vec![cut(self.title(url)), String::new()];
        lines.extend(
            self.table(screen.width, now)
                .lines(screen.width, screen.color),
        );
        lines.push(String::new());
        lines.extend(self.overview.pools.iter().map(|pool| cut(pool.line())));
        let Queue {
            waiting,
            active,
            completed,
            failed,
        } = self.overview.queue;
        lines.push(cut(format!(
            "queue: {waiting} waiting, {active} active, {completed} completed, {failed} failed"
        )));
        let Slots { slots, used } = self.overview.slots;
        if slots > 0 {
            lines.push(cut(format!("slots: {used} of {slots} taken by keys")));
        }
        lines
    }

    fn title(&self, url: &str) -> String {
        let Overview {
            version,
            status,
            draining,
            accounts,
            ..
        } = &self.overview;
        let state = if *draining { "stopping" } else { status };
        format!(
            "poolgate {version} at {url}: {state}, {} of {} accounts can serve",
            accounts.available, accounts.total
        )
    }

    fn table(&self, width: usize, now: SystemTime) -> Table {
        const ROOMY: usize = 100;
        let column = |name, number, most| Column { name, number, most };
        let many_pools = self.overview.pools.len() > 1;
        // On a narrow screen the names give way, so that the note has a place.
        let (account, pool, busy) = match many_pools && width < ROOMY {
            true => (12, 6, 6),
            false => (18, 8, 8),
        };
        let mut columns = vec![
            column("ACCOUNT", false, account),
            column("STATUS", false, 11),
            column("CREDENTIAL", false, 10),
            column("BUSY", true, busy),
            column("REQUESTS", true, 8),
            column("FAILED", true, 6),
            column("NOTE", false, usize::MAX),
        ];
        if many_pools {
            columns.insert(1, column("POOL", false, pool));
        }
        let has_programs = self
            .accounts
            .iter()
            .any(|account| account.instance.is_some());
        if has_programs {
            columns.insert(columns.len() - 1, column("PROGRAM", false, 14));
        }
        let row = |account: &Account| {
            let mut row = account.row(now);
            if many_pools {
                row.insert(1, Cell::from(account.pool.clone()));
            }
            if has_programs {
                row.insert(row.len() - 1, Cell::from(account.program()));
            }
            row
        };
        Table {
            columns,
            rows: self.accounts.iter().map(row).collect(),
        }
    }
}

impl Pool {
    fn line(&self) -> String {
        let plural = if self.accounts == 1 { "" } else { "s" };
        format!(
            "pool {}: {}, {} account{plural}, {} in flight, {} waiting",
            self.name, self.strategy, self.accounts, self.in_flight, self.waiting
        )
    }
}

impl Account {
    fn row(&self, now: SystemTime) -> Vec<Cell> {
        let busy = match self.max_concurrent {
            0 => self.in_flight.to_string(),
            most => format!("{}/{most}", self.in_flight),
        };
        let status = Cell {
            text: self.status.clone(),
            paint: paint(&self.status),
        };
        vec![
            self.id.clone().into(),
            status,
            self.credential.shown(now).into(),
            busy.into(),
            short(self.requests).into(),
            short(self.failures).into(),
            self.note(now).into(),
        ]
    }

    /// The state of its program, and where it listens.
    fn program(&self) -> String {
        match &self.instance {
            None => String::new(),
            Some(Instance {
                port: Some(port),
                state,
            }) => format!("{state} :{port}"),
            Some(Instance { port: None, state }) => state.clone(),
        }
    }

    /// Until when, and why.
    fn note(&self, now: SystemTime) -> String {
        let until = self.until.as_deref().and_then(|text| left(text, now));
        let error = self.last_error.as_deref().unwrap_or_default();
        let limit = self.limited_by.as_ref();
        let why = limit.map_or_else(|| error.to_owned(), |limit| format!("its limit of {limit}"));
        match until {
            Some(left) if why.is_empty() => format!("for {left}"),
            Some(left) => format!("for {left}: {why}"),
            None => error.to_owned(),
        }
    }
}

impl Credential {
    /// Its kind in one word, and of a token that expires the time left: `oauth2 59m`.
    fn shown(&self, now: SystemTime) -> String {
        let kind = match self.kind.as_str() {
            "aws_sso_oidc" => "aws",
            "google_service_account" => "google",
            "json_file" => "file",
            other => other,
        };
        let expires_at = self.expires_at.as_deref();
        let expires_at = expires_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        match expires_at.map(|at| SystemTime::from(at).duration_since(now)) {
            None => kind.to_owned(),
            Some(Ok(left)) => format!("{kind} {}", coarse(left)),
            Some(Err(_)) => format!("{kind} over"),
        }
    }
}

/// In whole units of one kind, at most three characters for less than 1000 days.
fn coarse(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..100 => format!("{seconds}s"),
        seconds @ 100..6_000 => format!("{}m", seconds / 60),
        seconds @ 6_000..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", (seconds / 86_400).min(999)),
    }
}

fn paint(status: &str) -> Paint {
    match status {
        "healthy" => Paint::Good,
        "cooling" | "full" | "half_open" => Paint::Watch,
        "open" | "unhealthy" | "needs_login" => Paint::Bad,
        _ => Paint::Dim,
    }
}

/// The time from `now` to `until` (RFC 3339) in whole seconds; `None` when it is over.
fn left(until: &str, now: SystemTime) -> Option<String> {
    let until = SystemTime::from(until.parse::<jiff::Timestamp>().ok()?);
    let left = until.duration_since(now).ok()?;
    let seconds = Duration::from_secs(left.as_secs_f64().ceil() as u64);
    Some(humantime::format_duration(seconds).to_string())
}

/// A count in at most six characters: 99999, then 100.0k, 99.9M and so on.
fn short(count: u64) -> String {
    let scaled = |by: f64, unit: &str| format!("{:.1}{unit}", count as f64 / by);
    match count {
        0..100_000 => count.to_string(),
        100_000..1_000_000 => scaled(1e3, "k"),
        1_000_000..1_000_000_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::{View, left, short};
    use crate::cli::out::Screen;
    use serde_json::{Value, json};
    use std::time::{Duration, SystemTime};

    const PLAIN: Screen = Screen {
        terminal: false,
        color: false,
        width: 80,
        height: usize::MAX,
    };

    /// 2026-11-21T10:00:00Z
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_255_200)
    }

    fn account(id: &str, status: &str, more: Value) -> Value {
        let mut account = json!({"id": id, "pool": "default", "status": status, "in_flight": 0,
            "max_concurrent": 0, "requests": 12, "failures": 0, "until": null, "last_error": null,
            "credential": {"kind": "api_key", "expires_at": null, "last_refresh": null}});
        let more = more.as_object().unwrap().clone();
        account.as_object_mut().unwrap().extend(more);
        account
    }

    fn lines(accounts: &[Value], pools: &[&str]) -> Vec<String> {
        let pool = |name: &&str| {
            json!({"name": name, "strategy": "round_robin",
            "accounts": 2, "in_flight": 1, "waiting": 3})
        };
        let pools: Vec<Value> = pools.iter().map(pool).collect();
        let state = json!({
            "overview": {"version": "0.1.0", "status": "healthy", "draining": false, "pools": pools,
                "accounts": {"total": 2, "available": 1, "unavailable": 1},
                "queue": {"waiting": 3, "active": 1, "completed": 40, "failed": 2},
                "slots": {"accounts": 2, "slots": 4, "used": 3, "free": 1, "percent": 75}},
            "accounts": accounts,
        });
        let view = View::of(&state).unwrap();
        view.lines("http://127.0.0.1:8081", PLAIN, now())
    }

    #[test]
    fn one_pool_is_shown_with_what_its_accounts_wait_for() {
        let open = json!({"in_flight": 2, "max_concurrent": 5, "failures": 7,
            "until": "2026-11-21T10:00:24.5Z", "last_error": "500: the server had an error",
            "credential": {"kind": "oauth2", "expires_at": "2026-11-21T10:59:59Z"}});
        let spent = json!({"until": "2026-11-21T10:00:09Z", "limited_by": "9 requests in 1m"});
        let shown = lines(
            &[
                account("fast", "healthy", json!({})),
                account("flaky", "open", open),
                account("spent", "cooling", spent),
            ],
            &["default"],
        );
        let want = [
            "poolgate 0.1.0 at http://127.0.0.1:8081: healthy, 1 of 2 accounts can serve",
            "",
            "ACCOUNT  STATUS   CREDENTIAL  BUSY  REQUESTS  FAILED  NOTE",
            "fast     healthy  api_key        0        12       0",
            "flaky    open     oauth2 59m   2/5        12       7  for 25s: 500: the server..",
            "spent    cooling  api_key        0        12       0  for 9s: its limit of 9 r..",
            "",
            "pool default: round_robin, 2 accounts, 1 in flight, 3 waiting",
            "queue: 3 waiting, 1 active, 40 completed, 2 failed",
            "slots: 3 of 4 taken by keys",
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn the_longest_names_and_errors_still_fit_80_columns() {
        let more = json!({"pool": "p".repeat(64), "in_flight": 123_456, "max_concurrent": 123_456,
            "requests": 999_999_999_999_u64, "failures": 999_999_999_999_u64, "until": "2027-11-21T10:00:00Z",
            "last_error": "very long ".repeat(50),
            "credential": {"kind": "google_service_account", "expires_at": "2027-11-21T10:00:00Z"}});
        let id = "a".repeat(64);
        let shown = lines(
            &[account(&id, "needs_login", more)],
            &[&"p".repeat(64), "q"],
        );
        for line in &shown {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let row = shown.iter().find(|line| line.starts_with("aaa")).unwrap();
        assert!(row.contains("needs_login"), "{row}");
        assert!(row.contains("for"), "{row}");
    }

    #[test]
    fn the_time_that_a_token_has_left_is_shown_beside_its_kind() {
        let shown = |kind: &str, expires_at: Value| {
            let credential = super::Credential {
                kind: kind.to_owned(),
                expires_at: expires_at.as_str().map(str::to_owned),
            };
            credential.shown(now())
        };
        for (expires_at, want) in [
            ("2026-11-21T10:00:45Z", "oauth2 45s"),
            ("2026-11-21T11:30:00Z", "oauth2 90m"),
            ("2026-11-22T10:00:00Z", "oauth2 24h"),
            ("2026-12-21T10:00:00Z", "oauth2 30d"),
            ("2999-12-21T10:00:00Z", "oauth2 999d"),
            ("2026-11-21T09:59:59Z", "oauth2 over"),
        ] {
            assert_eq!(shown("oauth2", json!(expires_at)), want);
        }
        assert_eq!(shown("json_file", Value::Null), "file");
    }

    #[test]
    fn an_answer_that_lacks_something_is_shown_without_it() {
        let state = json!({"overview": {}, "accounts": [{"id": "a"}]});
        let view = View::of(&state).unwrap();
        assert!(view.lines("", PLAIN, now())[3].starts_with('a'));
        assert!(View::of(&json!({"overview": []})).is_err());
    }

    #[test]
    fn what_is_over_has_no_time_left_and_big_counts_are_short() {
        assert_eq!(left("2026-11-21T09:59:59Z", now()), None);
        assert_eq!(left("2026-11-21T12:00:00Z", now()).unwrap(), "2h");
        assert_eq!(left("soon", now()), None);
        for (count, want) in [
            (99_999, "99999"),
            (100_000, "100.0k"),
            (12_345_678, "12.3M"),
        ] {
            assert_eq!(short(count), want);
        }
    }
}
