//! Killed at any moment: what was acknowledged is there, and the file is sound.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poolgate::store::Store;

use super::key;
use crate::support::{Gateway, Mock, chat, count, pool, wait_for};

/// Where the process that is killed writes, and how its keys' names begin.
const WRITER: &str = "POOLGATE_TEST_WRITER";

/// Acknowledgements that are read before the writer is killed.
const ACKNOWLEDGED: usize = 6;

#[test]
fn no_acknowledged_key_or_revocation_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged: Vec<String> = vec![];
    for round in 0..20 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "records::killed::writer",
                "--ignored",
                "--nocapture",
            ])
            .env(WRITER, format!("{round}:{}", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut said = said
            .map(Result::unwrap)
            .filter(|line| line.starts_with("done "));
        let wanted = ACKNOWLEDGED + fastrand::usize(..10);
        acknowledged.extend(said.by_ref().take(wanted));
        // It goes on writing: it is killed within something.
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged.extend(said);
        let keys = runtime.block_on(async {
            let store = Store::open(folder.path()).await.unwrap();
            store.keys().await.unwrap()
        });
        for line in &acknowledged {
            let (what, name) = line["done ".len()..].split_once(' ').unwrap();
            let key = keys.iter().find(|key| key.name == name);
            let key = key.unwrap_or_else(|| panic!("{name} is lost"));
            assert!(what == "put" || key.revoked_at.is_some(), "{line}");
        }
        assert_eq!(integrity(&folder.path().join("poolgate.db")), "ok");
    }
    assert!(acknowledged.len() >= 20 * ACKNOWLEDGED);
}

/// Adds keys and revokes each second one, and says what is done.
#[test]
#[ignore = "the other process of the test above"]
fn writer() {
    let Ok(told) = std::env::var(WRITER) else {
        return;
    };
    let (round, dir) = told.split_once(':').unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir.as_ref()).await.unwrap();
        for n in 0.. {
            let name = format!("{round}-{n}-of-the-keys");
            let mut new = key(&name);
            new.hash = format!("{:064x}", (round.parse::<u64>().unwrap() << 32) | n);
            store.put_key(&new).await.unwrap();
            println_whole(&format!("done put {name}"));
            if n % 2 == 0 {
                let revoke = |key: &mut poolgate::store::KeyRecord| key.revoked_at = Some(1);
                store.change_key(&new.id, revoke).await.unwrap();
                println_whole(&format!("done revoke {name}"));
            }
        }
    });
}

/// One write: a line is there, or is not.
fn println_whole(line: &str) {
    use std::io::Write;
    std::io::stdout()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

#[test]
fn a_gateway_that_is_killed_under_load_leaves_a_sound_file() {
    let vendors = Mock::several(1, &[]);
    let keys = "clients: {keys: [{name: blue, key: sk-blue}]}\n";
    let mut gateway = Gateway::start(&format!("{keys}{}", pool(&vendors, "")));
    for _ in 0..count(2, 20) {
        let address = gateway.address;
        let request = chat(false).bearer("sk-blue");
        let load = std::thread::spawn(move || {
            let mut served = 0_usize;
            // Until nobody answers any more.
            while request
                .try_send(address)
                .is_ok_and(|answer| answer.status == 200)
            {
                served += 1;
            }
            served
        });
        wait_for("rows to be written", || {
            let at = gateway.program.folder().join("data/poolgate.db-wal");
            fs::metadata(at)
                .is_ok_and(|file| file.len() > 100_000)
                .then_some(())
        });
        let process = Pid::from_raw(gateway.program.id().try_into().unwrap());
        kill(process, Signal::SIGKILL).unwrap();
        gateway.program.wait();
        assert!(load.join().unwrap() > 0);
        let file = gateway.program.folder().join("data/poolgate.db");
        assert_eq!(integrity(&file), "ok");
        gateway.start_again();
    }
}

/// What SQLite itself says of the file.
fn integrity(file: &std::path::Path) -> String {
    super::sqlite(file, "PRAGMA integrity_check")
}
