//! The older systems' 352 promises and the tests that show them: `rows.txt` has a line for each, with the
//! names of its tests or, behind a dash, why there is none. A row that had a test keeps one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROWS: &str = include_str!("rows.txt");

struct Row {
    id: &'static str,
    what: &'static str,
    /// Names of tests; an error says why there are none.
    shown: Result<Vec<&'static str>, &'static str>,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [id, _, what, last] = parts[..] else {
            panic!("not a row: {line}");
        };
        Row {
            id,
            what,
            shown: match last.strip_prefix("- ") {
                Some(why) => Err(why),
                None => Ok(last.split(", ").collect()),
            },
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
    for row in &rows {
        match &row.shown {
            Ok(names) => gone.extend(
                names
                    .iter()
                    .filter(|name| !tests.contains(**name))
                    .map(|name| format!("{} ({}): {name}", row.id, row.what)),
            ),
            Err(why) => assert!(!why.is_empty(), "{}: why is there none?", row.id),
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
    let shown = rows.iter().filter(|row| row.shown.is_ok()).count();
    for row in &rows {
        if let Err(why) = row.shown {
            eprintln!("{} {}: {why}", row.id, row.what);
        }
    }
    assert!(shown >= LEAST, "{shown} of {}", rows.len());
}

const LEAST: usize = 285;
