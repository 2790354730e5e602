//! The signature by which a hook's receiver knows that a notice is from here, and is fresh.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// `t=UNIX,v1=HEX`: the HMAC-SHA256 (RFC 2104) of `UNIX.BODY` under the hook's secret.
pub(super) fn signature(secret: &Secret, unix_seconds: u64, body: &[u8]) -> String {
    let mut text = format!("t={unix_seconds},v1=");
    // A key of any length will do.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        mac.update(format!("{unix_seconds}.").as_bytes());
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::signature;
    use crate::secret::Secret;

    #[test]
    fn a_signature_is_the_one_that_others_compute() {
        // printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac hunter2
        assert_eq!(
            signature(&Secret::new("hunter2"), 1_800_000_000, br#"{"a":1}"#),
            "t=1800000000,v1=b454ca5418b33f280fa7e66ff1206e7c72bab5bc10d681cb0875a1bfdf9be7dd"
        );
    }
}
