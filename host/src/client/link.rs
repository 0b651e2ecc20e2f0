//! One task for each node: keeps a connection to it, writes what the hub gives and hands what it reads to the hub.

use super::error::{LinkError, ProtocolError};
use super::transport::{Inbox, connect};
use super::{Shared, encode};
use crate::clock::Clock;
use crate::stream::Stream;
use core::future::pending;
use core::time::Duration;
use eventstream_core::id::ClusterId;
use eventstream_core::time::{self, Instant};
use eventstream_core::wire::{Control, Kind, Ping};
use std::io;
use std::sync::Arc;

/// Before the first attempt to connect again; doubles with each further one, ...
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// ... up to this.
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// A node that has said nothing for so long is asked whether it lives, ...
pub(super) const QUIET: time::Duration = time::Duration::from_secs(1);
/// ... and one that has said nothing for so long is given up.
pub(super) const DEAD: time::Duration = time::Duration::from_secs(3);

/// Serves the link with this number until the client is dropped, which ends the task.
pub(super) async fn run(shared: Arc<Shared>, number: usize) {
    let address = shared.hub().address(number).to_owned();
    let mut backoff = BACKOFF_MIN;
    loop {
        let error = match Session::open(&shared, number, &address).await {
            Ok(mut session) => {
                backoff = BACKOFF_MIN;
                session.serve().await
            }
            Err(error) => error,
        };
        shared.with_hub(|hub, now| hub.handle_disconnected(now, number, &error));
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection that a node has accepted.
struct Session<'a> {
    shared: &'a Shared,
    number: usize,
    stream: Stream,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// How much of the outbox has been written.
    written: usize,
    heard_at: Instant,
    pinged_at: Instant,
}

/// What there is to do next.
enum Next {
    Read,
    Write,
    Look,
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, number: usize, address: &str) -> Result<Self, LinkError> {
        let cluster: Option<ClusterId> = shared.hub().cluster();
        let (stream, mut inbox) = connect(address, cluster, shared.tls.as_ref()).await?;
        inbox.take_welcome(|welcome| shared.with_hub(|hub, now| hub.handle_welcome(now, number, welcome)))?;
        let now = shared.clock.now();
        Ok(Self { shared, number, stream, inbox, outbox: Vec::new(), written: 0, heard_at: now, pinged_at: now })
    }

    /// Runs until the connection fails, and says why it did.
    async fn serve(&mut self) -> LinkError {
        loop {
            if let Err(error) = self.handle_frames().and_then(|()| self.look()) {
                return error;
            }
            let result = match self.next().await {
                Next::Read => self.read(),
                Next::Write | Next::Look => Ok(()),
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    async fn next(&self) -> Next {
        let clock = &self.shared.clock;
        let quiet = self.heard_at.max(self.pinged_at) + QUIET;
        let draft = self.shared.hub().transmit_deadline(self.number).filter(|_| self.outbox.is_empty());
        let deadline = draft.map_or(quiet, |draft| draft.min(quiet)).min(self.heard_at + DEAD);
        tokio::select! {
            _ = self.stream.readable() => Next::Read,
            _ = self.stream.writable(), if !self.outbox.is_empty() || self.stream.is_holding() => Next::Write,
            () = self.shared.doors[self.number].notified() => Next::Look,
            () = sleep_until(clock, deadline) => Next::Look,
        }
    }

    /// Hands every whole frame to the hub.
    fn handle_frames(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.inbox.next_frame()? {
            let kind = frame.header().kind;
            if kind == Kind::Batch {
                return Err(ProtocolError::Unexpected.into());
            }
            let control = Control::decode(kind, frame.payload()).map_err(ProtocolError::Control)?;
            self.shared.with_hub(|hub, now| hub.handle_control(now, self.number, &control))?;
        }
        Ok(())
    }

    /// Writes what there is, asks whether the node lives if it has been quiet, and gives it up if it was for too long.
    fn look(&mut self) -> Result<(), LinkError> {
        let now = self.shared.clock.now();
        if now >= self.heard_at + DEAD {
            return Err(LinkError::Silent);
        }
        if now >= self.heard_at.max(self.pinged_at) + QUIET {
            self.pinged_at = now;
            encode(&Control::Ping(Ping { number: now.as_micros() }), &mut self.outbox);
        }
        if !self.stream.try_flush()? {
            return Ok(());
        }
        loop {
            if self.outbox.is_empty() {
                let wall_us = self.shared.clock.wall().0;
                self.shared.hub().poll_transmit(now, wall_us, self.number, WRITE_BYTES, &mut self.outbox);
            }
            if self.outbox.is_empty() {
                return Ok(());
            }
            match self.stream.try_write(&self.outbox[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.written == self.outbox.len() {
                self.outbox.clear();
                self.written = 0;
            }
        }
    }

    fn read(&mut self) -> Result<(), LinkError> {
        if self.inbox.fill_from(&mut self.stream)? {
            self.heard_at = self.shared.clock.now();
        }
        Ok(())
    }
}

/// Waits until `at`, or for ever if that never comes.
pub(super) async fn sleep_until(clock: &Clock, at: Instant) {
    match clock.deadline(at) {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
