//! Changes while running: a new configuration file, a rewritten key or secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::App;
use crate::config::{self, Config, EnvFile};

impl App {
    /// Reads the configuration file again and puts it in force; a file with a mistake changes
    /// nothing.
    pub(super) fn reload(&self) {
        let Some(path) = &self.config_path else {
            return;
        };
        match self.read(path) {
            Ok(config) => {
                self.apply(config);
                self.metrics.config_reloaded(true);
                tracing::info!(path = %path.display(), "the configuration was reloaded");
            }
            Err(problems) => {
                self.metrics.config_reloaded(false);
                tracing::error!(path = %path.display(), "the configuration stays as it is: {problems}");
            }
        }
    }

    /// The configuration as the file says now, or why it cannot be used.
    fn read(&self, path: &Path) -> Result<Config, String> {
        let file = self.env_file.as_deref().map(EnvFile::load).transpose();
        let file = file.map_err(|error| error.to_string())?;
        let env = |name: &str| {
            config::process_env(name).or_else(|| file.as_ref().and_then(|file| file.get(name)))
        };
        let loaded = config::load(path, &env).map_err(|problems| problems.to_string())?;
        let refused: Vec<String> = loaded.refused().map(ToString::to_string).collect();
        if refused.is_empty() {
            Ok(loaded.config)
        } else {
            Err(refused.join("\n"))
        }
    }

    fn apply(&self, config: Config) {
        let old = self.config.load_full();
        let restart = [
            (
                old.listen
                    .iter()
                    .map(|l| l.address)
                    .ne(config.listen.iter().map(|l| l.address)),
                "listen",
            ),
            (old.admin.address != config.admin.address, "admin.address"),
            (old.state.dir != config.state.dir, "state.dir"),
            (old.log.file != config.log.file, "log.file"),
            (
                old.server.threads != config.server.threads,
                "server.threads",
            ),
        ];
        for (_, key) in restart.iter().filter(|(changed, _)| *changed) {
            tracing::warn!(key, "this key takes effect at the next start");
        }
        self.discovery.look(&config);
        let config = Arc::new(config);
        self.apply_accounts(config.clone());
        self.keys.reload(&config, &self.issued);
        self.notices.reconfigure(&config.notify);
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
            }
        }
        files.into_iter().collect()
    }

    pub(super) fn file_changed(&self, path: &Path) {
        tracing::info!(path = %path.display(), "the file changed");
        for pool in self.pools.load().iter() {
            for account in pool.accounts() {
                if !account.credential.files().any(|file| file == path) {
                    continue;
                }
                match account.credential.reload() {
                    // Its renewal tells what the change led to.
                    Ok(_) if account.credential.state().is_some() => {}
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
        self.keys.reload(&self.config.load(), &self.issued);
    }
}
