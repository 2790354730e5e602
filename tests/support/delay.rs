//! A way to another server on which bytes take as long as the test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::free_address;

/// A proxy in front of a server.
pub(crate) struct Delay {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Milliseconds that bytes take in each direction.
    delay: AtomicU64,
}

impl Delay {
    pub(crate) fn in_front_of(server: SocketAddr) -> Delay {
        let address = free_address();
        let listener = TcpListener::bind(address).unwrap();
        let state = Arc::<State>::default();
        let shared = state.clone();
        // It ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let both = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                carry(client, upstream, &shared);
                carry(both.1, both.0, &shared);
            }
        });
        Delay { address, state }
    }

    /// From now on bytes take so long, in each direction.
    pub(crate) fn set(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap();
        self.state.delay.store(millis, Ordering::SeqCst);
    }
}

/// Carries bytes one way, each as late as was said when it came.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &Arc<State>) {
    let (sender, bytes) = mpsc::channel::<(Instant, Vec<u8>)>();
    let delays = state.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let delay = Duration::from_millis(delays.delay.load(Ordering::SeqCst));
            if sender
                .send((Instant::now() + delay, buffer[..count].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (at, bytes) in bytes {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
