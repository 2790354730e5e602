//! How much of something is allowed: at a time, and in a time. Knows neither keys nor accounts.

mod permit;

pub use permit::{Permit, Permits};
