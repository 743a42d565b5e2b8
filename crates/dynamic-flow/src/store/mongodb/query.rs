//! Pages of runs, newest first.

use futures::TryStreamExt as _;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::{
    connection::Connection,
    document::{decode_summary, id, read_id, required, scalar, summary_fields},
    trouble::Trouble,
};
use crate::{
    clock::Timestamp,
    engine::RunStatus,
    id::RunId,
    store::{Cursor, Filter, Listed, Page, Unreadable},
    wait::Scalar,
};

pub(super) async fn query(
    connection: &Connection,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, Trouble> {
    let Some(wanted) = criteria(filter, after) else {
        return Ok(Page::default());
    };
    let mut find = connection
        .records
        .find(wanted)
        .sort(doc! { "_id": -1 })
        .projection(summary_fields())
        .read_concern(connection.settled.clone())
        .max_time(connection.timeout);
    // One more than asked for tells whether there is a next page; so many that no server has them
    // are all.
    if let Ok(limit) = i32::try_from(limit.saturating_add(1)) {
        find = find.limit(limit.into());
    }
    let found: Vec<RawDocumentBuf> = find.await?.try_collect().await?;
    let found = found.iter().map(|doc| listed(connection, doc)).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::of(found.into_iter(), limit))
}

/// One document that does not read back must not hide all the others.
fn listed(connection: &Connection, doc: &RawDocument) -> Result<Listed, Trouble> {
    match decode_summary(doc) {
        Err(trouble @ Trouble::Damaged(_)) => {
            let id = required(doc, "_id", read_id)?;
            let collection = connection.records.namespace();
            let place = format!("the document of {collection} with _id = UUID(\"{id}\")");
            Ok(Err(Unreadable::new(id, place, trouble)))
        }
        summary => Ok(Ok(summary?)),
    }
}

/// What a document must be like; none if nothing can be.
///
/// Values stand behind operators, so that none is taken for one.
fn criteria(filter: &Filter, after: Option<Cursor>) -> Option<Document> {
    let mut all = vec![doc! { "_id": ids(filter, after)? }];
    if let Some(flow) = &filter.flow_id {
        all.push(doc! { "flowId": { "$eq": flow.as_str() } });
    }
    // The index of a flow's runs is in order for each status: where any will do, all are named.
    let statuses: Vec<_> = match filter.status.is_empty() {
        false => filter.status.iter().map(|status| status.as_str()).collect(),
        true if filter.flow_id.is_some() => RunStatus::ALL.map(RunStatus::as_str).into(),
        true => Vec::new(),
    };
    match statuses.as_slice() {
        [] => {}
        [status] => all.push(doc! { "status": { "$eq": *status } }),
        statuses => all.push(doc! { "status": { "$in": statuses } }),
    }
    for (name, value) in &filter.metadata {
        all.push(doc! { "metadata": { "$elemMatch": entry(name, value) } });
    }
    if filter.concerns_waits() {
        all.push(doc! { "waits": { "$elemMatch": wait(filter) } });
    }
    Some(doc! { "$and": all })
}

/// A server takes `1` and `1.0` for equal; we do not.
fn entry(name: &str, value: &Scalar) -> Document {
    let kind = match value {
        Scalar::Bool(_) => "bool",
        Scalar::Int(_) => "long",
        Scalar::Float(_) => "double",
        Scalar::Text(_) => "string",
    };
    doc! { "n": { "$eq": name }, "v": { "$eq": scalar(value), "$type": kind } }
}

/// What one and the same wait must be like.
fn wait(filter: &Filter) -> Document {
    let mut wait = Document::new();
    if let Some(tool) = &filter.tool_id {
        wait.insert("toolId", doc! { "$eq": tool.as_str() });
    }
    let mut ends = Document::new();
    if let Some(at) = filter.expires_after {
        ends.insert("$gte", at.as_millis());
    }
    if let Some(at) = filter.expires_before {
        ends.insert("$lt", at.as_millis());
    }
    if !ends.is_empty() {
        wait.insert("expiresAt", ends);
    }
    wait
}

/// The ids between the times asked for, and before the cursor.
fn ids(filter: &Filter, after: Option<Cursor>) -> Option<Document> {
    let first = match filter.created_after {
        // No run is created after the last time that an id can have.
        Some(at) => floor(at)?,
        None => RunId::from_bytes([0; 16]),
    };
    let before = [filter.created_before.and_then(floor), after.map(|Cursor(id)| id)];
    let last: (&str, Bson) = match before.into_iter().flatten().min() {
        Some(end) => ("$lt", id(end)),
        // What is no id of ours is out of bounds on either side.
        None => ("$lte", id(RunId::from_bytes([0xff; 16]))),
    };
    Some(doc! { "$gte": id(first), last.0: last.1 })
}

/// The least id of a run created at that time or later; none if no id is that late.
fn floor(at: Timestamp) -> Option<RunId> {
    let id = RunId::floor(at);
    (id.created_at() >= at).then_some(id)
}
