//! `poolgate check`: everything there is to say about a configuration, without serving it.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::out;
use super::source::Source;
use crate::config::{self, Config, Loaded, Problem, Problems, Severity};

/// Find every mistake in the configuration
///
/// Exit status 0: it can be used; 1: it cannot. Keys that this release does not serve yet are named.
#[derive(Args)]
#[command(after_help = "Examples:\n  poolgate check\n  \
    poolgate check --print -c /etc/poolgate/poolgate.yaml > effective.yaml")]
pub(super) struct Check {
    /// Print the effective configuration: every key and default, secrets masked
    #[arg(long)]
    print: bool,
    /// For machines
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let path = source.path()?;
        let read = source.read()?;
        let code = match &read {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
        if self.json {
            out::print_json(&self.report(&path, &read))?;
            return Ok(code);
        }
        let (problems, verdict) = match &read {
            Ok(loaded) => (&loaded.remarks, verdict(&path, loaded)),
            Err(Problems(problems)) => (problems, refusal(&path, problems.len())),
        };
        for problem in problems {
            out::tell(&problem.to_string());
        }
        match &read {
            Ok(loaded) if self.print => {
                out::tell(&verdict);
                out::print(&config::print(&loaded.config))?;
            }
            Ok(_) => out::print(&format!("{verdict}\n"))?,
            Err(_) => out::tell(&verdict),
        }
        Ok(code)
    }

    fn report(&self, path: &Path, read: &Result<Loaded, Problems>) -> Value {
        let (problems, config) = match read {
            Ok(loaded) => (&loaded.remarks, Some(&loaded.config)),
            Err(Problems(problems)) => (problems, None),
        };
        let mut report = json!({
            "file": path.display().to_string(),
            "valid": config.is_some(),
            "problems": problems,
        });
        if let Some(config) = config {
            let Counts {
                accounts,
                pools,
                keys,
            } = Counts::of(config);
            report["counts"] = json!({"accounts": accounts, "pools": pools, "keys": keys});
        }
        if let Some(config) = config.filter(|_| self.print) {
            report["effective"] = json!(config.effective);
        }
        report
    }
}

struct Counts {
    accounts: usize,
    pools: usize,
    keys: usize,
}

impl Counts {
    fn of(config: &Config) -> Counts {
        let clients = &config.clients;
        // `run` says what is wrong with a file of keys; here it counts for none.
        let in_file = clients
            .keys_file
            .as_deref()
            .and_then(|path| config::read_keys_file(path).ok())
            .map_or(0, |keys| keys.len());
        Counts {
            accounts: config.pools.iter().map(|pool| pool.accounts.len()).sum(),
            pools: config.pools.len(),
            keys: clients.keys.len() + in_file,
        }
    }
}

/// `poolgate.yaml: valid (3 accounts, 1 pool, 4 keys), 2 warnings`
fn verdict(path: &Path, loaded: &Loaded) -> String {
    let Counts {
        accounts,
        pools,
        keys,
    } = Counts::of(&loaded.config);
    let mut text = format!(
        "{}: valid ({}, {}, {})",
        path.display(),
        counted(accounts, "account"),
        counted(pools, "pool"),
        counted(keys, "key"),
    );
    let count = |severity| {
        let weighs = |problem: &&Problem| problem.severity == severity;
        loaded.remarks.iter().filter(weighs).count()
    };
    match count(Severity::Warning) {
        0 => {}
        n => text += &format!(", {}", counted(n, "warning")),
    }
    text
}

fn refusal(path: &Path, problems: usize) -> String {
    format!("{}: {}", path.display(), counted(problems, "problem"))
}

fn counted(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::verdict;
    use crate::config;
    use std::path::Path;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let path = Path::new("poolgate.yaml");
        let loaded = config::parse(text, path, &|_| None).ok().unwrap();
        assert_eq!(verdict(path, &loaded), want);
    }

    #[test]
    fn the_last_line_counts_what_there_is() {
        let pools = "pools: {default: {accounts: [{id: a, upstream: openai, credential: none}]}}\n";
        check(pools, "poolgate.yaml: valid (1 account, 1 pool, 0 keys)");
        let keys = "clients: {keys: [{name: x, key: sk-1}, {name: y, key: sk-2}]}";
        let rare = pools.replace("id: a,", "id: a, weight: 0,");
        check(
            &format!("{rare}{keys}"),
            "poolgate.yaml: valid (1 account, 1 pool, 2 keys), 1 warning",
        );
    }
}
