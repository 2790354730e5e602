//! What an instance says: its program writes to two files that it keeps open, also while no
//! poolgate runs; from there each line goes to the instance's log and, within limits, to ours.
//!
//! No pipe: a program whose pipe nobody reads stands still. A file that was read to its end and has
//! been quiet since is emptied, which the program does not notice, as it only ever appends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock::{self, Instant};
use crate::config::Rotate;
use crate::telemetry::RotatingFile;

/// A longer line is cut, in bytes.
const LONGEST_LINE: usize = 8 << 10;

/// So much is read at a time, in bytes; a file that has much more than one look reads is emptied.
const AT_ONCE: u64 = 1 << 20;

/// So much is written at a time, in bytes: the log is not rotated within it.
const PIECE: usize = 4 << 10;

/// Lines of one instance that may go to our log at once, and each second.
const LINES: f64 = 100.0;

/// What one program writes, and where it goes.
pub(super) struct Output {
    id: String,
    out: Stream,
    err: Stream,
    log: RotatingFile,
    pub(super) rotate: Rotate,
    allowance: f64,
    refilled: Instant,
    left_out: u64,
    /// What the program writes cannot be taken, as was said already.
    is_in_trouble: bool,
    /// Where the next poolgate finds how far the files were read.
    marks: PathBuf,
    marked: [u64; 2],
}

/// The paths of an instance's files.
pub(super) fn log_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.log"))
}

fn stream_path(folder: &Path, id: &str, stream: &str) -> PathBuf {
    folder.join(format!("{id}.{stream}"))
}

/// The files that the program's output and error output go to.
///
/// # Errors
/// They cannot be opened.
pub(super) fn files(folder: &Path, id: &str) -> io::Result<(File, File)> {
    let open = |stream| {
        let path = stream_path(folder, id, stream);
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).open(path)
    };
    Ok((open("out")?, open("err")?))
}

impl Output {
    /// # Errors
    /// The log cannot be opened.
    pub(super) fn open(folder: &Path, id: &str, rotate: Rotate) -> io::Result<Output> {
        let marks = stream_path(folder, id, "read");
        // Without them the files are read from their beginnings.
        let marked = fs::read(&marks).ok();
        let marked = marked.and_then(|text| serde_json::from_slice(&text).ok());
        let marked: [u64; 2] = marked.unwrap_or_default();
        Ok(Output {
            id: id.to_owned(),
            out: Stream::new(stream_path(folder, id, "out"), marked[0]),
            err: Stream::new(stream_path(folder, id, "err"), marked[1]),
            marks,
            marked,
            log: RotatingFile::open(&log_path(folder, id), rotate)?,
            rotate,
            allowance: LINES,
            refilled: clock::now(),
            left_out: 0,
            is_in_trouble: false,
        })
    }

    /// Takes what the program has written since the last look.
    pub(super) fn follow(&mut self) {
        let mut lines = Vec::new();
        let mut lost = 0;
        let mut trouble = None;
        let most_behind = self.rotate.size.max(AT_ONCE);
        for (stream, is_error) in [(&mut self.out, false), (&mut self.err, true)] {
            match stream.read(most_behind) {
                Ok((found, skipped)) => {
                    lines.extend(found.into_iter().map(|line| (line, is_error)));
                    lost += skipped;
                }
                // The program has not been started yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => trouble = Some(error),
            }
        }
        // Said once, not at each of five looks a second for as long as a disk can only be read.
        if let (Some(error), false) = (&trouble, self.is_in_trouble) {
            tracing::warn!(account = self.id, "its output: {error}");
        }
        self.is_in_trouble = trouble.is_some();
        if lost > 0 {
            let note = format!("({lost} bytes of output are left out: they came too fast)");
            lines.push((note.into_bytes(), true));
        }
        if !lines.is_empty() {
            self.keep(&lines);
        }
        self.tell(&lines);
        self.mark();
    }

    /// Writes down how far the files were read, where that is news.
    fn mark(&mut self) {
        let read = [self.out.line, self.err.line];
        if read == self.marked {
            return;
        }
        self.marked = read;
        let text = serde_json::to_vec(&read).unwrap_or_default();
        if let Err(error) = fs::write(&self.marks, text) {
            let id = &self.id;
            tracing::warn!(account = id, "its output may be logged twice: {error}");
        }
    }

    /// Appends the lines to the instance's own log.
    fn keep(&mut self, lines: &[(Vec<u8>, bool)]) {
        let mut text = Vec::new();
        for (n, (line, _)) in lines.iter().enumerate() {
            text.extend_from_slice(line);
            text.push(b'\n');
            if text.len() < PIECE && n + 1 < lines.len() {
                continue;
            }
            if let Err(error) = self.log.write_all(&text) {
                tracing::warn!(account = self.id, "its log cannot be written: {error}");
            }
            text.clear();
        }
    }

    /// Says the lines in our log, as many as it may.
    fn tell(&mut self, lines: &[(Vec<u8>, bool)]) {
        let now = clock::now();
        let since = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.allowance = (self.allowance + since * LINES).min(LINES);
        let id = &self.id;
        for (line, is_error) in lines {
            if self.allowance < 1.0 {
                self.left_out += 1;
                continue;
            }
            self.allowance -= 1.0;
            let line = String::from_utf8_lossy(line);
            match is_error {
                true => tracing::error!("[{id}] {line}"),
                false => tracing::info!("[{id}] {line}"),
            }
        }
        if self.left_out > 0 && self.allowance >= LINES / 2.0 {
            let left_out = std::mem::take(&mut self.left_out);
            tracing::warn!("[{id}] {left_out} lines are only in its own log");
        }
    }
}

/// One file that a program appends to.
struct Stream {
    path: PathBuf,
    read: u64,
    /// Where the first line begins that has not been told as a whole.
    line: u64,
    /// A line whose end has not come.
    rest: Vec<u8>,
    /// The line is longer than what is kept of it.
    cut: bool,
}

impl Stream {
    fn new(path: PathBuf, from: u64) -> Stream {
        Stream {
            path,
            read: from,
            line: from,
            rest: Vec::new(),
            cut: false,
        }
    }

    /// The whole lines that came, and how many bytes were passed over.
    fn read(&mut self, most_behind: u64) -> io::Result<(Vec<Vec<u8>>, u64)> {
        let length = fs::metadata(&self.path)?.len();
        // Somebody else emptied it.
        self.read = self.read.min(length);
        self.line = self.line.min(length);
        if length == self.read {
            if length > 0 {
                // Quiet for a whole look: what comes in just this moment is the only thing lost.
                self.empty()?;
            }
            return Ok((Vec::new(), 0));
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        let from = self.read;
        self.read += file.take(AT_ONCE).read_to_end(&mut bytes)? as u64;
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.line = from + end as u64 + 1;
        }
        let lines = self.lines(&bytes);
        let behind = length.saturating_sub(self.read);
        if self.read > most_behind || behind > most_behind {
            self.empty()?;
            return Ok((lines, behind));
        }
        Ok((lines, 0))
    }

    fn empty(&mut self) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(&self.path)?
            .set_len(0)?;
        (self.read, self.line) = (0, 0);
        Ok(())
    }

    fn lines(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LONGEST_LINE - self.rest.len().min(LONGEST_LINE);
            self.cut |= text.len() > room;
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if piece.len() > text.len() {
                let mut line = std::mem::take(&mut self.rest);
                if std::mem::take(&mut self.cut) {
                    line.extend_from_slice("…".as_bytes());
                }
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                lines.push(line);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, Output, files};
    use crate::config::Rotate;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    fn tail(folder: &Path, id: &str, lines: usize) -> std::io::Result<Vec<String>> {
        Ok(super::super::log::tail(folder, id, lines)?.0)
    }

    #[test]
    fn lines_of_both_files_are_kept_whole_and_the_files_are_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, mut err) = files(folder.path(), "a").unwrap();
        let rotate = Rotate {
            size: 1 << 20,
            keep: 1,
        };
        let mut output = Output::open(folder.path(), "a", rotate).unwrap();
        out.write_all(b"one\r\ntw").unwrap();
        err.write_all(b"bad\n").unwrap();
        output.follow();
        out.write_all(b"o\nthree\n").unwrap();
        output.follow();
        output.follow();
        let lines = tail(folder.path(), "a", 10).unwrap();
        assert_eq!(lines, ["one", "bad", "two", "three"]);
        assert_eq!(fs::metadata(folder.path().join("a.out")).unwrap().len(), 0);
        out.write_all(b"four\n").unwrap();
        output.follow();
        assert_eq!(tail(folder.path(), "a", 2).unwrap(), ["three", "four"]);
    }

    #[test]
    fn the_next_poolgate_reads_on_where_the_one_before_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, _) = files(folder.path(), "a").unwrap();
        let rotate = Rotate {
            size: 1 << 20,
            keep: 1,
        };
        out.write_all(b"one\ntwo\nthr").unwrap();
        let open = || Output::open(folder.path(), "a", rotate).unwrap();
        open().follow();
        out.write_all(b"ee\nfour\n").unwrap();
        open().follow();
        open().follow();
        let lines = tail(folder.path(), "a", 10).unwrap();
        assert_eq!(lines, ["one", "two", "three", "four"]);
        out.write_all(b"five\n").unwrap();
        open().follow();
        assert_eq!(tail(folder.path(), "a", 1).unwrap(), ["five"]);
    }

    #[test]
    fn a_line_without_an_end_and_a_flood_take_no_more_than_their_limits() {
        let folder = tempfile::tempdir().unwrap();
        let (mut out, _) = files(folder.path(), "a").unwrap();
        let rotate = Rotate {
            size: 1 << 20,
            keep: 1,
        };
        let mut output = Output::open(folder.path(), "a", rotate).unwrap();
        out.write_all(&vec![b'x'; 3 * LONGEST_LINE]).unwrap();
        out.write_all(b"\nnext\n").unwrap();
        output.follow();
        let lines = tail(folder.path(), "a", 10).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].chars().count(), LONGEST_LINE + 1);
        output.follow();
        out.write_all(&b"flood\n".repeat(1 << 20)).unwrap();
        output.follow();
        let kept = fs::metadata(folder.path().join("a.out")).unwrap().len();
        assert_eq!(kept, 0);
        let last = tail(folder.path(), "a", 1).unwrap();
        assert!(last[0].ends_with("came too fast)"), "{last:?}");
    }
}
