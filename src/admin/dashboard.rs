//! The dashboard: the files of the page, as they are in the binary. The page itself needs no token;
//! all it shows does.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::auth::{Auth, door};

/// Only what this gateway itself serves is run, styled, shown or asked.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The files of these names.
macro_rules! page {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("dashboard/", $name)))),*]
    };
}

/// Each is served under its name, the first one also at `/`.
const FILES: &[(&str, &[u8])] = page![
    "index.html",
    "account.js",
    "account_actions.js",
    "account_form.js",
    "accounts.js",
    "api.js",
    "app.js",
    "attempts.js",
    "chart.js",
    "config.js",
    "credential.js",
    "dialog.js",
    "dom.js",
    "feed.js",
    "format.js",
    "i18n.js",
    "icon.svg",
    "instances.js",
    "kept.js",
    "key_form.js",
    "keys.js",
    "live.js",
    "login.js",
    "overview.js",
    "parts.css",
    "pools.js",
    "recent.js",
    "recipes.js",
    "requests.js",
    "show.js",
    "slots.js",
    "style.css",
    "table.js",
    "try_route.js",
    "usage.js",
    "words_en.js",
    "words_zh.js",
];

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// A file as it goes out.
struct File {
    kind: &'static str,
    bytes: Bytes,
    /// Of what is in it, so that a browser asks for it again only when it has changed.
    tag: HeaderValue,
    compressed: OnceLock<Bytes>,
}

/// The page, which anybody may see who asks under one of our names.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(auth: &Auth) -> Router<S> {
    let mut routes = Router::new();
    for (n, (name, bytes)) in FILES.iter().enumerate() {
        let file = Arc::new(File::of(name, bytes));
        let answer = get(async move |headers: HeaderMap| file.answer(&headers));
        if n == 0 {
            routes = routes.route("/", answer.clone());
        }
        routes = routes.route(&format!("/{name}"), answer);
    }
    routes.route_layer(middleware::from_fn_with_state(auth.clone(), door))
}

impl File {
    fn of(name: &str, bytes: &'static [u8]) -> Self {
        let tag = format!("W/\"{}\"", &blake3::hash(bytes).to_hex()[..32]);
        File {
            kind: kind(name),
            bytes: Bytes::from_static(bytes),
            tag: HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\"")),
            compressed: OnceLock::new(),
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(IF_NONE_MATCH);
        let known = known.is_some_and(|known| contains(known, self.tag.as_bytes()));
        let packs = headers.get(ACCEPT_ENCODING);
        let packs = packs.is_some_and(|accepted| contains(accepted, b"gzip"));
        let mut response = match known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false if packs => {
                let mut response = self.packed().into_response();
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, gzip);
                response
            }
            false => self.bytes.clone().into_response(),
        };
        let own: [(HeaderName, HeaderValue); 5] = [
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (ETAG, self.tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (VARY, HeaderValue::from_static("accept-encoding")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        ];
        for (name, value) in own {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Made when it is first asked for.
    fn packed(&self) -> Bytes {
        let packed = self.compressed.get_or_init(|| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::best());
            let packed = packer.write_all(&self.bytes).and_then(|()| packer.finish());
            packed.map_or_else(|_| Bytes::new(), Bytes::from)
        });
        packed.clone()
    }
}

fn contains(header: &HeaderValue, part: &[u8]) -> bool {
    memchr::memmem::find(header.as_bytes(), part).is_some()
}
