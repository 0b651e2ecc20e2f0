//! The connections of clients, as the engine sees them: what is on its way in each direction.

use super::event::{Command, ConnId};
use super::mailbox::{COMMANDS, Outbox};
use super::memory::{CLIENT_INFLIGHT, CLIENT_QUEUE, SharedFrame};
use super::message::Scribe;
use eventstream_core::wire::{About, Control, Refusal, Refused};

/// After this many bytes sent to a connection its progress is asked for.
const MARK_EVERY: usize = CLIENT_QUEUE / 4;
/// A client with more unread is closed: it does not read what it asked for.
const MAX_UNREAD: usize = 2 * CLIENT_QUEUE;

/// All clients.
#[derive(Debug)]
pub(crate) struct Clients {
    table: Vec<Option<Client>>,
    /// The ring to the sockets.
    pub(crate) outbox: Outbox<Command, COMMANDS>,
    scribe: Scribe,
}

/// One client.
#[derive(Debug)]
struct Client {
    conn: ConnId,
    /// Bytes sent and not known to have left.
    unread: usize,
    /// Bytes of it that no mark covers yet.
    unmarked: usize,
    /// Bytes of its batches that are not answered.
    unanswered: usize,
    /// Its subscriptions.
    subscriptions: Vec<u32>,
    /// It is being closed.
    is_leaving: bool,
}

impl Clients {
    /// No clients yet.
    pub(crate) fn new(outbox: Outbox<Command, COMMANDS>, scribe: Scribe) -> Self {
        Self { table: Vec::new(), outbox, scribe }
    }

    /// Adds a client.
    pub(crate) fn open(&mut self, conn: ConnId) {
        let slot = usize::from(conn.slot);
        if self.table.len() <= slot {
            self.table.resize_with(slot + 1, || None);
        }
        let client =
            Client { conn, unread: 0, unmarked: 0, unanswered: 0, subscriptions: Vec::new(), is_leaving: false };
        let before = self.table[slot].replace(client);
        assert!(before.is_none(), "a slot is taken again only after its connection was closed");
    }

    /// Removes a client; gives its subscriptions.
    pub(crate) fn close(&mut self, conn: ConnId) -> Vec<u32> {
        let slot = self.table.get_mut(usize::from(conn.slot));
        let client = slot.and_then(|slot| slot.take_if(|client| client.conn == conn));
        client.map_or_else(Vec::new, |client| client.subscriptions)
    }

    /// All connections.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.table.iter().flatten().map(|client| client.conn)
    }

    /// The subscriptions of a client, if it is still there.
    pub(crate) fn subscriptions(&mut self, conn: ConnId) -> Option<&mut Vec<u32>> {
        self.find(conn).map(|client| &mut client.subscriptions)
    }

    /// Whether the client reads what it is sent: there is room for more deliveries.
    pub(crate) fn has_room(&mut self, conn: ConnId) -> bool {
        self.find(conn).is_some_and(|client| client.unread < CLIENT_QUEUE)
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

    /// `bytes` have left. Returns whether there is room again, where there was none.
    pub(crate) fn sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(client) = self.find(conn) else { return false };
        let had_room = client.unread < CLIENT_QUEUE;
        client.unread -= bytes;
        !had_room && client.unread < CLIENT_QUEUE
    }

    /// Sends a message. A client to whom nothing can be said any more is closed; false for one that is gone, or
    /// closed now.
    pub(crate) fn say(&mut self, conn: ConnId, message: &Control<'_>) -> bool {
        if self.find(conn).is_none() {
            return false;
        }
        match self.scribe.write(message) {
            Some(frame) => {
                self.send(conn, frame);
                true
            }
            None => {
                self.disconnect(conn);
                false
            }
        }
    }

    /// Refuses something.
    pub(crate) fn refuse(&mut self, conn: ConnId, about: About, reason: Refusal) {
        self.say(conn, &Control::Refused(Refused { about, reason, detail: "" }));
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, conn: ConnId, frame: SharedFrame) {
        let Some(client) = self.find(conn) else { return };
        client.unread += frame.len();
        client.unmarked += frame.len();
        let mark = if client.unmarked >= MARK_EVERY { core::mem::take(&mut client.unmarked) } else { 0 };
        let is_stuck = client.unread > MAX_UNREAD;
        self.outbox.send(Command::Send { conn, frame });
        if mark > 0 {
            self.outbox.send(Command::Mark { conn, bytes: mark });
        }
        if is_stuck {
            self.disconnect(conn);
        }
    }

    /// Memory for messages is short: closes the client that leaves most of them unread, before all others have to go
    /// because nothing can be said to them. One at a time.
    pub(crate) fn part_with_slowest(&mut self) {
        let slow = || self.table.iter().flatten().filter(|client| client.unread >= MARK_EVERY);
        if slow().any(|client| client.is_leaving) {
            return;
        }
        if let Some(conn) = slow().max_by_key(|client| client.unread).map(|client| client.conn) {
            self.disconnect(conn);
        }
    }

    /// Closes a connection. [`Self::close`] follows when it is closed.
    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        if let Some(client) = self.find(conn) {
            client.is_leaving = true;
        }
        self.outbox.send(Command::Close { conn });
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.table.get_mut(usize::from(conn.slot))?.as_mut().filter(|client| client.conn == conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::mailbox::{Inbox, one_to_one};
    use crate::node::memory::pool;

    fn closed(clients: &mut Clients, commands: &mut Inbox<Command, COMMANDS>) -> Vec<u16> {
        clients.outbox.flush();
        let commands = core::iter::from_fn(|| commands.pop());
        commands
            .filter_map(|command| if let Command::Close { conn } = command { Some(conn.slot) } else { None })
            .collect()
    }

    #[test]
    fn the_slowest_client_goes_and_then_the_next() {
        let (outbox, mut commands) = one_to_one(&Default::default(), &Default::default());
        let mut clients = Clients::new(outbox, Scribe::new(pool(1)));
        let [quick, slow, slower] = [0, 1, 2].map(|slot| ConnId { slot, generation: 1 });
        let frame = pool(1).take().expect("a fresh pool").freeze();
        for (conn, frames) in [(quick, 3), (slow, 5), (slower, 8)] {
            clients.open(conn);
            (0..frames).for_each(|_| clients.send(conn, frame.clone()));
        }
        clients.part_with_slowest();
        clients.part_with_slowest();
        assert_eq!(closed(&mut clients, &mut commands), [slower.slot], "one at a time");
        clients.close(slower);
        clients.part_with_slowest();
        clients.close(slow);
        clients.part_with_slowest();
        assert_eq!(closed(&mut clients, &mut commands), [slow.slot], "the last one reads");
    }
}
