//! What an upgrade starts, and for how long the old process may go on: as it is then, not as it was at the
//! start.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::support::{Gateway, Mock, chat, pool};

#[test]
fn an_upgrade_starts_what_is_now_behind_the_name_it_was_started_by() {
    let vendors = Mock::several(1, &[]);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let release = |number: &str| folder.path().join(number);
    for number in ["1", "2"] {
        fs::create_dir(release(number)).unwrap();
        let program = release(number).join("poolgate");
        fs::hard_link(env!("CARGO_BIN_EXE_poolgate"), program).unwrap();
    }
    symlink("1", release("current")).unwrap();
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    gateway.program.stop(Signal::SIGTERM);
    let named = release("current").join("poolgate");
    gateway.program.start_again_from(&named);
    gateway
        .program
        .wait_until_it_serves(gateway.address, "/livez");
    for number in ["2", "1"] {
        symlink(number, release("new")).unwrap();
        fs::rename(release("new"), release("current")).unwrap();
        let successor = gateway.upgrade();
        let running = fs::read_link(format!("/proc/{successor}/exe")).unwrap();
        assert_eq!(running, release(number).join("poolgate"));
    }
}

#[test]
fn streams_go_on_for_as_long_as_the_newest_file_allows() {
    let vendors = Mock::several(1, &["--gap", "100ms", "--events", "40"]);
    let text = |drain: &str| {
        let keys = pool(&vendors, "");
        format!("server: {{drain_timeout: {drain}}}\nclients: {{keepalive: 1s}}\n{keys}")
    };
    let gateway = Gateway::start(&text("1s"));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    let file = gateway.program.folder().join("poolgate.yaml");
    let longer = fs::read_to_string(&file)
        .unwrap()
        .replace("drain_timeout: 1s", "drain_timeout: 60s");
    gateway.program.write("poolgate.yaml", &longer);
    let (code, _, complaints) = gateway.program.command(&["reload"]);
    assert_eq!(code, Some(0), "{complaints}");
    gateway.upgrade();
    let events = stream.events().unwrap();
    assert_eq!(events.last().unwrap().data, "[DONE]", "{}", gateway.log());
}
