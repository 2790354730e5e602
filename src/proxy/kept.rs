//! A client's connection that outlives a request which failed. Pingora drops it together with such a
//! request, even if the client got a whole answer: it is taken out before that, and served on.

use std::cell::Cell;
use std::future::Future;

use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::Session;

tokio::task_local! {
    /// What [`keep`] took out, for the same task to go on with.
    static KEPT: Cell<Option<Stream>>;
}

/// Serves one request over HTTP/1; returns the connection if it can be served on.
pub(super) async fn serve(
    request: impl Future<Output = Option<ReusedHttpStream>>,
) -> Option<Stream> {
    let serving = async {
        match request.await {
            Some(reusable) => Some(reusable.consume().0),
            None => KEPT.with(Cell::take),
        }
    };
    KEPT.scope(Cell::new(None), serving).await
}

/// Takes the connection out of a session that has answered in full. Nothing but its drop may follow.
pub(super) async fn keep(session: &mut Session) {
    if session.is_http2() {
        return;
    }
    let (nobody, _) = tokio::io::duplex(1);
    let empty = ServerSession::new_http1(Box::new(nobody));
    let answered = std::mem::replace(&mut *session.downstream_session, empty);
    if let Ok(Some(reusable)) = answered.finish().await {
        KEPT.with(|kept| kept.set(Some(reusable.into_parts().0)));
    }
}
