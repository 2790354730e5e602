//! One token's way to the disk: its place is taken before the token is there.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::super::locked::is_held;
use super::super::seal::{Key, OVERHEAD};
use super::{Saved, sealed_as};

/// What a file ends with that is still being written.
pub(super) const BEGUN: &str = ".new";
/// Written ahead of a token, in bytes: more than most need. A file is this long or a multiple of it,
/// so that nothing but bytes changes when a token comes.
pub(super) const ROOM: usize = 8 * 1024;
/// A name under which to write is looked for so many times.
const TRIES: usize = 8;

/// A place on the disk that waits for one token. Dropped without [`Slot::write`] it is given back.
pub struct Slot {
    path: PathBuf,
    pub(super) name: String,
    pub(super) file: NamedTempFile,
    /// Open already, so that a shortage of descriptors cannot come between.
    folder: File,
    pub(super) key: Arc<Key>,
}

impl Slot {
    /// A file beside `path`, still empty.
    pub(super) fn begin(
        folder: &Path,
        id: &str,
        path: PathBuf,
        key: &Arc<Key>,
    ) -> io::Result<Self> {
        Ok(Slot {
            path,
            name: sealed_as(id),
            file: begun(folder, id)?,
            folder: File::open(folder)?,
            key: Arc::clone(key),
        })
    }

    /// Takes the room that a token needs.
    pub(super) fn fill(&self) -> io::Result<()> {
        // At no stated place, so that a test can tell this call of the system from that of a token.
        self.file.as_file().write_all(&[0; ROOM])?;
        self.file.as_file().sync_all()?;
        self.folder.sync_all()
    }

    /// Keeps `saved`, as [`TokenCache::save`] does.
    ///
    /// # Errors
    /// It is not certain to be durable. Another save may be tried; this file must not be: a second
    /// sync of it would hide what the first one lost.
    pub fn write(self, saved: &Saved) -> io::Result<()> {
        let plain = saved.to_bytes(ROOM - OVERHEAD)?;
        let sealed = self.key.seal(&self.name, &plain)?;
        self.file.as_file().write_all_at(&sealed, 0)?;
        // Where there is room already, the file system's journal is not waited for.
        self.file.as_file().sync_data()?;
        self.file.persist(&self.path)?;
        self.folder.sync_all()
    }
}

/// A new file (mode 0600), locked for as long as it is open: what is locked is not taken up.
fn begun(folder: &Path, id: &str) -> io::Result<NamedTempFile> {
    for _ in 0..TRIES {
        let file = tempfile::Builder::new()
            .prefix(&format!("{id}."))
            .suffix(BEGUN)
            .tempfile_in(folder)?;
        // Where there are no locks nothing is taken up at all.
        if is_held(file.as_file()).unwrap_or(true) {
            return Ok(file);
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}
