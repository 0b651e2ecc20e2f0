//! Certificates and keys from their files.

use super::error::TlsError;
use super::provider;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The authority that is trusted.
pub(super) struct Trusted {
    pub(super) path: PathBuf,
    pub(super) roots: Arc<RootCertStore>,
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) path: PathBuf,
    pub(super) key: Arc<CertifiedKey>,
}

impl Trusted {
    pub(super) fn load(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|source| TlsError::Unusable { path: path.to_owned(), source })?;
        }
        Ok(Self { path: path.to_owned(), roots: Arc::new(roots) })
    }
}

impl Pair {
    /// Reads both files, and gives all that is wrong with either.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, Vec<TlsError>> {
        let chain = certificates(certificate);
        let private = read(key).and_then(|pem| {
            let expected = "private key";
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Content { path: key.to_owned(), expected })
        });
        let (chain, private) = match (chain, private) {
            (Ok(chain), Ok(private)) => (chain, private),
            (chain, private) => return Err(chain.err().into_iter().chain(private.err()).collect()),
        };
        let pair = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                vec![TlsError::OtherKey { key: key.to_owned(), certificate: certificate.to_owned() }]
            }
            source => vec![TlsError::Unusable { path: key.to_owned(), source }],
        })?;
        Ok(Self { path: certificate.to_owned(), key: Arc::new(pair) })
    }
}

/// The certificates of a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::Content { path: path.to_owned(), expected: "certificate" }),
    }
}

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => TlsError::Missing { path: path.to_owned() },
        _ => TlsError::Io { path: path.to_owned(), source },
    })
}
