//! Which refresh token is spent, where several tasks and logins share a folder.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Keeper;
use super::holder;
use super::keeper::{Applicant, Failed, Obtained};
use super::login::Login;
use crate::clock::{self, SystemTime};
use crate::config::{ClientAuth, OAuth2, SecretSource, TokenFormat};
use crate::credential::cache::{Saved, TokenCache};
use crate::credential::seal::Key;
use crate::net::{Egress, Proxies, Reach};
use crate::secret::Secret;
use crate::store::Store;
use crate::telemetry::Metrics;

/// A token endpoint that grants each request, and what it was asked.
async fn endpoint() -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let (asked, asks) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut text = Vec::new();
            while !text.ends_with(b"client_id=me") && socket.read_buf(&mut text).await.unwrap() > 0
            {
            }
            asked.send(String::from_utf8(text).unwrap()).unwrap();
            let token = r#"{"access_token":"at-new","refresh_token":"rt-new"}"#;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
            let answer = format!("{head}: {}\r\n\r\n{token}", token.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asks)
}

/// A public client, whose name is the last that a request says.
fn login(url: &str, refresh: &str) -> Login {
    Login::OAuth2(OAuth2 {
        token_url: url.to_owned(),
        client_id: "me".to_owned(),
        client_secret: None,
        refresh_token: Some(SecretSource::Value(Secret::new(refresh))),
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
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::of_text(&Secret::new("ab".repeat(32))).unwrap();
        let metrics = Metrics::new("0", SystemTime::UNIX_EPOCH).unwrap();
        let keeper = Keeper {
            egress: Egress::new(Reach::Anywhere, &Proxies::default()).unwrap(),
            cache: TokenCache::open(&folder.path().join("tokens"), key).unwrap(),
            store: Arc::new(Store::in_dir(folder.path())),
            metrics: Arc::new(metrics),
            busy: Arc::default(),
        };
        Place {
            keeper,
            _folder: folder,
        }
    }

    async fn obtain(&self, login: &Login, held: Option<&Saved>) -> Result<Obtained, String> {
        let who = Applicant {
            id: "a",
            me: &holder::new_name(),
            login,
        };
        let obtained = self.keeper.obtain(&who, held).await;
        obtained.map_err(|failed| match failed {
            Failed::Dead(why) | Failed::Later { why, .. } => why,
        })
    }
}

#[tokio::test]
async fn what_another_process_was_granted_is_used_and_its_refresh_token_when_it_has_expired() {
    let (url, mut asks) = endpoint().await;
    let (place, login) = (Place::new(), login(&url, "rt-0"));
    for held in [None, Some(saved("rt-0", "ours", true))] {
        place
            .keeper
            .save("a", &saved("rt-0", "theirs", true))
            .unwrap();
        let found = place.obtain(&login, held.as_ref()).await.unwrap();
        assert!(found.saved.access.expose() == "at-theirs" && !found.is_new);
        assert!(asks.try_recv().is_err());
        place
            .keeper
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
    place.keeper.save("a", &held).unwrap();
    let granted = place.obtain(&login, Some(&held)).await.unwrap();
    asks.recv().await.unwrap();
    assert!(granted.saved.saved_at > held.saved_at);
    let kept = place.keeper.load("a").unwrap().unwrap();
    let found = place.obtain(&login, Some(&held)).await.unwrap();
    assert!(found.saved == kept && !found.is_new);
}

#[tokio::test]
async fn a_login_that_was_configured_since_is_not_taken_for_the_one_before() {
    let (url, mut asks) = endpoint().await;
    let place = Place::new();
    let before = saved("rt-0", "before", true);
    place.keeper.save("a", &before).unwrap();
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
    let kept = place.keeper.load("a").unwrap().unwrap();
    assert!(kept.descends_from == Some(origin));
}
