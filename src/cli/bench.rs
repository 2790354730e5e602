//! `poolgate bench`: a short load on any address that speaks a dialect, and what it measured.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::client::request;
use super::{block_on, call, out};
use crate::clock::{self, Instant};
use crate::secret::Secret;

/// Put a short load on an address and measure it
///
/// Ask a gateway over `poolgate mock`, unless you mean to spend tokens.
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate bench http://127.0.0.1:8080\n  \
    poolgate bench http://127.0.0.1:8080 --clients 64 --time 30s --stream --model gpt-5")]
pub(super) struct Bench {
    /// http://HOST:PORT
    url: String,
    /// So many requests at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=2000))]
    clients: u16,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Ask for streams
    #[arg(long)]
    stream: bool,
    /// Which one is asked; its name says the dialect
    #[arg(long, value_name = "MODEL", default_value = "gpt-5")]
    model: String,
    /// A client key; `-`: on standard input
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Longer is a test of patience.
const LONGEST: Duration = Duration::from_secs(3600);
/// An answer that takes longer failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many times are kept of each kind, of all clients together.
const KEPT: usize = 1_000_000;

/// Of an error's body, in bytes.
const SAID: usize = 8 << 10;
/// Failures that are told apart.
const KINDS: usize = 32;

/// What was measured so far.
#[derive(Default)]
struct Measured {
    requests: u64,
    failures: BTreeMap<String, u64>,
    /// Microseconds.
    first_bytes: Vec<u32>,
    /// Microseconds between two pieces of a stream.
    gaps: Vec<u32>,
}

impl Measured {
    fn failed(&mut self, why: String) {
        let is_told = self.failures.len() < KINDS || self.failures.contains_key(&why);
        let why = if is_told { why } else { "otherwise".to_owned() };
        *self.failures.entry(why).or_default() += 1;
    }
}

struct Load<C> {
    client: Client<C, Full<Bytes>>,
    url: String,
    body: serde_json::Value,
    key: Option<Secret>,
    until: Instant,
    measured: Mutex<Measured>,
}

impl Bench {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let url = self.url.trim_end_matches('/');
        ensure!(
            url.starts_with("http://"),
            "{url}: only http://HOST:PORT is measured"
        );
        ensure!(self.time <= LONGEST, "--time: at most an hour");
        let (path, body) = call::chat(&self.model, self.stream);
        let key = call::key(self.key.as_deref())?;
        let load = Arc::new(Load {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("{url}{path}"),
            body,
            key,
            until: clock::now() + self.time,
            measured: Mutex::default(),
        });
        let begun = clock::now();
        block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..self.clients {
                clients.spawn(load.clone().ask_on());
            }
            clients.join_all().await;
            Ok(())
        })?;
        let took = clock::now().saturating_duration_since(begun);
        let mut measured = std::mem::take(&mut *load.measured.lock());
        self.report(&mut measured, took)
    }

    fn report(&self, measured: &mut Measured, took: Duration) -> anyhow::Result<ExitCode> {
        let failed: u64 = measured.failures.values().sum();
        let rate = (measured.requests - failed) as f64 / took.as_secs_f64();
        let first = Spread::of(&mut measured.first_bytes);
        let gaps = Spread::of(&mut measured.gaps);
        if self.json {
            out::print_json(&json!({
                "requests": measured.requests, "seconds": took.as_secs_f64(), "per_second": rate,
                "failures": measured.failures, "first_byte_ms": first.json(), "event_gap_ms": gaps.json(),
            }))?;
        } else {
            out::print(&format!(
                "{} requests in {:.1} s, {rate:.1} a second answered well\nfirst byte    {first}\n",
                measured.requests,
                took.as_secs_f64(),
            ))?;
            if self.stream {
                out::print(&format!("between events {gaps}\n"))?;
            }
            for (why, count) in &measured.failures {
                out::print(&call::line(false, &format!("{count} failed"), why))?;
            }
        }
        Ok(match failed == 0 && measured.requests > 0 {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl<C> Load<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    async fn ask_on(self: Arc<Self>) {
        while clock::now() < self.until {
            let asked = tokio::time::timeout(PATIENCE, self.ask()).await;
            let result = asked.unwrap_or_else(|_| Err("no whole answer in time".to_owned()));
            let mut measured = self.measured.lock();
            measured.requests += 1;
            if let Err(why) = result {
                measured.failed(why);
            }
        }
    }

    /// One request, read to its end.
    async fn ask(&self) -> Result<(), String> {
        let request: Request<Full<Bytes>> =
            request("POST", &self.url, self.key.as_ref(), Some(&self.body))
                .map_err(|error| error.to_string())?;
        let begun = clock::now();
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|_| "cannot be reached".to_owned())?;
        let status = answer.status();
        let mut body = answer.into_body();
        let (mut last, mut said) = (None, Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| "broke off".to_owned())?;
            if let (false, Some(bytes)) = (status.is_success(), frame.data_ref()) {
                let room = SAID - said.len().min(SAID);
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            let now = clock::now();
            let mut measured = self.measured.lock();
            let Measured {
                first_bytes, gaps, ..
            } = &mut *measured;
            let (kept, since) = match last {
                None => (first_bytes, begun),
                Some(before) => (gaps, before),
            };
            if kept.len() < KEPT {
                let micros = now.saturating_duration_since(since).as_micros();
                kept.push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
            last = Some(now);
        }
        match status.is_success() {
            true => Ok(()),
            false => Err(call::refusal(status, &said)),
        }
    }
}

/// How times are spread, milliseconds; nothing was measured: NaN, shown as `-`.
struct Spread {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Spread {
    fn of(micros: &mut [u32]) -> Spread {
        micros.sort_unstable();
        let at = |share: f64| {
            let place = (micros.len() as f64 * share) as usize;
            let found = micros.get(place.min(micros.len().saturating_sub(1)));
            found.map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
        };
        Spread {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({"p50": self.p50, "p95": self.p95, "p99": self.p99})
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.p50.is_nan() {
            return f.write_str("-");
        }
        write!(
            f,
            "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
            self.p50, self.p95, self.p99
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn times_are_told_by_their_spread() {
        let mut micros: Vec<u32> = (1..=100).rev().map(|n| n * 1000).collect();
        assert_eq!(
            Spread::of(&mut micros).to_string(),
            "p50 51.0 ms, p95 96.0 ms, p99 100.0 ms"
        );
        assert_eq!(Spread::of(&mut []).to_string(), "-");
    }
}
