//! Listening sockets that systemd opened for us (`LISTEN_FDS`, sd_listen_fds(3)). It keeps them while the
//! gateway is started again, so that a crash costs the requests in flight and refuses no connection.

use std::fs;
use std::os::fd::RawFd;

use anyhow::{Context, Result, bail, ensure};
use nix::libc::O_NONBLOCK;
use nix::sys::socket::{SockaddrStorage, getsockname};

use super::upgrade::Inherited;

/// The sockets, by the addresses they listen on; none where systemd passes none to this process.
///
/// # Errors
/// One of them listens on no address that `used`, the addresses of the configuration, has: it would take
/// connections and nobody would answer. Or it blocks: a thread that asks it for a connection would
/// serve nobody until one comes.
pub(super) fn sockets(used: &[String]) -> Result<Inherited> {
    let sockets = sd_notify::listen_fds().context("the sockets that systemd passes")?;
    let mut inherited = Inherited::new();
    for socket in sockets {
        let address = address(socket)?;
        if !used.contains(&address) {
            bail!(
                "systemd passes a socket on {address}, and the configuration listens on {}",
                used.join(", ")
            );
        }
        ensure!(
            returns_at_once(socket)?,
            "systemd passes a socket that blocks, on {address}: `NonBlocking=yes` is missing in the service"
        );
        inherited.insert(address, socket);
    }
    Ok(inherited)
}

/// Nothing safe sets the flag on a bare number; proc(5) tells it, in octal.
fn returns_at_once(socket: RawFd) -> Result<bool> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{socket}"));
    let about = about.context("a socket that systemd passes")?;
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    let flags = flags.context("the flags of a socket that systemd passes")?;
    Ok(flags & O_NONBLOCK != 0)
}

/// As Pingora writes it.
fn address(socket: RawFd) -> Result<String> {
    let name = getsockname::<SockaddrStorage>(socket).context("a socket that systemd passes")?;
    let v4 = name.as_sockaddr_in().map(ToString::to_string);
    let v6 = name.as_sockaddr_in6().map(ToString::to_string);
    v4.or(v6)
        .context("systemd passes a socket that has no address and port")
}
