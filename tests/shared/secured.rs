//! Redis over TLS with an authority of its own, and with a password.

use std::fs;

use crate::support::{Authority, Gateway, Mock, Redis, chat, free_address, pool, wait_for};

#[test]
fn redis_is_reached_over_tls_with_its_own_authority_and_a_password() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [cert, key] = authority.issue("127.0.0.1").put(folder.path());
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (cert, key, secured) = (path(&cert), path(&key), free_address());
    let port = secured.port().to_string();
    let redis = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "canary-of-redis",
    ]);
    let vendors = Mock::several(1, &[]);
    let gateway = |url: &str, ca: &str| {
        let state = format!("state: {{redis: {{url: \"{url}\"{ca}}}}}\n");
        let more = [("ca.pem", &*authority.pem())];
        Gateway::start_with(&format!("{state}{}", pool(&vendors, "")), &more, &[])
    };
    let url = format!("rediss://:canary-of-redis@{secured}");
    let good = gateway(&url, ", ca: ca.pem");
    wait_for("Redis", || {
        (good.metric("poolgate_redis_up", &[]) == 1.0).then_some(())
    });
    // Who does not know the authority, or the password, goes by itself and says so.
    let wrong = format!("redis://:canary-of-wrong@{}", redis.address);
    for alone in [gateway(&url, ""), gateway(&wrong, "")] {
        wait_for("it to be said", || {
            alone.log().contains("Redis is away").then_some(())
        });
        assert_eq!(alone.metric("poolgate_redis_up", &[]), 0.0);
        assert_eq!(alone.send(&chat(false)).status, 200);
        assert!(!alone.log().contains("canary-of"), "{}", alone.log());
    }
    let log = fs::read_to_string(good.program.folder().join("output.txt")).unwrap();
    assert!(!log.contains("canary-of"), "{log}");
}
