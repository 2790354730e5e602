//! TLS to upstreams: the name that is asked for and checked, a CA of one's own, a certificate of ours.

use std::fs;

use crate::support::{Authority, Gateway, TlsVendor, get, wait_for};

fn start(vendor: &TlsVendor, host: &str, tls: &str, files: &[(&str, &str)]) -> Gateway {
    let port = vendor.address.port();
    let configuration = format!(
        "pools:\n  default:\n    retry: {{attempts: 1}}\n    breaker: {{enabled: false}}\n    accounts:\n      \
         - {{id: a, upstream: \"https://{host}:{port}\", credential: {{api_key: k}}, tls: {{{tls}}}}}\n"
    );
    Gateway::start_with(&configuration, files, &[])
}

fn status(gateway: &Gateway) -> u16 {
    gateway.get("/v1/models").status
}

#[test]
fn an_upstream_with_a_ca_of_its_own_is_asked_for_by_name_and_believed() {
    let authority = Authority::new();
    let vendor = TlsVendor::start(&authority.issue("localhost"), None);
    let ca = authority.pem();
    let gateway = start(&vendor, "localhost", "ca: ca.pem", &[("ca.pem", &ca)]);
    assert_eq!(status(&gateway), 200);
    let knock = vendor.knocks.recv().unwrap();
    assert_eq!(knock.name.as_deref(), Some("localhost"));
    assert!(!knock.has_certificate);
}

#[test]
fn an_upstream_whose_certificate_is_for_another_name_or_by_a_stranger_gets_no_request() {
    let authority = Authority::new();
    let ca = authority.pem();
    let elsewhere = TlsVendor::start(&authority.issue("elsewhere.test"), None);
    let gateway = start(&elsewhere, "localhost", "ca: ca.pem", &[("ca.pem", &ca)]);
    assert_eq!(status(&gateway), 502);
    // Under the name that it has it is believed; that name is asked for, too.
    let named = "ca: ca.pem, server_name: elsewhere.test";
    let gateway = start(&elsewhere, "127.0.0.1", named, &[("ca.pem", &ca)]);
    assert_eq!(status(&gateway), 200);
    let knock = elsewhere.knocks.recv().unwrap();
    assert_eq!(knock.name.as_deref(), Some("elsewhere.test"));
    // An address is a name like any other.
    let numbered = TlsVendor::start(&authority.issue("127.0.0.1"), None);
    let gateway = start(&numbered, "127.0.0.1", "ca: ca.pem", &[("ca.pem", &ca)]);
    assert_eq!(status(&gateway), 200);
    for (tls, file) in [("", ""), ("ca: other.pem", &*Authority::new().pem())] {
        let gateway = start(&numbered, "127.0.0.1", tls, &[("other.pem", file)]);
        assert_eq!(status(&gateway), 502, "{tls}");
    }
    assert_eq!(numbered.knocks.try_iter().count(), 1);
}

#[test]
fn an_upstream_that_asks_for_a_certificate_is_shown_ours() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let vendor = TlsVendor::start(&authority.issue("localhost"), Some(&clients));
    let (ca, ours) = (authority.pem(), clients.issue("poolgate"));
    let files = [
        ("ca.pem", &*ca),
        ("cert.pem", &*ours.cert),
        ("key.pem", &*ours.key),
    ];
    let with = "ca: ca.pem, client_cert: cert.pem, client_key: key.pem";
    let gateway = start(&vendor, "localhost", with, &files);
    assert_eq!(status(&gateway), 200);
    assert!(vendor.knocks.recv().unwrap().has_certificate);
    let gateway = start(&vendor, "localhost", "ca: ca.pem", &files);
    assert_eq!(status(&gateway), 502);
}

#[test]
fn a_ca_and_our_certificate_are_read_anew_when_they_change_and_a_bad_one_changes_nothing() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let vendor = TlsVendor::start(&authority.issue("localhost"), Some(&clients));
    let stranger = Authority::new();
    let (ca, theirs) = (stranger.pem(), stranger.issue("poolgate"));
    let files = [
        ("ca.pem", &*ca),
        ("cert.pem", &*theirs.cert),
        ("key.pem", &*theirs.key),
    ];
    let with = "ca: ca.pem, client_cert: cert.pem, client_key: key.pem";
    let gateway = start(&vendor, "localhost", with, &files);
    let folder = gateway.program.folder().to_owned();
    assert_eq!(status(&gateway), 502, "neither knows the other");
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    clients.issue("poolgate").put(&folder);
    wait_for("both to know each other", || {
        (status(&gateway) == 200).then_some(())
    });
    fs::write(folder.join("ca.pem"), "no certificate").unwrap();
    wait_for("the mistake to be said", || {
        let log = gateway.log();
        log.contains("the old certificates stay in use")
            .then_some(())
    });
    assert_eq!(status(&gateway), 200);
}

#[test]
fn without_the_ca_that_it_names_an_account_reaches_nobody_and_says_why() {
    let authority = Authority::new();
    let vendor = TlsVendor::start(&authority.issue("localhost"), None);
    let gateway = start(&vendor, "localhost", "ca: missing.pem", &[]);
    assert_eq!(status(&gateway), 502);
    assert!(gateway.log().contains("missing.pem: cannot be read"));
    assert_eq!(vendor.knocks.try_iter().count(), 0);
    // It comes later, as secrets do that another program writes.
    let path = gateway.program.folder().join("missing.pem");
    fs::write(path, authority.pem()).unwrap();
    wait_for("the upstream to be believed", || {
        (get("/v1/models").send(gateway.address).status == 200).then_some(())
    });
}
