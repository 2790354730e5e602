//! Several gateways keep one limit, and each its part of it while nobody counts for all.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::limits::{Exceeded, Limits, Spent};
use super::limits_tests::{ask, limit, limits};
use super::shared::{Draw, Drawn, Late, Tally};
use super::window::Window;
use crate::clock::{self, Instant};
use crate::config::{Limit, LimitUnit};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts in this process for as many gateways as are said to be there.
struct Centre {
    gateways: u32,
    now: Instant,
    windows: Mutex<HashMap<String, Window>>,
    is_away: AtomicBool,
    draws: AtomicU64,
    /// Answers come, but too late.
    is_late: AtomicBool,
    late: Mutex<Vec<(Late, Drawn)>>,
}

impl Centre {
    fn of(gateways: u32) -> Self {
        Centre {
            gateways,
            now: clock::now(),
            windows: Mutex::default(),
            is_away: AtomicBool::new(false),
            draws: AtomicU64::new(0),
            is_late: AtomicBool::new(false),
            late: Mutex::default(),
        }
    }

    fn answer(&self, draw: Draw<'_>) -> Drawn {
        self.draws.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Drawn::Away;
        }
        let mut windows = self.windows.lock();
        let window = windows.entry(draw.limit.to_owned());
        let window = window.or_insert_with(|| Window::new(draw.span));
        window.add(draw.owed, self.now);
        let left = draw.most.saturating_sub(window.used(self.now));
        if left < draw.least {
            return Drawn::Spent(window.frees_in(draw.most - draw.least, self.now));
        }
        let granted = draw.want.min(left);
        window.add(granted, self.now);
        Drawn::Granted(granted)
    }
}

impl Debug for Centre {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Centre")
    }
}

impl Tally for Centre {
    fn draw<'a>(&'a self, draw: Draw<'a>, late: Late) -> BoxFuture<'a, Drawn> {
        Box::pin(async move {
            let drawn = self.answer(draw);
            if !self.is_late.load(Ordering::SeqCst) {
                return drawn;
            }
            self.late.lock().push((late, drawn));
            Drawn::Late
        })
    }

    fn give_back<'a>(&'a self, limit: &'a str, _: Duration, amount: u64) -> BoxFuture<'a, ()> {
        if let Some(window) = self.windows.lock().get_mut(limit) {
            window.take_back(amount, self.now);
        }
        Box::pin(async {})
    }

    fn gateways(&self) -> u32 {
        self.gateways
    }
}

fn three(rule: &Limit) -> [Arc<Limits>; 3] {
    [0; 3].map(|_| limits(std::slice::from_ref(rule)))
}

/// Sends one request through this gateway.
async fn send(
    gateway: &Arc<Limits>,
    centre: &Centre,
    estimate: u64,
    real: u64,
) -> Result<(), Exceeded> {
    let asked = ask("m", estimate);
    let hold = gateway.admit_shared(&asked, centre, centre.now).await?;
    let tokens = real;
    hold.settle(Spent { tokens, cost: 0 }, centre.now);
    Ok(())
}

/// How many of so many requests, sent to the gateways in turn, are let through.
async fn served(gateways: &[Arc<Limits>], centre: &Centre, requests: usize) -> usize {
    let mut served = 0;
    for turn in 0..requests {
        let gateway = &gateways[turn % gateways.len()];
        served += usize::from(send(gateway, centre, 0, 0).await.is_ok());
    }
    served
}

#[tokio::test]
async fn three_gateways_let_through_what_one_would() {
    let centre = Centre::of(3);
    let gateways = three(&limit("*", LimitUnit::Requests, 10.0, MINUTE));
    assert_eq!(served(&gateways, &centre, 100).await, 10, "few are exact");
    let gateways = three(&limit("*", LimitUnit::Requests, 10_000.0, MINUTE));
    let centre = Centre::of(3);
    let served = served(&gateways, &centre, 12_000).await;
    assert!((9_900..=10_000).contains(&served), "{served}");
    let draws = centre.draws.load(Ordering::SeqCst);
    let refused = 2_000 + 100;
    assert!(
        draws < 10_000 / 30 + refused,
        "most wait for nobody: {draws}"
    );
}

#[tokio::test]
async fn tokens_of_three_gateways_stay_within_one_percent() {
    let centre = Centre::of(3);
    let gateways = three(&limit("*", LimitUnit::Tokens, 100_000.0, MINUTE));
    let mut tokens = 0;
    for turn in 0..5_000usize {
        let gateway = &gateways[turn % 3];
        if send(gateway, &centre, 2_000, 70).await.is_ok() {
            tokens += 70;
        }
        gateway.settle_up(&centre, centre.now).await;
    }
    assert!((99_000..=101_000).contains(&tokens), "{tokens}");
}

#[tokio::test]
async fn while_nobody_counts_for_all_each_keeps_to_its_part_and_tells_it_later() {
    let centre = Centre::of(3);
    let gateways = three(&limit("*", LimitUnit::Requests, 30.0, MINUTE));
    centre.is_away.store(true, Ordering::SeqCst);
    assert_eq!(served(&gateways, &centre, 60).await, 30);
    centre.is_away.store(false, Ordering::SeqCst);
    for gateway in &gateways {
        gateway.settle_up(&centre, centre.now).await;
    }
    assert_eq!(
        served(&gateways, &centre, 60).await,
        0,
        "what was used then is known now"
    );
}

#[tokio::test]
async fn a_request_that_a_second_limit_refuses_takes_nothing_of_the_first() {
    let centre = Centre::of(1);
    let wide = limit("*", LimitUnit::Requests, 5.0, MINUTE);
    let narrow = limit("opus", LimitUnit::Requests, 0.0, MINUTE);
    let gateway = limits(&[wide, narrow]);
    for _ in 0..20 {
        let opus = ask("opus", 0);
        let refused = gateway.admit_shared(&opus, &centre, centre.now).await;
        assert!(refused.is_err());
    }
    assert_eq!(served(&[gateway], &centre, 20).await, 5);
}

#[tokio::test]
async fn what_a_late_answer_grants_is_not_lost_and_nothing_is_counted_twice() {
    let centre = Centre::of(3);
    let gateways = three(&limit("*", LimitUnit::Requests, 10.0, MINUTE));
    centre.is_late.store(true, Ordering::SeqCst);
    assert_eq!(served(&gateways, &centre, 6).await, 6, "of its own part");
    for (late, drawn) in centre.late.lock().drain(..) {
        late(drawn);
    }
    centre.is_late.store(false, Ordering::SeqCst);
    assert_eq!(served(&gateways, &centre, 20).await, 4, "all of 10");
    // Whoever was told that nothing is left goes by that where the next answer is late.
    centre.is_late.store(true, Ordering::SeqCst);
    assert_eq!(served(&gateways, &centre, 20).await, 0);
}

#[tokio::test]
async fn a_grant_that_comes_when_its_request_was_refused_is_the_next_ones() {
    let centre = Centre::of(3);
    let gateways = three(&limit("*", LimitUnit::Requests, 3.0, MINUTE));
    centre.is_late.store(true, Ordering::SeqCst);
    let one = &gateways[..1];
    assert_eq!(served(one, &centre, 2).await, 1, "its part is one");
    for (late, drawn) in centre.late.lock().drain(..) {
        late(drawn);
    }
    centre.is_late.store(false, Ordering::SeqCst);
    assert_eq!(served(one, &centre, 1).await, 1, "without another draw");
    assert_eq!(centre.draws.load(Ordering::SeqCst), 2);
    assert_eq!(served(&gateways, &centre, 9).await, 1);
}

#[tokio::test]
async fn those_who_draw_at_once_draw_no_more_ahead_than_one() {
    let centre = Centre::of(1);
    let gateway = limits(&[limit("*", LimitUnit::Requests, 600.0, MINUTE)]);
    centre.is_late.store(true, Ordering::SeqCst);
    for _ in 0..9 {
        send(&gateway, &centre, 0, 0).await.unwrap();
    }
    let late: Vec<_> = centre.late.lock().drain(..).collect();
    late.into_iter().for_each(|(late, drawn)| late(drawn));
    let drawn = || {
        let mut windows = centre.windows.lock();
        let of_all = windows.values_mut().map(|window| window.used(centre.now));
        of_all.sum::<u64>()
    };
    // Each of the nine went by its gateway's part, and the next one told of it.
    assert_eq!(drawn(), 9 + 6 + 8);
    centre.is_late.store(false, Ordering::SeqCst);
    for _ in 0..14 {
        send(&gateway, &centre, 0, 0).await.unwrap();
    }
    assert_eq!(drawn(), 9 + 6 + 8, "what was drawn is used first");
    send(&gateway, &centre, 0, 0).await.unwrap();
    assert_eq!(drawn(), 9 + 6 + 8 + 1 + 6);
}

#[tokio::test]
async fn a_client_that_leaves_while_its_request_draws_takes_nothing_along() {
    let centre = Centre::of(1);
    let gateway = limits(&[limit("*", LimitUnit::Tokens, 1000.0, MINUTE)]);
    send(&gateway, &centre, 500, 100).await.unwrap();
    // It holds 400 of what was drawn; a request that needs more asks, and is gone.
    let asked = ask("m", 600);
    let (sender, gone) = tokio::sync::oneshot::channel::<()>();
    let never = Never(centre, Mutex::new(Some(sender)));
    let admitting = gateway.admit_shared(&asked, &never, never.0.now);
    tokio::select! {
        _ = admitting => panic!("nobody answers"),
        _ = gone => {}
    }
    let centre = never.0;
    gateway.settle_up(&centre, centre.now).await;
    for _ in 0..9 {
        send(&gateway, &centre, 100, 100).await.unwrap();
    }
    assert!(send(&gateway, &centre, 100, 100).await.is_err());
}

/// Says that it was asked, and never answers.
#[derive(Debug)]
struct Never(Centre, Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

impl Tally for Never {
    fn draw<'a>(&'a self, _: Draw<'a>, _: Late) -> BoxFuture<'a, Drawn> {
        drop(self.1.lock().take());
        Box::pin(std::future::pending())
    }

    fn give_back<'a>(&'a self, _: &'a str, _: Duration, _: u64) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn gateways(&self) -> u32 {
        1
    }
}
