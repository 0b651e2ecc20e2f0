//! The list at the end of a message: written from a slice, read where it lies.

use super::check::Check;
use super::control::{ControlError, take};
use super::cursor::Cursor;
use core::fmt;
use serde::{Deserialize, Serialize, Serializer};

/// What a [`List`] holds.
pub trait Item<'a>: Copy + Serialize + Deserialize<'a> + Check {
    /// Items of one list, at most.
    const MAX: usize;
}

/// A bounded list. It is the last field of its message, so that no array of the largest size is ever filled in.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Form<'a, T>);

#[derive(Clone, Copy)]
enum Form<'a, T> {
    /// To be written.
    Items(&'a [T]),
    /// As it was read: this many items, each of which was decoded once and checked.
    Encoded { count: usize, bytes: &'a [u8] },
}

impl<'a, T: Item<'a>> List<'a, T> {
    /// The list of these items.
    #[must_use]
    pub const fn of(items: &'a [T]) -> Self {
        Self(Form::Items(items))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Form::Items(items) => items.len(),
            Form::Encoded { count, .. } => count,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items, in order.
    #[must_use]
    pub const fn iter(&self) -> Items<'a, T> {
        Items { list: self.0, at: 0 }
    }

    /// Reads a list that is all of `bytes`.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, ControlError> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.u32()? as usize;
        if count > T::MAX {
            return Err(ControlError::TooMany);
        }
        let bytes = cursor.rest();
        let mut rest = bytes;
        for _ in 0..count {
            let item: T;
            (item, rest) = take(rest)?;
            item.check()?;
        }
        if !rest.is_empty() {
            return Err(ControlError::TrailingBytes);
        }
        Ok(Self(Form::Encoded { count, bytes }))
    }
}

impl<'a, T: Item<'a>> Check for List<'a, T> {
    fn check(&self) -> Result<(), ControlError> {
        match self.0 {
            Form::Items(items) if items.len() > T::MAX => Err(ControlError::TooMany),
            Form::Items(items) => items.iter().try_for_each(Check::check),
            // Checked when it was decoded.
            Form::Encoded { .. } => Ok(()),
        }
    }
}

/// The items of a [`List`].
#[derive(Clone)]
pub struct Items<'a, T> {
    list: Form<'a, T>,
    at: usize,
}

impl<'a, T: Item<'a>> Iterator for Items<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = match &mut self.list {
            Form::Items(items) => *items.get(self.at)?,
            Form::Encoded { count, .. } if self.at == *count => return None,
            Form::Encoded { bytes, .. } => {
                let item;
                (item, *bytes) = take(bytes).expect("the list was checked");
                item
            }
        };
        self.at += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = List(self.list).len() - self.at;
        (left, Some(left))
    }
}

impl<'a, T: Item<'a>> ExactSizeIterator for Items<'a, T> {}

impl<'a, T: Item<'a>> Serialize for List<'a, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'a, T: Item<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Item<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
