//! The next account of a request, and the way to its upstream.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::Gateway;
use super::body;
use super::context::{Attempt, Context, Failure};
use super::cork;
use super::retry::{Sent, conclude};
use super::slot::{self, Seeker, Unserved};
use super::verdict;
use crate::clock::{self, Instant};
use crate::config::Host;
use crate::credential::Secrets;
use crate::pool::{Account, Lease, Outcome};

/// Addresses of one upstream that are tried before its account is blamed.
const ADDRESSES: u32 = 4;

/// An upstream must take what it is sent at least this often.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Leases an account and finds the address of its upstream; accounts whose upstream has no address
/// count as tried.
pub(super) async fn next_peer(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Context,
) -> Result<Box<HttpPeer>> {
    if let Some(pause) = ctx.retry.pause.take() {
        tokio::time::sleep(pause).await;
    }
    // What happens seldom is in a box: the future of each request would else have room for it.
    if ctx.retry.refused.is_some() {
        Box::pin(renew_refused(ctx)).await;
    }
    loop {
        // The attempt before must not hold its account any longer.
        ctx.attempt = None;
        let mut lease = lease(gateway, session, ctx).await?;
        lease.serves(&ctx.line.request_id);
        ctx.retry.attempts += 1;
        let credential = &lease.account().credential;
        if !credential.is_valid() && Box::pin(credential.valid(patience(ctx))).await.is_err() {
            ctx.attempt = Some(Attempt::new(lease));
            ctx.retry.last_failure = Some(Failure::NoToken);
            let kind = ErrorType::Custom("no valid token");
            if !conclude(session, ctx, Outcome::AuthExpired, &kind, Sent::Nothing) {
                return Err(verdict::give_up());
            }
            continue;
        }
        slot::tell(gateway, ctx);
        match peer(gateway, lease.account(), ctx).await {
            Ok(peer) => {
                ctx.attempt = Some(Attempt::new(lease));
                return Ok(Box::new(peer));
            }
            Err(error) => {
                ctx.attempt = Some(Attempt::new(lease));
                let e = Error::because(ErrorType::ConnectNoRoute, "no address", error);
                let e = verdict::no_connection(session, ctx, e);
                if !e.retry() {
                    return Err(e);
                }
            }
        }
    }
}

/// A token that its upstream refused is replaced; if it cannot be, another account is asked.
async fn renew_refused(ctx: &mut Context) {
    let Some(refused) = ctx.retry.refused.take() else {
        return;
    };
    ctx.attempt = None;
    let credential = &refused.account.credential;
    let is_replaced = credential.replaced(&refused.secrets, patience(ctx)).await;
    if let Some(request) = ctx.request.as_mut().filter(|_| !is_replaced) {
        request.demand.tried.push(refused.slot);
    }
}

/// So long a request may wait for a token.
fn patience(ctx: &Context) -> Instant {
    let request = ctx.request.as_ref();
    let timeout = request.map(|request| request.pool.settings().queue.timeout);
    clock::now() + timeout.unwrap_or_default()
}

/// Waits for an account no longer than the queue allows, and no longer than the client stays.
async fn lease(gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Result<Lease> {
    let (Some(request), Some(client)) = (&mut ctx.request, &ctx.client) else {
        return Err(verdict::give_up());
    };
    // What counts is the waiting, before all attempts together: the upload of the body, and accounts that
    // were tried, took their own time.
    let now = clock::now();
    let timeout = request.pool.settings().queue.timeout;
    let queued = now + timeout.saturating_sub(ctx.retry.waited);
    let deadline = request.deadline.map_or(queued, |last| last.min(queued));
    if ctx.retry.attempts == 0 {
        request.pool.count_request(now);
    }
    let watches_client = request.body.is_complete();
    let seeker = Seeker {
        gateway,
        client,
        request,
        retry: &mut ctx.retry,
        deadline,
    };
    let leased = tokio::select! {
        biased;
        leased = seeker.lease(now) => leased,
        // Ends when the client goes; what it might still send belongs to no request.
        _ = session.read_body_or_idle(true), if watches_client => {
            return Err(Error::create(ErrorType::ConnectionClosed, ErrorSource::Downstream, None, None));
        }
    };
    if let Ok(lease) = &leased {
        ctx.retry.waited += lease.began().saturating_duration_since(now);
    }
    leased.map_err(|why| {
        match why {
            Unserved::Refused(refusal) => ctx.refusal = Some(refusal),
            Unserved::Told(reject) => ctx.reject = Some(reject),
        }
        verdict::give_up()
    })
}

async fn peer(gateway: &Gateway, account: &Account, ctx: &Context) -> Result<HttpPeer, Box<Error>> {
    let upstream = &account.config.upstream;
    let mut tunnel = None;
    let mut peer = match &upstream.host {
        Host::Tcp(host, port) => {
            let is_near = account.config.instance.is_some();
            let resolver = &gateway.resolver;
            let way = gateway.tunnels.way(resolver, host, *port, is_near);
            let (address, through) = way
                .await
                .map_err(|e| Error::explain(ErrorType::ConnectNoRoute, e.to_string()))?;
            tunnel = through;
            let name = account.config.tls.server_name.as_ref().unwrap_or(host);
            HttpPeer::new(address, upstream.tls, name.clone())
        }
        Host::Unix(path) => unix_peer(path, upstream.tls)?,
    };
    if let Some(tls) = &account.tls {
        tls.put_on(&mut peer)
            .map_err(|problem| Error::explain(ErrorType::InvalidCert, problem))?;
    }
    if let Some(tunnel) = tunnel {
        peer.group_key ^= tunnel.end();
        peer.options.custom_l4 = Some(Arc::new(tunnel));
    }
    let Some(request) = &ctx.request else {
        return Err(verdict::give_up());
    };
    let settings = request.pool.settings();
    let timeouts = &settings.timeouts;
    let options = &mut peer.options;
    options.alpn = cork::corked();
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(if request.stream {
        timeouts.read_stream
    } else {
        timeouts.read
    });
    // The whole body goes out as one write.
    let length = request.body.seen().len();
    options.write_timeout = Some(body::patience(WRITE_TIMEOUT, length));
    options.idle_timeout = Some(timeouts.pooled_idle);
    if ctx.retry.fresh_connection && ctx.retry.last_failure != Some(Failure::Silent) {
        // A group of its own: no pooled connection is taken, and this one would never be taken again.
        peer.group_key = fastrand::u64(1..);
        options.idle_timeout = Some(Duration::ZERO);
    }
    if request.demand.websocket {
        // The connection is the tunnel's alone, before and after.
        peer.group_key = fastrand::u64(1..);
    }
    Ok(peer)
}

/// Has the upstream that could not be reached another address, which is worth a try?
pub(super) fn has_other_address(gateway: &Gateway, peer: &HttpPeer, ctx: &mut Context) -> bool {
    let Some(attempt) = &ctx.attempt else {
        return false;
    };
    let Host::Tcp(host, port) = &attempt.lease.account().config.upstream.host else {
        return false;
    };
    let Some(address) = peer._address.as_inet() else {
        return false;
    };
    let has_other = gateway.resolver.failed(host, *port, *address);
    ctx.retry.addresses += 1;
    has_other && ctx.retry.addresses < ADDRESSES
}

fn unix_peer(path: &Path, tls: bool) -> Result<HttpPeer, Box<Error>> {
    HttpPeer::new_uds(&path.to_string_lossy(), tls, String::new())
}

impl Attempt {
    fn new(lease: Lease) -> Self {
        Attempt {
            lease,
            sent: false,
            taken_up: false,
            secrets: Secrets::default(),
            held: None,
            rewritten: None,
            asked_usage: false,
            meter: None,
            head_sent: false,
        }
    }
}
