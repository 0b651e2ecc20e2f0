//! What the types of the control messages do not say by themselves: the ranges of numbers and the lengths of texts.
//!
//! A message is checked after it was decoded and before it is encoded, so that both sides keep to the same rules.

use super::control::ControlError;
use super::list::Item;
use super::message::{
    About, CaughtUp, Counters, CountersRequest, Delivery, EndReason, Hello, LeaderChanged, ListedTopic, Member,
    NamedCount, OpenProducer, Ping, Pong, ProducerOpened, Receipt, Refusal, Refused, Role, StartAt, StatusRequest,
    Subscribe, SubscriptionEnd, Topic, TopicList, TopicListRequest, TopicRequest, Unsubscribe, Welcome,
};
use super::status::{MemberStatus, NodeStatus, Status};
use crate::config::{
    MAX_ADDRESS, MAX_APPEND_ENTRIES, MAX_BATCH_EVENTS, MAX_COUNTER, MAX_COUNTER_NAME, MAX_LISTED_COUNTERS,
    MAX_LISTED_TOPICS, MAX_MEMBERS, MAX_SNAPSHOT_ROWS, MAX_TEXT, MAX_TOPIC,
};
use crate::id::NodeId;
use crate::raft::{self, Body, LogPosition};
use crate::receipt::{RunReceipt, RunRefusal};

type Checked = Result<(), ControlError>;

/// A message, or a part of one, with rules beyond its type.
pub trait Check {
    /// Checks them.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    fn check(&self) -> Result<(), ControlError>;
}

impl Check for Hello {
    fn check(&self) -> Checked {
        range(self.version_min <= self.version_max)?;
        match self.role {
            Role::Client | Role::TokenClient { .. } => Ok(()),
            Role::Peer { node, .. } => member(node).and(range(self.cluster.is_some())),
        }
    }
}

impl Check for Welcome<'_> {
    fn check(&self) -> Checked {
        member(self.node)?;
        counters([self.term.0])?;
        self.leader.map_or(Ok(()), member)?;
        self.members.check()
    }
}

impl Check for Member<'_> {
    fn check(&self) -> Checked {
        member(self.node).and(address(self.address))
    }
}

impl<'a> Item<'a> for Member<'a> {
    const MAX: usize = MAX_MEMBERS;
}

impl Check for Refused<'_> {
    fn check(&self) -> Checked {
        match self.about {
            About::Batch(number) | About::Request(number) => counters([number])?,
            About::Connection | About::Subscription(_) => {}
        }
        match self.reason {
            Refusal::NotLeader { term, leader } => counters([term.0]).and(leader.map_or(Ok(()), member))?,
            Refusal::Version { min, max } => range(min <= max)?,
            _ => {}
        }
        text(self.detail)
    }
}

impl Check for OpenProducer {
    fn check(&self) -> Checked {
        counters([self.request])
    }
}

impl Check for ProducerOpened {
    fn check(&self) -> Checked {
        counters([self.request, self.next_sequence.0])
    }
}

impl Check for Receipt<'_> {
    fn check(&self) -> Checked {
        counters([self.batch, self.index.0, self.term.0])?;
        self.runs.check()
    }
}

impl Check for RunReceipt {
    fn check(&self) -> Checked {
        let events = usize::from(self.duplicates).saturating_add(self.accepted.into());
        range(events <= MAX_BATCH_EVENTS)?;
        counters([self.first_offset.0, self.duplicate_offset.unwrap_or_default().0])?;
        match self.refused {
            Some(RunRefusal::SequenceGap { expected }) => counters([expected.0]),
            _ => Ok(()),
        }
    }
}

impl Item<'_> for RunReceipt {
    const MAX: usize = MAX_BATCH_EVENTS;
}

impl Check for LeaderChanged {
    fn check(&self) -> Checked {
        counters([self.term.0]).and(self.leader.map_or(Ok(()), member))
    }
}

impl Check for Subscribe<'_> {
    fn check(&self) -> Checked {
        topic(self.topic)?;
        match self.from {
            StartAt::Offset(offset) => counters([offset.0]),
            StartAt::Beginning | StartAt::Latest => Ok(()),
        }
    }
}

impl Check for Delivery {
    fn check(&self) -> Checked {
        counters([self.first_offset.0, self.index.0]).and(range(self.mask != 0))
    }
}

impl Check for SubscriptionEnd {
    fn check(&self) -> Checked {
        match self.reason {
            EndReason::BeforeHorizon { first: offset } | EndReason::AfterEnd { next: offset } => counters([offset.0]),
            EndReason::Unsubscribed | EndReason::Stopping | EndReason::ReadFailed => Ok(()),
        }
    }
}

impl Check for Unsubscribe {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for CaughtUp {
    fn check(&self) -> Checked {
        counters([self.next_offset.0])
    }
}

impl Check for Ping {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for Pong {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for StatusRequest {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl Check for Status<'_> {
    fn check(&self) -> Checked {
        self.node.check().and(self.members.check())
    }
}

impl Check for NodeStatus<'_> {
    fn check(&self) -> Checked {
        member(self.node)?;
        self.leader.map_or(Ok(()), member)?;
        counters([self.term.0, self.last.0, self.durable.0, self.commit.0, self.applied.0])?;
        counters([self.log_time.0, self.events, self.uptime_us])?;
        text(self.version)
    }
}

impl Check for MemberStatus<'_> {
    fn check(&self) -> Checked {
        member(self.node)?;
        counters([self.matched.unwrap_or_default().0, self.heard_us.unwrap_or_default()])?;
        address(self.address)
    }
}

impl<'a> Item<'a> for MemberStatus<'a> {
    const MAX: usize = MAX_MEMBERS;
}

impl Check for TopicRequest<'_> {
    fn check(&self) -> Checked {
        counters([self.request]).and(topic(self.topic))
    }
}

impl Check for Topic {
    fn check(&self) -> Checked {
        counters([self.request, self.next_offset.unwrap_or_default().0])
    }
}

impl Check for TopicListRequest {
    fn check(&self) -> Checked {
        counters([self.request])
    }
}

impl Check for TopicList<'_> {
    fn check(&self) -> Checked {
        counters([self.request])?;
        self.topics.check()
    }
}

impl Check for ListedTopic<'_> {
    fn check(&self) -> Checked {
        topic(self.name).and(counters([self.next_offset.0]))
    }
}

impl<'a> Item<'a> for ListedTopic<'a> {
    const MAX: usize = MAX_LISTED_TOPICS;
}

impl Check for CountersRequest {
    fn check(&self) -> Checked {
        counters([self.request])
    }
}

impl Check for Counters<'_> {
    fn check(&self) -> Checked {
        counters([self.request])?;
        self.counters.check()
    }
}

impl Check for NamedCount<'_> {
    fn check(&self) -> Checked {
        counter_name(self.name).and(counters([self.count]))
    }
}

impl<'a> Item<'a> for NamedCount<'a> {
    const MAX: usize = MAX_LISTED_COUNTERS;
}

impl Check for raft::Message {
    fn check(&self) -> Checked {
        member(self.from).and(member(self.to))?;
        counters([self.term.0])?;
        match self.body {
            Body::PreVote { last } | Body::Vote { last, .. } => position(last),
            Body::SuspectPreVote { last, start } | Body::FoundingVote { last, start } => {
                position(last).and(counters([start]))
            }
            Body::VoteReply { wall_us, .. } | Body::VoteIfAll { wall_us } => counters([wall_us]),
            Body::Append { prev, count, commit } => {
                range(usize::from(count) <= MAX_APPEND_ENTRIES)?;
                position(prev)?;
                counters([prev.index.0.saturating_add(count.into()), commit.0])
            }
            Body::AppendTerms { prev, last, runs, configuration, commit } => {
                runs.into_iter().try_for_each(position)?;
                position(prev).and(counters([last.0, configuration.0, commit.0]))
            }
            Body::SnapshotRows { last, first, count, rows } => {
                range(usize::from(count) <= MAX_SNAPSHOT_ROWS)?;
                range(rows > 0 && first.checked_add(count.into()).is_some_and(|end| end <= rows))?;
                position(last)
            }
            Body::SnapshotTaken { last, .. } => position(last),
            Body::SnapshotTerms { last, configuration } => position(last).and(counters([configuration.0])),
            Body::AppendAccepted { matched } => counters([matched.0]),
            Body::AppendRejected { rejected, hint } => counters([rejected.0]).and(position(hint)),
            Body::Heartbeat { commit, round } => counters([commit.0, round]),
            Body::HeartbeatReply { round, verified, wall_us } => counters([round, verified.0, wall_us]),
            Body::SuspectReply { start, round, verified, matched, wall_us } => {
                counters([start, round, verified.0, matched.0, wall_us])
            }
            Body::PreVoteIfAll { start } | Body::Cleared { start } => counters([start]),
            Body::PreVoteIfNew { start, own } => counters([start, own]),
            Body::PreVoteReply { .. } | Body::TimeoutNow => Ok(()),
        }
    }
}

fn range(holds: bool) -> Checked {
    if holds { Ok(()) } else { Err(ControlError::OutOfRange) }
}

fn counters<const N: usize>(numbers: [u64; N]) -> Checked {
    range(numbers.into_iter().all(|number| number <= MAX_COUNTER))
}

fn position(position: LogPosition) -> Checked {
    counters([position.index.0, position.term.0])
}

fn member(node: NodeId) -> Checked {
    range(node.0 != 0)
}

fn topic(name: &str) -> Checked {
    if (1..=MAX_TOPIC).contains(&name.len()) { Ok(()) } else { Err(ControlError::TopicLength) }
}

fn counter_name(name: &str) -> Checked {
    let is_in_set = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_lawful = (1..=MAX_COUNTER_NAME).contains(&name.len()) && name.bytes().all(is_in_set);
    if is_lawful { Ok(()) } else { Err(ControlError::CounterName) }
}

fn address(address: &str) -> Checked {
    if (1..=MAX_ADDRESS).contains(&address.len()) { Ok(()) } else { Err(ControlError::AddressLength) }
}

fn text(text: &str) -> Checked {
    if text.len() <= MAX_TEXT { Ok(()) } else { Err(ControlError::TextLength) }
}
