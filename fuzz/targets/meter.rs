//! Fuzzes what `properties/meter.rs` states.

#![no_main]

#[path = "../properties/document.rs"]
mod document;
#[path = "../properties/events.rs"]
mod events;
#[path = "../properties/meter.rs"]
mod meter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meter::check(bytes));
