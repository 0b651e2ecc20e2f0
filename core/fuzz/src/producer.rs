//! The conversation of a device with a node that may say anything.

use super::flash::{Chip, open};
use super::{CRC, Decoder, Script, piece};
use eventstream_core::id::{ClusterId, Epoch, Incarnation, Index, NodeId, Offset, ProducerId, Sequence, ShardId, Term};
use eventstream_core::producer::{Inbox, Producer, State, Stored};
use eventstream_core::receipt::{Durability, RunReceipt};
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{
    Batch, Control, Frame, HEADER_LEN, Header, Kind, List, MAX_CONTROL_LEN, MAX_FRAME_LEN, OVERHEAD, ProducerOpened,
    Receipt, Welcome, seal,
};

/// The target: what happens to the device, one thing after the other.
pub const DECODER: Decoder = Decoder { name: "producer", read, seeds };

const CONNECTED: u8 = 0;
const DISCONNECTED: u8 = 1;
const APPEND: u8 = 2;
const PASSES: u8 = 3;
const FRAME: u8 = 4;
const BYTES: u8 = 5;

/// Whatever it hears: what it sends is lawful.
pub fn read(data: &[u8]) {
    let mut device = Device::new(Producer::new(open(Chip::new()), CRC));
    let mut script = Script(data);
    while let (Some(happens), Some(what)) = (script.byte(), script.byte()) {
        match happens % (BYTES + 1) {
            CONNECTED => device.connected(),
            DISCONNECTED => device.disconnected(),
            APPEND => device.append(what),
            PASSES => device.now += Duration::from_millis(20) * u64::from(what),
            FRAME => {
                let controls: Vec<_> = Kind::ALL.iter().filter(|kind| !kind.is_entry()).collect();
                let kind = *controls[usize::from(what) % controls.len()];
                device.hear(&frame(kind, script.piece().unwrap_or_default()));
            }
            _ => device.hear(script.piece().unwrap_or_default()),
        }
        device.transmit();
    }
}

struct Device {
    producer: Producer<Chip, Vec<u8>>,
    inbox: Inbox<Vec<u8>>,
    now: Instant,
}

impl Device {
    fn new(producer: Producer<Chip, Vec<u8>>) -> Self {
        Self { producer, inbox: Inbox::new(vec![0; 512]), now: Instant::ZERO }
    }

    fn connected(&mut self) {
        self.inbox.clear();
        self.producer.handle_connected(self.now);
    }

    fn disconnected(&mut self) {
        self.inbox.clear();
        self.producer.handle_disconnected();
    }

    fn append(&mut self, what: u8) {
        let event = Stored { topic: "oven", time_us: what.into(), key: b"", payload: &[what; 16] };
        assert!(self.producer.append(&event).is_ok(), "flash that is full loses its oldest page");
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.inbox.room();
            let len = room.len().min(bytes.len());
            assert!(len > 0, "there is room when there is no frame");
            room[..len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            self.inbox.handle_filled(len);
            loop {
                match self.inbox.poll_frame(CRC) {
                    Ok(None) => break,
                    Ok(Some(frame)) if self.producer.handle_frame(self.now, &frame).is_ok() => {}
                    _ => return self.disconnected(),
                }
            }
        }
    }

    /// Sends all that there is to send; gives the events in it.
    fn transmit(&mut self) -> u64 {
        let (mut buffer, mut events) = (vec![0; 1024], 0);
        for _ in 0..16 {
            let Ok(transmit) = self.producer.poll_transmit(self.now, &mut buffer);
            let Some(transmit) = transmit else { return events };
            let frame = Frame::check(&buffer[..transmit.len], CRC).expect("what it sends is whole");
            let header = frame.header();
            events += u64::from(header.event_count);
            if header.kind == Kind::Batch {
                let batch = Batch::check(frame.payload(), header.event_count);
                assert!(batch.is_ok_and(|batch| batch.run_count() > 0) && header.is_submitted());
            } else {
                assert!(Control::decode(header.kind, frame.payload()).is_ok());
            }
        }
        panic!("it never stops sending");
    }
}

/// Takes all that a producer has, as a node that leads: none is lost or sent without being there.
pub fn publish(producer: Producer<Chip, Vec<u8>>) {
    let mut device = Device::new(producer);
    let (first, next) = (device.producer.log().first(), device.producer.log().next());
    device.connected();
    device.transmit();
    device.hear(&encoded(&welcome()));
    device.transmit();
    device.hear(&encoded(&opened(1, first)));
    let State::Open { .. } = device.producer.state() else { panic!("{:?}", device.producer.state()) };
    assert!(device.transmit() <= next.0 - first.0);
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL_LEN - OVERHEAD)];
    let mut frame = vec![0; payload.len() + OVERHEAD];
    frame[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
    seal(&mut frame, &Header::of(kind, payload, CRC), CRC);
    frame
}

fn encoded(message: &Control<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let len = message.encode(ShardId(0), &mut buffer, CRC).expect("a lawful message");
    buffer.truncate(len);
    buffer
}

fn welcome() -> Control<'static> {
    Control::Welcome(Welcome {
        version: 1,
        cluster: ClusterId([1; 16]),
        node: NodeId(1),
        incarnation: Incarnation([1; 16]),
        term: Term(1),
        leader: Some(NodeId(1)),
        max_inflight: 65_536,
        members: List::of(&[]),
    })
}

fn opened(request: u64, next_sequence: Sequence) -> Control<'static> {
    let producer = ProducerId([9; 16]);
    Control::ProducerOpened(ProducerOpened { request, producer, epoch: Epoch(1), next_sequence })
}

/// A conversation in which all goes well, up to the receipt of the first batch.
pub fn seeds() -> Vec<Vec<u8>> {
    let runs =
        [RunReceipt { duplicates: 0, duplicate_offset: None, accepted: 2, first_offset: Offset(0), refused: None }];
    let receipt =
        Receipt { batch: 2, index: Index(7), term: Term(1), durability: Durability::Majority, runs: List::of(&runs) };
    let hear = |message: Control<'_>| [&[BYTES, 0][..], &piece(&encoded(&message))].concat();
    let parts = [
        vec![APPEND, 1, APPEND, 2, CONNECTED, 0],
        hear(welcome()),
        hear(opened(1, Sequence::ZERO)),
        hear(Control::Receipt(receipt)),
        vec![APPEND, 3, PASSES, 200, DISCONNECTED, 0, CONNECTED, 0],
    ];
    // The same with frames that are made of their payloads, so that a change of these is not a wrong checksum.
    let controls: Vec<_> = Kind::ALL.iter().filter(|kind| !kind.is_entry()).collect();
    let framed = |message: Control<'_>| {
        let place = controls.iter().position(|&&kind| kind == message.kind()).expect("it is one of them");
        let frame = encoded(&message);
        [&[FRAME, place as u8][..], &piece(&frame[HEADER_LEN..frame.len() - (OVERHEAD - HEADER_LEN)])].concat()
    };
    let by_payload = [
        parts[0].clone(),
        framed(welcome()),
        framed(opened(1, Sequence::ZERO)),
        framed(Control::Receipt(receipt)),
        parts[4].clone(),
    ];
    vec![parts.concat(), by_payload.concat()]
}
