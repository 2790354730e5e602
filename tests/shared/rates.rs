//! The `rate_limits` of an account that several gateways share: each keeps to its part of them.

use super::gateways;
use crate::support::{Mock, Redis, chat, pool_of};

#[test]
fn an_account_never_gets_more_than_its_limit_from_all_gateways_together() {
    let redis = Redis::start();
    let vendors = Mock::several(1, &[]);
    let keys = "    queue: {timeout: 0s}\n";
    let limited = |_| ", rate_limits: [{requests: 10, window: 1h}]".to_owned();
    let gateways = gateways(3, &redis.url(), &pool_of(&vendors, keys, limited));
    let served = |gateway: &crate::support::Gateway| {
        let answers = (0..8).map(|_| gateway.send(&chat(false)).status);
        answers.filter(|status| *status == 200).count()
    };
    let mut served: Vec<usize> = gateways.iter().map(served).collect();
    served.sort_unstable();
    assert_eq!(served, [3, 3, 4]);
    assert_eq!(vendors[0].count("requests"), 10);
}
