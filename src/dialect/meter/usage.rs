//! What the vendors call the tokens they count: their `usage` objects, read into our [`Usage`].

use super::super::Usage;
use super::super::json::parsed;
use super::super::outline::members;

/// No request comes to so many tokens. A vendor that states more would else fill the sums that it is added to.
const MOST: u64 = 1_000_000_000_000;

/// Counts as stated so far; a later statement replaces an earlier one field by field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    input: Option<u64>,
    /// Prompt tokens that `input` leaves out, as Anthropic counts.
    cache_written: Option<u64>,
    cached: Option<u64>,
    cached_is_in_input: bool,
    output: Option<u64>,
    /// The output stated so far is that of a message which begins, as Anthropic counts.
    output_begins: bool,
    /// Output that `output` leaves out, as Gemini counts.
    thoughts: Option<u64>,
}

impl Counts {
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let cached = self.cached.unwrap_or(0);
        let beside = if self.cached_is_in_input {
            0
        } else {
            cached.saturating_add(self.cache_written.unwrap_or(0))
        };
        let output = self.output.unwrap_or(0);
        let output = output.saturating_add(self.thoughts.unwrap_or(0));
        Some(Usage {
            input: self.input.unwrap_or(0).saturating_add(beside).min(MOST),
            output: output.min(MOST),
            cached: cached.min(MOST),
        })
    }

    /// Is the output that was stated last no more than a beginning?
    pub(super) fn is_beginning(&self) -> bool {
        self.output_begins
    }

    /// `usage` of chat completions, completions, embeddings and responses. Each is a whole.
    pub(super) fn openai(&mut self, raw: &[u8]) {
        if let Some(stated) = Counts::of_openai(raw) {
            self.replace(stated);
        }
    }

    fn of_openai(raw: &[u8]) -> Option<Counts> {
        let [prompt, input, completion, output, of_prompt, of_input] = stated(
            raw,
            &[
                "prompt_tokens",
                "input_tokens",
                "completion_tokens",
                "output_tokens",
                "prompt_tokens_details",
                "input_tokens_details",
            ],
        )?;
        let cached = |details: Option<&[u8]>| match details {
            Some(details) => count(stated(details, &["cached_tokens"])?[0]),
            None => Some(None),
        };
        let (in_prompt, in_input) = (cached(of_prompt)?, cached(of_input)?);
        Some(Counts {
            input: count(prompt)?.or(count(input)?),
            cached: if of_prompt.is_some() {
                in_prompt
            } else {
                in_input
            },
            cached_is_in_input: true,
            output: count(completion)?.or(count(output)?),
            ..Counts::default()
        })
    }

    /// `usage` of messages: cumulative in a stream, where fields may be absent later on.
    pub(super) fn anthropic(&mut self, raw: &[u8]) {
        let names = [
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "output_tokens",
        ];
        let Some([input, written, cached, output]) = counts(raw, &names) else {
            return;
        };
        self.input = input.or(self.input);
        self.cache_written = written.or(self.cache_written);
        self.cached = cached.or(self.cached);
        self.output = output.or(self.output);
        self.output_begins &= output.is_none();
    }

    /// The `usage` of a message that begins: all of its input, and a token or so of its output.
    pub(super) fn anthropic_begins(&mut self, raw: &[u8]) {
        self.anthropic(raw);
        self.output_begins = true;
    }

    /// `usageMetadata` of Gemini: every chunk states a whole.
    pub(super) fn gemini(&mut self, raw: &[u8]) {
        let names = [
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "cachedContentTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
        ];
        let Some([prompt, tools, cached, candidates, thoughts]) = counts(raw, &names) else {
            return;
        };
        self.replace(Counts {
            input: prompt.map(|prompt| prompt.saturating_add(tools.unwrap_or(0))),
            cached,
            cached_is_in_input: true,
            output: candidates,
            thoughts,
            ..Counts::default()
        });
    }

    /// A whole takes the place of the one before; one that states nothing does not.
    fn replace(&mut self, stated: Counts) {
        if stated.usage().is_some() {
            *self = stated;
        }
    }
}

/// What these members of an object state; `null` states nothing. None: it is no object.
fn stated<'a, const N: usize>(raw: &'a [u8], names: &[&str; N]) -> Option<[Option<&'a [u8]>; N]> {
    let members = members(raw, names)?;
    Some(members.map(|value| value.filter(|value| value != b"null")))
}

/// What is no count spoils the whole statement.
fn count(raw: Option<&[u8]>) -> Option<Option<u64>> {
    match raw {
        Some(raw) => parsed(raw).map(Some),
        None => Some(None),
    }
}

/// Members that are counts.
fn counts<const N: usize>(raw: &[u8], names: &[&str; N]) -> Option<[Option<u64>; N]> {
    let mut counts = [None; N];
    for (into, raw) in counts.iter_mut().zip(stated(raw, names)?) {
        *into = count(raw)?;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(read: fn(&mut Counts, &[u8]), stated: &[&str]) -> Option<Usage> {
        let mut counts = Counts::default();
        for raw in stated {
            read(&mut counts, raw.as_bytes());
        }
        counts.usage()
    }

    #[test]
    fn input_counts_every_prompt_token_of_every_vendor() {
        let chat = r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,"prompt_tokens_details":{"cached_tokens":60}}"#;
        let responses =
            r#"{"input_tokens":100,"output_tokens":7,"input_tokens_details":{"cached_tokens":60}}"#;
        let messages = r#"{"input_tokens":30,"cache_creation_input_tokens":10,"cache_read_input_tokens":60,"output_tokens":7}"#;
        let gemini = r#"{"promptTokenCount":100,"candidatesTokenCount":5,"thoughtsTokenCount":2,"cachedContentTokenCount":60}"#;
        let all = Some(Usage {
            input: 100,
            output: 7,
            cached: 60,
        });
        assert_eq!(usage(Counts::openai, &[chat]), all);
        assert_eq!(usage(Counts::openai, &[responses]), all);
        assert_eq!(usage(Counts::anthropic, &[messages]), all);
        assert_eq!(usage(Counts::gemini, &[gemini]), all);
    }

    #[test]
    fn the_last_statement_wins_and_what_it_leaves_out_stays() {
        let start = r#"{"input_tokens":30,"cache_read_input_tokens":5,"output_tokens":1}"#;
        let deltas = [
            start,
            r#"{"output_tokens":10}"#,
            r#"{"output_tokens":25,"input_tokens":null}"#,
        ];
        assert_eq!(
            usage(Counts::anthropic, &deltas),
            Some(Usage {
                input: 35,
                output: 25,
                cached: 5
            })
        );
        let growing = [
            r#"{"prompt_tokens":3,"completion_tokens":1}"#,
            r#"{"prompt_tokens":3,"completion_tokens":9}"#,
        ];
        assert_eq!(
            usage(Counts::openai, &growing),
            Some(Usage {
                input: 3,
                output: 9,
                cached: 0
            })
        );
    }

    #[test]
    fn nonsense_states_nothing() {
        for raw in [
            "null",
            "",
            "7",
            "[]",
            "{}",
            "{\"prompt_tokens\":-1}",
            "{\"prompt_tokens\":\"3\"}",
            "{\"prompt_tokens\":",
        ] {
            assert_eq!(usage(Counts::openai, &[raw]), None, "{raw}");
        }
        let huge = format!(
            "{{\"input_tokens\":{0},\"cache_read_input_tokens\":{0}}}",
            u64::MAX
        );
        assert_eq!(usage(Counts::anthropic, &[&huge]).unwrap().input, MOST);
    }
}
