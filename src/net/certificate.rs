//! What a listener proves itself with: certificate and key, which may change while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::pem::{Pair, PemError, expiry};

/// Certificate and key of one listener.
#[derive(Debug)]
pub struct Certificate {
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    cert: PathBuf,
    key: PathBuf,
    signer: Arc<CertifiedKey>,
    expires: i64,
}

impl Certificate {
    /// # Errors
    /// A file cannot be read or is no PEM, or the key belongs to another certificate.
    pub fn open(cert: &Path, key: &Path) -> Result<Certificate, PemError> {
        Ok(Certificate {
            current: ArcSwap::from_pointee(Current::read(cert, key)?),
        })
    }

    /// Reads both files, which may be others than before. What was read before stays in use until
    /// the new ones are known to be good.
    ///
    /// # Errors
    /// As [`Certificate::open`].
    pub fn replace(&self, cert: &Path, key: &Path) -> Result<(), PemError> {
        self.current.store(Arc::new(Current::read(cert, key)?));
        Ok(())
    }

    /// Reads its files again.
    ///
    /// # Errors
    /// As [`Certificate::open`].
    pub fn reload(&self) -> Result<(), PemError> {
        let [cert, key] = self.files();
        self.replace(&cert, &key)
    }

    /// Certificate and key.
    pub fn files(&self) -> [PathBuf; 2] {
        let current = self.current.load();
        [current.cert.clone(), current.key.clone()]
    }

    /// When it expires, in seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.current.load().expires
    }

    /// TLS 1.2 and 1.3 with this certificate; of `alpn` the first that a client speaks is chosen.
    ///
    /// # Errors
    /// The cryptography that is built in knows none of the two.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl Current {
    fn read(cert: &Path, key: &Path) -> Result<Current, PemError> {
        let pair = Pair::read(cert, key)?;
        let leaf = pair.chain.first().and_then(expiry);
        Ok(Current {
            signer: Arc::new(pair.signer(cert)?),
            expires: leaf.unwrap_or_default(),
            cert: cert.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl ResolvesServerCert for Certificate {
    /// The same whatever name is asked for: one listener has one certificate.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().signer.clone())
    }
}
