//! The floor: what the log held at least, on stable storage, outside of the store.
//!
//! RocksDB opens without a word when the newest part of its log is gone: a file that was removed, or one that ends at the
//! boundary of a record. No checksum shows that. So `DIR/FLOOR` says how far the synced log reached: the number of the last
//! synced batch, the index of its last entry, the chained checksum there. A start that finds less has lost synced entries
//! or votes, and says so ([`OpenError::LogTailLost`](super::OpenError::LogTailLost)).
//!
//! It is saved after a synced write, at most once a second, and at the end: so what a cut takes **above** the floor, at a
//! record's boundary and within the last second of a process that was killed, does not show. After a second without
//! writes, and after an orderly end, every cut shows.
//!
//! # The file
//!
//! Two slots, 4 KiB apart; each save goes to the slot that the last one did not, and one `fdatasync` ends it. A power cut
//! during a save leaves the other slot. The file's length never changes, so that this sync has no metadata to write; a new
//! file and a rename would cost two more. The slot with the higher generation counts.
//!
//! | bytes of a slot | field |
//! |---|---|
//! | 0..4 | `ESFL` |
//! | 4 | version, 1 |
//! | 5 | 1 if the node is suspect, else 0 |
//! | 6..8 | zero |
//! | 8..16 | generation |
//! | 16..24 | number of the batch |
//! | 24..32 | index |
//! | 32..36 | chain |
//! | 36..40 | CRC-32 of bytes 0..36 |
//!
//! # The order of things
//!
//! The floor rises only after the sync of what it names has returned, and it falls before what it names is removed:
//!
//! | a truncation below the floor | a crash right after it leaves |
//! |---|---|
//! | 1. entries that are still collected are committed | the longer log, the old floor |
//! | 2. the floor falls to the entry before the cut, in both slots | the longer log, which holds the lower floor too |
//! | 3. the cut, and what replaces the entries, is one synced write | the new log, and the floor at its common part |
//! | 4. the next save raises the floor again | either of both, and the new log reaches both |
//!
//! The number of the batch never falls: a truncation is a batch of its own. Between 2 and 4 nothing can raise the floor over
//! the cut, since only the synced write of 3 moves what a save takes.
//!
//! A log whose last record is damaged is cut only after the floor says *suspect*, so that a second crash does not make the
//! node forget it. The floor says so until a synced hard state does; that one lasts until Raft clears it. What falls (the index, or the trust in the log) is written to both slots, one sync each: a slot that rots
//! later must not bring the old floor back. A floor that is gone or damaged in both slots proves nothing about the log: the
//! node starts suspect.

use super::point::Chain;
use crate::checksum::CRC;
use eventstream_core::id::Index;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NAME: &str = "FLOOR";
const MAGIC: [u8; 4] = *b"ESFL";
const VERSION: u8 = 1;
const SLOTS: u64 = 2;
/// No two slots share a page, nor a physical sector.
const SLOT_DISTANCE: u64 = 4_096;
const LEN: usize = 40;

/// A synced point of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// The number of the last synced batch.
    pub(super) number: u64,
    /// The log held an entry at this index ...
    pub(super) index: Index,
    /// ... with this chain.
    pub(super) chain: Chain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    generation: u64,
    is_suspect: bool,
    floor: Floor,
}

impl Slot {
    fn emit(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = u8::from(self.is_suspect);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.floor.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.floor.index.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.floor.chain.0.to_le_bytes());
        let checksum = CRC.of(&bytes[..36]);
        bytes[36..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if it is no slot of this version, or damaged.
    fn parse(bytes: &[u8; LEN]) -> Option<Self> {
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        if bytes[..4] != MAGIC || bytes[4] != VERSION || u32_at(36)? != CRC.of(&bytes[..36]) {
            return None;
        }
        let floor = Floor { number: u64_at(16)?, index: Index(u64_at(24)?), chain: Chain(u32_at(32)?) };
        Some(Self { generation: u64_at(8)?, is_suspect: bytes[5] != 0, floor })
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct FloorFile {
    file: File,
    /// What was saved last.
    saved: Slot,
}

impl FloorFile {
    /// Makes the file of a new store: nothing is promised yet.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Self::make(directory, Slot { generation: 1, ..Slot::default() })
    }

    /// Opens the file of a store. If there is none, or none that can be read, makes one, and the node is suspect.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let lost = Slot { generation: 1, is_suspect: true, floor: Floor::default() };
        let file = match OpenOptions::new().read(true).write(true).open(directory.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::make(directory, lost),
            Err(error) => return Err(error),
        };
        match newest(&file)? {
            Some(saved) => Ok(Self { file, saved }),
            None => Self::make(directory, lost),
        }
    }

    fn make(directory: &Path, saved: Slot) -> io::Result<Self> {
        let new = directory.join("FLOOR.new");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&new)?;
        file.write_all_at(&vec![0; (SLOTS * SLOT_DISTANCE) as usize], 0)?;
        for slot in 0..SLOTS {
            file.write_all_at(&saved.emit(), slot * SLOT_DISTANCE)?;
        }
        file.sync_all()?;
        fs::rename(&new, directory.join(NAME))?;
        File::open(directory)?.sync_all()?;
        Ok(Self { file, saved })
    }

    /// What the log held at least.
    pub(super) fn floor(&self) -> Floor {
        self.saved.floor
    }

    /// Whether the log may have lost its tail.
    pub(super) fn is_suspect(&self) -> bool {
        self.saved.is_suspect
    }

    /// Saves a floor that the log has reached, if it is another one than before: one sync.
    pub(super) fn raise(&mut self, floor: Floor) -> io::Result<()> {
        if floor == self.saved.floor { Ok(()) } else { self.save(Slot { floor, ..self.saved }) }
    }

    /// Saves a floor that the log is about to fall to: two syncs.
    pub(super) fn lower(&mut self, floor: Floor) -> io::Result<()> {
        self.save_twice(Slot { floor, ..self.saved })
    }

    /// Saves whether the log may have lost its tail: two syncs, if that is another answer than before.
    pub(super) fn set_suspect(&mut self, is_suspect: bool) -> io::Result<()> {
        if is_suspect == self.saved.is_suspect {
            return Ok(());
        }
        self.save_twice(Slot { is_suspect, ..self.saved })
    }

    fn save_twice(&mut self, slot: Slot) -> io::Result<()> {
        self.save(slot)?;
        self.save(slot)
    }

    fn save(&mut self, slot: Slot) -> io::Result<()> {
        let slot = Slot { generation: self.saved.generation + 1, ..slot };
        self.file.write_all_at(&slot.emit(), slot.generation % SLOTS * SLOT_DISTANCE)?;
        self.file.sync_data()?;
        self.saved = slot;
        Ok(())
    }
}

/// The slot that counts, if one can be read.
fn newest(file: &File) -> io::Result<Option<Slot>> {
    let mut slots = Vec::new();
    for slot in 0..SLOTS {
        let mut bytes = [0; LEN];
        match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
            Ok(()) => slots.extend(Slot::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(slots.into_iter().max_by_key(|slot| slot.generation))
}

/// Looks at the file of a store: the floor, and whether the log may have lost its tail. `None` if there is none that can be
/// read.
pub(super) fn look(directory: &Path) -> io::Result<Option<(Floor, bool)>> {
    match File::open(directory.join(NAME)) {
        Ok(file) => Ok(newest(&file)?.map(|slot| (slot.floor, slot.is_suspect))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(number: u64) -> Floor {
        Floor { number, index: Index(10 * number), chain: Chain(7 * number as u32) }
    }

    fn damage(directory: &Path, slot: u64) {
        let file = OpenOptions::new().write(true).open(directory.join(NAME)).expect("the floor");
        file.write_all_at(&[0xFF], slot * SLOT_DISTANCE + 20).expect("a write");
    }

    fn opened(directory: &Path) -> (Floor, bool) {
        let seen = look(directory).expect("a floor");
        let file = FloorFile::open(directory).expect("a floor");
        let opened = (file.floor(), file.is_suspect());
        assert_eq!(seen.unwrap_or((Floor::default(), true)), opened, "who looks sees what who opens gets");
        opened
    }

    #[test]
    fn the_last_one_saved_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = FloorFile::create(folder.path()).expect("a new floor");
        assert_eq!(opened(folder.path()), (Floor::default(), false));
        for number in 1..=5 {
            file.raise(floor(number)).expect("a save");
            assert_eq!(opened(folder.path()), (floor(number), false));
        }
        assert_eq!(file.file.metadata().expect("a file").len(), SLOTS * SLOT_DISTANCE, "its length never changes");
    }

    #[test]
    fn a_torn_save_leaves_the_one_before() {
        for last in [4, 5] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut file = FloorFile::create(folder.path()).expect("a new floor");
            (1..=last).for_each(|number| file.raise(floor(number)).expect("a save"));
            damage(folder.path(), file.saved.generation % SLOTS);
            assert_eq!(opened(folder.path()), (floor(last - 1), false));
        }
    }

    #[test]
    fn what_falls_stays_down_whichever_slot_rots() {
        for slot in 0..SLOTS {
            let folder = tempfile::tempdir().expect("a folder");
            let mut file = FloorFile::create(folder.path()).expect("a new floor");
            file.raise(floor(5)).expect("a save");
            file.lower(floor(3)).expect("a save");
            file.set_suspect(true).expect("a save");
            damage(folder.path(), slot);
            assert_eq!(opened(folder.path()), (floor(3), true));
        }
    }

    #[test]
    fn a_floor_that_is_gone_or_damaged_makes_the_node_suspect_until_it_is_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = FloorFile::create(folder.path()).expect("a new floor");
        file.raise(floor(5)).expect("a save");
        (0..SLOTS).for_each(|slot| damage(folder.path(), slot));
        assert_eq!(opened(folder.path()), (Floor::default(), true));
        assert_eq!(opened(folder.path()), (Floor::default(), true));
        fs::remove_file(folder.path().join(NAME)).expect("a file");
        assert_eq!(opened(folder.path()), (Floor::default(), true));
        let mut file = FloorFile::open(folder.path()).expect("a floor");
        file.raise(floor(6)).expect("a save");
        file.set_suspect(false).expect("a save");
        assert_eq!(opened(folder.path()), (floor(6), false));
        fs::write(folder.path().join(NAME), b"ESFL").expect("a short file");
        assert_eq!(opened(folder.path()), (Floor::default(), true));
    }
}
