//! Reads every topic of the run from a node that has applied all of it, and checks what is there.

use super::super::progress::Progress;
use super::super::{Exit, Failure};
use super::book::Book;
use super::check::{Checker, Findings};
use super::workload::Workload;
use core::time::Duration;
use eventstream_core::id::{Index, Offset};
use eventstream_host::client::{Client, From, Options, StatusReport, status};
use eventstream_host::clock::Clock;

/// Between two questions to nodes that have not applied everything.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Events between two looks at the clock.
const EVENTS_AT_A_TIME: u64 = 4_096;

/// What is to be read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) servers: &'a [String],
    pub(super) options: &'a Options,
    /// Where to begin in each topic.
    pub(super) starts: Vec<Offset>,
}

/// See the [module](self).
pub(super) async fn check(
    reading: &Reading<'_>,
    workload: &Workload,
    books: &[Book],
    clock: Clock,
) -> Result<Findings, Failure> {
    let last = books.iter().map(|book| book.last_index).max().unwrap_or(Index::ZERO);
    let server = server_with(reading, last, clock).await?;
    let client = Client::connect_with(&[&server], reading.options.clone())?;
    let mut progress = Progress::start(clock);
    let mut checker = Checker::new(workload, books);
    let mut read = 0_u64;
    for (number, (topic, start)) in workload.topics.iter().zip(&reading.starts).enumerate() {
        checker.begin(number);
        let mut subscriber = client.subscribe(topic, From::Offset(*start)).map_err(Failure::usage)?;
        let not_read =
            |error| Failure::new(Exit::Unreachable, format_args!("{topic} cannot be read to check it: {error}"));
        while let Some(event) = subscriber.next_until_caught_up().await.map_err(not_read)? {
            checker.handle(&event);
            read += 1;
            if read.is_multiple_of(EVENTS_AT_A_TIME) {
                progress.tell(|| format!("checking, {read} events read"));
            }
        }
    }
    progress.end();
    Ok(checker.finish(server))
}

/// The first server that has applied whatever any of them knows to be committed, and `last`.
async fn server_with(reading: &Reading<'_>, last: Index, clock: Clock) -> Result<String, Failure> {
    let deadline = clock.now() + super::micros(reading.options.patience);
    loop {
        let mut reports: Vec<(&String, StatusReport)> = Vec::new();
        for server in reading.servers {
            reports.extend(status(server.trim(), reading.options).await.ok().map(|report| (server, report)));
        }
        let committed = reports.iter().map(|(_, report)| report.commit).max().unwrap_or(last).max(last);
        if let Some((server, _)) = reports.iter().find(|(_, report)| report.applied >= committed) {
            return Ok(server.trim().to_owned());
        }
        if clock.now() >= deadline {
            return Err(Failure::new(
                Exit::Unreachable,
                "no node that has applied the whole run answers: nothing was checked",
            ));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
