//! Certificates and keys as PEM files hold them, checked before anybody has to rely on them.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A larger file is no certificate and no key; all that the world's browsers trust is a quarter of it.
const LARGEST: u64 = 1 << 20;

/// What is wrong with a certificate or its key. Never says what a file holds.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PemError {
    path: PathBuf,
    problem: String,
}

impl PemError {
    pub(super) fn new(path: &Path, problem: impl Display) -> PemError {
        PemError {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// A certificate with those that vouch for it, and its key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Pair {
    /// # Errors
    /// A file cannot be read or is no PEM, or the key belongs to another certificate.
    pub(super) fn read(cert: &Path, key: &Path) -> Result<Pair, PemError> {
        let chain = certificates(cert)?;
        let text = text(key)?;
        let found = PrivateKeyDer::from_pem_slice(&text);
        let found = found.map_err(|_| PemError::new(key, "holds no private key in PEM form"))?;
        let pair = Pair { chain, key: found };
        pair.signer(cert).map(|_| pair)
    }

    /// Both as TLS uses them; `cert` is named where they do not belong together.
    pub(super) fn signer(&self, cert: &Path) -> Result<CertifiedKey, PemError> {
        let (chain, key) = (self.chain.clone(), self.key.clone_key());
        let signer = CertifiedKey::from_der(chain, key, &default_provider());
        signer.map_err(|error| PemError::new(cert, format!("does not go with its key: {error}")))
    }
}

/// All certificates of a file, of which there is one at least.
///
/// # Errors
/// The file cannot be read, or something in it is no certificate.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = text(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| PemError::new(path, "is not in proper PEM form"))?;
    if found.is_empty() {
        return Err(PemError::new(path, "holds no certificate in PEM form"));
    }
    for certificate in &found {
        expiry(certificate)
            .ok_or_else(|| PemError::new(path, "holds a certificate that cannot be read"))?;
    }
    Ok(found)
}

/// When a certificate expires, in seconds since 1970.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn text(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let mut text = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_end(&mut text))
        .map_err(|cause| PemError::new(path, format!("cannot be read: {cause}")))?;
    Ok(text)
}
