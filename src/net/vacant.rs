//! Says whether an address can be listened on, before a server tries it and fails without a word.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// `address` itself, with a free port in place of port 0. Another program may still take it in the
/// moment before it is listened on.
///
/// # Errors
/// Somebody listens there, or this machine or user may not.
pub fn vacant(address: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::vacant;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn an_address_in_use_is_an_error_and_port_0_becomes_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(vacant(taken.local_addr().unwrap()).is_err());
        let free = vacant((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_ne!(free.port(), 0);
    }
}
