//! What each event is: told from its producer and its place, so that nothing has to be remembered of it.
//!
//! The **place** of an event is its number among those that its producer has sent in this run, from 0.

/// A producer sends so many events to a topic before it goes on to the next one: a whole batch.
pub(super) const EVENTS_IN_A_ROW: u64 = 64;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Workload {
    seed: u64,
    size: usize,
    pub(super) topics: Vec<String>,
}

impl Workload {
    /// Payloads of `size` bytes, different for each seed, producer and place.
    pub(super) fn new(seed: u64, size: usize, topics: Vec<String>) -> Self {
        Self { seed, size, topics }
    }

    /// Room for a payload.
    pub(super) fn buffer(&self) -> Vec<u8> {
        vec![0; self.size]
    }

    /// The topic of an event.
    pub(super) fn topic(&self, producer: usize, place: u64) -> usize {
        if self.topics.len() == 1 {
            return 0;
        }
        ((producer as u64 + place / EVENTS_IN_A_ROW) % self.topics.len() as u64) as usize
    }

    /// Writes the payload of an event.
    pub(super) fn fill(&self, producer: usize, place: u64, payload: &mut [u8]) {
        let mut bits = self.bits(producer, place);
        let (words, rest) = payload.as_chunks_mut();
        words.iter_mut().for_each(|word| *word = bits.next().to_le_bytes());
        rest.copy_from_slice(&bits.next().to_le_bytes()[..rest.len()]);
    }

    /// Whether this is the payload of that event.
    pub(super) fn matches(&self, producer: usize, place: u64, payload: &[u8]) -> bool {
        let mut bits = self.bits(producer, place);
        let (words, rest) = payload.as_chunks();
        payload.len() == self.size
            && words.iter().all(|word| *word == bits.next().to_le_bytes())
            && *rest == bits.next().to_le_bytes()[..rest.len()]
    }

    fn bits(&self, producer: usize, place: u64) -> Bits {
        Bits(mix(mix(self.seed ^ mix(producer as u64)).wrapping_add(place)))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
#[derive(Debug)]
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }
}

const fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn payload(workload: &Workload, producer: usize, place: u64) -> Vec<u8> {
        let mut payload = workload.buffer();
        workload.fill(producer, place, &mut payload);
        payload
    }

    #[test]
    fn each_event_has_a_payload_of_its_own_that_is_known_again() {
        let workload = Workload::new(7, 13, vec!["t".into()]);
        let mut seen = HashSet::new();
        for (producer, place) in (0..3).flat_map(|producer| (0..1_000).map(move |place| (producer, place))) {
            let payload = payload(&workload, producer, place);
            assert!(workload.matches(producer, place, &payload));
            assert!(
                !workload.matches(producer, place + 1, &payload) && !workload.matches(producer + 1, place, &payload)
            );
            assert!(!workload.matches(producer, place, &payload[..12]), "all of it");
            assert!(seen.insert(payload));
        }
        let mut damaged = payload(&workload, 0, 0);
        damaged[12] ^= 1;
        assert!(!workload.matches(0, 0, &damaged), "the last byte counts");
        assert_ne!(payload(&workload, 0, 0), payload(&Workload::new(8, 13, vec![]), 0, 0), "another run");
    }

    #[test]
    fn payloads_look_random() {
        let payload = payload(&Workload::new(7, 16_384, vec!["t".into()]), 0, 0);
        let mut counts = [0_u32; 256];
        payload.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| (20..120).contains(count)), "64 of each on average: {counts:?}");
    }

    #[test]
    fn every_producer_goes_through_all_topics_a_batch_at_a_time() {
        let workload = Workload::new(0, 1, ["a", "b", "c"].map(String::from).to_vec());
        assert_eq!((workload.topic(0, 0), workload.topic(0, 63), workload.topic(0, 64)), (0, 0, 1));
        assert_eq!((workload.topic(1, 0), workload.topic(1, 128), workload.topic(2, 64)), (1, 0, 0));
    }
}
