//! Heads without the memory of how their names were written. Names are the same in any case (RFC 9110
//! §5.1), and Pingora keeps the spelling in a second map, which costs every clone, every header that is
//! put on and every allocation of a request twice. Names go on in lower case, as in HTTP/2, but for the
//! dozen that Pingora writes with capitals.

use std::mem::replace;

use http::{HeaderValue, request, response};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::{ErrorType, OrErr, Result};

/// A request whose target is a path loses the spelling; others keep their bytes as they came.
pub(super) fn forget_spelling(head: &mut RequestHeader) {
    if head.has_case() && head.raw_path().starts_with(b"/") {
        *head = parts(head).into();
    }
}

/// An answer loses the spelling.
pub(super) fn forget_spelling_of_answer(head: &mut ResponseHeader) {
    if head.has_case() {
        let _ = change_answer(head, |_| Ok(()));
    }
}

/// What a head is made of, to be changed and made a head again; an empty one stays in its place.
pub(super) fn parts(head: &mut RequestHeader) -> request::Parts {
    let none = http::Request::new(()).into_parts().0;
    replace(head, none.into()).into()
}

/// Changes what an answer's head is made of.
///
/// # Errors
/// Those of `change`; what it has changed by then stays changed.
pub(super) fn change_answer(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut response::Parts) -> Result<()>,
) -> Result<()> {
    // The words behind the status are no part of the parts; the usual ones come back by themselves.
    let usual = head.status.canonical_reason();
    let words = head
        .get_reason_phrase()
        .filter(|words| Some(*words) != usual);
    let words = words.map(str::to_owned);
    let none = http::Response::new(()).into_parts().0;
    let mut parts: response::Parts = replace(head, none.into()).into();
    let changed = change(&mut parts);
    *head = parts.into();
    if words.is_some() {
        head.set_reason_phrase(words.as_deref())?;
    }
    changed
}

/// A text as the value of a header.
///
/// # Errors
/// It has characters in it that no header may have.
pub(super) fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "no value of a header")
}
