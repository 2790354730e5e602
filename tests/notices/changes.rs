//! Notices while the gateway itself changes: an upgrade, a reload, a stop, a secret that is exchanged.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{CHECKED, NEAR, Notice, SECRET, hook, ill, told, well, with_a_lost_secret, with_hooks};
use crate::support::{Gateway, Mock, Vendor, chat, post, wait_for};

#[test]
fn an_upgrade_tells_nothing_twice_and_forgets_nothing_that_was_told() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let text = with_a_lost_secret(&vendors, &[hook(receiver.address, NEAR)]);
    let gateway = Gateway::start(&format!("clients: {{keepalive: 1s}}\n{text}"));
    told(&receiver, "needs_login", "lost");
    for _ in 0..5 {
        gateway.send(&chat(false).header("x-mock-status", 500));
    }
    told(&receiver, "breaker_open", "a0");
    let reason = gateway.account("lost")["last_error"].clone();
    for _ in 0..2 {
        gateway.upgrade();
        let lost = gateway.account("lost");
        assert_eq!(lost["status"], "needs_login");
        assert_eq!(lost["last_error"], reason);
    }
    // Neither is told again in between, and both were known to be out.
    gateway.act("a0", "reset");
    told(&receiver, "account_up", "a0");
    std::fs::write(gateway.program.folder().join("lost.key"), "found").unwrap();
    told(&receiver, "account_up", "lost");
    assert!(receiver.is_idle());
}

#[test]
fn a_hook_that_is_gone_is_left_alone_until_a_reload_which_may_bring_others() {
    let vendors = Mock::several(1, &[]);
    let (gone, new) = (Vendor::start(), Vendor::start());
    let hooks = [hook(gone.address, NEAR), hook(new.address, NEAR)];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks[..1]));
    ill(&vendors[0]);
    Notice::next(&gone).answer(410);
    wait_for("the hook to be off", || {
        gateway
            .log()
            .contains("the hook says that it is gone")
            .then_some(())
    });
    let file = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + &hooks[1]).unwrap();
    gateway.program.signal(Signal::SIGHUP);
    // Both are told what is the case.
    told(&new, "account_down", "a0");
    told(&gone, "account_down", "a0");
    well(&vendors[0]);
    told(&new, "account_up", "a0");
    told(&gone, "account_up", "a0");
}

#[test]
fn what_waits_at_a_stop_is_tried_once_more_and_the_process_waits_for_it() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, NEAR)];
    let mut gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    // The next try of a hook that fails so often is seconds away.
    for _ in 0..3 {
        Notice::next(&receiver).answer(503);
    }
    gateway.program.signal(Signal::SIGTERM);
    told(&receiver, "account_down", "a0");
    assert!(gateway.program.wait().success());
    assert!(!gateway.log().contains("the stop came before"));
}

#[test]
fn what_a_stop_cannot_deliver_is_told_as_lost() {
    let vendors = Mock::several(2, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, NEAR)];
    let mut gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    for _ in 0..3 {
        Notice::next(&receiver).answer(503);
    }
    gateway.program.signal(Signal::SIGTERM);
    Notice::next(&receiver).answer(503);
    assert!(gateway.program.wait().success());
    let log = gateway.log();
    let lost = log
        .lines()
        .find(|line| line.contains("the stop came before"))
        .unwrap();
    assert!(
        lost.contains("notices=1") && !lost.contains("canary"),
        "{lost}"
    );
}

#[test]
fn what_notices_are_signed_with_is_read_anew_when_its_file_changes() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let more = format!("{NEAR}, secret: {{file: hook.secret}}, events: [breaker_open]");
    let text = with_hooks(&vendors, "", &[hook(receiver.address, &more)]);
    let gateway = Gateway::start_with(&text, &[("hook.secret", SECRET)], &[]);
    let is_signed_with = |secret: &str| {
        std::thread::scope(|scope| {
            let tried = scope.spawn(|| gateway.admin(post("/api/v1/notify/test", &json!({}))));
            let notice = Notice::next(&receiver);
            let is_signed = notice.is_signed_with(secret);
            notice.answer(204);
            assert_eq!(tried.join().unwrap().status, 200);
            is_signed
        })
    };
    assert!(is_signed_with(SECRET));
    gateway.program.write("hook.secret", "another-canary");
    wait_for("the new secret", || {
        is_signed_with("another-canary").then_some(())
    });
}
