//! Reads `listen` and `admin`: the addresses poolgate opens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::document::Kind;
use super::form::{Flag, Form, HOST, NONEMPTY, Network, PathIn, Socket, Words};
use super::model::{Address, Admin, AdminToken, Listen, Role, TlsFiles};
use super::read::Section;
use super::shown::Shown;
use crate::net::Certificate;

pub(super) fn listeners(s: &mut Section<'_, '_>) -> Vec<Listen> {
    let mut listeners: Vec<Listen> = Vec::new();
    s.sections("listen", 1, |s| {
        let listener = Listen {
            address: s.get("address", Socket, loopback(8080)),
            tls: s.optional("tls", tls_files),
            trusted_proxies: s.list("trusted_proxies", Network, Vec::new()),
            hosts: s.list("hosts", HOST, Vec::new()),
        };
        let same = |other: &Listen| other.address == listener.address && other.address.port() != 0;
        if listeners.iter().any(same) {
            s.problem("address", "another listener has this address already");
        }
        listeners.push(listener);
    });
    if listeners.is_empty() {
        s.problem("listen", "needs at least one address");
    }
    listeners
}

/// Reads `admin`, which must not take the address of one of the `listeners`.
pub(super) fn admin(s: &mut Section<'_, '_>, listeners: &[Listen]) -> Admin {
    let folder = s.folder();
    let admin = Admin {
        address: s.get("address", AddressIn(folder), Address::Tcp(loopback(8081))),
        token: s.secret("token", s.folder()),
        tokens: s.sections("tokens", 0, admin_token),
        tls: s.optional("tls", tls_files),
        insecure: s.get("insecure", Flag, false),
        hosts: s.list("hosts", HOST, Vec::new()),
        legacy_paths: s.get("legacy_paths", Flag, true),
    };
    if !admin.tokens.is_empty() && !admin.names_admin() {
        s.warn(
            "tokens",
            "none has the role admin: the one that an earlier start made counts, \
             `state.dir/admin.token`; where there is none nobody can change anything: give `token`",
        );
    }
    if let Address::Tcp(address) = admin.address {
        if !address.ip().is_loopback() && admin.tls.is_none() && !admin.insecure {
            s.problem(
                "address",
                "beyond loopback the admin token would cross the network in the clear: \
                 give `tls`, or say `insecure: true` where something in front does TLS",
            );
        }
        if address.port() != 0 && listeners.iter().any(|listener| listener.address == address) {
            s.problem("address", "`listen` has this address already");
        }
    }
    admin
}

fn admin_token(s: &mut Section<'_, '_>) -> AdminToken {
    let roles = Words(&[
        ("metrics", Role::Metrics),
        ("viewer", Role::Viewer),
        ("operator", Role::Operator),
        ("admin", Role::Admin),
    ]);
    let name = s.require("name", NONEMPTY, String::new());
    s.define("name", Kind::AdminToken, &name);
    AdminToken {
        name,
        token: s.require_secret("token"),
        role: s.require("role", roles, Role::Metrics),
    }
}

/// Certificate and key of a listener.
pub(super) fn tls_files(s: &mut Section<'_, '_>) -> TlsFiles {
    let folder = s.folder();
    let cert = s.require("cert", folder, PathBuf::new());
    let folder = s.folder();
    let files = TlsFiles {
        cert,
        key: s.require("key", folder, PathBuf::new()),
    };
    let are_named = !files.cert.as_os_str().is_empty() && !files.key.as_os_str().is_empty();
    // A warning: they may come later. Whoever starts without them is told by the start.
    if are_named && let Err(error) = Certificate::open(&files.cert, &files.key) {
        s.warn("cert", error.to_string());
    }
    files
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An address and a port, or `unix:PATH`.
struct AddressIn(PathIn);

impl Form for AddressIn {
    type Value = Address;

    fn read(&self, text: &str) -> Result<Address, String> {
        match text.strip_prefix("unix:") {
            Some(path) => self.0.read(path).map(Address::Unix),
            None => Socket
                .read(text)
                .map(Address::Tcp)
                .map_err(|message| message + ", or unix:PATH"),
        }
    }

    fn show(&self, value: &Address) -> Shown {
        match value {
            Address::Tcp(address) => Socket.show(address),
            Address::Unix(path) => Shown::text(format!("unix:{}", path.display())),
        }
    }
}
