//! Shows that every ordering of the code under test is needed, and that the models would notice its absence.
//!
//! A model that passes shows little if it would also pass with weaker orderings. So each ordering that the models of
//! one test binary come by is weakened in turn, and at least one of these models must fail. Each attempt is a process of its
//! own: the test binary itself with one test selected, because a failed model may leave loom unfit for another.

use crate::weaken::{MARK, REPORT, WEAKEN};
use std::collections::BTreeMap;
use std::env;
use std::process::{Command, Output};

/// Weakens each ordering that the models of this test binary use in files below `code` (such as `core/src/ring`), and
/// returns how many there were.
///
/// `this` is the name of the calling test, which is left out.
///
/// # Panics
///
/// If a model fails by itself, or a weakening that no model notices.
pub fn every_weakening_is_noticed(code: &str, this: &str) -> usize {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for model in models(this) {
        let output = run(&model, REPORT, "1");
        assert!(output.status.success(), "{model} fails with all orderings as they are");
        let text = String::from_utf8_lossy(&output.stdout);
        let sites = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1));
        for weakening in sites.filter(|site| site.contains(code)) {
            users.entry(weakening.into()).or_default().push(model.clone());
        }
    }
    let unnoticed: Vec<&String> = users
        .iter()
        .filter(|(weakening, models)| !models.iter().any(|model| !run(model, WEAKEN, weakening).status.success()))
        .map(|(weakening, _)| weakening)
        .collect();
    assert!(unnoticed.is_empty(), "no model notices these: {unnoticed:#?}");
    users.len()
}

/// The other tests of this binary.
fn models(this: &str) -> Vec<String> {
    let output = this_binary().args(["--list", "--format", "terse"]).output().expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter(|name| *name != this).map(Into::into).collect()
}

/// Runs one model in a process of its own.
fn run(model: &str, variable: &str, value: &str) -> Output {
    let mut command = this_binary();
    command.args(["--exact", model, "--nocapture", "--test-threads=1"]).env(variable, value);
    command.output().expect("the test binary runs")
}

fn this_binary() -> Command {
    let mut command = Command::new(env::current_exe().expect("a test binary knows its path"));
    command.env_remove(REPORT).env_remove(WEAKEN);
    command
}
