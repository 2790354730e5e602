//! What is wrong with a configuration, where, and what would be right.

use std::fmt;

use serde::Serialize;

/// How much a problem weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; its owner should look at this.
    Warning,
}

impl Severity {
    fn prefix(self) -> &'static str {
        match self {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        }
    }
}

/// One thing to say about a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// Name of the file as the user gave it.
    pub file: String,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Path of the key, e.g. `pools.default.accounts[1].weight`; empty = the file as a whole.
    pub path: String,
    pub message: String,
    pub snippet: Option<Snippet>,
}

/// The line a problem is on, with secrets blanked, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    pub text: String,
    /// In characters, from 0.
    pub start: usize,
    /// In characters, at least 1.
    pub width: usize,
}

impl Problem {
    /// A problem of the file as a whole.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Problem {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            message: message.into(),
            snippet: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}{}", self.severity.prefix(), self.message)?;
        let Some(snippet) = &self.snippet else {
            return Ok(());
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        write!(f, "\n{gutter} |\n{number} | {}", snippet.text)?;
        write!(
            f,
            "\n{gutter} | {}{}",
            " ".repeat(snippet.start),
            "^".repeat(snippet.width)
        )
    }
}

/// Everything that makes a configuration unusable, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `; did you mean …?` when one of `known` is close to `word`, else nothing.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let plain = word.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&plain, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean `{candidate}`?")
        })
}
