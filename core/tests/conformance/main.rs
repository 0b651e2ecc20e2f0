//! The scripts of a mature Raft (etcd-io/raft), replayed on this one: a second opinion from people who never saw it.
//!
//! They are no part of this repository. They are looked for at `RAFT_CONFORMANCE_DIR`, else beside the checkout; where they
//! are not, that is said, and they count as skipped. `docs/testing.md` says more.
#![allow(unreachable_pub, missing_docs, reason = "nothing else links a test binary")]

mod confchange;
mod datadriven;
mod interaction;
mod quorum;
mod report;

use eventstream_core::id::{Incarnation, NodeId};
use eventstream_core::raft::Member;
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const FOLDERS: [&str; 3] = ["quorum", "confchange", "interaction"];

fn main() -> ExitCode {
    datadriven::check_format();
    let mut report = Report::default();
    match scripts() {
        Some(folder) => {
            println!("conformance: the scripts of {}", folder.display());
            for table in FOLDERS {
                for (_, cases) in datadriven::read_folder(&folder.join(table)) {
                    match table {
                        "quorum" => quorum::run(&cases, &mut report),
                        "confchange" => confchange::run(&cases, &mut report),
                        _ => interaction::run(&cases, &mut report),
                    }
                }
            }
        }
        None => {
            println!(
                "SKIPPED: conformance: no scripts at RAFT_CONFORMANCE_DIR, none in shared/raft-conformance beside the checkout"
            );
            report.skipped = FOLDERS.len();
        }
    }
    if report.conclude() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where the scripts are.
fn scripts() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("RAFT_CONFORMANCE_DIR") {
        return Some(PathBuf::from(folder)).filter(|folder| folder.is_dir());
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Beside it, or beside the one whose work tree this is.
    let beside = checkout.ancestors().skip(1).take(2).map(|parent| parent.join("shared/raft-conformance"));
    beside.into_iter().find(|folder| folder.is_dir())
}

/// A member: its only life.
pub(crate) fn member(node: u16) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
}
