//! From each of the five older systems: its settings become a configuration, nothing is asked twice, and
//! what has no counterpart is said.

mod alone;
mod refused;
mod run;
mod taken;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of one system's settings in a folder of the test's own.
struct Older {
    folder: tempfile::TempDir,
}

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
    complaints: String,
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

impl Older {
    fn of(system: &str) -> Older {
        let folder = tempfile::tempdir().unwrap();
        copy(&source("tests/fixtures/import").join(system), folder.path());
        Older { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Exchanges a part of a file.
    #[track_caller]
    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}: {text}");
        self.write(name, &text.replace(from, to));
    }

    /// `poolgate` in the folder, nothing in its environment.
    fn poolgate(&self, arguments: &[&str]) -> Said {
        let run = Command::new(env!("CARGO_BIN_EXE_poolgate"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: run.status.code(),
            out: text(&run.stdout),
            complaints: text(&run.stderr),
        }
    }
}

/// How each is imported, and its name in conf/examples.
const SYSTEMS: [(&str, &str, &[&str]); 5] = [
    (
        "router",
        "multi-account-json",
        &["multi-account-json", "multi_account_config.json"],
    ),
    (
        "amazonq",
        "amazonq-env",
        &[
            "amazonq-env",
            "dot.env",
            "--upstream",
            "http://127.0.0.1:9000",
        ],
    ),
    (
        "launcher",
        "auth-dir",
        &["auth-dir", "auth_profiles/active"],
    ),
    (
        "tiers",
        "account-tier-dir",
        &[
            "account-tier-dir",
            "account",
            "--redis",
            "redis://127.0.0.1:6380",
        ],
    ),
    ("orchestrator", "compose-env", &["compose-env", "dot.env"]),
];

/// Rows 0-09, 1-71, 2-01, 3-26, 4-29c of the checklist.
#[test]
fn each_import_is_the_example_that_is_shipped_and_checks_clean() {
    for (system, example, arguments) in SYSTEMS {
        let older = Older::of(system);
        let command = [&["import"], arguments, &["-o", "poolgate.yaml"]].concat();
        let said = older.poolgate(&command);
        assert_eq!(
            said.code,
            Some(0),
            "{system}: {}{}",
            said.out,
            said.complaints
        );
        let example = source("conf/examples").join(format!("{example}.yaml"));
        if std::env::var("POOLGATE_WRITE_EXAMPLES").is_ok() {
            fs::write(&example, older.read("poolgate.yaml")).unwrap();
        }
        let shipped = fs::read_to_string(&example).unwrap_or_default();
        let written = older.read("poolgate.yaml");
        assert_eq!(
            written,
            shipped,
            "{}: `POOLGATE_WRITE_EXAMPLES=1 cargo nextest run imports` writes it",
            example.display()
        );
        let mut check = vec!["check"];
        if older.path("dot.env").exists() {
            check.extend(["--env-file", "dot.env"]);
        }
        let checked = older.poolgate(&check);
        assert_eq!(checked.code, Some(0), "{system}: {}", checked.complaints);
        assert_eq!(checked.complaints, "", "{system}");
        for secret in [
            "aor-refresh",
            "secret-one",
            "invented",
            "never-read",
            "token-of",
            "sk-router",
        ] {
            let told = format!("{written}{}{}", said.out, said.complaints);
            assert!(!told.contains(secret), "{system} tells {secret}");
        }
    }
}

/// What each cannot do, or does otherwise, is said.
#[test]
fn what_has_no_counterpart_is_said() {
    let expected: [(&str, &[&str]); 5] = [
        ("router", &["admin token"]),
        (
            "amazonq",
            &[
                "PROFILE_ARN",
                "ZERO_INPUT_TOKEN_MODELS",
                "HEALTH_CHECK_INTERVAL",
                "this machine only",
            ],
        ),
        ("launcher", &["this machine only", "left alone"]),
        ("tiers", &["medium.sh pool 60", "keys import", "key's id"]),
        (
            "orchestrator",
            &["/api/chat", "JWT_SECRET", "CLAUDE_PASSWORD_n"],
        ),
    ];
    for ((system, words), (_, _, arguments)) in expected.into_iter().zip(SYSTEMS) {
        let older = Older::of(system);
        let said = older.poolgate(&[&["import"], arguments].concat());
        for word in words {
            assert!(
                said.complaints.contains(word),
                "{system}: {word}: {}",
                said.complaints
            );
        }
        assert!(
            said.out.starts_with("# Taken over from"),
            "printed without -o"
        );
    }
}

#[test]
fn without_a_converter_the_amazon_q_pool_is_told_that_it_needs_one() {
    let older = Older::of("amazonq");
    let said = older.poolgate(&["import", "amazonq-env", "dot.env"]);
    assert!(
        said.complaints.contains("converter that speaks"),
        "{}",
        said.complaints
    );
    assert!(said.out.contains("https://q.us-east-1.amazonaws.com"));
}

#[test]
fn a_file_that_exists_is_kept() {
    let older = Older::of("router");
    older.write("poolgate.yaml", "mine");
    let said = older.poolgate(&[
        "import",
        "multi-account-json",
        "multi_account_config.json",
        "-o",
        "poolgate.yaml",
    ]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.complaints.contains("poolgate.yaml exists already"),
        "{}",
        said.complaints
    );
    assert_eq!(older.read("poolgate.yaml"), "mine");
}

/// Row 0-81: the older file itself, without an import.
#[test]
fn the_routers_file_runs_as_it_is_with_a_warning() {
    let older = Older::of("router");
    let said = older.poolgate(&["check", "-c", "multi_account_config.json", "--print"]);
    assert_eq!(said.code, Some(0), "{}", said.complaints);
    assert!(
        said.complaints.contains("warning: the older router's file"),
        "{}",
        said.complaints
    );
    for line in [
        "id: account1",
        "keys_file:",
        "strategy: round_robin",
        "port: 2048",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
}
