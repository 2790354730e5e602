//! A little traffic: a few requests a second, in every dialect, streamed and not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two requests.
const PACE: Duration = Duration::from_millis(300);
/// One that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// While so many are running, none is added.
const AT_ONCE: usize = 12;

/// Calls the gateway at `address` for as long as it is polled; dropped, it ends its calls.
pub(super) async fn flow(address: SocketAddr) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut calls = JoinSet::new();
    let mut tick = interval(PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tick.tick().await;
        while calls.try_join_next().is_some() {}
        let (Ok(place), Some(request)) = (
            Arc::clone(&places).try_acquire_owned(),
            request(address, number),
        ) else {
            continue;
        };
        let client = client.clone();
        calls.spawn(async move {
            let call = async {
                let mut body = client.request(request).await.ok()?.into_body();
                // Read to the end, as a client does. What came of it is seen at the gateway.
                while body.frame().await?.is_ok() {}
                Some(())
            };
            let _ = timeout(PATIENCE, call).await;
            drop(place);
        });
    }
}

/// The request of this number: dialects take turns, and half of the requests are streamed.
fn request(address: SocketAddr, number: u64) -> Option<Request<Full<Bytes>>> {
    let (path, body) = call(number % 3, number / 3 % 2 == 1);
    Request::post(format!("http://{address}{path}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .ok()
}

fn call(dialect: u64, stream: bool) -> (&'static str, Value) {
    let messages = json!([{"role": "user", "content": "Tell me something."}]);
    match dialect {
        0 => {
            let body = json!({"model": "gpt-5", "stream": stream, "messages": messages});
            ("/v1/chat/completions", body)
        }
        1 => {
            let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 64, "stream": stream,
                "messages": messages});
            ("/v1/messages", body)
        }
        _ => {
            let body = json!({"contents": [{"parts": [{"text": "Tell me something."}]}]});
            let path = if stream {
                "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
            } else {
                "/v1beta/models/gemini-3-pro:generateContent"
            };
            (path, body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::request;
    use crate::cli::client::Server;
    use crate::mock::{Settings, Vendor};

    #[tokio::test]
    async fn each_dialect_is_asked_streamed_and_not_and_understood() {
        let vendor = Vendor::start(([127, 0, 0, 1], 0).into(), Settings::default())
            .await
            .unwrap();
        let mut streams = 0;
        for number in 0..6 {
            let request = request(vendor.address(), number).unwrap();
            let (status, body) = Server::plain(vendor.address())
                .exchange(request)
                .await
                .ok()
                .unwrap();
            assert_eq!(status, 200, "{body:?}");
            streams += usize::from(!body.starts_with(b"{"));
        }
        assert_eq!(streams, 3);
        assert_eq!(vendor.stats().by_path.len(), 4);
    }
}
