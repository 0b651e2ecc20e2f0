//! The machine under test: a replica that is given no memory after its start.

use crate::allocator::without_memory;
use crate::disk::{Disk, Row as DiskRow};
use core::ops::Deref;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::NodeId;
use eventstream_core::raft::{
    Change, ChangeError, EntryMeta, LogPosition, Message, Placed, ProposeError, ReadError, ReadTicket, Rejected, Taken,
    Token, TransferError, Transition,
};
use eventstream_core::replica::{
    ApplyError, Command, Entry, Lent, MAX_ROW_LEN, Outcomes, Output, Replica, RestoreError, RestoredLog, Restoring,
    Row, RowKey, Stamp, TopicSlot,
};
use eventstream_core::time::Instant;
use eventstream_core::wire::Batch;

/// What it works in.
pub(crate) type Memory = Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>;

/// Getters are the replica's own. Whatever changes it goes through [`without_memory`].
#[derive(Debug)]
pub(crate) struct Machine(Replica<Memory>);

impl Machine {
    pub(crate) fn start(restoring: Restoring<Memory>, log: RestoredLog, now: Instant) -> Result<Self, RestoreError> {
        without_memory(|| restoring.start(log, now)).map(Self)
    }

    pub(crate) fn install_snapshot(
        &mut self,
        now: Instant,
        last: LogPosition,
        rows: &[DiskRow],
    ) -> Result<(), RestoreError> {
        let key = |bytes| RowKey::from_bytes(bytes).expect("was written so");
        let rows = rows.iter().map(|(bytes, value)| (key(bytes), value.as_slice()));
        without_memory(|| self.0.install_snapshot(now, last, rows))
    }

    pub(crate) fn state_hash(&self) -> u64 {
        without_memory(|| self.0.state_hash())
    }
}

impl Deref for Machine {
    type Target = Replica<Memory>;

    fn deref(&self) -> &Replica<Memory> {
        &self.0
    }
}

macro_rules! calls {
    ($(fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) $(-> $output:ty)?;)*) => {
        impl Machine {
            $(pub(crate) fn $name(&mut self, $($argument: $type),*) $(-> $output)? {
                without_memory(|| self.0.$name($($argument),*))
            })*
        }
    };
}

calls! {
    fn handle_message(&mut self, now: Instant, message: &Message, entries: &[EntryMeta], configurations: &[Placed],
        disk: &Disk) -> Result<Taken, Rejected>;
    fn handle_timeout(&mut self, now: Instant);
    fn handle_persisted(&mut self, now: Instant, token: Token);
    fn handle_connected(&mut self, now: Instant, peer: NodeId);
    fn handle_disconnected(&mut self, now: Instant, peer: NodeId);
    fn handle_reset(&mut self, now: Instant, peer: NodeId);
    fn set_wall_clock(&mut self, now: Instant, wall_us: u64);
    fn propose_batch(&mut self, now: Instant, batch: &Batch<'_>) -> Result<Stamp, ProposeError>;
    fn propose_command(&mut self, now: Instant, command: &Command) -> Result<Stamp, ProposeError>;
    fn poll_command(&mut self, now: Instant) -> Option<Command>;
    fn propose_change(&mut self, now: Instant, changes: &[Change], transition: Transition)
        -> Result<LogPosition, ChangeError>;
    fn propose_leave_joint(&mut self, now: Instant) -> Result<LogPosition, ChangeError>;
    fn read_index(&mut self, now: Instant) -> Result<ReadTicket, ReadError>;
    fn transfer_leadership(&mut self, now: Instant, to: Option<NodeId>) -> Result<NodeId, TransferError>;
    fn poll_output(&mut self, disk: &Disk) -> Option<Output>;
    fn apply(&mut self, entry: &Entry<'_>, outcomes: &mut Outcomes) -> Result<(), ApplyError>;
    fn poll_row(&mut self, buffer: &mut [u8; MAX_ROW_LEN]) -> Option<Row>;
}
