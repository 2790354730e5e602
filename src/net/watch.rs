//! Notices that files change: rewritten in place, replaced by a rename, or behind a symbolic link
//! that was swapped (as Kubernetes does with its volumes).
//!
//! The files are looked at twice a second. Notices from the kernel would be sooner, but need care
//! for each of those three ways, fail on network file systems, and are lost when its queue is full.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(500);

/// What tells one state of a file from another; `None` = it cannot be read.
type Mark = Option<(u64, u64, i64, i64, u64)>;

/// Calls `changed` with each of the files after it changed, appeared or vanished. Runs until
/// `stop` says so.
pub async fn watch_files(
    files: impl Fn() -> Vec<PathBuf> + Send,
    changed: impl Fn(&Path) + Send,
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
            if known.get(path).is_some_and(|before| before != mark) {
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
    Some((
        data.dev(),
        data.ino(),
        data.mtime(),
        data.mtime_nsec(),
        data.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
