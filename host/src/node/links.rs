//! The links of this node: it dials every other node, and dials again whenever a link is lost.

use super::connection::Hub;
use super::event::{Event, Role};
use super::handshake::{self, HandshakeError};
use super::socket;
use crate::clock::Clock;
use crate::identity::{Identity, Member};
use crate::stream::Stream;
use crate::tls::NodeTls;
use core::time::Duration;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

/// A node that does not answer a dial for this long is dialled again, by a new first packet.
const DIAL_MAX: Duration = Duration::from_millis(300);
/// The same for the first dial after a link was lost; doubled after every dial without an answer, up to [`DIAL_MAX`].
/// Linux drops a first packet without a word that comes while a dying process's listener is being closed, and would repeat
/// it a second later: rare, but this is the very moment at which we dial.
const DIAL_MIN: Duration = Duration::from_millis(10);
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
pub(crate) async fn keep(hub: Rc<Hub>, me: Arc<Identity>, tls: Option<NodeTls>, peer: Member, clock: Clock) {
    let mut line = Line::default();
    loop {
        let dialled = tokio::select! {
            () = hub.left() => return,
            dialled = dial(&me, tls.as_ref(), &peer, line.patience) => dialled,
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

/// Connects, shakes hands if the node speaks TLS, and introduces this node; each of these may take as long as `patience`.
async fn dial(me: &Identity, tls: Option<&NodeTls>, peer: &Member, patience: Duration) -> Result<Stream, DialError> {
    let connected = timeout(patience, TcpStream::connect(peer.address.as_str())).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => Stream::plain(stream),
        Ok(Err(error)) => return Err(DialError::of_connect(error.kind())),
        Err(_) => return Err(DialError::Silent),
    };
    socket::prepare_peer(stream.socket()).map_err(|_| DialError::Dropped)?;
    if let Some(tls) = tls {
        answered(timeout(patience, async { Ok(stream.secure(tls.dial(peer.id)).await?) }).await)?;
    }
    answered(timeout(patience, handshake::introduce(&mut stream, me, peer.id)).await)?;
    Ok(stream)
}

fn answered(answer: Result<Result<(), HandshakeError>, Elapsed>) -> Result<(), DialError> {
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(HandshakeError::Io(_) | HandshakeError::CutOff(_))) => Err(DialError::Dropped),
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
    /// A link was lost, and no dial since has told why.
    is_unexplained: bool,
    /// Dials since then that were dropped or had no answer.
    unanswered: u32,
    /// How long the next dial waits for an answer.
    patience: Duration,
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
        Self { is_unexplained: false, unanswered: 0, patience: DIAL_MAX, pause: PAUSE_MIN }
    }
}

impl Line {
    /// A link that was up is lost: dial again at once.
    fn lost(&mut self) {
        *self = Self { is_unexplained: true, patience: DIAL_MIN, ..Self::default() };
    }

    /// A dial failed. The first refusal after a lost link is the proof that the process is gone, however many dials were
    /// dropped or not answered before it: a process that nobody can connect to has not begun to lead since.
    fn failed(&mut self, failure: DialError) -> Next {
        match failure {
            DialError::Unwanted => {
                *self = Self::default();
                return Next { reset: false, pause: PAUSE_UNWANTED };
            }
            DialError::Refused => {
                let reset = core::mem::take(&mut self.is_unexplained);
                return Next { reset, pause: self.next_pause() };
            }
            DialError::Silent => self.patience = (self.patience * 2).min(DIAL_MAX),
            DialError::Dropped => {}
        }
        self.unanswered += 1;
        let is_prompt = self.is_unexplained && self.unanswered <= PROMPT_REDIALS;
        Next { reset: false, pause: if is_prompt { PAUSE_PROMPT } else { self.next_pause() } }
    }

    fn next_pause(&mut self) -> Duration {
        let next = (self.pause * 2).min(PAUSE_MAX);
        core::mem::replace(&mut self.pause, next)
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
        assert_eq!(line.failed(DialError::Dropped), Next { reset: false, pause: PAUSE_MIN }, "dies slowly, if at all");
        assert!(line.failed(DialError::Refused).reset);
    }

    #[test]
    fn a_connection_that_is_reset_while_it_is_made_was_dropped_and_not_silent() {
        assert_eq!(DialError::of_connect(ErrorKind::ConnectionRefused), DialError::Refused);
        assert_eq!(DialError::of_connect(ErrorKind::ConnectionReset), DialError::Dropped);
        assert_eq!(DialError::of_connect(ErrorKind::HostUnreachable), DialError::Silent);
    }

    #[test]
    fn silence_is_no_reset_and_hides_none() {
        let mut line = Line::default();
        line.lost();
        assert_eq!(line.patience, DIAL_MIN);
        assert_eq!(line.failed(DialError::Silent), Next { reset: false, pause: PAUSE_PROMPT }, "a lost packet");
        assert_eq!(line.patience, DIAL_MIN * 2);
        assert!(line.failed(DialError::Refused).reset, "it is gone all the same");
    }

    #[test]
    fn a_node_that_stays_silent_is_dialled_ever_more_patiently() {
        let mut line = Line::default();
        line.lost();
        let patience: Vec<u128> = (0..7)
            .map(|_| {
                line.failed(DialError::Silent);
                line.patience.as_millis()
            })
            .collect();
        assert_eq!(patience, [20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_node_that_was_never_there_is_no_reset_and_is_dialled_ever_slower() {
        let mut line = Line::default();
        let pauses: Vec<u128> = (0..6).map(|_| line.failed(DialError::Refused).pause.as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 200, 200]);
        assert!(!line.failed(DialError::Refused).reset);
    }
}
