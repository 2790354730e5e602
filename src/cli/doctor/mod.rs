//! `poolgate doctor`: what is wrong with a gateway and its surroundings, and what to do about it.

mod files;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::header::DATE;
use serde_json::{Value, json};

use super::client::{Admin, Nobody};
use super::source::Source;
use super::{block_on, call, out};
use crate::app;
use crate::clock;
use crate::config::{Config, Host};
use crate::net::{Egress, Reach};

/// Look for what is wrong: configuration, files, clock, names, TLS, accounts
///
/// Asks each upstream once, without a credential; says what to do about what it finds. Exit status 1 when
/// anything is wrong.
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate doctor -c /etc/poolgate/poolgate.yaml")]
pub(super) struct Doctor {
    /// For machines
    #[arg(long)]
    json: bool,
}

/// Tokens are renewed minutes before their end.
const CLOCK: Duration = Duration::from_secs(60);
/// So many upstreams are asked.
const UPSTREAMS: usize = 50;

/// One thing that was looked at.
struct Finding {
    what: String,
    /// An error says what to do.
    result: Result<String, String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: impl Into<String>, result: Result<String, String>) {
        let what = what.into();
        self.0.push(Finding { what, result });
    }
}

impl Doctor {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let mut found = Findings::default();
        let loaded = match source.read()? {
            Ok(loaded) => loaded,
            Err(problems) => {
                let said = problems
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let told = format!("{said}: `poolgate check` says all of it");
                found.add("configuration", Err(told));
                return self.report(&found);
            }
        };
        let config = loaded.config;
        let remarks = match loaded.remarks.len() {
            0 => "valid".to_owned(),
            n => format!("valid, {n} remarks: `poolgate check` shows them"),
        };
        found.add("configuration", Ok(remarks));
        files::look(&config, &mut found);
        block_on(async {
            upstreams(&config, &mut found).await?;
            accounts(&config, &mut found).await;
            Ok(())
        })?;
        self.report(&found)
    }

    fn report(&self, found: &Findings) -> anyhow::Result<ExitCode> {
        let well = found.0.iter().all(|one| one.result.is_ok());
        if self.json {
            let all = found.0.iter().map(|one| {
                json!({"what": one.what, "ok": one.result.is_ok(),
                    "said": one.result.as_ref().unwrap_or_else(|why| why)})
            });
            out::print_json(&json!({"ok": well, "findings": all.collect::<Vec<Value>>()}))?;
        } else {
            for one in &found.0 {
                let (good, said) = match &one.result {
                    Ok(said) => (true, said),
                    Err(why) => (false, why),
                };
                out::print(&call::line(good, &one.what, said))?;
            }
        }
        Ok(match well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

async fn upstreams(config: &Config, found: &mut Findings) -> anyhow::Result<()> {
    let egress = Egress::new(Reach::Anywhere, &app::proxies(config))?;
    let mut urls: BTreeMap<String, &str> = BTreeMap::new();
    let accounts = config.pools.iter().flat_map(|pool| &pool.accounts);
    for account in accounts.filter(|account| account.enabled && account.tls.ca.is_none()) {
        if let Host::Tcp(name, port) = &account.upstream.host
            && *port != 0
            && account.instance.is_none()
        {
            let scheme = if account.upstream.tls {
                "https"
            } else {
                "http"
            };
            let name = if name.contains(':') {
                format!("[{name}]")
            } else {
                name.clone()
            };
            urls.entry(format!("{scheme}://{name}:{port}/"))
                .or_insert(&account.id);
        }
    }
    let mut skew = None;
    for (url, account) in urls.iter().take(UPSTREAMS) {
        let result = match egress.get(url, 1 << 20).await {
            Ok(answer) => {
                let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
                skew = skew.or_else(|| date.and_then(off_by));
                Ok(format!("answers ({})", answer.status.as_u16()))
            }
            Err(error) if error.may_have_arrived() => Ok(format!("answers: {error}")),
            Err(error) => Err(format!(
                "{error}: the name, the network, egress.proxy, the certificates of this machine (account {account})"
            )),
        };
        found.add(url.trim_end_matches('/'), result);
    }
    match skew {
        Some(off) if off > CLOCK => found.add(
            "clock",
            Err(format!(
                "{} s off, by an upstream's: set it right (NTP)",
                off.as_secs()
            )),
        ),
        Some(_) => found.add("clock", Ok("right".to_owned())),
        None => {}
    }
    Ok(())
}

/// How far this machine's clock is from a `Date` (RFC 9110 §6.6.1).
fn off_by(date: &str) -> Option<Duration> {
    let theirs = httpdate::parse_http_date(date).ok()?;
    let ours = clock::wall();
    Some(match ours.duration_since(theirs) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    })
}

/// What the running gateway says of them.
async fn accounts(config: &Config, found: &mut Findings) {
    let asked = async { call::accounts(&Admin::of(config)?).await };
    let accounts = match asked.await {
        Ok(accounts) => accounts,
        Err(error) if error.is::<Nobody>() => {
            return found.add("gateway", Ok("does not run here".to_owned()));
        }
        Err(error) => return found.add("gateway", Err(format!("{error:#}"))),
    };
    found.add("gateway", Ok("runs, and takes our admin token".to_owned()));
    for (id, (status, last_error)) in accounts {
        let advice = match status.as_str() {
            "needs_login" => "give it a new secret, then POST /api/v1/accounts/ID/reset",
            "unhealthy" => "its health check or its token fails",
            "open" => "it failed again and again; it is tried by itself",
            _ => continue,
        };
        let why = if last_error.is_empty() {
            String::new()
        } else {
            format!(": {last_error}")
        };
        found.add(id, Err(format!("{status}{why}; {advice}")));
    }
}
