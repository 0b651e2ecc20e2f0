//! The thread that reads what memory no longer holds: entries for a peer that lags or for the engine after a start, and
//! the events of a topic for a subscription that catches up. Each job is bounded, and reads into blocks of a pool.

use super::event::ConnId;
use super::excerpt::Excerpt;
use super::legal::payload;
use super::memory::{Packer, Pools, SharedFrame, StaticPool, entry_blocks};
use crate::checksum::CRC;
use crate::storage::{Reader as Store, StoreError, TopicRow};
use core::ops::ControlFlow;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use eventstream_core::doorbell::Doorbell;
use eventstream_core::id::{Index, Offset, TopicId};
use eventstream_core::ring::{Consumer, Full, Producer, Ring};
use eventstream_core::wire::{Batch, BatchError, Frame, FrameError, Header};
use std::collections::VecDeque;
use std::io;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};

/// Jobs that wait, at most: one for each connection with a subscription that catches up, the rest waits in the engine.
pub(crate) const JOBS: usize = 256;
/// Places of them that subscriptions leave to the log: to peers that lag, and to the engine itself.
const JOBS_FOR_ENTRIES: usize = 32;
/// Entries that one job reads for a subscription, at most, ...
const FEED_ROWS: usize = 64;
/// ... and about how many bytes, ...
pub(crate) const PIECE_BYTES: usize = 128 << 10;
/// ... or, while memory is short, so many: a block holds them.
pub(crate) const SHORT_PIECE_BYTES: usize = 32 << 10;
/// Blocks with which a job for a subscription gets on: one to read into, and one for what is cut out of that.
const FEED_BLOCKS: usize = 2;
/// An empty pool is looked at again after this long: its blocks come back from sockets.
const POOL_RETRY: Duration = Duration::from_millis(1);

/// What to read.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Entries from first to last, both included.
    Entries {
        /// For whom.
        purpose: Purpose,
        /// The first.
        first: Index,
        /// The last.
        last: Index,
    },
    /// Events of a topic from an offset on.
    Feed {
        /// For which subscription.
        ticket: Ticket,
        /// The topic's number.
        topic: TopicId,
        /// Its name.
        name: Arc<str>,
        /// The offset.
        from: Offset,
        /// About how many bytes are enough.
        bytes: usize,
    },
}

/// Who gets entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The engine, which applies them.
    Replay,
    /// A peer. The ticket tells an answer that came too late from one that is waited for.
    Peer {
        /// The peer's place in the engine's table.
        peer: usize,
        /// The number of the request.
        ticket: u64,
    },
}

/// Which request of which subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The subscription.
    pub(crate) subscription: u32,
    /// The client's connection.
    pub(crate) conn: ConnId,
    /// The request.
    pub(crate) number: u64,
    /// The topic rows of entries up to here were visible when it was made.
    pub(crate) visible: Index,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Frames from `first` on; fewer than asked for where the log ends.
    Entries {
        /// For whom.
        purpose: Purpose,
        /// The index of the first frame.
        first: Index,
        /// The frames.
        frames: Vec<SharedFrame>,
    },
    /// Deliveries, in order; none if the rows of the index are not visible yet.
    Feed {
        /// For which subscription.
        ticket: Ticket,
        /// Where the events lie, and the frames to deliver.
        found: Vec<(TopicRow, Excerpt)>,
    },
    /// Nothing can be read any more.
    Failed(ReadError),
}

/// Why reading failed: the node stops.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Raft asked for the term of an entry, and the store failed.
    #[error("the term of an entry cannot be read: {0}")]
    Term(String),
    /// A stored entry is not what was written.
    #[error("entry {index} is damaged on disk: {error}")]
    Damaged {
        /// The entry.
        index: Index,
        /// What is wrong with its frame.
        error: FrameError,
    },
    /// The topic index points at an entry that is no batch.
    #[error("the topic index points at entry {index}, which is no batch: {error}")]
    NotABatch {
        /// The entry.
        index: Index,
        /// What is wrong with its payload.
        error: BatchError,
    },
    /// The thread that reads has panicked: a mistake in this program.
    #[error("the thread that reads has panicked")]
    Panicked,
}

/// The engine's end of the reader thread.
pub(crate) struct Reader {
    jobs: Producer<'static, Job, JOBS>,
    pieces: Consumer<'static, Piece, JOBS>,
    bell: Arc<Doorbell>,
    // Behind `jobs`: it wakes the thread when they are gone.
    sleeper: Sleeper,
    handle: Option<JoinHandle<()>>,
    /// Jobs without a piece yet: never more than there are places for pieces.
    given: usize,
}

struct Sleeper(Thread);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl Reader {
    /// Starts the thread. It rings `engine` after a piece, and calls `wake` if the engine sleeps.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        store: Store,
        pools: &Pools,
        engine: Arc<Doorbell>,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, taken) = Ring::init(Box::leak(Box::new_uninit())).split();
        let (given, pieces) = Ring::init(Box::leak(Box::new_uninit())).split();
        let bell = Arc::new(Doorbell::new());
        let mut worker = Worker {
            store,
            jobs: taken,
            pieces: given,
            bell: Arc::clone(&bell),
            entries: Packer::new(pools.reader),
            feeds: pools.feeds,
            deferred: VecDeque::new(),
        };
        let run = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| worker.run(&engine, &wake)));
            // An engine that waits for a piece would wait for ever: the ring without a producer tells it, once it looks.
            drop(worker);
            if engine.ring() {
                wake();
            }
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        };
        let handle = thread::Builder::new().name("reader".to_owned()).spawn(run)?;
        let sleeper = Sleeper(handle.thread().clone());
        Ok(Self { jobs, pieces, bell, sleeper, handle: Some(handle), given: 0 })
    }

    /// Hands over a job.
    ///
    /// # Errors
    /// As many jobs as there may be wait for their pieces; the job comes back.
    pub(crate) fn push(&mut self, job: Job) -> Result<(), Full<Job>> {
        let has_place = match job {
            Job::Entries { .. } => self.given < JOBS,
            Job::Feed { .. } => self.has_room_for_feed(),
        };
        if !has_place {
            return Err(Full(job));
        }
        self.jobs.push(job)?;
        self.given += 1;
        if self.bell.ring() {
            self.sleeper.0.unpark();
        }
        Ok(())
    }

    /// Whether [`Self::push`] takes a job that reads entries.
    pub(crate) fn has_room(&self) -> bool {
        self.given < JOBS
    }

    /// Whether [`Self::push`] takes a job for a subscription.
    pub(crate) fn has_room_for_feed(&self) -> bool {
        self.given < JOBS - JOBS_FOR_ENTRIES
    }

    /// What was read, if anything was; a thread that is gone has failed.
    pub(crate) fn poll(&mut self) -> Option<Piece> {
        let Some(piece) = self.pieces.pop() else {
            return self.pieces.is_abandoned().then_some(Piece::Failed(ReadError::Panicked));
        };
        self.given -= 1;
        Some(piece)
    }

    /// Whether there is something to [poll](Self::poll).
    pub(crate) fn has_piece(&self) -> bool {
        !self.pieces.is_empty() || self.pieces.is_abandoned()
    }

    /// Ends the thread and waits for it.
    ///
    /// # Errors
    /// It has panicked.
    pub(crate) fn stop(mut self) -> Result<(), ReadError> {
        let handle = self.handle.take();
        drop(self);
        handle.map_or(Ok(()), |handle| handle.join().map_err(|_told_by_the_panic_itself| ReadError::Panicked))
    }
}

struct Worker {
    store: Store,
    jobs: Consumer<'static, Job, JOBS>,
    /// Never full: a job gives one piece, and there are no more jobs than places.
    pieces: Producer<'static, Piece, JOBS>,
    bell: Arc<Doorbell>,
    entries: Packer,
    feeds: StaticPool,
    /// Jobs that wait for blocks: slow subscribers and slow peers hold them, and nobody else is to wait for those.
    deferred: VecDeque<Job>,
}

impl Worker {
    fn run(&mut self, engine: &Doorbell, wake: &impl Fn()) {
        while !self.jobs.is_abandoned() {
            let Some(job) = self.next_job() else {
                self.sleep();
                continue;
            };
            let Some(piece) = self.perform(job).unwrap_or_else(|error| Some(Piece::Failed(error))) else { continue };
            if self.pieces.push(piece).is_err() {
                unreachable!("there are as many places as jobs");
            }
            if engine.ring() {
                wake();
            }
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop().or_else(|| {
            let first = self.deferred.iter().position(|job| self.has_blocks(job))?;
            self.deferred.remove(first)
        })
    }

    /// Whether there are blocks for a job.
    fn has_blocks(&self, job: &Job) -> bool {
        match *job {
            Job::Entries { first, last, .. } => {
                let pool = self.entries.pool();
                pool.free() >= entry_blocks((last.0 + 1 - first.0) as usize).min(pool.capacity())
            }
            Job::Feed { .. } => self.feeds.free() >= FEED_BLOCKS.min(self.feeds.capacity()),
        }
    }

    fn sleep(&self) {
        if !self.deferred.is_empty() {
            thread::park_timeout(POOL_RETRY);
        } else if self.bell.arm_if(|| self.jobs.is_empty() && !self.jobs.is_abandoned()) {
            thread::park();
            self.bell.disarm();
        }
    }

    /// `None` if the job was deferred, or the engine is gone.
    fn perform(&mut self, job: Job) -> Result<Option<Piece>, ReadError> {
        if !self.has_blocks(&job) {
            self.deferred.push_back(job);
            return Ok(None);
        }
        match job {
            Job::Entries { purpose, first, last } => self.read_entries(purpose, first, last),
            Job::Feed { ticket, topic, ref name, from, bytes } => {
                let found = self.read_feed(topic, name, from, bytes)?;
                if found.is_none() {
                    self.deferred.push_back(job);
                }
                Ok(found.map(|found| Piece::Feed { ticket, found }))
            }
        }
    }

    fn read_entries(&mut self, purpose: Purpose, first: Index, last: Index) -> Result<Option<Piece>, ReadError> {
        let mut frames = Vec::with_capacity((last.0 + 1 - first.0) as usize);
        let (packer, jobs) = (&mut self.entries, &self.jobs);
        let mut next = first;
        while next <= last {
            let mut has_room = true;
            let found = self.store.entries(next, last, usize::MAX, |_, bytes| match packer.pack(bytes) {
                Some(frame) => {
                    frames.push(frame);
                    ControlFlow::Continue(())
                }
                None => {
                    has_room = false;
                    ControlFlow::Break(())
                }
            })?;
            next = found.next;
            if has_room {
                break;
            }
            if jobs.is_abandoned() {
                return Ok(None);
            }
            thread::park_timeout(POOL_RETRY);
        }
        for (index, frame) in (first.0..).zip(&frames) {
            check(Index(index), frame)?;
        }
        Ok(Some(Piece::Entries { purpose, first, frames }))
    }

    /// `None` while there are no blocks.
    fn read_feed(
        &self,
        topic: TopicId,
        name: &str,
        from: Offset,
        enough: usize,
    ) -> Result<Option<Vec<(TopicRow, Excerpt)>>, ReadError> {
        let mut rows = Vec::with_capacity(FEED_ROWS);
        self.store.topic_rows(topic, from, |row| {
            if row.first_offset.plus(u64::from(row.mask.count_ones())) > from {
                rows.push(row);
            }
            if rows.len() < FEED_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut found = Vec::with_capacity(rows.len());
        let (mut frames, mut excerpts) = (Packer::new(self.feeds), Packer::new(self.feeds));
        let (mut bytes, mut is_short) = (0, false);
        for row in rows {
            let mut frame = None;
            self.store.entries(row.index, row.index, usize::MAX, |_, bytes| {
                frame = frames.pack(bytes);
                ControlFlow::Break(())
            })?;
            let excerpt = match &frame {
                Some(frame) => {
                    let header = check(row.index, frame)?;
                    let batch = Batch::check(payload(frame), header.event_count);
                    let batch = batch.map_err(|error| ReadError::NotABatch { index: row.index, error })?;
                    Excerpt::of(frame, &header, &batch, name, row.mask, &mut excerpts)
                }
                None => None,
            };
            let Some(excerpt) = excerpt else {
                is_short = true;
                break;
            };
            bytes += excerpt.frame.len();
            found.push((row, excerpt));
            if bytes >= enough {
                break;
            }
        }
        Ok(if found.is_empty() && is_short { None } else { Some(found) })
    }
}

fn check(index: Index, frame: &[u8]) -> Result<Header, ReadError> {
    Frame::check(frame, CRC).map(|frame| *frame.header()).map_err(|error| ReadError::Damaged { index, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, init};
    use crate::node::memory::pool;
    use crate::storage::{self, Durability, LogStore};
    use eventstream_core::config::Parameters;
    use eventstream_core::id::NodeId;
    use eventstream_core::wire::{Kind, OVERHEAD, seal};

    /// Questions to the reader before it counts as broken.
    const QUESTIONS: usize = 20_000;

    /// The next piece, told by a letter.
    fn next(reader: &mut Reader) -> Option<char> {
        (0..QUESTIONS).find_map(|_| {
            thread::sleep(POOL_RETRY);
            reader.poll().map(|piece| match piece {
                Piece::Entries { frames, .. } if frames.len() == 2 => 'e',
                Piece::Feed { .. } => 'f',
                other => panic!("{other:?}"),
            })
        })
    }

    #[test]
    fn who_waits_for_blocks_holds_nobody_else_up() {
        let out = tempfile::tempdir().expect("a directory");
        let nodes = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
        let dir = init(out.path(), &nodes, Parameters::default()).expect("an identity").remove(0);
        let mut opened = storage::open(&dir, &Identity::load(&dir).expect("an identity")).expect("a store");
        for index in 1..=2 {
            let mut frame = [0; OVERHEAD];
            let header = Header { batch_id: index, ..Header::of(Kind::Empty, &[], CRC) };
            seal(&mut frame, &header, CRC);
            opened.store.append(Index(index), &frame).expect("an entry");
        }
        opened.store.commit(Durability::Synced).expect("a write");
        let few = || pool(2);
        let pools = Pools {
            clients: few(),
            peers: few(),
            entries: few(),
            to_clients: few(),
            to_peers: few(),
            reader: few(),
            feeds: few(),
            rows: few(),
        };
        let slow_peer = [pools.reader.take(), pools.reader.take()];
        let mut reader = Reader::start(opened.reader, &pools, Arc::default(), || {}).expect("a thread");
        let purpose = Purpose::Peer { peer: 0, ticket: 1 };
        reader.push(Job::Entries { purpose, first: Index(1), last: Index(2) }).expect("room");
        let conn = ConnId { slot: 0, generation: 1 };
        let ticket = Ticket { subscription: 0, conn, number: 1, visible: Index(0) };
        reader
            .push(Job::Feed { ticket, topic: TopicId(0), name: "t".into(), from: Offset(0), bytes: 1 })
            .expect("room");
        assert_eq!(next(&mut reader), Some('f'));
        drop(slow_peer);
        assert_eq!(next(&mut reader), Some('e'));
        reader.stop().expect("no panic");
    }
}
