//! What differs between two configurations as they are shown.

use std::collections::{HashMap, HashSet};

use super::shown::Shown;

/// One value that differs. Secrets are masked: of two long ones the last four characters show.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// As `pools.default.accounts[a].weight`; items of a list that have an `id` or a `name` go by it.
    pub path: String,
    /// None: it is new.
    pub before: Option<Shown>,
    /// None: it is gone.
    pub after: Option<Shown>,
}

/// A longer list helps nobody.
const MOST: usize = 1_000;

/// What is not the same in both, in the order of the file.
pub fn differences(before: &Shown, after: &Shown) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found.truncate(MOST);
    found
}

fn compare(path: &str, before: Option<&Shown>, after: Option<&Shown>, found: &mut Vec<Difference>) {
    if before == after || found.len() > MOST {
        return;
    }
    let parts = match (before, after) {
        (Some(Shown::Map(before)), Some(Shown::Map(after))) => {
            Some((fields(before), fields(after)))
        }
        (Some(Shown::List(before)), Some(Shown::List(after))) => named(before).zip(named(after)),
        _ => None,
    };
    let Some((before, after)) = parts else {
        return found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        });
    };
    let known: HashMap<&str, &Shown> = before.iter().map(|(key, value)| (&**key, *value)).collect();
    let now: HashMap<&str, &Shown> = after.iter().map(|(key, value)| (&**key, *value)).collect();
    let gone = before.iter().filter(|(key, _)| !now.contains_key(&**key));
    for (key, _) in after.iter().chain(gone) {
        let path = match path.is_empty() || key.starts_with('[') {
            true => format!("{path}{key}"),
            false => format!("{path}.{key}"),
        };
        let (before, after) = (known.get(&**key), now.get(&**key));
        compare(&path, before.copied(), after.copied(), found);
    }
}

fn fields(map: &[(String, Shown)]) -> Vec<(String, &Shown)> {
    map.iter()
        .map(|(key, value)| (key.clone(), value))
        .collect()
}

/// The items of a list under the names that they have, if each has one of its own.
fn named(items: &[Shown]) -> Option<Vec<(String, &Shown)>> {
    let name = |item: &Shown| {
        let name = item.at("id").or_else(|| item.at("name"));
        match name.or_else(|| item.at("address")) {
            Some(Shown::Text(name)) => Some(format!("[{name}]")),
            _ => None,
        }
    };
    let named = items.iter().map(|item| Some((name(item)?, item)));
    let named: Vec<(String, &Shown)> = named.collect::<Option<_>>()?;
    let names: HashSet<&String> = named.iter().map(|(name, _)| name).collect();
    (names.len() == named.len()).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::{Difference, differences};
    use crate::config::{Shown, parse};
    use std::path::Path;

    fn shown(text: &str) -> Shown {
        let loaded = parse(text, Path::new("poolgate.yaml"), &|_| None);
        loaded.ok().unwrap().config.effective
    }

    #[test]
    fn a_difference_is_named_by_its_path_and_accounts_by_their_ids() {
        let before = shown(
            "pools: {default: {accounts: [{id: a, upstream: openai}, {id: b, upstream: openai, \
             credential: {api_key: sk-0123456789abcdef}}]}}",
        );
        let after = shown(
            "log: {level: debug}\npools: {default: {accounts: [{id: b, upstream: openai, weight: 3, \
             credential: {api_key: sk-0123456789abXXXX}}, {id: c, upstream: openai}]}}",
        );
        let found = differences(&before, &after);
        let paths: Vec<&str> = found.iter().map(|it| &*it.path).collect();
        assert_eq!(
            paths,
            [
                "pools.default.accounts[b].credential.api_key",
                "pools.default.accounts[b].weight",
                "pools.default.accounts[c]",
                "pools.default.accounts[a]",
                "log.level",
            ]
        );
        let weight = Difference {
            path: "pools.default.accounts[b].weight".to_owned(),
            before: Some(Shown::Int(1)),
            after: Some(Shown::Int(3)),
        };
        assert!(found.contains(&weight));
        assert!(found.iter().any(|it| it.before.is_none()), "c is new");
        assert!(found.iter().any(|it| it.after.is_none()), "a is gone");
        assert!(!format!("{found:?}").contains("0123456789"));
        assert_eq!(differences(&after, &after), []);
    }
}
