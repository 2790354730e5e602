//! Which gateway this is, over restarts too: by this name what it used is told from what others used
//! that have the same records.

use std::io::{self, Write};
use std::path::Path;

/// The file in `state.dir`.
const FILE: &str = "gateway.id";

/// The longest name that is believed: what is longer was not written here.
const LONGEST: usize = 64;

/// The name that this folder's gateway has; a new one where it has none yet. One that cannot be kept
/// holds for this process only.
pub fn name(dir: &Path) -> String {
    let path = dir.join(FILE);
    kept(&path).unwrap_or_else(|| {
        let name = format!("{:016x}", fastrand::u64(..));
        match keep(dir, &path, &name) {
            Ok(()) => name,
            Err(error) => kept(&path).unwrap_or_else(|| {
                tracing::warn!("{}: {error}", path.display());
                name
            }),
        }
    })
}

fn kept(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let name = text.trim();
    let is_name = (1..=LONGEST).contains(&name.len()) && name.is_ascii();
    is_name.then(|| name.to_owned())
}

/// Whole, and not in the place of a name that another process was faster to make.
fn keep(dir: &Path, path: &Path, name: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(file, "{name}")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_keeps_its_name_and_no_two_have_the_same() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [one, two] = [&folders[0], &folders[1]].map(|folder| name(folder.path()));
        assert_ne!(one, two);
        assert_eq!(name(folders[0].path()), one);
        std::fs::write(folders[0].path().join(FILE), "").unwrap();
        assert!(!name(folders[0].path()).is_empty(), "half a file is none");
    }
}
