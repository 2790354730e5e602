//! Changes to a gateway that goes on serving.

mod reload;
