//! The demo's six accounts: what is wrong with each, and the configuration of the gateway before them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::mock::{BadSettings, Behaviour, Connections, Fault, RateLimit, Settings, When};

/// The accounts: id, what is said of it, and further keys of its configuration.
pub(super) const ACCOUNTS: [(&str, &str, &str); 6] = [
    ("fast", "answers at once", ""),
    (
        "slow",
        "takes two seconds, two at a time",
        ", max_concurrent: 2",
    ),
    ("flaky", "fails every third time", ""),
    ("limited", "takes five requests in 30 s", ""),
    ("overloaded", "is overloaded now and then", ""),
    ("dead", "nobody listens", ""),
];

/// The simulated vendors, in the order of [`ACCOUNTS`].
///
/// # Errors
/// None, unless a vendor no longer understands the words used here.
pub(super) fn vendors() -> Result<[Settings; 6], BadSettings> {
    let fast = behaviour(&[("delay", "40ms"), ("gap", "20ms")])?;
    let named = |(id, _, _): (&str, &str, &str)| Settings {
        behaviour: fast.clone(),
        ..Settings::named(id)
    };
    let mut all = ACCOUNTS.map(named);
    let [_, slow, flaky, limited, overloaded, dead] = &mut all;
    slow.behaviour = behaviour(&[("delay", "2s"), ("gap", "120ms")])?;
    flaky
        .faults
        .push(fault(When::Chance(0.33), "status", "500")?);
    limited.rate_limit = Some(RateLimit {
        requests: 5,
        window: Duration::from_secs(30),
    });
    overloaded
        .faults
        .push(fault(When::Every(4), "body", "overloaded")?);
    dead.connections = Connections::Refuse;
    Ok(all)
}

fn behaviour(words: &[(&str, &str)]) -> Result<Behaviour, BadSettings> {
    let mut behaviour = Behaviour::default();
    for (name, value) in words {
        behaviour.set(name, value)?;
    }
    Ok(behaviour)
}

fn fault(when: When, name: &str, value: &str) -> Result<Fault, BadSettings> {
    let what = behaviour(&[(name, value)])?;
    Ok(Fault { when, what })
}

/// The gateway's configuration, for upstreams in the order of [`ACCOUNTS`].
pub(super) fn configuration(
    gateway: SocketAddr,
    admin: SocketAddr,
    folder: &Path,
    upstreams: &[SocketAddr],
) -> String {
    // A path is quoted as JSON is, which YAML reads; `$` would begin a variable.
    let folder = serde_json::Value::from(folder.to_string_lossy().replace("${", "$${"));
    let mut text = format!(
        "# Made by `poolgate demo`.\n\
         listen: [{{address: \"{gateway}\"}}]\n\
         admin: {{address: \"{admin}\"}}\n\
         # The traffic has no key, and goes on when somebody tries to make one.\n\
         clients: {{open: true}}\n\
         state: {{dir: {folder}}}\n\
         log: {{level: error, access: false}}\n\
         server: {{drain_timeout: 0s}}\n\
         pools:\n  default:\n    strategy: round_robin\n    breaker: {{open_for: 10s}}\n    accounts:\n"
    );
    for ((id, character, keys), upstream) in ACCOUNTS.iter().zip(upstreams) {
        let _ = writeln!(
            text,
            "      - {{id: {id}, upstream: \"http://{upstream}\", \
             credential: {{api_key: demo-{id}}}{keys}}}  # {character}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ACCOUNTS, configuration, vendors};
    use crate::config;
    use crate::dialect::Dialect;
    use std::net::SocketAddr;
    use std::path::Path;

    #[test]
    fn the_configuration_is_valid_and_each_account_speaks_every_dialect() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let upstreams: Vec<SocketAddr> = (1..=6).map(address).collect();
        let folder = Path::new("/tmp/demo \"${HOME}\"");
        let text = configuration(address(8080), address(8081), folder, &upstreams);
        let loaded = config::parse(&text, &folder.join("poolgate.yaml"), &|_| None);
        let loaded = loaded
            .map_err(|problems| problems.to_string())
            .ok()
            .unwrap();
        assert!(loaded.remarks.is_empty());
        assert_eq!(loaded.config.state.dir, folder);
        let accounts = &loaded.config.pools[0].accounts;
        assert_eq!(accounts.len(), ACCOUNTS.len());
        for account in accounts {
            assert_eq!(account.dialects, Dialect::ALL);
        }
    }

    #[test]
    fn each_account_has_its_vendor() {
        let names = vendors().unwrap().map(|settings| settings.name);
        assert_eq!(names, ACCOUNTS.map(|(id, _, _)| id.to_owned()));
    }
}
