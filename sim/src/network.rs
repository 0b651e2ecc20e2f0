//! The network between members, and between producers and members: what becomes of a message.
//!
//! Without faults a link is what a TCP connection is: in order, nothing lost while it lasts. With them a message may be
//! lost, late, doubled or overtaken, which is more than TCP does, and what consensus has to bear.

use crate::plan::Plan;
use crate::rng::Rng;
use crate::stats::{Fault, Stats};

/// Members of a cluster, at most.
pub(crate) const MAX_MEMBERS: usize = 7;
/// Producers, at most.
pub(crate) const MAX_PRODUCERS: usize = 4;

/// One direction between two parties.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Until then nothing gets through.
    blocked_until: u64,
    /// Until then nothing arrives, and then all of it.
    clogged_until: u64,
    last_delivery: u64,
}

/// When a message arrives: not at all, once or twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    first: Option<u64>,
    again: Option<u64>,
}

impl Arrivals {
    pub(crate) fn iter(self) -> impl Iterator<Item = u64> {
        self.first.into_iter().chain(self.again)
    }
}

/// All links of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Network {
    members: [[Link; MAX_MEMBERS]; MAX_MEMBERS],
    to_member: [[Link; MAX_MEMBERS]; MAX_PRODUCERS],
    to_producer: [[Link; MAX_MEMBERS]; MAX_PRODUCERS],
    /// The number of the connection between two members; the same in both directions.
    connections: [[u32; MAX_MEMBERS]; MAX_MEMBERS],
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    Peer { from: usize, to: usize },
    ToMember { producer: usize, member: usize },
    ToProducer { producer: usize, member: usize },
}

impl Network {
    pub(crate) fn send(&mut self, route: Route, now: u64, plan: &Plan, rng: &mut Rng, stats: &mut Stats) -> Arrivals {
        let (link, suffers) = match route {
            Route::Peer { from, to } => (&mut self.members[from][to], true),
            Route::ToMember { producer, member } => (&mut self.to_member[producer][member], plan.clients_suffer),
            Route::ToProducer { producer, member } => (&mut self.to_producer[producer][member], plan.clients_suffer),
        };
        if now < link.blocked_until {
            return Arrivals::default();
        }
        let latency = plan.latency_us + rng.below(plan.latency_us);
        let mut at = now + latency;
        if !suffers {
            at = at.max(link.last_delivery);
            link.last_delivery = at;
            return Arrivals { first: Some(at), again: None };
        }
        if rng.chance(plan.loss) {
            stats.fired(Fault::Loss);
            return Arrivals::default();
        }
        if rng.chance(plan.reorder) {
            stats.fired(Fault::Reorder);
            at += rng.below(plan.reorder_us);
        } else {
            at = at.max(link.last_delivery).max(link.clogged_until);
            link.last_delivery = at;
        }
        let again = rng.chance(plan.duplication).then(|| {
            stats.fired(Fault::Duplication);
            at + rng.below(plan.reorder_us)
        });
        Arrivals { first: Some(at), again }
    }

    /// The number of the connection between two members.
    pub(crate) const fn connection(&self, a: usize, b: usize) -> u32 {
        self.connections[a][b]
    }

    /// The connection between two members is no more; what is on it is lost, unless it comes late.
    pub(crate) const fn cut(&mut self, a: usize, b: usize) {
        self.connections[a][b] += 1;
        self.connections[b][a] += 1;
    }

    /// Until when `from` cannot reach `to`.
    pub(crate) const fn blocked_until(&self, from: usize, to: usize) -> u64 {
        self.members[from][to].blocked_until
    }

    pub(crate) fn block(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.members[from][to];
        link.blocked_until = link.blocked_until.max(until);
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.members[from][to];
        link.clogged_until = link.clogged_until.max(until);
    }

    /// No producer reaches this member, nor is reached by it.
    pub(crate) fn block_producers(&mut self, member: usize, until: u64) {
        for links in self.to_member.iter_mut().chain(&mut self.to_producer) {
            links[member].blocked_until = links[member].blocked_until.max(until);
        }
    }

    /// Everything gets through again.
    pub(crate) fn heal(&mut self) {
        for link in self.members.iter_mut().chain(&mut self.to_member).chain(&mut self.to_producer).flatten() {
            (link.blocked_until, link.clogged_until) = (0, 0);
        }
    }
}
