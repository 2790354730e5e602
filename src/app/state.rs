//! What a start leaves behind: in `state.dir` the folder, the admin token, a first client key; and of
//! a crash no image of the memory.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::admin::{Auth, Hosts};
use crate::config::{self, Address, Config, Role};
use crate::key;
use crate::secret::Secret;

/// The file of the token that is made where none is configured.
const ADMIN_TOKEN: &str = "admin.token";

/// This memory holds every account's token, so a crash writes no core file. Only the limit that the
/// process may raise again is lowered: who must look into a crash can do so with `prlimit`.
pub(super) fn leave_no_core() {
    let lowered = getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_CORE, 0, most));
    if let Err(error) = lowered {
        tracing::warn!("a crash may write a core file, with secrets in it: {error}");
    }
}

/// This machine's name, or nothing.
pub(super) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// Makes the state folder, for its owner only, unless it is there.
///
/// # Errors
/// It cannot be made.
pub fn prepare_dir(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.with_context(|| format!("the state folder {} cannot be made", dir.display()))
}

pub(super) fn admin_auth(config: &Config) -> Result<Auth> {
    let dir = &config.state.dir;
    make_admin_token(config, dir)?;
    Ok(Auth::new(
        admin_tokens(config, dir)?,
        Hosts::of(&config.admin),
    ))
}

/// The files that hold admin tokens; `dir` is the state folder of this process.
pub(super) fn admin_token_files(config: &Config, dir: &Path) -> Vec<PathBuf> {
    let others = config.admin.tokens.iter().map(|other| &other.token);
    let sources = config.admin.token.iter().chain(others);
    let stated = sources.filter_map(|source| source.file().map(Path::to_owned));
    let made = (!config.admin.names_admin()).then(|| dir.join(ADMIN_TOKEN));
    stated.chain(made).collect()
}

/// The configured tokens. Where none of them is an administrator's, the one that an earlier start
/// made counts on: a token for Prometheus locks nobody out.
pub(super) fn admin_tokens(config: &Config, dir: &Path) -> Result<Vec<(String, Secret, Role)>> {
    let mut tokens = stated_tokens(config)?;
    if !config.admin.names_admin()
        && let Some(made) = made_token(&dir.join(ADMIN_TOKEN))
    {
        tokens.push(("admin".to_owned(), made, Role::Admin));
    }
    ensure!(
        !tokens.is_empty(),
        "{} holds no token; a reload makes one",
        dir.join(ADMIN_TOKEN).display()
    );
    Ok(tokens)
}

/// The tokens that the configuration names.
pub(super) fn stated_tokens(config: &Config) -> Result<Vec<(String, Secret, Role)>> {
    let read = |name: &str, source| {
        config::read_secret(source).map_err(|e| anyhow::anyhow!("admin token {name}: {e}"))
    };
    let mut tokens = Vec::new();
    for other in &config.admin.tokens {
        tokens.push((
            other.name.clone(),
            read(&other.name, &other.token)?,
            other.role,
        ));
    }
    if let Some(source) = &config.admin.token {
        tokens.push(("admin".to_owned(), read("admin", source)?, Role::Admin));
    }
    Ok(tokens)
}

fn made_token(path: &Path) -> Option<Secret> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

/// Where no token is configured, one is made, unless an earlier start has.
pub(super) fn make_admin_token(config: &Config, dir: &Path) -> Result<()> {
    let path = dir.join(ADMIN_TOKEN);
    if states_tokens(config) || made_token(&path).is_some() {
        return Ok(());
    }
    let token = key::new_key("pga-")?;
    let file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let mut file =
        file.with_context(|| format!("the admin token cannot be kept in {}", path.display()))?;
    writeln!(file, "{}", token.expose())?;
    Ok(file.sync_all()?)
}

fn states_tokens(config: &Config) -> bool {
    config.admin.token.is_some() || !config.admin.tokens.is_empty()
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// Will this start make the admin token?
pub(super) fn makes_token(config: &Config) -> bool {
    !states_tokens(config) && !config.state.dir.join(ADMIN_TOKEN).exists()
}

/// Says where to go, to whoever started the program. `is_first`: it has made the admin token just now.
pub(super) fn announce(config: &Config, auth: &Auth, is_first: bool) {
    let mut out = std::io::stdout().lock();
    for listen in &config.listen {
        let scheme = scheme(listen.tls.is_some());
        drop(writeln!(out, "clients:   {scheme}://{}", listen.address));
    }
    if let Address::Tcp(address) = &config.admin.address {
        let scheme = scheme(config.admin.tls.is_some());
        drop(writeln!(out, "operators: {scheme}://{address}"));
        // To whoever sees this terminal, the token's file is no secret either. What is no terminal is a
        // journal that more people read: no link there but the first, without which nobody gets in.
        if !states_tokens(config)
            && (is_first || out.is_terminal())
            && let Ok(code) = auth.invite()
        {
            let code = code.expose();
            drop(writeln!(
                out,
                "dashboard: {scheme}://{address}/#login={code} (once, within 15 minutes)"
            ));
        }
    }
    if let Address::Unix(path) = &config.admin.address {
        drop(writeln!(out, "operators: unix:{}", path.display()));
    }
    if !states_tokens(config) {
        drop(writeln!(
            out,
            "token in:  {}",
            config.state.dir.join(ADMIN_TOKEN).display()
        ));
    }
}
