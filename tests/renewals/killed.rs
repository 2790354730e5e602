//! Killed, or told that the disk failed, at each step of a save: the account works after a restart,
//! but for the one moment in which the vendor has given the next token and the disk does not have it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{FIRST, account, asked, in_front_of, vendor};
use crate::support::{Gateway, chat, count, get, post, wait_for};

/// What is done to which call of the system: each thread counts its own.
fn points() -> Vec<String> {
    let kills = |call: &'static str, most: u32| {
        (1..=most).map(move |n| format!("{call}:signal=SIGKILL:when={n}"))
    };
    let fails = |call: &'static str, most: u32| {
        (1..=most).map(move |n| format!("{call}:error=EIO:when={n}"))
    };
    kills("fsync", 8)
        .chain(fails("fsync", 8))
        .chain(kills("rename,renameat,renameat2", 3))
        .chain(fails("rename,renameat,renameat2", 3))
        .chain(kills("ftruncate", 3))
        .chain(fails("ftruncate", 3))
        .chain(kills("write", 20))
        .chain(kills("lseek", 3))
        .collect()
}

/// `poolgate` in the folder of a gateway that has ended, with `injected` in its way.
struct Injured(Child);

impl Injured {
    fn start(folder: &Path, injected: &str) -> Injured {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg("trace=fsync,rename,renameat,renameat2,ftruncate,write,lseek")
            .args(["-e", &format!("inject={injected}")])
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

/// Has tokens renewed again and again until the point is met, or was met without a death.
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
            return;
        }
    }
}

#[test]
fn wherever_a_save_is_cut_short_the_account_works_or_says_that_it_needs_a_login() {
    let points = points();
    let step = points.len() / count(8, points.len());
    let mut gaps = 0;
    for point in points.iter().step_by(step) {
        let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
        let mut gateway = in_front_of(&account("a", &vendor, ""));
        gateway.program.stop(Signal::SIGTERM);
        let mut injured = Injured::start(gateway.program.folder(), point);
        renew_until_it_hurts(&gateway, &mut injured);
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
        assert!(point.contains("SIGKILL"), "{point}: nothing was killed");
        gaps += 1;
    }
    assert!(
        gaps * 4 <= points.len() / step,
        "{gaps} gaps are no single moment"
    );
}
