//! A plain HTTP/1.1 client over a socket, because a test must see what was really sent: every head,
//! every piece with its time, and a cut as a cut.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;

/// A request that can be sent any number of times.
#[derive(Clone)]
pub(crate) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(super) chunked: bool,
}

pub(crate) fn get(path: &str) -> Request {
    Request::new("GET", path)
}

/// With a JSON body.
pub(crate) fn post(path: &str, body: &Value) -> Request {
    Request::new("POST", path)
        .header("content-type", "application/json")
        .body(body.to_string())
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![],
            body: vec![],
            chunked: false,
        }
    }

    /// `expect: 100-continue` makes the client wait for the 100 before it sends the body.
    pub(crate) fn header(mut self, name: &str, value: impl Display) -> Request {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Request {
        self.header("authorization", format_args!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The body goes in pieces, its length unsaid.
    pub(crate) fn chunked(mut self) -> Request {
        self.chunked = true;
        self
    }

    /// The whole answer, over a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        let what = || format!("{} {} at {to}", self.method, self.path);
        self.try_send(to)
            .unwrap_or_else(|error| panic!("{}: {error}", what()))
    }

    /// The same where a refusal or a cut is what the test asks about.
    pub(crate) fn try_send(&self, to: SocketAddr) -> io::Result<Answer> {
        Connection::open(to)?.send(self)
    }

    /// The answer's head; its body is read piece by piece.
    pub(crate) fn open(&self, to: SocketAddr) -> io::Result<Reply> {
        let mut connection = Connection::open(to)?;
        let (head, framing) = connection.exchange(self)?;
        Ok(Reply {
            head,
            framing,
            connection,
            unread: vec![],
        })
    }

    /// The whole request as it goes over the wire, for who writes it by hand.
    pub(crate) fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        [self.head(to).into_bytes(), self.body.clone()].concat()
    }

    fn head(&self, to: SocketAddr) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        if !has("host") {
            head += &format!("host: {to}\r\n");
        }
        if self.chunked {
            head += "transfer-encoding: chunked\r\n";
        } else if !has("content-length") && (!self.body.is_empty() || self.method == "POST") {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    fn write_body(&self, mut to: &TcpStream) -> io::Result<()> {
        if !self.chunked {
            return to.write_all(&self.body);
        }
        for chunk in self.body.chunks(8000) {
            write!(to, "{:x}\r\n", chunk.len())?;
            to.write_all(chunk)?;
            to.write_all(b"\r\n")?;
        }
        to.write_all(b"0\r\n\r\n")
    }
}

/// A kept connection: one request after the other.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
    to: SocketAddr,
}

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            reader: BufReader::new(socket),
            to,
        })
    }

    pub(crate) fn send(&mut self, request: &Request) -> io::Result<Answer> {
        let (head, mut framing) = self.exchange(request)?;
        let mut body = vec![];
        while let Some(piece) = framing.piece(&mut self.reader)? {
            body.extend(piece);
        }
        Ok(Answer { body, ..head })
    }

    /// The whole answer to bytes that the test wrote by hand, those of a `POST`.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        self.reader.get_ref().write_all(bytes)?;
        let head = self.read_head()?;
        let mut framing = Framing::of("POST", &head);
        let mut body = vec![];
        while let Some(piece) = framing.piece(&mut self.reader)? {
            body.extend(piece);
        }
        Ok(Answer { body, ..head })
    }

    fn exchange(&mut self, request: &Request) -> io::Result<(Answer, Framing)> {
        self.reader
            .get_ref()
            .write_all(request.head(self.to).as_bytes())?;
        let waits = request
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("expect"));
        if !waits {
            // A server may answer early and stop reading; its answer is what counts.
            let _ = request.write_body(self.reader.get_ref());
        }
        loop {
            let head = self.read_head()?;
            match head.status {
                100 if waits => request.write_body(self.reader.get_ref())?,
                100 | 102..200 => {}
                _ => {
                    let framing = Framing::of(&request.method, &head);
                    return Ok((head, framing));
                }
            }
        }
    }

    fn read_head(&mut self) -> io::Result<Answer> {
        let first = self.reader.line()?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {first:?}")))?;
        let mut headers = vec![];
        loop {
            let line = self.reader.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer {
            status,
            headers,
            body: vec![],
        })
    }
}

/// An answer. Of one that is still coming the body is empty: see [`Reply`].
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header of this name, written in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The names of all headers, in lower case.
    pub(crate) fn header_names(&self) -> Vec<String> {
        self.headers.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let what = |error| panic!("{error} in an answer {}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(what)
    }
}

/// An answer whose body is still coming. Dropped, the client has left.
pub(crate) struct Reply {
    pub(crate) head: Answer,
    framing: Framing,
    connection: Connection,
    unread: Vec<u8>,
}

/// One event of a stream, and when its last byte was here.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) at: Instant,
}

impl Reply {
    /// The next bytes as they come; `None` at a proper end, an error at a cut.
    pub(crate) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.framing.piece(&mut self.connection.reader)
    }

    /// The next server-sent event; `None` at a proper end, an error at a cut.
    pub(crate) fn event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let text = String::from_utf8_lossy(&block);
                let field = |name: &str| {
                    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
                    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
                };
                let event = Event {
                    name: field("event:"),
                    data: field("data:"),
                    at: Instant::now(),
                };
                return Ok(Some(event));
            }
            match self.piece()? {
                Some(piece) => self.unread.extend(piece),
                None => return Ok(None),
            }
        }
    }

    /// All events to the proper end.
    pub(crate) fn events(&mut self) -> io::Result<Vec<Event>> {
        std::iter::from_fn(|| self.event().transpose()).collect()
    }
}

/// Where a body ends.
enum Framing {
    /// So many bytes are still to come.
    Length(usize),
    Chunked,
    Close,
    Ended,
}

impl Framing {
    fn of(method: &str, head: &Answer) -> Framing {
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok());
        match (head.status, length) {
            (204 | 304, _) => Framing::Ended,
            _ if method == "HEAD" => Framing::Ended,
            _ if head.header("transfer-encoding").is_some() => Framing::Chunked,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Close,
        }
    }

    fn piece(&mut self, from: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
        match self {
            Framing::Ended | Framing::Length(0) => return Ok(None),
            Framing::Chunked => {
                let line = from.line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16);
                let mut chunk = vec![0; size.map_err(io::Error::other)?];
                from.read_exact(&mut chunk)?;
                if chunk.is_empty() {
                    // Trailers end with an empty line, as a chunk does.
                    while !from.line()?.is_empty() {}
                    *self = Framing::Ended;
                    return Ok(None);
                }
                from.line()?;
                return Ok(Some(chunk));
            }
            Framing::Length(_) | Framing::Close => {}
        }
        let piece = from.fill_buf()?.to_vec();
        let taken = match self {
            Framing::Length(left) => piece.len().min(*left),
            _ => piece.len(),
        };
        from.consume(taken);
        match self {
            Framing::Length(_) if taken == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Framing::Length(left) => *left -= taken,
            _ if taken == 0 => return Ok(None),
            _ => {}
        }
        Ok(Some(piece[..taken].to_vec()))
    }
}

/// A line without its end; a connection that ends before the line does is an error.
trait Lines {
    fn line(&mut self) -> io::Result<String>;
}

impl Lines for BufReader<TcpStream> {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.read_line(&mut line)?;
        let ended = line.strip_suffix('\n').ok_or(ErrorKind::UnexpectedEof)?;
        Ok(ended.trim_end_matches('\r').to_owned())
    }
}

/// A server that hangs up after these bytes.
fn says(bytes: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(bytes.as_bytes()).unwrap();
    });
    address
}

#[test]
fn a_body_ends_where_its_framing_says() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n";
    assert_eq!(get("/").send(says(chunked)).text(), "abc");
    let length = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc";
    assert_eq!(get("/").send(says(length)).text(), "ab");
    assert_eq!(
        get("/").send(says("HTTP/1.1 200 OK\r\n\r\nabc")).text(),
        "abc"
    );
    assert_eq!(
        get("/")
            .send(says("HTTP/1.1 204 No Content\r\n\r\nabc"))
            .text(),
        ""
    );
}

#[test]
fn a_cut_is_not_an_end() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nContent-",
        "",
    ] {
        let error = get("/").try_send(says(cut)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{cut:?}");
    }
}

#[test]
fn events_are_read_across_pieces() {
    let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  f\r\nevent: a\ndata: \r\n8\r\n{}\n\ndata\r\n9\r\n: [DONE]\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let events = get("/").open(says(stream)).unwrap().events().unwrap();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (&*event.name, &*event.data))
        .collect();
    assert_eq!(seen, [("a", "{}"), ("", "[DONE]")]);
}
