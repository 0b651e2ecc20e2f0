//! `eventstream init`: one identity bundle per node.

use super::output::Output;
use super::{Exit, Failure};
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_host::clock::Clock;
use eventstream_host::identity::{self, Address, IdentityError, Named};
use eventstream_host::tls::{self, MintError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write an identity bundle for each node of a new cluster.
///
/// Copy each bundle to its machine and start it there with `eventstream node --dir`; the first start needs all nodes. A
/// bundle is used by one node. Keep it: a node whose data was lost gets it again, into an empty directory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The nodes: number and address of each, for example 1=127.0.0.1:9001,2=127.0.0.1:9002,3=127.0.0.1:9003
    #[arg(long, value_name = "1=HOST:PORT,2=...", value_delimiter = ',', required = true, value_parser = parse_node)]
    nodes: Vec<Named>,
    /// One node more, which votes and keeps no events: two nodes and a witness go on when any one of the three is gone. It
    /// needs neither a large disk nor much memory
    #[arg(long, value_name = "3=HOST:PORT", value_parser = parse_node)]
    witness: Option<Named>,
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
    /// Give the cluster a private certificate authority: nodes then speak TLS with each other and with clients, and may
    /// listen beyond loopback. DIR/ca stays with you, DIR/client is for the clients
    #[arg(long)]
    tls: bool,
    /// Days until the certificates expire: then no node and no client connects any more, and a new cluster has to be
    /// initialised. The default is ten years, for machines that nobody looks after
    #[arg(long, value_name = "DAYS", default_value_t = TLS_DAYS, requires = "tls", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    tls_days: u32,
}

/// Ten years.
pub(super) const TLS_DAYS: u32 = 3_650;

fn parse_node(text: &str) -> Result<Named, String> {
    let (number, address) = text.split_once('=').ok_or("write NUMBER=HOST:PORT")?;
    let number = number.trim().parse().map_err(|_| format!("{number:?} is no number of a node"))?;
    let address = address.trim().parse::<Address>().map_err(|error| error.to_string())?;
    Ok((NodeId(number), address))
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let parameters = Parameters {
        producers: args.producers,
        topics: args.topics,
        event_payload: args.event_payload,
        ..Parameters::default()
    };
    let (out, nodes, witness) = (&args.out, &args.nodes[..], args.witness.as_slice());
    let written = match args.tls {
        false => None,
        true => {
            let until = end_of(args.tls_days);
            Some(tls::init_with(out, nodes, witness, parameters, until).map_err(mint_failure)?)
        }
    };
    let directories = match &written {
        Some(written) => written.nodes.clone(),
        None => identity::init_with(out, nodes, witness, parameters).map_err(failure)?,
    };
    let mut named: Vec<(&Named, bool)> = nodes.iter().map(|node| (node, false)).collect();
    named.extend(witness.iter().map(|node| (node, true)));
    named.sort_by_key(|((node, _), _)| *node);
    let nodes = || named.iter().zip(&directories);
    let text = || {
        let lines = nodes().map(|(((node, address), is_witness), directory)| {
            let what = if *is_witness { "witness, node" } else { "node" };
            format!("{what} {node} at {address}: eventstream node --dir {}", directory.display())
        });
        let secrets = written.iter().map(|written| {
            format!(
                "clients need: {}\nthe authority is in {}: its key stays with you, no node and no client needs it\n\
                 certificates are valid until {}",
                client_options(&written.client),
                written.ca.display(),
                tls::date(end_of(args.tls_days)),
            )
        });
        lines.chain(secrets).collect::<Vec<_>>().join("\n")
    };
    let object = || {
        let nodes = nodes().map(|(((node, address), is_witness), directory)| {
            json!({ "node": node.0, "address": address.as_str(), "witness": is_witness, "directory": directory })
        });
        let secrets = written.as_ref().map(|written| {
            json!({ "client": written.client, "ca": written.ca, "valid_until": tls::date(end_of(args.tls_days)) })
        });
        json!({ "nodes": nodes.collect::<Vec<_>>(), "tls": secrets })
    };
    Ok(output.result(text, object)?)
}

/// The second since the Unix epoch that is so many days from now.
pub(super) fn end_of(days: u32) -> u64 {
    Clock::start().wall().0 / 1_000_000 + u64::from(days) * 24 * 60 * 60
}

/// What a client's command needs beside the servers, with the token; a certificate is in the same folder.
pub(super) fn client_options(folder: &Path) -> String {
    format!("--ca {} --token-file {}", folder.join("ca.pem").display(), folder.join("token").display())
}

/// As [`failure`].
pub(super) fn mint_failure(error: MintError) -> Failure {
    match error {
        MintError::Identity(error) => failure(error),
        MintError::Exists { .. } | MintError::Date(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

/// Whether the caller asked for something wrong, or the machine could not do it.
pub(super) fn failure(error: IdentityError) -> Failure {
    let exit = match error {
        IdentityError::Io { .. } | IdentityError::Randomness(_) => Exit::Failed,
        _ => Exit::Usage,
    };
    Failure::new(exit, error)
}
