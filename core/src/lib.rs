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
//! A host owns a [`Replica`](replica::Replica), a log of frames by index, and rows of applied state. It tells the
//! replica what happened (a message, a deadline, a finished write), then polls [`Output`](replica::Output)s until there
//! are none, and acts on them in order. Here is a cluster of one member, on a disk that is a vector:
//!
//! ```
//! use eventstream_core::batch::{BatchBuilder, Event, Source};
//! use eventstream_core::config::Parameters;
//! use eventstream_core::crc::Crc32;
//! use eventstream_core::dedup::ProducerSlot;
//! use eventstream_core::id::{Epoch, Incarnation, Index, NodeId, ProducerId, Sequence, ShardId, Term};
//! use eventstream_core::raft::{Configuration, Faults, LogView, Member, RaftOptions, Role};
//! use eventstream_core::receipt::RunReceipt;
//! use eventstream_core::replica::{
//!     Entry, Lent, Options, Outcomes, Output, Replica, RestoredLog, Restoring, TopicSlot,
//! };
//! use eventstream_core::time::Instant;
//! use eventstream_core::wire::{Batch, Frame, Header, Kind, MAX_FRAME_LEN, OVERHEAD, seal, stamp};
//!
//! const CRC: Crc32 = Crc32::portable();
//! type Host = Replica<Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>>;
//!
//! /// The log: the frame of entry `n` lies at `n - 1`.
//! #[derive(Default)]
//! struct Log(Vec<Vec<u8>>);
//!
//! impl Log {
//!     fn frame(&self, index: Index) -> Option<Frame<'_>> {
//!         let bytes = self.0.get((index.0 as usize).checked_sub(1)?)?;
//!         Frame::check(bytes, CRC).ok()
//!     }
//! }
//!
//! impl LogView for Log {
//!     fn term(&self, index: Index) -> Option<Term> {
//!         Some(self.frame(index)?.header().term)
//!     }
//! }
//!
//! /// Does all that the replica wants done, and collects the receipts.
//! fn drain(replica: &mut Host, log: &mut Log, now: Instant) -> Result<Vec<RunReceipt>, Box<dyn std::error::Error>> {
//!     let (mut outcomes, mut receipts) = (Outcomes::new(), Vec::new());
//!     while let Some(output) = replica.poll_output(log) {
//!         match output {
//!             // A new leader begins its term with an empty entry.
//!             Output::AppendEmpty(stamp) => {
//!                 let header = Header {
//!                     batch_id: stamp.position.index.0,
//!                     term: stamp.position.term,
//!                     timestamp_us: stamp.log_time.0,
//!                     ..Header::of(Kind::Empty, &[], CRC)
//!                 };
//!                 let mut frame = vec![0; OVERHEAD];
//!                 seal(&mut frame, &header, CRC);
//!                 log.0.push(frame);
//!             }
//!             Output::AppendConfiguration(_) => unreachable!("nobody has asked for other members"),
//!             // Storage writes hard state, truncation and frames in one synced batch, and reports the token after that.
//!             Output::Persist(write) => replica.handle_persisted(now, write.token),
//!             // All that a message depends on is durable already: it may leave at once.
//!             Output::Send(message) => unreachable!("nobody is there to get {message:?}"),
//!             // Committed: what the entries mean is decided now, and acks may leave.
//!             Output::Apply { first, last } => {
//!                 for index in first.0..=last.0 {
//!                     let frame = log.frame(Index(index)).ok_or("the log holds what it took")?;
//!                     replica.apply(&Entry::from(&frame), &mut outcomes)?;
//!                     receipts.extend_from_slice(outcomes.runs());
//!                 }
//!             }
//!             // Clients are told whom to ask.
//!             Output::Leader { .. } | Output::ReadIndex { .. } => {}
//!         }
//!     }
//!     Ok(receipts)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Who takes part, what is accepted, and the memory for it.
//! let member = Member { node: NodeId(1), incarnation: Incarnation([7; 16]) };
//! let parameters = Parameters { producers: 100, topics: 10, ..Parameters::default() };
//! let options = Options {
//!     raft: RaftOptions {
//!         node: member.node,
//!         incarnation: member.incarnation,
//!         membership: Configuration::new(&[member])?.into(),
//!         is_witness: false,
//!         seed: 42,
//!         faults: Faults::NONE,
//!     },
//!     parameters,
//! };
//! let memory = Lent {
//!     producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into_boxed_slice(),
//!     topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into_boxed_slice(),
//! };
//! let (mut log, mut now) = (Log::default(), Instant::ZERO);
//! // After a restart, the rows of the checkpoint come between `new` and `start`.
//! let mut replica = Restoring::new(options, memory)?.start(RestoredLog::default(), now)?;
//!
//! // Time passes. A member that is alone elects itself.
//! while replica.raft().role() != Role::Leader {
//!     now = replica.next_deadline();
//!     replica.handle_timeout(now);
//!     drain(&mut replica, &mut log, now)?;
//! }
//!
//! // A client sends a batch of two events, and, since it has not heard of it for a while, sends it once more.
//! let mut receipts = Vec::new();
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
//!     // The leader checks it, gives it a place in the log, and keeps it there as it is: only its header is stamped.
//!     let received = Frame::check(&frame, CRC)?;
//!     let batch = Batch::check(received.payload(), received.header().event_count)?;
//!     let place = replica.propose_batch(now, &batch)?;
//!     stamp(&mut frame, place.position.index, place.position.term, place.log_time, CRC);
//!     log.0.push(frame);
//!     receipts.extend(drain(&mut replica, &mut log, now)?);
//! }
//! assert_eq!((receipts[0].accepted, receipts[0].duplicates), (2, 0));
//! assert_eq!((receipts[1].accepted, receipts[1].duplicates), (0, 2));
//! assert_eq!(receipts[1].duplicate_offset, Some(receipts[0].first_offset));
//! assert_eq!(replica.events(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! With more members there is a network as well: messages go to [`handle_message`](replica::Replica::handle_message)
//! with what their entries' headers say, and the host keeps the frames that it is told were taken.
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
