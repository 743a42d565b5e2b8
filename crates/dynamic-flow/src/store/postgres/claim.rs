//! Claims: who gets which run to work on.

use tokio_postgres::{Row, types::Type};

use super::{
    connection::Statement,
    rows::{self, Id, all_columns, columns},
    tables::Tables,
    trouble::Trouble,
};
use crate::{
    engine::RunStatus,
    store::{Claim, Record, server::readable},
};

/// Gives runs that are due to the claimer; each row has a record's columns, and when it was due.
///
/// Each queue is read in order of due times, from its index. Candidates are more than are wanted,
/// so that those which others are claiming at this moment are passed over; what they have claimed
/// is looked at again, as it is now, and does not fit any more. It is looked at by id: `IS TRUE`
/// keeps the planner from reading the queues once more.
pub(super) fn claim<'a>(tables: &Tables, claim: &'a Claim) -> Statement<'a> {
    let mut it = Statement::new("");
    let limit = i64::try_from(claim.limit).unwrap_or(i64::MAX);
    let queues: Vec<_> = claim.queues.iter().map(|queue| &*queue.0).collect();
    let queues = it.bind(queues, Type::TEXT_ARRAY);
    let now = it.bind(claim.now.as_millis(), Type::INT8);
    let until = it.bind(claim.until().as_millis(), Type::INT8);
    let owner = it.bind(&*claim.owner, Type::TEXT);
    let wanted = it.bind(limit, Type::INT8);
    let except: Vec<_> = claim.except.iter().map(|run| Id(*run)).collect();
    let except = it.bind(except, Type::UUID_ARRAY);
    let candidates = it.bind(limit.saturating_mul(4).saturating_add(64), Type::INT8);
    let finals = RunStatus::ALL.iter().filter(|status| status.is_final());
    let finals: Vec<_> = finals.map(|status| format!("'{}'", status.as_str())).collect();
    // A run whose counters have come to their end would fail the claim for all others.
    let admitted = format!(
        "f.due_at <= {now} AND (f.lease_until IS NULL OR f.lease_until <= {now}) \
         AND f.revision < {end} AND f.epoch < {end}",
        end = i64::MAX
    );
    it.sql = format!(
        "WITH candidates AS MATERIALIZED ( \
           SELECT c.id FROM (SELECT DISTINCT unnest({queues}) AS queue) AS q \
           CROSS JOIN LATERAL ( \
             SELECT f.id, f.due_at FROM {flows} AS f \
               WHERE f.queue = q.queue AND {admitted} AND f.id <> ALL ({except}) \
             ORDER BY f.due_at LIMIT {candidates} \
           ) AS c ORDER BY c.due_at LIMIT {candidates} \
         ), due AS ( \
           SELECT f.id, f.due_at FROM candidates AS c JOIN {flows} AS f ON f.id = c.id \
           WHERE (f.queue = ANY ({queues}) AND {admitted}) IS TRUE \
           ORDER BY f.due_at LIMIT {wanted} FOR UPDATE OF f SKIP LOCKED \
         ) \
         UPDATE {flows} AS f SET \
           revision = f.revision + 1, epoch = f.epoch + 1, updated_at = {now}, due_at = {until}, \
           attempts = least(f.attempts + 1, {most}), lease_owner = {owner}, lease_until = {until}, \
           status = CASE WHEN f.status IN ({finals}) THEN f.status ELSE '{running}' END \
         FROM due WHERE f.id = due.id \
         RETURNING {columns}, due.due_at",
        flows = tables.flows,
        most = u32::MAX,
        finals = finals.join(", "),
        running = RunStatus::Running.as_str(),
        columns = all_columns!(),
    );
    it
}

/// Reads what was claimed: an update gives its rows in no order.
pub(super) fn in_order(rows: &[Row]) -> Result<Vec<Record>, Trouble> {
    let mut claimed = readable(rows.iter().map(|row| (rows::id(row).ok(), due(row))))?;
    claimed.sort_by_key(|(due_at, record)| (*due_at, record.id));
    Ok(claimed.into_iter().map(|(_, record)| record).collect())
}

/// A run, and when it was due.
fn due(row: &Row) -> Result<(i64, Record), Trouble> {
    Ok((rows::get(row, 16, "due_at")?, rows::record(row)?))
}
