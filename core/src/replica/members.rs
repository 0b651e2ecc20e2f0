//! The members, as the applied part of the log has them.

use super::checkpoint::{RestoreError, RowKey};
use crate::digest::Digest;
use crate::id::Index;
use crate::raft::{Configuration, MAX_CONFIGURATION_LEN, Placed};
use serde::{Deserialize, Serialize};

/// Bytes of the longest row.
pub(super) const MAX_MEMBERS_LEN: usize = 10 + 2 + MAX_CONFIGURATION_LEN;

/// The configuration of the last entry applied that holds one, and its digest.
#[derive(Default)]
pub(super) struct Members {
    placed: Option<Placed>,
    digest: u64,
    /// No checkpoint has it.
    changed: bool,
}

/// Its row.
#[derive(Serialize, Deserialize)]
pub(super) struct MembersRow<'a> {
    index: Index,
    configuration: &'a [u8],
}

impl Members {
    /// Those of an entry that is applied.
    pub(super) fn new(placed: Placed) -> Self {
        let mut buffer = [0; MAX_CONFIGURATION_LEN];
        let MembersRow { index, configuration } = row(&placed, &mut buffer);
        let digest = Digest::new(0).number(index.0).bytes(configuration).value();
        Self { placed: Some(placed), digest, changed: true }
    }

    /// `None` if no entry that is applied holds any.
    pub(super) const fn placed(&self) -> Option<Placed> {
        self.placed
    }

    /// `digest`, and these members, if there are any.
    pub(super) fn add_to(&self, digest: Digest) -> Digest {
        if self.placed.is_some() { digest.number(self.digest) } else { digest }
    }

    /// The row, made in `buffer`, if a checkpoint is to have it.
    pub(super) fn poll_changed<'a>(&mut self, buffer: &'a mut [u8; MAX_CONFIGURATION_LEN]) -> Option<MembersRow<'a>> {
        let placed = self.placed.as_ref().filter(|_| core::mem::take(&mut self.changed))?;
        Some(row(placed, buffer))
    }

    pub(super) fn restore(&MembersRow { index, configuration }: &MembersRow<'_>) -> Result<Self, RestoreError> {
        let malformed = |_| RestoreError::RowMalformed { key: RowKey::Configuration };
        let configuration = Configuration::decode(configuration).map_err(malformed)?;
        Ok(Self { changed: false, ..Self::new(Placed { index, configuration }) })
    }
}

fn row<'a>(placed: &Placed, buffer: &'a mut [u8; MAX_CONFIGURATION_LEN]) -> MembersRow<'a> {
    let len = placed.configuration.encode(buffer);
    MembersRow { index: placed.index, configuration: &buffer[..len] }
}
