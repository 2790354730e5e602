//! The key stays ours and the same, and what is sealed opens only as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn key(text: &str) -> Key {
    Key::of_text(&Secret::new(text)).ok().unwrap()
}

fn refused(path: &Path) -> String {
    Key::open(path, None).err().unwrap().to_string()
}

#[test]
fn a_key_is_made_at_first_start_for_its_owner_alone_and_read_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.key");
    let made = Key::open(&path, None).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.len() == 65 && text.ends_with('\n'));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
    let sealed = made.seal("a", b"text").unwrap();
    let later = Key::open(&path, None).unwrap();
    assert_eq!(*later.unseal("a", &sealed).unwrap(), b"text");
    let other = Key::open(&folder.path().join("other"), None).unwrap();
    assert_ne!(other.0, made.0);
}

#[test]
fn those_who_make_the_key_at_the_same_time_get_the_same_one() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.key");
        let start = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                Key::open(&path, None).unwrap().0
            };
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.key");
    Key::open(&path, None).unwrap();
    for mode in [0o640, 0o604, 0o644] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let why = refused(&path);
        assert!(
            why.contains("may read the key") && why.contains(&format!("{mode:04o}")),
            "{why}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    assert!(Key::open(&path, None).is_ok());
}

#[test]
fn a_file_that_holds_something_else_is_refused_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.key");
    Key::open(&path, None).unwrap();
    let short = &ZEROS[1..];
    for text in [
        "",
        "\n",
        short,
        &format!("{ZEROS}0"),
        &format!("{short}g"),
        &format!("{ZEROS}\n\n\n"),
    ] {
        fs::write(&path, text).unwrap();
        assert!(
            refused(&path).ends_with("64 hex digits are expected"),
            "{text:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, [0xff; 64]).unwrap();
    assert!(refused(&path).contains("holds no key"));
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(refused(folder.path()).contains("cannot be read"));
    assert!(refused(&folder.path().join("none/state.key")).contains("cannot be made"));
    assert!(Key::of_text(&Secret::new("hunter2")).is_err());
}

#[test]
fn a_key_that_systemd_hands_over_goes_before_the_file() {
    let (handed, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("state.key");
    let made = Key::open(&path, Some(handed.path())).unwrap();
    assert!(path.exists(), "nothing was handed over, so one is made");
    let credential = handed.path().join("state.key");
    fs::write(&credential, ZEROS).unwrap();
    fs::set_permissions(&credential, Permissions::from_mode(0o440)).unwrap();
    let key = Key::open(&path, Some(handed.path())).unwrap();
    assert!(key.0 != made.0 && *key.0 == [0; 32]);
    fs::write(&credential, "no key").unwrap();
    assert!(
        Key::open(&path, Some(handed.path())).is_err(),
        "never another key instead"
    );
}

#[test]
fn what_is_sealed_opens_only_as_it_was_under_its_name_and_key() {
    let (ours, other) = (key(ZEROS), key(&ZEROS.replace("00", "0a")));
    let sealed = ours.seal("a", b"refresh-token").unwrap();
    assert_eq!(*ours.unseal("a", &sealed).unwrap(), b"refresh-token");
    assert!(!sealed.windows(7).any(|part| part == b"refresh"));
    assert_ne!(
        sealed,
        ours.seal("a", b"refresh-token").unwrap(),
        "each has its own nonce"
    );
    assert_eq!(ours.unseal("b", &sealed), Err(Unopened::Damaged));
    assert_eq!(other.unseal("a", &sealed), Err(Unopened::Damaged));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(ours.unseal("a", &changed).is_err(), "byte {at}");
        assert!(ours.unseal("a", &sealed[..at]).is_err(), "cut at {at}");
    }
    let mut newer = sealed;
    newer[0] = 2;
    assert_eq!(ours.unseal("a", &newer), Err(Unopened::Newer(2)));
    newer[0] = b'{';
    assert_eq!(ours.unseal("a", &newer), Err(Unopened::Damaged));
}

proptest! {
    #[test]
    fn any_text_survives_and_any_bytes_are_read(plain: Vec<u8>, name: String, noise: Vec<u8>) {
        let key = key(ZEROS);
        let sealed = key.seal(&name, &plain).unwrap();
        prop_assert_eq!(&*key.unseal(&name, &sealed).unwrap(), &plain);
        prop_assert!(key.unseal(&name, &noise).is_err());
    }
}
