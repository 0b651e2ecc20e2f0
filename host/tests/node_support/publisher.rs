//! Somebody who publishes while others misbehave.

use super::{Client, payloads};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use eventstream_core::id::Offset;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Acknowledgements that have to come while something is refused.
const ACKS: u64 = 20;

/// Publishes all the time, a batch after the other, each of which has to be accepted.
pub struct Publisher {
    acks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Over a connection to the leader, with a pause after each batch.
    pub fn start(mut client: Client, pause: Duration) -> Self {
        client.open_producer(100);
        let (acks, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&acks), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut offset = 0;
            while !stopped.load(Relaxed) {
                client.publish("good", &payloads("good", 3));
                let runs = client.receipt().2;
                assert_eq!((runs[0].accepted, runs[0].first_offset), (3, Offset(offset)), "{:?}", runs[0]);
                offset += 3;
                counted.fetch_add(1, Relaxed);
                thread::sleep(pause);
            }
        });
        Self { acks, stop, thread: Some(thread) }
    }

    /// Waits for acknowledgements of what is published from now on.
    pub fn goes_on(&self) {
        // One of them may have been under way.
        let enough = self.acks.load(Relaxed) + ACKS + 1;
        while self.acks.load(Relaxed) < enough {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "the publisher has failed");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().expect("every event of the publisher was acknowledged");
        }
    }
}
