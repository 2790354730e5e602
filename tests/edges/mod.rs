//! Clients and requests that mean no good: what must be refused is, and no upstream hears of it;
//! who is slow is let go; others are served meanwhile.

mod frames;
mod http2;
mod slow;
mod upstream;
mod vectors;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::{Gateway, PATIENCE};

use upstream::Upstream;

/// A gateway over one upstream that writes down what it hears, with more of the configuration.
fn gateway_over(upstream: &Upstream, clients: &str) -> Gateway {
    Gateway::start(&format!(
        "clients: {{{clients}}}\npools: {{default: {{accounts: [{{id: a, upstream: \"http://{}\", \
         credential: {{api_key: token}}}}]}}}}\n",
        upstream.address
    ))
}

/// Everything a server answers to these bytes until it hangs up.
fn answer_to(to: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has heard enough stops reading; its answer is what counts.
    let _ = socket.write_all(bytes);
    let mut answer = vec![];
    let end = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    assert!(end.is_ok(), "{end:?} after {answer:?} to {sent:?}");
    answer
}

/// The status of the first answer that is not informational.
fn status(answer: &str) -> u16 {
    let last = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .find(|answer| !answer.starts_with("100 "));
    last.and_then(|answer| answer.get(..3)?.parse().ok())
        .unwrap_or(0)
}
