//! What can be told of an account, as a webhook's body says it.

use bytes::Bytes;
use serde::Serialize;

use crate::clock::{self, SystemTime};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It left the rotation.
    AccountDown,
    /// It is back.
    AccountUp,
    /// It left the rotation because it failed again and again.
    BreakerOpen,
    /// It left the rotation until somebody mends its credential.
    NeedsLogin,
    /// Its token ends soon, and nothing renews it.
    TokenExpiring,
    /// Its program is not started again.
    InstanceGaveUp,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::AccountDown,
        Kind::AccountUp,
        Kind::BreakerOpen,
        Kind::NeedsLogin,
        Kind::TokenExpiring,
        Kind::InstanceGaveUp,
    ];

    /// The word in the configuration and in notices.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AccountDown => "account_down",
            Kind::AccountUp => "account_up",
            Kind::BreakerOpen => "breaker_open",
            Kind::NeedsLogin => "needs_login",
            Kind::TokenExpiring => "token_expiring",
            Kind::InstanceGaveUp => "instance_gave_up",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Does somebody have to do something about it, whatever was told before?
    pub(super) fn needs_somebody(self) -> bool {
        matches!(self, Kind::NeedsLogin | Kind::InstanceGaveUp)
    }
}

/// Something that happened to an account.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub kind: Kind,
    pub account: &'a str,
    pub pool: &'a str,
    /// The account's state in one word, as `status` and the API say it.
    pub reason: &'a str,
    pub at: SystemTime,
}

/// What a hook hears when an operator tries it, in place of an event's word.
pub(super) const TEST: &str = "test";

/// A test is about no account.
#[derive(Serialize)]
struct Body<'a> {
    event: &'static str,
    #[serde(flatten)]
    about: Option<About<'a>>,
    at: String,
    gateway: &'a str,
    text: String,
}

#[derive(Serialize)]
struct About<'a> {
    account: &'a str,
    pool: &'a str,
    reason: &'a str,
}

impl Body<'_> {
    fn written(&self) -> Bytes {
        // Texts and nothing else: that cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The JSON of a notice that nothing has happened.
pub(super) fn test_body(gateway: &str, at: SystemTime) -> Bytes {
    let body = Body {
        event: TEST,
        about: None,
        at: clock::rfc3339(at),
        gateway,
        text: "An operator tries this webhook; nothing has happened.".to_owned(),
    };
    body.written()
}

impl Event<'_> {
    /// The JSON that a hook is sent.
    pub(super) fn body(&self, gateway: &str) -> Bytes {
        let about = About {
            account: self.account,
            pool: self.pool,
            reason: self.reason,
        };
        let body = Body {
            event: self.kind.name(),
            about: Some(about),
            at: clock::rfc3339(self.at),
            gateway,
            text: self.sentence(),
        };
        body.written()
    }

    fn sentence(&self) -> String {
        let account = format!("account {} of pool {}", self.account, self.pool);
        match self.kind {
            Kind::AccountUp => format!("The {account} serves again."),
            Kind::TokenExpiring => format!("The token of {account} expires soon."),
            Kind::InstanceGaveUp => {
                format!("The program of {account} failed too often and is not started again.")
            }
            Kind::BreakerOpen => format!("The {account} is out: it failed again and again."),
            Kind::NeedsLogin => {
                format!(
                    "The {account} is out until its credential is renewed: it is refused or missing."
                )
            }
            Kind::AccountDown => {
                let why = match self.reason {
                    "unhealthy" => {
                        "it fails its health check, or has no valid token or no running program"
                    }
                    "open" => "it failed again and again",
                    "needs_login" => "its credential is refused or missing",
                    other => other,
                };
                format!("The {account} is out: {why}.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_body_says_what_happened_to_programs_and_people() {
        let event = Event {
            kind: Kind::AccountDown,
            account: "a\"1",
            pool: "default",
            reason: "unhealthy",
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        };
        assert_eq!(
            event.body("gw1"),
            r#"{"event":"account_down","account":"a\"1","pool":"default","reason":"unhealthy","#
                .to_owned()
                + r#""at":"1970-01-01T00:00:01.500Z","gateway":"gw1","#
                + r#""text":"The account a\"1 of pool default is out: it fails its health check, or has no valid token or no running program."}"#
        );
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            let text = Event { kind, ..event }.sentence();
            assert!(text.contains("a\"1") && text.ends_with('.'), "{text}");
        }
    }

    #[test]
    fn every_event_of_the_configuration_is_known() {
        let text = "pools: {p: {accounts: [{id: a, upstream: openai}]}}\n\
                    notify: [{webhook: 'https://x.example', events: [token_expiring]},\n\
                             {webhook: 'https://x.example'}]";
        let loaded = crate::config::parse(text, "poolgate.yaml".as_ref(), &|_| None);
        let hooks = loaded.ok().unwrap().config.notify;
        let words = hooks.iter().flat_map(|hook| &hook.events);
        assert_eq!(words.clone().count(), Kind::ALL.len());
        assert!(words.clone().all(|word| Kind::named(word).is_some()));
    }
}
