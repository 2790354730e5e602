//! A real PostgreSQL of the test's own.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::program::free_address;
use super::server::Server;
use super::tls::Issued;

/// The password of its user, which it asks for.
pub(crate) const PASSWORD: &str = "s3cret/of:the@test";

/// A running PostgreSQL with an empty database `poolgate` of the user `poolgate`.
pub(crate) struct Postgres {
    server: Server,
    pub(crate) address: SocketAddr,
}

impl Postgres {
    /// Starts one on a free port.
    pub(crate) fn start() -> Postgres {
        Postgres::start_with(&[])
    }

    /// The same, which is reached over TLS only and proves with this certificate who it is.
    pub(crate) fn start_secured(issued: &Issued) -> Postgres {
        Postgres::start_with(&[
            ("server.crt", &issued.cert),
            ("server.key", &issued.key),
            (
                "pg_hba.conf",
                "hostssl all all 127.0.0.1/32 scram-sha-256\n",
            ),
            ("postgresql.auto.conf", "ssl = on\n"),
        ])
    }

    /// With these files where it keeps its own.
    fn start_with(files: &[(&str, &str)]) -> Postgres {
        let address = free_address();
        let mut server = Server::new("postgres", Signal::SIGQUIT);
        let folder = server.folder().to_str().unwrap().to_owned();
        let data = format!("{folder}/data");
        put_data(&server, &data);
        for (name, text) in files {
            let (given, own) = (format!("{folder}/{name}"), format!("{data}/{name}"));
            fs::write(&given, text).unwrap();
            fs::set_permissions(&given, Permissions::from_mode(0o644)).unwrap();
            server.run(&["install", "-m", "600", &given, &own]);
        }
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        server.start(&[
            &program("postgres"),
            "-D",
            &data,
            "-h",
            &host,
            "-p",
            &port,
            "-k",
            &folder,
            // What it keeps need not outlive this machine.
            "-F",
        ]);
        let mut postgres = Postgres { server, address };
        postgres.wait_until_it_serves();
        postgres.sql_in("postgres", "CREATE DATABASE poolgate");
        postgres
    }

    /// What `state.postgres` says.
    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    /// The same with another password.
    pub(crate) fn url_with(&self, password: &str) -> String {
        let word: String = password
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        format!("postgres://poolgate:{word}@{}/poolgate", self.address)
    }

    /// What `psql` says to these statements: rows of fields with `|` between.
    #[track_caller]
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.sql_in("poolgate", statements)
    }

    /// A `psql` that asks this.
    pub(crate) fn asking(&self, statements: &str) -> Command {
        self.psql("poolgate", statements)
    }

    /// Ends it as it is: its port refuses.
    pub(crate) fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again at the same port, with what it kept.
    pub(crate) fn start_again(&mut self) {
        self.server.start_again();
        self.wait_until_it_serves();
    }

    #[track_caller]
    fn sql_in(&self, database: &str, statements: &str) -> String {
        let asked = self.psql(database, statements).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(asked.status.success(), "{}", said(&asked.stderr));
        said(&asked.stdout)
    }

    fn psql(&self, database: &str, statements: &str) -> Command {
        let mut psql = Command::new(program("psql"));
        psql.args(["-h", &self.address.ip().to_string()])
            .args(["-p", &self.address.port().to_string()])
            .args(["-U", "poolgate", "-d", database, "-XqAt", "-c", statements])
            .env("PGPASSWORD", PASSWORD);
        psql
    }

    #[track_caller]
    fn wait_until_it_serves(&mut self) {
        let mut ask = self.psql("postgres", "SELECT 1");
        self.server.wait_for("PostgreSQL to answer", || {
            ask.output().unwrap().status.success().then_some(())
        });
    }
}

/// Puts what a new PostgreSQL keeps into this folder. Making it takes a second, and a copy a tenth of
/// that: the first one stays for all tests.
fn put_data(server: &Server, data: &str) {
    let programs = program("initdb").replace('/', "_");
    let first = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("data{programs}"));
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").args(["-a", from, to]).status();
        assert!(copied.unwrap().success(), "{from} to {to}");
    };
    if first.exists() {
        return copy(first.to_str().unwrap(), data);
    }
    let word = format!("{}/password", server.folder().display());
    fs::write(&word, PASSWORD).unwrap();
    fs::set_permissions(&word, Permissions::from_mode(0o644)).unwrap();
    server.run(&[
        &program("initdb"),
        "--no-sync",
        "--auth=scram-sha-256",
        "--username=poolgate",
        &format!("--pwfile={word}"),
        "--encoding=UTF8",
        "--no-locale",
        &format!("--pgdata={data}"),
    ]);
    // Whole or not at all; another test may be as far.
    let whole = first.with_extension(std::process::id().to_string());
    copy(data, whole.to_str().unwrap());
    if fs::rename(&whole, &first).is_err() {
        fs::remove_dir_all(&whole).unwrap();
    }
}

/// The newest version's program, where Debian keeps it.
fn program(name: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: run `make deps`");
    let folders = versions.map(|version| version.unwrap().path());
    let number = |path: &PathBuf| -> u32 {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.parse().unwrap_or(0)
    };
    let newest = folders
        .max_by_key(number)
        .expect("PostgreSQL: run `make deps`");
    newest.join("bin").join(name).to_str().unwrap().to_owned()
}
