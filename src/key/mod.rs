//! Who may call: client keys, looked up by their hash in an index that requests read without a lock.
//!
//! Keys come from the configuration, from `clients.keys_file`, and from the records of issued and
//! imported keys. Only hashes are kept.

mod client;
mod hash;
mod import;
mod index;
mod issued;
mod present;
mod register;
mod shown;
mod slots;
mod source;
mod unclaimed;
mod written;

pub use client::{Client, Grant};
pub use hash::{KeyHash, new_key};
pub use import::Imported;
pub use index::{Keys, Refused};
pub use issued::Issued;
pub use present::{
    client_keys, is_credential_header, is_key_protocol, protocols, without_key_parameter,
};
pub use register::{KeyError, Place, Register};
pub use shown::{KeyView, LimitView, status};
pub use slots::{NoSlot, Scope, Seat, Seated, Sits, Slots};
pub use written::{Attributes, WrittenLimit, Wrong};
