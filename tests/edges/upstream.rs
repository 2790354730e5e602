//! An upstream of a few lines that writes down every byte it gets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// A running upstream; it ends with the test.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Upstream {
    /// One that answers every whole request with a short 200.
    pub(super) fn start() -> Upstream {
        Upstream::answering(|socket| {
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            socket.write_all(answer).is_ok()
        })
    }

    /// One that answers every whole request like this; `false` = it hangs up.
    pub(super) fn answering(
        answer: impl Fn(&mut TcpStream) -> bool + Send + Sync + Clone + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(vec![]));
        let log = heard.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(socket, &log, &answer));
            }
        });
        Upstream { address, heard }
    }

    /// Everything it has heard so far, of all connections.
    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock()).into_owned()
    }

    /// How many requests it has heard.
    pub(super) fn requests(&self) -> usize {
        self.heard().matches(" HTTP/1.1\r\n").count()
    }
}

fn serve(mut socket: TcpStream, log: &Mutex<Vec<u8>>, answer: &dyn Fn(&mut TcpStream) -> bool) {
    let (mut request, mut piece) = (vec![], [0; 16 * 1024]);
    while let Ok(length @ 1..) = socket.read(&mut piece) {
        log.lock().extend_from_slice(&piece[..length]);
        request.extend_from_slice(&piece[..length]);
        if is_whole(&request) {
            request.clear();
            if !answer(&mut socket) {
                return;
            }
        }
    }
}

/// The gateway sends one request after the other, so that nothing follows a whole one.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    match length {
        Some(length) => {
            let end = request.windows(4).position(|end| end == b"\r\n\r\n");
            end.is_some_and(|end| request.len() >= end + 4 + length)
        }
        None => !head.contains("transfer-encoding") || text.ends_with("0\r\n\r\n"),
    }
}
