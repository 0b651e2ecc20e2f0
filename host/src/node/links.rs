//! The links of this node: it dials every other node, and dials again whenever a link is lost.

use super::connection::Hub;
use super::event::{Event, Role};
use super::handshake::{self, HandshakeError};
use super::socket;
use crate::clock::Clock;
use crate::identity::{Identity, Member};
use core::time::Duration;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A node that does not answer a dial for this long is dialled again, by a new first packet.
const DIAL: Duration = Duration::from_millis(300);
/// The first pause between dials that failed, ...
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// ... doubled up to this.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// The pause after the other side refused this node for what it is.
const PAUSE_UNWANTED: Duration = Duration::from_secs(1);
/// A link that was up for less than this is not dialled again at once: the other node may have a reason to close it.
const SHORT_LIVED: eventstream_core::time::Duration = eventstream_core::time::Duration::from_millis(100);
/// A process that dies may still accept a connection and drop it, until the kernel has closed all that it had open: on
/// a busy machine, tens of milliseconds. That many such redials are made at once.
const PROMPT_REDIALS: u32 = 50;
/// The pause between them.
const PAUSE_PROMPT: Duration = Duration::from_millis(1);

/// Keeps a link to `peer` until the node is being stopped.
pub(crate) async fn keep(hub: Rc<Hub>, me: Arc<Identity>, peer: Member, clock: Clock) {
    let mut line = Line::default();
    loop {
        let dialled = tokio::select! {
            () = hub.left() => return,
            dialled = dial(&me, &peer) => dialled,
        };
        match dialled {
            Ok(stream) => {
                let up = clock.now();
                hub.serve(stream, Role::Link(peer.id)).await;
                line.lost();
                if clock.now().saturating_since(up) < SHORT_LIVED {
                    sleep(PAUSE_MIN).await;
                }
            }
            Err(failure) => {
                let Next { reset, pause } = line.failed(failure);
                if reset {
                    hub.tell(Event::Reset { peer: peer.id }).await;
                }
                sleep(pause).await;
            }
        }
    }
}

async fn dial(me: &Identity, peer: &Member) -> Result<TcpStream, DialError> {
    let connected = timeout(DIAL, TcpStream::connect(peer.address.as_str())).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(DialError::of_connect(error.kind())),
        Err(_) => return Err(DialError::Silent),
    };
    socket::prepare_peer(&stream).map_err(|_| DialError::Dropped)?;
    match timeout(DIAL, handshake::introduce(&mut stream, me, peer.id)).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(HandshakeError::Io(_))) => Err(DialError::Dropped),
        Ok(Err(_)) => Err(DialError::Unwanted),
        Err(_) => Err(DialError::Silent),
    }
}

/// Why there is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialError {
    /// Nobody listens there: the machine is up, the process is not.
    Refused,
    /// The connection was made and broke before the other node answered.
    Dropped,
    /// No answer, or no way there.
    Silent,
    /// The other side is not the node it should be, or does not want this one.
    Unwanted,
}

impl DialError {
    /// What an error of `connect` means.
    fn of_connect(error: ErrorKind) -> Self {
        match error {
            ErrorKind::ConnectionRefused => Self::Refused,
            // It was accepted and dropped before this node came to look: the listener died in between.
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Self::Dropped,
            _ => Self::Silent,
        }
    }
}

/// What is known of the line to a peer while there is no link.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The last link was lost just now, and every dial since was dropped: this many.
    lost_and_dropped: Option<u32>,
    pause: Duration,
}

/// What to do after a failed dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    /// The peer's process is gone: tell the engine.
    reset: bool,
    /// Dial again after this.
    pause: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self { lost_and_dropped: None, pause: PAUSE_MIN }
    }
}

impl Line {
    /// A link that was up is lost: dial again at once.
    fn lost(&mut self) {
        *self = Self { lost_and_dropped: Some(0), ..Self::default() };
    }

    /// A dial failed.
    fn failed(&mut self, failure: DialError) -> Next {
        match (failure, self.lost_and_dropped) {
            (DialError::Dropped, Some(dropped)) if dropped < PROMPT_REDIALS => {
                self.lost_and_dropped = Some(dropped + 1);
                return Next { reset: false, pause: PAUSE_PROMPT };
            }
            (DialError::Unwanted, _) => {
                self.lost_and_dropped = None;
                return Next { reset: false, pause: PAUSE_UNWANTED };
            }
            _ => {}
        }
        let reset = failure == DialError::Refused && self.lost_and_dropped.is_some();
        let pause = self.pause;
        *self = Self { lost_and_dropped: None, pause: (pause * 2).min(PAUSE_MAX) };
        Next { reset, pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_link_whose_redial_is_refused_is_a_reset_once() {
        let mut line = Line::default();
        line.lost();
        assert_eq!(line.failed(DialError::Refused), Next { reset: true, pause: PAUSE_MIN });
        assert_eq!(line.failed(DialError::Refused), Next { reset: false, pause: PAUSE_MIN * 2 });
    }

    #[test]
    fn a_dying_process_that_still_accepts_is_dialled_on_at_once() {
        let mut line = Line::default();
        line.lost();
        for _ in 0..PROMPT_REDIALS {
            assert_eq!(line.failed(DialError::Dropped), Next { reset: false, pause: PAUSE_PROMPT });
        }
        let mut gone = line;
        assert!(gone.failed(DialError::Refused).reset);
        assert_eq!(line.failed(DialError::Dropped), Next { reset: false, pause: PAUSE_MIN }, "it is not dying");
        assert!(!line.failed(DialError::Refused).reset);
    }

    #[test]
    fn a_connection_that_is_reset_while_it_is_made_was_dropped_and_not_silent() {
        assert_eq!(DialError::of_connect(ErrorKind::ConnectionRefused), DialError::Refused);
        assert_eq!(DialError::of_connect(ErrorKind::ConnectionReset), DialError::Dropped);
        assert_eq!(DialError::of_connect(ErrorKind::HostUnreachable), DialError::Silent);
    }

    #[test]
    fn silence_is_no_reset() {
        let mut line = Line::default();
        line.lost();
        assert!(!line.failed(DialError::Silent).reset);
        assert!(!line.failed(DialError::Refused).reset, "the refusal was not immediate");
    }

    #[test]
    fn a_node_that_was_never_there_is_no_reset_and_is_dialled_ever_slower() {
        let mut line = Line::default();
        let pauses: Vec<u128> = (0..6).map(|_| line.failed(DialError::Refused).pause.as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 200, 200]);
        assert!(!line.failed(DialError::Refused).reset);
    }
}
