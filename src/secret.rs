//! A text that must not be seen: no `Debug`, no `Display`, no `Serialize`, wiped when dropped.
//!
//! Whoever needs the text says so with [`Secret::expose`], which is easy to search for.

use zeroize::Zeroizing;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself. It may go to the party it is meant for, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a person may see of it: its last four characters, and those only of a long one, so that
    /// two secrets can be told apart on a page without helping anyone to guess them.
    pub fn masked(&self) -> String {
        let length = self.0.chars().count();
        if length < 16 {
            return "****".to_owned();
        }
        let tail: String = self.0.chars().skip(length - 4).collect();
        format!("****{tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_short_secret_shows_nothing_of_itself() {
        assert_eq!(Secret::new("hunter2").masked(), "****");
        assert_eq!(Secret::new("sk-0123456789abcdef").masked(), "****cdef");
    }
}
