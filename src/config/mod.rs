//! Reads the configuration file: what is written -> what is usable, all problems at once.
//!
//! `tree` knows places, `read` asks for keys, one file per area says which, `model` is the result.

mod account;
mod clients;
mod credential;
mod difference;
mod document;
mod env;
mod form;
mod json;
mod listen;
mod load;
mod model;
pub mod older;
mod outside;
mod pool;
mod problem;
mod read;
mod secret_file;
mod shown;
mod state;
mod tree;
mod upstream;

pub use account::is_account_id;
pub use credential::is_private_url;
pub use difference::{Difference, differences};
pub use env::{EnvFile, Variables, process_env};
pub use load::{Loaded, known_keys, load, parse, print};
pub use model::*;
pub use outside::{Wrong, outside_account, overlaid};
pub use problem::{Problem, Problems, Severity, Snippet};
pub use secret_file::{SecretError, read_keys_file, read_secret};
pub use shown::Shown;

#[cfg(test)]
mod tests;
