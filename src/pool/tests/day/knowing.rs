//! Somebody who knows which vendor works and what each has left, and has nothing but places and time.

use std::collections::VecDeque;
use std::time::Duration;

use super::plan::Plan;
use super::vendors::{HEAD, LAWS, Law, Vendor};
use super::{DAY, PLACES, QUEUE};
use crate::clock;

/// Which account he takes first, of those that work and have room.
#[derive(Clone, Copy)]
enum Order {
    /// What an hour has left is lost at its end.
    Ending,
    /// All shall last equally long, so that all places are there for a burst.
    Left,
}

/// The requests that he serves, in the better order of the two.
pub(super) fn served(plans: &[Plan]) -> Vec<bool> {
    let all = [Order::Ending, Order::Left].map(|order| served_in(plans, order));
    let count = |served: &Vec<bool>| served.iter().filter(|it| **it).count();
    all.into_iter().max_by_key(count).unwrap()
}

/// Who ends when: the number of the request.
type Busy = Vec<Vec<(Duration, usize)>>;

fn served_in(plans: &[Plan], order: Order) -> Vec<bool> {
    const STEP: Duration = Duration::from_millis(100);
    let mut served = vec![false; plans.len()];
    let mut vendors = Vendor::all(clock::now());
    let mut busy: Busy = vec![Vec::new(); LAWS.len()];
    let mut waiting = VecDeque::new();
    let (mut next, mut now) = (0, Duration::ZERO);
    while now < DAY + QUEUE {
        while plans.get(next).is_some_and(|plan| plan.at <= now) {
            waiting.push_back(next);
            next += 1;
        }
        for (places, vendor) in busy.iter_mut().zip(&mut vendors) {
            let ended = places.extract_if(.., |(until, _)| *until <= now);
            ended.for_each(|(_, nth)| vendor.ended(&plans[nth], now));
        }
        waiting.retain(|nth: &usize| plans[*nth].at + QUEUE > now);
        while let Some(nth) = waiting.front().copied() {
            let plan = &plans[nth];
            let Some(account) = first(&mut vendors, &busy, plan, order, now) else {
                break;
            };
            vendors[account].take(plan, now).unwrap();
            busy[account].push((now + HEAD + plan.takes, nth));
            served[nth] = true;
            waiting.pop_front();
        }
        now += STEP;
    }
    served
}

fn first(
    vendors: &mut [Vendor],
    busy: &Busy,
    plan: &Plan,
    order: Order,
    now: Duration,
) -> Option<usize> {
    let accounts = vendors.iter_mut().zip(busy).enumerate();
    let usable = accounts.filter_map(|(account, (vendor, places))| {
        let is_up = !vendor.is_down(now) && !vendor.is_down(now + HEAD);
        let used = vendor.used(plan, now);
        let is_usable = is_up && places.len() < PLACES && used <= 1.0;
        let after = match (order, LAWS[account].0) {
            (Order::Left, _) => used,
            (Order::Ending, Law::Requests(_) | Law::Tokens(_)) => 0.0,
            (Order::Ending, _) => vendor.rest(now).as_secs_f64(),
        };
        is_usable.then_some((after, account))
    });
    let first = usable.min_by(|a, b| a.0.total_cmp(&b.0));
    first.map(|(_, account)| account)
}
