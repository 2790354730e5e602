//! What `poolgate doctor` finds on this machine: limits, folders, and files that hold secrets.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::Findings;
use crate::app;
use crate::clock;
use crate::config::{Config, Credential, SecretSource, TlsFiles, process_env, read_secret};
use crate::net::Certificate;

/// Two files for each request in flight; below this a busy gateway turns clients away.
const FILES: u64 = 4096;
/// Of a certificate that ends so soon somebody should know.
const ENDING: i64 = 14;
/// Where the system puts secrets for one program alone, whatever their mode.
const MOUNTED: [&str; 2] = ["/run", "/var/run"];

pub(super) fn look(config: &Config, found: &mut Findings) {
    open_files(&config.state.dir, found);
    state_folder(&config.state.dir, found);
    state_key(config, found);
    secrets(config, found);
    certificates(config, found);
}

/// Of the gateway, where one runs: that of a unit is another than that of a shell.
fn open_files(state: &Path, found: &mut Findings) {
    let of_gateway = app::process(state).and_then(limit_of);
    let whose = match of_gateway {
        Some(_) => "for the running gateway",
        None => "in this shell; no gateway was found to ask",
    };
    let own = || getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let limit = of_gateway.unwrap_or_else(own);
    found.add(
        "open files",
        match limit >= FILES {
            true => Ok(format!("{limit} {whose}")),
            false => Err(format!(
                "at most {limit} {whose}: each request in flight takes two; `ulimit -n 65536`, or LimitNOFILE in the unit"
            )),
        },
    );
}

/// The soft limit of a process (proc_pid_limits(5)).
fn limit_of(process: i32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn state_folder(dir: &Path, found: &mut Findings) {
    let shown = dir.display();
    let result = match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(format!("{shown} is made at the first start"))
        }
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(about) if !about.is_dir() => Err(format!("{shown} is no folder")),
        Ok(about) if about.permissions().mode() & 0o077 != 0 => Err(format!(
            "{shown} is open to others (mode {:o}): chmod 700 {shown}",
            about.permissions().mode() & 0o777
        )),
        Ok(_) => match tempfile::tempfile_in(dir) {
            Ok(_) => Ok(format!("{shown} can be written")),
            Err(error) => Err(format!("{shown} cannot be written by this user: {error}")),
        },
    };
    found.add("state.dir", result);
}

/// A start refuses one that others may read or write.
fn state_key(config: &Config, found: &mut Findings) {
    let Some(path) = config.state.key.file() else {
        return;
    };
    if let Some(mode) = open_to(path, 0o077) {
        let path = path.display();
        let told = format!("{path} is open to others (mode {mode:o}): chmod 600 {path}");
        found.add("state.key", Err(told));
    }
}

/// The file's mode, where it has one of these bits.
fn open_to(path: &Path, bits: u32) -> Option<u32> {
    let credentials = process_env("CREDENTIALS_DIRECTORY");
    let own = MOUNTED.into_iter().chain(credentials.as_deref());
    if own.into_iter().any(|folder| path.starts_with(folder)) {
        return None;
    }
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & bits != 0).then_some(mode)
}

/// Files that secrets are in.
fn secrets(config: &Config, found: &mut Findings) {
    let accounts = config.pools.iter().flat_map(|pool| &pool.accounts);
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    for account in accounts {
        for source in sources(&account.credential) {
            if let Err(error) = read_secret(&source) {
                found.add(&account.id, Err(format!("its credential: {error}")));
            }
            files.extend(source.file().map(|path| (&*account.id, path.to_owned())));
        }
    }
    let admin = &config.admin;
    let tokens = admin.tokens.iter().map(|other| &other.token);
    let tokens = admin.token.iter().chain(tokens);
    let tokens = tokens.filter_map(|source| source.file().map(Path::to_owned));
    files.extend(tokens.map(|path| ("admin.token", path)));
    let keys = config.clients.keys.iter().filter_map(|key| key.key.file());
    let keys = keys.chain(config.clients.keys_file.as_deref());
    files.extend(keys.map(|path| ("clients.keys", path.to_owned())));
    for (whose, path) in files {
        if let Some(mode) = open_to(&path, 0o007) {
            let path = path.display();
            let told = format!("everybody may read {path} (mode {mode:o}): chmod 600 {path}");
            found.add(whose, Err(told));
        }
    }
}

fn sources(credential: &Credential) -> Vec<SecretSource> {
    match credential {
        Credential::None => Vec::new(),
        Credential::ApiKey(source)
        | Credential::Bearer(source)
        | Credential::Header { value: source, .. }
        | Credential::Query { value: source, .. } => vec![source.clone()],
        Credential::OAuth2(login) => {
            let secrets = [&login.client_secret, &login.refresh_token];
            secrets.into_iter().flatten().cloned().collect()
        }
        Credential::AwsSsoOidc(login) => {
            vec![login.client_secret.clone(), login.refresh_token.clone()]
        }
        Credential::GoogleServiceAccount { file: path, .. } | Credential::JsonFile { path, .. } => {
            vec![SecretSource::File(path.clone())]
        }
    }
}

/// Those that this gateway proves itself with.
fn certificates(config: &Config, found: &mut Findings) {
    let of_listen = config.listen.iter().filter_map(|listen| {
        let tls = listen.tls.as_ref()?;
        Some((format!("listen {}", listen.address), tls))
    });
    let of_admin = config.admin.tls.as_ref();
    let of_admin = of_admin.map(|tls| ("admin.tls".to_owned(), tls));
    for (whose, tls) in of_listen.chain(of_admin) {
        found.add(whose, certificate(tls));
    }
}

fn certificate(files: &TlsFiles) -> Result<String, String> {
    const DAY: i64 = 86_400;
    let opened = Certificate::open(&files.cert, &files.key).map_err(|error| error.to_string())?;
    let left = opened.expires() - clock::unix_seconds(clock::wall()) as i64;
    let cert = files.cert.display();
    match left / DAY {
        _ if left <= 0 => Err(format!("{cert} has expired: put a new one there")),
        days if days < ENDING => Err(format!("{cert} ends in {days} days: put a new one there")),
        days => Ok(format!("{cert} is good for {days} days")),
    }
}
