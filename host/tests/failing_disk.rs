//! A disk that fails once, at any of its calls: nothing is acknowledged that is not on it, the node ends with a named
//! error, and starts again as soon as the fault is gone.
//!
//! A cluster of one node publishes one event at a time under `strace`, which lets one call fail without making it
//! (`inject`). The n-th of each thread, since that is how `strace` counts. What was acknowledged is then to be there even
//! if the power fails at the moment of the fault: the test cuts each file of RocksDB's log to what a sync had returned for,
//! by the trace, before it starts the node again.
//!
//! Of the calls of a start and of the first thousand writes, some are tried. `EVENTSTREAM_TEST_DISK_FAULTS=all` tries each,
//! which takes half an hour; `EVENTSTREAM_TEST_DISK_FAULTS=890-1000` these, to go on with.

use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_host::client::{Client, From, Options, Start, producer_id};
use eventstream_host::identity::Identity;
use eventstream_testbed::Network;
use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

const TOPIC: &str = "disk";
/// Longer than any start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files of the store get numbers below this one.
const NUMBERS: usize = 100;

/// The call that fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    call: &'static str,
    error: &'static str,
    /// As the node says it.
    words: &'static str,
    when: usize,
}

impl Fault {
    const fn of(call: &'static str, when: usize) -> Self {
        let (error, words) = if matches!(call.as_bytes(), [b'f', ..]) {
            ("EIO", "Input/output error")
        } else {
            ("ENOSPC", "No space left")
        };
        Self { call, error, words, when }
    }
}

/// A cluster of one node.
struct Node {
    folder: TempDir,
    server: String,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let network = Network::loopback(1);
        let server = network.listens_at(1);
        let address = server.parse().expect("HOST:PORT");
        let mut identities =
            Identity::new_cluster(&[(NodeId(1), address)], Parameters::default()).expect("an identity");
        let node = Self { folder, server };
        identities.remove(0).write(&node.dir()).expect("an identity");
        node
    }

    /// One that was killed after some events; gives which were acknowledged.
    fn used() -> (Self, Acked) {
        let node = Self::new();
        let (acked, _) = node.run(node.command(), 100, |child| child.kill().expect("a child"));
        assert_eq!(acked.len(), 100);
        (node, acked)
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn arguments(&self, command: &mut Command) {
        command.args(["node", "--stop-at-end-of-input", "--dir"]).arg(self.dir());
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
        self.arguments(&mut command);
        command
    }

    /// The same under a `strace` that lets a call fail.
    fn failing(&self, fault: Fault) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "0", "-e", "trace=write,pwrite64,fdatasync,fsync", "-e"]);
        command.arg(format!("inject={}:error={}:when={}", fault.call, fault.error, fault.when));
        command.arg("-o").arg(self.trace());
        for file in self.files() {
            command.arg("-P").arg(file);
        }
        command.arg(env!("CARGO_BIN_EXE_eventstream"));
        self.arguments(&mut command);
        command
    }

    /// All that the store may write.
    fn files(&self) -> Vec<PathBuf> {
        let dir = self.dir();
        let mut files = vec![dir.clone()];
        files.extend(["FLOOR", "FLOOR.new", "VERSION.new"].map(|name| dir.join(name)));
        for data in ["data", "data.new"].map(|name| dir.join(name)) {
            for number in 1..NUMBERS {
                let names = [
                    format!("{number:06}.log"),
                    format!("{number:06}.sst"),
                    format!("{number:06}.dbtmp"),
                    format!("MANIFEST-{number:06}"),
                    format!("OPTIONS-{number:06}.dbtmp"),
                ];
                files.extend(names.map(|name| data.join(name)));
            }
            files.push(data);
        }
        files
    }

    /// Publishes up to `count` events, one at a time, while the node runs; then lets `end` end it.
    fn run(&self, mut command: Command, count: usize, end: impl FnOnce(&mut Child)) -> (Acked, Ended) {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("a process");
        let input = child.stdin.take().expect("piped");
        let mut errors = child.stderr.take().expect("piped");
        let (ended, has_ended) = oneshot::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let publisher = scope.spawn(move || {
                let acked = publish(&self.server, count, has_ended);
                // The other side is gone if the node is.
                let _ = done.send(());
                acked
            });
            let reader = scope.spawn(move || {
                let mut words = String::new();
                errors.read_to_string(&mut words).expect("words");
                words
            });
            let status = wait(&mut child, input, &is_done, end);
            let _ = ended.send(());
            let acked = publisher.join().expect("a publisher");
            (acked, Ended { status, words: reader.join().expect("a reader") })
        })
    }

    /// Starts it without a fault, and reads all events.
    fn restart(&self) -> Acked {
        let mut found = Acked::new();
        let (_, ended) = self.run(self.command(), 0, |_| found = read_all(&self.server));
        assert!(ended.status.success(), "{}", ended.words);
        found
    }
}

/// Numbers of events.
type Acked = BTreeSet<usize>;

struct Ended {
    status: ExitStatus,
    words: String,
}

/// Waits for the process to end, or for the publisher: then lets `end` end it, and closes its input.
fn wait(
    child: &mut Child,
    input: ChildStdin,
    is_done: &std::sync::mpsc::Receiver<()>,
    end: impl FnOnce(&mut Child),
) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        // Without its end the publisher has failed: that is told when it is joined.
        if is_done.recv_timeout(Duration::from_millis(5)) != Err(RecvTimeoutError::Timeout) {
            end(child);
            drop(input);
            return child.wait().expect("a child");
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn client(server: &str) -> Client {
    Client::connect_with(&[server], Options { patience: PATIENCE, ..Options::default() }).expect("a server")
}

fn publish(server: &str, count: usize, ended: oneshot::Receiver<()>) -> Acked {
    let mut acked = Acked::new();
    if count == 0 {
        return acked;
    }
    let publish = async {
        let producer = client(server).producer(producer_id("one"), Start::Next).await.expect("a producer");
        for number in 0..count {
            producer.publish(TOPIC, b"", number.to_string().as_bytes()).await.expect("an ack");
            acked.insert(number);
        }
    };
    runtime().block_on(async {
        tokio::select! { () = publish => {} _ = ended => {} }
    });
    acked
}

fn read_all(server: &str) -> Acked {
    runtime().block_on(async {
        let client = client(server);
        // Whoever opens a producer has found a leader, and what is committed is applied before that.
        client.producer(producer_id("another"), Start::Next).await.expect("a producer");
        let mut subscriber = client.subscribe(TOPIC, From::Beginning).expect("a topic");
        let mut found = Acked::new();
        while let Some(event) = subscriber.next_until_caught_up().await.expect("the events of a topic") {
            let number = core::str::from_utf8(event.payload).expect("a number").parse().expect("a number");
            assert!(found.insert(number), "event {number} is there twice");
        }
        found
    })
}

/// What a trace tells.
#[derive(Default)]
struct Trace {
    /// Bytes of each file of the log that were written, and that were synced.
    log: HashMap<String, (u64, u64)>,
    /// The file whose call failed.
    failed: Option<PathBuf>,
}

struct Call {
    name: String,
    file: PathBuf,
    /// Bytes written when it began.
    written: u64,
}

impl Trace {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a trace");
        let (mut trace, mut open) = (Self::default(), HashMap::new());
        for line in text.lines() {
            let (thread, line) = line.split_once(' ').expect("a thread");
            let line = line.trim_start();
            let call = match line.strip_prefix("<... ") {
                Some(_) => open.remove(thread),
                None => trace.begin(line),
            };
            let Some(call) = call else { continue };
            match line.rsplit_once(" = ") {
                Some((_, result)) if !line.ends_with("<unfinished ...>") => trace.end(call, result),
                _ => drop(open.insert(thread.to_owned(), call)),
            }
        }
        trace
    }

    /// `None` for an end of a thread or a signal.
    fn begin(&self, line: &str) -> Option<Call> {
        let (name, rest) = line.split_once('(')?;
        let file = rest.split_once('<')?.1.split_once('>')?.0;
        let written = self.log.get(&log_name(Path::new(file))?).map_or(0, |(written, _)| *written);
        Some(Call { name: name.to_owned(), file: file.into(), written })
    }

    fn end(&mut self, call: Call, result: &str) {
        if result.contains("INJECTED") {
            self.failed.get_or_insert(call.file);
            return;
        }
        let (written, synced) = self.log.entry(log_name(&call.file).expect("it has a name")).or_default();
        match call.name.as_str() {
            "write" => *written += result.parse::<u64>().unwrap_or(0),
            "fdatasync" | "fsync" if result == "0" => *synced = (*synced).max(call.written),
            _ => {}
        }
    }
}

fn log_name(file: &Path) -> Option<String> {
    Some(file.file_name()?.to_str()?.to_owned())
}

/// What the power would have left, had it failed when the call did.
fn cut_to_synced(dir: &Path, trace: &Trace) {
    for (name, (_, synced)) in trace.log.iter().filter(|(name, _)| name.ends_with(".log")) {
        let path = dir.join("data").join(name);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file.set_len(*synced).expect("a cut"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns whether the fault came.
fn one_fault(node: &Node, before: &Acked, fault: Fault) -> bool {
    let count = if before.is_empty() { fault.when + 40 } else { 0 };
    let (acked, ended) = node.run(node.failing(fault), count, |_| {});
    let trace = Trace::read(&node.trace());
    if let Some(file) = &trace.failed {
        let words = &ended.words;
        println!("{fault:?}: {}, {} acknowledged, {}: {words}", file.display(), acked.len(), ended.status);
        // What fails in the background fails the next write.
        let is_ours = file.ends_with("FLOOR") || file.extension().is_some_and(|extension| extension == "log");
        assert!(!is_ours || !ended.status.success(), "{fault:?}: the node went on after {}", file.display());
        assert!(ended.status.success() || words.contains(fault.words), "{fault:?}: no named error: {words}");
        assert!(!words.contains("panicked"), "{fault:?}: {words}");
    } else {
        assert!(ended.status.success(), "{fault:?}: no fault, and yet: {}", ended.words);
    }
    cut_to_synced(&node.dir(), &trace);
    let found = node.restart();
    let missing: Vec<_> = before.union(&acked).filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "{fault:?}: acknowledged, and not on the disk: {missing:?} of {}", acked.len());
    trace.failed.is_some()
}

/// Whether `strace` can do it here.
fn can_inject() -> bool {
    let probe = Command::new("strace").args(["-e", "inject=fsync:error=EIO", "true"]).output();
    let can = probe.is_ok_and(|output| output.status.success());
    if !can {
        println!("SKIPPED: no strace that may trace here. NOTHING WAS TESTED of a disk that fails.");
    }
    can
}

/// Which calls fail: some, or all up to the last that is made, a thousand at most.
fn tried(some: &[usize], mut one: impl FnMut(usize) -> bool) {
    let which = env::var("EVENTSTREAM_TEST_DISK_FAULTS").unwrap_or_default();
    let (first, last) = if which == "all" { ("1", "1000") } else { which.split_once('-').unwrap_or_default() };
    if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
        // A call that is never made does not fail. Two in a row: a thread may make one call less this time.
        let mut came = 0;
        let quiet = (first..=last).find(|&when| {
            came = if one(when) { 0 } else { came + 1 };
            came == 3
        });
        println!("tried from {first} up to {}", quiet.unwrap_or(last));
    } else {
        for &when in some {
            one(when);
        }
    }
}

fn from_the_first_start_on(call: &'static str, some: &[usize]) {
    if can_inject() {
        tried(some, |when| one_fault(&Node::new(), &Acked::new(), Fault::of(call, when)));
    }
}

fn at_a_later_start(call: &'static str, some: &[usize]) {
    if can_inject() {
        tried(some, |when| {
            let (node, acked) = Node::used();
            one_fault(&node, &acked, Fault::of(call, when))
        });
    }
}

#[test]
fn a_sync_fails_from_the_first_start_on() {
    from_the_first_start_on("fdatasync", &[1, 4, 9, 15, 25, 100, 1_000]);
}

#[test]
fn a_sync_of_a_directory_fails() {
    from_the_first_start_on("fsync", &[1, 3, 6]);
}

#[test]
fn a_write_finds_the_disk_full_from_the_first_start_on() {
    from_the_first_start_on("write", &[1, 4, 9, 15, 25, 40, 100, 1_000]);
}

#[test]
fn a_write_in_place_finds_the_disk_full() {
    from_the_first_start_on("pwrite64", &[1, 2, 3, 4]);
}

#[test]
fn a_sync_fails_at_a_later_start() {
    at_a_later_start("fdatasync", &[1, 2, 3, 4]);
}

#[test]
fn a_write_finds_the_disk_full_at_a_later_start() {
    at_a_later_start("write", &[1, 3, 6, 10]);
}
