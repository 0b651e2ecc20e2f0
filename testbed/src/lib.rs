//! Clusters of real processes with real faults, for tests and measurements.
//!
//! A [`Cluster`] is a directory, a [`Network`] and one `eventstream node` process per node. What it does to them is what
//! happens in the field: SIGKILL, SIGTERM, a cable that is pulled. What it can tell about them comes through the public
//! client.

pub mod check;
pub mod load;
pub mod memory;
pub mod namespaces;
pub mod network;
mod process;
pub mod proxy;

pub use load::{Ledger, Load, Progress};
pub use namespaces::{CLIENTS, Spoke};
pub use network::{Clients, Network};
pub use process::NodeProcess;

use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_host::client::Options;
use eventstream_host::config::{ACCEPTED_RISK, Key};
use eventstream_host::identity::{Identity, Named};
use eventstream_host::tls::{Credential, Minted, Tls, TlsFiles};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Lines of what a node printed that are told when it ended by itself.
const LAST_LINES: usize = 10;

/// A cluster of real processes, ended and removed when dropped; its directory stays if the test panics.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    network: Network,
    running: BTreeMap<Spoke, NodeProcess>,
    nodes: u16,
    witness: Option<Spoke>,
    directory: Option<tempfile::TempDir>,
    tls: Option<Tls>,
}

impl Cluster {
    /// Initialises `nodes` nodes on `network`, starts them with the given `eventstream` binary, and waits until each of them
    /// votes on its own, which new nodes do not: from then on a majority is enough.
    ///
    /// # Panics
    /// When a node cannot be initialised or started.
    #[must_use]
    pub fn start(binary: &Path, nodes: u16, network: Network) -> Self {
        let mut cluster = Self::prepare(binary, nodes, network);
        cluster.nodes().for_each(|node| cluster.start_node(node));
        cluster.await_sound();
        cluster
    }

    /// As [`start`](Self::start), with the last of the nodes a witness.
    ///
    /// # Panics
    /// When a node cannot be initialised or started.
    #[must_use]
    pub fn start_with_witness(binary: &Path, nodes: u16, network: Network) -> Self {
        let mut cluster = Self::new(binary, nodes, network);
        cluster.witness = Some(nodes);
        cluster.initialise();
        cluster.nodes().for_each(|node| cluster.start_node(node));
        cluster.await_sound();
        cluster
    }

    /// Initialises `nodes` nodes on `network` and starts none.
    ///
    /// # Panics
    /// When a node cannot be initialised.
    #[must_use]
    pub fn prepare(binary: &Path, nodes: u16, network: Network) -> Self {
        let cluster = Self::new(binary, nodes, network);
        cluster.initialise();
        cluster
    }

    /// Initialises `nodes` nodes with TLS on `network`, until this second since the Unix epoch, and starts none. This side
    /// asks them with a client's certificate. Gives the authority too.
    ///
    /// # Panics
    /// When a node cannot be initialised.
    #[must_use]
    pub fn prepare_with_tls(binary: &Path, nodes: u16, network: Network, until: u64) -> (Self, Minted) {
        let mut cluster = Self::new(binary, nodes, network);
        let mut identities = cluster.identities();
        let minted = Minted::new(&mut identities, until).expect("certificates");
        minted.write_ca(cluster.root()).expect("an authority");
        minted.write_client(cluster.root()).expect("a client's files");
        for identity in identities {
            minted.write_node(identity.node, &cluster.directory(identity.node.0)).expect("a node's files");
            identity.write(&cluster.directory(identity.node.0)).expect("an identity bundle");
        }
        cluster.tls = Tls::load(&cluster.certificate()).ok();
        (cluster, minted)
    }

    /// What a client with a certificate needs, in a cluster with TLS.
    #[must_use]
    pub fn certificate(&self) -> TlsFiles {
        let folder = self.root().join("client");
        let (certificate, key) = (folder.join("client.pem"), folder.join("client.key"));
        TlsFiles { ca: folder.join("ca.pem"), credential: Credential::Certificate { certificate, key } }
    }

    /// What a client with the token needs, in a cluster with TLS.
    #[must_use]
    pub fn token(&self) -> TlsFiles {
        let folder = self.root().join("client");
        TlsFiles { ca: folder.join("ca.pem"), credential: Credential::Token(folder.join("token")) }
    }

    /// What a client needs beside the servers, with this patience.
    #[must_use]
    pub fn options(&self, patience: Duration) -> Options {
        Options { tls: self.tls.clone(), ..Options::patient(patience) }
    }

    /// An empty directory for each node and nothing more; for who has something to do to the directories before
    /// [`initialise`](Self::initialise) and [`start_node`](Self::start_node).
    ///
    /// # Panics
    /// When a directory cannot be made.
    #[must_use]
    pub fn new(binary: &Path, nodes: u16, network: Network) -> Self {
        let directory = tempfile::Builder::new().prefix("eventstream-").tempdir().expect("a temporary directory");
        let cluster = Self {
            binary: binary.to_owned(),
            network,
            running: BTreeMap::new(),
            nodes,
            witness: None,
            directory: Some(directory),
            tls: None,
        };
        cluster.nodes().for_each(|node| std::fs::create_dir(cluster.directory(node)).expect("a node's directory"));
        cluster
    }

    /// All node numbers.
    pub fn nodes(&self) -> impl Iterator<Item = Spoke> + use<> {
        1..=self.nodes
    }

    /// The running nodes that keep events: all but a witness.
    pub fn running_with_events(&self) -> impl Iterator<Item = Spoke> {
        self.running().filter(|node| self.witness != Some(*node))
    }

    /// The numbers of the nodes that were started and not killed or stopped since.
    pub fn running(&self) -> impl Iterator<Item = Spoke> {
        self.running.keys().copied()
    }

    /// Where a client reaches a node.
    #[must_use]
    pub fn server(&self, node: Spoke) -> String {
        self.network.reached_at(CLIENTS, node)
    }

    /// Where a client reaches each node.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        self.nodes().map(|node| self.server(node)).collect()
    }

    /// The network between them.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The process of a running node.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn process(&self, node: Spoke) -> &NodeProcess {
        &self.running[&node]
    }

    /// A node's directory.
    #[must_use]
    pub fn directory(&self, node: Spoke) -> PathBuf {
        self.root().join(format!("node-{node}"))
    }

    /// What a node has printed. Beside its directory, so that it outlives that.
    #[must_use]
    pub fn log(&self, node: Spoke) -> PathBuf {
        self.root().join(format!("node-{node}.log"))
    }

    /// What holds all of it, the nodes' directories too.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.as_ref().expect("kept until drop").path()
    }

    /// Starts a node that is not running.
    ///
    /// # Panics
    /// When it runs already or the process cannot be made.
    pub fn start_node(&mut self, node: Spoke) {
        let command = self.network.command(node, &self.binary);
        self.spawn(node, command);
    }

    /// Starts a node that is killed (SIGKILL) when it makes one of the system calls in `calls`, a list as `strace` takes it,
    /// for the `nth` time. Returns whether it was; if not, it serves now, until it makes that call.
    ///
    /// # Panics
    /// When it runs already, or there is no `strace`.
    pub fn start_node_to_be_killed(&mut self, node: Spoke, calls: &str, nth: u32) -> bool {
        let mut command = self.network.command(node, Path::new("strace"));
        // -D: the node is our child, and strace its tracer only.
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
        command.arg("-e").arg(format!("inject={calls}:signal=KILL:when={nth}")).arg(&self.binary);
        self.spawn(node, command);
        loop {
            if self.running.get_mut(&node).is_some_and(|process| process.ended().is_some()) {
                self.running.remove(&node);
                return true;
            }
            if self.statuses().iter().any(|status| status.node.0 == node) {
                return false;
            }
        }
    }

    fn spawn(&mut self, node: Spoke, mut command: Command) {
        assert!(!self.running.contains_key(&node), "node {node} runs already");
        command.arg("node").arg("--dir").arg(self.directory(node));
        if matches!(self.network, Network::Namespaces(_)) && self.tls.is_none() {
            command.env(Key::AcceptRisk.variable(), ACCEPTED_RISK);
        }
        self.running.insert(node, NodeProcess::spawn(command, &self.log(node)));
    }

    /// Kills a node: SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, node: Spoke) {
        self.running.remove(&node).expect("a running node").kill();
    }

    /// Kills all running nodes at once: SIGKILL to each, then `between`, then waits until they are gone.
    pub fn kill_all(&mut self, between: impl FnOnce()) {
        self.running.values_mut().for_each(NodeProcess::begin_kill);
        between();
        self.running.clear();
    }

    /// Asserts that every node that was started still runs, or was killed or stopped since.
    ///
    /// # Panics
    /// When one has ended by itself, with what it printed last.
    pub fn assert_none_ended(&mut self) {
        let ended = self.running.iter_mut().find_map(|(&node, process)| process.ended().map(|status| (node, status)));
        if let Some((node, status)) = ended {
            let log = std::fs::read_to_string(self.log(node)).unwrap_or_default();
            let last = log.lines().rev().take(LAST_LINES).collect::<Vec<_>>();
            panic!("node {node} ended by itself, {status}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }

    /// Stops a node in order: SIGTERM, and waits for its exit.
    ///
    /// # Panics
    /// When it does not run, or ends with another exit code than 0.
    pub fn stop(&mut self, node: Spoke) {
        let status = self.running.remove(&node).expect("a running node").terminate();
        assert!(status.success(), "node {node} ended with {status}; see {}", self.log(node).display());
    }

    /// Stops a node's process in its tracks (SIGSTOP): its connections stay open, and nothing is answered.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self, node: Spoke) {
        self.running[&node].signal(Signal::STOP);
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self, node: Spoke) {
        self.running[&node].signal(Signal::CONT);
    }

    /// Waits until a node ends by itself; gives its exit status, and all that it has said since it was first started.
    ///
    /// # Panics
    /// When it does not run.
    pub fn wait_for_end(&mut self, node: Spoke) -> (ExitStatus, String) {
        let status = self.running.remove(&node).expect("a running node").wait();
        (status, fs::read_to_string(self.log(node)).expect("the node's log"))
    }

    /// Empties the directory of a node that does not run, and puts its bundle there again, as it was before its first start.
    ///
    /// # Panics
    /// When it runs.
    pub fn wipe(&self, node: Spoke) {
        assert!(!self.running.contains_key(&node), "node {node} runs");
        let directory = self.directory(node);
        let identity = Identity::load(&directory).expect("an identity");
        fs::remove_dir_all(&directory).expect("the node's directory");
        identity.write(&directory).expect("an identity bundle");
    }

    /// Cuts a node off from the other nodes, in silence; clients still reach it.
    pub fn isolate_from_nodes(&self, node: Spoke) {
        self.nodes().filter(|&other| other != node).for_each(|other| self.network.cut(node, other));
    }

    /// Undoes [`isolate_from_nodes`](Self::isolate_from_nodes).
    pub fn rejoin_nodes(&self, node: Spoke) {
        self.nodes().filter(|&other| other != node).for_each(|other| self.network.heal(node, other));
    }

    /// Cuts a node off from everybody, in silence: what a power cut looks like from outside.
    pub fn isolate(&self, node: Spoke) {
        self.isolate_from_nodes(node);
        self.network.cut(node, CLIENTS);
    }

    /// Undoes [`isolate`](Self::isolate).
    pub fn rejoin(&self, node: Spoke) {
        self.rejoin_nodes(node);
        self.network.heal(node, CLIENTS);
    }

    /// The place of the clients, to be used from any thread.
    #[must_use]
    pub fn clients(&self) -> Clients {
        self.network.clients()
    }

    /// Writes the identity of each node into its directory.
    ///
    /// # Panics
    /// When that was done before.
    pub fn initialise(&self) {
        for identity in self.identities() {
            identity.write(&self.directory(identity.node.0)).expect("an identity bundle");
        }
    }

    /// A new identity for each node.
    fn identities(&self) -> Vec<Identity> {
        let named = |node| -> Named { (NodeId(node), self.network.listens_at(node).parse().expect("HOST:PORT")) };
        let (witness, nodes): (Vec<Named>, Vec<Named>) =
            self.nodes().map(named).partition(|(node, _)| self.witness == Some(node.0));
        let identities = Identity::new_cluster_with(&nodes, &witness, Parameters::default());
        let mut identities = identities.expect("identities");
        for identity in &mut identities {
            let me = identity.node.0;
            for member in &mut identity.members {
                member.address = self.network.reached_at(me, member.id.0).parse().expect("HOST:PORT");
            }
        }
        identities
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.running.clear();
        if let Some(directory) = self.directory.take().filter(|_| std::thread::panicking()) {
            println!("the nodes' directories and logs are kept in {}", directory.keep().display());
        }
    }
}
