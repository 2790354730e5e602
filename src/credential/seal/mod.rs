//! Encrypts what is kept on disk, under one key that is made at first start.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use nix::unistd::geteuid;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The key of everything that is sealed; wiped when dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; LENGTH]>);

/// Why there is no key. Says nothing of what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: the key cannot be read: {cause}")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path}: the key cannot be made: {cause}")]
    Unwritable { path: PathBuf, cause: io::Error },
    #[error(
        "{path}: others than its owner may read the key (mode {mode:04o}); `chmod 600` keeps it to us"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path}: the key belongs to another user (uid {owner})")]
    NotOurs { path: PathBuf, owner: u32 },
    #[error("{path}: holds no key: 64 hex digits are expected")]
    Malformed { path: PathBuf },
    #[error("state.key: holds no key: 64 hex digits are expected")]
    MalformedText,
}

/// Why something sealed cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    #[error("is sealed in a way that only a newer poolgate knows (version {0})")]
    Newer(u8),
    /// One cannot be told from the other.
    #[error("is damaged, of another account, or sealed under another state.key")]
    Damaged,
}

/// What sealing adds, in bytes: version, nonce and tag.
pub const OVERHEAD: usize = 1 + NONCE + 16;

const LENGTH: usize = 32;
const NONCE: usize = 24;
/// XChaCha20-Poly1305, random nonce, and as associated data the version itself and the name.
const VERSION: u8 = 1;
/// Versions are counted up: what is far from ours is damage.
const NEXT: u8 = VERSION + 1;
const FAR: u8 = VERSION + 8;
/// The name under which a service manager hands over the key.
const CREDENTIAL: &str = "state.key";

impl Key {
    /// The key in the file `path`, made at first start: 64 hex digits and a line break, for us alone
    /// to read. Of two processes that make it at the same time both get the same one. A `state.key`
    /// in `credentials`, the folder of systemd's `LoadCredential=`, goes before it.
    ///
    /// # Errors
    /// The file cannot be read or made, others may read it, or it holds something else.
    pub fn open(path: &Path, credentials: Option<&Path>) -> Result<Self, KeyError> {
        if let Some(handed) = credentials.map(|folder| folder.join(CREDENTIAL))
            && let Some(key) = read(&handed, Guard::Folder)?
        {
            return Ok(key);
        }
        if let Some(key) = read(path, Guard::Mode)? {
            return Ok(key);
        }
        let unwritable = |cause| KeyError::Unwritable {
            path: path.to_owned(),
            cause,
        };
        make(path).map_err(unwritable)?;
        // Read in any case: another process may have been faster.
        read(path, Guard::Mode)?.ok_or_else(|| unwritable(ErrorKind::NotFound.into()))
    }

    /// The key that stands in the configuration itself.
    ///
    /// # Errors
    /// It is something else than 64 hex digits.
    pub fn of_text(text: &Secret) -> Result<Self, KeyError> {
        Key::parse(text.expose()).ok_or(KeyError::MalformedText)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.len() != 2 * LENGTH {
            return None;
        }
        let mut key = Zeroizing::new([0; LENGTH]);
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        Some(Key(key))
    }

    /// Encrypts `plain`. It opens again only under the same `name`, so that nobody can put what was
    /// sealed for one account in the place of another's.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn seal(&self, name: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE];
        fill(&mut nonce)?;
        let sealed = self
            .cipher()
            .encrypt(
                XNonce::from_slice(&nonce),
                Payload {
                    msg: plain,
                    aad: &associated(name),
                },
            )
            .map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        Ok([&[VERSION], &nonce[..], &sealed].concat())
    }

    /// What was sealed under `name`.
    ///
    /// # Errors
    /// A byte of it was changed, or it was sealed under another name or key, or by a newer program.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (version, rest) = sealed.split_first().ok_or(Unopened::Damaged)?;
        match *version {
            VERSION => {}
            NEXT..=FAR => return Err(Unopened::Newer(*version)),
            _ => return Err(Unopened::Damaged),
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(Unopened::Damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: &associated(name),
        };
        let plain = self
            .cipher()
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| Unopened::Damaged)?;
        Ok(Zeroizing::new(plain))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

fn associated(name: &str) -> Vec<u8> {
    [&[VERSION], name.as_bytes()].concat()
}

fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let filled = SystemRandom::new().fill(bytes);
    filled.map_err(|_| io::Error::other("the system gives no randomness"))
}

/// What keeps others from a key's file.
#[derive(PartialEq)]
enum Guard {
    /// Its own mode and owner.
    Mode,
    /// The folder that systemd made; its files may be shared by access lists, which look like a mode.
    Folder,
}

/// `None`: there is no such file.
fn read(path: &Path, guard: Guard) -> Result<Option<Key>, KeyError> {
    let named = || path.to_owned();
    let unreadable = |cause| KeyError::Unreadable {
        path: named(),
        cause,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(unreadable(cause)),
    };
    let about = file.metadata().map_err(unreadable)?;
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    if guard == Guard::Mode && mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: named(),
            mode,
        });
    }
    if guard == Guard::Mode && owner != geteuid().as_raw() && owner != 0 {
        return Err(KeyError::NotOurs {
            path: named(),
            owner,
        });
    }
    // One byte more than a key and its line break, to tell what is too long.
    const ROOM: usize = 2 * LENGTH + 2;
    let mut text = Zeroizing::new(String::with_capacity(ROOM));
    match file.take(ROOM as u64).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {}
        Err(cause) => return Err(unreadable(cause)),
    }
    let key = Key::parse(&text).ok_or_else(|| KeyError::Malformed { path: named() })?;
    Ok(Some(key))
}

/// Makes a key at `path`, unless there is one by then. Whoever sees the file sees all of it: it is
/// complete and on the disk before it gets its name.
fn make(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; LENGTH]);
    fill(&mut *key)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".state.key.")
        .tempfile_in(folder)?;
    let mut text = Zeroizing::new(String::with_capacity(2 * LENGTH + 1));
    for byte in key.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
