//! Where the outside is reached through a proxy only: everything that poolgate sends goes there.

use serde_json::json;

use crate::support::{Gateway, Mock, Proxy, chat, respond, wait_for};

/// What is behind the proxy: no name of this machine's.
const FAR: &str = "api.far.invalid:80";

/// `user:hunter2`, as HTTP Basic has it.
const SHOWN: &str = "Basic dXNlcjpodW50ZXIy";

fn through(proxy: &str, more: &str, accounts: &str) -> Gateway {
    Gateway::start(&format!(
        "egress: {{proxy: \"{proxy}\"{more}}}\npools:\n  default:\n    accounts:\n{accounts}"
    ))
}

fn account(id: &str, more: &str) -> String {
    format!("      - {{id: {id}, upstream: \"http://{FAR}\", dialects: [openai]{more}}}\n")
}

/// Tunnels that were dug.
fn tunnels(proxy: &Proxy) -> usize {
    let seen = proxy.seen();
    let connects = seen
        .iter()
        .filter(|line| **line == format!("CONNECT {FAR} HTTP/1.1"));
    connects.count()
}

#[test]
fn requests_streams_and_probes_go_through_the_proxy_and_its_tunnels_are_used_again() {
    let vendor = Mock::start(&[]);
    let proxy = Proxy::start(&[(FAR, vendor.address)], Some(SHOWN));
    let url = format!("http://user:hunter2@{}", proxy.address);
    let checked = ", health_check: {path: /health, interval: 60s}";
    let gateway = through(&url, "", &account("a", checked));
    wait_for("the probe", || {
        (gateway.account("a")["status"] == "healthy").then_some(())
    });
    let probes = tunnels(&proxy);
    assert!(probes >= 1);
    for stream in [false, true, false] {
        assert_eq!(gateway.send(&chat(stream)).status, 200);
    }
    assert_eq!(vendor.count("requests"), 3);
    assert!(tunnels(&proxy) < probes + 3, "{:?}", proxy.seen());
    assert!(!gateway.log().contains("hunter2"));
}

/// Of one name, so that nothing but the port tells them apart.
#[test]
fn two_upstreams_behind_one_proxy_are_not_mixed_up() {
    let vendors = Mock::several(2, &[]);
    let ends = ["far.invalid:8001", "far.invalid:8002"];
    let known = [(ends[0], vendors[0].address), (ends[1], vendors[1].address)];
    let proxy = Proxy::start(&known, None);
    let account = |end: &str| {
        let id = end.replace(':', "-");
        format!("      - {{id: {id}, upstream: \"http://{end}\", dialects: [openai]}}\n")
    };
    let accounts = ends.map(account).concat();
    let gateway = through(&format!("http://{}", proxy.address), "", &accounts);
    for _ in 0..10 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    for (vendor, end) in vendors.iter().zip(ends) {
        assert_eq!(vendor.count("requests"), 5);
        let last = vendor.stats()["last_request"].to_string();
        assert!(last.contains(end), "{last}");
    }
}

#[test]
fn a_websocket_goes_through_the_proxy() {
    let vendor = Mock::start(&[]);
    let proxy = Proxy::start(&[(FAR, vendor.address)], None);
    let url = format!("http://{}", proxy.address);
    let gateway = through(&url, "", &account("a", ", websocket: true"));
    let mut socket = gateway.socket(&[]);
    assert!(respond(&mut socket).unwrap().len() > 1);
    assert_eq!(tunnels(&proxy), 1);
}

#[test]
fn a_proxy_may_be_spoken_to_over_tls_and_its_tunnels_are_used_again_too() {
    let vendor = Mock::start(&[]);
    let proxy = Proxy::start(&[(FAR, vendor.address)], Some(SHOWN));
    let (address, certificate) = proxy.over_tls();
    let gateway = Gateway::start_with(
        &format!(
            "egress: {{proxy: \"https://user:hunter2@localhost:{}\"}}\n\
             pools:\n  default:\n    accounts:\n{}",
            address.port(),
            account("a", ", websocket: true")
        ),
        &[("proxy.pem", &certificate)],
        &[("SSL_CERT_FILE", "proxy.pem")],
    );
    for stream in [false, true, false, true] {
        let answer = gateway.send(&chat(stream));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(tunnels(&proxy) < 4, "{:?}", proxy.seen());
    let mut socket = gateway.socket(&[]);
    assert!(respond(&mut socket).unwrap().len() > 1);
    assert!(!gateway.log().contains("FD mismatch"), "{}", gateway.log());
}

#[test]
fn hosts_that_are_excepted_are_reached_without_it() {
    let vendor = Mock::start(&[]);
    let proxy = Proxy::start(&[], None);
    let near = format!(
        "      - {{id: near, upstream: \"{}\", dialects: [openai]}}\n",
        vendor.url()
    );
    let url = format!("http://{}", proxy.address);
    let gateway = through(&url, ", no_proxy: [127.0.0.0/8]", &near);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert!(proxy.seen().is_empty());
}

#[test]
fn a_proxy_that_refuses_is_an_upstream_that_cannot_be_reached_and_another_account_serves() {
    let vendor = Mock::start(&[]);
    let proxy = Proxy::start(&[(FAR, vendor.address)], Some(SHOWN));
    let near = format!(
        "      - {{id: near, priority: 1, upstream: \"{}\", dialects: [openai]}}\n",
        vendor.url()
    );
    let url = format!("http://user:wrong@{}", proxy.address);
    let accounts = [account("far", ""), near].concat();
    let gateway = through(&url, ", no_proxy: [127.0.0.1]", &accounts);
    let answer = gateway.send(&chat(false));
    assert_eq!(answer.status, 200);
    let tries = gateway.tries(answer.header("x-request-id").unwrap());
    assert_eq!(tries, "far:transient,near:success");
}

#[test]
fn tokens_are_asked_for_through_the_proxy_too() {
    let vendor = Mock::start(&[]);
    vendor.set(&json!({"oauth": {}}));
    let proxy = Proxy::start(&[(FAR, vendor.address)], Some(SHOWN));
    let url = format!("http://user:hunter2@{}", proxy.address);
    let login = format!(
        ", credential: {{oauth2: {{token_url: \"http://{FAR}/oauth/token\", client_id: me, client_secret: cs}}}}"
    );
    let gateway = through(&url, "", &account("a", &login));
    gateway.wait_until_ready();
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(vendor.count("token_requests"), 1);
    let asked = "POST http://api.far.invalid/oauth/token HTTP/1.1";
    let seen = proxy.seen();
    assert!(seen.iter().any(|line| line == asked), "{seen:?}");
}
