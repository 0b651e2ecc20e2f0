//! `eventstream verify`: a good cluster passes, and each damage is found where it is.

mod damage;
mod running;
mod written;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What `eventstream verify` says.
#[derive(Debug)]
struct Answer {
    code: i32,
    report: Value,
    stderr: String,
}

fn verify(arguments: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    let output = command.env_remove("EVENTSTREAM_SERVERS").args(["--json", "verify"]).args(arguments).output();
    let output = output.expect("the binary runs");
    Answer {
        code: output.status.code().expect("no signal"),
        report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn verify_directories(directories: &[PathBuf]) -> Answer {
    let names: Vec<&str> = directories.iter().map(|directory| directory.to_str().expect("text")).collect();
    verify(&names)
}

impl Answer {
    /// The places that do not hold.
    fn violations(&self) -> &[Value] {
        self.report["violations"].as_array().expect("a report")
    }

    /// The only place that does not hold: fails if there is another, or none.
    #[track_caller]
    fn only(&self) -> &Value {
        assert_eq!((self.code, &self.report["ok"]), (1, &false.into()), "{self:#?}");
        assert!(!self.stderr.is_empty());
        assert_eq!(self.violations().len(), 1, "{self:#?}");
        &self.violations()[0]
    }

    #[track_caller]
    fn is_good(&self) {
        assert_eq!((self.code, &self.report["ok"], self.stderr.as_str()), (0, &true.into(), ""), "{self:#?}");
        assert!(self.violations().is_empty());
    }
}

type Files = BTreeMap<PathBuf, (SystemTime, Vec<u8>)>;

/// Every file below a directory: when it was changed, and what is in it.
fn files(directory: &Path) -> Files {
    let mut all = Files::new();
    for file in fs::read_dir(directory).expect("a directory") {
        let (path, metadata) = file.map(|file| (file.path(), file.metadata().expect("metadata"))).expect("a file");
        if metadata.is_dir() {
            all.insert(path.clone(), (metadata.modified().expect("a time"), Vec::new()));
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), (metadata.modified().expect("a time"), fs::read(&path).expect("its bytes")));
        }
    }
    all
}
