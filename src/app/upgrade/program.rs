//! Where this program was started from: what is there at the time of an upgrade is the next version.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::process_env;

/// The name it was called by, as long as that is this program: behind a link that is switched from one
/// release to the next, the name stays and the file does not. `None`: nobody can tell.
pub(in crate::app) fn of_this_process() -> Option<PathBuf> {
    let file = std::env::current_exe().ok()?;
    let name = std::env::args_os().next().map(PathBuf::from);
    let named = name.and_then(|name| found(&name));
    Some(named.filter(|named| is_same(named, &file)).unwrap_or(file))
}

/// As a shell finds it.
fn found(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let path = process_env("PATH")?;
    let folders = std::env::split_paths(&path);
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
