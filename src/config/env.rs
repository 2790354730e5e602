//! The only place that reads the environment: variables, `--env-file`, `${NAME}` in texts.

use std::collections::BTreeMap;
use std::path::Path;

/// Looks a variable up. An argument everywhere else, so that tests bring their own environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process; one that is not UTF-8 counts as unset.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Variables from a file of `NAME=value` lines; the process's own ones go before them.
#[derive(Clone, Default)]
pub struct EnvFile(BTreeMap<String, String>);

impl EnvFile {
    /// Reads `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or the first line that is not `NAME=value`; the text names file
    /// and line, never the value.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|problem| format!("{}:{problem}", path.display()))
    }

    /// Reads the lines of `text`: blank ones and `#` comments are skipped, `export` is allowed,
    /// values may stand in single quotes (as they are) or double quotes (with `\n \" \\`).
    ///
    /// # Errors
    /// `LINE: what is wrong`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("{}: expected NAME=value", index + 1))?;
            let name = name.trim();
            if !is_name(name) {
                // Not told: a line that is no assignment may be a secret with a `=` in it.
                return Err(format!(
                    "{}: what stands before the `=` is not a name of a variable",
                    index + 1
                ));
            }
            let value = unquote(value.trim())
                .ok_or_else(|| format!("{}: the quotes of {name} do not close", index + 1))?;
            variables.insert(name.to_owned(), value);
        }
        Ok(EnvFile(variables))
    }

    /// The variable `name` as the file alone says it.
    pub fn own(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// The variable `name`: the process's own, else the file's.
    pub fn get(&self, name: &str) -> Option<String> {
        process_env(name).or_else(|| self.0.get(name).cloned())
    }
}

/// `None`: an opening quote without its closing one.
fn unquote(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.split_once('\'').map(|(inside, _)| inside.to_owned());
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Some(
            value
                .split(" #")
                .next()
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
        );
    };
    let mut out = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Replaces `${NAME}` and `${NAME:-default}` (used when NAME is unset or empty); `$${` stands for
/// a literal `${`. What a variable holds is not looked at again.
///
/// # Errors
/// Says which variable is not set, or what is wrong with the writing.
pub(super) fn expand(text: &str, env: Variables<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let end = after
            .find('}')
            .ok_or("`${` without its `}`; a literal `${` is written `$${`")?;
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        if !is_name(name) {
            return Err(
                "`${…}` holds no name of a variable; a literal `${` is written `$${`".into(),
            );
        }
        let value = match default {
            Some(default) => env(name)
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| default.into()),
            None => env(name).ok_or_else(|| {
                format!("the variable {name} is not set; set it, or write `${{{name}:-default}}`")
            })?,
        };
        out.push_str(&value);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{EnvFile, expand};

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_inside_any_text() {
        for (text, want) in [
            ("${A}", "one"),
            ("x${A}y${A}z", "xoneyonez"),
            ("${B:-two}", "two"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("$A $ {A} $", "$A $ {A} $"),
            ("$${A}", "${A}"),
            ("${NESTED}", "${A}"),
        ] {
            assert_eq!(expand(text, &env).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        assert!(expand("${MISSING}", &env).unwrap_err().contains("MISSING"));
        assert!(expand("${A", &env).is_err());
        assert!(expand("${}", &env).is_err());
    }

    #[test]
    fn an_env_file_is_read_as_shells_read_it() {
        let text =
            "# c\n\nPG_A=1\nexport PG_B = \"x \\\"y\\\"\" # c\nPG_C='a # b'\nPG_D=p # q\nPG_E=";
        let file = EnvFile::parse(text).unwrap();
        for (name, want) in [
            ("PG_A", "1"),
            ("PG_B", "x \"y\""),
            ("PG_C", "a # b"),
            ("PG_D", "p"),
            ("PG_E", ""),
        ] {
            assert_eq!(file.get(name).as_deref(), Some(want), "{name}");
        }
        assert!(
            EnvFile::parse("A=1\nnonsense")
                .err()
                .unwrap()
                .starts_with("2:")
        );
        let secret = EnvFile::parse("hunter/2==").err().unwrap();
        assert!(!secret.contains("hunter"), "{secret}");
    }
}
