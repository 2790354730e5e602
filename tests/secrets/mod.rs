//! Every secret stays where it belongs: planted in every place there is, driven through every way a
//! request can go, and then looked for in everything that is written, answered or sent.

mod house;
mod planted;
mod replaced;
mod tattler;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Answer, Gateway, Request, get, post, wait_for};
use house::{ACCOUNTS, House, house};
use planted::Planted;
use tattler::{ANSWERS, TELLS};

/// A request in each dialect.
fn requests() -> [Request; 4] {
    let message = json!([{"role": "user", "content": "Hello"}]);
    let body = json!({"model": "gpt-5", "messages": message});
    let stream = json!({"model": "gpt-5", "messages": message, "stream": true});
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    [
        post("/v1/chat/completions", &body),
        post("/v1/chat/completions", &stream),
        post("/v1/messages?beta=true", &body),
        post("/v1beta/models/gemini-2.5-pro:generateContent", &contents),
    ]
}

impl House {
    fn tell(&mut self, answer: &Answer) {
        self.told.extend(format!("{:?}", answer.headers).bytes());
        self.told.extend(&answer.body);
    }

    /// The request with every kind of secret a client may send, the first key being `key`.
    fn armed(&mut self, request: &Request, key: &str) -> Request {
        let planted = &mut self.planted;
        request
            .clone()
            .bearer(key)
            .header("x-api-key", planted.plant("client x-api-key"))
            .header("api-key", planted.plant("client api-key"))
            .header("x-goog-api-key", planted.plant("client x-goog-api-key"))
            .header(
                "proxy-authorization",
                planted.plant("client proxy-authorization"),
            )
            .header("cookie", format!("a={}", planted.plant("client cookie")))
            .header("openai-organization", planted.plant("client organization"))
            .header("openai-project", planted.plant("client project"))
            .header("x-goog-user-project", planted.plant("client user project"))
            .header(
                "sec-websocket-protocol",
                format!(
                    "realtime, openai-insecure-api-key.{}",
                    planted.plant("client protocol")
                ),
            )
    }

    /// Whatever the vendors answer, by way of every account in turn.
    fn ask_in_every_way(&mut self) {
        let key = self.planted.at("client key").to_owned();
        for answer in ANSWERS {
            for request in requests() {
                for account in ACCOUNTS {
                    let armed = self.armed(&request, &key).header(TELLS, answer);
                    // A stream that breaks off may be no whole answer.
                    if let Ok(answer) = armed.try_send(self.gateway.address) {
                        self.tell(&answer);
                    }
                    // So that each account comes to be asked.
                    self.gateway_act(account, "disable");
                }
                for account in ACCOUNTS {
                    self.gateway_act(account, "enable");
                    self.gateway_act(account, "reset");
                }
            }
        }
    }

    fn admin(&mut self, request: Request) -> Answer {
        let token = self.planted.at("admin token").to_owned();
        let answer = request.bearer(&token).send(self.gateway.admin_address);
        self.tell(&answer);
        answer
    }

    fn gateway_act(&mut self, account: &str, action: &str) {
        let path = format!("/api/v1/accounts/{account}/{action}");
        let answer = self.admin(post(&path, &json!(null)));
        // The records are away here: an order is in force, and said not to be written down.
        let is_done = answer.status < 300
            || (answer.status == 503 && answer.text().contains("it is in force"));
        assert!(is_done, "{}", answer.text());
    }

    /// Everything for which a client is turned away.
    fn be_refused(&mut self) {
        let key = self.planted.at("client key").to_owned();
        let wrong = self.planted.plant("client wrong key");
        for request in requests() {
            for refused in [
                self.armed(&request, &wrong),
                self.armed(&request, &key)
                    .header("transfer-encoding", "chunked"),
                self.armed(&request, &key)
                    .header("x-large", "x".repeat(40_000)),
                self.armed(&request, &key)
                    .header("content-length", "40000000"),
                self.armed(&request, &key)
                    .body(self.planted.plant("client body")),
            ] {
                if let Ok(answer) = refused.try_send(self.gateway.address) {
                    self.tell(&answer);
                }
                if let Ok(answer) = refused.try_send_h2(self.gateway.address) {
                    self.tell(&answer);
                }
            }
        }
        for path in [
            "/nowhere",
            "/v1/../x",
            "/v1/chat/completions",
            "/metrics",
            "/",
        ] {
            for name in ["key", "access_token", "token"] {
                let secret = self.planted.plant(&format!("client ?{name}="));
                let answer = self.gateway.get(&format!("{path}?{name}={secret}"));
                self.tell(&answer);
            }
        }
        let socket = get("/v1/responses").header("connection", "upgrade");
        let socket = socket.header("upgrade", "websocket");
        let socket = self.armed(&socket, &key);
        let answer = socket.send(self.gateway.address);
        self.tell(&answer);
    }

    /// Bytes that are no request at all, with a secret in each of them.
    fn be_malformed(&mut self) {
        let secret = self.planted.plant("client malformed");
        for text in [
            format!("{secret}\r\n\r\n"),
            format!("GET /?key={secret} HTTP/9.9\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nauthorization {secret}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: \0{secret}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: a\r\n x-api-key: {secret}\r\n\r\n"),
            format!("GET /\x01?key={secret} HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!(
                "POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\ncontent-length: 5x\r\n\r\n"
            ),
            format!(
                "POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\nzz{secret}\r\n",
                self.planted.at("client key")
            ),
            format!("CONNECT {secret}:1 HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{secret}{secret}"),
            format!("PRI {secret} HTTP/2.0\r\n\r\n"),
        ] {
            let mut socket = TcpStream::connect(self.gateway.address).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            socket.write_all(text.as_bytes()).unwrap();
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut answer = vec![];
            let _ = socket.read_to_end(&mut answer);
            self.told.extend(answer);
        }
    }

    /// Everything that an operator may look at, and what one is told who gets it wrong.
    fn operate(&mut self) {
        let paths = [
            "/api/v1/overview",
            "/api/v1/accounts",
            "/api/v1/accounts/query",
            "/api/v1/pools",
            "/api/v1/config",
            "/api/v1/requests",
            "/api/v1/keys",
            "/metrics",
            "/health",
            "/router/status",
            "/accounts/stats",
            "/accounts/inline",
            "/v1/instances",
            "/api/workers",
            "/api/queue/status",
            "/openapi.json",
        ];
        for path in paths {
            self.admin(get(path));
            let wrong = self.planted.plant("admin wrong token");
            let query = self.planted.plant("admin ?token=");
            let answer = get(&format!("{path}?token={query}"))
                .bearer(&wrong)
                .send(self.gateway.admin_address);
            self.tell(&answer);
            // The older paths stand on the clients' address too.
            let answer = self.gateway.send(&get(path).bearer(&wrong));
            self.tell(&answer);
        }
        self.look_on();
        let key = self.planted.at("client key").to_owned();
        for question in [
            json!({"model": "gpt-5", "key": key}),
            json!({"model": "gpt-5", "key": self.planted.plant("route wrong key")}),
            json!({"model": "gpt-5", "kye": self.planted.plant("route unknown key")}),
            json!({"model": "gpt-5", "headers": {"x y": self.planted.plant("route header")}}),
            json!(self.planted.plant("route body")),
        ] {
            self.admin(post("/api/v1/route", &question));
        }
    }

    /// The first events of a stream that has no end.
    fn look_on(&mut self) {
        const ENOUGH: usize = 3;
        let token = self.planted.at("admin token").to_owned();
        let request = get("/api/v1/events").bearer(&token);
        let address = self.gateway.admin_address;
        let mut socket = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).unwrap();
        socket.write_all(&request.bytes(address)).unwrap();
        let mut seen = String::new();
        while seen.matches("\n\n").count() < ENOUGH {
            let mut part = [0; 4096];
            let length = socket.read(&mut part).unwrap();
            assert!(length > 0, "the events end: {seen}");
            seen += &String::from_utf8_lossy(&part[..length]);
        }
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        self.told.extend(seen.bytes());
    }

    /// What the other commands say beside the running gateway.
    fn run_commands(&mut self) -> Vec<u8> {
        let mut said = vec![];
        for arguments in [
            &["check"][..],
            &["check", "--print"],
            &["check", "--print", "--json"],
            &["status"],
            &["status", "--json"],
            &["route", "--model", "gpt-5"],
            &["route", "--model", "gpt-5", "--key", "-"],
            &["env", "claude"],
            &["env", "codex"],
            &["healthcheck"],
        ] {
            let output = Command::new(env!("CARGO_BIN_EXE_poolgate"))
                .args(arguments)
                .current_dir(self.gateway.program.folder())
                .env_clear()
                .env("ACCOUNT_TOKEN", self.planted.at("account env"))
                .stdin(fs::File::open(self.gateway.program.folder().join("keys.txt")).unwrap())
                .output()
                .unwrap();
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1)), "{arguments:?}: {output:?}");
            said.extend([output.stdout, output.stderr].concat());
        }
        said
    }

    /// A good configuration is read again, then one with a mistake beside each secret.
    fn reload(&mut self) {
        let path = self.gateway.program.folder().join("poolgate.yaml");
        let good = fs::read_to_string(&path).unwrap();
        let reloads = |gateway: &Gateway, outcome: &str, planted: &Planted| {
            let answer = get("/metrics").bearer(planted.at("admin token"));
            let text = answer.send(gateway.admin_address).text();
            text.lines().any(|line| {
                line.starts_with("poolgate_config_reloads_total") && line.contains(outcome)
            })
        };
        for (outcome, text) in [
            ("\"success\"", good.clone()),
            (
                "\"failure\"",
                good.replace("api_key", "api_kye")
                    .replace("secret:", "secrte:")
                    .replace("token: {file", "token: {fiel")
                    .replace("redis://:", "rediss:/:"),
            ),
        ] {
            fs::write(&path, text).unwrap();
            self.gateway.program.signal(Signal::SIGHUP);
            wait_for(&format!("the reload to be a {outcome}"), || {
                reloads(&self.gateway, outcome, &self.planted).then_some(())
            });
        }
        fs::write(&path, good).unwrap();
    }
}

/// All of it under one setting of the log; the text that must be in it, or the test has seen nothing.
fn keeps_every_secret(log: &str, written: &str, a_line: &str) {
    let mut house = house(log);
    house.ask_in_every_way();
    house.be_refused();
    house.be_malformed();
    house.operate();
    house.reload();
    let said = house.run_commands();
    house.assert_not_in_the_process_list();
    house.gateway.program.signal(Signal::SIGTERM);
    house.gateway.program.wait();
    let log = fs::read_to_string(house.gateway.program.folder().join(written)).unwrap();
    assert!(log.contains(a_line), "{log}");
    house.assert_nothing_written();
    house.assert_vendors_heard_only_their_own();
    house.planted.assert_not_in("a command", &said);
    house.assert_no_client_was_told();
}

#[test]
fn no_secret_leaves_its_place_with_a_log_of_text() {
    keeps_every_secret("{level: debug}", "output.txt", " access ");
}

#[test]
fn no_secret_leaves_its_place_with_a_log_of_json_in_a_file() {
    let log = "{level: debug, format: json, file: log/poolgate.log}";
    keeps_every_secret(log, "log/poolgate.log", "\"kind\":\"access\"");
}
