//! `eventstream cluster`: a local cluster of real processes.

mod child;

use super::init::{TLS_DAYS, client_options, end_of, failure, mint_failure};
use super::output::Output;
use super::progress::Progress;
use super::{Failure, block_on};
use child::{Children, Ended};
use core::time::Duration;
use eventstream_core::config::{MAX_MEMBERS, Parameters};
use eventstream_core::id::NodeId;
use eventstream_core::wire::NodeRole;
use eventstream_host::client::{Options, StatusReport, status};
use eventstream_host::clock::Clock;
use eventstream_host::identity::{self, Address, Identity, Member, node_directory};
use eventstream_host::tls::{self, CLIENT_FOLDER, Credential, Tls, TlsFiles};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A cluster without a leader after this is not going to have one.
const STARTUP: Duration = Duration::from_secs(60);
/// Between two looks at the starting nodes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Looks at a leader after which a node that is still suspect, since it has a long log to get, is waited for no more.
const SETTLED: u32 = 40;
const BASE_PORT: u16 = 9_001;

/// Run a local cluster: one process per node, until Ctrl-C.
///
/// An empty DIR is initialised; one that holds a cluster already is started as it is. If this process ends, however it
/// does, the nodes stop too.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many nodes; 3 for a new cluster
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=MAX_MEMBERS as i64))]
    nodes: Option<u16>,
    /// Where the data is: DIR/node-1, DIR/node-2 and so on; each holds its node's log.txt
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The first node's port on 127.0.0.1; each further node has the next one. 9001 for a new cluster
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// Start a node again when its process ends
    #[arg(long)]
    restart: bool,
    /// Initialise an empty DIR with TLS, as `eventstream init --tls` does; what clients need is printed
    #[arg(long)]
    tls: bool,
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let identity = identity_of(args)?;
    let options = Options { tls: client_tls(&args.dir, &identity)?, ..Options::patient(LOOK_AGAIN * 10) };
    block_on(supervise(args, &identity.members, &options, output))
}

/// What lets this process ask the nodes: a client's certificate, if they speak TLS.
fn client_tls(dir: &Path, identity: &Identity) -> Result<Option<Tls>, Failure> {
    if identity.tls.is_none() {
        return Ok(None);
    }
    let folder = dir.join(CLIENT_FOLDER);
    let (certificate, key) = (folder.join("client.pem"), folder.join("client.key"));
    let files = TlsFiles { ca: folder.join("ca.pem"), credential: Credential::Certificate { certificate, key } };
    Tls::load(&files).map(Some).map_err(Failure::usage)
}

/// The first of the directory's identities. The directory is initialised if it holds none.
fn identity_of(args: &Args) -> Result<Identity, Failure> {
    let existing = load(&args.dir)?;
    let Some(identity) = existing else {
        let count = args.nodes.unwrap_or(3);
        let addresses = addresses(count, args.base_port.unwrap_or(BASE_PORT))?;
        if args.tls {
            tls::init(&args.dir, &addresses, Parameters::default(), end_of(TLS_DAYS)).map_err(mint_failure)?;
        } else {
            identity::init(&args.dir, &addresses, Parameters::default()).map_err(failure)?;
        }
        return load(&args.dir)?.ok_or_else(|| Failure::failed("the bundles are gone again"));
    };
    let (found, dir) = (&identity.members, args.dir.display());
    if args.tls && identity.tls.is_none() {
        return Err(Failure::usage(format_args!(
            "{dir} holds a cluster without TLS: leave --tls out, or choose another directory"
        )));
    }
    if args.nodes.is_some_and(|wanted| usize::from(wanted) != found.len()) {
        return Err(Failure::usage(format_args!(
            "{dir} holds a cluster of {} nodes: leave --nodes out, or choose another directory",
            found.len()
        )));
    }
    let addresses_found: Vec<_> = found.iter().map(|member| (member.id, member.address.clone())).collect();
    if let Some(port) = args.base_port
        && addresses(found.len() as u16, port)? != addresses_found
    {
        return Err(Failure::usage(format_args!(
            "{dir} holds a cluster with other addresses, the first is {}: leave --base-port out, or choose another \
             directory",
            found[0].address
        )));
    }
    Ok(identity)
}

fn load(dir: &Path) -> Result<Option<Identity>, Failure> {
    let first = node_directory(dir, NodeId(1));
    if !first.join(identity::IDENTITY_FILE).exists() {
        return Ok(None);
    }
    Identity::load(&first).map(Some).map_err(failure)
}

fn addresses(count: u16, base_port: u16) -> Result<Vec<(NodeId, Address)>, Failure> {
    let address = |node: u16| {
        let port = base_port.checked_add(node - 1);
        let port = port.ok_or_else(|| Failure::usage("there are no ports above 65535: choose a lower --base-port"))?;
        let address = format!("127.0.0.1:{port}").parse::<Address>().map_err(Failure::usage)?;
        Ok((NodeId(node), address))
    };
    (1..=count).map(address).collect()
}

async fn supervise(args: &Args, members: &[Member], options: &Options, output: Output) -> Result<(), Failure> {
    let no_signals = |error| Failure::failed(format_args!("no signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut children = Children::new(&args.dir);
    for member in members {
        children.start(member.id)?;
    }
    let leader = tokio::select! {
        leader = wait_for_leader(members, options) => leader,
        ended = children.ended() => Err(Failure::failed(format_args!("{ended}; the other nodes are stopped"))),
        _ = interrupt.recv() => return children.stop(output).await,
        _ = terminate.recv() => return children.stop(output).await,
    };
    let leader = match leader {
        Ok(leader) => leader,
        Err(failure) => {
            children.stop(output).await?;
            return Err(failure);
        }
    };
    let client = options.tls.is_some().then(|| args.dir.join(CLIENT_FOLDER));
    announce(args, members, client.as_deref(), &children, leader, output)?;
    loop {
        let ended = tokio::select! {
            ended = children.ended() => ended,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        handle_end(args, &mut children, &ended, output).await?;
    }
    children.stop(output).await
}

/// A node that ends while the cluster runs is reported, and started again if that was asked for.
async fn handle_end(args: &Args, children: &mut Children, ended: &Ended, output: Output) -> Result<(), Failure> {
    if args.restart {
        output.note(&format!("{ended}; it is started again"));
        // Not at once: a node that cannot start would do nothing but end.
        tokio::time::sleep(Duration::from_secs(1)).await;
        return children.start(ended.node);
    }
    output.note(&format!("{ended}; start it again with: eventstream node --dir {}", ended.directory.display()));
    if children.is_empty() { Err(Failure::failed("no node is left")) } else { Ok(()) }
}

async fn wait_for_leader(members: &[Member], options: &Options) -> Result<NodeId, Failure> {
    let clock = Clock::start();
    let mut progress = Progress::start(clock);
    let (mut looks, mut seen) = (0, None);
    let deadline = clock.now() + eventstream_core::time::Duration::from_micros(STARTUP.as_micros() as u64);
    while clock.now() < deadline {
        let mut reports = Vec::new();
        for member in members {
            reports.extend(status(member.address.as_str(), options).await);
        }
        let serves = |report: &&StatusReport| {
            report.role == NodeRole::Leader && report.commit == report.applied && report.commit.0 > 0
        };
        if let Some(leader) = reports.iter().find(serves) {
            (looks, seen) = (looks + 1, Some(leader.node));
            // New nodes are suspect for a moment: until then the cluster cannot go on without one of them.
            let is_sound = |report: &StatusReport| !report.role.is_suspect();
            if looks > SETTLED || reports.len() == members.len() && reports.iter().all(is_sound) {
                break;
            }
        }
        progress.tell(|| "waiting for a leader".to_owned());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    progress.end();
    let none =
        || Failure::failed(format_args!("no leader after {} s: the nodes' log.txt may tell why", STARTUP.as_secs()));
    seen.ok_or_else(none)
}

fn announce(
    args: &Args,
    members: &[Member],
    client: Option<&Path>,
    children: &Children,
    leader: NodeId,
    output: Output,
) -> Result<(), Failure> {
    let text = || {
        let line = |member: &Member| {
            let (id, address) = (member.id, &member.address);
            let role = if id == leader { ", leads" } else { "" };
            format!("node {id} at {address}, data in {}{role}", node_directory(&args.dir, id).display())
        };
        let lines = members.iter().map(line).collect::<Vec<_>>().join("\n");
        let servers = members.iter().map(|member| member.address.as_str()).collect::<Vec<_>>().join(",");
        let secrets = client.map(|folder| format!(" {}", client_options(folder))).unwrap_or_default();
        format!("{lines}\nready: publish and subscribe with --servers {servers}{secrets}; Ctrl-C stops all nodes")
    };
    let object = || {
        let nodes = members.iter().map(|member| {
            let directory = node_directory(&args.dir, member.id);
            let pid = children.pid(member.id);
            json!({ "node": member.id.0, "address": member.address.as_str(), "directory": directory, "pid": pid })
        });
        json!({ "nodes": nodes.collect::<Vec<_>>(), "leader": leader.0, "client": client })
    };
    Ok(output.result(text, object)?)
}
