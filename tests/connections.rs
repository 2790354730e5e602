//! HTTP as clients of every age speak it: 1.0, 1.1 with and without `Expect`, 2 with prior knowledge,
//! and connections that go on after an answer, a refusal too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Answer, Connection, Gateway, Mock, PATIENCE, Request, Vendor, Wire, chat, get, pool, post,
    wait_for,
};

const KEY: &str = "sk-of-a-test";

/// A gateway that asks for [`KEY`], over one vendor.
fn house() -> (Vec<Mock>, Gateway) {
    let vendors = Mock::several(1, &[]);
    let clients = format!("clients: {{keys: [{{name: t, key: {KEY}}}]}}\n");
    let gateway = Gateway::start(&format!("{clients}{}", pool(&vendors, "")));
    (vendors, gateway)
}

/// Everything that comes back for these bytes until the gateway closes the connection.
#[track_caller]
fn everything_after(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The request as a client of HTTP/1.0 sends it.
fn of_1_0(gateway: &Gateway, request: Request) -> Vec<u8> {
    let bytes = request.bytes(gateway.address);
    let text = String::from_utf8(bytes).unwrap();
    text.replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes()
}

#[test]
fn a_client_of_http_1_0_gets_an_answer_without_chunks_that_ends_with_its_connection() {
    let (_vendors, gateway) = house();
    for stream in [false, true] {
        for wish in ["close", "keep-alive"] {
            // A whole answer states no length either, so that it would come in chunks.
            let request = chat(stream).bearer(KEY).header("x-mock-chunked", 1);
            let request = request.header("connection", wish);
            let answer = everything_after(&gateway, &of_1_0(&gateway, request));
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
            assert!(head.contains("connection: close"), "{head}");
            if stream {
                assert!(body.starts_with("data: {"), "{body}");
                assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
            } else {
                serde_json::from_str::<Value>(body).unwrap();
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_off_does_not_look_complete_to_a_client_of_http_1_0() {
    let (_vendors, gateway) = house();
    let request = chat(true).bearer(KEY).header("x-mock-cut", 4);
    let answer = everything_after(&gateway, &of_1_0(&gateway, request));
    assert!(answer.contains("\n\ndata: {\"error\":"), "{answer}");
    assert!(!answer.contains("[DONE]"), "{answer}");
}

#[test]
fn a_client_of_http_1_0_may_keep_its_connection_where_lengths_are_stated() {
    let (_vendors, gateway) = house();
    let request = chat(false).bearer(KEY).header("connection", "keep-alive");
    let mut connection = Connection::open(gateway.address).unwrap();
    for _ in 0..3 {
        let bytes = of_1_0(&gateway, request.clone());
        let answer = connection.send_bytes(&bytes).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_client_that_waited_for_a_100_keeps_its_connection() {
    let (vendors, gateway) = house();
    let mut connection = Connection::open(gateway.address).unwrap();
    for size in [10, 100_000, 2_000_000] {
        let message = json!({"role": "user", "content": "x".repeat(size)});
        let body = json!({"model": "gpt-5", "messages": [message]});
        let request = post("/v1/chat/completions", &body).bearer(KEY);
        let answer = connection
            .send(&request.header("expect", "100-continue"))
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(vendors[0].count("requests"), 3);
}

#[test]
fn a_client_that_waited_for_a_100_and_leaves_the_queue_has_had_no_answer() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"http://{}\", max_concurrent: 1}}]\n",
        vendor.address
    ));
    let first = Wire::open(gateway.address, &chat(false).bytes(gateway.address));
    let served = vendor.next();
    let request = chat(false)
        .header("expect", "100-continue")
        .header("x-request-id", "left");
    let mut second = Wire::open(gateway.address, &request.bytes(gateway.address));
    assert!(second.read_head().unwrap().starts_with("http/1.1 100"));
    wait_for("the second to wait", || {
        (gateway.metric("poolgate_queue_waiting", &[]) == 1.0).then_some(())
    });
    second.close();
    let line = wait_for("its line in the log", || {
        let log = gateway.log();
        let mut lines = log.lines().filter(|line| line.contains("request_id=left"));
        lines.next().map(str::to_owned)
    });
    assert!(line.contains("status=0 "), "{line}");
    drop((first, served));
}

#[test]
fn a_client_that_waits_for_a_100_with_a_refused_key_is_told_so_instead() {
    let (vendors, gateway) = house();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-length: 5000000\r\nexpect: 100-continue\r\nauthorization: Bearer wrong\r\n\r\n",
        gateway.address
    );
    // Not a byte of the body is sent, and the connection cannot go on without it.
    let answer = everything_after(&gateway, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(vendors[0].count("requests"), 0);
}

#[test]
fn a_connection_goes_on_after_a_refusal() {
    let (vendors, gateway) = house();
    let mut connection = Connection::open(gateway.address).unwrap();
    let mut ask = |request: &Request| -> Answer { connection.send(request).unwrap() };
    for refused in [
        chat(false),
        chat(true).bearer("wrong"),
        post("/v1/messages", &json!({"model": "m"})).header("x-api-key", "wrong"),
        post("/v1/no/such/path", &json!({})).bearer(KEY),
        get("/v1/models"),
    ] {
        let answer = ask(&refused);
        assert!([401, 404].contains(&answer.status), "{}", answer.text());
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        assert_eq!(ask(&chat(false).bearer(KEY)).status, 200);
    }
    assert_eq!(vendors[0].count("requests"), 5);
}

#[test]
fn a_connection_goes_on_after_an_error_of_the_upstream() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&pool(&vendors, "    breaker: {enabled: false}\n"));
    let mut connection = Connection::open(gateway.address).unwrap();
    for (fault, value, stream, status) in [
        ("x-mock-status", "400", false, 400),
        ("x-mock-status", "500", true, 500),
        ("x-mock-status", "500", false, 500),
        // It is told in the stream, whose head had gone.
        ("x-mock-cut", "3", true, 200),
        ("x-mock-reset", "1", false, 502),
    ] {
        let request = chat(stream).header(fault, value);
        let answer = connection.send(&request).unwrap();
        assert_eq!(answer.status, status, "{fault}: {value}");
        assert_ne!(answer.header("connection"), Some("close"), "{fault}");
        let next = connection.send(&chat(false)).unwrap();
        assert_eq!(next.status, 200, "after {fault}: {value}");
    }
    assert_eq!(gateway.metric("poolgate_connections", &[]), 1.0);
    // Half a document cannot be mended: the end of its connection is what tells.
    let cut = chat(false).header("x-mock-cut", 1);
    assert!(connection.send(&cut).is_err());
}

#[test]
fn a_stream_goes_on_whatever_its_client_sends_meanwhile() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"http://{}\"}}]\n",
        vendor.address
    ));
    let event = b"data: {}\n\n";
    let mut client = Wire::open(gateway.address, &chat(true).bytes(gateway.address));
    let mut upstream = vendor.next();
    upstream.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    upstream.write(event);
    client.read_head().unwrap();
    let piece = format!("{:X}\r\n{}\r\n", event.len(), event.escape_ascii());
    let piece = piece.replace("\\n", "\n");
    for said in [
        "\r",
        "\n",
        "GET /livez HTTP/1.1\r\n",
        "Host: localhost\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(client.read(piece.len()), piece.as_bytes());
        client.write(said.as_bytes());
        upstream.write(event);
    }
    assert_eq!(client.read(piece.len()), piece.as_bytes());
    upstream.write(b"data: [DONE]\n\n");
    upstream.close();
    let rest = String::from_utf8(client.read_to_end()).unwrap();
    assert!(rest.contains("0\r\n\r\nHTTP/1.1 200 OK\r\n"), "{rest}");
}

#[test]
fn a_refused_body_that_is_long_or_does_not_come_costs_the_connection() {
    let (_vendors, gateway) = house();
    let long = post("/v1/messages", &json!("x".repeat(1 << 20)));
    assert_eq!(
        gateway.send(&long).header("connection"),
        Some("close"),
        "nobody reads a megabyte of a stranger"
    );
    let late = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {}\r\ncontent-length: 100\r\n\r\n{{",
        gateway.address
    );
    let answer = everything_after(&gateway, late.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
}

/// Requests of 10 MB by one curl in this version of HTTP: its exit status, and of each request the
/// version, the status and how many connections were opened for it.
fn curl(gateway: &Gateway, version: &str, key: &str, requests: usize) -> (Option<i32>, String) {
    let body = gateway.program.folder().join("10mb.json");
    if !body.exists() {
        let message = json!({"role": "user", "content": "x".repeat(10_000_000)});
        let text = json!({"model": "gpt-5", "messages": [message]}).to_string();
        std::fs::write(&body, text).unwrap();
    }
    let url = format!("http://{}/v1/chat/completions", gateway.address);
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "20", version])
        .args(["--header", "content-type: application/json"])
        .args(["--header", &format!("authorization: Bearer {key}")])
        .args(["--data-binary", &format!("@{}", body.display())])
        .args([
            "--write-out",
            "%{http_version} %{http_code} %{num_connects};",
        ]);
    for _ in 0..requests {
        command.args(["--output", "/dev/null", &url]);
    }
    let run = command.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    (run.status.code(), said)
}

#[test]
fn curl_sends_ten_megabytes_in_every_version_of_http() {
    let (vendors, gateway) = house();
    let cases = [
        // curl asks with `Expect` before it sends so much, and keeps its connection.
        ("--http1.1", 2, "1.1 200 1;1.1 200 0;"),
        // It offers an upgrade to HTTP/2, which is not taken up.
        ("--http2", 2, "1.1 200 1;1.1 200 0;"),
        ("--http1.0", 2, "1.1 200 1;1.1 200 1;"),
        // One: curl 7.88 with prior knowledge cannot use its connection again, whoever serves.
        ("--http2-prior-knowledge", 1, "2 200 1;"),
    ];
    for (version, requests, said) in cases {
        let found = curl(&gateway, version, KEY, requests);
        assert_eq!(found, (Some(0), said.to_owned()), "{version}");
        let length = &vendors[0].stats()["last_request"]["body_length"];
        assert!(length.as_u64() > Some(10_000_000), "{version}: {length}");
    }
    assert_eq!(vendors[0].count("requests"), 7);
}

#[test]
fn curl_is_told_that_its_key_is_refused_before_it_sends_ten_megabytes() {
    let (vendors, gateway) = house();
    for (version, said) in [
        ("--http1.1", "1.1 401 1;"),
        ("--http2-prior-knowledge", "2 401 1;"),
    ] {
        let found = curl(&gateway, version, "wrong", 1);
        assert_eq!(found, (Some(0), said.to_owned()), "{version}");
    }
    assert_eq!(vendors[0].count("requests"), 0);
}
