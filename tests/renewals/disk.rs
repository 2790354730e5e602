//! A disk that is full: serving goes on, no refresh token is spent, and it mends itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{FIRST, account, asked, in_front_of, vendor};
use crate::support::{chat, post};

/// A file system of its own in the place of a folder, with the folder's files.
struct Small(PathBuf);

impl Small {
    /// `None`: this user may mount nothing here.
    fn in_place_of(folder: &Path) -> Option<Small> {
        let copy = folder.with_extension("copy");
        fs::rename(folder, &copy).unwrap();
        fs::create_dir(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
            .arg(folder)
            .status();
        let small = mounted
            .is_ok_and(|status| status.success())
            .then(|| Small(folder.to_owned()));
        let copied = Command::new("cp")
            .arg("-a")
            .arg(copy.join("."))
            .arg(folder)
            .status();
        assert!(copied.unwrap().success());
        small
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the gateway may have its files open still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_serving_goes_on_no_token_is_spent_and_space_mends_it() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = in_front_of(&account("a", &vendor, ""));
    assert_eq!(gateway.send(&chat(false)).status, 200);
    gateway.program.stop(Signal::SIGTERM);
    let Some(disk) = Small::in_place_of(&gateway.program.folder().join("data")) else {
        eprintln!("not tested: this user may mount nothing");
        return;
    };
    gateway.start_again();
    gateway.wait_until_ready();
    disk.fill();
    let refresh = || gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    let refused = refresh();
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("No space left"),
        "{}",
        refused.text()
    );
    assert_eq!(asked(&vendor), 1);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(gateway.account("a")["status"], "healthy");
    assert!(
        gateway.account("a")["last_error"]
            .as_str()
            .unwrap()
            .contains("No space left")
    );
    assert!(gateway.metric("poolgate_store_errors_total", &["store=\"tokens\""]) > 0.0);
    // A start finds the disk as full.
    gateway.restart(Signal::SIGKILL);
    gateway.wait_until_ready();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 1);
    disk.empty();
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(asked(&vendor), 2);
}
