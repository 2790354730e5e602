//! A simulated vendor: the upstream of the demo, the tests and the benches. It speaks the three
//! dialects as their vendors do, says in each answer who it is, and misbehaves when it is told to:
//! by its [`Settings`], by `POST /mock/settings`, or by the `x-mock-*` headers of one request.
//!
//! It knows nothing of the gateway in front of it, not even how that one reads a path.

mod answer;
mod behaviour;
mod call;
mod change;
mod control;
mod errors;
mod line;
mod oauth;
mod options;
mod reply;
mod respond;
mod settings;
mod socket;
mod speech;
mod tally;
#[cfg(test)]
mod tests;
mod vendor;
mod wear;

pub use behaviour::{BadBehaviour, Behaviour, Hang, StatedUsage};
pub use oauth::OAuth;
pub use options::{Options, Ports, run};
pub use settings::{AtCapacity, BadSettings, Connections, Fault, RateLimit, Settings, When};
pub use tally::{Arrived, Stats};
pub use vendor::Vendor;
