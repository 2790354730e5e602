//! `poolgate test`: does the running gateway answer as its clients need it?

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures::future::join_all;
use http::HeaderValue;
use http::header::HOST;
use serde_json::{Value, json};

use super::client::{Server, Trouble, request};
use super::source::Source;
use super::{block_on, call, out};
use crate::clock;
use crate::secret::Secret;

/// Try the running gateway: models, a chat, a stream, several at once
///
/// Asks the real accounts, a few words each. Exit status 1 when anything fails.
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate test\n  \
    poolgate test --parallel 20 --model gpt-5-mini --key - < key.txt")]
pub(super) struct Test {
    /// So many chats at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=500))]
    parallel: u16,
    /// Which one is asked [default: the first that the gateway lists]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A client key, where the gateway asks for one; `-`: on standard input
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
}

/// A model may think for a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of one part.
struct Part {
    name: &'static str,
    milliseconds: u64,
    result: Result<String, String>,
}

impl Test {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let config = source.load_to_ask()?.config;
        let listen = config
            .listen
            .first()
            .context("the configuration has no `listen`")?;
        let server = Server::at(listen.address, listen.tls.as_ref()).context("listen[0].tls")?;
        let key = call::key(self.key.as_deref())?;
        let tried = Tried {
            server: &server,
            key: key.as_ref(),
            host: listen.hosts.first().map(String::as_str),
        };
        let parts = block_on(self.parts(&tried))?;
        let well = parts.iter().all(|part| part.result.is_ok());
        self.report(&parts)?;
        Ok(match well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    async fn parts(&self, tried: &Tried<'_>) -> anyhow::Result<Vec<Part>> {
        let begun = clock::now();
        let since = || clock::now().saturating_duration_since(begun).as_millis() as u64;
        let models = tried.models().await;
        let first = models.as_ref().ok().and_then(|ids| ids.first().cloned());
        let listed = models.map(|ids| format!("{} models", ids.len()));
        let mut parts = vec![Part {
            name: "models",
            milliseconds: since(),
            result: listed,
        }];
        let Some(model) = self.model.clone().or(first) else {
            if parts[0].result.is_ok() {
                bail!("the gateway lists no model: name one with --model");
            }
            return Ok(parts);
        };
        for (name, stream) in [("chat", false), ("stream", true)] {
            parts.push(tried.timed(name, tried.chat(&model, stream)).await);
        }
        let all = async {
            let chats = (0..self.parallel).map(|_| tried.chat(&model, true));
            let failed: Vec<String> = join_all(chats)
                .await
                .into_iter()
                .filter_map(Result::err)
                .collect();
            match failed.first() {
                None => Ok(format!("{} at once, all answered", self.parallel)),
                Some(why) => Err(format!(
                    "{} of {} failed: {why}",
                    failed.len(),
                    self.parallel
                )),
            }
        };
        parts.push(tried.timed("at once", all).await);
        Ok(parts)
    }

    fn report(&self, parts: &[Part]) -> anyhow::Result<()> {
        if self.json {
            let parts = parts.iter().map(|part| {
                json!({"name": part.name, "ok": part.result.is_ok(), "ms": part.milliseconds,
                    "said": part.result.as_ref().unwrap_or_else(|why| why)})
            });
            return out::print_json(&json!({"parts": parts.collect::<Vec<_>>()}));
        }
        for part in parts {
            let (well, said) = match &part.result {
                Ok(said) => (true, said),
                Err(why) => (false, why),
            };
            out::print(&call::line(
                well,
                part.name,
                &format!("{:>6} ms  {said}", part.milliseconds),
            ))?;
        }
        Ok(())
    }
}

/// Who is asked, and with what.
struct Tried<'a> {
    server: &'a Server,
    key: Option<&'a Secret>,
    /// The name to ask for, where not every one is accepted.
    host: Option<&'a str>,
}

impl Tried<'_> {
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, String> {
        let url = format!("{}{path}", self.server.url);
        let ask = request(method, &url, self.key, body);
        let mut ask = ask.map_err(|error| error.to_string())?;
        if let Some(host) = self.host {
            let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
            ask.headers_mut().insert(HOST, host);
        }
        let answer = self.server.exchange_within(ask, PATIENCE).await;
        let (status, body) = answer.map_err(|trouble| match trouble {
            Trouble::Nobody => format!(
                "nothing runs at {}; `poolgate run` starts the gateway",
                self.server.url
            ),
            trouble => trouble.to_string(),
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = said["error"]["message"].as_str().unwrap_or_default();
        Err(format!("{status}: {said}"))
    }

    async fn models(&self) -> Result<Vec<String>, String> {
        let text = self.ask("GET", "/v1/models", None).await?;
        let list: Value = serde_json::from_str(&text).map_err(|_| "the answer is no JSON")?;
        let list = list["data"]
            .as_array()
            .ok_or("the answer is no list of models")?;
        let ids = list.iter().filter_map(|model| model["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    async fn chat(&self, model: &str, stream: bool) -> Result<String, String> {
        let (path, body) = call::chat(model, stream);
        let text = self.ask("POST", &path, Some(&body)).await?;
        match stream && !call::is_whole(&text) {
            true => Err("the stream has no end".to_owned()),
            false => Ok(model.to_owned()),
        }
    }

    async fn timed(
        &self,
        name: &'static str,
        part: impl Future<Output = Result<String, String>>,
    ) -> Part {
        let begun = clock::now();
        let result = part.await;
        let took = clock::now().saturating_duration_since(begun);
        Part {
            name,
            milliseconds: took.as_millis() as u64,
            result,
        }
    }
}
