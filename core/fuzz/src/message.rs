//! Control messages, those between members among them.

use super::{CRC, Decoder};
use eventstream_core::id::ShardId;
use eventstream_core::wire::{Control, Frame, Kind, MAX_CONTROL_LEN};

/// The target: the place of a kind among all, then a payload.
pub const DECODER: Decoder = Decoder { name: "message", read, seeds };

/// See [`DECODER`].
pub fn read(data: &[u8]) {
    if let Some((&kind, payload)) = data.split_first() {
        check(Kind::ALL[usize::from(kind) % Kind::ALL.len()], payload);
    }
}

/// What is decoded can be encoded, and decodes to the same.
pub fn check(kind: Kind, payload: &[u8]) {
    let Ok(message) = Control::decode(kind, payload) else { return };
    let mut buffer = vec![0; MAX_CONTROL_LEN];
    let len = message.encode(ShardId(0), &mut buffer, CRC).expect("what is lawful to read is lawful to write");
    let frame = Frame::check(&buffer[..len], CRC).expect("what was written is whole");
    assert_eq!(Control::decode(kind, frame.payload()), Ok(message));
}

/// Of every kind: zeros and ones, of which some front is a message. Of those between members, each of the first variants.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, &kind) in (0..).zip(Kind::ALL) {
        seeds.extend([0, 1].map(|fill| [&[place], &[fill; 48][..]].concat()));
        if kind == Kind::Peer {
            let of_variant = |variant| [&[place, 1, 2], &[7; 16][..], &[1, variant], &[1; 16]].concat();
            seeds.extend((0..24).map(of_variant));
        }
    }
    seeds
}
