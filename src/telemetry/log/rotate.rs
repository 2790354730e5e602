//! A log file that starts anew when it is full: `file` becomes `file.1`, `file.1` becomes `file.2`,
//! and the oldest goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::Rotate;

/// A file of whole lines, of at most [`Rotate::size`] bytes (a batch larger than that is still
/// written whole), with [`Rotate::keep`] older ones beside it.
///
/// Another process may write to the same path, as during an upgrade, or move it away, as logrotate
/// does: the path is looked at before each batch, and opened anew if it leads elsewhere.
pub struct RotatingFile {
    path: PathBuf,
    rotate: Rotate,
    file: Option<File>,
}

impl RotatingFile {
    /// Opens the file for appending and makes its folder if there is none.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open(path: &Path, rotate: Rotate) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        if !file.metadata()?.is_file() {
            // A pipe or device can be written to, but neither measured nor renamed.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(RotatingFile {
            path: path.to_owned(),
            rotate,
            file: Some(file),
        })
    }

    /// The file that the path leads to now, and its size.
    fn current(&mut self) -> io::Result<(&File, u64)> {
        let at_path = fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        if let Some(file) = &self.file {
            let ours = file.metadata()?;
            if at_path != Some((ours.dev(), ours.ino())) {
                self.file = None;
            }
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => append(&self.path)?,
        };
        let size = file.metadata()?.len();
        Ok((self.file.insert(file), size))
    }

    /// Moves every file one place on. Where that fails the file is emptied instead, because a log
    /// that fills the disk does more harm than a log that lost its past.
    fn turn(&mut self) -> io::Result<()> {
        let place = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.rotate.keep).rev() {
            // A place that is still empty is no error.
            let _ = fs::rename(place(n), place(n + 1));
        }
        let moved = match self.rotate.keep {
            0 => fs::remove_file(&self.path),
            _ => fs::rename(&self.path, place(1)),
        };
        match (moved, &self.file) {
            (Err(_), Some(file)) => file.set_len(0),
            _ => {
                self.file = None;
                Ok(())
            }
        }
    }
}

impl Write for RotatingFile {
    /// Writes all of `batch` or nothing: a line cut off by a full disk would spoil the next one.
    fn write(&mut self, batch: &[u8]) -> io::Result<usize> {
        let limit = self.rotate.size;
        let (_, size) = self.current()?;
        if size > 0 && size + batch.len() as u64 > limit {
            self.turn()?;
        }
        let (mut file, size) = self.current()?;
        match file.write_all(batch) {
            Ok(()) => Ok(batch.len()),
            Err(e) => {
                let _ = file.set_len(size);
                Err(e)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::RotatingFile;
    use crate::config::Rotate;
    use std::fs;
    use std::io::Write;

    fn read(path: &std::path::Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_full_file_moves_aside_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/router.log");
        let mut file = RotatingFile::open(&path, Rotate { size: 10, keep: 2 }).unwrap();
        for line in ["one....\n", "two....\n", "three..\n", "four...\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "four...\n");
        assert_eq!(read(&folder.path().join("logs/router.log.1")), "three..\n");
        assert_eq!(read(&folder.path().join("logs/router.log.2")), "two....\n");
        assert_eq!(fs::read_dir(folder.path().join("logs")).unwrap().count(), 3);
    }

    #[test]
    fn keeping_none_starts_the_file_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = RotatingFile::open(&path, Rotate { size: 4, keep: 0 }).unwrap();
        file.write_all(b"old\n").unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(read(&path), "new\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_moved_away_by_another_program_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = RotatingFile::open(
            &path,
            Rotate {
                size: 1000,
                keep: 1,
            },
        )
        .unwrap();
        file.write_all(b"before\n").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(read(&path), "after\n");
        assert_eq!(read(&folder.path().join("moved")), "before\n");
    }

    #[test]
    fn two_processes_writing_to_one_file_rotate_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let rotate = Rotate { size: 12, keep: 3 };
        let mut old = RotatingFile::open(&path, rotate).unwrap();
        let mut new = RotatingFile::open(&path, rotate).unwrap();
        old.write_all(b"old 1\n").unwrap();
        new.write_all(b"new 1\n").unwrap();
        new.write_all(b"new 2\n").unwrap();
        old.write_all(b"old 2\n").unwrap();
        assert_eq!(read(&path), "new 2\nold 2\n");
        assert_eq!(read(&folder.path().join("a.log.1")), "old 1\nnew 1\n");
        assert!(!folder.path().join("a.log.2").exists());
    }

    #[test]
    fn a_folder_that_went_away_is_an_error_and_not_a_panic_and_heals() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        let path = inner.join("a.log");
        let mut file = RotatingFile::open(
            &path,
            Rotate {
                size: 1000,
                keep: 1,
            },
        )
        .unwrap();
        fs::remove_dir_all(&inner).unwrap();
        assert!(file.write(b"lost\n").is_err());
        fs::create_dir(&inner).unwrap();
        file.write_all(b"kept\n").unwrap();
        assert_eq!(read(&path), "kept\n");
    }
}
