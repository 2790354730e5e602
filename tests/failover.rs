//! One of three accounts fails, in each way an upstream can fail, and no client sees it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Connection, Gateway, Mock, Request, Vendor, chat, count, free_address, many, pool, post, ranked,
};

const ROUND_ROBIN: &str = "    strategy: round_robin\n";

fn vendors(count: usize) -> Vec<Mock> {
    let name = |n| Mock::start(&["--name", &format!("a{n}")]);
    (0..count).map(name).collect()
}

/// A chat with a body of this size.
fn big(size: usize) -> Request {
    let message = json!({"role": "user", "content": "x".repeat(size)});
    post(
        "/v1/chat/completions",
        &json!({"model": "gpt-5", "messages": [message]}),
    )
}

/// Every one of these requests must succeed although account a0 fails, small and big ones alike;
/// how often the vendors were asked for each, all together.
#[track_caller]
fn assert_nobody_notices(gateway: &Gateway, vendors: &[Mock], small: &Request, usual: usize) {
    let all = count(usual, 1000);
    let answers = many(gateway.address, small, 8, all);
    assert_eq!(answers.len(), all);
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let asked: u64 = vendors.iter().map(|vendor| vendor.count("requests")).sum();
    // Three attempts at most for each, and most of them need one.
    assert!(
        asked <= 3 * all as u64,
        "{asked} attempts for {all} requests"
    );
}

#[track_caller]
fn assert_big_ones_pass(gateway: &Gateway, faults: &[(&str, &str)]) {
    let request = faults.iter().fold(big(10 << 20), |request, (name, value)| {
        request.header(name, value)
    });
    for answer in many(gateway.address, &request, 2, count(6, 100)) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn a_vendor_that_refuses_connections_is_not_noticed() {
    let mut vendors = vendors(3);
    let gateway = Gateway::start(&pool(&vendors, ROUND_ROBIN));
    vendors.remove(0);
    assert_big_ones_pass(&gateway, &[]);
    assert_nobody_notices(&gateway, &vendors, &chat(false), 300);
    assert_eq!(gateway.account("a0")["status"], "open");
}

#[test]
fn a_vendor_that_resets_every_connection_is_not_noticed() {
    let vendors = vendors(3);
    // With breakers off the vendor is tried to the end.
    let keys = format!("{ROUND_ROBIN}    breaker: {{enabled: false}}\n");
    let gateway = Gateway::start(&pool(&vendors, &keys));
    let reset = json!({"connections": "reset"});
    vendors[0].set(&reset);
    assert_big_ones_pass(&gateway, &[]);
    assert_nobody_notices(&gateway, &vendors[1..], &chat(false), 300);
}

#[test]
fn a_vendor_that_answers_with_errors_is_not_noticed() {
    for (status, usual) in [("429", 300), ("500", 300), ("529", 60)] {
        let vendors = vendors(3);
        let keys = format!("{ROUND_ROBIN}    breaker: {{enabled: false}}\n");
        let gateway = Gateway::start(&pool(&vendors, &keys));
        let faults = [("x-mock-only", "a0"), ("x-mock-status", status)];
        let small = chat(false)
            .header(faults[0].0, "a0")
            .header(faults[1].0, status);
        assert_big_ones_pass(&gateway, &faults);
        assert_nobody_notices(&gateway, &vendors, &small, usual);
        let failed = vendors[0].count("requests");
        match status {
            // One answer was enough to leave it alone.
            "429" => assert!(failed <= 10, "{failed} requests to a limited account"),
            _ => assert!(failed > 15, "it was tried {failed} times only"),
        }
    }
}

#[test]
fn a_vendor_that_drops_the_connection_before_its_answer_is_not_noticed() {
    let vendors = vendors(3);
    let keys = format!("{ROUND_ROBIN}    breaker: {{enabled: false}}\n");
    let gateway = Gateway::start(&pool(&vendors, &keys));
    let faults = [("x-mock-only", "a0"), ("x-mock-reset", "1")];
    assert_big_ones_pass(&gateway, &faults);
    let small = chat(true)
        .header("x-mock-only", "a0")
        .header("x-mock-reset", 1);
    assert_nobody_notices(&gateway, &vendors, &small, 300);
}

#[test]
fn where_every_account_fails_a_fifth_more_is_asked_and_not_thrice_as_much() {
    for status in ["500", "503"] {
        let vendors = vendors(3);
        let keys = format!("{ROUND_ROBIN}    breaker: {{enabled: false}}\n");
        let gateway = Gateway::start(&pool(&vendors, &keys));
        let requests = count(300, 3000);
        let failing = chat(false).header("x-mock-status", status);
        for answer in many(gateway.address, &failing, 8, requests) {
            assert_eq!(answer.status.to_string(), status, "{}", answer.text());
        }
        let asked: u64 = vendors.iter().map(|vendor| vendor.count("requests")).sum();
        let most = requests as u64 * 12 / 10 + 10;
        assert!(asked <= most, "{asked} attempts for {requests} requests");
        assert!(asked > requests as u64, "some were worth another try");
        let exhausted = gateway.metric("poolgate_retry_budget_exhausted_total", &[]);
        assert!(exhausted > 0.0);
    }
}

#[test]
fn a_vendor_that_hangs_before_its_first_byte_is_replaced_in_streams() {
    let vendors = vendors(3);
    let keys = format!("{ROUND_ROBIN}    timeouts: {{read_stream: 300ms}}\n");
    let gateway = Gateway::start(&pool(&vendors, &keys));
    let request = chat(true)
        .header("x-mock-only", "a0")
        .header("x-mock-hang", "head");
    assert_nobody_notices(&gateway, &vendors, &request, 60);
    assert_eq!(
        gateway.account("a0")["status"],
        "open",
        "silence counts as failure"
    );
}

#[test]
fn silence_is_asked_of_a_second_account_only_and_then_it_is_504() {
    let (vendors, pool) = ranked("    timeouts: {read_stream: 200ms}\n");
    let gateway = Gateway::start(&pool);
    let request = chat(true)
        .header("x-mock-hang", "head")
        .header("x-request-id", "silence");
    let answer = gateway.send(&request);
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "upstream_timeout");
    assert_eq!(gateway.tries("silence"), "a0:transient,a1:transient");
    assert_eq!(vendors[2].count("requests"), 0);
}

#[test]
fn silence_in_a_request_that_is_no_stream_is_504_at_once_because_the_work_may_be_under_way() {
    let (vendors, pool) = ranked("    timeouts: {read: 300ms}\n");
    let gateway = Gateway::start(&pool);
    let begun = Instant::now();
    let answer = gateway.send(&chat(false).header("x-mock-hang", "head"));
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "upstream_timeout");
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let counts: Vec<u64> = vendors
        .iter()
        .map(|vendor| vendor.count("requests"))
        .collect();
    assert_eq!(counts, [1, 0, 0]);
}

#[test]
fn no_more_answers_are_asked_for_than_attempts_allow() {
    for (attempts, most) in [(1, 1), (2, 2), (3, 3), (5, 5), (8, 5)] {
        let vendors = vendors(5);
        let keys = format!("    retry: {{attempts: {attempts}}}\n");
        let gateway = Gateway::start(&pool(&vendors, &keys));
        let answer = gateway.send(&chat(false).header("x-mock-status", 500));
        assert_eq!(answer.status, 500);
        let counts: Vec<u64> = vendors
            .iter()
            .map(|vendor| vendor.count("requests"))
            .collect();
        assert_eq!(counts.iter().sum::<u64>(), most, "{counts:?}");
        assert!(
            counts.iter().all(|count| *count <= 1),
            "asked twice: {counts:?}"
        );
    }
}

#[test]
fn work_that_may_have_begun_is_not_repeated_where_the_operator_forbids_it() {
    let (mut vendors, pool) =
        ranked("    retry: {after_sent: false}\n    timeouts: {read_stream: 200ms}\n");
    let gateway = Gateway::start(&pool);
    for (name, value, status) in [("reset", "1", 502), ("hang", "head", 504)] {
        let fault = chat(true).header(&format!("x-mock-{name}"), value);
        let answer = gateway.send(&fault);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    assert_eq!(vendors[1].count("requests"), 0);
    // An answer says that the work is over, and a refused connection that it never began.
    let failed = chat(false)
        .header("x-mock-status", 500)
        .header("x-mock-only", "a0");
    assert_eq!(gateway.send(&failed).status, 200);
    vendors.remove(0);
    assert_eq!(gateway.send(&chat(false)).status, 200);
}

/// A request over a connection that its vendor kept from the one before, read in full and then broken off; the vendor
/// says `first` before. What the client is told.
#[track_caller]
fn broken_off(gateway: &Gateway, vendor: &Vendor, request: &Request, first: &[u8]) -> u16 {
    let mut client = Connection::open(gateway.address).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // On one connection, as the vendor's is free again only when the first request is over.
            assert_eq!(client.send(request).unwrap().status, 200);
            client.send(request).unwrap().status
        });
        let mut upstream = vendor.next();
        upstream.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        upstream.read_head().unwrap();
        upstream.write(first);
        upstream.close();
        asking.join().unwrap()
    })
}

#[test]
fn work_over_a_kept_connection_is_not_repeated_on_a_guess() {
    let house = |clients: &str, keys: &str| {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&format!(
            "{clients}pools:\n  default:\n{keys}    accounts: [{{id: a, upstream: \"http://{}\"}}]\n",
            vendor.address
        ));
        (gateway, vendor)
    };
    let forbids = "    retry: {after_sent: false}\n";
    let once = "    retry: {attempts: 1}\n";
    let unknown = post("/v1/batches", &json!({}));
    for (clients, keys, request, first) in [
        // The operator forbids it, nobody knows what the path does, the vendor has said that it is at work.
        ("", forbids, chat(false), &b""[..]),
        ("clients: {paths: any}\n", once, unknown, b""),
        ("", once, chat(false), b"HTTP/1.1 102 Processing\r\n\r\n"),
    ] {
        let (gateway, vendor) = house(clients, keys);
        let status = broken_off(&gateway, &vendor, &request, first);
        assert_eq!(status, 502, "{keys}");
        assert!(vendor.is_idle(), "asked again: {keys}");
        assert_eq!(gateway.account("a")["failures"], 1, "{keys}");
    }
}

#[test]
fn when_no_upstream_can_be_reached_it_is_502() {
    let upstream = free_address();
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"http://{upstream}\"}}]\n"
    ));
    let answer = gateway.send(&chat(false));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "upstream_unreachable");
}

#[test]
fn a_connection_that_the_vendor_closed_meanwhile_fails_no_post() {
    // One vendor: nobody else could help out.
    let vendors = vendors(1);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let request = chat(false).header("x-mock-drop-keepalive", 1);
    let mut connection = Connection::open(gateway.address).unwrap();
    for _ in 0..count(200, 1000) {
        let answer = connection.send(&request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for answer in many(gateway.address, &request, 8, count(400, 1000)) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for answer in many(
        gateway.address,
        &big(200 << 10).header("x-mock-drop-keepalive", 1),
        4,
        40,
    ) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(gateway.account("a0")["failures"], 0, "nobody is to blame");
}

#[test]
fn a_vendor_that_restarts_between_two_requests_fails_no_post() {
    let mut vendors = vendors(1);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let mut connection = Connection::open(gateway.address).unwrap();
    for _ in 0..count(5, 50) {
        // Several connections to it are kept, and all of them are dead then.
        many(
            gateway.address,
            &chat(false).header("x-mock-delay", "20ms"),
            4,
            4,
        );
        let address = vendors.pop().unwrap().address;
        vendors.push(Mock::start_at(address, &[]));
        let answer = connection.send(&chat(false)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(gateway.account("a0")["failures"], 0, "nobody is to blame");
}
