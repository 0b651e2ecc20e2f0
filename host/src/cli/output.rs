//! What goes to standard output and standard error, for people or for machines.

use super::Failure;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: a text that may have several lines, or an object in one line.
    pub(super) fn result(self, text: impl FnOnce() -> String, object: impl FnOnce() -> Value) -> io::Result<()> {
        let line = if self.json { object().to_string() } else { text() };
        let mut stdout = io::stdout().lock();
        unless_gone(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
    }

    /// Tells something that is not a result.
    #[expect(clippy::unused_self, reason = "whoever has something to tell has an output")]
    pub(super) fn note(self, text: &str) {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Tells why the command was not done.
    pub(super) fn failure(self, failure: &Failure) {
        let text = if self.json {
            json!({ "error": failure.message, "exit_code": failure.exit as u8 }).to_string()
        } else {
            format!("eventstream: {}", failure.message)
        };
        self.note(&text);
    }
}

/// A reader of standard output that has gone has seen enough (`| head`): that is no failure.
pub(super) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Bytes as a field of an object: as a text where they are one, else in hexadecimal digits under another name.
pub(super) fn text_or_hex(object: &mut serde_json::Map<String, Value>, name: &str, bytes: &[u8]) {
    match core::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
}
