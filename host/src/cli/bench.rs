//! `eventstream bench`: how many events the cluster takes, how fast it answers, and whether all of them are there.

mod book;
mod check;
mod closed;
mod measured;
mod open;
mod plan;
mod read_back;
mod report;
mod schedule;
mod ticks;
mod workload;

use super::output::Output;
use super::progress::Progress;
use super::publish::open_failure;
use super::{Exit, Failure, Servers, block_on};
use book::Book;
use core::time::Duration;
use eventstream_core::id::Offset;
use eventstream_core::receipt::RunRefusal;
use eventstream_core::time;
use eventstream_core::wire::Refusal;
use eventstream_host::client::{
    self, Client, NotAcked, OpenError, Options, Producer, PublishError, Start, producer_id,
};
use eventstream_host::clock::Clock;
use eventstream_host::reference::Reference;
use measured::{Measured, Run, Span};
use plan::{Pace, Plan};
use report::{Leadership, References, Report};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use ticks::Ticks;
use tokio::task::JoinSet;
use workload::Workload;

/// Between two looks at who leads.
const LOOK: Duration = Duration::from_millis(50);

/// Measure throughput and latency, and check that every acknowledged event is there once.
///
/// Closed loop (--inflight): so many events are kept under way, and latency counts from the moment of sending. Open loop
/// (--rate): events are due at a fixed rate whatever the cluster does, and latency counts from the due time. Payloads are
/// pseudo-random. The warm-up is not in the figures. The disk and the loopback of this machine are measured before and
/// after, and tell whether the machine was quiet. At the end every topic is read, and every acknowledged event looked for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Closed loop: events under way, of all producers together; 4096 if there is no --rate
    #[arg(long, value_name = "EVENTS")]
    inflight: Option<u64>,
    /// Open loop: events per second, of all producers together
    #[arg(long, value_name = "EVENTS")]
    rate: Option<u64>,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Producers, all of this process and over the same connections
    #[arg(long, default_value_t = 1)]
    producers: u64,
    /// Topics; each producer goes on to the next one after 64 events
    #[arg(long, default_value_t = 1)]
    topics: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds before that, under the same load
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warmup: u64,
    /// What the names of topics and producers begin with; runs at the same time need different ones
    #[arg(long, default_value = "bench")]
    name: String,
    /// Where the disk is measured: a directory on the disk of the nodes; the one for temporary files if not given
    #[arg(long, value_name = "DIR")]
    reference_dir: Option<PathBuf>,
    #[command(flatten)]
    servers: Servers,
}

pub(super) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let plan = Plan::new(args).map_err(Failure::usage)?;
    let directory = args.reference_dir.clone().unwrap_or_else(std::env::temp_dir);
    if !directory.is_dir() {
        return Err(Failure::usage(format_args!("{} is no directory", directory.display())));
    }
    block_on(bench(args, &plan, &directory, output))
}

async fn bench(args: &Args, plan: &Plan, directory: &Path, output: Output) -> Result<(), Failure> {
    let reading_options = args.servers.options()?;
    let options = Options {
        window_events: plan.window_events().max(reading_options.window_events),
        window_bytes: plan.window_bytes().max(reading_options.window_bytes),
        ..reading_options.clone()
    };
    let client = Client::connect_with(&args.servers.servers, options)?;
    let workload = Arc::new(Workload::new(seed()?, plan.size, plan.topic_names()));
    let starts = make_topics(&client, plan, &workload).await?;
    let producers = open_producers(&client, plan).await?;

    let clock = Clock::start();
    let before = reference(clock, directory).await?;
    let (run, leadership, books) = load(&client, plan, &workload, args.servers.patience(), clock, producers).await?;
    let after = reference(clock, directory).await?;
    drop(client);

    let reading = read_back::Reading { servers: &args.servers.servers, options: &reading_options, starts };
    let (findings, checked) = match read_back::check(&reading, &workload, &books, clock).await {
        Ok(findings) => (Some(findings), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let measured = run.measured();
    let report = Report {
        plan,
        measured: &measured,
        books: &books,
        leadership,
        references: References { before, after, directory: directory.to_owned() },
        findings,
    };
    output.result(|| report.text(), || report.object())?;
    checked.and_then(|()| report.verdict())
}

/// Seconds of load; ends when every event is answered, or was given up.
async fn load(
    client: &Client,
    plan: &Plan,
    workload: &Arc<Workload>,
    patience: Duration,
    clock: Clock,
    producers: Vec<Producer>,
) -> Result<(Run, Leadership, Vec<Book>), Failure> {
    let span = Span::starting(clock.now(), plan.warmup, plan.measured);
    let measured = Arc::new(Mutex::new(Measured::new(span)));
    let run = Run { clock, workload: Arc::clone(workload), span, patience: micros(patience), measured };
    let mut tasks = JoinSet::new();
    let total = producers.len();
    match plan.pace {
        Pace::Closed { inflight } => {
            for (number, producer) in producers.into_iter().enumerate() {
                let share = plan::share(inflight, total as u64, number as u64);
                let work = closed::run(run.clone(), number, producer, share);
                tasks.spawn(async move { vec![(number, work.await)] });
            }
        }
        Pace::Open { rate } => {
            let ticks = Ticks::every(open::TICK).map_err(|error| Failure::failed(format_args!("no timer: {error}")))?;
            let work = open::run(run.clone(), rate, producers, ticks);
            tasks.spawn(async move { work.await.into_iter().enumerate().collect() });
        }
    }
    let mut leadership = Leadership::new(client.leader());
    let mut progress = Progress::start(clock);
    let mut look = tokio::time::interval(LOOK);
    let mut books: Vec<(usize, Book)> = Vec::with_capacity(total);
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(Ok(part)) => books.extend(part),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => break,
            },
            _ = look.tick() => {
                leadership.handle(client.leader());
                progress.tell(|| run.describe());
            }
        }
    }
    leadership.handle(client.leader());
    progress.end();
    books.sort_by_key(|(number, _)| *number);
    Ok((run, leadership, books.into_iter().map(|(_, book)| book).collect()))
}

/// The seed of this run's payloads.
fn seed() -> Result<u64, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Failure::failed(format_args!("no random bytes: {error}")))?;
    Ok(u64::from_le_bytes(random))
}

/// Publishes one event to each topic, so that what the cluster does not allow is known before anything is measured.
/// Gives the offset after it in each.
async fn make_topics(client: &Client, plan: &Plan, workload: &Workload) -> Result<Vec<Offset>, Failure> {
    let id = producer_id(&format!("{}/topics", plan.name));
    let (mut sender, mut acks) = client.producer(id, Start::Next).await.map_err(not_opened)?.split();
    let first = sender.next_sequence();
    let send = async move {
        let payload = vec![0; plan.size];
        for topic in &workload.topics {
            match sender.send(topic, b"", &payload).await {
                Ok(_) => {}
                // Those who wait for the answers are told the same, and more.
                Err(PublishError::Failed(_)) => break,
                Err(error) => return Err(Failure::usage(error)),
            }
        }
        Ok(())
    };
    let hear = async {
        let mut starts = vec![Offset::ZERO; workload.topics.len()];
        while let Some(answer) = acks.next().await {
            let ack = answer.map_err(not_allowed)?;
            // An offset that is not known any more is no harm: the topic is then read from its beginning.
            for place in 0..ack.events() {
                let topic = (ack.first_sequence.0 - first.0 + place) as usize;
                starts[topic] = ack.offset.map_or(Offset::ZERO, |offset| offset.plus(place + 1));
            }
        }
        Ok(starts)
    };
    let ((), starts) = tokio::try_join!(send, hear)?;
    Ok(starts)
}

async fn open_producers(client: &Client, plan: &Plan) -> Result<Vec<Producer>, Failure> {
    let mut producers = Vec::with_capacity(plan.producers as usize);
    for number in 0..plan.producers {
        let id = producer_id(&format!("{}/{number}", plan.name));
        producers.push(client.producer(id, Start::Next).await.map_err(not_opened)?);
    }
    Ok(producers)
}

fn not_opened(error: OpenError) -> Failure {
    match error {
        OpenError::Refused { reason: Refusal::ProducerTableFull } => {
            Failure::usage(format_args!("{error}: take fewer --producers, or the --name of an earlier run"))
        }
        other => open_failure(other),
    }
}

/// Why the cluster does not take such events.
fn not_allowed(not_acked: NotAcked) -> Failure {
    let error = not_acked.error;
    match error {
        PublishError::Failed(client::Failure::Refused { reason: RunRefusal::TopicTableFull }) => {
            Failure::usage(format_args!("{error}: take fewer --topics, or the --name of an earlier run"))
        }
        PublishError::Failed(client::Failure::Refused { reason: RunRefusal::EventTooLarge { .. } }) => {
            Failure::usage(format_args!("{error}: take a smaller --size"))
        }
        PublishError::Unknown => Failure::new(Exit::Unreachable, format_args!("{error}; nothing was measured")),
        other => Failure::failed(format_args!("{other}; nothing was measured")),
    }
}

/// The references of this moment. They block, and the connections have to be served meanwhile.
async fn reference(clock: Clock, directory: &Path) -> Result<Reference, Failure> {
    let of = directory.to_owned();
    let measured = tokio::task::spawn_blocking(move || Reference::measure(clock, &of)).await;
    let measured = measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    measured.map_err(|error| {
        Failure::failed(format_args!("the reference in {} cannot be measured: {error}", directory.display()))
    })
}

fn micros(span: Duration) -> time::Duration {
    time::Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
