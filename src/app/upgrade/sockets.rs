//! The listening sockets of this process: what it has for a successor, and what it got from its
//! predecessor.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};

use super::Will;

/// The kernel passes no more at once.
const MOST: usize = 253;

/// The longest list of addresses, in bytes.
const LONGEST: usize = 64 << 10;

/// Address, as Pingora writes it, and socket.
pub(in crate::app) type Inherited = HashMap<String, RawFd>;

/// Puts inherited sockets into Pingora's table before anybody looks there, and keeps the table.
pub(in crate::app) struct Sockets {
    inherited: Inherited,
    table: Arc<OnceLock<ListenFds>>,
}

impl Sockets {
    pub(in crate::app) fn new(inherited: Inherited, table: Arc<OnceLock<ListenFds>>) -> Sockets {
        Sockets { inherited, table }
    }
}

#[async_trait]
impl ServiceWithDependents for Sockets {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let Some(fds) = fds {
            for (address, socket) in self.inherited.drain() {
                fds.lock().add(address, socket);
            }
            // Set by this one only.
            let _ = self.table.set(fds);
        }
        ready.notify_ready();
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    fn name(&self) -> &str {
        "sockets"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn on_startup_delay(&self, _: std::time::Duration) {}
}

/// Sends the sockets of `table` and the will that goes with them. They must be open: not once this
/// process has begun to close its listeners.
pub(super) fn send(to: &UnixStream, table: &ListenFds, age_ms: u64) -> Result<()> {
    let (addresses, sockets) = table.lock().serialize();
    ensure!(
        sockets.len() <= MOST,
        "more than {MOST} listeners cannot be passed on"
    );
    let mut will = serde_json::to_vec(&Will { addresses, age_ms })?;
    will.push(b'\n');
    ensure!(
        will.len() <= LONGEST,
        "the addresses are too long to be passed on"
    );
    let passed = [ControlMessage::ScmRights(&sockets)];
    let slices = [IoSlice::new(&will)];
    let sent = sendmsg::<()>(to.as_raw_fd(), &slices, &passed, MsgFlags::empty(), None);
    let sent = sent.context("the listening sockets cannot be passed on")?;
    // The sockets went with the first byte; of the text more may be left.
    std::io::Write::write_all(&mut &*to, &will[sent..])?;
    Ok(())
}

/// Receives what [`send`] sends. Nothing else may have been read from there.
pub(super) fn receive(from: &UnixStream) -> Result<(Will, Inherited)> {
    let mut text = Vec::new();
    let mut sockets = Vec::new();
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    while !text.ends_with(b"\n") {
        let mut piece = vec![0; LONGEST];
        let mut slices = [IoSliceMut::new(&mut piece)];
        // Children of ours must not have them.
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut space), flags);
        let message = message.context("no answer from the running gateway")?;
        for passed in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(passed) = passed {
                sockets.extend(passed);
            }
        }
        let length = message.bytes;
        ensure!(
            length > 0,
            "the running gateway hands nothing over; its log says why"
        );
        text.extend_from_slice(&piece[..length]);
        ensure!(
            text.len() <= LONGEST,
            "what the running gateway says is too long"
        );
    }
    let will: Will = serde_json::from_slice(&text).context("what the running gateway says")?;
    ensure!(
        will.addresses.len() == sockets.len(),
        "sockets were lost on the way"
    );
    let inherited = will.addresses.iter().cloned().zip(sockets).collect();
    Ok((will, inherited))
}
