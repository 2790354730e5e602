//! Reading single JSON values leniently: what is not of the expected type is absent.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) fn parsed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// A JSON text; borrowed when it holds no escape.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        parsed(raw).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Whether the first byte that is no white space opens an object. To serde a struct may be written
/// as an array; to a vendor it may not.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}
