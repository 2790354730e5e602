//! The page's files: all of them are served, small, from here only, and in two languages.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::{Gateway, Mock, get, pool};

/// Of each file, as with the program's own files.
const LINES: usize = 500;

fn folder() -> PathBuf {
    super::root().join("src/admin/dashboard")
}

/// (name, text), by name.
fn files() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).unwrap();
    let mut files: Vec<(String, String)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_page_is_served_and_runs_nothing_from_elsewhere() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    for (name, text) in files() {
        // Anybody may have the page: all it shows needs a token.
        let answer = get(&format!("/{name}")).send(gateway.admin_address);
        assert_eq!(
            answer.status, 200,
            "{name} is not in src/admin/dashboard.rs"
        );
        assert_eq!(answer.text(), text, "{name}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for needed in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
        ] {
            assert!(policy.contains(needed), "{name}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{name}: {policy}");
    }
    let first = get("/").send(gateway.admin_address).text();
    assert_eq!(
        first,
        fs::read_to_string(folder().join("index.html")).unwrap()
    );
}

#[test]
fn the_page_s_files_say_why_they_exist_and_are_short() {
    for (name, text) in files() {
        assert!(
            text.lines().count() <= LINES,
            "{name} has more than {LINES} lines"
        );
        let begins = match name.rsplit('.').next() {
            Some("js") => "// ",
            Some("css") => "/* ",
            _ => "<",
        };
        assert!(
            text.starts_with(begins),
            "{name} does not say why it exists"
        );
    }
}

/// The policy forbids them anyway; a page that needs them would be broken.
#[test]
fn the_page_builds_no_markup_and_names_no_other_place() {
    let never = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "setHTML",
        "srcdoc",
        "localStorage.setItem(\"token",
    ];
    for (name, text) in files() {
        for word in never {
            assert!(!text.contains(word), "{name} has {word}");
        }
        let elsewhere = ["//cdn", "@import", "url(http", "src=\"http", "href=\"http"];
        for word in elsewhere {
            assert!(!text.contains(word), "{name} has {word}");
        }
        if name.ends_with(".html") {
            for word in ["<style", " style=", " onclick=", "javascript:"] {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }
}

/// The keys of a table of words.
fn keys(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let quoted: Vec<&str> = text.split('"').collect();
    let is_key = |at: &usize| {
        quoted
            .get(at + 1)
            .is_some_and(|after| after.starts_with(": "))
    };
    let at = (1..quoted.len()).step_by(2).filter(is_key);
    at.map(|at| quoted[at].to_owned()).collect()
}

#[test]
fn both_languages_have_every_word_that_the_page_uses() {
    let (english, chinese) = (keys("words_en.js"), keys("words_zh.js"));
    assert!(english.len() > 300, "{}", english.len());
    let lacking: Vec<_> = english.symmetric_difference(&chinese).collect();
    assert!(lacking.is_empty(), "only one language has {lacking:?}");
    for (name, text) in files() {
        for used in text.split("t(\"").skip(1) {
            let word = used.split('"').next().unwrap();
            let is_word = word.contains('.') && !word.contains(['/', '<', ' ']);
            let shown = used[word.len()..].starts_with(['"']) && is_word;
            assert!(
                !shown || english.contains(word),
                "{name}: no words for {word}"
            );
        }
    }
}
