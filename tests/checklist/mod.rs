//! The older systems' 352 promises and the tests that show them: `rows.txt` has a line for each, with the
//! names of its tests; or, behind `>`, the page and the words in it, of what an operator reads or does; or,
//! behind a dash, why there is neither. A row that had a test keeps one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROWS: &str = include_str!("rows.txt");

struct Row {
    id: &'static str,
    /// `G`: the gateway does it; other letters: a program, an operator (`seed-checklist.md`).
    whose: &'static str,
    what: &'static str,
    shown: Shown,
}

enum Shown {
    Tests(Vec<&'static str>),
    /// A file of ours and what it says.
    Page(&'static str, &'static str),
    Not(&'static str),
}

/// Rows of the gateway that are for later; the first word of their reason says so.
const LATER: [&str; 9] = [
    "1-14", "4-09", "4-54", "4-62", "4-63", "4-64", "4-65", "4-66a", "4-66b",
];

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [id, whose, what, last] = parts[..] else {
            panic!("not a row: {line}");
        };
        let shown = match last.split_once(' ') {
            Some(("-", why)) => Shown::Not(why),
            Some((">", rest)) => {
                let (page, words) = rest.split_once(": ").unwrap();
                Shown::Page(page, words)
            }
            _ => Shown::Tests(last.split(", ").collect()),
        };
        Row {
            id,
            whose,
            what,
            shown,
        }
    };
    ROWS.lines().map(row).collect()
}

/// Every `fn` behind a `#[test]` of the whole tree.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.extend(tests_of(&path));
            }
        }
    }
    found
}

fn tests_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let marked = text.split("#[test]").skip(1);
    let asynchronous = text.split("#[tokio::test").skip(1);
    let name = |rest: &str| {
        let (_, rest) = rest.split_once("fn ")?;
        Some(rest.split_once('(')?.0.to_owned())
    };
    let tests = marked.chain(asynchronous).filter_map(name);
    // Those of a macro have their names elsewhere.
    let given = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("fn "));
    let given = given.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned()));
    tests.chain(given).collect()
}

#[test]
fn each_row_has_tests_that_there_are_or_a_reason() {
    let rows = rows();
    assert_eq!(rows.len(), 352, "no row is ever taken out");
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len(), "each once");
    let tests = tests();
    let mut gone = vec![];
    for Row {
        id,
        whose,
        what,
        shown,
    } in &rows
    {
        match shown {
            Shown::Tests(names) => {
                let missing = names.iter().filter(|name| !tests.contains(**name));
                gone.extend(missing.map(|name| format!("{id} ({what}): {name}")));
            }
            Shown::Page(page, words) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
                let text = fs::read_to_string(path).unwrap();
                assert!(text.contains(words), "{id}: {page} does not say: {words}");
                assert!(!whose.starts_with('G'), "{id}: the gateway does it: a test");
            }
            Shown::Not(why) if LATER.contains(id) => assert!(why.starts_with("later: "), "{id}"),
            Shown::Not(why) => {
                assert!(!why.is_empty() && *whose == "X", "{id}: why is there none?");
            }
        }
    }
    assert!(
        gone.is_empty(),
        "these tests are gone, and their rows with them: {gone:#?}"
    );
}

/// So many rows have had a test; when more have, the number grows.
#[test]
fn no_fewer_rows_have_a_test_than_had() {
    let rows = rows();
    let mut shown = 0;
    for Row {
        id,
        what,
        shown: by,
        ..
    } in &rows
    {
        match by {
            Shown::Tests(names) => {
                shown += 1;
                eprintln!("{id} {what} -> {}", names.join(", "));
            }
            Shown::Page(page, _) => eprintln!("{id} {what} -> {page}"),
            Shown::Not(why) => eprintln!("{id} {what}: {why}"),
        }
    }
    assert!(shown >= LEAST, "{shown} of {}", rows.len());
}

const LEAST: usize = 323;
