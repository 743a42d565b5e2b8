//! Pages of queries: each criterion has an index, and the narrowest one leads.

use rusqlite::{Connection, Row, types::Value};

use super::{
    rows::{Header, columns, term},
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::RunId,
    store::{Cursor, Filter, Listed, Page, Unreadable, id_of},
};

/// The tables that a query goes through, and in which order; what all of them go on with is the
/// row `f` of the run, by its id.
const BY_METADATA: &str = "suspended_flow_metadata m CROSS JOIN suspended_flows f ON f.id = m.run";
const BY_TOOL: &str = "suspended_flow_waits w CROSS JOIN suspended_flows f ON f.id = w.run";
const BY_FLOW: &str = "suspended_flows f INDEXED BY suspended_flows_by_flow";
const BY_STATUS: &str = "suspended_flows f INDEXED BY suspended_flows_by_status";
const BY_ID: &str = "suspended_flows f";

/// A statement in the making.
#[derive(Clone)]
struct Select {
    from: &'static str,
    /// The column that holds the run's id in the leading table, in whose order rows come.
    id: &'static str,
    conditions: Vec<&'static str>,
    values: Vec<Value>,
}

impl Select {
    fn new(from: &'static str, id: &'static str) -> Self {
        Self { from, id, conditions: Vec::new(), values: Vec::new() }
    }

    fn and(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition);
        self.values.extend(values);
    }

    fn sql(&self) -> String {
        let Self { from, id, conditions, .. } = self;
        let conditions = conditions.join(" AND ");
        let columns = columns!();
        format!("SELECT {columns} FROM {from} WHERE {conditions} ORDER BY {id} DESC LIMIT ?")
    }
}

/// Lists a page, in one transaction of the connection.
pub(super) fn query(
    connection: &Connection,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, Trouble> {
    // One more than asked for tells whether there is a next page.
    let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut found = Vec::new();
    for select in selects(filter, after) {
        let mut statement = connection.prepare_cached(&select.sql())?;
        let values = select.values.into_iter().chain([Value::Integer(wanted)]);
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            found.push(listed(connection, row)?);
        }
    }
    found.sort_by_key(|listed| std::cmp::Reverse(id_of(listed)));
    Ok(Page::of(found.into_iter(), limit))
}

/// One row that does not read back must not hide all the others.
fn listed(connection: &Connection, row: &Row<'_>) -> Result<Listed, Trouble> {
    match Header::from_row(row) {
        Err(trouble @ Trouble::Damaged(_)) => {
            let id = RunId::from_bytes(row.get(0)?);
            let (path, hex) = (connection.path().unwrap_or_default(), hex::encode(id.as_bytes()));
            let place = format!("the row of suspended_flows in {path} with id = x'{hex}'");
            Ok(Err(Unreadable::new(id, place, trouble)))
        }
        header => Ok(Ok(header?.into_summary())),
    }
}

/// The statements whose rows, put together, are what matches; each gives its rows newest first.
///
/// There are several where statuses are listed one by one, so that each comes in order of ids.
fn selects(filter: &Filter, after: Option<Cursor>) -> Vec<Select> {
    let mut select = leading(filter);
    let by_status = matches!(select.from, BY_FLOW | BY_STATUS);
    bound(&mut select, filter, after);
    if let (Some(flow), false) = (&filter.flow_id, select.from == BY_FLOW) {
        select.and("f.flow_id = ?", [text(flow.as_str())]);
    }
    if !by_status {
        if !filter.status.is_empty() {
            let names: Vec<_> = filter.status.iter().map(|status| status.as_str()).collect();
            let names = serde_json::json!(names).to_string();
            select.and("f.status IN (SELECT value FROM json_each(?))", [Value::Text(names)]);
        }
        return vec![select];
    }
    let all = RunStatus::ALL.into();
    let statuses = if filter.status.is_empty() { &all } else { &filter.status };
    let of = |status: &RunStatus| {
        let mut select = select.clone();
        select.and("f.status = ?", [text(status.as_str())]);
        select
    };
    statuses.iter().map(of).collect()
}

/// Begins with the criterion whose index leads, and adds what is asked of metadata and waits.
fn leading(filter: &Filter) -> Select {
    let mut metadata = filter.metadata.iter();
    let mut select = if let Some((name, value)) = metadata.next() {
        let mut select = Select::new(BY_METADATA, "m.run");
        select.and("m.name = ? AND m.value = ?", [text(name), Value::Blob(term(value))]);
        select
    } else if let Some(tool) = &filter.tool_id {
        let mut select = Select::new(BY_TOOL, "w.run");
        select.and("w.tool_id = ?", [text(tool.as_str())]);
        return only_first_wait(select, filter);
    } else if let Some(flow) = &filter.flow_id {
        let mut select = Select::new(BY_FLOW, "f.id");
        select.and("f.flow_id = ?", [text(flow.as_str())]);
        select
    } else if !filter.status.is_empty() {
        Select::new(BY_STATUS, "f.id")
    } else {
        let mut select = Select::new(BY_ID, "f.id");
        if filter.concerns_waits() {
            let (from, to) = deadlines(filter);
            select.and(
                "f.id IN (SELECT run FROM suspended_flow_waits \
                 WHERE expires_at >= ? AND expires_at <= ?)",
                [Value::Integer(from), Value::Integer(to)],
            );
        }
        return select;
    };
    for (name, value) in metadata {
        select.and(
            "EXISTS (SELECT 1 FROM suspended_flow_metadata o \
             WHERE o.name = ? AND o.value = ? AND o.run = f.id)",
            [text(name), Value::Blob(term(value))],
        );
    }
    if filter.concerns_waits() {
        any_wait(&mut select, filter);
    }
    select
}

/// A run with several such waits is listed once: for the first of them.
fn only_first_wait(mut select: Select, filter: &Filter) -> Select {
    if filter.expires_after.is_none() && filter.expires_before.is_none() {
        select.and(
            "NOT EXISTS (SELECT 1 FROM suspended_flow_waits o \
             WHERE o.tool_id = w.tool_id AND o.run = w.run AND o.place < w.place)",
            [],
        );
        return select;
    }
    let (from, to) = deadlines(filter);
    let range = || [Value::Integer(from), Value::Integer(to)];
    select.and("w.expires_at >= ? AND w.expires_at <= ?", range());
    select.and(
        "NOT EXISTS (SELECT 1 FROM suspended_flow_waits o \
         WHERE o.tool_id = w.tool_id AND o.run = w.run AND o.place < w.place \
         AND o.expires_at >= ? AND o.expires_at <= ?)",
        range(),
    );
    select
}

/// What holds of a row with such a wait, and of one whose waits do not read back: that would fail
/// the query for all others.
macro_rules! each_wait {
    ($such:literal) => {
        concat!(
            "CASE WHEN json_valid(f.waits) THEN EXISTS (SELECT 1 FROM json_each(f.waits) o \
             WHERE CASE o.type WHEN 'object' THEN ",
            $such,
            " ELSE TRUE END) ELSE TRUE END"
        )
    };
}

/// Asks the row itself about its waits, where another criterion leads.
fn any_wait(select: &mut Select, filter: &Filter) {
    let tool = filter.tool_id.as_ref().map_or(Value::Null, |tool| text(tool.as_str()));
    if filter.expires_after.is_none() && filter.expires_before.is_none() {
        select.and(each_wait!("o.value ->> 'tool_id' = ?"), [tool]);
        return;
    }
    let (from, to) = deadlines(filter);
    select.and(
        each_wait!(
            "ifnull(o.value ->> 'tool_id' = ?, TRUE) \
             AND o.value ->> 'expires_at' >= ? AND o.value ->> 'expires_at' <= ?"
        ),
        [tool, Value::Integer(from), Value::Integer(to)],
    );
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

/// Keeps to the ids between the times asked for, and before the cursor.
fn bound(select: &mut Select, filter: &Filter, after: Option<Cursor>) {
    // Greater than all ids, which are shorter.
    let beyond = || Value::Blob(vec![0xff; 17]);
    let floor = |at: Timestamp| match RunId::floor(at) {
        id if id.created_at() < at => beyond(),
        id => Value::Blob(id.as_bytes().to_vec()),
    };
    let first = filter.created_after.map_or(Value::Blob(Vec::new()), floor);
    let before_time = filter.created_before.map_or_else(beyond, floor);
    let before_cursor = after.map_or_else(beyond, |Cursor(id)| Value::Blob(id.as_bytes().to_vec()));
    let end = match (&before_time, &before_cursor) {
        (Value::Blob(time), Value::Blob(cursor)) if time < cursor => before_time,
        _ => before_cursor,
    };
    // What is no id of a run is no record: nobody can name it.
    let condition = match select.id {
        "m.run" => "m.run >= ? AND m.run < ? AND length(m.run) = 16",
        "w.run" => "w.run >= ? AND w.run < ? AND length(w.run) = 16",
        _ => "f.id >= ? AND f.id < ? AND length(f.id) = 16",
    };
    select.and(condition, [first, end]);
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The plans of a query, for the test that none of them scans.
    pub(in super::super) fn plans(connection: &Connection, filter: &Filter) -> Vec<String> {
        let mut plans = Vec::new();
        for select in selects(filter, Some(Cursor(RunId::from_bytes([7; 16])))) {
            let mut statement =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {}", select.sql())).expect("plan");
            let values = select.values.into_iter().chain([Value::Integer(1)]);
            let lines = statement
                .query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3))
                .expect("plan");
            plans.extend(lines.map(|line| line.expect("a line")));
        }
        plans
    }
}
