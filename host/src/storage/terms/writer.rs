//! The thread that writes what a witness keeps: the newest that it was given, which stands for all before, and one sync.

use super::{Terms, TermsFile};
use crate::storage::StoreError;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use eventstream_core::doorbell::Doorbell;
use eventstream_core::raft::Token;
use std::io;
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// What the thread has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsReport {
    /// The writes up to this token are on stable storage.
    Persisted(Token),
    /// The thread has ended: it was asked to, or a write failed. [`TermsWriter::join`] tells.
    Ended,
}

/// The engine's end of the thread. Dropped, it ends the thread after what was given.
#[derive(Debug)]
pub struct TermsWriter {
    shared: Arc<Shared>,
    /// The last token that was reported.
    reported: u64,
    handle: Option<JoinHandle<Result<(), StoreError>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What is to be written next.
    waiting: Mutex<Option<(Token, Terms)>>,
    /// Nothing more comes. Set (release) by the engine behind the last that waits, read (acquire) before that is looked for.
    is_stopped: AtomicBool,
    /// The last token whose write is on stable storage. Set (release) after the sync, read (acquire) by the engine.
    persisted: AtomicU64,
    /// Set (release) as the thread's last act, read (acquire) by the engine.
    has_ended: AtomicBool,
}

impl Shared {
    fn swap(&self, job: Option<(Token, Terms)>) -> Option<(Token, Terms)> {
        core::mem::replace(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner), job)
    }
}

impl TermsWriter {
    /// Starts the thread. It rings `engine` after a report, and calls `wake` if the engine sleeps.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(mut file: TermsFile, engine: Arc<Doorbell>, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let call = move || {
            if engine.ring() {
                wake();
            }
        };
        let run = move || {
            // A thread that panics says so too: an engine that waits for it would look alive and write nothing.
            let _end = End { shared: &own, call: &call };
            write_all(&mut file, &own, &call)
        };
        let handle = thread::Builder::new().name("storage".to_owned()).spawn(run)?;
        Ok(Self { shared, reported: 0, handle: Some(handle) })
    }

    /// Hands over what is to be on stable storage when `token` is reported. It replaces what waits.
    pub fn write(&mut self, token: Token, terms: Terms) {
        self.shared.swap(Some((token, terms)));
        self.wake();
    }

    /// The next report, if there is one.
    pub fn poll(&mut self) -> Option<TermsReport> {
        // Read first: what was persisted before the end is reported before it.
        let has_ended = self.shared.has_ended.load(Ordering::Acquire);
        let persisted = self.shared.persisted.load(Ordering::Acquire);
        if persisted > self.reported {
            self.reported = persisted;
            return Some(TermsReport::Persisted(Token(persisted)));
        }
        has_ended.then_some(TermsReport::Ended)
    }

    /// Whether a report waits: for the engine's check after it armed its doorbell.
    #[must_use]
    pub fn has_report(&self) -> bool {
        self.shared.has_ended.load(Ordering::Acquire) || self.shared.persisted.load(Ordering::Acquire) > self.reported
    }

    /// Asks the thread to write what waits and to end.
    pub fn stop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// What the write failed with.
    ///
    /// # Panics
    /// If the thread did.
    pub fn join(mut self) -> Result<(), StoreError> {
        self.stop();
        let handle = self.handle.take().expect("joined once, since joining takes the value");
        handle.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    }

    fn wake(&self) {
        if let Some(handle) = &self.handle {
            handle.thread().unpark();
        }
    }
}

impl Drop for TermsWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_all(file: &mut TermsFile, shared: &Shared, call: impl Fn()) -> Result<(), StoreError> {
    loop {
        let is_stopped = shared.is_stopped.load(Ordering::Acquire);
        match shared.swap(None) {
            Some((token, terms)) => {
                file.write(&terms)?;
                shared.persisted.store(token.0, Ordering::Release);
                call();
            }
            None if is_stopped => return Ok(()),
            None => thread::park(),
        }
    }
}

/// Tells the engine that the thread is gone, however it went.
struct End<'a, C: Fn()> {
    shared: &'a Shared,
    call: &'a C,
}

impl<C: Fn()> Drop for End<'_, C> {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
        (self.call)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn the_first_write_that_fails_is_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("terms");
        fs::write(&path, "").expect("a file");
        let open = || File::open(&path).expect("to be read only, so that every write fails");
        let file = TermsFile { file: open(), generation: 1, _lock: open() };
        let mut writer = TermsWriter::start(file, Arc::default(), || {}).expect("a thread");
        writer.write(Token(1), Terms::default());
        while !writer.has_report() {
            thread::yield_now();
        }
        writer.write(Token(2), Terms::default());
        assert_eq!(writer.poll(), Some(TermsReport::Ended), "nothing was persisted");
        assert!(matches!(writer.join(), Err(StoreError::Terms(_))));
    }
}
