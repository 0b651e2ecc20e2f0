//! `eventstream node`: one node.

use super::output::Output;
use super::{Exit, Failure};
use core::net::SocketAddr;
use eventstream_core::config::Parameters;
use eventstream_host::config::{Config, Key, Settings};
use eventstream_host::node::{self, Node, StartError, Stopper};
use eventstream_host::tls;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::{io, thread};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run a node.
///
/// What can be set stands in a file (name = value), in the environment (EVENTSTREAM_NODE_ and the name in capitals) or
/// among the options below; a later one of these wins. It runs until SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of settings
    #[arg(long, value_name = "FILE", required_unless_present = "dir")]
    config: Option<PathBuf>,
    /// The node's directory, which `eventstream init` has made
    #[arg(long)]
    dir: Option<String>,
    /// HOST:PORT to listen on; by default the address that the cluster knows
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The words that let a node without TLS listen beyond loopback
    #[arg(long, value_name = "WORDS")]
    accept_risk: Option<String>,
    /// auto, shared or split
    #[arg(long)]
    threads: Option<String>,
    /// Connections of clients at a time
    #[arg(long, value_name = "N")]
    connections: Option<String>,
    /// Memory for what clients have sent, in MiB
    #[arg(long, value_name = "MIB")]
    client_pool_mib: Option<String>,
    /// Memory for what the other nodes have sent, in MiB
    #[arg(long, value_name = "MIB")]
    peer_pool_mib: Option<String>,
    /// Milliseconds between checkpoints of the applied state
    #[arg(long, value_name = "MS")]
    checkpoint_ms: Option<String>,
    /// The most memory that the node's plan may add up to, in MiB
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<String>,
    /// Stop when standard input ends: for whoever starts nodes and must not leave them behind
    #[arg(long, hide = true)]
    stop_at_end_of_input: bool,
}

pub(super) fn run(args: Args, output: Output) -> Result<(), Failure> {
    let stop_at_end_of_input = args.stop_at_end_of_input;
    let config = config(args)?;
    // Before the node starts: who is told to stop while it starts, stops in order as soon as it has.
    let signals = Signals::listen().map_err(Failure::failed)?;
    let mut node = Node::start(&config).map_err(start_failure)?;
    let (identity, addresses) = (&config.identity, node.addresses());
    output.result(|| describe(&config, addresses), || describe_json(&config, addresses))?;
    tell_notices(&mut node, output).map_err(Failure::failed)?;
    stop_when_told(signals, node.stopper(), stop_at_end_of_input, output).map_err(Failure::failed)?;
    node.wait().map_err(|error| Failure::failed(format_args!("node {}: {error}", identity.node)))?;
    output.note(&format!("node {} has stopped", identity.node));
    Ok(())
}

/// What the node uses, for people. Ends with the line that says that it serves.
fn describe(config: &Config, addresses: &[SocketAddr]) -> String {
    let Config { identity, connections, checkpoint, .. } = config;
    let Parameters { producers, topics, event_payload, producer_idle_us } = identity.parameters;
    format!(
        "memory, at most:\n{plan}directory: {dir}\nthreads: {threads}\nlimits: {connections} connections of clients; a \
         checkpoint every {checkpoint}\nof the cluster: {members}; {producers} producers, {topics} topics, {event_payload} \
         bytes in a payload, producers idle after {idle_s} s\nTLS: {tls}\nnode {node} of cluster {cluster} listens on {addresses}",
        plan = node::memory_plan(config),
        idle_s = producer_idle_us / 1_000_000,
        dir = config.dir.display(),
        threads = config.threads.name(),
        members = list(identity.members.iter().map(|member| {
            let what = if member.is_witness { "witness, node" } else { "node" };
            format!("{what} {} at {}", member.id, member.address)
        })),
        tls = describe_tls(config),
        node = identity.node,
        cluster = identity.cluster,
        addresses = list(addresses.iter()),
    )
}

fn describe_tls(config: &Config) -> String {
    match &config.tls {
        Some(tls) => format!("on, this node's certificate is valid until {}", tls::date(tls.valid_until())),
        None => "off".to_owned(),
    }
}

/// The same for programs.
fn describe_json(config: &Config, addresses: &[SocketAddr]) -> Value {
    let Config { identity, connections, checkpoint, .. } = config;
    let Parameters { producers, topics, event_payload, producer_idle_us } = identity.parameters;
    let plan = node::memory_plan(config);
    let members = identity
        .members
        .iter()
        .map(|member| json!({ "node": member.id.0, "address": member.address.as_str(), "witness": member.is_witness }));
    json!({
        "node": identity.node.0,
        "cluster": identity.cluster.to_string(),
        "addresses": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "directory": config.dir,
        "threads": config.threads.name(),
        "tls": config.tls.as_ref().map(|tls| json!({ "valid_until": tls::date(tls.valid_until()) })),
        "connections": connections,
        "checkpoint_ms": checkpoint.as_millis(),
        "members": members.collect::<Vec<_>>(),
        "parameters": { "producers": producers, "topics": topics, "event_payload": event_payload, "producer_idle_us": producer_idle_us },
        "memory": plan.holders().map(|(holder, bytes)| json!({ "holder": holder, "bytes": bytes })).collect::<Vec<_>>(),
        "memory_bytes": plan.total_bytes(),
        "kernel_bytes": plan.kernel_bytes(),
    })
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Tells what the node has to say, until it ends.
fn tell_notices(node: &mut Node, output: Output) -> io::Result<()> {
    let Some(notices) = node.notices() else { return Ok(()) };
    let tell = move || notices.into_iter().for_each(|notice| output.note(&notice.to_string()));
    thread::Builder::new().name("notices".into()).spawn(tell).map(|_| ())
}

/// Stops the node at the first signal, and the process at the second.
fn stop_when_told(mut signals: Signals, stopper: Stopper, at_end_of_input: bool, output: Output) -> io::Result<()> {
    if at_end_of_input {
        let stopper = stopper.clone();
        thread::Builder::new().name("input".into()).spawn(move || {
            // Whatever comes is of no interest, only that it ends; an error is an end too.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            stopper.shutdown();
        })?;
    }
    thread::Builder::new().name("signals".into()).spawn(move || {
        signals.wait();
        output.note("stopping; a second signal ends the process at once");
        stopper.shutdown();
        signals.wait();
        std::process::exit(Exit::Failed as i32);
    })?;
    Ok(())
}

/// SIGINT and SIGTERM, from when they are first listened for: what comes before the first wait is not lost.
struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (interrupt, terminate) = {
            let _within = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Blocks until one of them comes, or has come since the last wait.
    fn wait(&mut self) {
        let Self { runtime, interrupt, terminate } = self;
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        });
    }
}

/// Whether the configuration is at fault, or the machine.
fn start_failure(error: StartError) -> Failure {
    let exit = match error {
        StartError::Memory { .. } | StartError::Listen { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn config(args: Args) -> Result<Config, Failure> {
    let settings = match &args.config {
        Some(file) => Settings::new().file(file),
        None => Settings::new(),
    };
    let settings = settings
        .environment(environment())
        .flag(Key::Dir, args.dir)
        .flag(Key::Listen, args.listen)
        .flag(Key::AcceptRisk, args.accept_risk)
        .flag(Key::Threads, args.threads)
        .flag(Key::Connections, args.connections)
        .flag(Key::ClientPoolMib, args.client_pool_mib)
        .flag(Key::PeerPoolMib, args.peer_pool_mib)
        .flag(Key::CheckpointMs, args.checkpoint_ms)
        .flag(Key::MemoryMib, args.memory_mib);
    settings.check().map_err(Failure::usage)
}

/// The environment's variables, as far as they have a name that can be one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_while_the_node_starts_is_not_lost() {
        let mut signals = Signals::listen().expect("signals");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).expect("this process");
        signals.wait();
    }
}
