//! Pages of queries: each criterion has an index that is read in the order of the page.
//!
//! Where one criterion leads, its key and the run's id are compared together, `(key, id) < (…)`,
//! and the order is that of both. So there is but one index for it, in which what matches stands
//! in a row: the planner can't take to reading runs from the newest on until it finds some that
//! match, which is quick where they are spread evenly, and very slow where they are all old.

use tokio_postgres::types::Type;

use super::{
    connection::Statement,
    rows::{Id, columns, entry},
    tables::Tables,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::RunId,
    store::{Cursor, Filter},
};

/// The ids between the times asked for and before the cursor.
struct Range {
    first: Option<RunId>,
    end: Option<RunId>,
}

/// The statement that lists a page and one run more; none if nothing can match.
pub(super) fn query<'a>(
    tables: &Tables,
    filter: &'a Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Option<Statement<'a>> {
    let range = range(filter, after)?;
    // Planned each time, because whether a value is rare or common makes the plan.
    let mut it = Statement::planned();
    let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let wanted = it.bind(wanted, Type::INT8);
    let select = Select { tables, filter, range, it };
    let of_run = filter.concerns_waits() || filter.flow_id.is_some() || !filter.status.is_empty();
    Some(if filter.metadata.len() == 1 && !of_run {
        select.by_entry(&wanted)
    } else if !filter.metadata.is_empty() {
        select.by_entries_and_more(&wanted)
    } else if filter.tool_id.is_some() {
        select.by_tool(&wanted)
    } else if filter.concerns_waits() && filter.flow_id.is_none() && filter.status.is_empty() {
        select.by_deadline(&wanted)
    } else if of_run {
        select.by_status(&wanted)
    } else {
        select.by_id(&wanted)
    })
}

/// The bounds of ids; none if no id is within them.
fn range(filter: &Filter, after: Option<Cursor>) -> Option<Range> {
    // A time after those that ids can have.
    let beyond = |at: Timestamp| RunId::floor(at).created_at() < at;
    let first = match filter.created_after {
        Some(at) if beyond(at) => return None,
        other => other.map(RunId::floor),
    };
    let before_time = filter.created_before.filter(|at| !beyond(*at)).map(RunId::floor);
    let before_cursor = after.map(|Cursor(id)| id);
    let end = match (before_time, before_cursor) {
        (Some(time), Some(cursor)) => Some(time.min(cursor)),
        (one, other) => one.or(other),
    };
    Some(Range { first, end })
}

/// A statement in the making.
struct Select<'a, 't> {
    tables: &'t Tables,
    filter: &'a Filter,
    range: Range,
    it: Statement<'a>,
}

impl<'a> Select<'a, '_> {
    /// The runs with an entry of metadata, from the newest on.
    fn by_entry(mut self, wanted: &str) -> Statement<'a> {
        let mut conditions = Vec::new();
        for (name, value) in &self.filter.metadata {
            let value = self.it.bind(entry(name, value), Type::TEXT);
            conditions.extend(self.among("m.entry", &value, "m.run"));
        }
        let Tables { flows, metadata, .. } = self.tables;
        let from = format!("{metadata} AS m JOIN {flows} AS f ON f.id = m.run");
        self.finish("", &from, &conditions, "m.entry DESC, m.run", wanted)
    }

    /// The runs with entries of metadata and whatever else is asked: the planner knows what is the
    /// rarest.
    fn by_entries_and_more(mut self, wanted: &str) -> Statement<'a> {
        let mut from = format!("{} AS f", self.tables.flows);
        let mut conditions = self.within("f.id");
        for (n, (name, value)) in self.filter.metadata.iter().enumerate() {
            let value = self.it.bind(entry(name, value), Type::TEXT);
            from.push_str(&format!(" JOIN {} AS m{n} ON m{n}.run = f.id", self.tables.metadata));
            conditions.push(format!("m{n}.entry = {value}"));
            conditions.extend(self.within(&format!("m{n}.run")));
        }
        conditions.extend(self.own());
        conditions.extend(self.any_wait());
        self.finish("", &from, &conditions, "f.id", wanted)
    }

    /// The runs with a wait of a tool, from the newest on; one with several such waits once.
    fn by_tool(mut self, wanted: &str) -> Statement<'a> {
        let mut conditions = Vec::new();
        if let Some(tool) = &self.filter.tool_id {
            let tool = self.it.bind(tool.as_str(), Type::TEXT);
            conditions.extend(self.among("w.tool_id", &tool, "w.run"));
        }
        conditions.extend(self.deadline());
        conditions.extend(self.own());
        let Tables { flows, waits, .. } = self.tables;
        let from = format!("{waits} AS w JOIN {flows} AS f ON f.id = w.run");
        let once = "DISTINCT ON (w.tool_id, w.run) ";
        self.finish(once, &from, &conditions, "w.tool_id DESC, w.run", wanted)
    }

    /// The runs with a wait that ends in time. The page is cut from the waits, which only parked runs
    /// have: runs that have ended since, however many, are not read.
    fn by_deadline(mut self, wanted: &str) -> Statement<'a> {
        let mut of_wait = self.deadline();
        of_wait.extend(self.within("w.run"));
        let Tables { flows, waits, .. } = self.tables;
        let from = format!(
            "(SELECT DISTINCT w.run FROM {waits} AS w WHERE {} ORDER BY w.run DESC LIMIT {wanted}) \
             AS w JOIN {flows} AS f ON f.id = w.run",
            of_wait.join(" AND ")
        );
        self.finish("", &from, &[], "f.id", wanted)
    }

    /// All runs, from the newest on.
    fn by_id(mut self, wanted: &str) -> Statement<'a> {
        let from = format!("{} AS f", self.tables.flows);
        let conditions = self.within("f.id");
        self.finish("", &from, &conditions, "f.id", wanted)
    }

    /// The runs of each status, from the newest on, put together: several statuses have no common
    /// order in an index. Where a wait has to end in time, too, the page is cut from ids, which the
    /// index alone gives, before runs are read.
    fn by_status(mut self, wanted: &str) -> Statement<'a> {
        let all: Vec<_> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        let asked: Vec<_> = self.filter.status.iter().map(|status| status.as_str()).collect();
        let statuses = if asked.is_empty() { all } else { asked };
        let statuses = self.it.bind(statuses, Type::TEXT_ARRAY);
        let (mut conditions, order) = match &self.filter.flow_id {
            // Not compared together with the status: an index is read on until the first of what is
            // compared differs, through all runs of the flow that have another status. And not by
            // `=`, for which the index of statuses, too, has the order that is wanted.
            Some(flow) => {
                let flow = self.it.bind(vec![flow.as_str()], Type::TEXT_ARRAY);
                let mut conditions = self.among("f.status", "s.status", "f.id");
                conditions.push(format!("f.flow_id = ANY ({flow})"));
                (conditions, "f.flow_id DESC, f.status DESC")
            }
            None => (self.among("f.status", "s.status", "f.id"), "f.status DESC"),
        };
        conditions.extend(self.any_wait());
        let (flows, conditions) = (&self.tables.flows, conditions.join(" AND "));
        let each = |columns| {
            format!(
                "unnest({statuses}) AS s(status) CROSS JOIN LATERAL ( \
                   SELECT {columns} FROM {flows} AS f WHERE {conditions} \
                   ORDER BY {order}, f.id DESC LIMIT {wanted} \
                 ) AS f"
            )
        };
        let from = if self.filter.concerns_waits() {
            format!(
                "(SELECT f.id FROM {} ORDER BY f.id DESC LIMIT {wanted}) AS page \
                 JOIN {flows} AS f ON f.id = page.id",
                each("f.id")
            )
        } else {
            each(columns!())
        };
        self.finish("", &from, &[], "f.id", wanted)
    }

    fn finish(
        self,
        distinct: &str,
        from: &str,
        conditions: &[String],
        order: &str,
        wanted: &str,
    ) -> Statement<'a> {
        let mut it = self.it;
        let columns = columns!();
        let filtered = if conditions.is_empty() { "" } else { " WHERE " };
        let conditions = conditions.join(" AND ");
        it.sql = format!(
            "SELECT {distinct}{columns} FROM {from}{filtered}{conditions} \
             ORDER BY {order} DESC LIMIT {wanted}"
        );
        it
    }

    /// What is asked of any of the run's waits.
    fn any_wait(&mut self) -> Option<String> {
        if !self.filter.concerns_waits() {
            return None;
        }
        let mut conditions = self.deadline();
        if let Some(tool) = &self.filter.tool_id {
            let tool = self.it.bind(tool.as_str(), Type::TEXT);
            conditions.push(format!("w.tool_id = {tool}"));
        }
        let (waits, conditions) = (&self.tables.waits, conditions.join(" AND "));
        Some(format!("EXISTS (SELECT 1 FROM {waits} AS w WHERE w.run = f.id AND {conditions})"))
    }

    /// What is asked of the run's own columns.
    fn own(&mut self) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Some(flow) = &self.filter.flow_id {
            let flow = self.it.bind(flow.as_str(), Type::TEXT);
            conditions.push(format!("f.flow_id = {flow}"));
        }
        if !self.filter.status.is_empty() {
            let names: Vec<_> = self.filter.status.iter().map(|status| status.as_str()).collect();
            let names = self.it.bind(names, Type::TEXT_ARRAY);
            conditions.push(format!("f.status = ANY ({names})"));
        }
        conditions
    }

    /// What is asked of the deadline of a wait.
    fn deadline(&mut self) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Some(after) = self.filter.expires_after {
            let after = self.it.bind(after.as_millis(), Type::INT8);
            conditions.push(format!("w.expires_at >= {after}"));
        }
        if let Some(before) = self.filter.expires_before {
            let before = self.it.bind(before.as_millis(), Type::INT8);
            conditions.push(format!("w.expires_at < {before}"));
        }
        conditions
    }

    /// Keeps to the ids of the page among those with the same key.
    fn among(&mut self, key: &str, value: &str, id: &str) -> Vec<String> {
        let first = self.range.first.unwrap_or(RunId::from_bytes([0; 16]));
        let (until, last) = match self.range.end {
            Some(end) => ("<", end),
            None => ("<=", RunId::from_bytes([0xff; 16])),
        };
        let mut than = |how: &str, than: RunId| {
            let than = self.it.bind(Id(than), Type::UUID);
            format!("({key}, {id}) {how} ({value}, {than})")
        };
        vec![than(">=", first), than(until, last)]
    }

    /// Keeps to the ids of the page.
    fn within(&mut self, id: &str) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Some(first) = self.range.first {
            let first = self.it.bind(Id(first), Type::UUID);
            conditions.push(format!("{id} >= {first}"));
        }
        if let Some(end) = self.range.end {
            let end = self.it.bind(Id(end), Type::UUID);
            conditions.push(format!("{id} < {end}"));
        }
        conditions
    }
}
