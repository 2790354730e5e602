//! What a full JSON parser finds in an answer, which the incremental one must find too.

use poolgate::dialect::{Dialect, Kind, Reading, Usage};
use serde_json::Value;

/// Objects and arrays on the way to a value; what lies deeper is not looked for.
const DEEPEST: usize = 6;
/// A longer value is not kept.
const LONGEST: usize = 4096;

type Path = &'static [&'static str];

fn usages(dialect: Dialect, kind: Kind) -> &'static [Path] {
    match (dialect, kind) {
        (Dialect::OpenAi, Kind::Responses) => &[&["response", "usage"], &["usage"]],
        (Dialect::OpenAi, _) => &[&["usage"]],
        (Dialect::Anthropic, _) => &[&["message", "usage"], &["usage"]],
        (Dialect::Gemini, _) => &[&["usageMetadata"]],
    }
}

fn errors(dialect: Dialect, kind: Kind) -> &'static [Path] {
    match (dialect, kind) {
        (Dialect::OpenAi, Kind::Responses) => &[&["response", "error"], &["error"]],
        _ => &[&["error"]],
    }
}

/// Of bytes that are JSON, `read` finds what is there. They are written anew before, so that no name
/// is there twice or spelled with an escape.
pub(crate) fn check(dialect: Dialect, kind: Kind, bytes: &[u8], read: impl Fn(&[u8]) -> Reading) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let json = value.to_string();
    if json.len() > LONGEST {
        return;
    }
    let reading = read(json.as_bytes());
    assert_eq!(
        reading.complete,
        value.is_object() || value.is_array(),
        "{json}"
    );
    let said =
        |error: &&Value| !matches!(error, Value::Null | Value::Bool(false)) && !is_empty(error);
    let error = found(&value, errors(dialect, kind)).into_iter().find(said);
    assert_eq!(reading.error.is_some(), error.is_some(), "{json}");
    let stated = found(&value, usages(dialect, kind));
    let usage = match dialect {
        Dialect::Anthropic => anthropic(&stated),
        Dialect::OpenAi => stated.iter().filter_map(|usage| openai(usage)).next_back(),
        Dialect::Gemini => stated.iter().filter_map(|usage| gemini(usage)).next_back(),
    };
    assert_eq!(reading.usage, usage, "{json}");
}

fn is_empty(error: &Value) -> bool {
    error.as_str() == Some("") || error.as_object().is_some_and(|error| error.is_empty())
}

/// The values at these paths, in the order of the document; arrays are passed through.
fn found<'v>(value: &'v Value, paths: &[Path]) -> Vec<&'v Value> {
    let mut all = vec![];
    visit(value, DEEPEST, paths, &mut all);
    all
}

fn visit<'v>(value: &'v Value, depth: usize, paths: &[Path], all: &mut Vec<&'v Value>) {
    if paths.iter().any(|path| path.is_empty()) {
        all.push(value);
        return;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, depth, paths, all)),
        Value::Object(members) => {
            for (name, member) in members {
                let on = |path: &&Path| path[0] == name;
                let rest: Vec<Path> = paths.iter().filter(on).map(|path| &path[1..]).collect();
                if !rest.is_empty() {
                    visit(member, depth, &rest, all);
                }
            }
        }
        _ => {}
    }
}

/// Numbers by name, each absent or stated; `None` where one of them is no count.
fn counts<const N: usize>(usage: &Value, names: [&str; N]) -> Option<[Option<u64>; N]> {
    let usage = usage.as_object()?;
    let mut counts = [None; N];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = match usage.get(name) {
            None | Some(Value::Null) => None,
            Some(number) => Some(number.as_u64()?),
        };
    }
    Some(counts)
}

fn openai(usage: &Value) -> Option<Usage> {
    let names = [
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
    ];
    let [prompt, input, completion, output] = counts(usage, names)?;
    let mut cached = None;
    for name in ["input_tokens_details", "prompt_tokens_details"] {
        let Some(details) = usage.get(name).filter(|details| !details.is_null()) else {
            continue;
        };
        cached = counts(details, ["cached_tokens"])?[0].or(Some(0));
    }
    let (input, output) = (prompt.or(input), completion.or(output));
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        cached: cached.unwrap_or(0),
    })
}

fn gemini(usage: &Value) -> Option<Usage> {
    let names = [
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
    ];
    let [prompt, tools, cached, candidates, thoughts] = counts(usage, names)?;
    (prompt.is_some() || candidates.is_some()).then(|| Usage {
        input: prompt.map_or(0, |prompt| prompt.saturating_add(tools.unwrap_or(0))),
        output: candidates
            .unwrap_or(0)
            .saturating_add(thoughts.unwrap_or(0)),
        cached: cached.unwrap_or(0),
    })
}

fn anthropic(stated: &[&Value]) -> Option<Usage> {
    let names = [
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    ];
    let mut all = [None; 4];
    for counts in stated.iter().filter_map(|usage| counts(usage, names)) {
        for (so_far, count) in all.iter_mut().zip(counts) {
            *so_far = count.or(*so_far);
        }
    }
    let [input, written, cached, output] = all;
    let sum = |counts: [Option<u64>; 3]| {
        let counts = counts.into_iter().flatten();
        counts.fold(0_u64, u64::saturating_add)
    };
    (input.is_some() || output.is_some()).then(|| Usage {
        input: sum([input, written, cached]),
        output: output.unwrap_or(0),
        cached: cached.unwrap_or(0),
    })
}
