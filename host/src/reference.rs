//! What the machine itself does at this moment: the disk's sync and a round trip on loopback. A measurement is printed
//! beside the references of the same minute, so that figures of different machines and days can be told apart.

use crate::clock::Clock;
use core::net::Ipv4Addr;
use eventstream_core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// A machine is quiet when the median sync takes less than this, before and after the measurement.
pub const QUIET_SYNC: Duration = Duration::from_micros(300);
/// Bytes of an append.
pub const APPEND_BYTES: usize = 4_096;
/// Bytes of a message on loopback.
pub const MESSAGE_BYTES: usize = 64;

const APPENDS: usize = 200;
const ROUND_TRIPS: usize = 2_000;
/// Round trips before those that count: connections start slowly.
const FIRST_TRIPS: usize = 100;

/// Median and 99th percentile of one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Half of them took at most this.
    pub median: Duration,
    /// One in a hundred took longer.
    pub p99: Duration,
}

/// The references of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Appends of [`APPEND_BYTES`], each followed by fdatasync: 200 of them.
    pub sync: Spread,
    /// A message of [`MESSAGE_BYTES`] there and back over a TCP connection on 127.0.0.1, between two threads: 2,000 of
    /// them.
    pub loopback: Spread,
}

impl Reference {
    /// Measures both; the appends go to a new file in `directory`, which is removed again. Takes some tenths of a second
    /// on a machine that is quiet, and blocks.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written to, or there is no loopback.
    pub fn measure(clock: Clock, directory: &Path) -> io::Result<Self> {
        Ok(Self { sync: sync(clock, directory)?, loopback: loopback(clock)? })
    }

    /// Whether the disk was quiet.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.sync.median < QUIET_SYNC
    }
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

/// A file that goes with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever looks into the directory will see what is left.
        let _ = fs::remove_file(&self.0);
    }
}

/// Appends to a new file in `directory`, each followed by fdatasync.
///
/// # Errors
///
/// If the directory cannot be written to.
pub fn sync(clock: Clock, directory: &Path) -> io::Result<Spread> {
    let name = format!("eventstream-reference-{}-{}", std::process::id(), clock.wall().0);
    let path = directory.join(name);
    let mut file = File::create_new(&path)?;
    let _scratch = Scratch(path);
    let mut append = || -> io::Result<Duration> {
        let before = clock.now();
        file.write_all(&[7; APPEND_BYTES])?;
        file.sync_data()?;
        Ok(clock.now().saturating_since(before))
    };
    Ok(Spread::of((0..APPENDS).map(|_| append()).collect::<io::Result<_>>()?))
}

/// Sends a message over a TCP connection on 127.0.0.1 and waits until it comes back.
///
/// # Errors
///
/// If there is no loopback.
pub fn loopback(clock: Clock) -> io::Result<Spread> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut message = [0; MESSAGE_BYTES];
            // Ends with the connection.
            while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
        });
        let mut trip = || -> io::Result<Duration> {
            let mut message = [7; MESSAGE_BYTES];
            let before = clock.now();
            near.write_all(&message)?;
            near.read_exact(&mut message)?;
            Ok(clock.now().saturating_since(before))
        };
        let times = (0..FIRST_TRIPS + ROUND_TRIPS).map(|_| trip()).collect::<io::Result<Vec<_>>>();
        // The other end ends, whether all went well or not.
        near.shutdown(Shutdown::Both)?;
        Ok(Spread::of(times?.split_off(FIRST_TRIPS)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_p99_are_those_of_the_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let spread = Spread::of(times);
        assert_eq!((spread.median, spread.p99), (Duration::from_micros(101), Duration::from_micros(199)));
    }

    #[test]
    fn quiet_is_a_median_sync_under_the_limit_whatever_the_rest_is() {
        let spread = |median_us| Spread { median: Duration::from_micros(median_us), p99: Duration::from_secs(1) };
        let reference = |sync_us| Reference { sync: spread(sync_us), loopback: spread(1_000) };
        assert!(reference(299).is_quiet());
        assert!(!reference(300).is_quiet());
    }

    #[test]
    fn nothing_is_left_in_the_directory_and_no_directory_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Clock::start();
        Reference::measure(clock, directory.path()).expect("a disk and a loopback");
        assert_eq!(fs::read_dir(directory.path()).expect("still there").count(), 0);
        sync(clock, &directory.path().join("nowhere")).expect_err("no such directory");
    }
}
