//! What is known of running instances is written down, one file each: a poolgate that comes after
//! this one finds them again, whatever became of this one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command::Words;
use super::process::Identity;

/// A longer file is none of ours.
const LONGEST: u64 = 1 << 20;

/// One instance that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) port: u16,
    pub(super) process: Identity,
    pub(super) command: Words,
}

fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// Writes the record, in one step.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let path = path(folder, &record.id);
    let next = path.with_extension("json.next");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&next);
    file?.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(next, path)
}

/// The instance does not run any more.
pub(super) fn remove(folder: &Path, id: &str) {
    // One that is not there is as good.
    let _ = fs::remove_file(path(folder, id));
}

/// All records of the folder; what cannot be read is said and left out.
pub(super) fn all(folder: &Path) -> Vec<Record> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = files.flatten().map(|file| file.path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .filter_map(|path| match read(&path) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(path = %path.display(), "no record of an instance: {error}");
                None
            }
        })
        .collect()
}

fn read(path: &Path) -> io::Result<Record> {
    if fs::metadata(path)?.len() > LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
