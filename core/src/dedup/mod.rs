//! Exactly-once publish: decisions made when an entry is applied, from nothing but the log.
//!
//! Every event of a producer has a sequence, and [`Producers`] remembers for each producer the sequence after its
//! highest. An event at it is accepted; one below it is a *duplicate*, answered with its original offset while that is
//! remembered; one above it is a *gap*, refused unless the producer says that it had to drop what is missing. Memory
//! grows with producers, not with events, and there is no time limit.
//!
//! Deciding has two steps, since a topic has its say in between: [`Producers::judge`] looks, [`Producers::record`]
//! takes note of what was accepted in the end.

mod producer;

pub use producer::Producer;

use crate::id::{Epoch, Offset, ProducerId, Sequence, TopicId};
use crate::receipt::RunRefusal;
use crate::table::{Slot, Table};
use crate::wire::RunHead;
use core::fmt;
use core::ops::DerefMut;

/// Memory for one producer; an array of them is lent to [`Producers`]. About 250 bytes.
pub type ProducerSlot = Slot<Producer>;

/// The producers that a cluster remembers. `M` is the lent memory.
#[derive(Debug)]
pub struct Producers<M> {
    table: Table<M>,
}

/// What a run says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who numbers its events.
    pub producer: ProducerId,
    /// In which life.
    pub epoch: Epoch,
    /// The sequence of the first event; the others follow it densely.
    pub first: Sequence,
    /// Events.
    pub count: u16,
    /// The producer had to drop events before this run.
    pub has_gap: bool,
}

impl From<&RunHead<'_>> for Claim {
    fn from(head: &RunHead<'_>) -> Self {
        Self {
            producer: head.producer,
            epoch: head.epoch,
            first: head.first_sequence,
            count: head.count,
            has_gap: head.has_gap(),
        }
    }
}

/// What is to become of a run, as far as its producer is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The producer's row, if it is known.
    row: Option<u32>,
    /// Leading events that are there already.
    pub duplicates: u16,
    /// Events after them that may be accepted: all the others, or none if there is a refusal.
    pub fresh: u16,
    /// Sequences before the run that its producer dropped.
    pub dropped: u64,
    /// Why events are refused, if some are.
    pub refusal: Option<RunRefusal>,
}

impl Verdict {
    const fn refused(row: Option<u32>, refusal: RunRefusal) -> Self {
        Self { row, duplicates: 0, fresh: 0, dropped: 0, refusal: Some(refusal) }
    }

    /// Takes duplicates for fresh events: the mistake of a leader that decides when it proposes.
    pub(crate) const fn take_as_fresh(&mut self, claim: &Claim) {
        if self.duplicates > 0 {
            (self.duplicates, self.fresh) = (0, claim.count);
        }
    }
}

/// A life that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The life's epoch. All lower ones are fenced.
    pub epoch: Epoch,
    /// The sequence to go on from.
    pub next_sequence: Sequence,
}

/// Why a life did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRefusal {
    /// The cluster remembers as many producers as it may. May pass when one was evicted.
    ProducerTableFull,
    /// The producer's epoch is the last that there is. It needs another id.
    EpochsExhausted,
}

impl fmt::Display for OpenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProducerTableFull => "the cluster remembers as many producers as it may",
            Self::EpochsExhausted => "the producer has used up its epochs",
        })
    }
}

impl core::error::Error for OpenRefusal {}

impl<M: DerefMut<Target = [ProducerSlot]>> Producers<M> {
    /// Remembers nobody yet, and at most `limit` producers: the cluster's parameter. What the memory holds is forgotten.
    ///
    /// `seed` keeps anybody from preparing ids that are slow to find. No decision depends on it.
    ///
    /// # Errors
    ///
    /// The number of slots lent, if they are fewer than `limit`.
    pub fn new(memory: M, limit: u32, seed: u64) -> Result<Self, usize> {
        Ok(Self { table: Table::new(memory, limit, seed)? })
    }

    /// Forgets everybody.
    pub fn clear(&mut self) {
        self.table.clear();
    }

    /// Producers remembered.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.table.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The producer with this id, if it is remembered.
    #[must_use]
    pub fn find(&self, id: ProducerId) -> Option<&Producer> {
        self.number(id).map(|number| self.table.row(number))
    }

    /// All producers, in the order in which they were first seen.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Producer> {
        self.table.rows()
    }

    /// Decides about a run. Changes nothing: [`record`](Self::record) does.
    #[must_use]
    pub fn judge(&self, claim: &Claim) -> Verdict {
        let Some(row) = self.number(claim.producer) else { return self.judge_unknown(claim) };
        let producer = self.table.row(row);
        let (epoch, next) = (producer.epoch(), producer.next_sequence());
        if claim.epoch < epoch {
            return Verdict::refused(Some(row), RunRefusal::Fenced { epoch });
        }
        if claim.first > next && !claim.has_gap {
            return Verdict::refused(Some(row), RunRefusal::SequenceGap { expected: next });
        }
        let known = next.0.saturating_sub(claim.first.0);
        let duplicates = known.min(claim.count.into()) as u16;
        Verdict {
            row: Some(row),
            duplicates,
            fresh: claim.count - duplicates,
            dropped: claim.first.0.saturating_sub(next.0),
            refusal: None,
        }
    }

    /// A producer that is not remembered begins at its first sequence, or says that earlier events are missing.
    fn judge_unknown(&self, claim: &Claim) -> Verdict {
        if claim.first != Sequence::ZERO && !claim.has_gap {
            return Verdict::refused(None, RunRefusal::ProducerUnknown);
        }
        if self.table.is_full() {
            return Verdict::refused(None, RunRefusal::ProducerTableFull);
        }
        Verdict { row: None, duplicates: 0, fresh: claim.count, dropped: claim.first.0, refusal: None }
    }

    /// Where the duplicates of a judged run lie: the offset of the first, the others follow it densely. `None` if
    /// there are none, or if their offsets are not remembered as one span of `topic`.
    #[must_use]
    pub fn original_offset(&self, claim: &Claim, verdict: &Verdict, topic: TopicId) -> Option<Offset> {
        let producer = self.table.row(verdict.row.filter(|_| verdict.duplicates > 0)?);
        producer.offset_of(topic, claim.first, verdict.duplicates)
    }

    /// Takes note of a judged run. `accepted` says where its fresh events begin, if they were accepted.
    ///
    /// A higher epoch fences the lives before it whatever became of the run. A producer that was not known is
    /// remembered only if something of it was accepted.
    pub fn record(&mut self, claim: &Claim, verdict: &Verdict, accepted: Option<(TopicId, Offset)>) {
        let row = match (verdict.row, accepted) {
            (Some(row), _) => row,
            (None, None) => return,
            (None, Some(_)) => {
                let row = self.table.add(&claim.producer.0, Producer::new(claim.producer, claim.epoch));
                row.expect("the verdict found room, and nothing came between")
            }
        };
        let is_new_life = claim.epoch > self.table.row(row).epoch();
        if !is_new_life && accepted.is_none() {
            return;
        }
        self.table.change(row, |producer| {
            if is_new_life {
                producer.begin_life(claim.epoch);
            }
            if let Some((topic, first_offset)) = accepted {
                producer.accept(claim, verdict.fresh, verdict.dropped, topic, first_offset);
            }
        });
    }

    /// Begins a new life of a producer, in an epoch of its own: 1 for one that was not known.
    ///
    /// # Errors
    ///
    /// [`OpenRefusal`]; nothing has changed.
    pub fn open(&mut self, id: ProducerId) -> Result<Opened, OpenRefusal> {
        let Some(row) = self.number(id) else {
            let epoch = Epoch(1);
            self.table.add(&id.0, Producer::new(id, epoch)).ok_or(OpenRefusal::ProducerTableFull)?;
            return Ok(Opened { epoch, next_sequence: Sequence::ZERO });
        };
        let epoch = self.table.row(row).epoch().0.checked_add(1).map(Epoch).ok_or(OpenRefusal::EpochsExhausted)?;
        self.table.change(row, |producer| producer.begin_life(epoch));
        Ok(Opened { epoch, next_sequence: self.table.row(row).next_sequence() })
    }

    /// The hash of all that is remembered.
    pub(crate) const fn sum(&self) -> u64 {
        self.table.sum()
    }

    /// Takes a row that changed since it was last taken, with its number.
    pub(crate) fn poll_changed(&mut self) -> Option<(u32, &Producer)> {
        self.table.poll_changed()
    }

    /// Takes back the row with the next number. `false` if there is no room for it, or if its id is there already.
    #[must_use]
    pub(crate) fn restore(&mut self, producer: Producer) -> bool {
        self.number(producer.id()).is_none() && self.table.restore(&producer.id().0, producer).is_some()
    }

    fn number(&self, id: ProducerId) -> Option<u32> {
        self.table.find(&id.0, |producer| producer.id() == id)
    }
}

#[cfg(test)]
mod tests;
