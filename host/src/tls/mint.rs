//! What `eventstream init --tls` makes: an authority, and the certificates of the nodes and of the clients.

use super::{ANY_NODE, CA_FOLDER, CLIENT_FOLDER, NODE_FOLDER, node_text, to_hex, token_hash};
use crate::identity::{Identity, IdentityError, Named, TlsIdentity, node_directory};
use eventstream_core::config::Parameters;
use eventstream_core::id::{ClusterId, NodeId};
use eventstream_core::wire::Token;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Why nothing was minted, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The nodes' bundles.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file is there already.
    #[error("{} exists already, and is never replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system's error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The end of validity is no date.
    #[error("{0} seconds after 1970 is no date that a certificate can hold")]
    Date(u64),
}

/// The authority of one cluster.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    cluster: ClusterId,
    until: OffsetDateTime,
}

/// A certificate and its key, both PEM. The key is a secret.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new authority; what it issues, and it itself, is valid until this second since the Unix epoch.
    ///
    /// It is so from 1970 on: a machine whose clock has lost its battery must not be shut out until somebody sets it.
    ///
    /// # Errors
    /// [`MintError::Date`], [`MintError::Certificate`].
    pub fn new(cluster: ClusterId, until: u64) -> Result<Self, MintError> {
        let until = end(until)?;
        let mut params = params(&format!("EventStream authority of cluster {cluster}"), &[], until)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, cluster, until })
    }

    /// What it issues from now on is valid until this second since the Unix epoch.
    ///
    /// # Errors
    /// [`MintError::Date`].
    pub fn issue_until(&mut self, until: u64) -> Result<(), MintError> {
        self.until = end(until)?;
        Ok(())
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The certificate of a node, to accept with and to dial with.
    ///
    /// # Errors
    /// [`MintError::Certificate`].
    pub fn node(&self, node: NodeId) -> Result<Issued, MintError> {
        let names = [node_text(self.cluster, node), ANY_NODE.to_owned()];
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&format!("EventStream node {node}"), &names, &uses)
    }

    /// The certificate of clients.
    ///
    /// # Errors
    /// [`MintError::Certificate`].
    pub fn client(&self) -> Result<Issued, MintError> {
        let names = [format!("client.{}.eventstream", self.cluster)];
        self.issue("EventStream client", &names, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(&self, title: &str, names: &[String], uses: &[ExtendedKeyUsagePurpose]) -> Result<Issued, MintError> {
        let mut params = params(title, names, self.until)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn end(until: u64) -> Result<OffsetDateTime, MintError> {
    moment(until).ok_or(MintError::Date(until))
}

fn moment(second: u64) -> Option<OffsetDateTime> {
    i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
}

fn params(title: &str, names: &[String], until: OffsetDateTime) -> Result<CertificateParams, MintError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, title);
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    params.not_after = until;
    Ok(params)
}

/// All that a new cluster needs for TLS.
pub struct Minted {
    authority: Authority,
    token: Token,
}

impl Minted {
    /// Makes it, and tells each of the identities, which are one cluster's, that it has TLS.
    ///
    /// # Errors
    /// As [`Authority::new`], or that the system gives no randomness.
    pub fn new(identities: &mut [Identity], until: u64) -> Result<Self, MintError> {
        let cluster = identities.first().map(|first| first.cluster).unwrap_or_default();
        let mut token = Token([0; 32]);
        getrandom::fill(&mut token.0).map_err(IdentityError::Randomness)?;
        for identity in identities {
            identity.tls = Some(TlsIdentity { token_hash: token_hash(&token) });
        }
        Ok(Self { authority: Authority::new(cluster, until)?, token })
    }

    /// The authority.
    pub fn authority(&mut self) -> &mut Authority {
        &mut self.authority
    }

    /// Writes a node's part into its directory.
    ///
    /// # Errors
    /// Writing failed, or it is there already.
    pub fn write_node(&self, node: NodeId, directory: &Path) -> Result<(), MintError> {
        let folder = make(directory.join(NODE_FOLDER))?;
        let issued = self.authority.node(node)?;
        write(&folder.join("ca.pem"), &self.authority.certificate(), Readable::ByAll)?;
        write(&folder.join("node.pem"), &issued.certificate, Readable::ByAll)?;
        write(&folder.join("node.key"), &issued.key, Readable::ByOwner)?;
        sync(&folder)
    }

    /// Writes the clients' part: `out/client`.
    ///
    /// # Errors
    /// As [`Self::write_node`].
    pub fn write_client(&self, out: &Path) -> Result<PathBuf, MintError> {
        let folder = make(out.join(CLIENT_FOLDER))?;
        let issued = self.authority.client()?;
        write(&folder.join("ca.pem"), &self.authority.certificate(), Readable::ByAll)?;
        write(&folder.join("client.pem"), &issued.certificate, Readable::ByAll)?;
        write(&folder.join("client.key"), &issued.key, Readable::ByOwner)?;
        write(&folder.join("token"), &format!("{}\n", to_hex(&self.token.0)), Readable::ByOwner)?;
        sync(&folder)?;
        Ok(folder)
    }

    /// Writes the authority: `out/ca`.
    ///
    /// # Errors
    /// As [`Self::write_node`].
    pub fn write_ca(&self, out: &Path) -> Result<PathBuf, MintError> {
        let folder = make(out.join(CA_FOLDER))?;
        write(&folder.join("ca.pem"), &self.authority.certificate(), Readable::ByAll)?;
        write(&folder.join("ca.key"), &self.authority.issuer.key().serialize_pem(), Readable::ByOwner)?;
        sync(&folder)?;
        Ok(folder)
    }
}

/// Where [`init`] has put what.
#[derive(Clone, Debug)]
pub struct Written {
    /// The nodes' directories, in the order of their numbers.
    pub nodes: Vec<PathBuf>,
    /// What clients need.
    pub client: PathBuf,
    /// What the operator keeps.
    pub ca: PathBuf,
}

/// Writes the bundles of a new cluster with TLS below `out`. Its certificates are valid until this second since the Unix
/// epoch.
///
/// # Errors
/// Before anything is written: invalid nodes, or files of another cluster. After that: writing failed.
pub fn init(out: &Path, nodes: &[Named], parameters: Parameters, until: u64) -> Result<Written, MintError> {
    init_with(out, nodes, &[], parameters, until)
}

/// As [`init`], with witnesses: one at most, or none.
///
/// # Errors
/// As [`init`].
pub fn init_with(
    out: &Path,
    nodes: &[Named],
    witnesses: &[Named],
    parameters: Parameters,
    until: u64,
) -> Result<Written, MintError> {
    let mut identities = Identity::new_cluster_with(nodes, witnesses, parameters)?;
    let minted = Minted::new(&mut identities, until)?;
    let directories: Vec<PathBuf> = identities.iter().map(|me| node_directory(out, me.node)).collect();
    for folder in directories.iter().cloned().chain([out.join(CA_FOLDER), out.join(CLIENT_FOLDER)]) {
        match fs::read_dir(&folder).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Ok(true) => return Err(MintError::Exists { path: folder }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(MintError::Io { path: folder, source }),
        }
    }
    let (ca, client) = (minted.write_ca(out)?, minted.write_client(out)?);
    for (identity, directory) in identities.iter().zip(&directories) {
        minted.write_node(identity.node, directory)?;
        // Last: a directory with an identity is a whole bundle.
        identity.write(directory)?;
    }
    Ok(Written { nodes: directories, client, ca })
}

/// The day, in UTC, of a second since the Unix epoch: `2036-11-18`.
#[must_use]
pub fn date(second: u64) -> String {
    moment(second).map_or_else(
        || "a day beyond the calendar".to_owned(),
        |date| format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()),
    )
}

enum Readable {
    ByAll,
    ByOwner,
}

fn make(folder: PathBuf) -> Result<PathBuf, MintError> {
    fs::create_dir_all(&folder).map_err(|source| MintError::Io { path: folder.clone(), source })?;
    Ok(folder)
}

fn write(path: &Path, text: &str, readable: Readable) -> Result<(), MintError> {
    let mode = match readable {
        Readable::ByAll => 0o644,
        Readable::ByOwner => 0o600,
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => MintError::Exists { path: path.to_owned() },
        _ => MintError::Io { path: path.to_owned(), source },
    })
}

fn sync(folder: &Path) -> Result<(), MintError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| MintError::Io { path: folder.to_owned(), source })
}
