//! The ports of instances: one of the range that nobody uses, or the one that is written down. Who
//! holds a port already is left alone.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::net::vacant;

/// Which instance has which port.
#[derive(Default)]
pub(super) struct Ports(Mutex<HashMap<Arc<str>, u16>>);

/// Why an instance has no port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPort {
    #[error("port {0} is in use by another program")]
    InUse(u16),
    #[error("no port of {0}-{1} is free")]
    NoneFree(u16, u16),
}

impl Ports {
    /// The port of this instance, once it has one.
    pub(super) fn of(&self, id: &str) -> Option<u16> {
        self.0.lock().get(id).copied()
    }

    /// Takes the port `written`, or the first free one of `range` that is not among `others_written`;
    /// an instance that is started again keeps its port if it can.
    pub(super) fn take(
        &self,
        id: &Arc<str>,
        written: Option<u16>,
        (first, last): (u16, u16),
        others_written: &[u16],
    ) -> Result<u16, NoPort> {
        let mut taken = self.0.lock();
        let before = taken.remove(id);
        let others: Vec<u16> = taken.values().copied().collect();
        let is_free = |port: &u16| !others.contains(port) && is_vacant(*port);
        let is_nobodys = |port: &u16| !others_written.contains(port) && is_free(port);
        let found = match written {
            Some(port) => Some(port).filter(is_free),
            None => {
                let again = before.filter(|port| (first..=last).contains(port));
                again.into_iter().chain(first..=last).find(is_nobodys)
            }
        };
        let found = found.ok_or(match written {
            Some(port) => NoPort::InUse(port),
            None => NoPort::NoneFree(first, last),
        })?;
        taken.insert(id.clone(), found);
        Ok(found)
    }

    /// An instance that runs already has this port.
    pub(super) fn keep(&self, id: &Arc<str>, port: u16) {
        self.0.lock().insert(id.clone(), port);
    }

    /// The account is gone.
    pub(super) fn release(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

/// Does nobody listen there, on whatever address?
fn is_vacant(port: u16) -> bool {
    vacant(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{NoPort, Ports};
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn the_first_free_port_is_taken_and_kept_and_a_strangers_never() {
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let ports = Ports::default();
        let (a, b) = ("a".into(), "b".into());
        let range = (port, u16::MAX);
        let in_use = Err(NoPort::InUse(port));
        assert_eq!(ports.take(&a, Some(port), (1, 2), &[]), in_use);
        let none_free = Err(NoPort::NoneFree(port, port));
        assert_eq!(ports.take(&a, None, (port, port), &[]), none_free);
        let taken = ports.take(&a, None, range, &[port + 1]).unwrap();
        assert!(taken > port + 1, "another instance's by its configuration");
        let other = ports.take(&b, None, range, &[]).unwrap();
        assert!(other != taken && other != port);
        assert_eq!(ports.take(&a, None, range, &[]), Ok(taken));
        ports.release("a");
        assert_eq!((ports.of("a"), ports.of("b")), (None, Some(other)));
    }
}
