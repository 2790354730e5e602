//! What the tests over the real program share: the program itself, a simulated vendor, a plain client.
//!
//! Everything waits for an event with a limit, so that a test that hangs fails and says on what.

mod connect;
mod delay;
mod gateway;
mod h2;
mod http;
mod load;
mod mock;
mod postgres;
mod program;
mod redis;
pub(crate) mod server;
mod socket;
mod tls;
mod verbatim;

use std::time::{Duration, Instant};

use serde_json::json;

pub(crate) use connect::Proxy;
pub(crate) use delay::Delay;
pub(crate) use gateway::{Gateway, pool, pool_of, ranked};
pub(crate) use http::{Answer, Connection, Request, get, post};
pub(crate) use load::{count, many};
pub(crate) use mock::Mock;
pub(crate) use postgres::Postgres;
pub(crate) use program::{Program, free_address};
pub(crate) use redis::Redis;
pub(crate) use socket::{SWITCH, Vendor, Wire, handshake, respond};
pub(crate) use tls::{Authority, Issued, TlsVendor, say, secure};
pub(crate) use verbatim::Verbatim;

/// The longest a test waits for anything: far more than it takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until the answer is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A short chat in OpenAI's dialect, streamed or not.
pub(crate) fn chat(stream: bool) -> Request {
    let message = json!({"role": "user", "content": "Hello"});
    post(
        "/v1/chat/completions",
        &json!({"model": "gpt-5", "stream": stream, "messages": [message]}),
    )
}
