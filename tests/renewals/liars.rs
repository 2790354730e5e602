//! Token endpoints that answer with something else than a token, or lie about it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::support::{Gateway, Mock, Wire, chat, count, post, wait_for};

/// What the refresh token is, and every lie quotes.
const CANARY: &str = "rt-canary-of-liars";

/// A path, and what is answered there.
type Lie = (&'static str, fn() -> Vec<u8>);

/// Answers by the path of the request, as long as the test lives.
fn endpoint(lies: &'static [Lie]) -> (String, &'static AtomicUsize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: &'static AtomicUsize = Box::leak(Box::default());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            asked.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let (head, rest) = (String::new(), vec![]);
                let mut wire = Wire { stream, head, rest };
                wire.read_head().unwrap();
                let length = wire.header("content-length").unwrap().parse().unwrap();
                wire.read(length);
                let lie = lies.iter().find(|(name, _)| {
                    let line = format!("post /{name} ");
                    wire.head.starts_with(&line)
                });
                // Who has heard enough leaves.
                let _ = wire.try_write(&lie.unwrap().1());
            });
        }
    });
    (url, asked)
}

fn whole(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn token(expires_in: &str) -> Vec<u8> {
    whole(
        "200 OK",
        &format!("{{\"access_token\":\"{CANARY}\",\"expires_in\":{expires_in}}}"),
    )
}

const TOKENS: &[Lie] = &[
    ("zero", || token("0")),
    ("negative", || token("-3600")),
    ("fraction", || token("0.001")),
    ("huge", || token("1e300")),
    ("text", || token("\"3600\"")),
    ("word", || token("\"soon\"")),
    ("html", || {
        let body = format!("{{\"access_token\":\"{CANARY}\"}}");
        whole("200 OK\r\ncontent-type: text/html", &body)
    }),
];

const NONSENSE: &[Lie] = &[
    ("page", || whole("200 OK", "<html>log in first</html>")),
    ("redirect", || whole("307 Away\r\nlocation: /zero", "")),
    ("long", || {
        whole(
            "200 OK",
            &format!("{{\"access_token\":\"{}\"}}", "x".repeat(1 << 20)),
        )
    }),
    ("endless", || {
        let mut body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        body.extend(
            "1000\r\n"
                .bytes()
                .chain([b'x'; 4096])
                .chain(*b"\r\n")
                .cycle()
                .take(1 << 20),
        );
        body
    }),
    ("header", || {
        whole("200 OK", "{\"access_token\":\"two\\nlines\"}")
    }),
    ("cut", || {
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"access_token\":\"a\"".to_vec()
    }),
    ("nothing", Vec::new),
    ("quoting", || {
        whole(
            "500 No",
            &format!("{{\"error\":\"invalid_grant\",\"was\":\"{CANARY}\"}}"),
        )
    }),
];

fn gateway(url: &str, upstream: &Mock, lies: &[Lie]) -> Gateway {
    let account = |(name, _): &Lie| {
        format!(
            "      - {{id: {name}, upstream: \"{}\", dialects: [openai], credential: {{oauth2: {{token_url: \
             \"{url}/{name}\", client_id: me, refresh_token: {CANARY}}}}}}}\n",
            upstream.url()
        )
    };
    let accounts: String = lies.iter().map(account).collect();
    Gateway::start(&format!(
        "log: {{level: debug}}\npools:\n  default:\n    accounts:\n{accounts}"
    ))
}

#[test]
fn a_token_whose_life_makes_no_sense_is_used_and_not_renewed_without_end() {
    let upstream = Mock::start(&[]);
    let (url, asked) = endpoint(TOKENS);
    let gateway = gateway(&url, &upstream, TOKENS);
    for (name, _) in TOKENS {
        wait_for(name, || {
            (gateway.account(name)["status"] == "healthy"
                && gateway.account(name)["credential"]["last_refresh"].is_string())
            .then_some(())
        });
    }
    for _ in 0..count(20, 200) {
        assert_eq!(gateway.send(&chat(false)).status, 200);
        thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(asked.load(Ordering::SeqCst), TOKENS.len());
    assert!(!gateway.log().contains(CANARY), "{}", gateway.log());
}

#[test]
fn an_answer_that_is_no_token_is_asked_for_again_later_and_ends_no_login() {
    let upstream = Mock::start(&[]);
    let (url, _) = endpoint(NONSENSE);
    let gateway = gateway(&url, &upstream, NONSENSE);
    for (name, _) in NONSENSE {
        wait_for(name, || {
            (gateway.account(name)["status"] == "unhealthy").then_some(())
        });
        let path = format!("/api/v1/accounts/{name}/refresh");
        let why = gateway.admin(post(&path, &json!({}))).text();
        assert!(
            !why.contains(CANARY) && !why.contains("log in first"),
            "{why}"
        );
    }
    assert_eq!(upstream.count("requests"), 0);
    assert!(!gateway.log().contains(CANARY), "{}", gateway.log());
}
