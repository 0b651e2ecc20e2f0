//! What is to be measured, checked before anything is done.

use super::Args;
use eventstream_core::config::{MAX_EVENT_PAYLOAD, MAX_TOPIC};
use eventstream_core::time::Duration;
use eventstream_host::identity::MAX_TOPICS;
use thiserror::Error;

/// Events under way if neither loop is chosen.
const INFLIGHT: u64 = 4_096;
/// Each producer has a buffer of the largest frame.
const MOST_PRODUCERS: u64 = 1_024;
const MOST_TOPICS: u64 = MAX_TOPICS as u64;
const MOST_SECONDS: u64 = 3_600;
/// The time at which each was sent is remembered.
const MOST_INFLIGHT: u64 = 1 << 20;
const MOST_RATE: u64 = 10_000_000;
/// What is under way is kept in memory until it is acknowledged.
const MOST_BYTES_UNDER_WAY: u64 = 512 << 20;
/// The check has a bit for each event.
const MOST_EVENTS: u64 = 1 << 32;
/// Bytes that an event takes beside its payload, at most: one that is alone in its frame.
const EVENT_OVERHEAD: u64 = 512;

/// When events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// When another was acknowledged.
    Closed {
        /// Events under way, of all producers.
        inflight: u64,
    },
    /// When they are due.
    Open {
        /// Events per second, of all producers.
        rate: u64,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pace: Pace,
    pub(super) size: usize,
    pub(super) producers: u64,
    pub(super) topics: u64,
    pub(super) warmup: Duration,
    pub(super) measured: Duration,
    pub(super) name: String,
}

/// Why this cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum PlanError {
    #[error("--inflight and --rate exclude each other: a loop is closed or open")]
    BothLoops,
    #[error("{option} is at least 1")]
    Zero { option: &'static str },
    #[error("{option} is at most {limit}, not {value}")]
    TooMany { option: &'static str, value: u64, limit: u64 },
    #[error("--size is at most {MAX_EVENT_PAYLOAD} bytes, the largest payload of an event, not {size}")]
    EventTooLarge { size: usize },
    #[error("{producers} producers cannot share {inflight} events under way: give each at least one")]
    TooFewForAll { producers: u64, inflight: u64 },
    #[error("{inflight} events of {size} bytes under way are more than {} MiB", MOST_BYTES_UNDER_WAY >> 20)]
    TooManyBytes { inflight: u64, size: usize },
    #[error("{events} events are more than the check can hold, which is {MOST_EVENTS}: lower --rate or --seconds")]
    TooManyEvents { events: u64 },
    #[error("--name is empty, or too long for a topic, which has at most {MAX_TOPIC} bytes")]
    Name,
}

impl Plan {
    pub(super) fn new(args: &Args) -> Result<Self, PlanError> {
        let pace = match (args.inflight, args.rate) {
            (Some(_), Some(_)) => return Err(PlanError::BothLoops),
            (None, Some(rate)) => Pace::Open { rate: within("--rate", rate, MOST_RATE)? },
            (inflight, None) => {
                Pace::Closed { inflight: within("--inflight", inflight.unwrap_or(INFLIGHT), MOST_INFLIGHT)? }
            }
        };
        if args.size == 0 {
            return Err(PlanError::Zero { option: "--size" });
        }
        if args.size > MAX_EVENT_PAYLOAD {
            return Err(PlanError::EventTooLarge { size: args.size });
        }
        let plan = Self {
            pace,
            size: args.size,
            producers: within("--producers", args.producers, MOST_PRODUCERS)?,
            topics: within("--topics", args.topics, MOST_TOPICS)?,
            warmup: Duration::from_secs(within("--warmup", args.warmup.max(1), MOST_SECONDS).map(|_| args.warmup)?),
            measured: Duration::from_secs(within("--seconds", args.seconds, MOST_SECONDS)?),
            name: args.name.clone(),
        };
        match pace {
            Pace::Closed { inflight } if inflight < plan.producers => {
                Err(PlanError::TooFewForAll { producers: plan.producers, inflight })
            }
            Pace::Closed { inflight } if inflight.saturating_mul(plan.size as u64) > MOST_BYTES_UNDER_WAY => {
                Err(PlanError::TooManyBytes { inflight, size: plan.size })
            }
            Pace::Open { rate } if rate * (args.warmup + args.seconds) > MOST_EVENTS => {
                Err(PlanError::TooManyEvents { events: rate * (args.warmup + args.seconds) })
            }
            _ if plan.name.is_empty() || plan.topic_name(plan.topics - 1).len() > MAX_TOPIC => Err(PlanError::Name),
            _ => Ok(plan),
        }
    }

    pub(super) fn topic_names(&self) -> Vec<String> {
        (0..self.topics).map(|topic| self.topic_name(topic)).collect()
    }

    fn topic_name(&self, topic: u64) -> String {
        format!("{}-{topic}", self.name)
    }

    /// Events of one producer that the client has to have room for.
    pub(super) fn window_events(&self) -> usize {
        self.share_of_first() as usize
    }

    /// Bytes of their frames, at most.
    pub(super) fn window_bytes(&self) -> usize {
        (self.share_of_first() * (self.size as u64 + EVENT_OVERHEAD)) as usize
    }

    /// The largest share of any producer in a closed loop.
    fn share_of_first(&self) -> u64 {
        match self.pace {
            Pace::Closed { inflight } => share(inflight, self.producers, 0),
            Pace::Open { .. } => 0,
        }
    }
}

fn within(option: &'static str, value: u64, limit: u64) -> Result<u64, PlanError> {
    match value {
        0 => Err(PlanError::Zero { option }),
        value if value > limit => Err(PlanError::TooMany { option, value, limit }),
        value => Ok(value),
    }
}

/// What the one with this number gets of `whole`, if `parts` share it as evenly as can be.
pub(super) fn share(whole: u64, parts: u64, number: u64) -> u64 {
    whole / parts + u64::from(number < whole % parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        Plan::new(&Command::parse_from(["bench"].into_iter().chain(arguments.split_whitespace())).args)
    }

    #[test]
    fn a_loop_is_closed_unless_a_rate_is_given() {
        assert_eq!(plan("").expect("right").pace, Pace::Closed { inflight: 4_096 });
        assert_eq!(plan("--inflight 9").expect("right").pace, Pace::Closed { inflight: 9 });
        assert_eq!(plan("--rate 9").expect("right").pace, Pace::Open { rate: 9 });
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let zero = |option| PlanError::Zero { option };
        let too_many = |option, value, limit| PlanError::TooMany { option, value, limit };
        let most = 1 << 20;
        for (arguments, error) in [
            ("--inflight 1 --rate 1", PlanError::BothLoops),
            ("--inflight 0", zero("--inflight")),
            ("--rate 0", zero("--rate")),
            ("--size 0", zero("--size")),
            ("--producers 0", zero("--producers")),
            ("--topics 0", zero("--topics")),
            ("--seconds 0", zero("--seconds")),
            ("--rate 10000001", too_many("--rate", 10_000_001, 10_000_000)),
            ("--inflight 1048577", too_many("--inflight", most + 1, most)),
            ("--producers 1025", too_many("--producers", 1_025, 1_024)),
            ("--topics 65537", too_many("--topics", 65_537, 65_536)),
            ("--seconds 3601", too_many("--seconds", 3_601, 3_600)),
            ("--warmup 3601", too_many("--warmup", 3_601, 3_600)),
            ("--size 31745", PlanError::EventTooLarge { size: 31_745 }),
            ("--inflight 3 --producers 4", PlanError::TooFewForAll { producers: 4, inflight: 3 }),
            ("--inflight 16913 --size 31744", PlanError::TooManyBytes { inflight: 16_913, size: 31_744 }),
            ("--rate 10000000 --seconds 600", PlanError::TooManyEvents { events: 6_020_000_000 }),
            ("--name=", PlanError::Name),
        ] {
            assert_eq!(plan(arguments).expect_err(arguments), error, "{arguments}");
        }
        let long = "n".repeat(MAX_TOPIC - 2);
        assert!(plan(&format!("--name {long} --topics 10")).is_ok());
        assert_eq!(plan(&format!("--name {long} --topics 11")).expect_err("one too long"), PlanError::Name);
    }

    #[test]
    fn the_largest_of_everything_is_right() {
        plan("--inflight 16912 --size 31744").expect("512 MiB");
        plan("--rate 10000000 --seconds 400 --warmup 0").expect("less than 2^32 events");
        plan("--producers 1024 --topics 65536 --seconds 3600 --warmup 3600").expect("the limits themselves");
    }

    #[test]
    fn what_is_under_way_is_shared_evenly() {
        let shares: Vec<_> = (0..3).map(|number| share(4_096, 3, number)).collect();
        assert_eq!(shares, [1_366, 1_365, 1_365]);
        let plan = plan("--inflight 4096 --producers 3 --size 100").expect("right");
        assert_eq!(plan.window_events(), 1_366);
        assert!(plan.window_bytes() >= 1_366 * (100 + 57 + 200), "each event in a frame of its own");
    }
}
