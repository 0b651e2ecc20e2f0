//! Reads everything from each node, from each alone, and compares it with the input.

use crate::Error;
use crate::input::Input;
use crate::nodes::Nodes;
use crate::publish::TOPIC;
use core::fmt;
use eventstream_host::client::{Client, From, Source};

/// What each node holds.
pub(crate) struct Verdict {
    nodes: Vec<Found>,
}

/// What one node holds, against what was published.
struct Found {
    address: String,
    events: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
    altered: u64,
}

/// Compares what every node holds with the input.
pub(crate) async fn compare(input: &Input, nodes: &Nodes) -> Result<Verdict, Error> {
    let mut found = Vec::new();
    for address in nodes.addresses() {
        found.push(compare_one(input, address).await?);
    }
    Ok(Verdict { nodes: found })
}

async fn compare_one(input: &Input, address: &str) -> Result<Found, Error> {
    let client = Client::connect(&[address])?;
    let mut subscriber = client.subscribe(TOPIC, From::Beginning)?;
    let mut found = Found { address: address.to_owned(), events: 0, lost: 0, doubled: 0, disordered: 0, altered: 0 };
    let mut times = vec![0_u32; input.lines.len()];
    let mut due = 0;
    while let Some(event) = subscriber.next_until_caught_up().await? {
        let Source::Producer { sequence, .. } = event.source else {
            return Err("an event without a producer".into());
        };
        let number = usize::try_from(sequence.0)?;
        let (Some(line), Some(times)) = (input.lines.get(number), times.get_mut(number)) else {
            return Err(format!("an event with sequence {number}, which was never published").into());
        };
        found.events += 1;
        *times += 1;
        found.doubled += u64::from(*times > 1);
        found.disordered += u64::from(number < due);
        found.altered += u64::from(event.payload != line);
        due = number + 1;
    }
    found.lost = times.iter().filter(|times| **times == 0).count() as u64;
    Ok(found)
}

impl Verdict {
    pub(crate) fn lost(&self) -> u64 {
        self.nodes.iter().map(|node| node.lost).sum()
    }

    pub(crate) fn doubled(&self) -> u64 {
        self.nodes.iter().map(|node| node.doubled).sum()
    }

    pub(crate) fn disordered(&self) -> u64 {
        self.nodes.iter().map(|node| node.disordered).sum()
    }

    /// Whether every node holds every event once, in order, byte for byte.
    pub(crate) fn is_perfect(&self) -> bool {
        let wrong = |node: &Found| node.lost + node.doubled + node.disordered + node.altered;
        self.nodes.iter().all(|node| wrong(node) == 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (number, node)) in (1..).zip(&self.nodes).enumerate() {
            let Found { address, events, lost, doubled, disordered, altered } = node;
            let end = if position > 0 { "\n" } else { "" };
            write!(
                f,
                "{end}node {number} at {address}: {events} events read back; lost {lost}, doubled {doubled}, out of order \
                 {disordered}, altered {altered}"
            )?;
        }
        Ok(())
    }
}
