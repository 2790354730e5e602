//! Files that show that a process lives: it holds a lock on them, which ends with it however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Locks a new file. It is not ours any more if another process came between, which took it for left
/// over: then that one has the lock, or the file has no name.
pub(super) fn is_held(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::NamedTempFile;

    use super::*;

    #[test]
    fn a_new_file_that_another_start_took_up_is_not_ours() {
        let file = NamedTempFile::new().unwrap();
        let theirs = File::open(file.path()).unwrap();
        assert!(is_held(&theirs).unwrap());
        assert!(!is_held(file.as_file()).unwrap(), "they have the lock");
        drop(theirs);
        assert!(is_held(file.as_file()).unwrap());
        std::fs::remove_file(file.path()).unwrap();
        assert!(!is_held(file.as_file()).unwrap(), "it has no name");
    }
}
