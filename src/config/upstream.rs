//! Reads `upstream`: where an account's requests go, and which dialects are spoken there.

use http::Uri;

use super::form::{Form, PathIn};
use super::model::{Host, Upstream};
use super::problem::did_you_mean;
use super::shown::Shown;
use crate::dialect::Dialect;

/// The words that stand for a vendor's address.
const VENDORS: [(&str, &str); 3] = [
    ("openai", "https://api.openai.com"),
    ("anthropic", "https://api.anthropic.com"),
    ("gemini", "https://generativelanguage.googleapis.com"),
];

/// What stands for the port of an account's instance.
const PORT: &str = "{port}";

/// A vendor's word, or `scheme://host[:port][/prefix]`, or `unix:PATH`.
pub(super) struct UpstreamForm {
    /// Where relative socket paths start.
    pub(super) folder: PathIn,
    /// The fixed port of the account's instance; 0 = it has one, known once it runs.
    pub(super) instance_port: Option<u16>,
}

impl UpstreamForm {
    /// Where the program listens that serves the account.
    pub(super) fn of_instance(port: u16) -> Upstream {
        tcp_upstream(false, "127.0.0.1", port, "")
    }
}

impl Form for UpstreamForm {
    type Value = Upstream;

    fn read(&self, text: &str) -> Result<Upstream, String> {
        if let Some((_, url)) = VENDORS.iter().find(|(word, _)| *word == text) {
            return parse(url);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = self.folder.read(path)?;
            return Ok(Upstream {
                host: Host::Unix(path),
                ..tcp_upstream(false, "", 0, "")
            });
        }
        if !text.contains(PORT) {
            return match parse(text)? {
                Upstream {
                    host: Host::Tcp(_, 0),
                    ..
                } => Err("port 0 cannot be reached".into()),
                upstream => Ok(upstream),
            };
        }
        let port = self
            .instance_port
            .ok_or("`{port}` needs an `instance`, and here is none")?;
        parse(&text.replace(PORT, &port.to_string()))
    }

    fn show(&self, value: &Upstream) -> Shown {
        let (host, port) = match &value.host {
            Host::Unix(path) => return Shown::text(format!("unix:{}", path.display())),
            Host::Tcp(host, port) => (host, *port),
        };
        let (scheme, usual) = if value.tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let port = match port {
            0 => format!(":{PORT}"),
            port if port == usual => String::new(),
            port => format!(":{port}"),
        };
        Shown::text(format!("{scheme}://{host}{port}{}", value.prefix))
    }
}

fn parse(text: &str) -> Result<Upstream, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        let words = VENDORS.map(|(word, _)| word);
        return Err("must be openai, anthropic, gemini, or an address such as \
                    https://api.example.com/v1"
            .to_owned()
            + &did_you_mean(text, words));
    };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err("must begin with https://, http:// or unix:".to_owned()),
    };
    let uri: Uri = text
        .parse()
        .map_err(|_| "is not a valid address".to_owned())?;
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password; use `credential`".to_owned());
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("must not hold a query or a fragment".to_owned());
    }
    // `Authority::port` is silent about a port that is no number.
    let port = match authority
        .as_str()
        .strip_prefix(authority.host())
        .unwrap_or_default()
    {
        "" if tls => 443,
        "" => 80,
        port => port[1..]
            .parse()
            .map_err(|_| "the port must be a number up to 65535")?,
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    Ok(tcp_upstream(tls, host, port, uri.path()))
}

fn tcp_upstream(tls: bool, host: &str, port: u16, path: &str) -> Upstream {
    let prefix = path.trim_end_matches('/');
    Upstream {
        tls,
        host: Host::Tcp(host.to_ascii_lowercase(), port),
        prefix: prefix.to_owned(),
        prefix_has_version: prefix.split('/').any(is_version),
    }
}

/// `v1`, `v1beta`, `v2alpha1`: a `v`, a number, perhaps a stage.
fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').unwrap_or_default();
    number.starts_with(|c: char| c.is_ascii_digit())
        && number
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Hosts that speak OpenAI's dialect, by their own documentation of "OpenAI-compatible" addresses.
const LIKE_OPENAI: [&str; 12] = [
    "api.openai.com",
    "api.groq.com",
    "api.mistral.ai",
    "openrouter.ai",
    "api.deepseek.com",
    "api.together.xyz",
    "api.fireworks.ai",
    "api.x.ai",
    "api.cerebras.ai",
    "api.perplexity.ai",
    "integrate.api.nvidia.com",
    "api.moonshot.ai",
];

/// The dialects of a known host; all of them where the host is not known.
pub(super) fn infer_dialects(upstream: &Upstream) -> Vec<Dialect> {
    let Host::Tcp(host, _) = &upstream.host else {
        return Dialect::ALL.to_vec();
    };
    let last = upstream.prefix.rsplit('/').next().unwrap_or_default();
    let openai = LIKE_OPENAI.contains(&host.as_str()) || host.ends_with(".openai.azure.com");
    match host.as_str() {
        "api.anthropic.com" => vec![Dialect::Anthropic],
        "generativelanguage.googleapis.com" if last == "openai" => vec![Dialect::OpenAi],
        "generativelanguage.googleapis.com" => vec![Dialect::Gemini],
        // Several vendors serve Anthropic's dialect beside their own, under this path.
        _ if openai && last == "anthropic" => vec![Dialect::Anthropic],
        _ if openai => vec![Dialect::OpenAi],
        _ => Dialect::ALL.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::{Form, PathIn};
    use super::super::model::Host;
    use super::super::shown::Shown;
    use super::{UpstreamForm, infer_dialects};

    fn form(instance_port: Option<u16>) -> UpstreamForm {
        UpstreamForm {
            folder: PathIn("/etc/poolgate".into()),
            instance_port,
        }
    }

    /// Written, then TLS, host, port, prefix, whether it holds a version, dialects.
    const ADDRESSES: &str = "
        openai                            | true api.openai.com 443 - false openai
        anthropic                         | true api.anthropic.com 443 - false anthropic
        gemini                            | true generativelanguage.googleapis.com 443 - false gemini
        https://Host.example/             | true host.example 443 - false openai,anthropic,gemini
        http://[::1]:9000/v1/             | false ::1 9000 /v1 true openai,anthropic,gemini
        http://10.0.0.1:81/vault          | false 10.0.0.1 81 /vault false openai,anthropic,gemini
        https://a.openai.azure.com/openai/v1 | true a.openai.azure.com 443 /openai/v1 true openai
        https://api.deepseek.com/anthropic | true api.deepseek.com 443 /anthropic false anthropic
        https://generativelanguage.googleapis.com/v1beta/openai \
         | true generativelanguage.googleapis.com 443 /v1beta/openai true openai";

    #[test]
    fn addresses_are_taken_apart_and_shown_again() {
        for line in ADDRESSES.lines().filter(|line| !line.trim().is_empty()) {
            let (text, want) = line.split_once('|').unwrap();
            let upstream = form(None).read(text.trim()).unwrap();
            let Host::Tcp(host, port) = &upstream.host else {
                panic!("{text} is no socket")
            };
            let prefix = if upstream.prefix.is_empty() {
                "-"
            } else {
                &upstream.prefix
            };
            let names: Vec<&str> = infer_dialects(&upstream).iter().map(|d| d.name()).collect();
            let (tls, version) = (upstream.tls, upstream.prefix_has_version);
            let got = format!("{tls} {host} {port} {prefix} {version} {}", names.join(","));
            assert_eq!(got, want.trim(), "{text}");
            let Shown::Text(shown) = form(None).show(&upstream) else {
                panic!("not a text")
            };
            assert_eq!(
                form(None).read(&shown).unwrap(),
                upstream,
                "{text} as {shown}"
            );
        }
    }

    #[test]
    fn an_instance_gives_the_port() {
        let text = "http://127.0.0.1:{port}/v1";
        assert_eq!(
            form(Some(9222)).read(text).unwrap().host,
            Host::Tcp("127.0.0.1".into(), 9222)
        );
        let upstream = form(Some(0)).read(text).unwrap();
        assert_eq!(form(Some(0)).show(&upstream), Shown::text(text));
        assert!(form(None).read(text).is_err());
    }

    #[test]
    fn a_socket_path_starts_at_the_folder_of_the_file() {
        let socket = form(None).read("unix:run/x.sock").unwrap();
        assert_eq!(socket.host, Host::Unix("/etc/poolgate/run/x.sock".into()));
    }

    #[test]
    fn what_is_not_an_address_is_refused_without_repeating_it() {
        for text in [
            "opnai",
            "api.example.com",
            "ftp://x",
            "https://",
            "https://user:hunter2@x",
            "https://x?k=hunter2",
            "https://x#hunter2",
            "http://x:99999",
            "http://x:",
            "http://x:0",
            "http://a b",
            "unix:",
        ] {
            let message = form(None).read(text).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(
            form(None)
                .read("opnai")
                .unwrap_err()
                .contains("did you mean `openai`?")
        );
    }
}
