//! What goes over the wire and into the log: frames, batches and control messages.
//!
//! A [`Frame`] is a [`Header`] of 48 bytes, a payload and an end marker. The payload of a log entry of kind
//! [`Kind::Batch`] is a [`Batch`]: runs of records. The payload of a control message is one [`Control`]. Reading
//! borrows from the received bytes and copies nothing; whatever the bytes are, the answer is a value or a typed error.
//!
//! A reader takes frames from a stream like this:
//!
//! ```
//! use eventstream_core::crc::Crc32;
//! use eventstream_core::id::ShardId;
//! use eventstream_core::wire::{Batch, Control, Frame, Kind, Ping, peek};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let crc = Crc32::portable();
//! let mut received = [0; 200];
//! let written = Control::Ping(Ping { number: 7 }).encode(ShardId(0), &mut received, crc)?;
//!
//! // As soon as 48 bytes are there, their header tells how many to wait for.
//! let header = peek(&received[..written], crc)?.expect("the header is complete");
//! let frame = Frame::complete(header, &received[..header.frame_len()], crc)?;
//! match frame.header().kind {
//!     Kind::Batch => {
//!         let batch = Batch::check(frame.payload(), frame.header().event_count)?;
//!         for run in batch.runs() {
//!             println!("{} events of {}", run.head().count, run.head().topic);
//!         }
//!     }
//!     kind => assert_eq!(Control::decode(kind, frame.payload())?, Control::Ping(Ping { number: 7 })),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The format in prose is `docs/protocol.md`.

mod batch;
mod check;
mod control;
mod counter;
mod cursor;
mod frame;
mod header;
mod kind;
mod list;
mod message;
mod run;
mod status;
mod stream;

pub use batch::{Batch, BatchError, Runs};
pub use check::Check;
pub use control::{Control, ControlError, EncodeError, MAX_CONTROL_LEN};
pub use counter::Counter;
pub use frame::{END_LEN, END_MARKER, Frame, MAX_FRAME_LEN, OVERHEAD, peek, seal, stamp};
pub use header::{FrameError, HEADER_LEN, Header, MAGIC, VERSION, field};
pub use kind::Kind;
pub use list::{Item, Items, List};
pub use message::{
    About, CaughtUp, Counters, CountersRequest, Delivery, EndReason, Hello, LeaderChanged, ListedTopic, Member,
    NamedCount, OpenProducer, Ping, Pong, ProducerOpened, Receipt, Refusal, Refused, Role, StartAt, StatusRequest,
    Subscribe, SubscriptionEnd, Token, Topic, TopicList, TopicListRequest, TopicRequest, Unsubscribe, Welcome,
};
pub use run::{Record, Records, Run, RunFlags, RunHead};
pub use status::{MemberStatus, NodeRole, NodeStatus, Status};
pub use stream::{ReadFrameError, read_frame};

pub(crate) use control::{decode_for_producer, encode_one};
pub(crate) use cursor::Writer;
pub(crate) use run::CountAndLen;
