//! The record that every synced batch of the log carries: what it stands on, where it ends, and the hard state.
//!
//! A log store may lose more than its tail and not notice: RocksDB opens without a word when the newest file of its log is
//! missing. So the log proves itself. Every entry's header extends a **chained checksum**, and a batch records the
//! previous synced point (index and chain) and its own. A gap between two batches shows as a chain that does not add
//! up. What is lost behind the last batch does not show here: that takes a floor outside of the store.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version, 2 |
//! | 1..9 | number of the batch, counting synced batches of this store |
//! | 9..17 | index of the previous synced point, or where a truncation cut below it |
//! | 17..21 | chain there |
//! | 21..25 | chain at the last entry of this batch, whose index is the record's key |
//! | 25..33 | term |
//! | 33..35 | the node voted for in that term, 0 for none |
//! | 35 | flags: bit 0, the node is suspect; the others are zero |

use crate::checksum::CRC;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::HardState;
use eventstream_core::wire::{HEADER_LEN, field};

const VERSION: u8 = 2;
const LEN: usize = 36;
const SUSPECT: u8 = 1;

/// Checksum over the headers of all entries up to one of them, in order. The default is before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(pub(super) u32);

impl Chain {
    /// The chain behind one more entry. The header holds the payload's checksum, so it stands for all of it; its own
    /// checksum is left out, since a CRC that runs over a message and the message's CRC comes out the same for every
    /// message.
    pub(super) fn extended(self, header: &[u8; HEADER_LEN]) -> Self {
        Self(CRC.extend(self.0, &header[field::CHECKED]))
    }
}

/// See the module's page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) number: u64,
    pub(super) base: Index,
    pub(super) base_chain: Chain,
    pub(super) chain: Chain,
    pub(super) hard_state: HardState,
}

impl Point {
    pub(super) fn emit(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.number.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.base_chain.0.to_le_bytes());
        bytes[21..25].copy_from_slice(&self.chain.0.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.hard_state.term.0.to_le_bytes());
        bytes[33..35].copy_from_slice(&self.hard_state.vote.map_or(0, |node| node.0).to_le_bytes());
        bytes[35] = if self.hard_state.suspect { SUSPECT } else { 0 };
        bytes
    }

    /// `None` if it is no point of this version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let vote = NodeId(u16::from_le_bytes([bytes[33], bytes[34]]));
        let flags = bytes[35];
        if bytes[0] != VERSION || flags & !SUSPECT != 0 {
            return None;
        }
        let vote = (vote.0 != 0).then_some(vote);
        Some(Self {
            number: u64_at(1)?,
            base: Index(u64_at(9)?),
            base_chain: Chain(u32_at(17)?),
            chain: Chain(u32_at(21)?),
            hard_state: HardState { term: Term(u64_at(25)?), vote, suspect: flags == SUSPECT },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventstream_core::wire::{Header, Kind};

    #[test]
    fn a_point_parses_back() {
        let point = Point {
            number: 1 << 40,
            base: Index(2 << 40),
            base_chain: Chain(3),
            chain: Chain(u32::MAX),
            hard_state: HardState { term: Term(4 << 40), vote: Some(NodeId(5)), suspect: false },
        };
        assert_eq!(Point::parse(&point.emit()), Some(point));
        let nobody = Point { hard_state: HardState { term: Term(1), vote: None, suspect: false }, ..point };
        assert_eq!(Point::parse(&nobody.emit()), Some(nobody));
        let suspect = Point { hard_state: HardState { suspect: true, ..point.hard_state }, ..point };
        assert_eq!(Point::parse(&suspect.emit()), Some(suspect));
    }

    #[test]
    fn another_version_or_length_is_no_point() {
        let mut bytes = Point::default().emit();
        assert_eq!(Point::parse(&bytes[..LEN - 1]), None);
        bytes[35] = 2;
        assert_eq!(Point::parse(&bytes), None, "a flag that nobody knows");
        bytes[35] = 0;
        bytes[0] = 3;
        assert_eq!(Point::parse(&bytes), None);
    }

    #[test]
    fn the_chain_depends_on_every_entry_and_their_order() {
        let header = |term| {
            let mut bytes = [0; HEADER_LEN];
            Header { batch_id: 1, term: Term(term), event_count: 1, ..Header::of(Kind::Batch, b"payload", CRC) }
                .emit(&mut bytes, CRC);
            bytes
        };
        let (a, b) = (header(1), header(2));
        let start = Chain::default();
        assert_ne!(start.extended(&a).extended(&b), start.extended(&b).extended(&a));
        assert_ne!(start.extended(&a), start.extended(&b));
        assert_ne!(start.extended(&a), start.extended(&a).extended(&a));
    }
}
