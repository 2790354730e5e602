//! What all readers of one file share: problems found, names defined and named, secrets to hide.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use super::problem::{Problem, Severity, Snippet, did_you_mean};
use super::tree::{Flaw, Node, Place};

/// What a name in the file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Account,
    Pool,
    Tier,
    Key,
    AdminToken,
    /// Of an instance.
    Port,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Account => "account",
            Kind::Pool => "pool",
            Kind::Tier => "tier",
            Kind::Key => "key",
            Kind::AdminToken => "admin token",
            Kind::Port => "port",
        }
    }
}

struct Finding {
    severity: Severity,
    flaw: Flaw,
}

struct Reference {
    kind: Kind,
    name: String,
    place: Place,
    path: String,
}

/// The state of one reading.
pub(super) struct Document {
    /// Where relative paths start.
    pub(super) folder: PathBuf,
    /// Every key is visited as if it were written, to learn what keys there are; nothing is reported.
    pub(super) catalogue: bool,
    /// Every key asked for so far, `*` for names and `[]` for items.
    pub(super) keys: BTreeSet<String>,
    /// The first secret written in the file itself.
    pub(super) plain_secret: Option<(Place, String)>,
    findings: Vec<Finding>,
    hidden: Vec<Place>,
    names: HashMap<(Kind, String), usize>,
    references: Vec<Reference>,
}

impl Document {
    pub(super) fn new(folder: PathBuf, catalogue: bool) -> Self {
        Document {
            folder,
            catalogue,
            keys: BTreeSet::new(),
            plain_secret: None,
            findings: Vec::new(),
            hidden: Vec::new(),
            names: HashMap::new(),
            references: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, severity: Severity, flaw: Flaw) {
        if !self.catalogue {
            self.findings.push(Finding { severity, flaw });
        }
    }

    pub(super) fn problem(&mut self, place: Place, path: &str, message: impl Into<String>) {
        let flaw = Flaw {
            place,
            path: path.to_owned(),
            message: message.into(),
        };
        self.report(Severity::Error, flaw);
    }

    /// Keeps everything below `node` out of snippets.
    pub(super) fn hide(&mut self, node: &Node) {
        node.leaves(&mut |place| self.hidden.push(place));
    }

    /// Takes note of a name; `None` or the line where the same kind has it already.
    pub(super) fn know(&mut self, kind: Kind, name: &str, place: Place) -> Option<usize> {
        self.names.insert((kind, name.to_owned()), place.line)
    }

    /// Takes note of a name that may exist only once.
    pub(super) fn define(&mut self, kind: Kind, name: &str, place: Place, path: &str) {
        if let Some(line) = self.know(kind, name, place) {
            let message = format!(
                "the {} `{name}` exists already, on line {line}",
                kind.word()
            );
            self.problem(place, path, message);
        }
    }

    /// Takes note of a use of a name, looked at when all names are known.
    pub(super) fn refer(&mut self, kind: Kind, name: &str, place: Place, path: &str) {
        let (name, path) = (name.to_owned(), path.to_owned());
        self.references.push(Reference {
            kind,
            name,
            place,
            path,
        });
    }

    /// Reports every use of a name that does not exist.
    pub(super) fn check_references(&mut self) {
        for Reference {
            kind,
            name,
            place,
            path,
        } in std::mem::take(&mut self.references)
        {
            if self.names.contains_key(&(kind, name.clone())) {
                continue;
            }
            let known = self.names.keys().filter(|(other, _)| *other == kind);
            let hint = did_you_mean(&name, known.map(|(_, name)| name.as_str()));
            // A pool that is like no other may be meant to come later, as in the documented file, and
            // an account with a file; until then what is sent to it is refused.
            let severity = match kind {
                Kind::Pool | Kind::Account if hint.is_empty() => Severity::Warning,
                _ => Severity::Error,
            };
            let message = format!("there is no {} `{name}`{hint}", kind.word());
            let flaw = Flaw {
                place,
                path,
                message,
            };
            self.report(severity, flaw);
        }
    }

    /// Everything found, in the order of the file, with snippets of `text`.
    pub(super) fn into_problems(mut self, file: &str, text: &str) -> Vec<Problem> {
        self.findings
            .sort_by_key(|finding| (finding.flaw.place.line, finding.flaw.place.column));
        self.hidden.sort_by_key(|place| place.start);
        let lines: Vec<&str> = text.split('\n').collect();
        let starts = line_starts(text);
        self.findings
            .into_iter()
            .map(|Finding { severity, flaw }| {
                let index = flaw.place.line.wrapping_sub(1);
                let snippet = lines
                    .get(index)
                    .zip(starts.get(index))
                    .map(|(line, start)| {
                        snippet(
                            line.trim_end_matches('\r'),
                            *start,
                            flaw.place,
                            &self.hidden,
                        )
                    });
                Problem {
                    severity,
                    file: file.to_owned(),
                    line: flaw.place.line,
                    column: flaw.place.column,
                    path: flaw.path,
                    message: flaw.message,
                    snippet,
                }
            })
            .collect()
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect()
}

/// Lines longer than this are cut around the problem.
const WIDEST: usize = 160;

/// The part of `line` (which begins at byte `start` of the text) around `place`, secrets blanked;
/// `hidden` is in the order of the text.
fn snippet(line: &str, start: usize, place: Place, hidden: &[Place]) -> Snippet {
    let is_hidden = |at: usize| {
        let before = hidden.partition_point(|secret| secret.start <= at);
        before > 0 && at < hidden[before - 1].end
    };
    let mut text: Vec<char> = line
        .char_indices()
        .map(|(at, c)| match c {
            '\t' => ' ',
            _ if is_hidden(start + at) => '*',
            c => c,
        })
        .collect();
    let mut caret = place.column.saturating_sub(1).min(text.len());
    let end = place.end.saturating_sub(start).min(line.len());
    let wide = line.char_indices().take_while(|(at, _)| *at < end).count();
    let mut width = wide.saturating_sub(caret).max(1);
    if text.len() > WIDEST {
        let from = caret.saturating_sub(WIDEST / 2).min(text.len() - WIDEST);
        text = text[from..from + WIDEST].to_vec();
        caret -= from;
        width = width.min(WIDEST - caret.min(WIDEST - 1));
    }
    Snippet {
        text: text.into_iter().collect(),
        start: caret,
        width,
    }
}
