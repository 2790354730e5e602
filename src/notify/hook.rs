//! One webhook: which events it is told, and how a notice gets there, in its own time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::event::{Event, Kind, TEST};
use super::format::{Refusal, dressed, gap, refusal};
use super::signature::signature;
use crate::backoff::Backoff;
use crate::clock::{self, Instant};
use crate::config::NoticeFormat;
use crate::net::{Egress, EgressError};
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// Notices that may wait for one hook.
pub(super) const QUEUE: usize = 1000;

/// A notice is sent so often at most, over four minutes.
const TRIES: u32 = 8;
const WAITS: Backoff = Backoff {
    first: Duration::from_millis(300),
    factor: 3.0,
    most: Duration::from_secs(120),
};

/// What waited longer behind others is no news any more.
const STALE: Duration = Duration::from_secs(900);

/// What a hook answers is not looked at beyond its status and the word of a chat.
const ANSWER: usize = 16 << 10;

const EVENT: HeaderName = HeaderName::from_static("x-poolgate-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-poolgate-delivery");
const SIGNATURE: HeaderName = HeaderName::from_static("x-poolgate-signature");

/// A hook as configured, its secret read.
#[derive(PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) url: Secret,
    pub(super) format: NoticeFormat,
    pub(super) secret: Option<Secret>,
    pub(super) allow_private: bool,
    pub(super) events: Vec<Kind>,
}

pub(super) struct Hook {
    pub(super) settings: Settings,
    egress: Egress,
    metrics: Arc<Metrics>,
    /// For the log; the rest of the address may be a secret.
    host: String,
    /// What each account that is out was told to be.
    told: Mutex<HashMap<String, Vec<Kind>>>,
    queue: Mutex<VecDeque<Arc<Notice>>>,
    arrived: Notify,
    /// It has said that it is gone (410).
    off: AtomicBool,
}

struct Notice {
    /// The word for what happened.
    event: &'static str,
    delivery: String,
    body: Bytes,
    told: Instant,
}

impl Notice {
    fn new(event: &'static str, body: Bytes) -> Self {
        Notice {
            event,
            delivery: format!("{:032x}", fastrand::u128(..)),
            body,
            told: clock::now(),
        }
    }
}

/// What came of one try.
enum Attempt {
    Delivered,
    Gone,
    Refused(String),
    Failed(String),
    /// It takes nothing now; that may last longer than the tries of what fails.
    Throttled(String),
}

impl Hook {
    pub(super) fn new(settings: Settings, egress: Egress, metrics: Arc<Metrics>) -> Self {
        let url = reqwest::Url::parse(settings.url.expose()).ok();
        let host = url.and_then(|url| Some(url.host_str()?.to_owned()));
        Hook {
            settings,
            egress,
            metrics,
            host: host.unwrap_or_default(),
            told: Mutex::default(),
            queue: Mutex::default(),
            arrived: Notify::new(),
            off: AtomicBool::new(false),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Puts the event in the queue, if this hook is to hear of it and has not yet.
    pub(super) fn tell(&self, event: &Event<'_>, gateway: &str) {
        if self.is_off() {
            return;
        }
        let Some(kind) = self.news(event) else {
            return;
        };
        let notice = Notice::new(kind.name(), Event { kind, ..*event }.body(gateway));
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE {
            self.metrics.notice_dropped("queue_full");
            return;
        }
        queue.push_back(Arc::new(notice));
        drop(queue);
        self.arrived.notify_one();
    }

    /// As what this hook hears of the event: once until the account is back, under the most
    /// precise word that it asked for; and of an account that is out already only what somebody
    /// must do something about.
    fn news(&self, event: &Event<'_>) -> Option<Kind> {
        let wants = |kind: Kind| self.settings.events.contains(&kind);
        let kind = event.kind;
        let mut told = self.told.lock();
        match kind {
            Kind::TokenExpiring => wants(kind).then_some(kind),
            Kind::AccountUp => {
                told.remove(event.account)?;
                wants(kind).then_some(kind)
            }
            _ => {
                let known = told.get(event.account);
                let word = match known {
                    Some(known) => (kind.needs_somebody() && !known.contains(&kind) && wants(kind))
                        .then_some(kind),
                    None => [kind, Kind::AccountDown]
                        .into_iter()
                        .find(|kind| wants(*kind)),
                }?;
                let known = told.entry(event.account.to_owned()).or_default();
                known.extend([kind, word]);
                Some(word)
            }
        }
    }

    /// What tells it from other hooks, in any process; it does not give its address away.
    pub(super) fn name(&self) -> String {
        const PURPOSE: &str = "poolgate 2026 which webhook it is, in an upgrade";
        let address = self.settings.url.expose().as_bytes();
        let hash = blake3::Hash::from_bytes(blake3::derive_key(PURPOSE, address));
        let events = self.settings.events.iter().map(|kind| kind.name());
        format!("{hash} {}", events.collect::<Vec<_>>().join(" "))
    }

    /// What it was told of accounts that are out.
    pub(super) fn told(&self) -> HashMap<String, Vec<String>> {
        let words = |kinds: &Vec<Kind>| kinds.iter().map(|kind| kind.name().to_owned()).collect();
        let told = self.told.lock();
        told.iter()
            .map(|(account, kinds)| (account.clone(), words(kinds)))
            .collect()
    }

    /// This was told by another process.
    pub(super) fn was_told(&self, told: &HashMap<String, Vec<String>>) {
        let kinds =
            |words: &Vec<String>| words.iter().filter_map(|word| Kind::named(word)).collect();
        let told = told
            .iter()
            .map(|(account, words)| (account.clone(), kinds(words)));
        self.told.lock().extend(told);
    }

    /// Accounts that are no more are forgotten.
    pub(super) fn keep_only(&self, exists: impl Fn(&str) -> bool) {
        self.told.lock().retain(|account, _| exists(account));
    }

    /// Where it is, as the log names it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Tries it once, whatever it is to hear of. The error says what was wrong, without a secret.
    pub(super) async fn test(&self, body: Bytes) -> Result<(), String> {
        match self.attempt(&Notice::new(TEST, body)).await {
            Attempt::Delivered => Ok(()),
            Attempt::Gone => Err(format!("the hook answers {}", StatusCode::GONE)),
            Attempt::Refused(why) | Attempt::Failed(why) | Attempt::Throttled(why) => Err(why),
        }
    }

    /// Does something wait to be sent?
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_off() && !self.queue.lock().is_empty()
    }

    /// Delivers what waits, in one try each, up to the first that fails: there is no time for more.
    pub(super) async fn run_out(&self) {
        loop {
            let next = self.queue.lock().front().cloned();
            let Some(notice) = next.filter(|_| !self.is_off()) else {
                return;
            };
            match self.attempt(&notice).await {
                Attempt::Delivered => {}
                Attempt::Gone => return self.switch_off(),
                Attempt::Refused(why) => self.drop_one(&notice, "refused", &why),
                Attempt::Failed(_) | Attempt::Throttled(_) => return,
            }
            self.queue.lock().pop_front();
        }
    }

    /// What waits still is not sent any more.
    pub(super) fn give_up(&self) {
        let lost = std::mem::take(&mut *self.queue.lock());
        if lost.is_empty() || self.is_off() {
            return;
        }
        lost.iter()
            .for_each(|_| self.metrics.notice_dropped("stopped"));
        let notices = lost.len();
        tracing::warn!(
            hook = self.host,
            notices,
            "the stop came before what this hook was to be told"
        );
    }

    /// Delivers one notice after the other, for ever.
    pub(super) async fn run(&self) {
        loop {
            let next = self.queue.lock().front().cloned();
            match next {
                Some(notice) => {
                    self.deliver(&notice).await;
                    self.queue.lock().pop_front();
                    tokio::time::sleep(gap(self.settings.format)).await;
                }
                None => self.arrived.notified().await,
            }
        }
    }

    async fn deliver(&self, notice: &Notice) {
        let mut failures = 0;
        let dropped = loop {
            if self.is_off() {
                return;
            }
            let (why, most) = match self.attempt(notice).await {
                Attempt::Delivered => return,
                Attempt::Gone => return self.switch_off(),
                Attempt::Refused(why) => break ("refused", why),
                Attempt::Failed(why) => (why, TRIES),
                Attempt::Throttled(why) => (why, u32::MAX),
            };
            failures += 1;
            let age = clock::now().saturating_duration_since(notice.told);
            if failures >= most || age > STALE {
                break ("failed", why);
            }
            let wait = WAITS.wait(failures, fastrand::f64());
            let wait = wait.max(gap(self.settings.format));
            tracing::info!(
                hook = self.host,
                event = notice.event,
                "a notice is sent again in {wait:.1?}: {why}"
            );
            tokio::time::sleep(wait).await;
        };
        let (reason, why) = dropped;
        self.drop_one(notice, reason, &why);
    }

    fn drop_one(&self, notice: &Notice, reason: &'static str, why: &str) {
        self.metrics.notice_dropped(reason);
        let (hook, event) = (&*self.host, notice.event);
        tracing::warn!(hook, event, "a notice is dropped: {why}");
    }

    fn switch_off(&self) {
        self.off.store(true, Ordering::Relaxed);
        tracing::warn!(
            hook = self.host,
            "the hook says that it is gone; it is told nothing more until the next reload"
        );
    }

    async fn attempt(&self, notice: &Notice) -> Attempt {
        let Ok(headers) = self.headers(notice) else {
            return Attempt::Refused("its headers cannot be written".to_owned());
        };
        let Settings {
            url,
            secret,
            format,
            ..
        } = &self.settings;
        let now = (clock::unix_seconds(clock::wall()) * 1000.0) as u64;
        let sent = dressed(*format, url, secret.as_ref(), &notice.body, now);
        let answer = self
            .egress
            .post(sent.url.expose(), headers, sent.body, ANSWER)
            .await;
        let status = match answer {
            Ok(answer) if answer.status.is_success() => {
                return match refusal(*format, &answer.body) {
                    None => Attempt::Delivered,
                    Some(Refusal { why, is_for_now }) if is_for_now => Attempt::Throttled(why),
                    Some(Refusal { why, .. }) => Attempt::Refused(why),
                };
            }
            Ok(answer) => answer.status,
            Err(error @ EgressError::NotPublic) => {
                return Attempt::Refused(format!("{error}; `allow_private: true` lets it be used"));
            }
            Err(error @ EgressError::BadAddress) => return Attempt::Refused(error.to_string()),
            Err(error) => match error.status() {
                Some(status) => status,
                None => return Attempt::Failed(error.to_string()),
            },
        };
        let answer = format!("the hook answers {status}");
        match status {
            _ if status.is_success() => Attempt::Delivered,
            StatusCode::GONE => Attempt::Gone,
            StatusCode::TOO_MANY_REQUESTS => Attempt::Throttled(answer),
            StatusCode::REQUEST_TIMEOUT => Attempt::Failed(answer),
            _ if status.is_server_error() => Attempt::Failed(answer),
            _ => Attempt::Refused(answer),
        }
    }

    fn headers(&self, notice: &Notice) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(EVENT, HeaderValue::from_static(notice.event));
        headers.insert(DELIVERY, notice.delivery.parse()?);
        if let Some(secret) = &self.settings.secret
            && self.settings.format == NoticeFormat::Json
        {
            let now = clock::unix_seconds(clock::wall()) as u64;
            headers.insert(SIGNATURE, signature(secret, now, &notice.body).parse()?);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemTime;
    use crate::net::{Proxies, Reach};

    fn hook(events: &[Kind]) -> Hook {
        let settings = Settings {
            url: Secret::new("https://hooks.example/x"),
            format: NoticeFormat::Json,
            secret: None,
            allow_private: false,
            events: events.to_vec(),
        };
        let egress = Egress::new(Reach::Public, &Proxies::default())
            .ok()
            .unwrap();
        let metrics = Metrics::new("1", SystemTime::UNIX_EPOCH).unwrap();
        Hook::new(settings, egress, Arc::new(metrics))
    }

    fn event(kind: Kind, account: &str) -> Event<'_> {
        Event {
            kind,
            account,
            pool: "default",
            reason: "open",
            at: SystemTime::UNIX_EPOCH,
        }
    }

    /// What a hook with these events hears of what happens to one account.
    #[track_caller]
    fn hears(events: &[Kind], happens: &[Kind], expected: &[Kind]) {
        let hook = hook(events);
        for kind in happens {
            hook.tell(&event(*kind, "a"), "gw");
        }
        let queue = hook.queue.lock();
        let heard = queue.iter().filter_map(|notice| Kind::named(notice.event));
        let heard: Vec<Kind> = heard.collect();
        assert_eq!(heard, expected);
    }

    use Kind::{AccountDown, AccountUp, BreakerOpen, NeedsLogin, TokenExpiring};

    #[test]
    fn each_change_is_told_once_until_the_opposite_came() {
        let all = &Kind::ALL;
        hears(all, &[AccountUp, AccountUp], &[]);
        let happens = [AccountDown, AccountDown, AccountUp, AccountUp, AccountDown];
        hears(all, &happens, &[AccountDown, AccountUp, AccountDown]);
        let happens = [
            BreakerOpen,
            AccountDown,
            NeedsLogin,
            BreakerOpen,
            NeedsLogin,
            AccountUp,
        ];
        hears(all, &happens, &[BreakerOpen, NeedsLogin, AccountUp]);
        hears(
            all,
            &[TokenExpiring, TokenExpiring],
            &[TokenExpiring, TokenExpiring],
        );
    }

    #[test]
    fn a_hook_hears_what_it_asked_for_in_the_most_precise_word() {
        let happens = [BreakerOpen, NeedsLogin, AccountUp, NeedsLogin];
        hears(&[AccountDown], &happens, &[AccountDown, AccountDown]);
        hears(&[NeedsLogin], &happens, &[NeedsLogin, NeedsLogin]);
        hears(&[AccountUp], &happens, &[]);
        hears(
            &[AccountUp, BreakerOpen],
            &happens,
            &[BreakerOpen, AccountUp],
        );
        hears(&[AccountDown], &[TokenExpiring], &[]);
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let hook = hook(&[AccountDown]);
        let accounts: Vec<String> = (0..QUEUE + 7).map(|n| format!("a{n}")).collect();
        for account in &accounts {
            hook.tell(&event(AccountDown, account), "gw");
        }
        assert_eq!(hook.queue.lock().len(), QUEUE);
        let text = hook
            .metrics
            .encode(&crate::telemetry::Live::default(), false);
        let line = "poolgate_notices_dropped_total{reason=\"queue_full\"} 7";
        assert!(text.contains(line), "{text}");
        hook.keep_only(|account| account == "a3");
        assert_eq!(hook.told.lock().len(), 1);
    }
}
