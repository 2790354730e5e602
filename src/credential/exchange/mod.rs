//! How a token is asked for and what the answer means. No input or output happens here: the request
//! is handed out, status, headers and body of the answer are handed in.

mod aws;
mod google;
mod oauth2;
mod reply;
mod written;

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

pub use reply::{Granted, Reason, Reply, Why};

use crate::config::{self, AwsSsoOidc, OAuth2};
use crate::secret::Secret;
use google::Signer;
use reply::Vendor;

/// How one account gets its tokens.
pub struct Exchange(Kind);

enum Kind {
    OAuth2(OAuth2),
    Aws(AwsSsoOidc),
    Google(Box<Signer>),
}

/// A request for a token, always a POST. Its body is wiped when the last copy of it is dropped.
pub struct Asked {
    pub url: String,
    /// Values that hold a secret are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// Why no request can be made. Says nothing of what a secret or a file holds.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("client_secret: {0}")]
    ClientSecret(#[from] config::SecretError),
    #[error("there is no refresh token to ask with")]
    NoRefreshToken,
    #[error("region: may hold letters, digits and dashes only")]
    Region,
    #[error("the service account file {0}")]
    ServiceAccount(&'static str),
    #[error("the request cannot be written")]
    Unwritable,
}

impl Exchange {
    /// RFC 6749 §6 with a refresh token, §4.4 (client credentials) without one.
    pub fn oauth2(config: &OAuth2) -> Self {
        Exchange(Kind::OAuth2(config.clone()))
    }

    /// AWS SSO-OIDC, `CreateToken`.
    pub fn aws(config: &AwsSsoOidc) -> Self {
        Exchange(Kind::Aws(config.clone()))
    }

    /// A Google service account (RFC 7523). `file` is the JSON key file that Google hands out,
    /// `scope` is one scope or several between spaces.
    ///
    /// # Errors
    /// The file is not such a file, its key cannot be used, or its `token_uri` is not safe.
    pub fn google(file: &[u8], scope: &str) -> Result<Self, ExchangeError> {
        let account = Signer::read(file, scope)?;
        Ok(Exchange(Kind::Google(Box::new(account))))
    }

    /// Where tokens are asked for.
    ///
    /// # Errors
    /// The configuration says no place that can be one.
    pub fn url(&self) -> Result<Cow<'_, str>, ExchangeError> {
        Ok(match &self.0 {
            Kind::OAuth2(config) => Cow::Borrowed(&config.token_url),
            Kind::Aws(config) => Cow::Owned(aws::url(config)?),
            Kind::Google(account) => Cow::Borrowed(&account.url),
        })
    }

    /// Of whom, by whom and for what tokens are asked. One that was granted to another must not be
    /// used in the place of this one's.
    ///
    /// # Errors
    /// As for [`Exchange::url`].
    pub fn parties(&self) -> Result<[Cow<'_, str>; 4], ExchangeError> {
        let (who, key, what) = match &self.0 {
            Kind::OAuth2(config) => (&config.client_id, "", &*config.scope),
            Kind::Aws(config) => (&config.client_id, "", ""),
            Kind::Google(account) => (&account.email, account.key_id(), &*account.scope),
        };
        Ok([self.url()?, who.into(), key.into(), what.into()])
    }

    /// The request for the next token. A `client_secret` that is a file is read anew.
    ///
    /// # Errors
    /// What the request needs is missing or cannot be read.
    pub fn request(
        &self,
        refresh_token: Option<&Secret>,
        now: SystemTime,
    ) -> Result<Asked, ExchangeError> {
        match &self.0 {
            Kind::OAuth2(config) => oauth2::request(config, refresh_token),
            Kind::Aws(config) => aws::request(config, refresh_token),
            Kind::Google(account) => account.request(now),
        }
    }

    /// What the answer means. `body` is bounded by the caller, to [`Exchange::LONGEST_REPLY`].
    pub fn read(&self, status: u16, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Reply {
        let vendor = match &self.0 {
            Kind::OAuth2(_) => Vendor::Any,
            Kind::Aws(_) => Vendor::Aws,
            Kind::Google(_) => Vendor::Google,
        };
        reply::read(vendor, status, headers, body, now)
    }

    /// No token reply is longer, in bytes.
    pub const LONGEST_REPLY: usize = 64 * 1024;
}

#[cfg(test)]
mod tests;
