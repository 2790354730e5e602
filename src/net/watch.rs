//! Notices that files change: rewritten in place, replaced by a rename, or behind a symbolic link
//! that was swapped (as Kubernetes does with its volumes).
//!
//! The files are looked at twice a second. Notices from the kernel would be sooner, but need care
//! for each of those three ways, fail on network file systems, and are lost when its queue is full.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const INTERVAL: Duration = Duration::from_millis(500);

/// What tells one state of a file from another; `None` = it cannot be read.
type Mark = Option<State>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    /// Of its contents and of its entry: seconds since 1970 and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
}

impl State {
    fn changed_after(self, time: SystemTime) -> bool {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        self.changed > (since.as_secs() as i64, i64::from(since.subsec_nanos()))
    }
}

/// Calls `changed` with each of the files after it changed, appeared or vanished; also with one that
/// is seen for the first time and has changed after `since`, when it may have been read already. Runs
/// until `stop` says so.
pub async fn watch_files(
    files: impl Fn() -> Vec<PathBuf> + Send,
    changed: impl Fn(&Path) + Send,
    since: SystemTime,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let mut known: HashMap<PathBuf, Mark> = HashMap::new();
    loop {
        let paths = files();
        let marked = tokio::task::spawn_blocking(move || {
            paths
                .into_iter()
                .map(|path| {
                    let mark = mark(&path);
                    (path, mark)
                })
                .collect::<Vec<_>>()
        });
        let Ok(marked) = marked.await else { return };
        for (path, mark) in &marked {
            let is_news = match known.get(path) {
                Some(before) => before != mark,
                None => mark.is_some_and(|mark| mark.changed_after(since)),
            };
            if is_news {
                changed(path);
            }
        }
        known = marked.into_iter().collect();
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = stop.changed() => return,
        }
    }
}

fn mark(path: &Path) -> Mark {
    let data = std::fs::metadata(path).ok()?;
    Some(State {
        device: data.dev(),
        inode: data.ino(),
        modified: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
        length: data.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn a_rewrite_a_rename_and_a_swapped_link_are_all_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("a"), "1").unwrap();
        std::fs::write(file("b"), "1").unwrap();
        std::os::unix::fs::symlink(file("a"), file("link")).unwrap();
        let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let paths = vec![file("a"), file("link")];
        let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(watch_files(
            move || {
                let _ = looked.send(());
                paths.clone()
            },
            move |path| drop(seen.send(path.to_owned())),
            clock::wall() + Duration::from_secs(3600),
            stopped,
        ));
        looks.recv().await;
        looks.recv().await;
        // In place and in one step: a look between two steps would see two changes.
        let mut open = std::fs::OpenOptions::new().append(true).open(file("a"));
        std::io::Write::write_all(open.as_mut().unwrap(), b"2").unwrap();
        // Which of the two is seen first depends on where the look was just then.
        let mut both = [sees.recv().await.unwrap(), sees.recv().await.unwrap()];
        both.sort();
        assert_eq!(both, [file("a"), file("link")]);
        std::os::unix::fs::symlink(file("b"), file("new")).unwrap();
        std::fs::rename(file("new"), file("link")).unwrap();
        assert_eq!(sees.recv().await.unwrap(), file("link"));
        std::fs::write(file("c"), "1").unwrap();
        std::fs::rename(file("c"), file("a")).unwrap();
        assert_eq!(sees.recv().await.unwrap(), file("a"));
    }

    #[tokio::test]
    async fn what_changed_between_its_first_reading_and_the_first_look_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let began = clock::wall() - Duration::from_secs(1);
        std::fs::write(&path, "1").unwrap();
        let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let files = vec![path.clone()];
        let changed = move |path: &Path| drop(seen.send(path.to_owned()));
        tokio::spawn(watch_files(move || files.clone(), changed, began, stopped));
        assert_eq!(sees.recv().await.unwrap(), path);
    }
}
