//! The way to upstreams through the operator's proxy: a tunnel for each connection (CONNECT, RFC 9110
//! §9.3.6), over plain TCP or over TLS to the proxy.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::proxy::Tunnel as Connect;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt, service_fn};

use super::proxies::BadProxy;
use super::resolver::{ResolveError, Resolver};
use crate::secret::Secret;

/// The proxy that upstreams are reached through, if there is one, and those that are reached without.
#[derive(Default)]
pub struct Tunnels(Option<Known>);

struct Known {
    matcher: Matcher,
    /// For a proxy that is spoken to over TLS.
    tls: Option<TlsConnector>,
}

/// A tunnel to one host, not dug yet.
#[derive(Clone)]
pub struct Tunnel {
    proxy: Intercept,
    tls: Option<TlsConnector>,
    target: Uri,
    address: Option<SocketAddr>,
}

/// What a tunnel's near end is.
pub enum NearEnd {
    Tcp(TcpStream),
    /// Of a proxy that is spoken to over TLS: its bytes are carried to and fro by a task.
    Unix(UnixStream),
}

impl Tunnels {
    /// Through `proxy`, but for the hosts in `except`: names (with those below them), addresses and
    /// ranges, or `*`.
    ///
    /// # Errors
    /// The proxy's address is not usable.
    pub fn new(proxy: Option<&Secret>, except: &[String]) -> Result<Self, BadProxy> {
        let Some(proxy) = proxy.filter(|_| !except.iter().any(|host| host == "*")) else {
            return Ok(Tunnels::default());
        };
        const BAD: BadProxy = BadProxy("egress.proxy");
        // Stricter than what reads it below: of a port that is none that one would make the usual one.
        let url = reqwest::Url::parse(proxy.expose()).map_err(|_| BAD)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(connector().map_err(|_| BAD)?),
            _ => return Err(BAD),
        };
        // What it cannot read it leaves out without a word.
        let any = Matcher::builder().all(proxy.expose()).build();
        let read = any.intercept(&Uri::from_static("http://any.invalid"));
        let is_usable =
            read.is_some_and(|read| read.uri().host().is_some_and(|host| !host.is_empty()));
        let except = except.join(",").to_ascii_lowercase();
        let matcher = Matcher::builder().all(proxy.expose()).no(except).build();
        is_usable
            .then_some(Tunnels(Some(Known { matcher, tls })))
            .ok_or(BAD)
    }

    /// Where to connect to for this host (a name, or an address without brackets), and the tunnel to it
    /// if it is not reached directly, as a program of this machine always is (`is_near`). Only the
    /// proxy looks up the names behind it.
    ///
    /// # Errors
    /// The name of the host, or that of the proxy, does not resolve.
    pub async fn way(
        &self,
        resolver: &Arc<Resolver>,
        host: &str,
        port: u16,
        is_near: bool,
    ) -> Result<(SocketAddr, Option<Tunnel>), ResolveError> {
        let tunnel = self.to(host, port).filter(|_| !is_near);
        let Some(tunnel) = tunnel else {
            return Ok((resolver.resolve(host, port).await?, None));
        };
        let (proxy, proxy_port) = tunnel.proxy();
        let address = resolver.resolve(proxy, proxy_port).await?;
        Ok((
            tunnel.seen_at(address),
            Some(Tunnel {
                address: Some(address),
                ..tunnel
            }),
        ))
    }

    fn to(&self, host: &str, port: u16) -> Option<Tunnel> {
        let known = self.0.as_ref()?;
        let target = match host.contains(':') {
            true => format!("http://[{host}]:{port}"),
            false => format!("http://{host}:{port}"),
        };
        let target: Uri = target.parse().ok()?;
        let proxy = known.matcher.intercept(&target)?;
        Some(Tunnel {
            proxy,
            tls: known.tls.clone(),
            target,
            address: None,
        })
    }
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?;
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

impl Tunnel {
    /// The proxy's name or address, without brackets, and its port.
    fn proxy(&self) -> (&str, u16) {
        let uri = self.proxy.uri();
        let host = uri.host().unwrap_or_default();
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host, uri.port_u16().unwrap_or(usual))
    }

    /// What is at its other end, as a number: two tunnels to one host have the same.
    pub fn end(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.target.to_string().as_bytes())
    }

    /// With what the near end is connected, as the system says, where the proxy is at this address: what
    /// is no TCP connection has no address.
    fn seen_at(&self, address: SocketAddr) -> SocketAddr {
        match self.tls {
            None => address,
            Some(_) => SocketAddr::from(([0, 0, 0, 0], address.port())),
        }
    }

    /// Connects to the proxy and has it connect on.
    ///
    /// # Errors
    /// The proxy cannot be reached, or does not connect.
    pub async fn dig(&self) -> io::Result<NearEnd> {
        let address = self.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(NearEnd::Tcp(self.connect_on(stream).await?));
        };
        let name = ServerName::try_from(self.proxy().0.to_owned()).map_err(io::Error::other)?;
        let stream = self.connect_on(tls.connect(name, stream).await?).await?;
        let (near, far) = UnixStream::pair()?;
        tokio::spawn(carry(far, stream));
        Ok(NearEnd::Unix(near))
    }

    async fn connect_on<S>(&self, stream: S) -> io::Result<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = Some(TokioIo::new(stream));
        let connected = service_fn(move |_: Uri| {
            let stream = stream.take();
            std::future::ready(stream.ok_or(io::Error::from(io::ErrorKind::NotConnected)))
        });
        let mut connect = Connect::new(self.proxy.uri().clone(), connected);
        if let Some(secret) = self.proxy.basic_auth() {
            connect = connect.with_auth(secret.clone());
        }
        let ready = connect.ready().await.map_err(io::Error::other)?;
        let connected = ready.call(self.target.clone()).await;
        Ok(connected.map_err(io::Error::other)?.into_inner())
    }
}

/// Until one of the two has nothing more to say: then the other is done with, too.
async fn carry<S: AsyncRead + AsyncWrite>(far: UnixStream, stream: S) {
    let (mut from_us, mut to_us) = far.into_split();
    let (mut from_proxy, mut to_proxy) = split(stream);
    // Whoever reads from either learns of a failure as of an end.
    tokio::select! {
        _ = tokio::io::copy(&mut from_us, &mut to_proxy) => {}
        _ = tokio::io::copy(&mut from_proxy, &mut to_us) => {}
    }
}

impl fmt::Debug for Tunnel {
    /// Without the proxy's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a tunnel to {}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnels(proxy: &str, except: &[&str]) -> Result<Tunnels, BadProxy> {
        let except: Vec<_> = except.iter().map(ToString::to_string).collect();
        Tunnels::new(Some(&Secret::new(proxy)), &except)
    }

    #[test]
    fn hosts_that_are_excepted_are_reached_directly() {
        let tunnels = tunnels(
            "http://user:hunter2@proxy.example:3128",
            &["Example.com", ".internal", "10.0.0.0/8", "::1", "127.0.0.1"],
        );
        let tunnels = tunnels.ok().unwrap();
        for direct in [
            "example.com",
            "a.example.com",
            "b.internal",
            "10.2.3.4",
            "::1",
            "127.0.0.1",
        ] {
            assert!(tunnels.to(direct, 443).is_none(), "{direct}");
        }
        for far in [
            "notexample.com",
            "api.openai.com",
            "11.0.0.1",
            "2001:db8::1",
            "localhost",
        ] {
            let tunnel = tunnels.to(far, 443).unwrap();
            assert_eq!(tunnel.proxy(), ("proxy.example", 3128));
            assert!(!format!("{tunnel:?}").contains("hunter2"));
        }
        let end = |host, port| tunnels.to(host, port).unwrap().end();
        assert_eq!(end("a.test", 443), end("a.test", 443));
        assert_ne!(end("a.test", 443), end("b.test", 443));
        assert_ne!(end("a.test", 443), end("a.test", 80));
    }

    #[test]
    fn a_star_excepts_every_host_and_no_proxy_none() {
        let all = tunnels("http://proxy.example", &["*"]).ok().unwrap();
        assert!(all.to("10.0.0.1", 443).is_none());
        assert!(Tunnels::default().to("a.test", 443).is_none());
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_not_shown() {
        for bad in [
            "http://",
            "http://hunter2:x@:1",
            "http://x:hunter2",
            "socks5://a:1",
            "hunter2",
        ] {
            let error = tunnels(bad, &[]).err().unwrap();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let usual = |proxy| {
            let tunnels = tunnels(proxy, &[]).ok().unwrap();
            tunnels.to("a.test", 1).unwrap().proxy().1
        };
        assert_eq!(usual("http://proxy.example"), 80);
        assert_eq!(usual("https://proxy.example"), 443);
        assert_eq!(usual("http://[2001:db8::1]:8888"), 8888);
    }
}
