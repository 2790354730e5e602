//! Replies of token endpoints: any bytes mean something, a granted token can be sent, and only a
//! client's fault that has a name ends a login.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use poolgate::config::{AwsSsoOidc, ClientAuth, OAuth2, SecretSource, TokenFormat};
use poolgate::credential::exchange::{Exchange, Reply, Why};
use poolgate::secret::Secret;

use super::recorded::taken_apart;

/// 2026-11-21T12:00:00Z.
const NOON: u64 = 1_795_262_400;
const DAY: Duration = Duration::from_secs(86_400);
const BEFORE: Duration = Duration::from_secs(300);

static EXCHANGES: LazyLock<[Exchange; 3]> = LazyLock::new(|| {
    let secret = || SecretSource::Value(Secret::new("a secret"));
    let oauth2 = OAuth2 {
        token_url: "https://vendor.test/token".to_owned(),
        client_id: "client".to_owned(),
        client_secret: None,
        refresh_token: None,
        scope: String::new(),
        auth: ClientAuth::Body,
        format: TokenFormat::Form,
        refresh_before: BEFORE,
    };
    let aws = AwsSsoOidc {
        region: "us-east-1".to_owned(),
        token_url: None,
        client_id: "client".to_owned(),
        client_secret: secret(),
        refresh_token: secret(),
        refresh_before: BEFORE,
    };
    let file = include_bytes!("../../tests/fixtures/tokens/service-account.json");
    [
        Exchange::oauth2(&oauth2),
        Exchange::aws(&aws),
        Exchange::google(file, "scope").unwrap(),
    ]
});

/// `bytes` are a reply as in `tests/fixtures/tokens/*.http`, more or less.
pub(crate) fn check(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOON);
    let (status, headers, body) = taken_apart(bytes, 200);
    for exchange in &*EXCHANGES {
        match exchange.read(status, &headers, body, now) {
            Reply::Granted(granted) => {
                assert!((200..300).contains(&status), "{status}");
                let access = granted.access.expose();
                let sent = HeaderValue::from_str(&format!("Bearer {access}")).unwrap();
                assert!(!access.is_empty() && sent.to_str().unwrap().trim() == sent);
                let life = granted.expires_at.map(|at| at.duration_since(now).unwrap());
                assert!(life.is_none_or(|life| life <= 3660 * DAY), "{life:?}");
                assert!(
                    granted
                        .refresh
                        .is_none_or(|token| !token.expose().is_empty())
                );
            }
            Reply::Dead(reason) => {
                assert!(status < 500 && status != 429, "{status} is no {reason}");
                let text = String::from_utf8_lossy(bytes);
                let words = text
                    .replace("Exception", "_")
                    .to_lowercase()
                    .replace('_', "");
                let named = reason.as_str().replace('_', "");
                // An escape in the JSON may hide the name.
                assert!(
                    words.contains(&named) || text.contains('\\'),
                    "{reason}: {text}"
                );
            }
            Reply::Transient { wait, why, .. } => {
                assert!(wait.is_none_or(|wait| wait > Duration::ZERO && wait <= 366 * DAY));
                let is_refusal = matches!(why, Why::Refused(_));
                assert!(!is_refusal || wait >= Some(BEFORE), "{wait:?}");
            }
        }
    }
}
