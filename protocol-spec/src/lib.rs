//! What can be said of the wire format by the code that speaks it.
//!
//! `docs/protocol.md` is prose with tables in it. The tables are generated here from the constants and types of the
//! codec itself, each between two marks:
//!
//! ```text
//! <!-- generated: kinds -->
//! ...
//! <!-- end -->
//! ```
//!
//! [`renew`] puts the tables as they should be into a document; a test holds the document in the tree against that.

mod tables;

use core::fmt;

/// A generated part of the document.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The name in the mark.
    pub name: &'static str,
    /// Makes the text.
    pub text: fn() -> String,
}

/// Every generated part.
pub const BLOCKS: &[Block] = &[
    Block { name: "header", text: tables::header },
    Block { name: "kinds", text: tables::kinds },
    Block { name: "counters", text: tables::counters },
    Block { name: "limits", text: tables::limits },
];

const END: &str = "<!-- end -->";

/// The document with every generated part as it should be.
///
/// # Errors
///
/// A part that is missing, or has no end. Each has to be there exactly once.
pub fn renew(document: &str) -> Result<String, RenewError> {
    BLOCKS.iter().try_fold(document.to_owned(), |document, block| {
        let mark = format!("<!-- generated: {} -->", block.name);
        let (before, rest) = document.split_once(&mark).ok_or(RenewError::Missing(block.name))?;
        let (_, after) = rest.split_once(END).ok_or(RenewError::Endless(block.name))?;
        if after.contains(&mark) {
            return Err(RenewError::Twice(block.name));
        }
        Ok(format!("{before}{mark}\n{}{END}{after}", (block.text)()))
    })
}

/// Why a document cannot be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewError {
    /// There is no mark of this name.
    Missing(&'static str),
    /// The mark of this name has no end.
    Endless(&'static str),
    /// The mark of this name is there more than once.
    Twice(&'static str),
}

impl fmt::Display for RenewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "no mark <!-- generated: {name} -->"),
            Self::Endless(name) => write!(f, "no {END} after <!-- generated: {name} -->"),
            Self::Twice(name) => write!(f, "more than one mark <!-- generated: {name} -->"),
        }
    }
}

impl core::error::Error for RenewError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(inside: &str) -> String {
        BLOCKS.iter().map(|block| format!("text\n<!-- generated: {} -->\n{inside}{END}\n", block.name)).collect()
    }

    #[test]
    fn what_is_between_the_marks_is_renewed_and_nothing_else() {
        let renewed = renew(&document("stale\n")).unwrap();
        assert!(!renewed.contains("stale"));
        assert_eq!(renewed.matches("text\n").count(), BLOCKS.len());
        assert_eq!(renew(&renewed), Ok(renewed.clone()), "once is enough");
    }

    #[test]
    fn a_mark_is_there_once_and_has_an_end() {
        assert_eq!(renew(""), Err(RenewError::Missing("header")));
        assert_eq!(renew("<!-- generated: header -->"), Err(RenewError::Endless("header")));
        assert_eq!(renew(&document("").repeat(2)), Err(RenewError::Twice("header")));
    }
}
