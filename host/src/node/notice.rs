//! What a running node has to say to whoever started it.

use core::fmt;
use eventstream_core::id::NodeId;

/// Something to be read by people, at the moment when it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The node is suspect (`docs/suspect.md`), and waits.
    Waits {
        /// There was nothing on its disk when it started, or else the end of its log was damaged.
        is_new: bool,
        /// What is missing.
        until: Until,
    },
    /// The node is not suspect any more: it votes as ever.
    Settled,
    /// The node is sound, and nobody has led for some time.
    Leaderless {
        /// The nodes that are not connected.
        missing: Vec<NodeId>,
    },
    /// Somebody leads again.
    Led(NodeId),
}

/// What a suspect node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// These nodes are not connected.
    Connected(Vec<NodeId>),
    /// All are there, and nobody leads yet.
    Led,
    /// All are there, and this one leads: it has yet to hear all others and to send what is missing.
    Cleared(NodeId),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits { is_new: true, until } => write!(
                f,
                "this node is new or was wiped, which it cannot tell apart: until a leader has heard from all nodes, its \
                 vote counts only together with those of all; {until}"
            ),
            Self::Waits { is_new: false, until } => write!(
                f,
                "this node may have lost the end of its log: until a leader has heard from all nodes, its vote counts \
                 only together with those of all; {until}"
            ),
            Self::Settled => f.write_str("this node votes on its own from now on"),
            Self::Leaderless { missing } => {
                f.write_str(
                    "no node leads: that needs more than half of all nodes, or all of them while some are new or may have \
                     lost the end of their log; ",
                )?;
                if missing.is_empty() {
                    f.write_str("all are connected")
                } else {
                    write!(f, "waiting for {}", Nodes(missing))
                }
            }
            Self::Led(leader) => write!(f, "node {leader} leads"),
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected(missing) => write!(f, "waiting for {}", Nodes(missing)),
            Self::Led => f.write_str("all are connected, waiting for one to lead"),
            Self::Cleared(leader) => {
                write!(f, "waiting for node {leader}, which leads, to hear them and to send the log")
            }
        }
    }
}

/// Nodes by name.
struct Nodes<'a>(&'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, node) in self.0.iter().enumerate() {
            write!(f, "{}node {node}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_named() {
        let until = Until::Connected(vec![NodeId(2), NodeId(3)]);
        let text = Notice::Waits { is_new: true, until }.to_string();
        assert!(
            text.starts_with("this node is new or was wiped") && text.ends_with("; waiting for node 2, node 3"),
            "{text}"
        );
        let text = Notice::Leaderless { missing: vec![NodeId(3)] }.to_string();
        assert!(text.starts_with("no node leads") && text.ends_with("; waiting for node 3"), "{text}");
    }
}
