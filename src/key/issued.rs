//! Keys that poolgate issued itself: their hashes, in a file of the state folder.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::hash::{KeyHash, new_key};
use crate::secret::Secret;

/// The file of issued keys: one `name hash` per line.
pub struct Issued {
    path: PathBuf,
}

impl Issued {
    pub fn in_state(dir: &Path) -> Self {
        Issued { path: dir.join("issued_keys") }
    }

    /// Name and hash of each issued key; unreadable lines are none.
    pub fn keys(&self) -> Vec<(String, KeyHash)> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (name, hash) = line.split_once(' ')?;
                Some((name.to_owned(), KeyHash::from_hex(hash.trim())?))
            })
            .collect()
    }

    /// Makes a key and keeps its hash. The key itself is known only to the caller.
    ///
    /// # Errors
    /// The state folder cannot be written; then there is no key.
    pub fn issue(&self, name: &str, prefix: &str) -> io::Result<Secret> {
        let key = new_key(prefix)?;
        if let Some(dir) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        writeln!(file, "{name} {}", KeyHash::of(key.expose()).to_hex())?;
        file.sync_all()?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issued_key_is_known_by_its_hash_alone() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Issued::in_state(&dir.path().join("state"));
        let key = issued.issue("first", "sk-pg-").unwrap();
        assert_eq!(issued.keys(), [("first".to_owned(), KeyHash::of(key.expose()))]);
        let kept = fs::read_to_string(&issued.path).unwrap();
        assert!(!kept.contains(key.expose()));
    }
}
