//! Fuzzes what `properties/token_reply.rs` states.

#![no_main]

#[path = "../properties/recorded.rs"]
mod recorded;
#[path = "../properties/token_reply.rs"]
mod token_reply;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| token_reply::check(bytes));
