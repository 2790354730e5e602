//! Keys that an older poolgate issued: their hashes, in a file of the state folder. They become records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hash::KeyHash;
use super::register::{KeyError, blank};
use crate::clock::SystemTime;
use crate::store::{KeyRecord, Store, StoreError};

/// The file of issued keys: one `name hash` per line.
pub struct Issued {
    path: PathBuf,
}

impl Issued {
    pub fn in_state(dir: &Path) -> Self {
        Issued {
            path: dir.join("issued_keys"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes records of the keys in the file, which then goes away.
    ///
    /// # Errors
    /// The records cannot be written, or the file not be removed: the next try goes on from there.
    pub async fn become_records(&self, store: &Store, now: SystemTime) -> Result<(), KeyError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for line in text.lines() {
            // What cannot be read was no key before, either.
            let Some((name, hash)) = line.split_once(' ') else {
                continue;
            };
            let Some(hash) = KeyHash::from_hex(hash.trim()) else {
                continue;
            };
            let record = blank(now)?;
            let name = name.to_owned();
            let hash = hash.to_hex();
            put(
                store,
                KeyRecord {
                    name,
                    hash,
                    ..record
                },
            )
            .await?;
        }
        fs::remove_file(&self.path)?;
        Ok(())
    }
}

/// Under another name where its own is taken.
async fn put(store: &Store, mut key: KeyRecord) -> Result<(), StoreError> {
    let mut put = store.put_key(&key).await;
    if let Err(StoreError::NameTaken { .. }) = put {
        key.name = format!("{}-{}", key.name, &key.hash[..6]);
        put = store.put_key(&key).await;
    }
    match put {
        // An earlier try came so far.
        Err(StoreError::KeyKnown { .. }) => Ok(()),
        put => put,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn keys_of_an_older_poolgate_become_records_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let hashes = ["one", "two"].map(|key| KeyHash::of(key).to_hex());
        let text = format!("first {}\nfirst {}\nbroken\n", hashes[0], hashes[1]);
        let path = dir.path().join("issued_keys");
        fs::write(&path, &text).unwrap();
        let issued = Issued::in_state(dir.path());
        let now = clock::wall();
        issued.become_records(&store, now).await.unwrap();
        assert!(!path.exists());
        // As if the process had ended before the file was removed.
        fs::write(&path, &text).unwrap();
        issued.become_records(&store, now).await.unwrap();
        let keys = store.keys().await.unwrap();
        let mut known: Vec<_> = keys.iter().map(|key| (&*key.name, &*key.hash)).collect();
        known.sort_by_key(|(name, _)| name.len());
        let second = format!("first-{}", &hashes[1][..6]);
        assert_eq!(known, [("first", &*hashes[0]), (&*second, &*hashes[1])]);
    }
}
