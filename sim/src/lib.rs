//! Replays years of failures of a cluster in minutes.
//!
//! A *schedule* is a cluster of 1 to 5 members, each the [`replica`](eventstream_core::replica) that the host runs,
//! with producers, a subscriber, disks, clocks and a network, all simulated in virtual time and all decided by one seed:
//! the same seed gives the same steps. Which faults a schedule meets, how often and how hard, comes from the seed too.
//!
//! Every step checks the invariants of the design (section 10) as far as it may have changed something; at the end the
//! faults stop and the cluster has to come to itself within ten election timeouts. A schedule that breaks an invariant
//! is run again with a trace.
//!
//! ```
//! use eventstream_sim::{Rules, Simulator};
//!
//! let mut simulator = Simulator::new(Rules::default());
//! let stats = simulator.run(7).expect("no invariant is broken");
//! assert!(stats.steps >= 2_000);
//! ```

mod allocator;
mod chaos;
mod clock;
mod disk;
mod drive;
mod entries;
mod heal;
mod machine;
mod member;
mod model;
mod network;
mod oracle;
mod payload;
mod plan;
mod producer;
mod queue;
mod rng;
mod serve;
mod simulator;
mod snapshots;
mod stats;
mod subscriber;
mod trace;
mod violation;
mod world;

pub use eventstream_core::raft::{Fault as PlantedFault, Faults};
pub use simulator::{Failure, Report, Simulator, quiet_panics, run_many};
pub use stats::{Fault, Happening, Stats};
pub use trace::Trace;
pub use violation::{Invariant, Violation};
pub use world::Rules;
