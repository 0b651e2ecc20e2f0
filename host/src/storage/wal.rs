//! RocksDB's write-ahead log, read before RocksDB does, to tell what a damage in it means.
//!
//! RocksDB cannot tell: it refuses what an ordinary power cut leaves behind (a page of the last write that is zero), and
//! passes over other damage in silence (a zeroed header takes the rest of its block along; a length that was flipped
//! upwards near the end takes all that follows). So this page reads every record, and RocksDB gets only what is whole.
//!
//! # What there is to read
//!
//! `NNNNNN.log`, in the order of their numbers, are one stream of **records**, one for each write. A file is blocks of
//! 32 KiB; a record is one fragment or several, none across a block's end: masked CRC-32C (4 bytes, over type and content),
//! length (2), type (1), content. Types: 1 whole, 2 first, 3 middle, 4 last, 130 what RocksDB notes of the file before.
//! (RocksDB's `db/log_format.h`; we use neither recycled files nor compression, so nothing else is legal.)
//!
//! Each of our records ends with a [`Tally`]: how many synced batches there were when it was written. With it, a record
//! behind a damage tells whether a sync had returned for what is damaged.
//!
//! # What a damage means
//!
//! | | means | |
//! |---|---|---|
//! | the file ends within its last record | that sync never returned: nobody was told of it | [`Condition::Torn`]: cut, and on |
//! | damage, and a record behind it tells of a synced batch that is not before it; or the floor does | synced data is lost | [`Condition::Damaged`]: refused |
//! | any other damage | the write that the power cut interrupted, or acknowledged data: it looks the same | [`Condition::Doubtful`]: cut, and the node is suspect |
//!
//! Records behind the damage are cut off with it: they are rows of the applied state, which are never synced by
//! themselves, or the one batch whose sync was under way. Nothing of the cut is kept aside. If any of it was acknowledged,
//! the other nodes have it, and that is what a suspect node waits for.
//!
//! **Not seen here**: a file that ends at a record's boundary, or is missing. The floor sees that, but for the last second.

use crc::{CRC_32_ISCSI, Crc, Table};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// What RocksDB adds to a checksum, so that a checksum over bytes with a checksum in them stays good.
const MASK: u32 = 0xA282_EAD8;
const CRC_32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// A record's sequence number and count of keys, both RocksDB's, stand before all else.
const HEAD: usize = 12;
/// Two records are this many keys apart at most. A bound for what is taken for a record where no length can be trusted.
const MAX_KEYS_APART: u64 = 1 << 24;

/// What each record says of the batches around it, at its end: RocksDB stores it in its log and nowhere else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Synced batches when the record was written: their syncs had returned.
    pub(super) synced: u64,
    /// The number of the last batch up to and with this record: one more than `synced` where it brings a batch.
    pub(super) number: u64,
}

impl Tally {
    const LEN: usize = 16;
    /// In RocksDB's record: a tag, the length, the bytes.
    const SUFFIX: usize = 2 + Self::LEN;
    const TAG: u8 = 3;

    pub(super) fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.synced.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// From the end of a record.
    fn parse(record: &[u8]) -> Option<Self> {
        let [Self::TAG, len, bytes @ ..] = record.last_chunk::<{ Self::SUFFIX }>()? else { return None };
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        (usize::from(*len) == Self::LEN).then_some(Self { synced: u64_at(0)?, number: u64_at(8)? })
    }
}

/// What the log looks like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every record is whole.
    Whole,
    /// The last record was not written to its end.
    Torn(Cut),
    /// What was written last is damaged, and may have been synced.
    Doubtful(Cut),
    /// What was synced is damaged.
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
    },
}

/// The end of the log that is to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The file in which it begins ...
    file: PathBuf,
    /// ... and where.
    offset: u64,
    /// Later files, which go with it.
    later: Vec<PathBuf>,
}

impl Cut {
    /// Cuts, durably. After a crash on the way the same damage is found again: what is behind it goes first.
    pub(super) fn perform(&self) -> io::Result<()> {
        for later in self.later.iter().rev() {
            fs::remove_file(later)?;
            sync_directory_of(later)?;
        }
        let file = OpenOptions::new().write(true).open(&self.file)?;
        file.set_len(self.offset)?;
        file.sync_all()
    }
}

fn sync_directory_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Reads the whole log in `data`. Batches up to number `floor` are known to have been synced.
///
/// # Errors
/// A file cannot be read.
pub(super) fn inspect(data: &Path, floor: u64) -> io::Result<Condition> {
    let files = files(data)?;
    let mut survey = Survey::default();
    for (position, file) in files.iter().enumerate() {
        survey.file = position;
        survey.read(&mut File::open(file)?)?;
    }
    let Some(damage) = survey.damage else { return Ok(Condition::Whole) };
    let file = files[damage.file].clone();
    if survey.was_synced(floor) {
        return Ok(Condition::Damaged { file, offset: damage.offset });
    }
    let cut = Cut { file, offset: damage.offset, later: files[damage.file + 1..].to_vec() };
    Ok(if damage.is_torn && !survey.goes_on { Condition::Torn(cut) } else { Condition::Doubtful(cut) })
}

/// The files of the log, oldest first.
fn files(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for file in fs::read_dir(data)? {
        let path = file?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Middle,
    Last,
    /// RocksDB's own note, no record of ours.
    Note,
}

impl Part {
    fn of(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Whole),
            2 => Some(Self::First),
            3 => Some(Self::Middle),
            4 => Some(Self::Last),
            130 => Some(Self::Note),
            _ => None,
        }
    }

    fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }

    fn ends(self) -> bool {
        matches!(self, Self::Whole | Self::Last)
    }
}

/// The header of a fragment; nothing in it need be true.
struct Claim {
    part: Part,
    checksum: u32,
    end: usize,
}

impl Claim {
    fn at(block: &[u8], at: usize) -> Option<Self> {
        let header: &[u8; HEADER] = block.get(at..)?.first_chunk()?;
        let [c0, c1, c2, c3, low, high, kind] = *header;
        let end = at + HEADER + usize::from(u16::from_le_bytes([low, high]));
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        Some(Self { part: Part::of(kind)?, checksum, end })
    }

    /// Whether the checksum is that of type and content, if that ends where it is said to.
    fn holds(&self, block: &[u8], at: usize) -> bool {
        block.get(at + HEADER - 1..self.end).is_some_and(|covered| masked(CRC_32C.checksum(covered)) == self.checksum)
    }

    /// Whether it holds with another end: then it is the length that is wrong.
    fn holds_with_another_end(&self, block: &[u8], at: usize) -> bool {
        let mut digest = CRC_32C.digest();
        block[at + HEADER - 1..].iter().any(|&byte| {
            digest.update(&[byte]);
            masked(digest.clone().finalize()) == self.checksum
        })
    }
}

fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(MASK)
}

/// A fragment whose checksum is right.
struct Fragment<'a> {
    part: Part,
    content: &'a [u8],
    end: usize,
}

fn fragment(block: &[u8], at: usize) -> Option<Fragment<'_>> {
    let claim = Claim::at(block, at)?;
    let content = block.get(at + HEADER..claim.end)?;
    claim.holds(block, at).then_some(Fragment { part: claim.part, content, end: claim.end })
}

/// A record that has begun.
struct Open {
    offset: u64,
    /// Its first bytes, up to [`HEAD`].
    head: Vec<u8>,
    /// Its last bytes, up to [`Tally::SUFFIX`].
    tail: Vec<u8>,
}

impl Open {
    fn at(offset: u64) -> Self {
        Self { offset, head: Vec::with_capacity(HEAD), tail: Vec::with_capacity(2 * Tally::SUFFIX) }
    }

    fn extend(&mut self, content: &[u8]) {
        let missing = HEAD - self.head.len();
        self.head.extend_from_slice(&content[..missing.min(content.len())]);
        self.tail.extend_from_slice(&content[content.len().saturating_sub(Tally::SUFFIX)..]);
        self.tail.drain(..self.tail.len().saturating_sub(Tally::SUFFIX));
    }
}

/// The sequence number that the record behind this one has.
fn next_sequence(head: &[u8]) -> Option<u64> {
    let (sequence, count) = head.split_first_chunk()?;
    let count = u32::from_le_bytes(*count.first_chunk()?);
    Some(u64::from_le_bytes(*sequence).saturating_add(u64::from(count)))
}

#[derive(Clone, Copy, Debug)]
struct Damage {
    file: usize,
    /// Where the record begins.
    offset: u64,
    /// The file ends within it.
    is_torn: bool,
}

/// What was read so far.
#[derive(Default)]
struct Survey {
    file: usize,
    /// What the last whole record before the damage says.
    before: Option<Tally>,
    /// The sequence number that a record behind it has at least.
    sequence: Option<u64>,
    /// The first one.
    damage: Option<Damage>,
    /// Something follows the damage.
    goes_on: bool,
    /// Behind the damage: the most batches that were synced when a record was written, ...
    synced: u64,
    /// ... and the first batch.
    first_behind: Option<u64>,
}

impl Survey {
    /// Whether what is damaged was synced for sure.
    fn was_synced(&self, floor: u64) -> bool {
        let synced = self.synced.max(floor);
        let is_missing = self.before.is_some_and(|before| before.number < synced);
        // What is behind the damage was synced, and so was all before that.
        is_missing || self.first_behind.is_some_and(|first| first <= synced)
    }

    fn read(&mut self, file: &mut impl Read) -> io::Result<()> {
        let mut memory = vec![0; BLOCK];
        let mut base = 0;
        let mut open = None;
        loop {
            let len = fill(file, &mut memory)?;
            let rest = self.read_block(&memory[..len], base, &mut open);
            if len < BLOCK {
                // An end between two records is no damage.
                if let Some(offset) = open.map(|open: Open| open.offset).or(rest) {
                    self.damaged(offset, true);
                }
                return Ok(());
            }
            base += BLOCK as u64;
        }
    }

    /// Gives where the bytes begin that are too few for a header, if there are any.
    fn read_block(&mut self, block: &[u8], base: u64, open: &mut Option<Open>) -> Option<u64> {
        let mut at = 0;
        while block.len() - at >= HEADER {
            let offset = base + at as u64;
            if let Some(fragment) = fragment(block, at) {
                self.take(&fragment, offset, open);
                at = fragment.end;
            } else {
                let behind = self.search(block, at + 1);
                let is_torn = behind.is_none() && is_torn(block, at, open.is_some());
                self.damaged(open.take().map_or(offset, |open| open.offset), is_torn);
                at = behind.unwrap_or(block.len());
            }
        }
        (at < block.len()).then_some(base + at as u64)
    }

    fn take(&mut self, fragment: &Fragment<'_>, offset: u64, open: &mut Option<Open>) {
        if fragment.part == Part::Note {
            return;
        }
        if fragment.part.begins() {
            if let Some(unended) = open.replace(Open::at(offset)) {
                self.damaged(unended.offset, false);
            }
        } else if open.is_none() {
            self.damaged(offset, false);
        }
        let Some(record) = open else { return };
        record.extend(fragment.content);
        if fragment.part.ends()
            && let Some(record) = open.take()
        {
            self.whole(&record);
        }
    }

    fn whole(&mut self, record: &Open) {
        let tally = Tally::parse(&record.tail);
        if self.damage.is_none() {
            self.before = tally.or(self.before);
            self.sequence = next_sequence(&record.head);
            return;
        }
        self.goes_on = true;
        if let Some(Tally { synced, number }) = tally {
            self.synced = self.synced.max(synced);
            self.first_behind = self.first_behind.or((number > synced).then_some(number));
        }
    }

    fn damaged(&mut self, offset: u64, is_torn: bool) {
        self.goes_on |= self.damage.is_some();
        self.damage.get_or_insert(Damage { file: self.file, offset, is_torn });
    }

    /// Where the next record begins in a block whose lengths cannot be trusted. Bytes of an event may look like a record;
    /// they will hardly have its sequence number.
    fn search(&self, block: &[u8], from: usize) -> Option<usize> {
        (from..block.len()).find(|&at| {
            let Some(fragment) = fragment(block, at).filter(|fragment| fragment.part.begins()) else { return false };
            let sequence = fragment.content.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let least = self.sequence.unwrap_or(0);
            sequence.is_some_and(|sequence| sequence >= least && sequence - least <= MAX_KEYS_APART)
        })
    }
}

/// Whether the fragment at `at`, which is not whole, is one that the file ends within.
fn is_torn(block: &[u8], at: usize, is_within_record: bool) -> bool {
    let Some(claim) = Claim::at(block, at) else { return false };
    let fits = match claim.part {
        Part::Whole | Part::Last => claim.end <= BLOCK,
        // Only the end of a block ends these.
        Part::First | Part::Middle => claim.end == BLOCK,
        Part::Note => return claim.end <= BLOCK && claim.end > block.len() && !is_within_record,
    };
    let is_short = claim.end > block.len() && !claim.holds_with_another_end(block, at);
    fits && is_short && claim.part.begins() != is_within_record
}

/// Reads until the memory is full or the file ends.
fn fill(file: &mut impl Read, memory: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < memory.len() {
        match file.read(&mut memory[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// One file of the log, as RocksDB writes it.
    #[derive(Default)]
    struct Log {
        bytes: Vec<u8>,
        /// Where each record begins, and the file ends.
        starts: Vec<usize>,
        sequence: u64,
        batches: u64,
    }

    impl Log {
        fn fragment(&mut self, kind: u8, content: &[u8]) {
            let covered: Vec<u8> = core::iter::once(kind).chain(content.iter().copied()).collect();
            self.bytes.extend(masked(CRC_32C.checksum(&covered)).to_le_bytes());
            self.bytes.extend((content.len() as u16).to_le_bytes());
            self.bytes.extend(covered);
        }

        fn record(&mut self, content: &[u8]) {
            let (mut rest, mut is_first) = (content, true);
            self.starts.pop();
            self.pad();
            self.starts.push(self.bytes.len());
            loop {
                self.pad();
                let room = BLOCK - self.bytes.len() % BLOCK - HEADER;
                let (here, later) = rest.split_at(room.min(rest.len()));
                let kind = match (is_first, later.is_empty()) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                self.fragment(kind, here);
                (rest, is_first) = (later, false);
                if rest.is_empty() {
                    break;
                }
            }
            self.starts.push(self.bytes.len());
        }

        fn pad(&mut self) {
            let left = BLOCK - self.bytes.len() % BLOCK;
            self.bytes.extend(vec![0; if left < HEADER { left } else { 0 }]);
        }

        fn write(&mut self, len: usize, tally: Tally) {
            let mut content = self.sequence.to_le_bytes().to_vec();
            content.extend(2_u32.to_le_bytes());
            content.extend((0..len).map(|at| (at as u64 * 31 + self.sequence) as u8));
            content.extend([Tally::TAG, Tally::LEN as u8]);
            content.extend(tally.emit());
            self.record(&content);
            self.sequence += 2;
        }

        /// A synced write with a batch.
        fn batch(mut self, len: usize) -> Self {
            let synced = self.batches;
            self.batches += 1;
            self.write(len, Tally { synced, number: self.batches });
            self
        }

        /// A write of rows.
        fn rows(mut self, len: usize) -> Self {
            self.write(len, Tally { synced: self.batches, number: self.batches });
            self
        }

        fn inspect(&self, change: impl FnOnce(&mut Vec<u8>)) -> Found {
            self.inspect_above(0, change)
        }

        fn inspect_above(&self, floor: u64, change: impl FnOnce(&mut Vec<u8>)) -> Found {
            let mut bytes = self.bytes.clone();
            change(&mut bytes);
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join("000007.log"), bytes).expect("a file");
            found(&folder, floor)
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Found {
        Whole,
        Torn(usize),
        Doubtful(usize),
        Damaged(usize),
    }

    fn found(folder: &TempDir, floor: u64) -> Found {
        match inspect(folder.path(), floor).expect("a log") {
            Condition::Whole => Found::Whole,
            Condition::Torn(cut) => Found::Torn(cut.offset as usize),
            Condition::Doubtful(cut) => Found::Doubtful(cut.offset as usize),
            Condition::Damaged { offset, .. } => Found::Damaged(offset as usize),
        }
    }

    /// Records of all sizes: some in one fragment, some in many, one that ends just before a block does.
    fn long() -> Log {
        Log::default()
            .batch(100)
            .batch(40_000)
            .rows(90)
            .batch(24_000 + 1_560)
            .rows(5)
            .batch(100_000)
            .rows(3_000)
            .batch(50)
    }

    #[test]
    fn a_whole_log_is_whole_with_whatever_notes_of_rocksdb() {
        assert_eq!(long().inspect(|_| {}), Found::Whole);
        assert_eq!(Log::default().inspect(|_| {}), Found::Whole);
        let mut log = Log::default();
        log.fragment(130, b"the file before");
        assert_eq!(log.batch(10).inspect(|_| {}), Found::Whole);
    }

    #[test]
    fn an_end_within_a_record_is_torn_and_at_a_boundary_is_no_damage() {
        let log = long();
        let len = log.bytes.len();
        for end in (0..len).step_by(97).chain(len - 200..=len) {
            let start = log.starts.iter().rposition(|&start| start <= end).map(|at| log.starts[at]).unwrap_or(0);
            // A record's start may be moved to the next block by what fills the last one up.
            let expected = if start == end { Found::Whole } else { Found::Torn(start) };
            let found = log.inspect(|bytes| bytes.truncate(end));
            let in_padding = log.bytes[start..end].iter().all(|byte| *byte == 0);
            assert!(found == expected || in_padding, "{end}: {found:?}, {expected:?}");
        }
    }

    #[test]
    fn a_torn_record_with_pages_that_never_came_is_still_torn() {
        let log = Log::default().batch(100).batch(20_000);
        let start = log.starts[1];
        let torn = log.inspect(|bytes| {
            bytes.truncate(start + 12_000);
            bytes[start + 4_096..start + 8_192].fill(0);
        });
        assert_eq!(torn, Found::Torn(start));
    }

    #[test]
    fn any_flipped_bit_is_found_and_judged_by_what_is_behind_it() {
        let log = Log::default().batch(300).rows(200).batch(250).batch(270).rows(120).rows(130).batch(140);
        let third_batch = log.starts[3];
        for at in 0..log.bytes.len() {
            let record = *log.starts.iter().rfind(|start| **start <= at).expect("a record");
            // Behind the third batch there are only rows, and a batch whose sync may not have returned.
            let expected = if record <= third_batch { Found::Damaged(record) } else { Found::Doubtful(record) };
            assert_eq!(log.inspect(|bytes| bytes[at] ^= 1 << (at % 8)), expected, "byte {at}");
        }
    }

    #[test]
    fn rows_before_the_one_batch_under_way_may_be_what_a_power_cut_leaves() {
        let log = Log::default().batch(300).rows(5_000).batch(5_000);
        let rows = log.starts[1];
        let zero_page = |bytes: &mut Vec<u8>| bytes[4_096..8_192].fill(0);
        assert_eq!(log.inspect(|bytes| bytes[rows..rows + 2_000].fill(0)), Found::Doubtful(rows));
        assert_eq!(log.inspect(zero_page), Found::Doubtful(rows));
        // One more record, and the sync of that batch had returned.
        let log = log.rows(10);
        assert_eq!(log.inspect(zero_page), Found::Damaged(rows));
    }

    #[test]
    fn a_batch_that_rows_were_written_behind_was_synced() {
        let log = Log::default().batch(300).batch(200).rows(10);
        let last = log.starts[1];
        assert_eq!(log.inspect(|bytes| bytes[last + 50] ^= 1), Found::Damaged(last));
    }

    #[test]
    fn a_header_of_zeros_hides_nothing() {
        let log = Log::default().batch(300).batch(200).batch(40_000).batch(100);
        let second = log.starts[1];
        // RocksDB would go on with the next block as if there had been nothing here.
        assert_eq!(log.inspect(|bytes| bytes[second..second + HEADER].fill(0)), Found::Damaged(second));
        let last = log.starts[3];
        assert_eq!(log.inspect(|bytes| bytes[last..].fill(0)), Found::Doubtful(last));
    }

    #[test]
    fn a_length_that_points_behind_the_end_is_no_torn_record() {
        let log = Log::default().batch(300).batch(200).batch(250);
        let [_, second, third, _] = log.starts[..] else { panic!() };
        assert_eq!(log.inspect(|bytes| bytes[second + 5] |= 0x40), Found::Damaged(second));
        assert_eq!(log.inspect(|bytes| bytes[third + 5] |= 0x40), Found::Doubtful(third));
        // Also where the one behind it is torn.
        let found = log.inspect(|bytes| {
            bytes[second + 5] |= 0x40;
            bytes.truncate(third + 100);
        });
        assert_eq!(found, Found::Doubtful(second));
    }

    #[test]
    fn the_floor_knows_what_was_synced() {
        let log = Log::default().batch(300).batch(200);
        let second = log.starts[1];
        let flip = |bytes: &mut Vec<u8>| bytes[second + 50] ^= 1;
        assert_eq!(log.inspect_above(1, flip), Found::Doubtful(second));
        assert_eq!(log.inspect_above(2, flip), Found::Damaged(second));
        // Nothing before the damage tells a number; a batch behind it does.
        assert_eq!(log.inspect_above(1, |bytes| bytes[50] ^= 1), Found::Doubtful(0));
        assert_eq!(log.inspect_above(2, |bytes| bytes[50] ^= 1), Found::Damaged(0));
        assert_eq!(log.rows(10).inspect_above(1, |bytes| bytes[50] ^= 1), Found::Damaged(0));
    }

    #[test]
    fn events_that_look_like_records_are_not_taken_for_some() {
        let mut inner = Log { sequence: 1 << 40, batches: 77, ..Log::default() };
        inner = inner.batch(30).rows(20);
        let mut log = Log::default().batch(300);
        let start = log.starts[1];
        let mut content = log.sequence.to_le_bytes().to_vec();
        content.extend(1_u32.to_le_bytes());
        content.extend(&inner.bytes);
        content.extend([Tally::TAG, Tally::LEN as u8]);
        content.extend(Tally { synced: 1, number: 2 }.emit());
        log.record(&content);
        assert_eq!(log.inspect(|bytes| bytes[start + HEADER + 8] ^= 1), Found::Doubtful(start));
    }

    #[test]
    fn files_are_one_log_and_a_cut_takes_the_later_ones_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (folder.path().join("000009.log"), folder.path().join("000012.log"));
        let first = Log::default().batch(300).rows(400);
        let rows = first.starts[1];
        let mut second = Log { sequence: first.sequence, batches: first.batches, ..Log::default() };
        second.fragment(130, b"the file before");
        let second = second.batch(200);
        fs::write(&new, &second.bytes).expect("a file");
        fs::write(folder.path().join("LOG"), b"RocksDB's diary").expect("a file");
        fs::write(&old, &first.bytes).expect("a file");
        assert_eq!(found(&folder, 0), Found::Whole);
        // The old file ends early, and the new one tells of no more synced batches.
        fs::write(&old, &first.bytes[..rows + 100]).expect("a file");
        assert_eq!(found(&folder, 0), Found::Doubtful(rows));
        let Condition::Doubtful(cut) = inspect(folder.path(), 0).expect("a log") else { panic!("see above") };
        cut.perform().expect("a cut");
        assert!(!new.exists());
        assert_eq!(fs::metadata(&old).expect("a file").len() as usize, rows);
        assert_eq!(found(&folder, 0), Found::Whole);
        // With one more record in the new file, its batch was synced, and so was all before it.
        fs::write(&old, &first.bytes[..rows + 100]).expect("a file");
        fs::write(&new, second.rows(10).bytes).expect("a file");
        assert_eq!(found(&folder, 0), Found::Damaged(rows));
    }
}
