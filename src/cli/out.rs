//! Where a command's words go: results to stdout, complaints to stderr, colour to terminals only.

use std::io::{self, ErrorKind, IsTerminal, Write};

use terminal_size::{Height, Width, terminal_size_of};

use crate::config::{Problems, process_env};

/// What stdout can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) terminal: bool,
    pub(super) color: bool,
    /// In characters.
    pub(super) width: usize,
    /// In lines.
    pub(super) height: usize,
}

impl Screen {
    /// Stdout as it is now. What is no terminal is 80 columns wide and endless.
    pub(super) fn now() -> Screen {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let unset = |name: &str| process_env(name).is_none_or(|value| value.is_empty());
        let plain = process_env("TERM").is_some_and(|term| term == "dumb");
        let size = if terminal {
            terminal_size_of(&stdout)
        } else {
            None
        };
        let (width, height) = match size {
            Some((Width(width), Height(height))) => (width.into(), height.into()),
            None => (80, usize::MAX),
        };
        Screen {
            terminal,
            color: terminal && !plain && unset("NO_COLOR"),
            width,
            height,
        }
    }
}

/// Stdout was closed by its reader.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct Closed;

/// Writes to stdout.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => anyhow::Error::new(Closed),
        _ => anyhow::Error::new(error).context("stdout"),
    })
}

/// Writes one value as JSON to stdout.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes a line to stderr. Nobody can be told when that fails.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says on stderr why a command failed: one line, or each problem of a configuration in its place.
pub(super) fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Problems>() {
        Some(problems) => tell(&problems.to_string()),
        None => tell(&format!("poolgate: {error:#}")),
    }
}

pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error.is::<Closed>()
}
