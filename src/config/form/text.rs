//! Texts with a meaning: names, hosts, addresses, paths, headers, URLs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;

use super::super::model::CallerId;
use super::super::problem::did_you_mean;
use super::super::shown::Shown;
use super::Form;

/// Any text.
pub(in crate::config) struct Text;

impl Form for Text {
    type Value = String;
    fn read(&self, text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
    fn show(&self, value: &String) -> Shown {
        Shown::text(value)
    }
}

/// A text that passes a check, perhaps rewritten by it.
pub(in crate::config) struct Checked(pub(in crate::config) fn(&str) -> Result<String, String>);

impl Form for Checked {
    type Value = String;
    fn read(&self, text: &str) -> Result<String, String> {
        self.0(text)
    }
    fn show(&self, value: &String) -> Shown {
        Shown::text(value)
    }
}

/// A text that is not empty.
pub(in crate::config) const NONEMPTY: Checked = Checked(|text| match text.trim() {
    "" => Err("must not be empty".to_owned()),
    _ => Ok(text.to_owned()),
});

/// The name of an account, pool, tier or key.
pub(in crate::config) const ID: Checked = Checked(|text| {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    match text.len() {
        1..=64 if text.chars().all(safe) => Ok(text.to_owned()),
        _ => Err("must be 1 to 64 of the characters A-Z a-z 0-9 . _ @ + -".to_owned()),
    }
});

/// A host name or address, lower case, perhaps with a port.
pub(in crate::config) const AUTHORITY: Checked = Checked(|text| {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    match text.len() {
        1..=255 if text.chars().all(safe) => Ok(text.to_ascii_lowercase()),
        _ => Err("must be a host name, such as gateway.example.com".to_owned()),
    }
});

/// A Host name as requests are compared with it: lower case, an address without brackets. Clients send a
/// port along, which is not looked at.
pub(in crate::config) const HOST: Checked = Checked(|text| {
    let name = AUTHORITY.0(text)?;
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let name = bare.unwrap_or(&name).trim_end_matches('.');
    match name.contains([':', '[', ']']) && name.parse::<IpAddr>().is_err() {
        true => Err("must be a host name without a port, such as gateway.example.com".to_owned()),
        false => Ok(name.to_owned()),
    }
});

/// The name of a header that an operator may set, lower case.
pub(in crate::config) const HEADER: Checked = Checked(|text| {
    let framing = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
    ];
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if framing.contains(&name.as_str()) => {
            Err(format!("poolgate sets `{name}` itself"))
        }
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("must be the name of a header, such as x-api-key".to_owned()),
    }
});

/// An http or https URL. It is shown, so it may hold no password.
pub(in crate::config) const URL: Checked = Checked(|text| {
    let uri = text.parse::<Uri>().ok();
    let web =
        uri.filter(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
    let web = web.ok_or("must be an http:// or https:// URL")?;
    match web.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("must not hold a user name or password".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
});

/// A JSON pointer (RFC 6901) that points below the root.
pub(in crate::config) const POINTER: Checked = Checked(|text| match text {
    _ if text.starts_with('/') => Ok(text.to_owned()),
    _ => Err("must be a JSON pointer, such as /access_token".to_owned()),
});

/// Whether a text may be the value of a header.
pub(in crate::config) fn is_header_value(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// A path; relative ones start at the given folder.
pub(in crate::config) struct PathIn(pub(in crate::config) PathBuf);

impl Form for PathIn {
    type Value = PathBuf;
    fn read(&self, text: &str) -> Result<PathBuf, String> {
        match text {
            "" => Err("must be a path".to_owned()),
            _ => Ok(self.0.join(text).components().collect()),
        }
    }
    fn show(&self, value: &PathBuf) -> Shown {
        Shown::text(value.to_string_lossy())
    }
}

/// An address and a port.
pub(in crate::config) struct Socket;

impl Form for Socket {
    type Value = SocketAddr;
    fn read(&self, text: &str) -> Result<SocketAddr, String> {
        text.parse().map_err(|_| {
            "must be an address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned()
        })
    }
    fn show(&self, value: &SocketAddr) -> Shown {
        Shown::text(value.to_string())
    }
}

/// An address or a range of them.
pub(in crate::config) struct Network;

impl Form for Network {
    type Value = IpNet;
    fn read(&self, text: &str) -> Result<IpNet, String> {
        let net = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map_err(|_| "must be an address or a range, such as 10.0.0.0/8".to_owned())
    }
    fn show(&self, value: &IpNet) -> Shown {
        Shown::text(value.to_string())
    }
}

/// `api_key`, `session`, `header:NAME` or `json:POINTER`.
pub(in crate::config) struct Caller;

impl Form for Caller {
    type Value = CallerId;
    fn read(&self, text: &str) -> Result<CallerId, String> {
        match text.split_once(':') {
            Some(("header", name)) => HEADER.read(name).map(CallerId::Header),
            Some(("json", pointer)) => POINTER.read(pointer).map(CallerId::Json),
            _ if text == "api_key" => Ok(CallerId::ApiKey),
            _ if text == "session" => Ok(CallerId::Session),
            _ => Err(
                "must be api_key, session, header:NAME or json:POINTER".to_owned()
                    + &did_you_mean(text, ["api_key", "session"]),
            ),
        }
    }
    fn show(&self, value: &CallerId) -> Shown {
        Shown::text(match value {
            CallerId::ApiKey => "api_key".to_owned(),
            CallerId::Session => "session".to_owned(),
            CallerId::Header(name) => format!("header:{name}"),
            CallerId::Json(pointer) => format!("json:{pointer}"),
        })
    }
}
