//! The bytes of one file.

use crate::Loss;
use fastrand::Rng;
use std::collections::VecDeque;

/// Disks write a sector of this many bytes whole or not at all.
const SECTOR: usize = 512;

/// What a file holds now, what of it the disk holds, and what happened between the two.
#[derive(Debug, Default)]
pub(crate) struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: VecDeque<Change>,
    /// Changes that are durable or lost. With those that are neither it is the number of all.
    settled: u64,
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => overlay(file, *at, bytes),
            Self::Length(len) => file.resize(*len, 0),
        }
    }

    fn written(&self) -> usize {
        if let Self::Write { bytes, .. } = self { bytes.len() } else { 0 }
    }
}

impl Content {
    pub(crate) fn now(&self) -> &[u8] {
        &self.now
    }

    pub(crate) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.change(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn resize(&mut self, len: usize) {
        self.change(Change::Length(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push_back(change);
    }

    /// How often it was changed so far: what a sync that begins now has to cover.
    pub(crate) fn changes(&self) -> u64 {
        self.settled + self.unsynced.len() as u64
    }

    /// Makes the first `changes` durable.
    pub(crate) fn sync(&mut self, changes: u64) {
        while self.settled < changes
            && let Some(change) = self.unsynced.pop_front()
        {
            change.apply(&mut self.durable);
            self.settled += 1;
        }
    }

    /// The power fails. Returns how many bytes were written and lost.
    pub(crate) fn lose(&mut self, loss: Loss, rng: &mut Rng) -> usize {
        self.settled = self.changes();
        let changes: Vec<Change> = self.unsynced.drain(..).collect();
        let written: usize = changes.iter().map(Change::written).sum();
        let kept = match loss {
            Loss::Everything => 0,
            Loss::Torn => keep_start(&mut self.durable, &changes, rng),
            Loss::Scattered { sector } => keep_some(&mut self.durable, &changes, sector, rng),
        };
        self.now.clone_from(&self.durable);
        written - kept
    }
}

/// A random number of changes from the start, and of the next one a random number of sectors from its start.
fn keep_start(file: &mut Vec<u8>, changes: &[Change], rng: &mut Rng) -> usize {
    let (whole, rest) = changes.split_at(rng.usize(..=changes.len()));
    whole.iter().for_each(|change| change.apply(file));
    let mut kept = whole.iter().map(Change::written).sum();
    if let Some(Change::Write { at, bytes }) = rest.first() {
        let end = at + rng.usize(..=bytes.len());
        let torn = (end - end % SECTOR).saturating_sub(*at);
        if torn > 0 {
            overlay(file, *at, &bytes[..torn]);
        }
        kept += torn;
    }
    kept
}

/// Any sectors of any changes, and the length as some change has left it: a file may have grown and hold zeros where its
/// data did not get to the disk.
fn keep_some(file: &mut Vec<u8>, changes: &[Change], sector: usize, rng: &mut Rng) -> usize {
    let lengths_kept = rng.usize(..=changes.len());
    let share = *rng.choice(&[0.1, 0.5, 0.9]).expect("three");
    let (mut len, mut kept) = (file.len(), 0);
    for (number, change) in changes.iter().enumerate() {
        let length_is_kept = number < lengths_kept;
        match change {
            Change::Write { at, bytes } => {
                for (from, to) in sectors(*at, bytes.len(), sector).filter(|_| rng.f64() < share) {
                    overlay(file, from, &bytes[from - at..to - at]);
                    kept += to - from;
                }
                len = if length_is_kept { len.max(at + bytes.len()) } else { len };
            }
            Change::Length(new) if length_is_kept => {
                file.resize(*new, 0);
                len = *new;
            }
            Change::Length(_) => {}
        }
    }
    file.resize(len, 0);
    kept
}

/// The parts of `at..at + len` that lie in one sector each.
fn sectors(at: usize, len: usize, sector: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = at + len;
    let next = move |from: usize| (from - from % sector + sector).min(end);
    core::iter::successors((len > 0).then(|| (at, next(at))), move |&(_, to)| (to < end).then(|| (to, next(to))))
}

fn overlay(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 bytes that are synced, 10,000 that are not.
    fn half_synced() -> Content {
        let mut file = Content::default();
        file.write(0, &[1; 1_000]);
        file.sync(file.changes());
        for part in 0..10 {
            file.write(1_000 + part * 1_000, &[2; 1_000]);
        }
        file
    }

    #[test]
    fn everything_that_was_not_synced_disappears() {
        let mut file = half_synced();
        file.resize(500);
        assert_eq!(file.lose(Loss::Everything, &mut Rng::with_seed(1)), 10_000);
        assert_eq!(file.now(), [1; 1_000]);
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut file = half_synced();
        let begun = file.changes();
        file.write(11_000, &[3; 1_000]);
        file.sync(begun);
        file.lose(Loss::Everything, &mut Rng::with_seed(1));
        assert_eq!(file.now().len(), 11_000);
    }

    #[test]
    fn a_torn_tail_ends_at_a_sector_or_a_write_and_has_no_holes() {
        let mut lengths = Vec::new();
        for seed in 0..200 {
            let mut file = half_synced();
            file.lose(Loss::Torn, &mut Rng::with_seed(seed));
            let len = file.now().len();
            assert!(len.is_multiple_of(SECTOR) || len.is_multiple_of(1_000), "{len}");
            assert!(file.now()[..1_000].iter().all(|&byte| byte == 1) && file.now()[1_000..].iter().all(|&b| b == 2));
            lengths.push(len);
        }
        assert!(
            lengths.contains(&1_000)
                && lengths.contains(&11_000)
                && lengths.iter().any(|len| len.is_multiple_of(SECTOR))
        );
    }

    #[test]
    fn scattered_losses_leave_holes_in_what_was_not_synced_only() {
        let (mut holes, mut shorter) = (0, 0);
        for seed in 0..200 {
            let mut file = half_synced();
            file.lose(Loss::Scattered { sector: SECTOR }, &mut Rng::with_seed(seed));
            assert!(file.now()[..1_000].iter().all(|&byte| byte == 1));
            holes += usize::from(file.now()[1_000..].contains(&0));
            shorter += usize::from(file.now().len() < 11_000);
            assert_eq!(file.now(), file.durable());
        }
        assert!(holes > 100 && shorter > 100, "{holes} {shorter}");
    }

    #[test]
    fn sectors_are_those_of_the_disk() {
        let parts = |at, len| sectors(at, len, 512).collect::<Vec<_>>();
        assert_eq!(parts(500, 600), [(500, 512), (512, 1_024), (1_024, 1_100)]);
        assert_eq!(parts(512, 512), [(512, 1_024)]);
        assert_eq!(parts(7, 0), []);
    }
}
