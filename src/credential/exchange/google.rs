//! The token request of a Google service account: an assertion signed with its key (RFC 7523 §2.1).

use std::time::SystemTime;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::written::asked;
use super::{Asked, ExchangeError};
use crate::config::{self, TokenFormat};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const USUAL_URL: &str = "https://oauth2.googleapis.com/token";
/// How long an assertion may be used, in seconds: the longest that Google takes.
const LIFETIME: u64 = 3600;

/// What is needed of the file, and what for.
pub(super) struct Signer {
    pub(super) email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    pub(super) url: String,
    pub(super) scope: String,
}

impl Signer {
    pub(super) fn read(file: &[u8], scope: &str) -> Result<Self, ExchangeError> {
        let is = |what| ExchangeError::ServiceAccount(what);
        let mut fields: Map<String, Value> =
            serde_json::from_slice(file).map_err(|_| is("is not a JSON object"))?;
        let mut field = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        // Google's tools write files of other kinds to the same places.
        if field("type").is_some_and(|kind| kind != "service_account") {
            return Err(is("is of another `type` than `service_account`"));
        }
        let pem = field("private_key").ok_or_else(|| is("has no `private_key`"))?;
        let url = field("token_uri").unwrap_or_else(|| USUAL_URL.to_owned());
        // The file names the place itself, so that nobody would see a mistake.
        if !config::is_private_url(&url) {
            return Err(is("has a `token_uri` that is not an https:// URL"));
        }
        Ok(Signer {
            email: field("client_email").ok_or_else(|| is("has no `client_email`"))?,
            key_id: field("private_key_id"),
            key: key(&Zeroizing::new(pem))
                .ok_or_else(|| is("has a `private_key` that is no RSA key of 2048 bits or more"))?,
            url,
            scope: scope.to_owned(),
        })
    }

    /// The key's name; empty where the file does not say it.
    pub(super) fn key_id(&self) -> &str {
        self.key_id.as_deref().unwrap_or_default()
    }

    pub(super) fn request(&self, now: SystemTime) -> Result<Asked, ExchangeError> {
        let assertion = Zeroizing::new(self.assertion(now)?);
        let fields = [("grant_type", GRANT), ("assertion", &assertion)];
        asked(&self.url, TokenFormat::Form, &fields)
    }

    #[cfg(test)]
    pub(super) fn public(&self) -> &[u8] {
        self.key.public().as_ref()
    }

    /// A JSON web token in three parts, RS256.
    fn assertion(&self, now: SystemTime) -> Result<String, ExchangeError> {
        let issued = now.duration_since(SystemTime::UNIX_EPOCH);
        let issued = issued.map_err(|_| ExchangeError::Unwritable)?.as_secs();
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            head["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.email,
            "scope": self.scope,
            "aud": self.url,
            "iat": issued,
            "exp": issued + LIFETIME,
        });
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!(
            "{}.{}",
            part(head.to_string().as_bytes()),
            part(claims.to_string().as_bytes())
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| ExchangeError::Unwritable)?;
        Ok(format!("{signed}.{}", part(&signature)))
    }
}

fn key(pem: &str) -> Option<RsaKeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}
