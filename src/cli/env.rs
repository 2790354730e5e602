//! `poolgate env`: the lines that point a client here.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::StatusCode;

use super::client::{Server, base, local, request};
use super::source::Source;
use super::{block_on, out};
use crate::config::{Config, Open};

/// Print the lines that point a client here
#[derive(Args)]
#[command(
    after_help = "Examples:\n  eval \"$(poolgate env claude)\" && claude\n  poolgate env codex"
)]
pub(super) struct Env {
    client: Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Claude Code
    Claude,
    /// Codex CLI
    Codex,
    /// Gemini CLI and Google's SDKs
    Gemini,
    /// OpenAI's SDKs and most tools
    Openai,
    /// Anthropic's SDKs
    Anthropic,
}

/// Stands where the user's own key belongs.
const YOUR_KEY: &str = "YOUR_KEY";

impl Env {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        // Without a configuration we are where a gateway listens by default, as the demo's does.
        let (url, key) = match source.path() {
            Err(_) => ("http://127.0.0.1:8080".to_owned(), "any"),
            Ok(_) => {
                let config = source.load_to_ask()?.config;
                let listen = config.listen.first();
                let tls = listen.is_some_and(|listen| listen.tls.is_some());
                let address = listen.map(|listen| listen.address);
                let address = address.unwrap_or_else(|| ([127, 0, 0, 1], 8080).into());
                let key = match wants_key(&config) {
                    true => YOUR_KEY,
                    false => "any",
                };
                (base(local(address), tls), key)
            }
        };
        let mut text = lines(self.client, &url, key);
        if key == YOUR_KEY {
            text.insert_str(0, "# Put your poolgate key in place of YOUR_KEY.\n");
        }
        out::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Does the gateway ask its clients for a key? Where it runs it says so itself.
fn wants_key(config: &Config) -> bool {
    let asked = block_on(async { Ok(asks(config).await) });
    asked.ok().flatten().unwrap_or_else(|| {
        let clients = &config.clients;
        let mut listens = config.listen.iter();
        match clients.open {
            Open::Always => false,
            Open::Never => true,
            Open::Auto | Open::UntilKeys => {
                let is_there = !clients.keys.is_empty() || clients.keys_file.is_some();
                is_there || listens.any(|listen| !listen.address.ip().is_loopback())
            }
        }
    })
}

/// The answer to a request without a key; none: nobody says.
async fn asks(config: &Config) -> Option<bool> {
    let listen = config.listen.first()?;
    let server = Server::at(listen.address, listen.tls.as_ref()).ok()?;
    let ask = request("GET", &format!("{}/v1/models", server.url), None, None);
    let (status, _) = server.exchange(ask.ok()?).await.ok()?;
    match status {
        StatusCode::UNAUTHORIZED => Some(true),
        status if status.is_success() => Some(false),
        _ => None,
    }
}

/// Lines for a POSIX shell; what belongs elsewhere is in comments.
fn lines(client: Client, url: &str, key: &str) -> String {
    match client {
        Client::Claude => {
            format!("export ANTHROPIC_BASE_URL={url}\nexport ANTHROPIC_AUTH_TOKEN={key}\n")
        }
        Client::Anthropic => {
            format!("export ANTHROPIC_BASE_URL={url}\nexport ANTHROPIC_API_KEY={key}\n")
        }
        Client::Openai => {
            format!("export OPENAI_BASE_URL={url}/v1\nexport OPENAI_API_KEY={key}\n")
        }
        Client::Gemini => format!(
            "export GOOGLE_GEMINI_BASE_URL={url}\nexport GEMINI_API_KEY={key}\n\
             # Gemini CLI also wants this in ~/.gemini/settings.json:\n\
             # {{\"security\": {{\"auth\": {{\"selectedType\": \"gemini-api-key\"}}}}}}\n"
        ),
        Client::Codex => format!(
            "export POOLGATE_KEY={key}\n\
             # Codex reads the rest from ~/.codex/config.toml (no `#` there):\n\
             # model_provider = \"poolgate\"\n\
             # [model_providers.poolgate]\n\
             # name = \"poolgate\"\n\
             # base_url = \"{url}/v1\"\n\
             # env_key = \"POOLGATE_KEY\"\n\
             # wire_api = \"responses\"\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, lines};
    use clap::ValueEnum;

    #[test]
    fn each_client_gets_lines_that_a_shell_can_read() {
        for client in Client::value_variants() {
            let text = lines(*client, "http://127.0.0.1:8080", "any");
            assert!(text.contains("http://127.0.0.1:8080"), "{text}");
            assert!(text.contains("=any\n"), "{text}");
            for line in text.lines() {
                assert!(
                    line.starts_with("export ") || line.starts_with("# "),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn only_clients_of_openai_get_the_version_in_their_address() {
        let has_version = |client| lines(client, "http://h:1", "k").contains("http://h:1/v1");
        assert!(has_version(Client::Openai) && has_version(Client::Codex));
        assert!(!has_version(Client::Claude) && !has_version(Client::Anthropic));
        assert!(!has_version(Client::Gemini));
    }
}
