//! `poolgate status`: what the running gateway's accounts are doing.

mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::client::Admin;
use super::out::{self, Screen};
use super::source::Source;
use super::{block_on, status::view::View};
use crate::clock;

/// Show accounts, pools and the queue of the running gateway
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate status --watch\n  \
    poolgate status --json | jq '.accounts[] | select(.available | not)'")]
pub(super) struct Status {
    /// Show it anew each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// For machines: the overview with all accounts; with --watch one line a second
    #[arg(long)]
    json: bool,
}

const PAUSE: Duration = Duration::from_secs(1);
/// Accounts asked for at once, and how often at most.
const PAGE: usize = 1000;
const PAGES: usize = 100;
/// Cursor home; erase to the end of a line; erase what is below; hide and show the cursor.
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\n";
const BELOW: &str = "\x1b[J";
const HIDE: &str = "\x1b[?25l\x1b[2J";
const SHOW: &str = "\x1b[?25h";

impl Status {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let admin = Admin::of(&source.load_to_ask()?.config)?;
        block_on(async {
            if !self.watch {
                return self.once(&admin).await;
            }
            let in_place = Screen::now().terminal && !self.json;
            if in_place {
                out::print(HIDE)?;
            }
            let watched = tokio::select! {
                watched = self.watch(&admin, in_place) => watched,
                pressed = tokio::signal::ctrl_c() => pressed.map_err(Into::into),
            };
            if in_place {
                out::print(SHOW)?;
            }
            watched
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn once(&self, admin: &Admin) -> anyhow::Result<()> {
        let state = state(admin).await?;
        if self.json {
            return out::print_json(&state);
        }
        let lines = View::of(&state)?.lines(admin.url(), Screen::now(), clock::wall());
        out::print(&(lines.join("\n") + "\n"))
    }

    /// Ends with the first question that is not answered.
    async fn watch(&self, admin: &Admin, in_place: bool) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(PAUSE);
        loop {
            tick.tick().await;
            let state = state(admin).await?;
            if self.json {
                out::print(&format!("{state}\n"))?;
                continue;
            }
            let screen = Screen::now();
            let mut lines = View::of(&state)?.lines(admin.url(), screen, clock::wall());
            if !in_place {
                out::print(&(lines.join("\n") + "\n\n"))?;
                continue;
            }
            // The last line of the screen stays empty: writing there would scroll.
            let room = screen.height.saturating_sub(1).max(1);
            if lines.len() > room {
                let hidden = lines.len() - room + 1;
                lines.truncate(room - 1);
                lines.push(format!("(and {hidden} more lines)"));
            }
            out::print(&format!("{HOME}{}{LINE_END}{BELOW}", lines.join(LINE_END)))?;
        }
    }
}

/// The overview, and under `accounts.list` every account.
async fn state(admin: &Admin) -> anyhow::Result<Value> {
    let overview = admin.get("/api/v1/overview").await?;
    let mut accounts = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES {
        let path = format!("/api/v1/accounts?limit={PAGE}{cursor}");
        let mut page = admin.get(&path).await?;
        if let Some(list) = page["accounts"].as_array_mut() {
            accounts.append(list);
        }
        match page["next"].as_str() {
            Some(next) => {
                let next = utf8_percent_encode(next, NON_ALPHANUMERIC);
                cursor = format!("&cursor={next}");
            }
            None => break,
        }
    }
    Ok(json!({"overview": overview, "accounts": accounts}))
}

#[cfg(test)]
mod tests {
    use super::state;
    use crate::cli::client::Admin;
    use crate::config;
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use serde_json::json;
    use std::convert::Infallible;
    use std::path::Path;
    use tokio::net::TcpListener;

    /// The management API with two pages of accounts.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let uri = request.uri();
        let json = match (uri.path(), uri.query()) {
            ("/api/v1/overview", _) => json!({"status": "healthy"}),
            (_, Some("limit=1000")) => json!({"accounts": [{"id": "a+b"}], "next": "a+b"}),
            (_, Some("limit=1000&cursor=a%2Bb")) => {
                json!({"accounts": [{"id": "c"}], "next": null})
            }
            other => json!({"accounts": [{"id": format!("{other:?}")}]}),
        };
        Ok(Response::new(Full::from(json.to_string())))
    }

    #[tokio::test]
    async fn all_pages_of_accounts_are_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = hyper::server::conn::http1::Builder::new();
                let connection =
                    connection.serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(connection);
            }
        });
        let text = format!(
            "admin: {{address: \"{address}\", token: t}}\n\
             pools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}"
        );
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &|_| None);
        let admin = Admin::of(&loaded.ok().unwrap().config).unwrap();
        let state = state(&admin).await.unwrap();
        assert_eq!(state["accounts"], json!([{"id": "a+b"}, {"id": "c"}]));
        assert_eq!(state["overview"]["status"], "healthy");
    }
}
