//! What a member does for producers and subscribers, as a host does: batches become entries, applied entries become
//! receipts and rows of the topic index.

use crate::entries::{EntryId, Stamped};
use crate::member::{Member, Pending, Sender, Waiting};
use crate::network::Route;
use crate::payload::{TOPICS, producer_id};
use crate::producer::{Answer, CRC, Request};
use crate::stats::Happening;
use crate::subscriber::IndexRow;
use crate::trace::trace;
use crate::violation::{Checked, Invariant, Violation, ensure};
use crate::world::{Happens, World, slot};
use eventstream_core::batch::{AddError, passes_on};
use eventstream_core::id::{Index, LogTime, ShardId, Term};
use eventstream_core::raft::LogPosition;
use eventstream_core::replica::{Command, CommandOutcome, MAX_COMMAND_LEN, Stamp};
use eventstream_core::wire::{Batch, Frame, Kind, MAX_FRAME_LEN};

impl World {
    /// A producer asks something of a member.
    pub(crate) fn serve(&mut self, member: usize, producer: usize, request: Request) -> Checked {
        trace!(self, "{} is asked by producer {producer}: {request:?}", member + 1);
        if !self.members[member].leads() {
            let raft = self.members[member].machine.as_ref().map(|machine| machine.raft());
            let (term, leader) = raft.map_or((0, None), |raft| (raft.term().0, raft.leader().map(slot)));
            self.answer(member, producer, Answer::Leader { term, leader });
            return Ok(());
        }
        match request {
            Request::Open { life } => self.open(member, producer, life)?,
            Request::Batch(id) => {
                // Out of the way, so that the frame can be read while the world changes.
                let frames = core::mem::take(&mut self.frames);
                self.take_batch(member, producer, frames.get(id))?;
                self.frames = frames;
            }
        }
        self.settle(member)
    }

    /// A batch becomes an entry of its own, or waits for others to share one with.
    fn take_batch(&mut self, member: usize, producer: usize, frame: &[u8]) -> Checked {
        let (frame, batch) = check(frame)?;
        let sender = Sender { producer: producer as u8, batch: frame.header().batch_id };
        if passes_on(frame.header()) {
            self.flush(member)?;
            if let Some(position) = self.propose(member, &frame, &batch)? {
                let waiting = Waiting::Receipts { sender, first_run: 0, runs: batch.run_count() };
                self.members[member].pending.push_back(Pending { position, waiting });
            }
            return Ok(());
        }
        if self.accumulate(member, &frame, &batch, sender) == Err(AddError::Full) {
            self.flush(member)?;
            let added = self.accumulate(member, &frame, &batch, sender);
            ensure!(added.is_ok(), Contract, "a batch does not fit an empty entry: {added:?}");
        }
        let state = &self.members[member];
        let is_idle = state.pending.is_empty();
        if state.accumulator.is_due(state.clock.local(self.now), is_idle) {
            self.flush(member)?;
        }
        Ok(())
    }

    fn accumulate(
        &mut self,
        member: usize,
        frame: &Frame<'_>,
        batch: &Batch<'_>,
        sender: Sender,
    ) -> Result<(), AddError> {
        let Self { members, spare_buffers, now, .. } = self;
        let Member { accumulator, clock, .. } = &mut members[member];
        let buffer = || Some(spare_buffers.pop().unwrap_or_else(|| vec![0; MAX_FRAME_LEN]));
        accumulator.add(clock.local(*now), frame, batch, sender, buffer)
    }

    /// Makes an entry of the batches that wait.
    pub(crate) fn flush(&mut self, member: usize) -> Checked {
        let state = &mut self.members[member];
        let mut parts = core::mem::take(&mut self.parts);
        parts.clear();
        parts.extend_from_slice(state.accumulator.parts());
        let Some((buffer, len)) = state.accumulator.seal(ShardId(0), Index(0), Term(0), LogTime(0), CRC) else {
            self.parts = parts;
            return Ok(());
        };
        let (frame, batch) = check(&buffer[..len])?;
        if let Some(position) = self.propose(member, &frame, &batch)? {
            self.members[member].pending.extend(parts.iter().map(|part| Pending {
                position,
                waiting: Waiting::Receipts { sender: part.tag, first_run: part.first_run, runs: part.runs },
            }));
            if parts.len() > 1 {
                self.stats.count(Happening::Shared, parts.len() as u64);
            }
        }
        self.spare_buffers.push(buffer);
        self.parts = parts;
        Ok(())
    }

    /// Gives a batch to the machine. `None` if it does not take it.
    fn propose(&mut self, member: usize, frame: &Frame<'_>, batch: &Batch<'_>) -> Checked<Option<LogPosition>> {
        let Member { machine, clock, .. } = &mut self.members[member];
        let Some(machine) = machine else { return Ok(None) };
        let Ok(stamp) = machine.propose_batch(clock.local(self.now), batch) else { return Ok(None) };
        let header = frame.header();
        self.append(member, &stamp, Kind::Batch, header.event_count, frame.payload())
    }

    fn open(&mut self, member: usize, producer: usize, life: u16) -> Checked {
        let command = Command::OpenProducer { producer: producer_id(producer as u8) };
        if let Some(position) = self.propose_command(member, &command)? {
            let waiting = Waiting::Opened { producer: producer as u8, life };
            self.members[member].pending.push_back(Pending { position, waiting });
        }
        Ok(())
    }

    /// Gives a command to the machine. `None` if it does not take it.
    fn propose_command(&mut self, member: usize, command: &Command) -> Checked<Option<LogPosition>> {
        let mut payload = [0; MAX_COMMAND_LEN];
        let len = command.encode(&mut payload);
        let Member { machine, clock, .. } = &mut self.members[member];
        let Some(machine) = machine else { return Ok(None) };
        let Ok(stamp) = machine.propose_command(clock.local(self.now), command) else { return Ok(None) };
        self.append(member, &stamp, Kind::Command, 0, &payload[..len])
    }

    /// Gives the log what the machine wants in it by itself.
    pub(crate) fn propose_own(&mut self, member: usize) -> Checked {
        let Member { machine: Some(machine), clock, .. } = &mut self.members[member] else { return Ok(()) };
        let Some(command) = machine.poll_command(clock.local(self.now)) else { return Ok(()) };
        trace!(self, "{} wants {command:?}", member + 1);
        self.propose_command(member, &command)?;
        self.settle(member)
    }

    /// Puts a stamped entry behind the leader's log.
    pub(crate) fn append(
        &mut self,
        member: usize,
        stamp: &Stamp,
        kind: Kind,
        events: u16,
        payload: &[u8],
    ) -> Checked<Option<LogPosition>> {
        let state = &mut self.members[member];
        let stamped = Stamped { position: stamp.position, log_time: stamp.log_time.0, kind, events, payload };
        let id = self.entries.create(state.last_id(), &stamped)?;
        trace!(self, "{} appends {kind:?} at {:?}", member + 1, stamp.position);
        state.log.push(id);
        Ok(Some(stamp.position))
    }

    /// Answers those who waited for the entry that was just applied.
    pub(crate) fn acknowledge(&mut self, member: usize, applied: LogPosition) {
        while let Some(&Pending { position, waiting }) = self.members[member].pending.front() {
            if position.index > applied.index {
                return;
            }
            self.members[member].pending.pop_front();
            if position != applied {
                continue;
            }
            match waiting {
                Waiting::Receipts { sender, first_run, runs } => {
                    let first = self.receipts.len() as u32;
                    let receipts = &self.outcomes.runs()[usize::from(first_run)..][..usize::from(runs)];
                    trace!(self, "{} answers batch {}: {receipts:?}", member + 1, sender.batch);
                    self.receipts.extend_from_slice(receipts);
                    let answer = Answer::Receipts { batch: sender.batch, first, count: runs };
                    self.answer(member, sender.producer.into(), answer);
                }
                Waiting::Opened { producer, life } => {
                    let answer = match self.outcomes.command() {
                        Some(CommandOutcome::OpenProducer(Ok(opened))) => {
                            Answer::Opened { life, epoch: opened.epoch, next: opened.next_sequence }
                        }
                        _ => Answer::NotOpened,
                    };
                    self.answer(member, producer.into(), answer);
                }
            }
        }
    }

    /// Sends an answer to a producer.
    pub(crate) fn answer(&mut self, member: usize, producer: usize, answer: Answer) {
        let route = Route::ToProducer { producer, member };
        let arrivals = self.network.send(route, self.now, &self.plan, &mut self.rng, &mut self.stats);
        for at in arrivals.iter() {
            self.queue.push(at, Happens::Answer { producer, answer });
        }
    }

    /// Adds the applied entry to the member's topic index.
    pub(crate) fn index(&mut self, member: usize, id: EntryId) -> Checked {
        let state = &mut self.members[member];
        let Some(machine) = &state.machine else { return Ok(()) };
        for slice in self.outcomes.topics() {
            let name = machine.topic(slice.topic).name();
            let topic = TOPICS.iter().position(|&topic| topic == name);
            ensure!(
                topic.map(|topic| topic as u8) == self.oracle.model.topic_by_id(slice.topic.0),
                Outcome,
                "topic {} is called {name}",
                slice.topic
            );
            let Some(topic) = topic else { return Ok(()) };
            let row = IndexRow { first_offset: slice.first_offset.0, mask: slice.mask, id };
            state.index_rows[topic].push(row);
            let archive = &mut self.archive[topic];
            if archive.last().is_none_or(|last| last.first_offset < row.first_offset) {
                archive.push(row);
            }
        }
        Ok(())
    }
}

/// Frame and batch, checked as a host checks what it receives.
fn check(bytes: &[u8]) -> Checked<(Frame<'_>, Batch<'_>)> {
    let error = match Frame::check(bytes, CRC) {
        Ok(frame) => match Batch::check(frame.payload(), frame.header().event_count) {
            Ok(batch) => return Ok((frame, batch)),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    Err(Violation { invariant: Invariant::Contract, text: format!("a producer's frame is refused: {error}") })
}
