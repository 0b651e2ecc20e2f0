//! What a witness keeps: its term and vote, which terms the entries of the log have, and who the members are. No entry.
//!
//! All of it is a few hundred bytes, so it is written whole each time, into a file of its own and not into a database.
//!
//! ```text
//! DIR/TERMS     the header (whose it is), then two slots, 1 MiB apart; of a slot only what is in use is ever written
//! ```
//!
//! A write goes to the slot that the last one did not, and one `fdatasync` ends it; then it is reported. So a power cut
//! during a write leaves the other slot, with all that was ever reported. The slot with the higher generation counts.
//!
//! | bytes of a slot | field |
//! |---|---|
//! | 0..4 | `ESWT` |
//! | 4 | version, 1 |
//! | 5 | 1 if the node is suspect, else 0 |
//! | 6..8 | the node voted for in the term, 0 for none |
//! | 8..16 | generation: even in the first slot, odd in the second |
//! | 16..24 | term |
//! | 24..32 | index of the last entry |
//! | 32..36 | bytes of the slot that are in use, the checksum with them |
//! | 36..40 | runs of one term |
//! | 40.. | for each run the index of its first entry and its term |
//! | .. | the last two configurations, the older one first: index, length u16, as its entry holds it |
//! | .. | CRC-32 of all before |
//!
//! # What a start finds
//!
//! | slots | what it means | what the node does |
//! |---|---|---|
//! | two, of generations that follow one another | all that was reported is there | starts |
//! | one, or two with a gap between | a write was cut off, or what was synced is damaged: the node cannot tell | starts *suspect*, with the newer |
//! | none | synced data is lost | [`OpenError::LogDamaged`] |
//! | no file, and the directory is not new | synced data is lost | [`OpenError::DataLost`] |
//!
//! Until the node has written down that it is suspect, every start finds the same: that write goes to the slot that is
//! damaged. There is no floor as a log in RocksDB has one: nothing opens this file and finds less of it without a word.

mod writer;

pub use writer::{TermsReport, TermsWriter};

use super::StoreError;
use super::directory::{self, OpenError, owner};
use crate::checksum::CRC;
use crate::identity::Identity;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::{Configuration, HardState, LogPosition, LogView, MAX_CONFIGURATION_LEN, Placed};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const NAME: &str = "TERMS";
const MAGIC: [u8; 4] = *b"ESWT";
const VERSION: u8 = 1;
/// Where the first slot begins: behind the header.
const FIRST_SLOT: u64 = 4_096;
/// Bytes of a slot, at most: those of more than 65,000 elections.
pub const MAX_TERMS_LEN: usize = 1 << 20;
const SLOT: u64 = MAX_TERMS_LEN as u64;
const HEAD: usize = 40;
const RUN: usize = 16;
const CHECKSUM: usize = 4;
/// Configurations that are kept: the one in force and the one to which a truncation goes back.
const CONFIGURATIONS: usize = 2;

/// The terms of a log, and what else a witness must not forget. It reads as the log does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    hard_state: HardState,
    /// Where each term begins, ascending in index and term.
    runs: Vec<LogPosition>,
    last: Index,
    /// Of the log's entries that hold one, the last two, in order.
    configurations: Vec<Placed>,
}

impl LogView for Terms {
    fn term(&self, index: Index) -> Option<Term> {
        let after = self.runs.partition_point(|run| run.index <= index);
        (index <= self.last).then(|| self.runs.get(after.checked_sub(1)?)).flatten().map(|run| run.term)
    }
}

impl Terms {
    /// Term and vote.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        LogPosition { index: self.last, term: self.runs.last().map_or(Term::ZERO, |run| run.term) }
    }

    /// Where each term begins.
    #[must_use]
    pub fn runs(&self) -> &[LogPosition] {
        &self.runs
    }

    /// The configurations that its entries hold, as far as they are kept.
    #[must_use]
    pub fn configurations(&self) -> &[Placed] {
        &self.configurations
    }

    /// Replaces term and vote.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Removes the entries at and after `from`.
    ///
    /// # Panics
    /// If that is 0: only our own bug can do that.
    pub fn truncate(&mut self, from: Index) {
        assert!(from > Index::ZERO, "there is no entry 0 to remove");
        self.last = self.last.min(from.prev());
        self.runs.retain(|run| run.index < from);
        self.configurations.retain(|placed| placed.index < from);
    }

    /// Adds entries of one term up to and with `end`, behind the last one.
    ///
    /// # Panics
    /// If the log reaches as far, or has a later term: only our own bug can do that.
    pub fn append(&mut self, end: LogPosition) {
        let last = self.last();
        assert!(end.index > last.index && end.term >= last.term, "{end:?} is to follow {last:?}");
        if end.term > last.term {
            self.runs.push(LogPosition { index: last.index.next(), term: end.term });
        }
        self.last = end.index;
    }

    /// Replaces the configurations: the one in force and the one before, if entries hold them.
    pub fn set_configurations(&mut self, configurations: [Placed; CONFIGURATIONS]) {
        let of_entries = configurations.into_iter().filter(|placed| placed.index > Index::ZERO);
        self.configurations = of_entries.collect();
        self.configurations.dedup_by_key(|placed| placed.index);
    }

    fn emit(&self, generation: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = u8::from(self.hard_state.suspect);
        bytes[6..8].copy_from_slice(&self.hard_state.vote.map_or(0, |node| node.0).to_le_bytes());
        bytes[8..16].copy_from_slice(&generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.hard_state.term.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            bytes.extend(run.index.0.to_le_bytes());
            bytes.extend(run.term.0.to_le_bytes());
        }
        for placed in &self.configurations {
            let mut buffer = [0; MAX_CONFIGURATION_LEN];
            let len = placed.configuration.encode(&mut buffer);
            bytes.extend(placed.index.0.to_le_bytes());
            bytes.extend((len as u16).to_le_bytes());
            bytes.extend(&buffer[..len]);
        }
        let len = (bytes.len() + CHECKSUM) as u32;
        bytes[32..36].copy_from_slice(&len.to_le_bytes());
        let checksum = CRC.of(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// The generation, and what was written; `None` if it is no slot of this version, or damaged.
    fn parse(bytes: &[u8]) -> Option<(u64, Self)> {
        let (checked, checksum) = bytes.split_last_chunk()?;
        if CRC.of(checked) != u32::from_le_bytes(*checksum) || checked.get(..4)? != MAGIC || *checked.get(4)? != VERSION
        {
            return None;
        }
        let u64_at = |at: usize| checked.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let u32_at = |at: usize| checked.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let vote = NodeId(u16::from_le_bytes(*checked.get(6..)?.first_chunk()?));
        let vote = (vote.0 != 0).then_some(vote);
        let hard_state = HardState { term: Term(u64_at(16)?), vote, suspect: *checked.get(5)? != 0 };
        let mut terms = Self { hard_state, last: Index(u64_at(24)?), ..Self::default() };
        let mut at = HEAD;
        for _ in 0..u32_at(36)? {
            terms.runs.push(LogPosition { index: Index(u64_at(at)?), term: Term(u64_at(at + 8)?) });
            at += RUN;
        }
        while at < checked.len() {
            let index = Index(u64_at(at)?);
            let len = usize::from(u16::from_le_bytes(*checked.get(at + 8..)?.first_chunk()?));
            let configuration = Configuration::decode(checked.get(at + 10..at + 10 + len)?).ok()?;
            terms.configurations.push(Placed { index, configuration });
            at += 10 + len;
        }
        let ascends = terms.runs.is_sorted_by(|one, next| one.index < next.index && one.term < next.term)
            && terms.configurations.is_sorted_by(|one, next| one.index < next.index);
        let begins = terms.runs.first().map(|run| run.index) == (terms.last > Index::ZERO).then_some(Index(1));
        let ends = terms.runs.last().is_none_or(|run| run.index <= terms.last)
            && terms.configurations.last().is_none_or(|placed| placed.index <= terms.last);
        (ascends && begins && ends).then_some((u64_at(8)?, terms))
    }
}

/// An open file of terms; the directory is locked until it is dropped.
#[derive(Debug)]
pub struct TermsFile {
    file: File,
    generation: u64,
    _lock: File,
}

/// What a witness finds when it starts.
#[derive(Debug)]
pub struct OpenedTerms {
    /// The writing side, for [`TermsWriter::start`].
    pub file: TermsFile,
    /// What is on stable storage.
    pub terms: Terms,
    /// Whether some of what was on stable storage may be missing, or all of it.
    pub suspect: bool,
}

/// Opens the directory of the witness that `identity` was read from; the first time, makes its file.
///
/// # Errors
/// See [`OpenError`]. The directory is as it was before, but for a first start that did not get to its end.
pub fn open_terms(directory: &Path, identity: &Identity) -> Result<OpenedTerms, OpenError> {
    let lock = directory::lock(directory)?;
    let path = directory.join(NAME);
    directory::check_version(directory, &path)?;
    let io = |source| OpenError::Io { path: path.clone(), source };
    if !path.exists() {
        create(directory, identity).map_err(io)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
    let found = Found::read(&file, &path, directory, identity)?;
    directory::mark(directory)?;
    let Found { generation, terms, suspect } = found;
    Ok(OpenedTerms { file: TermsFile { file, generation, _lock: lock }, terms, suspect })
}

/// Reads what a witness keeps that does not run: that, and whether it would start suspect. `None` if it was never started.
///
/// # Errors
/// See [`OpenError`]. Nothing was changed.
pub fn read_terms(directory: &Path, identity: &Identity) -> Result<Option<(Terms, bool)>, OpenError> {
    let _lock = directory::lock_shared(directory)?;
    let path = directory.join(NAME);
    directory::check_version(directory, &path)?;
    match File::open(&path) {
        Ok(file) => {
            let Found { terms, suspect, .. } = Found::read(&file, &path, directory, identity)?;
            Ok(Some((terms, suspect)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// Makes the file of a witness that has never started: nothing is promised yet.
fn create(directory: &Path, identity: &Identity) -> io::Result<()> {
    let new = directory.join("TERMS.new");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&new)?;
    let owner = owner(identity);
    let mut header = (owner.len() as u32).to_le_bytes().to_vec();
    header.extend(owner.as_bytes());
    header.extend(CRC.of(owner.as_bytes()).to_le_bytes());
    file.write_all_at(&header, 0)?;
    for generation in 0..2 {
        file.write_all_at(&Terms::default().emit(generation), slot(generation))?;
    }
    file.sync_all()?;
    fs::rename(&new, directory.join(NAME))?;
    directory::sync(directory)
}

const fn slot(generation: u64) -> u64 {
    FIRST_SLOT + generation % 2 * SLOT
}

/// What is in the file.
struct Found {
    generation: u64,
    terms: Terms,
    suspect: bool,
}

impl Found {
    fn read(file: &File, path: &Path, directory: &Path, identity: &Identity) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let damaged = |offset| OpenError::LogDamaged { file: path.to_owned(), offset };
        let found = read_owner(file).map_err(io)?.ok_or_else(|| damaged(0))?;
        let expected = owner(identity);
        if found != expected {
            return Err(directory::foreign(directory, &expected, &found));
        }
        let slots = [read_slot(file, 0).map_err(io)?, read_slot(file, 1).map_err(io)?];
        let is_whole = matches!(&slots, [Some((one, _)), Some((other, _))] if one.abs_diff(*other) == 1);
        let newest = slots.into_iter().flatten().max_by_key(|(generation, _)| *generation);
        let (generation, terms) = newest.ok_or_else(|| damaged(FIRST_SLOT))?;
        // A file without anything is that of a first start, or the node got its bundle again.
        let is_new = terms.hard_state.term == Term::ZERO && terms.last == Index::ZERO;
        Ok(Self { generation, terms, suspect: !is_whole || is_new })
    }
}

/// Whose file it is; `None` if that is damaged.
fn read_owner(file: &File) -> io::Result<Option<String>> {
    let mut header = Vec::new();
    read_at_most(file, FIRST_SLOT as usize, 0, &mut header)?;
    let parse = || {
        let (len, rest) = header.split_first_chunk()?;
        let (owner, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let is_whole = CRC.of(owner) == u32::from_le_bytes(*rest.first_chunk()?);
        String::from_utf8(owner.to_vec()).ok().filter(|_| is_whole)
    };
    Ok(parse())
}

/// Generation and content of a slot; `None` if it is damaged.
fn read_slot(file: &File, place: u64) -> io::Result<Option<(u64, Terms)>> {
    let mut bytes = Vec::new();
    read_at_most(file, HEAD, slot(place), &mut bytes)?;
    let len = bytes.get(32..).and_then(|rest| rest.first_chunk()).map_or(0, |len| u32::from_le_bytes(*len));
    if u64::from(len) > SLOT {
        return Ok(None);
    }
    bytes.clear();
    read_at_most(file, len as usize, slot(place), &mut bytes)?;
    Ok(Terms::parse(&bytes).filter(|(generation, _)| generation % 2 == place))
}

/// Reads `len` bytes, or up to the end of the file.
fn read_at_most(file: &File, len: usize, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(len, 0);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(())
}

impl TermsFile {
    /// Writes it, and returns when it is on stable storage. After the first failure nobody knows what is there: the file is
    /// not to be written again.
    fn write(&mut self, terms: &Terms) -> Result<(), StoreError> {
        let generation = self.generation + 1;
        let bytes = terms.emit(generation);
        if bytes.len() as u64 > SLOT {
            return Err(StoreError::TooManyTerms(terms.runs.len()));
        }
        let written = self.file.write_all_at(&bytes, slot(generation)).and_then(|()| self.file.sync_data());
        written.map_err(StoreError::Terms)?;
        self.generation = generation;
        Ok(())
    }
}

/// Where a witness keeps what it has.
#[must_use]
pub fn terms_path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Named;
    use eventstream_core::config::Parameters;
    use eventstream_core::id::Incarnation;
    use eventstream_core::raft::Member;
    use tempfile::TempDir;

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index: Index(index), term: Term(term) }
    }

    fn placed(index: u64, nodes: u16) -> Placed {
        let member = |node| Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) };
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        Placed { index: Index(index), configuration: Configuration::new(&members).expect("a configuration") }
    }

    /// A witness's bundle that was never started.
    fn bundle() -> (TempDir, Identity) {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |node: u16| -> Named { (NodeId(node), format!("127.0.0.1:{node}").parse().expect("an address")) };
        let cluster =
            Identity::new_cluster_with(&[named(1), named(2)], &[named(3)], Parameters::default()).expect("a cluster");
        let witness = cluster.into_iter().find(Identity::is_witness).expect("a witness");
        witness.write(folder.path()).expect("a bundle");
        (folder, witness)
    }

    fn some(term: u64) -> Terms {
        let mut terms = Terms::default();
        terms.set_hard_state(HardState { term: Term(term), vote: Some(NodeId(2)), suspect: false });
        terms.append(at(7, 1));
        terms.append(at(9, term));
        terms.set_configurations([placed(3, 2), placed(8, 3)]);
        terms
    }

    fn damage(directory: &Path, generation: u64) {
        let file = OpenOptions::new().write(true).open(terms_path(directory)).expect("the file");
        file.write_all_at(&[0xFF], slot(generation) + 30).expect("a write");
    }

    /// What a start finds, and whether it is suspect.
    fn opened((folder, identity): &(TempDir, Identity)) -> (Terms, bool) {
        let seen = read_terms(folder.path(), identity).expect("it can be read").expect("it was started");
        let opened = open_terms(folder.path(), identity).expect("it opens");
        assert_eq!(seen, (opened.terms.clone(), opened.suspect), "who looks sees what who opens gets");
        (opened.terms, opened.suspect)
    }

    #[test]
    fn a_log_of_terms_reads_as_the_log() {
        let mut terms = Terms::default();
        terms.append(at(3, 1));
        terms.append(at(5, 1));
        terms.append(at(9, 4));
        assert_eq!(terms.runs(), [at(1, 1), at(6, 4)]);
        let term = |terms: &Terms, index| terms.term(Index(index)).map(|term| term.0);
        assert_eq!(
            [0, 1, 5, 6, 9, 10].map(|index| term(&terms, index)),
            [None, Some(1), Some(1), Some(4), Some(4), None]
        );
        terms.set_configurations([placed(2, 2), placed(7, 3)]);
        terms.truncate(Index(7));
        assert_eq!((terms.last(), terms.configurations()), (at(6, 4), &[placed(2, 2)][..]));
        terms.truncate(Index(6));
        assert_eq!((terms.last(), terms.runs()), (at(5, 1), &[at(1, 1)][..]));
        terms.truncate(Index(1));
        assert_eq!(terms, Terms::default());
    }

    #[test]
    fn what_was_written_last_is_found_and_a_first_start_is_suspect() {
        let bundle = bundle();
        let (folder, identity) = &bundle;
        assert!(read_terms(folder.path(), identity).expect("a bundle").is_none());
        drop(open_terms(folder.path(), identity).expect("a first start"));
        assert_eq!(opened(&bundle), (Terms::default(), true));
        let mut file = open_terms(folder.path(), identity).expect("it opens").file;
        for term in 2..=6 {
            file.write(&some(term)).expect("a write");
        }
        drop(file);
        assert_eq!(opened(&bundle), (some(6), false));
    }

    #[test]
    fn whichever_slot_is_damaged_the_node_is_suspect_until_it_has_written_that_down() {
        for (damaged, left) in [(5, some(6)), (6, some(5))] {
            let bundle = bundle();
            let (folder, identity) = &bundle;
            let mut file = open_terms(folder.path(), identity).expect("it opens").file;
            (2..=6).for_each(|term| file.write(&some(term)).expect("a write"));
            assert_eq!(file.generation, 6);
            damage(folder.path(), damaged);
            drop(file);
            assert_eq!(opened(&bundle), (left.clone(), true));
            let mut file = open_terms(folder.path(), identity).expect("it opens").file;
            let mut suspect = left;
            suspect.hard_state.suspect = true;
            file.write(&suspect).expect("a write");
            drop(file);
            assert_eq!(opened(&bundle), (suspect, false), "it says so itself");
        }
    }

    #[test]
    fn a_write_that_is_missing_between_two_others_makes_the_node_suspect() {
        let bundle = bundle();
        let (folder, identity) = &bundle;
        let mut file = open_terms(folder.path(), identity).expect("it opens").file;
        file.write(&some(2)).expect("a write");
        file.generation += 1;
        file.write(&some(4)).expect("a write");
        file.generation += 1;
        file.write(&some(6)).expect("a write");
        drop(file);
        assert!(opened(&bundle).1);
    }

    #[test]
    fn what_has_lost_both_slots_or_the_file_does_not_start() {
        let bundle = bundle();
        let (folder, identity) = &bundle;
        drop(open_terms(folder.path(), identity).expect("it opens"));
        let before = fs::read(terms_path(folder.path())).expect("a file");
        (0..2).for_each(|generation| damage(folder.path(), generation));
        let error = open_terms(folder.path(), identity).expect_err("nothing is left");
        assert!(matches!(error, OpenError::LogDamaged { .. }), "{error}");
        fs::write(terms_path(folder.path()), before).expect("a write");
        let in_use = open_terms(folder.path(), identity).expect("it opens again");
        let error = open_terms(folder.path(), identity).expect_err("it is in use");
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        drop(in_use);
        let (_, other) = self::bundle();
        let error = open_terms(folder.path(), &other).expect_err("another cluster's");
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        fs::remove_file(terms_path(folder.path())).expect("a file");
        let error = open_terms(folder.path(), identity).expect_err("it is gone");
        assert!(matches!(error, OpenError::DataLost { .. }), "{error}");
    }

    #[test]
    fn a_file_that_ends_anywhere_is_never_taken_for_whole() {
        let bundle = bundle();
        let (folder, identity) = &bundle;
        let mut file = open_terms(folder.path(), identity).expect("it opens").file;
        file.write(&some(2)).expect("a write");
        file.write(&some(3)).expect("a write");
        drop(file);
        let whole = OpenOptions::new().write(true).open(terms_path(folder.path())).expect("a file");
        let end = whole.metadata().expect("a file").len();
        for len in (slot(3)..end).rev() {
            whole.set_len(len).expect("a shorter file");
            assert_eq!(opened(&bundle), (some(2), true), "{len} bytes");
        }
    }
}
