//! Each kind of login, over the real program.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{asked, token_in_use, vendor};
use crate::support::{Gateway, Mock, chat, post, wait_for};

fn gateway(vendor: &Mock, credential: &str, files: &[(&str, &str)]) -> Gateway {
    let url = vendor.url();
    let text = format!(
        "pools: {{default: {{accounts: [{{id: a, upstream: \"{url}\", dialects: [openai], \
         credential: {{{credential}}}}}]}}}}\n"
    );
    let gateway = Gateway::start_with(&text, files, &[]);
    gateway.wait_until_ready();
    gateway
}

fn refresh(gateway: &Gateway) {
    let refreshed = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
}

#[test]
fn aws_sso_is_asked_in_its_own_words_and_its_rotated_token_kept() {
    let vendor = vendor(&json!({"refresh_tokens": ["rt-aws"]}));
    let login = format!(
        "aws_sso_oidc: {{token_url: \"{}/token\", client_id: me, client_secret: cs, refresh_token: rt-aws}}",
        vendor.url()
    );
    let mut gateway = gateway(&vendor, &login, &[]);
    let first = token_in_use(&gateway);
    gateway.restart(Signal::SIGTERM);
    assert_eq!(token_in_use(&gateway), first);
    refresh(&gateway);
    assert_ne!(token_in_use(&gateway), first);
    assert_eq!(asked(&vendor), 2);
    let account = gateway.account("a");
    assert_eq!(account["credential"]["kind"], "aws_sso_oidc");
    assert!(account["credential"]["last_refresh"].is_string());
}

#[test]
fn a_google_service_account_signs_for_its_tokens_and_is_read_anew_when_its_file_changes() {
    let vendor = vendor(&json!({}));
    let fixture = Path::new("tests/fixtures/tokens/service-account.json");
    let mut file: Value = serde_json::from_str(&fs::read_to_string(fixture).unwrap()).unwrap();
    file["token_uri"] = format!("{}/token", vendor.url()).into();
    let gateway = gateway(
        &vendor,
        "google_service_account: {file: google.json}",
        &[("google.json", &file.to_string())],
    );
    let first = token_in_use(&gateway);
    refresh(&gateway);
    assert_ne!(token_in_use(&gateway), first);
    assert_eq!(asked(&vendor), 2);
    let path = gateway.program.folder().join("google.json");
    fs::write(&path, "{}").unwrap();
    let refused = gateway.admin(post("/api/v1/accounts/a/refresh", &json!({})));
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("private_key"), "{}", refused.text());
    fs::write(&path, file.to_string()).unwrap();
    wait_for("the account to serve again", || {
        (gateway.send(&chat(false)).status == 200).then_some(())
    });
}

#[test]
fn a_client_without_a_refresh_token_gets_its_tokens_even_where_none_can_be_kept() {
    let vendor = vendor(&json!({}));
    let login = format!(
        "oauth2: {{token_url: \"{}/token\", client_id: me, client_secret: cs, auth: body, format: json}}",
        vendor.url()
    );
    let gateway = gateway(&vendor, &login, &[]);
    let first = token_in_use(&gateway);
    // What can be had anew at any time need not be on the disk.
    let tokens = gateway.program.folder().join("data/tokens");
    fs::rename(&tokens, tokens.with_extension("away")).unwrap();
    fs::write(&tokens, "").unwrap();
    refresh(&gateway);
    assert_ne!(token_in_use(&gateway), first);
    assert_eq!(asked(&vendor), 2);
}

#[test]
fn a_file_of_another_program_may_be_rewritten_replaced_or_swapped_behind_a_link() {
    let tokens = ["tok-0", "tok-1", "tok-2", "tok-3"];
    let flags: Vec<&str> = tokens.iter().flat_map(|token| ["--token", token]).collect();
    let vendor = Mock::start(&flags);
    let text = |token: &str| json!({"access_token": token}).to_string();
    let gateway = gateway(
        &vendor,
        "json_file: {path: login.json}",
        &[("login.json", &text("tok-0"))],
    );
    let folder = gateway.program.folder().to_owned();
    let file = |name: &str| folder.join(name);
    let is_used = |token: &str| {
        wait_for(token, || (token_in_use(&gateway) == token).then_some(()));
    };
    is_used("tok-0");
    // A writer that is not done yet takes nobody out.
    fs::write(file("login.json"), "{\"access_tok").unwrap();
    wait_for("the half of it to be seen", || {
        gateway.log().contains("was not renewed").then_some(())
    });
    assert_eq!(token_in_use(&gateway), "tok-0");
    assert_eq!(gateway.account("a")["status"], "healthy");
    fs::write(file("login.json"), text("tok-1")).unwrap();
    is_used("tok-1");
    fs::write(file("next.json"), text("tok-2")).unwrap();
    fs::rename(file("next.json"), file("login.json")).unwrap();
    is_used("tok-2");
    fs::write(file("linked.json"), text("tok-3")).unwrap();
    std::os::unix::fs::symlink(file("linked.json"), file("link")).unwrap();
    fs::rename(file("link"), file("login.json")).unwrap();
    is_used("tok-3");
    // A pipe is no file, and to read it would be to wait for ever.
    fs::remove_file(file("login.json")).unwrap();
    nix::unistd::mkfifo(&file("login.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    wait_for("the pipe to be refused", || {
        gateway.log().contains("is no file").then_some(())
    });
    assert_eq!(token_in_use(&gateway), "tok-3");
}
