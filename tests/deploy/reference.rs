//! The reference of the configuration is made from conf/poolgate.yaml, and fresh.

use std::fmt::Write as _;
use std::fs;

use super::shipped;

const HEAD: &str = "# Configuration reference

Made from [`conf/poolgate.yaml`](../conf/poolgate.yaml); do not edit. A value is the key's default; behind *e.g.* it is an
example, and the default is: absent. Durations are `250ms`, `30s`, `5m`, `24h`, `7d`; sizes are `64KiB`, `16MiB`. `${NAME}` and
`${NAME:-default}` are replaced from the environment inside any text; a secret is a text or `{file: PATH}`. `poolgate check`
says every mistake at once, `poolgate check --print` what is in force.
";

/// A line of the file: how deep, the key, its value, what is said of it.
struct Line<'a> {
    depth: usize,
    key: &'a str,
    value: &'a str,
    said: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    let (written, said) = match text.split_once(" # ") {
        Some((written, said)) => (written.trim_end(), said.trim()),
        None => (text.trim_end(), ""),
    };
    let bare = written.trim_start();
    let item = bare.strip_prefix("- ");
    let depth = written.len() - bare.len() + if item.is_some() { 2 } else { 0 };
    let (key, value) = item.unwrap_or(bare).split_once(':')?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_key.then(|| Line {
        depth,
        key,
        value: value.trim(),
        said,
    })
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page.
fn reference(file: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut path: Vec<(usize, &str)> = vec![];
    let body = file
        .lines()
        .skip_while(|line| line.is_empty() || line.starts_with('#'));
    for text in body.filter(|text| !text.trim().is_empty()) {
        if let Some(more) = text.trim_start().strip_prefix('#') {
            // What a comment goes on with, and keys that exclude each other.
            let _ = writeln!(page, "| | | {} |", cell(more.trim()));
            continue;
        }
        let Some(line) = line(text) else {
            let _ = writeln!(
                page,
                "| | `{}` | |",
                cell(text.trim().trim_start_matches("- "))
            );
            continue;
        };
        path.retain(|(depth, _)| *depth < line.depth);
        path.push((line.depth, line.key));
        if line.depth == 0 {
            let _ = writeln!(
                page,
                "\n## {}\n\n| key | value | |\n|---|---|---|",
                line.key
            );
        }
        let names: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
        let value = match line.value {
            "" => String::new(),
            value => format!("`{}`", cell(value)),
        };
        let _ = writeln!(
            page,
            "| `{}` | {value} | {} |",
            names.join("."),
            cell(line.said)
        );
    }
    page
}

#[test]
fn the_reference_of_the_configuration_is_fresh() {
    let file = fs::read_to_string(shipped("../conf/poolgate.yaml")).unwrap();
    let page = reference(&file);
    let place = shipped("../docs/configuration.md");
    if std::env::var("POOLGATE_WRITE_REFERENCE").is_ok() {
        fs::write(&place, &page).unwrap();
    }
    let written = fs::read_to_string(place).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is stale: POOLGATE_WRITE_REFERENCE=1 cargo nextest run the_reference_of_the_configuration"
    );
    for key in [
        "pools.default.accounts.weight",
        "tiers.medium.slots_per_account",
        "notify",
    ] {
        assert!(page.contains(&format!("| `{key}` |")), "{key}");
    }
}
