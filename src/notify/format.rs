//! A notice in the form that a chat's webhook takes, signed as that chat asks for it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::config::NoticeFormat;
use crate::secret::Secret;

/// What is sent, and where.
pub(super) struct Dressed {
    /// With a signature in it, where the chat wants it there.
    pub(super) url: Secret,
    pub(super) body: Bytes,
}

/// The parts of our own JSON that people read.
#[derive(Deserialize)]
struct Told {
    text: String,
    gateway: String,
}

/// `notice`: our own JSON. `now`: milliseconds since 1970.
///
/// - Slack: incoming webhooks (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>);
///   their address is the secret.
/// - Feishu and Lark: custom bots; with a secret, `timestamp` and `sign` are in the body.
/// - DingTalk: custom robots; with a secret, `timestamp` and `sign` are in the address.
pub(super) fn dressed(
    format: NoticeFormat,
    url: &Secret,
    secret: Option<&Secret>,
    notice: &Bytes,
    now: u64,
) -> Dressed {
    let plain = || Dressed {
        url: url.clone(),
        body: notice.clone(),
    };
    let Ok(told) = serde_json::from_slice::<Told>(notice) else {
        return plain();
    };
    let text = format!("[poolgate {}] {}", told.gateway, told.text);
    let mut signed = url.clone();
    let body = match format {
        NoticeFormat::Json => return plain(),
        // A name is only a name: nobody is called by it, nothing is a link.
        NoticeFormat::Slack => json!({"text": escaped(&text)}),
        NoticeFormat::Feishu => {
            let mut body = json!({"msg_type": "text", "content": {"text": text}});
            if let Some(secret) = secret {
                let seconds = now / 1000;
                let key = format!("{seconds}\n{}", secret.expose());
                body["timestamp"] = Value::from(seconds.to_string());
                body["sign"] = Value::from(mac(key.as_bytes(), b""));
            }
            body
        }
        NoticeFormat::Dingtalk => {
            if let Some(secret) = secret {
                signed = with_signature(url, secret, now);
            }
            json!({"msgtype": "text", "text": {"content": text}})
        }
    };
    Dressed {
        url: signed,
        body: body.to_string().into(),
    }
}

/// Slack reads `<…>` as links and calls, and `&` before them.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn with_signature(url: &Secret, secret: &Secret, now: u64) -> Secret {
    let sign = mac(
        secret.expose().as_bytes(),
        format!("{now}\n{}", secret.expose()).as_bytes(),
    );
    let Ok(mut address) = reqwest::Url::parse(url.expose()) else {
        return url.clone();
    };
    address
        .query_pairs_mut()
        .append_pair("timestamp", &now.to_string())
        .append_pair("sign", &sign);
    Secret::new(address.as_str())
}

/// Base64 of the HMAC-SHA256.
fn mac(key: &[u8], text: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// How far apart one hook's notices are: each chat takes so many of a bot and then none for a while.
///
/// - Slack: one a second (<https://docs.slack.dev/apis/web-api/rate-limits>).
/// - Feishu and Lark: 100 a minute, five a second.
/// - DingTalk: 20 a minute; one more, and it takes none for ten minutes.
pub(super) fn gap(format: NoticeFormat) -> Duration {
    Duration::from_millis(match format {
        NoticeFormat::Json => 0,
        NoticeFormat::Slack => 1_000,
        NoticeFormat::Feishu => 600,
        NoticeFormat::Dingtalk => 3_000,
    })
}

/// What a chat says against a notice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// It takes none now, and would take this one later.
    pub(super) is_for_now: bool,
}

/// These chats answer 200 to what they refuse, and say so in the body; the words are theirs.
pub(super) fn refusal(format: NoticeFormat, body: &[u8]) -> Option<Refusal> {
    let field = match format {
        NoticeFormat::Feishu => "code",
        NoticeFormat::Dingtalk => "errcode",
        NoticeFormat::Json | NoticeFormat::Slack => return None,
    };
    let said: Value = serde_json::from_slice(body).ok()?;
    let code = said[field].as_i64().filter(|code| *code != 0)?;
    let is_for_now = match format {
        // Feishu has one number for what it cannot read and for what comes too fast.
        NoticeFormat::Feishu => match code {
            9499 => said["msg"]
                .as_str()
                .is_some_and(|words| words.to_ascii_lowercase().contains("too many")),
            code => matches!(code, 11232 | 99991400),
        },
        // Busy, and the two of its limits.
        _ => matches!(code, -1 | 130101 | 410100),
    };
    let why = format!("the hook answers {field} {code}");
    Some(Refusal { why, is_for_now })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(format: NoticeFormat, secret: Option<&str>) -> (String, Value) {
        let notice =
            json!({"event": "test", "gateway": "gw1", "text": "The account a<b>&c is out."});
        let secret = secret.map(Secret::new);
        let url = Secret::new("https://hooks.example/robot?access_token=x");
        let now = 1_599_360_473_000;
        let it = dressed(
            format,
            &url,
            secret.as_ref(),
            &notice.to_string().into(),
            now,
        );
        (
            it.url.expose().to_owned(),
            serde_json::from_slice(&it.body).unwrap(),
        )
    }

    #[test]
    fn each_chat_gets_one_sentence_in_its_own_form() {
        let sentence = "[poolgate gw1] The account a<b>&c is out.";
        let (_, own) = body(NoticeFormat::Json, None);
        assert_eq!(own["event"], "test");
        let (_, slack) = body(NoticeFormat::Slack, None);
        assert_eq!(
            slack,
            json!({"text": "[poolgate gw1] The account a&lt;b&gt;&amp;c is out."})
        );
        let (_, feishu) = body(NoticeFormat::Feishu, None);
        assert_eq!(
            feishu,
            json!({"msg_type": "text", "content": {"text": sentence}})
        );
        let (url, dingtalk) = body(NoticeFormat::Dingtalk, None);
        assert_eq!(
            dingtalk,
            json!({"msgtype": "text", "text": {"content": sentence}})
        );
        assert_eq!(url, "https://hooks.example/robot?access_token=x");
    }

    /// Computed with Python's hmac and base64, by the descriptions of the two chats.
    #[test]
    fn a_secret_signs_as_the_chat_asks_for_it() {
        let (_, feishu) = body(NoticeFormat::Feishu, Some("demo"));
        assert_eq!(feishu["timestamp"], "1599360473");
        assert_eq!(
            feishu["sign"],
            "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="
        );
        let (url, _) = body(NoticeFormat::Dingtalk, Some("demo"));
        assert_eq!(
            url,
            "https://hooks.example/robot?access_token=x&timestamp=1599360473000&sign=eblRZvilBzXa6Ce18IeBM4pMy1rYNWKicaCg6VMwQe0%3D"
        );
    }

    #[test]
    fn a_refusal_under_a_200_is_seen() {
        let said = |format, text: &str| refusal(format, text.as_bytes());
        assert_eq!(said(NoticeFormat::Feishu, r#"{"code":0}"#), None);
        assert_eq!(
            said(
                NoticeFormat::Feishu,
                r#"{"code":19021,"msg":"sign match fail"}"#
            ),
            Some(Refusal {
                why: "the hook answers code 19021".to_owned(),
                is_for_now: false
            })
        );
        assert_eq!(said(NoticeFormat::Dingtalk, "ok"), None);
        assert_eq!(said(NoticeFormat::Slack, r#"{"code":1}"#), None);
        use NoticeFormat::{Dingtalk, Feishu};
        for (format, text, is_for_now) in [
            (Dingtalk, r#"{"errcode":310000}"#, false),
            (Dingtalk, r#"{"errcode":130101}"#, true),
            (Dingtalk, r#"{"errcode":-1}"#, true),
            (Feishu, r#"{"code":11232}"#, true),
            (Feishu, r#"{"code":9499,"msg":"Too many requests"}"#, true),
            (Feishu, r#"{"code":9499,"msg":"Bad Request"}"#, false),
        ] {
            assert_eq!(said(format, text).unwrap().is_for_now, is_for_now, "{text}");
        }
    }
}
