//! `eventstream init`: one identity bundle per node.

use super::output::Output;
use super::{Exit, Failure};
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_host::identity::{self, Address, IdentityError};
use serde_json::json;
use std::path::PathBuf;

/// Write an identity bundle for each node of a new cluster.
///
/// Copy each bundle to its machine and start it there with `eventstream node --dir`; the first start needs all nodes. A
/// bundle is used by one node. Keep it: a node whose data was lost gets it again, into an empty directory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The nodes: number and address of each, for example 1=127.0.0.1:9001,2=127.0.0.1:9002,3=127.0.0.1:9003
    #[arg(long, value_name = "1=HOST:PORT,2=...", value_delimiter = ',', required = true, value_parser = parse_node)]
    nodes: Vec<(NodeId, Address)>,
    /// Where the bundles go: DIR/node-1, DIR/node-2 and so on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Producers that the cluster remembers
    #[arg(long, default_value_t = Parameters::default().producers)]
    producers: u32,
    /// Topics of the cluster
    #[arg(long, default_value_t = Parameters::default().topics)]
    topics: u32,
    /// Largest payload of an event, in bytes
    #[arg(long, default_value_t = Parameters::default().event_payload)]
    event_payload: u32,
}

fn parse_node(text: &str) -> Result<(NodeId, Address), String> {
    let (number, address) = text.split_once('=').ok_or("write NUMBER=HOST:PORT")?;
    let number = number.trim().parse().map_err(|_| format!("{number:?} is no number of a node"))?;
    let address = address.trim().parse::<Address>().map_err(|error| error.to_string())?;
    Ok((NodeId(number), address))
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let parameters = Parameters { producers: args.producers, topics: args.topics, event_payload: args.event_payload };
    let directories = identity::init(&args.out, &args.nodes, parameters).map_err(failure)?;
    let text = || {
        let lines = args.nodes.iter().zip(&directories).map(|((node, address), directory)| {
            format!("node {node} at {address}: eventstream node --dir {}", directory.display())
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let object = || {
        let nodes = args.nodes.iter().zip(&directories);
        let nodes = nodes.map(|((node, address), directory)| {
            json!({ "node": node.0, "address": address.as_str(), "directory": directory })
        });
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    };
    Ok(output.result(text, object)?)
}

/// Whether the caller asked for something wrong, or the machine could not do it.
pub(super) fn failure(error: IdentityError) -> Failure {
    let exit = match error {
        IdentityError::Io { .. } | IdentityError::Randomness(_) => Exit::Failed,
        _ => Exit::Usage,
    };
    Failure::new(exit, error)
}
