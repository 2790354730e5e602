//! The table of `contract/http.md` §2: from a status, headers and a body to an [`Outcome`]. What
//! the body says in its machine-readable words decides before the status does.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::Outcome;
use crate::dialect::{StreamError, VendorError, rate_limit_wait, stated_reset};

/// An upstream's whole answer, as far as its meaning depends on it.
pub struct Answer<'a> {
    pub status: u16,
    pub headers: &'a HeaderMap,
    /// May be cut at 64 KiB, and is empty for a success.
    pub body: &'a [u8],
    /// The model asked for, by the name the upstream was told.
    pub model: Option<&'a str>,
    /// The account's token can be renewed.
    pub renewable: bool,
    pub now: SystemTime,
}

impl Outcome {
    /// What an answer means.
    pub fn of(answer: &Answer<'_>) -> Outcome {
        if answer.status < 400 {
            return Outcome::Success;
        }
        let error = VendorError::read(answer.body);
        Case {
            answer,
            error: &error,
            exception: exception(answer.headers),
        }
        .outcome()
    }

    /// What an error within a good answer means: its type gives the outcome, and one that says no
    /// more than that the upstream failed is a broken stream.
    pub fn of_stream_error(
        error: &StreamError,
        model: Option<&str>,
        renewable: bool,
        now: SystemTime,
    ) -> Outcome {
        let error = error.read();
        let headers = HeaderMap::new();
        let answer = Answer {
            status: implied_status(&error),
            headers: &headers,
            body: &[],
            model,
            renewable,
            now,
        };
        match (Case {
            answer: &answer,
            error: &error,
            exception: None,
        })
        .outcome()
        {
            Outcome::Transient => Outcome::BrokenStream,
            outcome => outcome,
        }
    }
}

/// What a word or a sentence of an error body stands for.
#[derive(Clone, Copy)]
enum Meaning {
    TooLong,
    QuotaSpent,
    KeyDead,
    TokenRefused,
    UnknownModel,
    Busy,
    Limited,
    /// The upstream failed, whatever status it gave itself.
    Failed,
}

/// Words that mean the same with any status.
const WORDS: [(&str, Meaning); 40] = [
    ("context_length_exceeded", Meaning::TooLong),
    ("CONVERSATION_LIMIT_EXCEEDED", Meaning::TooLong),
    ("insufficient_quota", Meaning::QuotaSpent),
    ("credit_balance_exhausted", Meaning::QuotaSpent),
    ("billing_error", Meaning::QuotaSpent),
    ("billing_hard_limit_reached", Meaning::QuotaSpent),
    ("enforced_spend_limit_reached", Meaning::QuotaSpent),
    ("budget_exceeded", Meaning::QuotaSpent),
    ("MONTHLY_REQUEST_COUNT", Meaning::QuotaSpent),
    ("DAILY_REQUEST_COUNT", Meaning::QuotaSpent),
    ("OVERAGE_REQUEST_LIMIT_EXCEEDED", Meaning::QuotaSpent),
    ("API_KEY_INVALID", Meaning::KeyDead),
    ("CONSUMER_SUSPENDED", Meaning::KeyDead),
    ("TEMPORARILY_SUSPENDED", Meaning::KeyDead),
    ("account_deactivated", Meaning::KeyDead),
    ("invalid_grant", Meaning::KeyDead),
    ("invalid_client", Meaning::KeyDead),
    ("ExpiredTokenException", Meaning::TokenRefused),
    ("UnrecognizedClientException", Meaning::TokenRefused),
    ("model_not_found", Meaning::UnknownModel),
    ("DeploymentNotFound", Meaning::UnknownModel),
    ("INVALID_MODEL_ID", Meaning::UnknownModel),
    ("INSUFFICIENT_MODEL_CAPACITY", Meaning::Busy),
    ("overloaded_error", Meaning::Busy),
    ("engine_overloaded_error", Meaning::Busy),
    ("server_is_overloaded", Meaning::Busy),
    ("slow_down", Meaning::Busy),
    ("SlowDownException", Meaning::Busy),
    ("ModelNotReadyException", Meaning::Busy),
    ("ThrottlingException", Meaning::Limited),
    ("ThrottlingError", Meaning::Limited),
    // LiteLLM, where it has no database: the key is not its only one. A 400.
    ("no_db_connection", Meaning::KeyDead),
    // LiteLLM: what the account may spend is spent. A 422 or 429.
    ("budget_exceeded", Meaning::QuotaSpent),
    ("key_model_access_denied", Meaning::UnknownModel),
    ("user_model_access_denied", Meaning::UnknownModel),
    ("team_model_access_denied", Meaning::UnknownModel),
    ("org_model_access_denied", Meaning::UnknownModel),
    ("project_model_access_denied", Meaning::UnknownModel),
    ("ServiceQuotaExceededException", Meaning::Limited),
    ("ModelErrorException", Meaning::Failed),
];

/// Sentences that vendors begin a message with where they have no word for it. Only the beginning
/// counts: further on a message may quote the request, and no client shall be able to write
/// something there that takes an account out of service.
const SENTENCES: [(&str, Meaning); 22] = [
    ("prompt is too long", Meaning::TooLong),
    (
        "input length and `max_tokens` exceed context limit",
        Meaning::TooLong,
    ),
    ("Input is too long", Meaning::TooLong),
    ("This model's maximum context length is", Meaning::TooLong),
    ("The input token count", Meaning::TooLong),
    ("Your credit balance is too low", Meaning::QuotaSpent),
    (
        "You have reached your specified API usage limits",
        Meaning::QuotaSpent,
    ),
    (
        "Your project has exceeded its monthly spending cap",
        Meaning::QuotaSpent,
    ),
    (
        "Your billing account has exceeded its monthly spending cap",
        Meaning::QuotaSpent,
    ),
    ("Your prepayment credits are depleted", Meaning::QuotaSpent),
    ("This organization has been disabled", Meaning::KeyDead),
    ("Your organization has been disabled", Meaning::KeyDead),
    ("Your API key was reported as leaked", Meaning::KeyDead),
    ("OAuth token has been revoked", Meaning::KeyDead),
    ("Your account is not active", Meaning::KeyDead),
    // Amazon Q answers an expired token with 403.
    (
        "The bearer token included in the request is invalid",
        Meaning::TokenRefused,
    ),
    (
        "You don't have access to the model with",
        Meaning::UnknownModel,
    ),
    (
        "The provided model identifier is invalid",
        Meaning::UnknownModel,
    ),
    ("Encountered unexpectedly high load", Meaning::Busy),
    ("The engine is currently overloaded", Meaning::Busy),
    ("Our servers are currently overloaded", Meaning::Busy),
    ("The model is overloaded", Meaning::Busy),
];

/// One error answer under judgement.
struct Case<'a> {
    answer: &'a Answer<'a>,
    error: &'a VendorError<'a>,
    /// Amazon's name of the exception, from the head.
    exception: Option<&'a str>,
}

impl Case<'_> {
    fn outcome(&self) -> Outcome {
        match self.meaning() {
            Some(Meaning::TooLong) => Outcome::ClientFault,
            Some(Meaning::QuotaSpent) => self.quota_dead(),
            Some(Meaning::KeyDead) => Outcome::AuthDead,
            Some(Meaning::TokenRefused) => self.token_refused(),
            Some(Meaning::UnknownModel) => Outcome::ModelUnavailable,
            Some(Meaning::Busy) => Outcome::Overloaded,
            Some(Meaning::Limited) => self.rate_limited(),
            Some(Meaning::Failed) => Outcome::Transient,
            None => self.by_status(),
        }
    }

    fn by_status(&self) -> Outcome {
        match self.answer.status {
            401 => self.token_refused(),
            402 => self.quota_dead(),
            400 | 403 | 404 if self.names_the_model() => Outcome::ModelUnavailable,
            403 => Outcome::Forbidden,
            408 => Outcome::Transient,
            429 => self.rate_limited(),
            503 if self.names_overload() => Outcome::Overloaded,
            529 => Outcome::Overloaded,
            400..=499 => Outcome::ClientFault,
            _ => Outcome::Transient,
        }
    }

    fn meaning(&self) -> Option<Meaning> {
        let message = self.error.message.as_deref().unwrap_or_default();
        let mut quotas = self.error.quotas.iter();
        // Google's quota of zero: the model is not in this account's plan.
        if quotas.clone().any(|quota| quota.is_zero) {
            return Some(Meaning::UnknownModel);
        }
        if quotas.any(|quota| quota.id.contains("PerDay")) {
            return Some(Meaning::QuotaSpent);
        }
        let said = |word: &str| self.error.says(word) || self.exception == Some(word);
        let word = WORDS.iter().find(|(word, _)| said(word));
        word.or_else(|| {
            SENTENCES
                .iter()
                .find(|(sentence, _)| message.starts_with(sentence))
        })
        .map(|(_, meaning)| *meaning)
    }

    fn token_refused(&self) -> Outcome {
        if self.answer.renewable {
            Outcome::AuthExpired
        } else {
            Outcome::AuthDead
        }
    }

    fn rate_limited(&self) -> Outcome {
        let stated = rate_limit_wait(self.answer.headers, self.error, self.answer.now);
        Outcome::RateLimited {
            wait: stated.wait,
            whole_account: stated.whole_account,
        }
    }

    fn quota_dead(&self) -> Outcome {
        let wait: Option<Duration> = stated_reset(self.answer.headers, self.error, self.answer.now);
        Outcome::QuotaDead { wait }
    }

    /// Whether the message says that the model asked for is not to be had. A wrong yes costs little:
    /// an account loses the model only when another account then serves it.
    fn names_the_model(&self) -> bool {
        const REFUSALS: [&str; 10] = [
            "not found",
            "not exist",
            "not have access",
            "not available",
            "not allowed",
            "no access",
            "unknown model",
            "invalid model",
            "not a valid model",
            "doesn't exist",
        ];
        let Some(message) = self.error.message.as_deref() else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        let by_name = self.answer.model.is_some_and(|model| {
            !model.is_empty() && message.contains(&model.to_ascii_lowercase())
        });
        if self.answer.status == 404 {
            return by_name || message.contains("model");
        }
        let about_a_model = by_name
            || ["model", "the model", "invalid model", "unknown model"]
                .iter()
                .any(|start| message.starts_with(start));
        about_a_model && REFUSALS.iter().any(|refusal| message.contains(refusal))
    }

    fn names_overload(&self) -> bool {
        let message = self
            .error
            .message
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        self.error.says("UNAVAILABLE")
            || message.contains("overload")
            || message.starts_with("slow down")
    }
}

/// `x-amzn-errortype: ThrottlingException:http://…`
fn exception(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("x-amzn-errortype")?.to_str().ok()?;
    value.split(':').next()
}

/// The status that an error would have had, had it come before the answer began.
fn implied_status(error: &VendorError<'_>) -> u16 {
    const STATUSES: [(&str, u16); 21] = [
        ("invalid_request_error", 400),
        ("invalid_prompt", 400),
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("authentication_error", 401),
        ("UNAUTHENTICATED", 401),
        ("permission_error", 403),
        ("PERMISSION_DENIED", 403),
        ("not_found_error", 404),
        ("NOT_FOUND", 404),
        ("request_too_large", 413),
        ("rate_limit_error", 429),
        ("rate_limit_exceeded", 429),
        ("RESOURCE_EXHAUSTED", 429),
        ("api_error", 500),
        ("server_error", 500),
        ("INTERNAL", 500),
        ("service_unavailable_error", 503),
        ("UNAVAILABLE", 503),
        ("timeout_error", 504),
        ("DEADLINE_EXCEEDED", 504),
    ];
    // The code says more than the type: OpenAI's `invalid_request_error` is the type of many.
    let named = |word: &str| {
        STATUSES
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, status)| *status)
    };
    let stated = error.number.filter(|number| (400..600).contains(number));
    stated
        .or_else(|| error.words().find_map(named))
        .unwrap_or(500)
}
