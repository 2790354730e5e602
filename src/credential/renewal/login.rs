//! Where an account's tokens come from: a vendor that grants them, or a file that another program
//! writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::clock::SystemTime;
use crate::config::{self, AwsSsoOidc, Credential, OAuth2, SecretSource};
use crate::credential::cache::Saved;
use crate::credential::exchange::{Exchange, ExchangeError};
use crate::secret::Secret;

/// Google's tokens live for an hour.
const GOOGLE_BEFORE: Duration = Duration::from_secs(300);

/// Such a file is a few kilobytes; a longer one is something else.
const LONGEST_FILE: u64 = 1 << 20;

/// One account's login, as configured.
pub enum Login {
    OAuth2(OAuth2),
    Aws(AwsSsoOidc),
    Google {
        file: PathBuf,
        scope: String,
    },
    /// Written by another program.
    File {
        path: PathBuf,
        token: String,
        expires: Option<String>,
    },
}

/// Why there is nothing to ask with. Texts hold nothing of a secret.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("{0}")]
    Secret(#[from] config::SecretError),
    #[error("{path}: {cause}")]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
}

impl LoginError {
    /// May it be otherwise in a moment? A file that is missing or empty may be just being written,
    /// and of what the system lacks now it may have enough then.
    pub fn may_pass(&self) -> bool {
        use config::SecretError::{Empty, Malformed, Unreadable};
        match self {
            LoginError::Exchange(ExchangeError::ClientSecret(error))
            | LoginError::Secret(error) => match error {
                Unreadable { .. } | Empty { .. } => true,
                Malformed { .. } => false,
            },
            LoginError::Unreadable { .. } => true,
            LoginError::Exchange(_) | LoginError::File { .. } => false,
        }
    }
}

impl Login {
    /// `None`: the credential is one that stays as it is.
    pub fn of(config: &Credential) -> Option<Login> {
        match config {
            Credential::OAuth2(config) => Some(Login::OAuth2(config.clone())),
            Credential::AwsSsoOidc(config) => Some(Login::Aws(config.clone())),
            Credential::GoogleServiceAccount { file, scope } => Some(Login::Google {
                file: file.clone(),
                scope: scope.clone(),
            }),
            Credential::JsonFile {
                path,
                token,
                expires,
            } => Some(Login::File {
                path: path.clone(),
                token: token.clone(),
                expires: expires.clone(),
            }),
            _ => None,
        }
    }

    /// How tokens are asked for; `None`: nobody is asked, a file is read.
    ///
    /// # Errors
    /// A file that is needed cannot be read, or is not what it should be.
    pub fn exchange(&self) -> Result<Option<Exchange>, LoginError> {
        Ok(match self {
            Login::OAuth2(config) => Some(Exchange::oauth2(config)),
            Login::Aws(config) => Some(Exchange::aws(config)),
            Login::Google { file, scope } => Some(Exchange::google(&read(file)?, scope)?),
            Login::File { .. } => None,
        })
    }

    /// The configured refresh token, which a newer one may have taken the place of.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn refresh_token(&self) -> Result<Option<Secret>, LoginError> {
        let source = match self {
            Login::OAuth2(config) => config.refresh_token.as_ref(),
            Login::Aws(config) => Some(&config.refresh_token),
            Login::Google { .. } | Login::File { .. } => None,
        };
        Ok(source.map(config::read_secret).transpose()?)
    }

    /// What its tokens are told by from those of another login under the same name; `None`: they are
    /// not kept.
    ///
    /// # Errors
    /// A file that is needed cannot be read, or is not what it should be.
    pub fn origin(&self) -> Result<Option<[u8; 32]>, LoginError> {
        if let Some(token) = self.refresh_token()? {
            return Ok(Some(Saved::origin_of(&token)));
        }
        let Some(exchange) = self.exchange()? else {
            return Ok(None);
        };
        let parties = exchange.parties()?;
        let parties = parties.each_ref().map(|part| &**part);
        Ok(Some(Saved::origin_of_asker(&parties)))
    }

    /// Does each renewal spend a refresh token, so that the next one must not be lost?
    pub fn rotates(&self) -> bool {
        match self {
            Login::OAuth2(config) => config.refresh_token.is_some(),
            Login::Aws(_) => true,
            Login::Google { .. } | Login::File { .. } => false,
        }
    }

    /// So long before its end a token is renewed.
    pub fn refresh_before(&self) -> Duration {
        match self {
            Login::OAuth2(config) => config.refresh_before,
            Login::Aws(config) => config.refresh_before,
            Login::Google { .. } => GOOGLE_BEFORE,
            Login::File { .. } => Duration::ZERO,
        }
    }

    /// Files whose change may mean another login.
    pub fn files(&self) -> Vec<&Path> {
        let sources = match self {
            Login::OAuth2(config) => [config.client_secret.as_ref(), config.refresh_token.as_ref()],
            Login::Aws(config) => [Some(&config.client_secret), Some(&config.refresh_token)],
            Login::Google { file: path, .. } | Login::File { path, .. } => return vec![path],
        };
        let files = sources.into_iter().flatten().filter_map(SecretSource::file);
        files.collect()
    }

    /// The token that the file holds, and when it expires. `None`: this login is no file.
    ///
    /// # Errors
    /// The file cannot be read, or the token is not where it should be.
    pub fn written(&self) -> Option<Result<(Secret, Option<SystemTime>), LoginError>> {
        let Login::File {
            path,
            token,
            expires,
        } = self
        else {
            return None;
        };
        let problem = |problem: &str| LoginError::File {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let look = || {
            let json: Value =
                serde_json::from_slice(&read(path)?).map_err(|_| problem("is no JSON"))?;
            let text = json.pointer(token).and_then(Value::as_str);
            let text = text.filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| problem(&format!("has no text at {token}")))?;
            let expires = expires.as_deref().and_then(|at| json.pointer(at));
            let expires = expires.map(|value| {
                time(value).ok_or_else(|| problem("states its expiry in no way that is known"))
            });
            Ok((Secret::new(text), expires.transpose()?))
        };
        Some(look())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoginError> {
    let problem = |problem: &str| LoginError::File {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let unreadable = |cause| LoginError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        // To open a pipe would be to wait for whoever writes to it.
        return Err(problem("is no file"));
    }
    if about.len() > LONGEST_FILE {
        return Err(problem("is too long to be a credential"));
    }
    fs::read(path).map_err(unreadable)
}

/// Seconds or milliseconds since 1970, or RFC 3339. A number of seconds beyond the year 5000 is one
/// of milliseconds.
pub(in crate::credential) fn time(value: &Value) -> Option<SystemTime> {
    const FARTHEST: f64 = 95_617_584_000.0;
    let number = value
        .as_f64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    if let Some(number) = number {
        let seconds = match number > FARTHEST {
            true => number / 1000.0,
            false => number,
        };
        let since = Duration::try_from_secs_f64(seconds).ok()?;
        return SystemTime::UNIX_EPOCH.checked_add(since);
    }
    let at: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(at.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_understood_however_it_is_written() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        for text in [
            "1795262400",
            "1795262400000",
            "\"1795262400\"",
            "\"2026-11-21T12:00:00Z\"",
            "\"2026-11-21T14:00:00+02:00\"",
        ] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(time(&value), Some(expected), "{text}");
        }
        for text in ["\"soon\"", "null", "-5", "{}"] {
            assert_eq!(time(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}
