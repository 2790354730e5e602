//! Sums are exact whatever comes; rows are kept to a rate; what was spent is told apart as finely as its
//! key's limits do.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::dialect::Usage;
use crate::telemetry::{AccessLine, Try};

const SECOND: Duration = Duration::from_secs(1);

/// A request of this key for this model that took so many milliseconds from this one on.
fn row(key: &str, model: &str, began: u64, took: u64) -> Row {
    let time = UNIX_EPOCH + Duration::from_millis(began);
    let mut line = AccessLine::new(time, "r".to_owned(), http::Method::POST);
    line.path = "chat";
    line.model = Some(model.to_owned());
    line.account = Some("a".into());
    line.tries.push(Try {
        account: "a".into(),
        outcome: "success",
    });
    line.status = 200;
    line.duration = Duration::from_millis(took);
    Row {
        line,
        key: Arc::from(key),
        usage: Usage {
            input: 10,
            output: 5,
            cached: 2,
        },
        cost: 7,
        estimated: false,
        grain: SECOND,
    }
}

fn failed(key: &str) -> Row {
    let mut row = row(key, "m", 0, 1);
    row.line.status = 502;
    row.line.tries[0].outcome = "transient";
    row
}

/// Requests, tokens and cost of all sums of usage.
fn used(items: &VecDeque<Item>) -> [i64; 3] {
    let mut all = [0; 3];
    for item in items {
        if let Item::Used { sums, .. } = item {
            all[0] += sums.requests;
            all[1] += sums.tokens_in + sums.tokens_out;
            all[2] += sums.cost;
        }
    }
    all
}

fn rows(items: &VecDeque<Item>) -> usize {
    let is_row = |item: &&Item| matches!(item, Item::Request(_));
    items.iter().filter(is_row).count()
}

#[test]
fn sums_are_exact_and_rows_of_their_own_have_as_many_as_anybody_will_look_at() {
    let now = clock::now();
    let mut gather = Gather::new(now);
    let row = row("k", "m", 0, 1);
    let many = BURST as i64 + 5_000;
    let whole = (0..many).filter(|id| gather.take(*id, &row, now) == Kept::Whole);
    assert_eq!(whole.count(), BURST as usize);
    assert_eq!(gather.take(many, &row, now), Kept::Sum);
    // Of those that failed the rows are looked for.
    assert_eq!(gather.take(many, &failed("k"), now), Kept::Whole);
    let later = now + Duration::from_millis(500);
    let whole = (0..100).filter(|id| gather.take(*id, &row, later) == Kept::Whole);
    assert_eq!(whole.count(), RATE as usize / 2);
    let items = gather.seal();
    assert_eq!(rows(&items), BURST as usize + 1 + RATE as usize / 2);
    let all = many + 2 + 100;
    assert_eq!(used(&items), [all, 15 * all, 7 * all]);
    assert!(gather.seal().is_empty());
}

#[test]
fn what_thousands_of_keys_use_is_written_less_often() {
    let now = clock::now();
    let mut gather = Gather::new(now);
    let mut patience = vec![gather.patience()];
    for keys in [100, 10_000, 90_000] {
        for key in 0..keys {
            gather.take(0, &failed(&format!("{keys}/{key}")), now);
        }
        patience.push(gather.patience());
    }
    let seconds = [1, 1, 11, 30].map(Duration::from_secs);
    assert_eq!(patience, seconds);
    assert_eq!(gather.take(0, &failed("one more"), now), Kept::Nothing);
    // What is there already needs no room.
    assert_ne!(gather.take(0, &failed("100/7"), now), Kept::Nothing);
    assert_eq!(used(&gather.seal())[0], 100 + 10_000 + 90_000 - 100 + 1);
}

#[test]
fn while_the_database_is_away_hours_of_use_take_little_room() {
    let now = clock::now();
    let mut gather = Gather::new(now);
    gather.be_coarse(true);
    for second in 0..3_600 {
        gather.take(0, &row("k", "m", second * 1000, 1), now);
    }
    assert!(gather.sums <= 63, "{}", gather.sums);
    assert_eq!(used(&gather.seal())[0], 3_600);
}

proptest! {
    #[test]
    fn what_was_spent_counts_from_its_time_or_a_grain_later(
        uses in prop::collection::vec((0u64..100_000, 0u64..5_000), 1..60),
        grain in 1u64..40,
    ) {
        let now = clock::now();
        let mut gather = Gather::new(now);
        let mut truth = Vec::new();
        for (began, took) in uses {
            let mut row = row("k", "m", began, took);
            row.grain = Duration::from_secs(grain);
            gather.take(0, &row, now);
            truth.push((began as i64, (began + took) as i64));
        }
        let grain = grain as i64 * 1000;
        let items = gather.seal();
        let spent = |from: i64| {
            let mut all = (0, 0, 0);
            for item in &items {
                if let Item::Spent { at, requests, tokens, cost, .. } = item && *at >= from {
                    all = (all.0 + requests, all.1 + tokens, all.2 + cost);
                }
            }
            all
        };
        for from in (0..110_000).step_by(777) {
            let count = |is: &dyn Fn(&&(i64, i64)) -> bool| truth.iter().filter(is).count() as i64;
            let (began, ended) = (count(&|one| one.0 >= from), count(&|one| one.1 >= from));
            let (requests, tokens, cost) = spent(from);
            prop_assert!(requests >= began && tokens >= 15 * ended && cost >= 7 * ended);
            let (began, ended) = (count(&|one| one.0 > from - grain), count(&|one| one.1 > from - grain));
            prop_assert!(requests <= began && tokens <= 15 * ended && cost <= 7 * ended);
        }
    }
}

#[test]
fn what_no_account_has_worked_for_is_used_and_not_spent() {
    let now = clock::now();
    let mut gather = Gather::new(now);
    let mut models = row("k", "m", 0, 1);
    models.line.path = "models";
    let mut gone = failed("k");
    gone.line.status = 0;
    for row in [failed("k"), models, gone] {
        gather.take(0, &row, now);
    }
    let items = gather.seal();
    let is_spent = |item: &Item| matches!(item, Item::Spent { .. });
    assert!(!items.iter().any(is_spent), "{items:?}");
    assert_eq!(used(&items)[0], 3);
    // A client that left before the answer was served all the same.
    let mut left = row("k", "m", 0, 1);
    left.line.status = 0;
    left.line.tries[0].outcome = "client_gone";
    gather.take(0, &left, now);
    assert!(gather.seal().iter().any(is_spent));
}

#[test]
fn a_text_of_a_clients_is_kept_to_a_length_and_never_mixed_up_with_another() {
    let now = clock::now();
    let mut gather = Gather::new(now);
    let long = format!("m\0{}", "ü".repeat(1000));
    gather.take(0, &row("k", &long, 0, 1), now);
    let items = gather.seal();
    let models = items.iter().filter_map(|item| match item {
        Item::Used {
            model,
            account,
            key,
            ..
        } => {
            assert_eq!((&**key, &**account), ("k", "a"));
            Some(model)
        }
        _ => None,
    });
    let models: Vec<_> = models.collect();
    assert_eq!(models.len(), 1);
    assert!(
        models[0].starts_with("mü") && models[0].len() <= TEXT,
        "{models:?}"
    );
}
