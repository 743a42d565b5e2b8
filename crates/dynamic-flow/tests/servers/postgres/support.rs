//! Stores in schemas and databases of their own, which go with the test.

use std::{future::Future, thread};

use dynamic_flow::{
    Error, Metadata, ToolId,
    codec::Sealed,
    store::{Change, Filter, PostgresStore, Record, Store as _},
    testkit::conformance::Subject,
};
use dynamic_flow_services::{
    Corner, Kind,
    postgres::{self, Options, PASSWORD, Postgres},
};
use tokio_postgres::{Client, NoTls};

use crate::support;
pub(crate) use crate::support::{at, eventually, failure, impatient, record, soon, with};

/// The URL of another database of the same server.
pub(crate) fn database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').map_or((url, None), |(a, b)| (a, Some(b)));
    let (server, _) = base.rsplit_once('/').unwrap();
    let url = format!("{server}/{name}");
    parameters.map_or_else(|| url.clone(), |parameters| format!("{url}?{parameters}"))
}

/// The URL of the same database for another user; with an empty password for none.
pub(crate) fn as_user(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.split_once("://").unwrap();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let password = if password.is_empty() { String::new() } else { format!(":{password}") };
    format!("postgres://{user}{password}@{place}")
}

/// A store at that URL.
pub(crate) fn open(url: &str) -> PostgresStore {
    PostgresStore::from_url(url).unwrap()
}

/// A connection of the test's own.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs statements that a test can't do without, in a runtime of their own: it may be used where
/// there is none.
pub(crate) fn execute(url: &str, script: &str) {
    let (url, script) = (url.to_owned(), script.to_owned());
    blocking(async move { connect(&url).await.batch_execute(&script).await.unwrap() });
}

fn blocking(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || runtime().block_on(future)).join().unwrap();
}

/// A schema of a test's own.
#[derive(Debug)]
pub(crate) struct Schema(Corner);

impl Schema {
    /// One that nobody has made yet, on the server for tests; none if there is no server.
    pub(crate) fn fresh() -> Option<Self> {
        support::corner(Kind::Postgres).map(Self)
    }

    /// One on a private server of that URL, which goes with the test.
    pub(crate) fn at(url: &str) -> Self {
        Self(Corner::private(Kind::Postgres, url.into()))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// The URL of a store in it.
    pub(crate) fn url(&self) -> String {
        with(&self.0.url(), "pool_size=8")
    }

    /// The URL of the server.
    pub(crate) fn server(&self) -> &str {
        self.0.server()
    }
}

/// A store in a schema of its own, for the conformance suite.
pub(crate) fn subject(schema: Schema, parameters: &str) -> Subject {
    let url = if parameters.is_empty() { schema.url() } else { with(&schema.url(), parameters) };
    Subject::new(open(&url), move || {
        let _kept = &schema;
        open(&url)
    })
}

/// A server of a test's own, which it may break; none where none is installed.
pub(crate) fn private(options: &Options) -> Option<Postgres> {
    support::private(postgres::start(options))
}

/// A change of everything that other tables follow.
pub(crate) fn change(text: &str) -> Change {
    Change {
        metadata: Some(Metadata::from([("text".into(), text.into())])),
        snapshot: Some(Sealed(text.into())),
        waits: Some(vec![]),
        ..Change::at(at(1))
    }
}

/// What every error of this store must be.
#[track_caller]
pub(crate) fn assert_tells(error: &Error, operation: &str, retryable: bool, words: &[&str]) {
    crate::support::assert_tells(("postgres", PASSWORD), error, operation, retryable, words);
}

/// Whether a run is there, with all that follows it, as that record.
pub(crate) async fn assert_whole(store: &PostgresStore, record: &Record) {
    assert_eq!(store.get(record.id).await.unwrap().as_ref(), Some(record));
    let metadata = Filter { metadata: record.metadata.clone(), ..Filter::default() };
    let mut filters = vec![metadata];
    let tool = |id: &ToolId| Filter { tool_id: Some(id.clone()), ..Filter::default() };
    filters.extend(record.waits.iter().map(|wait| tool(&wait.tool_id)));
    for filter in filters {
        let page = store.query(&filter, None, 10).await.unwrap();
        assert!(page.readable().any(|item| item.id == record.id), "{filter:?}");
    }
}
