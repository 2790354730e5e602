//! poolgate: one address in front of many LLM-API accounts.
//!
//! The modules are listed in reading order; each may import only those above it (`tests/tidy.rs`).

pub mod clock;
pub mod secret;

pub mod net;

pub mod dialect;

pub mod config;

pub mod telemetry;

pub mod credential;
pub mod key;

pub mod pool;

pub mod proxy;

pub mod mock;

pub mod app;

pub mod cli;
