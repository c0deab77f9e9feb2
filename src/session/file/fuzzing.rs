//! Rows of the file, for the fuzz targets alone.

use std::num::NonZeroUsize;

use super::sealed_table::{SealedTable, SealedValue};
use crate::{id::AgentId, session::SealedKind};

/// The row that is written of a sealed value that was in a row. `None` if that is no row.
pub fn row_again(agent: AgentId, row: &[u8]) -> Option<Vec<u8>> {
    let (table, value) = (SealedTable::new(NonZeroUsize::MIN), SealedValue::parse(row)?);
    table.take_in(SealedKind::Rejected, agent, value);
    table.row(SealedKind::Rejected, agent)
}
