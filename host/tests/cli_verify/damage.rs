//! Directories in which something is not as it must be.

use crate::written::{Change, LAST, Nodes, PRODUCER, batch, batch_of, empty, entry_key, row, row_key, usual_log};
use crate::{Answer, files, verify, verify_directories};
use serde_json::{Value, json};
use std::fs;

/// The name of a directory, as it is told.
fn name(nodes: &Nodes, node: usize) -> Value {
    nodes.directories[node].to_str().expect("text").into()
}

#[test]
fn good_directories_pass_and_nothing_in_them_changes() {
    let nodes = Nodes::alike();
    let before = files(nodes.out());
    let answer = verify_directories(&nodes.directories);
    answer.is_good();
    assert!(files(nodes.out()) == before, "something was written");
    let told = answer.report["nodes"].as_array().expect("nodes");
    assert_eq!(told.len(), 3);
    for (number, node) in told.iter().enumerate() {
        assert_eq!(node["node"], number + 1);
        let fields = ["first", "last", "last_term", "term", "vote", "applied", "events", "topics", "producers"];
        assert_eq!(fields.map(|field| node[field].clone()), [1, 9, 2, 2, 1, 9, 17, 2, 1].map(Value::from));
        assert_eq!(node["state_hash"], told[0]["state_hash"]);
    }
    // The directory of a whole cluster stands for its nodes; one node alone can be checked too.
    verify_directories(&[nodes.out().to_owned()]).is_good();
    verify_directories(&nodes.directories[1..2]).is_good();
    // And people are told the same in words.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_eventstream"));
    let output = command.arg("verify").arg(nodes.out()).output().expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && text.contains("STATE HASH") && text.contains("invariants 1 to 8 hold"),
        "{text}"
    );
}

#[test]
fn a_flipped_bit_in_an_entry() {
    for (at, words) in [(70, "payload"), (20, "header")] {
        let nodes = Nodes::alike();
        let mut frame = nodes.stored(1, "log", &entry_key(4));
        frame[at] ^= 1;
        nodes.tamper(1, "log", &[(&entry_key(4), Some(&frame))]);
        let answer = verify_directories(&nodes.directories);
        let found = answer.only();
        assert_eq!((&found["at"], &found["index"]), (&json!([name(&nodes, 1)]), &4.into()));
        assert_eq!(found["invariant"], Value::Null);
        assert!(found["what"].as_str().is_some_and(|what| what.contains(words)), "{found}");
    }
}

#[test]
fn a_flipped_bit_in_a_file() {
    let nodes = Nodes::alike();
    let data = nodes.directories[2].join("data");
    let files = fs::read_dir(&data).expect("a directory").map(|file| file.expect("a file").path());
    let is_of_log = |bytes: &[u8]| bytes.windows(8).any(|part| part == b"event 13");
    let tables = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let (path, mut bytes) = tables
        .map(|path| (path.clone(), fs::read(path).expect("its bytes")))
        .find(|(_, bytes)| is_of_log(bytes))
        .expect("the log is in a file");
    let at = bytes.windows(8).position(|part| part == b"event 13").expect("it is there");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
    let answer = verify_directories(&nodes.directories);
    let found = answer.only();
    assert_eq!((&found["at"], &found["invariant"]), (&json!([name(&nodes, 2)]), &Value::Null));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("cannot be read")), "{found}");
}

#[test]
fn a_file_that_is_gone() {
    let nodes = Nodes::alike();
    let data = nodes.directories[0].join("data");
    fs::remove_dir_all(data).expect("removed");
    let answer = verify_directories(&nodes.directories);
    let found = answer.only();
    assert_eq!((&found["at"], &found["invariant"]), (&json!([name(&nodes, 0)]), &Value::Null));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("gone")), "{found}");
}

#[test]
fn a_missing_entry_in_the_middle() {
    let nodes = Nodes::alike();
    nodes.tamper(0, "log", &[(&entry_key(3), None)]);
    let answer = verify_directories(&nodes.directories);
    let found = answer.only();
    assert_eq!((&found["at"], &found["index"]), (&json!([name(&nodes, 0)]), &3.into()));
    assert_eq!((&found["invariant"], &found["what"]), (&Value::Null, &"the entry is missing".into()));
}

#[test]
fn entries_behind_the_last_synced_batch() {
    let nodes = Nodes::alike();
    nodes.tamper(0, "log", &[(&entry_key(10), Some(&batch(10, 2, "a", 17, 1)))]);
    let answer = verify_directories(&nodes.directories);
    assert_eq!((&answer.only()["index"], &answer.only()["invariant"]), (&10.into(), &Value::Null));
}

#[test]
fn a_log_that_lost_its_end() {
    let nodes = Nodes::alike();
    let point = [&entry_key(9)[..], &[1]].concat();
    nodes.tamper(0, "log", &[(&entry_key(9), None), (&point, None)]);
    let answer = verify_directories(&nodes.directories);
    let found = answer.only();
    assert_eq!((&found["at"], &found["index"]), (&json!([name(&nodes, 0)]), &9.into()));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("lost its end")), "{found}");
}

/// A node that was killed has all in RocksDB's own log. Its end is what it would be for a start.
#[test]
fn an_end_that_was_not_written_whole_is_passed_over() {
    let killed = || {
        let nodes = Nodes::new();
        drop(nodes.write_and_die(0, &usual_log(), LAST));
        let (path, bytes) = nodes.write_ahead_log(0);
        (nodes, path, bytes)
    };
    let told = |nodes: &Nodes| {
        let before = files(nodes.out());
        let answer = verify_directories(&nodes.directories[..1]);
        assert!(files(nodes.out()) == before, "something was written");
        answer
    };
    let fields = |answer: &Answer| ["last", "applied", "suspect"].map(|field| answer.report["nodes"][0][field].clone());

    let (nodes, path, bytes) = killed();
    let answer = told(&nodes);
    answer.is_good();
    assert_eq!(fields(&answer), [json!(9), json!(9), json!(false)]);
    // The checkpoint and the rows of the last entry were written last, and not synced.
    fs::write(&path, &bytes[..bytes.len() - 5]).expect("written");
    let answer = told(&nodes);
    answer.is_good();
    assert_eq!(fields(&answer), [json!(9), json!(8), json!(false)]);
    // Not its end, but something in it.
    let mut damaged = bytes.clone();
    damaged[bytes.len() - 30] ^= 1;
    fs::write(&path, &damaged).expect("written");
    let answer = told(&nodes);
    answer.is_good();
    assert_eq!(fields(&answer), [json!(9), json!(8), json!(true)]);

    let (nodes, path, mut bytes) = killed();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let answer = told(&nodes);
    let found = answer.only();
    assert_eq!((&found["at"], &found["invariant"]), (&json!([name(&nodes, 0)]), &Value::Null));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("damaged at byte")), "{found}");
}

#[test]
fn an_entry_in_the_place_of_another() {
    let nodes = Nodes::alike();
    let frame = batch_of(4, 1, "a", 6, 3, " is another");
    nodes.tamper(0, "log", &[(&entry_key(4), Some(&frame))]);
    let answer = verify_directories(&nodes.directories[..1]);
    // The batch that it was written in says so, and the state.
    let found: Vec<_> = answer.violations().iter().map(|found| (&found["index"], &found["invariant"])).collect();
    assert_eq!(answer.code, 1);
    assert_eq!(found, [(&4.into(), &Value::Null)], "{answer:#?}");
}

#[test]
fn a_changed_row_of_the_topic_index() {
    let nodes = Nodes::alike();
    // The events of entry 4, offset 6.
    let good = row(4, 0b111);
    let found = |change: Change<'_>| {
        nodes.tamper(2, "index", &[change]);
        let answer = verify_directories(&nodes.directories);
        let found = answer.only().clone();
        let row = (change.0 == row_key(0, 6)).then_some(&good[..]);
        nodes.tamper(2, "index", &[(change.0, row)]);
        verify_directories(&nodes.directories).is_good();
        assert_eq!(found["at"], json!([name(&nodes, 2)]));
        ["invariant", "index", "topic", "offset"].map(|field| found[field].clone())
    };
    let mask = found((&row_key(0, 6), Some(&row(4, 0b101))));
    assert_eq!(mask, [json!(4), json!(4), json!("a"), json!(6)]);
    let entry = found((&row_key(0, 6), Some(&row(3, 0b111))));
    assert_eq!(entry, [json!(4), json!(4), json!("a"), json!(6)]);
    let missing = found((&row_key(0, 6), None));
    assert_eq!(missing, [json!(6), json!(4), json!("a"), json!(6)]);
    let additional = found((&row_key(0, 7), Some(&row(4, 0b1))));
    assert_eq!(additional, [json!(6), json!(7), json!("a"), json!(7)]);
    let unapplied = found((&row_key(0, 13), Some(&row(10, 0b1))));
    assert_eq!(unapplied, [json!(8), json!(10), json!("a"), json!(13)]);
    let nameless = found((&row_key(2, 0), Some(&row(10, 0b1))));
    assert_eq!(nameless, [json!(8), json!(10), Value::Null, Value::Null]);
}

#[test]
fn a_checkpoint_with_a_wrong_hash() {
    let nodes = Nodes::alike();
    let key = [0, 0, 3, 0, 0, 0, 0];
    let mut head = nodes.stored(1, "state", &key);
    // The hash is the last number. Its lowest bits come first.
    let at = head.len() - 9;
    head[at] ^= 1;
    nodes.tamper(1, "state", &[(&key, Some(&head))]);
    let answer = verify_directories(&nodes.directories);
    let found = answer.only();
    assert_eq!((&found["at"], &found["index"], &found["invariant"]), (&json!([name(&nodes, 1)]), &9.into(), &4.into()));
    assert!(found["what"].as_str().is_some_and(|what| what.contains("state hash")), "{found}");
}

#[test]
fn rows_of_a_checkpoint_that_are_not_what_the_log_gives() {
    let nodes = Nodes::alike();
    let (producer, topic) = ([0, 0, 1, 0, 0, 0, 0], [0, 0, 2, 0, 0, 0, 1]);
    let mut changed = nodes.stored(0, "state", &producer);
    // Format, id, epoch, next sequence.
    changed[1 + 16 + 1] ^= 1;
    nodes.tamper(0, "state", &[(&producer, Some(&changed)), (&topic, None)]);
    let answer = verify_directories(&nodes.directories);
    let found: Vec<_> =
        answer.violations().iter().map(|found| [&found["invariant"], &found["producer"], &found["topic"]]).collect();
    let id = Value::from(PRODUCER.map(|byte| format!("{byte:02x}")).concat());
    assert_eq!(found, [[&json!(4), &id, &Value::Null], [&json!(4), &Value::Null, &json!("b")]], "{answer:#?}");
    assert_eq!(answer.code, 1);
}

#[test]
fn a_log_that_differs_at_one_entry_of_the_same_term() {
    let nodes = Nodes::new();
    let mut other = usual_log();
    other[6] = batch_of(7, 2, "a", 11, 3, " is another");
    nodes.write(0, &usual_log(), LAST);
    nodes.write(1, &other, LAST);
    nodes.write(2, &usual_log(), LAST);
    let answer = verify_directories(&nodes.directories);
    let found: Vec<_> = answer.violations().iter().map(|found| (&found["at"], &found["invariant"])).collect();
    let (first, second) = (json!([name(&nodes, 0), name(&nodes, 1)]), json!([name(&nodes, 1), name(&nodes, 2)]));
    assert_eq!(found, [(&first, &json!(2)), (&second, &json!(2))], "{answer:#?}");
    for found in answer.violations() {
        assert_eq!(["index", "topic", "offset"].map(|field| &found[field]), [&json!(7), &json!("a"), &json!(9)]);
    }
}

#[test]
fn logs_that_differ_before_an_entry_that_they_agree_on() {
    let nodes = Nodes::new();
    let mut other = usual_log();
    // As if a leader of term 3 had begun at entry 5 and the one of term 2 had gone on behind it.
    other[4] = batch(5, 1, "b", 9, 1);
    nodes.write(0, &usual_log(), 4);
    nodes.write(1, &other, 4);
    let answer = verify_directories(&nodes.directories[..2]);
    let found = answer.only();
    assert_eq!(
        ["invariant", "index", "topic", "offset"].map(|field| &found[field]),
        [&json!(2), &json!(5), &json!("b"), &json!(0)]
    );
}

#[test]
fn what_was_not_committed_may_differ() {
    let nodes = Nodes::new();
    let common = usual_log()[..5].to_vec();
    let stale = [common.clone(), vec![batch(6, 1, "a", 11, 1), batch(7, 1, "a", 12, 1)]].concat();
    nodes.write(0, &usual_log(), LAST);
    nodes.write(1, &stale, 5);
    nodes.write(2, &usual_log()[..8], 7);
    let answer = verify_directories(&nodes.directories);
    assert_eq!(answer.code, 1, "entry 9 was applied, and is in one log of three");
    assert_eq!(
        ["invariant", "index", "topic", "offset"].map(|field| &answer.only()[field]),
        [&json!(3), &json!(9), &json!("a"), &json!(12)]
    );

    let nodes = Nodes::new();
    nodes.write(0, &usual_log(), LAST - 1);
    nodes.write(1, &stale, 5);
    nodes.write(2, &usual_log()[..8], 7);
    let answer = verify_directories(&nodes.directories);
    answer.is_good();
    let divergences = answer.report["divergences"].as_array().expect("a list");
    let of_first = json!({ "directories": [name(&nodes, 0), name(&nodes, 1)], "index": 6, "terms": [2, 1] });
    assert_eq!((divergences.len(), &divergences[0]), (2, &of_first));
}

#[test]
fn committed_entries_that_differ() {
    let nodes = Nodes::new();
    let other = [usual_log()[..5].to_vec(), vec![empty(6, 3), batch(7, 3, "a", 11, 1)]].concat();
    nodes.write(0, &usual_log(), LAST);
    nodes.write(1, &other, 7);
    let answer = verify_directories(&nodes.directories[..2]);
    let found = answer.only();
    assert_eq!((&found["invariant"], &found["index"]), (&json!(3), &json!(6)), "{found}");
    // One of them may not even have applied it: a later leader has begun without it.
    let nodes = Nodes::new();
    nodes.write(0, &usual_log(), LAST);
    nodes.write(1, &other, 5);
    let answer = verify_directories(&nodes.directories[..2]);
    assert_eq!((&answer.only()["invariant"], &answer.only()["index"]), (&json!(3), &json!(6)));
}

#[test]
fn two_leaders_of_one_term() {
    let nodes = Nodes::new();
    let mut log = usual_log();
    log[6] = empty(7, 2);
    log[8] = batch(9, 2, "a", 11, 1);
    log[7] = empty(8, 2);
    nodes.write(0, &log[..7], 7);
    let answer = verify_directories(&nodes.directories[..1]);
    assert_eq!((&answer.only()["invariant"], &answer.only()["index"]), (&json!(1), &json!(7)));

    // Term 2 begins in two places.
    let nodes = Nodes::new();
    let early = [usual_log()[..4].to_vec(), vec![empty(5, 2)]].concat();
    nodes.write(0, &usual_log()[..6], 4);
    nodes.write(1, &early, 4);
    let answer = verify_directories(&nodes.directories[..2]);
    assert_eq!((&answer.only()["invariant"], &answer.only()["index"]), (&json!(1), &json!(5)));
}

#[test]
fn a_leader_without_its_empty_entry_and_a_term_that_falls() {
    let nodes = Nodes::new();
    let mut log = usual_log();
    log[5] = batch(6, 2, "a", 11, 3);
    log.truncate(6);
    nodes.write(0, &log, 6);
    let answer = verify_directories(&nodes.directories[..1]);
    assert_eq!((&answer.only()["invariant"], &answer.only()["index"]), (&json!(1), &json!(6)));

    let nodes = Nodes::new();
    let log = [usual_log()[..6].to_vec(), vec![batch(7, 1, "a", 11, 3)]].concat();
    nodes.write(0, &log, 6);
    let answer = verify_directories(&nodes.directories[..1]);
    let found: Vec<_> = answer.violations().iter().map(|found| (&found["invariant"], &found["index"])).collect();
    assert_eq!(found, [(&Value::Null, &json!(7)); 2], "of the entry, and of the node's own term: {answer:#?}");
}

#[test]
fn a_directory_of_another_cluster_and_a_copy_are_refused() {
    let (nodes, others) = (Nodes::alike(), Nodes::alike());
    let answer = verify_directories(&[nodes.directories[0].clone(), others.directories[1].clone()]);
    assert_eq!(answer.code, 2, "{answer:#?}");
    assert!(answer.stderr.contains(others.directories[1].to_str().expect("text")), "{}", answer.stderr);
    let answer = verify_directories(&[nodes.directories[0].clone(), nodes.directories[0].clone()]);
    assert!(answer.code == 2 && answer.stderr.contains("copy"), "{answer:#?}");
    // Data that is not of the node whose identity lies beside it.
    let answer = {
        fs::remove_dir_all(nodes.directories[0].join("data")).expect("removed");
        fs::rename(others.directories[0].join("data"), nodes.directories[0].join("data")).expect("moved");
        verify_directories(&nodes.directories)
    };
    assert!(answer.code == 2 && answer.stderr.contains("belongs to somebody else"), "{answer:#?}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let nodes = Nodes::alike();
    let opened = nodes.take(1);
    let answer = verify_directories(&nodes.directories);
    assert_eq!(answer.code, 2, "{answer:#?}");
    let (directory, words) = (nodes.directories[1].to_str().expect("text"), "in use");
    assert!(answer.stderr.contains(directory) && answer.stderr.contains(words), "{}", answer.stderr);
    drop(opened);
    verify_directories(&nodes.directories).is_good();
}

#[test]
fn a_node_that_was_never_started_holds_nothing() {
    let nodes = Nodes::new();
    nodes.write(0, &usual_log(), LAST);
    nodes.write(1, &usual_log(), LAST);
    let before = files(nodes.out());
    let answer = verify_directories(&nodes.directories);
    answer.is_good();
    assert_eq!(answer.report["nodes"][2]["last"], 0);
    assert!(files(nodes.out()) == before, "something was written");
}

#[test]
fn what_is_no_directory_of_a_node_is_a_wrong_command() {
    let nodes = Nodes::new();
    let empty = tempfile::tempdir().expect("a directory");
    for arguments in [&[][..], &[empty.path().to_str().expect("text")], &["--topic", "t"]] {
        assert_eq!(verify(arguments).code, 2, "{arguments:?}");
    }
    let both = [nodes.directories[0].to_str().expect("text"), "--servers", "127.0.0.1:9001"];
    assert_eq!(verify(&both).code, 2);
}
