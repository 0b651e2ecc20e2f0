//! One node: the machine, its clock, its disk, the writes on their way there, and what it has said.

use crate::member;
use eventstream_core::id::{Index, LogTime, NodeId, Term};
use eventstream_core::raft::{
    Body, Change, ChangeError, Configuration, EntryMeta, Faults, HardState, LogPosition, LogView, Membership, Message,
    Output, Persist, Placed, ProposeError, Raft, RaftOptions, Rejected, Restored, Role, Taken, Transition,
};
use eventstream_core::time::{Duration, Instant};
use std::collections::VecDeque;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Data(String),
    Configuration(Configuration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub content: Content,
}

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub struct Disk(pub Vec<Entry>);

impl LogView for Disk {
    fn term(&self, index: Index) -> Option<Term> {
        Some(self.0.get((index.0 as usize).checked_sub(1)?)?.term)
    }
}

/// A message and the entries that follow it.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub message: Message,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Write {
    persist: Persist,
    entries: Vec<Entry>,
}

/// What a client wants of the log.
#[derive(Clone, Debug)]
pub enum Wish {
    Data(String),
    Change(Vec<Change>, Transition),
    LeaveJoint,
}

/// How the scripts have a node made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub pre_vote: bool,
    /// A leader counts who answers, and voters keep their leader while it lives.
    pub check_quorum: bool,
    pub async_writes: bool,
    pub step_down_on_removal: bool,
    pub inflight: bool,
}

pub struct Node {
    pub id: u16,
    pub raft: Raft,
    pub settings: Settings,
    pub now: Instant,
    pub disk: Disk,
    /// The entries that the host holds, on disk or not.
    log: Vec<Entry>,
    /// Writes that the machine has asked for, ...
    writes: VecDeque<Write>,
    /// ... and those of them that are on their way to the disk: what was set on its way at once is finished at once.
    appending: VecDeque<Vec<Write>>,
    /// What was committed when writes were last set on their way. In the scripts a commit is a write.
    told_commit: Index,
    /// Messages that the machine has sent, before they are on the network.
    pub outbox: Vec<Envelope>,
    /// What waits for the first entry of the leader's term, and what comes after it.
    waiting: VecDeque<Wish>,
    /// The entries that were there at first.
    pub boot: u64,
    /// Ticks since its leader was heard, and the ticks that the script lets it wait, if it says so.
    pub elapsed: u64,
    pub patience: Option<u64>,
    /// The script had it forget its leader.
    pub forgot: bool,
    /// How often the round of pre-votes was left out, ...
    pub granted_pre_votes: usize,
    /// ... and how often its own vote was on its disk before its time.
    pub early_votes: usize,
}

/// What came of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Appended,
    /// It is proposed again when the first entry of the term is committed.
    Waits,
    /// Another change is under way, or it is none.
    Refused,
    NotLeader(Option<NodeId>),
    Dropped,
}

impl Node {
    /// A node whose log begins with `boot` entries, of which the last holds `configuration`. In the scripts that is a snapshot.
    pub fn new(id: u16, settings: Settings, boot: u64, configuration: Configuration) -> Self {
        let entry = |content| Entry { term: Term(1), content };
        let mut log: Vec<Entry> = (1..boot).map(|_| entry(Content::Data(String::new()))).collect();
        if boot > 0 {
            log.push(entry(Content::Configuration(configuration)));
        }
        let last = LogPosition { index: Index(boot), term: Term(u64::from(boot > 0)) };
        let options = RaftOptions {
            node: NodeId(id),
            incarnation: member(id).incarnation,
            membership: Membership::new(Placed { index: last.index, configuration }),
            seed: u64::from(id),
            is_witness: false,
            faults: Faults::NONE,
        };
        let hard_state = HardState { term: Term(1), vote: None, suspect: false };
        let restored = Restored { hard_state, last, applied: last, suspect: false, ..Restored::default() };
        let raft = Raft::new(options, &restored, Instant::ZERO).expect("the disk is in order");
        Self {
            id,
            raft,
            settings,
            now: Instant::ZERO,
            disk: Disk(log.clone()),
            log,
            writes: VecDeque::new(),
            appending: VecDeque::new(),
            told_commit: last.index,
            outbox: Vec::new(),
            waiting: VecDeque::new(),
            boot,
            elapsed: 0,
            patience: None,
            forgot: false,
            granted_pre_votes: 0,
            early_votes: 0,
        }
    }

    /// Does what is to be done, but puts nothing on the network and finishes no write.
    pub fn poll(&mut self) {
        self.poll_outputs();
        if !self.settings.pre_vote {
            self.grant_pre_votes();
        }
        while let Some(wish) = self.waiting.pop_front() {
            if self.attempt(&wish) == Outcome::Waits {
                self.waiting.push_front(wish);
                break;
            }
            self.poll_outputs();
        }
    }

    fn poll_outputs(&mut self) {
        while let Some(output) = self.raft.poll_output(&self.disk) {
            match output {
                Output::Persist(persist) => {
                    let range = persist.append.map_or(0..0, |(first, last)| first.0 as usize - 1..last.0 as usize);
                    self.writes.push_back(Write { persist, entries: self.log[range].to_vec() });
                }
                Output::Send(message) => {
                    let mut entries = Vec::new();
                    if let Body::Append { prev, count, .. } = message.body {
                        let first = prev.index.0 as usize;
                        entries = self.log[first..first + usize::from(count)].to_vec();
                    }
                    self.outbox.push(Envelope { message, entries });
                }
                Output::AppendEmpty(at) => self.hold(at, Content::Data(String::new())),
                Output::AppendConfiguration(at) => self.hold(at, Content::Configuration(*self.raft.configuration())),
                Output::InstallSnapshot(last) => unreachable!("a snapshot as of {last:?}: every log is whole"),
                Output::Commit(_) | Output::Leader { .. } | Output::ReadIndex { .. } => {}
            }
        }
    }

    /// The round of pre-votes, where the script has none: everybody would vote for it.
    fn grant_pre_votes(&mut self) {
        let asks = |envelope: &Envelope| matches!(envelope.message.body, Body::PreVote { .. });
        let Some(message) = self.outbox.iter().find(|&envelope| asks(envelope)).map(|asking| asking.message) else {
            return;
        };
        self.outbox.retain(|envelope| !asks(envelope));
        self.granted_pre_votes += 1;
        let voters: Vec<_> = self.raft.configuration().voters().filter(|voter| voter.node != message.from).collect();
        for voter in voters {
            let body = Body::PreVoteReply { granted: true };
            let (from, to) = (voter.node, message.from);
            let reply = Message { from, to, incarnation: voter.incarnation, term: message.term, body };
            self.raft.handle_message(self.now, &reply, &[], &[], &self.disk).expect("an honest message");
        }
        self.poll_outputs();
    }

    fn hold(&mut self, at: LogPosition, content: Content) {
        assert_eq!(at.index.0 as usize, self.log.len() + 1, "entries follow one another");
        self.log.push(Entry { term: at.term, content });
    }

    /// Whether there is anything to put on the network or on its way to the disk.
    pub fn is_ready(&self) -> bool {
        !self.outbox.is_empty() || !self.writes.is_empty()
    }

    /// Takes what is for the network, and sets writes on their way; unless they take their time, they are finished first.
    pub fn process(&mut self) -> Vec<Envelope> {
        if self.settings.async_writes && self.raft.role() == Role::Candidate && self.appending.is_empty() {
            self.finish_own_vote();
        }
        let told_commit = core::mem::replace(&mut self.told_commit, self.raft.commit());
        if !self.writes.is_empty() || told_commit != self.told_commit {
            self.appending.push_back(self.writes.drain(..).collect());
        }
        if !self.settings.async_writes {
            while self.is_appending() {
                self.append();
            }
        }
        core::mem::take(&mut self.outbox)
    }

    pub fn is_appending(&self) -> bool {
        !self.appending.is_empty()
    }

    /// A candidate asks for votes when its own is on its disk; in the scripts it need not wait.
    fn finish_own_vote(&mut self) {
        if !self.writes.iter().any(|write| write.persist.hard_state.is_some()) {
            return;
        }
        while let Some(write) = self.writes.pop_front() {
            self.write(write);
        }
        self.poll();
        self.early_votes += 1;
        // The script waits for a write here.
        self.appending.push_back(Vec::new());
    }

    /// Finishes what is on its way for longest.
    pub fn append(&mut self) {
        let writes = self.appending.pop_front().unwrap_or_default();
        writes.into_iter().for_each(|write| self.write(write));
        self.poll();
    }

    /// Takes the answers that may have waited for a write.
    pub fn take_answers(&mut self) -> Vec<Envelope> {
        let is_answer = |envelope: &Envelope| matches!(envelope.message.name(), "MsgVoteResp" | "MsgAppResp");
        let (answers, others) = core::mem::take(&mut self.outbox).into_iter().partition(is_answer);
        self.outbox = others;
        answers
    }

    fn write(&mut self, Write { persist, entries }: Write) {
        if let Some(from) = persist.truncate_from {
            self.disk.0.truncate(from.0 as usize - 1);
        }
        if let Some((first, _)) = persist.append {
            assert_eq!(first.0 as usize, self.disk.0.len() + 1, "entries are appended where the log ends");
            self.disk.0.extend(entries);
        }
        self.raft.handle_persisted(self.now, persist.token);
    }

    pub fn receive(&mut self, envelope: &Envelope) -> Result<(), Rejected> {
        let Envelope { message, entries } = envelope;
        let first = if let Body::Append { prev, .. } = message.body { prev.index.0 + 1 } else { 0 };
        let indices = (first..).map(Index);
        let of = |(index, entry): (Index, &Entry)| EntryMeta { index, term: entry.term, log_time: LogTime(0) };
        let metas: Vec<EntryMeta> = indices.clone().zip(entries).map(of).collect();
        let placed = |(index, entry): (Index, &Entry)| match entry.content {
            Content::Configuration(configuration) => Some(Placed { index, configuration }),
            Content::Data(_) => None,
        };
        let configurations: Vec<Placed> = indices.zip(entries).filter_map(placed).collect();
        let taken = self.raft.handle_message(self.now, message, &metas, &configurations, &self.disk)?;
        if let Taken::Entries { first: begin, last: end } = taken {
            self.log.truncate(begin.0 as usize - 1);
            self.log.extend_from_slice(&entries[(begin.0 - first) as usize..=(end.0 - first) as usize]);
        }
        if message.body_is_of_leader() {
            self.elapsed = 0;
            self.forgot = false;
        }
        self.poll();
        Ok(())
    }

    /// Has the log take something, now or when the leader's first entry is committed.
    pub fn wish(&mut self, wish: Wish) -> Outcome {
        if !self.waiting.is_empty() {
            self.waiting.push_back(wish);
            return Outcome::Waits;
        }
        let outcome = self.attempt(&wish);
        if outcome == Outcome::Waits {
            self.waiting.push_back(wish);
        }
        self.poll();
        outcome
    }

    fn attempt(&mut self, wish: &Wish) -> Outcome {
        let result = match wish {
            Wish::Data(data) => match self.raft.propose(self.now) {
                Ok(at) => {
                    self.hold(at, Content::Data(data.clone()));
                    return Outcome::Appended;
                }
                Err(error) => Err(error.into()),
            },
            Wish::Change(changes, transition) => self.raft.propose_change(self.now, changes, *transition),
            Wish::LeaveJoint => self.raft.propose_leave_joint(self.now),
        };
        let first = self.raft.membership().latest().index;
        match result {
            Ok(_) => Outcome::Appended,
            Err(ChangeError::Propose(ProposeError::NotLeader { leader, .. })) => Outcome::NotLeader(leader),
            Err(ChangeError::Propose(ProposeError::HandingOver { .. })) => Outcome::Dropped,
            Err(ChangeError::Pending { .. }) if first <= self.raft.commit() => Outcome::Waits,
            Err(_) => Outcome::Refused,
        }
    }

    /// Its patience with its leader ends now.
    pub fn campaign(&mut self) {
        let can_vote = self.raft.configuration().voters().any(|voter| voter.node.0 == self.id);
        if self.raft.role() == Role::Leader || !can_vote {
            return;
        }
        let (before, asked) = (self.raft.term(), self.granted_pre_votes);
        let asks = |envelope: &Envelope| matches!(envelope.message.body, Body::PreVote { .. });
        self.outbox.retain(|envelope| !asks(envelope));
        for _ in 0..4 {
            if self.raft.next_deadline() == Instant::FAR_FUTURE {
                return;
            }
            self.now = self.now.max(self.raft.next_deadline());
            self.raft.handle_timeout(self.now);
            self.poll();
            if self.raft.term() > before || self.granted_pre_votes > asked || self.outbox.iter().any(asks) {
                return;
            }
        }
    }

    /// A third of its patience passes.
    pub fn tick(&mut self, tick: Duration) {
        self.elapsed += 1;
        match self.patience.filter(|_| self.raft.role() != Role::Leader) {
            Some(patience) if self.elapsed >= patience => {
                (self.elapsed, self.patience) = (0, None);
                self.campaign();
            }
            // Not yet, whatever its own patience is.
            Some(_) => {}
            None => {
                self.now += tick;
                self.raft.handle_timeout(self.now);
                self.poll();
            }
        }
    }
}

/// What a message is about.
pub trait Kind {
    fn body_is_of_leader(&self) -> bool;
    /// The name of such messages in the scripts.
    fn name(&self) -> &'static str;
}

impl Kind for Message {
    fn body_is_of_leader(&self) -> bool {
        matches!(self.body, Body::Append { .. } | Body::Heartbeat { .. })
    }

    fn name(&self) -> &'static str {
        match self.body {
            Body::Append { .. } | Body::AppendTerms { .. } => "MsgApp",
            Body::SnapshotRows { .. } | Body::SnapshotTerms { .. } => "MsgSnap",
            Body::SnapshotTaken { .. } => "MsgSnapStatus",
            Body::AppendAccepted { .. } | Body::AppendRejected { .. } | Body::SuspectReply { .. } => "MsgAppResp",
            Body::Heartbeat { .. } => "MsgHeartbeat",
            Body::HeartbeatReply { .. } => "MsgHeartbeatResp",
            Body::PreVote { .. } | Body::SuspectPreVote { .. } => "MsgPreVote",
            Body::PreVoteReply { .. } | Body::PreVoteIfAll { .. } | Body::PreVoteIfNew { .. } => "MsgPreVoteResp",
            Body::Vote { .. } | Body::FoundingVote { .. } => "MsgVote",
            Body::VoteReply { .. } | Body::VoteIfAll { .. } => "MsgVoteResp",
            Body::TimeoutNow => "MsgTimeoutNow",
            Body::Cleared { .. } => "",
        }
    }
}
