//! What is asked of token endpoints, and what their answers mean.

mod asked;
mod replies;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{ClientAuth, SecretSource, TokenFormat};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokens")
}

/// 2026-11-21T12:00:00Z.
fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
}

fn value(text: &str) -> SecretSource {
    SecretSource::Value(Secret::new(text))
}

/// A confidential client with HTTP Basic and a form.
fn oauth2() -> OAuth2 {
    OAuth2 {
        token_url: "https://vendor.test/token".to_owned(),
        client_id: "client".to_owned(),
        client_secret: Some(value("hunter2")),
        refresh_token: Some(value("configured")),
        scope: String::new(),
        auth: ClientAuth::Basic,
        format: TokenFormat::Form,
        refresh_before: Duration::from_secs(300),
    }
}

fn aws() -> AwsSsoOidc {
    AwsSsoOidc {
        region: "eu-central-1".to_owned(),
        token_url: None,
        client_id: "aws-client".to_owned(),
        client_secret: value("aws-secret"),
        refresh_token: value("configured"),
        refresh_before: Duration::from_secs(300),
    }
}

/// The JSON file of a service account, with its key.
fn google_file() -> String {
    std::fs::read_to_string(fixtures().join("service-account.json")).unwrap()
}

fn google() -> Exchange {
    Exchange::google(google_file().as_bytes(), "scope-a scope-b").unwrap()
}
