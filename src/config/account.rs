//! Reads one account of a pool.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::clients::limit;
use super::credential::credential;
use super::document::Kind;
use super::form::{COUNT, Flag, Form, HEADER, ID, NONEMPTY, Number, RANK, Text, Words};
use super::model::{
    Account, Credential, HealthCheck, Instance, Models, TlsFiles, Upstream, UpstreamTls,
};
use super::pool::health_check;
use super::read::Section;
use super::shown::Shown;
use super::upstream::{UpstreamForm, infer_dialects};
use crate::dialect::Dialect;

const DIALECTS: Words<Dialect> = Words(&[
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
]);

/// Could an account be called so?
pub fn is_account_id(text: &str) -> bool {
    ID.read(text).is_ok()
}

/// Reads an account, or with `template` what accounts made from files have in common.
/// `inherited` is the pool's health check.
pub(super) fn account(
    s: &mut Section<'_, '_>,
    inherited: Option<&HealthCheck>,
    template: bool,
) -> Account {
    let id = if template {
        String::new()
    } else {
        s.require("id", ID, String::new())
    };
    s.define("id", Kind::Account, &id);
    // Read before the address, which depends on its port.
    let instance = s.optional("instance", instance);
    let port = instance.as_ref().map(|instance| instance.port.unwrap_or(0));
    let upstream = upstream(s, port, template);
    let dialects = dialects(s, &upstream);
    Account {
        id,
        dialects,
        credential: s
            .word_or("credential", "none", no_credential, credential)
            .unwrap_or(Credential::None),
        headers: s.secrets("headers", HEADER),
        weight: weight(s),
        priority: s.get("priority", RANK, 0),
        max_concurrent: s.get("max_concurrent", COUNT, 0),
        enabled: s.get("enabled", Flag, true),
        websocket: s.get("websocket", Flag, false),
        models: models(s),
        health_check: effective_check(s, inherited),
        limit_group: s.get("limit_group", Text, String::new()),
        rate_limits: s.sections("rate_limits", 0, |s| limit(s, false)),
        tls: s.section("tls", tls),
        upstream,
        instance,
    }
}

fn upstream(s: &mut Section<'_, '_>, instance_port: Option<u16>, template: bool) -> Upstream {
    let folder = s.folder();
    let usual = UpstreamForm::of_instance(instance_port.unwrap_or(0));
    let form = UpstreamForm {
        folder,
        instance_port,
    };
    match instance_port {
        Some(_) => s.get("upstream", form, usual),
        None if !template => s.require("upstream", form, usual),
        None => {
            if s.is_written() && !s.has("upstream") {
                s.warn(
                    "upstream",
                    "accounts made from files need an `upstream` or an `instance`",
                );
            }
            s.maybe("upstream", form).unwrap_or(usual)
        }
    }
}

fn dialects(s: &mut Section<'_, '_>, upstream: &Upstream) -> Vec<Dialect> {
    let written = s.list("dialects", DIALECTS, Vec::new());
    if !written.is_empty() {
        return written;
    }
    let inferred = infer_dialects(upstream);
    s.show(
        "dialects",
        Shown::List(inferred.iter().map(|one| DIALECTS.show(one)).collect()),
    );
    inferred
}

fn weight(s: &mut Section<'_, '_>) -> u32 {
    let weight = s.get("weight", Number(0, 1000), 1);
    if weight == 0 {
        s.warn(
            "weight",
            "an account of weight 0 serves only when nothing else is left",
        );
    }
    weight
}

fn no_credential(word: &str) -> Result<Credential, String> {
    match word {
        "none" => Ok(Credential::None),
        _ => Err("must be none or say its kind, such as {api_key: SECRET}".to_owned()),
    }
}

/// A list of patterns, or names asked and the upstream's own names for them.
fn models(s: &mut Section<'_, '_>) -> Models {
    match s.texts("models") {
        Some(names) => Models::Map(names.into_iter().collect::<BTreeMap<_, _>>()),
        None => Models::List(s.list("models", NONEMPTY, vec!["*".to_owned()])),
    }
}

/// The check that is made: this account's own, else its pool's, else what an instance answers.
fn effective_check(
    s: &mut Section<'_, '_>,
    inherited: Option<&HealthCheck>,
) -> Option<HealthCheck> {
    let inherit = |word: &str| match word {
        "inherit" => Ok(Check::Inherit),
        "none" => Ok(Check::None),
        _ => Err("must be inherit, none or a mapping, such as {path: /health}".to_owned()),
    };
    match s.word_or("health_check", "inherit", inherit, |s| {
        Check::Own(health_check(s))
    }) {
        Some(Check::Own(check)) => Some(check),
        Some(Check::None) => None,
        Some(Check::Inherit) | None => match inherited {
            None if s.has("instance") => Some(s.defaults(health_check)),
            inherited => inherited.cloned(),
        },
    }
}

enum Check {
    Inherit,
    None,
    Own(HealthCheck),
}

fn tls(s: &mut Section<'_, '_>) -> UpstreamTls {
    let server_name = s.maybe("server_name", NONEMPTY);
    let folder = s.folder();
    let ca = s.maybe("ca", folder);
    let folder = s.folder();
    let cert = s.maybe("client_cert", folder);
    let folder = s.folder();
    let key = s.maybe("client_key", folder);
    if cert.is_some() != key.is_some() {
        s.problem_here("`client_cert` and `client_key` belong together");
    }
    let client = cert.zip(key).map(|(cert, key)| TlsFiles { cert, key });
    UpstreamTls {
        server_name,
        ca,
        client,
    }
}

fn instance(s: &mut Section<'_, '_>) -> Instance {
    let command = s.words("command");
    if s.is_written() && command.first().is_none_or(|program| program.is_empty()) {
        s.problem("command", "must be a list that begins with the program");
    }
    let port = s.get("port", Port, None);
    if let Some(port) = port {
        s.define("port", Kind::Port, &port.to_string());
    }
    let folder = s.folder();
    let auth_file = s.maybe("auth_file", folder);
    // Of accounts that are made from files it is the file.
    let is_named = |file: &PathBuf| !file.to_string_lossy().contains("{auth_file}");
    if auth_file
        .as_ref()
        .is_some_and(|file| is_named(file) && !file.exists())
    {
        s.warn(
            "auth_file",
            "there is no such file yet; the instance will not start without it",
        );
    }
    let (folder, here) = (s.folder(), s.folder().0);
    Instance {
        command,
        port,
        auth_file,
        env: s.secrets("env", NONEMPTY).into_iter().collect(),
        working_dir: s.get("working_dir", folder, here),
    }
}

/// `auto` or a number.
struct Port;

impl Form for Port {
    type Value = Option<u16>;

    fn read(&self, text: &str) -> Result<Option<u16>, String> {
        match text {
            "auto" => Ok(None),
            _ => Number(1, u16::MAX)
                .read(text)
                .map(Some)
                .map_err(|_| "must be auto or a port from 1 to 65535".to_owned()),
        }
    }

    fn show(&self, value: &Option<u16>) -> Shown {
        value.map_or_else(|| Shown::text("auto"), |port| Shown::Int(port.into()))
    }
}
