//! What reaches an upstream and when, and which answers are not waited for.

use std::task::Waker;

use futures::FutureExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";

fn corked() -> (Cork, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    (Cork::new(Box::new(near)), far)
}

/// What has arrived at the other side by now.
fn arrived(far: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(1..)) = far.read_buf(&mut bytes).now_or_never() {}
    bytes
}

/// Looks for an answer, as Pingora's select does in each round.
fn look(cork: &mut Cork) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = [0; 16];
    let read = Pin::new(cork).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes));
    assert!(read.is_pending());
}

#[tokio::test]
async fn a_head_waits_for_its_body() {
    let (mut cork, mut far) = corked();
    for _ in 0..2 {
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        look(&mut cork);
        assert_eq!(arrived(&mut far), b"");
        cork.write_all(b"body").await.unwrap();
        cork.flush().await.unwrap();
        assert_eq!(arrived(&mut far), [HEAD, b"body"].concat());
        far.write_all(b"answer").await.unwrap();
        cork.read_exact(&mut [0; 6]).await.unwrap();
    }
}

#[tokio::test]
async fn a_head_without_a_body_goes_as_soon_as_nothing_else_is_ready() {
    let (mut cork, mut far) = corked();
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    look(&mut cork);
    assert_eq!(arrived(&mut far), b"");
    look(&mut cork);
    assert_eq!(arrived(&mut far), HEAD);
}

#[tokio::test]
async fn who_waits_for_an_answer_is_woken_to_send_the_head() {
    let (mut cork, mut far) = corked();
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    let echo = async {
        far.read_exact(&mut [0; HEAD.len()]).await.unwrap();
        far.write_all(b"answer").await.unwrap();
    };
    let mut answer = [0; 6];
    let (read, ()) = tokio::join!(cork.read_exact(&mut answer), echo);
    assert_eq!((read.unwrap(), &answer), (6, b"answer"));
}

#[tokio::test]
async fn the_later_parts_of_an_upload_go_at_once() {
    let (mut cork, mut far) = corked();
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    for part in [&b"one"[..], b"two"] {
        cork.write_all(part).await.unwrap();
        cork.flush().await.unwrap();
        assert!(arrived(&mut far).ends_with(part));
    }
}

#[tokio::test]
async fn what_a_slow_client_sends_of_a_long_body_does_not_wait_for_the_rest() {
    let (mut cork, mut far) = corked();
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    for part in [&b"one"[..], b"two"] {
        // Pingora flushes a body whose length is stated at its end.
        cork.write_all(part).await.unwrap();
        look(&mut cork);
        look(&mut cork);
        assert!(arrived(&mut far).ends_with(part));
    }
}

/// A request went out, and this came back.
async fn answered(answer: &[u8]) -> (Cork, DuplexStream) {
    let (mut cork, mut far) = corked();
    ask(&mut cork).await;
    far.write_all(answer).await.unwrap();
    cork.read_exact(&mut vec![0; answer.len()]).await.unwrap();
    (cork, far)
}

async fn ask(cork: &mut Cork) {
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    cork.flush().await.unwrap();
}

/// What comes of waiting for more.
async fn silence(cork: &mut Cork) -> Option<ErrorKind> {
    let more = tokio::time::timeout(HELD_FOR * 10, cork.read_u8()).await;
    more.ok().map(|read| read.unwrap_err().kind())
}

#[tokio::test(start_paused = true)]
async fn the_body_of_an_error_has_its_time() {
    for error in [
        &b"HTTP/1.1 503 No\r\n"[..],
        b"HTTP/1.0 404 No\r\n\r\nhalf a body",
    ] {
        let (mut cork, _far) = answered(error).await;
        assert_eq!(silence(&mut cork).await, Some(ErrorKind::TimedOut));
    }
    let (mut cork, mut far) = answered(b"HTTP/1.1 103 Early\r\n\r\n").await;
    far.write_all(b"HTTP/1.1 500 No").await.unwrap();
    cork.read_exact(&mut [0; 15]).await.unwrap();
    assert_eq!(silence(&mut cork).await, Some(ErrorKind::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn nothing_else_has_a_time_here() {
    let (mut cork, _far) = answered(b"HTTP/1.1 200 OK\r\n").await;
    assert_eq!(silence(&mut cork).await, None);
    let (mut cork, _far) = answered(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    ask(&mut cork).await;
    assert_eq!(
        silence(&mut cork).await,
        None,
        "it is another request by now"
    );
    let (mut cork, mut far) = answered(b"HTTP/1.1 101 Switching\r\n\r\n").await;
    cork.write_all(b"frame").await.unwrap();
    cork.flush().await.unwrap();
    far.write_all(b"HTTP/1.1 503 in a tunnel").await.unwrap();
    cork.read_exact(&mut [0; 24]).await.unwrap();
    assert_eq!(silence(&mut cork).await, None);
}

#[tokio::test]
async fn an_upstream_that_refuses_need_not_read_the_rest() {
    let (near, mut far) = duplex(1000);
    let mut cork = Cork::new(Box::new(near));
    let error = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    far.write_all(error).await.unwrap();
    let written = cork.write_all(&[0; 100_000]).await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut answer = vec![0; error.len()];
    cork.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, error);
}

#[tokio::test]
async fn what_an_upstream_said_before_it_closed_is_read_first() {
    let (mut cork, mut far) = corked();
    cork.write_all(HEAD).await.unwrap();
    cork.flush().await.unwrap();
    look(&mut cork);
    cork.write_all(b"body").await.unwrap();
    let error = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    far.write_all(error).await.unwrap();
    drop(far);
    let mut answer = vec![0; error.len()];
    cork.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, error);
}

#[tokio::test]
async fn an_upstream_that_answers_well_is_sent_all_of_it() {
    let (near, mut far) = duplex(1000);
    let mut cork = Cork::new(Box::new(near));
    let answer = b"HTTP/1.1 200 OK\r\n\r\nan answer of some length";
    far.write_all(answer).await.unwrap();
    let sending = async {
        cork.write_all(HEAD).await.unwrap();
        cork.flush().await.unwrap();
        cork.write_all(&[0; 100_000]).await.unwrap();
        cork.flush().await.unwrap();
    };
    let mut body = vec![0; HEAD.len() + 100_000];
    let (read, ()) = tokio::join!(far.read_exact(&mut body), sending);
    read.unwrap();
    let mut came = vec![0; answer.len()];
    cork.read_exact(&mut came).await.unwrap();
    assert_eq!(came, answer);
}

proptest! {
    #[test]
    fn every_byte_arrives_once_and_in_order(
        steps in prop::collection::vec((0..3_usize, 1..40_000_usize), 1..20),
    ) {
        let (mut cork, mut far) = corked();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (step, length) in steps {
            match step {
                0 => {
                    let bytes: Vec<u8> = (0..length).map(|n| (n + sent.len()) as u8).collect();
                    cork.write_all(&bytes).now_or_never().unwrap().unwrap();
                    sent.extend(bytes);
                }
                1 => cork.flush().now_or_never().unwrap().unwrap(),
                _ => look(&mut cork),
            }
            got.extend(arrived(&mut far));
            prop_assert!(sent.starts_with(&got));
        }
        cork.flush().now_or_never().unwrap().unwrap();
        AsyncWriteExt::shutdown(&mut cork).now_or_never().unwrap().unwrap();
        got.extend(arrived(&mut far));
        prop_assert_eq!(sent, got);
    }
}
