//! Whether every acknowledged event is there exactly once, in order, and where its acknowledgement said.
//!
//! It is given the topics one after the other, and remembers a bit for each event that was sent.

use super::book::{Book, Extent};
use super::workload::Workload;
use eventstream_core::id::{Offset, ProducerId};
use eventstream_host::client::{Event, Source};
use std::collections::HashMap;

/// Findings that are told in words, at most.
const EXAMPLES: usize = 5;

/// What was found. All is well if everything but `read` is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The node that the topics were read from.
    pub(super) server: String,
    /// Events of this run.
    pub(super) read: u64,
    /// Acknowledged events that are not there.
    pub(super) lost: u64,
    /// Events that are there again.
    pub(super) doubled: u64,
    /// Events that are at another offset than was told, behind a later one of their producer, in another topic, or that
    /// nobody has sent.
    pub(super) misplaced: u64,
    /// Events with another payload than was sent.
    pub(super) corrupted: u64,
    /// The first of them, in words.
    pub(super) examples: Vec<String>,
}

impl Findings {
    pub(super) fn is_good(&self) -> bool {
        self.lost + self.doubled + self.misplaced + self.corrupted == 0
    }

    /// For people.
    pub(super) fn counts(&self) -> String {
        let Self { lost, doubled, misplaced, corrupted, .. } = self;
        format!("{lost} lost, {doubled} doubled, {misplaced} misplaced, {corrupted} corrupted")
    }
}

/// See the [module](self).
pub(super) struct Checker<'a> {
    workload: &'a Workload,
    books: &'a [Book],
    numbers: HashMap<ProducerId, usize>,
    reading: Vec<Reading>,
    topic: usize,
    findings: Findings,
}

/// How far one producer has been read.
struct Reading {
    seen: Bits,
    /// The place of the last event in this topic.
    last: Option<u64>,
    /// The extent that it was in.
    extent: usize,
}

impl<'a> Checker<'a> {
    /// The books are numbered as the producers of the workload are.
    pub(super) fn new(workload: &'a Workload, books: &'a [Book]) -> Self {
        let numbers = books.iter().enumerate().map(|(number, book)| (book.id, number)).collect();
        let reading = books.iter().map(|book| Reading { seen: Bits::new(book.sent), last: None, extent: 0 }).collect();
        Self { workload, books, numbers, reading, topic: 0, findings: Findings::default() }
    }

    /// The events that follow are those of this topic, in the order of their offsets.
    pub(super) fn begin(&mut self, topic: usize) {
        self.topic = topic;
        self.reading.iter_mut().for_each(|reading| (reading.last, reading.extent) = (None, 0));
    }

    pub(super) fn handle(&mut self, event: &Event<'_>) {
        // Others may use the topic too.
        let Source::Producer { producer, epoch, sequence } = event.source else { return };
        let Some(&number) = self.numbers.get(&producer) else { return };
        let (book, reading) = (&self.books[number], &mut self.reading[number]);
        if epoch != book.epoch {
            return;
        }
        self.findings.read += 1;
        let Some(place) = sequence.0.checked_sub(book.first.0).filter(|place| *place < book.sent) else {
            self.findings.misplaced += 1;
            return self.tell(event, "was never sent");
        };
        if reading.seen.set(place) {
            self.findings.doubled += 1;
            return self.tell(event, "is there already");
        }
        let is_behind = reading.last.is_some_and(|last| place < last);
        reading.last = Some(place);
        let told = told(book.acked(), &mut reading.extent, place);
        if is_behind {
            self.findings.misplaced += 1;
            self.tell(event, "comes after a later one of its producer");
        } else if told.is_some_and(|told| told != event.offset) {
            self.findings.misplaced += 1;
            self.tell(event, "was acknowledged at another offset");
        } else if self.workload.topic(number, place) != self.topic {
            self.findings.misplaced += 1;
            self.tell(event, "was sent to another topic");
        }
        if !self.workload.matches(number, place, event.payload) {
            self.findings.corrupted += 1;
            self.tell(event, "has another payload than was sent");
        }
    }

    /// Everything was read, from this server.
    pub(super) fn finish(mut self, server: String) -> Findings {
        for (book, reading) in self.books.iter().zip(&self.reading) {
            for place in book.acked().iter().flat_map(|extent| extent.first..extent.end()) {
                if reading.seen.contains(place) {
                    continue;
                }
                self.findings.lost += 1;
                if self.findings.examples.len() < EXAMPLES {
                    let sequence = book.first.plus(place);
                    self.findings.examples.push(format!("sequence {sequence} of producer {} is not there", book.id));
                }
            }
        }
        Findings { server, ..self.findings }
    }

    fn tell(&mut self, event: &Event<'_>, what: &str) {
        if self.findings.examples.len() == EXAMPLES {
            return;
        }
        let Source::Producer { producer, sequence, .. } = event.source else { return };
        let (topic, offset) = (event.topic, event.offset);
        let text = format!("sequence {sequence} of producer {producer}, at offset {offset} of {topic}, {what}");
        self.findings.examples.push(text);
    }
}

/// The offset that the acknowledgement of this event told, if it did. `at` is the extent where the last one was found.
fn told(acked: &[Extent], at: &mut usize, place: u64) -> Option<Offset> {
    let holds = |extent: &&Extent| (extent.first..extent.end()).contains(&place);
    if acked.get(*at).filter(holds).is_none() {
        *at = acked.partition_point(|extent| extent.end() <= place);
    }
    let extent = acked.get(*at).filter(holds)?;
    Some(extent.offset?.plus(place - extent.first))
}

/// A bit for each number below a limit.
struct Bits(Vec<u64>);

impl Bits {
    fn new(limit: u64) -> Self {
        Self(vec![0; limit.div_ceil(64) as usize])
    }

    fn contains(&self, number: u64) -> bool {
        self.0[(number / 64) as usize] >> (number % 64) & 1 == 1
    }

    /// Sets it; returns whether it was set already.
    fn set(&mut self, number: u64) -> bool {
        let was_set = self.contains(number);
        self.0[(number / 64) as usize] |= 1 << (number % 64);
        was_set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventstream_core::id::{Epoch, EventId, Index, Sequence};

    const ONE: ProducerId = ProducerId([1; 16]);
    const TWO: ProducerId = ProducerId([2; 16]);
    const EPOCH: Epoch = Epoch(4);
    /// The sequence at place 0.
    const FIRST: u64 = 1_000;

    fn workload() -> Workload {
        Workload::new(42, 24, vec!["a".into(), "b".into()])
    }

    /// What is read of topic a: (producer, place) at offset 500 and on.
    fn log() -> Vec<(usize, u64)> {
        // Producer 0 sends places 0 to 63 there, producer 1 places 64 to 127.
        (0..32).map(|n| (0, n)).chain((64..128).map(|n| (1, n))).chain((32..64).map(|n| (0, n))).collect()
    }

    fn books() -> [Book; 2] {
        let extent = |first, events, offset| Extent { first, events, offset: Some(Offset(offset)) };
        // The second producer's first 64 events, those of topic b, were given up.
        [
            Book::of(ONE, EPOCH, Sequence(FIRST), &[extent(0, 32, 500), extent(32, 32, 596)]),
            Book::of(TWO, EPOCH, Sequence(FIRST), &[extent(64, 64, 532)]),
        ]
    }

    struct Read {
        producer: ProducerId,
        epoch: Epoch,
        sequence: u64,
        offset: u64,
        payload: Vec<u8>,
    }

    fn read(log: &[(usize, u64)]) -> Vec<Read> {
        let each = |(offset, &(number, place)): (u64, &(usize, u64))| {
            let mut payload = workload().buffer();
            workload().fill(number, place, &mut payload);
            Read { producer: [ONE, TWO][number], epoch: EPOCH, sequence: FIRST + place, offset, payload }
        };
        (500..).zip(log).map(each).collect()
    }

    fn check_topic(topic: usize, events: &[Read]) -> Findings {
        let (workload, books) = (workload(), books());
        let mut checker = Checker::new(&workload, &books);
        checker.begin(topic);
        events.iter().for_each(|read| checker.handle(&read.event(&workload.topics[topic])));
        checker.finish("here".into())
    }

    impl Read {
        fn event<'a>(&'a self, topic: &'a str) -> Event<'a> {
            let sequence = Sequence(self.sequence);
            Event {
                topic,
                offset: Offset(self.offset),
                index: Index(1),
                time_us: 0,
                source: Source::Producer { producer: self.producer, epoch: self.epoch, sequence },
                key: b"",
                payload: &self.payload,
            }
        }
    }

    /// (read, lost, doubled, misplaced, corrupted)
    fn counts(findings: &Findings) -> (u64, u64, u64, u64, u64) {
        (findings.read, findings.lost, findings.doubled, findings.misplaced, findings.corrupted)
    }

    #[test]
    fn what_is_all_there_is_good() {
        let findings = check_topic(0, &read(&log()));
        assert_eq!(counts(&findings), (128, 0, 0, 0, 0));
        assert!(findings.is_good() && findings.examples.is_empty() && findings.server == "here");
    }

    #[test]
    fn a_planted_loss_is_found() {
        let mut events = read(&log());
        events.remove(40);
        let findings = check_topic(0, &events);
        assert_eq!(counts(&findings), (127, 1, 0, 0, 0));
        assert_eq!(findings.examples, [format!("sequence {} of producer {TWO} is not there", FIRST + 64 + 8)]);
        assert!(!findings.is_good());
        assert_eq!(counts(&check_topic(0, &[])), (0, 128, 0, 0, 0), "everything");
    }

    #[test]
    fn a_planted_double_is_found() {
        let mut log = log();
        log.push((0, 63));
        assert_eq!(counts(&check_topic(0, &read(&log))), (129, 0, 1, 0, 0));
        // In the place of another one, which moves all that follows it.
        log.remove(50);
        assert_eq!(counts(&check_topic(0, &read(&log))), (128, 1, 1, 77, 0));
    }

    #[test]
    fn a_planted_swap_is_found() {
        // Of one producer: the later one is too early, the earlier one too late.
        let mut log = log();
        log.swap(10, 11);
        let findings = check_topic(0, &read(&log));
        assert_eq!(counts(&findings), (128, 0, 0, 2, 0));
        assert!(findings.examples[1].ends_with("at offset 511 of a, comes after a later one of its producer"));
        // Of two producers, each of whose events are still in order.
        let mut log = self::log();
        log.swap(31, 32);
        assert_eq!(counts(&check_topic(0, &read(&log))), (128, 0, 0, 2, 0));
        // Of payloads.
        let mut events = read(&self::log());
        events[3].payload = events[4].payload.clone();
        assert_eq!(counts(&check_topic(0, &events)), (128, 0, 0, 0, 1));
    }

    #[test]
    fn an_event_is_looked_for_in_its_topic_and_under_its_number() {
        assert_eq!(counts(&check_topic(1, &read(&log()))), (128, 0, 0, 128, 0), "the other topic");
        let mut events = read(&log());
        events[127].sequence += 100;
        assert_eq!(counts(&check_topic(0, &events)), (128, 1, 0, 1, 0), "nobody has sent this one");
        events[127].sequence = FIRST - 1;
        assert_eq!(counts(&check_topic(0, &events)), (128, 1, 0, 1, 0), "nor this one");
    }

    #[test]
    fn what_was_given_up_may_be_there_or_not_but_only_once() {
        let given_up: Vec<_> = (0..64).map(|place| (1, place)).collect();
        let (workload, books) = (workload(), books());
        let mut checker = Checker::new(&workload, &books);
        for (topic, log) in [(0, log()), (1, [&given_up[..], &given_up[..1]].concat())] {
            checker.begin(topic);
            read(&log).iter().for_each(|read| checker.handle(&read.event(&workload.topics[topic])));
        }
        assert_eq!(counts(&checker.finish("here".into())), (193, 0, 1, 0, 0));
    }

    #[test]
    fn others_may_use_the_topic() {
        let mut events = read(&log());
        events.extend(read(&[(0, 0)]).into_iter().map(|read| Read { producer: ProducerId([9; 16]), ..read }));
        // Other lives of the producer: the one before, and one that has ended this one and goes on with its numbers.
        events.extend(read(&[(0, 0)]).into_iter().map(|read| Read { epoch: Epoch(3), sequence: FIRST - 1, ..read }));
        events.extend(read(&[(0, 9)]).into_iter().map(|read| Read { epoch: Epoch(5), ..read }));
        assert_eq!(counts(&check_topic(0, &events)), (128, 0, 0, 0, 0));
        let (workload, books) = (workload(), books());
        let mut checker = Checker::new(&workload, &books);
        let source = Source::EventId(EventId([3; 16]));
        let (topic, key, payload) = ("a", &b""[..], &b""[..]);
        checker.handle(&Event { topic, offset: Offset(1), index: Index(1), time_us: 0, source, key, payload });
        assert_eq!(checker.finish("here".into()).read, 0);
    }
}
