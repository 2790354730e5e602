//! Successors that crash, hang, have a bad file or never come: the gateway goes on as it was, and says so.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::upgrade::wait_for_only;
use crate::support::{Gateway, Mock, chat, free_address, pool, wait_for};

/// A gateway, and a copy of the program that it was started from.
struct Stage {
    gateway: Gateway,
    binary: PathBuf,
    _folder: tempfile::TempDir,
    _vendors: Vec<Mock>,
}

fn stage() -> Stage {
    let vendors = Mock::several(1, &[]);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let binary = folder.path().join("poolgate");
    fs::hard_link(env!("CARGO_BIN_EXE_poolgate"), &binary).unwrap();
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    gateway.program.stop(Signal::SIGTERM);
    gateway.program.start_again_from(&binary);
    gateway
        .program
        .wait_until_it_serves(gateway.address, "/livez");
    gateway.wait_until_it_takes_orders();
    Stage {
        gateway,
        binary,
        _folder: folder,
        _vendors: vendors,
    }
}

impl Stage {
    /// Another program where this one was.
    fn replace_by(&self, script: &str) {
        fs::remove_file(&self.binary).unwrap();
        fs::write(&self.binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&self.binary, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What is said about an upgrade that changes nothing.
    #[track_caller]
    fn fails(&mut self, arguments: &[&str]) -> String {
        let (code, out, complaints) = self.gateway.program.command(arguments);
        assert_eq!((code, &*out), (Some(1), ""), "{complaints}");
        assert!(complaints.contains("nothing has changed"), "{complaints}");
        assert_eq!(self.gateway.send(&chat(false)).status, 200);
        assert!(self.gateway.program.ended().is_none());
        let own = self.gateway.program.id() as i32;
        wait_for_only(&self.gateway, own);
        complaints
    }
}

#[test]
fn a_successor_that_crashes_or_hangs_or_is_no_program_changes_nothing() {
    let mut stage = stage();
    stage.replace_by("kill -SEGV $$");
    let said = stage.fails(&["upgrade"]);
    assert!(said.contains("ended with signal: 11"), "{said}");
    stage.replace_by("exit 7");
    assert!(stage.fails(&["upgrade"]).contains("exit status: 7"));
    stage.replace_by("exec sleep 1000");
    let said = stage.fails(&["upgrade", "--timeout", "300ms"]);
    assert!(said.contains("did not serve within 0.3 s"), "{said}");
    fs::remove_file(&stage.binary).unwrap();
    let said = stage.fails(&["upgrade"]);
    assert!(said.contains("no successor can be started"), "{said}");
    // A good one is taken all the same, after all that.
    fs::hard_link(env!("CARGO_BIN_EXE_poolgate"), &stage.binary).unwrap();
    let successor = stage.gateway.upgrade();
    assert_ne!(successor, stage.gateway.program.id() as i32);
}

#[test]
fn a_successor_with_a_bad_file_or_without_a_free_address_says_what_is_wrong_with_it() {
    let mut stage = stage();
    let path = stage.gateway.program.folder().join("poolgate.yaml");
    let good = fs::read_to_string(path).unwrap();
    let state = "state: {dir: ./data}\n";
    let taken = std::net::TcpListener::bind(free_address()).unwrap();
    let taken = taken.local_addr().unwrap();
    let more = format!("listen: [{{address: \"{taken}\"}}, ");
    stage
        .gateway
        .program
        .write("poolgate.yaml", &good.replace("listen: [", &more));
    let said = stage.fails(&["upgrade"]);
    assert!(
        said.contains(&format!("cannot listen on {taken}")),
        "{said}"
    );
    let bad = format!("{state}server: {{threads: many}}\n{good}");
    stage.gateway.program.write("poolgate.yaml", &bad);
    // The command itself finds the mistake first.
    let (code, _, complaints) = stage.gateway.program.command(&["upgrade"]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("server.threads"), "{complaints}");
    // Asked with another file of the same state folder, the successor does.
    fs::write(stage.gateway.program.folder().join("other.yaml"), &good).unwrap();
    let said = stage.fails(&["upgrade", "-c", "other.yaml"]);
    assert!(said.contains("server.threads"), "{said}");
}

#[test]
fn who_asks_for_the_sockets_and_never_serves_holds_nobody_up() {
    let stage = stage();
    let path = stage
        .gateway
        .program
        .folder()
        .join("data/control/poolgate.sock");
    // It is opened beside the listeners, a moment later than they.
    wait_for("the socket for orders", || path.exists().then_some(()));
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .write_all(b"{\"order\":\"take_over\",\"successor\":1}\n")
            .unwrap();
        let mut answer = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut answer).unwrap();
        (answer, reader)
    };
    let (answer, silent) = ask();
    assert!(
        answer.contains(&stage.gateway.address.to_string()),
        "{answer}"
    );
    // Only one at a time.
    assert_eq!(ask().0, "");
    assert_eq!(stage.gateway.send(&chat(false)).status, 200);
    drop(silent);
    wait_for("its place to be free", || {
        ask().0.contains("addresses").then_some(())
    });
    wait_for("the gateway to be done with that one, too", || {
        let log = stage.gateway.log();
        (log.matches("did not take over").count() >= 2).then_some(())
    });
    stage.gateway.upgrade();
    assert_eq!(stage.gateway.send(&chat(false)).status, 200);
}
