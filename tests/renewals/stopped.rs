//! A stop while a token is on its way: what the vendor gives is on the disk before the process ends.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{FIRST, account, asked, token_in_use, vendor};
use crate::support::{Gateway, Mock, chat, post, wait_for};

/// A gateway whose only token is being renewed: the vendor takes its time.
fn renewing(keys: &str, vendor: &Mock) -> Gateway {
    let accounts = account("a", vendor, "");
    let gateway = Gateway::start(&format!(
        "{keys}pools:\n  default:\n    accounts:\n{accounts}"
    ));
    gateway.wait_until_ready();
    gateway
}

fn begin_a_renewal(gateway: &Gateway, vendor: &Mock) {
    vendor.set(&json!({"oauth": {"refresh_tokens": [FIRST], "delay": "2s"}}));
    let before = asked(vendor);
    let request = post("/api/v1/accounts/a/refresh", &json!({}));
    let request = request.bearer(&gateway.admin_token());
    let address = gateway.admin_address;
    // It is not answered: the gateway stops meanwhile.
    std::thread::spawn(move || drop(request.try_send(address)));
    wait_for("the vendor to be asked", || {
        (asked(vendor) > before).then_some(())
    });
}

/// The next process has the token that came while the one before was stopping.
#[track_caller]
fn assert_it_is_kept(gateway: &mut Gateway, vendor: &Mock, first: &str) {
    let before = asked(vendor);
    // It may have ended before.
    gateway.program.wait();
    gateway.start_again();
    gateway.wait_until_ready();
    assert_ne!(token_in_use(gateway), first, "{}", gateway.log());
    assert_eq!(asked(vendor), before);
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
}

#[test]
fn a_stop_with_no_time_to_drain_waits_for_the_token_that_is_on_its_way() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = renewing("server: {drain_timeout: 0s}\n", &vendor);
    let first = token_in_use(&gateway);
    begin_a_renewal(&gateway, &vendor);
    gateway.program.signal(Signal::SIGTERM);
    assert_it_is_kept(&mut gateway, &vendor, &first);
}

#[test]
fn a_stop_whose_time_ends_under_a_long_stream_waits_for_the_token_all_the_same() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = renewing("server: {drain_timeout: 300ms}\n", &vendor);
    let first = token_in_use(&gateway);
    vendor.set(&json!({"behaviour": {"gap": "50ms", "events": 10_000}}));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    begin_a_renewal(&gateway, &vendor);
    gateway.program.signal(Signal::SIGTERM);
    let status = gateway.program.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    vendor.set(&json!({"behaviour": {}}));
    assert_it_is_kept(&mut gateway, &vendor, &first);
}

#[test]
fn a_stop_saves_what_the_disk_had_refused() {
    let vendor = vendor(&json!({"refresh_tokens": [FIRST]}));
    let mut gateway = renewing("", &vendor);
    let first = token_in_use(&gateway);
    let tokens = gateway.program.folder().join("data/tokens");
    let away = tokens.with_extension("away");
    begin_a_renewal(&gateway, &vendor);
    fs::rename(&tokens, &away).unwrap();
    fs::write(&tokens, "").unwrap();
    wait_for("the save to be refused", || {
        gateway.log().contains("not on the disk yet").then_some(())
    });
    assert_ne!(token_in_use(&gateway), first, "it is used all the same");
    fs::remove_file(&tokens).unwrap();
    fs::rename(&away, &tokens).unwrap();
    gateway.program.signal(Signal::SIGTERM);
    assert_it_is_kept(&mut gateway, &vendor, &first);
}
