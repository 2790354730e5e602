//! Webhooks as their receivers see them.

mod changes;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Gateway, Mock, Vendor, Wire, chat, pool, post, wait_for};

const SECRET: &str = "hook-canary-secret";
const PATH: &str = "/path-canary?key=query-canary";
const CHECKED: &str = "    health_check: {interval: 300ms, timeout: 500ms}\n";

/// What a hook was sent, not answered yet.
struct Notice {
    wire: Wire,
    body: Vec<u8>,
}

impl Notice {
    #[track_caller]
    fn next(hook: &Vendor) -> Notice {
        let mut wire = hook.next();
        let length = wire.header("content-length").unwrap().parse().unwrap();
        let body = wire.read(length);
        Notice { wire, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_signed_with(&self, secret: &str) -> bool {
        let signature = self.wire.header("x-poolgate-signature").unwrap();
        let (time, signed) = signature.split_once(",v1=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(time.strip_prefix("t=").unwrap().as_bytes());
        mac.update(b".");
        mac.update(&self.body);
        let bytes = (0..64).step_by(2);
        let bytes = bytes.map(|at| u8::from_str_radix(&signed[at..at + 2], 16).unwrap());
        mac.verify_slice(&Vec::from_iter(bytes)).is_ok()
    }

    /// Event and account.
    fn says(&self) -> (String, String) {
        let json = self.json();
        assert_eq!(self.wire.header("x-poolgate-event"), json["event"].as_str());
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (text("event"), text("account"))
    }

    fn answer(mut self, status: u16) {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        self.wire.write(head.as_bytes());
    }
}

/// The next notice is this one, and taken.
#[track_caller]
fn told(hook: &Vendor, event: &str, account: &str) {
    let notice = Notice::next(hook);
    assert_eq!(notice.says(), (event.to_owned(), account.to_owned()));
    notice.answer(204);
}

fn hook(address: SocketAddr, more: &str) -> String {
    format!("  - {{webhook: \"http://{address}{PATH}\"{more}}}\n")
}

const NEAR: &str = ", allow_private: true";

fn with_hooks(vendors: &[Mock], keys: &str, hooks: &[String]) -> String {
    format!("{}notify:\n{}", pool(vendors, keys), hooks.concat())
}

/// And with an account whose secret is not there.
fn with_a_lost_secret(vendors: &[Mock], hooks: &[String]) -> String {
    let lost = "    accounts:\n      - {id: lost, upstream: openai, models: [none], \
                credential: {bearer: {file: lost.key}}}\n";
    with_hooks(vendors, "", hooks).replace("    accounts:\n", lost)
}

fn ill(vendor: &Mock) {
    vendor.set(&json!({"health": 500}));
}

fn well(vendor: &Mock) {
    vendor.set(&json!({"health": 200}));
}

#[test]
fn an_account_that_goes_and_comes_back_is_told_once_each_signed_and_without_secrets() {
    let vendors = Mock::several(2, &[]);
    let receiver = Vendor::start();
    let more = format!("{NEAR}, secret: {SECRET}");
    let hooks = [hook(receiver.address, &more)];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    wait_for("a0 to be healthy", || {
        (gateway.account("a0")["status"] == "healthy").then_some(())
    });
    ill(&vendors[0]);
    let notice = Notice::next(&receiver);
    assert!(notice.wire.head.starts_with(&format!("post {PATH} ")));
    assert_eq!(notice.wire.header("content-type"), Some("application/json"));
    assert_eq!(notice.wire.header("x-poolgate-delivery").unwrap().len(), 32);
    assert!(notice.is_signed_with(SECRET));
    let json = notice.json();
    let said: BTreeMap<&str, &str> = ["event", "account", "pool", "reason", "text"]
        .map(|name| (name, json[name].as_str().unwrap()))
        .into();
    let expected = [
        ("event", "account_down"),
        ("account", "a0"),
        ("pool", "default"),
        ("reason", "unhealthy"),
        (
            "text",
            "The account a0 of pool default is out: it fails its health check, or has no valid token or no running program.",
        ),
    ];
    assert_eq!(said, expected.into());
    assert!(json["at"].as_str().unwrap().ends_with('Z'));
    assert!(!json.to_string().contains("key-0"));
    notice.answer(200);
    // Were it told twice, the second would be before the next account's.
    ill(&vendors[1]);
    told(&receiver, "account_down", "a1");
    well(&vendors[0]);
    told(&receiver, "account_up", "a0");
    well(&vendors[1]);
    told(&receiver, "account_up", "a1");
    assert!(receiver.is_idle());
    let log = gateway.log();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn the_receivers_example_in_the_documentation_is_right() {
    let page = std::fs::read_to_string("docs/notices.md").unwrap();
    let example = page.split("```python\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let more = format!("{NEAR}, secret: {SECRET}");
    let hooks = [hook(receiver.address, &more)];
    let _gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    let notice = Notice::next(&receiver);
    let header = notice.wire.header("x-poolgate-signature").unwrap();
    let checks = "
import sys, json
secret, header, body = json.load(sys.stdin)
body = body.encode()
assert is_genuine(secret, header, body)
assert not is_genuine(secret + 'x', header, body)
assert not is_genuine(secret, header, body + b' ')
assert not is_genuine(secret, header, body, time.time() + 400)
";
    let mut python = Command::new("python3")
        .args(["-c", &format!("{example}{checks}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let body = String::from_utf8(notice.body.clone()).unwrap();
    let input = json!([SECRET, header, body]).to_string();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    assert!(python.wait().unwrap().success());
    notice.answer(200);
}

#[test]
fn a_hook_that_answers_and_breaks_off_has_taken_the_notice() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, NEAR)];
    let _gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    let mut notice = Notice::next(&receiver);
    notice
        .wire
        .write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nth");
    notice.wire.close();
    well(&vendors[0]);
    told(&receiver, "account_up", "a0");
}

#[test]
fn a_hook_that_fails_three_times_gets_the_notice_the_fourth_time() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, NEAR)];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    let mut sent = vec![];
    for status in [500, 429, 503, 200] {
        let notice = Notice::next(&receiver);
        let delivery = notice
            .wire
            .header("x-poolgate-delivery")
            .unwrap()
            .to_owned();
        assert_eq!(notice.wire.header("x-poolgate-signature"), None);
        sent.push((delivery, notice.body.clone()));
        notice.answer(status);
    }
    assert!(sent.iter().all(|again| *again == sent[0]), "{sent:?}");
    well(&vendors[0]);
    told(&receiver, "account_up", "a0");
    assert_eq!(gateway.metric("poolgate_notices_dropped_total", &[]), 0.0);
}

/// Feishu takes five a second, says so under a 200, and takes them later.
#[test]
fn a_chat_that_takes_no_more_now_gets_its_notices_later_and_not_in_a_rush() {
    let vendors = Mock::several(2, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, &format!("{NEAR}, format: feishu"))];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    vendors.iter().for_each(ill);
    let answer = |notice: Notice, status: u16, body: &str| {
        let mut wire = notice.wire;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        wire.write((head + body).as_bytes());
    };
    let mut sent = vec![];
    for (status, body) in [
        (200, "{\"code\": 11232}"),
        (500, "{\"code\": 1}"),
        (429, "{\"code\": 9499}"),
    ] {
        let notice = Notice::next(&receiver);
        sent.push(notice.body.clone());
        answer(notice, status, body);
    }
    let taken = Notice::next(&receiver);
    sent.push(taken.body.clone());
    assert!(sent.iter().all(|again| *again == sent[0]), "{sent:?}");
    let before = Instant::now();
    answer(taken, 200, "{\"code\": 0}");
    let other = Notice::next(&receiver);
    assert!(before.elapsed() >= Duration::from_millis(600));
    assert_ne!(other.body, sent[0]);
    answer(other, 200, "{\"code\": 0}");
    assert_eq!(gateway.metric("poolgate_notices_dropped_total", &[]), 0.0);
}

#[test]
fn a_notice_that_the_hook_refuses_is_dropped_and_counted() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let hooks = [hook(receiver.address, NEAR)];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    Notice::next(&receiver).answer(400);
    well(&vendors[0]);
    told(&receiver, "account_up", "a0");
    let dropped = gateway.metric("poolgate_notices_dropped_total", &["reason=\"refused\""]);
    assert_eq!(dropped, 1.0);
    // Where a redirect leads nobody has allowed.
    ill(&vendors[0]);
    Notice::next(&receiver).answer(307);
    well(&vendors[0]);
    told(&receiver, "account_up", "a0");
}

#[test]
fn a_hook_in_the_gateways_own_network_is_never_contacted_unless_allowed() {
    let vendors = Mock::several(1, &[]);
    let (trap, allowed) = (Vendor::start(), Vendor::start());
    let port = trap.address.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0.0.0.0",
    ];
    let near = |host: &&str| format!("  - {{webhook: \"http://{host}:{port}{PATH}\"}}\n");
    let mut hooks: Vec<String> = hosts.iter().map(near).collect();
    hooks.push(hook(allowed.address, NEAR));
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    told(&allowed, "account_down", "a0");
    wait_for("the others to be refused", || {
        let dropped = gateway.metric("poolgate_notices_dropped_total", &["reason=\"refused\""]);
        (dropped == hosts.len() as f64).then_some(())
    });
    assert!(trap.is_idle());
    let log = gateway.log();
    assert!(
        log.contains("`allow_private: true` lets it be used"),
        "{log}"
    );
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn a_hook_that_never_answers_delays_nobody() {
    let vendors = Mock::several(2, &[]);
    let (mute, quick) = (Vendor::start(), Vendor::start());
    let hooks = [hook(mute.address, NEAR), hook(quick.address, NEAR)];
    let gateway = Gateway::start(&with_hooks(&vendors, CHECKED, &hooks));
    ill(&vendors[0]);
    let held = Notice::next(&mute);
    told(&quick, "account_down", "a0");
    assert_eq!(gateway.send(&chat(false)).status, 200);
    well(&vendors[0]);
    told(&quick, "account_up", "a0");
    assert!(mute.is_idle(), "one notice after the other");
    held.answer(200);
    told(&mute, "account_up", "a0");
}

#[test]
fn an_open_breaker_and_a_missing_secret_are_told_by_name() {
    let vendors = Mock::several(1, &[]);
    let receiver = Vendor::start();
    let plain = Vendor::start();
    let hooks = [
        hook(receiver.address, NEAR),
        hook(
            plain.address,
            ", allow_private: true, events: [account_down]",
        ),
    ];
    let text = with_a_lost_secret(&vendors, &hooks);
    let gateway = Gateway::start(&text);
    told(&receiver, "needs_login", "lost");
    told(&plain, "account_down", "lost");
    for _ in 0..5 {
        gateway.send(&chat(false).header("x-mock-status", 500));
    }
    told(&receiver, "breaker_open", "a0");
    told(&plain, "account_down", "a0");
    gateway.act("a0", "reset");
    told(&receiver, "account_up", "a0");
    std::fs::write(gateway.program.folder().join("lost.key"), "found").unwrap();
    told(&receiver, "account_up", "lost");
    assert!(plain.is_idle() && receiver.is_idle());
}

#[test]
fn a_token_that_cannot_be_renewed_is_told_before_it_expires_and_when_its_login_is_over() {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {}}));
    let receiver = Vendor::start();
    let events = ", allow_private: true, events: [token_expiring, needs_login, account_up]";
    let url = vendor.url();
    let gateway = Gateway::start(&format!(
        "notify:\n{}pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", credential: {{oauth2: \
         {{token_url: \"{url}/token\", client_id: me, client_secret: cs, refresh_token: rt}}}}}}]}}}}\n",
        hook(receiver.address, events)
    ));
    wait_for("a token", || {
        gateway.account("a")["credential"]["expires_at"]
            .is_string()
            .then_some(())
    });
    let refresh = || {
        gateway
            .admin(post("/api/v1/accounts/a/refresh", &json!({})))
            .status
    };
    vendor.set(&json!({"oauth": {"error": "server_error"}}));
    for _ in 0..3 {
        assert_eq!(refresh(), 409);
    }
    told(&receiver, "token_expiring", "a");
    assert_eq!(gateway.send(&chat(false)).status, 200, "it serves still");
    vendor.set(&json!({"oauth": {"error": "invalid_grant"}}));
    assert_eq!(refresh(), 409);
    told(&receiver, "needs_login", "a");
    vendor.set(&json!({"oauth": {}}));
    assert_eq!(refresh(), 200);
    told(&receiver, "account_up", "a");
    assert!(receiver.is_idle());
}

#[test]
fn an_operator_can_try_the_hooks() {
    let vendors = Mock::several(1, &[]);
    let (receiver, trap) = (Vendor::start(), Vendor::start());
    let more = format!("{NEAR}, secret: {SECRET}, events: [needs_login]");
    let hooks = [hook(receiver.address, &more), hook(trap.address, "")];
    let gateway = Gateway::start(&with_hooks(&vendors, "", &hooks));
    let answer = std::thread::scope(|scope| {
        let tried = scope.spawn(|| gateway.admin(post("/api/v1/notify/test", &json!({}))));
        let notice = Notice::next(&receiver);
        let json = notice.json();
        assert_eq!(json["event"], "test");
        assert_eq!(json.get("account"), None);
        assert_eq!(notice.wire.header("x-poolgate-event"), Some("test"));
        assert!(notice.wire.header("x-poolgate-signature").is_some());
        notice.answer(204);
        tried.join().unwrap()
    });
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let hooks = answer.json()["hooks"].clone();
    assert_eq!(
        (&hooks[0]["delivered"], &hooks[0]["error"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(hooks[1]["delivered"], false);
    assert!(
        hooks[1]["error"]
            .as_str()
            .unwrap()
            .contains("allow_private"),
        "{text}"
    );
    assert!(trap.is_idle() && !text.contains("canary"), "{text}");
}
