//! The token request of RFC 6749: a refresh (§6) or client credentials (§4.4).

use super::written::{asked, basic};
use super::{Asked, ExchangeError};
use crate::config::{self, ClientAuth, OAuth2};
use crate::secret::Secret;

/// A client without a secret is public: it says who it is in the body, however others prove it.
pub(super) fn request(
    config: &OAuth2,
    refresh_token: Option<&Secret>,
) -> Result<Asked, ExchangeError> {
    let secret = config.client_secret.as_ref();
    let secret = secret.map(config::read_secret).transpose()?;
    let mut fields = Vec::with_capacity(5);
    match (refresh_token, &secret) {
        (Some(token), _) => fields.extend([
            ("grant_type", "refresh_token"),
            ("refresh_token", token.expose()),
        ]),
        (None, Some(_)) => fields.push(("grant_type", "client_credentials")),
        // §4.4: only for clients that can prove who they are.
        (None, None) => return Err(ExchangeError::NoRefreshToken),
    }
    if !config.scope.is_empty() {
        fields.push(("scope", &config.scope));
    }
    let mut authorization = None;
    match (&secret, config.auth) {
        (Some(secret), ClientAuth::Basic) => {
            authorization = Some(basic(&config.client_id, secret)?)
        }
        (Some(secret), ClientAuth::Body) => fields.extend([
            ("client_id", config.client_id.as_str()),
            ("client_secret", secret.expose()),
        ]),
        (None, _) => fields.push(("client_id", &config.client_id)),
    }
    let mut asked = asked(&config.token_url, config.format, &fields)?;
    asked.headers.extend(authorization);
    Ok(asked)
}
