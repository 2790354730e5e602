//! A Rust file as the rules read it: without comments, literals and tests; and how the files are found.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub(super) struct Source {
    /// From the root of the crate, as `src/pool/mod.rs`.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and the insides of literals blanked and the tests at its bottom cut off;
    /// lines and columns stay where they were.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        let mut code = blank_comments_and_literals(text);
        let in_tests =
            path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
        match code.find("#[cfg(test)]\nmod tests {") {
            _ if in_tests => code.clear(),
            Some(at) => code.truncate(at),
            None => {}
        }
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// `pool` for `src/pool/select/hash.rs`, `clock` for `src/clock.rs`.
    pub(super) fn area(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// The file's place in the tree of modules, counted from the root of the crate.
    pub(super) fn depth(&self) -> usize {
        let parts = self
            .path
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .split('/');
        parts.filter(|part| *part != "mod").count()
    }

    /// Identifiers of the code, each with the byte it begins at.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        words(&self.code)
    }

    /// Identifiers that `is` wants, given the code before and after each.
    pub(super) fn find(&self, is: impl Fn(&str, &str, &str) -> bool) -> Vec<String> {
        let wanted = |&(at, word): &(usize, &str)| {
            let (before, from) = self.code.split_at(at);
            is(before, word, &from[word.len()..])
        };
        let found = self.words().filter(wanted);
        found.map(|(at, word)| self.found(at, word)).collect()
    }

    /// A line of a failure's text.
    pub(super) fn found(&self, at: usize, what: &str) -> String {
        let line = self.text[..at].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(part_of_word)?;
        let end = text[start..]
            .find(|c| !part_of_word(c))
            .map_or(text.len(), |length| start + length);
        from = end;
        Some((start, &text[start..end]))
    })
}

/// Overwrites comments, strings and characters with spaces, byte for byte, and keeps line ends.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(text, at) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with('\'') && is_character(rest) {
            quoted(rest, '\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        out[at..at + length]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
        at += length;
    }
    String::from_utf8(out).unwrap()
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of `r"…"` or `r#"…"#`, also after `b` or `c`, when one begins at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let before = text[..at].chars().next_back();
    let rest = &text[at..];
    let hashes = rest
        .strip_prefix('r')?
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let in_word = before.is_some_and(|c| (c.is_alphanumeric() || c == '_') && c != 'b' && c != 'c');
    if in_word || !rest[1 + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    Some(
        rest[body..]
            .find(&end)
            .map_or(rest.len(), |length| body + length + end.len()),
    )
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The root of the package: where cargo runs tests.
pub(super) fn root() -> PathBuf {
    std::env::current_dir().unwrap()
}

/// Every file below `folder`, but for what building or running makes.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    const MADE: [&str; 6] = [
        ".git",
        "target",
        "data",
        "logs",
        "node_modules",
        "__pycache__",
    ];
    let mut found = vec![];
    let mut entries = fs::read_dir(folder).into_iter().flatten();
    while let Some(Ok(entry)) = entries.next() {
        let path = entry.path();
        if path.is_dir() && !MADE.iter().any(|made| path.ends_with(made)) {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(super) fn rust_files(folders: &[&str]) -> Vec<Source> {
    let root = root();
    let mut paths: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(&root).unwrap().to_string_lossy();
        Source::new(&relative, &fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

#[test]
fn what_is_no_code_is_not_read_as_code() {
    let text = "a /* b /* c */ d */ e 'f' '\\'' &'g h r#\"i \" j\"# br\"k\" \"l\\\"m\" // n\no";
    let source = Source::new("src/a.rs", text);
    let seen: Vec<&str> = source.code.split_whitespace().collect();
    assert_eq!(seen, ["a", "e", "&'g", "h", "b", "o"]);
}
