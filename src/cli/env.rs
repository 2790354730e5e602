//! `poolgate env`: the lines that point a client here.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::client::{base, local};
use super::out;
use super::source::Source;

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
                let asks = !config.clients.keys.is_empty() || config.clients.keys_file.is_some();
                let listen = config.listen.first();
                let tls = listen.is_some_and(|listen| listen.tls.is_some());
                let address = listen.map(|listen| listen.address);
                let address = address.unwrap_or_else(|| ([127, 0, 0, 1], 8080).into());
                let beyond = !address.ip().is_loopback();
                let key = if asks || beyond { YOUR_KEY } else { "any" };
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
