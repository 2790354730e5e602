//! The proxies through which a machine reaches the outside: the configured one, or those of the
//! variables that name them everywhere, `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.

use reqwest::{ClientBuilder, NoProxy, Proxy};

use crate::secret::Secret;

/// Which requests go through which proxy. The addresses may hold a password.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Secret>,
    http: Option<Secret>,
    all: Option<Secret>,
    no: Option<String>,
}

/// This key or variable holds no usable address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} holds no usable address of a proxy")]
pub struct BadProxy(pub &'static str);

impl Proxies {
    /// As the environment says; the small letters count first, as in curl.
    pub fn of(env: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let small = env(&name.to_ascii_lowercase());
            let value = small.or_else(|| env(name));
            value.filter(|value| !value.trim().is_empty())
        };
        Proxies {
            https: either("HTTPS_PROXY").map(Secret::new),
            http: either("HTTP_PROXY").map(Secret::new),
            all: either("ALL_PROXY").map(Secret::new),
            no: either("NO_PROXY"),
        }
    }

    /// The configured one for everything, but for these hosts.
    pub fn configured(proxy: Secret, except: &[String]) -> Self {
        match except.iter().any(|host| host == "*") {
            true => Proxies::default(),
            false => Proxies {
                all: Some(proxy),
                no: Some(except.join(",")),
                ..Proxies::default()
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.https.is_none() && self.http.is_none() && self.all.is_none()
    }

    /// The proxies' own host names.
    pub(super) fn hosts(&self) -> Vec<String> {
        let addresses = [&self.https, &self.http, &self.all].into_iter().flatten();
        let host = |address: &Secret| {
            let text = address.expose();
            let text = match text.contains("://") {
                true => text.to_owned(),
                false => format!("http://{text}"),
            };
            Some(reqwest::Url::parse(&text).ok()?.host_str()?.to_owned())
        };
        addresses.filter_map(host).collect()
    }

    pub(super) fn put_on(&self, client: ClientBuilder) -> Result<ClientBuilder, BadProxy> {
        let proxy = |address: &Option<Secret>, make: fn(String) -> reqwest::Result<Proxy>| {
            let address = address.as_ref()?.expose().to_owned();
            Some(make(address))
        };
        let proxies = [
            ("HTTPS_PROXY", proxy(&self.https, Proxy::https)),
            ("HTTP_PROXY", proxy(&self.http, Proxy::http)),
            ("ALL_PROXY", proxy(&self.all, Proxy::all)),
        ];
        let mut client = client.no_proxy();
        for (name, proxy) in proxies {
            if let Some(proxy) = proxy {
                let proxy = proxy.map_err(|_| BadProxy(name))?;
                let except = self.no.as_deref().and_then(NoProxy::from_string);
                client = client.proxy(proxy.no_proxy(except));
            }
        }
        Ok(client)
    }
}
