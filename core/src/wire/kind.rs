//! What a frame carries: log entries and control messages, each with its number.

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a frame carries. Numbers 1 to 15 are log entries, 16 and above control messages.
        ///
        /// A number once given keeps its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$meta])* $name = $number,)*
        }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The kind of this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What it is, in a few words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// A log entry with 1 to 64 events.
    Batch = 1, "events, 1 to 64";
    /// A log entry without content, with which a term begins.
    Empty = 2, "nothing: the first entry of a term";
    /// A log entry with a configuration of members.
    Configuration = 3, "a configuration of members";
    /// A log entry with a command.
    Command = 4, "a command to the replicated state";
    /// Opens a connection.
    Hello = 16, "opens a connection";
    /// The answer to [`Kind::Hello`].
    Welcome = 17, "the connection is accepted";
    /// Something was refused.
    Refused = 18, "something was refused, and why";
    /// A producer asks for its epoch.
    OpenProducer = 20, "a producer asks for an epoch of its own";
    /// The answer to [`Kind::OpenProducer`].
    ProducerOpened = 21, "the epoch, and the sequence to go on from";
    /// What became of a batch.
    Receipt = 22, "what became of a client's batch";
    /// Another leader, or none.
    LeaderChanged = 23, "who leads now";
    /// Asks for the events of a topic.
    Subscribe = 24, "asks for the events of a topic";
    /// Announces the batch frame that follows.
    Delivery = 25, "which events of the batch frame that follows are delivered";
    /// No more deliveries.
    SubscriptionEnd = 26, "a subscription has ended, and why";
    /// Ends a subscription.
    Unsubscribe = 27, "ends a subscription";
    /// All that was there when the subscription began has been delivered.
    CaughtUp = 28, "all that was applied at the time of subscribing is delivered";
    /// Are you there?
    Ping = 29, "asks for a pong";
    /// The answer to [`Kind::Ping`].
    Pong = 30, "the answer to a ping";
    /// Asks a node for its status.
    StatusRequest = 32, "asks for a node's status";
    /// A node's status.
    Status = 33, "a node's status";
    /// Asks about a topic.
    TopicRequest = 34, "asks about a topic";
    /// The answer to [`Kind::TopicRequest`].
    Topic = 35, "whether a topic exists, and its next offset";
    /// Asks which topics there are.
    TopicListRequest = 36, "asks which topics there are";
    /// The answer to [`Kind::TopicListRequest`].
    TopicList = 37, "topics by number, with their next offsets";
    /// Asks what a node has refused.
    CountersRequest = 38, "asks what a node has refused since its start";
    /// The answer to [`Kind::CountersRequest`].
    Counters = 39, "counters by name";
    /// What a member says to another.
    Peer = 48, "one Raft message between members";
}

impl Kind {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether it is a log entry.
    #[must_use]
    pub const fn is_entry(self) -> bool {
        self.number() < 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_are_one_to_one() {
        let mut known = 0;
        for number in 0..=u8::MAX {
            if let Some(kind) = Kind::from_number(number) {
                assert_eq!(kind.number(), number);
                assert_eq!(kind.is_entry(), (1..=15).contains(&number));
                known += 1;
            }
        }
        assert_eq!(known, Kind::ALL.len());
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.number()));
    }
}
