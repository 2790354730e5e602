//! Which files of each older system are read, and how the configuration is to name them.

use std::fs;
use std::path::{Path, absolute};

use anyhow::{Context, bail, ensure};

use super::{Import, System};
use crate::config::older::{self, Mistakes, Taken, Tiers};
use crate::config::{EnvFile, Problem, Problems, read_keys_file};

/// An older file is a few kilobytes.
const LONGEST: u64 = 4 << 20;

/// What the files say, and the variables in them.
pub(super) fn take(import: &Import, paths: &[&Path]) -> anyhow::Result<(Taken, Option<EnvFile>)> {
    let [first, more @ ..] = paths else {
        bail!("nothing to import");
    };
    let most = match import.system {
        System::MultiAccountJson => 1,
        _ => 0,
    };
    if let Some(other) = more.get(most) {
        bail!("{}: one too many", other.display());
    }
    let shown = first.display().to_string();
    let taken = match import.system {
        System::MultiAccountJson => {
            let keys = more.first().map(|path| (*path).to_owned());
            let keys =
                keys.unwrap_or_else(|| first.with_file_name("auth_profiles").join("key.txt"));
            let has_keys = !read_keys_file(&keys)?.is_empty();
            older::router(&text(first)?, &named(import, &keys)?, has_keys)
        }
        System::AuthDir => {
            ensure!(first.is_dir(), "{shown}: is no folder");
            ensure!(
                fs::read_dir(first)?
                    .flatten()
                    .any(|entry| is_json(&entry.path())),
                "{shown}: holds no *.json"
            );
            older::camoufox(Some(&named(import, first)?), import.screen(), &|_| None)
        }
        System::AccountTierDir => {
            let found = Tiers {
                dir: named(import, first)?,
                names: folders(first).with_context(|| shown.clone())?,
            };
            older::medium(&found, import.redis.as_deref())
        }
        System::AmazonqEnv | System::ComposeEnv => {
            let own = EnvFile::load(first).map_err(anyhow::Error::msg)?;
            // Not those of this process: what is imported is what the file says.
            let env = |name: &str| own.own(name);
            let taken = match import.system {
                System::AmazonqEnv => older::amazonq(&env, import.upstream.as_deref()),
                _ => older::compose(&env),
            };
            return Ok((
                taken.map_err(|mistakes| problems(&shown, mistakes))?,
                Some(own),
            ));
        }
    };
    Ok((taken.map_err(|mistakes| problems(&shown, mistakes))?, None))
}

fn problems(file: &str, mistakes: Mistakes) -> Problems {
    let each = mistakes
        .into_iter()
        .map(|text| Problem::of_file(file, text));
    Problems(each.collect())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let shown = || path.display().to_string();
    let length = fs::metadata(path).with_context(shown)?.len();
    ensure!(
        length <= LONGEST,
        "{}: is too long for such a file",
        shown()
    );
    fs::read_to_string(path).with_context(shown)
}

/// A path as a configuration at `-o` names it: relative where it is below its folder.
fn named(import: &Import, path: &Path) -> anyhow::Result<String> {
    let output = import
        .output
        .clone()
        .unwrap_or_else(|| "poolgate.yaml".into());
    let (path, output) = (absolute(path)?, absolute(output)?);
    let below = output
        .parent()
        .and_then(|folder| path.strip_prefix(folder).ok());
    let named = below.unwrap_or(&path).to_str();
    Ok(named.context("a path that is not UTF-8")?.to_owned())
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "json")
}

/// The folders in a folder, by name.
fn folders(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}
