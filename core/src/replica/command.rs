//! Commands: what changes replicated state without an event.

use crate::id::{LogTime, ProducerId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The payload of an entry of kind [`Kind::Command`](crate::wire::Kind::Command), as one postcard message.
///
/// Variants are append-only: their order is the format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Begins a new life of a producer in an epoch of its own, which fences the lives before it.
    OpenProducer {
        /// Which producer.
        producer: ProducerId,
    },
    /// Forgets the producers that were not heard of for long. A leader gives it to the log by itself, when their table is nearly
    /// full: see [`Replica::poll_command`](super::Replica::poll_command).
    EvictProducers {
        /// Those that were last heard of before this log time, or before the cluster's
        /// [`producer_idle_us`](crate::config::Parameters::producer_idle_us) as of the entry, whichever is earlier.
        before: LogTime,
    },
}

/// Bytes of the longest command.
pub const MAX_COMMAND_LEN: usize = 1 + 16;

impl Command {
    /// Writes the command to the front of `buffer` and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_COMMAND_LEN]) -> usize {
        postcard::to_slice(self, buffer).expect("the longest command fits").len()
    }

    /// Reads the payload of an entry.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub fn decode(payload: &[u8]) -> Result<Self, CommandError> {
        match postcard::take_from_bytes(payload) {
            Ok((command, [])) => Ok(command),
            Ok(_) => Err(CommandError::TrailingBytes),
            Err(_) => Err(CommandError::Malformed),
        }
    }
}

/// Why bytes are no command of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// They are damaged, or a newer build wrote them.
    Malformed,
    /// Something follows the command.
    TrailingBytes,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a command that this build knows",
            Self::TrailingBytes => "something follows the command",
        })
    }
}

impl core::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_number_and_its_fields() {
        let command = Command::OpenProducer { producer: ProducerId([5; 16]) };
        let mut buffer = [0xff; MAX_COMMAND_LEN];
        assert_eq!(command.encode(&mut buffer), 17);
        assert_eq!(buffer, [0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!(Command::decode(&buffer), Ok(command));

        let command = Command::EvictProducers { before: LogTime(300) };
        assert_eq!(command.encode(&mut buffer), 3);
        assert_eq!(buffer[..3], [1, 0xac, 2]);
        assert_eq!(Command::decode(&buffer[..3]), Ok(command));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(Command::decode(&[]), Err(CommandError::Malformed));
        assert_eq!(Command::decode(&[0; 16]), Err(CommandError::Malformed));
        assert_eq!(Command::decode(&[2; 17]), Err(CommandError::Malformed));
        assert_eq!(Command::decode(&[0; 18]), Err(CommandError::TrailingBytes));
    }
}
