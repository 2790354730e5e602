//! How keys look, and the hash under which they are known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::secret::Secret;

/// blake3 of a key, with the purpose mixed in. A key has 256 random bits, so that it needs no salt,
/// and the same key has the same hash on every gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// What is known of keys. Nobody can choose a hash of blake3, so that it is not hashed once more.
pub(super) type ByHash<T> = HashMap<KeyHash, T, BuildHasherDefault<AsItIs>>;

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place());
    }
}

/// Takes the first bytes of a hash for a hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u64(&mut self, place: u64) {
        self.0 = place;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Of keys nothing else is hashed; whatever comes must count all the same.
        self.0 = bytes
            .iter()
            .fold(self.0, |all, byte| all.rotate_left(8) ^ u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const PURPOSE: &str = "poolgate 2026-11 client key";

impl KeyHash {
    pub fn of(key: &str) -> Self {
        KeyHash(blake3::derive_key(PURPOSE, key.as_bytes()))
    }

    /// The key's place on a ring of accounts.
    pub fn place(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }

    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        Some(KeyHash(*blake3::Hash::from_hex(text).ok()?.as_bytes()))
    }
}

/// A new key: the prefix, 64 hex digits of the system's randomness, and 8 of a checksum, by which
/// a scanner of leaked secrets can tell a real key from a look-alike.
///
/// # Errors
/// The system gives no randomness.
pub fn new_key(prefix: &str) -> std::io::Result<Secret> {
    use std::io::Read;
    let mut random = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let body: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let checksum = &blake3::hash(body.as_bytes()).to_hex()[..8];
    Ok(Secret::new(format!("{prefix}{body}{checksum}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_their_hashes_survive_being_written_down() {
        let (a, b) = (new_key("sk-pg-").unwrap(), new_key("sk-pg-").unwrap());
        assert!(
            a.expose() != b.expose() && a.expose().starts_with("sk-pg-") && a.expose().len() == 78
        );
        let hash = KeyHash::of(a.expose());
        assert_eq!(KeyHash::from_hex(&hash.to_hex()), Some(hash));
        assert_ne!(hash, KeyHash::of(b.expose()));
    }
}
