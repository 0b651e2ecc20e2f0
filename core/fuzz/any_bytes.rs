// What the fuzzer does with its bytes. Also run over the seeds by an ordinary test: `tests/wire_seeds.rs`.

use eventstream_core::crc::Crc32;
use eventstream_core::id::ShardId;
use eventstream_core::wire::{
    Batch, Control, END_LEN, END_MARKER, Frame, HEADER_LEN, Kind, MAX_CONTROL_LEN, OVERHEAD, field, peek,
};

const CRC: Crc32 = Crc32::portable();

/// Reads the bytes as a frame, as they are and with every checksum put right; and as a payload of every kind.
pub(crate) fn read(data: &[u8]) {
    stream(data);
    if let Some(frame) = mended(data) {
        stream(&frame);
    }
    if let Some((&count, payload)) = data.split_first() {
        batch(payload, count.into());
    }
    Kind::ALL.iter().for_each(|&kind| control(kind, data));
}

/// Frame after frame, as a connection reads them.
fn stream(mut data: &[u8]) {
    while let Ok(Some(header)) = peek(data, CRC) {
        let Some((bytes, rest)) = data.split_at_checked(header.frame_len()) else { return };
        let Ok(frame) = Frame::complete(header, bytes, CRC) else { return };
        assert_eq!(Frame::check(bytes, CRC).map(|frame| *frame.header()), Ok(header), "both ways of reading agree");
        match header.kind {
            Kind::Batch => batch(frame.payload(), header.event_count),
            kind => control(kind, frame.payload()),
        }
        data = rest;
    }
}

/// The bytes as one frame that only its content can make wrong: with length, end and checksums as they have to be.
fn mended(data: &[u8]) -> Option<Vec<u8>> {
    let payload_len = data.len().checked_sub(OVERHEAD)?;
    let mut frame = data.to_vec();
    let end = HEADER_LEN + payload_len;
    let checksum = CRC.of(&frame[HEADER_LEN..end]);
    frame[end..end + END_LEN].copy_from_slice(&END_MARKER.to_le_bytes());
    frame[field::PAYLOAD_LEN].copy_from_slice(&u32::try_from(payload_len).ok()?.to_le_bytes());
    frame[field::CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    let checksum = CRC.of(&frame[field::CHECKED]);
    frame[field::HEADER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    Some(frame)
}

/// What passes the check can be walked to its end, and has the events that it claims.
fn batch(payload: &[u8], count: u16) {
    let Ok(batch) = Batch::check(payload, count) else { return };
    let runs: Vec<_> = batch.runs().collect();
    assert_eq!(runs.len(), usize::from(batch.run_count()));
    assert_eq!(runs.iter().map(|run| run.records().count()).sum::<usize>(), usize::from(count));
    assert_eq!(runs.iter().flat_map(|run| run.bytes()).count(), payload.len());
}

/// What is decoded can be encoded, and decodes to the same.
fn control(kind: Kind, payload: &[u8]) {
    let Ok(message) = Control::decode(kind, payload) else { return };
    let mut buffer = vec![0; MAX_CONTROL_LEN];
    let len = message.encode(ShardId(0), &mut buffer, CRC).expect("what is lawful to read is lawful to write");
    let frame = Frame::check(&buffer[..len], CRC).expect("what was written is whole");
    assert_eq!(Control::decode(kind, frame.payload()), Ok(message));
}
