//! Sessions of the page: a token once, then a cookie that no script can read. They live in memory and
//! end with it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use crate::clock::Instant;
use crate::secret::Secret;

/// The name of the cookie.
pub(super) const NAME: &str = "poolgate_session";

/// The page says by this that nobody is at it: what it asks by itself does not keep the session open.
const AWAY: &str = "x-poolgate-away";

/// A session that nobody uses for so long has ended; and any one after so long.
const IDLE: Duration = Duration::from_secs(3_600);
pub(super) const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// Sessions at a time; one more ends the one that was not used for longest.
const MOST: usize = 256;

/// Logins of one address that may fail within [`FAILURES_IN`].
const FAILURES: u32 = 10;
const FAILURES_IN: Duration = Duration::from_secs(60);

/// Addresses of which failures are known; beyond that nobody new is heard.
const ADDRESSES: usize = 1_024;

/// How long the link that a first start prints is good.
const LINK: Duration = Duration::from_secs(15 * 60);

/// The hash of a token, of a cookie or of a link's code.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(text: &[u8]) -> Hash {
    blake3::hash(text).into()
}

/// Those that are open, and who failed to open one.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<Hash, Session>>,
    failures: Mutex<HashMap<Option<IpAddr>, (u32, Instant)>>,
    link: Mutex<Option<(Hash, Instant)>>,
}

struct Session {
    /// Whose it is: as long as that token is good.
    token: Hash,
    csrf: Secret,
    began: Instant,
    used: Instant,
}

/// What a request's cookie stands for.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) token: Hash,
    pub(super) csrf: Secret,
    /// It lasts so long without another call.
    pub(super) left: Duration,
}

impl Known {
    /// Does the header of a write say what only our own page can know?
    pub(super) fn is_own(&self, csrf: &[u8]) -> bool {
        hash(csrf)
            .ct_eq(&hash(self.csrf.expose().as_bytes()))
            .into()
    }
}

impl Sessions {
    /// Opens one for whoever has shown this token; returns what the cookie holds.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn open(&self, token: Hash, now: Instant) -> std::io::Result<(Secret, Known)> {
        let (cookie, csrf) = (random()?, random()?);
        let known = Known {
            token,
            csrf: csrf.clone(),
            left: IDLE,
        };
        let mut open = self.open.lock();
        open.retain(|_, session| session.left(now).is_some());
        if open.len() >= MOST {
            let oldest = open.iter().min_by_key(|(_, session)| session.used);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.map(|id| open.remove(&id));
        }
        let session = Session {
            token,
            csrf,
            began: now,
            used: now,
        };
        open.insert(hash(cookie.expose().as_bytes()), session);
        Ok((cookie, known))
    }

    /// The session of this request's cookie, which is used by that, unless nobody is at the page.
    pub(super) fn of(&self, headers: &HeaderMap, now: Instant) -> Option<Known> {
        let mut open = self.open.lock();
        let mut ids = cookies(headers).map(|cookie| hash(cookie.as_bytes()));
        ids.find_map(|id| {
            let session = open.get_mut(&id)?;
            session.left(now)?;
            if !headers.contains_key(AWAY) {
                session.used = now;
            }
            Some(Known {
                token: session.token,
                csrf: session.csrf.clone(),
                left: session.left(now)?,
            })
        })
    }

    /// Has this request's cookie a session? A stream that asks so once a second uses none.
    pub(super) fn is_open(&self, headers: &HeaderMap, now: Instant) -> bool {
        let open = self.open.lock();
        let mut ids = cookies(headers).map(|cookie| hash(cookie.as_bytes()));
        ids.any(|id| open.get(&id).is_some_and(|it| it.left(now).is_some()))
    }

    pub(super) fn close(&self, headers: &HeaderMap) {
        let mut open = self.open.lock();
        for cookie in cookies(headers) {
            open.remove(&hash(cookie.as_bytes()));
        }
    }

    /// Somebody at this address showed no good token. An error: too often; how much later it is heard
    /// again. Whoever shows a good one is not asked: behind another proxy all have one address.
    pub(super) fn failed(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut failures = self.failures.lock();
        failures.retain(|_, (_, since)| now.saturating_duration_since(*since) < FAILURES_IN);
        match failures.get(&network(from)) {
            Some((count, since)) if *count >= FAILURES => {
                Err((*since + FAILURES_IN).saturating_duration_since(now))
            }
            None if failures.len() >= ADDRESSES => Err(FAILURES_IN),
            _ => {
                failures.entry(network(from)).or_insert((0, now)).0 += 1;
                Ok(())
            }
        }
    }

    /// A code with which one session may be opened without a token, soon.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn invite(&self, now: Instant) -> std::io::Result<Secret> {
        let code = random()?;
        *self.link.lock() = Some((hash(code.expose().as_bytes()), now + LINK));
        Ok(code)
    }

    /// Is this the code of the link? It was, from now on.
    pub(super) fn accept(&self, code: &[u8], now: Instant) -> bool {
        let mut link = self.link.lock();
        let is_it = link.is_some_and(|(known, until)| {
            let same: bool = known.ct_eq(&hash(code)).into();
            same && now < until
        });
        if is_it {
            *link = None;
        }
        is_it
    }
}

impl Session {
    fn left(&self, now: Instant) -> Option<Duration> {
        let idle = IDLE.checked_sub(now.saturating_duration_since(self.used))?;
        let all = LONGEST.checked_sub(now.saturating_duration_since(self.began))?;
        Some(idle.min(all)).filter(|left| !left.is_zero())
    }
}

/// One network is one caller: whoever has an IPv6 address has 2^64 of them.
fn network(address: Option<IpAddr>) -> Option<IpAddr> {
    address.map(|address| match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    })
}

/// Values of our cookie; a browser may send one for each path and domain.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok());
    let pairs = pairs.flat_map(|line| line.split(';')).map(str::trim);
    pairs.filter_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='))
}

/// 256 random bits.
fn random() -> std::io::Result<Secret> {
    use base64::Engine;
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::{AWAY, FAILURES, FAILURES_IN, IDLE, LINK, LONGEST, MOST, NAME, Sessions, hash};
    use crate::clock;
    use crate::secret::Secret;
    use axum::http::HeaderMap;
    use std::time::Duration;

    fn with(cookie: &Secret) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let line = format!("other=1; {NAME}={}", cookie.expose());
        headers.insert("cookie", line.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_lasts_while_it_is_used_but_not_for_ever() {
        let (sessions, mut now) = (Sessions::default(), clock::now());
        let (cookie, _) = sessions.open(hash(b"token"), now).unwrap();
        let headers = with(&cookie);
        for _ in 0..(LONGEST.as_secs() / IDLE.as_secs()) {
            now += IDLE - Duration::from_secs(1);
            assert!(sessions.of(&headers, now).is_some());
        }
        assert!(sessions.of(&headers, now + IDLE).is_none(), "twelve hours");
        let (cookie, _) = sessions.open(hash(b"token"), now).unwrap();
        assert!(sessions.of(&with(&cookie), now + IDLE).is_none(), "unused");
        assert!(sessions.of(&with(&Secret::new("guess")), now).is_none());
        assert!(sessions.of(&HeaderMap::new(), now).is_none());
    }

    #[test]
    fn what_the_page_asks_while_nobody_is_at_it_does_not_keep_the_session() {
        let (sessions, now) = (Sessions::default(), clock::now());
        let (cookie, _) = sessions.open(hash(b"token"), now).unwrap();
        let mut headers = with(&cookie);
        headers.insert(AWAY, "1".parse().unwrap());
        let almost = now + IDLE - Duration::from_secs(1);
        assert!(sessions.of(&headers, almost).is_some(), "it is answered");
        assert!(sessions.of(&headers, now + IDLE).is_none());
    }

    #[test]
    fn a_look_at_a_session_is_no_use_of_it() {
        let (sessions, now) = (Sessions::default(), clock::now());
        let (cookie, _) = sessions.open(hash(b"token"), now).unwrap();
        let almost = now + IDLE - Duration::from_secs(1);
        assert!(sessions.is_open(&with(&cookie), almost));
        assert!(!sessions.is_open(&with(&cookie), now + IDLE));
        assert!(!sessions.is_open(&with(&Secret::new("guess")), now));
        assert!(sessions.of(&with(&cookie), now + IDLE).is_none());
    }

    #[test]
    fn one_session_too_many_ends_the_one_that_was_not_used_for_longest() {
        let (sessions, now) = (Sessions::default(), clock::now());
        let (first, _) = sessions.open(hash(b"token"), now).unwrap();
        let (second, _) = sessions.open(hash(b"token"), now).unwrap();
        let later = now + Duration::from_secs(1);
        sessions.of(&with(&first), later);
        for _ in 2..=MOST {
            sessions.open(hash(b"token"), later).unwrap();
        }
        assert!(sessions.of(&with(&first), later).is_some());
        assert!(sessions.of(&with(&second), later).is_none());
    }

    #[test]
    fn whoever_guesses_waits_and_nobody_else() {
        let (sessions, now) = (Sessions::default(), clock::now());
        let at = |text: &str| Some(text.parse().unwrap());
        for n in 0..FAILURES {
            let from = at(&format!("2001:db8::{n}"));
            assert!(sessions.failed(from, now).is_ok());
        }
        let wait = sessions.failed(at("2001:db8::ffff"), now).unwrap_err();
        assert_eq!(wait, FAILURES_IN, "the same network");
        assert!(sessions.failed(at("192.0.2.1"), now).is_ok());
        assert!(
            sessions
                .failed(at("2001:db8::1"), now + FAILURES_IN)
                .is_ok()
        );
    }

    #[test]
    fn a_link_is_good_once_and_not_for_long() {
        let (sessions, now) = (Sessions::default(), clock::now());
        let code = sessions.invite(now).unwrap();
        assert!(!sessions.accept(b"guess", now));
        assert!(sessions.accept(code.expose().as_bytes(), now));
        assert!(!sessions.accept(code.expose().as_bytes(), now));
        let code = sessions.invite(now).unwrap();
        assert!(!sessions.accept(code.expose().as_bytes(), now + LINK));
    }
}
