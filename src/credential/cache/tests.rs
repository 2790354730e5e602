//! What is kept survives whatever happens to the process and to other accounts' files.

use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::slot::ROOM;
use super::*;
use crate::credential::seal::OVERHEAD;
use crate::secret::Secret;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Disk {
    state: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        Disk {
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("tokens")
    }

    /// As the next start of the program has it.
    fn cache(&self) -> TokenCache {
        TokenCache::open(&self.folder(), key(KEY)).unwrap()
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder().join(format!("{id}.token"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<_> = entries.map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }
}

fn key(text: &str) -> Key {
    Key::of_text(&Secret::new(text)).ok().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn saved(name: &str) -> Saved {
    Saved {
        access: Secret::new(format!("access-{name}")),
        refresh: Some(Secret::new(format!("refresh-{name}"))),
        expires_at: Some(at(1_795_266_000)),
        descends_from: Some(Saved::origin_of(&Secret::new("configured"))),
        saved_at: at(1_795_262_400),
    }
}

#[track_caller]
fn assert_keeps(cache: &TokenCache, id: &str, expected: &str) {
    let kept = cache.load(id).unwrap();
    assert!(kept == Some(saved(expected)), "{id} has not {expected}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_sendable<T: Send + 'static>(_: &T) {}

#[test]
fn what_was_saved_is_there_after_a_restart_and_only_its_owner_can_read_it() {
    let disk = Disk::new();
    let cache = disk.cache();
    assert!(cache.load("a").unwrap().is_none());
    cache.save("a", &saved("one")).unwrap();
    cache.save("b", &saved("two")).unwrap();
    assert_keeps(&disk.cache(), "a", "one");
    cache.save("a", &saved("three")).unwrap();
    assert_keeps(&disk.cache(), "a", "three");
    assert_keeps(&disk.cache(), "b", "two");
    assert_eq!(disk.names(), ["a.token", "b.token"]);
    assert_eq!(
        (mode(&disk.folder()), mode(&disk.file("a"))),
        (0o700, 0o600)
    );
    let bytes = fs::read(disk.file("a")).unwrap();
    assert!(
        !bytes
            .windows(5)
            .any(|part| part == b"three" || part == b"token")
    );
}

#[test]
fn a_slot_is_room_on_the_disk_and_is_given_back_when_it_is_not_needed() {
    let disk = Disk::new();
    let cache = disk.cache();
    cache.save("a", &saved("one")).unwrap();
    let slot = cache.ready("a").unwrap();
    is_sendable(&slot);
    let about = slot.file.as_file().metadata().unwrap();
    assert!(about.blocks() * 512 >= ROOM as u64, "no holes");
    assert_eq!(about.mode() & 0o7777, 0o600);
    assert_keeps(&cache, "a", "one");
    drop(slot);
    assert_eq!(disk.names(), ["a.token"]);
    let slot = cache.ready("a").unwrap();
    drop(cache);
    slot.write(&saved("two")).unwrap();
    assert_keeps(&disk.cache(), "a", "two");
    assert_eq!((disk.names().len(), mode(&disk.file("a"))), (1, 0o600));
    let length = fs::metadata(disk.file("a")).unwrap().len();
    assert_eq!(
        length, ROOM as u64,
        "what was written ahead is used, no more"
    );
}

#[test]
fn a_token_longer_than_the_room_is_kept_whole() {
    let disk = Disk::new();
    let cache = disk.cache();
    let long = Saved {
        access: Secret::new("\"".repeat(64 * 1024)),
        ..saved("one")
    };
    cache.ready("a").unwrap().write(&long).unwrap();
    assert!(disk.cache().load("a").unwrap() == Some(long));
}

/// Kept later than the others.
fn later(name: &str) -> Saved {
    Saved {
        saved_at: at(1_795_262_401),
        ..saved(name)
    }
}

fn sealed(id: &str, saved: &Saved) -> Vec<u8> {
    let plain = saved.to_bytes(ROOM - OVERHEAD).unwrap();
    key(KEY).seal(&format!("tokens/{id}"), &plain).unwrap()
}

#[test]
fn a_process_killed_at_any_step_leaves_the_old_token_or_the_new_one() {
    // As SIGKILL does: what is open is closed, nothing is tidied up.
    let killed = |slot: Slot, written: usize| {
        let bytes = sealed("a", &later("new"));
        slot.file
            .as_file()
            .write_all_at(&bytes[..written], 0)
            .unwrap();
        drop(slot.file.keep().unwrap());
    };
    type Step<'a> = &'a dyn Fn(&TokenCache);
    let steps: [(&str, Step<'_>, Saved); 6] = [
        (
            "made",
            &|cache| killed(cache.begin("a").unwrap(), 0),
            saved("old"),
        ),
        (
            "ready",
            &|cache| killed(cache.ready("a").unwrap(), 0),
            saved("old"),
        ),
        (
            "half",
            &|cache| killed(cache.ready("a").unwrap(), 100),
            saved("old"),
        ),
        (
            "almost",
            &|cache| killed(cache.ready("a").unwrap(), ROOM - 1),
            saved("old"),
        ),
        (
            "written",
            &|cache| killed(cache.ready("a").unwrap(), ROOM),
            later("new"),
        ),
        (
            "renamed",
            &|cache| cache.ready("a").unwrap().write(&later("new")).unwrap(),
            later("new"),
        ),
    ];
    for (step, run, expected) in steps {
        let disk = Disk::new();
        let cache = disk.cache();
        cache.save("a", &saved("old")).unwrap();
        run(&cache);
        let restarted = disk.cache();
        assert!(restarted.load("a").unwrap() == Some(expected), "{step}");
        // Of all but its last byte nobody can tell whether it could be read one day.
        let left = usize::from(step == "almost");
        assert_eq!(disk.names().len(), 1 + left, "{step}");
        restarted.save("a", &saved("next")).unwrap();
        assert_keeps(&disk.cache(), "a", "next");
    }
}

#[test]
fn what_was_left_whole_is_kept_if_it_is_the_accounts_latest() {
    let left = |disk: &Disk, bytes: &[u8]| {
        fs::write(disk.folder().join("a.b.x1Y2z3.new"), bytes).unwrap();
        let kept = disk.cache().load("a.b");
        assert!(!disk.names().iter().any(|name| name.ends_with(".new")));
        kept
    };
    let disk = Disk::new();
    disk.cache();
    assert!(
        left(&disk, &sealed("a.b", &saved("first"))[..100])
            .unwrap()
            .is_none()
    );
    let blank = vec![0; ROOM];
    assert!(left(&disk, &blank).unwrap().is_none());
    assert!(left(&disk, &sealed("a.b", &saved("first"))).unwrap() == Some(saved("first")));
    assert!(left(&disk, &sealed("a.b", &saved("same"))).unwrap() == Some(saved("first")));
    assert!(left(&disk, &sealed("a.b", &later("next"))).unwrap() == Some(later("next")));
    assert!(left(&disk, &sealed("a.b", &saved("old"))).unwrap() == Some(later("next")));
    fs::write(disk.file("a.b"), "damaged").unwrap();
    assert!(left(&disk, &sealed("a.b", &saved("old"))).unwrap() == Some(saved("old")));
    let newer = key(KEY).seal("tokens/a.b", br#"{"version":9}"#).unwrap();
    fs::write(disk.file("a.b"), newer).unwrap();
    let path = disk.folder().join("a.b.x1Y2z3.new");
    fs::write(&path, sealed("a.b", &later("next"))).unwrap();
    assert!(matches!(
        disk.cache().load("a.b"),
        Err(Unreadable::Content(Malformed::Newer(9)))
    ));
    assert!(path.exists(), "who knows whether it is later");
}

/// With the wrong key nothing can be read; with the right one it may be the only token that is good.
#[test]
fn what_was_left_and_cannot_be_read_now_is_read_when_it_can() {
    let disk = Disk::new();
    disk.cache();
    let path = disk.folder().join("a.x1Y2z3.new");
    fs::write(&path, sealed("a", &saved("one"))).unwrap();
    let mut other = KEY.to_owned();
    other.replace_range(0..1, if KEY.starts_with('0') { "1" } else { "0" });
    TokenCache::open(&disk.folder(), key(&other)).unwrap();
    assert!(path.exists());
    assert_keeps(&disk.cache(), "a", "one");
    assert!(!path.exists());
}

#[test]
fn a_successor_that_starts_does_not_sweep_away_what_is_being_written() {
    let disk = Disk::new();
    let slot = disk.cache().ready("a").unwrap();
    fs::write(disk.folder().join("a.left.new"), "half").unwrap();
    fs::write(disk.folder().join("notes.txt"), "the operator's").unwrap();
    let successor = disk.cache();
    assert_eq!(disk.names().len(), 2, "{:?}", disk.names());
    slot.write(&saved("one")).unwrap();
    assert_keeps(&successor, "a", "one");
    assert_eq!(disk.names(), ["a.token", "notes.txt"]);
}

#[test]
fn starts_and_saves_at_the_same_time_do_not_disturb_each_other() {
    let disk = Disk::new();
    disk.cache();
    std::thread::scope(|scope| {
        for id in ["a", "b"] {
            let disk = &disk;
            scope.spawn(move || {
                let cache = disk.cache();
                for _ in 0..40 {
                    cache.ready(id).unwrap().write(&saved(id)).unwrap();
                    assert_keeps(&cache, id, id);
                }
            });
        }
        scope.spawn(|| (0..200).for_each(|_| drop(disk.cache())));
    });
    assert_eq!(disk.names(), ["a.token", "b.token"]);
}

#[test]
fn a_damaged_file_is_an_error_of_its_account_alone() {
    let disk = Disk::new();
    let cache = disk.cache();
    cache.save("a", &saved("one")).unwrap();
    cache.save("b", &saved("two")).unwrap();
    let whole = fs::read(disk.file("a")).unwrap();
    // Nothing in the middle is unlike its neighbours.
    for place in (0..200)
        .chain((200..whole.len()).step_by(17))
        .chain(whole.len() - 16..whole.len())
    {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x80;
        fs::write(disk.file("a"), bytes).unwrap();
        assert!(cache.load("a").is_err(), "byte {place}");
    }
    for length in [0, 1, 24, 25, whole.len() - 1] {
        fs::write(disk.file("a"), &whole[..length]).unwrap();
        assert!(cache.load("a").is_err(), "cut at {length}");
    }
    fs::write(disk.file("a"), vec![1; 3 << 20]).unwrap();
    assert!(cache.load("a").is_err(), "far too long");
    fs::remove_file(disk.file("a")).unwrap();
    fs::create_dir(disk.file("a")).unwrap();
    assert!(matches!(cache.load("a"), Err(Unreadable::File(_))));
    assert_keeps(&cache, "b", "two");
}

#[test]
fn a_file_in_the_place_of_another_accounts_or_of_another_key_is_refused() {
    let disk = Disk::new();
    let cache = disk.cache();
    cache.save("a", &saved("one")).unwrap();
    fs::copy(disk.file("a"), disk.file("b")).unwrap();
    let damaged = |read| matches!(read, Err(Unreadable::Sealed(Unopened::Damaged)));
    assert!(damaged(cache.load("b")));
    let other = key(&KEY.replace("00", "ff"));
    let other = TokenCache::open(&disk.folder(), other).unwrap();
    assert!(damaged(other.load("a")));
    assert_keeps(&cache, "a", "one");
}

#[test]
fn what_a_newer_program_wrote_is_said_to_be_newer_and_left_alone() {
    let disk = Disk::new();
    let cache = disk.cache();
    cache.save("a", &saved("one")).unwrap();
    let inside = key(KEY).seal("tokens/a", br#"{"version":9,"tokens":[]}"#);
    for (bytes, version) in [
        (inside.unwrap(), "(version 9)"),
        (vec![7; 99], "(version 7)"),
    ] {
        fs::write(disk.file("a"), &bytes).unwrap();
        let why = cache.load("a").err().unwrap().to_string();
        assert!(
            why.contains("newer poolgate") && why.ends_with(version),
            "{why}"
        );
        assert_eq!(fs::read(disk.file("a")).unwrap(), bytes);
    }
}

#[test]
fn no_id_leads_out_of_the_folder() {
    let disk = Disk::new();
    let cache = disk.cache();
    let long = "x".repeat(64);
    for id in [".", "..", "-rf", "a.new", "a@b+c", ".token", &long] {
        cache.ready(id).unwrap().write(&saved(id)).unwrap();
    }
    let cache = disk.cache();
    for id in [".", "..", "-rf", "a.new", "a@b+c", ".token", &long] {
        assert_keeps(&cache, id, id);
    }
    assert_eq!(disk.names().len(), 7);
    assert_eq!(fs::read_dir(disk.state.path()).unwrap().count(), 1);
    for id in [
        "",
        "/",
        "a/b",
        "../a",
        "a\0",
        "ä",
        "a b",
        &format!("{long}x"),
    ] {
        assert!(cache.save(id, &saved("x")).is_err(), "{id}");
        assert!(cache.load(id).is_err(), "{id}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_a_token_is_spent() {
    let disk = Disk::new();
    let cache = disk.cache();
    cache.save("a", &saved("one")).unwrap();
    // Root may write anywhere.
    if !geteuid().is_root() {
        fs::set_permissions(disk.folder(), Permissions::from_mode(0o500)).unwrap();
        assert!(cache.ready("a").is_err());
        assert_keeps(&disk.cache(), "a", "one");
        fs::set_permissions(disk.folder(), Permissions::from_mode(0o700)).unwrap();
    }
    fs::remove_dir_all(disk.folder()).unwrap();
    assert!(cache.ready("a").is_err());
    fs::write(disk.folder(), "").unwrap();
    assert!(cache.ready("a").is_err());
    let why = TokenCache::open(&disk.folder(), key(KEY)).err().unwrap();
    assert!(why.to_string().ends_with("it is not a folder"), "{why}");
    let below = TokenCache::open(&disk.folder().join("tokens"), key(KEY));
    assert!(matches!(below, Err(CacheError::Unusable { .. })));
}

#[test]
fn a_folder_of_others_is_refused_and_an_open_one_is_closed() {
    let disk = Disk::new();
    disk.cache();
    let link = disk.state.path().join("link");
    std::os::unix::fs::symlink(disk.folder(), &link).unwrap();
    let why = TokenCache::open(&link, key(KEY)).err().unwrap();
    assert!(why.to_string().ends_with("it is a symbolic link"), "{why}");
    fs::set_permissions(disk.folder(), Permissions::from_mode(0o2775)).unwrap();
    disk.cache();
    assert_eq!(mode(&disk.folder()) & 0o777, 0o700);
    if geteuid().is_root() {
        std::os::unix::fs::chown(disk.folder(), Some(65_534), None).unwrap();
        let why = TokenCache::open(&disk.folder(), key(KEY)).err().unwrap();
        assert!(why.to_string().ends_with("it is another user's"), "{why}");
    }
}
