//! TLS as clients, operators and upstreams meet it.

mod listeners;
mod upstreams;
