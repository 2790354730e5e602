//! Client keys in all their life: issued, listed, changed, rotated, revoked and imported by command and
//! by API, with nothing running and under a running gateway; their limits; and that none is lost.

mod api;
mod commands;
mod concurrency;
mod gate;
mod import;
mod killed;
mod limits;
mod remembered;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Answer, Gateway, Mock, Program, Request, chat, pool};

/// Every gateway here asks for a key.
const CLOSED: &str = "clients: {open: false}\n";

/// A gateway with these tiers and whatever else, and its vendor. Nobody gets in without a key.
fn gateway(more: &str) -> (Gateway, Vec<Mock>) {
    let vendors = Mock::several(1, &[]);
    let configuration = format!("{CLOSED}{more}\n{}", pool(&vendors, ""));
    (Gateway::start(&configuration), vendors)
}

/// A command about keys that must do; what it printed.
#[track_caller]
fn keys(program: &Program, arguments: &[&str]) -> String {
    let (code, said, complaints) = command(program, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}{complaints}");
    said
}

fn command(program: &Program, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["keys"].iter().chain(arguments).copied().collect();
    program.command(&arguments)
}

/// The same with something on its standard input.
fn piped(program: &Program, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_poolgate"))
        .arg("keys")
        .args(arguments)
        .current_dir(program.folder())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Issues a key by command, with these options; the key itself.
#[track_caller]
fn create(program: &Program, options: &[&str]) -> String {
    let arguments: Vec<&str> = ["create"].iter().chain(options).copied().collect();
    keys(program, &arguments).trim().to_owned()
}

/// What `keys show` says.
#[track_caller]
fn show(program: &Program, name: &str) -> Value {
    serde_json::from_str(&keys(program, &["show", name, "--json"])).unwrap()
}

/// A short chat for `model`.
fn ask(model: &str) -> Request {
    let message = serde_json::json!({"role": "user", "content": "Hello"});
    let body = serde_json::json!({"model": model, "max_tokens": 20, "messages": [message]});
    crate::support::post("/v1/chat/completions", &body)
}

#[track_caller]
fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.send(&chat(false).bearer(key)).status
}

/// Seconds of `Retry-After`.
#[track_caller]
fn wait_of(answer: &Answer) -> u64 {
    let header = answer.header("retry-after");
    header
        .unwrap_or_else(|| panic!("{}", answer.text()))
        .parse()
        .unwrap()
}
