extern crate std;

use super::super::testing::{Fault, TestFlash, payload, stored};
use super::*;
use crate::dedup::{Claim, ProducerSlot, Producers};
use crate::id::{ClusterId, Incarnation, Index, LogTime, Offset, ProducerId, Term, TopicId};
use crate::receipt::{Durability, RunReceipt};
use crate::wire::{Batch, LeaderChanged, List, MAX_FRAME_LEN, Pong};
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

const CRC: Crc32 = Crc32::portable();
const PRODUCER: ProducerId = ProducerId([9; 16]);
const NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

type Device = Producer<TestFlash, Box<[u8]>>;

fn device(pages: usize) -> Device {
    let flash = TestFlash::new(pages, 512);
    Producer::new(FlashLog::format(flash, vec![0; 128].into(), PRODUCER, CRC).unwrap(), CRC)
}

fn restart(device: Device) -> Device {
    let (flash, buffer) = device.into_log().into_parts();
    let flash = TestFlash { bytes_left: None, ..flash };
    Producer::new(FlashLog::open(flash, buffer, CRC).unwrap(), CRC)
}

fn encode(control: &Control<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let len = control.encode(ShardId(0), &mut bytes, CRC).unwrap();
    bytes.truncate(len);
    bytes
}

/// A leader with the cluster's own rules for what is accepted, and with whims.
struct Leader {
    producers: Producers<Box<[ProducerSlot]>>,
    accepted: Vec<(Sequence, Vec<u8>)>,
    /// Events that came although they were there.
    duplicates: u64,
    term: u64,
    leads: bool,
    /// The next batches and requests are refused as busy.
    busy: u8,
    /// The event with this number is one too large.
    too_large: Option<u64>,
}

impl Leader {
    fn new() -> Self {
        let producers = Producers::new(vec![ProducerSlot::EMPTY; 2].into(), 2, 1).unwrap();
        Self { producers, accepted: Vec::new(), duplicates: 0, term: 1, leads: true, busy: 0, too_large: None }
    }

    fn leader(&self) -> Option<NodeId> {
        Some(if self.leads { NODE } else { OTHER })
    }

    fn refusal(&mut self) -> Option<Refusal> {
        if !self.leads {
            return Some(Refusal::NotLeader { term: Term(self.term), leader: self.leader() });
        }
        let is_busy = self.busy > 0;
        self.busy = self.busy.saturating_sub(1);
        is_busy.then_some(Refusal::Busy)
    }

    fn answer(&mut self, frame: &[u8]) -> Vec<u8> {
        let frame = Frame::check(frame, CRC).unwrap();
        let number = frame.header().batch_id;
        if frame.header().kind == Kind::Batch {
            if let Some(reason) = self.refusal() {
                return encode(&Control::Refused(Refused { about: About::Batch(number), reason, detail: "" }));
            }
            let batch = Batch::check(frame.payload(), frame.header().event_count).unwrap();
            let runs: Vec<RunReceipt> = batch.runs().map(|run| self.apply(&run)).collect();
            let (index, term) = (Index(1), Term(self.term));
            let runs = List::of(&runs);
            return encode(&Control::Receipt(Receipt {
                batch: number,
                index,
                term,
                durability: Durability::Majority,
                runs,
            }));
        }
        match Control::decode(frame.header().kind, frame.payload()).unwrap() {
            Control::Hello(_) => encode(&Control::Welcome(Welcome {
                version: VERSION,
                cluster: ClusterId([1; 16]),
                node: NODE,
                incarnation: Incarnation([2; 16]),
                term: Term(self.term),
                leader: self.leader(),
                max_inflight: 4_096,
                members: List::of(&[]),
            })),
            Control::OpenProducer(open) => match self.refusal() {
                Some(reason) => {
                    encode(&Control::Refused(Refused { about: About::Request(open.request), reason, detail: "" }))
                }
                None => {
                    let opened = self.producers.open(open.producer, LogTime::ZERO).unwrap();
                    encode(&Control::ProducerOpened(ProducerOpened {
                        request: open.request,
                        producer: open.producer,
                        epoch: opened.epoch,
                        next_sequence: opened.next_sequence,
                    }))
                }
            },
            Control::Ping(ping) => encode(&Control::Pong(Pong { number: ping.number })),
            other => panic!("a producer says {other:?}"),
        }
    }

    fn apply(&mut self, run: &crate::wire::Run<'_>) -> RunReceipt {
        let claim = Claim::from(run.head());
        let verdict = self.producers.judge(&claim);
        self.duplicates += u64::from(verdict.duplicates);
        let mut receipt = RunReceipt {
            duplicates: verdict.duplicates,
            duplicate_offset: None,
            accepted: verdict.fresh,
            first_offset: Offset::ZERO,
            refused: verdict.refusal,
        };
        let last = claim.first.plus(claim.count.into());
        if receipt.refused.is_none() && self.too_large.is_some_and(|number| (claim.first.0..last.0).contains(&number)) {
            // A whole run is refused for one event: the first is as good as any.
            let before = self.too_large.unwrap() - claim.first.0;
            if before > 0 {
                return RunReceipt::refused(RunRefusal::ProducerTableFull);
            }
            receipt = RunReceipt::refused(RunRefusal::EventTooLarge { limit: 1 });
        }
        let fresh = receipt.accepted;
        self.producers.record(&claim, &verdict, (fresh > 0).then_some((TopicId(0), Offset::ZERO)), LogTime::ZERO);
        for (at, record) in run.records().enumerate().skip(receipt.duplicates.into()).take(fresh.into()) {
            self.accepted.push((claim.first.plus(at as u64), record.payload.to_vec()));
        }
        receipt
    }
}

/// A device, a leader and the stream between them.
struct World {
    now: Instant,
    device: Device,
    leader: Leader,
    to_leader: VecDeque<Vec<u8>>,
    to_device: VecDeque<Vec<u8>>,
    /// What was under way on connections that have ended.
    late: VecDeque<Vec<u8>>,
    dropped: Vec<Dropped>,
}

impl World {
    fn new(pages: usize) -> Self {
        Self {
            now: Instant::from_micros(1),
            device: device(pages),
            leader: Leader::new(),
            to_leader: VecDeque::new(),
            to_device: VecDeque::new(),
            late: VecDeque::new(),
            dropped: Vec::new(),
        }
    }

    fn append(&mut self, events: u64) {
        for _ in 0..events {
            let number = self.device.log().next().0;
            self.device.append(&stored(&payload(number))).unwrap();
        }
    }

    fn connect(&mut self) {
        self.device.handle_connected(self.now);
    }

    fn disconnect(&mut self) {
        self.late.append(&mut self.to_leader);
        self.to_device.clear();
        self.device.handle_disconnected();
    }

    fn transmit(&mut self) -> bool {
        let mut buffer = vec![0; 600];
        let Some(transmit) = self.device.poll_transmit(self.now, &mut buffer).unwrap() else { return false };
        self.dropped.extend(transmit.dropped);
        buffer.truncate(transmit.len);
        self.to_leader.push_back(buffer);
        true
    }

    fn leader_hears(&mut self) -> bool {
        let Some(frame) = self.to_leader.pop_front() else { return false };
        let answer = self.leader.answer(&frame);
        self.to_device.push_back(answer);
        true
    }

    fn device_hears(&mut self) -> bool {
        let Some(frame) = self.to_device.pop_front() else { return false };
        self.device.handle_frame(self.now, &Frame::check(&frame, CRC).unwrap()).unwrap();
        true
    }

    fn tell_leader(&mut self) {
        self.leader.term += 1;
        let changed = LeaderChanged { term: Term(self.leader.term), leader: self.leader.leader() };
        self.to_device.push_back(encode(&Control::LeaderChanged(changed)));
    }

    /// Until the device has nothing to say for a second.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 20 {
            self.now += Duration::from_millis(50);
            quiet = if self.transmit() | self.leader_hears() | self.device_hears() { 0 } else { quiet + 1 };
            if self.device.is_done() && self.to_leader.is_empty() && self.to_device.is_empty() {
                return;
            }
        }
    }

    /// Each event is there once, in order and unharmed, and who is missing was named.
    fn check(&self) {
        let mut next = 0;
        for (sequence, content) in &self.leader.accepted {
            for missing in next..sequence.0 {
                assert!(
                    self.dropped.iter().any(|gap| (gap.first.0..gap.end.0).contains(&missing)),
                    "{missing} is missing"
                );
            }
            assert!(sequence.0 >= next, "{sequence} is there twice, or late");
            assert_eq!(*content, payload(sequence.0));
            next = sequence.0 + 1;
        }
    }

    fn accepted(&self) -> Vec<u64> {
        self.leader.accepted.iter().map(|(sequence, _)| sequence.0).collect()
    }
}

#[test]
fn what_was_kept_before_there_was_a_connection_is_published_over_the_first() {
    let mut world = World::new(8);
    world.append(30);
    world.connect();
    world.settle();
    assert!(world.device.is_done());
    assert_eq!(world.accepted(), (0..30).collect::<Vec<_>>());
    assert!(world.device.log().is_empty() && world.dropped.is_empty());
    world.check();
}

#[test]
fn a_restart_goes_on_where_the_cluster_is() {
    let mut world = World::new(8);
    world.append(10);
    world.connect();
    world.settle();
    world.append(5);
    world.device = restart(world.device);
    assert!(world.device.log().len() >= 5, "what the cluster has is not known any more");
    world.append(5);
    world.connect();
    world.settle();
    assert_eq!(world.accepted(), (0..20).collect::<Vec<_>>());
    assert_eq!(world.leader.duplicates, 0, "what the cluster has is not sent again");
}

#[test]
fn full_flash_drops_the_oldest_and_the_cluster_is_told_which() {
    let mut world = World::new(3);
    world.append(10);
    world.connect();
    world.settle();
    world.disconnect();
    world.append(60);
    let first = world.device.log().first();
    assert!(first > Sequence(10));
    world.connect();
    world.settle();
    assert_eq!(world.dropped, [Dropped { first: Sequence(10), end: first }]);
    assert_eq!(world.accepted(), (0..10).chain(first.0..70).collect::<Vec<_>>());
    assert_eq!(world.leader.producers.find(PRODUCER).unwrap().dropped(), first.0 - 10);
    world.check();
}

#[test]
fn a_device_that_was_evicted_opens_anew_and_goes_on_behind_what_the_cluster_had() {
    for reconnects in [true, false] {
        let mut world = World::new(8);
        world.connect();
        world.append(10);
        world.settle();
        assert_eq!(world.leader.producers.evict(LogTime(1)), 1);
        if reconnects {
            world.disconnect();
            world.connect();
        }
        world.append(10);
        world.settle();
        assert_eq!(world.accepted(), (0..20).collect::<Vec<_>>());
        assert_eq!(world.dropped, [], "nothing was");
        // To the cluster it is a gap, so that everybody sees where exactly-once had to begin anew.
        let known = world.leader.producers.find(PRODUCER).unwrap();
        assert_eq!((known.dropped(), known.next_sequence()), (10, Sequence(20)));
    }
}

#[test]
fn an_event_that_no_cluster_takes_is_given_up_alone() {
    let mut world = World::new(8);
    world.append(20);
    world.leader.too_large = Some(0);
    world.connect();
    world.settle();
    assert_eq!(world.dropped, [Dropped { first: Sequence(0), end: Sequence(1) }]);
    assert_eq!(world.accepted(), (1..20).collect::<Vec<_>>());
}

#[test]
fn a_node_that_does_not_lead_is_left_alone_until_it_does() {
    let mut world = World::new(8);
    world.append(3);
    world.leader.leads = false;
    world.connect();
    assert!(world.transmit() && world.leader_hears() && world.device_hears());
    assert_eq!(world.device.state(), State::Elsewhere { leader: Some(OTHER) });
    assert!(!world.transmit());
    world.leader.leads = true;
    world.tell_leader();
    world.settle();
    assert_eq!(world.accepted(), [0, 1, 2]);
}

#[test]
fn numbers_that_are_taken_stop_the_device_before_an_event_is_lost() {
    let mut world = World::new(8);
    world.append(10);
    world.connect();
    world.settle();
    world.device = device(8);
    world.append(4);
    world.connect();
    world.settle();
    assert_eq!(world.device.state(), State::Stopped(StopReason::NumbersTaken { expected: Sequence(10) }));
    assert_eq!(world.leader.accepted.len(), 10);
}

#[test]
fn a_rival_under_the_same_id_stops_the_device_in_the_end() {
    let mut world = World::new(8);
    world.append(1);
    world.connect();
    assert!(world.transmit() && world.leader_hears() && world.device_hears());
    for fenced in 0..=FENCED_LIMIT {
        assert_eq!(world.device.state(), State::Welcomed, "fenced {fenced} times");
        world.now += PAUSE;
        assert!(world.transmit() && world.leader_hears() && world.device_hears());
        world.leader.producers.open(PRODUCER, LogTime::ZERO).unwrap();
        assert!(world.transmit() && world.leader_hears() && world.device_hears());
    }
    assert_eq!(world.device.state(), State::Stopped(StopReason::Fenced));
    assert!(!world.transmit() && world.leader.accepted.is_empty());
}

#[test]
fn a_node_that_is_silent_is_asked_and_then_given_up() {
    let mut world = World::new(8);
    world.connect();
    world.settle();
    world.now += QUIET;
    assert!(world.transmit(), "are you there?");
    assert!(!world.transmit() && !world.device.is_silent(world.now));
    world.now += DEAD;
    assert!(world.device.is_silent(world.now));
    assert!(world.leader_hears() && world.device_hears());
    assert!(!world.device.is_silent(world.now));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Connect,
    Disconnect,
    Transmit(u8),
    ToLeader(u8),
    ToDevice(u8),
    /// A frame of an earlier connection is read only now; nobody hears the answer.
    Late,
    Restart,
    /// The power goes in the middle of what an append does to the flash.
    Cut(u16),
    Busy(u8),
    Leads(bool),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20u8).prop_map(Step::Append),
        3 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        8 => (1..6u8).prop_map(Step::Transmit),
        8 => (1..6u8).prop_map(Step::ToLeader),
        8 => (1..6u8).prop_map(Step::ToDevice),
        2 => Just(Step::Late),
        1 => Just(Step::Restart),
        1 => (0..400u16).prop_map(Step::Cut),
        1 => (1..3u8).prop_map(Step::Busy),
        1 => any::<bool>().prop_map(Step::Leads),
        4 => (0..1_000u16).prop_map(Step::Wait),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Append(events) => world.append(events.into()),
        Step::Connect => {
            world.disconnect();
            world.connect();
        }
        Step::Disconnect => world.disconnect(),
        Step::Transmit(times) => (0..times).for_each(|_| _ = world.transmit()),
        Step::ToLeader(times) => (0..times).for_each(|_| _ = world.leader_hears()),
        Step::ToDevice(times) => (0..times).for_each(|_| _ = world.device_hears()),
        Step::Late => {
            if let Some(frame) = world.late.pop_front() {
                world.leader.answer(&frame);
            }
        }
        Step::Restart => {
            world.disconnect();
            replace(&mut world.device);
        }
        Step::Cut(bytes) => {
            let (mut flash, buffer) = take_apart(&mut world.device);
            flash.bytes_left = Some(bytes.into());
            world.device = Producer::new(FlashLog::open(flash, buffer, CRC).unwrap(), CRC);
            world.disconnect();
            loop {
                let number = world.device.log().next().0;
                match world.device.append(&stored(&payload(number))) {
                    Ok(_) => {}
                    Err(AppendError::Flash(Fault::PowerCut)) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            replace(&mut world.device);
        }
        Step::Busy(times) => world.leader.busy = times,
        Step::Leads(leads) => {
            world.leader.leads = leads;
            world.tell_leader();
        }
        Step::Wait(millis) => world.now += Duration::from_millis(millis.into()),
    }
}

fn take_apart(place: &mut Device) -> (TestFlash, Box<[u8]>) {
    core::mem::replace(place, device(2)).into_log().into_parts()
}

fn replace(place: &mut Device) {
    let old = core::mem::replace(place, device(2));
    *place = restart(old);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_each_event_is_there_once_in_order_or_was_named_as_dropped(
        pages in 2..9usize,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(pages);
        for step in steps {
            take(&mut world, step);
            world.check();
        }
        // All is well again, and stays so.
        world.disconnect();
        for frame in core::mem::take(&mut world.late) {
            world.leader.answer(&frame);
        }
        (world.leader.leads, world.leader.busy) = (true, 0);
        replace(&mut world.device);
        world.connect();
        world.settle();
        world.check();
        prop_assert!(world.device.is_done(), "{:?}", world.device.state());
        let end = world.leader.producers.find(PRODUCER).unwrap().next_sequence();
        prop_assert_eq!(end, world.device.log().next());
    }
}

#[test]
fn the_buffer_that_is_asked_for_holds_any_event() {
    let mut world = World::new(8);
    let topic = core::str::from_utf8(&[b't'; 60]).unwrap();
    world.device.append(&Stored { topic, time_us: u64::MAX >> 1, key: &[], payload: &[1; 40] }).unwrap();
    world.connect();
    let mut buffer = vec![0; world.device.min_transmit_len()];
    assert!(buffer.len() < MAX_FRAME_LEN);
    for _ in 0..2 {
        assert!(world.transmit() && world.leader_hears() && world.device_hears());
    }
    assert!(world.device.poll_transmit(world.now, &mut buffer).unwrap().is_some());
}
