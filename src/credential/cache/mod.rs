//! Keeps the tokens that were granted, one sealed file per account: what a vendor rotated is on the
//! disk before it is used.
//!
//! Nothing here deletes an account's file. What a vendor refuses today it may take tomorrow.

mod leftover;
mod older;
mod saved;
mod slot;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;

pub use older::{NotOlder, Older};
pub use saved::{Malformed, Saved};
pub use slot::Slot;

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
/// A file that is longer than any reply, sealed or not, was not written here.
const LONGEST: u64 = 1 << 20;

impl TokenCache {
    /// The cache in `folder`, which is made if it is missing (its parent is not). What a process had
    /// written when it died is kept, what it had half written is removed.
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
        let cache = TokenCache {
            folder: folder.to_owned(),
            key: Arc::new(key),
        };
        cache.take_up().map_err(unusable)?;
        Ok(cache)
    }

    /// What was kept of the account `id`; `None`: nothing yet.
    ///
    /// # Errors
    /// The file is there, but it is damaged, not this account's, or of a newer program.
    pub fn load(&self, id: &str) -> Result<Option<Saved>, Unreadable> {
        match File::open(self.path(id)?) {
            Ok(file) => self.read(id, &file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, id: &str, file: &File) -> Result<Saved, Unreadable> {
        let mut sealed = Vec::new();
        file.take(LONGEST).read_to_end(&mut sealed)?;
        self.unseal(id, &sealed)
    }

    /// What [`TokenCache::seal`] made, here or elsewhere under the same key.
    ///
    /// # Errors
    /// It is damaged, not this account's, or of a newer program.
    pub fn unseal(&self, id: &str, sealed: &[u8]) -> Result<Saved, Unreadable> {
        let plain = self.key.unseal(&sealed_as(id), sealed)?;
        Ok(Saved::parse(&plain)?)
    }

    /// The same bytes as on the disk, for one who keeps them elsewhere.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn seal(&self, id: &str, saved: &Saved) -> io::Result<Vec<u8>> {
        let plain = saved.to_bytes(1)?;
        self.key.seal(&sealed_as(id), &plain)
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
    /// is one write, two syncs and a rename. Whoever is killed after the write has kept it.
    ///
    /// # Errors
    /// A save would not work now.
    pub fn ready(&self, id: &str) -> io::Result<Slot> {
        let slot = self.begin(id)?;
        slot.fill()?;
        Ok(slot)
    }

    fn begin(&self, id: &str) -> io::Result<Slot> {
        Slot::begin(&self.folder, id, self.path(id)?, &self.key)
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

#[cfg(test)]
mod tests;
