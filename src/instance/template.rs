//! One account of many that are made from files: what they have in common, with this one's id and
//! file in their places.

use std::path::{Path, PathBuf};

use super::command::fill;
use crate::config::{Account, Credential, Host, Instance, SecretSource};
use crate::secret::Secret;

/// What stands for the file.
const FILE: &str = "{auth_file}";

/// The account of this file. Its port is filled in when its program is started.
pub(super) fn account_of(template: &Account, id: &str, file: &Path) -> Account {
    let place = Place {
        id,
        file,
        text: file.to_string_lossy().into_owned(),
    };
    let mut account = template.clone();
    account.id = id.to_owned();
    account.limit_group = place.text(&account.limit_group);
    if let Host::Unix(path) = &mut account.upstream.host {
        *path = place.path(path);
    }
    for (_, value) in &mut account.headers {
        *value = place.secret(value);
    }
    account.credential = place.credential(account.credential);
    account.instance = account.instance.map(|instance| place.instance(instance));
    account
}

struct Place<'a> {
    id: &'a str,
    file: &'a Path,
    text: String,
}

impl Place<'_> {
    fn text(&self, text: &str) -> String {
        fill(text, self.id, Some(&self.text))
    }

    /// A path that begins at some folder and ends with the file is the file.
    fn path(&self, path: &Path) -> PathBuf {
        match path.ends_with(FILE) {
            true => self.file.to_owned(),
            false => self.text(&path.to_string_lossy()).into(),
        }
    }

    fn secret(&self, source: &SecretSource) -> SecretSource {
        match source {
            SecretSource::Value(secret) => {
                SecretSource::Value(Secret::new(self.text(secret.expose())))
            }
            SecretSource::File(path) => SecretSource::File(self.path(path)),
        }
    }

    fn credential(&self, credential: Credential) -> Credential {
        let secret = |source: &SecretSource| self.secret(source);
        match credential {
            Credential::None => Credential::None,
            Credential::ApiKey(source) => Credential::ApiKey(secret(&source)),
            Credential::Bearer(source) => Credential::Bearer(secret(&source)),
            Credential::Header { name, value } => Credential::Header {
                name,
                value: secret(&value),
            },
            Credential::Query { name, value } => Credential::Query {
                name,
                value: secret(&value),
            },
            Credential::OAuth2(mut it) => {
                it.client_secret = it.client_secret.as_ref().map(secret);
                it.refresh_token = it.refresh_token.as_ref().map(secret);
                Credential::OAuth2(it)
            }
            Credential::AwsSsoOidc(mut it) => {
                it.client_secret = secret(&it.client_secret);
                it.refresh_token = secret(&it.refresh_token);
                Credential::AwsSsoOidc(it)
            }
            Credential::GoogleServiceAccount { file, scope } => Credential::GoogleServiceAccount {
                file: self.path(&file),
                scope,
            },
            Credential::JsonFile {
                path,
                token,
                expires,
            } => Credential::JsonFile {
                path: self.path(&path),
                token,
                expires,
            },
        }
    }

    /// The command and its environment are filled in at each start.
    fn instance(&self, mut instance: Instance) -> Instance {
        let written = instance.auth_file.as_deref();
        instance.auth_file = Some(written.map_or(self.file.to_owned(), |path| self.path(path)));
        instance.working_dir = self.path(&instance.working_dir);
        instance
    }
}
