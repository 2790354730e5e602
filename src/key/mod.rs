//! Who may call: client keys, looked up by their hash in an index that requests read without a lock.
//!
//! Keys come from the configuration, from `clients.keys_file`, and from the one that a first start
//! beyond loopback issues. Only hashes are kept.

mod client;
mod hash;
mod index;
mod issued;
mod present;
mod slots;

pub use client::{Client, Grant};
pub use hash::{KeyHash, new_key};
pub use index::{Keys, Refused};
pub use issued::Issued;
pub use present::{
    client_keys, is_credential_header, is_key_protocol, protocols, without_key_parameter,
};
pub use slots::{NoSlot, Scope, Seat, Seated, Sits, Slots};
