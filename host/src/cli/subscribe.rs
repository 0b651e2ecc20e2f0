//! `eventstream subscribe`: an event is a line.

use super::output::{Output, text_or_hex, unless_gone};
use super::{Exit, Failure, Servers, block_on};
use eventstream_core::id::Offset;
use eventstream_host::client::{Event, From, Source, SubscribeError, Subscriber};
use serde_json::{Map, Value};
use std::io::{self, BufWriter, Write};

/// Print the events of a topic, one per line, in order, without holes.
///
/// Without --follow it ends when everything is printed that was there when it began. With --json each line is an object
/// with topic, offset, key, time (microseconds since 1970), producer, sequence and payload.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topic
    #[arg(long)]
    topic: String,
    /// Where to begin: beginning, latest, or an offset
    #[arg(long, value_name = "beginning|latest|OFFSET", default_value = "beginning", value_parser = parse_from)]
    from: From,
    /// Wait for what comes
    #[arg(long)]
    follow: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    servers: Servers,
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "beginning" => Ok(From::Beginning),
        "latest" => Ok(From::Latest),
        offset => offset
            .parse()
            .map(|offset| From::Offset(Offset(offset)))
            .map_err(|_| "write beginning, latest or the number of an offset".to_owned()),
    }
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    if args.from == From::Latest && !args.follow && args.count.is_none() {
        return Err(Failure::usage(
            "nothing comes after the latest event unless you wait for it: add --follow, or --count N",
        ));
    }
    block_on(subscribe(args, output))
}

async fn subscribe(args: &Args, output: Output) -> Result<(), Failure> {
    let client = args.servers.client()?;
    let mut subscriber = client.subscribe(&args.topic, args.from).map_err(Failure::usage)?;
    drop(client);
    // What comes after the latest event has to be waited for.
    let waits = args.follow || args.from == From::Latest;
    let mut printer = Printer { out: BufWriter::new(io::stdout()), json: output.is_json() };
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = match subscriber.try_next() {
            Some(event) => Ok(Some(event)),
            None => {
                // Before anything is waited for, what there is can be seen.
                unless_gone(printer.out.flush())?;
                next(&mut subscriber, waits).await
            }
        };
        match event {
            Ok(Some(event)) => {
                unless_gone(printer.print(&event))?;
                left -= 1;
            }
            Ok(None) => break,
            Err(error @ SubscribeError::Unreachable { .. }) if args.follow => {
                output.note(&format!("eventstream: {error}; trying on"));
            }
            Err(error) => {
                unless_gone(printer.out.flush())?;
                return Err(failure(&error));
            }
        }
    }
    Ok(unless_gone(printer.out.flush())?)
}

async fn next(subscriber: &mut Subscriber, waits: bool) -> Result<Option<Event<'_>>, SubscribeError> {
    if waits { subscriber.next().await.map(Some) } else { subscriber.next_until_caught_up().await }
}

fn failure(error: &SubscribeError) -> Failure {
    let exit = match error {
        SubscribeError::Unreachable { .. } => Exit::Unreachable,
        SubscribeError::AfterEnd { .. } | SubscribeError::BeforeHorizon { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

struct Printer {
    out: BufWriter<io::Stdout>,
    json: bool,
}

impl Printer {
    fn print(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.out, &object(event))?;
        } else {
            self.out.write_all(event.payload)?;
        }
        self.out.write_all(b"\n")
    }
}

fn object(event: &Event<'_>) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), event.topic.into());
    object.insert("offset".into(), event.offset.0.into());
    text_or_hex(&mut object, "key", event.key);
    object.insert("time".into(), event.time_us.into());
    match event.source {
        Source::Producer { producer, epoch, sequence } => {
            object.insert("producer".into(), producer.to_string().into());
            object.insert("epoch".into(), epoch.0.into());
            object.insert("sequence".into(), sequence.0.into());
        }
        Source::EventId(id) => {
            object.insert("event_id".into(), id.to_string().into());
        }
    }
    object.insert("index".into(), event.index.0.into());
    text_or_hex(&mut object, "payload", event.payload);
    Value::Object(object)
}
