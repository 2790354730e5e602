//! Imports go down only: which area of `src/` may use which.

use super::source::{Source, words};

/// Areas from the bottom up: an area uses areas of the lines above its own, never another of its line.
const RANKS: [&str; 17] = [
    "clock backoff secret",
    "net dialect",
    "config",
    "telemetry",
    "limit",
    "store",
    "credential key",
    "pool",
    "route",
    "health",
    "instance",
    "reload notify",
    "proxy admin",
    "mock",
    "app",
    "cli",
    "main",
];

fn rank(area: &str) -> Option<usize> {
    RANKS
        .iter()
        .position(|line| line.split(' ').any(|name| name == area))
}

pub(super) fn upward(file: &Source) -> Vec<String> {
    // The crate's root only lists the areas.
    if file.area() == "lib" {
        return vec![];
    }
    let Some(own) = rank(file.area()) else {
        return vec![file.found(0, "this area has no rank")];
    };
    let mut found = vec![];
    for (at, word) in file.words() {
        let path = &file.code[at..];
        if word == "super" && supers(path) >= file.depth() && !file.code[..at].ends_with("::") {
            found.push(file.found(at, "climbs to the crate's root; say `crate::`"));
        }
        let Some(below) = path.strip_prefix("crate::") else {
            continue;
        };
        for other in first_names(below) {
            let allowed = other == file.area() || rank(other).is_some_and(|rank| rank < own);
            if word == "crate" && !allowed {
                found.push(file.found(at, other));
            }
        }
    }
    found
}

fn supers(path: &str) -> usize {
    path.split("::").take_while(|part| *part == "super").count()
}

/// `a` of `a::b`; `a` and `c` of `{a::{b, x}, c}`.
fn first_names(path: &str) -> Vec<&str> {
    let (mut depth, mut wanted, mut names) = (0, true, vec![]);
    for (at, c) in path.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => wanted = true,
            _ if wanted && !c.is_whitespace() => {
                names.extend(words(&path[at..]).next().map(|(_, word)| word));
                wanted = false;
            }
            _ => {}
        }
        if depth == 0 && !wanted {
            break;
        }
    }
    names
}

#[test]
fn only_lower_areas_may_be_used() {
    use super::rules::check;

    check(
        upward,
        "src/pool/mod.rs",
        "use crate::{clock, secret::{A, B}, config};",
        &[],
    );
    check(
        upward,
        "src/pool/mod.rs",
        "use crate::{\n clock,\n proxy::{Gateway, key},\n};",
        &[1],
    );
    check(
        upward,
        "src/pool/mod.rs",
        "use crate::secret;\nlet a = crate::app::run();",
        &[2],
    );
    check(upward, "src/pool/a.rs", "use crate::pool::{b, c};", &[]);
    check(upward, "src/admin/mod.rs", "use crate::proxy::X;", &[1]);
    check(
        upward,
        "src/pool/a.rs",
        "use super::b;\nuse super::super::proxy;",
        &[2],
    );
    check(upward, "src/pool/mod.rs", "use super::proxy;", &[1]);
    check(
        upward,
        "src/pool/a.rs",
        "// crate::proxy\nlet a = \"crate::app\";",
        &[],
    );
    check(upward, "src/pool/a.rs", "use crate::attic::b;", &[1]);
    check(upward, "src/attic/mod.rs", "", &[1]);
}
