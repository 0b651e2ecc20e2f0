//! The core of EventStreamCore: consensus, deduplication, batching and the wire codec, without allocation, clock,
//! randomness or I/O.
//!
//! The same code runs in the server, on a microcontroller, and in a simulator that replays years of failures in
//! minutes. Its machines are *sans-I/O*: they are told what happened and say what is to be done, and the same calls give
//! the same outputs, byte for byte. Time is an argument ([`time`]), a seed is an argument, large memory is lent by the
//! caller.
//!
//! # Layers
//!
//! Each uses only those below it.
//!
//! | layer | what it does |
//! |---|---|
//! | [`replica`] | a member of the cluster: the machines below composed into one, and what the log means |
//! | [`raft`] | who leads, what is in the log, what of it is committed |
//! | [`dedup`] | which events of a producer are new: decided when an entry is applied |
//! | [`ids`] | which events with an id are new; read by other threads without locks |
//! | [`producer`] | a device's events in flash until the cluster has them, and how it speaks with the cluster |
//! | [`batch`] | events into batches at a producer, small batches into one at a leader |
//! | [`wire`], [`receipt`], [`crc`] | frames, runs, records and messages: checked and borrowed, never copied |
//! | [`ring`], [`doorbell`], [`pool`] | how threads hand over work and share blocks of memory, without locks |
//! | [`metrics`] | what one thread counts and times, read by others without locks |
//! | [`id`], [`time`], [`config`] | the words, and every bound of this crate |
//!
//! # The drive loop
//!
//! A host owns a [`Replica`](replica::Replica), a log of frames by index, rows of applied state, and a network. It tells
//! the replica what happened (a message, a deadline, a finished write), then polls [`Output`](replica::Output)s until
//! there are none, and acts on them in order. Here are three members with disks that are vectors and a network that is a
//! queue. A client publishes through the one that leads, and all three come to the same state:
//!
//! ```
//! use eventstream_core::batch::{BatchBuilder, Event, Source};
//! use eventstream_core::config::Parameters;
//! use eventstream_core::crc::Crc32;
//! use eventstream_core::dedup::ProducerSlot;
//! use eventstream_core::id::{Epoch, Incarnation, Index, NodeId, ProducerId, Sequence, ShardId, Term};
//! use eventstream_core::raft::{
//!     Body, Configuration, EntryMeta, Faults, LogView, Member, Message, RaftOptions, Role, Taken,
//! };
//! use eventstream_core::receipt::RunReceipt;
//! use eventstream_core::replica::{
//!     Entry, Lent, Options, Outcomes, Output, Replica, RestoredLog, Restoring, Stamp, TopicSlot,
//! };
//! use eventstream_core::time::Instant;
//! use eventstream_core::wire::{Batch, Frame, Header, Kind, MAX_FRAME_LEN, OVERHEAD, seal, stamp};
//! use std::collections::VecDeque;
//!
//! const CRC: Crc32 = Crc32::portable();
//! type Done = Result<(), Box<dyn std::error::Error>>;
//!
//! /// A log: the frame of entry `n` lies at `n - 1`.
//! #[derive(Default)]
//! struct Log(Vec<Vec<u8>>);
//!
//! impl Log {
//!     fn frame(&self, index: Index) -> Option<Frame<'_>> {
//!         let bytes = self.0.get((index.0 as usize).checked_sub(1)?)?;
//!         Frame::check(bytes, CRC).ok()
//!     }
//!
//!     /// What a leader adds: index, term and log time go into the frame's header.
//!     fn push(&mut self, mut frame: Vec<u8>, place: Stamp) {
//!         stamp(&mut frame, place.position.index, place.position.term, place.log_time, CRC);
//!         self.0.push(frame);
//!     }
//! }
//!
//! impl LogView for Log {
//!     fn term(&self, index: Index) -> Option<Term> {
//!         Some(self.frame(index)?.header().term)
//!     }
//! }
//!
//! /// What is under way: messages, each with the frames that follow it.
//! type Network = VecDeque<(Message, Vec<Vec<u8>>)>;
//!
//! /// A member, its disk, and the receipts for what it has applied.
//! struct Node {
//!     replica: Replica<Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>>,
//!     log: Log,
//!     receipts: Vec<RunReceipt>,
//! }
//!
//! impl Node {
//!     /// Does all that the replica wants done.
//!     fn drain(&mut self, now: Instant, network: &mut Network) -> Done {
//!         while let Some(output) = self.replica.poll_output(&self.log) {
//!             match output {
//!                 // A new leader begins its term with an empty entry.
//!                 Output::AppendEmpty(place) => {
//!                     let mut frame = vec![0; OVERHEAD];
//!                     seal(&mut frame, &Header::of(Kind::Empty, &[], CRC), CRC);
//!                     self.log.push(frame, place);
//!                 }
//!                 // Storage writes hard state, truncation and frames in one synced batch, and reports the token then.
//!                 Output::Persist(write) => self.replica.handle_persisted(now, write.token),
//!                 // All that a message depends on is durable already: it may leave at once. Entries follow an append.
//!                 Output::Send(message) => {
//!                     let mut frames = Vec::new();
//!                     if let Body::Append { prev, count, .. } = message.body {
//!                         frames.extend_from_slice(&self.log.0[prev.index.0 as usize..][..count as usize]);
//!                     }
//!                     network.push_back((message, frames));
//!                 }
//!                 // Committed: what the entries mean is decided now, on every member alike, and acks may leave.
//!                 Output::Apply { first, last } => {
//!                     let mut outcomes = Outcomes::new();
//!                     for index in first.0..=last.0 {
//!                         let frame = self.log.frame(Index(index)).ok_or("the log holds what it took")?;
//!                         self.replica.apply(&Entry::from(&frame), &mut outcomes)?;
//!                         self.receipts.extend_from_slice(outcomes.runs());
//!                     }
//!                 }
//!                 // Clients are told whom to ask.
//!                 Output::Leader { .. } => {}
//!                 other => unreachable!("nobody has asked for {other:?}"),
//!             }
//!         }
//!         Ok(())
//!     }
//!
//!     /// A message has come. The replica says which of the entries to keep, and they replace what the log had there.
//!     fn receive(&mut self, now: Instant, message: &Message, frames: &[Vec<u8>]) -> Done {
//!         let mut entries = Vec::new();
//!         for frame in frames {
//!             let header = *Frame::check(frame, CRC)?.header();
//!             entries.push(EntryMeta { index: header.index(), term: header.term, log_time: header.log_time() });
//!         }
//!         if let Taken::Entries { first, last } = self.replica.handle_message(now, message, &entries, &[], &self.log)? {
//!             self.log.0.truncate(first.0 as usize - 1);
//!             let taken = entries.iter().zip(frames).filter(|(entry, _)| (first..=last).contains(&entry.index));
//!             self.log.0.extend(taken.map(|(_, frame)| frame.clone()));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! /// Lets time pass from deadline to deadline, and everything happen that there is, until that has come about.
//! fn run(nodes: &mut [Node], network: &mut Network, now: &mut Instant, until: impl Fn(&Node) -> bool) -> Done {
//!     loop {
//!         nodes.iter_mut().try_for_each(|node| node.drain(*now, network))?;
//!         match network.pop_front() {
//!             Some((message, frames)) => nodes[message.to.0 as usize - 1].receive(*now, &message, &frames)?,
//!             None if nodes.iter().all(&until) => return Ok(()),
//!             None => {
//!                 *now = nodes.iter().map(|node| node.replica.next_deadline()).min().ok_or("there are nodes")?;
//!                 nodes.iter_mut().for_each(|node| node.replica.handle_timeout(*now));
//!             }
//!         }
//!     }
//! }
//!
//! # fn main() -> Done {
//! // Who takes part, what is accepted, and the memory for it.
//! let members = [1, 2, 3].map(|node| Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) });
//! let parameters = Parameters { producers: 100, topics: 10, ..Parameters::default() };
//! let (mut nodes, mut network, mut now) = (Vec::new(), Network::new(), Instant::ZERO);
//! for member in members {
//!     let options = Options {
//!         raft: RaftOptions {
//!             node: member.node,
//!             incarnation: member.incarnation,
//!             membership: Configuration::new(&members)?.into(),
//!             is_witness: false,
//!             seed: 42,
//!             faults: Faults::NONE,
//!         },
//!         parameters,
//!     };
//!     let memory = Lent {
//!         producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into_boxed_slice(),
//!         topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into_boxed_slice(),
//!     };
//!     // After a restart, the rows of the checkpoint come between `new` and `start`.
//!     let mut replica = Restoring::new(options, memory)?.start(RestoredLog::default(), now)?;
//!     members.iter().filter(|peer| **peer != member).for_each(|peer| replica.handle_connected(now, peer.node));
//!     nodes.push(Node { replica, log: Log::default(), receipts: Vec::new() });
//! }
//!
//! // One is elected; the others hear it.
//! run(&mut nodes, &mut network, &mut now, |node| node.replica.raft().leader().is_some())?;
//! let leader = nodes.iter().position(|node| node.replica.raft().role() == Role::Leader).ok_or("somebody leads")?;
//!
//! // A client sends a batch of two events, and, since it has not heard of it for a while, sends it once more.
//! for _ in 0..2 {
//!     let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
//!     for (sequence, payload) in [(0, b"21.5"), (1, b"21.6")] {
//!         let source = Source::Producer {
//!             producer: ProducerId([1; 16]),
//!             epoch: Epoch(1),
//!             sequence: Sequence(sequence),
//!             after_gap: false,
//!         };
//!         builder.push(&Event { topic: "oven/temperature", source, time_us: 0, key: b"", payload })?;
//!     }
//!     let (mut frame, len) = builder.finish(ShardId(0), 1, 0, CRC);
//!     frame.truncate(len);
//!
//!     // The leader checks it, gives it a place in the log, and keeps it there as it is.
//!     let received = Frame::check(&frame, CRC)?;
//!     let batch = Batch::check(received.payload(), received.header().event_count)?;
//!     let Node { replica, log, .. } = &mut nodes[leader];
//!     let place = replica.propose_batch(now, &batch)?;
//!     log.push(frame, place);
//! }
//! run(&mut nodes, &mut network, &mut now, |node| node.receipts.len() == 2)?;
//!
//! // Whatever the leader would have told the client, each of the others can tell it as well.
//! for node in &nodes {
//!     let [first, again] = node.receipts[..] else { unreachable!("one run each time") };
//!     assert_eq!((first.accepted, first.duplicates), (2, 0));
//!     assert_eq!((again.accepted, again.duplicates), (0, 2));
//!     assert_eq!(again.duplicate_offset, Some(first.first_offset));
//!     assert_eq!(node.replica.events(), 2);
//!     assert_eq!(node.replica.state_hash(), nodes[leader].replica.state_hash());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! When members change, the host also makes the frame that [`Output::AppendConfiguration`](replica::Output) asks for, and
//! gives [`handle_message`](replica::Replica::handle_message) the configurations among the entries.
#![no_std]

pub mod batch;
pub mod config;
pub mod crc;
pub mod dedup;
mod digest;
pub mod doorbell;
pub mod id;
pub mod ids;
pub mod metrics;
pub mod pool;
pub mod producer;
pub mod raft;
pub mod receipt;
pub mod replica;
pub mod ring;
mod sync;
mod table;
pub mod time;
pub mod wire;
