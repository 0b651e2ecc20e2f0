//! `interaction/`: what several nodes come to, step by step. The runner is their clock, disks and network.

mod compare;
mod expected;
mod node;

use crate::confchange::changes;
use crate::datadriven::Case;
use crate::member;
use crate::report::{Difference, Report};
use eventstream_core::config::{HEARTBEAT, PATIENCE};
use eventstream_core::id::NodeId;
use eventstream_core::raft::{Body, Change, Configuration, Role, Transition};
use expected::Expected;
use node::{Envelope, Kind, Node, Outcome, Settings, Wish};
use std::collections::BTreeSet;

/// Heartbeats in the patience of a node.
const ELECTION_TICKS: u64 = 3;
/// What `add-nodes` may say.
const ADD_NODES: [&str; 12] = [
    "voters",
    "learners",
    "index",
    "content",
    "inflight",
    "async-storage-writes",
    "prevote",
    "checkquorum",
    "max-committed-size-per-ready",
    "disable-conf-change-validation",
    "read-only",
    "step-down-on-removal",
];
/// A stabilization that takes more rounds does not end.
const MAX_ROUNDS: usize = 1_000;

pub fn run(cases: &[Case], report: &mut Report) {
    let mut cluster = Cluster::default();
    for case in cases {
        let wrong = cluster.step(case, report);
        report.case(case, (!wrong.is_empty()).then(|| wrong.join("; ")));
    }
}

/// Arguments with values that this runner would pass over.
fn unknown_arguments(case: &Case, known: &[&str]) -> Vec<String> {
    let unknown = case.arguments.iter().filter(|it| !it.values.is_empty() && !known.contains(&it.key.as_str()));
    unknown.map(|it| format!("{} is no argument that this runner knows", it.key)).collect()
}

/// What is on the network.
#[derive(Clone, Debug)]
enum Flying {
    Message(Envelope),
    /// A follower passes it on to its leader. Here that is its client's part.
    Wish {
        from: u16,
        to: u16,
        wish: Wish,
    },
}

impl Flying {
    fn to(&self) -> u16 {
        match self {
            Self::Message(envelope) => envelope.message.to.0,
            Self::Wish { to, .. } => *to,
        }
    }

    fn from(&self) -> u16 {
        match self {
            Self::Message(envelope) => envelope.message.from.0,
            Self::Wish { from, .. } => *from,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Message(envelope) => envelope.message.name(),
            Self::Wish { .. } => "MsgProp",
        }
    }
}

#[derive(Default)]
pub struct Cluster {
    nodes: Vec<Node>,
    network: Vec<Flying>,
    expected: Expected,
    /// Nothing but errors is printed.
    is_quiet: bool,
    /// Those that were told to hand over.
    hands_over: BTreeSet<u16>,
    /// Those that were to be sent a snapshot by the script.
    sent_snapshots: BTreeSet<u16>,
}

impl Cluster {
    /// Follows a directive, and says what is not as the script has it.
    fn step(&mut self, case: &Case, report: &mut Report) -> Vec<String> {
        let numbers = case.numbers();
        let first = numbers.first().copied().unwrap_or(0);
        let was_quiet = self.is_quiet || case.values("log-level").first().is_some_and(|level| level == "none");
        if was_quiet {
            self.expected.forget();
        }
        self.expected.read(&case.expected, first);
        match case.directive.as_str() {
            "log-level" => self.is_quiet = case.arguments[0].key.eq_ignore_ascii_case("none"),
            "add-nodes" => {
                self.add_nodes(case, first, report);
                return unknown_arguments(case, &ADD_NODES);
            }
            "campaign" => self.campaign(first, report),
            "propose" => return self.propose(case, first, report),
            "propose-conf-change" => return self.propose_change(case, first, report),
            "process-ready" => numbers.iter().for_each(|&node| _ = self.process(node, report)),
            "process-append-thread" => numbers.iter().for_each(|&node| self.append(node)),
            "process-apply-thread" => report.differs(Difference::Apply),
            "deliver-msgs" => self.deliver_directive(case, &numbers, report),
            "stabilize" => return self.stabilize_and_compare(case, &numbers, report),
            "tick-heartbeat" => self.tick(first, 1),
            "tick-election" => self.tick(first, ELECTION_TICKS),
            "set-randomized-election-timeout" => {
                self.node(first).patience = case.values("timeout").first().and_then(|ticks| ticks.parse().ok());
            }
            "report-unreachable" => {
                let node = self.node(first);
                node.raft.handle_disconnected(node.now, NodeId(numbers[1]));
                node.poll();
            }
            "transfer-leadership" => self.transfer(case),
            "forget-leader" => self.forget_leader(first, report),
            "compact" => {
                report.differs(Difference::Compact);
                return self.compare_log(&case.expected, first);
            }
            "send-snapshot" => {
                report.differs(Difference::Snapshot);
                self.sent_snapshots.insert(numbers[1]);
            }
            "raft-log" => return self.compare_log(&case.expected, first),
            "raft-state" => return self.compare_states(&case.expected, report),
            "status" => return self.compare_progress(&case.expected, first, report),
            "_breakpoint" => {}
            unknown => return vec![format!("{unknown} is no directive that this runner knows")],
        }
        Vec::new()
    }

    fn node(&mut self, id: u16) -> &mut Node {
        &mut self.nodes[usize::from(id) - 1]
    }

    fn ids(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    fn add_nodes(&mut self, case: &Case, count: u16, report: &mut Report) {
        let ids = |key: &str| case.values(key).iter().map(|id| member(id.parse().expect("an id"))).collect::<Vec<_>>();
        let (voters, learners) = (ids("voters"), ids("learners"));
        let mut configuration = Configuration::NONE;
        if !voters.is_empty() {
            let learners: Vec<Change> = learners.into_iter().map(Change::AddLearner).collect();
            configuration = Configuration::new(&voters).expect("voters").simple(&learners).expect("learners");
        }
        let boot: u64 = case.values("index").first().map_or(0, |index| index.parse().expect("an index"));
        report.differs(Difference::FirstTerm);
        let inflight = !case.values("inflight").is_empty();
        for (key, row) in [
            ("max-committed-size-per-ready", Difference::CommittedSize),
            ("read-only", Difference::ReadOnly),
            ("content", Difference::Content),
            ("disable-conf-change-validation", Difference::Validation),
        ] {
            if !case.values(key).is_empty() {
                report.differs(row);
            }
        }
        let settings = Settings {
            pre_vote: case.is_set("prevote"),
            check_quorum: case.is_set("checkquorum"),
            async_writes: case.is_set("async-storage-writes"),
            step_down_on_removal: case.is_set("step-down-on-removal"),
            inflight,
        };
        for _ in 0..count {
            self.nodes.push(Node::new(self.nodes.len() as u16 + 1, settings, boot, configuration));
        }
    }

    fn campaign(&mut self, id: u16, report: &mut Report) {
        let before = self.node(id).granted_pre_votes;
        self.node(id).campaign();
        self.note_pre_votes(id, before, report);
    }

    fn note_pre_votes(&mut self, id: u16, before: usize, report: &mut Report) {
        (before..self.node(id).granted_pre_votes).for_each(|_| report.differs(Difference::PreVote));
    }

    fn tick(&mut self, id: u16, ticks: u64) {
        (0..ticks).for_each(|_| self.node(id).tick(HEARTBEAT));
    }

    fn propose(&mut self, case: &Case, id: u16, report: &mut Report) -> Vec<String> {
        let data = case.arguments.last().expect("what to propose").key.clone();
        let outcome = self.wish(id, Wish::Data(data), report);
        self.check_dropped(case, outcome)
    }

    fn check_dropped(&self, case: &Case, outcome: Outcome) -> Vec<String> {
        let theirs = case.expected.contains("raft proposal dropped");
        let ours = matches!(outcome, Outcome::Dropped | Outcome::NotLeader(None));
        if theirs == ours { Vec::new() } else { vec![format!("the proposal: {outcome:?}")] }
    }

    fn wish(&mut self, id: u16, wish: Wish, report: &mut Report) -> Outcome {
        let outcome = self.node(id).wish(wish.clone());
        match outcome {
            Outcome::Waits => report.differs(Difference::ChangeWaits),
            Outcome::Refused => {
                report.differs(Difference::ChangeRefused);
                self.node(id).wish(Wish::Data(String::new()));
            }
            Outcome::NotLeader(Some(leader)) => {
                report.differs(Difference::Forward);
                self.network.push(Flying::Wish { from: id, to: leader.0, wish });
            }
            Outcome::Appended | Outcome::Dropped | Outcome::NotLeader(None) => {}
        }
        outcome
    }

    fn propose_change(&mut self, case: &Case, id: u16, report: &mut Report) -> Vec<String> {
        let changes = changes(&case.input, report);
        let transition = match case.values("transition").first().map(String::as_str) {
            Some("explicit") => Transition::JointUntilTold,
            Some("implicit") => Transition::Joint,
            _ => Transition::Auto,
        };
        let wish = match transition {
            Transition::Auto if changes.is_empty() => Wish::LeaveJoint,
            // There several changes are joint, whatever they change.
            Transition::Auto if changes.len() > 1 && self.node(id).raft.configuration().simple(&changes).is_ok() => {
                report.differs(Difference::SeveralChanges);
                Wish::Change(changes, Transition::Joint)
            }
            _ => Wish::Change(changes, transition),
        };
        let outcome = self.wish(id, wish, report);
        let mut wrong = self.check_dropped(case, outcome);
        wrong.extend(unknown_arguments(case, &["v1", "transition"]));
        wrong
    }

    fn transfer(&mut self, case: &Case) {
        let of = |key: &str| case.values(key)[0].parse::<u16>().expect("an id");
        let (from, to) = (of("from"), of("to"));
        let leader = self.node(from).raft.leader().map_or(from, |leader| leader.0);
        self.hands_over.insert(leader);
        let node = self.node(leader);
        // If it cannot, nothing comes of it, as there.
        _ = node.raft.transfer_leadership(node.now, Some(NodeId(to)));
        node.poll();
    }

    fn forget_leader(&mut self, id: u16, report: &mut Report) {
        let node = self.node(id);
        if node.raft.role() != Role::Leader {
            report.differs(Difference::ForgetLeader);
            (node.forgot, node.now) = (true, node.now + PATIENCE);
        }
    }

    /// Puts what a node has to say on the network, and its writes on their way. Whether there was anything.
    fn process(&mut self, id: u16, report: &mut Report) -> bool {
        let is_ready = self.node(id).is_ready();
        let (before, early) = (self.node(id).granted_pre_votes, self.node(id).early_votes);
        let sent = self.node(id).process();
        self.note_pre_votes(id, before, report);
        if self.node(id).early_votes > early {
            report.differs(Difference::VoteDurable);
        }
        for envelope in sent {
            // So that the rest can be compared.
            if envelope.message.body == Body::TimeoutNow && !self.hands_over.contains(&id) {
                report.differs(Difference::HandsOver);
            } else {
                self.network.push(Flying::Message(envelope));
            }
        }
        is_ready
    }

    /// Finishes what is on its way to a node's disk for longest. Answers that waited for it leave from there.
    fn append(&mut self, id: u16) {
        self.node(id).append();
        let answers = self.node(id).take_answers();
        self.network.extend(answers.into_iter().map(Flying::Message));
    }

    fn deliver_directive(&mut self, case: &Case, to: &[u16], report: &mut Report) {
        let kind = case.values("type").first().map(String::as_str);
        for &id in to {
            self.deliver(id, kind, report);
        }
        for dropped in case.values("drop") {
            let id: u16 = dropped.parse().expect("an id");
            self.network.retain(|flying| flying.to() != id || kind.is_some_and(|kind| kind != flying.name()));
        }
    }

    /// Delivers what there is for a node. Whether there was anything.
    fn deliver(&mut self, id: u16, kind: Option<&str>, report: &mut Report) -> bool {
        let is_meant = |flying: &Flying| flying.to() == id && kind.is_none_or(|kind| kind == flying.name());
        let (meant, others): (Vec<_>, Vec<_>) = self.network.drain(..).partition(is_meant);
        self.network = others;
        let any = !meant.is_empty();
        for flying in meant {
            match flying {
                Flying::Wish { wish, .. } => _ = self.wish(id, wish, report),
                Flying::Message(mut envelope) => {
                    if self.without_lease(id, &mut envelope, report) {
                        let before = self.node(id).outbox.len();
                        let answer = self.node(id).receive(&envelope);
                        self.lose_word_of_leader(id, &envelope, before, report);
                        if let Err(error) = answer {
                            assert!(!error.is_broken_promise(), "an honest message: {error}");
                        }
                    }
                }
            }
        }
        any
    }

    /// Where the script has no leases: a vote is asked for as after a transfer, and a pre-vote when the lease has ended.
    /// Whether the message gets through.
    fn without_lease(&mut self, id: u16, envelope: &mut Envelope, report: &mut Report) -> bool {
        let node = self.node(id);
        if node.settings.check_quorum {
            return true;
        }
        match &mut envelope.message.body {
            Body::Vote { transfer, .. } if !*transfer => {
                report.differs(Difference::Lease);
                *transfer = true;
            }
            Body::PreVote { .. } => {
                report.differs(Difference::LeasePreVote);
                node.now += PATIENCE;
                return node.raft.role() != Role::Leader;
            }
            _ => {}
        }
        true
    }

    /// What a leader tells a candidate, when it is asked for its vote.
    fn lose_word_of_leader(&mut self, id: u16, envelope: &Envelope, before: usize, report: &mut Report) {
        if !matches!(envelope.message.body, Body::Vote { .. } | Body::PreVote { .. }) {
            return;
        }
        let mut place = 0;
        self.node(id).outbox.retain(|said| {
            place += 1;
            let is_lost = place > before && matches!(said.message.body, Body::Heartbeat { .. });
            if is_lost {
                report.differs(Difference::LeaderLives);
            }
            !is_lost
        });
    }

    fn stabilize_and_compare(&mut self, case: &Case, numbers: &[u16], report: &mut Report) -> Vec<String> {
        let nodes = if numbers.is_empty() { self.ids() } else { numbers.to_vec() };
        for _ in 0..MAX_ROUNDS {
            let mut any = false;
            for &id in &nodes {
                any |= self.process(id, report);
            }
            for &id in &nodes {
                any |= self.deliver(id, None, report);
            }
            for &id in &nodes {
                while self.node(id).is_appending() {
                    self.append(id);
                    any = true;
                }
            }
            if !any {
                return self.compare_nodes(&nodes, report);
            }
        }
        vec![format!("{} does not end", case.directive)]
    }
}
