//! The HTTP client for what poolgate itself asks of others: token endpoints and webhooks.
//!
//! What it says about a failure never holds the address beyond its host, nor what was sent: both
//! hold secrets.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::OnceCell;

use super::proxies::{BadProxy, Proxies};
use super::public::{NotPublic, PublicNames, is_public};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// From the first look-up to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that was idle for longer may have been forgotten by what lies between.
const IDLE: Duration = Duration::from_secs(30);

/// Where a client may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Anywhere,
    /// To the public internet only, see [`is_public`].
    Public,
}

/// An HTTP client with limits: of time, of the answer's length, and of where it may go. It follows
/// no redirects and keeps no cookies. Clones share their connections.
#[derive(Clone)]
pub struct Egress {
    reach: Reach,
    proxies: Proxies,
    /// Made with the first request: reading the system's certificates takes its time, and most
    /// gateways never ask anybody.
    client: Arc<OnceCell<Client>>,
}

/// The whole answer, whatever its status.
#[derive(Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. The texts hold no secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EgressError {
    #[error("not a usable address")]
    BadAddress,
    #[error("{NotPublic}")]
    NotPublic,
    /// No connection came about, so nothing was sent.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Something was sent, perhaps all of it, and no whole answer came; `status` is that of an answer
    /// that began.
    #[error("no whole answer: {why}")]
    Lost {
        status: Option<StatusCode>,
        why: String,
    },
    /// The request was answered, at greater length than is read.
    #[error("the answer ({status}) is longer than {most} bytes")]
    TooLong { status: StatusCode, most: usize },
}

impl EgressError {
    /// May the other side have seen the request, and acted on it? False = surely not.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, EgressError::Lost { .. } | EgressError::TooLong { .. })
    }

    /// What an answer said that did not come whole.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            EgressError::Lost { status, .. } => *status,
            EgressError::TooLong { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Egress {
    /// # Errors
    /// A proxy's address is not usable.
    pub fn new(reach: Reach, proxies: &Proxies) -> Result<Self, BadProxy> {
        drop(proxies.put_on(Client::builder())?);
        Ok(Egress {
            reach,
            proxies: proxies.clone(),
            client: Arc::default(),
        })
    }

    async fn client(&self) -> Result<&Client, EgressError> {
        let make = async || {
            let egress = self.clone();
            let made = tokio::task::spawn_blocking(move || egress.make_client()).await;
            made.map_err(|error| EgressError::Unreachable(error.to_string()))?
        };
        self.client.get_or_try_init(make).await
    }

    fn make_client(&self) -> Result<Client, EgressError> {
        // Pingora's provider, for the whole process; an error says that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("poolgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(IDLE);
        if self.reach == Reach::Public {
            let exempt = self.proxies.hosts();
            client = client.dns_resolver(PublicNames { exempt });
        }
        let client = self.proxies.put_on(client);
        let client = client.map_err(|error| EgressError::Unreachable(error.to_string()))?;
        client.build().map_err(|error| {
            EgressError::Unreachable(format!("TLS cannot be set up: {}", cause(&error)))
        })
    }

    /// Posts `body` and reads the answer, of which the body may be `most` bytes long.
    ///
    /// # Errors
    /// No whole answer came in time; [`EgressError::may_have_arrived`] says whether the request
    /// may have had its effect.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
        most: usize,
    ) -> Result<Answer, EgressError> {
        let url = Url::parse(url).map_err(|_| EgressError::BadAddress)?;
        if self.reach == Reach::Public {
            self.check(&url).await?;
        }
        let client = self.client().await?;
        let request = client.post(url).headers(headers).body(body.into());
        sent(request, most).await
    }

    /// Gets the answer of a server that was configured, of which the body may be `most` bytes long.
    ///
    /// # Errors
    /// No whole answer came in time.
    pub async fn get(&self, url: &str, most: usize) -> Result<Answer, EgressError> {
        let url = Url::parse(url).map_err(|_| EgressError::BadAddress)?;
        if self.reach == Reach::Public {
            self.check(&url).await?;
        }
        sent(self.client().await?.get(url), most).await
    }

    /// What the look-up of names at connect time does not see: an address in place of a name, and
    /// a name that a proxy will look up. What the proxy finds then is beyond us; what this machine
    /// finds must be public.
    async fn check(&self, url: &Url) -> Result<(), EgressError> {
        let host = url.host_str().ok_or(EgressError::BadAddress)?;
        // `Url` has brought every spelling of an address into its usual form.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return match is_public(address) {
                true => Ok(()),
                false => Err(EgressError::NotPublic),
            };
        }
        if !self.proxies.is_empty() {
            let found = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, 0)));
            if let Ok(Ok(mut found)) = found.await
                && !found.any(|address| is_public(address.ip()))
            {
                return Err(EgressError::NotPublic);
            }
        }
        Ok(())
    }
}

/// Sends the request and reads the whole answer.
async fn sent(request: reqwest::RequestBuilder, most: usize) -> Result<Answer, EgressError> {
    let mut answer = request.send().await.map_err(|error| told(error, None))?;
    let status = answer.status();
    let headers = std::mem::take(answer.headers_mut());
    let mut body = BytesMut::new();
    let cut = |error| told(error, Some(status));
    while let Some(piece) = answer.chunk().await.map_err(cut)? {
        if body.len() + piece.len() > most {
            return Err(EgressError::TooLong { status, most });
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status,
        headers,
        body: body.freeze(),
    })
}

/// What reqwest's error means for who asked.
fn told(error: reqwest::Error, status: Option<StatusCode>) -> EgressError {
    let error = error.without_url();
    if sources(&error).any(|source| source.is::<NotPublic>()) {
        return EgressError::NotPublic;
    }
    match () {
        () if error.is_builder() => EgressError::BadAddress,
        () if error.is_connect() => EgressError::Unreachable(cause(&error)),
        () => EgressError::Lost {
            status,
            why: cause(&error),
        },
    }
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// The innermost cause: the outer ones only say that there is one.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let innermost = sources(error).last();
    innermost.map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers each connection with these bytes once a body has come in, and says what came.
    async fn peer(answer: &'static str) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, sees) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut text = Vec::new();
                while !text.ends_with(b"body") && socket.read_buf(&mut text).await.unwrap() > 0 {}
                seen.send(String::from_utf8(text).unwrap()).await.unwrap();
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (address, sees)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n\r\nhi";

    fn egress(reach: Reach, variables: &[(&str, String)]) -> Result<Egress, BadProxy> {
        let env = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        Egress::new(reach, &Proxies::of(env))
    }

    async fn ask(reach: Reach, url: &str) -> Result<Answer, EgressError> {
        let egress = egress(reach, &[]).unwrap();
        egress.post(url, HeaderMap::new(), "body", 100).await
    }

    #[tokio::test]
    async fn an_answer_is_handed_over_whatever_it_says_and_redirects_are_not_followed() {
        let (address, mut sees) = peer(OK).await;
        let url = format!("http://{address}/a?b=c");
        let answer = ask(Reach::Anywhere, &url).await.ok().unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"hi"[..]));
        assert_eq!(answer.headers["x-a"], "b");
        let seen = sees.recv().await.unwrap().to_lowercase();
        assert!(seen.starts_with("post /a?b=c http/1.1\r\n"), "{seen}");
        assert!(seen.contains("\r\nuser-agent: poolgate/"), "{seen}");
        let away = "HTTP/1.1 307 Away\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n";
        let (address, mut sees) = peer(away).await;
        let answer = ask(Reach::Anywhere, &format!("http://{address}/")).await;
        assert_eq!(answer.ok().unwrap().status.as_u16(), 307);
        sees.recv().await.unwrap();
        assert!(sees.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_failure_says_whether_the_request_may_have_arrived_and_tells_no_secret() {
        let (cut, _sees) = peer("").await;
        let (long, _sees_too) = peer(
            "HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n\
            12345678901234567890123456789012345678901234567890\
            123456789012345678901234567890123456789012345678901",
        )
        .await;
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let no_tls = mute.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok(socket) = mute.accept().await {
                drop(socket);
            }
        });
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = closed.local_addr().unwrap();
        drop(closed);
        let cases = [
            (format!("http://{cut}"), true),
            (format!("http://{long}"), true),
            (format!("http://{refused}"), false),
            (format!("https://{no_tls}"), false),
            ("http://no-such-host.invalid".to_owned(), false),
            ("http://".to_owned(), false),
        ];
        for (start, arrived) in cases {
            let url = format!("{start}/hunter2?key=hunter2");
            let error = ask(Reach::Anywhere, &url).await.err().unwrap();
            let text = format!("{error} {error:?}");
            assert_eq!(error.may_have_arrived(), arrived, "{start}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let (begun, _sees) = peer("HTTP/1.1 202 OK\r\ncontent-length: 9\r\n\r\nhi").await;
        let begun = ask(Reach::Anywhere, &format!("http://{begun}")).await;
        assert_eq!(begun.err().unwrap().status(), Some(StatusCode::ACCEPTED));
        let refused = ask(Reach::Anywhere, &format!("http://{refused}")).await;
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("refused"), "{text}");
    }

    #[tokio::test]
    async fn no_spelling_of_loopback_is_reached_where_only_the_public_internet_may_be() {
        let (address, mut sees) = peer(OK).await;
        let port = address.port();
        let hosts = [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0",
            "0.0.0.0",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "%6cocalhost",
            "\u{ff11}27.0.0.1",
            "127.0.0.1.",
        ];
        for host in hosts {
            let answer = ask(Reach::Public, &format!("http://{host}:{port}/")).await;
            let error = answer.err().unwrap();
            // Not every machine finds `localhost.`.
            let kept = matches!(error, EgressError::NotPublic | EgressError::Unreachable(_));
            assert!(kept, "{host}: {error}");
        }
        assert!(sees.try_recv().is_err());
        assert!(
            ask(Reach::Anywhere, &format!("http://localhost:{port}/"))
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn proxies_of_the_environment_are_used_wherever_they_are() {
        let (proxy, mut sees) = peer(OK).await;
        let (direct, _sees) = peer(OK).await;
        let proxy = format!("http://user:hunter2@localhost:{}", proxy.port());
        let variables = [("http_proxy", proxy), ("NO_PROXY", "127.0.0.1".to_owned())];
        for reach in [Reach::Anywhere, Reach::Public] {
            let egress = egress(reach, &variables).unwrap();
            let post = |url: String| async {
                let url = url;
                egress.post(&url, HeaderMap::new(), "body", 100).await
            };
            let answer = post("http://nowhere.invalid/".to_owned()).await;
            assert!(answer.is_ok(), "{:?}", answer.err());
            let seen = sees.recv().await.unwrap();
            assert!(seen.starts_with("POST http://nowhere.invalid/ "), "{seen}");
            assert!(
                seen.to_lowercase().contains("proxy-authorization: basic "),
                "{seen}"
            );
            let answer = post(format!("http://{direct}/")).await;
            assert_eq!(answer.is_ok(), reach == Reach::Anywhere);
            // The proxy would find this machine, too.
            let answer = post("http://localhost/".to_owned()).await;
            assert_eq!(answer.is_ok(), reach == Reach::Anywhere);
            if reach == Reach::Anywhere {
                sees.recv().await.unwrap();
            }
        }
        assert!(sees.try_recv().is_err());
    }

    #[test]
    fn a_proxy_that_is_none_is_named_and_not_shown() {
        let variables = [("HTTPS_PROXY", "http://hunter2:hunter2@:x".to_owned())];
        let error = egress(Reach::Anywhere, &variables).err().unwrap();
        assert_eq!(
            error.to_string(),
            "HTTPS_PROXY holds no usable address of a proxy"
        );
        assert!(egress(Reach::Anywhere, &[("HTTPS_PROXY", String::new())]).is_ok());
    }
}
