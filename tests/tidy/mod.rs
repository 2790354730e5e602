//! The rules of the house that no compiler and no lint checks: length, direction of imports, who may
//! ask the clock, the environment or the network, and words. A failure says the rule and the place.

mod documented;
mod imports;
mod rules;
mod source;

use std::fs;

use source::{Source, files, root, rust_files};

#[track_caller]
fn holds(rule: &str, folders: &[&str], check: fn(&Source) -> Vec<String>) {
    let files = rust_files(folders);
    assert!(!files.is_empty(), "found no Rust file in {folders:?}");
    let found: Vec<String> = files.iter().flat_map(check).collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

const ALL: &[&str] = &["src", "tests", "benches", "fuzz"];
const SRC: &[&str] = &["src"];

#[test]
fn files_are_short_enough_to_read() {
    holds("a Rust file has at most 500 lines", ALL, rules::too_long);
}

#[test]
fn each_file_says_why_it_exists() {
    let rule = "a file begins with a `//!` line that says its one reason to exist";
    holds(rule, ALL, rules::without_purpose);
}

#[test]
fn imports_go_down_only() {
    let rule = "an area uses only areas of a lower rank (RANKS in tests/tidy/imports.rs)";
    holds(rule, SRC, imports::upward);
}

#[test]
fn only_some_areas_know_pingora() {
    let rule = "only app, proxy, admin and health name Pingora";
    holds(rule, SRC, rules::pingora_out_of_place);
}

#[test]
fn only_some_areas_open_sockets() {
    let rule = "this area opens no sockets (MAY_OPEN_SOCKETS in tests/tidy/rules.rs)";
    holds(rule, SRC, rules::sockets_out_of_place);
}

#[test]
fn only_one_file_reads_the_environment() {
    let rule = "only config/env reads the environment; take it as an argument";
    holds(rule, SRC, rules::reads_environment);
}

#[test]
fn only_one_file_asks_the_clock() {
    let rule = "only src/clock.rs asks for the time; take it as an argument";
    holds(rule, SRC, rules::asks_clock);
}

#[test]
fn there_is_no_global_state() {
    let rule = "nothing is static or thread-local but the allocator and what is a task's own";
    holds(rule, SRC, rules::global_state);
}

#[test]
fn names_say_what_a_thing_does() {
    let rule = "these words name nothing (ARCHITECTURE.md, words)";
    holds(rule, SRC, rules::empty_words);
}

#[test]
fn nothing_is_left_for_later() {
    holds("no marks of unfinished work", ALL, rules::left_for_later);
}

#[test]
fn no_package_registry_is_named() {
    // In pieces, so that this file passes its own rule.
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("debian", ".org"),
        concat!("archive.ubuntu", ".com"),
        concat!("proxy.golang", ".org"),
    ];
    let mut found = vec![];
    // Cargo writes its registry into Cargo.lock by itself.
    for path in files(&root())
        .iter()
        .filter(|path| !path.ends_with("Cargo.lock"))
    {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).to_lowercase();
        let named = hosts.iter().filter(|host| text.contains(*host));
        found.extend(named.map(|host| format!("{}: {host}", path.display())));
    }
    let rule = "where packages come from is a setting of the machine, not of the project";
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}
