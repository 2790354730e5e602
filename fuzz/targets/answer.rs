//! Fuzzes what `properties/answer.rs` states.

#![no_main]

#[path = "../properties/answer.rs"]
mod answer;
#[path = "../properties/recorded.rs"]
mod recorded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| answer::check(bytes));
