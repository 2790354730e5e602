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
        *head = parts_of_answer(head).into();
    }
}

/// What a head is made of, to be changed and made a head again; an empty one stays in its place.
pub(super) fn parts(head: &mut RequestHeader) -> request::Parts {
    let none = http::Request::new(()).into_parts().0;
    replace(head, none.into()).into()
}

/// The same of an answer.
pub(super) fn parts_of_answer(head: &mut ResponseHeader) -> response::Parts {
    let none = http::Response::new(()).into_parts().0;
    replace(head, none.into()).into()
}

/// A text as the value of a header.
///
/// # Errors
/// It has characters in it that no header may have.
pub(super) fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).or_err(ErrorType::InvalidHTTPHeader, "no value of a header")
}
