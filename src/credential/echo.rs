//! Vendors that say our own secret back, in an error's text or a header: it is found and blanked.
//!
//! Looked for is the secret as it was sent. A vendor that encodes it in another way, or compresses
//! its errors although it was asked not to, is not seen through.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use memchr::memmem;
use percent_encoding::utf8_percent_encode;

use super::{Credential, Place, RESERVED, Token};

/// A shorter secret may as well be a word of the text.
const RECOGNISABLE: usize = 8;

/// What a request carried of its account, and no client may see.
#[derive(Clone, Default)]
pub struct Secrets {
    token: Option<Arc<Token>>,
    extra: Arc<Vec<(HeaderName, HeaderValue)>>,
    in_query: bool,
}

impl Credential {
    /// What a request of this account carries that is made now.
    pub fn secrets(&self) -> Secrets {
        Secrets {
            token: self.token.load_full(),
            extra: self.headers.load_full(),
            in_query: matches!(self.place, Place::Query(_)),
        }
    }
}

impl Secrets {
    /// The current token.
    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    /// Further headers of the account.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.extra
    }

    /// Does `text` hold one of the secrets?
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.all()
            .any(|secret| secret.len() <= text.len() && memmem::find(text, &secret).is_some())
    }

    /// Writes as many `*` over each of the secrets in `text`, whose length stays what was stated.
    pub fn blank(&self, text: &mut [u8]) {
        for secret in self.all() {
            let mut from = 0;
            while let Some(at) = memmem::find(&text[from..], &secret) {
                let end = from + at + secret.len();
                text[from + at..end].fill(b'*');
                from = end;
            }
        }
    }

    /// The same for bytes that are shared; `None`: they hold none.
    pub fn blanked(&self, text: &Bytes) -> Option<Bytes> {
        self.is_in(text).then(|| {
            let mut copy = BytesMut::from(&text[..]);
            self.blank(&mut copy);
            copy.freeze()
        })
    }

    fn all(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let token = self.token.iter().map(|token| token.text.expose());
        // As it stands in a query, where that is another text.
        let escaped = token.clone().filter(|_| self.in_query);
        let escaped = escaped.map(|text| Cow::from(utf8_percent_encode(text, &RESERVED)));
        let escaped = escaped.filter_map(|text| match text {
            Cow::Owned(text) => Some(Cow::Owned(text.into_bytes())),
            Cow::Borrowed(_) => None,
        });
        let extra = self.extra.iter().map(|(_, value)| value.as_bytes());
        let plain = token.map(str::as_bytes).chain(extra).map(Cow::Borrowed);
        escaped
            .chain(plain)
            .filter(|secret| secret.len() >= RECOGNISABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, SecretSource};
    use crate::secret::Secret;

    fn secrets(credential: config::Credential, headers: &[(&str, &str)]) -> Secrets {
        let value = |text: &str| SecretSource::Value(Secret::new(text));
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, text)| ((*name).to_owned(), value(text)))
            .collect();
        let credential = Credential::new(&credential, &headers);
        credential.reload().unwrap();
        credential.secrets()
    }

    fn bearer(text: &str) -> config::Credential {
        config::Credential::Bearer(SecretSource::Value(Secret::new(text)))
    }

    #[test]
    fn a_secret_is_blanked_wherever_it_stands_and_nothing_else_changes() {
        let sent = secrets(bearer("sk-canary"), &[("x-team", "team-canary")]);
        let text = Bytes::from("sk-canary: no sk-canarysk-canary, sk-canar, team-canary");
        let blanked = sent.blanked(&text).unwrap();
        assert_eq!(
            blanked,
            "*********: no ******************, sk-canar, ***********"
        );
        assert!(sent.blanked(&Bytes::from("nothing of it")).is_none());
    }

    #[test]
    fn a_secret_of_the_query_is_found_as_it_was_sent() {
        let name = "key".to_owned();
        let value = SecretSource::Value(Secret::new("AIza+slash/="));
        let sent = secrets(config::Credential::Query { name, value }, &[]);
        assert!(sent.is_in(b"GET /v1?key=AIza%2Bslash%2F%3D failed"));
        assert!(sent.is_in(b"AIza+slash/="));
    }

    #[test]
    fn a_short_secret_is_a_word_like_any_other() {
        assert!(!secrets(bearer("any"), &[]).is_in(b"any account"));
    }
}
