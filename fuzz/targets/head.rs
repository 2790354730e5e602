//! Fuzzes what `properties/head.rs` states.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use poolgate::config::{self, Config};

#[path = "../properties/head.rs"]
mod head;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = "pools: {default: {accounts: [{id: a, upstream: openai}]}}";
    let loaded = config::parse(text, Path::new("poolgate.yaml"), &|_| None);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    head::check(bytes, |session| {
        poolgate::proxy::takes_head(&CONFIG, bytes, session)
    });
});
