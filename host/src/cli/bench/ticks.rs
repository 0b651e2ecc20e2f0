//! Ticks closer together than a millisecond, which is the grain of tokio's timers.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::thread;
use tokio::sync::Notify;

/// A thread that does nothing but sleep and tell; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ticks(Arc<Notify>);

impl Ticks {
    /// A tick about every `interval`, never sooner.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had.
    pub(super) fn every(interval: Duration) -> io::Result<Self> {
        let tick = Arc::new(Notify::new());
        let told = Arc::downgrade(&tick);
        thread::Builder::new().name("ticks".into()).spawn(move || {
            while let Some(tick) = told.upgrade() {
                tick.notify_one();
                drop(tick);
                thread::sleep(interval);
            }
        })?;
        Ok(Self(tick))
    }

    /// Waits for the next tick. Those that were missed are one.
    pub(super) async fn next(&self) {
        self.0.notified().await;
    }
}
