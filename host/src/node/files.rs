//! The files that a node may have open, and the system's limit on them.
//!
//! Every socket is bounded, and so are the files of the store: the sum is known before the node starts. The limit of
//! the process is raised to it where the system lets it; where not, the node does not start. A store that finds no file
//! to write to would be the end of a node that runs, and a connection too many never is.

use super::layout::MAX_PEER_CONNECTIONS;
use super::listener::NEWCOMERS_FILES;
use crate::config::Config;
use crate::storage;
use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Standard streams, the runtimes' own, and what else a program opens for a moment.
const OTHERS: usize = 64;

/// More files may be needed than the system allows the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooFewFiles {
    /// What may be needed.
    pub(super) needed: u64,
    /// What is allowed.
    pub(super) allowed: u64,
}

/// Sees to it that a node with this configuration has the files that it may need.
///
/// # Errors
/// The system does not allow the process so many.
pub(super) fn reserve(config: &Config) -> Result<(), TooFewFiles> {
    let needed = needed(config.connections, config.listen.len());
    let limit = getrlimit(Resource::Nofile);
    match raised(limit, needed)? {
        Some(raised) => set(raised).map_err(|_| TooFewFiles { needed, allowed: limit.current.unwrap_or(u64::MAX) }),
        None => Ok(()),
    }
}

fn set(limit: Rlimit) -> io::Result<()> {
    setrlimit(Resource::Nofile, limit)
}

fn needed(clients: usize, listeners: usize) -> u64 {
    (clients + listeners + NEWCOMERS_FILES + MAX_PEER_CONNECTIONS + storage::MAX_FILES + OTHERS) as u64
}

/// The limit as it has to be; `None` if it is high enough as it is.
fn raised(limit: Rlimit, needed: u64) -> Result<Option<Rlimit>, TooFewFiles> {
    let suffices = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if suffices(limit.current) {
        Ok(None)
    } else if suffices(limit.maximum) {
        Ok(Some(Rlimit { current: Some(needed), ..limit }))
    } else {
        Err(TooFewFiles { needed, allowed: limit.maximum.unwrap_or(u64::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_the_customary_limit() {
        assert!(needed(256, 1) <= 1_024, "{}", needed(256, 1));
    }

    #[test]
    fn a_limit_is_raised_as_far_as_needed_and_may_be() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(900), Some(1_000)), 900), Ok(None));
        assert_eq!(raised(limit(None, None), 900), Ok(None));
        assert_eq!(raised(limit(Some(899), Some(1_000)), 900), Ok(Some(limit(Some(900), Some(1_000)))));
        assert_eq!(raised(limit(Some(899), None), 900), Ok(Some(limit(Some(900), None))));
        assert_eq!(raised(limit(Some(899), Some(899)), 900), Err(TooFewFiles { needed: 900, allowed: 899 }));
    }
}
