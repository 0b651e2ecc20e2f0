//! What has to become of an entry when it is applied, written down a second time and as simply as can be: every event
//! that was ever accepted is remembered.
//!
//! The replicas' outcomes are compared with it. It is also what acknowledgements and deliveries are held against.

use crate::payload::{Event, TOPICS, producer_number};
use crate::stats::{Happening, Stats};
use crate::violation::{Checked, ensure};
use eventstream_core::config::Parameters;
use eventstream_core::dedup::{OpenRefusal, Opened};
use eventstream_core::id::{Epoch, Offset, Sequence};
use eventstream_core::receipt::{RunReceipt, RunRefusal};
use eventstream_core::replica::{Command, CommandOutcome, Outcomes};
use eventstream_core::wire::{Batch, Run};

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The topic's number in the schedule.
    pub(crate) topic: u8,
    pub(crate) offset: u32,
    pub(crate) life: u16,
}

#[derive(Debug, Default)]
struct Topic {
    /// The number that the cluster gave it.
    id: Option<u32>,
    /// By offset.
    events: Vec<Event>,
}

#[derive(Debug, Default)]
struct Producer {
    /// `None` if the cluster does not know it, or not any more.
    epoch: Option<u32>,
    /// By sequence; `None` where the producer dropped an event.
    places: Vec<Option<Place>>,
    /// The first sequence of the run accepted last.
    newest_run: usize,
    /// The log time of the entry that it last spoke in.
    spoke_at: u64,
    /// The same as `places`, for each time before it was evicted.
    before: Vec<Vec<Option<Place>>>,
}

/// The committed log's meaning.
#[derive(Debug, Default)]
pub(crate) struct Model {
    topics: [Topic; TOPICS.len()],
    producers: Vec<Producer>,
    parameters: Parameters,
    /// The highest epoch that a producer may have had who was evicted.
    evicted_epoch: u32,
    /// The log time of the entry that is applied.
    log_time: u64,
}

impl Model {
    pub(crate) fn reset(&mut self, producers: usize, parameters: Parameters) {
        for topic in &mut self.topics {
            topic.id = None;
            topic.events.clear();
        }
        for producer in &mut self.producers {
            producer.epoch = None;
            producer.places.clear();
            producer.newest_run = 0;
            producer.spoke_at = 0;
            producer.before.clear();
        }
        self.producers.resize_with(producers, Producer::default);
        self.parameters = parameters;
        (self.evicted_epoch, self.log_time) = (0, 0);
    }

    /// Where the cluster put an event of a life of its producer, if it has it.
    pub(crate) fn place(&self, producer: u8, sequence: u64, life: u16) -> Option<Place> {
        let producer = &self.producers[usize::from(producer)];
        let all = producer.before.iter().chain([&producer.places]);
        all.filter_map(|places| *places.get(sequence as usize)?).find(|place| place.life == life)
    }

    /// The next entry has this log time.
    pub(crate) const fn advance(&mut self, log_time: u64) {
        self.log_time = log_time;
    }

    /// The event at an offset, if there is one.
    pub(crate) fn event(&self, topic: u8, offset: u64) -> Option<Event> {
        self.topics[usize::from(topic)].events.get(offset as usize).copied()
    }

    /// The number of a topic of the schedule by the one that the cluster gave it.
    pub(crate) fn topic_by_id(&self, id: u32) -> Option<u8> {
        self.topics.iter().position(|topic| topic.id == Some(id)).map(|topic| topic as u8)
    }

    /// Events accepted so far.
    pub(crate) fn events(&self) -> u64 {
        self.topics.iter().map(|topic| topic.events.len() as u64).sum()
    }

    /// The next batch of the log: `outcomes` has to say what the rules say.
    pub(crate) fn apply_batch(&mut self, batch: &Batch<'_>, outcomes: &Outcomes, stats: &mut Stats) -> Checked {
        let receipts = outcomes.runs();
        ensure!(
            receipts.len() == usize::from(batch.run_count()),
            Outcome,
            "{} receipts for {} runs",
            receipts.len(),
            batch.run_count()
        );
        let (mut first_event, mut mask) = (0, 0);
        for (run, receipt) in batch.runs().zip(receipts) {
            let accepted = self.apply_run(&run, receipt, stats)?;
            mask |= accepted.checked_shl(first_event).unwrap_or(0);
            first_event += u32::from(run.head().count);
        }
        ensure!(outcomes.accepted_mask() == mask, Outcome, "mask {:#x} instead of {mask:#x}", outcomes.accepted_mask());
        self.check_slices(batch, outcomes)
    }

    /// Returns the events of the run that were accepted, a bit each.
    fn apply_run(&mut self, run: &Run<'_>, receipt: &RunReceipt, stats: &mut Stats) -> Checked<u64> {
        let head = run.head();
        let number = producer_number(head.producer);
        let (first, count) = (head.first_sequence.0 as usize, usize::from(head.count));
        let topic = TOPICS.iter().position(|&name| name == head.topic);
        let Some(topic) = topic.filter(|_| usize::from(number) < self.producers.len()) else {
            ensure!(false, Outcome, "a run that nobody sent: {head:?}");
            return Ok(0);
        };
        let refusal = self.refusal(number, head.epoch.0, first, head.has_gap());
        let next = self.producers[usize::from(number)].places.len();
        let duplicates = if refusal.is_some() { 0 } else { next.saturating_sub(first).min(count) };
        let mut fresh = if refusal.is_some() { 0 } else { count - duplicates };
        let mut refusal = refusal;
        if fresh > 0 && self.topics[topic].id.is_none() && self.topic_count() == self.parameters.topics as usize {
            (fresh, refusal) = (0, Some(RunRefusal::TopicTableFull));
        }

        let first_offset = if fresh > 0 { self.topics[topic].events.len() as u64 } else { 0 };
        let expected = (duplicates, fresh, Offset(first_offset), refusal);
        let found =
            (usize::from(receipt.duplicates), usize::from(receipt.accepted), receipt.first_offset, receipt.refused);
        ensure!(
            found == expected,
            Outcome,
            "run of {count} from sequence {first} of producer {number}: (duplicates, accepted, offset, refusal) \
             {found:?} instead of {expected:?}"
        );
        self.check_duplicates(number, first, duplicates, topic as u8, receipt)?;
        count_run(stats, duplicates, fresh, refusal);

        let is_fenced = matches!(refusal, Some(RunRefusal::Fenced { .. }));
        let is_known = self.producers[usize::from(number)].epoch.is_some();
        if !is_fenced && (is_known || fresh > 0) {
            let producer = &mut self.producers[usize::from(number)];
            producer.epoch = producer.epoch.max(Some(head.epoch.0));
            producer.spoke_at = self.log_time;
        }
        if fresh > 0 {
            if first > next {
                stats.count(Happening::GapRun, 1);
            }
            self.accept(run, topic, duplicates)?;
        }
        Ok((u64::MAX >> (64 - count)) & !((1_u64 << duplicates) - 1) & if fresh > 0 { u64::MAX } else { 0 })
    }

    fn refusal(&self, number: u8, epoch: u32, first: usize, has_gap: bool) -> Option<RunRefusal> {
        let producer = &self.producers[usize::from(number)];
        let next = producer.places.len();
        match producer.epoch {
            None if first > 0 && !has_gap || epoch <= self.evicted_epoch => Some(RunRefusal::ProducerUnknown),
            None if self.is_full() => Some(RunRefusal::ProducerTableFull),
            None => None,
            Some(current) if epoch < current => Some(RunRefusal::Fenced { epoch: Epoch(current) }),
            Some(_) if first > next && !has_gap => Some(RunRefusal::SequenceGap { expected: Sequence(next as u64) }),
            Some(_) => None,
        }
    }

    /// An offset that is given for duplicates is theirs; for those of the newest run it is given.
    fn check_duplicates(&self, number: u8, first: usize, count: usize, topic: u8, receipt: &RunReceipt) -> Checked {
        let producer = &self.producers[usize::from(number)];
        let Some(offset) = receipt.duplicate_offset else {
            let is_remembered = count > 0
                && first >= producer.newest_run
                && producer.places[first].is_some_and(|place| place.topic == topic);
            ensure!(!is_remembered, Outcome, "the offset of duplicates of the newest run was forgotten");
            return Ok(());
        };
        for (at, place) in producer.places[first..first + count].iter().enumerate() {
            let expected = Some((topic, offset.0 as u32 + at as u32));
            let found = place.map(|place| (place.topic, place.offset));
            ensure!(found == expected, ExactlyOnce, "a duplicate is said to be at {expected:?}, but is at {found:?}");
        }
        Ok(())
    }

    /// Takes in the events of a run after its duplicates. That they follow each other without a hole and come once is
    /// so by what was compared before; that they are the events that the run's numbers speak of is seen here.
    fn accept(&mut self, run: &Run<'_>, topic: usize, duplicates: usize) -> Checked {
        let head = run.head();
        let number = producer_number(head.producer);
        if self.topics[topic].id.is_none() {
            self.topics[topic].id = Some(self.topic_count() as u32);
        }
        let producer = &mut self.producers[usize::from(number)];
        let first = head.first_sequence.0 as usize;
        producer.places.resize(producer.places.len().max(first), None);
        producer.newest_run = first + duplicates;
        for (at, record) in run.records().enumerate().skip(duplicates) {
            let event = Event::decode(record.payload);
            let expected = (number, (first + at) as u32);
            let found = event.map(|event| (event.producer, event.sequence));
            ensure!(found == Some(expected), ProducerOrder, "{found:?} was accepted as {expected:?}");
            let Some(event) = event else { return Ok(()) };
            let mut before = producer.before.iter().filter_map(|places| *places.get(first + at)?);
            let twin = before.find(|place| place.life == event.life);
            ensure!(twin.is_none(), ExactlyOnce, "{event:?} was at {twin:?} before its producer was evicted");
            let events = &mut self.topics[topic].events;
            producer.places.push(Some(Place { topic: topic as u8, offset: events.len() as u32, life: event.life }));
            events.push(event);
        }
        Ok(())
    }

    /// The topic slices have to lead to the same events as the receipts.
    fn check_slices(&self, batch: &Batch<'_>, outcomes: &Outcomes) -> Checked {
        let slices = outcomes.topics();
        let sum = slices.iter().fold(0, |sum, slice| sum | slice.mask);
        ensure!(sum == outcomes.accepted_mask(), DenseOffsets, "topic slices hold other events than were accepted");
        for (at, slice) in slices.iter().enumerate() {
            let Some(topic) = self.topic_by_id(slice.topic.0) else {
                ensure!(false, Outcome, "there is no topic {}", slice.topic);
                return Ok(());
            };
            ensure!(!slices[..at].iter().any(|other| other.topic == slice.topic), Outcome, "a topic has two slices");
            let records = batch.runs().flat_map(|run| run.records());
            let chosen = records.enumerate().filter(|&(event, _)| slice.mask >> event & 1 == 1);
            for ((_, record), offset) in chosen.zip(slice.first_offset.0..) {
                let (found, expected) = (Event::decode(record.payload), self.event(topic, offset));
                ensure!(found == expected, DenseOffsets, "{found:?} at offset {offset} instead of {expected:?}");
            }
        }
        Ok(())
    }

    /// The next command of the log.
    pub(crate) fn apply_command(&mut self, command: Command, outcomes: &Outcomes, stats: &mut Stats) -> Checked {
        let (found, expected) = (
            outcomes.command(),
            match command {
                Command::OpenProducer { producer } => self.open(producer_number(producer)),
                Command::EvictProducers { before } => {
                    let evicted = self.evict(before.0);
                    stats.count(Happening::Evicted, evicted.into());
                    CommandOutcome::EvictProducers { evicted }
                }
            },
        );
        ensure!(found == Some(expected), Outcome, "{command:?} gave {found:?} instead of {expected:?}");
        Ok(())
    }

    fn open(&mut self, number: u8) -> CommandOutcome {
        let (is_full, above) = (self.is_full(), self.evicted_epoch);
        let producer = &mut self.producers[usize::from(number)];
        if producer.epoch.is_none() && is_full {
            return CommandOutcome::OpenProducer(Err(OpenRefusal::ProducerTableFull));
        }
        let epoch = producer.epoch.unwrap_or(above) + 1;
        (producer.epoch, producer.spoke_at) = (Some(epoch), self.log_time);
        let next_sequence = Sequence(producer.places.len() as u64);
        CommandOutcome::OpenProducer(Ok(Opened { epoch: Epoch(epoch), next_sequence }))
    }

    fn evict(&mut self, before: u64) -> u32 {
        let before = before.min(self.log_time.saturating_sub(self.parameters.producer_idle_us));
        let mut evicted = 0;
        for producer in &mut self.producers {
            if let Some(epoch) = producer.epoch.take_if(|_| producer.spoke_at < before) {
                producer.before.push(core::mem::take(&mut producer.places));
                producer.newest_run = 0;
                // Some of its lives may not have been heard of.
                self.evicted_epoch = self.evicted_epoch.max(epoch + 1_024);
                evicted += 1;
            }
        }
        evicted
    }

    fn topic_count(&self) -> usize {
        self.topics.iter().filter(|topic| topic.id.is_some()).count()
    }

    /// Producers that the cluster knows.
    pub(crate) fn producer_count(&self) -> u32 {
        self.producers.iter().filter(|producer| producer.epoch.is_some()).count() as u32
    }

    fn is_full(&self) -> bool {
        self.producer_count() == self.parameters.producers
    }
}

fn count_run(stats: &mut Stats, duplicates: usize, fresh: usize, refusal: Option<RunRefusal>) {
    stats.count(Happening::Accepted, fresh as u64);
    stats.count(Happening::Duplicate, duplicates as u64);
    match refusal {
        Some(RunRefusal::SequenceGap { .. }) => stats.count(Happening::SequenceGap, 1),
        Some(RunRefusal::Fenced { .. }) => stats.count(Happening::Fenced, 1),
        Some(RunRefusal::ProducerUnknown) => stats.count(Happening::ProducerUnknown, 1),
        _ => {}
    }
}
