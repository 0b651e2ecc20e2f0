//! What a node counts: everything that it refuses, by reason. Names and their order are for programs and for people;
//! the table of numbers itself is the host's.

macro_rules! counters {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// Something that a node refused, or a connection that it closed. In the order in which a node lists them.
        ///
        /// A name once given keeps its meaning. New ones come last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $(#[doc = $text] $variant,)*
        }

        impl Counter {
            /// Every counter, in order: the position of each is its value as a number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name: 1 to 48 of `a` to `z`, `0` to `9` and `_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it counts, in a few words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

counters! {
    FrameMagic = "frame_magic", "a frame that does not begin with the magic";
    FrameVersion = "frame_version", "a frame of another version of the format";
    FrameHeaderChecksum = "frame_header_checksum", "a frame whose header was damaged";
    FrameFlags = "frame_flags", "a frame with an undefined flag";
    FrameKind = "frame_kind", "a frame of an unknown kind";
    FrameEventCount = "frame_event_count", "a frame with a number of events that its kind does not allow";
    FramePayloadLength = "frame_payload_length", "a frame with a length that its kind does not allow";
    FrameUnusedField = "frame_unused_field", "a control message with an index, term or time in its header";
    FrameNumber = "frame_number", "a frame with an index, term or time above the limit";
    FramePayloadChecksum = "frame_payload_checksum", "a frame whose payload was damaged";
    FrameEndMarker = "frame_end_marker", "a frame without its end marker";
    FrameStamp = "frame_stamp", "a client's batch with a term, or another node's entry without index and term";
    FrameCutOff = "frame_cut_off", "a connection that ended within a frame";
    FrameTimeout = "frame_timeout", "a frame that was begun and did not end in time";
    BatchMalformed = "batch_malformed", "a batch whose runs or records are not whole";
    MessageMalformed = "message_malformed", "a control message that breaks the format's rules";
    Unexpected = "unexpected", "a message that is not for this side, or not now";
    HelloMissing = "hello_missing", "a connection whose first frame was no hello";
    HelloTimeout = "hello_timeout", "a connection whose hello did not come in time";
    HelloVersion = "hello_version", "a hello with no version in common";
    ClientWrongCluster = "client_wrong_cluster", "a client that meant another cluster";
    PeerWrongCluster = "peer_wrong_cluster", "a node of another cluster";
    PeerUnknownMember = "peer_unknown_member", "a node that is no member under its incarnation";
    NewcomerPushedOut = "newcomer_pushed_out", "a connection that had not said who it is when its place was needed";
    TooManyClients = "too_many_clients", "a client beyond the connections that the node takes";
    TooManyPeers = "too_many_peers", "a connection of another node beyond those that the node takes";
    NotLeader = "not_leader", "a batch or request for the leader that came to another node";
    Busy = "busy", "a batch or request while more was under way than the node holds";
    TooManySubscriptions = "too_many_subscriptions", "a subscription beyond those of one connection";
    OutcomeUnknown = "outcome_unknown", "a batch or request that no majority answered in time";
    Stopping = "stopping", "a batch or request while the node was being stopped";
    ProducerTableFull = "producer_table_full", "a producer beyond those that the cluster remembers";
    DiskLow = "disk_low", "a batch or request while the disk was nearly full";
    RunFenced = "run_fenced", "a run of a producer's life that a later one has taken over from";
    RunSequenceGap = "run_sequence_gap", "a run before which events are missing";
    RunProducerUnknown = "run_producer_unknown", "a run of a producer that the cluster does not remember";
    RunProducerTableFull = "run_producer_table_full", "a run of a producer beyond those that the cluster remembers";
    RunTopicTableFull = "run_topic_table_full", "a run of a topic beyond those that the cluster has room for";
    RunEventTooLarge = "run_event_too_large", "a run with an event that is larger than the cluster takes";
    RunEventIdsOff = "run_event_ids_off", "a run with event ids, of which the cluster keeps no table";
    PeerImpostor = "peer_impostor", "a message of a node under another node's name, or to another node";
    PeerOutOfStep = "peer_out_of_step", "a message or entry of another node that makes no sense where it came";
    ClientUnreadMuch = "client_unread_much", "a client that left more unread than it may";
    ClientUnreadLong = "client_unread_long", "a client that left something unread for too long while memory was short";
    ClientUnanswerable = "client_unanswerable", "a client that no memory was left to answer";
    PeerUnread = "peer_unread", "a link to a node that does not read";
    TlsMissing = "tls_missing", "a connection in plain text to a node that speaks TLS";
    TlsFailed = "tls_failed", "a connection under TLS that broke off, because one side did not trust the other for example";
    Unauthenticated = "unauthenticated", "a client without certificate and token, or a node without its own certificate";
    ClientLost = "client_lost", "a client that the system gave up: for too long it took nothing, or was not there";
    WitnessAsked = "witness_asked", "a subscription, or a question about topics, that came to a witness";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_COUNTER_NAME;

    #[test]
    fn names_are_snake_case_words_and_each_is_there_once() {
        for (position, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, position);
            let name = counter.name();
            assert!((1..=MAX_COUNTER_NAME).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(Counter::ALL[..position].iter().all(|other| other.name() != name), "{name}");
        }
    }
}
