//! Changes to a gateway that goes on serving.

mod failed;
mod inherited;
mod program;
mod reload;
mod step;
mod upgrade;
