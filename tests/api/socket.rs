//! The management API behind a socket that only its owner can reach.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Mock, Program, free_address, pool, wait_for};

fn start() -> (Program, Mock) {
    let vendor = Mock::start(&[]);
    let text = format!(
        "listen: [{{address: \"{}\"}}]\nadmin: {{address: \"unix:admin.sock\"}}\n{}",
        free_address(),
        pool(std::slice::from_ref(&vendor), "")
    );
    let program = Program::start(
        &["run", "-c", "poolgate.yaml"],
        &[("poolgate.yaml", &text)],
        &[],
    );
    (program, vendor)
}

#[test]
fn commands_reach_it_and_strangers_do_not_and_an_upgrade_hands_it_over() {
    let (program, _vendor) = start();
    let list = || {
        let (code, out, _) = program.command(&["accounts", "list", "--json"]);
        (code == Some(0)).then(|| serde_json::from_str::<Value>(&out).unwrap())
    };
    let listed = wait_for("the socket to answer", list);
    assert_eq!(listed["accounts"][0]["id"], "a0");
    let path = program.folder().join("admin.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, out, _) = program.command(&["status"]);
    assert!(code == Some(0) && out.contains("a0"), "{out}");
    let upgraded = wait_for("an upgrade", || {
        let (code, out, _) = program.command(&["upgrade"]);
        (code == Some(0)).then_some(out)
    });
    assert!(upgraded.contains("process"), "{upgraded}");
    assert_eq!(list().unwrap()["accounts"][0]["id"], "a0");
}

#[test]
fn a_socket_that_was_left_behind_is_taken_and_one_in_use_is_not() {
    let (mut program, _vendor) = start();
    let answers = |program: &Program| program.command(&["accounts", "list"]).0 == Some(0);
    wait_for("the socket to answer", || answers(&program).then_some(()));
    let text = std::fs::read_to_string(program.folder().join("poolgate.yaml")).unwrap();
    let socket = program.folder().join("admin.sock");
    let taken = text.replace("admin.sock", socket.to_str().unwrap());
    let taken = taken.replace(
        text.lines().next().unwrap(),
        &format!("listen: [{{address: \"{}\"}}]", free_address()),
    );
    let mut other = Program::start(
        &["run", "-c", "poolgate.yaml"],
        &[("poolgate.yaml", &taken)],
        &[],
    );
    assert!(!other.wait().success());
    assert!(
        other.output().contains("somebody does already"),
        "{}",
        other.output()
    );
    program.stop(nix::sys::signal::Signal::SIGKILL);
    assert!(socket.exists(), "it was left behind");
    program.start_again();
    wait_for("the socket to answer again", || {
        answers(&program).then_some(())
    });
}
