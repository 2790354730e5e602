//! What a gateway could not write before its end: files in `state.dir` that the next start reads, and
//! removes when what was in them is in the records.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gather::Item;
use super::usage::Name;

/// What one process is to write, the first first.
pub(super) struct Left {
    pub(super) writer: Name,
    /// The number of the first item among all of its writer's.
    pub(super) first: i64,
    pub(super) items: VecDeque<Item>,
    /// Where they are too; none: only here.
    pub(super) file: Option<PathBuf>,
}

/// The first line of a file; each other one is an item.
#[derive(Serialize, Deserialize)]
struct Head {
    writer: Name,
    first: i64,
}

impl Left {
    /// Keeps it in a file of this folder. It is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn save(&self, dir: &Path) -> io::Result<PathBuf> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let mut lines = BufWriter::new(file.as_file_mut());
        let head = Head {
            writer: self.writer.clone(),
            first: self.first,
        };
        line(&mut lines, &head)?;
        for item in &self.items {
            line(&mut lines, item)?;
        }
        lines.flush()?;
        drop(lines);
        file.as_file().sync_all()?;
        let path = dir.join(format!("usage-{:x}.spool", self.writer.run));
        file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }

    fn read(path: &Path) -> io::Result<Left> {
        let mut lines = BufReader::new(std::fs::File::open(path)?).lines();
        let head = lines.next().unwrap_or(Ok(String::new()))?;
        let Head { writer, first } = serde_json::from_str(&head)?;
        let items = lines.map(|line| Ok(serde_json::from_str(&line?)?));
        let items: io::Result<_> = items.collect();
        Ok(Left {
            writer,
            first,
            items: items?,
            file: Some(path.to_owned()),
        })
    }

    /// Removes the file of what is in the records. Not before: whoever dies in between has it still, and
    /// what is written twice counts once.
    pub(super) fn forget(&self) {
        let removed = self.file.as_ref().map_or(Ok(()), std::fs::remove_file);
        match removed {
            // Another process of this folder has written it, too.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.file.as_deref().unwrap_or(Path::new(""));
                tracing::warn!("{}: {error}", path.display());
            }
            _ => {}
        }
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// All that processes before this one left in this folder. A file that cannot be understood is said to
/// be there, and set aside for whoever can.
pub(super) fn all(dir: &Path) -> Vec<Left> {
    let Ok(files) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = files.flatten().map(|file| file.path());
    let is_left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("usage-") && name.ends_with(".spool"))
    };
    let read = |path: PathBuf| match Left::read(&path) {
        Ok(left) => Some(left),
        Err(error) => {
            let aside = path.with_extension("unread");
            tracing::error!(
                "usage that a gateway left cannot be read, and is now {}: {error}",
                aside.display()
            );
            if let Err(error) = std::fs::rename(&path, &aside) {
                tracing::error!("{}: {error}", path.display());
            }
            None
        }
    };
    paths.filter(is_left).filter_map(read).collect()
}
