//! A real log of this machine, or the file that was named.

use crate::Error;
use core::fmt;
use eventstream_core::config::MAX_EVENT_PAYLOAD;
use std::fs;
use std::path::{Path, PathBuf};

/// Logs that a Debian or Ubuntu machine may have, and at the end files that it does have.
const CANDIDATES: [&str; 8] = [
    "/var/log/dpkg.log",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/kern.log",
    "/var/log/alternatives.log",
    "/var/log/bootstrap.log",
    "/var/lib/dpkg/status",
    "/etc/services",
];
/// A shorter input is over before anything can happen to it: it is repeated.
const LINES_MIN: usize = 200_000;
/// No more is taken of a log that nobody has named.
const LINES_MAX: usize = 500_000;

/// The events, in order: a line each.
pub(crate) struct Input {
    path: PathBuf,
    /// Lines of the file that are used, each of them this many times.
    file_lines: usize,
    times: usize,
    skipped: usize,
    pub(crate) lines: Vec<Vec<u8>>,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines of {}", self.file_lines, self.path.display())?;
        if self.times > 1 {
            write!(f, ", {} times over: {} events", self.times, self.lines.len())?;
        }
        if self.skipped > 0 {
            write!(f, " ({} more lines are left out)", self.skipped)?;
        }
        Ok(())
    }
}

impl Input {
    /// The file that was named, or the first of this machine's logs that has something in it.
    pub(crate) fn choose(named: Option<PathBuf>) -> Result<Self, Error> {
        if let Some(path) = named {
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Self::new(path, &bytes, usize::MAX);
        }
        let readable = |path| fs::read(path).ok().filter(|bytes| !bytes.is_empty()).map(|bytes| (path, bytes));
        let found = CANDIDATES.into_iter().find_map(readable);
        let (path, bytes) = found.ok_or("this machine has no log that can be read: name one with INPUT=file")?;
        Self::new(Path::new(path).to_owned(), &bytes, LINES_MAX)
    }

    fn new(path: PathBuf, bytes: &[u8], lines_max: usize) -> Result<Self, Error> {
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let all: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        if bytes.is_empty() {
            return Err(format!("{} is empty", path.display()).into());
        }
        if let Some(at) = all.iter().position(|line| line.len() > MAX_EVENT_PAYLOAD) {
            let number = at + 1;
            return Err(format!("{}: line {number} is longer than {MAX_EVENT_PAYLOAD} bytes", path.display()).into());
        }
        let used = &all[..all.len().min(lines_max)];
        let times = LINES_MIN.div_ceil(used.len());
        let lines = (0..times).flat_map(|_| used.iter().map(|line| line.to_vec())).collect();
        Ok(Self { path, file_lines: used.len(), times, skipped: all.len() - used.len(), lines })
    }
}
