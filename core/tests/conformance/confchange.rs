//! `confchange/`: how one configuration becomes the next.

use crate::datadriven::Case;
use crate::member;
use crate::report::{Difference, Report};
use eventstream_core::id::NodeId;
use eventstream_core::raft::{Change, ChangeError, Configuration, Duty, Member};
use std::collections::BTreeSet;

pub fn run(cases: &[Case], report: &mut Report) {
    let mut configuration = Configuration::NONE;
    for case in cases {
        let changes = changes(&case.input, report);
        let next = match case.directive.as_str() {
            "simple" => configuration.simple(&changes),
            "enter-joint" => configuration.enter_joint(&changes, case.is_set("autoleave")),
            "leave-joint" => configuration.leave_joint(),
            unknown => panic!("{}: {unknown} is no directive of confchange/", case.place),
        };
        let found = match next {
            Ok(next) => {
                configuration = next;
                describe(&configuration)
            }
            Err(error) => error_of(&case.directive, error),
        };
        let mut lines = case.expected.lines();
        let expected = lines.next().unwrap_or_default();
        let mut wrong = (found != expected).then(|| format!("{found} instead of {expected}"));
        if next.is_ok() && wrong.is_none() {
            // What follows is a line for each member. Where its log stands is no part of a configuration here.
            let theirs: BTreeSet<(u16, bool)> = lines.filter_map(member_line).collect();
            let ours = configuration.members().map(|(member, duty)| (member.node.0, duty == Duty::Learner)).collect();
            wrong = (theirs != ours).then(|| format!("members {ours:?} instead of {theirs:?}"));
        }
        report.case(case, wrong);
    }
}

/// The changes that `v1 l2 r3 u4` stands for.
pub fn changes(input: &str, report: &mut Report) -> Vec<Change> {
    let mut changes = Vec::new();
    for word in input.split_whitespace() {
        let id: u16 = word[1..].parse().unwrap_or_else(|_| panic!("{word} names no member"));
        match word.as_bytes()[0] {
            b'u' => report.differs(Difference::Update),
            _ if id == 0 => report.differs(Difference::NodeZero),
            b'v' => changes.push(Change::AddVoter(member(id))),
            b'l' => changes.push(Change::AddLearner(member(id))),
            b'r' => changes.push(Change::Remove(NodeId(id))),
            _ => panic!("{word} is no change of members"),
        }
    }
    changes
}

fn member_line(line: &str) -> Option<(u16, bool)> {
    let (id, state) = line.split_once(": ")?;
    Some((id.trim().parse().ok()?, state.split_whitespace().any(|word| word == "learner")))
}

fn error_of(directive: &str, error: ChangeError) -> String {
    let words = match (directive, error) {
        ("simple", ChangeError::Joint) => "can't apply simple config change in joint config",
        (_, ChangeError::Joint) => "config is already joint",
        (_, ChangeError::NotJoint) => "can't leave a non-joint config",
        ("enter-joint", ChangeError::NoVoter) => "can't make a zero-voter config joint",
        (_, ChangeError::NoVoter) => "removed all voters",
        (_, ChangeError::SeveralVoters) => "more than one voter changed without entering joint config",
        (_, error) => return error.to_string(),
    };
    words.to_owned()
}

/// A configuration in the words of the scripts.
pub fn describe(configuration: &Configuration) -> String {
    let mut text = format!("voters=({})", list(configuration.incoming()));
    if configuration.is_joint() {
        text += &format!("&&({})", list(configuration.outgoing()));
    }
    for (name, members) in
        [("learners", list(configuration.learners())), ("learners_next", list(configuration.learners_next()))]
    {
        if !members.is_empty() {
            text += &format!(" {name}=({members})");
        }
    }
    if configuration.leaves_by_itself() {
        text += " autoleave";
    }
    text
}

fn list(members: impl Iterator<Item = Member>) -> String {
    let mut ids: Vec<u16> = members.map(|member| member.node.0).collect();
    ids.sort_unstable();
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}
