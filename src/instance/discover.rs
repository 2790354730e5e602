//! Accounts made from files: each file of a pool's folder that fits its pattern is one account, for
//! as long as the file is there.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use wildmatch::WildMatch;

use super::template::account_of;
use crate::config::{self, Config, Discover};

/// More files of one folder are no accounts.
const MOST_FILES: usize = 10_000;

/// What is remembered of numbers that were given, in `state.dir`.
const NUMBERS: &str = "discovered.json";

/// The files that were found, and the ids that they got.
pub struct Discovery {
    kept_in: PathBuf,
    seen: Mutex<Seen>,
}

/// Pool -> file name -> its number.
type Numbers = BTreeMap<String, BTreeMap<String, usize>>;

#[derive(Default)]
struct Seen {
    /// Pool -> file name -> the file.
    files: BTreeMap<String, BTreeMap<String, Found>>,
    /// Also of files that are gone: one that comes back is the account that it was.
    numbers: Numbers,
    /// What was said already.
    warned: HashSet<String>,
}

#[derive(Clone, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    id: String,
    /// It was not there at the last look. A file that is written anew may be away for a moment.
    is_missed: bool,
}

impl Discovery {
    /// Remembers numbers in this folder.
    pub fn in_state(dir: &Path) -> Discovery {
        let kept_in = dir.join(NUMBERS);
        let numbers = read_numbers(&kept_in).unwrap_or_else(|error| {
            let path = kept_in.display();
            tracing::warn!("{path}: accounts may be named otherwise than before: {error}");
            Numbers::default()
        });
        let seen = Seen {
            numbers,
            ..Seen::default()
        };
        Discovery {
            kept_in,
            seen: Mutex::new(seen),
        }
    }

    /// Looks at the folders of all pools; true: the accounts are others than before. Reads folders,
    /// and so may wait for a disk.
    pub fn look(&self, config: &Config) -> bool {
        let mut seen = self.seen.lock();
        let (files, numbers) = (seen.files.clone(), seen.numbers.clone());
        let mut taken: HashSet<String> = config
            .pools
            .iter()
            .flat_map(|pool| &pool.accounts)
            .map(|account| account.id.clone())
            .collect();
        let discovers = |pool: &config::Pool| pool.discover.is_some();
        seen.files.retain(|name, _| {
            let mut pools = config.pools.iter();
            pools.any(|pool| pool.name == *name && discovers(pool))
        });
        for pool in &config.pools {
            if let Some(discover) = &pool.discover {
                seen.look(&pool.name, discover, &mut taken);
            }
        }
        if seen.numbers != numbers
            && let Err(error) = write_numbers(&self.kept_in, &seen.numbers)
        {
            let path = self.kept_in.display();
            tracing::warn!("{path}: the next start may name accounts otherwise: {error}");
        }
        ids(&seen.files).ne(ids(&files))
    }

    /// The pools with the accounts of files behind those of the configuration, in the order of the
    /// files' names.
    pub fn pools(&self, config: &Config) -> Vec<config::Pool> {
        let seen = self.seen.lock();
        let with_found = |pool: &config::Pool| {
            let mut pool = pool.clone();
            let files = seen.files.get(&pool.name);
            if let (Some(files), Some(discover)) = (files, pool.discover.clone()) {
                let accounts = files.values();
                let accounts = accounts.map(|f| account_of(&discover.account, &f.id, &f.path));
                pool.accounts.extend(accounts);
            }
            pool
        };
        config.pools.iter().map(with_found).collect()
    }
}

fn ids(
    files: &BTreeMap<String, BTreeMap<String, Found>>,
) -> impl Iterator<Item = (&str, &str, &Path)> {
    files.iter().flat_map(|(pool, files)| {
        let files = files.values();
        files.map(move |file| (pool.as_str(), file.id.as_str(), file.path.as_path()))
    })
}

impl Seen {
    fn look(&mut self, pool: &str, discover: &Discover, taken: &mut HashSet<String>) {
        let mut before = self.files.remove(pool).unwrap_or_default();
        let count = before.len();
        before.retain(|_, file| file.path.parent() == Some(&discover.dir));
        let paths = match matching(discover) {
            Ok(paths) => paths,
            Err(error) => {
                // A folder that cannot be read for a while takes no account away.
                let dir = discover.dir.display();
                self.warn(format!("accounts of pool {pool}: {dir}: {error}"));
                taken.extend(before.values().map(|file| file.id.clone()));
                self.files.insert(pool.to_owned(), before);
                return;
            }
        };
        let mut files = BTreeMap::new();
        for (name, path) in paths {
            match self.accept(pool, discover, &name, &path, taken) {
                Ok(found) => {
                    taken.insert(found.id.clone());
                    files.insert(name, found);
                }
                Err(why) => self.warn(format!("{}: is no account: {why}", path.display())),
            }
        }
        for (name, gone) in before {
            let is_first_miss = !gone.is_missed && !files.contains_key(&name);
            if is_first_miss && taken.insert(gone.id.clone()) {
                let is_missed = true;
                files.insert(name, Found { is_missed, ..gone });
            }
        }
        let (dir, glob) = (discover.dir.display(), &discover.glob);
        if files.len() != count {
            tracing::info!("pool {pool}: {} files of {dir} are accounts", files.len());
        }
        if files.is_empty() {
            self.warn(format!("pool {pool}: no file of {dir} is like {glob}"));
        }
        self.files.insert(pool.to_owned(), files);
    }

    /// The account of a file that is there, or why it is none.
    fn accept(
        &mut self,
        pool: &str,
        discover: &Discover,
        name: &str,
        path: &Path,
        taken: &HashSet<String>,
    ) -> Result<Found, String> {
        let kind = fs::metadata(path).map_err(|error| error.to_string())?;
        if !kind.is_file() {
            return Err("it is not a file".to_owned());
        }
        // Opened and not read: what it holds is the program's affair.
        File::open(path).map_err(|error| error.to_string())?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut id = discover.id.replace("{stem}", &stem);
        if id.contains("{n}") {
            id = id.replace("{n}", &self.number(pool, name).to_string());
        }
        if !config::is_account_id(&id) {
            return Err(format!("{id:?} cannot be an id ([A-Za-z0-9._@+-]{{1,64}})"));
        }
        if taken.contains(&id) {
            return Err(format!("the id {id} is another account's"));
        }
        Ok(Found {
            path: path.to_owned(),
            id,
            is_missed: false,
        })
    }

    fn number(&mut self, pool: &str, name: &str) -> usize {
        let numbers = self.numbers.entry(pool.to_owned()).or_default();
        let next = numbers.values().max().map_or(1, |most| most + 1);
        *numbers.entry(name.to_owned()).or_insert(next)
    }

    /// Says it once.
    fn warn(&mut self, text: String) {
        if self.warned.len() < MOST_FILES && self.warned.insert(text.clone()) {
            tracing::warn!("{text}");
        }
    }
}

/// Before the first number was given there is no file.
fn read_numbers(path: &Path) -> io::Result<Numbers> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Numbers::default()),
        Err(error) => Err(error),
    }
}

/// In one step: whoever is killed meanwhile, or finds the disk full, leaves the numbers as they were.
fn write_numbers(path: &Path, numbers: &Numbers) -> io::Result<()> {
    let next = path.with_extension("json.next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec(numbers)?)?;
    file.sync_all()?;
    fs::rename(next, path)
}

/// Names and paths of the files that fit, in the order of their names.
fn matching(discover: &Discover) -> io::Result<BTreeMap<String, PathBuf>> {
    let glob = WildMatch::new(&discover.glob);
    let mut paths = BTreeMap::new();
    for entry in fs::read_dir(&discover.dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_hidden = name.starts_with('.') && !discover.glob.starts_with('.');
        if !is_hidden && glob.matches(&name) && paths.len() < MOST_FILES {
            let path = discover.dir.join(&name);
            paths.insert(name, path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::Discovery;
    use crate::config::{Config, parse};
    use std::fs;
    use std::io::Read;
    use std::path::Path;

    fn config(folder: &Path, id: &str) -> Config {
        let text = format!(
            "pools:\n  p:\n    discover:\n      dir: active\n      id: \"{id}\"\n      \
             account: {{instance: {{command: [run, \"{{auth_file}}\"]}}}}\n    \
             accounts: [{{id: b, upstream: openai}}]\n"
        );
        parse(&text, &folder.join("poolgate.yaml"), &|_| None)
            .ok()
            .unwrap()
            .config
    }

    fn ids(discovery: &Discovery, config: &Config) -> Vec<String> {
        let accounts = discovery.pools(config).remove(0).accounts;
        accounts.into_iter().map(|account| account.id).collect()
    }

    #[test]
    fn files_are_accounts_in_the_order_of_names_and_keep_their_ids() {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("active");
        fs::create_dir(&active).unwrap();
        let write = |name: &str| fs::write(active.join(name), "{}").unwrap();
        ["b.json", "c.json", "note.txt", ".hidden.json"]
            .iter()
            .for_each(|name| write(name));
        let config = config(folder.path(), "instance_{n}");
        let discovery = Discovery::in_state(folder.path());
        assert!(discovery.look(&config));
        assert!(!discovery.look(&config));
        assert_eq!(ids(&discovery, &config), ["b", "instance_1", "instance_2"]);
        write("a.json");
        assert!(discovery.look(&config));
        let all = ["b", "instance_3", "instance_1", "instance_2"];
        assert_eq!(ids(&discovery, &config), all);
        // One look without a file is none: it may be on its way back.
        fs::remove_file(active.join("b.json")).unwrap();
        assert!(!discovery.look(&config));
        assert!(discovery.look(&config));
        assert_eq!(ids(&discovery, &config), ["b", "instance_3", "instance_2"]);
        write("b.json");
        // Another process knows the numbers too.
        let discovery = Discovery::in_state(folder.path());
        discovery.look(&config);
        assert_eq!(ids(&discovery, &config), all);
    }

    #[test]
    fn numbers_are_exchanged_in_one_step_and_damaged_ones_are_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("active");
        fs::create_dir(&active).unwrap();
        fs::write(active.join("b.json"), "{}").unwrap();
        let config = config(folder.path(), "instance_{n}");
        Discovery::in_state(folder.path()).look(&config);
        let kept_in = folder.path().join("discovered.json");
        let whole = fs::read_to_string(&kept_in).unwrap();
        // Whoever opened it before reads the whole of what was there.
        let mut before = fs::File::open(&kept_in).unwrap();
        fs::write(active.join("a.json"), "{}").unwrap();
        let discovery = Discovery::in_state(folder.path());
        discovery.look(&config);
        assert_eq!(ids(&discovery, &config), ["b", "instance_2", "instance_1"]);
        let mut read = String::new();
        before.read_to_string(&mut read).unwrap();
        assert_eq!(read, whole);
        fs::write(&kept_in, &whole[..whole.len() / 2]).unwrap();
        let discovery = Discovery::in_state(folder.path());
        discovery.look(&config);
        assert_eq!(ids(&discovery, &config), ["b", "instance_1", "instance_2"]);
    }

    #[test]
    fn what_cannot_be_an_account_is_left_out_and_the_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("active");
        fs::create_dir_all(active.join("folder.json")).unwrap();
        for name in ["a b.json", "b.json", "fine@x.json"] {
            fs::write(active.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", active.join("link.json")).unwrap();
        let config = config(folder.path(), "{stem}");
        let discovery = Discovery::in_state(folder.path());
        discovery.look(&config);
        assert_eq!(ids(&discovery, &config), ["b", "fine@x"]);
        let account = discovery.pools(&config).remove(0).accounts.remove(1);
        let instance = account.instance.unwrap();
        assert_eq!(instance.auth_file, Some(active.join("fine@x.json")));
        // A folder that is away for a while takes nothing with it.
        fs::rename(&active, folder.path().join("elsewhere")).unwrap();
        assert!(!discovery.look(&config));
        assert_eq!(ids(&discovery, &config), ["b", "fine@x"]);
    }
}
