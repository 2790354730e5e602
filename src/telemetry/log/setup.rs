//! Sets the log up once for the whole process, and holds it open.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tracing_log::LogTracer;
use tracing_subscriber::layer::SubscriberExt;

use super::events::Lines;
use super::rotate::RotatingFile;
use super::sink::{Access, Sink};
use crate::config::{self, Level};

/// How long the last lines may take at the end of the program.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("log file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("log thread: {0}")]
    Thread(io::Error),
    #[error("the log was already set up")]
    Twice,
}

/// Sets up the log of the whole process, once. Keep the guard until the end: dropping it writes
/// what is still waiting.
pub fn init(log: &config::Log) -> Result<Guard, InitError> {
    let out: Box<dyn io::Write + Send> = match &log.file {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = RotatingFile::open(path, log.rotate);
            Box::new(file.map_err(|source| InitError::File {
                path: path.clone(),
                source,
            })?)
        }
    };
    let sink = Sink::start(out, log.format).map_err(InitError::Thread)?;
    let lines = Lines::new(sink, log.format, log.level);
    let guard = Guard {
        lines: lines.clone(),
        access: log.access,
    };
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines))
        .map_err(|_| InitError::Twice)?;
    LogTracer::builder()
        .with_max_level(::log::LevelFilter::Warn)
        .init()
        .map_err(|_| InitError::Twice)?;
    Ok(guard)
}

/// Holds the log open.
pub struct Guard {
    lines: Lines,
    access: bool,
}

impl Guard {
    /// Where access lines go: to the same place as the log, or nowhere with `log.access: false`.
    pub fn access(&self) -> Access {
        if self.access {
            self.lines.access()
        } else {
            Access::off()
        }
    }

    /// Changes the level from now on, as a reload does.
    pub fn set_level(&self, level: Level) {
        self.lines.set_level(level);
    }

    /// Waits until every line handed over before is written, but no longer than two seconds.
    pub fn flush(&self) {
        self.lines.sink().flush(LAST_WORDS);
    }

    /// Lines dropped since the start because the queue was full or a write failed.
    pub fn lines_lost(&self) -> u64 {
        self.lines.sink().lost()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush();
    }
}
