//! Many requests at once over kept connections, as clients under load send them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::http::{Answer, Connection, Request};

/// How many requests a run has: `usual`, or `full` where `POOLGATE_SOAK=1` asks for all of them.
pub(crate) fn count(usual: usize, full: usize) -> usize {
    match std::env::var("POOLGATE_SOAK").as_deref() {
        Ok("1") => full,
        _ => usual,
    }
}

/// Sends the request `count` times over `clients` connections at once, each kept as long as the
/// server keeps it. A request without an answer is a failed test.
pub(crate) fn many(to: SocketAddr, request: &Request, clients: usize, count: usize) -> Vec<Answer> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut answers = vec![];
        let mut connection = None;
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let open = || Connection::open(to).unwrap();
            let kept = connection.get_or_insert_with(open);
            let answer = kept.send(request).unwrap();
            if answer.header("connection") == Some("close") {
                connection = None;
            }
            answers.push(answer);
        }
        answers
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.flatten().collect()
    })
}
