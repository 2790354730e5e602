//! Every metric: its name, what it says, its labels. The documentation is compared with this table.

use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// With the prefix.
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

const fn family(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, help, labels }
}

/// Seconds; those of the older pool, so that its graphs go on.
pub(super) const DURATION: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds.
pub(super) const FIRST_BYTE: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds.
pub(super) const QUEUE_WAIT: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

macro_rules! families {
    ($($constant:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Family = family(concat!("poolgate_", $name), &[$($label),*], $help);)*
        /// All of them.
        pub(super) const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    REQUESTS = "requests_total" ["account", "pool", "outcome"] "Requests answered by an account, by what came of them.";
    DURATIONS = "request_duration_seconds" ["account"] "From the request to the last byte of its answer.";
    FIRST_BYTES = "time_to_first_byte_seconds" ["account"] "From the request to the first byte of its answer.";
    RESPONSES = "responses_total" ["class"] "Answers as clients got them, by the class of their status; none: the client left before.";
    ACTIVE = "active_requests" ["account"] "Requests in flight.";
    AVAILABLE = "account_available" ["account"] "1 while the account may serve.";
    STATUS = "account_status" ["account", "pool", "status"] "Always 1, under the one word for the account's state.";
    ERROR_ANSWERS = "error_answers_total" ["account"] "Answers by which the vendor says that it failed (5xx, 408): the other transient failures are of the network.";
    BREAKER_OPENED = "breaker_opened_total" ["account"] "How often the breaker opened.";
    BREAKER_STATE = "breaker_state" ["account"] "0 closed, 1 half open, 2 open.";
    COOLDOWN = "cooldown_seconds" ["account"] "Seconds until the account may be used again; 0 when it may.";
    TOKEN_EXPIRY = "token_expiry_seconds" ["account"] "Seconds until the token expires, of accounts whose token is renewed; negative when it has.";
    RETRIES = "retries_total" ["pool", "outcome"] "Further accounts tried, by what came of the try before.";
    BUDGET_EXHAUSTED = "retry_budget_exhausted_total" ["pool"] "Retries left out because too many failed.";
    WAITING = "queue_waiting" ["pool"] "Requests waiting for an account.";
    QUEUE_WAITED = "queue_wait_seconds" ["pool"] "How long requests waited for an account.";
    QUEUE_REJECTED = "queue_rejected_total" ["pool", "reason"] "Requests that got no account.";
    TOKEN_REFRESHES = "token_refresh_total" ["account", "outcome"] "Renewals of an account's token.";
    PROBES = "health_probes_total" ["account", "outcome"] "Health probes.";
    INSTANCE_UP = "instance_up" ["account"] "1 while the account's program runs and is ready.";
    INSTANCE_RESTARTS = "instance_restarts_total" ["account"] "How often the account's program was started again.";
    KEYS_ACTIVE = "keys_active" ["tier"] "Keys that are valid.";
    SLOTS_USED = "slots_used" ["account"] "Keys that hold a slot of the account.";
    SLOTS_LIMIT = "slots_limit" ["account"] "Keys that may hold a slot of the account, of all tiers together.";
    SLOT_ROTATIONS = "slot_rotations_total" ["tier"] "Keys that gave their account up and got one, perhaps the same.";
    KEY_REJECTIONS = "key_rejections_total" ["reason"] "Requests refused because of their key.";
    TOKENS = "tokens_total" ["account", "kind"] "Tokens, as the vendor stated them; cached is a part of input.";
    RELOADS = "config_reloads_total" ["outcome"] "Reloads of the configuration.";
    LAST_RELOAD = "config_last_reload_successful" [] "1 when the last reload was taken over.";
    REDIS_UP = "redis_up" [] "1 while Redis answers, 0 while this gateway goes by itself; none without state.redis.";
    GATEWAYS = "gateways" [] "Gateways that share their state over Redis, as this one sees them.";
    CERTIFICATE_EXPIRY = "tls_certificate_expiry_seconds" [] "Seconds until the first certificate of a listener expires; negative when it has.";
    STORE_ERRORS = "store_errors_total" ["store", "operation"] "Records or kept tokens that could not be read or written; serving goes on.";
    USAGE_LOST = "usage_rows_lost_total" [] "Requests whose usage is in no sum: too many waited to be written, the disk was full, or the database refuses it for good.";
    REQUEST_ROWS_SKIPPED = "request_rows_skipped_total" [] "Requests that count in all sums of usage and have no row of their own: there were too many.";
    NOTICES_DROPPED = "notices_dropped_total" ["reason"] "Notices that no webhook was told: the queue was full, all tries failed, or the hook refused.";
    PANICS = "panics_total" [] "Panics: each is a mistake in poolgate and cost one request, or one round of background work.";
    CONNECTIONS = "connections" ["state"] "Connections of clients.";
    BUILD = "build_info" ["version"] "Always 1.";
}

/// A gauge whose values are known only now. None when there are no values, for an empty family may
/// not be written.
pub(super) fn gauge<'a, L>(
    family: &Family,
    values: impl IntoIterator<Item = (L, f64)>,
) -> Option<MetricFamily>
where
    L: IntoIterator<Item = &'a str>,
{
    let metrics: Vec<Metric> = values
        .into_iter()
        .map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_gauge(gauge);
            metric.set_label(
                family
                    .labels
                    .iter()
                    .zip(labels)
                    .map(|(k, v)| label(k, v))
                    .collect(),
            );
            metric
        })
        .collect();
    if metrics.is_empty() {
        return None;
    }
    let mut written = MetricFamily::default();
    written.set_name(family.name.to_owned());
    written.set_help(family.help.to_owned());
    written.set_field_type(MetricType::GAUGE);
    written.set_metric(metrics);
    Some(written)
}

pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
