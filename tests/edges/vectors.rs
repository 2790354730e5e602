//! HTTP/1 on the wire, vector by vector: what some readers take differently is refused and no
//! upstream hears a byte of it; what all readers understand is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use super::{Upstream, answer_to, gateway_over, status};
use crate::support::{Gateway, PATIENCE, wait_for};

/// Begins a request that would be served.
const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n";
const CHUNKED: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Headers behind [`POST`], and a body, that do not agree on where it ends.
const FRAMINGS: &[&str] = &[
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
    "Content-Length: 2, 2\r\n\r\n{}",
    "Content-Length: +2\r\n\r\n{}",
    "Content-Length: -2\r\n\r\n{}",
    "Content-Length: 0x2\r\n\r\n{}",
    "Content-Length: 2 2\r\n\r\n{}",
    "Content-Length: 2;\r\n\r\n{}",
    "Content-Length: \r\n\r\n{}",
    "Content-Length: 18446744073709551618\r\n\r\n{}",
    "Content-Length : 2\r\n\r\n{}",
    "Content Length: 2\r\n\r\n{}",
    "Content-Length:\r\n 2\r\n\r\n{}",
    "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\n\r\n0\r\n\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

/// Bodies behind [`CHUNKED`].
const CHUNKS: &[&str] = &[
    "0x1\r\n{\r\n0\r\n\r\n",
    "0_1\r\n{\r\n0\r\n\r\n",
    "+1\r\n{\r\n0\r\n\r\n",
    "-1\r\n{\r\n0\r\n\r\n",
    " 1\r\n{\r\n0\r\n\r\n",
    "1 \r\n{\r\n0\r\n\r\n",
    "1\n{\r\n0\r\n\r\n",
    "1\r\n{\n0\r\n\r\n",
    "1\r\n{}\r\n0\r\n\r\n",
    "1\r\n{0\r\n\r\n",
    "1\r{\r\n0\r\n\r\n",
    "10000000000000001\r\n{\r\n0\r\n\r\n",
    "ffffffffffffffff\r\n{\r\n0\r\n\r\n",
    "\r\n{\r\n0\r\n\r\n",
    ";a=b\r\n\r\n",
    "1;a\nb\r\n{\r\n0\r\n\r\n",
    "1;a\rb\r\n{\r\n0\r\n\r\n",
    "1;a\0b\r\n{\r\n0\r\n\r\n",
    "1\r\n{\r\n0\r\n\n",
    "1\r\n{\r\n0\r\nno trailer\r\n\r\n",
    "1\r\n{\r\n0\r\nA: b\nContent-Length: 5\r\n\r\n",
    "g\r\n{\r\n0\r\n\r\n",
];

/// Whole heads whose first lines are no request to this server.
const REQUEST_LINES: &[&str] = &[
    "GET /v1/models\r\n\r\n",
    "GET /v1/models HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "GET /v1/models HTTP/0.9\r\nHost: localhost\r\n\r\n",
    "GET /v1/models HTTP/1.1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models http/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models HTTP/1.1 \r\nHost: localhost\r\n\r\n",
    "GET  /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET\t/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
    " GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "G(T /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET ftp://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET http://other/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET http://a@localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models?a=<b> HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models\x7f HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/modèles HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /v1/models HTTP/1.1\nHost: localhost\n\n",
    "GET /v1/models HTTP/1.1\r\rHost: localhost\r\n\r\n",
    "\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03 a handshake of TLS\r\n\r\n",
];

/// Headers behind the first line of [`GET`], which has no Host then.
const HEADERS: &[&str] = &[
    "\r\n",
    "Host: localhost\r\nHost: localhost\r\n\r\n",
    "Host: localhost\r\nhost: other\r\n\r\n",
    "Host: localhost\r\nX: a\0b\r\n\r\n",
    "Host: localhost\r\nX: a\rb\r\n\r\n",
    "Host: localhost\r\nX: a\x01b\r\n\r\n",
    "Host: localhost\r\nX: a\x7fb\r\n\r\n",
    "Host: localhost\r\nX: a\nY: b\r\n\r\n",
    "Host: localhost\r\nX: a\r\n b\r\n\r\n",
    "Host: localhost\r\nX: a\r\n\tb\r\n\r\n",
    "Host: localhost\r\nX : a\r\n\r\n",
    "Host: localhost\r\nX Y: a\r\n\r\n",
    "Host: localhost\r\nX(Y): a\r\n\r\n",
    "Host: localhost\r\n: a\r\n\r\n",
    "Host: localhost\r\nno header\r\n\r\n",
    "Host: localhost\r\nÜ: a\r\n\r\n",
    "Host : localhost\r\n\r\n",
];

const PATHS: &[&str] = &[
    "/v1/../admin",
    "/v1/..",
    "/v1/%2e%2e/admin",
    "/v1/%2E./models",
    "/v1/models%00",
    "/v1%2fmodels",
    "/v1%2Fmodels",
    "/v1%5cmodels",
    "/v1\\models",
    "//v1/models",
    "/v1//models",
];

/// All that must be answered 400, with its name.
fn malformed() -> Vec<(String, Vec<u8>)> {
    let line = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let many = |count| format!("{GET}{}\r\n", "X: y\r\n".repeat(count));
    let mut all = vec![];
    all.extend(FRAMINGS.iter().map(|rest| format!("{POST}{rest}")));
    all.extend(CHUNKS.iter().map(|body| format!("{CHUNKED}{body}")));
    all.extend(REQUEST_LINES.iter().map(|head| (*head).to_owned()));
    all.extend(
        HEADERS
            .iter()
            .map(|rest| format!("GET /v1/models HTTP/1.1\r\n{rest}")),
    );
    all.extend(PATHS.iter().map(line));
    // One more than are taken, with the Host.
    all.push(many(256));
    all.push(CHUNKED.replace("HTTP/1.1", "HTTP/1.0") + "0\r\n\r\n");
    let named = |text: String| (text.escape_debug().to_string(), text.into_bytes());
    all.into_iter().map(named).collect()
}

#[test]
fn what_readers_take_differently_is_400_and_no_upstream_hears_of_it() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let vectors = malformed();
    assert!(vectors.len() >= 60, "{}", vectors.len());
    for (name, bytes) in &vectors {
        let answer = answer_to(gateway.address, bytes);
        assert_eq!(status(&answer), 400, "{name}: {answer}");
        assert!(answer.contains("bad_request"), "{name}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"));
        assert_eq!(upstream.heard(), "", "{name}");
    }
    // Whatever came before, the next client is served.
    let answer = answer_to(
        gateway.address,
        format!("{GET}Connection: close\r\n\r\n").as_bytes(),
    );
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn a_chunked_body_that_turns_out_bad_in_a_later_piece_is_400_too() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let send_late = |body: &str| {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = CHUNKED.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        // The answer to `Expect` says that the body is being read.
        socket.read_exact(&mut [0; 25]).unwrap();
        let _ = socket.write_all(body.as_bytes());
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert_eq!(status(&answer), 400, "{body:?}: {answer}");
        assert!(answer.contains("bad_request"), "{body:?}: {answer}");
    };
    // The gateway listens for another second to what still comes, so that its answer is read.
    std::thread::scope(|scope| {
        for body in CHUNKS {
            scope.spawn(|| send_late(body));
        }
    });
    assert_eq!(upstream.heard(), "");
}

/// What is refused for another reason than its form: status, code, bytes.
fn unwelcome() -> Vec<(u16, &'static str, String)> {
    let large = "y".repeat(40_000);
    vec![
        (431, "header_too_large", format!("{GET}X: {large}\r\n\r\n")),
        (
            431,
            "header_too_large",
            format!("{GET}X: {}", large.repeat(50)),
        ),
        (431, "header_too_large", format!("GET /v1/models?{large}")),
        (
            413,
            "request_too_large",
            format!("{POST}Content-Length: 99999999999\r\n\r\n"),
        ),
        (
            408,
            "request_timeout",
            format!("{POST}Content-Length: 3\r\n\r\n{{}}"),
        ),
        (408, "request_timeout", format!("{CHUNKED}3\r\n{{}}")),
        (408, "request_timeout", GET.to_owned()),
        (408, "request_timeout", "G".to_owned()),
        (
            404,
            "not_found",
            GET.replace("GET", "TRACE") + "Connection: close\r\n\r\n",
        ),
        (
            404,
            "not_found",
            GET.replace("GET", "get") + "Connection: close\r\n\r\n",
        ),
        (
            403,
            "forbidden_origin",
            GET.replace("localhost", "evil.test") + "Connection: close\r\n\r\n",
        ),
        (
            403,
            "forbidden_origin",
            GET.replace("localhost", "localhost, evil.test") + "Connection: close\r\n\r\n",
        ),
        (
            403,
            "forbidden_origin",
            GET.replace("localhost", "") + "Connection: close\r\n\r\n",
        ),
    ]
}

#[test]
fn what_is_too_large_too_slow_or_not_served_is_told_so_and_no_upstream_hears_of_it() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "header_timeout: 500ms, body_timeout: 500ms");
    for (expected, code, request) in unwelcome() {
        let name: String = request.chars().take(120).collect();
        let answer = answer_to(gateway.address, request.as_bytes());
        assert_eq!(status(&answer), expected, "{name}: {answer}");
        assert!(answer.contains(code), "{name}: {answer}");
        assert_eq!(upstream.heard(), "", "{name}");
    }
}

#[test]
fn a_refused_head_is_answered_in_the_dialect_it_names_and_has_its_line_in_the_log() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\nBad Header: x\r\n\r\n"
        )
    };
    let body = |path: &str| {
        let answer = answer_to(gateway.address, head(path).as_bytes());
        assert!(answer.contains("x-request-id: mine"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        serde_json::from_str::<Value>(&body).unwrap()
    };
    assert_eq!(body("/v1/chat/completions")["error"]["code"], "bad_request");
    let anthropic = body("/v1/messages");
    assert_eq!(anthropic["error"]["type"], "invalid_request_error");
    assert_eq!(anthropic["request_id"], "mine");
    let gemini = body("/v1beta/models/m:generateContent");
    assert_eq!(gemini["error"]["status"], "INVALID_ARGUMENT");
    wait_for("their lines in the log", || {
        let log = gateway.log();
        let lines = log.lines().filter(|line| line.contains("request_id=mine"));
        let said = |line: &&str| line.contains("status=400") && line.contains("error=bad_request");
        (lines.filter(said).count() == 3).then_some(())
    });
}

/// What must be served: the request, and how many an upstream hears of.
fn welcome() -> Vec<(String, usize)> {
    let close = "Connection: close\r\n";
    let get = |fields: &str| format!("{GET}{close}{fields}\r\n");
    let post = |fields: &str, body: &str| format!("{POST}{close}{fields}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let one = vec![
        get(""),
        get("Empty:\r\nSpaces:   \r\nTab:\ta\tb\t\r\n"),
        get("X: \u{e9}\u{20ac}\r\n"),
        get("X-Odd!#$%&'*+-.^_`|~Name: 1\r\n"),
        get("Content-Length: 0\r\n"),
        get("Content-Length: 2\r\n") + "{}",
        get(&"X: y\r\n".repeat(200)),
        get(
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        get("")
            .to_ascii_uppercase()
            .replace("/V1/MODELS", "/v1/models"),
        get("").replace("Host", "hOsT"),
        get("").replace("/v1/models", "/v1/models?a=%00%2e%2e//\\|{}"),
        get("").replace("/v1/models", "http://localhost/v1/models"),
        format!("\r\n{}", get("")),
        "GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n".to_owned(),
        post("Content-Length: 2\r\n", "{}"),
        post("Content-Length: 02 \r\n", "{}"),
        post("content-length:2\r\n", "{}"),
        post("Content-Length: 0\r\n", ""),
        post("", "").replace("HTTP/1.1", "HTTP/1.0"),
        post("Content-Length: 2\r\nExpect: 100-continue\r\n", "{}"),
        post("Content-Length: 2\r\nExpect: 100-CONTINUE\r\n", "{}"),
        chunked("2\r\n{}\r\n0\r\n\r\n"),
        chunked("0\r\n\r\n"),
        chunked("00A;name=\"value\";x\r\n{\"a\":\"bcd\"\r\n1 ; y\r\n}\r\n000\r\n\r\n"),
        chunked("1\r\n{\r\n1\r\n}\r\n0\r\nX-Trailer: yes\r\nEmpty:\r\n\r\n"),
        post("TRANSFER-ENCODING: Chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        // A request within a body is a body.
        post(
            "Content-Length: 44\r\n",
            "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n.",
        ),
    ];
    one.into_iter().map(|request| (request, 1)).collect()
}

#[test]
fn what_all_readers_understand_is_served_once() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    for (request, heard) in welcome() {
        let before = upstream.requests();
        let answer = answer_to(gateway.address, request.as_bytes());
        assert_eq!(status(&answer), 200, "{request:?}: {answer}");
        let smuggled = upstream.heard().contains("second");
        assert!(!smuggled, "{request:?}: {}", upstream.heard());
        // The one within a body is part of it.
        let within = request.matches("/smuggled").count();
        assert_eq!(upstream.requests() - before, heard + within, "{request:?}");
    }
}

#[test]
fn of_several_keys_the_first_valid_one_counts_and_none_goes_on() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "keys: [{name: t, key: sk-valid}]");
    let ask = |keys: &str| {
        let request = format!("{GET}Connection: close\r\n{keys}\r\n");
        status(&answer_to(gateway.address, request.as_bytes()))
    };
    assert_eq!(
        ask("Authorization: Bearer sk-wrong\r\nx-api-key: sk-other\r\n"),
        401
    );
    assert_eq!(
        ask("Authorization: Bearer sk-wrong\r\nAuthorization: Bearer sk-other\r\n"),
        401
    );
    assert_eq!(upstream.heard(), "");
    assert_eq!(
        ask("Authorization: Bearer sk-wrong\r\nx-api-key: sk-valid\r\n"),
        200
    );
    assert_eq!(
        ask("x-goog-api-key: sk-wrong\r\nAuthorization: Bearer sk-valid\r\n"),
        200
    );
    let heard = upstream.heard();
    assert!(!heard.contains("sk-") && heard.contains("token"), "{heard}");
}

#[test]
fn requests_that_come_at_once_are_answered_one_after_the_other() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let second = GET.replace("models", "models?second") + "Connection: close\r\n\r\n";
    for first in [
        format!("{GET}\r\n"),
        format!("{POST}Content-Length: 0\r\n\r\n"),
        format!("{POST}Content-Length: 2\r\n\r\n{{}}"),
        format!("{POST}Content-Length: 2\r\n\r\n{{}}\r\n"),
        format!("{CHUNKED}0\r\n\r\n"),
        format!("{CHUNKED}2\r\n{{}}\r\n0\r\nX-Trailer: yes\r\n\r\n"),
    ] {
        let before = upstream.requests();
        let answers = answer_to(gateway.address, format!("{first}{second}").as_bytes());
        let served = answers.matches("HTTP/1.1 200 OK").count();
        assert_eq!(served, 2, "{first:?}: {answers}");
        assert_eq!(upstream.requests() - before, 2, "{first:?}");
    }
    assert_eq!(upstream.heard().matches("?second").count(), 6);
}

/// A client whose request is with an upstream that answers nothing until it is told.
fn waiting() -> (Upstream, Gateway, TcpStream, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let upstream = Upstream::answering(move |socket| {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        wait.lock().recv().is_ok() && socket.write_all(answer).is_ok()
    });
    let gateway = gateway_over(&upstream, "");
    let mut socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{POST}Content-Length: 2\r\n\r\n{{}}");
    socket.write_all(request.as_bytes()).unwrap();
    wait_for("the first to arrive", || {
        (upstream.requests() == 1).then_some(())
    });
    (upstream, gateway, socket, go)
}

#[test]
fn a_request_before_the_answer_to_the_first_waits_for_its_turn() {
    let (upstream, _gateway, mut socket, go) = waiting();
    // An end of a line that belongs to nothing, as some clients write it.
    let second = GET.replace("models", "models?second") + "Connection: close\r\n\r\n";
    socket
        .write_all(format!("\r\n{second}").as_bytes())
        .unwrap();
    // Longer than the gateway needs to read it; nothing goes wrong if it does not.
    std::thread::sleep(Duration::from_millis(50));
    assert!(!upstream.heard().contains("second"));
    go.send(()).unwrap();
    go.send(()).unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(upstream.heard().contains("second"));
}

#[test]
fn a_client_that_leaves_behind_a_further_request_frees_the_account() {
    let (upstream, gateway, mut socket, go) = waiting();
    let second = GET.replace("models", "models?second");
    socket
        .write_all(format!("{second}\r\n").as_bytes())
        .unwrap();
    drop(socket);
    wait_for("the account to be free", || {
        (gateway.account("a")["in_flight"] == 0).then_some(())
    });
    assert!(!upstream.heard().contains("second"));
    drop(go);
}

#[test]
fn a_head_longer_than_a_body_that_comes_with_it_loses_nothing_of_the_body() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "max_header: 256KiB");
    let padding = format!("X-Long: {}\r\n", "y".repeat(60_000)).repeat(3);
    for length in [20_000, 40_000, 70_000, 100_000, 200_000] {
        let before = upstream.heard().len();
        let body = "x".repeat(length);
        let head = format!("{POST}Connection: close\r\nContent-Length: {length}\r\n{padding}\r\n");
        let answer = answer_to(gateway.address, format!("{head}{body}").as_bytes());
        assert_eq!(status(&answer), 200, "{length}: {answer}");
        assert!(upstream.heard()[before..].ends_with(&body), "{length}");
    }
}
