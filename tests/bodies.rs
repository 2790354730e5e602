//! Bodies on their way to the vendor: every size, every framing, both protocols, and each of them
//! byte for byte at the second account after the first one failed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{
    Gateway, Mock, PATIENCE, Request, free_address, pool, pool_of, post, ranked, wait_for,
};

/// Around the 64 KiB that Pingora itself keeps, and our own 32 KiB of a body without a length.
const SIZES: [usize; 11] = [
    1,
    2,
    1000,
    32_767,
    32_769,
    65_535,
    65_536,
    65_537,
    131_073,
    1 << 20,
    16 << 20,
];

/// A request with a body of exactly this size, no two parts of which are alike.
fn of_size(size: usize) -> Request {
    let mut body = br#"{"model":"gpt-5","messages":[{"role":"user","content":""#.to_vec();
    let end = br#""}]}"#;
    let room = size.checked_sub(body.len() + end.len());
    match room {
        Some(room) => {
            let text = (0u64..).flat_map(|n| format!("{n:x} ").into_bytes());
            body.extend(text.take(room));
            body.extend(end);
        }
        None => body = b"7".repeat(size),
    }
    assert_eq!(body.len(), size);
    Request::new("POST", "/v1/chat/completions")
        .header("content-type", "application/json")
        .body(body)
}

fn fingerprint(body: &[u8]) -> String {
    format!("{:016x}", xxh3_64(body))
}

/// The vendor's last request had this body.
#[track_caller]
fn assert_arrived(vendor: &Mock, request: &Request, what: &str) {
    let last = vendor.stats()["last_request"].clone();
    assert_eq!(last["body_length"], request.body.len(), "{what}: {last}");
    assert_eq!(
        last["body_xxh3"],
        fingerprint(&request.body),
        "{what}: {last}"
    );
}

/// A body that is too small to be a chat is refused by the vendor, but it arrives all the same.
fn status_of(size: usize) -> u16 {
    if size < 100 { 400 } else { 200 }
}

/// Each of these ways to fail makes the second account serve.
const FAULTS: [(&str, &str); 3] = [
    ("status", "500"),
    ("reset", "1"),
    ("body", "insufficient_quota"),
];

fn failing(request: &Request, fault: usize) -> Request {
    let (name, value) = FAULTS[fault % FAULTS.len()];
    let request = request.clone().header("x-mock-only", "a0");
    request.header(&format!("x-mock-{name}"), value)
}

fn house() -> (Vec<Mock>, Gateway) {
    let (vendors, pool) = ranked("    breaker: {enabled: false}\n");
    let gateway = Gateway::start(&pool);
    (vendors, gateway)
}

/// The first account forgets what it suffered.
fn heal(gateway: &Gateway) {
    let answer = gateway.admin(post("/api/v1/accounts/a0/reset", &json!({})));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn every_size_arrives_whole_at_the_second_account() {
    let (vendors, gateway) = house();
    for (n, size) in SIZES.into_iter().enumerate() {
        let request = failing(&of_size(size), n);
        let answer = gateway.send(&request);
        assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
        assert_arrived(&vendors[0], &request, &format!("first, {size}"));
        assert_arrived(&vendors[1], &request, &format!("second, {size}"));
        heal(&gateway);
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_once_and_its_body_arrives() {
    let (vendors, gateway) = house();
    for (n, size) in SIZES.into_iter().enumerate() {
        let request = failing(&of_size(size), n).header("expect", "100-continue");
        let answer = gateway.send(&request);
        assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
        assert_arrived(&vendors[1], &request, &format!("{size}"));
        heal(&gateway);
    }
}

#[test]
fn every_size_arrives_over_http2() {
    let (vendors, gateway) = house();
    for (n, size) in SIZES.into_iter().enumerate() {
        let request = failing(&of_size(size), n);
        let answer = request.try_send_h2(gateway.address).unwrap();
        assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
        assert_arrived(&vendors[1], &request, &format!("{size}"));
        heal(&gateway);
    }
}

#[test]
fn every_size_arrives_over_http2_without_a_length_too() {
    let (vendors, gateway) = house();
    // The largest takes long where nothing is optimised.
    for (n, size) in SIZES
        .into_iter()
        .filter(|size| *size <= 1 << 20)
        .enumerate()
    {
        let request = failing(&of_size(size), n).chunked();
        let answer = request.try_send_h2(gateway.address).unwrap();
        assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
        assert_arrived(&vendors[1], &request, &format!("{size}"));
        heal(&gateway);
    }
    let small = "clients: {max_body: 100KiB, buffer_budget: 64KiB}\n";
    let gateway = Gateway::start(&format!("{small}{}", pool(&vendors, "")));
    let status = |size: usize| {
        let request = of_size(size).chunked();
        request.try_send_h2(gateway.address).unwrap().status
    };
    assert_eq!(status(100 * 1024), 200, "larger than all memory for bodies");
    assert_eq!(status(100 * 1024 + 1), 413);
}

#[test]
fn a_small_body_without_a_length_is_sent_again_and_a_large_one_streams() {
    let (vendors, gateway) = house();
    for (n, size) in SIZES.into_iter().enumerate() {
        let request = of_size(size).chunked();
        let answer = gateway.send(&request);
        assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
        assert_arrived(&vendors[0], &request, &format!("{size}"));
        let answer = gateway.send(&failing(&request, n));
        if size < 65_536 {
            assert_eq!(answer.status, status_of(size), "{size}: {}", answer.text());
            assert_arrived(&vendors[1], &request, &format!("second, {size}"));
        } else if size > 65_536 {
            assert_ne!(answer.status, 200, "{size} cannot have been kept");
        }
        heal(&gateway);
    }
}

/// What is read of a body that is passed on as it comes tells where it goes, and permits nothing.
#[test]
fn the_beginning_of_a_long_body_without_a_length_names_its_model() {
    let vendors = Mock::several(2, &[]);
    let models = |n: usize| format!(", models: [{}]", ["other", "gpt-5"][n]);
    let keys = "clients: {keys: [{name: a, key: all}, {name: s, key: some, tier: some}]}\n\
                tiers: {some: {models: [gpt-5]}}\n";
    let gateway = Gateway::start(&format!("{keys}{}", pool_of(&vendors, "", models)));
    let request = of_size(500_000).chunked();
    assert_eq!(gateway.send(&request.clone().bearer("all")).status, 200);
    assert_arrived(&vendors[1], &request, "the account that serves it");
    assert_eq!(vendors[0].count("requests"), 0);
    let answer = gateway.send(&request.bearer("some"));
    assert_eq!(answer.status, 403, "another model may follow");
}

#[test]
fn a_refused_connection_costs_no_byte_even_of_a_body_without_a_length() {
    let (mut vendors, pool) = ranked("    breaker: {enabled: false}\n");
    let gateway = Gateway::start(&pool);
    vendors.remove(0);
    for size in [1000, 40_000, 65_535] {
        let request = of_size(size).chunked();
        assert_eq!(gateway.send(&request).status, 200, "{size}");
        assert_arrived(&vendors[0], &request, &format!("{size}"));
    }
}

#[test]
fn a_body_above_the_limit_is_413_in_every_dialect() {
    let vendors = [Mock::start(&[])];
    let clients = "clients: {max_body: 100KiB}\n";
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    let body = of_size(100 * 1024 + 1).body;
    let to = |path: &str| Request::new("POST", path).body(body.clone());
    let error = |request: Request| {
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"));
        answer.json()["error"].clone()
    };
    assert_eq!(
        error(to("/v1/chat/completions"))["code"],
        "request_too_large"
    );
    assert_eq!(error(to("/v1/messages"))["type"], "request_too_large");
    assert_eq!(error(to("/v1beta/models/m:generateContent"))["code"], 413);
    assert_eq!(vendors[0].count("requests"), 0);
    // Without a length it is only known when it is there, when an account is busy with it already.
    assert_eq!(
        error(to("/v1/chat/completions").chunked())["code"],
        "request_too_large"
    );
    let over_h2 = to("/v1/messages").try_send_h2(gateway.address).unwrap();
    assert_eq!(over_h2.json()["error"]["type"], "request_too_large");
    // One byte less is welcome.
    let most = of_size(100 * 1024);
    assert_eq!(gateway.send(&most).status, 200);
    assert_eq!(gateway.send(&most.clone().chunked()).status, 200);
    assert_arrived(&vendors[0], &most, "the largest");
}

/// Sends a head and a part of the body, then nothing; the answer, and when it came.
fn stall(gateway: &Gateway, head: &str, part: &[u8]) -> (String, Duration) {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "{head}\r\nhost: {}\r\n\r\n", gateway.address).unwrap();
    socket.write_all(part).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    (answer, begun.elapsed())
}

#[test]
fn a_body_that_does_not_come_is_408_and_no_account_was_bothered() {
    let vendors = [Mock::start(&[])];
    let clients = "clients: {body_timeout: 300ms}\n";
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    for (head, word) in [
        (
            "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 100",
            "request_timeout",
        ),
        (
            "POST /v1/messages HTTP/1.1\r\ncontent-length: 100",
            "timeout_error",
        ),
        (
            "POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked",
            "timeout_error",
        ),
    ] {
        let (answer, after) = stall(&gateway, head, b"5\r\nhello\r\n");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains(word), "{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert!(after >= Duration::from_millis(300), "{after:?}");
    }
    assert_eq!(vendors[0].count("requests"), 0);
}

#[test]
fn a_body_that_stalls_when_an_account_is_already_busy_with_it_is_408_too() {
    let vendors = [Mock::start(&[])];
    let clients = "clients: {body_timeout: 300ms}\n";
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    let head = "POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked";
    let part = format!("{:x}\r\n{}\r\n", 50_000, " ".repeat(50_000));
    let (answer, _) = stall(&gateway, head, part.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    let account = gateway.account("a0");
    assert_eq!(account["in_flight"], 0, "{account}");
    assert_eq!(
        account["failures"], 0,
        "a slow client is nobody's fault: {account}"
    );
}

#[test]
fn a_body_that_trickles_is_408_although_it_never_stalls() {
    let vendors = [Mock::start(&[])];
    let clients = "clients: {body_timeout: 500ms}\n";
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked";
    write!(socket, "{head}\r\nhost: {}\r\n\r\n", gateway.address).unwrap();
    write!(socket, "{:x}\r\n{}\r\n", 50_000, " ".repeat(50_000)).unwrap();
    let begun = Instant::now();
    let mut answer = vec![0; 4096];
    let status = loop {
        // Each read waits 50 ms for the answer: a byte of the body follows whenever none came.
        match socket.read(&mut answer) {
            Ok(length) => break String::from_utf8_lossy(&answer[..length]).into_owned(),
            Err(_) => drop(socket.write_all(b"1\r\n \r\n")),
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "no answer to a body without an end"
        );
    };
    assert!(status.starts_with("HTTP/1.1 408 "), "{status}");
}

#[test]
fn a_client_that_does_not_look_up_while_it_sends_still_reads_413() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    // The default limit is 32 MiB.
    let request = Request::new("POST", "/v1/messages").body(vec![b' '; 40 << 20]);
    for _ in 0..3 {
        assert_eq!(gateway.send(&request).status, 413);
    }
    // Who asks first sends nothing in vain.
    let polite = request.header("expect", "100-continue");
    assert_eq!(gateway.send(&polite).status, 413);
    assert_eq!(vendors[0].count("requests"), 0);
}

#[test]
fn a_large_body_has_the_time_its_size_needs() {
    let vendors = [Mock::start(&[])];
    let clients = "clients: {body_timeout: 100ms}\n";
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    let request = of_size(256 << 10);
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        gateway.address,
        request.body.len()
    )
    .unwrap();
    // 256 KiB at 64 KiB/s may take 4 s more: a pause of one second is within that.
    let (first, second) = request.body.split_at(100_000);
    socket.write_all(first).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    socket.write_all(second).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_arrived(&vendors[0], &request, "slowly");
}

#[test]
fn an_alias_changes_the_value_of_the_model_and_nothing_else() {
    let vendor = Mock::start(&[]);
    let account = |id: &str, url: &str, priority: u32, models: &str| {
        format!(
            "      - {{id: {id}, upstream: \"{url}\", priority: {priority}, models: {models}}}\n"
        )
    };
    let gone = format!("http://{}", free_address());
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n{}{}",
        // Each account has its own name for it.
        account("a", &gone, 0, "{fast: of-the-account-that-is-gone}"),
        account("b", &vendor.url(), 1, "{fast: \"real/öne\", \"*\": \"*\"}"),
    ));
    let body = r#"{ "messages" : [{"role":"user","content":"model \"fast\" \u00e9","model":"fast"}],  "model":"fast" ,"temperature":1.0e0,"x":{"model":"fast"} }"#;
    let expected = body.replace(r#""model":"fast" ,"#, r#""model":"real/öne" ,"#);
    assert_ne!(body, expected);
    let request = Request::new("POST", "/v1/chat/completions").body(body);
    for request in [request.clone(), request.clone().chunked()] {
        assert_eq!(gateway.send(&request).status, 200);
        assert_arrived(&vendor, &request.body(expected.clone()), "renamed");
    }
    // Also in a body that is replayed in parts.
    let long = body.replace("temperature", &"t".repeat(200_000));
    let expected = expected.replace("temperature", &"t".repeat(200_000));
    let request = Request::new("POST", "/v1/chat/completions");
    assert_eq!(gateway.send(&request.clone().body(long)).status, 200);
    assert_arrived(&vendor, &request.body(expected), "long");
    assert_eq!(vendor.stats()["by_model"], json!({"real/öne": 3}));
}

#[test]
fn an_alias_is_put_in_the_path_where_gemini_names_the_model() {
    let vendor = Mock::start(&[]);
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"{}\", models: {{fast: gemini-x}}}}]\n",
        vendor.url()
    ));
    let body = json!({"contents": [{"parts": [{"text": "Hi"}]}], "model": "fast"});
    let path_of = |verb: &str| {
        let request = post(&format!("/v1beta/models/fast:{verb}"), &body);
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_arrived(&vendor, &request, verb);
        vendor.stats()["last_request"].clone()
    };
    let last = path_of("generateContent");
    assert_eq!(last["path"], "/v1beta/models/gemini-x:generateContent");
    let last = path_of("streamGenerateContent?alt=sse");
    assert_eq!(
        last["path"],
        "/v1beta/models/gemini-x:streamGenerateContent"
    );
    assert_eq!(last["query"], "alt=sse");
}

#[test]
fn a_body_that_is_rewritten_takes_memory_for_both() {
    let vendors = Mock::several(1, &[]);
    let budget = "clients: {buffer_budget: 1MiB}\n";
    let gateway = Gateway::start(&format!("{budget}{}", pool(&vendors, "    usage: ask\n")));
    let held = of_size(600 * 1024).header("x-mock-hang", "head");
    let mut holder = TcpStream::connect(gateway.address).unwrap();
    holder.write_all(&held.bytes(gateway.address)).unwrap();
    wait_for("the vendor to have it", || {
        (vendors[0].count("requests") == 1).then_some(())
    });
    let text = "x".repeat(300 * 1024);
    let body = |stream: bool| json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]});
    let status = |stream| {
        let request = post("/v1/chat/completions", &body(stream));
        request.send(gateway.address).status
    };
    assert_eq!(status(false), 200, "there is room for one of it");
    assert_eq!(status(true), 503, "and not for two");
    drop(holder);
    wait_for("room for both", || (status(true) == 200).then_some(()));
}
