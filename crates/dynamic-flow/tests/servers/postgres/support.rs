//! Stores in schemas and databases of their own, which go with the test.

use std::{future::Future, thread};

use dynamic_flow::{store::PostgresStore, testkit::conformance::Subject};
use tokio_postgres::{Client, NoTls};

use crate::support;

/// A URL with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// The URL of another database of the same server.
pub(crate) fn database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').map_or((url, None), |(a, b)| (a, Some(b)));
    let (server, _) = base.rsplit_once('/').unwrap();
    let url = format!("{server}/{name}");
    parameters.map_or_else(|| url.clone(), |parameters| format!("{url}?{parameters}"))
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
/// there is none, as when something is dropped.
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
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// One that nobody has made yet, on the server at that URL.
    pub(crate) fn new(server: &str) -> Self {
        Self { server: server.into(), name: support::fresh() }
    }

    /// One on the server for tests; none if there is no server.
    pub(crate) fn fresh() -> Option<Self> {
        support::url("DFLOW_TEST_POSTGRES_URL").map(|url| Self::new(&url))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL of a store in it.
    pub(crate) fn url(&self) -> String {
        with(&self.server, &format!("schema_name={}&pool_size=8", self.name))
    }

    /// The URL of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        execute(
            &self.server,
            &format!(
                "SET client_min_messages = warning; DROP SCHEMA IF EXISTS \"{}\" CASCADE",
                self.name
            ),
        );
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
