//! The vendors of the day: what each lets through, and when it is down.

use std::time::Duration;

use super::plan::Plan;
use crate::clock::Instant;
use crate::limit::Window;

/// The vendors' hour, in seconds.
pub(super) const HOUR: u64 = 360;

/// A vendor's head takes so long.
pub(super) const HEAD: Duration = Duration::from_millis(300);

/// What may be sent to a vendor.
#[derive(Clone, Copy)]
pub(super) enum Law {
    /// So many requests in each of its hours. Nobody is told before a 429.
    Unsaid(u32),
    /// The same, and with the last one it is said that nothing is left.
    Said(u32),
    /// So many requests in any hour, as the account's own limit.
    Requests(u64),
    /// So many tokens in any hour, as the account's own limit.
    Tokens(u64),
    Dead,
}

/// One for each account, and the account's weight: what its law and its places let through.
pub(super) const LAWS: [(Law, u32); 8] = [
    (Law::Requests(60), 6),
    (Law::Tokens(60_000), 6),
    (Law::Unsaid(80), 8),
    (Law::Dead, 1),
    (Law::Said(130), 13),
    (Law::Unsaid(160), 16),
    (Law::Said(140), 14),
    (Law::Unsaid(360), 27),
];

/// The account that works for a minute and fails for one.
const FLAPS: usize = 6;

/// What an account's vendor has taken.
pub(super) struct Vendor {
    account: usize,
    began: Instant,
    hour: u64,
    in_hour: u32,
    any_hour: Window,
    /// Of requests under way.
    tokens: u64,
}

impl Vendor {
    pub(super) fn all(began: Instant) -> Vec<Vendor> {
        let vendor = |account| Vendor {
            account,
            began,
            hour: 0,
            in_hour: 0,
            any_hour: Window::new(Duration::from_secs(HOUR)),
            tokens: 0,
        };
        (0..LAWS.len()).map(vendor).collect()
    }

    fn law(&self) -> Law {
        LAWS[self.account].0
    }

    pub(super) fn is_down(&self, at: Duration) -> bool {
        let is_off = self.account == FLAPS && at.as_secs() / 60 % 2 == 1;
        matches!(self.law(), Law::Dead) || is_off
    }

    /// How long its hour goes on; hours begin at other times with each account.
    pub(super) fn rest(&self, at: Duration) -> Duration {
        Duration::from_secs((self.hour(at) + 1) * HOUR) - self.since(at)
    }

    fn hour(&self, at: Duration) -> u64 {
        self.since(at).as_secs() / HOUR
    }

    fn since(&self, at: Duration) -> Duration {
        at + Duration::from_secs(47 * self.account as u64)
    }

    /// The part of what it lets through that was used, 0 to 1 and beyond, if this request came as well.
    pub(super) fn used(&mut self, plan: &Plan, at: Duration) -> f64 {
        let hour = self.hour(at);
        if self.hour != hour {
            (self.hour, self.in_hour) = (hour, 0);
        }
        let in_any = self.any_hour.used(self.began + at);
        let (used, most) = match self.law() {
            Law::Unsaid(most) | Law::Said(most) => (u64::from(self.in_hour) + 1, u64::from(most)),
            Law::Requests(most) => (in_any + 1, most),
            Law::Tokens(most) => (in_any + self.tokens + plan.tokens, most),
            Law::Dead => (1, 0),
        };
        used as f64 / most as f64
    }

    /// A request comes. Ok: it is taken; with how long no other one will be, if that is said.
    ///
    /// # Errors
    /// It will be taken after so long. What an account's own limit lets through is always taken.
    pub(super) fn take(&mut self, plan: &Plan, at: Duration) -> Result<Option<Duration>, Duration> {
        let is_spent = self.used(plan, at) > 1.0;
        let rest = self.rest(at);
        match self.law() {
            Law::Unsaid(_) | Law::Said(_) if is_spent => return Err(rest),
            Law::Unsaid(_) | Law::Said(_) => self.in_hour += 1,
            Law::Requests(_) => self.any_hour.add(1, self.began + at),
            Law::Tokens(_) => self.tokens += plan.tokens,
            Law::Dead => {}
        }
        let says = matches!(self.law(), Law::Said(most) if self.in_hour == most);
        Ok(says.then_some(rest))
    }

    /// A request that was taken has ended.
    pub(super) fn ended(&mut self, plan: &Plan, at: Duration) {
        if let Law::Tokens(_) = self.law() {
            self.tokens -= plan.tokens;
            self.any_hour.add(plan.tokens, self.began + at);
        }
    }
}
