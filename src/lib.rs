//! poolgate: one address in front of many LLM-API accounts.
//!
//! The modules are listed in reading order; each may import only those above it (`tests/tidy.rs`).

pub mod clock;
pub mod secret;

pub mod dialect;

pub mod config;

pub mod telemetry;

pub mod pool;

pub mod mock;
