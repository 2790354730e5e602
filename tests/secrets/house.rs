//! A gateway with a secret in every place that has one, vendors that tell on it, and the search of
//! everything it leaves behind.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::planted::Planted;
use super::tattler::Tattler;
use crate::support::{Gateway, Redis, free_address, get, wait_for};

/// The accounts, in the order of preference; each has a vendor of its own.
pub(super) const ACCOUNTS: [&str; 6] = ["inline", "file", "env", "header", "query", "extra"];

pub(super) struct House {
    pub(super) planted: Planted,
    pub(super) gateway: Gateway,
    vendors: Vec<Tattler>,
    _redis: Redis,
    /// Everything that clients were told.
    pub(super) told: Vec<u8>,
}

/// The configuration, the file of client keys and that of the admin token.
fn configuration(
    planted: &mut Planted,
    vendors: &[Tattler],
    redis: SocketAddr,
    log: &str,
) -> (String, String, String) {
    let password = planted.at("redis password").to_owned();
    let mut secret = |place: &str| planted.plant(place);
    let mut accounts = String::new();
    for (n, (name, vendor)) in ACCOUNTS.iter().zip(vendors).enumerate() {
        let token = secret(&format!("account {name}"));
        let credential = match *name {
            "inline" => format!("{{api_key: {token}}}"),
            "file" => "{bearer: {file: account.key}}".to_owned(),
            "env" => "{api_key: \"${ACCOUNT_TOKEN}\"}".to_owned(),
            "header" => format!("{{header: {{name: x-vendor-key, value: \"{token}\"}}}}"),
            "query" => format!("{{query: {{name: key, value: \"{token}\"}}}}"),
            _ => format!("none, headers: {{x-team-secret: \"{token}\"}}"),
        };
        accounts += &format!(
            "      - {{id: {name}, priority: {n}, upstream: \"http://{}\", credential: {credential}}}\n",
            vendor.address
        );
    }
    let refusing = format!(
        "      - {{id: refusing, upstream: \"http://{}\", dialects: [gemini], \
         credential: {{query: {{name: key, value: {}}}}}}}\n",
        free_address(),
        secret("account refusing")
    );
    let text = format!(
        "admin:
  address: \"{{admin}}\"
  token: {{file: admin.key}}
  tokens: [{{name: reader, token: {reader}, role: viewer}}]
clients:
  keys_file: keys.txt
  keys: [{{name: ci, key: {client}}}]
notify:
  - {{webhook: \"https://hooks.test/{hook}\", secret: {hook_secret}}}
state:
  redis: \"redis://:{password}@{redis}/\"
  postgres: \"postgres://u:{postgres}@127.0.0.1:1/d\"
log: {log}
pools:
  default:
    retry: {{attempts: 2}}
    queue: {{timeout: 100ms}}
    breaker: {{enabled: false}}
    accounts:
{accounts}{refusing}",
        reader = secret("admin reader"),
        client = secret("client key"),
        hook = secret("hook url"),
        hook_secret = secret("hook secret"),
        password = password,
        postgres = secret("postgres password"),
    );
    let keys = format!("{}\n", secret("client key of the file"));
    let admin = format!("{}\n", secret("admin token"));
    (text, keys, admin)
}

pub(super) fn house(log: &str) -> House {
    let mut planted = Planted::default();
    let vendors: Vec<Tattler> = ACCOUNTS.iter().map(|_| Tattler::start()).collect();
    let password = planted.plant("redis password");
    let redis = Redis::start_with(&["--requirepass", &password]);
    let (text, keys, admin) = configuration(&mut planted, &vendors, redis.address, log);
    let files = [
        ("keys.txt", &*keys),
        ("admin.key", &*admin),
        ("account.key", planted.at("account file")),
    ];
    // Levels of other programs are no levels of this one.
    let environment = [
        ("ACCOUNT_TOKEN", planted.at("account env")),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "1"),
    ];
    // Else the gateway inherits that nothing may be left, and would not have to see to it.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    let gateway = Gateway::start_with(&text, &files, &environment);
    let token = planted.at("admin token").to_owned();
    wait_for("Redis to be reached", || {
        let metrics = get("/metrics").bearer(&token).send(gateway.admin_address);
        metrics.text().contains("poolgate_redis_up 1").then_some(())
    });
    House {
        planted,
        gateway,
        vendors,
        _redis: redis,
        told: vec![],
    }
}

impl House {
    /// No vendor heard a secret but that of its own account.
    pub(super) fn assert_vendors_heard_only_their_own(&self) {
        for (name, vendor) in ACCOUNTS.iter().zip(&self.vendors) {
            let heard = vendor.heard();
            let own = format!("account {name}");
            let mut found = self.planted.found_in(&heard);
            // What a client says to the vendor is for the vendor, and for nobody else.
            found.retain(|place| *place != "client body");
            assert_eq!(found, [own.as_str()], "the vendor of {name}");
        }
    }

    /// Everything that the gateway wrote: its output, its log, its state.
    pub(super) fn assert_nothing_written(&self) {
        let folder = self.gateway.program.folder();
        let kept = ["poolgate.yaml", "keys.txt", "admin.key", "account.key"];
        let mut seen = vec![];
        visit(folder, &mut |path| {
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if !kept.contains(&&*name) {
                let text = fs::read(path).unwrap();
                self.planted.assert_not_in(&name, &text);
                seen.push(name);
            }
        });
        assert!(seen.iter().any(|name| name == "output.txt"), "{seen:?}");
    }

    /// No client was told a secret, although the vendors told them all.
    pub(super) fn assert_no_client_was_told(&self) {
        let told = String::from_utf8_lossy(&self.told);
        let blanked = "*".repeat(32);
        for sign in ["you sent: ", "event: error\ndata: {\"error\"", &blanked] {
            assert!(told.contains(sign), "no vendor said {sign}");
        }
        self.planted.assert_not_in("an answer", &self.told);
    }

    pub(super) fn assert_not_in_the_process_list(&self) {
        let line = fs::read(format!("/proc/{}/cmdline", self.gateway.program.id())).unwrap();
        self.planted.assert_not_in("the command line", &line);
        let limits = format!("/proc/{}/limits", self.gateway.program.id());
        let limits = fs::read_to_string(limits).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(core[4], "0", "a crash must leave no image of the memory");
    }
}

fn visit(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => visit(&path, found),
            false if path.is_file() => found(&path),
            false => {}
        }
    }
}
