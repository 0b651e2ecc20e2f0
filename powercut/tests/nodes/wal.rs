//! Which events are in a write-ahead log of RocksDB, as far as it is durable.
//!
//! The log is made of blocks of 32 KiB, each filled with records: checksum (4 bytes), length (2), type (1), data. What
//! does not fit into a block goes on in the next, so an event may be cut in two by a header. A record that holds data has
//! type 1 to 4: whole, first, middle, last. Fewer than 7 bytes at the end of a block are not used.

use eventstream_core::id::{ProducerId, Sequence};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const DATA: core::ops::RangeInclusive<u8> = 1..=4;
/// The start of the longest payload: a producer, a sequence, a blank behind each.
const LONGEST: usize = 32 + 1 + 20 + 1;

/// Reads a log as it grows.
#[derive(Debug, Default)]
pub(crate) struct WalReader {
    /// How far it was read.
    at: usize,
    /// The end of the data so far, where an event may have begun.
    data: Vec<u8>,
}

impl WalReader {
    /// The events of these producers in what `log` has more than before. Some may be found twice.
    pub(crate) fn read(&mut self, log: &[u8], producers: &[ProducerId]) -> Vec<(ProducerId, Sequence)> {
        while let Some(record) = self.next_record(log) {
            self.data.extend_from_slice(record);
        }
        let found = producers.iter().flat_map(|&producer| events(&self.data, producer)).collect();
        self.data.drain(..self.data.len().saturating_sub(LONGEST));
        found
    }

    fn next_record<'a>(&mut self, log: &'a [u8]) -> Option<&'a [u8]> {
        let left = BLOCK - self.at % BLOCK;
        if left < HEADER {
            self.at += left;
        }
        let header: &[u8; HEADER] = log.get(self.at..)?.first_chunk()?;
        let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let data = log.get(self.at + HEADER..self.at + HEADER + len)?;
        self.at += HEADER + len;
        Some(if DATA.contains(&header[6]) { data } else { &[] })
    }
}

/// Finds payloads as [`Load::payload`](eventstream_testbed::Load::payload) makes them.
fn events(data: &[u8], producer: ProducerId) -> impl Iterator<Item = (ProducerId, Sequence)> {
    let name = format!("{producer} ").into_bytes();
    let len = name.len();
    let places = data.windows(len).enumerate().filter(move |(_, window)| *window == name).map(|(at, _)| at);
    places.filter_map(move |at| {
        let digits = data[at + len..].split(|&byte| byte == b' ');
        // Without a blank behind it the number may be longer than it looks.
        let number = digits.take(2).collect::<Vec<_>>();
        let [number, _] = number.as_slice() else { return None };
        let sequence = core::str::from_utf8(number).ok()?.parse().ok()?;
        Some((producer, Sequence(sequence)))
    })
}

#[test]
fn events_are_found_across_blocks_and_syncs() {
    let (one, other) = (ProducerId([0x1a; 16]), ProducerId([0x2b; 16]));
    let payload = |number| format!("...{one} {number} xxx").into_bytes();
    let record = |kind: u8, data: &[u8]| {
        let len = u16::try_from(data.len()).unwrap().to_le_bytes();
        [&[0; 4], &len[..], &[kind], data].concat()
    };
    let mut log = record(1, &payload(1));
    // The block ends 20 bytes into the second event.
    let event = payload(2);
    let filling = BLOCK - log.len() - HEADER - 20;
    log.extend(record(130, &[0; 30]));
    log.extend(record(2, &[vec![b'f'; filling - HEADER - 30], event[..20].to_vec()].concat()));
    log.extend(record(4, &event[20..]));
    let synced = log.len();
    log.extend(record(1, &payload(34)));
    let mut reader = WalReader::default();
    let found: Vec<_> = reader.read(&log[..synced], &[one, other]);
    assert_eq!(found, [(one, Sequence(1)), (one, Sequence(2))]);
    assert_eq!(reader.read(&log[..log.len() - 1], &[one, other]), [(one, Sequence(2))]);
    assert_eq!(reader.read(&log, &[one, other]).last(), Some(&(one, Sequence(34))));
}
