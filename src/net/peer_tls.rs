//! What an upstream must show besides its name, and what is shown to it: a CA of its own, a certificate
//! of ours. Both are read once and again when their files change, not for each connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::RootCertStore;
use xxhash_rust::xxh3::Xxh3Default;

use super::pem::{Pair, PemError, certificates};

/// The TLS of one upstream.
pub struct PeerTls {
    ca: Option<PathBuf>,
    client: Option<[PathBuf; 2]>,
    current: ArcSwap<Result<Current, PemError>>,
}

struct Current {
    ca: Option<Arc<CaType>>,
    client: Option<Arc<CertKey>>,
    /// Connections are shared only among those that trust and show the same.
    group: u64,
}

impl PeerTls {
    /// Reads the files; where they cannot be used, there is no connection until they can. `client` is
    /// certificate and key. `None`: there is neither.
    pub fn open(ca: Option<&Path>, client: Option<[&Path; 2]>) -> Option<PeerTls> {
        let ca = ca.map(Path::to_owned);
        let client = client.map(|files| files.map(Path::to_owned));
        (ca.is_some() || client.is_some()).then(|| PeerTls {
            current: ArcSwap::from_pointee(read(ca.as_deref(), client.as_ref())),
            ca,
            client,
        })
    }

    /// Reads the files again. What was read before stays in use until the new ones are known to be
    /// good.
    ///
    /// # Errors
    /// They are not.
    pub fn reload(&self) -> Result<(), String> {
        let read = read(self.ca.as_deref(), self.client.as_ref());
        if let (Err(error), true) = (&read, self.problem().is_none()) {
            return Err(error.to_string());
        }
        self.current.store(Arc::new(read));
        self.problem().map_or(Ok(()), Err)
    }

    /// Why no connection can be made.
    pub fn problem(&self) -> Option<String> {
        let current = self.current.load();
        current.as_ref().as_ref().err().map(ToString::to_string)
    }

    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flatten();
        self.ca.iter().chain(client).map(PathBuf::as_path)
    }

    /// # Errors
    /// The files cannot be used: without them the upstream could be anybody.
    pub fn put_on(&self, peer: &mut HttpPeer) -> Result<(), String> {
        match self.current.load().as_ref() {
            Ok(current) => {
                peer.options.ca = current.ca.clone();
                peer.client_cert_key = current.client.clone();
                peer.group_key = current.group;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read(ca: Option<&Path>, client: Option<&[PathBuf; 2]>) -> Result<Current, PemError> {
    let mut group = Xxh3Default::new();
    let roots = ca.map(certificates).transpose()?;
    for root in roots.iter().flatten() {
        group.update(root);
        RootCertStore::empty().add(root.clone()).map_err(|error| {
            let path = ca.unwrap_or(Path::new(""));
            PemError::new(path, format!("holds what is no CA: {error}"))
        })?;
    }
    let pair = client
        .map(|[cert, key]| Pair::read(cert, key))
        .transpose()?;
    let client = pair.map(|pair| {
        let chain: Vec<Vec<u8>> = pair.chain.iter().map(|cert| cert.to_vec()).collect();
        // A mark between the two, so that no CA looks like a certificate of ours.
        group.update(b"/");
        chain.iter().for_each(|cert| group.update(cert));
        Arc::new(CertKey::new(chain, pair.key.secret_der().to_vec()))
    });
    let wrap =
        |root: &rustls_pki_types::CertificateDer<'_>| WrappedX509::new(root.to_vec(), parse_x509);
    let ca = roots.map(|roots| roots.iter().map(wrap).collect::<Vec<_>>().into());
    Ok(Current {
        ca,
        client,
        group: group.digest().max(1),
    })
}
