//! Changes while running: a new configuration file, a rewritten key or secret.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{App, state, systemd};
use crate::admin::Reloaded;
use crate::config::{self, Config, EnvFile};
use crate::pool::Account;

/// Keys, and groups of them, that are looked at once, at the start.
const FIXED: [&str; 10] = [
    "admin.address",
    "admin.hosts",
    "clients.max_connections",
    "clients.buffer_budget",
    "clients.keepalive",
    "clients.write_timeout",
    "state",
    "egress",
    "log",
    "server.threads",
];

impl App {
    /// Reads the configuration file again and puts it in force; a file with a mistake changes
    /// nothing. It takes its time with thousands of accounts, and so belongs on a thread of its own.
    ///
    /// # Errors
    /// Every mistake of the file.
    pub(super) fn reload(&self) -> Result<Reloaded, Vec<String>> {
        // Two at a time would mix two files.
        let _one = self.reloading.lock();
        let _told = systemd::Reloading::begin();
        let Some(path) = &self.config_path else {
            return Err(vec!["this gateway was started without a file".to_owned()]);
        };
        let path_text = path.display();
        let read = self.read(path).and_then(|config| {
            let made = state::make_admin_token(&config, &self.first.state.dir);
            made.map_err(|error| vec![format!("{error:#}")])?;
            Ok(config)
        });
        match read {
            Ok(config) => {
                let reloaded = self.apply(config);
                self.metrics.config_reloaded(true);
                tracing::info!(path = %path_text, "the configuration was reloaded");
                for key in &reloaded.needs_upgrade {
                    tracing::warn!(key, "this key takes effect with the next upgrade");
                }
                Ok(reloaded)
            }
            Err(problems) => {
                self.metrics.config_reloaded(false);
                let said = problems.join("\n");
                tracing::error!(path = %path_text, "the configuration stays as it is: {said}");
                Err(problems)
            }
        }
    }

    /// The configuration as the file says now, or why it cannot be used.
    fn read(&self, path: &Path) -> Result<Config, Vec<String>> {
        let file = self.env_file.as_deref().map(EnvFile::load).transpose();
        let file = file.map_err(|error| vec![error.to_string()])?;
        let env = |name: &str| {
            config::process_env(name).or_else(|| file.as_ref().and_then(|file| file.get(name)))
        };
        let loaded = config::load(path, &env).map_err(|problems| {
            let each = problems.0.iter().map(ToString::to_string);
            each.collect::<Vec<_>>()
        })?;
        let mut problems = self.certificates.problems(&loaded.config);
        if let Err(error) = state::stated_tokens(&loaded.config) {
            problems.push(format!("{error:#}"));
        }
        match problems.is_empty() {
            true => Ok(loaded.config),
            false => Err(problems),
        }
    }

    /// What a reload would do.
    ///
    /// # Errors
    /// Every mistake of the file.
    pub(super) fn rehearse(&self) -> Result<Reloaded, Vec<String>> {
        let Some(path) = &self.config_path else {
            return Err(vec!["this gateway was started without a file".to_owned()]);
        };
        let config = self.read(path)?;
        Ok(self.difference(&config))
    }

    fn difference(&self, config: &Config) -> Reloaded {
        Reloaded {
            needs_upgrade: fixed(&self.first, config),
            changes: config::differences(&self.config.load().effective, &config.effective),
        }
    }

    fn apply(&self, config: Config) -> Reloaded {
        let reloaded = self.difference(&config);
        let config = Arc::new(config);
        self.apply_accounts(config.clone(), || {
            self.certificates.reconfigure(&config);
            self.notices.reconfigure(&config.notify);
            self.replace_admin_tokens(&config);
            if let Some(sharing) = &self.sharing {
                sharing.reconfigure(&config);
            }
            self.keys.reload(&config);
        });
        reloaded
    }

    fn replace_admin_tokens(&self, config: &Config) {
        // Not that of a state folder that counts only after the next start.
        match state::admin_tokens(config, &self.first.state.dir) {
            Ok(tokens) => self.auth.replace(tokens),
            Err(error) => tracing::error!("the old admin tokens stay in use: {error:#}"),
        }
    }

    /// The files whose change takes effect at once.
    pub(super) fn watched_files(&self) -> Vec<PathBuf> {
        let config = self.config.load();
        let mut files: BTreeSet<PathBuf> = config.clients.keys_file.iter().cloned().collect();
        for key in &config.clients.keys {
            if let config::SecretSource::File(path) = &key.key {
                files.insert(path.clone());
            }
        }
        for pool in self.pools.load().iter() {
            for account in pool.accounts() {
                files.extend(account.credential.files().map(Path::to_owned));
                let tls = account.tls.iter().flat_map(|tls| tls.files());
                files.extend(tls.map(Path::to_owned));
            }
        }
        files.extend(self.certificates.files());
        files.extend(state::admin_token_files(&config, &self.first.state.dir));
        files.extend(hook_files(&config).map(Path::to_owned));
        files.into_iter().collect()
    }

    pub(super) fn file_changed(&self, path: &Path) {
        tracing::info!(path = %path.display(), "the file changed");
        self.certificates.file_changed(path);
        for pool in self.pools.load().iter() {
            for account in pool.accounts() {
                reread_tls(&account, path);
                if !account.credential.files().any(|file| file == path) {
                    continue;
                }
                match account.credential.reload() {
                    Ok(_) => pool.secret_changed(&account.config.id),
                    Err(error) => {
                        tracing::error!(
                            account = account.config.id,
                            "the old secret stays in use: {error}"
                        );
                    }
                }
            }
        }
        // Else what the file of before says could replace what a reload meanwhile has put in force.
        let _one_at_a_time = self.changes_accounts.lock();
        let config = self.config.load();
        let tokens = state::admin_token_files(&config, &self.first.state.dir);
        if tokens.iter().any(|file| file == path) {
            self.replace_admin_tokens(&config);
        }
        if hook_files(&config).any(|file| file == path) {
            self.notices.reconfigure(&config.notify);
        }
        self.keys.reload(&config);
    }
}

/// The files that hold what webhooks' notices are signed with.
fn hook_files(config: &Config) -> impl Iterator<Item = &Path> {
    let secrets = config.notify.iter().filter_map(|hook| hook.secret.as_ref());
    secrets.filter_map(config::SecretSource::file)
}

/// What of a new configuration is in force only after an upgrade; `old` is that of the start.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let listens = |config: &Config| -> Vec<(SocketAddr, bool)> {
        let listens = config.listen.iter();
        listens
            .map(|one| (one.address, one.tls.is_some()))
            .collect()
    };
    let mut keys = Vec::new();
    if listens(old) != listens(new) {
        keys.push("listen");
    }
    if old.admin.tls.is_some() != new.admin.tls.is_some() {
        keys.push("admin.tls");
    }
    let differs = |key: &&str| old.effective.at(key) != new.effective.at(key);
    keys.extend(FIXED.into_iter().filter(differs));
    keys.into_iter().map(str::to_owned).collect()
}

fn reread_tls(account: &Account, path: &Path) {
    let Some(tls) = &account.tls else {
        return;
    };
    if tls.files().any(|file| file == path)
        && let Err(error) = tls.reload()
    {
        tracing::error!(
            account = account.config.id,
            "the old certificates stay in use: {error}"
        );
    }
}
