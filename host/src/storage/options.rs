//! RocksDB's options, and the check that they are what RocksDB runs with.
//!
//! Each option is written down once, as RocksDB spells it, and used twice: to open, and to compare with the options file
//! that RocksDB writes after it opened. RocksDB changes values that it finds incompatible without a word; that would show
//! only on the day when data is lost. Here it is an error at start.
//!
//! What the choices rest on, and what was measured, is in `docs/decisions.md`.

use crate::config::MemoryPlan;
use core::fmt::Write;
use rocksdb::Options;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Column family of the log: entries and points.
pub(super) const LOG: &str = "log";
/// Column family of the topic rows.
pub(super) const INDEX: &str = "index";
/// Column family of the state rows.
pub(super) const STATE: &str = "state";
/// Column family that RocksDB insists on; it holds whose data this is.
pub(super) const DEFAULT: &str = "default";

/// All column families.
pub(super) const FAMILIES: [&str; 4] = [DEFAULT, LOG, INDEX, STATE];

const MIB: usize = 1 << 20;
/// Memtables of a family, at most: one is filled, one is flushed, and one is for a flush that takes longer. Writes wait
/// when the last is full.
const MEMTABLES: usize = 3;
/// With 14 MiB a flush comes nearly every two seconds at 60,000 events/s of 120 bytes. 32 MiB x 4 would be most of a node's
/// whole allowance, for no less that is written.
const LOG_MEMTABLE: usize = 14 * MIB;
/// A topic row takes some 110 bytes here: room for those of 12 MiB of ordinary entries. Flushed with the log in any case.
const INDEX_MEMTABLE: usize = 3 * MIB;
/// One checkpoint of all producers is some 1 MiB.
const STATE_MEMTABLE: usize = 2 * MIB;
/// It holds one row.
const DEFAULT_MEMTABLE: usize = 64 << 10;
/// Files held open, at most. An open file keeps its index of blocks in memory: 256 entries of some 40 bytes for 16 MiB.
const OPEN_FILES: usize = 256;
const FILE_INDEX: usize = 16 << 10;
/// Files that the store has open, at most: those, its logs and manifests, and what a flush and a compaction write.
pub const MAX_FILES: usize = OPEN_FILES + 64;
/// The log files on disk that a start may have to replay, in bytes: the memtables once over.
const WAL_LIMIT: usize = 64 * MIB;

/// What RocksDB may hold in memory.
#[must_use]
pub fn memory() -> MemoryPlan {
    let mut plan = MemoryPlan::default();
    let memtables = |family, size| format!("storage: {family} memtables, {MEMTABLES} x {} MiB", size / MIB);
    plan.add(memtables("log", LOG_MEMTABLE), MEMTABLES * LOG_MEMTABLE);
    let others = INDEX_MEMTABLE + STATE_MEMTABLE;
    plan.add(memtables("index and state", others), MEMTABLES * others);
    plan.add(format!("storage: block indices of {OPEN_FILES} open files"), OPEN_FILES * FILE_INDEX);
    // The group's write batch grows to 1 MiB by doubling, and RocksDB's log buffer holds up to 1 MiB of it once more.
    plan.add("storage: write batch and log buffer", 3 * MIB);
    // Two background jobs, each with a write buffer of 1 MiB; the compaction reads ahead 2 MiB.
    plan.add("storage: flush and compaction buffers", 4 * MIB);
    plan
}

/// A set of options: a section of RocksDB's options file with its names and values.
pub(super) struct Section {
    /// Its heading in the file, without brackets.
    heading: String,
    options: Vec<(&'static str, String)>,
}

/// Every option that we set.
pub(super) struct OptionSet {
    database: Section,
    families: Vec<(&'static str, Section, Section)>,
}

impl OptionSet {
    /// The set, with direct I/O for flushes and compactions where the file system has it.
    pub(super) fn new(direct_io: bool) -> Self {
        let families = [
            (DEFAULT, DEFAULT_MEMTABLE, small_family()),
            (LOG, LOG_MEMTABLE, log_family()),
            (INDEX, INDEX_MEMTABLE, index_family()),
            (STATE, STATE_MEMTABLE, small_family()),
        ];
        let families = families.map(|(name, memtable, (options, block_size))| {
            let mut all = every_family(memtable);
            all.extend(options);
            let family = Section { heading: format!("CFOptions \"{name}\""), options: all };
            let table = Section {
                heading: format!("TableOptions/BlockBasedTable \"{name}\""),
                options: vec![("block_size", block_size.to_string()), ("no_block_cache", "true".to_owned())],
            };
            (name, family, table)
        });
        Self { database: database(direct_io), families: families.into() }
    }

    /// What to open the database with.
    ///
    /// # Errors
    /// RocksDB does not understand a value.
    pub(super) fn database(&self) -> Result<Options, rocksdb::Error> {
        parse(&self.database.as_string())
    }

    /// What to open the families with.
    ///
    /// # Errors
    /// RocksDB does not understand a value.
    pub(super) fn families(&self) -> Result<Vec<(&'static str, Options)>, rocksdb::Error> {
        self.families
            .iter()
            .map(|(name, family, table)| {
                let text = format!("{}block_based_table_factory={{{}}};", family.as_string(), table.as_string());
                parse(&text).map(|options| (*name, options))
            })
            .collect()
    }

    /// Compares with the options that RocksDB wrote into `data` when it opened it. Gives what differs: section, option,
    /// what was asked for, what it is.
    ///
    /// # Errors
    /// The file cannot be read, or there is none.
    pub(super) fn changed(&self, data: &Path) -> io::Result<Option<Changed>> {
        let text = fs::read_to_string(newest_options_file(data)?)?;
        let tables = self.families.iter().flat_map(|(_, family, table)| [family, table]);
        Ok(core::iter::once(&self.database).chain(tables).find_map(|section| section.changed(&text)))
    }
}

/// An option that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) option: String,
    pub(super) wanted: String,
    pub(super) found: String,
}

impl Section {
    fn as_string(&self) -> String {
        self.options.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, "{name}={value};");
            text
        })
    }

    fn changed(&self, file: &str) -> Option<Changed> {
        let heading = format!("[{}]", self.heading);
        let found: Vec<(&str, &str)> = file
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split_once('='))
            .collect();
        self.options.iter().find_map(|(name, wanted)| {
            let value = found.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
            (value != Some(wanted.as_str())).then(|| Changed {
                option: format!("{heading} {name}"),
                wanted: wanted.clone(),
                found: value.unwrap_or("not there").to_owned(),
            })
        })
    }
}

fn database(direct_io: bool) -> Section {
    let options = vec![
        // RocksDB forgives nothing: what may be forgiven is decided, and cut off, before it opens (`wal`).
        ("wal_recovery_mode", "kAbsoluteConsistency".to_owned()),
        ("track_and_verify_wals", "true".to_owned()),
        ("track_and_verify_wals_in_manifest", "true".to_owned()),
        ("paranoid_checks", "true".to_owned()),
        ("recycle_log_file_num", "0".to_owned()),
        // Applied state must not be ahead of the log that it came from, not even after a loss of the write-ahead log.
        ("atomic_flush", "true".to_owned()),
        // A failed background write is as final as a failed commit: no retries behind our back.
        ("max_bgerror_resume_count", "0".to_owned()),
        // Flushes must not push what others read out of the page cache.
        ("use_direct_io_for_flush_and_compaction", direct_io.to_string()),
        ("max_background_jobs", "2".to_owned()),
        ("max_total_wal_size", WAL_LIMIT.to_string()),
        ("max_open_files", OPEN_FILES.to_string()),
        ("skip_stats_update_on_db_open", "true".to_owned()),
        ("max_manifest_file_size", (4 * MIB).to_string()),
        // One thread writes.
        ("allow_concurrent_memtable_write", "false".to_owned()),
        ("enable_write_thread_adaptive_yield", "false".to_owned()),
        ("stats_dump_period_sec", "0".to_owned()),
        ("stats_persist_period_sec", "0".to_owned()),
        ("info_log_level", "WARN_LEVEL".to_owned()),
        ("max_log_file_size", MIB.to_string()),
        ("keep_log_file_num", "4".to_owned()),
    ];
    Section { heading: "DBOptions".to_owned(), options }
}

fn every_family(memtable: usize) -> Vec<(&'static str, String)> {
    vec![
        ("write_buffer_size", memtable.to_string()),
        ("max_write_buffer_number", MEMTABLES.to_string()),
        ("memtable_protection_bytes_per_key", "8".to_owned()),
        ("compression", "kNoCompression".to_owned()),
        // By default RocksDB rewrites every file once in 30 days. It would find nothing to do in it.
        ("ttl", "0".to_owned()),
        ("periodic_compaction_seconds", "0".to_owned()),
    ]
}

/// Keys ascend, so files do not overlap and move down without being rewritten. 64 KiB blocks for range reads.
fn log_family() -> (Vec<(&'static str, String)>, usize) {
    let options = vec![
        ("num_levels", "2".to_owned()),
        ("level_compaction_dynamic_level_bytes", "false".to_owned()),
        ("level0_file_num_compaction_trigger", "2".to_owned()),
    ];
    (options, 64 << 10)
}

/// Topics overlap in every file: merged rarely, many files at a time. 16 KiB blocks, since reads of it are seeks.
fn index_family() -> (Vec<(&'static str, String)>, usize) {
    let options = vec![
        ("level0_file_num_compaction_trigger", "32".to_owned()),
        ("level0_slowdown_writes_trigger", "64".to_owned()),
        ("level0_stop_writes_trigger", "96".to_owned()),
    ];
    (options, 16 << 10)
}

fn small_family() -> (Vec<(&'static str, String)>, usize) {
    (vec![("level0_file_num_compaction_trigger", "4".to_owned())], 16 << 10)
}

fn parse(text: &str) -> Result<Options, rocksdb::Error> {
    Options::default().get_options_from_string(text)
}

fn newest_options_file(data: &Path) -> io::Result<PathBuf> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for file in fs::read_dir(data)? {
        let file = file?;
        let name = file.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("OPTIONS-")).and_then(|number| number.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(newest, _)| number > *newest)
        {
            newest = Some((number, file.path()));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "RocksDB wrote no options file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Section {
        Section { heading: "DBOptions".to_owned(), options: vec![("a", "1".to_owned()), ("b", "x".to_owned())] }
    }

    #[test]
    fn a_changed_or_missing_option_is_found() {
        let same = "[Version]\n  a=9\n[DBOptions]\n  b=x\n  a=1\n[CFOptions \"default\"]\n  a=2\n";
        assert_eq!(section().changed(same), None);
        let changed = section().changed(&same.replace("b=x", "b=y")).unwrap();
        assert_eq!((changed.option.as_str(), changed.found.as_str()), ("[DBOptions] b", "y"));
        let missing = section().changed(&same.replace("  a=1\n", "")).unwrap();
        assert_eq!((missing.option.as_str(), missing.found.as_str()), ("[DBOptions] a", "not there"));
    }

    #[test]
    fn rocksdb_runs_with_every_option_that_we_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let set = OptionSet::new(false);
        let mut options = set.database().unwrap();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        drop(rocksdb::DB::open_cf_with_opts(&options, folder.path(), set.families().unwrap()).unwrap());
        assert_eq!(set.changed(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_mistyped_name_or_value_is_refused() {
        for (name, value) in [("track_and_verify_wal", "true"), ("wal_recovery_mode", "kTolerateTail")] {
            let mut set = OptionSet::new(false);
            set.database.options.push((name, value.to_owned()));
            assert!(set.database().is_err(), "{name}={value}");
        }
    }

    #[test]
    fn an_option_that_rocksdb_turns_off_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut set = OptionSet::new(false);
        for (name, value) in &mut set.database.options {
            if *name == "recycle_log_file_num" {
                "4".clone_into(value);
            }
        }
        let mut options = set.database().unwrap();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        drop(rocksdb::DB::open_cf_with_opts(&options, folder.path(), set.families().unwrap()).unwrap());
        let turned_off = set.changed(folder.path()).unwrap().unwrap();
        assert_eq!((turned_off.option.as_str(), turned_off.found.as_str()), ("[DBOptions] recycle_log_file_num", "0"));
    }
}
