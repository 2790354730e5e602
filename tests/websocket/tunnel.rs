//! An open WebSocket: each byte of each frame passes, and an end on one side is one on the other.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{in_front_of, one, wait_until_free};
use crate::support::{Gateway, SWITCH, Vendor, Wire, count, handshake, respond};

/// Frames as a client and a server send them (RFC 6455 §5.7): text whole and in fragments with a
/// ping between them, binary of 1 MB, a compressed one, pong, close with a code, and no frame at all.
fn frames() -> Vec<u8> {
    let mut bytes = vec![
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    bytes.extend([
        0x01, 0x03, 0x48, 0x65, 0x6c, 0x89, 0x01, 0x70, 0x80, 0x02, 0x6c, 0x6f,
    ]);
    bytes.extend([0x82, 0x7f, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    bytes.extend((0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    bytes.extend([0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    bytes.extend([0x8a, 0x00, 0x88, 0x04, 0x0f, 0xa0, 0x62, 0x79, 0xff, 0xff]);
    bytes
}

/// A tunnel between the two ends of a test.
fn tunnel(gateway: &Gateway, vendor: &Vendor, behind: &[u8]) -> (Wire, Wire) {
    let head = handshake("/v1/responses").bytes(gateway.address);
    let mut client = Wire::open(gateway.address, &[&head, behind].concat());
    let mut upstream = vendor.next();
    upstream.write(format!("{SWITCH}\r\n").as_bytes());
    assert!(client.read_head().unwrap().starts_with("http/1.1 101"));
    (client, upstream)
}

#[test]
fn every_byte_passes_both_ways_at_the_same_time() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, "");
    let (mut client, mut upstream) = tunnel(&gateway, &vendor, b"");
    let frames = frames();
    let [mut down, mut up] = [&client, &upstream].map(|wire| wire.stream.try_clone().unwrap());
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| down.write_all(&frames).unwrap());
            scope.spawn(|| up.write_all(&frames).unwrap());
            let back = scope.spawn(|| client.read(frames.len()));
            assert!(upstream.read(frames.len()) == frames);
            assert!(back.join().unwrap() == frames);
        });
    }
}

#[test]
fn what_follows_the_head_waits_for_the_101_and_is_not_lost() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, "");
    // In the packet of the head, and then one by one before the answer is there.
    let head = handshake("/v1/responses").bytes(gateway.address);
    let mut client = Wire::open(gateway.address, &[&head, &b"first "[..]].concat());
    let mut upstream = vendor.next();
    client.write(b"second ");
    assert!(upstream.rest.is_empty());
    let mut early = [0; 1];
    upstream.stream.set_nonblocking(true).unwrap();
    let read = upstream.stream.read(&mut early);
    assert!(read.is_err(), "nothing goes before the upstream has agreed");
    upstream.stream.set_nonblocking(false).unwrap();
    // The vendor is in a hurry too.
    upstream.write(format!("{SWITCH}\r\nhello").as_bytes());
    client.write(b"third");
    assert_eq!(upstream.read(18), b"first second third");
    client.read_head().unwrap();
    assert_eq!(client.read(5), b"hello");
}

#[test]
fn real_clients_exchange_messages_pings_and_close_codes() {
    let (_vendor, gateway) = one(&[], "");
    let mut socket = gateway.socket(&[]);
    let large = Message::binary((0..1 << 20).map(|n| n as u8).collect::<Vec<u8>>());
    for message in [
        Message::text("Grüße"),
        large,
        Message::text("x".repeat(1 << 20)),
    ] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message);
    }
    socket.send(Message::Ping("life".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("life".into()));
    for _ in 0..3 {
        assert!(respond(&mut socket).unwrap().len() > 3);
    }
    let frame = CloseFrame {
        code: CloseCode::Library(4000),
        reason: "enough".into(),
    };
    socket.close(Some(frame.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));

    let mut socket = gateway.socket(&[("x-mock-drop-keepalive", "1")]);
    respond(&mut socket).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else {
        panic!("not closed")
    };
    assert_eq!((frame.code, &*frame.reason), (CloseCode::Away, "enough"));
}

#[test]
fn an_end_of_one_side_is_an_end_of_the_other() {
    let vendor = Vendor::start();
    let gateway = in_front_of(&vendor, "");
    for (by_client, end) in [
        (true, Wire::close as fn(Wire)),
        (true, Wire::reset),
        (false, Wire::close),
        (false, Wire::reset),
    ] {
        let (client, upstream) = tunnel(&gateway, &vendor, b"");
        let (ended, mut other) = match by_client {
            true => (client, upstream),
            false => (upstream, client),
        };
        end(ended);
        let said = other.read_to_end();
        assert_eq!(said, b"", "no byte is put into a tunnel");
        wait_until_free(&gateway);
    }
}

#[test]
fn silence_of_both_sides_ends_it_and_is_nobodys_fault() {
    let idle = "    timeouts: {read: 1s}\n    breaker: {consecutive_failures: 1}\n";
    let (_vendor, gateway) = one(&["--gap", "300ms", "--events", "5"], idle);
    let mut socket = gateway.socket(&[]);
    // A client that only listens: the vendor's messages are life enough.
    assert!(respond(&mut socket).unwrap().len() > 5);
    // A client that only pings lives on for longer than the silence allowed.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        socket.send(Message::Ping("".into())).unwrap();
        socket.read().unwrap();
    }
    let silent = Instant::now();
    assert!(socket.read().is_err());
    assert!(silent.elapsed() >= Duration::from_millis(900));
    wait_until_free(&gateway);
    assert_eq!(gateway.account("a0")["status"], "healthy");
    let succeeded = gateway.metric("poolgate_requests_total", &["outcome=\"success\""]);
    assert_eq!(succeeded, 1.0);
}

#[test]
fn a_socket_may_be_silent_for_longer_than_a_minute() {
    // Pingora's own limit, where nobody sets another, is a minute: too long for every day.
    let minutes = count(0, 1) as u64;
    let (_vendor, gateway) = one(&[], "");
    let mut socket = gateway.socket(&[]);
    std::thread::sleep(Duration::from_secs(minutes * 65));
    assert!(respond(&mut socket).unwrap().len() > 3);
}

#[test]
fn a_vendor_that_cuts_open_sockets_again_and_again_is_left_alone_for_a_while() {
    let keys = "    breaker: {consecutive_failures: 2}\n";
    let (_vendor, gateway) = one(&["--cut", "1"], keys);
    for _ in 0..2 {
        let mut socket = gateway.socket(&[("x-mock-reset", "1")]);
        assert!(respond(&mut socket).is_err());
        wait_until_free(&gateway);
    }
    assert_eq!(gateway.account("a0")["status"], "open");
}

#[test]
fn however_fast_a_vendor_agrees_the_socket_stays_open() {
    let (vendor, gateway) = one(&[], "");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..40 {
                    let mut socket = gateway.socket(&[]);
                    let message = Message::text(n.to_string());
                    socket.send(message.clone()).unwrap();
                    assert_eq!(socket.read().unwrap(), message);
                }
            });
        }
    });
    assert_eq!(vendor.count("requests"), 320);
}
