//! The rules that look at one file and its words, each with examples of what it finds.

use super::source::{Source, words};

/// A file may be this long, its tests included; longer means two reasons to exist.
const MAX_LINES: usize = 500;

/// Pingora's types stay where requests and listeners are, so that the rest is tested without a server;
/// and in `net`, where what an upstream must show is read once for all its connections.
const MAY_NAME_PINGORA: &str = "net app proxy admin health";

/// Everything else is handed bytes, and can be tested without a network.
const MAY_OPEN_SOCKETS: &str = "net store credential health instance notify proxy admin mock app";
const SOCKETS: &str = "TcpStream TcpListener TcpSocket UdpSocket UnixStream UnixListener \
                       UnixDatagram HttpConnector reqwest";

/// Words that say nothing about what a thing does, or that mean something else here.
const EMPTY_WORDS: &str =
    "manager handler helper helpers util utils common core engine provider service";

fn listed(word: &str, list: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

pub(super) fn too_long(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    let too_long = lines > MAX_LINES;
    Vec::from_iter(too_long.then(|| format!("{}:{lines}: the last line", file.path)))
}

pub(super) fn without_purpose(file: &Source) -> Vec<String> {
    let silent = !file.text.starts_with("//! ");
    Vec::from_iter(silent.then(|| format!("{}:1: the first line", file.path)))
}

pub(super) fn pingora_out_of_place(file: &Source) -> Vec<String> {
    if listed(file.area(), MAY_NAME_PINGORA) {
        return vec![];
    }
    file.find(|_, word, after| word.starts_with("pingora") && after.starts_with("::"))
}

pub(super) fn sockets_out_of_place(file: &Source) -> Vec<String> {
    if listed(file.area(), MAY_OPEN_SOCKETS) {
        return vec![];
    }
    file.find(|_, word, _| listed(word, SOCKETS))
}

pub(super) fn reads_environment(file: &Source) -> Vec<String> {
    if file.path.starts_with("src/config/env") {
        return vec![];
    }
    file.find(|_, word, after| {
        let named = after.trim_start_matches([':', '{']);
        word == "env" && after.starts_with("::") && named.starts_with("var")
    })
}

pub(super) fn asks_clock(file: &Source) -> Vec<String> {
    if file.path == "src/clock.rs" {
        return vec![];
    }
    file.find(|before, word, after| match word {
        "Instant" | "SystemTime" | "Timestamp" | "Zoned" => after.starts_with("::now"),
        "elapsed" => before.ends_with('.') && after.starts_with("()"),
        _ => false,
    })
}

/// What a static that nobody shares comes right behind.
const STATIC: [&str; 2] = ["#[global_allocator]", "task_local! {"];

pub(super) fn global_state(file: &Source) -> Vec<String> {
    file.find(|before, word, after| match word {
        "static" => {
            !before.ends_with('\'') && !STATIC.iter().any(|end| before.trim_end().ends_with(end))
        }
        "thread_local" => after.starts_with('!'),
        _ => false,
    })
}

/// Our own modules and types only: what a library calls its things is its affair.
pub(super) fn empty_words(file: &Source) -> Vec<String> {
    let path = file.path.trim_end_matches(".rs");
    let folder = path.split('/').find(|part| says_nothing(part));
    let folder = folder.map(|part| format!("{}:1: {part}", file.path));
    let types = file.find(|before, word, _| {
        let defines = before.split_whitespace().next_back().unwrap_or_default();
        listed(defines, "struct enum trait type mod union") && says_nothing(word)
    });
    folder.into_iter().chain(types).collect()
}

/// Does one of the words of `snake_case` or `CamelCase` say nothing?
fn says_nothing(name: &str) -> bool {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_uppercase() || c == '_' {
            spaced.push(' ');
        }
        spaced.extend(c.to_lowercase().filter(|c| *c != '_'));
    }
    spaced
        .split(' ')
        .any(|word| listed(word, EMPTY_WORDS) && !word.is_empty())
}

pub(super) fn left_for_later(file: &Source) -> Vec<String> {
    // In pieces, so that this file passes its own rule.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let left = words(&file.text).filter(|(_, word)| marks.contains(word));
    left.map(|(at, word)| file.found(at, word)).collect()
}

/// `rule` finds something in exactly these lines.
#[track_caller]
pub(super) fn check(rule: fn(&Source) -> Vec<String>, path: &str, text: &str, lines: &[usize]) {
    let found = rule(&Source::new(path, text));
    let places = lines.iter().map(|line| format!("{path}:{line}: "));
    let right = found
        .iter()
        .zip(places)
        .filter(|(found, place)| found.starts_with(place));
    assert!(
        right.count() == lines.len() && found.len() == lines.len(),
        "{text}\nfound: {found:#?}"
    );
}

#[test]
fn places_are_found_and_nothing_else() {
    check(too_long, "src/a.rs", &"\n".repeat(MAX_LINES), &[]);
    check(
        too_long,
        "src/a.rs",
        &"\n".repeat(MAX_LINES + 1),
        &[MAX_LINES + 1],
    );
    check(without_purpose, "src/a.rs", "use a::b;", &[1]);
    check(without_purpose, "src/a.rs", "//! Counts sheep.", &[]);
    check(
        pingora_out_of_place,
        "src/pool/a.rs",
        "use pingora_core::X; // pingora::Y",
        &[1],
    );
    check(
        pingora_out_of_place,
        "src/proxy/a.rs",
        "use pingora_core::X;",
        &[],
    );
    check(
        sockets_out_of_place,
        "src/pool/a.rs",
        "\ntokio::net::TcpStream::connect()",
        &[2],
    );
    check(
        sockets_out_of_place,
        "src/net/a.rs",
        "TcpStream::connect()",
        &[],
    );
}

#[test]
fn what_is_asked_and_how_it_is_named_is_found_and_nothing_else() {
    check(
        reads_environment,
        "src/app/a.rs",
        "std::env::var(A);\nuse std::env::{var_os};",
        &[1, 2],
    );
    check(
        reads_environment,
        "src/app/a.rs",
        "std::env::current_dir()",
        &[],
    );
    check(
        reads_environment,
        "src/config/env.rs",
        "std::env::vars()",
        &[],
    );
    check(
        asks_clock,
        "src/pool/a.rs",
        "\nInstant::now();\nclock::now();\nsince.elapsed()",
        &[2, 4],
    );
    check(asks_clock, "src/clock.rs", "Instant::now()", &[]);
    check(
        global_state,
        "src/a.rs",
        "fn f(a: &'static str) {}\nstatic A: u8 = 1;",
        &[2],
    );
    check(
        global_state,
        "src/main.rs",
        "#[global_allocator]\nstatic A: Jemalloc = Jemalloc;",
        &[],
    );
    check(
        global_state,
        "src/a.rs",
        "tokio::task_local! {\n    /// Mine.\n    static A: u8;\n}\nstatic B: u8 = 1;",
        &[5],
    );
    check(
        empty_words,
        "src/pool/a.rs",
        "use x::Service;\nstruct PoolManager; enum Scores {}",
        &[2],
    );
    check(empty_words, "src/utils/mod.rs", "", &[1]);
    check(
        left_for_later,
        "src/a.rs",
        concat!("\n// TO", "DO: later"),
        &[2],
    );
}

#[test]
fn what_is_no_code_is_not_judged() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { Instant::now(); }\n}";
    check(asks_clock, "src/pool/a.rs", code, &[]);
    check(asks_clock, "src/pool/tests.rs", "Instant::now()", &[]);
    check(
        asks_clock,
        "src/pool/a.rs",
        "let a = \"Instant::now\"; /* Instant::now */",
        &[],
    );
}
