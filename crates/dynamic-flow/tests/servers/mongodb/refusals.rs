//! What a server refuses, in its own codes: a server for tests fails with each that is asked for,
//! as a member of a replica set would.

use dynamic_flow::{
    Revision,
    store::{Change, Claim, Expect, MongodbStore, Queue, Store as _},
};
use dynamic_flow_services::mongodb::{Mongodb, Options};
use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};

use super::support::{
    assert_tells, at, failure, impatient, open, private, record, soon, with, with_database,
};

struct Failing {
    _server: Mongodb,
    store: MongodbStore,
    admin: mongodb::Database,
}

impl Failing {
    /// A server with a run in it.
    async fn ready() -> Option<Self> {
        let server = private(&Options { fail_points: true, ..Options::default() })?;
        // A member that steps down says so to who watches it; this one does not, and is asked.
        let url = with(&server.url(), "serverMonitoringMode=poll&heartbeatFrequencyMS=500");
        let store = open(&impatient(&with_database(&url, "flows")));
        store.provision().await.unwrap();
        store.insert(record(1)).await.unwrap();
        let admin = Client::with_uri_str(server.url()).await.unwrap().database("admin");
        Some(Self { _server: server, store, admin })
    }

    /// Makes these commands fail from now on.
    async fn fail(&self, mode: impl Into<Bson>, commands: &[&str], how: Document) {
        let mut data = doc! { "failCommands": commands };
        data.extend(how);
        let point = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        self.admin.run_command(point).await.unwrap();
    }

    /// Lets all commands succeed.
    async fn heal(&self) {
        self.fail("off", &[], doc! {}).await;
    }
}

/// Codes with what is told of them, and whether another try is worth it.
const CODES: &[(i32, &str, bool)] = &[
    (13, "grantRolesToUser", false),
    (18, "authSource", false),
    (50, "took too long", true),
    (112, "busy", true),
    (189, "not the primary", true),
    (10107, "not the primary", true),
    (13435, "not the primary", true),
    (11600, "not the primary", true),
    (14031, "disk of the server is full", false),
    (371, "setUserWriteBlockMode", true),
    (123, "use a replica set", false),
    (2, "refused", false),
];

#[tokio::test]
async fn each_refusal_is_told_with_advice() {
    let Some(failing) = Failing::ready().await else { return };
    let store = &failing.store;
    let id = record(1).id;
    for (code, word, retryable) in CODES {
        let how = doc! { "errorCode": *code };
        let writes = ["insert", "update", "delete", "findAndModify"];
        failing.fail("alwaysOn", &writes, how.clone()).await;
        let told = |error, operation| assert_tells(&error, operation, *retryable, &[word]);
        told(failure(store.insert(record(2))).await, "insert");
        told(failure(store.update(id, Expect::Any, Change::at(at(1)))).await, "update");
        let expect = Expect::Revision(Revision::FIRST);
        told(failure(store.update(id, expect, Change::at(at(1)))).await, "update");
        told(failure(store.delete(id, Expect::Any)).await, "delete");
        told(failure(store.renew(id, record(1).epoch, at(1))).await, "renew");
        told(failure(store.claim(claim())).await, "claim");
        failing.fail("alwaysOn", &["find"], how).await;
        told(failure(store.get(id)).await, "get");
        told(failure(store.query(&Default::default(), None, 1)).await, "query");
        failing.heal().await;
        // Nothing was written by halves, and all works again.
        assert_eq!(store.get(id).await.unwrap(), Some(record(1)), "after {code}");
        assert_eq!(store.get(record(2).id).await.unwrap(), None, "after {code}");
    }
}

/// A primary that steps down in the middle: the driver finds the new one and asks again.
#[tokio::test]
async fn a_failover_is_outlasted_without_an_error() {
    let Some(failing) = Failing::ready().await else { return };
    let labels = doc! { "errorCode": 189, "errorLabels": ["RetryableWriteError"] };
    failing.fail(doc! { "times": 1 }, &["insert"], labels.clone()).await;
    failing.store.insert(record(2)).await.unwrap();
    failing.fail(doc! { "times": 1 }, &["find"], labels).await;
    assert_eq!(failing.store.get(record(2).id).await.unwrap(), Some(record(2)));
}

/// A majority that does not confirm in time: the write is there, and may be undone, so nobody is
/// told that it is done; who looks again finds it.
#[tokio::test]
async fn an_unconfirmed_write_is_no_success() {
    let Some(failing) = Failing::ready().await else { return };
    let store = &failing.store;
    let unconfirmed = |code: i32| {
        doc! { "writeConcernError": { "code": code, "codeName": "x", "errmsg": "waiting" } }
    };
    failing.fail(doc! { "times": 1 }, &["insert"], unconfirmed(64)).await;
    let error = failure(store.insert(record(2))).await;
    assert_tells(&error, "insert", true, &["not confirmed by a majority", "may be undone"]);
    assert_eq!(store.get(record(2).id).await.unwrap(), Some(record(2)));
    let first = Expect::Revision(Revision::FIRST);
    failing.fail(doc! { "times": 1 }, &["update"], unconfirmed(64)).await;
    let error = failure(store.update(record(2).id, first, Change::at(at(1)))).await;
    assert_tells(&error, "update", true, &["not confirmed by a majority"]);
    assert_eq!(store.get(record(2).id).await.unwrap().unwrap().revision, Revision(2));
    failing.fail(doc! { "times": 1 }, &["findAndModify"], unconfirmed(64)).await;
    let error = failure(store.update(record(2).id, Expect::Any, Change::at(at(1)))).await;
    assert_tells(&error, "update", true, &["not confirmed by a majority"]);
    failing.fail(doc! { "times": 1 }, &["delete"], unconfirmed(64)).await;
    let error = failure(store.delete(record(2).id, Expect::Any)).await;
    assert_tells(&error, "delete", true, &["not confirmed by a majority"]);
    // One that these servers can never meet is a mistake in the URL.
    failing.fail(doc! { "times": 1 }, &["insert"], unconfirmed(100)).await;
    let error = failure(store.insert(record(3))).await;
    assert_tells(&error, "insert", false, &["correct w in the URL"]);
}

/// A claim that fails in the middle gives what it has taken: it is the claimer's already.
#[tokio::test]
async fn a_claim_that_fails_in_the_middle_gives_what_it_took() {
    let Some(failing) = Failing::ready().await else { return };
    failing.store.insert(record(2)).await.unwrap();
    let refused = doc! { "errorCode": 2 };
    failing.fail(doc! { "skip": 1 }, &["findAndModify"], refused).await;
    let given = soon(failing.store.claim(claim())).await.unwrap();
    assert_eq!(given.len(), 1);
    failing.heal().await;
    let rest = soon(failing.store.claim(claim())).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0].id, given[0].id);
}

fn claim() -> Claim {
    Claim {
        now: at(1),
        queues: vec![Queue("q".into())],
        owner: "tester".into(),
        lease: std::time::Duration::from_secs(60),
        limit: 10,
        except: [].into(),
    }
}
