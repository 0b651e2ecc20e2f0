//! The tables of the document, from the codec's own constants.

use core::fmt::{Display, Write as _};
use core::ops::Range;
use eventstream_core::config::{
    MAX_ADDRESS, MAX_APPEND_ENTRIES, MAX_BATCH_EVENTS, MAX_CONTROL_PAYLOAD, MAX_COUNTER, MAX_COUNTER_NAME,
    MAX_EVENT_PAYLOAD, MAX_FRAME_PAYLOAD, MAX_KEY, MAX_LISTED_COUNTERS, MAX_LISTED_TOPICS, MAX_MEMBERS, MAX_TEXT,
    MAX_TOPIC,
};
use eventstream_core::wire::{Counter, END_LEN, END_MARKER, HEADER_LEN, Kind, MAX_FRAME_LEN, VERSION, field};

/// The fields of a header: where they lie, and what they hold.
pub(crate) const FIELDS: [(&str, Range<usize>, &str); 12] = [
    ("magic", field::MAGIC, "`0xDEADBEEF`"),
    ("version", field::VERSION..field::VERSION + 1, "the version of the format"),
    ("kind", field::KIND..field::KIND + 1, "what the payload is: the table of kinds"),
    ("flags", field::FLAGS, "zero: no flag is defined"),
    ("shard", field::SHARD, "the Raft log that the frame belongs to; 0 for now"),
    ("event_count", field::EVENT_COUNT, "batch: events, 1 to 64; else 0"),
    ("payload_len", field::PAYLOAD_LEN, "bytes of the payload"),
    ("batch_id", field::BATCH_ID, "log entry: its index; batch from a client: the client's number of it; else 0"),
    ("term", field::TERM, "log entry: its term; else 0"),
    ("timestamp_us", field::TIMESTAMP_US, "log entry: log time; batch from a client: when it was made; else 0"),
    ("checksum", field::CHECKSUM, "CRC-32 of the payload"),
    ("header_checksum", field::HEADER_CHECKSUM, "CRC-32 of bytes 0 to 43"),
];

pub(crate) fn header() -> String {
    let mut table = String::from("| offset | size | field | content |\n|---|---|---|---|\n");
    for (name, Range { start, end }, content) in &FIELDS {
        row(&mut table, &[start, &(end - start), name, content]);
    }
    row(&mut table, &[&HEADER_LEN, &"n", &"payload", &"as the kind has it"]);
    row(&mut table, &[&format!("{HEADER_LEN} + n"), &END_LEN, &"end marker", &format!("`{END_MARKER:#018X}`")]);
    table
}

pub(crate) fn kinds() -> String {
    let mut table = String::from("| kind | name | it carries |\n|---|---|---|\n");
    for kind in Kind::ALL {
        row(&mut table, &[&kind.number(), &format!("{kind:?}"), &kind.text()]);
    }
    table
}

pub(crate) fn counters() -> String {
    let mut table = String::from("| counter | it counts |\n|---|---|\n");
    for counter in Counter::ALL {
        row(&mut table, &[&format!("`{}`", counter.name()), &counter.text()]);
    }
    table
}

pub(crate) fn limits() -> String {
    let limits: [(&str, u64); 16] = [
        ("version of the format", VERSION.into()),
        ("bytes of a topic, at least 1", MAX_TOPIC as u64),
        ("bytes of a key", MAX_KEY as u64),
        ("bytes of an event's payload", MAX_EVENT_PAYLOAD as u64),
        ("events of a batch, at least 1", MAX_BATCH_EVENTS as u64),
        ("bytes of a log entry's payload", MAX_FRAME_PAYLOAD as u64),
        ("bytes of a control message's payload", MAX_CONTROL_PAYLOAD as u64),
        ("bytes of a frame", MAX_FRAME_LEN as u64),
        ("entries after one append", MAX_APPEND_ENTRIES as u64),
        ("members in a list", MAX_MEMBERS as u64),
        ("topics in a list", MAX_LISTED_TOPICS as u64),
        ("counters in a list", MAX_LISTED_COUNTERS as u64),
        ("bytes of a counter's name, at least 1", MAX_COUNTER_NAME as u64),
        ("bytes of an address, at least 1", MAX_ADDRESS as u64),
        ("bytes of a free text", MAX_TEXT as u64),
        ("an index, term, offset, sequence, batch id or time", MAX_COUNTER),
    ];
    let mut table = String::from("| what | at most |\n|---|---|\n");
    for (what, most) in limits {
        row(&mut table, &[&what, &most]);
    }
    table
}

fn row(table: &mut String, cells: &[&dyn Display]) {
    for cell in cells {
        write!(table, "| {cell} ").expect("a string takes everything");
    }
    table.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventstream_core::wire::MAGIC;

    #[test]
    fn the_fields_are_the_whole_header_without_holes() {
        let mut next = 0;
        for (name, range, _) in FIELDS {
            assert_eq!(range.start, next, "{name}");
            assert!(!range.is_empty(), "{name}");
            next = range.end;
        }
        assert_eq!(next, HEADER_LEN);
        assert_eq!(field::CHECKED, 0..field::HEADER_CHECKSUM.start);
    }

    #[test]
    fn the_magic_is_as_written() {
        assert_eq!(FIELDS[0].2, format!("`{MAGIC:#X}`"));
    }
}
