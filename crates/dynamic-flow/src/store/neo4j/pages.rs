//! Pages of queries: an index leads, and gives the runs in the order in which they are listed.
//!
//! There is one statement for each index that may lead, whatever else is asked for: the server
//! keeps their plans.

use neo4rs::{BoltNull, BoltType};

use super::{
    names::Names,
    rows::{PLAIN, entry, id_text, size},
    statement::Statement,
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::RunId,
    store::{Cursor, Filter},
};

/// How many waits with such a deadline are put in order, at the most; where there are more, runs
/// are looked at from the newest on, and a page is soon full.
pub(super) const FEW_DEADLINES: i64 = 1_000;

/// What leads a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    Metadata,
    Tool,
    Flow,
    Status,
    Deadline,
    Id,
}

impl Lead {
    fn of(filter: &Filter, few_deadlines: bool) -> Self {
        if !filter.metadata.is_empty() {
            Self::Metadata
        } else if filter.tool_id.is_some() {
            Self::Tool
        } else if filter.flow_id.is_some() {
            Self::Flow
        } else if !filter.status.is_empty() {
            Self::Status
        } else if filter.concerns_waits() && few_deadlines {
            Self::Deadline
        } else {
            Self::Id
        }
    }
}

/// Counts the waits with such a deadline, but not on and on; none where that need not be known.
pub(super) fn count_deadlines(names: &Names, filter: &Filter) -> Option<Statement> {
    if Lead::of(filter, true) != Lead::Deadline {
        return None;
    }
    let waits_for = &names.waits_for;
    let text = format!(
        "MATCH ()-[w:{waits_for}]->() USING INDEX SEEK w:{waits_for}(expiresAt) \
         WHERE w.expiresAt >= $p.from AND w.expiresAt <= $p.to WITH w LIMIT $p.most \
         RETURN count(w) AS count"
    );
    let (from, to) = deadlines(filter);
    let query = Statement::new(text).param("from", from).param("to", to);
    Some(query.param("most", FEW_DEADLINES + 1))
}

/// So many runs, newest first. `few_deadlines`: whether few waits have the deadlines that are asked
/// for.
pub(super) fn page(
    names: &Names,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
    few_deadlines: bool,
) -> Result<Statement, Trouble> {
    let lead = Lead::of(filter, few_deadlines);
    let entries = filter.metadata.iter().map(|(name, value)| entry(name, value));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?.into_iter();
    let leading_entry = entries.next();
    let other_entries: Vec<_> = entries.collect();
    let timed = filter.expires_after.is_some() || filter.expires_before.is_some();
    let times = if timed { Some(deadlines(filter)) } else { None };
    let (first, end) = ids(filter, after);
    Ok(Statement::new(text(names, lead, filter.concerns_waits()))
        .param("limit", size(limit))
        .param("first", first)
        .param("end", end)
        .maybe("entry", leading_entry)
        .param("others", other_entries)
        .maybe("tool", filter.tool_id.as_ref().map(|tool| tool.as_str()))
        .maybe("from", times.map(|(from, _)| from))
        .maybe("to", times.map(|(_, to)| to))
        .maybe("flow", filter.flow_id.as_ref().map(|flow| flow.as_str()))
        .param("statuses", statuses(filter, lead)))
}

/// The statuses that are asked for, nothing if any will do; where they are looked for one by one,
/// there and back, so that a run that goes from one to another is not missed on its way.
fn statuses(filter: &Filter, lead: Lead) -> BoltType {
    let names = |of: &mut dyn Iterator<Item = RunStatus>| -> Vec<String> {
        of.map(|status| status.as_str().to_owned()).collect()
    };
    let mut of = names(&mut filter.status.iter().copied());
    if !matches!(lead, Lead::Flow | Lead::Status) {
        return if of.is_empty() { BoltType::Null(BoltNull) } else { of.into() };
    }
    if of.is_empty() {
        of = names(&mut RunStatus::ALL.into_iter());
    }
    let back: Vec<_> = of.iter().rev().skip(1).cloned().collect();
    of.extend(back);
    of.into()
}

fn text(Names { run, waits_for, has, .. }: &Names, lead: Lead, of_waits: bool) -> String {
    let flow = "($p.flow IS NULL OR f.flowId = $p.flow)";
    let status = "($p.statuses IS NULL OR f.status IN $p.statuses)";
    let time = "($p.from IS NULL OR (w.expiresAt >= $p.from AND w.expiresAt <= $p.to))";
    // Asked for only where it must be: the planner puts a condition that may be none before all
    // others, and does not seek for these any more.
    let wait = if of_waits {
        format!(
            "AND EXISTS {{ (f)-[w:{waits_for}]->() \
             WHERE ($p.tool IS NULL OR w.tool = $p.tool) AND {time} }}"
        )
    } else {
        String::new()
    };
    match lead {
        Lead::Id => format!(
            "MATCH (f:{run}) USING INDEX SEEK f:{run}(id) \
             WHERE f.id >= $p.first AND f.id < $p.end {wait} \
             WITH f ORDER BY f.id DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
        Lead::Flow => format!(
            "UNWIND $p.statuses AS status \
             CALL (status) {{ \
               MATCH (f:{run}) USING INDEX SEEK f:{run}(flowId, status, id) \
               WHERE f.flowId = $p.flow AND f.status = status AND f.id >= $p.first AND f.id < $p.end {wait} \
               RETURN f ORDER BY f.flowId DESC, f.status DESC, f.id DESC LIMIT $p.limit \
             }} \
             WITH DISTINCT f, f.id AS id ORDER BY id DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
        Lead::Status => format!(
            "UNWIND $p.statuses AS status \
             CALL (status) {{ \
               MATCH (f:{run}) USING INDEX SEEK f:{run}(status, id) \
               WHERE f.status = status AND f.id >= $p.first AND f.id < $p.end {wait} \
               RETURN f ORDER BY f.status DESC, f.id DESC LIMIT $p.limit \
             }} \
             WITH DISTINCT f, f.id AS id ORDER BY id DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
        // A run with several such waits is listed once.
        Lead::Tool => format!(
            "MATCH (f:{run})-[w:{waits_for}]->() USING INDEX SEEK w:{waits_for}(tool, run) \
             WHERE w.tool = $p.tool AND w.run >= $p.first AND w.run < $p.end \
               AND {time} AND {flow} AND {status} \
             WITH DISTINCT f, w.tool AS tool, w.run AS run \
             ORDER BY tool DESC, run DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
        Lead::Deadline => format!(
            "MATCH (f:{run})-[w:{waits_for}]->() USING INDEX SEEK w:{waits_for}(expiresAt) \
             WHERE w.expiresAt >= $p.from AND w.expiresAt <= $p.to AND w.run >= $p.first AND w.run < $p.end \
             WITH DISTINCT f, w.run AS run ORDER BY run DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
        Lead::Metadata => format!(
            "MATCH (f:{run})-[h:{has}]->() USING INDEX SEEK h:{has}(entry, run) \
             WHERE h.entry = $p.entry AND h.run >= $p.first AND h.run < $p.end \
               AND all(other IN $p.others WHERE EXISTS {{ (f)-[o:{has}]->() WHERE o.entry = other }}) \
               AND {flow} AND {status} {wait} \
             WITH f, h.entry AS entry, h.run AS run \
             ORDER BY entry DESC, run DESC LIMIT $p.limit RETURN {PLAIN}"
        ),
    }
}

/// The first and the last deadline that match.
fn deadlines(filter: &Filter) -> (i64, i64) {
    let from = filter.expires_after.map_or(i64::MIN, Timestamp::as_millis);
    match filter.expires_before.map(Timestamp::as_millis) {
        // Nothing is before the first of all times.
        Some(i64::MIN) => (i64::MAX, i64::MIN),
        Some(before) => (from, before - 1),
        None => (from, i64::MAX),
    }
}

/// The ids between the times asked for and before the cursor: from the first to before the second.
fn ids(filter: &Filter, after: Option<Cursor>) -> (String, String) {
    // After all ids, which are of hexadecimal digits.
    let beyond = || "g".to_owned();
    let floor = |at: Timestamp| match RunId::floor(at) {
        id if id.created_at() < at => beyond(),
        id => id_text(id),
    };
    let first = filter.created_after.map_or_else(String::new, floor);
    let before_time = filter.created_before.map_or_else(beyond, floor);
    let before_cursor = after.map_or_else(beyond, |Cursor(id)| id_text(id));
    (first, before_time.min(before_cursor))
}
