//! The numbers and names that everything else is about, each a type of its own.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        number!($(#[$meta])* $name(u64));

        impl $name {
            /// The lowest value.
            pub const ZERO: Self = Self(0);

            /// The next value. A 64-bit counter does not end in the life of a cluster.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The value `count` further on.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }

            /// The value before this one; zero stays zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }
    };
}

macro_rules! name128 {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

number! {
    /// A member of the cluster, 1 or above.
    NodeId(u16)
}
number! {
    /// One Raft log with its members. Zero is the only one for now.
    ShardId(u16)
}
number! {
    /// The number of a topic: topics are counted from 0 in the order in which the log first accepted an event of them.
    TopicId(u32)
}
number! {
    /// Which life of a producer. A higher epoch fences the lower ones.
    Epoch(u32)
}
counter! {
    /// An epoch of leadership (Raft paper, section 5.1). Zero is before the first election.
    Term
}
counter! {
    /// A position in the Raft log. The first entry has index 1; zero is before the first.
    Index
}
counter! {
    /// The position of an event in its topic, dense from 0.
    Offset
}
counter! {
    /// The number that a producer gives an event, dense from 0 unless the producer says that it dropped some.
    Sequence
}
counter! {
    /// Microseconds since the Unix epoch as the leader stamped them; never decreases along the log.
    LogTime
}
name128! {
    /// The random name of a cluster, made by `eventstream init`.
    ClusterId
}
name128! {
    /// The random name of one life of a data directory. A wiped node is a new incarnation.
    Incarnation
}
name128! {
    /// Who numbers events. A host derives it from a name; a device may hold any 128 bits of its own.
    ProducerId
}
name128! {
    /// The caller's own name for one event, where no producer numbers it.
    EventId
}
