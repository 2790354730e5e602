//! What is configured is what the endpoint reads, whatever characters it has.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::*;

fn ask(exchange: &Exchange, refresh_token: Option<&str>) -> Asked {
    let token = refresh_token.map(Secret::new);
    exchange.request(token.as_ref(), noon()).unwrap()
}

fn refused(exchange: &Exchange, refresh_token: Option<&str>) -> String {
    let token = refresh_token.map(Secret::new);
    let refused = exchange.request(token.as_ref(), noon());
    refused.err().unwrap().to_string()
}

fn header(asked: &Asked, name: HeaderName) -> Option<&HeaderValue> {
    asked
        .headers
        .iter()
        .find_map(|(other, value)| (*other == name).then_some(value))
}

/// The fields of a form or of a JSON object.
fn fields(asked: &Asked) -> BTreeMap<String, String> {
    match header(asked, CONTENT_TYPE).unwrap().to_str().unwrap() {
        "application/json" => serde_json::from_slice(&asked.body).unwrap(),
        "application/x-www-form-urlencoded" => {
            form_urlencoded::parse(&asked.body).into_owned().collect()
        }
        other => panic!("{other}"),
    }
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    expected.iter().map(owned).collect()
}

/// Id and secret, read as RFC 6749 §2.3.1 tells the server to.
fn basic(asked: &Asked) -> Option<(String, String)> {
    let value = header(asked, AUTHORIZATION)?;
    assert!(value.is_sensitive());
    let coded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    let both = String::from_utf8(BASE64_STANDARD.decode(coded).unwrap()).unwrap();
    let (id, secret) = both.split_once(':').unwrap();
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    Some((decoded(id), decoded(secret)))
}

#[test]
fn a_refresh_token_is_sent_as_rfc_6749_section_6_says() {
    let asked = ask(&Exchange::oauth2(&oauth2()), Some("r-1"));
    assert_eq!(asked.url, "https://vendor.test/token");
    assert_eq!(asked.body, "grant_type=refresh_token&refresh_token=r-1");
    assert_eq!(
        basic(&asked),
        Some(("client".to_owned(), "hunter2".to_owned()))
    );
    let scoped = OAuth2 {
        scope: "a b".to_owned(),
        auth: ClientAuth::Body,
        format: TokenFormat::Json,
        ..oauth2()
    };
    let asked = ask(&Exchange::oauth2(&scoped), Some("r-1"));
    let expected = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r-1"),
        ("scope", "a b"),
        ("client_id", "client"),
        ("client_secret", "hunter2"),
    ];
    assert_eq!(fields(&asked), pairs(&expected));
    assert!(basic(&asked).is_none());
}

#[test]
fn without_a_refresh_token_the_client_asks_for_itself_and_must_have_a_secret() {
    let asked = ask(&Exchange::oauth2(&oauth2()), None);
    assert_eq!(asked.body, "grant_type=client_credentials");
    assert!(basic(&asked).is_some());
    let public = OAuth2 {
        client_secret: None,
        ..oauth2()
    };
    let asked = ask(&Exchange::oauth2(&public), Some("r-1"));
    assert!(basic(&asked).is_none());
    let expected = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r-1"),
        ("client_id", "client"),
    ];
    assert_eq!(fields(&asked), pairs(&expected));
    let why = refused(&Exchange::oauth2(&public), None);
    assert_eq!(why, "there is no refresh token to ask with");
}

#[test]
fn a_client_secret_in_a_file_is_the_one_that_is_there_now() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = OAuth2 {
        client_secret: Some(SecretSource::File(file.path().to_owned())),
        ..oauth2()
    };
    let exchange = Exchange::oauth2(&config);
    for secret in ["first", "second"] {
        std::fs::write(file.path(), format!("{secret}\n")).unwrap();
        let (_, sent) = basic(&ask(&exchange, Some("r"))).unwrap();
        assert_eq!(sent, secret);
    }
    std::fs::write(file.path(), "").unwrap();
    assert!(refused(&exchange, Some("r")).starts_with("client_secret: "));
}

#[test]
fn aws_is_asked_in_camel_case_in_its_region_or_where_the_configuration_says() {
    let asked = ask(&Exchange::aws(&aws()), Some("r-1"));
    assert_eq!(asked.url, "https://oidc.eu-central-1.amazonaws.com/token");
    let expected = [
        ("clientId", "aws-client"),
        ("clientSecret", "aws-secret"),
        ("grantType", "refresh_token"),
        ("refreshToken", "r-1"),
    ];
    assert_eq!(fields(&asked), pairs(&expected));
    assert!(header(&asked, AUTHORIZATION).is_none());
    let elsewhere = AwsSsoOidc {
        token_url: Some("http://127.0.0.1:1/token".to_owned()),
        ..aws()
    };
    let asked = ask(&Exchange::aws(&elsewhere), Some("r-1"));
    assert_eq!(asked.url, "http://127.0.0.1:1/token");
    refused(&Exchange::aws(&aws()), None);
    for region in ["", "x.evil.test/#", "a@b", "eu central"] {
        let region = region.to_owned();
        let why = refused(&Exchange::aws(&AwsSsoOidc { region, ..aws() }), Some("r"));
        assert!(why.starts_with("region: "), "{why}");
    }
}

#[test]
fn google_is_asked_with_an_assertion_that_its_key_signed() {
    let asked = ask(&google(), None);
    assert_eq!(asked.url, "https://oauth2.googleapis.com/token");
    let fields = fields(&asked);
    assert_eq!(
        fields["grant_type"],
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let (signed, signature) = fields["assertion"].rsplit_once('.').unwrap();
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let Kind::Google(account) = google().0 else {
        panic!("another kind");
    };
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.public());
    key.verify(signed.as_bytes(), &decoded(signature)).unwrap();
    let read = |part: &str| serde_json::from_slice::<Value>(&decoded(part)).unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let expected = json!({"alg": "RS256", "typ": "JWT", "kid": "made-for-tests-1"});
    assert_eq!(read(head), expected);
    let expected = json!({
        "iss": "gateway@made-for-tests.iam.gserviceaccount.com",
        "scope": "scope-a scope-b",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1_795_262_400,
        "exp": 1_795_266_000,
    });
    assert_eq!(read(claims), expected);
}

#[test]
fn a_file_that_is_no_service_account_is_refused_without_quoting_it() {
    let file: Value = serde_json::from_str(&google_file()).unwrap();
    let with = |name: &str, value: Value| {
        let mut file = file.clone();
        file[name] = value;
        file.to_string()
    };
    let canary = "canary-7f3a";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----\n");
    let cases = [
        (canary.to_owned(), "not a JSON object"),
        (format!("[\"{canary}\"]"), "not a JSON object"),
        (with("type", "authorized_user".into()), "another `type`"),
        (with("private_key", Value::Null), "no `private_key`"),
        (with("private_key", canary.into()), "no RSA key"),
        (with("private_key", pem.into()), "no RSA key"),
        (with("client_email", "".into()), "no `client_email`"),
        (
            with("token_uri", "http://evil.test/".into()),
            "not an https:// URL",
        ),
        (
            with("token_uri", "https://u:canary-7f3a@x.test/".into()),
            "not an https:// URL",
        ),
        (
            with("token_uri", "ftp://127.0.0.1/".into()),
            "not an https:// URL",
        ),
        (with("token_uri", "/token".into()), "not an https:// URL"),
    ];
    for (text, expected) in cases {
        let why = Exchange::google(text.as_bytes(), "s")
            .err()
            .unwrap()
            .to_string();
        assert!(why.contains(expected) && !why.contains(canary), "{why}");
    }
    for url in [
        "http://127.0.0.1:8/token",
        "http://[::1]:8/t",
        "http://localhost/t",
        "https://x.test/t",
    ] {
        let exchange = Exchange::google(with("token_uri", url.into()).as_bytes(), "s").unwrap();
        assert_eq!(ask(&exchange, None).url, url);
    }
}

proptest! {
    #[test]
    fn any_id_secret_and_token_arrive_as_they_are(
        id: String,
        secret in "[ -~]{1,40}",
        token: String,
        scope: String,
        json: bool,
        body: bool,
    ) {
        let config = OAuth2 {
            client_id: id.clone(),
            client_secret: Some(value(&secret)),
            scope: scope.clone(),
            auth: if body { ClientAuth::Body } else { ClientAuth::Basic },
            format: if json { TokenFormat::Json } else { TokenFormat::Form },
            ..oauth2()
        };
        let asked = ask(&Exchange::oauth2(&config), Some(&token));
        let mut expected = pairs(&[("grant_type", "refresh_token"), ("refresh_token", &token)]);
        if !scope.is_empty() {
            expected.insert("scope".to_owned(), scope);
        }
        if body {
            expected.extend(pairs(&[("client_id", &id), ("client_secret", &secret)]));
            prop_assert!(basic(&asked).is_none());
        } else {
            prop_assert_eq!(basic(&asked).unwrap(), (id, secret));
        }
        prop_assert_eq!(fields(&asked), expected);
    }
}
