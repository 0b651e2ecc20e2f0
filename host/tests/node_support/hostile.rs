//! What nobody who means well sends: frames that are wrong in one place each, events beyond the limits of the format, noise.

use super::Client;
use core::net::SocketAddr;
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::MAX_COUNTER;
use eventstream_core::id::{ClusterId, Epoch, ProducerId, Sequence, ShardId};
use eventstream_core::wire::{
    Control, END_LEN, HEADER_LEN, Header, Hello, Kind, OVERHEAD, Ping, Role, VERSION, field, seal,
};
use eventstream_host::checksum::CRC;
use eventstream_host::identity::Member;

/// Nobody's producer.
const STRANGER: ProducerId = ProducerId([9; 16]);

/// A batch of two events, as a client would send it.
pub fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; 1_000]);
    for sequence in 0..2 {
        let sequence = Sequence(sequence);
        let source = Source::Producer { producer: STRANGER, epoch: Epoch(1), sequence, after_gap: false };
        let event = Event { topic: "bad", source, time_us: 1, key: b"key", payload: b"a payload" };
        builder.push(&event).expect("room");
    }
    let (mut frame, len) = builder.finish(ShardId(0), 1, 1, CRC);
    frame.truncate(len);
    frame
}

/// Makes the checksums of a frame right again.
pub fn reseal(frame: &mut [u8]) {
    let payload = CRC.of(&frame[HEADER_LEN..frame.len() - END_LEN]);
    frame[40..44].copy_from_slice(&payload.to_le_bytes());
    let checked = CRC.of(&frame[field::CHECKED]);
    frame[44..48].copy_from_slice(&checked.to_le_bytes());
}

/// A whole ping.
pub fn ping() -> Vec<u8> {
    let mut frame = vec![0; 200];
    let len = Control::Ping(Ping { number: 1 }).encode(ShardId(0), &mut frame, CRC).expect("a good message");
    frame.truncate(len);
    frame
}

/// A frame that is as it should be, around a payload that may be anything.
fn sealed(kind: Kind, event_count: u16, payload: &[u8]) -> Vec<u8> {
    let lawful = Header { event_count, batch_id: event_count.into(), ..Header::of(kind, b"x", CRC) };
    let mut frame = vec![b'x'; OVERHEAD + 1];
    seal(&mut frame, &lawful, CRC);
    frame.splice(HEADER_LEN..=HEADER_LEN, payload.iter().copied());
    frame[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    reseal(&mut frame);
    frame
}

/// A frame that is wrong in one place.
pub struct Wrong {
    /// Where.
    pub what: &'static str,
    pub frame: Vec<u8>,
    /// What counts it.
    pub counter: &'static str,
}

/// What is wrong, in which frame, at which offset, what stands there (the checksums are right), and what counts it.
type Field = (&'static str, Vec<u8>, usize, &'static [u8], &'static str);

/// A number above the limit.
const TOO_LARGE: [u8; 8] = (MAX_COUNTER + 1).to_le_bytes();

/// A wrong frame for each rule of the format that a single one can break. All of them are refused as malformed.
pub fn wrong_frames() -> Vec<Wrong> {
    let fields: [Field; 14] = [
        ("magic", batch(), 0, &[0xEE], "frame_magic"),
        ("version 0", batch(), 4, &[0], "frame_version"),
        ("version 2", batch(), 4, &[2], "frame_version"),
        ("kind 0", batch(), 5, &[0], "frame_kind"),
        ("kind 15", batch(), 5, &[15], "frame_kind"),
        ("kind 255", batch(), 5, &[255], "frame_kind"),
        ("flags", batch(), 6, &[0, 1], "frame_flags"),
        ("no event", batch(), 10, &[0, 0], "frame_event_count"),
        ("one event more than there are", batch(), 10, &[3, 0], "batch_malformed"),
        ("65 events", batch(), 10, &[65, 0], "frame_event_count"),
        ("a payload that is too long", batch(), 12, &[1, 128, 0, 0], "frame_payload_length"),
        ("a batch id beyond the limit", batch(), 16, &TOO_LARGE, "frame_number"),
        ("a batch with a term", batch(), 24, &[1], "frame_stamp"),
        ("a message with a term", ping(), 24, &[1], "frame_unused_field"),
    ];
    let fields = fields.into_iter().map(|(what, mut frame, at, bytes, counter)| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut frame);
        Wrong { what, frame, counter }
    });
    let flips = [
        ("payload checksum", 40, "frame_payload_checksum"),
        ("header checksum", 44, "frame_header_checksum"),
        ("end marker", batch().len() - 1, "frame_end_marker"),
    ];
    let flips = flips.into_iter().map(|(what, at, counter)| {
        let mut frame = batch();
        frame[at] ^= 1;
        // The checksum of the payload is in what that of the header covers.
        let covered = CRC.of(&frame[field::CHECKED]).to_le_bytes();
        if at == 40 {
            frame[44..48].copy_from_slice(&covered);
        }
        Wrong { what, frame, counter }
    });
    let mut short = batch();
    short[12..16].copy_from_slice(&1_u32.to_le_bytes());
    reseal(&mut short);
    let others = [
        Wrong { what: "a payload that is longer than its length", frame: short, counter: "frame_end_marker" },
        Wrong {
            what: "a message that is none",
            frame: sealed(Kind::Subscribe, 0, &[0xEE; 9]),
            counter: "message_malformed",
        },
    ];
    fields.chain(flips).chain(others).collect()
}

/// A batch of one event that is written by hand, and so may be larger than any encoder lets it be.
pub fn event_by_hand(topic: &[u8], key: &[u8], payload: &[u8]) -> Vec<u8> {
    let record = [&varint(key.len()), key, &[0], &varint(payload.len()), payload, &[0]].concat();
    // Epoch, first sequence, time, flags; one record of so many bytes.
    let rest = [&[1, 7, 1, 0, 1][..], &varint(record.len()), &record].concat();
    sealed(Kind::Batch, 1, &[&varint(topic.len()), topic, &STRANGER.0, &rest].concat())
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// 1 MiB that means nothing.
pub fn noise() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = core::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(1 << 17).flatten().collect()
}

/// A connection of somebody who has all that a node's directory says.
pub fn impostor(address: SocketAddr, cluster: ClusterId, as_node: &Member) -> Client {
    let role = Role::Peer { node: as_node.id, incarnation: as_node.incarnation };
    let mut client = Client::dial(address);
    client.say(&Control::Hello(Hello { version_min: VERSION, version_max: VERSION, cluster: Some(cluster), role }));
    client.wait_for(Kind::Welcome);
    client
}
