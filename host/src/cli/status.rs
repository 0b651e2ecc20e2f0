//! `eventstream status`: who leads, and how far each node is.

use super::output::Output;
use super::{Exit, Failure, Servers, block_on};
use eventstream_core::id::{Index, NodeId};
use eventstream_core::wire::NodeRole;
use eventstream_host::client::{CounterReport, LinkError, Options, Probe, StatusReport};
use eventstream_host::identity::Address;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Show the nodes: role, term, commit, applied, lag, state hash, and how often each has refused something.
///
/// Any node tells where the others are; each is then asked itself. Nodes that have applied the same index must have the
/// same state hash.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// Tell by reason what each node has refused since its start
    #[arg(long)]
    counters: bool,
}

/// A node, and what it has answered.
struct Row {
    address: String,
    node: Option<NodeId>,
    answer: Result<StatusReport, LinkError>,
    /// What it has refused; none if its version does not tell.
    counters: Option<Vec<CounterReport>>,
}

impl Row {
    /// How often it has refused something.
    fn refused(&self) -> Option<u64> {
        let counters = self.counters.as_ref()?;
        Some(counters.iter().map(|counter| counter.count).sum())
    }
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    for server in &args.servers.servers {
        server.trim().parse::<Address>().map_err(Failure::usage)?;
    }
    let options = args.servers.options()?;
    block_on(async {
        let rows = ask_all(&args.servers.servers, &options).await;
        if rows.iter().all(|row| row.answer.is_err()) {
            let each = |row: &Row| match &row.answer {
                Err(error) => format!("{}: {error}", row.address),
                Ok(_) => row.address.clone(),
            };
            let all = rows.iter().map(each).collect::<Vec<_>>().join("; ");
            return Err(Failure::new(Exit::Unreachable, format_args!("no node answers ({all}); is one running?")));
        }
        let text = || {
            let reasons = if args.counters { counters(&rows) } else { Vec::new() };
            [vec![text(&rows)], reasons].concat().join("\n")
        };
        output.result(text, || object(&rows))?;
        match diverged(&rows) {
            None => Ok(()),
            Some((one, other)) => Err(Failure::failed(format_args!(
                "nodes {one} and {other} have applied the same index and differ in state: stop publishing and report it"
            ))),
        }
    })
}

/// Asks the servers, and then the members that they have told of.
async fn ask_all(servers: &[String], options: &Options) -> Vec<Row> {
    let mut rows = ask_each(servers.iter().map(|address| (address.trim().to_owned(), None)).collect(), options).await;
    let mut unknown = BTreeMap::new();
    for member in rows.iter().filter_map(|row| row.answer.as_ref().ok()).flat_map(|report| &report.members) {
        let is_known = |row: &Row| row.node == Some(member.node) || row.address == member.address;
        if !rows.iter().any(is_known) {
            unknown.insert(member.address.clone(), Some(member.node));
        }
    }
    rows.extend(ask_each(unknown.into_iter().collect(), options).await);
    rows.sort_by(|a, b| (a.node.is_none(), a.node, &a.address).cmp(&(b.node.is_none(), b.node, &b.address)));
    rows.dedup_by(|b, a| a.node.is_some() && a.node == b.node);
    rows
}

async fn ask_each(servers: Vec<(String, Option<NodeId>)>, options: &Options) -> Vec<Row> {
    let mut asked = JoinSet::new();
    for (address, node) in servers {
        let options = options.clone();
        asked.spawn(async move {
            let answer = timeout(options.patience, ask(&address, &options)).await.unwrap_or(Err(LinkError::Silent));
            let (answer, counters) = match answer {
                Ok((report, counters)) => (Ok(report), counters),
                Err(error) => (Err(error), None),
            };
            let node = answer.as_ref().ok().map(|report| report.node).or(node);
            Row { address, node, answer, counters }
        });
    }
    asked.join_all().await
}

async fn ask(server: &str, options: &Options) -> Result<(StatusReport, Option<Vec<CounterReport>>), LinkError> {
    let mut probe = Probe::connect(server, options).await?;
    let report = probe.status().await?;
    Ok((report, probe.counters().await.ok()))
}

/// Two nodes that have applied the same index and do not agree on the state.
fn diverged(rows: &[Row]) -> Option<(NodeId, NodeId)> {
    let mut first_at: BTreeMap<Index, &StatusReport> = BTreeMap::new();
    rows.iter().filter_map(|row| row.answer.as_ref().ok()).find_map(|report| {
        let first = first_at.entry(report.applied).or_insert(report);
        (first.state_hash != report.state_hash).then_some((first.node, report.node))
    })
}

/// Entries that a node has still to apply, as far as any node knows; a witness applies none.
fn lag(rows: &[Row], report: &StatusReport) -> Option<u64> {
    if report.role.is_witness() {
        return None;
    }
    let committed = rows.iter().filter_map(|row| row.answer.as_ref().ok()).map(|report| report.commit.0).max();
    Some(committed.unwrap_or(0).saturating_sub(report.applied.0))
}

const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Follower => "follower",
        NodeRole::Candidate => "candidate",
        NodeRole::Leader => "leader",
        NodeRole::Suspect => "suspect",
        NodeRole::Witness => "witness",
        NodeRole::SuspectWitness => "suspect witness",
    }
}

fn text(rows: &[Row]) -> String {
    let head =
        ["NODE", "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "EVENTS", "REFUSED", "STATE HASH", "UPTIME"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let node = row.node.map_or_else(|| "?".to_owned(), |node| node.to_string());
        let of_events = |report: &StatusReport, cell: String| {
            if report.role.is_witness() { "-".to_owned() } else { cell }
        };
        table.push(match &row.answer {
            Ok(report) => vec![
                node,
                row.address.clone(),
                role(report.role).to_owned(),
                report.term.to_string(),
                report.commit.to_string(),
                of_events(report, report.applied.to_string()),
                lag(rows, report).map_or_else(|| "-".to_owned(), |entries| entries.to_string()),
                of_events(report, report.events.to_string()),
                row.refused().map_or_else(|| "?".to_owned(), |count| count.to_string()),
                of_events(report, format!("{:016x}", report.state_hash)),
                format!("{} s", report.uptime.as_secs()),
            ],
            Err(error) => vec![node, row.address.clone(), format!("unreachable: {error}")],
        });
    }
    let mut lines = aligned(&table);
    // Only a leader asks the others for their clocks.
    let mut leaders = rows.iter().filter_map(|row| row.answer.as_ref().ok()).filter(|r| r.role == NodeRole::Leader);
    if leaders.any(|report| !report.clocks_agree) {
        lines.push("The wall clocks of a majority do not agree: log time does not follow them.".to_owned());
    }
    for report in rows.iter().filter_map(|row| row.answer.as_ref().ok()).filter(|r| r.role.is_suspect()) {
        lines.push(suspicion(report));
    }
    lines.join("\n")
}

/// What was refused, by reason and node: a table of what happened at all.
fn counters(rows: &[Row]) -> Vec<String> {
    let told: Vec<(NodeId, &Vec<CounterReport>)> =
        rows.iter().filter_map(|row| Some((row.node?, row.counters.as_ref()?))).collect();
    let mut reasons: Vec<&str> = Vec::new();
    for counter in told.iter().flat_map(|(_, counters)| *counters).filter(|counter| counter.count > 0) {
        if !reasons.contains(&counter.name.as_str()) {
            reasons.push(&counter.name);
        }
    }
    if reasons.is_empty() {
        return vec!["Nothing was refused.".to_owned()];
    }
    let nodes = told.iter().map(|(node, _)| format!("NODE {node}"));
    let mut table = vec![core::iter::once("REFUSED".to_owned()).chain(nodes).collect::<Vec<_>>()];
    for reason in reasons {
        let count = |counters: &[CounterReport]| {
            let counter = counters.iter().find(|counter| counter.name == reason);
            counter.map_or_else(|| "?".to_owned(), |counter| counter.count.to_string())
        };
        let counts = told.iter().map(|(_, counters)| count(counters));
        table.push(core::iter::once(reason.to_owned()).chain(counts).collect());
    }
    aligned(&table)
}

/// What a suspect node is, and for whom it waits.
fn suspicion(report: &StatusReport) -> String {
    let node = report.node;
    let why = if report.last == Index::ZERO {
        "it is new, or was wiped"
    } else {
        "it was new or wiped, or its log was damaged"
    };
    let missing: Vec<_> = report.members.iter().filter(|member| !member.is_connected).collect();
    let waits = match &missing[..] {
        [] => String::new(),
        _ => {
            let names = missing.iter().map(|member| format!("node {} ({})", member.node, member.address));
            format!(" It waits for {}.", names.collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "Node {node} is suspect: {why}. Until a leader has heard from all nodes, its vote counts only together with those of \
         all.{waits}"
    )
}

/// Columns as wide as their widest cell; the last cell of a row may be wider.
pub(super) fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let is_in_column = |row: &&Vec<String>, column| row.len() > column + 1 || row.len() == columns;
    let width = |column| {
        let rows = table.iter().filter(|row| is_in_column(row, column));
        rows.filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

fn object(rows: &[Row]) -> Value {
    let nodes = rows.iter().map(|row| match &row.answer {
        Ok(report) => node_object(rows, row, report),
        Err(error) => json!({
            "node": row.node.map(|node| node.0),
            "address": row.address,
            "reachable": false,
            "error": error.to_string(),
        }),
    });
    json!({ "nodes": nodes.collect::<Vec<_>>() })
}

fn node_object(rows: &[Row], row: &Row, report: &StatusReport) -> Value {
    let members = report.members.iter().map(|member| {
        json!({
            "node": member.node.0,
            "address": member.address,
            "connected": member.is_connected,
            "matched": member.matched.map(|index| index.0),
            "heard_us": member.heard.map(|heard| heard.as_micros() as u64),
        })
    });
    let counters = row.counters.as_ref().map(|counters| {
        counters.iter().map(|counter| (counter.name.clone(), counter.count.into())).collect::<Map<String, Value>>()
    });
    json!({
        "node": report.node.0,
        "address": row.address,
        "reachable": true,
        "cluster": report.cluster.to_string(),
        "incarnation": report.incarnation.to_string(),
        "role": role(report.role),
        "term": report.term.0,
        "leader": report.leader.map(|leader| leader.0),
        "last": report.last.0,
        "durable": report.durable.0,
        "commit": report.commit.0,
        "applied": report.applied.0,
        "lag": lag(rows, report),
        "log_time_us": report.log_time.0,
        "clocks_agree": report.clocks_agree,
        "state_hash": format!("{:016x}", report.state_hash),
        "topics": report.topics,
        "producers": report.producers,
        "events": report.events,
        "uptime_us": report.uptime.as_micros() as u64,
        "version": report.version,
        "refused": row.refused(),
        "counters": counters,
        "members": members.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use eventstream_core::id::{ClusterId, Incarnation, LogTime, Term};
    use eventstream_host::client::MemberReport;

    fn member(node: u16, is_connected: bool) -> MemberReport {
        let address = format!("localhost:{node}");
        let incarnation = Incarnation([node as u8; 16]);
        MemberReport { node: NodeId(node), incarnation, address, is_connected, matched: None, heard: None }
    }

    fn row(node: u16, role: NodeRole) -> Row {
        let report = StatusReport {
            cluster: ClusterId([1; 16]),
            node: NodeId(node),
            incarnation: Incarnation([2; 16]),
            role,
            term: Term(3),
            leader: None,
            last: Index(4),
            durable: Index(4),
            commit: Index(4),
            applied: Index(4),
            log_time: LogTime(5),
            clocks_agree: true,
            state_hash: 6,
            topics: 1,
            producers: 1,
            events: 7,
            uptime: Duration::from_secs(8),
            version: String::new(),
            members: Vec::new(),
        };
        let counter = |name: &str, count| CounterReport { name: name.to_owned(), count };
        let counters =
            Some(vec![counter("busy", 0), counter("disk_low", u64::from(node) - 1), counter("frame_kind", 2)]);
        Row { address: format!("localhost:{node}"), node: Some(NodeId(node)), answer: Ok(report), counters }
    }

    #[test]
    fn what_was_refused_is_told_in_sum_and_by_reason() {
        let rows = [row(1, NodeRole::Leader), row(3, NodeRole::Follower)];
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let shown = text(&rows);
        let lines: Vec<_> = shown.lines().map(cells).collect();
        let column = lines[0].iter().position(|head| head == "REFUSED").expect("a column");
        assert_eq!((lines[1][column].as_str(), lines[2][column].as_str()), ("2", "4"), "{shown}");
        let lines: Vec<_> = counters(&rows).iter().map(|line| cells(line)).collect();
        assert_eq!(
            lines,
            [vec!["REFUSED", "NODE", "1", "NODE", "3"], vec!["frame_kind", "2", "2"], vec!["disk_low", "0", "2"]]
        );
        let object = object(&rows);
        assert_eq!((&object["nodes"][1]["refused"], &object["nodes"][1]["counters"]["busy"]), (&4.into(), &0.into()));
    }

    #[test]
    fn a_witness_is_shown_without_what_it_does_not_keep() {
        let shown = text(&[row(1, NodeRole::Leader), row(3, NodeRole::Witness)]);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        let of = |head: &str| lines[2][lines[0].iter().position(|other| *other == head).expect("a column")];
        assert_eq!(["ROLE", "COMMIT", "APPLIED", "LAG", "EVENTS"].map(of), ["witness", "4", "-", "-", "-"], "{shown}");
    }

    #[test]
    fn who_is_suspect_is_named() {
        let shown = text(&[row(1, NodeRole::Leader), row(2, NodeRole::Suspect)]);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[2].contains("suspect") && lines[3].starts_with("Node 2 is suspect"), "{shown}");
        assert_eq!(lines.len(), 4, "{shown}");
        assert!(!lines[3].contains("waits"), "nobody is missing: {shown}");
    }

    #[test]
    fn whom_a_suspect_waits_for_is_named() {
        let mut waits = row(2, NodeRole::Suspect);
        let report = waits.answer.as_mut().expect("an answer");
        report.last = Index::ZERO;
        report.members =
            [(1, true), (2, true), (3, false)].map(|(node, is_connected)| member(node, is_connected)).into();
        let shown = text(&[waits]);
        assert!(
            shown.contains("is new, or was wiped") && shown.ends_with("It waits for node 3 (localhost:3)."),
            "{shown}"
        );
    }
}
