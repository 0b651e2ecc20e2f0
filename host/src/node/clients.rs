//! The connections of clients, as the engine sees them: what is on its way in each direction.

use super::counters::{Counters, of_refusal};
use super::event::{Command, ConnId};
use super::mailbox::{COMMANDS, Outbox};
use super::memory::{BLOCK_LEN, CLIENT_INFLIGHT, CLIENT_QUEUE, SharedFrame};
use super::message::Scribe;
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{About, Control, Counter, Refusal, Refused};
use std::collections::VecDeque;
use std::sync::Arc;

/// After this many bytes sent to a connection its progress is asked for.
const MARK_EVERY: usize = CLIENT_QUEUE / 16;
/// And after this many bytes of messages. So a client that reads is known to have read all but a few of them.
const MARK_SAID_EVERY: usize = 4 << 10;
/// While memory for messages is short, a client may leave this part of what is left of it unread. The less is left, the less
/// that is: whoever reads finds room, however many do not.
const SHARE_OF_REST: usize = 8;
/// A client with more unread is closed: it does not read what it asked for.
const MAX_UNREAD: usize = 2 * CLIENT_QUEUE;
/// While memory is short, a client may leave what it was sent unread for this long. One that reads takes milliseconds.
const SHORT_PATIENCE: Duration = Duration::from_millis(200);

/// All clients.
#[derive(Debug)]
pub(crate) struct Clients {
    table: Vec<Option<Client>>,
    /// The ring to the sockets.
    pub(crate) outbox: Outbox<Command, COMMANDS>,
    scribe: Scribe,
    counters: Arc<Counters>,
    now: Instant,
}

/// One client.
#[derive(Debug)]
struct Client {
    conn: ConnId,
    /// Bytes sent and not known to have left.
    unread: usize,
    /// Bytes of it that no mark covers yet.
    unmarked: usize,
    /// Bytes of messages among those unread, ...
    said: usize,
    /// ... and among those that no mark covers yet.
    unmarked_said: usize,
    /// Marks that are not passed, oldest first.
    marks: VecDeque<Passing>,
    /// The reader reads for one of its subscriptions.
    is_read_for: bool,
    /// Bytes of its batches that are not answered.
    unanswered: usize,
    /// Its subscriptions.
    subscriptions: Vec<u32>,
    /// It is being closed: it has had its last word, and nothing that it still says is heard or counted.
    is_closing: bool,
    /// It is being closed at once, since it does not read, and what it held is coming back.
    is_cut: bool,
}

/// A mark on its way.
#[derive(Debug)]
struct Passing {
    bytes: usize,
    /// Bytes of messages among them.
    said: usize,
    since: Instant,
}

impl Clients {
    /// No clients yet.
    pub(crate) fn new(outbox: Outbox<Command, COMMANDS>, scribe: Scribe, counters: Arc<Counters>) -> Self {
        Self { table: Vec::new(), outbox, scribe, counters, now: Instant::ZERO }
    }

    /// The time of this step.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Adds a client.
    pub(crate) fn open(&mut self, conn: ConnId) {
        let slot = usize::from(conn.slot);
        if self.table.len() <= slot {
            self.table.resize_with(slot + 1, || None);
        }
        let before = self.table[slot].replace(Client::new(conn));
        assert!(before.is_none(), "a slot is taken again only after its connection was closed");
    }

    /// Removes a client; gives its subscriptions.
    pub(crate) fn close(&mut self, conn: ConnId) -> Vec<u32> {
        let slot = self.table.get_mut(usize::from(conn.slot));
        let client = slot.and_then(|slot| slot.take_if(|client| client.conn == conn));
        client.map_or_else(Vec::new, |client| client.subscriptions)
    }

    /// The system gave a connection up. One that is being closed was counted for why it is.
    pub(crate) fn lost(&mut self, conn: ConnId) {
        if let Some(client) = self.find_open(conn) {
            client.is_closing = true;
            self.counters.add(Counter::ClientLost);
        }
    }

    /// All connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.table.iter().flatten().map(|client| client.conn)
    }

    /// The subscriptions of a client, if it is still there.
    pub(crate) fn subscriptions(&mut self, conn: ConnId) -> Option<&mut Vec<u32>> {
        self.find(conn).map(|client| &mut client.subscriptions)
    }

    /// Whether the client is there, and not being closed.
    pub(crate) fn is_open(&mut self, conn: ConnId) -> bool {
        self.find_open(conn).is_some()
    }

    /// Whether the client reads what it is sent: there is room for more deliveries.
    pub(crate) fn has_room(&mut self, conn: ConnId) -> bool {
        self.find_open(conn).is_some_and(|client| client.unread < CLIENT_QUEUE)
    }

    /// Takes a batch of `bytes` into the client's window; false if it does not fit.
    pub(crate) fn admit(&mut self, conn: ConnId, bytes: u32) -> bool {
        let Some(client) = self.find(conn) else { return false };
        let fits = client.unanswered + bytes as usize <= CLIENT_INFLIGHT as usize;
        if fits {
            client.unanswered += bytes as usize;
        }
        fits
    }

    /// A batch of `bytes` is answered.
    pub(crate) fn answered(&mut self, conn: ConnId, bytes: u32) {
        if let Some(client) = self.find(conn) {
            client.unanswered -= bytes as usize;
        }
    }

    /// Whether the reader may read a piece of some `bytes` for the client: one at a time, and only if less than that is
    /// unread. If not, [`Self::sent`] or [`Self::read`] follows.
    pub(crate) fn may_be_read_for(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(client) = self.find_open(conn) else { return false };
        if client.unread >= bytes {
            self.mark(conn);
            return false;
        }
        !client.is_read_for
    }

    /// The reader reads for the client from now on.
    pub(crate) fn reading(&mut self, conn: ConnId) {
        if let Some(client) = self.find(conn) {
            client.is_read_for = true;
        }
    }

    /// What was read for the client is there.
    pub(crate) fn read(&mut self, conn: ConnId) {
        if let Some(client) = self.find(conn) {
            client.is_read_for = false;
        }
    }

    /// `bytes` have left.
    pub(crate) fn sent(&mut self, conn: ConnId, bytes: usize) {
        let Some(client) = self.find(conn) else { return };
        client.unread -= bytes;
        let mut left = bytes;
        while let Some(passed) = client.marks.pop_front_if(|mark| mark.bytes <= left) {
            left -= passed.bytes;
            client.said -= passed.said;
        }
    }

    /// Sends a message. A client to whom nothing can be said any more is closed; false for one that is gone, or
    /// closed now.
    pub(crate) fn say(&mut self, conn: ConnId, message: &Control<'_>) -> bool {
        let share = self.share();
        let Some(client) = self.find_open(conn) else { return false };
        if client.said > share {
            self.cut(conn, Counter::ClientUnreadMuch);
            return false;
        }
        match self.scribe.write(message) {
            Some(frame) => {
                let said = frame.len();
                self.put(conn, frame, said);
                true
            }
            None => {
                self.counters.add(Counter::ClientUnanswerable);
                self.disconnect(conn);
                false
            }
        }
    }

    /// Bytes of messages that a client may leave unread now.
    fn share(&self) -> usize {
        let pool = self.scribe.pool();
        let is_short = pool.free() * 4 < pool.capacity();
        if is_short { pool.free() * BLOCK_LEN / SHARE_OF_REST } else { MAX_UNREAD }
    }

    /// Refuses something. One that is being closed hears it no more, so it is not counted either.
    pub(crate) fn refuse(&mut self, conn: ConnId, about: About, reason: Refusal) {
        if self.is_open(conn) {
            self.counters.add(of_refusal(reason));
        }
        self.say(conn, &Control::Refused(Refused { about, reason, detail: "" }));
    }

    /// Sends a frame that is lent.
    pub(crate) fn send(&mut self, conn: ConnId, frame: SharedFrame) {
        self.put(conn, frame, 0);
    }

    /// Sends a frame; `said` of its bytes lie where messages are written.
    fn put(&mut self, conn: ConnId, frame: SharedFrame, said: usize) {
        let Some(client) = self.find_open(conn) else { return };
        client.unread += frame.len();
        client.unmarked += frame.len();
        client.said += said;
        client.unmarked_said += said;
        let is_to_be_marked = client.unmarked >= MARK_EVERY || client.unmarked_said >= MARK_SAID_EVERY;
        let is_stuck = client.unread > MAX_UNREAD;
        self.outbox.send(Command::Send { conn, frame });
        if is_to_be_marked {
            self.mark(conn);
        }
        if is_stuck {
            self.cut(conn, Counter::ClientUnreadMuch);
        }
    }

    /// Memory for what is sent to clients is short, and even a few bytes hold a whole block of it. Closes the client that
    /// has left what it was sent unread for longest, before all others have to go because nothing can be said to
    /// them. One at a time.
    pub(crate) fn part_with_slowest(&mut self) {
        let mut slowest: Option<(Instant, ConnId)> = None;
        for position in 0..self.table.len() {
            let Some(client) = &self.table[position] else { continue };
            let (conn, since) = (client.conn, client.marks.front().map(|mark| mark.since));
            if client.is_cut {
                return;
            }
            match since {
                // It goes by itself, with what it holds.
                _ if client.is_closing => {}
                Some(since) if slowest.is_none_or(|(oldest, _)| since < oldest) => slowest = Some((since, conn)),
                Some(_) => {}
                None => self.mark(conn),
            }
        }
        if let Some((_, conn)) = slowest.filter(|(since, _)| *since + SHORT_PATIENCE <= self.now) {
            self.cut(conn, Counter::ClientUnreadLong);
        }
    }

    /// Asks to be told when all that was sent has left.
    fn mark(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(client) = self.find(conn).filter(|client| client.unmarked > 0) else { return };
        let bytes = core::mem::take(&mut client.unmarked);
        let said = core::mem::take(&mut client.unmarked_said);
        client.marks.push_back(Passing { bytes, said, since: now });
        self.outbox.send(Command::Mark { conn, bytes });
    }

    /// Closes a connection when all that was said has left. [`Self::close`] follows when it is closed.
    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        let Some(client) = self.find_open(conn) else { return };
        client.is_closing = true;
        self.outbox.send(Command::Close { conn });
    }

    /// Closes the connection of one that does not read: it would not hear a word more, and memory waits for what it holds.
    fn cut(&mut self, conn: ConnId, counter: Counter) {
        let Some(client) = self.find_open(conn) else { return };
        (client.is_closing, client.is_cut) = (true, true);
        self.counters.add(counter);
        self.outbox.send(Command::Cut { conn });
    }

    fn find_open(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.find(conn).filter(|client| !client.is_closing)
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.table.get_mut(usize::from(conn.slot))?.as_mut().filter(|client| client.conn == conn)
    }
}

impl Client {
    fn new(conn: ConnId) -> Self {
        Self {
            conn,
            unread: 0,
            unmarked: 0,
            said: 0,
            unmarked_said: 0,
            marks: VecDeque::new(),
            is_read_for: false,
            unanswered: 0,
            subscriptions: Vec::new(),
            is_closing: false,
            is_cut: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::mailbox::{Inbox, one_to_one};
    use crate::node::memory::pool;
    use eventstream_core::wire::Pong;

    fn cut(clients: &mut Clients, commands: &mut Inbox<Command, COMMANDS>) -> Vec<u16> {
        clients.outbox.flush();
        let commands = core::iter::from_fn(|| commands.pop());
        commands
            .filter_map(|command| if let Command::Cut { conn } = command { Some(conn.slot) } else { None })
            .collect()
    }

    /// What was marked so far has left.
    fn leaves(clients: &mut Clients, conn: ConnId) {
        let marked = clients.find(conn).expect("it is open").marks.iter().map(|mark| mark.bytes).sum();
        clients.sent(conn, marked);
    }

    #[test]
    fn who_leaves_a_few_bytes_unread_for_longest_goes_and_then_the_next() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let mut clients = Clients::new(outbox, Scribe::new(pool(1)), Arc::default());
        let [quick, slow, slower] = [0, 1, 2].map(|slot| ConnId { slot, generation: 1 });
        let mut block = pool(1).take().expect("a fresh pool");
        let frame = block.split_to(100).freeze();
        for conn in [slower, slow, quick] {
            clients.set_now(clients.now + Duration::from_millis(1));
            clients.open(conn);
            clients.send(conn, frame.clone());
            clients.part_with_slowest();
        }
        leaves(&mut clients, quick);
        assert_eq!(cut(&mut clients, &mut commands), [0; 0], "all of them may be reading");
        clients.set_now(clients.now + SHORT_PATIENCE);
        clients.part_with_slowest();
        clients.part_with_slowest();
        assert_eq!(cut(&mut clients, &mut commands), [slower.slot], "one at a time");
        clients.close(slower);
        clients.part_with_slowest();
        assert_eq!(cut(&mut clients, &mut commands), [slow.slot]);
        clients.close(slow);
        clients.part_with_slowest();
        assert_eq!(cut(&mut clients, &mut commands), [0; 0], "the last one reads");
        assert_eq!(clients.counters.count(Counter::ClientUnreadLong), 2, "one for each");
    }

    #[test]
    fn a_client_that_cannot_be_answered_is_closed_and_counted_once() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let pool = pool(1);
        let mut clients = Clients::new(outbox, Scribe::new(pool), Arc::default());
        let conn = ConnId { slot: 0, generation: 1 };
        clients.open(conn);
        let taken = pool.take().expect("a fresh pool");
        let pong = Control::Pong(Pong { number: 1 });
        (0..3).for_each(|_| assert!(!clients.say(conn, &pong)));
        clients.refuse(conn, About::Connection, Refusal::Busy);
        drop(taken);
        assert!(!clients.say(conn, &pong), "it is being closed");
        clients.outbox.flush();
        let commands: Vec<Command> = core::iter::from_fn(|| commands.pop()).collect();
        assert!(matches!(commands[..], [Command::Close { .. }]), "{commands:?}");
        let counted = [Counter::ClientUnanswerable, Counter::Busy].map(|counter| clients.counters.count(counter));
        assert_eq!(counted, [1, 0]);
    }

    #[test]
    fn what_is_refused_to_one_that_does_not_read_any_more_is_not_counted() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let mut clients = Clients::new(outbox, Scribe::new(pool(1)), Arc::default());
        let conn = ConnId { slot: 0, generation: 1 };
        clients.open(conn);
        let frame = pool(1).take().expect("a fresh pool").freeze();
        (0..=MAX_UNREAD / frame.len()).for_each(|_| clients.send(conn, frame.clone()));
        clients.send(conn, frame);
        clients.refuse(conn, About::Connection, Refusal::Busy);
        clients.disconnect(conn);
        assert_eq!(cut(&mut clients, &mut commands), [conn.slot], "once");
        let counted = [Counter::ClientUnreadMuch, Counter::Busy].map(|counter| clients.counters.count(counter));
        assert_eq!(counted, [1, 0]);
    }

    #[test]
    fn a_client_that_the_system_gives_up_is_counted_if_the_node_has_not_done_so() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let mut clients = Clients::new(outbox, Scribe::new(pool(1)), Arc::default());
        let [lost, parted_with] = [0, 1].map(|slot| ConnId { slot, generation: 1 });
        clients.open(lost);
        clients.open(parted_with);
        clients.lost(lost);
        clients.cut(lost, Counter::ClientUnreadLong);
        clients.cut(parted_with, Counter::ClientUnreadMuch);
        clients.lost(parted_with);
        assert_eq!(cut(&mut clients, &mut commands), [parted_with.slot]);
        let counters = [Counter::ClientLost, Counter::ClientUnreadMuch, Counter::ClientUnreadLong];
        assert_eq!(counters.map(|counter| clients.counters.count(counter)), [1, 1, 0]);
    }

    #[test]
    fn a_client_is_read_for_when_it_has_read() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let mut clients = Clients::new(outbox, Scribe::new(pool(1)), Arc::default());
        let conn = ConnId { slot: 0, generation: 1 };
        clients.open(conn);
        assert!(clients.may_be_read_for(conn, 100));
        clients.reading(conn);
        assert!(!clients.may_be_read_for(conn, 100), "one piece at a time");
        clients.read(conn);
        let mut block = pool(1).take().expect("a fresh pool");
        clients.send(conn, block.split_to(100).freeze());
        assert!(clients.may_be_read_for(conn, 101));
        assert!(!clients.may_be_read_for(conn, 100), "as much is unread");
        clients.outbox.flush();
        assert!(core::iter::from_fn(|| commands.pop()).any(|it| matches!(it, Command::Mark { bytes: 100, .. })));
        leaves(&mut clients, conn);
        assert!(clients.may_be_read_for(conn, 100));
    }
}
