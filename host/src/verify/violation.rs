//! What must hold, and where it does not.

use core::fmt;
use eventstream_core::id::{Index, Offset, ProducerId, Sequence};

/// What is checked: the invariants of the design (section 10) as far as data can show them, and that the data is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What is stored is what was written: nothing is missing, every checksum is right.
    Whole,
    /// Terms and log time never fall along a log.
    LogOrder,
    /// 1: at most one leader per term.
    OneLeader,
    /// 2: logs that agree on (index, term) agree on everything before.
    LogsMatch,
    /// 3: a committed entry is in the log of every later leader.
    CommittedStays,
    /// 4: applied state is a pure function of the log: equal index, equal state.
    StateOfLog,
    /// 5: an event is accepted exactly once.
    AcceptedOnce,
    /// 6: offsets of a topic are dense.
    DenseOffsets,
    /// 7: events of one producer keep their order.
    ProducerOrder,
    /// 8: nothing unapplied is visible.
    NothingUnapplied,
}

impl Invariant {
    /// Its number in the design; none for what the design takes for granted.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Whole | Self::LogOrder => None,
            Self::OneLeader => Some(1),
            Self::LogsMatch => Some(2),
            Self::CommittedStays => Some(3),
            Self::StateOfLog => Some(4),
            Self::AcceptedOnce => Some(5),
            Self::DenseOffsets => Some(6),
            Self::ProducerOrder => Some(7),
            Self::NothingUnapplied => Some(8),
        }
    }

    /// What it says.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "what is stored is what was written",
            Self::LogOrder => "terms and log time never fall along a log",
            Self::OneLeader => "at most one leader per term",
            Self::LogsMatch => "logs that agree on an index and its term agree on everything before",
            Self::CommittedStays => "a committed entry is in the log of every later leader",
            Self::StateOfLog => "applied state is a pure function of the log",
            Self::AcceptedOnce => "an event is accepted once",
            Self::DenseOffsets => "offsets of a topic are dense",
            Self::ProducerOrder => "events of one producer keep their order",
            Self::NothingUnapplied => "nothing unapplied is visible",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "invariant {number} ({})", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// Where something is not as it must be, as far as that can be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The directories or the servers: two where they differ.
    pub at: Vec<String>,
    /// The entry.
    pub index: Option<Index>,
    /// The topic.
    pub topic: Option<String>,
    /// The offset in it.
    pub offset: Option<Offset>,
    /// The producer.
    pub producer: Option<ProducerId>,
    /// Its event.
    pub sequence: Option<Sequence>,
}

impl Place {
    /// At this directory or server.
    #[must_use]
    pub fn at(name: impl fmt::Display) -> Self {
        Self { at: vec![name.to_string()], ..Self::default() }
    }

    /// And at this one, which differs.
    #[must_use]
    pub fn and(mut self, name: impl fmt::Display) -> Self {
        self.at.push(name.to_string());
        self
    }

    /// At this entry.
    #[must_use]
    pub fn index(self, index: Index) -> Self {
        Self { index: Some(index), ..self }
    }

    /// At this offset of a topic.
    #[must_use]
    pub fn offset(self, topic: &str, offset: Offset) -> Self {
        Self { topic: Some(topic.to_owned()), offset: Some(offset), ..self }
    }

    /// At this event of a producer.
    #[must_use]
    pub fn event(self, producer: ProducerId, sequence: Sequence) -> Self {
        Self { producer: Some(producer), sequence: Some(sequence), ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![self.at.join(" and ")];
        parts.extend(self.index.map(|index| format!("entry {index}")));
        parts.extend(self.topic.as_ref().map(|topic| format!("topic {topic:?}")));
        parts.extend(self.offset.map(|offset| format!("offset {offset}")));
        parts.extend(self.producer.map(|producer| format!("producer {producer}")));
        parts.extend(self.sequence.map(|sequence| format!("sequence {sequence}")));
        f.write_str(&parts.join(", "))
    }
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub invariant: Invariant,
    /// Where.
    pub place: Place,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.place, self.what)
    }
}

/// Violations that are told one by one, at most: what is broken is broken in many places.
const TOLD: usize = 20;

/// What was found, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first of them.
    pub violations: Vec<Violation>,
    /// How many more there were.
    pub more: u64,
}

impl Findings {
    /// Adds one.
    pub(super) fn add(&mut self, invariant: Invariant, place: Place, what: impl fmt::Display) {
        if self.violations.len() < TOLD {
            self.violations.push(Violation { invariant, place, what: what.to_string() });
        } else {
            self.more += 1;
        }
    }

    /// Adds those of another part of the check.
    pub(super) fn extend(&mut self, others: Self) {
        self.violations.extend(others.violations);
        self.more += others.more;
    }

    /// Whether everything is as it must be.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many there were in all.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.violations.len() as u64 + self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_says_what_and_where() {
        let place = Place::at("a").and("b").index(Index(7)).offset("t", Offset(3));
        let violation = Violation { invariant: Invariant::LogsMatch, place, what: "they differ".to_owned() };
        let name = Invariant::LogsMatch.name();
        assert_eq!(
            violation.to_string(),
            format!("invariant 2 ({name}): a and b, entry 7, topic \"t\", offset 3: they differ")
        );
        let place = Place::at("a").event(ProducerId([1; 16]), Sequence(9));
        assert_eq!(place.to_string(), format!("a, producer {}, sequence 9", "01".repeat(16)));
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let mut findings = Findings::default();
        (0..TOLD + 5).for_each(|_| findings.add(Invariant::Whole, Place::at("a"), "gone"));
        assert_eq!((findings.violations.len(), findings.more, findings.count()), (TOLD, 5, TOLD as u64 + 5));
    }
}
