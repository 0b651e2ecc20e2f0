//! What clients ask for, beside publishing.

use super::Engine;
use crate::node::acks::{Request, Waiter};
use crate::node::clients::Clients;
use crate::node::event::ConnId;
use crate::node::legal::payload;
use crate::node::memory::OwnFrame;
use crate::node::subscriptions::{MAX_PER_CONNECTION, Pace, Subscription};
use crate::node::telling::{self, Condition};
use eventstream_core::config::MAX_LISTED_TOPICS;
use eventstream_core::dedup::Opened;
use eventstream_core::id::{Offset, ProducerId};
use eventstream_core::replica::{Command, CommandOutcome, Outcomes};
use eventstream_core::wire::{
    About, Control, EndReason, Header, Kind, List, ListedTopic, OpenProducer, Pong, ProducerOpened, Refusal, StartAt,
    Subscribe, SubscriptionEnd, Topic, TopicList, TopicListRequest, TopicRequest, Unsubscribe,
};

/// The answer to an `OpenProducer` whose entry is applied.
pub(super) fn answer_open(
    clients: &mut Clients,
    conn: ConnId,
    request: u64,
    producer: ProducerId,
    outcomes: &Outcomes,
) {
    match outcomes.command() {
        Some(CommandOutcome::OpenProducer(Ok(Opened { epoch, next_sequence }))) => {
            clients.say(conn, &Control::ProducerOpened(ProducerOpened { request, producer, epoch, next_sequence }));
        }
        Some(CommandOutcome::OpenProducer(Err(_)) | CommandOutcome::EvictProducers { .. }) | None => {
            clients.refuse(conn, About::Request(request), Refusal::ProducerTableFull);
        }
    }
}

impl Engine {
    /// A frame of a client. What lies behind the one that cost a client its connection is not heard.
    pub(super) fn take_request(&mut self, conn: ConnId, header: &Header, runs: u16, frame: OwnFrame) {
        if !self.clients.is_open(conn) {
            return;
        }
        if header.kind == Kind::Batch {
            return self.take_batch(conn, header, runs, frame);
        }
        match Control::decode(header.kind, payload(&frame)) {
            Ok(Control::OpenProducer(request)) => self.open_producer(conn, &request),
            Ok(Control::Subscribe(request)) => self.subscribe(conn, &request),
            Ok(Control::Unsubscribe(request)) => self.unsubscribe(conn, request),
            Ok(Control::StatusRequest(_)) => self.tell_status(conn),
            Ok(Control::TopicRequest(request)) => self.tell_topic(conn, &request),
            Ok(Control::TopicListRequest(request)) => self.list_topics(conn, request),
            Ok(Control::CountersRequest(request)) => {
                telling::tell_counters(&mut self.clients, &self.counters, conn, request);
            }
            Ok(Control::Ping(ping)) => {
                self.clients.say(conn, &Control::Pong(Pong { number: ping.number }));
            }
            Ok(_) => self.part_with(conn, Refusal::Unexpected),
            Err(_) => self.part_with(conn, Refusal::Malformed),
        }
    }

    /// Answers the hello of a client.
    pub(super) fn welcome_client(&mut self, conn: ConnId) {
        telling::welcome(&self.identity, self.leader, |welcome| {
            self.clients.say(conn, welcome);
        });
    }

    /// Answers the hello of another node.
    pub(super) fn welcome_peer(&mut self, conn: ConnId) {
        telling::welcome(&self.identity, self.leader, |welcome| self.peers.say(conn, welcome));
    }

    /// That this node does not lead, and who does.
    pub(super) fn not_leader(&self) -> Refusal {
        telling::not_leader(&self.identity, self.leader)
    }

    fn tell_status(&mut self, conn: ConnId) {
        let Self { identity, replica, peers, leader, now, started, clients, .. } = self;
        let condition = Condition { identity, replica, peers, leader: *leader, now: *now, started: *started };
        condition.tell(|status| {
            clients.say(conn, status);
        });
    }

    fn part_with(&mut self, conn: ConnId, reason: Refusal) {
        self.clients.refuse(conn, About::Connection, reason);
        self.clients.disconnect(conn);
    }

    fn open_producer(&mut self, conn: ConnId, &OpenProducer { request, producer }: &OpenProducer) {
        let waiter = Waiter { conn, request: Request::OpenProducer { request, producer } };
        if let Err(refusal) = self.propose_command(waiter, &Command::OpenProducer { producer }) {
            self.clients.refuse(conn, About::Request(request), refusal);
        }
    }

    fn subscribe(&mut self, conn: ConnId, request: &Subscribe<'_>) {
        let &Subscribe { subscription: number, topic: name, from } = request;
        let subscriptions = &self.subscriptions;
        let Some(own) = self.clients.subscriptions(conn) else { return };
        if own.iter().any(|&id| subscriptions.get(id).is_some_and(|other| other.number == number)) {
            return self.part_with(conn, Refusal::Unexpected);
        }
        if own.len() >= MAX_PER_CONNECTION {
            return self.clients.refuse(conn, About::Subscription(number), Refusal::TooManySubscriptions);
        }
        let topic = self.replica.find_topic(name);
        let end = topic.map_or(Offset::ZERO, |topic| self.replica.topic(topic).next_offset());
        let next = match from {
            StartAt::Beginning => Offset::ZERO,
            StartAt::Latest => end,
            StartAt::Offset(offset) => offset,
        };
        let pace = if topic.is_some() { Pace::Hungry } else { Pace::Unborn };
        let id = self.subscriptions.add(Subscription {
            conn,
            number,
            name: name.into(),
            topic,
            next,
            goal: Some(end),
            pace,
            ticket: 0,
        });
        if let Some(own) = self.clients.subscriptions(conn) {
            own.push(id);
        }
        self.tell_caught_up(id);
    }

    fn unsubscribe(&mut self, conn: ConnId, Unsubscribe { subscription: number }: Unsubscribe) {
        let subscriptions = &self.subscriptions;
        let Some(own) = self.clients.subscriptions(conn) else { return };
        let id = own.iter().copied().find(|&id| subscriptions.get(id).is_some_and(|other| other.number == number));
        if let Some(id) = id {
            self.end_subscription(id, EndReason::Unsubscribed);
        }
    }

    /// Ends a subscription and says why.
    pub(super) fn end_subscription(&mut self, id: u32, reason: EndReason) {
        let Some(Subscription { conn, number, .. }) = self.subscriptions.remove(id) else { return };
        if let Some(own) = self.clients.subscriptions(conn) {
            own.retain(|&other| other != id);
        }
        self.clients.say(conn, &Control::SubscriptionEnd(SubscriptionEnd { subscription: number, reason }));
    }

    fn tell_topic(&mut self, conn: ConnId, &TopicRequest { request, topic }: &TopicRequest<'_>) {
        let next_offset = self.replica.find_topic(topic).map(|topic| self.replica.topic(topic).next_offset());
        self.clients.say(conn, &Control::Topic(Topic { request, next_offset }));
    }

    fn list_topics(&mut self, conn: ConnId, TopicListRequest { request, first }: TopicListRequest) {
        let topics = self.replica.topics();
        let count = topics.len() as u32;
        let listed = topics.skip(first.0 as usize).take(MAX_LISTED_TOPICS);
        let listed = listed.map(|topic| ListedTopic { name: topic.name(), next_offset: topic.next_offset() });
        let listed: Vec<ListedTopic<'_>> = listed.collect();
        self.clients.say(conn, &Control::TopicList(TopicList { request, count, topics: List::of(&listed) }));
    }
}
