//! PostgreSQL over TLS, of an authority of its own.

use super::{Database, asked, wait_until_used};
use crate::support::{Authority, Gateway, Mock, Postgres, Program, chat, pool};

#[test]
fn records_are_kept_in_a_postgresql_that_proves_who_it_is() {
    let authority = Authority::new();
    let server = Postgres::start_secured(&authority.issue("127.0.0.1"));
    let vendors = Mock::several(1, &[]);
    let text = |mode: &str, file: &str| {
        let url = format!("{}?sslmode={mode}&sslrootcert={file}", server.url());
        format!("{}{}", Database::state_of(&url, ""), pool(&vendors, ""))
    };
    let files = [
        ("ca.pem", &*authority.pem()),
        ("other.pem", &*Authority::new().pem()),
    ];
    let gateway = Gateway::start_with(&text("verify-full", "ca.pem"), &files, &[]);
    assert_eq!(gateway.send(&chat(false)).status, 200);
    wait_until_used(&gateway, 1);
    let secured = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE ssl AND query LIKE '%writers%'";
    assert!(asked(&server.sql(secured)) > 0);
    // Neither one whose authority is not known, nor one that is not what it is called.
    let refused = |text: &str| {
        let text =
            format!("listen: [{{address: 127.0.0.1:0}}]\nadmin: {{address: 127.0.0.1:0}}\n{text}");
        let files: Vec<_> = files
            .into_iter()
            .chain([("poolgate.yaml", &*text)])
            .collect();
        let mut program = Program::start(&["run"], &files, &[]);
        assert_eq!(program.wait().code(), Some(1));
        program.output()
    };
    let said = refused(&text("verify-full", "other.pem"));
    assert!(said.contains("certificate"), "{said}");
    let elsewhere = text("verify-full", "ca.pem").replace("@127.0.0.1:", "@localhost:");
    let said = refused(&elsewhere);
    assert!(said.contains("certificate"), "{said}");
    let plain = refused(&text("disable", "ca.pem"));
    assert!(plain.contains("no encryption"), "{plain}");
}
