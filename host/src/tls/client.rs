//! A client's side.

use super::bundle::{Pair, Trusted, read};
use super::error::{TlsError, TlsErrors};
use super::{ANY_NODE, from_hex, provider, server_name, verify};
use crate::clock::Clock;
use crate::errors::Errors;
use core::fmt;
use eventstream_core::wire::{Role, Token};
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where what a client needs is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the cluster's authority, PEM.
    pub ca: PathBuf,
    /// What the client shows.
    pub credential: Credential,
}

/// What a client shows to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A certificate of the authority.
    Certificate {
        /// Its file, PEM.
        certificate: PathBuf,
        /// The file of its key, PEM.
        key: PathBuf,
    },
    /// The file of the token: 64 hexadecimal digits.
    Token(PathBuf),
}

/// What a client needs to speak TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    token: Option<Token>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsErrors> {
        let trusted = Trusted::load(&files.ca).map_err(|error| vec![error]);
        let (pair, token) = match &files.credential {
            Credential::Certificate { certificate, key } => (Pair::load(certificate, key).map(Some), Ok(None)),
            Credential::Token(path) => (Ok(None), load_token(path).map(Some).map_err(|error| vec![error])),
        };
        let (trusted, pair, token) = match (trusted, pair, token) {
            (Ok(trusted), Ok(pair), Ok(token)) => (trusted, pair, token),
            (trusted, pair, token) => {
                let wrong = trusted.err().into_iter().chain(pair.err()).chain(token.err());
                return Err(Errors(wrong.flatten().collect()));
            }
        };
        let config = configure(&trusted, pair.as_ref()).map_err(|error| Errors(vec![error]))?;
        Ok(Self { config: Arc::new(config), token })
    }

    /// A client's side of a connection.
    pub(crate) fn dial(&self) -> ClientConnection {
        let name = server_name(ANY_NODE.to_owned());
        ClientConnection::new(Arc::clone(&self.config), name).expect("a configuration that was checked")
    }

    /// What the client says it is.
    pub(crate) fn role(&self) -> Role {
        self.token.map_or(Role::Client, |token| Role::TokenClient { token })
    }
}

fn configure(trusted: &Trusted, pair: Option<&Pair>) -> Result<ClientConfig, TlsError> {
    if let Some(pair) = pair {
        verify::client(pair, trusted, Clock::start().wall().0 / 1_000_000)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks it")
        .with_webpki_verifier(verify::of_nodes(trusted)?);
    let mut config = match pair {
        Some(pair) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.key)))),
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn load_token(path: &Path) -> Result<Token, TlsError> {
    let content = || TlsError::Content { path: path.to_owned(), expected: "token of 64 hexadecimal digits" };
    let text = String::from_utf8(read(path)?).map_err(|_| content())?;
    from_hex(text.trim()).map(Token).ok_or_else(content)
}
