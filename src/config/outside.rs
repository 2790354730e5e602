//! Accounts that are written outside of the file: keys of an account as JSON, read by the readers of
//! the file. They name no file of this machine and start no program: whoever may add an account is not
//! thereby one who may read files here.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::account::account;
use super::document::Document;
use super::model::{Account, Credential, Host, OAuth2, Pool, SecretSource};
use super::problem::Severity;
use super::read::root;
use super::tree;
use super::upstream::infer_dialects;

/// What is wrong: the key, and what would be right.
pub type Wrong = (String, String);

/// Keys that an account of the file keeps: its name, and the program that serves it.
const NOT_HERE: [&str; 2] = ["id", "instance"];

/// An account of this pool that has these keys.
///
/// # Errors
/// The first key that is wrong, or that may only stand in the file.
pub fn outside_account(id: &str, keys: &Map<String, Value>, pool: &Pool) -> Result<Account, Wrong> {
    for key in NOT_HERE {
        if keys.contains_key(key) {
            let message = "can be said in the file only";
            return Err((key.to_owned(), message.to_owned()));
        }
    }
    let mut keys = keys.clone();
    keys.insert("id".to_owned(), id.into());
    let read = read(&keys, pool)?;
    check(&read)?;
    Ok(read)
}

/// The account with these keys changed, and all others as they are.
///
/// # Errors
/// As for [`outside_account`]; or the address of a program would change.
pub fn overlaid(base: &Account, keys: &Map<String, Value>, pool: &Pool) -> Result<Account, Wrong> {
    /// Stands for the address where none is given.
    const NOWHERE: &str = "https://upstream.invalid";
    if keys.contains_key("upstream") && base.instance.is_some() {
        let message = "is where the account's own program listens";
        return Err(("upstream".to_owned(), message.to_owned()));
    }
    let mut written = keys.clone();
    let upstream = written.entry("upstream").or_insert(NOWHERE.into());
    let has_upstream = upstream.as_str() != Some(NOWHERE);
    let other = outside_account(&base.id, &written, pool)?;
    let mut account = base.clone();
    for key in keys.keys() {
        take(&mut account, &other, key);
    }
    let is_inferred = keys.get("dialects").map_or(has_upstream, |dialects| {
        dialects.as_array().is_some_and(Vec::is_empty)
    });
    if is_inferred {
        account.dialects = infer_dialects(&account.upstream);
    }
    Ok(account)
}

/// Takes one key of the other account.
fn take(account: &mut Account, other: &Account, key: &str) {
    match key {
        "upstream" => account.upstream = other.upstream.clone(),
        "dialects" => account.dialects = other.dialects.clone(),
        "credential" => account.credential = other.credential.clone(),
        "headers" => account.headers = other.headers.clone(),
        "weight" => account.weight = other.weight,
        "priority" => account.priority = other.priority,
        "max_concurrent" => account.max_concurrent = other.max_concurrent,
        "enabled" => account.enabled = other.enabled,
        "websocket" => account.websocket = other.websocket,
        "models" => account.models = other.models.clone(),
        "health_check" => account.health_check = other.health_check.clone(),
        "limit_group" => account.limit_group = other.limit_group.clone(),
        "rate_limits" => account.rate_limits = other.rate_limits.clone(),
        "tls" => account.tls = other.tls.clone(),
        // The reader knows no others.
        _ => {}
    }
}

fn read(keys: &Map<String, Value>, pool: &Pool) -> Result<Account, Wrong> {
    // What looks like a variable is text here: it must not show what is in our environment.
    let text = Value::Object(keys.clone()).to_string().replace("${", "$${");
    let broken = |flaw: tree::Flaw| (flaw.path, flaw.message);
    let (tree, flaws) = tree::parse(&text, &|_| None).map_err(broken)?;
    if let Some(flaw) = flaws.into_iter().next() {
        return Err(broken(flaw));
    }
    let mut doc = Document::new(PathBuf::from("/"), false);
    let inherited = pool.health_check.as_ref();
    let (read, _) = root(&mut doc, &tree, |s| account(s, inherited, false));
    let problems = doc.into_problems("", "");
    let error = problems
        .into_iter()
        .find(|problem| problem.severity == Severity::Error);
    match error {
        Some(problem) if problem.path.is_empty() => Err(("account".to_owned(), problem.message)),
        Some(problem) => Err((problem.path, problem.message)),
        None => Ok(read),
    }
}

/// Names it no file?
fn check(account: &Account) -> Result<(), Wrong> {
    let is_file = |source: &SecretSource| source.file().is_some();
    let may = |source: &Option<SecretSource>| source.as_ref().is_some_and(is_file);
    let secret_of_file = match &account.credential {
        Credential::None => false,
        Credential::ApiKey(source) | Credential::Bearer(source) => is_file(source),
        Credential::Header { value, .. } | Credential::Query { value, .. } => is_file(value),
        Credential::OAuth2(OAuth2 {
            client_secret,
            refresh_token,
            ..
        }) => may(client_secret) || may(refresh_token),
        Credential::AwsSsoOidc(aws) => is_file(&aws.client_secret) || is_file(&aws.refresh_token),
        Credential::GoogleServiceAccount { .. } | Credential::JsonFile { .. } => true,
    };
    let of_files = [
        ("credential", secret_of_file),
        (
            "headers",
            account.headers.iter().any(|(_, source)| is_file(source)),
        ),
        (
            "tls",
            account.tls.ca.is_some() || account.tls.client.is_some(),
        ),
        ("upstream", matches!(account.upstream.host, Host::Unix(_))),
    ];
    match of_files.into_iter().find(|(_, is_of_file)| *is_of_file) {
        Some((key, _)) => {
            let message =
                "names a file of the gateway's machine, which can be said in the file only";
            Err((key.to_owned(), message.to_owned()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{outside_account, overlaid};
    use crate::config::{Account, Credential, Models, Pool, SecretSource, parse};
    use crate::dialect::Dialect;
    use serde_json::{Map, Value, json};
    use std::path::Path;

    fn pool() -> Pool {
        let text = "pools: {default: {accounts: [{id: a, upstream: anthropic, weight: 3, credential: \
             {api_key: sk-of-the-file}}]}}";
        let loaded = parse(text, Path::new("poolgate.yaml"), &|_| {
            Some("secret".to_owned())
        });
        loaded.ok().unwrap().config.pools.remove(0)
    }

    fn keys(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn added(value: Value) -> Result<Account, String> {
        let account = outside_account("b", &keys(value), &pool());
        account.map_err(|(key, message)| format!("{key}: {message}"))
    }

    #[test]
    fn an_account_is_read_as_one_of_the_file() {
        let account = added(json!({
            "upstream": "https://api.example.com/v1", "credential": {"api_key": "sk-${HOME}"},
            "models": {"fast": "small"}, "weight": 7, "rate_limits": [{"requests": 5, "window": "1h"}],
        }));
        let account = account.ok().unwrap();
        assert_eq!((&*account.id, account.weight), ("b", 7));
        assert_eq!(account.rate_limits.len(), 1);
        assert!(matches!(account.models, Models::Map(_)));
        let Credential::ApiKey(SecretSource::Value(key)) = &account.credential else {
            panic!("an API key");
        };
        assert_eq!(key.expose(), "sk-${HOME}", "no variable of ours");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (value, key) in [
            (json!({}), "account"),
            (json!({"upstream": "openai", "wieght": 1}), "wieght"),
            (json!({"upstream": "openai", "weight": 5000}), "weight"),
            (json!({"upstream": "ftp://x"}), "upstream"),
            (
                json!({"upstream": "openai", "credential": {"api_key": {"x": 1}}}),
                "credential.api_key",
            ),
        ] {
            let problem = added(value).err().unwrap();
            assert!(problem.starts_with(&key.to_string()), "{problem}");
        }
    }

    #[test]
    fn nothing_names_a_file_or_starts_a_program() {
        let openai = |more: Value| {
            let mut account = json!({"upstream": "openai"});
            account.as_object_mut().unwrap().extend(keys(more));
            account
        };
        for value in [
            openai(json!({"instance": {"command": ["sh"]}})),
            openai(json!({"credential": {"api_key": {"file": "/etc/passwd"}}})),
            openai(json!({"credential": {"json_file": {"path": "/etc/passwd"}}})),
            openai(json!({"credential": {"google_service_account": {"file": "/x"}}})),
            openai(
                json!({"credential": {"oauth2": {"token_url": "https://x.test/", "client_id": "c", "refresh_token": {"file": "/x"}}}}),
            ),
            openai(json!({"headers": {"x-a": {"file": "/etc/passwd"}}})),
            openai(json!({"tls": {"ca": "/x"}})),
            openai(json!({"tls": {"client_cert": "/x", "client_key": "/y"}})),
            json!({"upstream": "unix:/run/x.sock"}),
        ] {
            let problem = added(value.clone()).err();
            let problem = problem.unwrap_or_else(|| panic!("{value}"));
            assert!(problem.contains("in the file only"), "{problem}");
        }
    }

    #[test]
    fn an_override_changes_what_it_names_and_nothing_else() {
        let pool = pool();
        let base = &pool.accounts[0];
        let of = |value: Value| overlaid(base, &keys(value), &pool).ok().unwrap();
        let account = of(json!({"weight": 9, "enabled": false}));
        assert_eq!((account.weight, account.enabled), (9, false));
        assert!(account.credential == base.credential && account.upstream == base.upstream);
        assert_eq!(account.dialects, [Dialect::Anthropic]);
        let account = of(json!({"upstream": "openai", "credential": {"api_key": "k"}}));
        assert_eq!(account.dialects, [Dialect::OpenAi]);
        assert_eq!(account.weight, 3);
    }
}
