//! Exactly-once publish: decisions made when an entry is applied, from nothing but the log.
//!
//! Every event of a producer has a sequence, and [`Producers`] remembers for each producer the sequence after its
//! highest. An event at it is accepted; one below it is a *duplicate*, answered with its original offset while that is
//! remembered; one above it is a *gap*, refused unless the producer says that it had to drop what is missing. Memory
//! grows with producers, not with events, and there is no time limit but that of [`Producers::evict`]: a logged decision
//! that those who were not heard of for long are forgotten.
//!
//! Nothing of a forgotten producer is accepted, or accepted a second time, before it was opened anew. Of all that were
//! evicted one number is kept, the highest epoch that any of them may have had: whoever is not known has to have a higher
//! one, and [opening](Producers::open) gives that. So what was sent in a life before the eviction stays out, whatever its
//! sequence and however late it comes.
//!
//! Deciding has two steps, since a topic has its say in between: [`Producers::judge`] looks, [`Producers::record`]
//! takes note of what was accepted in the end.

mod producer;

pub use producer::Producer;

use crate::config::EPOCHS_SET_ASIDE;
use crate::digest::Digest;
use crate::id::{Epoch, LogTime, Offset, ProducerId, Sequence, TopicId};
use crate::receipt::RunRefusal;
use crate::table::{Slot, Table};
use crate::wire::RunHead;
use core::fmt;
use core::ops::DerefMut;

/// Memory for one producer; an array of them is lent to [`Producers`]. About 260 bytes.
pub type ProducerSlot = Slot<Producer>;

/// The producers that a cluster remembers. `M` is the lent memory.
#[derive(Debug)]
pub struct Producers<M> {
    table: Table<M>,
    /// The highest epoch that those may have had who were evicted, [`EPOCHS_SET_ASIDE`] included; zero if none was.
    evicted: Epoch,
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
        Ok(Self { table: Table::new(memory, limit, seed)?, evicted: Epoch(0) })
    }

    /// Forgets everybody, and that anybody was evicted.
    pub fn clear(&mut self) {
        self.table.clear();
        self.evicted = Epoch(0);
    }

    /// Producers remembered.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.table.used()
    }

    /// Producers that can be remembered beside them.
    #[must_use]
    pub const fn room(&self) -> u32 {
        self.table.room()
    }

    /// The highest epoch that those may have had who were evicted, zero if none was: who is not known has a higher one, or is
    /// not heard.
    #[must_use]
    pub const fn evicted(&self) -> Epoch {
        self.evicted
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

    /// The producer whose row has this number, if there is one.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<&Producer> {
        self.table.get(number)
    }

    /// All producers, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Producer> {
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

    /// A producer that is not remembered begins at its first sequence, or says that earlier events are missing; and in an
    /// epoch that nobody had who was evicted, or it may be one of those.
    fn judge_unknown(&self, claim: &Claim) -> Verdict {
        if claim.first != Sequence::ZERO && !claim.has_gap || claim.epoch <= self.evicted {
            return Verdict::refused(None, RunRefusal::ProducerUnknown);
        }
        if self.table.room() == 0 {
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

    /// Takes note of a judged run in an entry of the time `now`. `accepted` says where its fresh events begin, if they were
    /// accepted.
    ///
    /// A higher epoch fences the lives before it whatever became of the run. A producer that was not known is
    /// remembered only if something of it was accepted. One that is known was heard of, even if all of the run was there
    /// already or too far on; not if an earlier life of it speaks.
    pub fn record(&mut self, claim: &Claim, verdict: &Verdict, accepted: Option<(TopicId, Offset)>, now: LogTime) {
        let row = match (verdict.row, accepted) {
            (Some(row), _) => row,
            (None, None) => return,
            (None, Some(_)) => {
                let row = self.table.add(&claim.producer.0, Producer::new(claim.producer, claim.epoch));
                row.expect("the verdict found room, and nothing came between")
            }
        };
        let epoch = self.table.row(row).epoch();
        if claim.epoch < epoch {
            return;
        }
        self.table.change(row, |producer| {
            producer.hear(now);
            if claim.epoch > epoch {
                producer.begin_life(claim.epoch);
            }
            if let Some((topic, first_offset)) = accepted {
                producer.accept(claim, verdict.fresh, verdict.dropped, topic, first_offset);
            }
        });
    }

    /// Begins a new life of a producer in an entry of the time `now`, in an epoch of its own: for one that is not known, in
    /// the first that nobody had who was evicted, and from its first sequence on. One that was evicted and goes on with its
    /// numbers says so by the gap flag of its next run.
    ///
    /// # Errors
    ///
    /// [`OpenRefusal`]; nothing has changed.
    pub fn open(&mut self, id: ProducerId, now: LogTime) -> Result<Opened, OpenRefusal> {
        let Some(row) = self.number(id) else {
            let epoch = Epoch(self.evicted.0 + 1);
            let mut producer = Producer::new(id, epoch);
            producer.hear(now);
            self.table.add(&id.0, producer).ok_or(OpenRefusal::ProducerTableFull)?;
            return Ok(Opened { epoch, next_sequence: Sequence::ZERO });
        };
        let epoch = self.table.row(row).epoch().0.checked_add(1).map(Epoch).ok_or(OpenRefusal::EpochsExhausted)?;
        self.table.change(row, |producer| {
            producer.hear(now);
            producer.begin_life(epoch);
        });
        Ok(Opened { epoch, next_sequence: self.table.row(row).next_sequence() })
    }

    /// Forgets the producers that were last heard of before `before`, and returns how many these were.
    ///
    /// One in an epoch above [`MAX_EVICTED_EPOCH`](crate::config::MAX_EVICTED_EPOCH) stays: no epochs would be left for others.
    pub fn evict(&mut self, before: LogTime) -> u32 {
        let evicted = &mut self.evicted;
        let is_idle = |producer: &Producer| {
            let is_idle = producer.can_be_evicted() && producer.heard_at() < before;
            if is_idle {
                *evicted = Epoch(producer.epoch().0 + EPOCHS_SET_ASIDE).max(*evicted);
            }
            is_idle
        };
        self.table.remove_where(|producer| &producer.id_bytes()[..], is_idle)
    }

    /// When the one that was not heard of for longest, of those that can be evicted, was heard of. Looks at all.
    #[must_use]
    pub fn oldest(&self) -> Option<LogTime> {
        self.iter().filter(|producer| producer.can_be_evicted()).map(Producer::heard_at).min()
    }

    /// The hash of all that is remembered, and of what decides which numbers the next get.
    pub(crate) const fn add_to(&self, digest: Digest) -> Digest {
        digest.number(self.table.sum()).number(self.table.len() as u64).number(self.evicted.0 as u64)
    }

    /// Numbers that were ever given out.
    pub(crate) const fn numbers(&self) -> u32 {
        self.table.len()
    }

    /// Takes a row that changed since it was last taken, with its number; `None` where there is no producer any more.
    pub(crate) fn poll_changed(&mut self) -> Option<(u32, Option<&Producer>)> {
        self.table.poll_changed()
    }

    /// Takes back the row with the next number. `false` if there is no room for it, if its id is there already, or if its
    /// numbers cannot be counted on from.
    #[must_use]
    pub(crate) fn restore(&mut self, producer: Option<Producer>) -> bool {
        let Some(producer) = producer else { return self.table.restore_removed().is_some() };
        producer.is_countable()
            && self.number(producer.id()).is_none()
            && self.table.restore(&producer.id().0, producer).is_some()
    }

    /// Takes back what is remembered of those that were evicted.
    pub(crate) const fn restore_evicted(&mut self, evicted: Epoch) {
        self.evicted = evicted;
    }

    fn number(&self, id: ProducerId) -> Option<u32> {
        self.table.find(&id.0, |producer| producer.id() == id)
    }
}

#[cfg(test)]
mod tests;
