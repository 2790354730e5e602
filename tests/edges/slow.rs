//! Clients that take their time, by hand and by the hundred (`slowhttptest`): each is let go within
//! its deadline, and the others do not notice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Upstream, gateway_over, status};
use crate::support::{Gateway, PATIENCE, chat, get, wait_for};

/// More than all buffers between an upstream and a client take.
const LONG: usize = 32 << 20;

/// An upstream whose every answer is [`LONG`].
fn long_winded() -> Upstream {
    Upstream::answering(|socket| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
        let piece = [b'x'; 64 << 10];
        let mut pieces = std::iter::repeat_n(&piece, LONG / piece.len());
        socket.write_all(head.as_bytes()).is_ok()
            && pieces.all(|piece| socket.write_all(piece).is_ok())
    })
}

fn connect(gateway: &Gateway) -> TcpStream {
    let socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Writes `bytes` one by one and again from the start, until an answer is there; returns it.
pub(super) fn drip(mut socket: TcpStream, bytes: &[u8]) -> String {
    let gap = Duration::from_millis(20);
    socket.set_read_timeout(Some(gap)).unwrap();
    let begun = Instant::now();
    let mut answer = vec![];
    let mut piece = [0; 4096];
    for byte in bytes.iter().cycle() {
        assert!(begun.elapsed() < PATIENCE, "no end to a head without one");
        let _ = socket.write_all(&[*byte]);
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            // Nothing came within the gap.
            Err(_) if answer.is_empty() => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_head_has_its_deadline_as_a_whole_however_slowly_it_drips() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "header_timeout: 500ms");
    for head in ["GET /v1/models HTTP/1.1\r\nHost: localhost\r\n", "G"] {
        let mut socket = connect(&gateway);
        socket.write_all(head.as_bytes()).unwrap();
        let begun = Instant::now();
        let answer = drip(socket, b"X-Drip: y\r\n");
        assert_eq!(status(&answer), 408, "{answer}");
        assert!(answer.contains("request_timeout"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"));
        assert!(begun.elapsed() >= Duration::from_millis(450), "too early");
    }
    assert_eq!(upstream.heard(), "");
}

#[test]
fn the_deadline_begins_with_the_first_byte_of_each_head_and_not_before() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "header_timeout: 400ms, keepalive: 30s");
    let mut socket = connect(&gateway);
    let mut served = || {
        // Longer than a head may take: who says nothing yet is not late.
        std::thread::sleep(Duration::from_millis(600));
        let request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut answer = vec![];
        while !answer.ends_with(b"\r\n\r\nok") {
            let mut piece = [0; 4096];
            let length = socket.read(&mut piece).unwrap();
            assert!(length > 0, "hung up after {answer:?}");
            answer.extend_from_slice(&piece[..length]);
        }
    };
    served();
    served();
    assert_eq!(status(&drip(socket, b"G")), 408);
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn a_connection_that_says_nothing_is_closed_when_keepalive_ends() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "keepalive: 1s, header_timeout: 30s");
    let mut answer = String::new();
    connect(&gateway).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "");
    // The same between two requests.
    let mut socket = connect(&gateway);
    socket
        .write_all(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn many_slow_heads_are_let_go_and_others_are_served_meanwhile() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "header_timeout: 2s");
    besiege(&gateway, "-H", "/v1/models");
    await_told_late(&gateway);
}

#[test]
fn many_slow_bodies_are_let_go_and_others_are_served_meanwhile() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "body_timeout: 2s");
    besiege(&gateway, "-B -s 8192", "/v1/chat/completions");
    await_told_late(&gateway);
    let heard = upstream.heard();
    assert!(
        !heard.contains("content-length: 8192"),
        "half a body came through"
    );
}

#[test]
fn many_slow_readers_are_let_go_and_their_accounts_are_free() {
    let upstream = long_winded();
    let gateway = gateway_over(&upstream, "write_timeout: 2s");
    // It would go on for longer than anything here is waited for.
    let _siege = Siege::begin(
        &gateway,
        "-X -w 1 -y 2 -n 1 -z 32 -k 1 -l 120",
        "/v1/models",
    );
    let active = || gateway.metric("poolgate_active_requests", &[]);
    // Those who came first may be gone before the last has come.
    wait_for("many to be served", || {
        (active() >= SIEGE as f64 / 4.0).then_some(())
    });
    wait_for("their accounts to be free", || {
        assert_eq!(gateway.get("/livez").status, 200);
        (active() == 0.0).then_some(())
    });
    wait_for("their connections to be gone", || {
        (open(&gateway) == 0.0).then_some(())
    });
}

#[test]
fn a_client_that_stops_reading_is_let_go_and_its_account_is_free() {
    let upstream = long_winded();
    let gateway = gateway_over(&upstream, "write_timeout: 500ms");
    let mut socket = connect(&gateway);
    socket
        .write_all(&get("/v1/models").bytes(gateway.address))
        .unwrap();
    let mut head = [0; 15];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    wait_for("the account to be free", || {
        (gateway.account("a")["in_flight"] == 0).then_some(())
    });
    let account = gateway.account("a");
    assert_eq!(
        account["failures"], 0,
        "a slow client is nobody's fault: {account}"
    );
    wait_for("the connection to be gone", || {
        (open(&gateway) == 0.0).then_some(())
    });
    // A client that reads gets all of it.
    assert_eq!(gateway.get("/v1/models").body.len(), LONG);
}

#[test]
fn a_client_that_only_ends_its_own_side_is_gone() {
    let upstream = Upstream::start();
    let gateway = gateway_over(&upstream, "");
    let mut socket = connect(&gateway);
    socket
        .write_all(b"GET /v1/models HTTP/1.1\r\nHost: lo")
        .unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), upstream.heard().as_str()), ("", ""));
}

/// Connections at once.
const SIEGE: usize = 200;

/// `slowhttptest` at work. It ends by itself after some seconds; dropped, it ends at once.
struct Siege(Child);

impl Siege {
    fn begin(gateway: &Gateway, how: &str, path: &str) -> Siege {
        let output = gateway.program.folder().join("siege.txt");
        let output = std::fs::File::create(output).unwrap();
        let count = SIEGE.to_string();
        let child = Command::new("slowhttptest")
            .args([
                "-c", &count, "-r", &count, "-i", "1", "-l", "15", "-x", "10", "-p", "5",
            ])
            .args(how.split(' '))
            .args(["-u", &format!("http://{}{path}", gateway.address)])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        Siege(child.expect("slowhttptest is not installed: run `make deps`"))
    }

    fn goes_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets [`SIEGE`] slow clients at the gateway, and asks it for something until they are gone.
#[track_caller]
fn besiege(gateway: &Gateway, how: &str, path: &str) {
    let mut siege = Siege::begin(gateway, how, path);
    let begun = Instant::now();
    let mut most: f64 = 0.0;
    while siege.goes_on() {
        assert!(begun.elapsed() < PATIENCE, "they were not let go");
        assert_eq!(gateway.send(&chat(false)).status, 200);
        most = most.max(open(gateway));
    }
    assert!(
        most >= SIEGE as f64 / 2.0,
        "only {most} connections at once"
    );
    let said = gateway.program.folder().join("siege.txt");
    let said = std::fs::read_to_string(said).unwrap();
    let end = "No open connections left";
    assert!(said.contains(end), "{said}");
    wait_for("the gauges to be back at zero", || {
        let active = gateway.metric("poolgate_active_requests", &[]);
        (open(gateway) == 0.0 && active == 0.0).then_some(())
    });
}

/// Connections of clients.
fn open(gateway: &Gateway) -> f64 {
    gateway.metric("poolgate_connections", &[])
}

/// Each of them was told that it was too late; the log is written a little later than the answer.
#[track_caller]
fn await_told_late(gateway: &Gateway) {
    wait_for("a line in the log for each", || {
        let told = gateway.log().matches("error=request_timeout").count();
        (told == SIEGE).then_some(())
    });
}
