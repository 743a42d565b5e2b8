//! The collection, its indexes, and the version of its schema.

use std::time::Duration;

use futures::TryStreamExt as _;
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc},
    options::{CollectionOptions, IndexOptions, ReadConcern},
    results::{CollectionSpecification, CollectionType},
};

use super::{connection::Connection, trouble::Trouble};

/// The version of the form that this program writes.
const VERSION: i64 = 1;

/// The indexes by their names, each with its fields in order.
///
/// The key of a run is `_id`, which also sorts by time of creation: its own index is the unique
/// one, and the one by `createdAt`. Where a field that many runs share leads, `_id` follows, so
/// that pages come in order from the index.
const INDEXES: &[(&str, &[(&str, i32)])] = &[
    ("due", &[("queue", 1), ("dueAt", 1), ("lease.until", 1)]),
    ("flow", &[("flowId", 1), ("status", 1), ("_id", -1)]),
    ("status", &[("status", 1), ("_id", -1)]),
    ("toolId", &[("waits.toolId", 1), ("_id", -1)]),
    ("expiresAt", &[("waits.expiresAt", 1)]),
    ("metadata", &[("metadata.n", 1), ("metadata.v", 1), ("_id", -1)]),
    (PURGE, &[("purgeAt", 1)]),
];

/// The index by which the server removes ended runs. It is never on a deadline: a run whose wait
/// has expired must stay until its default was applied.
const PURGE: &str = "purgeAt";

/// Makes what is missing. Any number of processes may do so at once: each step can be made again.
pub(super) async fn provision(connection: &Connection) -> Result<(), Trouble> {
    let known = version(connection).await?;
    match known {
        Some(version) if version > VERSION => return Err(Trouble::Newer(version)),
        // There is no older version than this one to lead on from.
        Some(_) => {}
        None => refuse_foreign(connection).await?,
    }
    let missing = missing(connection).await?;
    if !missing.is_empty() {
        create(connection, missing).await?;
    }
    if known.is_none() {
        let mark = doc! { "_id": "schema", "version": VERSION };
        match connection.schema.insert_one(mark).await.map_err(Trouble::from) {
            // Somebody else was faster.
            Err(trouble) if trouble.is_duplicate() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Whether the collection is there, or the mark of its schema.
pub(super) async fn exists(connection: &Connection) -> Result<bool, Trouble> {
    Ok(version(connection).await?.is_some() || collection(connection).await?.is_some())
}

/// What the server says of the collection, if it is there.
async fn collection(connection: &Connection) -> Result<Option<CollectionSpecification>, Trouble> {
    let name = connection.records.name();
    let mut found = connection.database.list_collections().filter(doc! { "name": name }).await?;
    Ok(found.try_next().await?)
}

/// The version of the schema, once it was made.
async fn version(connection: &Connection) -> Result<Option<i64>, Trouble> {
    let mark = connection.schema.find_one(doc! { "_id": "schema" }).await?;
    let Some(mark) = mark else { return Ok(None) };
    match mark.get("version") {
        Some(Bson::Int64(version)) => Ok(Some(*version)),
        Some(Bson::Int32(version)) => Ok(Some((*version).into())),
        _ => Err(Trouble::Damaged("version")),
    }
}

/// Refuses a collection that is not ours to fill.
async fn refuse_foreign(connection: &Connection) -> Result<(), Trouble> {
    let Some(found) = collection(connection).await? else { return Ok(()) };
    if found.collection_type != CollectionType::Collection {
        return Err(Trouble::Foreign("is a view or a time series"));
    }
    if found.options.capped == Some(true) {
        return Err(Trouble::Foreign("is capped: it would drop runs"));
    }
    if found.options.collation.is_some() {
        return Err(Trouble::Foreign("has a collation: it would take different names for one"));
    }
    let any = connection.records.find_one(doc! {}).projection(doc! { "_id": 1 }).await?;
    // A record may be there because somebody has made the collection in the meantime.
    if any.is_some() && version(connection).await?.is_none() {
        return Err(Trouble::Foreign("holds documents of another program"));
    }
    Ok(())
}

async fn create(connection: &Connection, missing: Vec<IndexModel>) -> Result<(), Trouble> {
    let mut pause = Duration::from_millis(5);
    loop {
        match connection.records.create_indexes(missing.clone()).await.map_err(Trouble::from) {
            Err(trouble) if trouble.is_in_the_making() => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            other => return other.map(drop),
        }
    }
}

/// The indexes that are not there yet.
pub(super) async fn missing(connection: &Connection) -> Result<Vec<IndexModel>, Trouble> {
    let there = indexes(connection).await?;
    let mut missing = Vec::new();
    for (name, fields) in INDEXES {
        let wanted = model(name, fields);
        match there.iter().find(|index| name_of(index) == Some(name)) {
            Some(index) if is_same(index, &wanted) => {}
            Some(_) => return Err(Trouble::ForeignIndex((*name).into())),
            None => missing.push(wanted),
        }
    }
    Ok(missing)
}

/// The names of indexes by which a server would remove runs, and which are not ours.
pub(super) async fn removing(connection: &Connection) -> Result<Vec<String>, Trouble> {
    let foreign = |index: &IndexModel| {
        let options = index.options.as_ref()?;
        let name = options.name.clone()?;
        (options.expire_after.is_some() && name != PURGE).then_some(name)
    };
    Ok(indexes(connection).await?.iter().filter_map(foreign).collect())
}

async fn indexes(connection: &Connection) -> Result<Vec<IndexModel>, Trouble> {
    // What was just made must be seen, and may be undone: nothing is lost by making it again.
    let options = CollectionOptions::builder().read_concern(ReadConcern::local()).build();
    let records =
        connection.database.collection_with_options::<Document>(connection.records.name(), options);
    match records.list_indexes().await {
        Ok(found) => Ok(found.try_collect().await?),
        Err(error) => {
            let trouble = Trouble::from(error);
            if trouble.is_missing_collection() { Ok(Vec::new()) } else { Err(trouble) }
        }
    }
}

fn model(name: &str, fields: &[(&str, i32)]) -> IndexModel {
    let keys: Document =
        fields.iter().map(|(field, way)| ((*field).into(), (*way).into())).collect();
    let mut options = IndexOptions::default();
    options.name = Some(name.into());
    options.expire_after = (name == PURGE).then_some(Duration::ZERO);
    IndexModel::builder().keys(keys).options(options).build()
}

fn name_of(index: &IndexModel) -> Option<&str> {
    index.options.as_ref()?.name.as_deref()
}

/// Whether an index does what ours of that name would.
fn is_same(found: &IndexModel, wanted: &IndexModel) -> bool {
    let keys = |index: &IndexModel| -> Option<Vec<(String, i64)>> {
        index.keys.iter().map(|(field, way)| Some((field.clone(), whole(way)?))).collect()
    };
    let plain = found.options.as_ref().is_none_or(|options| {
        options.unique != Some(true)
            && options.partial_filter_expression.is_none()
            && options.collation.is_none()
            && options.sparse != Some(true)
            && options.hidden != Some(true)
    });
    let expires = |index: &IndexModel| index.options.as_ref().and_then(|it| it.expire_after);
    plain && keys(found) == keys(wanted) && expires(found) == expires(wanted)
}

/// The direction of an index, whatever number it is written as.
fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_known_however_its_numbers_are_written() {
        let ours = model("status", INDEXES[2].1);
        let mut theirs = ours.clone();
        theirs.keys = doc! { "status": 1.0, "_id": -1_i64 };
        assert!(is_same(&theirs, &ours));
        theirs.keys = doc! { "_id": -1, "status": 1 };
        assert!(!is_same(&theirs, &ours), "the order of fields counts");
        theirs = ours.clone();
        theirs.options.as_mut().unwrap().unique = Some(true);
        assert!(!is_same(&theirs, &ours));
        theirs = ours.clone();
        theirs.options.as_mut().unwrap().expire_after = Some(Duration::ZERO);
        assert!(!is_same(&theirs, &ours), "it would remove runs");
    }
}
