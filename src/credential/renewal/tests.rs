//! Which refresh token is spent, where several tasks and logins share a folder.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::endpoints::Endpoints;
use super::holder::Holder;
use super::keeper::{Applicant, Failed, Obtained};
use super::login::Login;
use super::{Keeper, Kept};
use crate::clock::{self, SystemTime};
use crate::config::{ClientAuth, OAuth2, SecretSource, TokenFormat};
use crate::credential::cache::{Saved, TokenCache};
use crate::credential::seal::Key;
use crate::net::{Egress, Proxies, Reach};
use crate::secret::Secret;
use crate::store::Store;
use crate::telemetry::Metrics;

const GRANTED: &str = r#"{"access_token":"at-new","refresh_token":"rt-new"}"#;

/// A token endpoint that grants each request, and what it was asked.
async fn endpoint() -> (String, UnboundedReceiver<String>) {
    endpoint_that(|_| (200, GRANTED)).await
}

/// One that answers each request by what it says.
async fn endpoint_that(
    answers: impl Fn(&str) -> (u16, &'static str) + Send + 'static,
) -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let (asked, asks) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let text = read_request(&mut socket).await;
            let (status, body) = answers(&text);
            let _ = asked.send(text);
            let head = "connection: close\r\ncontent-length";
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} -\r\n{head}: {length}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asks)
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let read = String::from_utf8_lossy(&text).to_lowercase();
        let head = read.split_once("\r\n\r\n").filter(|(head, body)| {
            let length = head.split_once("content-length: ").unwrap().1;
            let length = length.lines().next().unwrap();
            body.len() >= length.parse().unwrap()
        });
        if head.is_some() || socket.read_buf(&mut text).await.unwrap() == 0 {
            return String::from_utf8(text).unwrap();
        }
    }
}

/// A public client.
fn login(url: &str, refresh: &str) -> Login {
    login_with(url, None, Some(refresh))
}

/// One that asks without a refresh token.
fn client(url: &str) -> Login {
    login_with(url, Some("cs"), None)
}

fn login_with(url: &str, secret: Option<&str>, refresh: Option<&str>) -> Login {
    let value = |text: &str| SecretSource::Value(Secret::new(text));
    Login::OAuth2(OAuth2 {
        token_url: url.to_owned(),
        client_id: "me".to_owned(),
        client_secret: secret.map(value),
        refresh_token: refresh.map(value),
        scope: String::new(),
        auth: ClientAuth::Basic,
        format: TokenFormat::Form,
        refresh_before: Duration::from_secs(300),
    })
}

fn saved(configured: &str, name: &str, lives: bool) -> Saved {
    let now = clock::wall();
    let hour = Duration::from_secs(3600);
    Saved {
        access: Secret::new(format!("at-{name}")),
        refresh: Some(Secret::new(format!("rt-{name}"))),
        expires_at: Some(if lives { now + hour } else { now - hour }),
        descends_from: Some(Saved::origin_of(&Secret::new(configured))),
        saved_at: now,
    }
}

struct Place {
    keeper: Keeper,
    /// As another process has it.
    cache: TokenCache,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let cache = || {
            let key = Key::of_text(&Secret::new("ab".repeat(32))).unwrap();
            TokenCache::open(&folder.path().join("tokens"), key).unwrap()
        };
        let metrics = Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap();
        let keeper = Keeper {
            egress: Egress::new(Reach::Anywhere, &Proxies::default()).unwrap(),
            kept: Arc::new(Kept::new(cache(), Arc::new(metrics))),
            store: Arc::new(Store::in_dir(folder.path())),
            underway: Arc::default(),
            holder: Holder::in_folder(folder.path()),
            endpoints: Endpoints::default(),
            others: None,
        };
        Place {
            keeper,
            cache: cache(),
            folder,
        }
    }

    fn saved_of(&self, login: &Login, lives: bool) -> Saved {
        Saved {
            descends_from: login.origin().unwrap(),
            ..saved("", "before", lives)
        }
    }

    async fn obtain(&self, login: &Login, held: Option<&Saved>) -> Result<Obtained, String> {
        let who = Applicant {
            id: "a",
            me: &self.keeper.holder.new_name(),
            login,
        };
        let obtained = self.keeper.obtain(&who, held).await;
        obtained.map_err(|failed| match failed {
            Failed::Dead(why) => format!("dead: {why}"),
            Failed::Later { why, .. } => why,
            Failed::Login(error) => error.to_string(),
        })
    }
}

#[tokio::test]
async fn what_another_process_was_granted_is_used_and_its_refresh_token_when_it_has_expired() {
    let (url, mut asks) = endpoint().await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    for held in [None, Some(saved("rt-0", "ours", true))] {
        place
            .cache
            .save("a", &saved("rt-0", "theirs", true))
            .unwrap();
        let found = place.obtain(&login, held.as_ref()).await.unwrap();
        assert!(found.saved.access.expose() == "at-theirs" && !found.is_new);
        assert!(asks.try_recv().is_err());
        place
            .cache
            .save("a", &saved("rt-0", "theirs", false))
            .unwrap();
        let granted = place.obtain(&login, held.as_ref()).await.unwrap();
        assert!(granted.saved.access.expose() == "at-new" && granted.is_new);
        let asked = asks.recv().await.unwrap();
        assert!(asked.contains("refresh_token=rt-theirs"), "{asked}");
    }
}

#[tokio::test]
async fn the_time_of_a_clock_that_was_set_back_makes_no_token_look_old() {
    let (url, mut asks) = endpoint().await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    let day = Duration::from_secs(86_400);
    let held = Saved {
        saved_at: clock::wall() + day,
        ..saved("rt-0", "ours", true)
    };
    place.cache.save("a", &held).unwrap();
    let granted = place.obtain(&login, Some(&held)).await.unwrap();
    asks.recv().await.unwrap();
    assert!(granted.saved.saved_at > held.saved_at);
    let kept = place.cache.load("a").unwrap().unwrap();
    let found = place.obtain(&login, Some(&held)).await.unwrap();
    assert!(found.saved == kept && !found.is_new);
}

#[tokio::test]
async fn a_login_that_was_configured_since_is_not_taken_for_the_one_before() {
    let (url, mut asks) = endpoint().await;
    let place = Place::new();
    let before = saved("rt-0", "before", true);
    place.cache.save("a", &before).unwrap();
    // The file of the refresh token was changed, and nobody has looked yet.
    let granted = place
        .obtain(&login(&url, "rt-1"), Some(&before))
        .await
        .unwrap();
    let asked = asks.recv().await.unwrap();
    assert!(asked.contains("refresh_token=rt-1"), "{asked}");
    let origin = Saved::origin_of(&Secret::new("rt-1"));
    assert!(granted.saved.descends_from == Some(origin));
    // A task that goes on with the configuration from before keeps its hands off.
    let late = place.obtain(&login(&url, "rt-0"), Some(&before)).await;
    assert!(late.err().unwrap().contains("another login"));
    assert!(asks.try_recv().is_err());
    let kept = place.cache.load("a").unwrap().unwrap();
    assert!(kept.descends_from == Some(origin));
}

#[tokio::test]
async fn a_client_without_a_refresh_token_makes_no_use_of_one_that_it_is_given() {
    let (url, mut asks) = endpoint().await;
    let (place, login) = (Place::new(), client(&url));
    let mut held = None;
    for _ in 0..2 {
        let granted = place.obtain(&login, held.as_ref()).await.unwrap();
        assert!(granted.saved.access.expose() == "at-new" && granted.saved.refresh.is_none());
        let asked = asks.recv().await.unwrap();
        assert!(asked.contains("grant_type=client_credentials"), "{asked}");
        held = Some(granted.saved);
    }
}

#[tokio::test]
async fn what_one_vendor_granted_goes_to_no_other_vendor_client_or_scope() {
    let (url, _asks) = endpoint().await;
    let place = Place::new();
    let here = client(&url);
    place.cache.save("a", &place.saved_of(&here, true)).unwrap();
    let found = place.obtain(&here, None).await.unwrap();
    assert!(!found.is_new, "its own");
    let Login::OAuth2(config) = &here else {
        panic!("it is one");
    };
    let others = [
        OAuth2 {
            token_url: format!("{url}?tenant=b"),
            ..config.clone()
        },
        OAuth2 {
            client_id: "another".to_owned(),
            ..config.clone()
        },
        OAuth2 {
            scope: "wide".to_owned(),
            ..config.clone()
        },
    ];
    for other in others.map(Login::OAuth2) {
        place.cache.save("a", &place.saved_of(&here, true)).unwrap();
        let granted = place.obtain(&other, None).await.unwrap();
        assert!(granted.is_new && granted.saved.access.expose() == "at-new");
    }
}

#[tokio::test]
async fn a_refresh_token_that_comes_without_a_token_is_kept_as_the_one_before_is_dead() {
    let (url, mut asks) = endpoint_that(|asked| match asked.contains("refresh_token=rt-0") {
        true => (200, r#"{"access_token":"","refresh_token":"rt-1"}"#),
        false => (200, GRANTED),
    })
    .await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    for _ in 0..2 {
        let _ = place.obtain(&login, None).await;
    }
    asks.recv().await.unwrap();
    let second = asks.recv().await.unwrap();
    assert!(second.contains("refresh_token=rt-1"), "{second}");
    let kept = place.cache.load("a").unwrap().unwrap();
    assert!(kept.refresh == Some(Secret::new("rt-new")));
}

#[tokio::test]
async fn a_refusal_is_believed_only_once_no_newer_refresh_token_is_on_the_disk() {
    let (refused, mut refusals) = unbounded_channel();
    let (url, _asks) = endpoint_that(move |asked| match asked.contains("refresh_token=rt-ours") {
        true => {
            refused.send(()).unwrap();
            // Until another process has put its own there.
            std::thread::sleep(Duration::from_millis(300));
            (400, r#"{"error":"invalid_grant"}"#)
        }
        false => (200, GRANTED),
    })
    .await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    let ours = saved("rt-0", "ours", false);
    let obtain = place.obtain(&login, Some(&ours));
    let meanwhile = async {
        refusals.recv().await.unwrap();
        place
            .cache
            .save("a", &saved("rt-0", "theirs", false))
            .unwrap();
    };
    let (obtained, ()) = tokio::join!(obtain, meanwhile);
    assert!(obtained.unwrap().saved.access.expose() == "at-new");
}

#[tokio::test]
async fn while_the_records_are_another_programs_no_refresh_token_is_spent() {
    let (url, mut asks) = endpoint().await;
    let place = Place::new();
    place.keeper.store.ready().await.unwrap();
    let path = place.folder.path().join("poolgate.db");
    let database = format!("sqlite://{}", path.display());
    let other = sqlx::sqlite::SqlitePool::connect(&database).await.unwrap();
    let newer = sqlx::query("PRAGMA user_version = 1000000");
    newer.execute(&other).await.unwrap();
    let keeper = Keeper {
        store: Arc::new(Store::in_dir(place.folder.path())),
        ..place.keeper
    };
    let place = Place { keeper, ..place };
    let refused = place.obtain(&login(&url, "rt-0"), None).await;
    assert!(refused.err().unwrap().contains("nobody knows"));
    assert!(asks.try_recv().is_err());
    let granted = place.obtain(&client(&url), None).await.unwrap();
    assert!(granted.is_new, "it spends none");
}

#[tokio::test]
async fn what_could_not_be_saved_is_known_to_the_next_task_and_saved_by_it() {
    let (url, mut asks) = endpoint().await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    let held = saved("rt-0", "lost", false);
    let slot = place.keeper.kept.ready("a").unwrap();
    let tokens = place.folder.path().join("tokens");
    let away = place.folder.path().join("away");
    std::fs::rename(&tokens, &away).unwrap();
    std::fs::write(&tokens, "").unwrap();
    place.keeper.kept.keep("a", slot, &held);
    assert!(place.keeper.kept.is_unsaved("a"));
    let refused = place.obtain(&login, None).await;
    assert!(refused.err().unwrap().contains("not saved yet"));
    std::fs::remove_file(&tokens).unwrap();
    std::fs::rename(&away, &tokens).unwrap();
    place.obtain(&login, None).await.unwrap();
    let asked = asks.recv().await.unwrap();
    assert!(asked.contains("refresh_token=rt-lost"), "{asked}");
    assert!(!place.keeper.kept.is_unsaved("a"));
}
