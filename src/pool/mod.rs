//! The accounts of a pool, their live state, and which of them serves a request.

mod outcome;
mod view;

pub use outcome::{Answer, Outcome};
pub use view::*;
