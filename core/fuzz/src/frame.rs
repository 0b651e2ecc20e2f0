//! Bytes of a connection, frame after frame, and what is in them.

use super::{CRC, Decoder, batch, entry, message};
use eventstream_core::wire::{
    END_LEN, END_MARKER, Frame, HEADER_LEN, Kind, MAX_FRAME_LEN, OVERHEAD, field, peek, read_frame, seal,
};

/// The target.
pub const DECODER: Decoder = Decoder { name: "frame", read, seeds };

/// The bytes as they are, and with every checksum put right.
pub fn read(data: &[u8]) {
    stream(data);
    if let Some(frame) = mended(data) {
        stream(&frame);
    }
}

fn stream(mut data: &[u8]) {
    let (mut blocking, mut buffer) = (data, Vec::new());
    while let Ok(Some(header)) = peek(data, CRC) {
        assert!(header.frame_len() <= MAX_FRAME_LEN, "a length is checked before it is believed");
        let Some((bytes, rest)) = data.split_at_checked(header.frame_len()) else { return };
        let Ok(frame) = Frame::complete(header, bytes, CRC) else { return };
        assert_eq!(Frame::check(bytes, CRC).map(|frame| *frame.header()), Ok(header), "both ways of reading agree");
        buffer.resize(bytes.len(), 0);
        let read = read_frame(&mut blocking, &mut buffer, CRC).expect("three ways");
        assert_eq!(read.bytes(), bytes);
        // There is one way to write a frame, and this is it.
        buffer.fill(0);
        buffer[HEADER_LEN..][..frame.payload().len()].copy_from_slice(frame.payload());
        assert_eq!(seal(&mut buffer, &header, CRC), bytes.len());
        assert_eq!(buffer, bytes);
        match header.kind {
            Kind::Batch => batch::check(frame.payload(), header.event_count),
            Kind::Empty | Kind::Configuration | Kind::Command => entry::read(frame.payload()),
            kind => message::check(kind, frame.payload()),
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

/// Frames that were put together without this codec.
pub fn seeds() -> Vec<Vec<u8>> {
    let frames: [&[u8]; 8] = [
        include_bytes!("../seeds/frame/append"),
        include_bytes!("../seeds/frame/batch"),
        include_bytes!("../seeds/frame/counters"),
        include_bytes!("../seeds/frame/empty_entry"),
        include_bytes!("../seeds/frame/hello"),
        include_bytes!("../seeds/frame/ping"),
        include_bytes!("../seeds/frame/receipt"),
        include_bytes!("../seeds/frame/stream"),
    ];
    frames.map(<[u8]>::to_vec).to_vec()
}
