//! Reads `credential`: what proves an account's owner to its upstream; exactly one kind.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::form::{HEADER, NONEMPTY, POINTER, REAL_SPAN, Text, URL, Words};
use super::model::{AwsSsoOidc, ClientAuth, Credential, OAuth2, TokenFormat};
use super::read::Section;

const REFRESH_BEFORE: Duration = Duration::from_secs(300);

pub(super) fn credential(s: &mut Section<'_, '_>) -> Credential {
    let folder = s.folder();
    let api_key = s.secret("api_key", folder);
    let folder = s.folder();
    let bearer = s.secret("bearer", folder);
    let kinds = [
        api_key.map(Credential::ApiKey),
        bearer.map(Credential::Bearer),
        s.optional("header", |s| Credential::Header {
            name: s.require("name", HEADER, String::new()),
            value: s.require_secret("value"),
        }),
        s.optional("query", |s| Credential::Query {
            name: s.require("name", NONEMPTY, String::new()),
            value: s.require_secret("value"),
        }),
        s.optional("oauth2", oauth2).map(Credential::OAuth2),
        s.optional("aws_sso_oidc", aws_sso_oidc)
            .map(Credential::AwsSsoOidc),
        s.optional("google_service_account", google),
        s.optional("json_file", json_file),
    ];
    const KINDS: [&str; 8] = [
        "api_key",
        "bearer",
        "header",
        "query",
        "oauth2",
        "aws_sso_oidc",
        "google_service_account",
        "json_file",
    ];
    let is_named = KINDS.iter().any(|kind| s.has(kind));
    match s.count_written() {
        1 if is_named => {}
        // A kind with nothing behind it is none either.
        0 | 1 => s.problem_here("names no kind; `credential: none` is the way to have none"),
        _ => s.problem_here("holds more than one kind; an account has exactly one"),
    }
    kinds
        .into_iter()
        .flatten()
        .next()
        .unwrap_or(Credential::None)
}

fn oauth2(s: &mut Section<'_, '_>) -> OAuth2 {
    let auth = Words(&[("basic", ClientAuth::Basic), ("body", ClientAuth::Body)]);
    let format = Words(&[("form", TokenFormat::Form), ("json", TokenFormat::Json)]);
    let (secret, refresh) = (s.folder(), s.folder());
    let oauth2 = OAuth2 {
        token_url: s.require("token_url", URL, String::new()),
        client_id: s.require("client_id", NONEMPTY, String::new()),
        client_secret: s.secret("client_secret", secret),
        refresh_token: s.secret("refresh_token", refresh),
        scope: s.get("scope", Text, String::new()),
        auth: s.get("auth", auth, ClientAuth::Basic),
        format: s.get("format", format, TokenFormat::Form),
        refresh_before: s.get("refresh_before", REAL_SPAN, REFRESH_BEFORE),
    };
    warn_of_listeners(s, &oauth2.token_url);
    if !s.has("client_secret") && !s.has("refresh_token") && s.is_written() {
        s.problem_here("needs a `refresh_token`, or a `client_secret` for client_credentials");
    }
    oauth2
}

fn aws_sso_oidc(s: &mut Section<'_, '_>) -> AwsSsoOidc {
    let aws = AwsSsoOidc {
        region: s.get("region", NONEMPTY, "us-east-1".to_owned()),
        token_url: s.maybe("token_url", URL),
        client_id: s.require("client_id", NONEMPTY, String::new()),
        client_secret: s.require_secret("client_secret"),
        refresh_token: s.require_secret("refresh_token"),
        refresh_before: s.get("refresh_before", REAL_SPAN, REFRESH_BEFORE),
    };
    warn_of_listeners(s, aws.token_url.as_deref().unwrap_or_default());
    aws
}

fn warn_of_listeners(s: &mut Section<'_, '_>, url: &str) {
    if !url.is_empty() && !is_private_url(url) {
        s.warn(
            "token_url",
            "is not https: whoever listens in has the account's secrets",
        );
    }
}

/// Is it a place to which secrets may go: https, or this machine, for tests and local proxies?
pub fn is_private_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    let is_private = scheme == "https" || (scheme == "http" && is_here);
    is_private && !host.is_empty() && !authority.as_str().contains('@')
}

fn google(s: &mut Section<'_, '_>) -> Credential {
    let folder = s.folder();
    Credential::GoogleServiceAccount {
        file: s.require("file", folder, PathBuf::new()),
        scope: s.get(
            "scope",
            NONEMPTY,
            "https://www.googleapis.com/auth/cloud-platform".to_owned(),
        ),
    }
}

fn json_file(s: &mut Section<'_, '_>) -> Credential {
    let folder = s.folder();
    Credential::JsonFile {
        path: s.require("path", folder, PathBuf::new()),
        token: s.get("token", POINTER, "/access_token".to_owned()),
        expires: s.maybe("expires", POINTER),
    }
}
