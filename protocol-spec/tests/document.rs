//! The document in the tree says what the code does, as far as a machine can tell.

use eventstream_core::wire::Kind;
use eventstream_protocol_spec::renew;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

#[test]
fn its_tables_are_those_of_the_code() {
    let renewed = renew(DOCUMENT).expect("every mark is there");
    assert!(
        renewed == DOCUMENT,
        "stale; renew it: cargo run --release -p eventstream-protocol-spec -- write docs/protocol.md"
    );
}

#[test]
fn every_control_message_has_its_section() {
    for kind in Kind::ALL.iter().filter(|kind| !kind.is_entry()) {
        let heading = format!("\n### {} {kind:?}\n", kind.number());
        assert!(DOCUMENT.contains(&heading), "no section {}", heading.trim());
    }
}
