//! Names, addresses and files of the outside world: resolving host names, finding a free address,
//! ways through a proxy, asking others over HTTP, certificates, noticing that files change.

mod certificate;
mod egress;
mod peer_tls;
mod pem;
mod pinned;
mod proxies;
mod public;
mod resolver;
mod socket;
mod tunnel;
mod vacant;
mod watch;

pub use certificate::Certificate;
pub use egress::{Answer, Egress, EgressError, Reach};
pub use peer_tls::PeerTls;
pub use pem::PemError;
pub use pinned::pinned;
pub use proxies::{BadProxy, Proxies};
pub use public::is_public;
pub use resolver::{ResolveError, Resolver};
pub use socket::ask_socket;
pub use tunnel::{NearEnd, Tunnel, Tunnels};
pub use vacant::vacant;
pub use watch::watch_files;
