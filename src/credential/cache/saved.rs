//! What is kept of an account's tokens, and how it is written: JSON that states its version.

use std::io;
use std::time::{Duration, SystemTime};

use blake3::Hash;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The tokens of one account. Times are kept to the millisecond.
#[derive(Clone, PartialEq, Eq)]
pub struct Saved {
    pub access: Secret,
    pub refresh: Option<Secret>,
    pub expires_at: Option<SystemTime>,
    /// [`Saved::origin_of`] the configured refresh token that these tokens came of in the end, or
    /// [`Saved::origin_of_asker`]. What is configured now is of another origin: a newer login.
    pub descends_from: Option<[u8; 32]>,
    pub saved_at: SystemTime,
}

/// Why what was unsealed is not what was saved. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("is written in a way that only a newer poolgate knows (version {0})")]
    Newer(u64),
    #[error("is not what poolgate writes")]
    Nonsense,
}

const VERSION: u64 = 1;
const PURPOSE: &str = "poolgate 2026-11 configured refresh token";
const ASKER: &str = "poolgate 2026-11 who asks whom for what";

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    access_token: &'a str,
    refresh_token: Option<&'a str>,
    /// Milliseconds since 1970.
    expires_at: Option<u64>,
    /// Hex digits.
    descends_from: Option<&'a str>,
    saved_at: u64,
}

#[derive(Deserialize)]
struct Read {
    access_token: Secretly,
    refresh_token: Option<Secretly>,
    expires_at: Option<u64>,
    descends_from: Option<String>,
    saved_at: u64,
}

/// Read straight into what is wiped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Secretly(Secret);

impl From<String> for Secretly {
    fn from(text: String) -> Self {
        Secretly(Secret::new(text))
    }
}

impl Saved {
    /// What a configured refresh token is known by: kept in its stead.
    pub fn origin_of(configured: &Secret) -> [u8; 32] {
        blake3::derive_key(PURPOSE, configured.expose().as_bytes())
    }

    /// What a login without a refresh token is known by: who asks whom, and for what.
    pub fn origin_of_asker(parts: &[&str]) -> [u8; 32] {
        let mut digest = blake3::Hasher::new_derive_key(ASKER);
        for part in parts {
            // With its length, so that no two lists of parts read alike.
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize().into()
    }

    /// As JSON, with blanks behind it up to a multiple of `size` bytes.
    pub(super) fn to_bytes(&self, size: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let origin = self
            .descends_from
            .map(|origin| Hash::from_bytes(origin).to_hex());
        let refresh = self.refresh.as_ref().map(Secret::expose);
        let written = Written {
            version: VERSION,
            access_token: self.access.expose(),
            refresh_token: refresh,
            expires_at: self.expires_at.map(millis),
            descends_from: origin.as_ref().map(|hex| hex.as_str()),
            saved_at: millis(self.saved_at),
        };
        // Room for any token, so that the buffer does not grow and leave copies behind.
        let tokens = written.access_token.len() + refresh.map_or(0, str::len);
        let mut bytes = Zeroizing::new(Vec::with_capacity(512 + 6 * tokens + size));
        serde_json::to_writer(&mut *bytes, &written)?;
        let padded = bytes.len().next_multiple_of(size);
        bytes.resize(padded, b' ');
        Ok(bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let nonsense = |_| Malformed::Nonsense;
        let Versioned { version } = serde_json::from_slice(bytes).map_err(nonsense)?;
        if version > VERSION {
            return Err(Malformed::Newer(version));
        }
        let read: Read = serde_json::from_slice(bytes).map_err(nonsense)?;
        let origin = read
            .descends_from
            .as_deref()
            .map(Hash::from_hex)
            .transpose();
        let origin = origin.map_err(|_| Malformed::Nonsense)?;
        Ok(Saved {
            access: read.access_token.0,
            refresh: read.refresh_token.map(|token| token.0),
            expires_at: read.expires_at.map(time).transpose()?,
            descends_from: origin.map(Hash::into),
            saved_at: time(read.saved_at)?,
        })
    }
}

/// Milliseconds since 1970, none before.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn time(millis: u64) -> Result<SystemTime, Malformed> {
    let since = Duration::from_millis(millis);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .ok_or(Malformed::Nonsense)
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        time(millis).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_saved_is_read_again(
            access: String,
            refresh: Option<String>,
            expires_at in option::of(0..4_000_000_000_000u64),
            origin in option::of(any::<[u8; 32]>()),
            saved_at in 0..4_000_000_000_000u64,
        ) {
            let saved = Saved {
                access: Secret::new(access),
                refresh: refresh.map(Secret::new),
                expires_at: expires_at.map(at),
                descends_from: origin,
                saved_at: at(saved_at),
            };
            let bytes = saved.to_bytes(1000).unwrap();
            prop_assert!(bytes.len().is_multiple_of(1000));
            prop_assert!(Saved::parse(&bytes).ok() == Some(saved));
        }

        #[test]
        fn any_text_is_read_without_harm(text: String) {
            prop_assert!(Saved::parse(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_newer_version_is_named_and_nonsense_is_not_quoted() {
        let error = |text: &str| Saved::parse(text.as_bytes()).err().unwrap();
        assert_eq!(
            error(r#"{"version":2,"anything":"else"}"#),
            Malformed::Newer(2)
        );
        for text in [
            "",
            "{}",
            r#"{"version":1,"access_token":"secret-a"}"#,
            r#"{"version":1,"access_token":7,"saved_at":1}"#,
            r#"{"version":1,"access_token":"secret-a","saved_at":18446744073709551616}"#,
            r#"{"version":1,"access_token":"a","saved_at":1,"descends_from":"secret-b"}"#,
        ] {
            assert_eq!(error(text), Malformed::Nonsense, "{text}");
            assert!(!error(text).to_string().contains("secret"));
        }
    }

    #[test]
    fn two_configured_tokens_have_two_origins() {
        let origin = |text| Saved::origin_of(&Secret::new(text));
        assert_eq!(origin("r-1"), origin("r-1"));
        assert_ne!(origin("r-1"), origin("r-2"));
        let asker = Saved::origin_of_asker;
        assert_eq!(asker(&["a", "b"]), asker(&["a", "b"]));
        assert_ne!(asker(&["ab", ""]), asker(&["a", "b"]));
    }
}
