//! Reads the configuration file: what is written -> what is usable, all problems at once.

mod model;

pub use model::*;
