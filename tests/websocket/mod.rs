//! WebSockets through the gateway: who gets one, of which account, and what is left when it ends.

mod refused;
mod tunnel;

use nix::sys::signal::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Connection, Gateway, Mock, Vendor, chat, handshake, pool, pool_of, post, ranked, respond,
    wait_for,
};

const ABLE: &str = ", websocket: true";

/// A gateway in front of one account at a vendor of the test's own.
fn in_front_of(vendor: &Vendor, keys: &str) -> Gateway {
    let address = vendor.address;
    Gateway::start(&format!(
        "{keys}pools: {{default: {{accounts: [{{id: a0, upstream: \"http://{address}\", \
         credential: {{api_key: key-0}}, websocket: true}}]}}}}"
    ))
}

/// A gateway in front of one simulated vendor.
fn one(flags: &[&str], keys: &str) -> (Mock, Gateway) {
    let vendor = Mock::start(flags);
    let text = pool_of(std::slice::from_ref(&vendor), keys, |_| ABLE.to_owned());
    let gateway = Gateway::start(&text);
    (vendor, gateway)
}

/// How many requests each of them got.
fn requests(vendors: &[Mock]) -> Vec<u64> {
    let counts = vendors.iter().map(|vendor| vendor.count("requests"));
    counts.collect()
}

#[track_caller]
fn wait_until_free(gateway: &Gateway) {
    wait_for("the account to be free", || {
        (gateway.account("a0")["in_flight"] == 0).then_some(())
    });
}

#[test]
fn only_accounts_that_take_websockets_are_asked_for_one() {
    let vendors = Mock::several(3, &[]);
    let able = |n: usize| if n == 1 { ABLE } else { "" }.to_owned();
    let gateway = Gateway::start(&pool_of(&vendors, "    strategy: round_robin\n", able));
    for _ in 0..4 {
        let mut socket = gateway.socket(&[]);
        assert!(respond(&mut socket).unwrap().len() > 3);
    }
    for _ in 0..3 {
        assert_eq!(gateway.send(&chat(false)).status, 200);
    }
    let asked = requests(&vendors);
    assert_eq!(asked, [1, 5, 1], "plain requests go to all of them");
}

#[test]
fn without_such_an_account_a_client_is_told_426_at_once_and_may_ask_over_http() {
    let vendors = Mock::several(2, &[]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let mut connection = Connection::open(gateway.address).unwrap();
    let refused = connection.send(&handshake("/v1/responses")).unwrap();
    assert_eq!(refused.status, 426);
    assert_eq!(refused.json()["error"]["code"], "upgrade_required");
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(refused.header("upgrade"), None);
    assert!(connection.send(&chat(false)).is_err(), "it is closed");
    let body = serde_json::json!({"model": "gpt-5", "input": "Hello"});
    assert_eq!(gateway.send(&post("/v1/responses", &body)).status, 200);
    assert_eq!(requests(&vendors).iter().sum::<u64>(), 1);
}

#[test]
fn a_key_with_limits_gets_none_and_is_told_why() {
    let vendor = Mock::start(&[]);
    let keys = "clients: {keys: [{name: a, key: sk-limited, tier: some}]}\n\
                tiers: {some: {limits: [{requests: 9, window: 1h}]}}\n";
    let text = pool_of(std::slice::from_ref(&vendor), "", |_| ABLE.to_owned());
    let gateway = Gateway::start(&format!("{keys}{text}"));
    let refused = gateway.send(&handshake("/v1/responses").bearer("sk-limited"));
    assert_eq!(refused.status, 426);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "upgrade_required");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("limits") && message.contains("POST"),
        "{message}"
    );
    assert_eq!(vendor.count("requests"), 0);
}

#[test]
fn a_key_for_some_models_gets_none_as_nobody_reads_which_model_is_asked_for() {
    let vendor = Mock::start(&[]);
    let keys = "clients: {keys: [{name: a, key: sk-some-models, tier: some}, \
                {name: b, key: sk-every-model}]}\ntiers: {some: {models: [gpt-5]}}\n";
    let text = pool_of(std::slice::from_ref(&vendor), "", |_| ABLE.to_owned());
    let gateway = Gateway::start(&format!("{keys}{text}"));
    let status = |key: &str| match gateway.try_socket(&[("authorization", key)]) {
        Ok(_) => 101,
        Err(answer) => answer.status().as_u16(),
    };
    assert_eq!(status("Bearer sk-some-models"), 426);
    assert_eq!(status("Bearer sk-every-model"), 101);
    assert_eq!(status("Bearer sk-nobody"), 401);
    assert_eq!(vendor.count("requests"), 1);
}

#[test]
fn a_refused_handshake_leads_to_the_next_account() {
    for status in ["401", "429", "500"] {
        let (vendors, text) = ranked("");
        let gateway = Gateway::start(&text.replace("priority", "websocket: true, priority"));
        let fault = [("x-mock-status", status), ("x-mock-only", "a0")];
        let mut socket = gateway.socket(&fault);
        let events = respond(&mut socket).unwrap();
        assert!(events.concat().contains("Hello from a1"), "{status}");
        assert_eq!(vendors[0].count("requests"), 1, "{status}");
    }
}

#[test]
fn when_none_is_left_the_client_gets_the_error_and_the_connection_ends() {
    // What the vendors say, what the client is told, and how many of them were asked.
    for (said, told, asked) in [
        ("500", 500, 3),
        ("429", 429, 3),
        ("401", 503, 3),
        ("404", 404, 1),
    ] {
        let (vendors, text) = ranked("    queue: {timeout: 100ms}\n");
        let gateway = Gateway::start(&text.replace("priority", "websocket: true, priority"));
        let mut connection = Connection::open(gateway.address).unwrap();
        let request = handshake("/v1/responses").header("x-mock-status", said);
        let answer = connection.send(&request).unwrap();
        assert_eq!(answer.status, told, "{said}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{said}");
        assert_eq!(requests(&vendors).iter().sum::<u64>(), asked, "{said}");
        assert!(
            connection.send(&chat(false)).is_err(),
            "{said}: it is closed"
        );
    }
}

#[test]
fn an_open_socket_holds_its_place_and_gives_it_back_whoever_ends_it() {
    let vendor = Mock::start(&[]);
    let keys = "    queue: {timeout: 100ms}\n";
    let more = |_| format!("{ABLE}, max_concurrent: 1");
    let gateway = Gateway::start(&pool_of(std::slice::from_ref(&vendor), keys, more));
    let endings: [(&str, &[(&'static str, &str)]); 4] = [
        ("the client closes", &[]),
        ("the client vanishes", &[]),
        ("the vendor closes", &[("x-mock-drop-keepalive", "1")]),
        (
            "the vendor is reset",
            &[("x-mock-cut", "2"), ("x-mock-reset", "1")],
        ),
    ];
    for (ending, headers) in endings {
        let mut socket = gateway.socket(headers);
        assert_eq!(gateway.account("a0")["in_flight"], 1, "{ending}");
        let active = gateway.metric("poolgate_active_requests", &["account=\"a0\""]);
        assert_eq!(active, 1.0, "{ending}");
        let full = gateway.try_socket(&[]).unwrap_err();
        assert_eq!(full.status(), 503, "{ending}");
        match ending {
            "the client closes" => socket.close(None).unwrap(),
            "the client vanishes" => drop(socket),
            "the vendor closes" => while respond(&mut socket).is_ok() {},
            _ => assert!(respond(&mut socket).is_err()),
        }
        wait_until_free(&gateway);
        wait_for("the vendor to be free", || {
            (vendor.count("in_flight") == 0).then_some(())
        });
    }
    let broken = gateway.metric("poolgate_requests_total", &["outcome=\"broken_stream\""]);
    assert_eq!(broken, 1.0, "only the reset is the account's fault");
}

#[test]
fn a_socket_is_one_request_in_metrics_and_log() {
    let (_vendor, gateway) = one(&[], "");
    let mut socket = gateway.socket(&[("x-request-id", "socket-1")]);
    let events = respond(&mut socket).unwrap();
    assert!(
        !gateway.log().contains("socket-1"),
        "the line comes at the end"
    );
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    assert_eq!(gateway.tries("socket-1"), "a0:success");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("socket-1")).unwrap();
    let field = |name: &str| {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        fields.find(|field| field.0 == name).unwrap().1.to_owned()
    };
    assert_eq!(field("status"), "101");
    assert_eq!(field("path"), "responses");
    let bytes = |name: &str| field(name).parse::<usize>().unwrap();
    assert!(bytes("bytes_out") > events.concat().len(), "{line}");
    assert!(bytes("bytes_in") > 40, "{line}");
    let succeeded = gateway.metric("poolgate_requests_total", &["outcome=\"success\""]);
    assert_eq!(succeeded, 1.0);
    let first = gateway.metric("poolgate_time_to_first_byte_seconds_count", &[]);
    assert_eq!(first, 1.0, "the 101 is the first byte");
}

#[test]
fn a_stop_lets_open_sockets_go_on_and_takes_no_new_one() {
    let (_vendor, mut gateway) = one(&[], "");
    let mut socket = gateway.socket(&[]);
    gateway.program.signal(Signal::SIGTERM);
    let refused = wait_for("a socket to be turned away", || {
        gateway.try_socket(&[]).err()
    });
    assert_eq!(refused.status(), 503);
    assert!(respond(&mut socket).unwrap().len() > 3);
    assert!(gateway.program.ended().is_none());
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    assert_eq!(gateway.program.wait().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_reload_leaves_open_sockets_alone_even_when_their_account_is_gone() {
    let (_vendor, gateway) = one(&[], "");
    let mut socket = gateway.socket(&[]);
    let file = gateway.program.folder().join("poolgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let renamed = text.replace("id: a0", "id: b0").replace(ABLE, "");
    std::fs::write(&file, renamed).unwrap();
    gateway.program.signal(Signal::SIGHUP);
    wait_for("the new configuration", || {
        let told = gateway.try_socket(&[]).err()?;
        (told.status() == 426).then_some(())
    });
    assert!(respond(&mut socket).unwrap().len() > 3);
    socket.send(Message::binary(vec![7; 100])).unwrap();
    assert_eq!(socket.read().unwrap(), Message::binary(vec![7; 100]));
}

#[test]
fn a_dry_run_says_which_account_would_get_a_socket() {
    let vendors = Mock::several(2, &[]);
    let able = |n: usize| if n == 1 { ABLE } else { "" }.to_owned();
    let gateway = Gateway::start(&pool_of(&vendors, "", able));
    let question =
        serde_json::json!({"path": "/v1/responses", "headers": {"upgrade": "websocket"}});
    let answer = gateway.admin(post("/api/v1/route", &question)).json();
    assert_eq!(answer["account"], "a1");
    assert_eq!(answer["others"][0]["reason"], "takes no WebSocket");
}
