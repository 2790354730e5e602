//! Names, addresses and files of the outside world: resolving host names, finding a free address,
//! noticing that files change.

mod resolver;
mod vacant;
mod watch;

pub use resolver::{ResolveError, Resolver};
pub use vacant::vacant;
pub use watch::watch_files;
