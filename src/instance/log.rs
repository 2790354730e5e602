//! Reads the log of an instance: its last lines, and what came after them.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::output::log_path;

/// So much of a log is looked at for its last lines, in bytes; and so much of it is read on at a time.
const LOOKED_AT: u64 = 4 << 20;
const AT_ONCE: u64 = 1 << 20;

/// Where in the log a reader is: behind a whole line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// The file's number in its file system, which it keeps when it is put aside for a new one.
    file: u64,
    /// Bytes before it.
    at: u64,
}

/// The log that is written to, and the one before it.
fn files(folder: &Path, id: &str) -> [PathBuf; 2] {
    let current = log_path(folder, id);
    let mut older = current.clone().into_os_string();
    older.push(".1");
    [current, older.into()]
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// At most `most` bytes from there, up to the end of the last whole line.
fn read(file: &mut File, from: u64, most: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
    bytes.truncate(end);
    Ok(bytes)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_owned).collect()
}

/// The last lines of an instance's log, the oldest first, and where they end.
///
/// # Errors
/// The log cannot be read; one that is not there is empty.
pub(super) fn tail(folder: &Path, id: &str, most: usize) -> io::Result<(Vec<String>, LogPlace)> {
    let mut found: Vec<String> = Vec::new();
    let mut place = LogPlace::default();
    for (number, path) in files(folder, id).iter().enumerate() {
        let Some(mut file) = open(path)? else {
            continue;
        };
        let metadata = file.metadata()?;
        let from = metadata.len().saturating_sub(LOOKED_AT);
        let bytes = read(&mut file, from, LOOKED_AT)?;
        if number == 0 {
            place = LogPlace {
                file: metadata.ino(),
                at: from + bytes.len() as u64,
            };
        }
        let newest_first = lines(&bytes).into_iter().rev();
        found.extend(newest_first.take(most - found.len()));
        if found.len() >= most {
            break;
        }
    }
    found.reverse();
    Ok((found, place))
}

/// The lines behind `at`, as many as one look reads, and where they end. What was put aside and thrown away
/// before it was read is told by a line of ours.
///
/// # Errors
/// The log cannot be read.
pub(super) fn after(folder: &Path, id: &str, at: LogPlace) -> io::Result<(Vec<String>, LogPlace)> {
    let [current, older] = files(folder, id);
    let Some(mut current) = open(&current)? else {
        return Ok((Vec::new(), at));
    };
    let metadata = current.metadata()?;
    let mut place = at;
    let mut found = Vec::new();
    if metadata.ino() != at.file || metadata.len() < at.at {
        let aside = open(&older)?;
        match aside.map(|file| Ok::<_, io::Error>((file.metadata()?, file))) {
            Some(Ok((metadata, mut file))) if metadata.ino() == at.file => {
                let bytes = read(&mut file, at.at, AT_ONCE)?;
                place.at += bytes.len() as u64;
                if !bytes.is_empty() {
                    // The rest of it comes before the new one's first line.
                    return Ok((lines(&bytes), place));
                }
            }
            Some(Err(error)) => return Err(error),
            // There was none to read on in.
            _ if at.file == 0 => {}
            _ => found.push("(lines are left out: they came too fast)".to_owned()),
        }
        place = LogPlace {
            file: metadata.ino(),
            at: 0,
        };
    }
    let bytes = read(&mut current, place.at, AT_ONCE)?;
    place.at += bytes.len() as u64;
    found.extend(lines(&bytes));
    Ok((found, place))
}

#[cfg(test)]
mod tests {
    use super::{after, tail};
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    fn say(folder: &Path, text: &str) {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(folder.join("a.log"));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn each_line_is_read_once_however_often_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (none, place) = tail(folder, "a", 10).unwrap();
        assert!(none.is_empty());
        say(folder, "beat\nbeat\nbe");
        let (lines, place) = after(folder, "a", place).unwrap();
        assert_eq!(lines, ["beat", "beat"], "whole lines, from the first on");
        say(folder, "at\nbeat\n");
        let (lines, place) = after(folder, "a", place).unwrap();
        assert_eq!(lines, ["beat", "beat"]);
        assert_eq!(after(folder, "a", place).unwrap(), (Vec::new(), place));
        let (last, place) = tail(folder, "a", 1).unwrap();
        assert_eq!(last, ["beat"]);
        say(folder, "beat\n");
        assert_eq!(after(folder, "a", place).unwrap().0, ["beat"]);
    }

    #[test]
    fn what_is_left_of_a_log_that_was_put_aside_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        say(folder, "one\n");
        let (_, place) = tail(folder, "a", 10).unwrap();
        say(folder, "two\n");
        fs::rename(folder.join("a.log"), folder.join("a.log.1")).unwrap();
        say(folder, "three\n");
        let (lines, place) = after(folder, "a", place).unwrap();
        assert_eq!(lines, ["two"]);
        let (lines, place) = after(folder, "a", place).unwrap();
        assert_eq!(lines, ["three"]);
        // Two rotations between two looks: what was in between is gone, and that is said.
        fs::rename(folder.join("a.log"), folder.join("a.log.2")).unwrap();
        say(folder, "lost\n");
        fs::rename(folder.join("a.log"), folder.join("a.log.1")).unwrap();
        say(folder, "five\n");
        let (lines, _) = after(folder, "a", place).unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("left out"), "{lines:?}");
        assert_eq!(lines[1], "five");
    }
}
