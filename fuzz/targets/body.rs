//! Fuzzes what `properties/body.rs` states.

#![no_main]

#[path = "../properties/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
