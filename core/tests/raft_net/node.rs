//! One node: the machine, its disk, the writes on their way to it, and what it has sent.

use eventstream_core::id::{Incarnation, Index, LogTime, NodeId, Term};
use eventstream_core::raft::{
    Body, Configuration, EntryMeta, Faults, HardState, LogPosition, LogView, Member, Message, Output, Persist, Placed,
    Raft, RaftOptions, Rejected, Restored, Snapshot, Taken,
};
use eventstream_core::time::Instant;
use std::collections::VecDeque;

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub log: Vec<Term>,
    /// Those entries that hold one.
    pub configurations: Vec<Placed>,
    /// Entries that were applied to the checkpoint.
    pub applied: usize,
    /// Entries that are forgotten, but for their place; of the last of them the term is known.
    pub base: usize,
    /// A checkpoint that can be sent.
    pub snapshot: Option<Snapshot>,
}

impl LogView for Disk {
    fn base(&self) -> LogPosition {
        self.position(self.base)
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot
    }

    fn term(&self, index: Index) -> Option<Term> {
        let place = (index.0 as usize).checked_sub(1).filter(|&place| place + 1 > self.base)?;
        self.log.get(place).copied()
    }
}

impl Disk {
    /// Forgets the entries up to `base`, and can send a checkpoint of so many rows that covers them.
    pub fn trim(&mut self, base: usize, rows: u32) {
        (self.base, self.applied) = (base, self.applied.max(base));
        self.snapshot = Some(Snapshot { last: self.position(base), rows });
    }

    pub fn new(term: u64, vote: Option<u16>, log: Vec<Term>) -> Self {
        let hard_state = HardState { term: Term(term), vote: vote.map(NodeId), suspect: false };
        Self { hard_state, log, ..Self::default() }
    }

    /// The same, of a node whose last write was damaged.
    pub fn suspect(self) -> Self {
        Self { hard_state: HardState { suspect: true, ..self.hard_state }, ..self }
    }

    pub fn position(&self, index: usize) -> LogPosition {
        let term = index.checked_sub(1).map_or(Term::ZERO, |place| self.log[place]);
        LogPosition { index: Index(index as u64), term }
    }

    pub fn restored(&self) -> Restored {
        let [base, applied, last] = [self.base, self.applied, self.log.len()].map(|index| self.position(index));
        Restored { hard_state: self.hard_state, base, last, applied, suspect: false }
    }

    fn write(&mut self, write: &Write) {
        self.hard_state = write.persist.hard_state.unwrap_or(self.hard_state);
        if let Some(last) = write.persist.install {
            self.log = vec![last.term; last.index.0 as usize];
            (self.base, self.applied) = (self.log.len(), self.log.len());
            self.configurations.clear();
        }
        if let Some(from) = write.persist.truncate_from {
            assert!((from.0 as usize) <= self.log.len(), "truncation of what was never written");
            self.log.truncate(from.0 as usize - 1);
            self.configurations.retain(|placed| placed.index < from);
        }
        if let Some((first, _)) = write.persist.append {
            assert_eq!(first.0 as usize, self.log.len() + 1, "entries are appended where the log ends");
            self.log.extend_from_slice(&write.terms);
            self.configurations.extend_from_slice(&write.configurations);
        }
    }
}

/// A message and what the headers of the frames that follow it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub message: Message,
    pub entries: Vec<EntryMeta>,
    pub configurations: Vec<Placed>,
}

impl Envelope {
    /// A message whose entries hold no configuration.
    pub fn new(message: Message, entries: Vec<EntryMeta>) -> Self {
        Self { message, entries, configurations: Vec::new() }
    }
}

/// A write that was handed out; its frames are already fixed.
#[derive(Clone, Debug)]
struct Write {
    persist: Persist,
    terms: Vec<Term>,
    configurations: Vec<Placed>,
}

pub struct Node {
    pub raft: Raft,
    pub disk: Disk,
    /// The frames that the host holds, on disk or not: a term for each.
    pub log: Vec<Term>,
    /// Those of them that hold a configuration.
    pub configurations: Vec<Placed>,
    /// All outputs since the test last took them.
    pub outputs: Vec<Output>,
    /// Messages to be delivered.
    pub sent: VecDeque<Envelope>,
    /// Entries that were given out as committed.
    pub committed: usize,
    /// Messages whose rows it took, since a snapshot was installed.
    pub rows_taken: usize,
    /// The configuration that the rows of a snapshot hold.
    pub configuration_of_snapshot: Option<Placed>,
    now: Instant,
    writes: VecDeque<Write>,
}

pub fn member(node: u16) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
}

pub fn members(count: u16) -> Vec<Member> {
    (1..=count).map(member).collect()
}

/// Those at the indices from `first` to `last`.
fn between(configurations: &[Placed], first: u64, last: u64) -> Vec<Placed> {
    configurations.iter().copied().filter(|placed| (first..=last).contains(&placed.index.0)).collect()
}

/// One of the first members of a cluster, or a node that may be added to it.
pub fn options(node: u16, of: u16, seed: u64) -> RaftOptions {
    let configuration = if node > of { Configuration::NONE } else { Configuration::new(&members(of)).unwrap() };
    RaftOptions {
        node: NodeId(node),
        incarnation: member(node).incarnation,
        membership: configuration.into(),
        seed,
        is_witness: false,
        faults: Faults::NONE,
    }
}

/// A cluster of two data voters and a witness, which is number 3.
pub fn with_witness(node: u16, seed: u64) -> RaftOptions {
    let configuration = Configuration::new(&members(3)).and_then(|all| all.with_witness(NodeId(3))).unwrap();
    RaftOptions { membership: configuration.into(), is_witness: node == 3, ..options(node, 3, seed) }
}

/// What the frames of `log[prev..]` say, `count` of them.
pub fn metas(log: &[Term], prev: u64, count: u16) -> Vec<EntryMeta> {
    let meta = |index: u64| EntryMeta { index: Index(index), term: log[index as usize - 1], log_time: LogTime(index) };
    (prev + 1..=prev + u64::from(count)).map(meta).collect()
}

/// Entries of these terms after `prev`.
pub fn entries(prev: u64, terms: &[u64]) -> Vec<EntryMeta> {
    let meta = |(index, &term): (u64, &u64)| EntryMeta { index: Index(index), term: Term(term), log_time: LogTime(0) };
    (prev + 1..).zip(terms).map(meta).collect()
}

impl Node {
    pub fn new(mut options: RaftOptions, disk: Disk, now: Instant) -> Self {
        disk.configurations.iter().for_each(|&placed| options.membership.append(placed));
        let raft = Raft::new(options, &disk.restored(), now).expect("the disk is in order");
        Self {
            raft,
            log: disk.log.clone(),
            configurations: disk.configurations.clone(),
            outputs: Vec::new(),
            sent: VecDeque::new(),
            committed: disk.applied,
            rows_taken: 0,
            configuration_of_snapshot: None,
            now,
            writes: VecDeque::new(),
            disk,
        }
    }

    /// A member of `of` that finds `disk`.
    pub fn of(node: u16, of: u16, disk: Disk) -> Self {
        Self::new(options(node, of, 1), disk, Instant::ZERO)
    }

    /// Does all that is to be done, but finishes no write.
    pub fn poll(&mut self) {
        while let Some(output) = self.raft.poll_output(&self.disk) {
            self.outputs.push(output);
            match output {
                Output::Persist(persist) => {
                    let terms = persist
                        .append
                        .map_or(Vec::new(), |(first, last)| self.log[first.0 as usize - 1..last.0 as usize].to_vec());
                    let configurations = persist
                        .append
                        .map_or(Vec::new(), |(first, last)| between(&self.configurations, first.0, last.0));
                    self.writes.push_back(Write { persist, terms, configurations });
                }
                Output::Send(message) => {
                    let (mut entries, mut configurations) = (Vec::new(), Vec::new());
                    match message.body {
                        Body::Append { prev, count, .. } => {
                            entries = metas(&self.log, prev.index.0, count);
                            let first = prev.index.0 + 1;
                            configurations = between(&self.configurations, first, prev.index.0 + u64::from(count));
                        }
                        Body::AppendTerms { prev, last, configuration, .. } => {
                            entries = metas(&self.log, prev.index.0, (last.0 - prev.index.0) as u16);
                            configurations = between(&self.configurations, configuration.0, configuration.0);
                        }
                        _ => {}
                    }
                    self.sent.push_back(Envelope { message, entries, configurations });
                }
                Output::Commit(index) => {
                    assert!(index.0 as usize > self.committed, "a commit is told once");
                    self.committed = index.0 as usize;
                    assert!(self.committed <= self.log.len());
                    let handed_out: usize = self.writes.iter().map(|write| write.terms.len()).sum();
                    assert!(self.committed <= self.disk.log.len() + handed_out, "committed before it was handed out");
                }
                Output::AppendEmpty(empty) => {
                    assert_eq!(empty.index.0 as usize, self.log.len() + 1);
                    self.log.push(empty.term);
                }
                Output::AppendConfiguration(entry) => {
                    assert_eq!(entry.index.0 as usize, self.log.len() + 1);
                    self.log.push(entry.term);
                    let configuration = *self.raft.configuration();
                    self.configurations.push(Placed { index: entry.index, configuration });
                }
                Output::InstallSnapshot(last) => {
                    self.raft.handle_installed(self.now, self.configuration_of_snapshot);
                    self.begin_after(last);
                }
                Output::Leader { .. } | Output::ReadIndex { .. } => {}
            }
        }
    }

    fn begin_after(&mut self, last: LogPosition) {
        (self.log, self.committed) = (vec![last.term; last.index.0 as usize], last.index.0 as usize);
        (self.configurations, self.rows_taken) = (Vec::new(), 0);
    }

    /// Writes that were handed out and are not finished.
    pub fn open_writes(&self) -> usize {
        self.writes.len()
    }

    /// Finishes the oldest write on the disk. Returns whether there was one.
    pub fn sync(&mut self, now: Instant) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        self.disk.write(&write);
        self.now = now;
        self.raft.handle_persisted(now, write.persist.token);
        self.poll();
        true
    }

    /// Finishes all writes, and those that follow from them.
    pub fn sync_all(&mut self, now: Instant) {
        self.poll();
        while self.sync(now) {}
    }

    pub fn receive(&mut self, now: Instant, envelope: &Envelope) -> Result<(), Rejected> {
        let Envelope { message, entries, configurations } = envelope;
        // A witness is told terms: its entries are the test's affair.
        let told: &[_] = if let Body::AppendTerms { .. } = message.body { &[] } else { entries };
        self.now = now;
        let taken = self.raft.handle_message(now, message, told, configurations, &self.disk)?;
        if let (Taken::Rows, Body::SnapshotTerms { last, .. }) = (taken, message.body) {
            self.begin_after(last);
        } else if taken == Taken::Rows {
            self.rows_taken += 1;
        }
        if let Taken::Entries { first, last } = taken {
            let of_message = envelope.entries.iter().filter(|entry| entry.index >= first && entry.index <= last);
            self.log.truncate(first.0 as usize - 1);
            self.log.extend(of_message.map(|entry| entry.term));
            self.configurations.retain(|placed| placed.index < first);
            self.configurations.extend(between(&envelope.configurations, first.0, last.0));
            assert_eq!(self.log.len(), last.0 as usize, "the entries that were taken follow one another");
        }
        self.poll();
        Ok(())
    }

    /// Receives a message of `from` in its right incarnation.
    pub fn hear(&mut self, now: Instant, from: u16, term: u64, body: Body, entries: &[EntryMeta]) {
        let incarnation = Incarnation([from as u8; 16]);
        let message = Message { from: NodeId(from), to: self.raft.node(), incarnation, term: Term(term), body };
        self.receive(now, &Envelope::new(message, entries.to_vec())).expect("an honest message");
    }

    pub fn timeout(&mut self, now: Instant) {
        self.now = now;
        self.raft.handle_timeout(now);
        self.poll();
    }

    /// Waits until the machine's own deadline, and says when that was.
    pub fn wait(&mut self) -> Instant {
        let now = self.raft.next_deadline();
        self.timeout(now);
        now
    }

    pub fn propose(&mut self, now: Instant) -> LogPosition {
        let position = self.raft.propose(now).expect("it leads");
        self.log.push(position.term);
        self.poll();
        position
    }

    /// Takes the bodies of what it sent to `to`, with the terms they were sent in.
    pub fn take_sent(&mut self, to: u16) -> Vec<(u64, Body)> {
        let (taken, left) = self.sent.drain(..).partition(|envelope| envelope.message.to == NodeId(to));
        self.sent = left;
        Vec::from(taken).iter().map(|envelope: &Envelope| (envelope.message.term.0, envelope.message.body)).collect()
    }

    /// Loses all but the first `survive` writes that were not finished, and all else that is not on the disk.
    pub fn crash(mut self, survive: usize) -> Disk {
        for write in self.writes.iter().take(survive) {
            self.disk.write(write);
        }
        self.disk
    }
}
