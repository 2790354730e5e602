//! Long questions about usage hold up nobody who needs an answer soon.

use std::process::{Child, Command, Stdio};
use std::thread;

use super::Database;
use crate::support::{Gateway, Mock, Postgres, chat, get, pool, wait_for};

/// Somebody who has this table to himself until he is let go.
struct Locked<'a> {
    server: &'a Postgres,
    psql: Child,
}

impl Locked<'_> {
    fn usage(server: &Postgres) -> Locked<'_> {
        let lock = "BEGIN; LOCK TABLE usage; SELECT pg_sleep(600)";
        let mut psql: Command = server.asking(lock);
        let psql = psql.stdout(Stdio::null()).stderr(Stdio::null());
        let psql = psql.spawn().unwrap();
        let locked = Locked { server, psql };
        wait_for("the lock", || {
            (locked.held("COUNT(*)") == "1").then_some(())
        });
        locked
    }

    fn held(&self, what: &str) -> String {
        self.server.sql(&format!(
            "SELECT {what} FROM pg_locks WHERE relation = 'usage'::regclass \
             AND mode = 'AccessExclusiveLock' AND granted"
        ))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It would sleep on without the one who asked it to.
        self.held("pg_terminate_backend(pid)");
        self.psql.wait().unwrap();
    }
}

#[test]
fn a_revocation_is_in_force_while_questions_about_usage_wait_for_their_answers() {
    let server = Postgres::start();
    let vendors = Mock::several(1, &[]);
    let closed = "clients: {open: false}\n";
    let state = Database::state_of(&server.url(), "");
    let gateway = Gateway::start(&format!("{closed}{state}{}", pool(&vendors, "")));
    let (code, key, said) = gateway
        .program
        .command(&["keys", "create", "--name", "one"]);
    assert_eq!(code, Some(0), "{said}");
    let ask = || gateway.send(&chat(false).bearer(key.trim())).status;
    wait_for("the key to be known", || (ask() == 200).then_some(()));
    let locked = Locked::usage(&server);
    let usage = || gateway.admin(get("/api/v1/usage"));
    thread::scope(|scope| {
        let calls = [(); 3].map(|()| scope.spawn(usage));
        // Two of them have the connections, and the third one does not get any.
        let has_answer = |call: &thread::ScopedJoinHandle<'_, _>| call.is_finished();
        wait_for("one to be told", || {
            calls.iter().any(has_answer).then_some(())
        });
        let (code, _, said) = gateway.program.command(&["keys", "revoke", "one"]);
        assert_eq!(code, Some(0), "{said}");
        wait_for("the revocation", || (ask() == 401).then_some(()));
        let waiting = calls.iter().filter(|call| !has_answer(call)).count();
        assert_eq!(waiting, 2, "they are still asking");
        drop(locked);
        let answers = calls.map(|call| call.join().unwrap());
        let (good, told): (Vec<_>, Vec<_>) = answers.iter().partition(|one| one.status == 200);
        assert_eq!((good.len(), told.len()), (2, 1));
        assert!(
            told[0].text().contains("connections to it are in use"),
            "{}",
            told[0].text()
        );
    });
    assert!(
        !gateway.log().contains("stay as they are known"),
        "{}",
        gateway.log()
    );
}
