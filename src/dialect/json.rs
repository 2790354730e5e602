//! Reading single JSON values leniently: what is not of the expected type is absent.

use std::borrow::Cow;

use serde::Deserialize;

pub(super) fn parsed<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Option<T> {
    serde_json::from_slice(raw).ok()
}

/// A JSON text; borrowed when it holds no escape.
pub(super) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.iter().all(|byte| *byte >= b' ' && *byte != b'\\') {
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    } else {
        parsed(raw).map(Cow::Owned)
    }
}

/// Whether the first byte that is no white space opens an object. To serde a struct may be written
/// as an array; to a vendor it may not.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}
