//! A gateway that is tried from the command line: `test`, `doctor`, `bench`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Gateway, Mock, Request, chat, free_address, get, pool};

fn said(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let (code, out, complaints) = gateway.program.command(arguments);
    let json = serde_json::from_str(&out).unwrap_or_default();
    (code, json, format!("{out}{complaints}"))
}

/// Rows 0-95, 2-60 of the checklist.
#[test]
fn the_gateway_is_tried_from_the_command_line() {
    let vendors = [Mock::start(&[])];
    let keys = "clients: {open: false, keys: [{name: me, key: sk-of-mine}]}\n";
    let gateway = Gateway::start(&format!("{keys}{}", pool(&vendors, "")));
    gateway.wait_until_ready();
    let (code, report, text) = said(
        &gateway,
        &["test", "--parallel", "6", "--key", "sk-of-mine", "--json"],
    );
    assert_eq!(code, Some(0), "{text}");
    let names: Vec<&Value> = report["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| &part["name"])
        .collect();
    assert_eq!(names, ["models", "chat", "stream", "at once"]);
    assert!(
        report["parts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|part| part["ok"] == true)
    );
    for model in ["claude-sonnet-4-5", "gemini-3-pro"] {
        let (code, out, _) =
            gateway
                .program
                .command(&["test", "--model", model, "--key", "sk-of-mine"]);
        assert_eq!(code, Some(0), "{out}");
        assert!(
            out.lines().count() == 4 && out.lines().all(|line| line.chars().count() <= 80),
            "{out}"
        );
    }
    let (code, report, _) = said(&gateway, &["test", "--json"]);
    assert_eq!(code, Some(1), "without a key");
    assert!(
        report["parts"][0]["said"]
            .as_str()
            .unwrap()
            .starts_with("401"),
        "{report}"
    );
    let (_, out, complaints) = gateway.program.command(&["test", "--key", "sk-of-mine"]);
    assert!(!format!("{out}{complaints}").contains("sk-of-mine"));
}

#[test]
fn a_gateway_of_one_name_is_probed_and_tried_by_its_address() {
    let vendors = [Mock::start(&[])];
    let listen = "listen: [{address: \"{listen}\", hosts: [api.example.com]}]\n";
    let gateway = Gateway::start(&format!("{listen}{}", pool(&vendors, "")));
    gateway.wait_until_ready();
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
        let head = Request::new("HEAD", path).send(gateway.address);
        assert_eq!(head.status, 200, "{path}");
    }
    for request in [chat(false), get("/"), Request::new("POST", "/readyz")] {
        let refused = gateway.send(&request);
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    assert_eq!(gateway.program.command(&["healthcheck"]).0, Some(0));
    let (code, out, complaints) = gateway.program.command(&["test", "--parallel", "1"]);
    assert_eq!(code, Some(0), "{out}{complaints}");
}

#[test]
fn a_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let vendors = [Mock::start(&[])];
    let gone = free_address();
    let text = format!(
        "{}      - {{id: lost, upstream: \"http://{gone}\", credential: none}}\n",
        pool(&vendors, "")
    );
    let gateway = Gateway::start(&text);
    gateway.wait_until_ready();
    let (code, report, text) = said(&gateway, &["doctor", "--json"]);
    assert_eq!(
        (code, &report["ok"]),
        (Some(1), &Value::from(false)),
        "{text}"
    );
    let of = |what: &str| {
        let all = report["findings"].as_array().unwrap().iter();
        let found = all.clone().find(|one| one["what"] == what);
        found
            .unwrap_or_else(|| panic!("nothing of {what}: {text}"))
            .clone()
    };
    assert_eq!(of("configuration")["ok"], true);
    assert_eq!(of("state.dir")["ok"], true);
    assert_eq!(of(&vendors[0].url())["ok"], true);
    let lost = of(&format!("http://{gone}"));
    assert_eq!(lost["ok"], false);
    assert!(
        lost["said"].as_str().unwrap().contains("cannot be reached"),
        "{lost}"
    );
    assert_eq!(of("gateway")["ok"], true);
    let files = of("open files")["said"].as_str().unwrap().to_owned();
    assert!(files.contains("for the running gateway"), "{files}");
    // What a start would refuse, and what everybody may read.
    let data = gateway.program.folder().join("data");
    for name in ["state.key", "own.token"] {
        let path = data.join(name);
        fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let listed = "tokens: [{name: me, token: {file: data/own.token}, role: admin}]";
    let path = gateway.program.folder().join("poolgate.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen("admin: {", &format!("admin: {{{listed}, "), 1);
    gateway.program.write("poolgate.yaml", &text);
    let (_, report, text) = said(&gateway, &["doctor", "--json"]);
    let wrong = |what: &str, word: &str| {
        let all = report["findings"].as_array().unwrap().iter();
        let mut wrong = all.filter(|one| one["ok"] == false && one["what"] == what);
        let is_said = wrong.any(|one| one["said"].as_str().unwrap().contains(word));
        assert!(is_said, "{what}: {text}");
    };
    wrong("state.key", "chmod 600");
    wrong("admin.token", "chmod 600");
    wrong("gateway", "does not accept our admin token");
    gateway.program.write("poolgate.yaml", "pools: 3\n");
    let (code, out, _) = gateway.program.command(&["doctor"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("`poolgate check` says all of it"), "{out}");
}

#[test]
fn a_bench_measures_and_counts_what_failed() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&pool(&vendors, ""));
    gateway.wait_until_ready();
    let url = format!("http://{}", gateway.address);
    let (code, report, text) = said(
        &gateway,
        &[
            "bench",
            &url,
            "--clients",
            "4",
            "--time",
            "300ms",
            "--stream",
            "--json",
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(
        report["requests"].as_u64() > Some(0)
            && report["first_byte_ms"]["p50"].as_f64() > Some(0.0),
        "{report}"
    );
    let nobody = format!("http://{}", free_address());
    let (code, report, _) = said(
        &gateway,
        &[
            "bench",
            &nobody,
            "--clients",
            "1",
            "--time",
            "50ms",
            "--json",
        ],
    );
    assert_eq!(code, Some(1));
    assert!(
        report["failures"]["cannot be reached"].as_u64() > Some(0),
        "{report}"
    );
    vendors[0].set(&json!({"behaviour": {"status": "400"}}));
    let short = ["bench", &url, "--clients", "1", "--time", "50ms"];
    let (code, out, _) = gateway.program.command(&short);
    assert_eq!(code, Some(1));
    let line = out.lines().find(|line| line.starts_with("no "));
    assert!(
        line.is_some_and(|line| line.contains("failed") && line.contains("400 Bad Request: ")),
        "{out}"
    );
}
