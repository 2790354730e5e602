//! A backup restores what it was made of, into either database, while gateways serve.

use std::fs;

use nix::sys::signal::Signal;
use poolgate::secret::Secret;
use poolgate::store::Store;
use serde_json::Value;

use super::{Database, key, wait_until_used};
use crate::support::{Gateway, Mock, chat, get, pool, wait_for};

const KEYS: &str = "clients: {keys: [{name: blue, key: sk-blue}]}\n";

/// The records that this gateway uses.
fn store(gateway: &Gateway, database: &Database) -> Store {
    match database {
        Database::Sqlite => Store::in_dir(&gateway.program.folder().join("data")),
        Database::Server(server) => Store::on_server(&Secret::new(server.url())).unwrap(),
    }
}

/// Usage and requests, as the gateway shows them.
fn shown(gateway: &Gateway) -> Vec<Value> {
    let ask = |path| {
        let answer = gateway.admin(get(path));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    vec![
        ask("/api/v1/usage?by=day,key,account,model"),
        ask("/api/v1/requests"),
    ]
}

#[test]
fn what_was_backed_up_is_restored_into_either_database_while_the_gateway_runs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let vendors = Mock::several(1, &[]);
    let [sqlite, postgres] = Database::both();
    // The second one begins with what the first one left.
    for (from, into, used) in [(&sqlite, &postgres, 70), (&postgres, &sqlite, 141)] {
        let text = format!("{KEYS}{}{}", from.state(), pool(&vendors, ""));
        let mut one = Gateway::start(&text);
        for _ in 0..70 {
            assert_eq!(one.send(&chat(false).bearer("sk-blue")).status, 200);
        }
        wait_until_used(&one, used);
        let name = format!("kept {}", one.address.port());
        let kept = key(&name);
        let mut kept = poolgate::store::KeyRecord {
            hash: format!("{:064x}", one.address.port()),
            notes: "é \"quoted\"\nand more".to_owned(),
            ..kept
        };
        kept.expires_at = Some(i64::MAX);
        runtime.block_on(store(&one, from).put_key(&kept)).unwrap();
        let before = shown(&one);
        let file = one.program.folder().join("backup.jsonl");
        let file = file.to_str().unwrap();
        let (code, said, complaint) = one.program.command(&["backup", file]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(
            said.contains("1 keys, ") || said.contains("2 keys, "),
            "{said}"
        );
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(!fs::read_to_string(file).unwrap().contains("state_key"));

        let text = format!("{KEYS}{}{}", into.state(), pool(&vendors, ""));
        let other = Gateway::start(&text);
        let lost = runtime.block_on(async {
            let store = store(&other, into);
            store.put_key(&key("lost")).await.unwrap();
            store.keys_version().await.unwrap()
        });
        assert_eq!(other.send(&chat(false).bearer("sk-blue")).status, 200);
        wait_for("the request to be written down", || {
            let latest = other.admin(get("/api/v1/requests?last=1"));
            (latest.json()["requests"][0]["key"] == "blue").then_some(())
        });
        let (code, said, complaint) = other.program.command(&["restore", file]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(said.starts_with("restored: "), "{said}");
        runtime.block_on(async {
            let store = store(&other, into);
            let keys = store.keys().await.unwrap();
            assert!(keys.contains(&kept), "{keys:?}");
            assert!(keys.iter().all(|key| key.name != "lost"));
            assert!(
                store.keys_version().await.unwrap() > lost,
                "it is seen by all"
            );
        });
        // The request of before the restore may still be shown from memory.
        assert_eq!(shown(&other)[0], before[0]);
        assert_eq!(other.send(&chat(false).bearer("sk-blue")).status, 200);
        wait_until_used(&other, used + 1);
        one.program.stop(Signal::SIGTERM);
    }
}

#[test]
fn half_a_backup_changes_nothing_and_says_where_it_ends() {
    let vendors = Mock::several(1, &[]);
    let gateway = Gateway::start(&format!("{KEYS}{}", pool(&vendors, "")));
    let ask = || assert_eq!(gateway.send(&chat(false).bearer("sk-blue")).status, 200);
    ask();
    wait_until_used(&gateway, 1);
    let file = gateway.program.folder().join("backup.jsonl");
    let name = file.to_str().unwrap();
    assert_eq!(gateway.program.command(&["backup", name]).0, Some(0));
    ask();
    wait_until_used(&gateway, 2);
    let before = shown(&gateway);
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without_last = lines[..lines.len() - 1].join("\n") + "\n";
    let is_row = |line: &&str| line.starts_with('[');
    let no_rows: Vec<&str> = lines.iter().copied().filter(|line| !is_row(line)).collect();
    for (text, complaint) in [
        (without_last, "it ends early"),
        (no_rows.join("\n") + "\n", "some rows are missing"),
        (
            whole.replace("\"table\":\"requests\"", "\"table\":\"secrets\""),
            "a table that is not known",
        ),
        (
            whole.replace("poolgate_backup\":1", "poolgate_backup\":9"),
            "of a newer poolgate",
        ),
        ("PGDMP".to_owned(), "line 1: no JSON"),
        (String::new(), "it ends early"),
    ] {
        fs::write(&file, text).unwrap();
        let (code, _, said) = gateway.program.command(&["restore", name]);
        assert_eq!(code, Some(1), "{complaint}: {said}");
        assert!(said.contains(complaint), "{complaint}: {said}");
        assert_eq!(shown(&gateway), before, "{complaint}");
    }
}

#[test]
fn the_key_that_encrypts_tokens_is_in_a_backup_only_when_asked() {
    let vendors = Mock::several(1, &[]);
    let text = format!("{KEYS}{}", pool(&vendors, ""));
    let gateway = Gateway::start(&text);
    let hex = "0123456789abcdef".repeat(4);
    let place = "data/state.key";
    let at = gateway.program.folder().join(place);
    fs::write(&at, format!("{hex}\n")).unwrap();
    fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = gateway.program.folder().join("backup.jsonl");
    let name = file.to_str().unwrap();
    assert_eq!(gateway.program.command(&["backup", name]).0, Some(0));
    assert!(!fs::read_to_string(&file).unwrap().contains(&hex));
    let (code, _, said) = gateway
        .program
        .command(&["backup", name, "--with-state-key"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(fs::read_to_string(&file).unwrap().contains(&hex));
    let other = Gateway::start(&text);
    let (code, said, _) = other.program.command(&["restore", name]);
    assert_eq!(code, Some(0));
    assert!(said.contains("state.key: put in place"), "{said}");
    let placed = other.program.folder().join(place);
    assert_eq!(fs::read_to_string(&placed).unwrap().trim(), hex);
    // One that is there stays.
    fs::write(&placed, "f".repeat(64)).unwrap();
    let (code, _, said) = other.program.command(&["restore", name]);
    assert_eq!(code, Some(0));
    assert!(said.contains("is not put in place"), "{said}");
    assert_eq!(fs::read_to_string(&placed).unwrap(), "f".repeat(64));
}
