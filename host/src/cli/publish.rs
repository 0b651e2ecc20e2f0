//! `eventstream publish`: a line is an event.

mod lines;
mod tally;

use super::output::Output;
use super::progress::Progress;
use super::{Exit, Failure, Servers, block_on};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use eventstream_core::id::Sequence;
use eventstream_host::client::{Acks, NotAcked, OpenError, PublishError, Sender, Start, producer_id};
use eventstream_host::clock::Clock;
use lines::{Lines, LinesError};
use std::path::PathBuf;
use tally::Tally;

/// Publish the lines of a file: a line is an event, an empty line too.
///
/// Each event is acknowledged when it is applied and on stable storage of a majority. With --producer, line i of the
/// input has sequence i, so that publishing the same input again under the same name adds nothing that is there already.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topic
    #[arg(long)]
    topic: String,
    /// Who publishes; a name of your choice. Without it, a new name is made up
    #[arg(long, value_name = "NAME")]
    producer: Option<String>,
    #[command(flatten)]
    servers: Servers,
    /// The file, or - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    block_on(publish(args, output))
}

async fn publish(args: &Args, output: Output) -> Result<(), Failure> {
    let lines =
        Lines::open(&args.file).map_err(|error| Failure::usage(format_args!("{}: {error}", args.file.display())))?;
    let client = args.servers.client()?;
    let (name, start) = match &args.producer {
        Some(name) => (name.clone(), Start::At(Sequence(0))),
        None => (made_up_name()?, Start::Next),
    };
    let producer = client.producer(producer_id(&name), start).await.map_err(open_failure)?;
    let (sender, mut acks) = producer.split();

    let clock = Clock::start();
    let tally = RefCell::new(Tally::start(clock));
    let sent = Cell::new(0);
    let mut progress = Progress::start(clock);
    let mut sending = core::pin::pin!(send(sender, lines, &args.topic, &sent));
    let mut send_result = None;
    let count_result = {
        let mut counting = core::pin::pin!(count(&mut acks, &tally));
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                result = &mut sending, if send_result.is_none() => send_result = Some(result),
                result = &mut counting => break result,
                _ = tick.tick() => progress.tell(|| {
                    format!("{} lines sent, {} acknowledged", sent.get(), tally.borrow().acknowledged())
                }),
            }
        }
    };
    progress.end();
    let tally = tally.into_inner();
    output.result(|| tally.text(sent.get()), || tally.object(sent.get(), &args.topic, &name))?;
    let unanswered = sent.get() - tally.acknowledged();
    match (count_result, send_result.unwrap_or(Ok(()))) {
        (Err(not_acked), _) => Err(count_failure(&not_acked, unanswered, &name)),
        (Ok(()), Err(failure)) => Err(failure),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Sends every line. The sender ends with it.
async fn send(mut sender: Sender, mut lines: Lines, topic: &str, sent: &Cell<u64>) -> Result<(), Failure> {
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => return Err(input_failure(&error, sent.get())),
        };
        match sender.send(topic, b"", line).await {
            Ok(_) => sent.set(sent.get() + 1),
            // Those who wait for the answers are told the same.
            Err(PublishError::Failed(_)) => return Ok(()),
            Err(error) => return Err(Failure::usage(error)),
        }
    }
}

/// What came before has been sent, and is acknowledged unless something else failed too.
fn input_failure(error: &LinesError, sent: u64) -> Failure {
    match sent {
        0 => Failure::failed(format_args!("{error}; nothing was sent")),
        sent => Failure::new(Exit::Unknown, format_args!("{error}; the {sent} lines before were sent, nothing after")),
    }
}

async fn count(acks: &mut Acks, tally: &RefCell<Tally>) -> Result<(), NotAcked> {
    while let Some(ack) = acks.next().await {
        tally.borrow_mut().add(&ack?);
    }
    Ok(())
}

/// Nothing is under way yet when a producer cannot be opened.
pub(super) fn open_failure(error: OpenError) -> Failure {
    match error {
        OpenError::NoLeader { .. } => Failure::new(
            Exit::Unreachable,
            format_args!("{error}; nothing was sent; `eventstream status` shows who runs"),
        ),
        OpenError::NoAnswer => Failure::new(Exit::Unreachable, format_args!("{error}; nothing was sent: try again")),
        other => Failure::failed(format_args!("{other}; nothing was sent")),
    }
}

fn count_failure(not_acked: &NotAcked, unanswered: u64, name: &str) -> Failure {
    let again = format!(
        "the outcome of {unanswered} lines is unknown: publish the same input again with --producer {name}, and what is \
         there already is not added twice"
    );
    match not_acked.error {
        PublishError::Unknown => Failure::new(Exit::Unknown, format_args!("no answer in time; {again}")),
        other => Failure::new(Exit::Unknown, format_args!("{other}; {again}")),
    }
}

fn made_up_name() -> Result<String, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Failure::failed(format_args!("no random bytes: {error}")))?;
    Ok(format!("publish-{:016x}", u64::from_be_bytes(random)))
}
