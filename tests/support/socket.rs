//! Both ends of a WebSocket: a real client, a handshake by hand, and a vendor of the test's own that
//! shows every byte it gets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::http::{Request, get};
use super::{Gateway, PATIENCE};

/// An open WebSocket.
pub(crate) type Socket = WebSocket<TcpStream>;

/// What a vendor's 101 must say to the handshake of [`handshake`] (RFC 6455 §1.3).
pub(crate) const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// A WebSocket's handshake, by hand.
pub(crate) fn handshake(path: &str) -> Request {
    get(path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", 13)
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Gateway {
    /// A WebSocket as a real client opens it: it checks the answer's Sec-WebSocket-Accept.
    pub(crate) fn try_socket(
        &self,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, Box<tungstenite::http::Response<Option<Vec<u8>>>>> {
        let mut request = format!("ws://{}/v1/responses", self.address)
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tungstenite::client::client(request, connect(self.address)) {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                Err(answer)
            }
            Err(error) => panic!("the handshake broke off: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn socket(&self, headers: &[(&'static str, &str)]) -> Socket {
        self.try_socket(headers)
            .unwrap_or_else(|answer| panic!("no socket, but {}", answer.status()))
    }
}

/// Asks for a response over the socket, and reads its events to the last one; an error at a cut.
pub(crate) fn respond(socket: &mut Socket) -> tungstenite::Result<Vec<String>> {
    let asked = r#"{"type":"response.create","model":"gpt-5","input":[]}"#;
    socket.send(Message::text(asked))?;
    let mut events = vec![];
    loop {
        if let Message::Text(text) = socket.read()? {
            events.push(text.to_string());
            if text.contains(r#""type":"response.completed""#) {
                return Ok(events);
            }
        }
    }
}

/// One end of a connection, byte by byte.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    /// The head that came in, and whatever followed it at once.
    pub(crate) head: String,
    pub(crate) rest: Vec<u8>,
}

impl Wire {
    /// Connects and writes these bytes.
    pub(crate) fn open(to: SocketAddr, bytes: &[u8]) -> Wire {
        let mut stream = connect(to);
        stream.write_all(bytes).unwrap();
        let (head, rest) = (String::new(), vec![]);
        Wire { stream, head, rest }
    }

    /// Reads a head.
    pub(crate) fn read_head(&mut self) -> io::Result<&str> {
        let mut bytes = std::mem::take(&mut self.rest);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&piece[..read]),
            }
        };
        self.rest = bytes.split_off(end);
        self.head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
        Ok(&self.head)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The same where the other side may have left.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads so many bytes.
    #[track_caller]
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let known = self.rest.len().min(count);
        bytes[..known].copy_from_slice(&self.rest[..known]);
        self.rest.drain(..known);
        self.stream.read_exact(&mut bytes[known..]).unwrap();
        bytes
    }

    /// Everything to the end of the connection, a reset included.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.rest);
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => bytes,
        }
    }

    /// The value of a header of the head.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|line| line.0 == name).map(|line| line.1)
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(self) {
        let stream = tokio::net::TcpSocket::from_std_stream(self.stream);
        stream.set_zero_linger().unwrap();
    }

    /// Ends the connection with a FIN.
    pub(crate) fn close(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// A vendor that leaves each connection, once its head is here, to the test.
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    arrivals: mpsc::Receiver<Wire>,
}

impl Vendor {
    pub(crate) fn start() -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (head, rest) = (String::new(), vec![]);
                let mut wire = Wire { stream, head, rest };
                if wire.read_head().is_ok() && sender.send(wire).is_err() {
                    return;
                }
            }
        });
        Vendor { address, arrivals }
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn next(&self) -> Wire {
        self.arrivals.recv_timeout(PATIENCE).unwrap()
    }

    /// Has nobody come?
    pub(crate) fn is_idle(&self) -> bool {
        self.arrivals.try_recv().is_err()
    }
}
