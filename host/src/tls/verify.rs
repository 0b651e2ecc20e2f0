//! Whether a certificate of our own is one that the others will take: asked at start, of the verifiers that they ask.

use super::bundle::{Pair, Trusted};
use super::error::TlsError;
use super::mint::date;
use super::provider;
use core::time::Duration;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error};
use std::sync::Arc;

/// A time beyond all certificates, in seconds since the Unix epoch: the year 9999.
const FAR_FUTURE: u64 = 253_402_300_799;

/// What checks the certificates of nodes.
pub(super) fn of_nodes(trusted: &Trusted) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::clone(&trusted.roots), provider())
        .build()
        .map_err(|error| unusable(trusted, &error))
}

/// What checks the certificates of those who connect, and lets in who shows none.
pub(super) fn of_callers(trusted: &Trusted) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(&trusted.roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(trusted, &error))
}

fn unusable(trusted: &Trusted, error: &impl ToString) -> TlsError {
    TlsError::Unusable { path: trusted.path.clone(), source: Error::General(error.to_string()) }
}

/// Checks a node's certificate as other nodes will. Gives the second since the Unix epoch until which it is valid.
pub(super) fn node(pair: &Pair, trusted: &Trusted, name: &ServerName<'static>, now: u64) -> Result<u64, TlsError> {
    let (certificate, more) = pair.key.cert.split_first().expect("read from a file that held one");
    let verifier = of_nodes(trusted)?;
    let check = |at| verifier.verify_server_cert(certificate, more, name, &[], at).map(drop);
    check(at(now)).map_err(|error| in_words(error, pair, trusted, name))?;
    Ok(end(check(at(FAR_FUTURE))))
}

/// Checks a client's certificate as nodes will.
pub(super) fn client(pair: &Pair, trusted: &Trusted, now: u64) -> Result<(), TlsError> {
    let (certificate, more) = pair.key.cert.split_first().expect("read from a file that held one");
    let check = of_callers(trusted)?.verify_client_cert(certificate, more, at(now)).map(drop);
    check.map_err(|error| in_words(error, pair, trusted, &super::server_name(super::ANY_NODE.to_owned())))
}

/// Whether a certificate, which a verifier has found to be good, has this name.
pub(super) fn has_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}

fn at(second: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(second))
}

/// The end of a certificate's validity, as a check in the far future tells it.
fn end(late: Result<(), Error>) -> u64 {
    match late {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => not_after.as_secs(),
        _ => FAR_FUTURE,
    }
}

fn in_words(error: Error, pair: &Pair, trusted: &Trusted, name: &ServerName<'_>) -> TlsError {
    let path = pair.path.clone();
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            TlsError::Expired { path, until: date(not_after.as_secs()) }
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            TlsError::NotYetValid { path, from: date(not_before.as_secs()) }
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            TlsError::OtherAuthority { path, ca: trusted.path.clone() }
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => TlsError::OtherNode { path, expected: name.to_str().into_owned() },
        source => TlsError::Unusable { path, source },
    }
}
