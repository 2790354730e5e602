//! The gate of a gateway on loopback, which asks for no key until there was one: once there may have been
//! one, records that cannot be read do not open it.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::create;
use crate::support::{Gateway, Mock, Program, chat, pool, post, wait_for};

/// The records are there, and nobody can make anything of them.
fn spoil(folder: &Path) {
    let data = folder.join("data");
    for name in ["poolgate.db-wal", "poolgate.db-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    fs::write(data.join("poolgate.db"), "no database at all").unwrap();
}

/// A gateway that may be open, in a folder in which these commands have run, with spoilt records; the
/// status of who comes without a key.
#[track_caller]
fn status_after(prepare: impl Fn(&Program)) -> u16 {
    let vendors = Mock::several(1, &[]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    gateway.program.stop(Signal::SIGTERM);
    fs::remove_dir_all(gateway.program.folder().join("data")).unwrap();
    prepare(&gateway.program);
    spoil(gateway.program.folder());
    gateway.start_again();
    gateway.send(&chat(false)).status
}

#[test]
fn records_that_cannot_be_read_open_it_only_if_there_never_was_a_key() {
    let fresh = status_after(|program| fs::create_dir(program.folder().join("data")).unwrap());
    assert_eq!(fresh, 200, "nobody ever asked for a key");
    let issued = status_after(|program| drop(create(program, &[])));
    assert_eq!(issued, 401, "whoever issued one means it");
    let vendors = Mock::several(1, &[]);
    let text = pool(&vendors, "");
    let other = Program::start(&["version"], &[("poolgate.yaml", &text)], &[]);
    create(&other, &[]);
    let file = other.folder().join("backup.jsonl");
    let file = file.to_str().unwrap();
    assert_eq!(other.command(&["backup", file]).0, Some(0));
    let restored = status_after(|program| {
        let (code, said, complaint) = program.command(&["restore", file]);
        assert_eq!(code, Some(0), "{said}{complaint}");
    });
    assert_eq!(restored, 401, "what was restored has a key in it");
}

#[test]
fn a_key_that_is_made_is_told_though_it_cannot_be_in_force_at_once() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    // Where it is noted that there was a key nothing can be written, which is the first step of
    // putting one in force.
    let marker = gateway.program.folder().join("data/keys_were_issued");
    std::os::unix::fs::symlink("/nonexistent/folder/file", &marker).unwrap();
    let made = gateway.admin(post("/api/v1/keys", &serde_json::json!({"name": "x"})));
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    fs::remove_file(&marker).unwrap();
    wait_for("the gate to close", || {
        (gateway.send(&chat(false)).status == 401).then_some(())
    });
    assert_eq!(gateway.send(&chat(false).bearer(&key)).status, 200);
}
