//! The keys as this gateway last read them from a server: while it is away, also over a restart, they
//! are let in. Only their hashes are in it, as in the records.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::KeyRecord;

/// The file in `state.dir`, readable by its owner only.
const FILE: &str = "keys.copy";

pub(super) struct Copy {
    path: PathBuf,
}

impl Copy {
    pub(super) fn in_dir(dir: &Path) -> Self {
        let path = dir.join(FILE);
        Copy { path }
    }

    /// Keeps these keys in place of those before.
    pub(super) async fn keep(&self, keys: &[KeyRecord]) {
        let (path, keys) = (self.path.clone(), keys.to_vec());
        let kept = tokio::task::spawn_blocking(move || write(&path, &keys)).await;
        let kept = kept.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = kept {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }

    /// Those that were kept last; none when there are none, or one of them cannot be understood.
    pub(super) fn keys(&self) -> Vec<KeyRecord> {
        let keys = read(&self.path);
        keys.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(
                    "the keys as they were last, {}, cannot be read: {error}",
                    self.path.display()
                );
            }
            Vec::new()
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<KeyRecord>> {
    let text = std::fs::read_to_string(path)?;
    let keys = text.lines().map(serde_json::from_str);
    // What the reader says of a line may quote it.
    let keys: Result<_, _> = keys.collect();
    keys.map_err(|_| io::Error::other("a line of it is no key"))
}

fn write(path: &Path, keys: &[KeyRecord]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut lines = BufWriter::new(file.as_file_mut());
    for key in keys {
        serde_json::to_writer(&mut lines, key)?;
        lines.write_all(b"\n")?;
    }
    lines.flush()?;
    drop(lines);
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
