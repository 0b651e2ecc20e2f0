//! The pages of a device's flash: whatever they hold, what is found there can be gone on from.

use super::{CRC, Decoder, Script, producer};
use core::convert::Infallible;
use eventstream_core::batch::PushError;
use eventstream_core::config::MAX_COUNTER;
use eventstream_core::id::{ProducerId, Sequence};
use eventstream_core::producer::{
    AppendError, Flash, FlashLog, OpenError, PAGE_HEADER_LEN, Producer, Stored, WRITE_UNIT,
};

/// The target: which pages get headers and records with right checksums, the events to be appended, then the pages.
pub const DECODER: Decoder = Decoder { name: "flash", read, seeds };

const PAGES: usize = 4;
const PAGE_LEN: usize = 256;
const RECORD_HEADER_LEN: usize = 8;

/// Flash that takes nothing twice between two erasures.
#[derive(Clone)]
pub struct Chip(Vec<[u8; PAGE_LEN]>);

impl Chip {
    /// Erased.
    pub fn new() -> Self {
        Self(vec![[0xFF; PAGE_LEN]; PAGES])
    }
}

impl Flash for Chip {
    type Error = Infallible;

    fn page_len(&self) -> usize {
        PAGE_LEN
    }

    fn pages(&self) -> usize {
        PAGES
    }

    fn read(&mut self, page: usize, at: usize, into: &mut [u8]) -> Result<(), Infallible> {
        into.copy_from_slice(&self.0[page][at..][..into.len()]);
        Ok(())
    }

    fn write(&mut self, page: usize, at: usize, bytes: &[u8]) -> Result<(), Infallible> {
        let room = &mut self.0[page][at..][..bytes.len()];
        assert!(
            at.is_multiple_of(WRITE_UNIT) && room.iter().all(|&byte| byte == 0xFF),
            "only what is erased is written"
        );
        room.copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, page: usize) -> Result<(), Infallible> {
        self.0[page].fill(0xFF);
        Ok(())
    }
}

/// A log in the flash.
pub type Log = FlashLog<Chip, Vec<u8>>;

/// The log that the flash holds, or a new one.
pub fn open(chip: Chip) -> Log {
    match FlashLog::open(chip.clone(), vec![0; PAGE_LEN], CRC) {
        Ok(log) => log,
        Err(OpenError::NotFormatted) => {
            let Ok(log) = FlashLog::format(chip, vec![0; PAGE_LEN], ProducerId([9; 16]), CRC);
            log
        }
        Err(OpenError::Flash(never)) => match never {},
    }
}

/// What is appended is there at the next start, behind what was there, and all of it can be sent.
pub fn read(data: &[u8]) {
    let mut script = Script(data);
    let (Some(mended), Some(appends)) = (script.byte(), script.byte()) else { return };
    let mut chip = Chip::new();
    for (place, page) in chip.0.iter_mut().enumerate() {
        let (here, rest) = script.0.split_at(script.0.len().min(PAGE_LEN));
        page[..here.len()].copy_from_slice(here);
        script.0 = rest;
        if mended >> place & 1 == 1 {
            mend(place, page);
        }
    }
    let mut log = open(chip);
    assert!(log.first() <= log.next());
    for number in 0..appends % 32 {
        let event = Stored { topic: "oven", time_us: number.into(), key: b"", payload: &[number; 31][..number.into()] };
        let expected = log.next();
        match log.append(&event) {
            Ok(sequence) => assert_eq!(sequence, expected),
            Err(error) => {
                assert_eq!((error, expected.0), (AppendError::Event(PushError::SequenceOutOfRange), MAX_COUNTER))
            }
        }
    }
    let ends = (log.producer(), log.next());
    let (chip, _) = log.into_parts();
    let log = open(chip);
    assert_eq!((log.producer(), log.next()), ends);
    producer::publish(Producer::new(log, CRC));
}

/// Puts right what only a checksum would show.
fn mend(place: usize, page: &mut [u8; PAGE_LEN]) {
    page[..4].copy_from_slice(b"ESPL");
    page[4] = page[4] & !3 | place as u8;
    let checksum = CRC.of(&page[..32]);
    page[32..36].copy_from_slice(&checksum.to_le_bytes());
    page[36..PAGE_HEADER_LEN].fill(0);
    let mut sequence = Sequence(u64::from_le_bytes(*page[8..].first_chunk().expect("eight bytes")));
    let mut at = PAGE_HEADER_LEN;
    while let Some(&header) = page.get(at..).and_then(<[u8]>::first_chunk::<RECORD_HEADER_LEN>) {
        let body_len = u16::from_le_bytes([header[0], header[1]]);
        let body_at = at + RECORD_HEADER_LEN;
        let end = body_at + usize::from(body_len);
        let Some(body) = page.get(body_at..end) else { return };
        let checksum = CRC.extend(CRC.of(&sequence.0.to_le_bytes()), body);
        page[at + 2..at + 4].copy_from_slice(&(!body_len).to_le_bytes());
        page[at + 4..body_at].copy_from_slice(&checksum.to_le_bytes());
        at = end.next_multiple_of(WRITE_UNIT);
        sequence = Sequence(sequence.0.wrapping_add(1));
    }
}

/// Flash that is new, that holds some events, and that has gone round.
pub fn seeds() -> Vec<Vec<u8>> {
    [0, 3, 60]
        .map(|events| {
            let mut log = open(Chip::new());
            for number in 0..events {
                let event = Stored { topic: "oven", time_us: 5, key: b"k", payload: &[number; 20] };
                assert_eq!(log.append(&event), Ok(Sequence(number.into())));
            }
            [&[0x0F, 5], &log.into_parts().0.0.concat()[..]].concat()
        })
        .to_vec()
}
