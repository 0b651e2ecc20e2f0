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
        let Self::Waits { is_new, until } = self else { return f.write_str("this node votes on its own from now on") };
        f.write_str(if *is_new {
            "this node is new or was wiped, which it cannot tell apart: until a leader has heard from all nodes, its vote \
             counts only together with those of all; "
        } else {
            "this node may have lost the end of its log: until a leader has heard from all nodes, its vote counts only \
             together with those of all; "
        })?;
        match until {
            Until::Connected(nodes) => {
                f.write_str("waiting for ")?;
                for (place, node) in nodes.iter().enumerate() {
                    write!(f, "{}node {node}", if place == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Until::Led => f.write_str("all are connected, waiting for one to lead"),
            Until::Cleared(leader) => {
                write!(f, "waiting for node {leader}, which leads, to hear them and to send the log")
            }
        }
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
    }
}
