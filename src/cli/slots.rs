//! `poolgate slots`: how many keys hold a slot of each account, and when each key gets another one.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::block_on;
use super::client::Admin;
use super::out::{self, Screen};
use super::source::Source;
use super::table::{Cell, Column, Paint, Table, cut};
use crate::clock;

/// Show which accounts have free slots, and which key sits where
#[derive(Args)]
#[command(
    after_help = "Example:\n  poolgate slots\n\nA key of a tier with `assignment: slots` has one slot of one account, from its first request on."
)]
pub(super) struct Slots {
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Keys on one page, and pages.
const PAGE: usize = 1000;
const PAGES: usize = 1000;

/// The longest bar, in characters.
const BAR: u64 = 20;

impl Slots {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        let state = block_on(state(&admin))?;
        if self.json {
            out::print_json(&state)?;
            return Ok(ExitCode::SUCCESS);
        }
        let view = View::deserialize(&state);
        let view = view.context("the gateway's answer is not understood; another version?")?;
        let lines = view.lines(Screen::now(), clock::wall());
        out::print(&(lines.join("\n") + "\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All pages as one.
async fn state(admin: &Admin) -> anyhow::Result<Value> {
    let mut state = Value::Null;
    let mut keys = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES {
        state = admin
            .get(&format!("/api/v1/slots?limit={PAGE}{cursor}"))
            .await?;
        if let Some(list) = state["keys"].as_array_mut() {
            keys.append(list);
        }
        let Some(next) = state["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
    }
    state["keys"] = json!(keys);
    Ok(state)
}

/// What an answer lacks counts as none.
#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    accounts: Vec<Place>,
    keys: Vec<Key>,
    total: Total,
    problem: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Place {
    account: String,
    tier: String,
    used: u64,
    limit: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Key {
    id: String,
    name: String,
    tier: String,
    account: String,
    next_rotation: String,
    previous_account: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Total {
    accounts: u64,
    slots: u64,
    used: u64,
    free: u64,
    percent: u64,
}

impl View {
    fn lines(&self, screen: Screen, now: SystemTime) -> Vec<String> {
        if self.accounts.is_empty() && self.keys.is_empty() {
            return vec!["no tier has slots (`assignment: slots`)".to_owned()];
        }
        let Screen { width, color, .. } = screen;
        let mut lines = self.places().lines(width, color);
        let Total {
            accounts,
            slots,
            used,
            free,
            percent,
        } = &self.total;
        lines.push(String::new());
        lines.push(format!(
            "{accounts} accounts, {slots} slots: {used} used, {free} free ({percent} %)"
        ));
        lines.push(String::new());
        match self.keys.is_empty() {
            true => lines.push("no key holds a slot".to_owned()),
            false => lines.extend(self.holders(now).lines(width, color)),
        }
        if let Some(problem) = &self.problem {
            lines.push(String::new());
            lines.push(cut(&format!("not as it is now: {problem}"), width));
        }
        lines
    }

    fn places(&self) -> Table {
        let row = |place: &Place| {
            let paint = match (place.used, place.limit) {
                (0, _) => Paint::Dim,
                (used, limit) if used >= limit => Paint::Watch,
                _ => Paint::Good,
            };
            let taken = format!("{}/{}", place.used, place.limit);
            let bar = Cell {
                text: bar(place.used, place.limit),
                paint,
            };
            vec![
                place.tier.clone().into(),
                place.account.clone().into(),
                taken.into(),
                bar,
            ]
        };
        Table {
            columns: vec![
                column("TIER", false, 12),
                column("ACCOUNT", false, 28),
                column("SLOTS", true, 11),
                column("", false, usize::MAX),
            ],
            rows: self.accounts.iter().map(row).collect(),
        }
    }

    fn holders(&self, now: SystemTime) -> Table {
        let row = |key: &Key| {
            let previous = key.previous_account.as_deref();
            let note = previous.map(|previous| format!("before: {previous}"));
            vec![
                key.name.clone().into(),
                masked(&key.id).into(),
                key.tier.clone().into(),
                key.account.clone().into(),
                left(&key.next_rotation, now).into(),
                note.unwrap_or_default().into(),
            ]
        };
        Table {
            columns: vec![
                column("KEY", false, 16),
                column("ID", false, 10),
                column("TIER", false, 10),
                column("ACCOUNT", false, 18),
                column("ROTATES IN", true, 12),
                column("", false, usize::MAX),
            ],
            rows: self.keys.iter().map(row).collect(),
        }
    }
}

fn column(name: &'static str, number: bool, most: usize) -> Column {
    Column { name, number, most }
}

/// `[##--]`: one sign a slot, or as many as there is room for.
fn bar(used: u64, limit: u64) -> String {
    let length = limit.max(used).min(BAR);
    let full = match limit.max(used) {
        0 => 0,
        all if all == length => used,
        all => (used * length).div_ceil(all),
    };
    let signs = |sign: &str, count: u64| sign.repeat(count as usize);
    format!("[{}{}]", signs("#", full), signs("-", length - full))
}

/// The first characters of an id, enough to tell keys apart.
fn masked(id: &str) -> String {
    let shown: String = id.chars().take(8).collect();
    match shown.len() < id.len() {
        true => format!("{shown}.."),
        false => shown,
    }
}

/// The time to a rotation, in its two largest units; `due` when it is over.
fn left(next_rotation: &str, now: SystemTime) -> String {
    let at = next_rotation.parse::<jiff::Timestamp>().ok();
    let left = at.and_then(|at| SystemTime::from(at).duration_since(now).ok());
    let Some(seconds) = left.as_ref().map(Duration::as_secs).filter(|s| *s > 0) else {
        return "due".to_owned();
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        _ => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::{View, bar, left};
    use crate::cli::out::Screen;
    use serde::Deserialize;
    use serde_json::json;
    use std::time::{Duration, SystemTime};

    const PLAIN: Screen = Screen {
        terminal: false,
        color: false,
        width: 80,
        height: usize::MAX,
    };

    #[test]
    fn each_account_has_a_bar_and_each_key_a_countdown() {
        let state = json!({
            "accounts": [
                {"account": "a", "tier": "medium", "used": 2, "limit": 2},
                {"account": "b", "tier": "medium", "used": 1, "limit": 2},
                {"account": "c", "tier": "medium", "used": 0, "limit": 2},
            ],
            "total": {"accounts": 3, "slots": 6, "used": 3, "free": 3, "percent": 50},
            "keys": [{
                "id": "cfg:team-of-four", "name": "team-of-four", "tier": "medium", "account": "a",
                "next_rotation": "1970-01-02T00:00:00.000Z", "previous_account": "b",
            }],
        });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3700);
        let lines = View::deserialize(&state).unwrap().lines(PLAIN, now);
        let want = [
            "TIER    ACCOUNT  SLOTS",
            "medium  a          2/2  [##]",
            "medium  b          1/2  [#-]",
            "medium  c          0/2  [--]",
            "",
            "3 accounts, 6 slots: 3 used, 3 free (50 %)",
            "",
            "KEY           ID          TIER    ACCOUNT  ROTATES IN",
            "team-of-four  cfg:team..  medium  a           22h 58m  before: b",
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn without_slots_that_is_said() {
        let lines = View::default().lines(PLAIN, SystemTime::UNIX_EPOCH);
        assert_eq!(lines, ["no tier has slots (`assignment: slots`)"]);
    }

    #[test]
    fn a_bar_has_a_sign_for_each_slot_while_there_is_room() {
        let bars = [(0, 0), (1, 0), (3, 5), (1, 1000), (1000, 1000)].map(|(n, of)| bar(n, of));
        assert_eq!(
            bars,
            [
                "[]",
                "[#]",
                "[###--]",
                "[#-------------------]",
                "[####################]"
            ]
        );
    }

    #[test]
    fn a_countdown_names_its_two_largest_units() {
        let said = |seconds| {
            left(
                "1970-01-02T00:00:00Z",
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            )
        };
        assert_eq!(
            [0, 86_399 - 61, 86_390, 86_400, 90_000].map(said),
            ["24h 0m", "1m 2s", "10s", "due", "due"]
        );
        assert_eq!(left("soon", SystemTime::UNIX_EPOCH), "due");
    }
}
