//! How much of something is allowed: at a time, and in a time. Knows neither keys nor accounts.

mod counts;
mod kept;
mod limits;
#[cfg(test)]
mod limits_tests;
mod permit;
mod price;
mod shared;
#[cfg(test)]
mod shared_tests;
mod window;

pub use counts::Counts;
pub use kept::{Kept, More};
pub use limits::{Ask, Exceeded, Hold, Level, Limits, Spent};
pub use permit::{Permit, Permits};
pub use price::{BILLION, Price, Prices};
pub use shared::{Draw, Drawn, Late, Tally};
pub use window::Window;
