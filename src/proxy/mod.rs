//! A request, from top to bottom. Each hook of Pingora is one step of the line in `ARCHITECTURE.md`;
//! each step is one call into a file of this folder.

mod admit;
mod body;
mod chunks;
mod connection;
mod context;
mod cork;
mod delegate;
mod dial;
mod dispatch;
mod farewell;
mod frames;
mod guarded;
mod head;
#[cfg(test)]
mod head_tests;
mod inject;
mod kept;
mod limits;
mod local;
mod meter;
mod models;
mod names;
mod origin;
mod reject;
mod retry;
mod settle;
mod slot;
#[cfg(test)]
mod tests;
mod unmeasured;
mod upgrade;
mod verdict;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tokio::sync::Semaphore;

use context::Context;

use crate::config::Config;
use crate::health::Catalogue;
use crate::key::{Keys, Slots};
use crate::limit::Tally;
use crate::net::{Resolver, Tunnels};
use crate::pool::Pool;
use crate::store::Usage;
use crate::telemetry::{Access, Metrics};

pub use connection::Connections;
pub use cork::Corks;
pub use local::{OlderAnswer, OlderPaths, OlderRequest};

/// Whether the head that `bytes` begin with is taken: both looks at it, before and after `session`
/// parsed it. For the checks that no other reader sees another request in it.
#[cfg(any(test, fuzzing))]
pub fn takes_head(config: &Config, bytes: &[u8], session: &Session) -> bool {
    let end = wire::Scan::default().end(bytes);
    let is_sound = |end: usize| wire::check(&bytes[..end]).is_ok();
    end.is_ok_and(|end| end.is_some_and(is_sound)) && head::check(config, session).is_ok()
}

/// What a request needs of the rest of the program.
#[derive(Clone)]
pub struct Gateway {
    pub config: Arc<ArcSwap<Config>>,
    /// In the order of the configuration.
    pub pools: Arc<ArcSwap<Vec<Arc<Pool>>>>,
    pub keys: Arc<Keys>,
    pub slots: Arc<Slots>,
    /// Who counts limits that several gateways keep together.
    pub tally: Option<Arc<dyn Tally>>,
    pub resolver: Arc<Resolver>,
    pub tunnels: Arc<Tunnels>,
    /// Which models upstreams have.
    pub catalogue: Arc<Catalogue>,
    pub metrics: Arc<Metrics>,
    pub access: Access,
    /// Where requests that are over are written down.
    pub usage: Arc<Usage>,
    /// Answers the older systems' paths, `/health` and `/readyz`.
    pub older: Arc<dyn OlderPaths>,
    /// Memory for bodies that are kept, in KiB.
    pub body_budget: Arc<Semaphore>,
    /// Requests under way.
    pub in_flight: Arc<std::sync::atomic::AtomicUsize>,
    /// Nothing new is taken on any more.
    pub refusing: Arc<std::sync::atomic::AtomicBool>,
    /// A successor takes new connections; those that are here go on to their own end.
    pub leaving: Arc<std::sync::atomic::AtomicBool>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box: Pingora moves it and the future that holds it several times a request.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new())
    }

    /// Sets what this connection may take: keep-alive, write timeout.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        admit::limit_session(self, session);
        ctx.in_flight = Some(meter::InFlight::new(&self.in_flight));
        Ok(())
    }

    /// Steps 1 to 5: dialect, key, body, model and pool, limits. `true` = answered here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        match admit::accept(self, session, ctx).await {
            Ok(admit::Accepted::Proxy) => Ok(false),
            Ok(admit::Accepted::Answered) => Ok(true),
            Err(refused) => reject::answer(session, ctx, refused).await,
        }
    }

    /// Steps 6 and 7, at each attempt: an account's lease, and the way to its upstream.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        dispatch::next_peer(self, session, ctx).await
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Self::CTX,
        e: Box<Error>,
    ) -> Box<Error> {
        match dispatch::has_other_address(self, peer, ctx) {
            true => verdict::elsewhere(ctx, e),
            false => verdict::no_connection(session, ctx, e),
        }
    }

    /// Step 8: the client's credentials come off, the account's go on.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        inject::apply(self, session, head, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        inject::body(self, session, body, end, ctx)
    }

    /// Step 9: an error answer is held back until its body was read too.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        verdict::on_head(session, head, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        verdict::on_body(session, body, end, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()>
    where
        Self::CTX: Send + Sync,
    {
        settle::clean_head(self, session, head, ctx)
    }

    /// Step 10: the answer is read for usage; its bytes stay as they are.
    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        meter::on_body(body, end, ctx)?;
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        verdict::on_error(session, ctx, e, reused)
    }

    /// Step 11: the only place that writes an error of an accepted request.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        reject::final_answer(self, session, e, ctx).await
    }

    /// Step 12: once per request, whatever became of it.
    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Self::CTX) {
        settle::finish(self, session, e, ctx);
        if ctx.is_answered {
            kept::keep(session).await;
        }
    }

    /// The access line says it all; Pingora's own lines would name upstream addresses.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Self::CTX,
        _: &Error,
        _: pingora_proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _: &Session, ctx: &Self::CTX) -> String {
        ctx.request_id().to_owned()
    }
}
