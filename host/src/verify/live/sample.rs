//! An index that every node was seen at.

use super::{LiveError, Node};
use crate::client::{LinkError, Options, StatusReport};
use crate::verify::violation::{Findings, Invariant, Place};
use core::time::Duration;
use eventstream_core::id::Index;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between two questions to a node.
const ASK_AGAIN: Duration = Duration::from_millis(1);
/// How many answers of the nodes may wait to be looked at.
const ANSWERS: usize = 64;
/// Indices that are remembered, at most: the newest.
const REMEMBERED: usize = 1 << 16;
/// A common index is waited for this many times the patience for one answer.
const PATIENCES: u32 = 6;

/// The first index that all nodes were seen at, and the hash of each node's state there.
pub(super) async fn common_index(
    nodes: &[Node],
    options: &Options,
    findings: &mut Findings,
) -> Result<(Index, Vec<u64>), LiveError> {
    let (answers, mut asked) = mpsc::channel(ANSWERS);
    let mut tasks = JoinSet::new();
    for (number, node) in nodes.iter().enumerate() {
        let mut probe = node.probe(options).await?;
        let answers = answers.clone();
        tasks.spawn(async move {
            loop {
                let answer = probe.status().await;
                let is_last = answer.is_err();
                if answers.send((number, answer)).await.is_err() || is_last {
                    return;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        });
    }
    let mut samples = Samples::new(nodes);
    let found = async {
        while let Some((number, answer)) = asked.recv().await {
            let answer: Result<StatusReport, LinkError> = answer;
            let status = answer.map_err(|error| nodes[number].gone(error))?;
            if let Some(found) = samples.add(number, &status, findings) {
                return Ok(found);
            }
        }
        unreachable!("this side keeps a sender")
    };
    let waited = options.patience * PATIENCES;
    match timeout(waited, found).await {
        Ok(found) => found,
        Err(_) => Err(LiveError::NoCommonIndex { waited, nodes: samples.describe() }),
    }
}

/// What the nodes have said.
struct Samples<'a> {
    nodes: &'a [Node],
    /// The state of each node at an index, if it was seen there.
    at: BTreeMap<Index, Vec<Option<u64>>>,
    last: Vec<Index>,
}

impl<'a> Samples<'a> {
    fn new(nodes: &'a [Node]) -> Self {
        Self { nodes, at: BTreeMap::new(), last: vec![Index::ZERO; nodes.len()] }
    }

    /// Takes an answer. Gives its index if every node was seen there by now.
    fn add(&mut self, number: usize, status: &StatusReport, findings: &mut Findings) -> Option<(Index, Vec<u64>)> {
        let (index, server) = (status.applied, &self.nodes[number].server);
        if status.applied > status.commit {
            let what = format_args!("applied, and only entries up to {} are committed", status.commit);
            findings.add(Invariant::NothingUnapplied, Place::at(server).index(index), what);
        }
        if index < self.last[number] {
            let what = format_args!("the node had applied entry {} before", self.last[number]);
            findings.add(Invariant::StateOfLog, Place::at(server).index(index), what);
        }
        self.last[number] = index;
        let seen = self.at.entry(index).or_insert_with(|| vec![None; self.nodes.len()]);
        let is_known = seen[number] == Some(status.state_hash);
        let other = seen.iter().position(|other| other.is_some_and(|other| other != status.state_hash));
        if let Some(other) = other.filter(|_| !is_known) {
            let place = Place::at(&self.nodes[other].server).and(server).index(index);
            let (theirs, ours) = (seen[other].unwrap_or_default(), status.state_hash);
            let what = format_args!("both have applied this entry, the states are {theirs:016x} and {ours:016x}");
            findings.add(Invariant::StateOfLog, place, what);
        }
        seen[number] = Some(status.state_hash);
        if let Some(hashes) = seen.iter().copied().collect::<Option<Vec<u64>>>() {
            return Some((index, hashes));
        }
        if self.at.len() > REMEMBERED {
            self.at.pop_first();
        }
        None
    }

    fn describe(&self) -> String {
        let each = self.nodes.iter().zip(&self.last).map(|(node, last)| format!("{} at {last}", node.server));
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventstream_core::id::{ClusterId, Incarnation, LogTime, NodeId, Term};
    use eventstream_core::wire::NodeRole;

    fn status(applied: u64, state_hash: u64) -> StatusReport {
        StatusReport {
            cluster: ClusterId::default(),
            node: NodeId(1),
            incarnation: Incarnation::default(),
            role: NodeRole::Follower,
            term: Term(1),
            leader: None,
            last: Index(100),
            durable: Index(100),
            commit: Index(100),
            applied: Index(applied),
            log_time: LogTime(1),
            clocks_agree: true,
            state_hash,
            topics: 0,
            producers: 0,
            events: 0,
            uptime: Duration::ZERO,
            version: String::new(),
            members: Vec::new(),
        }
    }

    /// What the answers of two nodes give: number of the node, index, hash.
    fn answers(given: &[(usize, u64, u64)]) -> (Option<u64>, Vec<(Invariant, Option<u64>)>) {
        let nodes = ["a", "b"].map(|server| Node { server: server.to_owned(), status: status(0, 0) });
        let (mut samples, mut findings) = (Samples::new(&nodes), Findings::default());
        let mut found =
            given.iter().filter_map(|&(number, index, hash)| samples.add(number, &status(index, hash), &mut findings));
        let common = found.next().map(|(index, _)| index.0);
        let broken = findings.violations.into_iter().map(|one| (one.invariant, one.place.index.map(|index| index.0)));
        (common, broken.collect())
    }

    #[test]
    fn nodes_that_are_never_seen_at_one_index_at_a_time_have_one_in_common() {
        assert_eq!(answers(&[(0, 5, 50), (1, 3, 30), (0, 7, 70), (1, 4, 40)]), (None, vec![]));
        assert_eq!(answers(&[(0, 5, 50), (1, 3, 30), (0, 7, 70), (1, 5, 50)]), (Some(5), vec![]));
    }

    #[test]
    fn states_that_differ_are_told_with_their_index() {
        assert_eq!(answers(&[(0, 5, 50), (0, 6, 60), (1, 5, 51)]), (Some(5), vec![(Invariant::StateOfLog, Some(5))]));
        // The same node says two things.
        assert_eq!(answers(&[(0, 5, 50), (0, 5, 51)]), (None, vec![(Invariant::StateOfLog, Some(5))]));
    }

    #[test]
    fn a_node_that_goes_back_or_applies_too_early_is_told() {
        assert_eq!(answers(&[(0, 5, 50), (0, 4, 40)]), (None, vec![(Invariant::StateOfLog, Some(4))]));
        assert_eq!(answers(&[(0, 101, 1)]), (None, vec![(Invariant::NothingUnapplied, Some(101))]));
    }
}
