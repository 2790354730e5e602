//! The accounts of a pool, their live state, and which of them serves a request.

mod outcome;
mod summary;
mod view;

pub use outcome::Outcome;
pub use summary::{Health, PoolView, QueueView, instance_state, instances};
pub use view::*;
