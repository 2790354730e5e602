//! Error answers are held back until they are judged: none of them holds a request up for long.

use std::time::Duration;

use serde_json::json;

use crate::support::{Gateway, Mock, Vendor, Verbatim, Wire, chat, post, wait_for};

/// A pool in which `first` is asked before `second`.
fn in_this_order(first: &str, second: &Mock) -> Gateway {
    let second = second.url();
    Gateway::start(&format!(
        "pools:\n  default:\n    accounts:\n\
         {0}- {{id: first, upstream: \"{first}\", credential: {{api_key: key-of-first}}}}\n\
         {0}- {{id: second, priority: 1, upstream: \"{second}\", credential: {{api_key: any}}}}\n",
        "      "
    ))
}

#[test]
fn no_body_is_no_body_however_it_is_stated() {
    for length in ["0", "00", "0, 0", "0,0"] {
        let vendor = Verbatim::start();
        vendor.say(format!(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: {length}\r\n\r\n"
        ));
        let spare = Mock::start(&[]);
        let gateway = in_this_order(&vendor.url(), &spare);
        assert_eq!(gateway.send(&chat(false)).status, 200, "{length}");
        let limited = ["account=\"first\"", "outcome=\"rate_limited\""];
        let judged = gateway.metric("poolgate_requests_total", &limited);
        assert_eq!(judged, 1.0, "{length}");
    }
}

#[test]
fn an_error_that_falls_silent_leads_to_the_next_account_before_its_end() {
    let silent = [
        "content-length: 100\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n1\r\n.\r\n",
        "\r\n",
    ];
    // Each takes ten seconds: all at once.
    std::thread::scope(|scope| {
        for rest in silent {
            scope.spawn(move || {
                let vendor = Vendor::start();
                let spare = Mock::start(&[]);
                let gateway = in_this_order(&format!("http://{}", vendor.address), &spare);
                let client = scope.spawn(move || (gateway.send(&chat(false)), gateway));
                let mut upstream = vendor.next();
                let head = "HTTP/1.1 503 Service Unavailable\r\n";
                upstream.write(format!("{head}{rest}").as_bytes());
                let (answer, gateway) = client.join().unwrap();
                assert_eq!(answer.status, 200, "{rest:?}");
                wait_for("the first account to be blamed", || {
                    (gateway.account("first")["failures"] == 1).then_some(())
                });
            });
        }
    });
}

#[test]
fn what_an_account_said_of_itself_is_known_although_the_client_left() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&format!(
        "pools:\n  default:\n    accounts: [{{id: a, upstream: \"http://{}\"}}]\n",
        vendor.address
    ));
    // Nobody but the gateway knows when it has read the head: it has longer each time.
    let known = [50, 500, 5000].into_iter().any(|pause| {
        let id = format!("left-after-{pause}");
        let request = chat(false).header("x-request-id", &id);
        let client = Wire::open(gateway.address, &request.bytes(gateway.address));
        let mut upstream = vendor.next();
        upstream.write(
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3600\r\ncontent-length: 9\r\n\r\n",
        );
        std::thread::sleep(Duration::from_millis(pause));
        client.close();
        gateway.tries(&id) == "a:rate_limited"
    });
    assert!(known, "{}", gateway.log());
}

#[test]
fn a_vendor_that_refuses_a_long_body_unread_is_heard_at_once() {
    let vendor = Vendor::start();
    let spare = Mock::start(&[]);
    let gateway = in_this_order(&format!("http://{}", vendor.address), &spare);
    let answer = std::thread::scope(|scope| {
        let text = "x".repeat(12 << 20);
        let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": text}]});
        let client = scope.spawn(move || gateway.send(&post("/v1/chat/completions", &body)));
        // It reads the head alone, and says nothing more either.
        let mut upstream = vendor.next();
        upstream.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}");
        let answer = client.join().unwrap();
        drop(upstream);
        answer
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn an_error_that_drips_leads_to_the_next_account_before_its_end() {
    let vendor = Vendor::start();
    let spare = Mock::start(&[]);
    let gateway = in_this_order(&format!("http://{}", vendor.address), &spare);
    let answer = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.send(&chat(false)));
        let mut upstream = vendor.next();
        upstream.write(b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n");
        // A byte at a time, and no end.
        while !client.is_finished() && upstream.try_write(b"1\r\n.\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        client.join().unwrap()
    });
    assert_eq!(answer.status, 200);
    wait_for("the first account to be blamed", || {
        (gateway.account("first")["failures"] == 1).then_some(())
    });
}
