//! The command that starts an account's program: its words filled in, its environment and nothing
//! of ours in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::config::{self, SecretError, SecretSource, process_env, read_secret};
use crate::secret::Secret;

/// What is started, without its environment: that may hold secrets, and this is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    pub(super) folder: PathBuf,
}

impl Words {
    /// The account's command with `{port}`, `{auth_file}` and `{id}` filled in.
    pub(super) fn of(instance: &config::Instance, id: &str, port: u16) -> Words {
        let fill = |word: &String| filled(word, instance, id, port);
        Words {
            words: instance.command.iter().map(fill).collect(),
            folder: instance.working_dir.clone(),
        }
    }

    /// Ready to be started: in a process group of its own, without input, its output appended to
    /// these files. No shell reads it. The standard library opens every file of ours such that no
    /// child inherits it.
    pub(super) fn command(
        &self,
        environment: &BTreeMap<String, Secret>,
        out: File,
        err: File,
    ) -> Command {
        let (program, arguments) = self
            .words
            .split_first()
            .map_or(("", &[][..]), |(p, a)| (p, a));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        for (name, value) in environment {
            command.env(name, value.expose());
        }
        command
    }
}

/// Everything that the program will find in its environment: what `pass_env` names, and its own
/// `env` on top.
///
/// # Errors
/// A secret of `env` cannot be read.
pub(super) fn environment(
    instance: &config::Instance,
    pass_env: &[String],
    id: &str,
    port: u16,
) -> Result<BTreeMap<String, Secret>, SecretError> {
    let passed = pass_env.iter().filter_map(|name| {
        let value = process_env(name)?;
        Some((name.clone(), Secret::new(value)))
    });
    let mut all: BTreeMap<String, Secret> = passed.collect();
    for (name, source) in &instance.env {
        let value = read_secret(source)?;
        let value = match source {
            SecretSource::Value(_) => Secret::new(filled(value.expose(), instance, id, port)),
            SecretSource::File(_) => value,
        };
        all.insert(name.clone(), value);
    }
    Ok(all)
}

fn filled(text: &str, instance: &config::Instance, id: &str, port: u16) -> String {
    let file = instance.auth_file.as_deref().map(Path::to_string_lossy);
    fill(text, id, file.as_deref()).replace("{port}", &port.to_string())
}

/// `text` with the account's id and its file in place of `{id}` and `{auth_file}`.
pub(super) fn fill(text: &str, id: &str, file: Option<&str>) -> String {
    let text = text.replace("{id}", id);
    match file {
        Some(file) => text.replace("{auth_file}", file),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, environment};
    use crate::config::{Instance, SecretSource};
    use crate::secret::Secret;

    fn instance() -> Instance {
        Instance {
            command: [
                "run",
                "--auth={auth_file}",
                "{port}",
                "{id}",
                "$HOME;{port}",
            ]
            .map(String::from)
            .into(),
            port: None,
            auth_file: Some("/auth/a b.json".into()),
            env: [("AT".to_owned(), SecretSource::Value(Secret::new(":{port}")))].into(),
            working_dir: "/".into(),
        }
    }

    #[test]
    fn words_are_filled_in_and_stay_words() {
        let words = Words::of(&instance(), "a", 9222).words;
        let expected = ["run", "--auth=/auth/a b.json", "9222", "a", "$HOME;9222"];
        assert_eq!(words, expected);
    }

    #[test]
    fn the_environment_holds_what_is_named_and_nothing_else() {
        let passed = ["PATH".to_owned(), "POOLGATE_IS_NOT_SET".to_owned()];
        let all = environment(&instance(), &passed, "a", 9222).ok().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["AT", "PATH"]);
        assert_eq!(all["AT"].expose(), ":9222");
    }
}
