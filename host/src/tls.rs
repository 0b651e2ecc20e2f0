//! TLS between nodes, and between clients and nodes: version 1.3 and nothing older, under a private authority that
//! belongs to one cluster and to nobody else.
//!
//! # Who shows what
//!
//! | certificate | names in it | may be shown by |
//! |---|---|---|
//! | of node N | `node-N.CLUSTER.eventstream`, `node.eventstream` | node N, to clients and to other nodes |
//! | of clients | `client.CLUSTER.eventstream` | any client, to a node |
//!
//! Both sides of a connection check that the other's certificate is of the cluster's authority and has not expired. A node
//! that dials node N asks for N's own name, and so does one that is told by its hello that node N is dialling. A client
//! asks for the name that all nodes share: it knows an address, not which node is there. A client shows a certificate of
//! the authority, whichever, or a [token](eventstream_core::wire::Token), of which the nodes know the hash.
//!
//! # Files
//!
//! ```text
//! OUT/ca/ca.pem, ca.key                      the authority; its key mints certificates, and belongs to the operator
//! OUT/node-N/tls/ca.pem, node.pem, node.key  part of the node's bundle; identity.toml holds the token's hash
//! OUT/client/ca.pem                          for every client, and with it
//! OUT/client/client.pem, client.key          either these
//! OUT/client/token                           or this
//! ```

mod bundle;
mod client;
mod error;
mod mint;
mod node;
mod session;
mod verify;

pub use client::{Credential, Tls, TlsFiles};
pub use error::{TlsError, TlsErrors};
pub use mint::{Authority, Issued, MintError, Minted, date, init, init_with};
pub use node::NodeTls;

pub(crate) use session::{MAX_PULL, SESSION_BYTES, Session};

use eventstream_core::id::{ClusterId, NodeId};
use eventstream_core::wire::Token;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

/// The folder of a node's directory that holds its certificate.
pub const NODE_FOLDER: &str = "tls";
/// The folder beside the nodes' directories that holds what a client needs.
pub const CLIENT_FOLDER: &str = "client";
/// The folder beside the nodes' directories that holds the authority.
pub const CA_FOLDER: &str = "ca";

/// The name that all nodes share.
const ANY_NODE: &str = "node.eventstream";

/// The name of one node.
fn node_name(cluster: ClusterId, node: NodeId) -> ServerName<'static> {
    server_name(node_text(cluster, node))
}

fn node_text(cluster: ClusterId, node: NodeId) -> String {
    format!("node-{node}.{cluster}.eventstream")
}

fn server_name(text: String) -> ServerName<'static> {
    ServerName::try_from(text).expect("letters, digits, dots and a hyphen, in short labels")
}

/// What is kept of a token.
#[must_use]
pub fn token_hash(token: &Token) -> [u8; 32] {
    Sha256::digest(token.0).into()
}

/// The only implementation of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// `bytes` as hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::identity::Identity;
    use eventstream_core::config::Parameters;

    /// What a node speaks TLS with, and a client of its cluster.
    pub(crate) fn sides() -> (NodeTls, Tls) {
        let out = tempfile::tempdir().expect("a directory");
        let nodes = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
        let mut identities = Identity::new_cluster(&nodes, Parameters::default()).expect("an identity");
        let minted = Minted::new(&mut identities, 4_000_000_000).expect("certificates");
        minted.write_node(NodeId(1), out.path()).expect("written");
        let client = minted.write_client(out.path()).expect("written");
        let (certificate, key) = (client.join("client.pem"), client.join("client.key"));
        let files = TlsFiles { ca: client.join("ca.pem"), credential: Credential::Certificate { certificate, key } };
        let node = NodeTls::load(out.path(), &identities[0], 1_000_000_000).expect("a good bundle").expect("TLS");
        (node, Tls::load(&files).expect("good files"))
    }

    #[test]
    fn hexadecimal_digits_come_back_as_the_bytes_that_they_were() {
        let bytes: [u8; 32] = core::array::from_fn(|place| (place * 7 + 250) as u8);
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for bad in ["", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(from_hex(bad), None);
        }
    }
}
