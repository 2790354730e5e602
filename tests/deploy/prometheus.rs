//! A real Prometheus of the test's own, with the shipped rules made quick.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::read;
use crate::support::{Request, free_address, get, server::Server};

/// A running Prometheus.
pub(super) struct Prometheus {
    server: Server,
    address: SocketAddr,
}

/// The shipped rules, but judged four times a second and at once.
fn quick_rules() -> String {
    let mut text = String::new();
    for line in read("prometheus/poolgate.rules.yml").lines() {
        if line.trim_start().starts_with("for: ") {
            continue;
        }
        text += line;
        text += "\n";
        if line.starts_with("  - name: ") {
            text += "    interval: 250ms\n";
        }
    }
    // A test cannot wait that long.
    text.replace("p95_5m > 20", "p95_5m > 0.2")
}

impl Prometheus {
    /// Scrapes these targets with this token.
    pub(super) fn start(targets: &[SocketAddr], token: &str) -> Prometheus {
        let address = free_address();
        let mut server = Server::new("prometheus", Signal::SIGKILL);
        let config = json!({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "rule_files": ["quick.yml"],
            "scrape_configs": [{
                "job_name": "poolgate",
                "authorization": {"credentials": token},
                "file_sd_configs": [{"files": ["targets.json"]}],
            }],
        });
        let folder = server.folder();
        fs::write(folder.join("quick.yml"), quick_rules()).unwrap();
        fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
        let listen = format!("--web.listen-address={address}");
        let files = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"];
        let prometheus = |server| Prometheus { server, address };
        write_targets(&server, targets);
        server.start(&[
            "prometheus",
            files[0],
            files[1],
            &listen,
            "--log.level=warn",
        ]);
        let mut started = prometheus(server);
        started.server.wait_for("Prometheus", || {
            let ready = get("/-/ready").try_send(address).ok()?;
            (ready.status == 200).then_some(())
        });
        started
    }

    pub(super) fn watch(&self, targets: &[SocketAddr]) {
        write_targets(&self.server, targets);
    }

    /// The alerts that fire: name and the account or pool it is about.
    pub(super) fn firing(&self) -> BTreeSet<(String, String)> {
        let answer = get("/api/v1/alerts").send(self.address).json();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let told = firing.map(|alert| {
            let labels = &alert["labels"];
            let about = labels["account"].as_str().or(labels["pool"].as_str());
            let name = labels["alertname"].as_str().unwrap().to_owned();
            (name, about.unwrap_or_default().to_owned())
        });
        told.collect()
    }

    /// Waits until all of these fire; what else may fire as well.
    #[track_caller]
    pub(super) fn wait_until_firing(&self, expected: &BTreeSet<String>) {
        let mut missing = vec![];
        let fires = |missing: &mut Vec<String>| {
            let firing: BTreeSet<_> = self.firing().into_iter().map(|(name, _)| name).collect();
            *missing = expected.difference(&firing).cloned().collect();
            missing.is_empty()
        };
        let begun = std::time::Instant::now();
        while !fires(&mut missing) {
            let late = begun.elapsed() > crate::support::PATIENCE;
            assert!(!late, "these do not fire: {missing:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// What an expression is now.
    #[track_caller]
    pub(super) fn ask(&self, expression: &str) -> Vec<Value> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", expression)
            .finish();
        let request = Request::new("POST", "/api/v1/query")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send(self.address);
        assert_eq!(answer.status, 200, "{expression}: {}", answer.text());
        answer.json()["data"]["result"].as_array().unwrap().clone()
    }
}

/// Prometheus watches the folder for a file that is moved there.
fn write_targets(server: &Server, targets: &[SocketAddr]) {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let new = server.folder().join("new");
    fs::write(&new, json!([{"targets": targets}]).to_string()).unwrap();
    fs::rename(new, server.folder().join("targets.json")).unwrap();
}
