//! What can be wrong with the files of TLS.

use crate::errors::Errors;
use std::io;
use std::path::PathBuf;

/// Everything that is wrong with them.
pub type TlsErrors = Errors<TlsError>;

/// One thing that is wrong with the files of TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that belongs to it is not there.
    #[error("{} is missing: TLS needs it, and `eventstream init --tls` writes it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A node's directory has certificates, and its identity does not say that it uses them.
    #[error(
        "{} is there, and identity.toml has no [tls]: the bundle was put together from two, or edited. Copy the whole \
         bundle again, or remove the folder for a node without TLS", folder.display()
    )]
    NotInIdentity {
        /// The folder.
        folder: PathBuf,
    },
    /// A file holds something else.
    #[error("{} holds no {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key are not of one pair.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
    /// A certificate is of the past.
    #[error("{} has expired: it was valid until {until}", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// The last day.
        until: String,
    },
    /// A certificate is of the future, or this machine's clock is far behind.
    #[error("{} is not valid yet: it is from {from} on, if this machine's clock is right", path.display())]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// The first day.
        from: String,
    },
    /// A certificate was issued by another authority.
    #[error("{} was not issued by the authority of {}: it belongs to another cluster", path.display(), ca.display())]
    OtherAuthority {
        /// The certificate's file.
        path: PathBuf,
        /// The authority's.
        ca: PathBuf,
    },
    /// A certificate is of another node, or another cluster's.
    #[error("{} is not the certificate of {expected}: it is another node's", path.display())]
    OtherNode {
        /// The certificate's file.
        path: PathBuf,
        /// The name that it should have.
        expected: String,
    },
    /// A certificate cannot be used for another reason.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}
