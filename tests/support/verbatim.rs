//! A vendor that answers with exactly the bytes it is told, right or wrong, and hangs up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use super::PATIENCE;

/// A listener on a port of its own. It serves until the test is over.
pub(crate) struct Verbatim {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Verbatim {
    pub(crate) fn start() -> Verbatim {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::<Mutex<Vec<u8>>>::default();
        let said = answer.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, said) = (socket.unwrap(), said.clone());
                std::thread::spawn(move || serve(socket, &said));
            }
        });
        Verbatim { address, answer }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What every request is answered with from now on: status line, headers, body and all.
    pub(crate) fn say(&self, bytes: impl Into<Vec<u8>>) {
        *self.answer.lock() = bytes.into();
    }
}

/// One request, as far as its stated length goes, and the answer to it.
fn serve(mut socket: TcpStream, said: &Mutex<Vec<u8>>) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            // It was only looked whether somebody is there.
            return;
        }
        let line = line.to_ascii_lowercase();
        if let Some(stated) = line.strip_prefix("content-length:") {
            length = stated.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_ok() {
        let answer = said.lock().clone();
        // The gateway may have seen enough and left.
        let _ = socket.write_all(&answer);
    }
}
