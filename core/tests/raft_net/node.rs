//! One node: the machine, its disk, the writes on their way to it, and what it has sent.

use eventstream_core::id::{Incarnation, Index, LogTime, NodeId, Term};
use eventstream_core::raft::{
    Body, Configuration, EntryMeta, Faults, HardState, LogPosition, LogView, Member, Message, Output, Persist, Raft,
    RaftOptions, Rejected, Restored,
};
use eventstream_core::time::Instant;
use std::collections::VecDeque;

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub log: Vec<Term>,
    /// Entries that were applied to the checkpoint.
    pub applied: usize,
}

impl LogView for Disk {
    fn term(&self, index: Index) -> Option<Term> {
        self.log.get((index.0 as usize).checked_sub(1)?).copied()
    }
}

impl Disk {
    pub fn new(term: u64, vote: Option<u16>, log: Vec<Term>) -> Self {
        Self { hard_state: HardState { term: Term(term), vote: vote.map(NodeId), suspect: false }, log, applied: 0 }
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
        let applied = self.position(self.applied);
        Restored { hard_state: self.hard_state, last: self.position(self.log.len()), applied, suspect: false }
    }

    fn write(&mut self, write: &Write) {
        self.hard_state = write.persist.hard_state.unwrap_or(self.hard_state);
        if let Some(from) = write.persist.truncate_from {
            assert!((from.0 as usize) <= self.log.len(), "truncation of what was never written");
            self.log.truncate(from.0 as usize - 1);
        }
        if let Some((first, _)) = write.persist.append {
            assert_eq!(first.0 as usize, self.log.len() + 1, "entries are appended where the log ends");
            self.log.extend_from_slice(&write.terms);
        }
    }
}

/// A message and what the headers of the frames that follow it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub message: Message,
    pub entries: Vec<EntryMeta>,
}

/// A write that was handed out; its frames are already fixed.
#[derive(Clone, Debug)]
struct Write {
    persist: Persist,
    terms: Vec<Term>,
}

pub struct Node {
    pub raft: Raft,
    pub disk: Disk,
    /// The frames that the host holds, on disk or not: a term for each.
    pub log: Vec<Term>,
    /// All outputs since the test last took them.
    pub outputs: Vec<Output>,
    /// Messages to be delivered.
    pub sent: VecDeque<Envelope>,
    /// Entries that were given out as committed.
    pub committed: usize,
    writes: VecDeque<Write>,
}

pub fn members(count: u16) -> Vec<Member> {
    (1..=count).map(|node| Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }).collect()
}

pub fn options(node: u16, of: u16, seed: u64) -> RaftOptions {
    let members = members(of);
    RaftOptions {
        node: NodeId(node),
        incarnation: members[usize::from(node) - 1].incarnation,
        configuration: Configuration::new(&members).unwrap(),
        seed,
        faults: Faults::NONE,
    }
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
    pub fn new(options: RaftOptions, disk: Disk, now: Instant) -> Self {
        let raft = Raft::new(options, &disk.restored(), now).expect("the disk is in order");
        let (log, committed) = (disk.log.clone(), disk.applied);
        Self { raft, disk, log, outputs: Vec::new(), sent: VecDeque::new(), committed, writes: VecDeque::new() }
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
                    self.writes.push_back(Write { persist, terms });
                }
                Output::Send(message) => {
                    let entries = match message.body {
                        Body::Append { prev, count, .. } => metas(&self.log, prev.index.0, count),
                        _ => Vec::new(),
                    };
                    self.sent.push_back(Envelope { message, entries });
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
                Output::Leader { .. } => {}
            }
        }
    }

    /// Writes that were handed out and are not finished.
    pub fn open_writes(&self) -> usize {
        self.writes.len()
    }

    /// Finishes the oldest write on the disk. Returns whether there was one.
    pub fn sync(&mut self, now: Instant) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        self.disk.write(&write);
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
        let taken = self.raft.handle_message(now, &envelope.message, &envelope.entries, &self.disk)?;
        if let Some((first, last)) = taken {
            let of_message = envelope.entries.iter().filter(|entry| entry.index >= first && entry.index <= last);
            self.log.truncate(first.0 as usize - 1);
            self.log.extend(of_message.map(|entry| entry.term));
            assert_eq!(self.log.len(), last.0 as usize, "the entries that were taken follow one another");
        }
        self.poll();
        Ok(())
    }

    /// Receives a message of `from` in its right incarnation.
    pub fn hear(&mut self, now: Instant, from: u16, term: u64, body: Body, entries: &[EntryMeta]) {
        let incarnation = Incarnation([from as u8; 16]);
        let message = Message { from: NodeId(from), to: self.raft.node(), incarnation, term: Term(term), body };
        self.receive(now, &Envelope { message, entries: entries.to_vec() }).expect("an honest message");
    }

    pub fn timeout(&mut self, now: Instant) {
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
