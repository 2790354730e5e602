//! Which configuration file, and which variables: what every command may be told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use crate::config::{self, EnvFile, Loaded, Problem, Problems, Severity, Variables};

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["poolgate.yaml", "/etc/poolgate/poolgate.yaml"];

#[derive(Args, Default)]
pub(super) struct Source {
    /// The configuration [default: ./poolgate.yaml, then /etc/poolgate/poolgate.yaml]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    pub(super) config: Option<PathBuf>,
    /// Read variables for `${NAME}` from here; those of the environment go before them
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    pub(super) env_file: Option<PathBuf>,
    /// No file: the variables of an older system say everything (AMAZONQ_*, WORKERS, MULTI_INSTANCE_MODE …)
    #[arg(
        long,
        global = true,
        conflicts_with = "config",
        help_heading = "Configuration"
    )]
    pub(super) env_compat: bool,
}

/// What a configuration made of variables is called.
const VARIABLES: &str = "variables.yaml";

impl Source {
    /// The file to read: the named one, or the first of the usual places.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        if self.env_compat {
            return Ok(VARIABLES.into());
        }
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        match PLACES.iter().map(Path::new).find(|path| path.exists()) {
            Some(path) => Ok(path.to_owned()),
            None => bail!(
                "no configuration: neither ./{} nor {} exists. `poolgate init` writes one, \
                 `poolgate demo` needs none, `-c FILE` names another",
                PLACES[0],
                PLACES[1]
            ),
        }
    }

    /// Is there a file to read, or one that was named?
    pub(super) fn names_a_file(&self) -> bool {
        !self.env_compat && (self.config.is_some() || self.path().is_ok())
    }

    /// The configuration that an older system's variables ask for.
    ///
    /// # Errors
    /// There is neither a file nor such variables.
    pub(super) fn load_variables(&self) -> anyhow::Result<Loaded> {
        let variables = self.variables()?;
        let loaded = of_variables(Path::new(VARIABLES), &|name| variables.get(name));
        if !self.env_compat && loaded.is_err() {
            self.path()?;
        }
        Ok(loaded?)
    }

    /// The variables of `--env-file`.
    pub(super) fn variables(&self) -> anyhow::Result<EnvFile> {
        match &self.env_file {
            Some(path) => EnvFile::load(path).map_err(anyhow::Error::msg),
            None => Ok(EnvFile::default()),
        }
    }

    /// The configuration at [`Source::path`], or every problem that it has.
    pub(super) fn read(&self) -> anyhow::Result<Result<Loaded, Problems>> {
        let variables = self.variables()?;
        let env = |name: &str| variables.get(name);
        let path = self.path()?;
        Ok(match self.env_compat {
            true => of_variables(&path, &env),
            false => config::load(&path, &env),
        })
    }

    /// The same where problems end the command.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        Ok(self.read()??)
    }

    /// The configuration as far as it says where the running gateway is. The secrets of its accounts
    /// are often in the environment of the gateway only, so unset variables are no mistake here.
    pub(super) fn load_to_ask(&self) -> anyhow::Result<Loaded> {
        if self.env_compat {
            return self.load_variables();
        }
        let variables = self.variables()?;
        let path = self.path()?;
        let env = |name: &str| variables.get(name);
        config::load(&path, &env).or_else(|problems| {
            let Ok(text) = std::fs::read_to_string(&path) else {
                return Err(problems.into());
            };
            config::load(&path, &filled(&text, &env)).map_err(|_| problems.into())
        })
    }

    /// The same for commands that read or change the records themselves.
    ///
    /// # Errors
    /// Where they are depends on a variable that is not set: another place must not be taken for it.
    pub(super) fn load_with_records(&self) -> anyhow::Result<Loaded> {
        let loaded = self.load_to_ask()?;
        let state = &loaded.config.state;
        known("state.dir", &state.dir.to_string_lossy())?;
        if let Some(url) = &state.postgres {
            known("state.postgres", url.expose())?;
        }
        Ok(loaded)
    }
}

/// What stands for the value of an unset variable, around its name.
const UNSET: (&str, &str) = ("unset-", "-");

/// What a command needs of a configuration that was read by [`Source::load_to_ask`].
///
/// # Errors
/// `text`, the value of `key`, has an unset variable in it.
pub(super) fn known(key: &str, text: &str) -> anyhow::Result<()> {
    let name = text
        .split_once(UNSET.0)
        .and_then(|(_, rest)| rest.split_once(UNSET.1));
    match name {
        Some((name, _)) => bail!(
            "{key} needs the variable {name}, which is not set here: set it as it is set for the \
             gateway, or name its file with `--env-file`"
        ),
        None => Ok(()),
    }
}

/// The configuration that an older system's variables ask for.
fn of_variables(path: &Path, env: Variables<'_>) -> Result<Loaded, Problems> {
    let said = |text: &String| Problem::of_file("variables", text);
    let taken = config::older::from_variables(env)
        .map_err(|mistakes| Problems(mistakes.iter().map(said).collect()))?;
    let mut loaded = config::parse(&taken.text, path, env)?;
    let notes = taken.notes.iter().map(|text| Problem {
        severity: Severity::Warning,
        ..said(text)
    });
    loaded.remarks.splice(0..0, notes);
    Ok(loaded)
}

/// `env`, with a word that names it in place of each unset variable that `text` gives no default for.
fn filled<'a>(text: &str, env: Variables<'a>) -> impl Fn(&str) -> Option<String> + use<'a> {
    let names = text.split("${").skip(1);
    let needed: BTreeSet<String> = names
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name.to_owned())
        .collect();
    move |name| {
        let word = || format!("{}{name}{}", UNSET.0, UNSET.1);
        env(name).or_else(|| needed.contains(name).then(word))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use std::fs;

    fn source(text: &str) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("poolgate.yaml");
        fs::write(&path, text).unwrap();
        let source = Source {
            config: Some(path),
            ..Source::default()
        };
        (folder, source)
    }

    #[test]
    fn records_are_not_looked_for_in_a_folder_that_an_unset_variable_names() {
        for state in [
            "dir: \"${POOLGATE_TEST_UNSET}/x\"",
            "postgres: \"postgres://u:${POOLGATE_TEST_UNSET}@db/x\"",
        ] {
            let (_folder, source) = source(&format!(
                "state: {{{state}}}\npools: {{default: {{accounts: [{{id: a, upstream: openai}}]}}}}\n"
            ));
            assert!(source.load_to_ask().is_ok(), "the gateway may be asked");
            let problem = source.load_with_records().err().unwrap().to_string();
            assert!(problem.contains("POOLGATE_TEST_UNSET,"), "{problem}");
        }
    }

    #[test]
    fn the_running_gateway_is_found_without_the_secrets_of_its_accounts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("poolgate.yaml");
        let account =
            "{id: a, upstream: openai, credential: {api_key: \"${POOLGATE_TEST_UNSET}\"}}";
        let admin = "admin: {address: \"127.0.0.1:${POOLGATE_TEST_PORT:-9999}\"}";
        fs::write(
            &path,
            format!("{admin}\npools: {{default: {{accounts: [{account}]}}}}\n"),
        )
        .unwrap();
        let source = Source {
            config: Some(path.clone()),
            ..Source::default()
        };
        let problem = source.load().err().unwrap().to_string();
        assert!(problem.contains("POOLGATE_TEST_UNSET"), "{problem}");
        let config = source.load_to_ask().ok().unwrap().config;
        assert_eq!(
            config.admin.address,
            crate::config::Address::Tcp("127.0.0.1:9999".parse().unwrap())
        );

        fs::write(&path, "pools: 3\n").unwrap();
        let problem = source.load_to_ask().err().unwrap().to_string();
        assert!(problem.contains("pools"), "{problem}");
    }

    #[test]
    fn without_a_configuration_the_error_names_the_two_ways_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source {
            config: Some(folder.path().join("nothing.yaml")),
            ..Source::default()
        };
        let problem = source.load().err().unwrap().to_string();
        assert!(
            problem.contains("nothing.yaml: cannot be read"),
            "{problem}"
        );
    }
}
