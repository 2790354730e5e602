//! Keeps the tokens that were granted, one sealed file per account: what a vendor rotated is on the
//! disk before it is used.
//!
//! Nothing here deletes an account's file. What a vendor refuses today it may take tomorrow.

mod saved;

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;
use tempfile::NamedTempFile;

pub use saved::{Malformed, Saved};

use super::seal::{Key, Unopened};

/// The folder of the tokens.
pub struct TokenCache {
    folder: PathBuf,
    key: Arc<Key>,
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{folder}: tokens cannot be kept here: {cause}")]
    Unusable { folder: PathBuf, cause: io::Error },
    #[error("{folder}: tokens cannot be kept here: it is {what}")]
    NotOurs { folder: PathBuf, what: &'static str },
}

/// Why what was kept of one account cannot be had. The others are not concerned.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the kept token cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("the kept token {0}")]
    Sealed(#[from] Unopened),
    #[error("the kept token {0}")]
    Content(#[from] Malformed),
}

/// What a file of an account ends with.
const KEPT: &str = ".token";
/// What a file ends with that is still being written.
const BEGUN: &str = ".new";
/// Written ahead of a token, in bytes: more than most need.
const ROOM: usize = 16 * 1024;
/// A file that is longer than any reply, sealed or not, was not written here.
const LONGEST: u64 = 1 << 20;
/// A name under which to write is looked for so many times.
const TRIES: usize = 8;

impl TokenCache {
    /// The cache in `folder`, which is made if it is missing (its parent is not). What a crash left
    /// half written is removed, but not what another process is writing right now.
    ///
    /// # Errors
    /// The folder is a link, no folder, another user's, or cannot be used.
    pub fn open(folder: &Path, key: Key) -> Result<Self, CacheError> {
        let unusable = |cause| CacheError::Unusable {
            folder: folder.to_owned(),
            cause,
        };
        let not_ours = |what| CacheError::NotOurs {
            folder: folder.to_owned(),
            what,
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        let about = fs::symlink_metadata(folder).map_err(unusable)?;
        if about.is_symlink() {
            return Err(not_ours("a symbolic link"));
        }
        if !about.is_dir() {
            return Err(not_ours("not a folder"));
        }
        if about.uid() != geteuid().as_raw() {
            return Err(not_ours("another user's"));
        }
        // A restored backup or a mounted volume may have opened it to a group.
        if about.mode() & 0o077 != 0 {
            fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(unusable)?;
        }
        sweep(folder).map_err(unusable)?;
        Ok(TokenCache {
            folder: folder.to_owned(),
            key: Arc::new(key),
        })
    }

    /// What was kept of the account `id`; `None`: nothing yet.
    ///
    /// # Errors
    /// The file is there, but it is damaged, not this account's, or of a newer program.
    pub fn load(&self, id: &str) -> Result<Option<Saved>, Unreadable> {
        let file = match File::open(self.path(id)?) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut sealed = Vec::new();
        file.take(LONGEST).read_to_end(&mut sealed)?;
        let plain = self.key.unseal(&sealed_as(id), &sealed)?;
        Ok(Some(Saved::parse(&plain)?))
    }

    /// Keeps `saved`: when this returns it survives a loss of power; until then what was kept before
    /// does.
    ///
    /// # Errors
    /// It could not be made durable; what was kept before is kept still.
    pub fn save(&self, id: &str, saved: &Saved) -> io::Result<()> {
        self.begin(id)?.write(saved)
    }

    /// Makes sure that a save will work, before a refresh token is spent: a file is made, and as
    /// many bytes as a token needs are written to it and synced. So a full disk, or a folder that
    /// cannot be written to, is found now, and from the vendor's reply to its being durable there
    /// is one write, two syncs and a rename.
    ///
    /// # Errors
    /// A save would not work now.
    pub fn ready(&self, id: &str) -> io::Result<Slot> {
        let mut slot = self.begin(id)?;
        slot.file.write_all(&vec![0; ROOM])?;
        slot.file.as_file().sync_all()?;
        slot.folder.sync_all()?;
        Ok(slot)
    }

    fn begin(&self, id: &str) -> io::Result<Slot> {
        Ok(Slot {
            path: self.path(id)?,
            name: sealed_as(id),
            file: begun(&self.folder, id)?,
            folder: File::open(&self.folder)?,
            key: Arc::clone(&self.key),
        })
    }

    /// Ids have only characters that may stand in a name (`config` sees to it), and with its ending
    /// none of them is `.`, `..` or a file that is still being written.
    fn path(&self, id: &str) -> io::Result<PathBuf> {
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(is_safe) {
            let why = "this id cannot be the name of a file";
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(self.folder.join(format!("{id}{KEPT}")))
    }
}

/// The name under which an account's token is sealed: no other thing under this key has it.
fn sealed_as(id: &str) -> String {
    format!("tokens/{id}")
}

/// A place on the disk that waits for one token. Dropped without [`Slot::write`] it is given back.
pub struct Slot {
    path: PathBuf,
    name: String,
    file: NamedTempFile,
    /// Open already, so that a shortage of descriptors cannot come between.
    folder: File,
    key: Arc<Key>,
}

impl Slot {
    /// Keeps `saved`, as [`TokenCache::save`] does.
    ///
    /// # Errors
    /// It is not certain to be durable. Another save may be tried; this file must not be: a second
    /// sync of it would hide what the first one lost.
    pub fn write(mut self, saved: &Saved) -> io::Result<()> {
        let sealed = self.key.seal(&self.name, &saved.to_bytes()?)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&sealed)?;
        self.file.as_file().set_len(sealed.len() as u64)?;
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        self.folder.sync_all()
    }
}

/// A new file (mode 0600), locked for as long as it is open: what is locked is not swept.
fn begun(folder: &Path, id: &str) -> io::Result<NamedTempFile> {
    for _ in 0..TRIES {
        let file = tempfile::Builder::new()
            .prefix(&format!("{id}."))
            .suffix(BEGUN)
            .tempfile_in(folder)?;
        // A sweep may have come between: then it has the lock, or the file has no name any more.
        match file.as_file().try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            // Where there are no locks a sweep leaves everything alone.
            Err(TryLockError::Error(_)) => return Ok(file),
            Ok(()) if file.as_file().metadata()?.nlink() > 0 => return Ok(file),
            Ok(()) => {}
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

/// Removes what no living process is writing.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_begun = entry.file_name().to_string_lossy().ends_with(BEGUN);
        if !is_begun || !entry.file_type()?.is_file() {
            continue;
        }
        // It may be gone by now, or under its final name.
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        if file.try_lock().is_ok() {
            // One that stays harms nobody: what is kept can be read where nothing can be written.
            drop(fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
