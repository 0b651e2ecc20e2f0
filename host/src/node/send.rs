//! The sending side of one connection: frames that wait, written many at a time.

use super::memory::SharedFrame;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

/// Frames in one system call, at most.
const MAX_SLICES: usize = 64;

/// Items that an empty queue has room for, at most.
const KEPT_ITEMS: usize = 512;

/// What waits to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    items: VecDeque<Item>,
    /// Bytes of the first frame that are sent already.
    sent: usize,
}

#[derive(Debug)]
enum Item {
    Frame(SharedFrame),
    Mark(usize),
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// The sum of the marks that were passed.
    pub(crate) marked: usize,
    /// Whether something still waits, because the socket takes no more for now.
    pub(crate) is_blocked: bool,
}

impl SendQueue {
    /// Adds a frame at the end.
    pub(crate) fn push(&mut self, frame: SharedFrame) {
        self.items.push_back(Item::Frame(frame));
    }

    /// Adds a mark at the end: `bytes` are reported when everything before it is sent.
    pub(crate) fn mark(&mut self, bytes: usize) {
        self.items.push_back(Item::Mark(bytes));
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends as much as `write` takes, which is a vectored write that does not wait.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self, write: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<Flushed> {
        let mut marked = self.pass_marks();
        while !self.items.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.gather(&mut slices);
            match write(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Flushed { marked, is_blocked: true });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            marked += self.pass_marks();
        }
        // A queue that was long once would hold its memory for as long as the connection lasts.
        self.items.shrink_to(KEPT_ITEMS);
        Ok(Flushed { marked, is_blocked: false })
    }

    /// Slices of the frames at the front. Returns how many.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let frames = self.items.iter().filter_map(|item| match item {
            Item::Frame(frame) => Some(&frame[..]),
            Item::Mark(_) => None,
        });
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(frames) {
            let from = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&frame[from..]);
            count += 1;
        }
        count
    }

    /// Takes `written` bytes off the front. Marks between them stay until they are at the front.
    fn written(&mut self, written: usize) {
        let mut left = self.sent + written;
        let mut passed = 0;
        for item in &self.items {
            match item {
                Item::Frame(frame) if frame.len() > left => break,
                Item::Frame(frame) => left -= frame.len(),
                Item::Mark(_) => {}
            }
            passed += 1;
        }
        self.sent = left;
        let mut marks = 0;
        for item in self.items.drain(..passed) {
            if let Item::Mark(bytes) = item {
                marks += bytes;
            }
        }
        if marks > 0 {
            self.items.push_front(Item::Mark(marks));
        }
    }

    /// Takes the marks at the front, and adds up what they report.
    fn pass_marks(&mut self) -> usize {
        let mut marked = 0;
        while let Some(&Item::Mark(bytes)) = self.items.front() {
            marked += bytes;
            self.items.pop_front();
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::memory::pool;
    use core::cell::RefCell;

    fn queue(frames: &[&[u8]]) -> SendQueue {
        let mut queue = SendQueue::default();
        let mut block = pool(1).take().expect("a fresh pool");
        for bytes in frames {
            let mut frame = block.split_to(bytes.len());
            frame.copy_from_slice(bytes);
            queue.push(frame.freeze());
        }
        queue
    }

    /// Takes `limits[i]` bytes at the i-th call, nothing when they are used up.
    fn socket<'a>(
        taken: &'a RefCell<Vec<u8>>,
        limits: &'a RefCell<Vec<usize>>,
    ) -> impl Fn(&[IoSlice<'_>]) -> io::Result<usize> + 'a {
        move |slices| {
            if limits.borrow().is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let limit = limits.borrow_mut().remove(0);
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(limit).collect();
            taken.borrow_mut().extend(&all);
            Ok(all.len())
        }
    }

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        let (taken, limits) = (RefCell::default(), RefCell::new(vec![1, 4, 2]));
        let mut queue = queue(&[b"abc", b"de", b"fghi"]);
        let flushed = queue.flush(socket(&taken, &limits)).expect("the socket works");
        assert!(flushed.is_blocked);
        assert_eq!(&taken.borrow()[..], b"abcdefg");
        limits.borrow_mut().push(100);
        assert!(!queue.flush(socket(&taken, &limits)).expect("the socket works").is_blocked);
        assert_eq!((&taken.borrow()[..], queue.is_empty()), (&b"abcdefghi"[..], true));
    }

    #[test]
    fn a_mark_is_passed_when_all_before_it_is_sent_and_no_sooner() {
        let (taken, limits) = (RefCell::default(), RefCell::new(vec![5]));
        let mut queue = queue(&[b"abc", b"def"]);
        queue.mark(6);
        assert_eq!(queue.flush(socket(&taken, &limits)).expect("works"), Flushed { marked: 0, is_blocked: true });
        limits.borrow_mut().push(100);
        assert_eq!(queue.flush(socket(&taken, &limits)).expect("works"), Flushed { marked: 6, is_blocked: false });
        queue.mark(1);
        assert_eq!(queue.flush(socket(&taken, &limits)).expect("works"), Flushed { marked: 1, is_blocked: false });
    }

    #[test]
    fn a_queue_that_was_long_holds_little_once_it_is_empty() {
        let mut block = pool(1).take().expect("a fresh pool");
        let (mut queue, frame) = (SendQueue::default(), block.split_to(10).freeze());
        (0..10_000).for_each(|_| queue.push(frame.clone()));
        let all = |slices: &[IoSlice<'_>]| Ok(slices.iter().map(|slice| slice.len()).sum());
        assert!(!queue.flush(all).expect("the socket works").is_blocked);
        assert!(queue.items.capacity() <= 2 * KEPT_ITEMS, "{}", queue.items.capacity());
    }

    #[test]
    fn a_broken_connection_is_an_error() {
        let mut queue = queue(&[b"abc"]);
        assert_eq!(queue.flush(|_| Ok(0)).unwrap_err().kind(), ErrorKind::WriteZero);
        assert!(queue.flush(|_| Err(ErrorKind::ConnectionReset.into())).is_err());
    }
}
