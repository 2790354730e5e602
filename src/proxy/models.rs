//! The list of models that a client may use, put together of what all accounts serve: step 5 for those
//! who ask for it, answered here. Where there is but one upstream, and nothing to add to or leave out of
//! its own list, that one answers as it answers any request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::Gateway;
use super::body::gone;
use super::context::Context;
use super::local;
use super::reject::Refused;
use super::settle;
use crate::config::Config;
use crate::dialect::{Dialect, Listed, Reject, render_list};
use crate::key::Client;
use crate::pool::{Offer, Pool};
use crate::route;

/// So many upstreams are asked for their lists.
const ASKED: usize = 64;

/// Come again so soon where no upstream says what it has.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Who asks for what.
pub(super) struct Question<'a> {
    pub(super) client: &'a Client,
    pub(super) dialect: Dialect,
    /// One model, or all of them.
    pub(super) model: Option<&'a str>,
}

/// Pools and what they offer; the first is that of requests which match no route.
type Offers = Vec<(Arc<Pool>, Arc<[Offer]>)>;

/// What is known of the models.
#[derive(Default)]
struct Known {
    models: Vec<Listed>,
    /// An upstream did not say what it has.
    is_partial: bool,
}

/// Answers the request, unless an upstream's own list is the answer.
pub(super) async fn answer(
    gateway: &Gateway,
    config: &Config,
    session: &mut Session,
    ctx: &mut Context,
    question: &Question<'_>,
) -> Result<bool, Refused> {
    let offers = offers(gateway, config, question);
    if is_an_upstreams_own(config, &offers, question) {
        return Ok(false);
    }
    ctx.line.path = "models";
    ctx.line.pool = offers.first().map(|(pool, _)| pool.name.clone());
    let known = known(gateway, config, &offers, question).await;
    let body = match question.model {
        None if known.models.is_empty() && known.is_partial => None,
        None => Some(render_list(question.dialect, &known.models)),
        Some(id) => {
            let one = known.models.iter().find(|model| *model.id == *id);
            if one.is_none() && !known.is_partial {
                return Err(Reject::not_found().into());
            }
            one.map(Listed::render)
        }
    };
    let body = body.ok_or_else(|| Reject::no_account_available(RETRY_AFTER))?;
    write(session, ctx, body).await?;
    Ok(true)
}

fn offers(gateway: &Gateway, config: &Config, question: &Question<'_>) -> Offers {
    let pools = gateway.pools.load();
    let only = question.client.account.as_deref();
    let pools = route::pools(&config.routes, &pools, question.client);
    let offers = pools.into_iter().map(|pool| {
        let offers = pool.offers(question.dialect, only);
        (pool, offers)
    });
    offers.collect()
}

/// Without anything on offer the request goes on, too, and is told why nobody serves it.
fn is_an_upstreams_own(config: &Config, offers: &Offers, question: &Question<'_>) -> bool {
    let client = question.client;
    let mut all = offers.iter().flat_map(|(_, offers)| offers.iter());
    let Some(first) = all.next() else {
        return true;
    };
    let mut aliases = route::aliases(&config.routes, client);
    all.next().is_none()
        && first.is_any()
        && !client.may.narrows_models()
        && aliases.next().is_none()
}

/// What the client may use of what there is, and the names that routes give to it.
async fn known(
    gateway: &Gateway,
    config: &Config,
    offers: &Offers,
    question: &Question<'_>,
) -> Known {
    let Question {
        client, dialect, ..
    } = *question;
    let all = || {
        let pools = offers.iter();
        pools.flat_map(|(pool, offers)| offers.iter().map(move |offer| (pool, offer)))
    };
    let asked = all().filter(|(_, offer)| !offer.patterns.is_empty());
    let asked = asked.take(ASKED).map(|(pool, offer)| async move {
        let list = match offer.asked() {
            Some(account) => {
                let is_bound = client.account.is_some();
                gateway.catalogue.of(account, dialect, is_bound).await
            }
            None => None,
        };
        (pool, offer, list)
    });
    let lists = futures::future::join_all(asked).await;
    let Some((usual, _)) = offers.first() else {
        return Known::default();
    };
    let may = |pool: &Pool, id: &str| {
        client.may.allows_model(Some(id))
            && route::may_lead(&config.routes, client, usual, pool, id)
    };
    let mut known = Known::default();
    // What an upstream says of a model is worth more than its bare name.
    let mut listed: Vec<Listed> = Vec::new();
    for (pool, offer, list) in &lists {
        known.is_partial |= list.is_none();
        for model in list.iter().flat_map(|list| list.iter()) {
            if offer.takes(&model.id) {
                listed.push(model.clone());
                known
                    .models
                    .extend(may(pool, &model.id).then(|| model.clone()));
            }
        }
    }
    for (pool, offer) in all() {
        let names = offer.names.iter().filter(|name| may(pool, &name.id));
        known.models.extend(names.cloned());
    }
    for (name, model, pool) in route::aliases(&config.routes, client) {
        let pool = offers.iter().find(|(other, _)| *other.name == *pool);
        if !client.may.allows_model(Some(&name))
            || !pool.is_some_and(|(pool, _)| pool.serves(dialect, model))
        {
            continue;
        }
        let described = listed.iter().find(|listed| *listed.id == *model);
        known.models.push(match described {
            Some(listed) => listed.renamed(dialect, &name),
            None => Listed::named(dialect, &name),
        });
    }
    known
}

async fn write(session: &mut Session, ctx: &mut Context, body: Bytes) -> Result<(), Refused> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6)).map_err(gone)?;
    head.insert_header(CONTENT_TYPE, "application/json")
        .map_err(gone)?;
    settle::add_own_headers(&mut head, ctx).map_err(gone)?;
    ctx.line.bytes_out = body.len() as u64;
    local::write(session, head, body).await
}
