//! `eventstream verify`: whether what nodes hold is what it has to be.

use super::output::Output;
use super::progress::Progress;
use super::status::aligned;
use super::{DEFAULT_SERVERS, Exit, Failure, Secrets, block_on};
use core::time::Duration;
use eventstream_host::client::Options;
use eventstream_host::clock::Clock;
use eventstream_host::identity::{Address, IdentityError};
use eventstream_host::storage::OpenError;
use eventstream_host::verify::{
    self, Divergence, Findings, LiveError, LiveReport, Meter, NodeReport, Refusal, Report, Violation,
};
use serde_json::{Value, json};
use std::panic;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

/// Between two looks at how far the check is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Check the invariants on the data of stopped nodes, or on running nodes.
///
/// With directories: every checksum, the rules of the log, the applied state and the topic index against a replay of the
/// whole log, each producer's order; then the logs against each other. Nothing in a directory is changed, and a
/// directory in use is refused.
///
/// With --servers: the state of all nodes at one index, and every event of every topic up to there, read from each node
/// and compared.
///
/// What does not hold is named with its place, and ends the command with exit code 1.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["directories", "servers"])))]
pub(super) struct Args {
    /// Directories of stopped nodes; one that holds node-1, node-2 and so on stands for these
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Check running nodes: these, and the members that they tell of. Without addresses, EVENTSTREAM_SERVERS or the ports
    /// 9001 to 9003 of this machine
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 0..)]
    servers: Option<Vec<String>>,
    /// Compare the events of this topic alone; may be given several times. The states are compared in any case
    #[arg(long, value_name = "TOPIC", requires = "servers")]
    topic: Vec<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    #[command(flatten)]
    secrets: Secrets,
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    match &args.servers {
        Some(servers) => running(args, servers, output),
        None => stopped(&args.directories, output),
    }
}

fn stopped(directories: &[PathBuf], output: Output) -> Result<(), Failure> {
    let directories: Vec<PathBuf> =
        directories.iter().flat_map(|directory| verify::node_directories(directory)).collect();
    let report = with_progress(|meter| verify::directories(&directories, meter), "entries").map_err(refusal)?;
    output.result(|| text(&report), || object(&report))?;
    verdict(&report.findings)
}

fn running(args: &Args, servers: &[String], output: Output) -> Result<(), Failure> {
    let mut servers = servers.to_vec();
    if servers.is_empty() {
        let named = std::env::var("EVENTSTREAM_SERVERS").unwrap_or_else(|_| DEFAULT_SERVERS.to_owned());
        servers = named.split(',').map(str::to_owned).collect();
    }
    for server in &servers {
        server.trim().parse::<Address>().map_err(Failure::usage)?;
    }
    let options = Options { tls: args.secrets.load()?, ..Options::patient(Duration::from_secs(args.patience)) };
    let work = |meter: &Meter| block_on(async { Ok(verify::servers(&servers, &args.topic, &options, meter).await) });
    let report = with_progress(work, "events")?.map_err(live_failure)?;
    output.result(|| live_text(&report), || live_object(&report))?;
    verdict(&report.findings)?;
    if report.unreachable.is_empty() {
        return Ok(());
    }
    let servers = report.unreachable.iter().map(|(server, _)| server.as_str()).collect::<Vec<_>>().join(", ");
    Err(Failure::new(Exit::Unknown, format_args!("not checked, since no node answers there: {servers}")))
}

/// Does the work on a thread of its own, and tells meanwhile how far it is.
fn with_progress<T: Send>(work: impl FnOnce(&Meter) -> T + Send, what: &str) -> T {
    let meter = Meter::default();
    let mut progress = Progress::start(Clock::start());
    let result = thread::scope(|scope| {
        // Closed when the work is done, however it ends.
        let (open, closed) = mpsc::channel::<()>();
        let meter = &meter;
        let worker = scope.spawn(move || {
            let _open = open;
            work(meter)
        });
        while closed.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
            progress.tell(|| match meter.read() {
                (done, 0) => format!("{done} {what} checked"),
                (done, of) => format!("{done} of {of} {what} checked"),
            });
        }
        worker.join()
    });
    progress.end();
    result.unwrap_or_else(|cause| panic::resume_unwind(cause))
}

fn verdict(findings: &Findings) -> Result<(), Failure> {
    match findings.count() {
        0 => Ok(()),
        1 => Err(Failure::failed("something does not hold: see above")),
        count => Err(Failure::failed(format_args!("{count} times something does not hold: see above"))),
    }
}

fn refusal(error: Refusal) -> Failure {
    let exit = match &error {
        Refusal::Identity(IdentityError::Io { .. } | IdentityError::Randomness(_))
        | Refusal::Open(OpenError::Io { .. } | OpenError::Store(_)) => Exit::Failed,
        _ => Exit::Usage,
    };
    let hint = match &error {
        Refusal::Open(OpenError::InUse { .. }) => ": stop its node first, or check running nodes with --servers",
        _ => "",
    };
    Failure::new(exit, format_args!("{error}{hint}"))
}

fn live_failure(error: LiveError) -> Failure {
    let exit = match error {
        LiveError::Unreachable { .. } => Exit::Unreachable,
        LiveError::OtherCluster { .. } | LiveError::OnlyWitness { .. } => Exit::Usage,
        LiveError::NoCommonIndex { .. } | LiveError::Gone { .. } | LiveError::Topic { .. } => Exit::Unknown,
    };
    Failure::new(exit, error)
}

fn text(report: &Report) -> String {
    let head = ["NODE", "DIRECTORY", "FIRST", "LAST", "TERM", "VOTE", "APPLIED", "EVENTS", "TOPICS", "STATE HASH"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(report.nodes.iter().map(row));
    let mut lines = aligned(&table);
    let witnesses = report.nodes.iter().filter(|node| node.is_witness);
    lines.extend(witnesses.map(|node| {
        format!("node {} is a witness: it keeps the terms of the log, which were compared, and no events", node.node)
    }));
    let suspect = report.nodes.iter().filter(|node| node.suspect);
    lines.extend(suspect.map(|node| {
        format!("node {} may have lost the end of its log: it votes only when that is settled", node.node)
    }));
    lines.extend(report.divergences.iter().map(|Divergence { directories: [a, b], index, terms: [ours, theirs] }| {
        format!("{a} and {b} differ from entry {index} on (terms {ours} and {theirs}): it is not known to be committed")
    }));
    end(&mut lines, &report.findings, "invariants 1 to 8 hold, as far as this data shows");
    lines.join("\n")
}

fn row(node: &NodeReport) -> Vec<String> {
    let of_events = |cell: String| if node.is_witness { "-".to_owned() } else { cell };
    vec![
        node.node.to_string(),
        node.directory.clone(),
        node.first.to_string(),
        node.last.index.to_string(),
        node.hard_state.term.to_string(),
        node.hard_state.vote.map_or_else(|| "-".to_owned(), |vote| vote.to_string()),
        of_events(node.applied.to_string()),
        of_events(node.events.to_string()),
        of_events(node.topics.to_string()),
        of_events(format!("{:016x}", node.state_hash)),
    ]
}

fn end(lines: &mut Vec<String>, findings: &Findings, good: &str) {
    if findings.is_empty() {
        lines.push(good.to_owned());
    }
    lines.extend(findings.violations.iter().map(ToString::to_string));
    if findings.more > 0 {
        lines.push(format!("and {} more", findings.more));
    }
}

fn object(report: &Report) -> Value {
    let nodes = report.nodes.iter().map(|node| {
        json!({
            "node": node.node.0,
            "directory": node.directory,
            "first": node.first.0,
            "last": node.last.index.0,
            "last_term": node.last.term.0,
            "term": node.hard_state.term.0,
            "vote": node.hard_state.vote.map(|vote| vote.0),
            "witness": node.is_witness,
            "suspect": node.suspect,
            "applied": node.applied.0,
            "events": node.events,
            "topics": node.topics,
            "producers": node.producers,
            "state_hash": format!("{:016x}", node.state_hash),
        })
    });
    let divergences = report.divergences.iter().map(|Divergence { directories, index, terms: [a, b] }| {
        json!({ "directories": directories, "index": index.0, "terms": [a.0, b.0] })
    });
    json!({
        "ok": report.findings.is_empty(),
        "cluster": report.cluster.to_string(),
        "members": report.members,
        "nodes": nodes.collect::<Vec<_>>(),
        "divergences": divergences.collect::<Vec<_>>(),
        "violations": violations(&report.findings),
        "more_violations": report.findings.more,
    })
}

fn violations(findings: &Findings) -> Vec<Value> {
    let object = |Violation { invariant, place, what }: &Violation| {
        json!({
            "invariant": invariant.number(),
            "name": invariant.name(),
            "at": place.at,
            "index": place.index.map(|index| index.0),
            "topic": place.topic,
            "offset": place.offset.map(|offset| offset.0),
            "producer": place.producer.map(|producer| producer.to_string()),
            "sequence": place.sequence.map(|sequence| sequence.0),
            "what": what,
        })
    };
    findings.violations.iter().map(object).collect()
}

fn live_text(report: &LiveReport) -> String {
    let head = ["NODE", "ADDRESS", "INDEX", "STATE HASH"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(report.nodes.iter().map(|node| {
        let hash = format!("{:016x}", node.state_hash);
        vec![node.status.node.to_string(), node.server.clone(), report.index.to_string(), hash]
    }));
    let mut lines = aligned(&table);
    lines.extend(report.witnesses.iter().map(|server| format!("{server} is a witness and keeps no events")));
    lines.extend(report.unreachable.iter().map(|(server, error)| format!("{server} does not answer: {error}")));
    let (events, topics, index) = (report.events, report.topics, report.index);
    let good = format!(
        "equal states; {events} events of {topics} topics up to entry {index} are equal and in order on all of them"
    );
    end(&mut lines, &report.findings, &good);
    lines.join("\n")
}

fn live_object(report: &LiveReport) -> Value {
    let nodes = report.nodes.iter().map(|node| {
        json!({
            "node": node.status.node.0,
            "address": node.server,
            "term": node.status.term.0,
            "state_hash": format!("{:016x}", node.state_hash),
        })
    });
    let unreachable = report.unreachable.iter().map(|(server, error)| json!({ "address": server, "error": error }));
    json!({
        "ok": report.findings.is_empty() && report.unreachable.is_empty(),
        "cluster": report.cluster.to_string(),
        "index": report.index.0,
        "nodes": nodes.collect::<Vec<_>>(),
        "witnesses": report.witnesses,
        "unreachable": unreachable.collect::<Vec<_>>(),
        "topics": report.topics,
        "events": report.events,
        "violations": violations(&report.findings),
        "more_violations": report.findings.more,
    })
}
