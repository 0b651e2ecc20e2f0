//! A node's side: it accepts and it dials.

use super::bundle::{Pair, Trusted};
use super::error::{TlsError, TlsErrors};
use super::{NODE_FOLDER, node_name, provider, token_hash, verify};
use crate::errors::Errors;
use crate::identity::Identity;
use core::fmt;
use eventstream_core::id::{ClusterId, NodeId};
use eventstream_core::wire::Token;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::path::Path;
use std::sync::Arc;

/// What a node needs to speak TLS. Cheap to clone.
#[derive(Clone)]
pub struct NodeTls {
    accepting: Arc<ServerConfig>,
    dialling: Arc<ClientConfig>,
    cluster: ClusterId,
    token_hash: [u8; 32],
    valid_until: u64,
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").field("valid_until", &self.valid_until).finish_non_exhaustive()
    }
}

impl NodeTls {
    /// Reads and checks what the bundle in `directory` holds, as it is at `now`, in seconds since the Unix epoch. `None` if
    /// the bundle is one without TLS.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(directory: &Path, me: &Identity, now: u64) -> Result<Option<Self>, TlsErrors> {
        let folder = directory.join(NODE_FOLDER);
        let Some(tls) = &me.tls else {
            return match folder.exists() {
                true => Err(Errors(vec![TlsError::NotInIdentity { folder }])),
                false => Ok(None),
            };
        };
        let trusted = Trusted::load(&folder.join("ca.pem")).map_err(|error| vec![error]);
        let pair = Pair::load(&folder.join("node.pem"), &folder.join("node.key"));
        let (trusted, pair) = match (trusted, pair) {
            (Ok(trusted), Ok(pair)) => (trusted, pair),
            (trusted, pair) => {
                return Err(Errors(trusted.err().into_iter().chain(pair.err()).flatten().collect()));
            }
        };
        Self::new(&trusted, &pair, me, tls.token_hash, now).map(Some).map_err(|error| Errors(vec![error]))
    }

    fn new(trusted: &Trusted, pair: &Pair, me: &Identity, token_hash: [u8; 32], now: u64) -> Result<Self, TlsError> {
        let valid_until = verify::node(pair, trusted, &node_name(me.cluster, me.node), now)?;
        let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&pair.key)));
        let mut accepting = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks it")
            .with_client_cert_verifier(verify::of_callers(trusted)?)
            .with_cert_resolver(Arc::clone(&resolver) as Arc<_>);
        // Connections last: nothing is gained by resuming an earlier one, and nothing has to be remembered.
        accepting.send_tls13_tickets = 0;
        accepting.session_storage = Arc::new(NoServerSessionStorage {});
        let mut dialling = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks it")
            .with_webpki_verifier(verify::of_nodes(trusted)?)
            .with_client_cert_resolver(resolver);
        dialling.resumption = Resumption::disabled();
        let (accepting, dialling) = (Arc::new(accepting), Arc::new(dialling));
        Ok(Self { accepting, dialling, cluster: me.cluster, token_hash, valid_until })
    }

    /// The second since the Unix epoch until which the node's certificate is valid.
    #[must_use]
    pub fn valid_until(&self) -> u64 {
        self.valid_until
    }

    /// The side of whoever is called.
    pub(crate) fn accept(&self) -> ServerConnection {
        ServerConnection::new(Arc::clone(&self.accepting)).expect("a configuration that was checked")
    }

    /// The side of who calls `peer`.
    pub(crate) fn dial(&self, peer: NodeId) -> ClientConnection {
        let name = node_name(self.cluster, peer);
        ClientConnection::new(Arc::clone(&self.dialling), name).expect("a configuration that was checked")
    }

    /// Whether a certificate that was shown and is of the authority is this node's.
    pub(crate) fn is_of(&self, certificate: Option<&CertificateDer<'_>>, node: NodeId) -> bool {
        certificate.is_some_and(|certificate| verify::has_name(certificate, &node_name(self.cluster, node)))
    }

    /// Whether this is the clients' token. Takes as long for any.
    pub(crate) fn knows(&self, token: &Token) -> bool {
        let differences =
            token_hash(token).iter().zip(&self.token_hash).fold(0, |sum, (one, other)| sum | (one ^ other));
        differences == 0
    }
}
