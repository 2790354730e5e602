//! Writes the fields of a token request as a form or as JSON, and the `Authorization` of its client.

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serializer;
use zeroize::Zeroizing;

use super::{Asked, ExchangeError};
use crate::config::TokenFormat;
use crate::secret::Secret;

/// Names and values, in the order in which they are written.
pub(super) type Fields<'a> = [(&'a str, &'a str)];

/// The request that carries these fields to `url`.
pub(super) fn asked(
    url: &str,
    format: TokenFormat,
    fields: &Fields<'_>,
) -> Result<Asked, ExchangeError> {
    let (kind, body) = match format {
        TokenFormat::Form => ("application/x-www-form-urlencoded", form(fields)),
        TokenFormat::Json => ("application/json", json(fields)?),
    };
    Ok(Asked {
        url: url.to_owned(),
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ],
        body,
    })
}

/// HTTP Basic as RFC 6749 §2.3.1 has it: both parts are form-encoded first.
pub(super) fn basic(id: &str, secret: &Secret) -> Result<(HeaderName, HeaderValue), ExchangeError> {
    let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
    let both = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret.expose())));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(both.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ExchangeError::Unwritable)?;
    value.set_sensitive(true);
    Ok((AUTHORIZATION, value))
}

// Room is made for the longest writing there can be: a buffer that grows leaves copies behind that
// nobody wipes.

fn form(fields: &Fields<'_>) -> Bytes {
    let room = fields
        .iter()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2);
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(room.sum()));
    form.extend_pairs(fields);
    Bytes::from_owner(Zeroizing::new(form.finish().into_bytes()))
}

fn json(fields: &Fields<'_>) -> Result<Bytes, ExchangeError> {
    let room = fields
        .iter()
        .map(|(name, value)| 6 * (name.len() + value.len()) + 6);
    let mut json = Zeroizing::new(Vec::with_capacity(2 + room.sum::<usize>()));
    serde_json::Serializer::new(&mut *json)
        .collect_map(fields.iter().copied())
        .map_err(|_| ExchangeError::Unwritable)?;
    Ok(Bytes::from_owner(json))
}
