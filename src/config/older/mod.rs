//! What the five older systems are told by their files and variables, said as a configuration of ours:
//! one file per system. Nothing of a secret is copied; it stays where it was and is named as `${NAME}`.

mod amazonq;
mod camoufox;
mod compose;
mod fields;
mod medium;
mod router;
#[cfg(test)]
mod tests;
mod variables;

pub use amazonq::amazonq;
pub use camoufox::{Screen, camoufox};
pub use compose::compose;
pub use medium::{Tiers, medium};
pub use router::{is_router, router};
pub use variables::from_variables;

/// An older system's settings as a configuration of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// YAML, with comments.
    pub text: String,
    /// What has no counterpart here, or is different; a sentence each.
    pub notes: Vec<String>,
}

/// What is wrong with the older settings; each names its field or variable.
pub type Mistakes = Vec<String>;

/// What a reader of older settings says on its way.
#[derive(Default)]
struct Said {
    mistakes: Mistakes,
    notes: Vec<String>,
}

impl Said {
    fn wrong(&mut self, text: impl Into<String>) {
        self.mistakes.push(text.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn done(self, text: String) -> Result<Taken, Mistakes> {
        match self.mistakes.is_empty() {
            true => Ok(Taken {
                text,
                notes: self.notes,
            }),
            false => Err(self.mistakes),
        }
    }
}

/// A text as YAML takes it in any place; a `${` in it stays as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

/// The first lines of each configuration that is written.
fn head(system: &str) -> String {
    format!(
        "# Taken over from {system} by `poolgate import`. Every key and its default: conf/poolgate.yaml.\n\n"
    )
}

/// The older names of strategies, of all systems; the word of ours.
fn strategy(name: &str) -> Option<&'static str> {
    let plain = name.trim().to_ascii_lowercase().replace('-', "_");
    super::Strategy::named(&plain).map(super::Strategy::name)
}

/// The strategy that a variable or field asks for, else the older default; a word that nobody knows was
/// a warning and the default there, too.
fn strategy_or(
    name: Option<&str>,
    field: &str,
    default: &'static str,
    said: &mut Said,
) -> &'static str {
    let Some(name) = name.filter(|name| !name.trim().is_empty()) else {
        return default;
    };
    strategy(name).unwrap_or_else(|| {
        said.note(format!(
            "{field}: {name:?} is no strategy; {default} is used, as before"
        ));
        default
    })
}
