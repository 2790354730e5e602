//! Killed, or told that the disk failed, at each step of a save: the account works after a restart,
//! but for the one moment in which the vendor has given the next token and the disk does not have it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{FIRST, account, asked, in_front_of, vendor};
use crate::support::{Gateway, chat, count, get, post, wait_for};

/// What is done at which call of the system.
struct Point {
    call: &'static str,
    does: &'static str,
    /// Each thread counts its own.
    at: u32,
}

/// Places a token's bytes: nothing else here writes at a stated place, without records.
const SAVES: &str = "pwrite64";
const RENAMES: &str = "rename,renameat,renameat2";
const KILLS: &str = "signal=SIGKILL";
const FAILS: &str = "error=EIO";

/// Those that every save comes by are first.
fn points() -> Vec<Point> {
    let calls = [SAVES, "fdatasync", "fsync", RENAMES];
    let of_a_save = (1..=5).flat_map(|at| {
        let both = calls.map(|call| [KILLS, FAILS].map(|does| Point { call, does, at }));
        both.into_iter().flatten()
    });
    let others = (1..=10).map(|at| Point {
        call: "write",
        does: KILLS,
        at,
    });
    of_a_save.chain(others).collect()
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:when={}", self.call, self.does, self.at)
    }
}

/// `poolgate` in the folder of a gateway that has ended, with `injected` in its way.
struct Injured(Child);

impl Injured {
    fn start(folder: &Path, point: &Point) -> Injured {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "strace.txt", "-e"])
            .arg(format!("trace={}", point.call))
            .args(["-e", &format!("inject={point}")])
            .arg(env!("CARGO_BIN_EXE_poolgate"))
            .args(["run", "-c", "poolgate.yaml"])
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Injured(child.expect("strace is not installed: run `make deps`"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Did what was to happen happen?
    fn was_hurt(&mut self, folder: &Path, point: &Point) -> bool {
        match point.does {
            KILLS => self.has_ended(),
            _ => std::fs::read_to_string(folder.join("strace.txt"))
                .unwrap()
                .contains("(INJECTED)"),
        }
    }
}

impl Drop for Injured {
    fn drop(&mut self) {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// Has tokens renewed again and again until the point is met; one that does not kill is met meanwhile.
fn renew_until_it_hurts(gateway: &Gateway, injured: &mut Injured) {
    let is_up = |injured: &mut Injured| {
        wait_for("the gateway to be up, or dead", || {
            let up = get("/livez").try_send(gateway.admin_address).is_ok();
            (up || injured.has_ended()).then_some(up)
        })
    };
    if !is_up(injured) {
        return;
    }
    for _ in 0..3 {
        let request = post("/api/v1/accounts/a/refresh", &json!({}));
        let request = request.bearer(&gateway.admin_token());
        if request.try_send(gateway.admin_address).is_err() {
            return wait_for("the death", || injured.has_ended().then_some(()));
        }
    }
}

/// Records write to files as well, at the same calls; a renewal works without them.
fn without_records(folder: &Path) {
    let data = folder.join("data");
    for name in ["poolgate.db", "poolgate.db-wal", "poolgate.db-shm"] {
        // Where the stop was in order the last two are gone.
        let _ = std::fs::remove_file(data.join(name));
    }
    std::fs::create_dir(data.join("poolgate.db")).unwrap();
}

#[test]
fn wherever_a_save_is_cut_short_the_account_works_or_says_that_it_needs_a_login() {
    let points = points();
    let tried = count(8, points.len());
    let mut gaps = 0;
    for point in &points[..tried] {
        let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
        let mut gateway = in_front_of(&account("a", &vendor, ""));
        gateway.program.stop(Signal::SIGTERM);
        without_records(gateway.program.folder());
        let mut injured = Injured::start(gateway.program.folder(), point);
        renew_until_it_hurts(&gateway, &mut injured);
        let was_hurt = injured.was_hurt(gateway.program.folder(), point);
        assert!(was_hurt || point.at > 1, "{point}: never met");
        drop(injured);
        let spent = asked(&vendor);
        gateway.start_again();
        wait_for(
            &format!("{point}: an account that works or says why"),
            || {
                let status = gateway.account("a")["status"].clone();
                (status == "healthy" || status == "needs_login").then_some(())
            },
        );
        let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
        if refreshed.status == 200 {
            assert_eq!(gateway.send(&chat(false)).status, 200, "{point}");
            continue;
        }
        // The gap: what the vendor gave last is lost. It is said, and the vendor left alone.
        assert_eq!(gateway.account("a")["status"], "needs_login", "{point}");
        assert!(asked(&vendor) <= spent + 2, "{point}: a loop");
        assert!(
            was_hurt && point.does == KILLS,
            "{point}: nothing was killed"
        );
        gaps += 1;
    }
    assert!(gaps * 4 <= tried, "{gaps} gaps are no single moment");
}
