//! What the answers of the scripts tell of a node's state.

use std::collections::BTreeMap;

/// What is known of a node. Terms are the scripts'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub role: Option<&'static str>,
    pub leader: Option<u16>,
    pub term: Option<u64>,
    pub vote: Option<u16>,
    pub commit: Option<u64>,
    /// Term and index.
    pub last: Option<(u64, u64)>,
    pub configuration: Option<String>,
    /// It has got a snapshot.
    pub has_snapshot: bool,
}

/// What is known of all nodes.
#[derive(Debug, Default)]
pub struct Expected {
    pub states: BTreeMap<u16, State>,
}

/// An entry as it is printed: term, index, and its kind with its data.
pub fn entry(line: &str) -> Option<(u64, u64, &str)> {
    let (position, content) = line.split_once(' ')?;
    let (term, index) = position.split_once('/')?;
    content.starts_with("Entry").then_some((term.parse().ok()?, index.parse().ok()?, content))
}

impl Expected {
    /// Something happened that was not printed.
    pub fn forget(&mut self) {
        self.states.clear();
    }

    /// Reads an answer; `node` is whom it is about until it says otherwise.
    pub fn read(&mut self, answer: &str, mut node: u16) {
        let mut in_entries = false;
        for line in answer.lines().map(str::trim) {
            if let Some(of) = line.strip_prefix("> ").and_then(|line| line.split(' ').next()) {
                node = of.parse().expect("a node's number");
            }
            let was_in_entries = core::mem::replace(&mut in_entries, line == "Entries:");
            let state = self.states.entry(node).or_default();
            if let Some((term, index, _)) = entry(line).filter(|_| was_in_entries) {
                state.last = Some((term, index));
                in_entries = true;
            } else if let Some(words) = line.strip_prefix("Lead:") {
                let (leader, role) = words.split_once(" State:").expect("both are printed");
                (state.leader, state.role) = (leader.parse().ok(), role_of(role));
            } else if let Some(words) = line.strip_prefix("HardState ") {
                state.term = number(words, "Term:");
                state.vote = Some(number(words, "Vote:").unwrap_or(0) as u16);
                state.commit = number(words, "Commit:");
            } else if let Some(words) = line.strip_prefix("INFO ").or_else(|| line.strip_prefix("WARN ")) {
                self.read_log(words);
            }
        }
    }

    fn read_log(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix("newRaft ") {
            let Some(node) = words.split(' ').next().and_then(|id| id.parse().ok()) else { return };
            let state = self.states.entry(node).or_default();
            let of = |key: &str| number(words, key).expect("all of it is printed");
            (state.term, state.commit) = (Some(of(" term: ")), Some(of(" commit: ")));
            state.last = Some((of(" lastterm: "), of(" lastindex: ")));
            (state.leader, state.vote) = (Some(0), Some(0));
            return;
        }
        let Some((Ok(node), words)) = line.split_once(' ').map(|(node, words)| (node.parse(), words)) else { return };
        let state = self.states.entry(node).or_default();
        if let Some(configuration) = words.strip_prefix("switched to configuration ") {
            state.configuration = Some(configuration.to_owned());
        } else if let Some((role, term)) = words.strip_prefix("became ").and_then(|words| words.split_once(" at term "))
        {
            let term = term.parse().ok();
            if state.term != term {
                // Its vote is another's, or nobody's, until that is printed.
                state.vote = None;
            }
            (state.term, state.role, state.leader) = (term, role_of(role), (role == "leader").then_some(node));
        } else if words.contains(" restored snapshot ") {
            state.has_snapshot = true;
            state.commit = number(words, "[commit: ");
            if let (Some(index), Some(term)) = (number(words, "lastindex: "), number(words, "lastterm: ")) {
                state.last = Some((term, index));
            }
        } else if words.starts_with("forgetting leader ") {
            state.leader = Some(0);
        }
    }
}

fn role_of(name: &str) -> Option<&'static str> {
    match name {
        "follower" | "StateFollower" => Some("StateFollower"),
        "pre-candidate" | "StatePreCandidate" => Some("StatePreCandidate"),
        "candidate" | "StateCandidate" => Some("StateCandidate"),
        "leader" | "StateLeader" => Some("StateLeader"),
        _ => None,
    }
}

/// The number after `key`.
pub fn number(text: &str, key: &str) -> Option<u64> {
    let (_, after) = text.split_once(key)?;
    let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}
