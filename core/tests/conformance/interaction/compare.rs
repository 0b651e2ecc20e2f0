//! What the script says of the nodes, against what they are.

use super::Cluster;
use super::expected::{State, entry, number};
use super::node::{Content, Entry, Node};
use crate::confchange::describe;
use crate::report::{Difference, Report};
use eventstream_core::id::{NodeId, Term};
use eventstream_core::raft::{Duty, Flow, Role};
use std::collections::BTreeMap;

/// A field of a node's state in which it is not as the script says.
#[derive(Clone, Debug)]
struct Mismatch {
    node: u16,
    field: &'static str,
    ours: String,
    theirs: String,
}

/// The script's number for a term: see [`Difference::FirstTerm`].
fn their_term(term: Term) -> u64 {
    term.0.saturating_sub(1)
}

impl Cluster {
    /// The script's number for the term of an entry. Those of the first snapshot have the same in both.
    fn their_entry_term(&self, index: u64, term: Term) -> u64 {
        let boot = self.nodes.iter().map(|node| node.boot).max().unwrap_or(0);
        if index <= boot { term.0 } else { their_term(term) }
    }

    fn state_of(&self, node: &Node) -> State {
        let raft = &node.raft;
        let last = raft.last();
        State {
            role: Some(role_name(raft.role())),
            leader: Some(raft.leader().map_or(0, |leader| leader.0)),
            term: Some(their_term(raft.term())),
            vote: Some(raft.hard_state().vote.map_or(0, |vote| vote.0)),
            commit: Some(raft.commit().0),
            last: Some((self.their_entry_term(last.index.0, last.term), last.index.0)),
            configuration: Some(describe(raft.configuration())),
            has_snapshot: false,
        }
    }

    pub(super) fn compare_nodes(&self, ids: &[u16], report: &mut Report) -> Vec<String> {
        let mut wrong = Vec::new();
        for &id in ids {
            let Some(theirs) = self.expected.states.get(&id) else { continue };
            let ours = self.state_of(&self.nodes[usize::from(id) - 1]);
            for (field, ours, theirs) in fields(&ours, theirs) {
                wrong.extend(self.judge(Mismatch { node: id, field, ours, theirs }, report));
            }
        }
        wrong
    }

    pub(super) fn compare_states(&mut self, answer: &str, report: &mut Report) -> Vec<String> {
        let mut wrong = Vec::new();
        for line in answer.lines() {
            let Some((Ok(id), words)) = line.split_once(": ").map(|(id, words)| (id.parse::<u16>(), words)) else {
                continue;
            };
            let node = &self.nodes[usize::from(id) - 1];
            let votes = node.raft.configuration().voters().any(|voter| voter.node.0 == id);
            let theirs = State {
                role: ["StateFollower", "StatePreCandidate", "StateCandidate", "StateLeader"]
                    .into_iter()
                    .find(|role| words.starts_with(role)),
                term: number(words, "Term:"),
                leader: number(words, "Lead:").map(|leader| leader as u16),
                ..State::default()
            };
            let mut mismatches = fields(&self.state_of(node), &theirs);
            if votes == words.contains("(Non-Voter)") {
                mismatches.push(("voter", votes.to_string(), (!votes).to_string()));
            }
            for (field, ours, theirs) in mismatches {
                wrong.extend(self.judge(Mismatch { node: id, field, ours, theirs }, report));
            }
        }
        wrong
    }

    /// Compares the entries on the disk of a node.
    pub(super) fn compare_log(&self, answer: &str, id: u16) -> Vec<String> {
        let disk = &self.nodes[usize::from(id) - 1].disk.0;
        let last = disk.len() as u64;
        if let Some(theirs) = number(answer, "last index=") {
            return if theirs == last {
                Vec::new()
            } else {
                vec![format!("the log ends at {last} instead of {theirs}")]
            };
        }
        let mut wrong = Vec::new();
        let mut end = None;
        for (term, index, content) in answer.lines().filter_map(entry) {
            end = Some(index);
            let ours = disk.get(index as usize - 1).map(|entry| (self.their_entry_term(index, entry.term), entry));
            if !ours.is_some_and(|(ours, entry)| ours == term && is_content(entry, content)) {
                wrong.push(format!("{ours:?} instead of {term}/{index} {content}"));
            }
        }
        if end.is_some_and(|end| end != last) {
            wrong.push(format!("the log ends at {last} instead of {end:?}"));
        }
        wrong
    }

    /// Compares what a leader knows of the members.
    pub(super) fn compare_progress(&self, answer: &str, id: u16, report: &mut Report) -> Vec<String> {
        let node = &self.nodes[usize::from(id) - 1];
        let mut wrong = Vec::new();
        let mut ours = progress(node);
        for line in answer.lines() {
            let Some((Ok(peer), words)) = line.split_once(": ").map(|(peer, words)| (peer.parse::<u16>(), words))
            else {
                continue;
            };
            let Some(line) = ours.remove(&peer) else {
                wrong.push(format!("{peer} is unknown instead of {words}"));
                continue;
            };
            let their_state = words.split(' ').next().unwrap_or_default();
            let is_full = words.contains("[full]");
            let has_snapshot = their_state == "StateSnapshot";
            let is_catching_up =
                self.expected.states.get(&peer).is_some_and(|state| state.has_snapshot) && self.is_spoken_with(peer);
            let pairs = [
                ("progress", line.state.to_owned(), their_state.to_owned()),
                ("match", line.matched.to_string(), number(words, "match=").unwrap_or(0).to_string()),
                ("next", line.next.to_string(), number(words, "next=").unwrap_or(0).to_string()),
                ("learner", line.is_learner.to_string(), words.contains(" learner").to_string()),
            ];
            for (field, ours, theirs) in pairs {
                match field {
                    _ if ours == theirs => {}
                    "progress" | "next" if has_snapshot => report.differs(Difference::ProgressSnapshot),
                    "progress" | "next" | "match" if self.sent_snapshots.contains(&peer) => {
                        report.differs(Difference::Snapshot);
                    }
                    "progress" | "next" | "match" if is_catching_up => report.differs(Difference::CatchUp),
                    "next" if is_full && node.settings.inflight => report.differs(Difference::Inflight),
                    field => wrong.push(format!("{field} of {peer} is {ours} instead of {theirs}")),
                }
            }
        }
        wrong.extend(ours.keys().map(|peer| format!("{peer} is not in their list")));
        wrong
    }

    /// What is wrong with a mismatch; nothing if the table has it.
    fn judge(&self, mismatch: Mismatch, report: &mut Report) -> Option<String> {
        let row = self.row(&mismatch);
        if let Some(row) = row {
            report.differs(row);
            return None;
        }
        let Mismatch { node, field, ours, theirs } = mismatch;
        Some(format!("{field} of {node} is {ours} instead of {theirs}"))
    }

    /// The row of the table that says why.
    fn row(&self, Mismatch { node: id, field, .. }: &Mismatch) -> Option<Difference> {
        let node = &self.nodes[usize::from(*id) - 1];
        let raft = &node.raft;
        let theirs = self.expected.states.get(id).cloned().unwrap_or_default();
        let (our_commit, their_commit) = (raft.commit().0, theirs.commit.unwrap_or(raft.commit().0));
        // One of the two has not decided the last configuration yet.
        let configured = raft.membership().latest().index.0;
        let is_undecided = configured > our_commit.min(their_commit);
        match *field {
            "leader" if node.forgot => Some(Difference::ForgetLeader),
            "commit" | "last" | "configuration" if theirs.has_snapshot && self.is_spoken_with(*id) => {
                Some(Difference::CatchUp)
            }
            "commit" | "last" | "configuration" if self.sent_snapshots.contains(id) => Some(Difference::Snapshot),
            "commit" | "last" | "configuration" | "voter" if self.is_removed(*id) && our_commit < their_commit => {
                Some(Difference::Removed)
            }
            "role" | "leader" if leads_on(node) => Some(Difference::StepDown),
            "commit" if our_commit > their_commit && self.nodes.iter().any(leads_on) => Some(Difference::StepDown),
            "configuration" | "voter" if is_undecided => Some(Difference::ConfigurationAppended),
            "commit" if is_undecided && raft.role() == Role::Leader => Some(Difference::QuorumAppended),
            "commit" if is_undecided && our_commit < their_commit => Some(Difference::QuorumAppended),
            "last" if is_undecided && raft.configuration().leaves_by_itself() => Some(Difference::LeaveAppended),
            _ => None,
        }
    }

    /// Whether anything is on the network between this node and another.
    fn is_spoken_with(&self, id: u16) -> bool {
        self.network.iter().any(|flying| flying.to() == id || flying.from() == id)
    }

    /// Whether a leader has removed this node.
    fn is_removed(&self, id: u16) -> bool {
        let leader =
            self.nodes.iter().filter(|node| node.raft.role() == Role::Leader).max_by_key(|node| node.raft.term());
        leader.is_some_and(|leader| leader.raft.configuration().duty_of(NodeId(id)).is_none())
    }
}

/// Whether it was removed, and leads until it has handed over, where the script has it step down.
fn leads_on(node: &Node) -> bool {
    let votes = node.raft.configuration().voters().any(|voter| voter.node.0 == node.id);
    node.settings.step_down_on_removal && node.raft.role() == Role::Leader && !votes
}

/// What a leader knows of a member.
struct Line {
    state: &'static str,
    matched: u64,
    next: u64,
    is_learner: bool,
}

fn progress(node: &Node) -> BTreeMap<u16, Line> {
    let raft = &node.raft;
    if raft.role() != Role::Leader {
        return BTreeMap::new();
    }
    let line = |peer: NodeId, is_learner: bool| match raft.progress(peer) {
        Some(progress) => Line {
            state: if progress.flow == Flow::Replicate { "StateReplicate" } else { "StateProbe" },
            matched: progress.matched.0,
            next: progress.next.0,
            is_learner,
        },
        // It knows of itself what is on its disk.
        None => Line { state: "StateReplicate", matched: raft.durable().0, next: raft.durable().next().0, is_learner },
    };
    let members = raft.configuration().members();
    members.map(|(member, duty)| (member.node.0, line(member.node, duty == Duty::Learner))).collect()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

/// The fields in which the two differ, as far as theirs are known.
fn fields(ours: &State, theirs: &State) -> Vec<(&'static str, String, String)> {
    let mut differing = Vec::new();
    let mut compare = |field: &'static str, ours: String, theirs: Option<String>| {
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            differing.push((field, ours, theirs));
        }
    };
    let text = |value: &Option<u64>| value.map(|value| value.to_string());
    let id = |value: &Option<u16>| value.map(|value| value.to_string());
    let known = |value: Option<String>| value.unwrap_or_default();
    let last = |value: &Option<(u64, u64)>| value.map(|(term, index)| format!("{term}/{index}"));
    compare("role", known(ours.role.map(str::to_owned)), theirs.role.map(str::to_owned));
    compare("leader", known(id(&ours.leader)), id(&theirs.leader));
    compare("term", known(text(&ours.term)), text(&theirs.term));
    compare("vote", known(id(&ours.vote)), id(&theirs.vote));
    compare("commit", known(text(&ours.commit)), text(&theirs.commit));
    compare("last", known(last(&ours.last)), last(&theirs.last));
    compare("configuration", known(ours.configuration.clone()), theirs.configuration.clone());
    differing
}

/// Whether the entry holds what the script prints.
fn is_content(entry: &Entry, content: &str) -> bool {
    match &entry.content {
        Content::Data(data) => content.strip_prefix("EntryNormal ") == Some(&format!("{data:?}")),
        Content::Configuration(_) => content.starts_with("EntryConfChange"),
    }
}
