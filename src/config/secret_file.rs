//! Reads secrets and keys that are kept in files of their own.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::form::is_header_value;
use super::model::SecretSource;
use crate::secret::Secret;

/// Why a secret cannot be had. Never says what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{path}: cannot be read: {cause}")]
    Unreadable {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("{path}: is empty where a secret is expected")]
    Empty { path: PathBuf },
    #[error(
        "{path}: holds no usable secret: its first line must be text without control characters"
    )]
    Malformed { path: PathBuf },
}

/// A file of secrets is read up to this size, so that a wrong path cannot fill the memory.
const LARGEST: u64 = 16 << 20;

/// The secret itself: the text of the configuration, or the first line of the file as it is now.
///
/// # Errors
/// A file that cannot be read, is empty, or holds what cannot be sent.
pub fn read_secret(source: &SecretSource) -> Result<Secret, SecretError> {
    let path = match source {
        SecretSource::Value(secret) => return Ok(secret.clone()),
        SecretSource::File(path) => path,
    };
    let text = read(path).map_err(|cause| SecretError::Unreadable {
        path: path.clone(),
        cause,
    })?;
    let line = text.lines().next().unwrap_or_default().trim();
    match line {
        "" => Err(SecretError::Empty { path: path.clone() }),
        line if is_header_value(line) => Ok(Secret::new(line)),
        _ => Err(SecretError::Malformed { path: path.clone() }),
    }
}

/// The keys of a `clients.keys_file`: one per line, `#` comments. A file that is missing has none.
///
/// # Errors
/// A file that exists and cannot be read.
pub fn read_keys_file(path: &Path) -> Result<Vec<Secret>, SecretError> {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => {
            return Err(SecretError::Unreadable {
                path: path.to_owned(),
                cause,
            });
        }
    };
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Secret::new)
        .collect())
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?
        .take(LARGEST)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{SecretError, read_keys_file, read_secret};
    use crate::config::SecretSource;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let kept = file("sk-one\r\nsecond\n");
        let secret = read_secret(&SecretSource::File(kept.path().into()))
            .ok()
            .unwrap();
        assert_eq!(secret.expose(), "sk-one");
    }

    #[test]
    fn a_missing_or_empty_secret_file_is_an_error_that_names_it() {
        let kept = file("\n");
        let empty = read_secret(&SecretSource::File(kept.path().into()))
            .err()
            .unwrap();
        assert!(matches!(empty, SecretError::Empty { .. }));
        assert!(empty.to_string().contains(kept.path().to_str().unwrap()));
        let missing = read_secret(&SecretSource::File("/nowhere/x".into()))
            .err()
            .unwrap();
        assert!(
            missing
                .to_string()
                .starts_with("/nowhere/x: cannot be read")
        );
    }

    #[test]
    fn a_keys_file_holds_one_key_a_line_and_may_be_missing() {
        let kept = file("# mine\nsk-1\n\n  sk-2  \n");
        let keys = read_keys_file(kept.path()).unwrap();
        assert_eq!(
            keys.iter().map(|key| key.expose()).collect::<Vec<_>>(),
            ["sk-1", "sk-2"]
        );
        assert!(
            read_keys_file("/nowhere/keys.txt".as_ref())
                .unwrap()
                .is_empty()
        );
    }
}
