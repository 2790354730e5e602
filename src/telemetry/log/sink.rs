//! The one thread that writes log and access lines, and the bounded queue that leads to it: whoever
//! has something to say never waits for a disk or a terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use super::access::AccessLine;
use super::fields::Line;
use crate::clock;
use crate::config::LogFormat;

/// Entries that may wait; more are dropped and counted. At 20 ms a batch this is 200,000 lines a second.
const QUEUE: usize = 4096;

/// Bytes gathered for one write.
const BATCH: usize = 256 * 1024;

/// How long access lines are gathered before they are written. Without it each request would cost
/// a system call to wake this thread; with it a busy gateway pays fifty a second.
const GATHER: Duration = Duration::from_millis(20);

enum Entry {
    /// A finished line of the log; written at once, in case it is the last one.
    Log(String),
    /// A finished access line, which may wait for others.
    Access(String),
    Flush(SyncSender<()>),
}

/// The way to the writer thread. Copies lead to the same thread, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Sink {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Sink {
    /// Starts the thread. Fails when the system gives none.
    pub(super) fn start(out: Box<dyn Write + Send>, format: LogFormat) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            out,
            format,
            lost: lost.clone(),
            told: 0,
            text: String::new(),
        };
        thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run(&entries))?;
        Ok(Sink { queue, lost })
    }

    /// Hands a finished line over, or counts it as lost.
    pub(super) fn log(&self, line: String) {
        self.send(Entry::Log(line));
    }

    fn send(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped since the start, because of a full queue or a failed write.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over before is written, but no longer than `within`.
    pub(super) fn flush(&self, within: Duration) {
        let deadline = clock::now() + within;
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if clock::now() < deadline => entry = back,
                Err(_) => return,
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(clock::now()));
    }
}

/// Room for most access lines.
const USUAL_LINE: usize = 512;

/// Where access lines go. Cheap to clone.
#[derive(Clone)]
pub struct Access(Option<(Sink, LogFormat)>);

impl Access {
    /// Takes no lines.
    pub fn off() -> Self {
        Access(None)
    }

    pub(super) fn to(sink: Sink, format: LogFormat) -> Self {
        Access(Some((sink, format)))
    }

    /// Would [`Access::write`] do anything?
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands a line to the writer thread. Never waits: when the queue is full the line is dropped
    /// and counted. It is put into words here, while all of it is in this core's cache; to hand
    /// over its parts and have them freed by another thread costs more than the words do.
    pub fn write(&self, line: &AccessLine) {
        if let Some((sink, format)) = &self.0 {
            let mut text = String::with_capacity(USUAL_LINE);
            line.write(&mut text, *format);
            sink.send(Entry::Access(text));
        }
    }
}

struct Writer {
    out: Box<dyn Write + Send>,
    format: LogFormat,
    lost: Arc<AtomicU64>,
    /// How many lost lines the log has told of.
    told: u64,
    text: String,
}

impl Writer {
    fn run(&mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            if matches!(first, Entry::Access(_)) {
                thread::sleep(GATHER);
            }
            let mut lines = 0;
            let mut waiting = Vec::new();
            for entry in std::iter::once(first).chain(entries.try_iter()) {
                match entry {
                    Entry::Log(line) | Entry::Access(line) => self.text.push_str(&line),
                    Entry::Flush(done) => {
                        waiting.push(done);
                        break;
                    }
                }
                lines += 1;
                if self.text.len() >= BATCH {
                    break;
                }
            }
            self.write(lines);
            for done in waiting {
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self, lines: u64) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.told {
            self.tell(clock::wall(), lost - self.told);
        }
        if self.text.is_empty() {
            return;
        }
        let written = self
            .out
            .write_all(self.text.as_bytes())
            .and_then(|()| self.out.flush());
        match written {
            Ok(()) => self.told = lost,
            // A full disk or a closed pipe: the gateway goes on, the lines are gone.
            Err(_) => drop(self.lost.fetch_add(lines, Ordering::Relaxed)),
        }
        self.text.clear();
    }

    fn tell(&mut self, time: SystemTime, lost: u64) {
        let mut line = Line::begin(&mut self.text, self.format, time);
        line.word("level", "WARN");
        line.message(
            None,
            "log lines were lost: the queue was full or the file not writable",
        );
        line.number("lines", lost);
        line.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, QUEUE, Sink};
    use crate::config::LogFormat;
    use crate::telemetry::AccessLine;
    use parking_lot::{Condvar, Mutex};
    use std::io::{self, Write};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// What a disk may do: take bytes, refuse them, or hang until it is let go.
    #[derive(Clone, Default)]
    struct Disk(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        text: String,
        full: bool,
        hangs: bool,
        asked: bool,
    }

    impl Disk {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock());
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            self.0.0.lock().text.clone()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            state.asked = true;
            self.0.1.notify_all();
            while state.hangs {
                self.0.1.wait(&mut state);
            }
            if state.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.text.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn access_line() -> AccessLine {
        AccessLine::new(SystemTime::UNIX_EPOCH, "r".into(), http::Method::GET)
    }

    #[test]
    fn a_flush_returns_when_every_earlier_line_is_written() {
        let disk = Disk::default();
        let sink = Sink::start(Box::new(disk.clone()), LogFormat::Text).unwrap();
        let access = Access::to(sink.clone(), LogFormat::Text);
        for _ in 0..1000 {
            access.write(&access_line());
        }
        sink.log("last\n".into());
        sink.flush(PATIENCE);
        assert_eq!(disk.text().lines().count(), 1001);
        assert!(disk.text().ends_with("last\n"));
    }

    #[test]
    fn a_disk_that_hangs_costs_lines_but_never_makes_a_request_wait() {
        let disk = Disk::default();
        disk.set(|s| s.hangs = true);
        let sink = Sink::start(Box::new(disk.clone()), LogFormat::Text).unwrap();
        let access = Access::to(sink.clone(), LogFormat::Text);
        sink.log("first\n".into());
        {
            let mut state = disk.0.0.lock();
            while !state.asked {
                disk.0.1.wait(&mut state);
            }
        }
        // The thread now hangs in its first write. None of these calls returns late: the test would not end.
        for _ in 0..QUEUE + 7 {
            access.write(&access_line());
        }
        assert_eq!(sink.lost(), 7);
        disk.set(|s| s.hangs = false);
        sink.flush(PATIENCE);
        assert!(
            disk.text().contains("log lines were lost"),
            "the log tells of its gap"
        );
        assert!(disk.text().contains("lines=7"));
    }

    #[test]
    fn a_full_disk_is_survived_and_told_of_afterwards() {
        let disk = Disk::default();
        disk.set(|s| s.full = true);
        let sink = Sink::start(Box::new(disk.clone()), LogFormat::Json).unwrap();
        sink.log("{}\n".into());
        sink.flush(PATIENCE);
        assert_eq!(sink.lost(), 1);
        disk.set(|s| s.full = false);
        sink.log("{\"after\":1}\n".into());
        sink.flush(PATIENCE);
        let text = disk.text();
        let told: serde_json::Value = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .find(|l: &serde_json::Value| l["lines"] == 1)
            .unwrap();
        assert_eq!(told["level"], "WARN");
        assert!(text.contains("\"after\""));
    }

    #[test]
    fn access_that_is_off_takes_nothing() {
        assert!(!Access::off().is_on());
        Access::off().write(&access_line());
    }
}
