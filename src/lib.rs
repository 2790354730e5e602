//! poolgate: one address in front of many LLM-API accounts.
//!
//! The modules are listed in reading order; each may import only those above it (`tests/tidy`).

pub mod backoff;
pub mod clock;
pub mod secret;

pub mod dialect;
pub mod net;

pub mod config;

pub mod telemetry;

pub mod limit;

pub mod store;

pub mod credential;
pub mod key;

pub mod pool;

pub mod route;

pub mod health;

pub mod instance;

pub mod notify;

pub mod admin;
pub mod proxy;

pub mod mock;

pub mod app;

pub mod cli;
