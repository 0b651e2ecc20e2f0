//! `quorum/`: what a majority, or two of them, have decided.

use crate::datadriven::Case;
use crate::member;
use crate::report::Report;
use eventstream_core::id::NodeId;
use eventstream_core::raft::{Change, Configuration, VoteResult};
use std::collections::{BTreeMap, BTreeSet};

pub fn run(cases: &[Case], report: &mut Report) {
    for case in cases {
        let expected = case.expected.lines().last().unwrap_or_default();
        let found = answer(case);
        report.case(case, (found != expected).then(|| format!("{found} instead of {expected}")));
    }
}

fn answer(case: &Case) -> String {
    let ids = |key: &str| case.values(key).iter().filter_map(|id| id.parse().ok()).collect::<Vec<u16>>();
    let (voters, outgoing) = (ids("cfg"), ids("cfgj"));
    // The values are those of the voters in the order in which they are named first.
    let mut seen = BTreeSet::new();
    let named: Vec<u16> = voters.iter().chain(&outgoing).copied().filter(|&id| seen.insert(id)).collect();
    let values = if case.directive == "vote" { case.values("votes") } else { case.values("idx") };
    let value_of: BTreeMap<u16, &str> = named.into_iter().zip(values.iter().map(String::as_str)).collect();
    let decide = |configuration: Configuration| match case.directive.as_str() {
        "committed" => {
            let index = |node: NodeId| value_of[&node.0].parse::<u64>().unwrap_or(0);
            configuration.reached(index).map_or("<empty majority quorum>∞".to_owned(), |index| index.to_string())
        }
        "vote" => {
            let vote = |node: NodeId| match value_of[&node.0] {
                "y" => Some(true),
                "n" => Some(false),
                _ => None,
            };
            let result = match configuration.election(vote) {
                VoteResult::Won => "VoteWon",
                VoteResult::Lost => "VoteLost",
                VoteResult::Pending => "VotePending",
            };
            result.to_owned()
        }
        unknown => panic!("{}: {unknown} is no directive of quorum/", case.place),
    };
    let found = decide(joint(&voters, &outgoing));
    // It does not matter which half comes first, nor whether a majority is joint with itself.
    let same = decide(if outgoing.is_empty() { joint(&voters, &voters) } else { joint(&outgoing, &voters) });
    if same == found { found } else { format!("{found} one way and {same} the other") }
}

fn joint(voters: &[u16], outgoing: &[u16]) -> Configuration {
    let of = |ids: &[u16]| match ids {
        [] => Configuration::NONE,
        ids => Configuration::new(&ids.iter().copied().map(member).collect::<Vec<_>>()).expect("members"),
    };
    if outgoing.is_empty() || voters.is_empty() {
        return of(if voters.is_empty() { outgoing } else { voters });
    }
    let come = voters.iter().map(|&id| Change::AddVoter(member(id)));
    let go = outgoing.iter().filter(|id| !voters.contains(id)).map(|&id| Change::Remove(NodeId(id)));
    of(outgoing).enter_joint(&come.chain(go).collect::<Vec<_>>(), false).expect("it is not joint yet")
}
