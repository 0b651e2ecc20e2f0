//! What has to become of an entry when it is applied, written down a second time and as simply as can be: every event
//! that was ever accepted is remembered.
//!
//! The replicas' outcomes are compared with it. It is also what acknowledgements and deliveries are held against.

use crate::payload::{Event, TOPICS, producer_number};
use crate::stats::{Happening, Stats};
use crate::violation::{Checked, ensure};
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
    epoch: Option<u32>,
    /// By sequence; `None` where the producer dropped an event.
    places: Vec<Option<Place>>,
    /// The first sequence of the run accepted last.
    newest_run: usize,
}

/// The committed log's meaning.
#[derive(Debug, Default)]
pub(crate) struct Model {
    topics: [Topic; TOPICS.len()],
    producers: Vec<Producer>,
    producer_limit: usize,
    topic_limit: usize,
}

impl Model {
    pub(crate) fn reset(&mut self, producers: usize, producer_limit: u32, topic_limit: u32) {
        for topic in &mut self.topics {
            topic.id = None;
            topic.events.clear();
        }
        for producer in &mut self.producers {
            producer.epoch = None;
            producer.places.clear();
            producer.newest_run = 0;
        }
        self.producers.resize_with(producers, Producer::default);
        (self.producer_limit, self.topic_limit) = (producer_limit as usize, topic_limit as usize);
    }

    /// Where the cluster put an event, if it has it.
    pub(crate) fn place(&self, producer: u8, sequence: u64) -> Option<Place> {
        *self.producers[usize::from(producer)].places.get(sequence as usize)?
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
        if fresh > 0 && self.topics[topic].id.is_none() && self.topic_count() == self.topic_limit {
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

        let is_known = self.producers[usize::from(number)].epoch.is_some();
        if is_known || fresh > 0 {
            let producer = &mut self.producers[usize::from(number)];
            producer.epoch = producer.epoch.max(Some(head.epoch.0));
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
            None if first > 0 && !has_gap => Some(RunRefusal::ProducerUnknown),
            None if self.producer_count() == self.producer_limit => Some(RunRefusal::ProducerTableFull),
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
    pub(crate) fn apply_command(&mut self, command: Command, outcomes: &Outcomes) -> Checked {
        let Command::OpenProducer { producer: id } = command;
        let is_full = self.producer_count() == self.producer_limit;
        let producer = &mut self.producers[usize::from(producer_number(id))];
        let next = producer.places.len() as u64;
        let expected = match producer.epoch {
            None if is_full => None,
            epoch => Some((epoch.unwrap_or(0) + 1, next)),
        };
        if let Some((epoch, _)) = expected {
            producer.epoch = Some(epoch);
        }
        let found = match outcomes.command() {
            Some(CommandOutcome::OpenProducer(Ok(opened))) => Some((opened.epoch.0, opened.next_sequence.0)),
            _ => None,
        };
        ensure!(found == expected, Outcome, "producer opened with {found:?} instead of {expected:?}");
        Ok(())
    }

    fn topic_count(&self) -> usize {
        self.topics.iter().filter(|topic| topic.id.is_some()).count()
    }

    fn producer_count(&self) -> usize {
        self.producers.iter().filter(|producer| producer.epoch.is_some()).count()
    }
}

fn count_run(stats: &mut Stats, duplicates: usize, fresh: usize, refusal: Option<RunRefusal>) {
    stats.count(Happening::Accepted, fresh as u64);
    stats.count(Happening::Duplicate, duplicates as u64);
    match refusal {
        Some(RunRefusal::SequenceGap { .. }) => stats.count(Happening::SequenceGap, 1),
        Some(RunRefusal::Fenced { .. }) => stats.count(Happening::Fenced, 1),
        _ => {}
    }
}
