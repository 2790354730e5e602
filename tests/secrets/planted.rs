//! The secrets of one test, each known by its place, and the search for them.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Secrets by their places. Each is random from its first letter on, so that a part of it is found too.
#[derive(Default)]
pub(super) struct Planted(BTreeMap<String, String>);

/// So much of a secret's beginning gives it away; its end may be shown, four letters at most.
const TELLING: usize = 12;

impl Planted {
    /// A secret for this place.
    pub(super) fn plant(&mut self, place: &str) -> String {
        let letters = (0..32).map(|_| fastrand::alphanumeric());
        let secret: String = letters.collect();
        self.0.insert(place.to_owned(), secret.clone());
        secret
    }

    pub(super) fn at(&self, place: &str) -> &str {
        &self.0[place]
    }

    /// Where each secret that `text` holds was planted, whole or in part, plain or encoded.
    pub(super) fn found_in(&self, text: &[u8]) -> Vec<&str> {
        let holds = |secret: &str| {
            let ways = [
                secret[..TELLING].to_owned(),
                secret[secret.len() - TELLING..].to_owned(),
                hex(secret),
                base64(secret)[..TELLING].to_owned(),
            ];
            ways.iter().any(|way| contains(text, way.as_bytes()))
        };
        let found = self.0.iter().filter(|(_, secret)| holds(secret));
        found.map(|(place, _)| place.as_str()).collect()
    }

    /// None of the secrets is in `text`.
    #[track_caller]
    pub(super) fn assert_not_in(&self, sink: &str, text: &[u8]) {
        let found = self.found_in(text);
        assert!(
            found.is_empty(),
            "{sink} tells {found:?}:\n{}",
            String::from_utf8_lossy(text)
        );
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

fn hex(text: &str) -> String {
    let mut hex = String::new();
    for byte in text.bytes().take(TELLING) {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks_exact(3) {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for shift in [18, 12, 6, 0] {
            encoded.push(char::from(ALPHABET[(bits >> shift) as usize & 63]));
        }
    }
    encoded
}

#[test]
fn a_secret_is_found_whole_in_part_and_encoded() {
    let mut planted = Planted::default();
    let secret = planted.plant("a");
    planted.plant("b");
    for text in [
        format!("x{secret}y"),
        secret[..TELLING].to_owned(),
        secret[20..].to_owned(),
        base64(&secret),
        hex(&secret),
    ] {
        assert_eq!(planted.found_in(text.as_bytes()), ["a"], "{text}");
    }
    assert!(planted.found_in(&secret.as_bytes()[28..]).is_empty());
    assert_eq!(base64("Man"), "TWFu");
}
