//! Fuzzes what `properties/call.rs` states.

#![no_main]

#[path = "../properties/call.rs"]
mod call;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| call::check(bytes));
