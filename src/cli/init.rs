//! `poolgate init`: a short configuration for the keys that are in the environment.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::out;
use super::source::Source;
use crate::config::Variables;

/// Write a short configuration, with the vendors whose keys are in the environment
///
/// Looks for OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY and GOOGLE_API_KEY, and for more of
/// each as OPENAI_API_KEY_2 and so on. A key itself is never written, only the variable's name. A
/// file that exists is kept.
#[derive(Args)]
#[command(after_help = "Example:\n  OPENAI_API_KEY=sk-... poolgate init poolgate.yaml")]
pub(super) struct Init {
    /// [default: poolgate.yaml]
    file: Option<PathBuf>,
}

/// Variable, id of its account, and the upstream.
const VENDORS: [(&str, &str, &str); 4] = [
    ("OPENAI_API_KEY", "openai", "openai"),
    ("ANTHROPIC_API_KEY", "anthropic", "anthropic"),
    ("GEMINI_API_KEY", "gemini", "gemini"),
    ("GOOGLE_API_KEY", "google", "gemini"),
];
/// So many numbered variables of a vendor are looked for.
const NUMBERED: u32 = 50;

impl Init {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let named = self.file.as_ref().or(source.config.as_ref());
        let path = named.cloned().unwrap_or_else(|| "poolgate.yaml".into());
        let shown = path.display();
        let mut options = String::new();
        if named.is_some() {
            let _ = write!(options, " -c {shown}");
        }
        if let Some(file) = &source.env_file {
            let _ = write!(options, " --env-file {}", file.display());
        }
        let variables = source.variables()?;
        let found = found(&|name| variables.get(name));
        let text = text(&found);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => file
                .write_all(text.as_bytes())
                .with_context(|| format!("{shown}: cannot be written"))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                out::print(&format!(
                    "{shown} exists already and is kept as it is.\nNext: poolgate check{options}\n"
                ))?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error).context(format!("{shown}: cannot be written")),
        }
        let what = match found.len() {
            0 => {
                "No vendor's key was in the environment, so it holds an example to edit.".to_owned()
            }
            _ => format!(
                "It uses {}.",
                found
                    .iter()
                    .map(|found| found.variable.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        out::print(&format!(
            "{shown} is written. {what}\nNext: poolgate check{options}, then: poolgate run{options}\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A variable that holds a vendor's key.
struct Found {
    variable: String,
    id: String,
    upstream: &'static str,
}

/// Every vendor's key in `env`. The same key under two names is one account.
fn found(env: Variables<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut keys = BTreeSet::new();
    for (variable, id, upstream) in VENDORS {
        let numbered = (1..=NUMBERED).map(|n| (format!("{variable}_{n}"), format!("{id}-{n}")));
        let first = (variable.to_owned(), id.to_owned());
        for (variable, id) in std::iter::once(first).chain(numbered) {
            let key = env(&variable).filter(|key| !key.trim().is_empty());
            if key.is_some_and(|key| keys.insert(key)) {
                found.push(Found {
                    variable,
                    id,
                    upstream,
                });
            }
        }
    }
    found
}

/// The whole file.
fn text(found: &[Found]) -> String {
    let mut accounts = String::new();
    for Found {
        variable,
        id,
        upstream,
    } in found
    {
        let _ = writeln!(
            accounts,
            "      - {{id: {id}, upstream: {upstream}, credential: {{api_key: \"${{{variable}}}\"}}}}"
        );
    }
    if found.is_empty() {
        accounts = EXAMPLE.to_owned();
    }
    format!("{HEAD}{accounts}{TAIL}")
}

const HEAD: &str = "\
# poolgate's configuration. Every key and its default: conf/poolgate.yaml, or `poolgate check --print`.
# `${NAME}` is replaced from the environment, so that no secret stands here.

listen:
  - address: 127.0.0.1:8080       # where clients connect; on loopback no key is asked until you make one
admin:
  address: 127.0.0.1:8081         # status, metrics, management; its token is made at first start

pools:
  default:
    # round_robin | weighted | least_connections | least_used | response_time | hash | random
    strategy: least_connections
    accounts:                     # each gets requests of its own dialect only, so vendors may share a pool
";

// Not continued with `\`, which would take the spaces of the first line away.
const EXAMPLE: &str = "      # Set the variable, or put the key in place of `put-your-key-here`. One line an account.
      - {id: openai, upstream: openai, credential: {api_key: \"${OPENAI_API_KEY:-put-your-key-here}\"}}
      # - {id: openai-2, upstream: openai, credential: {api_key: \"${OPENAI_API_KEY_2}\"}}
      # - {id: anthropic, upstream: anthropic, credential: {api_key: \"${ANTHROPIC_API_KEY}\"}}
      # - {id: gemini, upstream: gemini, credential: {api_key: \"${GEMINI_API_KEY}\"}}
";

const TAIL: &str =
    "      # Another server that speaks one of the dialects; at most five requests at once:
      # - {id: local, upstream: \"http://127.0.0.1:8000\", dialects: [openai], max_concurrent: 5}

# Beyond loopback clients need keys, one a line in a file:
# clients:
#   keys_file: keys.txt
";

#[cfg(test)]
mod tests {
    use super::{found, text};
    use crate::config;
    use std::path::Path;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "OPENAI_API_KEY" => "sk-first-hush-hush",
            "OPENAI_API_KEY_2" => "sk-second-hush-hush",
            "OPENAI_API_KEY_3" => " ",
            "GEMINI_API_KEY" | "GOOGLE_API_KEY" => "AIza-hush-hush",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_keys_of_the_environment_become_accounts_and_are_not_written() {
        let text = text(&found(&env));
        assert!(!text.contains("hush"), "{text}");
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &env)
            .ok()
            .unwrap();
        assert!(loaded.remarks.is_empty());
        let accounts = loaded.config.pools[0].accounts.iter();
        let ids: Vec<&str> = accounts.map(|account| account.id.as_str()).collect();
        assert_eq!(ids, ["openai", "openai-2", "gemini"]);
    }

    #[test]
    fn without_any_key_the_example_is_valid_as_it_is() {
        let nothing = |_: &str| None;
        let text = text(&found(&nothing));
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &nothing);
        assert!(loaded.is_ok_and(|loaded| loaded.remarks.is_empty()));
    }

    #[test]
    fn what_belongs_to_the_list_stands_under_it() {
        for text in [text(&[]), text(&found(&env))] {
            let list = text.split("    accounts:").nth(1).unwrap();
            let list = list.split("\n\n").next().unwrap().lines().skip(1);
            for line in list {
                assert!(line.starts_with("      "), "{line:?}");
            }
        }
    }

    #[test]
    fn the_comments_of_the_file_are_right_too() {
        let commented = |line: &str| line.replacen("# - {", "- {", 1);
        let text: String = text(&[])
            .lines()
            .map(|line| commented(line) + "\n")
            .collect();
        let any = |_: &str| Some("sk-any".to_owned());
        let loaded = config::parse(&text, Path::new("poolgate.yaml"), &any);
        let pools = loaded.ok().unwrap().config.pools;
        assert_eq!(pools[0].accounts.len(), 5);
    }
}
