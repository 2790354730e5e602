//! One binary of tests over the real program: `poolgate` runs as its users run it, in front of
//! `poolgate mock` in the vendors' place, and only what a user can see is asserted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a panic is how a test reports, and tests may look at the clock"
)]

mod aborts;
mod affinity;
mod api;
mod bodies;
mod broken;
mod checklist;
mod clients;
mod clients_keys;
mod connections;
mod deploy;
mod edges;
mod egress;
mod failover;
mod first_steps;
mod health;
mod held;
mod imports;
mod instances;
mod keys;
mod leases;
mod lifecycle;
mod live;
mod models;
mod notices;
mod operators;
mod outcomes;
mod page;
mod promises;
mod rates;
mod readers;
mod records;
mod rejects;
mod renewals;
mod routes;
mod secrets;
mod selection;
mod shared;
mod slots;
mod soak;
mod stalls;
mod streaming;
mod support;
mod tidy;
mod tls;
mod tried;
mod waiting;
mod websocket;
