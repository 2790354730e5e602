//! Who holds the lease of an account's renewal: a task of a process, of which the others know whether
//! it lives by its lock on a file in `state.dir`. Numbers of processes would not do: containers and
//! units have numberings of their own, and hide the others'.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::credential::locked::is_held;

const BEGINS: &str = "renews-";
const ENDS: &str = ".lock";
/// A name for the file is looked for so many times.
const TRIES: usize = 8;

/// This process, among those who share a folder.
pub struct Holder {
    folder: PathBuf,
    /// Its name, and the file that is locked as long as it lives. Where there are no locks nobody can
    /// tell, and its leases have to run out.
    own: Option<(String, File)>,
}

impl Holder {
    /// This process in `folder`. What is there of processes that are gone is removed.
    pub fn in_folder(folder: &Path) -> Self {
        for name in names(folder).unwrap_or_default() {
            is_gone(folder, &name);
        }
        let own = begin(folder).inspect_err(|error| {
            tracing::warn!("other processes cannot tell when this one is gone: {error}");
        });
        Holder {
            folder: folder.to_owned(),
            own: own.ok(),
        }
    }

    /// A name that nobody else has: two tasks of this process have two, as when a reload changes an
    /// account whose token is just being renewed.
    pub(super) fn new_name(&self) -> String {
        let process = self.own.as_ref().map_or("", |(name, _)| name);
        format!("{process}/{:016x}", fastrand::u64(..))
    }

    /// Whether the process of this name has surely ended. Of any other the lease must run out.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        let process = name.split_once('/').map(|(process, _)| process);
        let is_name =
            |text: &&str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        process
            .filter(is_name)
            .is_some_and(|process| is_gone(&self.folder, process))
    }
}

fn begin(folder: &Path) -> io::Result<(String, File)> {
    for _ in 0..TRIES {
        let name = format!("{:016x}", fastrand::u64(..));
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(path(folder, &name))?;
        if is_held(&file)? {
            return Ok((name, file));
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

/// Its file goes with it.
fn is_gone(folder: &Path, name: &str) -> bool {
    let path = path(folder, name);
    match File::open(&path) {
        Ok(file) if file.try_lock().is_ok() => {
            // Whoever cannot remove it finds it again.
            let _ = fs::remove_file(&path);
            true
        }
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{BEGINS}{name}{ENDS}"))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names
        .filter_map(|name| Some(name.strip_prefix(BEGINS)?.strip_suffix(ENDS)?.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_to_be_gone_once_its_lock_is() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Holder::in_folder(folder.path());
        let theirs = Holder::in_folder(folder.path());
        let (own, other) = (ours.new_name(), theirs.new_name());
        assert!(!ours.is_gone(&own) && own != ours.new_name());
        assert!(!ours.is_gone(&other) && !theirs.is_gone(&own));
        drop(theirs);
        assert!(ours.is_gone(&other));
        assert!(ours.is_gone(&other), "its file was removed");
        for elsewhere in ["", "a", "//", "/0123456789abcdef", "../../etc/passwd/1"] {
            assert!(!ours.is_gone(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_processes_left_is_removed_by_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        drop(Holder::in_folder(folder.path()));
        let living = Holder::in_folder(folder.path());
        let _next = Holder::in_folder(folder.path());
        assert_eq!(names(folder.path()).unwrap().len(), 2);
        assert!(!living.is_gone(&living.new_name()));
    }
}
