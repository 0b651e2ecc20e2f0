//! Events in flash, in the order of their numbers, until the cluster has them.

use super::flash::Flash;
use super::page::{ERASED, PAGE_HEADER_LEN, PageHeader, RECORD_HEADER_LEN, RecordHeader, Stored, WRITE_UNIT, checksum};
use crate::batch::{self, PushError, Source};
use crate::crc::Crc32;
use crate::id::{Epoch, ProducerId, Sequence};
use core::fmt;
use core::ops::DerefMut;

#[cfg(test)]
mod tests;

/// A ring of flash pages that holds the newest events of one producer.
///
/// An event that [`append`](Self::append) has returned from survives every reset; one that a reset came in the middle of
/// was never appended, and the next takes its number. When all pages are in use, the oldest is erased: its events are
/// given up if the cluster has not acknowledged them, and [`first`](Self::first) tells. One page at most is not available
/// for events, since the next is erased before it is written.
///
/// The numbering lives as long as the flash does. Flash that was wiped begins a new numbering and has to be
/// [formatted](Self::format) for a producer id that was never used, or the cluster would take its first events for
/// duplicates; [`Producer`](super::Producer) refuses to publish then.
///
/// `B` holds one record: it bounds the events.
#[derive(Debug)]
pub struct FlashLog<F, B> {
    flash: F,
    buffer: B,
    crc: Crc32,
    producer: ProducerId,
    /// The turns of the oldest page in use and of the one that is written.
    oldest: u32,
    newest: u32,
    /// Where the next record goes in the newest page; the length of the page if it takes no more.
    end: usize,
    first: Sequence,
    next: Sequence,
}

/// Where an event lies. It stays good until the event's page is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    turn: u32,
    at: usize,
    pub(super) sequence: Sequence,
}

// --- opening -------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> FlashLog<F, B> {
    /// Makes an empty log that numbers from zero. What the flash held is lost.
    ///
    /// # Errors
    ///
    /// Those of the flash.
    ///
    /// # Panics
    ///
    /// If the geometry of the flash is not as [`Flash`] says.
    pub fn format(flash: F, buffer: B, producer: ProducerId, crc: Crc32) -> Result<Self, F::Error> {
        let mut log = Self::new(flash, buffer, crc);
        log.begin(producer)?;
        Ok(log)
    }

    /// Finds what the flash holds; flash without a log is formatted for this producer.
    ///
    /// # Errors
    ///
    /// Those of the flash.
    ///
    /// # Panics
    ///
    /// If the geometry of the flash is not as [`Flash`] says.
    pub fn open_or_format(flash: F, buffer: B, producer: ProducerId, crc: Crc32) -> Result<Self, F::Error> {
        let mut log = Self::new(flash, buffer, crc);
        if !log.recover()? {
            log.begin(producer)?;
        }
        Ok(log)
    }

    /// Finds what the flash holds.
    ///
    /// A record that a reset cut off, or that no cluster would take, ends its page: nothing is written behind it. A page
    /// whose erasure was cut off is not followed by the sequence that it ends with, and is left out together with all
    /// before it.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFormatted`] if there is no log; those of the flash.
    ///
    /// # Panics
    ///
    /// If the geometry of the flash is not as [`Flash`] says.
    pub fn open(flash: F, buffer: B, crc: Crc32) -> Result<Self, OpenError<F::Error>> {
        let mut log = Self::new(flash, buffer, crc);
        if log.recover()? { Ok(log) } else { Err(OpenError::NotFormatted) }
    }

    fn new(flash: F, buffer: B, crc: Crc32) -> Self {
        let (pages, page_len) = (flash.pages(), flash.page_len());
        assert!(pages >= 2 && page_len > PAGE_HEADER_LEN && page_len.is_multiple_of(WRITE_UNIT), "as Flash says");
        Self {
            flash,
            buffer,
            crc,
            producer: ProducerId::default(),
            oldest: 0,
            newest: 0,
            end: PAGE_HEADER_LEN,
            first: Sequence::ZERO,
            next: Sequence::ZERO,
        }
    }

    fn begin(&mut self, producer: ProducerId) -> Result<(), F::Error> {
        self.producer = producer;
        for page in 0..self.flash.pages() {
            self.flash.erase(page)?;
        }
        self.begin_page(0)
    }

    /// Returns whether there is a log.
    fn recover(&mut self) -> Result<bool, F::Error> {
        let Some(newest) = self.newest_page()? else { return Ok(false) };
        self.producer = newest.producer;
        self.newest = newest.turn;
        self.oldest = newest.turn;
        let mut header = newest;
        while newest.turn - self.oldest + 1 < self.flash.pages() as u32 {
            let Some(turn) = self.oldest.checked_sub(1) else { break };
            match self.header(turn)?.filter(|older| older.producer == newest.producer && older.first <= header.first) {
                Some(older) => (header, self.oldest) = (older, turn),
                None => break,
            }
        }
        self.first = header.first;
        self.next = header.first;
        for turn in self.oldest..=newest.turn {
            if let Some(header) = self.header(turn)?
                && header.first != self.next
            {
                (self.oldest, self.first, self.next) = (turn, header.first, header.first);
            }
            self.scan(turn)?;
        }
        if !self.is_erased_from(self.end)? {
            self.end = self.flash.page_len();
        }
        Ok(true)
    }

    /// The header of the page that was begun last.
    fn newest_page(&mut self) -> Result<Option<PageHeader>, F::Error> {
        let mut newest: Option<PageHeader> = None;
        for page in 0..self.flash.pages() {
            let found = self.header_at(page)?;
            newest = newest.into_iter().chain(found).max_by_key(|header| header.turn);
        }
        Ok(newest)
    }

    fn header(&mut self, turn: u32) -> Result<Option<PageHeader>, F::Error> {
        Ok(self.header_at(self.page(turn))?.filter(|header| header.turn == turn))
    }

    fn header_at(&mut self, page: usize) -> Result<Option<PageHeader>, F::Error> {
        let mut bytes = [0; PAGE_HEADER_LEN];
        self.flash.read(page, 0, &mut bytes)?;
        let header = PageHeader::parse(&bytes, self.crc);
        Ok(header.filter(|header| self.page(header.turn) == page))
    }

    /// Counts the records of a page; `end` is then behind the last of them.
    fn scan(&mut self, turn: u32) -> Result<(), F::Error> {
        let mut cursor = Cursor { turn, at: PAGE_HEADER_LEN, sequence: self.next };
        while let Some(header) = self.record_at(&cursor)? {
            if !self.is_event(cursor.sequence, &header) {
                break;
            }
            cursor.at += header.record_len();
            cursor.sequence = cursor.sequence.next();
        }
        (self.end, self.next) = (cursor.at, cursor.sequence);
        Ok(())
    }

    fn is_erased_from(&mut self, mut at: usize) -> Result<bool, F::Error> {
        let page = self.page(self.newest);
        let mut bytes = [0; WRITE_UNIT];
        while at < self.flash.page_len() {
            self.flash.read(page, at, &mut bytes)?;
            if bytes != [ERASED; WRITE_UNIT] {
                return Ok(false);
            }
            at += WRITE_UNIT;
        }
        Ok(true)
    }

    /// Reads what may be a record into the buffer. `None` if it cannot be one.
    fn record_at(&mut self, cursor: &Cursor) -> Result<Option<RecordHeader>, F::Error> {
        let (page, page_len) = (self.page(cursor.turn), self.flash.page_len());
        let body_at = cursor.at + RECORD_HEADER_LEN;
        if body_at > page_len {
            return Ok(None);
        }
        let mut bytes = [0; RECORD_HEADER_LEN];
        self.flash.read(page, cursor.at, &mut bytes)?;
        let fits =
            |header: &RecordHeader| cursor.at + header.record_len() <= page_len && header.body_len <= self.buffer.len();
        let Some(header) = RecordHeader::parse(&bytes).filter(fits) else { return Ok(None) };
        self.flash.read(page, body_at, &mut self.buffer[..header.body_len])?;
        Ok(Some(header))
    }

    /// Whether the record in the buffer is the event of this number, and one that a cluster would take.
    fn is_event(&self, sequence: Sequence, header: &RecordHeader) -> bool {
        let body = &self.buffer[..header.body_len];
        let is_lawful = |event: Stored<'_>| batch::check(&event.event(self.source(sequence))).is_ok();
        checksum(sequence, body, self.crc) == header.checksum && Stored::parse(body).is_some_and(is_lawful)
    }

    const fn source(&self, sequence: Sequence) -> Source {
        Source::Producer { producer: self.producer, epoch: Epoch(0), sequence, after_gap: false }
    }

    fn page(&self, turn: u32) -> usize {
        (turn % self.flash.pages() as u32) as usize
    }
}

// --- getters -------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> FlashLog<F, B> {
    /// Whose events these are.
    #[must_use]
    pub const fn producer(&self) -> ProducerId {
        self.producer
    }

    /// The sequence of the oldest event that is kept for the cluster.
    #[must_use]
    pub const fn first(&self) -> Sequence {
        self.first
    }

    /// The sequence that the next event gets.
    #[must_use]
    pub const fn next(&self) -> Sequence {
        self.next
    }

    /// Events that are kept for the cluster.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.next.0 - self.first.0
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the longest record, as [`Stored::record_len`] counts them.
    #[must_use]
    pub fn max_record_len(&self) -> usize {
        self.buffer.len().min(self.flash.page_len() - PAGE_HEADER_LEN)
    }

    /// Gives back what was lent.
    #[must_use]
    pub fn into_parts(self) -> (F, B) {
        (self.flash, self.buffer)
    }
}

// --- writing -------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> FlashLog<F, B> {
    /// Keeps an event, and returns its sequence when no reset can undo that. May erase the oldest page.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the event was not kept, and the next takes its number.
    pub fn append(&mut self, event: &Stored<'_>) -> Result<Sequence, AppendError<F::Error>> {
        batch::check(&event.event(self.source(self.next))).map_err(AppendError::Event)?;
        let len = event.record_len();
        if len > self.max_record_len() {
            return Err(AppendError::TooLong { len, limit: self.max_record_len() });
        }
        if self.end + len > self.flash.page_len() {
            self.turn_page()?;
        }
        let (page, at) = (self.page(self.newest), self.end);
        // Whatever of it is written if this fails, no other record goes there.
        self.end = self.flash.page_len();
        let record = event.emit(self.next, &mut self.buffer, self.crc);
        self.flash.write(page, at, record)?;
        self.end = at + len;
        self.next = self.next.next();
        Ok(Sequence(self.next.0 - 1))
    }

    /// Events below `end` need not be kept any more.
    pub(super) fn release(&mut self, end: Sequence) {
        self.first = self.first.max(end.min(self.next));
    }

    fn turn_page(&mut self) -> Result<(), F::Error> {
        let turn = self.newest + 1;
        if turn - self.oldest == self.flash.pages() as u32 {
            // Its events are out of reach before the first of them is gone.
            self.oldest += 1;
            let first = if self.oldest == turn { self.next } else { self.first_of(self.oldest)? };
            self.first = self.first.max(first);
        }
        self.flash.erase(self.page(turn))?;
        self.begin_page(turn)
    }

    /// Writes the header of an erased page.
    fn begin_page(&mut self, turn: u32) -> Result<(), F::Error> {
        let header = PageHeader { turn, first: self.next, producer: self.producer };
        self.flash.write(self.page(turn), 0, &header.emit(self.crc))?;
        self.newest = turn;
        self.end = PAGE_HEADER_LEN;
        Ok(())
    }

    /// The sequence that a page in use begins with; the next one if its header cannot be read any more.
    fn first_of(&mut self, turn: u32) -> Result<Sequence, F::Error> {
        Ok(self.header(turn)?.map_or(self.next, |header| header.first))
    }
}

// --- reading -------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> FlashLog<F, B> {
    /// Where the event with this number lies, or will lie if it is the next.
    pub(super) fn seek(&mut self, sequence: Sequence) -> Result<Cursor, F::Error> {
        assert!((self.first..=self.next).contains(&sequence), "only what is kept is looked for");
        let mut cursor = Cursor { turn: self.oldest, at: PAGE_HEADER_LEN, sequence: self.first_of(self.oldest)? };
        for turn in self.oldest + 1..=self.newest {
            let first = self.first_of(turn)?;
            if first > sequence {
                break;
            }
            cursor = Cursor { turn, at: PAGE_HEADER_LEN, sequence: first };
        }
        while cursor.sequence < sequence {
            let Some(header) = self.record_at(&cursor)? else { break };
            cursor.at += header.record_len();
            cursor.sequence = cursor.sequence.next();
        }
        Ok(cursor)
    }

    /// Whether what the cursor points to is still kept.
    pub(super) const fn holds(&self, cursor: &Cursor) -> bool {
        cursor.sequence.0 >= self.first.0 && cursor.turn >= self.oldest
    }

    /// The event at the cursor, and the cursor of the one after it. `None` if there is none yet.
    pub(super) fn read(&mut self, mut cursor: Cursor) -> Result<Option<(Stored<'_>, Cursor)>, F::Error> {
        if cursor.sequence >= self.next {
            return Ok(None);
        }
        let header = loop {
            let found = self.record_at(&cursor)?;
            match found.filter(|header| self.is_event(cursor.sequence, header)) {
                Some(header) => break header,
                None if cursor.turn == self.newest => return Ok(None),
                None => cursor = Cursor { turn: cursor.turn + 1, at: PAGE_HEADER_LEN, ..cursor },
            }
        };
        let after = Cursor { at: cursor.at + header.record_len(), sequence: cursor.sequence.next(), ..cursor };
        Ok(Stored::parse(&self.buffer[..header.body_len]).map(|event| (event, after)))
    }

    /// Gives up the events of a page from the cursor on, of which the first cannot be read any more.
    pub(super) fn skip_damaged(&mut self, cursor: &Cursor) -> Result<(), F::Error> {
        let end = if cursor.turn < self.newest { self.first_of(cursor.turn + 1)? } else { self.next };
        self.release(end.max(cursor.sequence.next()));
        Ok(())
    }
}

/// Why no log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError<E> {
    /// No page has a header of a log: the flash is new, or was wiped.
    NotFormatted,
    /// The flash failed.
    Flash(E),
}

impl<E> From<E> for OpenError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

impl<E: fmt::Display> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFormatted => f.write_str("the flash holds no log"),
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for OpenError<E> {}

/// Why an event was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError<E> {
    /// No cluster would take it.
    Event(PushError),
    /// Its record is longer than a page or the lent buffer takes.
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The most that a record may have.
        limit: usize,
    },
    /// The flash failed.
    Flash(E),
}

impl<E> From<E> for AppendError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

impl<E: fmt::Display> fmt::Display for AppendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(error) => error.fmt(f),
            Self::TooLong { len, limit } => write!(f, "a record of {len} bytes; the flash takes {limit}"),
            Self::Flash(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for AppendError<E> {}
