//! The token request of AWS SSO-OIDC: `CreateToken`, JSON in camel case, unsigned.

use super::written::asked;
use super::{Asked, ExchangeError};
use crate::config::{self, AwsSsoOidc, TokenFormat};
use crate::secret::Secret;

pub(super) fn request(
    config: &AwsSsoOidc,
    refresh_token: Option<&Secret>,
) -> Result<Asked, ExchangeError> {
    let refresh_token = refresh_token.ok_or(ExchangeError::NoRefreshToken)?;
    let secret = config::read_secret(&config.client_secret)?;
    let fields = [
        ("clientId", config.client_id.as_str()),
        ("clientSecret", secret.expose()),
        ("grantType", "refresh_token"),
        ("refreshToken", refresh_token.expose()),
    ];
    asked(&url(config)?, TokenFormat::Json, &fields)
}

pub(super) fn url(config: &AwsSsoOidc) -> Result<String, ExchangeError> {
    match &config.token_url {
        Some(url) => Ok(url.clone()),
        None => regional(&config.region),
    }
}

/// The region's endpoint (service model sso-oidc, 2019-06-10).
fn regional(region: &str) -> Result<String, ExchangeError> {
    // Anything else could name another host, to which the secrets would go.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || !region.chars().all(is_name) {
        return Err(ExchangeError::Region);
    }
    Ok(format!("https://oidc.{region}.amazonaws.com/token"))
}
