//! How keys look, and the hash under which they are known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash};

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt};

use crate::secret::Secret;

/// blake3 of a key, with the purpose mixed in. A key has 256 random bits, so that it needs no salt,
/// and the same key has the same hash on every gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// What is known of keys. Nobody can choose a hash of blake3, so that it is not hashed once more.
pub(super) type ByHash<T> = HashMap<KeyHash, T, BuildHasherDefault<AsItIs>>;

impl Hash for KeyHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.place());
    }
}

/// Takes the first bytes of a hash for a hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl std::hash::Hasher for AsItIs {
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

/// What `poolgate 2026-11 client key` becomes as the context of blake3's `derive_key`: to hash it anew for
/// each request would cost as much as the key.
const PURPOSE: ContextKey = [
    0xb4, 0x30, 0xcb, 0x29, 0x7f, 0xa0, 0x13, 0x74, 0xda, 0xdd, 0xe4, 0xb3, 0xdb, 0x2c, 0xb3, 0x53,
    0x74, 0x6f, 0x1b, 0x63, 0x66, 0x66, 0x70, 0x67, 0xb0, 0xbe, 0x97, 0x9d, 0x36, 0xd0, 0xa7, 0x9c,
];

impl KeyHash {
    pub fn of(key: &str) -> Self {
        let mut hasher = Hasher::new_from_context_key(&PURPOSE);
        KeyHash(*hasher.update(key.as_bytes()).finalize().as_bytes())
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
    fn a_key_is_known_by_what_blake3_derives_from_it_for_this_purpose() {
        let hash = blake3::derive_key("poolgate 2026-11 client key", b"sk-1");
        assert_eq!(KeyHash::of("sk-1"), KeyHash(hash));
    }

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
