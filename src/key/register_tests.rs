//! Issuing, changing, rotating, revoking and importing keys.

use super::*;
use crate::clock;
use crate::config;
use crate::key::status;
use crate::key::written::Time;

const HOUR: Duration = Duration::from_secs(3600);

const CONFIG: &str = "
tiers:
  trial: {key_days: 7}
  high: {pools: [high], assignment: bound}
pools:
  default: {accounts: [{id: a, upstream: openai, credential: {api_key: k}}]}
  high: {accounts: [{id: h1, upstream: openai, credential: {api_key: k}}, {id: h2, upstream: openai, credential: {api_key: k}}]}
";

struct House {
    store: Store,
    config: Config,
    accounts: Vec<Place>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loaded = config::parse(CONFIG, "poolgate.yaml".as_ref(), &|_| None);
        let config = loaded
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        let places = config.pools.iter().flat_map(|pool| {
            pool.accounts.iter().map(|account| Place {
                account: account.id.clone(),
                pool: pool.name.clone(),
            })
        });
        House {
            store: Store::open(dir.path()).await.unwrap(),
            accounts: places.collect(),
            config,
            _dir: dir,
        }
    }

    fn register(&self) -> Register<'_> {
        Register {
            store: &self.store,
            config: &self.config,
            accounts: &self.accounts,
        }
    }

    async fn refusal(&self, asked: &str) -> String {
        let asked = serde_json::from_str::<Attributes>(asked).unwrap();
        let created = self.register().create(&asked, clock::wall()).await;
        created.err().unwrap().to_string()
    }

    async fn create(&self, asked: &str) -> (KeyRecord, Secret) {
        let asked = serde_json::from_str::<Attributes>(asked).unwrap();
        self.register().create(&asked, clock::wall()).await.unwrap()
    }
}

#[tokio::test]
async fn a_key_has_the_attributes_that_were_asked_for() {
    let house = House::new().await;
    let asked = r#"{"name": "ci", "account": "a", "days": 30, "models": ["gpt-*"],
        "limits": [{"models": "*opus*", "requests": 10, "window": "5h"}, {"cost": 2.5, "window": "1d"}],
        "max_concurrent": 4, "allowed_ips": ["10.0.0.1", "10.1.0.0/16"], "labels": {"team": "x"}, "notes": "n"}"#;
    let (key, secret) = house.create(asked).await;
    assert!(secret.expose().starts_with("sk-pg-") && secret.expose().len() == 78);
    assert!(secret.expose().ends_with(&key.hint) && key.hint.len() == 4);
    assert_eq!(key, house.store.key(&key.id).await.unwrap().unwrap());
    assert_eq!(key.expires_at, Some(key.created_at + 30 * 86_400_000));
    assert_eq!(key.limits[0].window, 5 * HOUR);
    let shown = serde_json::json!(crate::key::KeyView::of(&key, clock::wall()));
    assert_eq!(
        shown["limits"][1],
        serde_json::json!({"models": "*", "cost": 2.5, "window": "1day"})
    );
    assert_eq!(
        shown["allowed_ips"],
        serde_json::json!(["10.0.0.1/32", "10.1.0.0/16"])
    );
    let shown = shown.to_string();
    assert!(
        !shown.contains(secret.expose()) && !shown.contains(&key.hash),
        "{shown}"
    );
}

#[tokio::test]
async fn what_is_not_said_the_tier_says() {
    let house = House::new().await;
    let (for_ever, _) = house.create("{}").await;
    assert_eq!((&*for_ever.tier, for_ever.expires_at), ("default", None));
    let (trial, _) = house.create(r#"{"tier": "trial"}"#).await;
    assert_eq!(trial.expires_at, Some(trial.created_at + 7 * 86_400_000));
    let (longer, _) = house
        .create(r#"{"tier": "trial", "expires_at": null}"#)
        .await;
    assert_eq!(longer.expires_at, None);
    assert_ne!(for_ever.name, trial.name);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_would_be_right() {
    let house = House::new().await;
    let cases = [
        (
            r#"{"tier": "lo"}"#,
            "tier: there is no tier \"lo\"; there are default, high, trial",
        ),
        (
            r#"{"account": "x"}"#,
            "account: there is no account \"x\"; there are a, h1, h2",
        ),
        (
            r#"{"tier": "high"}"#,
            "account: keys of tier \"high\" are bound to one: h1, h2",
        ),
        (
            r#"{"tier": "high", "account": "a"}"#,
            "account: \"a\" is of no pool of tier \"high\", whose are h1, h2",
        ),
        (r#"{"days": 0}"#, "days: must be 1 to 36500"),
        (r#"{"days": -1}"#, "days: must be 1 to 36500"),
        (r#"{"name": "-"}"#, "name: must be a text, and not `-`"),
        (
            r#"{"limits": [{"window": "5h"}]}"#,
            "limits: a limit counts exactly one of requests, tokens or cost",
        ),
        (
            r#"{"limits": [{"requests": 1, "window": "soon"}]}"#,
            "limits: `window` must be a duration such as 5h",
        ),
        (
            r#"{"allowed_ips": ["10.0.0.0/99"]}"#,
            "allowed_ips: must be addresses or ranges such as 10.0.0.0/8",
        ),
        (
            r#"{"expires_at": 1900000000}"#,
            "expires_at: must be a time such as 2030-01-31T00:00:00Z, or milliseconds since 1970",
        ),
    ];
    for (asked, said) in cases {
        assert_eq!(house.refusal(asked).await, said, "{asked}");
    }
    assert!(house.store.keys().await.unwrap().is_empty());
    house.create(r#"{"name": "ci"}"#).await;
    let twin = house.refusal(r#"{"name": "ci"}"#).await;
    assert_eq!(twin, "there is a key named \"ci\" already");
}

#[tokio::test]
async fn a_key_is_found_by_id_by_name_and_by_itself() {
    let house = House::new().await;
    let register = house.register();
    let (key, secret) = house.create(r#"{"name": "ci"}"#).await;
    for text in [&*key.id, "ci", secret.expose()] {
        assert_eq!(register.find(text).await.unwrap().id, key.id);
    }
    let (rotated, new) = register.rotate(&key.id, HOUR, clock::wall()).await.unwrap();
    assert_eq!(rotated.id, key.id);
    for text in [secret.expose(), new.expose()] {
        assert_eq!(register.find(text).await.unwrap().id, key.id);
    }
    let unknown = register
        .find("sk-pg-0123456789012345678901234567890123456789abcd")
        .await;
    let said = unknown.err().unwrap().to_string();
    assert_eq!(
        said, "there is no key \"****abcd\"",
        "it may be a real one elsewhere"
    );
}

#[tokio::test]
async fn a_revoked_key_leaves_its_name_and_cannot_be_brought_back() {
    let house = House::new().await;
    let register = house.register();
    let (old, _) = house.create(r#"{"name": "ci"}"#).await;
    let now = clock::wall();
    let revoked = register.revoke(&old.id, now).await.unwrap();
    assert_eq!(status(&revoked, now), "revoked");
    assert_eq!(register.find("ci").await.unwrap().id, old.id);
    let (new, _) = house.create(r#"{"name": "ci"}"#).await;
    assert_eq!(register.find("ci").await.unwrap().id, new.id);
    let enabled = Attributes {
        enabled: Some(true),
        ..Attributes::default()
    };
    for said in [
        register.change(&old.id, &enabled, now).await.err(),
        register.rotate(&old.id, HOUR, now).await.err(),
        register.revoke(&old.id, now).await.err(),
    ] {
        assert_eq!(said.unwrap().to_string(), "the key \"ci\" is revoked");
    }
    register.revoke(&new.id, now).await.unwrap();
    let said = register.find("ci").await.err().unwrap().to_string();
    assert_eq!(
        said,
        "2 revoked keys were named \"ci\": say which by its id"
    );
}

#[tokio::test]
async fn a_change_that_cannot_be_leaves_the_key_as_it_was() {
    let house = House::new().await;
    let register = house.register();
    let (key, _) = house.create(r#"{"name": "ci", "days": 5}"#).await;
    let now = clock::wall();
    let asked = Attributes {
        notes: Some("new".to_owned()),
        account: Some(Some("x".to_owned())),
        ..Attributes::default()
    };
    assert!(register.change(&key.id, &asked, now).await.is_err());
    assert_eq!(house.store.key(&key.id).await.unwrap().as_ref(), Some(&key));
    let asked = Attributes {
        enabled: Some(false),
        expires_at: Some(Some(Time::Text("2031-01-01T00:00:00Z".to_owned()))),
        ..Attributes::default()
    };
    let changed = register.change(&key.id, &asked, now).await.unwrap();
    assert_eq!(
        (changed.enabled, changed.expires_at),
        (false, Some(1_924_992_000_000))
    );
    assert!(matches!(
        register.change("key_none", &asked, now).await,
        Err(KeyError::NoSuchKey(_))
    ));
}

#[tokio::test]
async fn keys_of_the_older_pool_are_imported_as_its_redis_has_them() {
    let house = House::new().await;
    let register = house.register();
    let text = r#"
{"key": "sk-cli-v1-0000000000000000", "client_name": "alice", "account_name": "medium_pool", "use_pool": "true", "tier": "trial", "created_at": "1755300000000", "created_date": "x", "expires_at": "1999999999000", "expires_date": "y", "active": "true", "status": "sold", "sonnet_4_per_5_hours": "42", "sonnet_4_current_window_start": "0", "sonnet_4_current_window_requests": "3"}
{"key": "sk-cli-v1-1111111111111111", "client_name": "bob", "account_name": "h2", "use_pool": "false", "tier": "high", "active": "false", "opus_4_per_5_hours": "10", "sonnet_4_per_5_hours": "50"}
"#;
    let now = clock::wall();
    let imported = register.import(text, now).await.unwrap();
    assert_eq!((imported.added, imported.known), (2, 0));
    let alice = register.find("alice").await.unwrap();
    assert_eq!(
        alice.hash,
        KeyHash::of("sk-cli-v1-0000000000000000").to_hex()
    );
    assert_eq!((alice.account, alice.created_at), (None, 1_755_300_000_000));
    assert_eq!(alice.expires_at, Some(1_999_999_999_000));
    assert_eq!(
        (&*alice.limits[0].models, alice.limits[0].amount),
        ("*sonnet*", 42.0)
    );
    let bob = register.find("bob").await.unwrap();
    assert_eq!((bob.account.as_deref(), bob.enabled), (Some("h2"), false));
    assert_eq!(bob.limits.len(), 2);
    let again = register.import(text, now).await.unwrap();
    assert_eq!((again.added, again.known), (0, 2));
}

#[tokio::test]
async fn a_key_that_was_rotated_away_is_no_new_one_to_an_import() {
    let house = House::new().await;
    let register = house.register();
    let (key, old) = house.create(r#"{"name": "ci"}"#).await;
    let now = clock::wall();
    let (_, new) = register.rotate(&key.id, HOUR, now).await.unwrap();
    for known in [old, new] {
        let line = serde_json::json!({"key": known.expose(), "name": "again"}).to_string();
        let imported = register.import(&line, now).await.unwrap();
        assert_eq!((imported.added, imported.known), (0, 1));
    }
    assert_eq!(house.store.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_grace_may_be_as_long_as_anybody_can_say() {
    let house = House::new().await;
    let (key, old) = house.create("{}").await;
    let now = clock::wall();
    let register = house.register();
    let (rotated, _) = register.rotate(&key.id, Duration::MAX, now).await.unwrap();
    let (hash, until) = rotated.previous.unwrap();
    assert_eq!(hash, KeyHash::of(old.expose()).to_hex());
    assert!(until > rotated.created_at + 99 * 365 * 86_400_000);
}

#[tokio::test]
async fn a_file_with_a_mistake_imports_nothing_and_every_mistake_is_told_without_its_key() {
    let house = House::new().await;
    let text = r#"{"hash": "0000000000000000000000000000000000000000000000000000000000000000", "name": "fine"}
{"hash": "beef"}
{"key": "sk-cli-v1-secretsecret", "tier": "none"}
{"key": "sk-cli-v1-secretsecret", "expiers_at": 3}
not json sk-cli-v1-secretsecret
{"name": "nothing"}
{"hash": "0000000000000000000000000000000000000000000000000000000000000000", "name": "twin"}"#;
    let problems = house
        .register()
        .import(text, clock::wall())
        .await
        .unwrap_err();
    let begins = [
        "line 2: hash: must be 64 hex digits",
        "line 3: tier: there is no tier \"none\"",
        "line 4: unknown field `expiers_at`",
        "line 5: is no JSON object",
        "line 6: key: a line has either a `key` or its `hash`",
        "line 7: this key is there twice",
    ];
    assert_eq!(problems.len(), begins.len(), "{problems:?}");
    for (problem, begin) in problems.iter().zip(begins) {
        assert!(
            problem.starts_with(begin) && !problem.contains("secret"),
            "{problem}"
        );
    }
    assert!(house.store.keys().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_large_file_is_imported_in_parts_so_that_others_get_their_turn_and_goes_on_where_it_was()
{
    let house = House::new().await;
    let (register, now) = (house.register(), clock::wall());
    let line = |n: usize| format!("{{\"key\": \"sk-imported-{n:020}\", \"name\": \"key {n}\"}}\n");
    let text: String = (0..2_500).map(line).collect();
    let part: String = (0..1_200).map(line).collect();
    assert_eq!(register.import(&part, now).await.unwrap().added, 1_200);
    let before = house.store.keys_version().await.unwrap();
    let imported = register.import(&text, now).await.unwrap();
    assert_eq!((imported.added, imported.known), (1_300, 1_200));
    let steps = house.store.keys_version().await.unwrap() - before;
    assert_eq!(steps, 2, "each is seen by itself");
    // A mistake in the last line is found before the first one is added.
    let mut twins: String = (2_500..5_000).map(line).collect();
    twins.push_str("{\"key\": \"sk-imported-and-a-twin-of-it\", \"name\": \"key 7\"}");
    let problems = register.import(&twins, now).await.unwrap_err();
    assert_eq!(
        problems,
        ["line 2501: there is a key named \"key 7\" already"]
    );
    assert_eq!(house.store.keys().await.unwrap().len(), 2_500);
}
