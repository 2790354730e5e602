//! Limits of keys hold over all gateways together.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use poolgate::limit::{Draw, Drawn, Tally};
use poolgate::store::shared::Shared;
use tokio::runtime::Runtime;

use super::{connect, connect_for, patient_gateways};
use crate::support::{Mock, Redis, chat, count, many, pool};

const HOUR: Duration = Duration::from_secs(3600);

/// A tier of which each key has this limit, and one key.
fn limited(vendors: &[Mock], limit: &str) -> String {
    let keys = "clients:\n  open: false\n  keys: [{name: one, key: sk-test-a-key-of-a-client}]\n";
    let tier = format!("tiers: {{default: {{limits: [{limit}]}}}}\n");
    format!("{tier}{keys}{}", pool(vendors, ""))
}

/// How many of so many requests of the key, at once over all gateways, are served; and how many answers
/// of Redis came too late.
fn served(limit: &str, requests: usize) -> (usize, usize) {
    let redis = Redis::start();
    let vendors = Mock::several(1, &[]);
    let gateways = patient_gateways(3, &redis.url(), &limited(&vendors, limit));
    let request = chat(false).bearer("sk-test-a-key-of-a-client");
    let answers: Vec<_> = thread::scope(|scope| {
        let all = gateways.iter().map(|gateway| {
            let request = &request;
            scope.spawn(|| many(gateway.address, request, 6, requests / 3))
        });
        let all: Vec<_> = all.collect();
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    for answer in &answers {
        assert!([200, 429].contains(&answer.status), "{}", answer.text());
        if answer.status == 429 {
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            // A large one slides in steps of half a percent.
            assert!((3500..=3620).contains(&wait), "{wait}");
        }
    }
    let late = gateways.iter().map(|gateway| {
        let of_limits = ["store=\"redis\"", "operation=\"limit\""];
        gateway.metric("poolgate_store_errors_total", &of_limits) as usize
    });
    let served = answers.iter().filter(|answer| answer.status == 200);
    (served.count(), late.sum())
}

#[test]
fn a_small_limit_holds_over_three_gateways() {
    let (served, late) = served("{requests: 20, window: 1h}", 120);
    // Exact. Where an answer of Redis comes too late, as on a busy machine, its request goes by its
    // gateway's own part; what was drawn with it is the next request's, if there is one.
    let (least, most) = (20 - late.min(1), 20 + late);
    assert!(
        (least..=most).contains(&served),
        "{served}, {late} answers came late"
    );
}

#[test]
fn a_large_limit_is_kept_within_one_percent() {
    let most = count(600, 6000);
    let (served, late) = served(&format!("{{requests: {most}, window: 1h}}"), most * 3 / 2);
    let percent = most / 100;
    assert!(
        served.abs_diff(most) <= percent,
        "{served} of {most}, {late} answers came late"
    );
}

fn draw(shared: &Arc<Shared>, runtime: &Runtime, want: u64, known: u64) -> Drawn {
    draw_of(shared, runtime, "limit", want, known)
}

#[test]
fn what_was_drawn_after_an_older_copy_was_made_is_counted_when_that_comes_back() {
    let redis = Redis::start_with(&["--enable-debug-command", "yes"]);
    let runtime = Runtime::new().unwrap();
    let one = connect(redis.url(), &runtime);
    assert_eq!(draw(&one, &runtime, 2, 0), Drawn::Granted(2));
    redis.save();
    let again = |want: u64, ever: u64| {
        let draw = Draw {
            ever,
            ..a_draw("limit", want, ever)
        };
        runtime.block_on(one.draw(draw, Box::new(|_| {})))
    };
    assert_eq!(again(4, 2), Drawn::Granted(4));
    assert_eq!(redis.command(&["DEBUG", "RELOAD", "NOSAVE"]), "OK");
    assert_eq!(again(9, 6), Drawn::Granted(4), "of 10, after 2 and 4");
}

#[test]
fn an_answer_that_comes_late_grants_all_the_same() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let one = connect_for("one", redis.url(), Duration::from_millis(50), &runtime);
    let (tells, told) = std::sync::mpsc::channel();
    redis.freeze();
    let late = Box::new(move |drawn| tells.send(drawn).unwrap());
    let drawn = runtime.block_on(one.draw(a_draw("limit", 4, 0), late));
    assert!(matches!(drawn, Drawn::Late | Drawn::Away), "{drawn:?}");
    redis.go_on();
    let granted = told.recv_timeout(Duration::from_secs(9)).unwrap();
    assert_eq!(granted, Drawn::Granted(4));
}

fn draw_of(shared: &Arc<Shared>, runtime: &Runtime, limit: &str, want: u64, known: u64) -> Drawn {
    let draw = a_draw(limit, want, known);
    runtime.block_on(shared.draw(draw, Box::new(|_| {})))
}

fn a_draw(limit: &str, want: u64, known: u64) -> Draw<'_> {
    Draw {
        limit,
        most: 10,
        span: HOUR,
        owed: 0,
        least: 1,
        want,
        known,
        ever: 0,
    }
}

#[test]
fn what_was_used_before_the_loss_of_everything_is_counted_again() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let [one, two] = [0; 2].map(|_| connect(redis.url(), &runtime));
    assert_eq!(draw(&one, &runtime, 4, 0), Drawn::Granted(4));
    assert_eq!(draw(&two, &runtime, 3, 0), Drawn::Granted(3));
    redis.command(&["FLUSHALL"]);
    assert_eq!(draw(&one, &runtime, 1, 4), Drawn::Granted(1));
    assert_eq!(
        draw(&two, &runtime, 9, 3),
        Drawn::Granted(2),
        "all of 10 but 4, 1 and 3"
    );
    let Drawn::Spent(wait) = draw(&one, &runtime, 1, 5) else {
        panic!("nothing is left");
    };
    assert!(
        wait <= HOUR && wait > HOUR - Duration::from_secs(60),
        "{wait:?}"
    );
    // What it knows of the time before leaves its window.
    assert_eq!(
        draw(&one, &runtime, 9, 2),
        Drawn::Granted(3),
        "of 4 before one is left, and one since"
    );
}

#[test]
fn what_is_given_back_can_be_drawn_again_and_a_new_gateway_counts_nothing_twice() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let one = connect(redis.url(), &runtime);
    assert_eq!(draw(&one, &runtime, 10, 0), Drawn::Granted(10));
    runtime.block_on(one.give_back("limit", HOUR, 6));
    // It begins with what the records know, which is all counted already.
    let again = connect(redis.url(), &runtime);
    assert_eq!(draw(&again, &runtime, 9, 4), Drawn::Granted(6));
}

#[test]
fn a_window_slides() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let one = connect(redis.url(), &runtime);
    let draw = |want: u64, least: u64| {
        let draw = Draw {
            limit: "short",
            most: 3,
            span: Duration::from_millis(400),
            owed: 0,
            least,
            want,
            known: 0,
            ever: 0,
        };
        runtime.block_on(one.draw(draw, Box::new(|_| {})))
    };
    assert_eq!(draw(3, 3), Drawn::Granted(3));
    let Drawn::Spent(wait) = draw(1, 1) else {
        panic!("nothing is left");
    };
    assert!(wait <= Duration::from_millis(400), "{wait:?}");
    thread::sleep(wait + Duration::from_millis(5));
    assert_eq!(draw(3, 3), Drawn::Granted(3));
}
