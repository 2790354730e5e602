//! Reads what the older pool kept of an account: plain JSON, in a file of its own.
//!
//! That pool kept a rotated refresh token and forgot it at the next start, so the file may hold the
//! only one that its vendor still takes.

use std::io;

use serde_json::Value;

use super::{Saved, TokenCache};
use crate::clock::SystemTime;
use crate::credential::written_time;
use crate::secret::Secret;

/// What one of its files holds.
pub struct Older {
    access: Secret,
    refresh: Secret,
    /// `None`: it is not known. The older pool wrote the time of its own place, and not which that was.
    expires_at: Option<SystemTime>,
}

/// The file is not one of the older pool's. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("holds no `access_token` and `refresh_token` as the older pool wrote them")]
pub struct NotOlder;

impl Older {
    /// # Errors
    /// It is no such file.
    pub fn read(text: &[u8]) -> Result<Self, NotOlder> {
        let json: Value = serde_json::from_slice(text).map_err(|_| NotOlder)?;
        let token = |name: &str| {
            let text = json.get(name).and_then(Value::as_str).unwrap_or_default();
            let is_token = !text.is_empty() && !text.contains(char::is_control);
            is_token.then(|| Secret::new(text)).ok_or(NotOlder)
        };
        Ok(Older {
            access: token("access_token")?,
            refresh: token("refresh_token")?,
            expires_at: json.get("expires_at").and_then(written_time),
        })
    }
}

impl TokenCache {
    /// Keeps what the older pool kept of the account `id`, in the place of the refresh token that is
    /// `configured`. One whose end is not known is used until its vendor refuses it: that it is not
    /// known is no reason to renew it. False: something is kept of this account, and stays.
    ///
    /// # Errors
    /// It cannot be saved.
    pub fn adopt(
        &self,
        id: &str,
        older: Older,
        configured: &Secret,
        now: SystemTime,
    ) -> io::Result<bool> {
        // What cannot be read is something, too.
        if !matches!(self.load(id), Ok(None)) {
            return Ok(false);
        }
        let saved = Saved {
            access: older.access,
            refresh: Some(older.refresh),
            expires_at: older.expires_at,
            descends_from: Some(Saved::origin_of(configured)),
            saved_at: now,
        };
        self.save(id, &saved).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::credential::seal::Key;

    fn read(text: &str) -> Result<Older, NotOlder> {
        Older::read(text.as_bytes())
    }

    const FILE: &str = r#"{"access_token": "at-1", "refresh_token": "rt-2", "expires_at": "2026-11-21T12:00:00+00:00"}"#;

    #[test]
    fn the_older_pools_file_is_read_and_an_unknown_end_is_none() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        assert_eq!(read(FILE).ok().unwrap().expires_at, Some(noon));
        for local in ["\"2026-11-21T12:00:00.123456\"", "null", "\"soon\"", "{}"] {
            let text =
                format!(r#"{{"access_token":"a","refresh_token":"r","expires_at":{local}}}"#);
            assert_eq!(read(&text).ok().unwrap().expires_at, None, "{local}");
        }
        assert_eq!(
            read(r#"{"access_token":"a","refresh_token":"r"}"#)
                .ok()
                .unwrap()
                .expires_at,
            None
        );
    }

    #[test]
    fn anything_else_is_refused_and_not_quoted() {
        for text in [
            "",
            "[]",
            "hunter2",
            r#"{"access_token":"hunter2"}"#,
            r#"{"access_token":"hunter2","refresh_token":""}"#,
            r#"{"access_token":"hunter2","refresh_token":7}"#,
            r#"{"access_token":"hunter2\n","refresh_token":"r"}"#,
        ] {
            let error = read(text).err().unwrap();
            assert!(!error.to_string().contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn it_is_kept_unless_something_is_kept_already() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::of_text(&Secret::new("ab".repeat(32))).unwrap();
        let cache = TokenCache::open(&folder.path().join("tokens"), key).unwrap();
        let (configured, now) = (Secret::new("rt-1"), clock::wall());
        let adopt = || cache.adopt("a", read(FILE).ok().unwrap(), &configured, now);
        assert!(adopt().unwrap());
        let kept = cache.load("a").unwrap().unwrap();
        assert!(kept.refresh == Some(Secret::new("rt-2")));
        assert!(kept.descends_from == Some(Saved::origin_of(&configured)));
        assert!(!adopt().unwrap());
        std::fs::write(folder.path().join("tokens/a.token"), "damaged").unwrap();
        assert!(!adopt().unwrap(), "nothing is deleted");
    }
}
