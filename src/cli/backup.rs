//! `poolgate backup` and `poolgate restore`: the records as one file, whether the gateway runs or not.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::block_on;
use super::out;
use super::source::Source;
use crate::app::{keys_may_be_issued, prepare_dir};
use crate::config::{SecretSource, State, read_secret};
use crate::secret::Secret;
use crate::store::{Counts, Store};

/// Write the records to a file: keys, slots, usage
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate backup /var/backups/poolgate.jsonl")]
pub(super) struct Backup {
    /// The file; one that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put the key in that encrypts tokens: whoever has the file can read them then
    #[arg(long)]
    with_state_key: bool,
}

/// Put the records of a backup in the place of all that are there
#[derive(Args)]
#[command(after_help = "Example:\n  poolgate restore /var/backups/poolgate.jsonl")]
pub(super) struct Restore {
    /// What `poolgate backup` wrote, here or over another database
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Backup {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let state = source.load_with_records()?.config.state;
        let key = match (self.with_state_key, &state.key) {
            (false, _) => None,
            (true, SecretSource::Value(_)) => {
                bail!("state.key stands in the configuration: back that up")
            }
            (true, source) => Some(read_secret(source).context("state.key")?),
        };
        let counts = block_on(self.write(&state, key.as_ref()));
        let counts = counts.with_context(|| self.file.display().to_string())?;
        out::print(&format!("{}: {}\n", self.file.display(), said(&counts)))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn write(&self, state: &State, key: Option<&Secret>) -> anyhow::Result<Counts> {
        must_exist(state)?;
        let folder = self.file.parent().filter(|path| *path != Path::new(""));
        // For its owner only, as the records are.
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let mut lines = BufWriter::new(file.as_file_mut());
        let counts = Store::of(state)?.back_up(key, &mut lines).await?;
        lines.flush()?;
        drop(lines);
        file.as_file().sync_all()?;
        file.persist(&self.file)?;
        Ok(counts)
    }
}

/// A backup of records that are not there is none: the folder may be the wrong one.
fn must_exist(state: &State) -> anyhow::Result<()> {
    let file = state.dir.join("poolgate.db");
    if state.postgres.is_none() && !file.exists() {
        bail!(
            "there are no records yet: {} does not exist",
            file.display()
        );
    }
    Ok(())
}

impl Restore {
    pub(super) fn run(&self, source: &Source) -> anyhow::Result<ExitCode> {
        let state = source.load_with_records()?.config.state;
        let restored = block_on(self.read(&state));
        let (counts, key) = restored.with_context(|| self.file.display().to_string())?;
        out::print(&format!("restored: {}\n", said(&counts)))?;
        if let Some(key) = key {
            place_key(&state, &key)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn read(&self, state: &State) -> anyhow::Result<(Counts, Option<Secret>)> {
        let mut lines = BufReader::new(File::open(&self.file)?);
        prepare_dir(&state.dir)?;
        keys_may_be_issued(&state.dir)?;
        Ok(Store::of(state)?.restore_from(&mut lines).await?)
    }
}

/// `12 keys, 3 slots …`; what there is none of is left out.
fn said(counts: &Counts) -> String {
    let named = |(table, count): &(String, u64)| {
        let name = match table.as_str() {
            "assignments" => "slots",
            "usage" => "hours of usage",
            "audit" => "entries of the audit",
            "slot_accounts" => return None,
            other => other,
        };
        (*count > 0).then(|| format!("{count} {name}"))
    };
    let said: Vec<String> = counts.iter().filter_map(named).collect();
    match said.is_empty() {
        true => "nothing was recorded yet".to_owned(),
        false => said.join(", "),
    }
}

/// The key of a backup goes to where it is looked for, unless there is one already: tokens may be
/// encrypted with that.
fn place_key(state: &State, key: &Secret) -> anyhow::Result<()> {
    let SecretSource::File(path) = &state.key else {
        return Ok(());
    };
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => {
            writeln!(file, "{}", key.expose())?;
            file.sync_all()?;
            out::print(&format!("{}: put in place\n", path.display()))
        }
        Err(_) if read_secret(&state.key).is_ok_and(|there| there == *key) => Ok(()),
        Err(error) => {
            let path = path.display();
            out::tell(&format!(
                "poolgate: {path}: the backup's key is not put in place: {error}"
            ));
            Ok(())
        }
    }
}
