//! An upstream that we did not write: LiteLLM's proxy, which speaks all dialects in its own way. It
//! takes a while to start, so one test has it and goes through everything.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{installed, run};
use crate::support::{Gateway, Mock, Request, chat, free_address, get, post, wait_for};

const KEY: &str = "sk-litellm-of-a-test";

/// It took 12 s alone on the machine, and several times that beside other tests.
const PATIENCE: Duration = Duration::from_secs(150);

/// A running LiteLLM over a simulated vendor.
struct LiteLlm {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
    /// Where it would have to go to reach anybody beyond this machine.
    outside: TcpListener,
}

impl LiteLlm {
    fn start(vendor: &Mock) -> LiteLlm {
        let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", outside.local_addr().unwrap());
        let configuration = folder.path().join("config.yaml");
        std::fs::write(&configuration, configured(vendor)).unwrap();
        let output = File::create(folder.path().join("output.txt")).unwrap();
        let child = Command::new(installed("litellm-venv/bin/litellm"))
            .arg("--config")
            .arg(configuration)
            .args(["--host", "127.0.0.1", "--telemetry", "False"])
            .args(["--port", &address.port().to_string()])
            .env_clear()
            .env("HOME", folder.path())
            .env("PATH", "/usr/bin:/bin")
            .envs([("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy)])
            .env("NO_PROXY", "127.0.0.1")
            .env("LITELLM_MODE", "PRODUCTION")
            .env("DISABLE_ADMIN_UI", "True")
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut started = LiteLlm {
            child,
            address,
            folder,
            outside,
        };
        started.wait();
        started
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while get("/health/liveliness").try_send(self.address).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "LiteLLM ended with {ended:?}");
            assert!(begun.elapsed() < PATIENCE, "LiteLLM does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn assert_it_asked_nobody_outside(&self) {
        self.outside.set_nonblocking(true).unwrap();
        assert!(self.outside.accept().is_err(), "it asked somebody outside");
    }
}

impl Drop for LiteLlm {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.folder.path().join("output.txt")).unwrap();
            eprintln!("---- what LiteLLM said:\n{said}");
        }
    }
}

/// The models that the scripts ask for, at the simulated vendor, and two that LiteLLM plays itself.
fn configured(vendor: &Mock) -> String {
    let url = vendor.url();
    let model = |name: &str, maker: &str, base: &str| {
        let there =
            json!({"model": format!("{maker}/{name}"), "api_key": "behind", "api_base": base});
        json!({"model_name": name, "litellm_params": there})
    };
    let played = |name: &str, answer: &str| {
        let there = json!({"model": "openai/gpt-5", "api_key": "none", "mock_response": answer});
        json!({"model_name": name, "litellm_params": there})
    };
    json!({
        "model_list": [
            model("gpt-5", "openai", &format!("{url}/v1")),
            model("text-embedding-3-small", "openai", &format!("{url}/v1")),
            model("claude-sonnet-5", "anthropic", &url),
            model("gemini-3-pro", "gemini", &url),
            played("played", "Hello from LiteLLM, piece by piece."),
            played("limited", "litellm.RateLimitError"),
        ],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": false},
    })
    .to_string()
}

/// A gateway over LiteLLM, and before it an account that cannot serve: `{url, key}` of `first`.
fn gateway(lite: &LiteLlm, first: (&str, &str)) -> Gateway {
    let account = |id: &str, url: &str, key: &str, more: &str| {
        format!("      - {{id: {id}, upstream: \"{url}\", credential: {{api_key: {key}}}{more}}}\n")
    };
    let url = format!("http://{}", lite.address);
    // Google's client asks at `/v1`, where LiteLLM does not serve its dialect.
    let beta = format!("{url}/v1beta");
    let accounts = [
        account("first", first.0, first.1, ""),
        account(
            "lite",
            &url,
            KEY,
            ", priority: 1, dialects: [openai, anthropic]",
        ),
        account("google", &beta, KEY, ", priority: 1, dialects: [gemini]"),
    ]
    .concat();
    Gateway::start(&format!(
        "pools:\n  default:\n    breaker: {{enabled: false}}\n    accounts:\n{accounts}"
    ))
}

fn of_model(model: &str, stream: bool) -> Request {
    let message = json!({"role": "user", "content": "Hello"});
    let body = json!({"model": model, "stream": stream, "max_tokens": 99, "messages": [message]});
    post("/v1/chat/completions", &body)
}

#[test]
fn litellm_serves_as_an_upstream() {
    let vendor = Mock::start(&[]);
    let lite = LiteLlm::start(&vendor);
    let broken = Mock::start(&["--status", "500"]);
    let house = gateway(&lite, (&broken.url(), "any"));
    the_vendors_clients_are_served_by_it_after_the_account_before_it_failed(&house);
    its_streams_are_passed_on_piece_by_piece(&house);
    a_clients_mistake_is_not_its_fault(&house);
    its_rate_limit_is_one(&house);
    let house = gateway(&lite, (&format!("http://{}", lite.address), "sk-wrong"));
    its_refusal_of_a_key_is_the_accounts_trouble(&house);
    lite.assert_it_asked_nobody_outside();
}

fn the_vendors_clients_are_served_by_it_after_the_account_before_it_failed(house: &Gateway) {
    for (script, account) in [
        ("openai_sdk.py", "lite"),
        ("anthropic_sdk.py", "lite"),
        ("gemini_sdk.py", "google"),
    ] {
        let count = |outcome: &str, account: &str| {
            let labels = [
                format!("account=\"{account}\""),
                format!("outcome=\"{outcome}\""),
            ];
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            house.metric("poolgate_requests_total", &labels)
        };
        let tokens = |kind: &str| {
            let labels = [format!("account=\"{account}\""), format!("kind=\"{kind}\"")];
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            house.metric("poolgate_tokens_total", &labels)
        };
        let before = (count("success", account), count("transient", "first"));
        let (input, output) = (tokens("input"), tokens("output"));
        run(script, house);
        // Counted when an answer is over, which its client may know a moment earlier.
        wait_for(
            "each request to have failed at one and be served by the other",
            || {
                let served = count("success", account) - before.0;
                let failed = count("transient", "first") - before.1;
                (served >= 2.0 && served == failed).then_some(())
            },
        );
        assert!(
            tokens("input") > input && tokens("output") > output,
            "{script}"
        );
    }
    assert!(house.account("lite")["tokens"].as_u64() > Some(0));
}

fn its_streams_are_passed_on_piece_by_piece(house: &Gateway) {
    let mut stream = of_model("played", true).open(house.address).unwrap();
    let events = stream.events().unwrap();
    let text = |data: &str| {
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let text = event["choices"][0]["delta"]["content"].as_str();
        text.unwrap_or_default().to_owned()
    };
    let pieces: Vec<String> = events.iter().map(|event| text(&event.data)).collect();
    assert_eq!(pieces.concat(), "Hello from LiteLLM, piece by piece.");
    assert!(pieces.len() > 5, "{pieces:?}");
    assert_eq!(events.last().unwrap().data, "[DONE]");
}

fn a_clients_mistake_is_not_its_fault(house: &Gateway) {
    let contents = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    let message = json!({"model": "nonsuch", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    for request in [
        of_model("nonsuch", false),
        of_model("nonsuch", true),
        post("/v1/messages", &message),
        post("/v1beta/models/nonsuch:generateContent", &contents),
        post("/v1/chat/completions", &json!({"model": "gpt-5"})),
    ] {
        let answer = house.send(&request);
        assert_eq!(answer.status, 400, "{}", answer.text());
        let said = answer.json()["error"]["message"].to_string();
        let its_own = said.contains("model=nonsuch") || said.contains("messages");
        assert!(its_own, "{said}");
    }
    for account in ["lite", "google"] {
        assert_eq!(house.account(account)["status"], "healthy");
    }
    assert_eq!(house.send(&chat(false)).status, 200);
}

fn its_rate_limit_is_one(house: &Gateway) {
    let answer = house.send(&of_model("limited", false));
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    // Of that model only.
    assert_eq!(house.send(&chat(false)).status, 200);
}

/// Without a database it says so with a 400.
fn its_refusal_of_a_key_is_the_accounts_trouble(house: &Gateway) {
    let answer = house.send(&chat(false).header("x-request-id", "refused"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(house.tries("refused"), "first:auth_dead,lite:success");
    assert_eq!(house.account("first")["status"], "cooling");
    assert_eq!(house.account("lite")["status"], "healthy");
}
