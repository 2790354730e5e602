//! The readers of untrusted bytes keep their properties (`fuzz/properties`, which `make fuzz` checks for
//! hours) on every recorded answer and every seed, and on what comes of them by a few changes.

#[path = "../../fuzz/properties/answer.rs"]
mod answer;
#[path = "../../fuzz/properties/body.rs"]
mod body;
#[path = "../../fuzz/properties/call.rs"]
mod call;
#[path = "../../fuzz/properties/config.rs"]
mod config;
#[path = "../../fuzz/properties/document.rs"]
mod document;
#[path = "../../fuzz/properties/events.rs"]
mod events;
#[path = "../../fuzz/properties/meter.rs"]
mod meter;
#[path = "../../fuzz/properties/recorded.rs"]
mod recorded;
#[path = "../../fuzz/properties/token_reply.rs"]
mod token_reply;

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, proptest};
use proptest::sample::{Index, select};
use proptest::{prop_oneof, test_runner::Config};

fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut all = vec![];
    for entry in std::fs::read_dir(Path::new(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(path.to_str().unwrap()));
        } else {
            all.push(std::fs::read(path).unwrap());
        }
    }
    assert!(!all.is_empty(), "{folder} is empty");
    all
}

fn lines(file: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(Vec::from).collect()
}

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// A part of another seed.
    Graft(Index, Index, Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let words = [
        "\n\n",
        "\r",
        "\r\n\r\n",
        "data: ",
        "data:",
        "[DONE]",
        "\"usage\":{}",
        "\"usage\":null",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "\\",
        "\"error\":{\"type\":\"x\"}",
        "\"model\":\"m\",",
        ": x\n",
        "null",
        "\u{feff}",
        "&key=",
    ];
    let inserted = prop_oneof![
        select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        vec(any::<u8>(), 1..4),
    ];
    let place = any::<Index>;
    prop_oneof![
        1 => place().prop_map(Change::Cut),
        2 => (place(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        4 => (place(), inserted).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (place(), place(), place(), 1..200_usize).prop_map(|(at, seed, from, n)| Change::Graft(at, seed, from, n)),
    ]
}

fn changed(seeds: &[Vec<u8>], mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match change {
            Change::Cut(at) => bytes.truncate(place(at)),
            Change::Remove(at, length) => {
                let from = place(at);
                let to = (from + length).min(bytes.len());
                bytes.drain(from..to);
            }
            Change::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Graft(at, seed, from, length) => {
                let seed = &seeds[seed.index(seeds.len())];
                let from = from.index(seed.len() + 1);
                let part = &seed[from..(from + length).min(seed.len())];
                let at = place(at);
                bytes.splice(at..at, part.iter().copied());
            }
        }
    }
    bytes
}

/// Every seed as it is, and `cases` changed ones.
fn holds(seeds: Vec<Vec<u8>>, cases: u32, check: fn(&[u8])) {
    seeds.iter().for_each(|seed| check(seed));
    let one = (select(seeds.clone()), vec(change(), 1..6));
    proptest!(Config::with_cases(cases), |((seed, changes) in one, seeds in Just(seeds))| {
        check(&changed(&seeds, seed, &changes));
    });
}

#[test]
fn answers_are_read_alike_however_they_are_cut() {
    holds(files("tests/fixtures"), 400, meter::check);
}

#[test]
fn every_error_answer_has_a_meaning_and_quotes_do_no_harm() {
    holds(files("tests/fixtures"), 2000, answer::check);
}

#[test]
fn every_token_reply_has_a_meaning_and_a_granted_token_can_be_sent() {
    holds(files("tests/fixtures/tokens"), 2000, token_reply::check);
}

#[test]
fn request_bodies_are_read_as_a_full_parser_reads_them() {
    holds(files("fuzz/seeds/body"), 2000, body::check);
}

#[test]
fn paths_and_queries_mean_the_same_to_everyone() {
    holds(lines("fuzz/seeds/call.txt"), 2000, call::check);
}

#[test]
fn any_text_is_a_configuration_or_a_list_of_problems() {
    holds(files("conf"), 200, config::check);
}
