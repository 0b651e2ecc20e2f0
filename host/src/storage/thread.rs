//! The thread that writes.
//!
//! It takes all that waits, up to [`GROUP_BYTES`], writes it as one atomic batch, synced if anything in it must be, and
//! reports. While a sync runs, the next group gathers in the ring: the slower the disk, the larger the groups.
//!
//! Jobs take effect in the order in which they were pushed. Entries, hard state and truncation are collected until the
//! [`Job::Sync`] that ends them, rows until the [`Job::Rows`] that is the last of its set; a batch never ends between, so
//! each such write is all or nothing.
//!
//! Once a second it looks how much of the disk is free: here, because a file system that is stuck may take its time, and
//! the engine must not wait for it.
//!
//! After a synced write, and at most once a second, it has the store save its floor: one more sync, behind the report and
//! so in nobody's way but that of a write that comes while it runs. It is done here and not by a thread of its own because
//! a truncation has to wait for it in any case, and because the disk is shared: a second sync beside the first would delay
//! that by as much.

use super::{Durability, LogStore, StoreError, unpack};
use crate::clock::Clock;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, Ordering};
use eventstream_core::doorbell::Doorbell;
use eventstream_core::id::Index;
use eventstream_core::pool::Block;
use eventstream_core::raft::{HardState, Token};
use eventstream_core::ring::{Consumer, Full, Producer, Ring};
use eventstream_core::time::{Duration, Instant};
use std::io;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};

/// Bytes after which a group takes no further write.
pub const GROUP_BYTES: usize = 1 << 20;
/// Jobs that wait, at most. Full: the engine keeps its write and goes on with it later.
pub const JOBS: usize = 1_024;
/// Reports that wait, at most. Full: the newest token stands for all before it, and is kept until there is room.
pub const REPORTS: usize = 64;
/// How long the thread sleeps before it offers a report again that found the ring full.
const REPORT_AGAIN: core::time::Duration = core::time::Duration::from_millis(1);
/// The floor is saved this often, at most.
const FLOOR_EVERY: Duration = Duration::from_secs(1);
/// It is looked at how much of the disk is free this often.
const SPACE_EVERY: Duration = Duration::from_secs(1);

/// What the storage thread is to do.
#[derive(Debug)]
pub enum Job {
    /// Write term and vote.
    HardState(HardState),
    /// Remove the entries at and after this one.
    Truncate(Index),
    /// Write this entry, behind the last one. The frame is copied and let go at once, before the sync.
    Append(Index, Block<'static>),
    /// What was pushed since the last `Sync` is one write: report the token when it is on stable storage.
    Sync(Token),
    /// Write rows of the applied state, packed by a [`RowPacker`](super::RowPacker). They are not synced, and never
    /// overtake what was pushed before them: after a crash the state is never ahead of the log.
    Rows {
        /// The rows.
        packed: Block<'static>,
        /// Whether the set is complete. Rows up to and with the last block of a set are one write: a checkpoint.
        last: bool,
    },
    /// Write what is left, make a quick next start possible, and end.
    Stop,
}

/// What the storage thread has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The writes up to this token are on stable storage.
    Persisted(Token),
    /// A write failed, or the thread panicked. It ends, [`Storage::join`] says why; nothing more may be acked.
    Failed,
    /// The thread ends because it was asked to. Everything is on stable storage; the directory is free after
    /// [`Storage::join`], when the last reader is gone too.
    Stopped,
}

/// The engine's end of the storage thread.
///
/// Dropped without [`Job::Stop`], it ends the thread after what was pushed.
pub struct Storage {
    jobs: Producer<'static, Job, JOBS>,
    reports: Consumer<'static, Report, REPORTS>,
    bell: Arc<Doorbell>,
    is_disk_low: Arc<AtomicBool>,
    // Behind `jobs`: it wakes the thread when they are gone.
    sleeper: Sleeper,
    handle: Option<JoinHandle<Result<(), StoreError>>>,
}

/// Wakes the thread, also when its engine is dropped.
struct Sleeper(Thread);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl Storage {
    /// Starts the thread. It rings `engine` after a report, and calls `wake` if the engine sleeps. Its rings (some 50 KiB)
    /// are leaked: a process starts one storage thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        store: impl LogStore,
        clock: Clock,
        engine: Arc<Doorbell>,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, taken) = Ring::init(Box::leak(Box::new_uninit())).split();
        let (owed, reports) = Ring::init(Box::leak(Box::new_uninit())).split();
        let bell = Arc::new(Doorbell::new());
        let is_disk_low = Arc::new(AtomicBool::new(store.is_disk_low()));
        let mut worker = Worker {
            store,
            jobs: taken,
            bell: Arc::clone(&bell),
            reports: owed,
            engine,
            wake,
            owed: None,
            group: Group::default(),
            clock,
            floor: Due { next: Instant::ZERO, is_pending: false },
            is_disk_low: Arc::clone(&is_disk_low),
            next_look: clock.now() + SPACE_EVERY,
        };
        let handle = thread::Builder::new().name("storage".to_owned()).spawn(move || worker.run())?;
        let sleeper = Sleeper(handle.thread().clone());
        Ok(Self { jobs, reports, bell, is_disk_low, sleeper, handle: Some(handle) })
    }

    /// Jobs that can be pushed now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.jobs.free()
    }

    /// Hands over a job; it may wait until [`Self::ring`].
    ///
    /// # Errors
    /// The ring is full; the job comes back.
    pub fn push(&mut self, job: Job) -> Result<(), Full<Job>> {
        self.jobs.push(job)
    }

    /// Wakes the thread if it sleeps. To be called once after pushing what there is.
    pub fn ring(&self) {
        if self.bell.ring() {
            self.sleeper.0.unpark();
        }
    }

    /// The next report, if there is one.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop()
    }

    /// Whether a report waits: for the engine's check after it armed its doorbell.
    #[must_use]
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Whether less than a tenth of the disk was free, a second ago at most.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        // A hint that orders nothing.
        self.is_disk_low.load(Ordering::Relaxed)
    }

    /// Waits for the thread to end, after [`Report::Failed`] or [`Report::Stopped`].
    ///
    /// # Errors
    /// What the store failed with.
    ///
    /// # Panics
    /// If the thread did.
    pub fn join(mut self) -> Result<(), StoreError> {
        let handle = self.handle.take().expect("joined once, since joining takes the value");
        drop(self);
        handle.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    }
}

/// What the pending batch holds.
#[derive(Default)]
struct Group {
    /// The last token to be reported; none if nothing in it must be synced.
    token: Option<Token>,
    /// Parts of a write whose `Sync` has not come yet.
    log_is_open: bool,
    /// Rows of a set whose last block has not come yet.
    rows_are_open: bool,
    /// Whether there is anything to write.
    is_touched: bool,
    /// Whether to end after it.
    stop: bool,
}

impl Group {
    fn is_whole(&self) -> bool {
        self.stop || !(self.log_is_open || self.rows_are_open)
    }
}

struct Worker<S, W> {
    store: S,
    jobs: Consumer<'static, Job, JOBS>,
    bell: Arc<Doorbell>,
    reports: Producer<'static, Report, REPORTS>,
    engine: Arc<Doorbell>,
    wake: W,
    /// A report that found the ring full.
    owed: Option<Report>,
    group: Group,
    clock: Clock,
    floor: Due,
    is_disk_low: Arc<AtomicBool>,
    next_look: Instant,
}

/// When the floor is saved.
struct Due {
    /// Not before.
    next: Instant,
    /// Something was synced since.
    is_pending: bool,
}

impl<S: LogStore, W: Fn()> Worker<S, W> {
    fn run(&mut self) -> Result<(), StoreError> {
        // A thread that panics says so too: an engine that waits for it would look alive and write nothing.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.work()));
        self.report(if matches!(outcome, Ok(Ok(()))) { Report::Stopped } else { Report::Failed });
        while self.owed.is_some() && !self.reports.is_abandoned() {
            thread::park_timeout(REPORT_AGAIN);
            self.offer();
        }
        outcome.unwrap_or_else(|cause| panic::resume_unwind(cause))
    }

    fn work(&mut self) -> Result<(), StoreError> {
        loop {
            // Asked before the ring is emptied: what was pushed before the end is still taken.
            let is_last = self.jobs.is_abandoned();
            self.gather()?;
            if self.group.is_whole() {
                self.commit()?;
            } else {
                // A write that is longer than the ring: its rest waits for the room that was made here.
                self.call();
            }
            if self.group.stop || (is_last && self.jobs.is_empty()) {
                return self.store.close();
            }
            self.offer();
            self.take_due()?;
            self.sleep();
        }
    }

    fn take_due(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.floor.is_pending && now >= self.floor.next {
            self.store.save_floor()?;
            self.floor = Due { next: now + FLOOR_EVERY, is_pending: false };
        }
        if now >= self.next_look {
            self.is_disk_low.store(self.store.is_disk_low(), Ordering::Relaxed);
            self.next_look = now + SPACE_EVERY;
        }
        Ok(())
    }

    /// Takes what waits, until the group is large enough and whole.
    fn gather(&mut self) -> Result<(), StoreError> {
        while let Some(job) = self.jobs.pop() {
            self.take(job)?;
            if self.group.stop || (self.group.is_whole() && self.store.pending_bytes() >= GROUP_BYTES) {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, job: Job) -> Result<(), StoreError> {
        let group = &mut self.group;
        group.is_touched = true;
        match job {
            Job::HardState(state) => {
                group.log_is_open = true;
                self.store.set_hard_state(state)
            }
            Job::Truncate(from) => {
                group.log_is_open = true;
                self.store.truncate(from)
            }
            Job::Append(index, frame) => {
                group.log_is_open = true;
                self.store.append(index, &frame)
            }
            Job::Sync(token) => {
                group.log_is_open = false;
                group.token = Some(token);
                Ok(())
            }
            Job::Rows { packed, last } => {
                group.rows_are_open = !last;
                unpack(&packed).try_for_each(|row| self.store.put_row(&row))
            }
            Job::Stop => {
                group.stop = true;
                Ok(())
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let Group { token, is_touched, stop, .. } = core::mem::take(&mut self.group);
        self.group.stop = stop;
        if !is_touched {
            return Ok(());
        }
        self.store.commit(if token.is_some() { Durability::Synced } else { Durability::Unsynced })?;
        if let Some(token) = token {
            self.floor.is_pending = true;
            self.report(Report::Persisted(token));
        }
        Ok(())
    }

    fn report(&mut self, report: Report) {
        // A newer token stands for the older, and the end for both.
        self.owed = Some(report);
        self.offer();
    }

    fn offer(&mut self) {
        if let Some(report) = self.owed
            && self.reports.push(report).is_ok()
        {
            self.owed = None;
            self.call();
        }
    }

    fn call(&self) {
        if self.engine.ring() {
            (self.wake)();
        }
    }

    fn sleep(&mut self) {
        if self.bell.arm_if(|| self.jobs.is_empty() && !self.jobs.is_abandoned()) {
            thread::park_timeout(self.patience());
            self.bell.disarm();
        }
    }

    /// How long the thread may sleep.
    fn patience(&self) -> core::time::Duration {
        if self.owed.is_some() {
            return REPORT_AGAIN;
        }
        let floor = if self.floor.is_pending { self.floor.next } else { Instant::FAR_FUTURE };
        let left = floor.min(self.next_look).saturating_since(self.clock.now());
        core::time::Duration::from_micros(left.as_micros())
    }
}
