//! How long a client waits for an answer, where it says so.

use std::time::Duration;

use http::HeaderMap;

/// What the vendors' own clients say in seconds: those for JavaScript the time of the whole request,
/// those for Python the time between two bytes of the answer, and so until its first one.
const HEADERS: [&str; 2] = ["x-stainless-timeout", "x-stainless-read-timeout"];

/// A longer time than this is none.
const LONGEST: f64 = 7.0 * 24.0 * 3600.0;

/// After this time from its request nobody reads an answer any more.
pub fn patience(headers: &HeaderMap) -> Option<Duration> {
    let stated = HEADERS.iter().filter_map(|name| {
        let seconds: f64 = headers.get(*name)?.to_str().ok()?.trim().parse().ok()?;
        (seconds > 0.0 && seconds < LONGEST).then(|| Duration::from_secs_f64(seconds))
    });
    stated.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_clients_say_is_understood_and_nonsense_is_nothing() {
        let said = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            patience(&headers)
        };
        let seconds = Duration::from_secs_f64;
        assert_eq!(said("x-stainless-timeout", "600"), Some(seconds(600.0)));
        assert_eq!(said("x-stainless-read-timeout", "2.5"), Some(seconds(2.5)));
        for nonsense in ["0", "-1", "NaN", "inf", "1e30", "NOT_GIVEN", ""] {
            assert_eq!(
                said("x-stainless-read-timeout", nonsense),
                None,
                "{nonsense}"
            );
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }
}
