//! What a request takes of its key's limits, and what it comes to in the end.

use std::time::Duration;

use super::Gateway;
use super::reject::Refused;
use crate::clock::{self, Instant};
use crate::dialect::{Kind, Reading, Reject, Usage};
use crate::key::Client;
use crate::limit::{Ask, Exceeded, Hold, Permit, Price, Spent};
use crate::telemetry::AccessLine;

/// Bytes of a request or an answer that make one token, roughly.
const BYTES_PER_TOKEN: u64 = 4;

/// How long an answer may become where nobody says, in tokens.
const USUAL_ANSWER: u64 = 1000;

/// A client that has the whole of an answer may ask again before its request is counted off here: so
/// often it is looked again, after so long.
const LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One of the requests that the key may have under way.
pub(super) async fn permit(gateway: &Gateway, client: &Client) -> Result<Permit, Refused> {
    let most = client.may.max_concurrent;
    for _ in 0..LOOKS {
        if let Some(permit) = client.permits.take(most) {
            return Ok(permit);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    gateway.metrics.key_rejected("concurrency");
    Err(Reject::key_busy(most).into())
}

/// What a request is going to cost, and holds for it.
pub(super) struct Bill {
    hold: Option<Hold>,
    price: Option<Price>,
    /// Before the vendor states it.
    estimate: Usage,
    /// The tokens that the client lets the answer have, where it says so.
    most: Option<u64>,
    /// Bytes of text that were read of the answer, where that is told apart from what is around it.
    written: Option<u64>,
    /// It makes a model work; listing models does not.
    counts: bool,
    /// The vendor's statement is of an answer that was to go on.
    is_partial: bool,
}

impl Bill {
    /// `size`: of the body, in bytes; `most`: the tokens that the client lets the answer have.
    pub(super) fn estimated(
        client: &Client,
        kind: Option<Kind>,
        model: Option<&str>,
        size: usize,
        most: Option<u64>,
    ) -> Bill {
        // Of what passes through a socket nobody knows how much is text.
        let is_socket = kind == Some(Kind::ResponsesSocket);
        let most = most.or(is_socket.then_some(USUAL_ANSWER));
        Bill {
            hold: None,
            price: match model {
                Some(model) => client.prices.of_model(model),
                // Else a body that is too long to be looked through would cost nothing.
                None => client.prices.dearest(),
            },
            estimate: Usage {
                input: size as u64 / BYTES_PER_TOKEN,
                output: most.unwrap_or(USUAL_ANSWER),
                cached: 0,
            },
            most,
            written: None,
            counts: !matches!(kind, Some(Kind::Models | Kind::CountTokens)),
            is_partial: false,
        }
    }

    /// How many tokens the request may come to, in the limits of its account; none where none counts it.
    pub(super) fn tokens(&self) -> Option<u64> {
        let estimate = self.estimate.input.saturating_add(self.estimate.output);
        self.counts.then_some(estimate)
    }

    /// The attempt is over, `bytes` of whose answer went to the client. Returns the tokens that it came to in the
    /// limits of its account, where an answer is no longer than its client lets it be.
    pub(super) fn read(&mut self, reading: Option<&Reading>, bytes: u64) -> u64 {
        self.written = reading.and_then(|reading| reading.written);
        self.is_partial = reading.is_some_and(|reading| reading.is_partial);
        let output = self.output(bytes);
        let usage = match reading.and_then(|reading| reading.usage) {
            Some(usage) if self.is_partial => at_least(usage, output),
            Some(usage) => usage,
            None => Usage {
                output: output.min(self.most.unwrap_or(u64::MAX)),
                ..self.estimate
            },
        };
        usage.input.saturating_add(usage.output)
    }

    /// The tokens of an answer that nobody has counted, from what there is of it.
    fn output(&self, bytes: u64) -> u64 {
        self.written.unwrap_or(bytes) / BYTES_PER_TOKEN
    }

    /// The request is over, and its line is complete: what it has used counts, or nothing where no
    /// account has worked for it.
    pub(super) fn settle(mut self, line: &AccessLine, now: Instant) -> Used {
        let used = self.used(line);
        let hold = self.hold.take().filter(|_| is_served(line));
        if let Some(hold) = hold {
            let tokens = used.usage.input.saturating_add(used.usage.output);
            let cost = used.cost;
            hold.settle(Spent { tokens, cost }, now);
        }
        used
    }

    fn used(&self, line: &AccessLine) -> Used {
        let (usage, is_estimated) = match line.usage {
            Some(usage) if self.is_partial => (at_least(usage, self.output(line.bytes_out)), true),
            Some(usage) => (usage, false),
            None if !self.counts || !is_served(line) => (Usage::default(), false),
            None => {
                let output = self.output(line.bytes_out);
                let estimate = Usage {
                    output,
                    ..self.estimate
                };
                (estimate, true)
            }
        };
        Used {
            cost: self.cost(&usage),
            usage,
            is_estimated,
        }
    }

    /// In billionths.
    fn cost(&self, usage: &Usage) -> u64 {
        self.price.map_or(0, |price| price.cost(usage))
    }
}

/// What an answer has come to that broke off after so many tokens, and of which this was stated.
fn at_least(stated: Usage, output: u64) -> Usage {
    Usage {
        output: stated.output.max(output),
        ..stated
    }
}

/// What a request came to.
#[derive(Default)]
pub(super) struct Used {
    /// As the vendor stated it, or an estimate.
    pub(super) usage: Usage,
    pub(super) is_estimated: bool,
    /// In billionths.
    pub(super) cost: u64,
}

/// Has an account worked for it? The client may have left before it saw anything of that.
fn is_served(line: &AccessLine) -> bool {
    let gone = || {
        line.tries
            .last()
            .is_some_and(|last| last.outcome == "client_gone")
    };
    match line.status {
        0 => gone(),
        status => status < 400,
    }
}

/// Takes what the request may come to of every limit of its key.
pub(super) async fn hold(
    gateway: &Gateway,
    client: &Client,
    model: Option<&str>,
    mut bill: Bill,
) -> Result<Bill, Refused> {
    if client.limits.is_empty() || !bill.counts {
        return Ok(bill);
    }
    let ask = Ask {
        model,
        tokens: bill.estimate.input.saturating_add(bill.estimate.output),
        cost: bill.cost(&bill.estimate),
    };
    let mut looks = LOOKS;
    bill.hold = loop {
        let exceeded = match admit(gateway, client, &ask).await {
            Ok(hold) => break Some(hold),
            Err(exceeded) => exceeded,
        };
        looks -= 1;
        if !exceeded.is_held || looks == 0 {
            gateway.metrics.key_rejected("limit");
            return Err(Reject::key_limit(&exceeded.limit, exceeded.wait).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    Ok(bill)
}

async fn admit(gateway: &Gateway, client: &Client, ask: &Ask<'_>) -> Result<Hold, Exceeded> {
    let now = clock::now();
    match &gateway.tally {
        Some(tally) => client.limits.admit_shared(ask, &**tally, now).await,
        None => client.limits.admit(ask, now),
    }
}
