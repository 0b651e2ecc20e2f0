//! The memory of one row, shared word by word.

use super::Placed;
use crate::id::{EventId, Index, LogTime, Offset, TopicId};
use crate::sync::{AtomicUsize, const_fn, own, zero_words};
use core::array;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

/// A row's number and one; zero is none.
pub(super) type Link = u32;

/// Who looks at a word.
pub(super) trait Look {
    fn at(word: &AtomicUsize) -> usize;
}

/// Any thread: what is seen may be of any row, until the row's number has been looked at.
pub(super) struct Shared;

impl Look for Shared {
    fn at(word: &AtomicUsize) -> usize {
        word.load(Relaxed)
    }
}

/// The writer, the only one that writes.
pub(super) struct Own;

impl Look for Own {
    fn at(word: &AtomicUsize) -> usize {
        own(word)
    }
}

/// Memory for one id; a slice of them is lent to [`share`](super::share).
///
/// All accesses to its words are relaxed: [`IdWriter`](super::IdWriter) and [`IdReader`](super::IdReader) order them by the
/// bucket's link and by fences.
pub struct IdSlot {
    /// Where the chain of this bucket begins: at its newest row. Belongs to the bucket, not to the row that lies here.
    pub(super) bucket: AtomicUsize,
    /// Which row lies here, as a link to it; zero while none does. Never that of a row that is being written.
    pub(super) row: AtomicUsize,
    id: [Word; 2],
    index: Word,
    offset: Word,
    /// The topic above, below it the link to the next older row of the chain.
    topic_and_older: Word,
    /// Read by the writer alone.
    log_time: Word,
}

impl IdSlot {
    const_fn! {
        /// Memory without a row; all zero.
        #[must_use]
        pub fn new() -> Self {
            Self {
                bucket: AtomicUsize::new(0),
                row: AtomicUsize::new(0),
                id: [Word::new(), Word::new()],
                index: Word::new(),
                offset: Word::new(),
                topic_and_older: Word::new(),
                log_time: Word::new(),
            }
        }
    }

    /// Whether this row is the one of the id.
    pub(super) fn is_of<L: Look>(&self, id: EventId) -> bool {
        halves(id).into_iter().zip(&self.id).all(|(half, word)| word.load::<L>() == half)
    }

    /// Of the writer's own row.
    pub(super) fn id(&self) -> EventId {
        let (mut bytes, [low, high]) = ([0; 16], &self.id);
        bytes[..8].copy_from_slice(&low.load::<Own>().to_le_bytes());
        bytes[8..].copy_from_slice(&high.load::<Own>().to_le_bytes());
        EventId(bytes)
    }

    pub(super) fn placed<L: Look>(&self) -> Placed {
        let topic = TopicId((self.topic_and_older.load::<L>() >> 32) as u32);
        Placed { index: Index(self.index.load::<L>()), topic, offset: Offset(self.offset.load::<L>()) }
    }

    /// The next older row of the chain.
    pub(super) fn older<L: Look>(&self) -> Link {
        self.topic_and_older.load::<L>() as Link
    }

    /// Of the writer's own row.
    pub(super) fn log_time(&self) -> LogTime {
        LogTime(self.log_time.load::<Own>())
    }

    /// Writes all of a row but its number.
    pub(super) fn write(&self, id: EventId, placed: Placed, log_time: LogTime, older: Link) {
        for (half, word) in halves(id).into_iter().zip(&self.id) {
            word.store(half);
        }
        self.index.store(placed.index.0);
        self.offset.store(placed.offset.0);
        self.topic_and_older.store(u64::from(placed.topic.0) << 32 | u64::from(older));
        self.log_time.store(log_time.0);
    }
}

impl Default for IdSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdSlot").field("row", &self.row.load(Relaxed)).finish_non_exhaustive()
    }
}

fn halves(id: EventId) -> [u64; 2] {
    let (halves, _) = id.0.as_chunks::<8>();
    array::from_fn(|half| u64::from_le_bytes(halves[half]))
}

/// 64 bits in as many machine words as that takes. A load may see some words of one store and some of another: like all
/// words of a row, they are of one row only if the row's number says so afterwards.
struct Word([AtomicUsize; WORDS]);

const WORDS: usize = (u64::BITS / usize::BITS) as usize;

impl Word {
    const_fn! {
        fn new() -> Self {
            Self(zero_words())
        }
    }

    fn load<L: Look>(&self) -> u64 {
        let parts = self.0.iter().enumerate();
        parts.fold(0, |value, (part, word)| value | (L::at(word) as u64) << (usize::BITS as usize * part))
    }

    fn store(&self, value: u64) {
        for (part, word) in self.0.iter().enumerate() {
            word.store((value >> (usize::BITS as usize * part)) as usize, Relaxed);
        }
    }
}
