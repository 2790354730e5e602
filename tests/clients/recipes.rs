//! What docs/clients.md tells users to do, done.

use std::fs;
use std::process::Command;

use super::installed;
use crate::support::{Gateway, Mock, pool};

const PAGE: &str = include_str!("../../docs/clients.md");

/// The blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let mark = format!("```{language}\n");
    let opened = PAGE.split(&mark).skip(1).map(str::to_owned);
    opened
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn each_recipe_of_the_page_works() {
    let vendors = [Mock::start(&[])];
    let gateway = Gateway::start(&format!(
        "clients: {{open: false, keys: [{{name: docs, key: YOUR_KEY}}]}}\n{}",
        pool(&vendors, "")
    ));
    gateway.wait_until_ready();
    let here = |text: &str| text.replace("127.0.0.1:8080", &gateway.address.to_string());
    let (curls, scripts) = (blocks("sh"), blocks("python"));
    assert_eq!((curls.len(), scripts.len()), (2, 3));
    let python = installed("clients-venv/bin/python");
    for (n, script) in scripts.iter().enumerate() {
        let file = gateway.program.folder().join(format!("recipe-{n}.py"));
        fs::write(&file, here(script)).unwrap();
        let run = Command::new(&python)
            .arg(&file)
            .env_clear()
            .env("HOME", gateway.program.folder())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(
            run.status.success() && !run.stdout.is_empty(),
            "{script}{said}"
        );
    }
    for line in &curls {
        let run = Command::new("sh")
            .args(["-c", &here(line)])
            .output()
            .unwrap();
        assert!(run.status.success() && !run.stdout.is_empty(), "{line}");
    }
    assert!(vendors[0].count("requests") >= 5);
}
