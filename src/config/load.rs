//! The way of a file: text -> tree -> readers -> a usable configuration, or every problem it has.

use std::path::{Path, PathBuf};

use super::document::Document;
use super::env::Variables;
use super::model::{Config, Open};
use super::problem::{Problem, Problems, Severity};
use super::read::{Section, root};
use super::secret_file::read_keys_file;
use super::shown::Shown;
use super::tree::{self, Flaw, Node, Place, Value};
use super::{clients, json, listen, older, pool, state};

/// A usable configuration, and what its owner should know about it.
pub struct Loaded {
    pub config: Config,
    /// Warnings, in the order of the file; never a [`Severity::Error`].
    pub remarks: Vec<Problem>,
}

/// A larger file is no configuration; it holds some 50,000 accounts.
const LARGEST: u64 = 32 << 20;

/// Reads the file at `path`. `env` is asked for the variables of `${NAME}`.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn load(path: &Path, env: Variables<'_>) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let failed = |message: String| Problems(vec![Problem::of_file(&name, message)]);
    let metadata = std::fs::metadata(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    if metadata.len() > LARGEST {
        return Err(failed(format!("is larger than {} MiB", LARGEST >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8 text".to_owned()))?;
    if is_json(path) && older::is_router(&text) {
        return read_router(&text, path, env);
    }
    read(&text, path, env, is_open_to_others(&metadata))
}

/// Reads `text`. Problems name it `origin`, and relative paths start at the folder of `origin`.
///
/// # Errors
/// Everything that is wrong with the text, at once.
pub fn parse(text: &str, origin: &Path, env: Variables<'_>) -> Result<Loaded, Problems> {
    read(text, origin, env, false)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

/// The older router's own file, as it would be imported.
fn read_router(text: &str, path: &Path, env: Variables<'_>) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let keys = path.with_file_name("auth_profiles").join("key.txt");
    // What cannot be read is no empty file: that would let everybody in.
    let keys = read_keys_file(&keys)
        .map_err(|error| Problems(vec![Problem::of_file(&name, error.to_string())]))?;
    let taken = older::router(text, "auth_profiles/key.txt", !keys.is_empty());
    let taken = taken.map_err(|mistakes| {
        let each = mistakes.iter().map(|text| Problem::of_file(&name, text));
        Problems(each.collect())
    })?;
    let first =
        "the older router's file, run as `poolgate import multi-account-json` would write it";
    let notes = [first.to_owned()].into_iter().chain(taken.notes);
    let notes = notes.map(|text| Problem {
        severity: Severity::Warning,
        ..Problem::of_file(&name, text)
    });
    let mut loaded = read_yaml(&taken.text, path, env, false)?;
    loaded.remarks.splice(0..0, notes);
    if loaded.config.clients.open == Open::Always {
        // It is so because there is no key, not because somebody has said so.
        loaded.config.clients.open = Open::UntilKeys;
    }
    Ok(loaded)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

fn read(text: &str, origin: &Path, env: Variables<'_>, open: bool) -> Result<Loaded, Problems> {
    match is_json(origin) {
        true => read_yaml(&json::blank_comments(text), origin, env, open),
        false => read_yaml(text, origin, env, open),
    }
}

fn read_yaml(
    text: &str,
    origin: &Path,
    env: Variables<'_>,
    open: bool,
) -> Result<Loaded, Problems> {
    let name = origin.display().to_string();
    let absolute = std::path::absolute(origin).unwrap_or_else(|_| origin.to_owned());
    let folder = absolute.parent().map_or_else(PathBuf::new, Path::to_owned);
    let mut doc = Document::new(folder, false);
    let (tree, flaws) = match tree::parse(text, env) {
        Ok(parsed) => parsed,
        Err(flaw) => {
            doc.report(Severity::Error, flaw);
            return Err(Problems(doc.into_problems(&name, &without_secrets(text))));
        }
    };
    for flaw in flaws {
        doc.report(Severity::Error, flaw);
    }
    let (mut config, effective) = root(&mut doc, &tree, config);
    config.effective = effective;
    doc.check_references();
    if let Some((place, path)) = doc.plain_secret.take().filter(|_| open) {
        let message = "a secret in a file that others may read: `chmod 600` the file, \
                       or write `${NAME}` or `{file: PATH}`";
        doc.report(
            Severity::Warning,
            Flaw {
                place,
                path,
                message: message.to_owned(),
            },
        );
    }
    let remarks = doc.into_problems(&name, text);
    let (errors, remarks): (Vec<_>, Vec<_>) = remarks
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    if errors.is_empty() {
        Ok(Loaded { config, remarks })
    } else {
        Err(Problems(errors))
    }
}

/// Text that is not YAML cannot be searched for secrets by their keys: all letters and digits but
/// a line's first key are blanked. What is wrong with YAML is in its marks and spaces, which stay.
fn without_secrets(text: &str) -> String {
    let mask = |c: char| if c.is_alphanumeric() { '*' } else { c };
    let blank = |line: &str| {
        let (key, rest) = line.split_at(line.find(':').unwrap_or(0));
        key.chars().chain(rest.chars().map(mask)).collect()
    };
    text.split('\n')
        .map(blank)
        .collect::<Vec<String>>()
        .join("\n")
}

/// Reads the whole file, in the order of `conf/poolgate.yaml`.
fn config(s: &mut Section<'_, '_>) -> Config {
    let listen = listen::listeners(s);
    Config {
        admin: s.section("admin", |s| listen::admin(s, &listen)),
        clients: s.section("clients", |s| clients::clients(s, &listen)),
        tiers: clients::tiers(s),
        routes: clients::routes(s),
        prices: clients::prices(s),
        pools: pool::pools(s),
        instances: s.section("instances", state::instances),
        state: s.section("state", state::state),
        egress: s.section("egress", state::egress),
        notify: state::notify(s),
        log: s.section("log", state::log),
        server: s.section("server", state::server),
        listen,
        effective: Shown::Map(Vec::new()),
    }
}

/// The effective configuration as YAML, with every default and with secrets masked; [`parse`]
/// reads it again.
pub fn print(config: &Config) -> String {
    serde_yaml::to_string(&config.effective).unwrap_or_default()
}

/// Every key there is, in the form `pools.*.accounts[].weight`.
pub fn known_keys() -> Vec<String> {
    let nothing = Node {
        place: Place::default(),
        value: Value::Null,
        written: None,
    };
    let mut doc = Document::new(PathBuf::new(), true);
    root(&mut doc, &nothing, config);
    // Accounts made from files have the keys of accounts.
    let repeated = |key: &String| key.starts_with("pools.*.discover.account.");
    doc.keys.into_iter().filter(|key| !repeated(key)).collect()
}
