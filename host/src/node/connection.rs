//! The connections of one kind, clients' or peers', on the thread that serves their sockets.
//!
//! A connection is one task: it reads frames for the engine and writes what did not go out at once. The engine's
//! commands are taken by one more task, [`Hub::obey`], which writes to the socket itself where the socket takes it; so
//! an answer is not delayed by a switch of tasks.

use super::counters::{Counters, of_offence};
use super::event::{Command, ConnId, Event, Role};
use super::legal::{self, Offence};
use super::mailbox::{Bell, COMMANDS, EVENTS, Inbox, Sink};
use super::memory::StaticPool;
use super::message;
use super::receive::Receiver;
use super::send::{Flushed, SendQueue};
use crate::stream::{ReadHalf, Stream, WriteHalf};
use core::cell::{Cell, RefCell};
use core::pin::pin;
use core::time::Duration;
use eventstream_core::wire::Counter;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// An empty pool is looked at again after this long. Nobody tells a socket that a block became free: blocks come back from
/// every thread, and a sender that fills the pool is to be slowed down anyway.
const POOL_RETRY: Duration = Duration::from_millis(1);
/// The rest of a frame that was begun is waited for this long: an operation's patience. Who published the events in it
/// has given up by then, and a link that takes longer for 32 KiB carries less than 53 kbit/s. Until it has come the frame
/// holds a block, and the blocks are fewer than the connections may be.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that is being closed has this long to take what is still to be sent.
const CLOSING: Duration = Duration::from_millis(500);
/// Commands obeyed before what they touched is written out.
const COMMANDS_AT_ONCE: usize = 256;

/// All connections of one kind.
#[derive(Debug)]
pub(crate) struct Hub {
    pool: StaticPool,
    events: Sink<Event, EVENTS>,
    counters: Arc<Counters>,
    table: RefCell<Table>,
    is_leaving: Cell<bool>,
    /// Told when the node leaves.
    leaving: Notify,
}

/// Connections by slot.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Rc<Connection>>,
}

/// One connection, shared by its own task and the one that obeys the engine.
#[derive(Debug)]
struct Connection {
    id: ConnId,
    role: Role,
    socket: WriteHalf,
    queue: RefCell<SendQueue>,
    /// The socket took no more: the connection's own task waits until it does, and writes.
    is_blocked: Cell<bool>,
    is_closing: Cell<bool>,
    /// The system gave it up.
    is_lost: Cell<bool>,
    /// It is among those to be written out after the commands at hand.
    is_touched: Cell<bool>,
    /// Marks that were passed and are to be reported.
    marked: Cell<usize>,
    /// Wakes the sending half of the connection's task: blocked, closing, or something to report.
    attention: Notify,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// One of the sides closed it, or the network did.
    Closed,
    /// The system gave it up: for too long the other side took nothing, or was not there.
    Lost,
    /// The other side broke the protocol.
    Offence(Offence),
}

impl Hub {
    /// A hub without connections, which receives into blocks of `pool`.
    pub(crate) fn new(pool: StaticPool, events: Sink<Event, EVENTS>, counters: Arc<Counters>) -> Rc<Self> {
        let (table, is_leaving, leaving) = (RefCell::default(), Cell::new(false), Notify::new());
        Rc::new(Self { pool, events, counters, table, is_leaving, leaving })
    }

    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        let table = self.table.borrow();
        table.slots.len() - table.free.len()
    }

    /// Returns when the node is being stopped: nothing is accepted and dialled any more.
    pub(crate) async fn left(&self) {
        let told = self.leaving.notified();
        if !self.is_leaving.get() {
            told.await;
        }
    }

    /// Closes every connection when what was sent to it has left.
    pub(crate) fn close_all(&self) {
        for connection in self.table.borrow().slots.iter().filter_map(|slot| slot.connection.as_ref()) {
            connection.is_closing.set(true);
            connection.attention.notify_one();
        }
    }

    /// Tells the engine something that is about no connection.
    pub(crate) async fn tell(&self, event: Event) {
        self.events.send(event).await;
    }

    /// Serves a connection whose handshake was valid, until it ends. One that comes when the node is being stopped
    /// ends at once: nobody would answer it.
    pub(crate) async fn serve(&self, stream: Stream, role: Role) {
        if self.is_leaving.get() {
            return;
        }
        let (mut reading, socket) = stream.into_split();
        let connection = self.table.borrow_mut().insert(role, socket);
        let conn = connection.id;
        self.events.send(Event::Opened { conn, role }).await;
        let end = tokio::select! {
            biased;
            end = self.send(&connection) => end,
            end = self.receive(&connection, &mut reading) => end,
        };
        self.table.borrow_mut().close(conn);
        match end {
            End::Offence(offence) => {
                self.counters.add(of_offence(offence));
                self.part(&connection, &mut reading, offence).await;
            }
            // Whether it is the engine's loss is for the engine to say: it may be closing the connection already.
            End::Lost => self.events.send(Event::Lost { conn }).await,
            End::Closed => {}
        }
        self.events.send(Event::Closed { conn }).await;
        // Only now may another connection take the slot: the engine hears of the end before that one begins.
        self.table.borrow_mut().free.push(conn.slot);
    }

    /// Hands every frame to the engine. Between frames a connection may be silent for as long as it likes.
    async fn receive(&self, connection: &Connection, socket: &mut ReadHalf) -> End {
        let mut receiver = Receiver::with_room(self.pool, socket.least_room());
        let mut patience = pin!(sleep(FRAME_PATIENCE));
        // Whether `patience` is that with the frame at the front.
        let mut is_timed = false;
        loop {
            tokio::select! {
                biased;
                readable = socket.readable() => if readable.is_err() { return End::Closed },
                () = patience.as_mut(), if is_timed => return End::Offence(Offence::Unfinished),
            }
            loop {
                let Some(room) = receiver.room() else {
                    sleep(POOL_RETRY).await;
                    // What was not read here is not its sender's delay.
                    is_timed = false;
                    continue;
                };
                match socket.read_now(room).await {
                    Err(error) if error.kind() == ErrorKind::InvalidData => {
                        self.counters.add(Counter::TlsFailed);
                        let _the_other_side_may_be_gone = connection.socket.try_flush();
                        return End::Closed;
                    }
                    Err(error) if is_lost(&error) => return End::Lost,
                    Ok(Some(0)) | Err(_) => {
                        if receiver.is_within_frame() {
                            self.counters.add(Counter::FrameCutOff);
                        }
                        return End::Closed;
                    }
                    Ok(Some(count)) => receiver.received(count),
                    Ok(None) => break,
                }
                match self.take_frames(connection, &mut receiver).await {
                    Ok(0) => {}
                    Ok(_) => is_timed = false,
                    Err(offence) => return End::Offence(offence),
                }
            }
            receiver.rest();
            if receiver.is_within_frame() && !is_timed {
                patience.set(sleep(FRAME_PATIENCE));
            }
            is_timed = receiver.is_within_frame();
        }
    }

    /// Hands over every frame that is whole; gives how many.
    async fn take_frames(&self, connection: &Connection, receiver: &mut Receiver) -> Result<usize, Offence> {
        let mut count = 0;
        while let Some((header, bytes)) = receiver.next_frame().map_err(Offence::Frame)? {
            let runs = legal::check(connection.role, &header, &bytes)?;
            self.events.send(Event::Frame { conn: connection.id, header, runs, bytes }).await;
            count += 1;
        }
        Ok(count)
    }

    /// Writes what the socket did not take at once, reports marks, and ends when the engine wants it closed.
    async fn send(&self, connection: &Connection) -> End {
        loop {
            if connection.is_blocked.get() {
                tokio::select! {
                    ready = connection.socket.writable() => {
                        if let Err(error) = ready.and_then(|()| connection.flush()) {
                            return if is_lost(&error) { End::Lost } else { End::Closed };
                        }
                    }
                    () = connection.attention.notified() => {}
                }
            } else {
                connection.attention.notified().await;
            }
            self.report(connection).await;
            if connection.is_lost.get() {
                return End::Lost;
            }
            if connection.is_closing.get() {
                let _what_is_left_is_dropped = timeout(CLOSING, connection.drain()).await;
                let _the_other_side_may_be_gone = connection.socket.end();
                return End::Closed;
            }
        }
    }

    /// Says what was wrong. Then reads until the other side closes too, for a moment: a socket that is closed with
    /// unread bytes takes back what was just sent.
    async fn part(&self, connection: &Connection, reading: &mut ReadHalf, offence: Offence) {
        if !connection.queue.borrow().is_empty() {
            return;
        }
        let farewell = async {
            connection.socket.writable().await?;
            let farewell = message::refused_connection(offence.refusal(), &offence.to_string());
            connection.socket.try_write_vectored(&[IoSlice::new(&farewell)])?;
            connection.socket.end()?;
            reading.read_to_end().await
        };
        let _the_connection_is_over_in_any_case = timeout(CLOSING, farewell).await;
    }

    async fn report(&self, connection: &Connection) {
        let bytes = connection.marked.take();
        if bytes > 0 {
            self.events.send(Event::Sent { conn: connection.id, bytes }).await;
        }
    }

    /// Obeys the engine until it is gone. Never waits for anything but commands, so the engine may wait for room.
    pub(crate) async fn obey(&self, mut commands: Inbox<Command, COMMANDS>, bell: &Arc<Bell>) {
        let mut touched: Vec<Rc<Connection>> = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            for _ in 0..COMMANDS_AT_ONCE {
                let Some(command) = commands.pop() else { break };
                if let Some(connection) = self.queue(command)
                    && !connection.is_touched.replace(true)
                {
                    touched.push(connection);
                }
            }
            commands.made_room();
            touched.drain(..).for_each(|connection| connection.write_out());
            if commands.is_over() {
                return;
            }
            if commands.is_empty() {
                bell.sleep_while(|| commands.is_empty() && !commands.is_over()).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Puts a command into its connection's queue; gives the connection, if it lives.
    fn queue(&self, command: Command) -> Option<Rc<Connection>> {
        let find = |conn| self.table.borrow().find(conn);
        match command {
            Command::Send { conn, frame } => {
                // What comes after its end is nothing that the other side could read.
                find(conn).filter(|found| !found.is_closing.get()).inspect(|found| found.queue.borrow_mut().push(frame))
            }
            Command::Mark { conn, bytes } => find(conn).inspect(|found| found.queue.borrow_mut().mark(bytes)),
            Command::Close { conn } => find(conn).inspect(|found| found.is_closing.set(true)),
            Command::Cut { conn } => find(conn).inspect(|found| found.cut()),
            Command::Leave => {
                self.is_leaving.set(true);
                self.leaving.notify_waiters();
                None
            }
        }
    }
}

impl Connection {
    /// Closes it without a word more.
    fn cut(&self) {
        self.queue.borrow_mut().clear();
        self.is_blocked.set(false);
        self.is_closing.set(true);
    }

    /// Writes what waits, as far as the socket takes it, and leaves the rest to the connection's own task.
    fn write_out(&self) {
        self.is_touched.set(false);
        if !self.is_blocked.get()
            && let Err(error) = self.flush()
        {
            // The reading half may see no more than an end.
            self.is_lost.set(self.is_lost.get() || is_lost(&error));
            self.is_closing.set(true);
        }
        if self.is_blocked.get() || self.is_closing.get() || self.marked.get() > 0 {
            self.attention.notify_one();
        }
    }

    fn flush(&self) -> io::Result<()> {
        let Flushed { marked, is_blocked } =
            self.queue.borrow_mut().flush(|slices| self.socket.try_write_vectored(slices))?;
        self.marked.set(self.marked.get() + marked);
        self.is_blocked.set(is_blocked || !self.socket.try_flush()?);
        Ok(())
    }

    /// Writes all that waits.
    async fn drain(&self) -> io::Result<()> {
        while self.is_blocked.get() {
            self.socket.writable().await?;
            self.flush()?;
        }
        Ok(())
    }
}

/// Whether the system has given the connection up, by the limits that [`socket`](super::socket) sets.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
}

impl Table {
    fn insert(&mut self, role: Role, socket: WriteHalf) -> Rc<Connection> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u16::try_from(self.slots.len() - 1).expect("connections are limited to far fewer")
        });
        let entry = &mut self.slots[usize::from(slot)];
        entry.generation = entry.generation.wrapping_add(1);
        let connection = Rc::new(Connection {
            id: ConnId { slot, generation: entry.generation },
            role,
            socket,
            queue: RefCell::default(),
            is_blocked: Cell::new(false),
            is_closing: Cell::new(false),
            is_lost: Cell::new(false),
            is_touched: Cell::new(false),
            marked: Cell::new(0),
            attention: Notify::new(),
        });
        entry.connection = Some(Rc::clone(&connection));
        connection
    }

    fn find(&self, conn: ConnId) -> Option<Rc<Connection>> {
        let slot = self.slots.get(usize::from(conn.slot)).filter(|slot| slot.generation == conn.generation)?;
        slot.connection.clone()
    }

    /// The connection takes no more commands.
    fn close(&mut self, conn: ConnId) {
        self.slots[usize::from(conn.slot)].connection = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::mailbox::many_to_one;
    use crate::node::memory::pool;
    use crate::node::socket::prepare_client;
    use crate::tls::tests::sides;
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    /// Whatever takes longer is broken. No test waits for it to pass.
    const BROKEN: Duration = Duration::from_secs(20);

    #[test]
    fn a_connection_that_the_system_gives_up_is_lost() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let _reads_nothing = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
            let accepted = listener.accept().await.expect("a connection").0;
            prepare_client(&accepted).expect("options");
            SockRef::from(&accepted).set_tcp_user_timeout(Some(Duration::from_millis(200))).expect("an option");
            let (events, mut engine) = many_to_one(&Arc::default());
            let hub = Hub::new(pool(1), events, Arc::default());
            let fill = async {
                while hub.len() == 0 {
                    yield_now().await;
                }
                let connection = hub.table.borrow().slots[0].connection.clone().expect("it is served");
                let frame = pool(1).take().expect("a block").freeze();
                while !connection.is_blocked.get() {
                    connection.queue.borrow_mut().push(frame.clone());
                    connection.write_out();
                }
            };
            let served = async { tokio::join!(hub.serve(Stream::plain(accepted), Role::Client), fill) };
            timeout(BROKEN, served).await.expect("it ends");
            let heard: Vec<Event> = core::iter::from_fn(|| engine.pop()).collect();
            let [Event::Opened { conn, .. }, Event::Lost { conn: lost }, Event::Closed { conn: closed }] = heard[..]
            else {
                panic!("{heard:?}")
            };
            assert_eq!((lost, closed), (conn, conn));
        });
    }

    #[test]
    fn what_tls_has_taken_and_the_socket_has_not_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let dialled = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
            let mut ours = Stream::plain(listener.accept().await.expect("a connection").0);
            let mut theirs = Stream::plain(dialled);
            let (node, client) = sides();
            tokio::try_join!(ours.secure(node.accept()), theirs.secure(client.dial())).expect("they trust each other");
            let (_reading, socket) = ours.into_split();
            let connection = Table::default().insert(Role::Client, socket);
            let frame = pool(1).take().expect("a block").split_to(1_000).freeze();
            // Nobody reads: in the end the socket is full.
            while connection.socket.try_flush().expect("an open connection") {
                connection.queue.borrow_mut().push(frame.clone());
                connection.flush().expect("an open connection");
            }
            assert!(connection.queue.borrow().is_empty(), "the session has taken it all");
            assert!(connection.is_blocked.get(), "and it has not left");
        });
    }
}
