//! Names and files of the outside world: resolving host names, noticing that files change.

mod resolver;
mod watch;

pub use resolver::{ResolveError, Resolver};
pub use watch::watch_files;
