//! The script that gives shares of an account's places, alone: no order of events gives two gateways
//! the same place.

use std::sync::Arc;

use poolgate::store::shared::{Ask, Beat, Shared};
use tokio::runtime::Runtime;

use super::{connect, connect_as};
use crate::support::{Redis, wait_for};

/// A gateway as the script sees it: what it holds, and what is in use.
struct Player {
    shared: Arc<Shared>,
    limit: u32,
    using: u32,
    waiting: u32,
}

impl Player {
    fn new(redis: &Redis, runtime: &Runtime) -> Player {
        Player::of(connect(redis.url(), runtime))
    }

    fn of(shared: Arc<Shared>) -> Player {
        Player {
            shared,
            limit: 0,
            using: 0,
            waiting: 0,
        }
    }

    /// What its gateway keeps when it is started again.
    fn name(&self) -> &str {
        self.shared.me().split('-').next().unwrap()
    }

    fn beat(&mut self, runtime: &Runtime, most: u32) -> Beat {
        let ask = Ask {
            account: "a".to_owned(),
            most,
            using: self.using,
            hold: self.limit.max(self.using),
            need: (self.using + self.waiting).min(most),
            room: 1,
        };
        let beat = wait_for("an answer", || {
            runtime
                .block_on(self.shared.beat(std::slice::from_ref(&ask), false))
                .ok()
        });
        self.limit = beat.given[0].share.min(beat.given[0].target);
        beat
    }

    fn acquire(&mut self) {
        if self.using < self.limit {
            self.using += 1;
            self.waiting = self.waiting.saturating_sub(1);
        }
    }
}

/// Time goes on by itself only in Redis: this is as if it had lost everything long ago.
fn settled(redis: &Redis) {
    redis.command(&["HSET", "test:{places}:facts", "settles", "0"]);
}

#[test]
fn whatever_happens_no_more_places_are_in_use_than_there_are() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..4).map(|_| Player::new(&redis, &runtime)).collect();
    players[0].beat(&runtime, 5);
    settled(&redis);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut most_used = 0;
    for step in 0..1500 {
        let one = random.usize(..players.len());
        match random.u32(..10) {
            0..3 => players[one].acquire(),
            3..5 => players[one].using = players[one].using.saturating_sub(1),
            5 => players[one].waiting = random.u32(..8),
            // It dies, and its requests with it; another one comes.
            6 if step % 50 < 5 => {
                let me = players[one].shared.me().to_owned();
                redis.command(&["ZADD", "test:{places}:alive", "1", &me]);
                players[one] = Player::new(&redis, &runtime);
            }
            6 if step % 50 < 8 => {
                redis.command(&["FLUSHALL"]);
                players.iter_mut().for_each(|player| {
                    assert!(player.beat(&runtime, 5).settling);
                });
                settled(&redis);
            }
            // Redis was away for so long that all have run out.
            6 if step % 50 < 12 => {
                silence(&redis, &players);
                players.iter_mut().for_each(|player| {
                    assert!(player.beat(&runtime, 5).settling);
                });
                settled(&redis);
            }
            _ => drop(players[one].beat(&runtime, 5)),
        }
        let used: u32 = players.iter().map(|player| player.using).sum();
        let held: u32 = players
            .iter()
            .map(|player| player.limit.max(player.using))
            .sum();
        assert!(
            used <= 5 && held <= 5,
            "seed {seed}, step {step}: {used} used, {held} held"
        );
        most_used = most_used.max(used);
    }
    assert_eq!(most_used, 5, "all of them can be had");
}

#[test]
fn a_share_goes_to_who_needs_it_and_all_get_their_part_where_all_need_more() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..3).map(|_| Player::new(&redis, &runtime)).collect();
    players[0].beat(&runtime, 5);
    settled(&redis);
    players[0].waiting = 9;
    players[0].beat(&runtime, 5);
    assert_eq!(players[0].limit, 5, "nobody else needs one");
    players.iter_mut().for_each(|player| player.waiting = 9);
    for _ in 0..3 {
        players
            .iter_mut()
            .for_each(|player| drop(player.beat(&runtime, 5)));
    }
    let mut limits: Vec<u32> = players.iter().map(|player| player.limit).collect();
    limits.sort_unstable();
    assert_eq!(limits, [1, 2, 2]);
    // Two of them have nothing to do any more.
    players[1..]
        .iter_mut()
        .for_each(|player| player.waiting = 0);
    for _ in 0..3 {
        players
            .iter_mut()
            .for_each(|player| drop(player.beat(&runtime, 5)));
    }
    assert_eq!(players[0].limit, 5);
}

/// As if nobody had said anything for longer than a gateway's time, and nobody had died.
fn silence(redis: &Redis, players: &[Player]) {
    for player in players {
        redis.command(&["ZADD", "test:{places}:alive", "1", player.shared.me()]);
    }
}

#[test]
fn after_a_silence_of_all_nobody_takes_what_another_still_uses() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..3).map(|_| Player::new(&redis, &runtime)).collect();
    players[0].beat(&runtime, 6);
    settled(&redis);
    players.iter_mut().for_each(|player| player.waiting = 2);
    for _ in 0..3 {
        players
            .iter_mut()
            .for_each(|player| drop(player.beat(&runtime, 6)));
    }
    for player in &mut players {
        (0..2).for_each(|_| player.acquire());
        assert_eq!(player.using, 2);
    }
    silence(&redis, &players);
    players[1].waiting = 9;
    let beat = players[1].beat(&runtime, 6);
    assert!(beat.settling && beat.gateways == 3, "{beat:?}");
    assert_eq!(players[1].limit, 2, "the others may be there still");
    // One comes back, one has died.
    players[0].beat(&runtime, 6);
    assert_eq!(players[0].limit, 2);
    settled(&redis);
    players[1].beat(&runtime, 6);
    assert_eq!(players[1].limit, 2, "its time is not over yet");
    redis.command(&["ZADD", "test:{places}:alive", "1", players[2].shared.me()]);
    players[1].beat(&runtime, 6);
    assert_eq!(players[1].limit, 4);
}

#[test]
fn a_gateway_that_begins_after_a_silence_of_all_takes_nobody_for_dead_at_once() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..2).map(|_| Player::new(&redis, &runtime)).collect();
    players[0].beat(&runtime, 5);
    settled(&redis);
    players[0].waiting = 5;
    players[0].beat(&runtime, 5);
    (0..4).for_each(|_| players[0].acquire());
    assert_eq!(players[0].using, 4);
    players[1].beat(&runtime, 5);
    silence(&redis, &players);
    let mut fresh = Player::new(&redis, &runtime);
    fresh.waiting = 9;
    let beat = fresh.beat(&runtime, 5);
    assert!(beat.settling && beat.gateways == 3, "{beat:?}");
    assert_eq!(fresh.limit, 0, "the others may be there still");
    // One comes back; the other has died, and is taken off when its time is over.
    players[0].beat(&runtime, 5);
    settled(&redis);
    redis.command(&["ZADD", "test:{places}:alive", "1", players[1].shared.me()]);
    let beat = fresh.beat(&runtime, 5);
    assert!(!beat.settling && beat.gateways == 2, "{beat:?}");
    assert!(players[0].using + fresh.limit <= 5, "{beat:?}");
}

#[test]
fn a_gateway_that_is_the_only_one_waits_for_nobody() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut player = Player::new(&redis, &runtime);
    player.beat(&runtime, 5);
    settled(&redis);
    player.waiting = 9;
    player.beat(&runtime, 5);
    assert_eq!(player.limit, 5);
    silence(&redis, std::slice::from_ref(&player));
    let beat = player.beat(&runtime, 5);
    assert!(!beat.settling && player.limit == 5);
    // It crashes, and is started again when its time is over.
    silence(&redis, std::slice::from_ref(&player));
    let mut again = Player::of(connect_as(player.name(), redis.url(), &runtime));
    again.waiting = 9;
    let beat = again.beat(&runtime, 5);
    assert!(!beat.settling && beat.gateways == 1, "{beat:?}");
    assert_eq!(again.limit, 5);
}

#[test]
fn what_an_older_redis_says_of_shares_counts_less_than_what_gateways_hold() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..2).map(|_| Player::new(&redis, &runtime)).collect();
    players[0].beat(&runtime, 5);
    settled(&redis);
    players[1].beat(&runtime, 5);
    let fields = redis.command(&["HGETALL", "test:{places}:of:a"]);
    players[0].waiting = 4;
    players[0].beat(&runtime, 5);
    (0..4).for_each(|_| players[0].acquire());
    assert_eq!(players[0].using, 4);
    // As it was, at a server that was started again.
    let fields: Vec<&str> = fields.lines().collect();
    redis.command(&[&["HSET", "test:{places}:of:a"], &*fields].concat());
    redis.command(&["HSET", "test:{places}:facts", "run", "another"]);
    players[1].waiting = 9;
    let beat = players[1].beat(&runtime, 5);
    assert!(beat.settling && players[1].limit <= 1, "{beat:?}");
    players[0].beat(&runtime, 5);
    settled(&redis);
    players[1].beat(&runtime, 5);
    assert_eq!((players[0].using, players[1].limit), (4, 1));
}

#[test]
fn a_gateway_that_leaves_leaves_nothing_behind() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut players: Vec<Player> = (0..2).map(|_| Player::new(&redis, &runtime)).collect();
    for player in &mut players {
        player.beat(&runtime, 5);
    }
    runtime.block_on(players[0].shared.leave()).unwrap();
    players[1].beat(&runtime, 5);
    let me = players[0].shared.me();
    for name in ["facts", "of:a"] {
        let left = redis.command(&["HKEYS", &format!("test:{{places}}:{name}")]);
        assert!(!left.contains(me), "{name}: {left}");
    }
    assert_eq!(redis.command(&["ZCARD", "test:{places}:alive"]), "1");
}

#[test]
fn a_beat_that_comes_late_changes_nothing() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let mut player = Player::new(&redis, &runtime);
    player.beat(&runtime, 5);
    let me = player.shared.me().to_owned();
    redis.command(&["HSET", "test:{places}:facts", &format!("seq:{me}"), "1000"]);
    let before = redis.command(&["HGET", "test:{places}:of:a", &me]);
    let ask = Ask {
        account: "a".to_owned(),
        most: 5,
        using: 0,
        hold: 0,
        need: 0,
        room: 0,
    };
    assert!(runtime.block_on(player.shared.beat(&[ask], false)).is_err());
    assert_eq!(redis.command(&["HGET", "test:{places}:of:a", &me]), before);
}
