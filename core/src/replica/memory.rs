//! The memory that a replica works in, lent by its owner.

use super::topics::TopicSlot;
use crate::dedup::ProducerSlot;
use core::ops::DerefMut;

/// Large arrays for a replica: allocated by a host, static on a microcontroller, never on a stack.
///
/// What they hold when they are lent does not matter. [`Lent`] is an implementation for any two slices.
pub trait Memory {
    /// A slot for each producer that the cluster may remember.
    type Producers: DerefMut<Target = [ProducerSlot]>;
    /// A slot for each topic that the cluster may have.
    type Topics: DerefMut<Target = [TopicSlot]>;

    /// Gives the arrays away for the life of the replica.
    fn lend(self) -> (Self::Producers, Self::Topics);
}

/// Arrays of any kind: on a host `Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>`, on a microcontroller
/// `Lent<&'static mut [ProducerSlot], &'static mut [TopicSlot]>`.
#[derive(Clone, Debug)]
pub struct Lent<P, T> {
    /// A slot for each producer that the cluster may remember.
    pub producers: P,
    /// A slot for each topic that the cluster may have.
    pub topics: T,
}

impl<P, T> Memory for Lent<P, T>
where
    P: DerefMut<Target = [ProducerSlot]>,
    T: DerefMut<Target = [TopicSlot]>,
{
    type Producers = P;
    type Topics = T;

    fn lend(self) -> (P, T) {
        (self.producers, self.topics)
    }
}
