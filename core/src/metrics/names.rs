//! What is measured, and how it is called. What a node *refuses* is counted elsewhere: [`Counter`](crate::wire::Counter).

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal, $about:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = $about] $variant,)*
        }

        impl $name {
            /// All of them, in order: the position of each is its value as a number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name: of `a` to `z` and `_`, the unit last. A name once given keeps its meaning.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

names! {
    /// What is counted of a node's work. In the order in which one brings about the next: who reads from the last to the first
    /// never sees an effect without its cause.
    Counted {
        BatchesReceived = "batches_received", "Batches that came from clients and were whole.";
        EntriesApplied = "entries_applied", "Entries of the log that were applied.";
        EventsAccepted = "events_accepted", "Events that got an offset.";
        EventsDuplicate = "events_duplicate", "Events that were there already.";
        ReceiptsSent = "receipts_sent", "Receipts that were handed to a client's connection.";
    }
}

names! {
    /// What is measured of how long a node's work takes, in microseconds.
    Timed {
        Sync = "sync_us", "A write of the log, until it was on the disk.";
        Commit = "commit_us", "An entry, from its proposal until it was committed.";
        Apply = "apply_us", "An entry, until what it means was decided.";
        Acknowledge = "acknowledge_us", "A client's batch, from its last byte until its receipt was handed to the connection.";
    }
}

#[cfg(all(test, not(eventstream_loom)))]
mod tests {
    extern crate std;

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_plain_and_numbers_are_positions() {
        let counted = Counted::ALL.iter().map(|counted| counted.name());
        let timed = Timed::ALL.iter().map(|timed| timed.name());
        let names: BTreeSet<_> = counted.chain(timed).collect();
        assert_eq!(names.len(), Counted::ALL.len() + Timed::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        assert!(Counted::ALL.iter().enumerate().all(|(at, counted)| *counted as usize == at));
        assert!(Timed::ALL.iter().enumerate().all(|(at, timed)| *timed as usize == at));
    }
}
