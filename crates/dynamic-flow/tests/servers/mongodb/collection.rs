//! What is in the collection: its documents, its indexes, and what of others may be in the way.

use std::time::Duration;

use dynamic_flow::{
    Error, ErrorKind, Metadata, Revision, RunId, RunStatus,
    codec::Sealed,
    store::{Change, Claim, Expect, Filter, Queue, Record, Store as _},
    testkit::conformance::{
        Subject, a_hub_does_its_work_beside_damaged_records, damaged_records_hide_no_others,
    },
};
use futures::TryStreamExt as _;
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc},
    options::{Collation, IndexOptions},
};

use super::support::{Database, assert_tells, at, failure, open, record, with};

const COLLECTION: &str = "suspended_flows";

/// The error of a provision over what is there.
async fn refusal(database: &Database, word: &str) -> Error {
    let error = failure(database.store().provision()).await;
    assert_tells(&error, "provision", false, &[word, "name another collection"]);
    error
}

#[tokio::test]
async fn a_collection_with_documents_of_others_is_refused_and_left_alone() {
    let Some(database) = Database::fresh() else { return };
    let raw = database.raw().await;
    let theirs = raw.collection::<Document>(COLLECTION);
    theirs.insert_one(doc! { "_id": 1, "theirs": true }).await.unwrap();
    refusal(&database, "documents of another program").await;
    let indexes: Vec<_> = theirs.list_index_names().await.unwrap();
    assert_eq!(indexes, ["_id_"], "nothing was made in it");
    assert_eq!(theirs.count_documents(doc! {}).await.unwrap(), 1);
    // Another name in the same database is free.
    let store = open(&with(database.url(), "collection=approvals"));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    assert_eq!(theirs.count_documents(doc! {}).await.unwrap(), 1);
}

/// What gets into it later is not ours to list, to claim, or to be confused by.
#[tokio::test]
async fn documents_of_others_that_come_later_are_passed_over() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let theirs = database.raw().await.collection::<Document>(COLLECTION);
    theirs.insert_one(doc! { "_id": "x", "status": "waiting" }).await.unwrap();
    theirs.insert_one(doc! { "flowId": "flow" }).await.unwrap();
    let page = store.query(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.readable().map(|it| it.id).collect::<Vec<_>>(), [record(1).id]);
    store.provision().await.unwrap();
}

#[tokio::test]
async fn an_index_of_others_under_our_name_is_named() {
    let Some(database) = Database::fresh() else { return };
    let theirs = database.raw().await.collection::<Document>(COLLECTION);
    let options = IndexOptions::builder().name("status".to_owned()).build();
    let index = IndexModel::builder().keys(doc! { "other": 1 }).options(options).build();
    theirs.create_index(index).await.unwrap();
    let error = refusal(&database, "index status").await;
    assert!(error.message().contains("drop it"), "{error}");
}

#[tokio::test]
async fn our_index_under_a_name_of_others_is_said() {
    let Some(database) = Database::fresh() else { return };
    let theirs = database.raw().await.collection::<Document>(COLLECTION);
    let options = IndexOptions::builder().name("theirs".to_owned()).build();
    let keys = doc! { "status": 1, "_id": -1 };
    let index = IndexModel::builder().keys(keys).options(options).build();
    theirs.create_index(index).await.unwrap();
    refusal(&database, "index of other making").await;
}

/// A unique index of others makes no run one that is there already.
#[tokio::test]
async fn a_unique_index_of_others_is_no_conflict_of_runs() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let theirs = database.raw().await.collection::<Document>(COLLECTION);
    let options = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! { "flowId": 1 }).options(options).build();
    theirs.create_index(index).await.unwrap();
    store.insert(record(1)).await.unwrap();
    let error = failure(store.insert(record(2))).await;
    assert_tells(&error, "insert", false, &["unique index of other making"]);
    assert_eq!(store.get(record(2).id).await.unwrap(), None);
}

#[tokio::test]
async fn a_collection_of_another_kind_is_refused() {
    let Some(database) = Database::fresh() else { return };
    let raw = database.raw().await;
    let refused = |name: &'static str, word: &'static str| {
        let url = with(database.url(), &format!("collection={name}"));
        async move {
            let error = failure(open(&url).provision()).await;
            assert_tells(&error, "provision", false, &[word, "name another collection"]);
        }
    };
    raw.create_collection("capped").capped(true).size(1 << 20).await.unwrap();
    refused("capped", "capped").await;
    let collation = Collation::builder().locale("en").build();
    raw.create_collection("collated").collation(collation).await.unwrap();
    refused("collated", "collation").await;
    raw.create_collection("view").view_on("capped".to_owned()).pipeline(vec![]).await.unwrap();
    refused("view", "view").await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_ours_is_marked() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let schema = database.raw().await.collection::<Document>("suspended_flows.schema");
    let mark = schema.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(mark, doc! { "_id": "schema", "version": 1_i64 });
    schema.update_one(doc! {}, doc! { "$set": { "version": 2 } }).await.unwrap();
    let error = failure(database.store().provision()).await;
    assert_tells(&error, "provision", false, &["schema 2", "update it"]);
}

/// A user who makes the database beforehand may give the store fewer rights.
#[tokio::test]
async fn what_is_there_is_not_made_again() {
    let Some(database) = Database::fresh() else { return };
    database.store().provision().await.unwrap();
    let records = database.raw().await.collection::<Document>(COLLECTION);
    let before = records.list_index_names().await.unwrap();
    records.drop_index("toolId").await.unwrap();
    database.store().provision().await.unwrap();
    let mut after = records.list_index_names().await.unwrap();
    let mut expected = before;
    expected.sort();
    after.sort();
    assert_eq!(after, expected);
}

#[tokio::test]
async fn a_document_is_what_the_documentation_says() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let metadata = Metadata::from([("a.$b".into(), "$set".into()), ("n".into(), 1.5.into())]);
    store.insert(Record { metadata, ..record(1) }).await.unwrap();
    let raw = database.raw().await.collection::<Document>(COLLECTION);
    let found = raw.find_one(doc! {}).await.unwrap().unwrap();
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    let expected = [
        "_id",
        "revision",
        "epoch",
        "flowId",
        "status",
        "waits",
        "metadata",
        "updatedAt",
        "attempts",
        "queue",
        "dueAt",
        "dueHints",
        "snapshot",
        "inbox",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        found.get_array("metadata").unwrap(),
        &[doc! { "n": "a.$b", "v": "$set" }.into(), doc! { "n": "n", "v": 1.5 }.into()]
            as &[Bson],
    );
    // An id is shown as what it is.
    let id = mongodb::bson::Uuid::from_bytes(*record(1).id.as_bytes());
    assert_eq!(found.get("_id"), Some(&Bson::from(id)));
}

#[tokio::test]
async fn a_document_that_was_tampered_with_is_said_to_be_damaged() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let raw = database.raw().await.collection::<Document>(COLLECTION);
    for (field, value) in [
        ("status", Bson::from("sleeping")),
        ("revision", "1".into()),
        ("snapshot", 5.into()),
        ("waits", doc! {}.into()),
        ("inbox", Bson::Null),
    ] {
        store.insert(record(1)).await.unwrap();
        raw.update_one(doc! {}, doc! { "$set": { field: value } }).await.unwrap();
        let error = failure(store.get(record(1).id)).await;
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{error}");
        assert!(error.message().contains(field), "{error}");
        assert_eq!(error.run_id(), Some(record(1).id));
        store.delete(record(1).id, Expect::Any).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_do_not_read_back_hide_no_others() {
    for damage in [
        doc! { "$set": { "waits": {} } },
        doc! { "$set": { "inbox": Bson::Null } },
        doc! { "$set": { "status": 5 } },
        doc! { "$unset": { "updatedAt": "" } },
    ] {
        let Some(database) = Database::fresh() else { return };
        let harm = harm(&database, damage).await;
        damaged_records_hide_no_others(subject(database), harm).await;
    }
    let Some(database) = Database::fresh() else { return };
    let harm = harm(&database, doc! { "$set": { "inbox": Bson::Null } }).await;
    a_hub_does_its_work_beside_damaged_records(subject(database), harm).await;
}

async fn harm(database: &Database, damage: Document) -> impl AsyncFn(RunId) + use<> {
    let raw = database.raw().await.collection::<Document>(COLLECTION);
    async move |id: RunId| {
        let run = doc! { "_id": mongodb::bson::Uuid::from_bytes(*id.as_bytes()) };
        let update = raw.update_one(run, damage.clone()).await.unwrap();
        assert_eq!(update.modified_count, 1);
    }
}

fn subject(database: Database) -> Subject {
    Subject::new(database.store(), move || database.store())
}

/// The server may remove what has ended, long after a worker should have; nothing else.
#[tokio::test]
async fn only_what_has_ended_has_a_date_to_be_purged() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    let raw = database.raw().await.collection::<Document>(COLLECTION);
    let date = async |n: u8| {
        let id = mongodb::bson::Uuid::from_bytes(*record(n).id.as_bytes());
        let found = raw.find_one(doc! { "_id": id }).await.unwrap().unwrap();
        found.get_datetime("purgeAt").ok().map(|at| at.timestamp_millis())
    };
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let ends = at(1_000_000_000);
    let later = Some(ends.after(WEEK).as_millis());
    store.insert(record(1)).await.unwrap();
    assert_eq!(date(1).await, None);
    let ended = Change {
        status: Some(RunStatus::Completed),
        queue: Some(Some(Queue::purge())),
        due_at: Some(Some(ends)),
        ..Change::at(at(1))
    };
    store.update(record(1).id, Expect::Any, ended).await.unwrap();
    assert_eq!(date(1).await, later);
    // One that a worker is about to purge keeps a date: the end of the worker's lease.
    let claim = Claim {
        now: ends,
        queues: vec![Queue::purge()],
        owner: "purger".into(),
        lease: Duration::from_secs(60),
        limit: 1,
        except: [].into(),
    };
    assert_eq!(store.claim(claim.clone()).await.unwrap().len(), 1);
    assert_eq!(date(1).await, Some(claim.until().after(WEEK).as_millis()));
    // One that goes on has none any more.
    let retried = Change {
        status: Some(RunStatus::Ready),
        queue: Some(Some(Queue("q".into()))),
        due_at: Some(Some(ends)),
        inbox_drop: 1,
        ..Change::at(at(2))
    };
    store.update(record(1).id, Expect::Any, retried).await.unwrap();
    assert_eq!(date(1).await, None);
    let indexes: Vec<_> = raw.list_indexes().await.unwrap().try_collect().await.unwrap();
    let removing = indexes.iter().filter_map(|index| {
        index.options.as_ref()?.expire_after.map(|after| (index.keys.clone(), after))
    });
    assert_eq!(removing.collect::<Vec<_>>(), [(doc! { "purgeAt": 1 }, Duration::ZERO)]);
}

/// Sixteen mebibytes with all that is not sealed, told before and after the server was asked.
#[tokio::test]
async fn a_run_that_no_document_holds_is_refused_with_both_sizes() {
    let Some(database) = Database::fresh() else { return };
    let store = database.store();
    store.provision().await.unwrap();
    const LIMIT: usize = 16 * 1024 * 1024;
    let refused = |error: &Error, at_least: usize| {
        assert_eq!(error.kind(), ErrorKind::StateTooLarge, "{error}");
        assert_eq!(error.run_id(), Some(record(1).id));
        assert!(error.message().contains(&LIMIT.to_string()), "{error}");
        let numbers = error.message().split(|c: char| !c.is_ascii_digit());
        let size = numbers.filter_map(|it| it.parse::<usize>().ok()).next().unwrap();
        assert!(size >= at_least && size < at_least + 2048, "{error}");
    };
    let of = |size: usize| Sealed(vec![7; size]);
    let error = failure(store.insert(Record { snapshot: of(LIMIT), ..record(1) })).await;
    refused(&error, LIMIT);
    assert_eq!(store.get(record(1).id).await.unwrap(), None);
    // Nine of them twice are too many, of which only the server knows; and so are seventeen at once.
    let large = Record { inbox: vec![of(9 << 20)], ..record(1) };
    store.insert(large.clone()).await.unwrap();
    let more = Change { inbox_push: vec![of(9 << 20)], ..Change::at(at(1)) };
    // By its revision: SecantusDB has no word for it where a document is changed and given back.
    let first = Expect::Revision(Revision::FIRST);
    refused(&failure(store.update(record(1).id, first, more.clone())).await, 18 << 20);
    let snapshot = Change { snapshot: Some(of(17 << 20)), ..Change::at(at(1)) };
    let error = failure(store.update(record(1).id, Expect::Any, snapshot)).await;
    refused(&error, 26 << 20);
    assert_eq!(store.get(record(1).id).await.unwrap(), Some(large));
    // What is dropped in the same write makes room.
    let swapped = Change { inbox_drop: 1, ..more };
    store.update(record(1).id, Expect::Any, swapped).await.unwrap();
}
