//! Streams: each event at once, none lost, and an end on one side is an end on the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Mock, chat, count, pool, pool_of, wait_for};

/// A vendor of the test's own that says each event only when it was told that the one before arrived.
pub(crate) fn vendor_that_waits(events: usize) -> (SocketAddr, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let _ = socket.read(&mut [0; 16 * 1024]).unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        for n in 0..events {
            let event = format!("data: {{\"n\":{n}}}\n\n");
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            socket.write_all(chunk.as_bytes()).unwrap();
            arrivals.recv().unwrap();
        }
        socket
            .write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            .unwrap();
    });
    (address, arrived)
}

/// That none waits for the next; how long each takes is in `make bench-peers`.
#[test]
fn each_event_is_passed_on_at_once() {
    const EVENTS: usize = 60;
    let (vendor, arrived) = vendor_that_waits(EVENTS);
    let gateway = Gateway::start(&format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"http://{vendor}\"}}]}}}}"
    ));
    let mut stream = chat(true).open(gateway.address).unwrap();
    for n in 0..EVENTS {
        let event = stream.event().unwrap().unwrap();
        assert_eq!(event.data, format!("{{\"n\":{n}}}"));
        arrived.send(()).unwrap();
    }
    assert_eq!(stream.event().unwrap().unwrap().data, "[DONE]");
    assert!(stream.event().unwrap().is_none());
}

/// How long until nothing of a stream is left after its client went, on both sides.
fn time_to_let_go(gateway: &Gateway, vendor: &Mock) -> Duration {
    let before = vendor.count("aborted");
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    assert_eq!(gateway.account("a0")["in_flight"], 1);
    drop(stream);
    let left = Instant::now();
    wait_for("the account to be free and the vendor to be told", || {
        let free = gateway.account("a0")["in_flight"] == 0;
        (free && vendor.count("aborted") == before + 1).then_some(())
    });
    left.elapsed()
}

#[test]
fn a_client_that_leaves_frees_its_account_and_the_vendor_within_100_ms() {
    let vendor = Mock::start(&["--gap", "50ms", "--events", "2000"]);
    let gateway = Gateway::start(&pool(std::slice::from_ref(&vendor), ""));
    // The best of a few, as the machine may have more to do.
    let best = (0..5).map(|_| time_to_let_go(&gateway, &vendor)).min();
    assert!(best < Some(Duration::from_millis(100)), "{best:?}");
    assert_eq!(gateway.account("a0")["status"], "healthy", "nobody's fault");
}

#[test]
fn a_stream_that_came_to_its_end_is_a_success_although_its_connection_does_not_end() {
    let vendors = Mock::several(1, &["--usage", "5,7"]);
    let keys = "    timeouts: {read_stream: 300ms}\n    breaker: {consecutive_failures: 1}\n";
    let gateway = Gateway::start(&pool(&vendors, keys));
    // Eleven events with the last one, `[DONE]`: then the vendor says no more.
    let request = |id: &str| {
        let request = chat(true).header("x-mock-hang", 11);
        request.header("x-request-id", id)
    };
    let mut stream = request("left").open(gateway.address).unwrap();
    while stream.event().unwrap().unwrap().data != "[DONE]" {}
    // The vendors' clients hang up here.
    drop(stream);
    assert_eq!(gateway.tries("left"), "a0:success");
    let mut stream = request("stayed").open(gateway.address).unwrap();
    while stream.event().unwrap().unwrap().data != "[DONE]" {}
    assert_eq!(gateway.tries("stayed"), "a0:success");
    assert_eq!(gateway.account("a0")["status"], "healthy");
}

#[test]
fn an_error_event_is_judged_by_what_it_says_although_the_connection_breaks_too() {
    let vendors = Mock::several(1, &[]);
    let keys = "    timeouts: {read_stream: 300ms}\n    breaker: {consecutive_failures: 1}\n";
    let gateway = Gateway::start(&pool(&vendors, keys));
    let request = chat(true).header("x-mock-error-event", 4);
    let request = request.header("x-mock-hang", 5);
    let mut stream = request
        .header("x-request-id", "stayed")
        .open(gateway.address)
        .unwrap();
    while !stream.event().unwrap().unwrap().data.contains("\"error\"") {}
    assert_eq!(gateway.tries("stayed"), "a0:overloaded");
    assert_eq!(gateway.account("a0")["status"], "healthy");
}

#[test]
fn a_client_that_leaves_before_the_answer_frees_its_account() {
    let vendors = Mock::several(1, &["--hang", "head"]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    for request in [chat(false), chat(true)] {
        let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
        socket.write_all(&request.bytes(gateway.address)).unwrap();
        wait_for("the request to arrive", || {
            (vendors[0].count("in_flight") == 1).then_some(())
        });
        drop(socket);
        wait_for("the account and the vendor to be free", || {
            let free = gateway.account("a0")["in_flight"] == 0;
            (free && vendors[0].count("in_flight") == 0).then_some(())
        });
    }
}

#[test]
fn a_client_that_leaves_the_queue_makes_room() {
    let vendors = Mock::several(1, &["--hang", "head"]);
    let gateway = Gateway::start(&pool_of(&vendors, "", |_| ", max_concurrent: 1".to_owned()));
    let mut sockets = vec![];
    for _ in 0..2 {
        let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
        socket
            .write_all(&chat(false).bytes(gateway.address))
            .unwrap();
        sockets.push(socket);
        wait_for("it to be taken on", || {
            (gateway.account("a0")["in_flight"] == 1).then_some(())
        });
    }
    let waiting = |count: f64| {
        wait_for("the queue", || {
            (gateway.metric("poolgate_queue_waiting", &[]) == count).then_some(())
        });
    };
    waiting(1.0);
    sockets.pop();
    waiting(0.0);
    assert_eq!(
        vendors[0].count("requests"),
        1,
        "the vendor never heard of it"
    );
}

#[test]
fn a_stream_goes_on_when_its_account_is_disabled() {
    let vendors = Mock::several(1, &["--gap", "30ms", "--events", "10"]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let mut stream = chat(true).open(gateway.address).unwrap();
    stream.event().unwrap().unwrap();
    gateway.act("a0", "disable");
    assert_eq!(gateway.send(&chat(false)).status, 503);
    assert_eq!(stream.events().unwrap().last().unwrap().data, "[DONE]");
    wait_for("the account to be free", || {
        (gateway.account("a0")["in_flight"] == 0).then_some(())
    });
}

#[test]
fn a_thousand_streams_at_once_all_come_whole() {
    let streams = count(100, 1000);
    let vendors = Mock::several(2, &["--gap", "5ms", "--events", "20"]);
    let gateway = Gateway::start(&pool(&vendors, ""));
    let lengths: Vec<(usize, String)> = std::thread::scope(|scope| {
        let read = || {
            let events = chat(true).open(gateway.address).unwrap().events().unwrap();
            (events.len(), events.last().unwrap().data.clone())
        };
        let threads: Vec<_> = (0..streams).map(|_| scope.spawn(read)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let first = lengths[0].clone();
    assert_eq!(first.1, "[DONE]");
    assert!(lengths.iter().all(|length| *length == first), "{lengths:?}");
}
