//! The program's log and its access log: how a line is written and where it goes.

mod access;
mod escape;
mod events;
mod fields;
mod panic;
mod rotate;
mod setup;
mod sink;
#[cfg(test)]
mod tests;

pub use access::{AccessLine, Try};
pub use panic::count_panics;
pub use rotate::RotatingFile;
pub use setup::{Guard, InitError, init};
pub use sink::Access;
