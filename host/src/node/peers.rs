//! The other nodes, as the engine sees them: what comes from each, and what goes to it.
//!
//! An append is a message followed by its entries, or by one of them that a witness has to know; it is taken and given
//! whole. Entries that memory no longer holds are
//! fetched by the reader first, and later appends to the same peer wait behind, so that they arrive in order; everything
//! else overtakes.
//!
//! A peer that reads slowly holds what is on its way to it, and of no pool so much that others go short: its messages
//! have blocks of their own, of what was fetched for it one append is on its way at a time, and while memory for
//! entries is short it gets more of them only when what it has been sent has left.

use super::counters::Counters;
use super::event::{Command, ConnId};
use super::legal::payload;
use super::mailbox::{COMMANDS, Outbox};
use super::memory::{BLOCK_LEN, OwnFrame, PEER_QUEUE, SharedFrame, Shortage, link_pool};
use super::message::Scribe;
use super::reader::{Job, Purpose};
use super::tail::Tail;
use crate::identity::{Identity, Member};
use eventstream_core::config::MAX_APPEND_ENTRIES;
use eventstream_core::id::{Index, NodeId};
use eventstream_core::raft::{Body, Configuration, EntryMeta, Message, Placed};
use eventstream_core::replica;
use eventstream_core::time::Instant;
use eventstream_core::wire::{Control, Counter, Header, Kind};
use std::collections::VecDeque;
use std::sync::Arc;

/// After this many bytes sent to a link its progress is asked for.
const MARK_EVERY: usize = PEER_QUEUE / 8;
/// While memory is short, a peer with more than this on its way gets no entries from there: they wait.
const UNSENT_WHEN_SHORT: usize = BLOCK_LEN;
/// Appends to one peer that wait, at most; the next ones are dropped, and found missing by heartbeats.
const MAX_WAITING: usize = 64;

/// All other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    table: Vec<Peer>,
    /// The ring to the sockets.
    pub(crate) outbox: Outbox<Command, COMMANDS>,
    scribe: Scribe,
    counters: Arc<Counters>,
    tickets: u64,
}

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Who it is and where it listens.
    pub(crate) member: Member,
    /// The link that this node has dialled.
    link: Option<ConnId>,
    /// The connection that the other node has dialled.
    inbound: Option<ConnId>,
    /// Its process is gone, but what it has sent before is still coming in.
    is_gone: bool,
    /// An append whose entries have not all come yet.
    incoming: Option<Append>,
    /// The link is being closed, since nobody reads there.
    is_given_up: bool,
    /// Bytes sent and not known to have left.
    unsent: usize,
    /// Bytes of it that no mark covers yet.
    unmarked: usize,
    /// Bytes of it up to the end of the last append that the reader has read for.
    fetched: usize,
    /// Where its messages are written.
    scribe: Scribe,
    /// Appends that wait for the reader, or until others have left, in order.
    waiting: VecDeque<Message>,
    /// The request that the first of them waits for.
    ticket: Option<u64>,
    /// When it was last heard from.
    pub(crate) heard: Option<Instant>,
}

/// An append and the entries that came with it.
#[derive(Debug)]
pub(crate) struct Append {
    /// The message.
    pub(crate) message: Message,
    /// What the replica has to know of the entries.
    pub(crate) metas: Vec<EntryMeta>,
    /// What those of them hold that are configurations.
    pub(crate) configurations: Vec<Placed>,
    /// Their frames.
    pub(crate) frames: Vec<SharedFrame>,
}

/// What the end of a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The link to the node is lost.
    Link(NodeId),
    /// The node's process is gone, and everything that it has sent was heard.
    Process(NodeId),
}

/// How a connection broke the rules of its kind: it is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misstep {
    /// A message of somebody else, or to somebody else.
    Impostor,
    /// A message or entry that makes no sense where it came.
    OutOfStep,
}

impl Peers {
    /// The peers of this node, none of them connected.
    pub(crate) fn new(
        me: &Identity,
        outbox: Outbox<Command, COMMANDS>,
        scribe: Scribe,
        counters: Arc<Counters>,
    ) -> Self {
        let table = me.peers().map(|member| Peer::new(member.clone())).collect();
        Self { table, outbox, scribe, counters, tickets: 0 }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.table.iter()
    }

    /// A link is up.
    pub(crate) fn link_opened(&mut self, node: NodeId, conn: ConnId) {
        if let Some(peer) = self.find(node) {
            peer.link = Some(conn);
            peer.forget_outgoing();
        }
    }

    /// Another node has connected. If it was connected before, that connection is dead, and closed. Returns whether the
    /// process is gone that had made it.
    pub(crate) fn inbound_opened(&mut self, node: NodeId, conn: ConnId) -> bool {
        let Some(peer) = self.find(node) else { return false };
        peer.incoming = None;
        let is_gone = core::mem::take(&mut peer.is_gone);
        if let Some(dead) = peer.inbound.replace(conn) {
            self.outbox.send(Command::Close { conn: dead });
        }
        is_gone
    }

    /// The node's process is gone. Returns whether that can be acted on at once: what it has sent before is heard first,
    /// since a last heartbeat that is heard after its sender's end would count as a sign of life.
    pub(crate) fn gone(&mut self, node: NodeId) -> bool {
        let Some(peer) = self.find(node) else { return false };
        peer.is_gone = peer.inbound.is_some();
        !peer.is_gone
    }

    /// A connection is closed. Returns what that means.
    pub(crate) fn closed(&mut self, conn: ConnId) -> Option<Loss> {
        for peer in &mut self.table {
            if peer.inbound == Some(conn) {
                peer.inbound = None;
                peer.incoming = None;
                return core::mem::take(&mut peer.is_gone).then_some(Loss::Process(peer.member.id));
            }
            if peer.link == Some(conn) {
                peer.link = None;
                peer.forget_outgoing();
                return Some(Loss::Link(peer.member.id));
            }
        }
        None
    }

    /// Bytes have left a link. Returns what the reader has to read now, if anything.
    pub(crate) fn sent(&mut self, conn: ConnId, bytes: usize, tail: &Tail, shortage: Shortage) -> Option<Job> {
        let position = self.table.iter().position(|peer| peer.link == Some(conn))?;
        let peer = &mut self.table[position];
        peer.unsent -= bytes;
        peer.fetched = peer.fetched.saturating_sub(bytes);
        self.next_waiting(position, tail, shortage)
    }

    /// The node whose open inbound connection this is.
    pub(crate) fn heard(&mut self, conn: ConnId, now: Instant) -> Option<&mut Peer> {
        let peer = self.table.iter_mut().find(|peer| peer.inbound == Some(conn))?;
        peer.heard = Some(now);
        Some(peer)
    }

    /// Takes a frame that another node has sent over this connection. Gives the message that is whole with it, if one is.
    ///
    /// # Errors
    /// The frame does not belong there: the connection is to be [closed](Self::part_with).
    pub(crate) fn take_frame(
        &mut self,
        conn: ConnId,
        me: NodeId,
        now: Instant,
        header: &Header,
        bytes: OwnFrame,
    ) -> Result<Option<Append>, Misstep> {
        let Some(peer) = self.heard(conn, now) else { return Ok(None) };
        match header.kind {
            Kind::Peer => match Control::decode(header.kind, payload(&bytes)) {
                Ok(Control::Peer(message)) => peer.take_message(message, me),
                _ => Err(Misstep::OutOfStep),
            },
            Kind::Configuration => match Configuration::decode(payload(&bytes)) {
                Ok(configuration) => peer.take_entry(header, bytes.freeze(), Some(configuration)),
                Err(_) => Err(Misstep::OutOfStep),
            },
            Kind::Command if replica::Command::decode(payload(&bytes)).is_err() => Err(Misstep::OutOfStep),
            _ => peer.take_entry(header, bytes.freeze(), None),
        }
    }

    /// Closes a connection that broke the rules; what else has come on it is nobody's word, and is not
    /// [heard](Self::heard). Returns what that means.
    pub(crate) fn part_with(&mut self, conn: ConnId, misstep: Misstep) -> Option<Loss> {
        self.counters.add(match misstep {
            Misstep::Impostor => Counter::PeerImpostor,
            Misstep::OutOfStep => Counter::PeerOutOfStep,
        });
        self.outbox.send(Command::Close { conn });
        self.closed(conn)
    }

    /// Answers a handshake.
    pub(crate) fn say(&mut self, conn: ConnId, message: &Control<'_>) {
        match self.scribe.write(message) {
            Some(frame) => self.outbox.send(Command::Send { conn, frame }),
            None => self.outbox.send(Command::Close { conn }),
        }
    }

    /// Sends a message to its peer, an append with its entries. What cannot be sent is dropped: the protocol expects
    /// that. Returns what the reader has to read first, if anything.
    pub(crate) fn send(&mut self, message: &Message, tail: &Tail, shortage: Shortage) -> Option<Job> {
        let position = self.table.iter().position(|peer| peer.member.id == message.to)?;
        if entries_of(message).is_none() {
            self.transmit(position, message, core::iter::empty());
            return None;
        }
        let peer = &mut self.table[position];
        if peer.link.is_none() || peer.waiting.len() >= MAX_WAITING {
            return None;
        }
        peer.waiting.push_back(*message);
        self.next_waiting(position, tail, shortage)
    }

    /// The reader has read what a peer's first waiting append needs. Returns what it has to read next.
    pub(crate) fn fetched(
        &mut self,
        purpose: Purpose,
        frames: &[SharedFrame],
        tail: &Tail,
        shortage: Shortage,
    ) -> Option<Job> {
        let Purpose::Peer { peer: position, ticket } = purpose else { return None };
        let peer = &mut self.table[position];
        if peer.ticket != Some(ticket) {
            return None;
        }
        peer.ticket = None;
        let message = peer.waiting.pop_front()?;
        let is_whole = entries_of(&message).is_some_and(|(first, last)| frames.len() as u64 == last.0 + 1 - first.0);
        if is_whole {
            self.transmit(position, &message, frames.iter());
            self.table[position].fetched = self.table[position].unsent;
        }
        self.next_waiting(position, tail, shortage)
    }

    /// The reader takes no job: appends of the peer that wait for it are dropped, and found missing by heartbeats.
    pub(crate) fn not_fetched(&mut self, job: &Job) {
        if let Job::Entries { purpose: Purpose::Peer { peer, .. }, .. } = *job {
            self.table[peer].waiting.clear();
            self.table[peer].ticket = None;
        }
    }

    /// This node leads no more, or again: appends that wait are of the past.
    pub(crate) fn forget_waiting(&mut self) {
        for peer in &mut self.table {
            peer.waiting.clear();
            peer.ticket = None;
        }
    }

    /// Sends waiting appends that the tail can serve; stops at the first that the reader has to serve, or that has to
    /// wait until others have left.
    fn next_waiting(&mut self, position: usize, tail: &Tail, shortage: Shortage) -> Option<Job> {
        loop {
            let peer = &mut self.table[position];
            let message = *peer.waiting.front().filter(|_| peer.ticket.is_none())?;
            let (first, last) = entries_of(&message)?;
            let is_held = tail.holds(first, last);
            let may_go = if is_held {
                shortage == Shortage::None || peer.unsent <= UNSENT_WHEN_SHORT
            } else {
                peer.fetched == 0
            };
            if !may_go {
                self.mark(position);
                return None;
            }
            if !is_held {
                self.tickets += 1;
                peer.ticket = Some(self.tickets);
                let purpose = Purpose::Peer { peer: position, ticket: self.tickets };
                return Some(Job::Entries { purpose, first, last });
            }
            peer.waiting.pop_front();
            self.transmit(position, &message, tail.range(first, last));
        }
    }

    fn transmit<'a>(
        &mut self,
        position: usize,
        message: &Message,
        frames: impl Iterator<Item = &'a SharedFrame> + Clone,
    ) {
        let peer = &mut self.table[position];
        let Some(conn) = peer.link else { return };
        let bytes: usize = frames.clone().map(|frame| frame.len()).sum();
        let has_room = peer.unsent + bytes <= PEER_QUEUE;
        let Some(head) = has_room.then(|| peer.scribe.write(&Control::Peer(*message))).flatten() else {
            // What does not even read heartbeats is given up.
            if bytes == 0 && !core::mem::replace(&mut peer.is_given_up, true) {
                self.counters.add(Counter::PeerUnread);
                self.outbox.send(Command::Close { conn });
            }
            return;
        };
        peer.unsent += head.len() + bytes;
        peer.unmarked += head.len() + bytes;
        self.outbox.send(Command::Send { conn, frame: head });
        for frame in frames {
            self.outbox.send(Command::Send { conn, frame: frame.clone() });
        }
        if peer.unmarked >= MARK_EVERY {
            self.mark(position);
        }
    }

    /// Asks to be told when all that was sent has left.
    fn mark(&mut self, position: usize) {
        let peer = &mut self.table[position];
        let bytes = core::mem::take(&mut peer.unmarked);
        if let Some(conn) = peer.link.filter(|_| bytes > 0) {
            self.outbox.send(Command::Mark { conn, bytes });
        }
    }

    fn find(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.table.iter_mut().find(|peer| peer.member.id == node)
    }
}

impl Peer {
    fn new(member: Member) -> Self {
        Self {
            member,
            link: None,
            inbound: None,
            is_gone: false,
            incoming: None,
            is_given_up: false,
            unsent: 0,
            unmarked: 0,
            fetched: 0,
            scribe: Scribe::new(link_pool()),
            waiting: VecDeque::new(),
            ticket: None,
            heard: None,
        }
    }

    /// Whether messages to it leave at present.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Takes a message; gives it back if it is complete by itself. One that announces entries is kept until
    /// [`Self::take_entry`] has had them.
    ///
    /// # Errors
    /// Entries are still to come, or the message is not this node's to send.
    pub(crate) fn take_message(&mut self, message: Message, me: NodeId) -> Result<Option<Append>, Misstep> {
        let is_its_own = (message.from, message.incarnation) == (self.member.id, self.member.incarnation);
        let count = entry_count(&message);
        if !is_its_own || message.to != me {
            return Err(Misstep::Impostor);
        }
        // Logs of this host begin at the beginning: nobody has rows to send.
        let is_snapshot = matches!(message.body, Body::SnapshotRows { .. } | Body::SnapshotTerms { .. });
        if self.incoming.is_some() || count > MAX_APPEND_ENTRIES || is_snapshot {
            return Err(Misstep::OutOfStep);
        }
        let (metas, frames) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let append = Append { message, metas, configurations: Vec::new(), frames };
        if count == 0 {
            return Ok(Some(append));
        }
        self.incoming = Some(append);
        Ok(None)
    }

    /// Takes an entry; gives the append back if it was the last.
    ///
    /// # Errors
    /// No entry is expected, or not this one.
    pub(crate) fn take_entry(
        &mut self,
        header: &Header,
        frame: SharedFrame,
        configuration: Option<Configuration>,
    ) -> Result<Option<Append>, Misstep> {
        let append = self.incoming.as_mut().ok_or(Misstep::OutOfStep)?;
        let (index, term) = (header.index(), header.term);
        let in_order = match append.message.body {
            Body::Append { prev, .. } => {
                let before = append.metas.last().map_or((prev.index, prev.term), |meta| (meta.index, meta.term));
                index == before.0.next() && term >= before.1
            }
            Body::AppendTerms { configuration: announced, .. } => index == announced && configuration.is_some(),
            _ => false,
        };
        if !in_order || term > append.message.term {
            return Err(Misstep::OutOfStep);
        }
        append.metas.push(EntryMeta { index, term, log_time: header.log_time() });
        append.configurations.extend(configuration.map(|configuration| Placed { index, configuration }));
        append.frames.push(frame);
        let is_complete = append.frames.len() == entry_count(&append.message);
        Ok(if is_complete { self.incoming.take() } else { None })
    }

    fn forget_outgoing(&mut self) {
        self.is_given_up = false;
        (self.unsent, self.unmarked, self.fetched, self.ticket) = (0, 0, 0, None);
        self.waiting.clear();
    }
}

fn entry_count(message: &Message) -> usize {
    match message.body {
        Body::Append { count, .. } => usize::from(count),
        Body::AppendTerms { configuration, .. } => usize::from(configuration > Index::ZERO),
        _ => 0,
    }
}

/// The first and the last entry that go with a message.
fn entries_of(message: &Message) -> Option<(Index, Index)> {
    match message.body {
        Body::Append { prev, count, .. } if count > 0 => Some((prev.index.next(), prev.index.plus(count.into()))),
        Body::AppendTerms { configuration: index, .. } if index > Index::ZERO => Some((index, index)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::CRC;
    use crate::node::mailbox::{Inbox, one_to_one};
    use crate::node::memory::{StaticPool, pool};
    use eventstream_core::config::Parameters;
    use eventstream_core::id::Term;
    use eventstream_core::raft::LogPosition;
    use eventstream_core::wire::{Kind, OVERHEAD, seal};

    const CONN: ConnId = ConnId { slot: 0, generation: 1 };

    fn identity() -> Identity {
        let address = |port: u16| format!("127.0.0.1:{port}").parse().expect("an address");
        let nodes = [1, 2, 3].map(|node| (NodeId(node), address(9_000 + node)));
        Identity::new_cluster(&nodes, Parameters::default()).expect("a good cluster").remove(0)
    }

    fn append(me: &Identity, from: u16, to: u16, first: u64, count: u16) -> Message {
        let incarnation = me.member(NodeId(from)).expect("a member").incarnation;
        let prev = LogPosition { index: Index(first - 1), term: Term(2) };
        let body = Body::Append { prev, count, commit: Index(0) };
        Message { from: NodeId(from), to: NodeId(to), incarnation, term: Term(3), body }
    }

    fn entry(pool: StaticPool, index: u64, term: u64) -> (Header, SharedFrame) {
        let header = Header { batch_id: index, term: Term(term), ..Header::of(Kind::Empty, &[], CRC) };
        let mut block = pool.take().expect("blocks enough");
        seal(&mut block, &header, CRC);
        (header, block.split_to(OVERHEAD).freeze())
    }

    /// Node 1 with a link to node 2.
    fn linked() -> (Identity, Peers, Inbox<Command, COMMANDS>) {
        let me = identity();
        let (outbox, inbox) = one_to_one(&Default::default(), &Default::default());
        let mut peers = Peers::new(&me, outbox, Scribe::new(pool(4)), Arc::default());
        peers.link_opened(NodeId(2), CONN);
        (me, peers, inbox)
    }

    /// The kinds of the frames that were sent since the last call.
    fn sent(peers: &mut Peers, inbox: &mut Inbox<Command, COMMANDS>) -> Vec<Kind> {
        peers.outbox.flush();
        core::iter::from_fn(|| inbox.pop())
            .filter_map(|command| match command {
                Command::Send { frame, .. } => eventstream_core::wire::peek(&frame, CRC).ok().flatten(),
                _ => None,
            })
            .map(|header| header.kind)
            .collect()
    }

    #[test]
    fn an_append_is_taken_whole_and_in_order() {
        let (me, mut peers, _inbox) = linked();
        let pool = pool(4);
        let peer = peers.find(NodeId(2)).expect("a peer");
        assert!(peer.take_message(append(&me, 2, 1, 5, 2), NodeId(1)).expect("in step").is_none());
        let (header, frame) = entry(pool, 5, 2);
        assert!(peer.take_entry(&header, frame, None).expect("in step").is_none());
        let (header, frame) = entry(pool, 6, 3);
        let append = peer.take_entry(&header, frame, None).expect("in step").expect("whole");
        assert_eq!(append.metas.iter().map(|meta| (meta.index.0, meta.term.0)).collect::<Vec<_>>(), [(5, 2), (6, 3)]);
    }

    #[test]
    fn a_witness_is_told_terms_with_the_configuration_that_they_announce() {
        let (me, mut peers, mut inbox) = linked();
        let pool = pool(4);
        let mut tail = Tail::new(Index(4), 1 << 20);
        (5..=7).for_each(|index| tail.push(Index(index), entry(pool, index, 2).1));
        let terms = |from, to, configuration| {
            let (prev, last) = (LogPosition { index: Index(4), term: Term(2) }, Index(7));
            let runs = [
                LogPosition { index: Index(5), term: Term(2) },
                Default::default(),
                Default::default(),
                Default::default(),
            ];
            let body = Body::AppendTerms { prev, last, runs, configuration: Index(configuration), commit: Index(0) };
            Message { body, ..append(&me, from, to, 5, 0) }
        };
        assert!(peers.send(&terms(1, 2, 0), &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), [Kind::Peer], "no entry goes with it");
        assert!(peers.send(&terms(1, 2, 6), &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), [Kind::Peer, Kind::Empty], "the one that is announced");

        let configuration = Configuration::NONE;
        let peer = peers.find(NodeId(2)).expect("a peer");
        assert!(peer.take_message(terms(2, 1, 0), NodeId(1)).expect("in step").is_some());
        for (index, term, configuration) in [(6, 2, None), (5, 2, Some(configuration)), (6, 4, Some(configuration))] {
            peer.incoming = None;
            assert!(peer.take_message(terms(2, 1, 6), NodeId(1)).expect("in step").is_none());
            let (header, frame) = entry(pool, index, term);
            assert!(peer.take_entry(&header, frame, configuration).is_err(), "entry {index} of term {term}");
        }
        let (header, frame) = entry(pool, 6, 2);
        let whole = peer.take_entry(&header, frame, Some(configuration)).expect("in step").expect("whole");
        assert_eq!(whole.configurations, [Placed { index: Index(6), configuration }]);
    }

    #[test]
    fn what_is_out_of_step_is_refused() {
        let (me, mut peers, _inbox) = linked();
        let pool = pool(8);
        let peer = peers.find(NodeId(2)).expect("a peer");
        let (header, frame) = entry(pool, 5, 2);
        assert!(peer.take_entry(&header, frame, None).is_err(), "no append announces it");
        let mut forged = append(&me, 1, 1, 5, 0);
        assert!(peer.take_message(forged, NodeId(1)).is_err(), "another node's message");
        forged.from = NodeId(2);
        assert!(peer.take_message(forged, NodeId(1)).is_err(), "another incarnation");
        assert!(peer.take_message(append(&me, 2, 1, 5, 33), NodeId(1)).is_err(), "more entries than there may be");
        for (index, term) in [(6, 2), (4, 2), (5, 1), (5, 4)] {
            peer.incoming = None;
            peer.take_message(append(&me, 2, 1, 5, 2), NodeId(1)).expect("in step");
            let (header, frame) = entry(pool, index, term);
            assert!(peer.take_entry(&header, frame, None).is_err(), "entry {index} of term {term}");
        }
        assert!(peer.take_message(append(&me, 2, 1, 9, 0), NodeId(1)).is_err(), "entries are still to come");
    }

    #[test]
    fn appends_wait_for_what_has_to_be_read_and_keep_their_order() {
        let (me, mut peers, mut inbox) = linked();
        let pool = pool(8);
        let mut tail = Tail::new(Index(6), 1 << 20);
        (7..=8).for_each(|index| tail.push(Index(index), entry(pool, index, 2).1));
        let job = peers.send(&append(&me, 1, 2, 5, 2), &tail, Shortage::None);
        let Some(Job::Entries { purpose, first: Index(5), last: Index(6) }) = job else { panic!("{job:?}") };
        assert!(peers.send(&append(&me, 1, 2, 7, 2), &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), [], "the second one waits for the first");
        let mut heartbeat = append(&me, 1, 2, 7, 0);
        heartbeat.body = Body::Heartbeat { commit: Index(0), round: 1 };
        assert!(peers.send(&heartbeat, &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), [Kind::Peer], "a heartbeat waits for nothing");
        let frames = [entry(pool, 5, 2).1, entry(pool, 6, 2).1];
        assert!(peers.fetched(purpose, &frames, &tail, Shortage::None).is_none());
        let both = [Kind::Peer, Kind::Empty, Kind::Empty, Kind::Peer, Kind::Empty, Kind::Empty];
        assert_eq!(sent(&mut peers, &mut inbox), both);
    }

    #[test]
    fn what_the_reader_has_no_place_for_holds_nothing_up() {
        let (me, mut peers, mut inbox) = linked();
        let pool = pool(4);
        let mut tail = Tail::new(Index(6), 1 << 20);
        tail.push(Index(7), entry(pool, 7, 2).1);
        let job = peers.send(&append(&me, 1, 2, 5, 1), &tail, Shortage::None).expect("it is on disk only");
        peers.not_fetched(&job);
        assert!(peers.send(&append(&me, 1, 2, 7, 1), &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), [Kind::Peer, Kind::Empty]);
        assert!(peers.send(&append(&me, 1, 2, 5, 1), &tail, Shortage::None).is_some(), "it is asked for again");
    }

    #[test]
    fn a_process_is_gone_when_its_last_words_were_heard() {
        let (_, mut peers, _inbox) = linked();
        let inbound = |generation| ConnId { slot: 1, generation };
        assert!(peers.gone(NodeId(2)), "nothing is coming in");
        assert!(!peers.inbound_opened(NodeId(2), inbound(1)));
        assert!(!peers.gone(NodeId(2)), "what it sent is still coming in");
        assert_eq!(peers.closed(CONN), Some(Loss::Link(NodeId(2))));
        assert_eq!(peers.closed(inbound(1)), Some(Loss::Process(NodeId(2))));
        assert!(!peers.inbound_opened(NodeId(2), inbound(2)), "a new life");
        assert!(!peers.gone(NodeId(2)));
        assert!(peers.inbound_opened(NodeId(2), inbound(3)), "the next life tells it as well");
        assert_eq!(peers.closed(inbound(3)), None);
    }

    #[test]
    fn a_connection_that_broke_the_rules_is_heard_no_more_and_ends_a_process_that_is_gone() {
        let (_, mut peers, _inbox) = linked();
        let inbound = |generation| ConnId { slot: 1, generation };
        peers.inbound_opened(NodeId(2), inbound(1));
        assert!(peers.heard(inbound(1), Instant::ZERO).is_some());
        assert_eq!(peers.part_with(inbound(1), Misstep::OutOfStep), None);
        assert!(peers.heard(inbound(1), Instant::ZERO).is_none());
        assert!(peers.gone(NodeId(2)), "nothing that it says is heard");
        peers.inbound_opened(NodeId(2), inbound(2));
        assert!(!peers.gone(NodeId(2)), "what it sent is still coming in");
        assert_eq!(peers.part_with(inbound(2), Misstep::OutOfStep), Some(Loss::Process(NodeId(2))));
        assert_eq!(peers.closed(inbound(2)), None, "that is known");
    }

    #[test]
    fn what_was_read_for_a_link_that_is_gone_is_not_sent() {
        let (me, mut peers, mut inbox) = linked();
        let (pool, tail) = (pool(4), Tail::new(Index(9), 1 << 20));
        let Some(Job::Entries { purpose, .. }) = peers.send(&append(&me, 1, 2, 5, 1), &tail, Shortage::None) else {
            panic!("no job")
        };
        assert_eq!(peers.closed(CONN), Some(Loss::Link(NodeId(2))));
        peers.link_opened(NodeId(2), ConnId { slot: 0, generation: 2 });
        assert!(peers.fetched(purpose, &[entry(pool, 5, 2).1], &tail, Shortage::None).is_none());
        assert_eq!(sent(&mut peers, &mut inbox), []);
    }

    /// What was asked for is reported as sent: how many marks there were, and what the reader is to read then.
    fn leaves(peers: &mut Peers, inbox: &mut Inbox<Command, COMMANDS>, tail: &Tail, shortage: Shortage) -> Vec<Job> {
        peers.outbox.flush();
        let marks: Vec<usize> = core::iter::from_fn(|| inbox.pop())
            .filter_map(|command| if let Command::Mark { bytes, .. } = command { Some(bytes) } else { None })
            .collect();
        marks.into_iter().filter_map(|bytes| peers.sent(CONN, bytes, tail, shortage)).collect()
    }

    #[test]
    fn a_slow_peer_holds_one_append_of_what_was_read_for_it() {
        let (me, mut peers, mut inbox) = linked();
        let (pool, tail) = (pool(4), Tail::new(Index(9), 1 << 20));
        let job = peers.send(&append(&me, 1, 2, 5, 1), &tail, Shortage::None);
        let Some(Job::Entries { purpose, .. }) = job else { panic!("{job:?}") };
        assert!(peers.send(&append(&me, 1, 2, 6, 1), &tail, Shortage::None).is_none());
        assert!(peers.fetched(purpose, &[entry(pool, 5, 2).1], &tail, Shortage::None).is_none(), "it has not left");
        assert!(peers.send(&append(&me, 1, 2, 7, 1), &tail, Shortage::None).is_none(), "it has not left yet");
        let jobs = leaves(&mut peers, &mut inbox, &tail, Shortage::None);
        assert!(matches!(jobs[..], [Job::Entries { first: Index(6), .. }]), "{jobs:?}");
    }

    #[test]
    fn while_memory_is_short_a_peer_gets_more_of_it_when_the_rest_has_left() {
        let (me, mut peers, mut inbox) = linked();
        let pool = pool(8);
        let mut tail = Tail::new(Index(4), 1 << 20);
        (5..=9).for_each(|index| {
            let mut block = pool.take().expect("a block");
            block.truncate(20_000);
            tail.push(Index(index), block.freeze());
        });
        let given = |peers: &mut Peers, first, shortage| {
            assert!(peers.send(&append(&me, 1, 2, first, 1), &tail, shortage).is_none());
            peers.table[0].waiting.is_empty()
        };
        assert!((5..=8).all(|index| given(&mut peers, index, Shortage::Some)), "it may be reading");
        assert!(!given(&mut peers, 9, Shortage::Some), "it is not");
        leaves(&mut peers, &mut inbox, &tail, Shortage::Some);
        assert!(peers.table[0].waiting.is_empty(), "it was");
        assert!(given(&mut peers, 9, Shortage::None), "there is memory for those that do not");
    }

    #[test]
    fn what_one_peer_does_not_read_leaves_the_others_their_messages() {
        let me = identity();
        let (outbox, mut inbox) = one_to_one(&Default::default(), &Default::default());
        let mut peers = Peers::new(&me, outbox, Scribe::new(pool(2)), Arc::default());
        let (slow, quick) = (CONN, ConnId { slot: 1, generation: 1 });
        peers.link_opened(NodeId(2), slow);
        peers.link_opened(NodeId(3), quick);
        let tail = Tail::new(Index(9), 1 << 20);
        let heartbeat =
            |to| Message { body: Body::Heartbeat { commit: Index(0), round: 1 }, ..append(&me, 1, to, 5, 0) };
        let (mut unread, mut heard) = (Vec::new(), 0);
        // As many as do not fit the slow one's blocks.
        for _ in 0..10_000 {
            peers.send(&heartbeat(2), &tail, Shortage::None);
            peers.send(&heartbeat(3), &tail, Shortage::None);
            peers.outbox.flush();
            while let Some(command) = inbox.pop() {
                match command {
                    Command::Send { conn, .. } if conn == quick => heard += 1,
                    Command::Close { conn } => assert_eq!(conn, slow, "the slow one is given up"),
                    other => unread.push(other),
                }
            }
        }
        assert_eq!(heard, 10_000);
        assert!(unread.len() < 10_000);
        assert_eq!(peers.counters.count(Counter::PeerUnread), 1, "one link, given up once");
    }
}
