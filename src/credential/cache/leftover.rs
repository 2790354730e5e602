//! What a process was writing when it died: a token that is there whole may be the only one that its
//! vendor still takes, so it is kept.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::slot::BEGUN;
use super::{Malformed, TokenCache, Unopened, Unreadable};

impl TokenCache {
    /// Finishes or removes what no living process is writing. Done at the start, and worth doing again
    /// before a refresh token is believed to be dead: another process may have died since.
    ///
    /// A file that can be neither finished nor removed stays. It harms nobody, and what is kept can be
    /// read where nothing can be written.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn take_up(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let begun = name.to_str().and_then(|name| name.strip_suffix(BEGUN));
            // Before the ending stand the id and, behind a dot, what made the name a new one.
            let Some((id, _)) = begun.and_then(|name| name.rsplit_once('.')) else {
                continue;
            };
            // It may be gone by now, or under its final name.
            if entry.file_type()?.is_file()
                && let Ok(file) = File::open(entry.path())
                && file.try_lock().is_ok()
            {
                drop(self.finish(id, &file, &entry.path()));
            }
        }
        Ok(())
    }

    fn finish(&self, id: &str, file: &File, path: &Path) -> io::Result<()> {
        if !self.is_news(id, file) {
            return fs::remove_file(path);
        }
        file.sync_all()?;
        fs::rename(path, self.path(id)?)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Is it a whole token of this account, and later than the one that is kept?
    fn is_news(&self, id: &str, file: &File) -> bool {
        let Ok(found) = self.read(id, file) else {
            return false;
        };
        match self.load(id) {
            Ok(kept) => kept.is_none_or(|kept| kept.saved_at < found.saved_at),
            Err(Unreadable::Sealed(Unopened::Damaged))
            | Err(Unreadable::Content(Malformed::Nonsense)) => true,
            // Not ours to replace.
            Err(_) => false,
        }
    }
}
