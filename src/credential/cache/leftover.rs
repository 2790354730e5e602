//! What a process was writing when it died: a token that is there whole may be the only one that its
//! vendor still takes, so it is kept.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::slot::{BEGUN, ROOM};
use super::{Malformed, TokenCache, Unopened, Unreadable};

/// What stands at the end of a sealed token, in bytes: the tag of Poly1305.
const SEAL: usize = 16;

impl TokenCache {
    /// Finishes or removes what no living process is writing. Done at the start, and worth doing again
    /// before a refresh token is believed to be dead: another process may have died since.
    ///
    /// A file that can be neither finished nor removed stays, and so does one that may hold a token but
    /// cannot be read. It harms nobody, and what is kept can be read where nothing can be written.
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
        match self.verdict(id, file) {
            Verdict::News => {
                file.sync_all()?;
                fs::rename(path, self.path(id)?)?;
                File::open(&self.folder)?.sync_all()
            }
            Verdict::Nothing => fs::remove_file(path),
            Verdict::Unclear => Ok(()),
        }
    }

    fn verdict(&self, id: &str, file: &File) -> Verdict {
        let Ok(found) = self.read(id, file) else {
            return match is_cut_short(file) {
                Ok(true) => Verdict::Nothing,
                _ => Verdict::Unclear,
            };
        };
        match self.load(id) {
            Ok(Some(kept)) if kept.saved_at >= found.saved_at => Verdict::Nothing,
            Ok(_)
            | Err(Unreadable::Sealed(Unopened::Damaged))
            | Err(Unreadable::Content(Malformed::Nonsense)) => Verdict::News,
            // Not ours to replace.
            Err(_) => Verdict::Unclear,
        }
    }
}

/// What a file is that a process was writing when it died.
enum Verdict {
    /// A whole token of its account, later than the one that is kept.
    News,
    /// Room that no whole token has come to, or a token that was followed by another.
    Nothing,
    /// It may hold a token, that cannot be read now: the key may come back, or a newer program.
    Unclear,
}

/// Is it shorter than any token, or does it end with the zeros that keep a token's room, where a whole
/// one has its seal?
fn is_cut_short(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length < ROOM as u64 {
        return Ok(true);
    }
    let mut end = [0; SEAL];
    file.read_exact_at(&mut end, length - SEAL as u64)?;
    Ok(end == [0; SEAL])
}
