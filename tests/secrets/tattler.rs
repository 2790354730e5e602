//! A vendor that records every byte it is sent, and says the credential it was sent back in every
//! place of its answer: in headers, in the texts of errors, in the error event of a stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

/// How it answers is said by this header of the request.
pub(super) const TELLS: &str = "x-tells";

/// Everything it can be asked for.
pub(super) const ANSWERS: [&str; 15] = [
    "200", "307", "400", "401", "403", "404", "429", "500", "503", "529", "stream", "cut",
    "no head", "no field", "no chunk",
];

pub(super) struct Tattler {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tattler {
    pub(super) fn start() -> Tattler {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let ears = heard.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, ears) = (socket.unwrap(), ears.clone());
                // A connection that the gateway cuts is no matter here.
                thread::spawn(move || drop(serve(socket, &ears)));
            }
        });
        Tattler { address, heard }
    }

    /// Every byte that came so far.
    pub(super) fn heard(&self) -> Vec<u8> {
        self.heard.lock().clone()
    }
}

fn serve(socket: TcpStream, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(other, _)| other.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        heard.lock().extend([head.as_bytes(), &body].concat());
        let asked = field(TELLS).unwrap_or_default();
        let keeps = answer(&socket, &asked, &head)?;
        if !keeps {
            return Ok(());
        }
    }
}

/// Answers by telling all of the request's head; says whether the connection goes on.
fn answer(mut socket: &TcpStream, asked: &str, head: &str) -> std::io::Result<bool> {
    let line = head.replace("\r\n", " ");
    let told = format!(
        "set-cookie: session={line}\r\nwww-authenticate: Bearer {line}\r\nx-debug: {line}\r\n\
         location: https://vendor.test/?{line}\r\nx-ratelimit-key: {line}\r\n"
    );
    let text = serde_json::json!({"error": {"type": "invalid_request_error", "code": "some",
        "message": format!("you sent: {line}")}});
    if let Some(broken) = match asked {
        "no head" => Some(format!("{line}\r\n\r\n")),
        "no field" => Some(format!("HTTP/1.1 200 OK\r\n\0: {line}\r\n\r\n")),
        "no chunk" => Some(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n{line}\r\n"
        )),
        _ => None,
    } {
        write!(socket, "{broken}")?;
        return Ok(false);
    }
    if matches!(asked, "stream" | "cut") {
        let event = match asked {
            "cut" => String::new(),
            _ => format!("event: error\ndata: {text}\n\n"),
        };
        let start = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n";
        write!(
            socket,
            "HTTP/1.1 200 OK\r\n{told}content-type: text/event-stream\r\nconnection: close\r\n\r\n\
             {start}{event}"
        )?;
        return Ok(false);
    }
    let body = match asked {
        "" | "200" => "{\"choices\":[{\"finish_reason\":\"stop\"}]}".to_owned(),
        _ => text.to_string(),
    };
    let status = if asked.is_empty() { "200" } else { asked };
    write!(
        socket,
        "HTTP/1.1 {status} Told\r\n{told}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(true)
}
