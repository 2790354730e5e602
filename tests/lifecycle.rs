//! From the start to the end of a gateway: its log, its signals, an address that is taken.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Connection, Gateway, Mock, Program, Verbatim, chat, get, pool, wait_for};

#[test]
fn a_stop_lets_open_streams_finish_and_takes_nothing_new() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "20"]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    gateway.program.signal(Signal::SIGTERM);
    wait_for("the stop to begin", || {
        gateway.log().contains("stopping").then_some(())
    });
    let refused = wait_for("a request to be turned away", || {
        let answer = gateway.send(&chat(false));
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(refused.json()["error"]["code"], "draining");
    assert_eq!(refused.header("connection"), Some("close"));
    let probes = ["/livez", "/readyz", "/health"].map(|path| gateway.get(path).status);
    assert_eq!(probes, [200, 503, 503]);
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    let status = gateway.program.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert_eq!(vendors[0].count("aborted"), 0);
    assert!(vendors[0].count("requests") >= 1);
}

#[test]
fn a_stop_does_not_cut_the_end_of_an_answer_over_http_2_that_is_read_slowly() {
    const LENGTH: usize = 300_000;
    let vendor = Verbatim::start();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {LENGTH}\r\n\r\n");
    vendor.say(head + &"x".repeat(LENGTH));
    let mut gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"{}\"}}]\n",
        vendor.url()
    ));
    let to = gateway.address;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let body = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // What does not fit into the sockets' buffers waits within the gateway.
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(to).await.unwrap();
        let mut client = http2::Builder::new(TokioExecutor::new());
        client.initial_stream_window_size(1 << 20);
        client.initial_connection_window_size(1 << 20);
        let (mut sender, mut connection) = client.handshake(TokioIo::new(socket)).await.unwrap();
        let request = http::Request::post(format!("http://{to}/v1/chat/completions"));
        let request = request
            .body(Full::<Bytes>::from("{\"model\":\"m\"}"))
            .unwrap();
        let answer = tokio::select! {
            answer = sender.send_request(request) => answer.unwrap(),
            end = &mut connection => panic!("{end:?}"),
        };
        // From here on nothing is read until the gateway is about to stop.
        wait_for("the request to be over", || {
            gateway
                .log()
                .contains(&format!("bytes_out={LENGTH}"))
                .then_some(())
        });
        gateway.program.signal(Signal::SIGTERM);
        wait_for("the stop to begin", || {
            gateway.log().contains("stopping").then_some(())
        });
        // Longer than a gateway takes to stop that waits for nobody.
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::spawn(connection);
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(body.len(), LENGTH);
    let status = gateway.program.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_stop_waits_no_longer_than_it_may() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "10000"]);
    let keys = format!("server: {{drain_timeout: 300ms}}\n{}", pool(&vendors, ""));
    let mut gateway = Gateway::start(&keys);
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    let signalled = Instant::now();
    gateway.program.signal(Signal::SIGTERM);
    let status = gateway.program.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    let took = signalled.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[test]
fn before_a_stop_balancers_are_warned_while_all_is_served() {
    let vendors = Mock::several(1, &[]);
    let mut gateway = Gateway::start(&format!(
        "server: {{drain_delay: 1s}}\n{}",
        pool(&vendors, "")
    ));
    gateway.wait_until_ready();
    gateway.program.signal(Signal::SIGINT);
    wait_for("/readyz to be 503", || {
        (gateway.get("/readyz").status == 503).then_some(())
    });
    assert_eq!(gateway.get("/health").status, 503);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    assert_eq!(gateway.program.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let vendors = Mock::several(1, &["--gap", "50ms", "--events", "10000"]);
    let mut gateway = Gateway::start(&pool(&vendors, ""));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    gateway.program.signal(Signal::SIGTERM);
    wait_for("the stop to begin", || {
        gateway.log().contains("stopping").then_some(())
    });
    stream.event().unwrap().unwrap();
    let second = Instant::now();
    // Whoever is impatient sends more than one.
    let status = wait_for("poolgate to end", || {
        gateway.program.try_signal(Signal::SIGTERM);
        gateway.program.ended()
    });
    assert!(second.elapsed() < Duration::from_secs(2));
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[test]
fn an_address_in_use_is_said_and_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "listen: [{{address: \"{address}\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         pools: {{default: {{accounts: [{{id: a, upstream: \"http://127.0.0.1:9\"}}]}}}}\n"
    );
    let files = [(
        "poolgate.yaml",
        text.replace("127.0.0.1:0", &crate::support::free_address().to_string()),
    )];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let mut program = Program::start(&["run", "-c", "poolgate.yaml"], &files, &[]);
    assert_eq!(program.wait().code(), Some(1), "{}", program.output());
    let said = program.output();
    assert!(
        said.contains(&address.to_string()) && said.contains("in use"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}

fn logged(settings: &str) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!("log: {settings}\n{}", pool(&vendors, "")));
    (gateway, vendors)
}

#[test]
fn a_json_log_has_an_object_on_each_line_and_says_what_became_of_each_request() {
    let (gateway, _vendors) = logged("{format: json, file: gateway.log}");
    gateway.send(&chat(false).header("x-request-id", "mine-1"));
    let path = gateway.program.folder().join("gateway.log");
    let lines = wait_for("the access line", || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let lines: Vec<Value> = whole.collect();
        assert_eq!(
            lines.len(),
            text.lines().filter(|line| !line.is_empty()).count(),
            "{text}"
        );
        lines
            .iter()
            .any(|line| line["request_id"] == "mine-1")
            .then_some(lines)
    });
    let line = lines
        .iter()
        .find(|line| line["request_id"] == "mine-1")
        .unwrap();
    for (field, value) in [
        ("method", "POST".into()),
        ("path", "chat".into()),
        ("model", "gpt-5".into()),
        ("pool", "default".into()),
        ("account", "a0".into()),
        ("status", 200.into()),
        ("bytes_in", chat(false).body.len().into()),
    ] {
        let expected: &Value = &value;
        assert_eq!(&line[field], expected, "{field}");
    }
    assert_eq!(line["tries"][0]["outcome"], "success");
    assert!(line["duration_ms"].as_f64() > Some(0.0));
}

#[test]
fn a_level_hides_what_is_below_it_and_access_lines_can_be_off() {
    let (gateway, _vendors) = logged("{level: warn, access: false, file: gateway.log}");
    gateway.send(&chat(false));
    gateway.send(&get("/nowhere"));
    let path = gateway.program.folder().join("gateway.log");
    let mut gateway = gateway;
    gateway.program.signal(Signal::SIGTERM);
    gateway.program.wait();
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(!text.contains("INFO") && !text.contains("access"), "{text}");
}

#[test]
fn a_log_file_rotates_and_keeps_as_many_as_it_may() {
    let (gateway, _vendors) = logged("{file: logs/gateway.log, rotate: {size: 8KiB, keep: 2}}");
    let folder = gateway.program.folder().join("logs");
    let mut connection = Connection::open(gateway.address).unwrap();
    wait_for("the third file", || {
        for _ in 0..20 {
            connection.send(&chat(false)).unwrap();
        }
        folder.join("gateway.log.2").exists().then_some(())
    });
    for _ in 0..200 {
        connection.send(&chat(false)).unwrap();
    }
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["gateway.log", "gateway.log.1", "gateway.log.2"]);
}

#[test]
fn what_a_client_writes_cannot_forge_a_line_of_the_log() {
    let (gateway, _vendors) = logged("{file: gateway.log}");
    let body = serde_json::json!({"model": "m\n2026-01-01T00:00:00Z access forged=yes \u{1b}[2J", "messages": []});
    gateway.send(&crate::support::post("/v1/chat/completions", &body));
    let path = gateway.program.folder().join("gateway.log");
    let text = wait_for("the access line", || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.contains("path=chat").then_some(text)
    });
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("2026-01-01")),
        "{text}"
    );
}
