//! What proves us to an upstream: the token of an account and the place in a request where it goes.
//!
//! Header values are made when the token changes, not for each request, and are marked sensitive,
//! so that a `Debug` of a request does not show them.

pub mod cache;
mod echo;
pub mod exchange;
mod locked;
pub mod renewal;
pub mod seal;

use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

pub use echo::Secrets;
pub use renewal::refresher::{Refresher, Renewed};
pub use renewal::{Endpoints, Holder, Keeper, Kept, NoToken, Others, Phase, State, Underway};

use crate::clock::{self, Instant};
use crate::config::{self, SecretSource};
use crate::dialect::Dialect;
use crate::secret::Secret;
use renewal::Renewal;
use renewal::login::{Login, time as written_time};

/// The credential of one account.
pub struct Credential {
    place: Place,
    source: Option<SecretSource>,
    /// Of a token that does not stay as it is configured.
    renewal: Option<Renewal>,
    token: ArcSwapOption<Token>,
    /// Further headers of the account, as written and as sent.
    extra: Vec<(HeaderName, SecretSource)>,
    headers: ArcSwap<Vec<(HeaderName, HeaderValue)>>,
}

#[derive(PartialEq, Eq)]
enum Place {
    None,
    /// The header in which vendors of the request's dialect expect a key.
    Dialect,
    Bearer,
    Header(HeaderName),
    Query(String),
}

/// The current value, ready to be put on a request.
struct Token {
    plain: HeaderValue,
    bearer: HeaderValue,
    text: Secret,
}

/// Where the token goes and what is written there.
pub enum Injection {
    None,
    Header(HeaderName, HeaderValue),
    /// Name and value, neither of them encoded yet.
    Query(String, Secret),
}

/// Why a credential has no usable token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Source(String),
    #[error("the secret has characters that cannot stand in a header")]
    Unprintable,
}

/// What is escaped in a part of a path or a query: all but the unreserved characters (RFC 3986
/// §2.3), as names of models have dots and dashes.
pub const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

impl Credential {
    /// Reads the secret; an account whose secret cannot be read exists, but needs a login.
    pub fn new(config: &config::Credential, headers: &[(String, SecretSource)]) -> Self {
        let (place, source) = match config {
            config::Credential::ApiKey(source) => (Place::Dialect, Some(source)),
            config::Credential::Bearer(source) => (Place::Bearer, Some(source)),
            config::Credential::Header { name, value } => match name.parse() {
                Ok(name) => (Place::Header(name), Some(value)),
                Err(_) => (Place::None, None),
            },
            config::Credential::Query { name, value } => (Place::Query(name.clone()), Some(value)),
            config::Credential::None => (Place::None, None),
            config::Credential::OAuth2(_)
            | config::Credential::AwsSsoOidc(_)
            | config::Credential::GoogleServiceAccount { .. }
            | config::Credential::JsonFile { .. } => (Place::Bearer, None),
        };
        let extra = headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.clone())));
        Credential {
            place,
            source: source.cloned(),
            renewal: Login::of(config).map(Renewal::new),
            token: ArcSwapOption::empty(),
            extra: extra.collect(),
            headers: ArcSwap::default(),
        }
    }

    /// Another gateway has renewed the token.
    pub fn renewed_elsewhere(&self) {
        if let Some(renewal) = &self.renewal {
            renewal.hear();
        }
    }

    /// Reads the secrets anew. Returns whether the token is another one than before.
    ///
    /// # Errors
    /// A secret's file cannot be read or holds nothing usable; what was read before stays.
    pub fn reload(&self) -> Result<bool, Error> {
        if let Some(renewal) = &self.renewal {
            renewal.look_again();
        }
        let changed = self.reload_token();
        self.reload_headers()?;
        changed
    }

    fn reload_token(&self) -> Result<bool, Error> {
        let Some(source) = &self.source else {
            return Ok(false);
        };
        let token = Token::new(read(source)?)?;
        let changed = self
            .token
            .load()
            .as_ref()
            .is_none_or(|old| old.text != token.text);
        self.token.store(Some(Arc::new(token)));
        Ok(changed)
    }

    fn reload_headers(&self) -> Result<(), Error> {
        let header = |(name, source): &(HeaderName, SecretSource)| {
            Ok::<_, Error>((name.clone(), Token::new(read(source)?)?.plain))
        };
        let headers = self
            .extra
            .iter()
            .map(header)
            .collect::<Result<Vec<_>, _>>()?;
        self.headers.store(Arc::new(headers));
        Ok(())
    }

    /// The files that hold the secrets.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let sources = self
            .source
            .iter()
            .chain(self.extra.iter().map(|(_, source)| source));
        let login = self
            .renewal
            .iter()
            .flat_map(|renewal| renewal.login.files());
        sources.filter_map(SecretSource::file).chain(login)
    }

    /// Is there something to put on a request, or nothing to be put?
    pub fn is_usable(&self) -> bool {
        self.source.is_none() || self.token.load().is_some()
    }

    /// Another token is used from now on.
    fn put(&self, text: Secret) -> Result<(), Error> {
        self.token.store(Some(Arc::new(Token::new(text)?)));
        Ok(())
    }

    fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    /// How the renewal of its token stands, if it is one that is renewed.
    pub fn state(&self) -> Option<State> {
        self.renewal.as_ref().map(Renewal::state)
    }

    /// The configured refresh token of a kind that has one, which one that was kept may be in the place
    /// of.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn refresh_token(config: &config::Credential) -> Result<Option<Secret>, Error> {
        let login = Login::of(config);
        let token = login.map(|login| login.refresh_token()).transpose();
        token
            .map(Option::flatten)
            .map_err(|e| Error::Source(e.to_string()))
    }

    /// Nobody can renew the token, for now, and why.
    pub fn is_stuck(&self, why: String) {
        if let Some(renewal) = &self.renewal {
            renewal.is_stuck(why);
        }
    }

    /// Is it of a kind whose token is renewed?
    pub fn is_renewed(config: &config::Credential) -> bool {
        Login::of(config).is_some()
    }

    /// Is there a token, and one that has not expired?
    pub fn is_valid(&self) -> bool {
        let renewal = self.renewal.as_ref();
        renewal.is_none_or(|renewal| renewal.is_valid(clock::wall()))
    }

    /// Waits, where the token has expired, for the next one: at most until `until`.
    ///
    /// # Errors
    /// There is none, and no hope that it comes in time.
    pub async fn valid(&self, until: Instant) -> Result<(), NoToken> {
        match &self.renewal {
            Some(renewal) => renewal.valid(until).await,
            None => Ok(()),
        }
    }

    /// The upstream refused the token that a request carried: waits for another one, which is asked
    /// for unless it is under way. Returns whether there is one.
    pub async fn replaced(&self, refused: &Secrets, until: Instant) -> bool {
        let Some(renewal) = &self.renewal else {
            return false;
        };
        renewal.replaced(|| self.is_other(refused), until).await
    }

    /// A renewal that does not work is tried again at once, though it may need a login. Returns
    /// whether it is one of those.
    pub fn try_again(&self) -> bool {
        let renewal = self.renewal.as_ref();
        let stuck = renewal.filter(|renewal| {
            let phase = renewal.state().phase;
            matches!(phase, Phase::Transient(_) | Phase::NeedsLogin(_))
        });
        stuck.map(Renewal::renew_now).is_some()
    }

    /// Another token is asked for at once, and waited for.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn refresh(&self) -> Result<(), String> {
        match &self.renewal {
            Some(renewal) => renewal.refresh().await,
            None => Err("this account's credential is not one that is renewed".to_owned()),
        }
    }

    /// Do both put the same token in the same place of a request? Of one that is renewed nobody knows.
    pub fn is_same(&self, other: &Credential) -> bool {
        let text = |credential: &Credential| {
            let token = credential.token.load();
            token.as_ref().map(|token| token.text.clone())
        };
        self.is_alike(other) && text(self) == text(other)
    }

    /// Do both have a token that stays as it is, for the same place?
    fn is_alike(&self, other: &Credential) -> bool {
        let is_fixed = self.renewal.is_none() && other.renewal.is_none();
        is_fixed && self.place == other.place
    }

    /// What could not be read stays as it was in `other`, until it can. False: there it was of another
    /// kind, or there was nothing.
    pub fn take_over(&self, other: &Credential) -> bool {
        let is_first = |headers: &[_]| headers.is_empty() && !self.extra.is_empty();
        if is_first(&self.headers.load()) {
            let (old, new) = (other.headers.load_full(), &self.extra);
            let names = |name: &HeaderName| new.iter().any(|(new, _)| new == name);
            if old.len() != new.len() || !old.iter().all(|(name, _)| names(name)) {
                return false;
            }
            self.headers.store(old);
        }
        if self.renewal.is_some() {
            return true;
        }
        if self.source.is_some() && self.is_alike(other) && self.token.load().is_none() {
            self.token.store(other.token.load_full());
        }
        self.is_usable()
    }

    /// What tells its token from others and gives none of it away, for another process that has read
    /// its own.
    pub fn fingerprint(&self) -> Option<String> {
        const PURPOSE: &str = "poolgate 2026 which token an account has, in an upgrade";
        let token = self.token.load();
        let token = token.as_ref()?;
        let hash = blake3::derive_key(PURPOSE, token.text.expose().as_bytes());
        Some(blake3::Hash::from_bytes(hash).to_hex().to_string())
    }

    /// Can another token be had now that the upstream refuses the one that `refused` holds?
    pub fn is_renewable(&self, refused: &Secrets) -> bool {
        let renewal = self.renewal.as_ref();
        renewal.is_some_and(|renewal| renewal.may_force(clock::now()) || self.is_other(refused))
    }

    /// Is another token in use than `refused` holds?
    fn is_other(&self, refused: &Secrets) -> bool {
        let token = self.token.load();
        token.as_ref().map(|token| &token.text) != refused.token().map(|token| &token.text)
    }

    /// Where on a request of this dialect its token goes.
    pub fn injection(&self, secrets: &Secrets, dialect: Dialect) -> Injection {
        let Some(token) = secrets.token() else {
            return Injection::None;
        };
        match (&self.place, dialect) {
            (Place::None, _) => Injection::None,
            (Place::Bearer, _) | (Place::Dialect, Dialect::OpenAi) => {
                Injection::Header(AUTHORIZATION, token.bearer.clone())
            }
            (Place::Dialect, Dialect::Anthropic) => {
                Injection::Header(X_API_KEY, token.plain.clone())
            }
            (Place::Dialect, Dialect::Gemini) => {
                Injection::Header(X_GOOG_API_KEY, token.plain.clone())
            }
            (Place::Header(name), _) => Injection::Header(name.clone(), token.plain.clone()),
            (Place::Query(name), _) => Injection::Query(name.clone(), token.text.clone()),
        }
    }
}

fn read(source: &SecretSource) -> Result<Secret, Error> {
    config::read_secret(source).map_err(|e| Error::Source(e.to_string()))
}

/// The word for a kind of credential, in the API and in `status`.
pub fn kind_name(config: &config::Credential) -> &'static str {
    match config {
        config::Credential::None => "none",
        config::Credential::ApiKey(_) => "api_key",
        config::Credential::Bearer(_) => "bearer",
        config::Credential::Header { .. } => "header",
        config::Credential::Query { .. } => "query",
        config::Credential::OAuth2(_) => "oauth2",
        config::Credential::AwsSsoOidc(_) => "aws_sso_oidc",
        config::Credential::GoogleServiceAccount { .. } => "google_service_account",
        config::Credential::JsonFile { .. } => "json_file",
    }
}

impl Token {
    fn new(text: Secret) -> Result<Self, Error> {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| Error::Unprintable)?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        let plain = sensitive(text.expose())?;
        let bearer = sensitive(&format!("Bearer {}", text.expose()))?;
        Ok(Token {
            plain,
            bearer,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(config: config::Credential) -> Credential {
        let credential = Credential::new(&config, &[]);
        credential.reload().unwrap();
        credential
    }

    fn header(credential: &Credential, dialect: Dialect) -> (String, String) {
        match credential.injection(&credential.secrets(), dialect) {
            Injection::Header(name, value) => {
                assert!(value.is_sensitive());
                (name.to_string(), value.to_str().unwrap().to_owned())
            }
            _ => panic!("no header"),
        }
    }

    #[test]
    fn an_api_key_goes_where_each_dialect_expects_it() {
        let key = credential(config::Credential::ApiKey(SecretSource::Value(
            Secret::new("k"),
        )));
        let expected = [
            (Dialect::OpenAi, "authorization", "Bearer k"),
            (Dialect::Anthropic, "x-api-key", "k"),
            (Dialect::Gemini, "x-goog-api-key", "k"),
        ];
        for (dialect, name, value) in expected {
            assert_eq!(header(&key, dialect), (name.to_owned(), value.to_owned()));
        }
    }

    #[test]
    fn a_changed_file_changes_the_token_and_a_missing_one_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "one\n").unwrap();
        let key = credential(config::Credential::Bearer(SecretSource::File(path.clone())));
        assert!(!key.reload().unwrap());
        std::fs::write(&path, "two\n").unwrap();
        assert!(key.reload().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(key.reload().is_err());
        assert_eq!(header(&key, Dialect::OpenAi).1, "Bearer two");
    }
}
