//! What the events of a schedule say: who sent them, and which event they are. So a reader needs to know nothing else to
//! tell whether an event is in its right place.

use eventstream_core::id::ProducerId;

/// The names of the topics. A schedule uses some of them.
pub(crate) const TOPICS: [&str; 3] = ["plant/line-1/temperature", "audit", "t"];

/// Bytes of an event's payload without padding.
pub(crate) const LEN: usize = 8;

/// An event as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The producer's number in the schedule.
    pub(crate) producer: u8,
    /// Which life of the producer numbered it. Not the epoch: that is what the cluster says.
    pub(crate) life: u16,
    pub(crate) sequence: u32,
}

impl Event {
    /// Writes the event to the front of `buffer`.
    pub(crate) fn encode(self, buffer: &mut [u8]) {
        buffer[0] = self.producer;
        buffer[1..3].copy_from_slice(&self.life.to_le_bytes());
        buffer[3..7].copy_from_slice(&self.sequence.to_le_bytes());
        buffer[7] = self.check();
    }

    /// The event that a payload is, if it is one.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let &[producer, a, b, c, d, e, f, check] = payload.first_chunk::<LEN>()?;
        let event = Self { producer, life: u16::from_le_bytes([a, b]), sequence: u32::from_le_bytes([c, d, e, f]) };
        (event.check() == check).then_some(event)
    }

    fn check(self) -> u8 {
        (u32::from(self.producer) * 31 + u32::from(self.life) * 17 + self.sequence) as u8 ^ 0xA5
    }
}

/// The id of a producer of the schedule, ...
pub(crate) const fn producer_id(producer: u8) -> ProducerId {
    let mut id = [0x50; 16];
    id[15] = producer;
    ProducerId(id)
}

/// ... and back.
pub(crate) const fn producer_number(id: ProducerId) -> u8 {
    id.0[15]
}
