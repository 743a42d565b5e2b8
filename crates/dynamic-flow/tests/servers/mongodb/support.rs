//! Databases of tests' own, and servers that a test may break.

use ::mongodb::Client;
use dynamic_flow::{Error, store::MongodbStore};
pub(crate) use dynamic_flow_services::mongodb::with_database;
use dynamic_flow_services::{
    Corner, Kind,
    mongodb::{Mongodb, Options, PASSWORD, start},
};

use crate::support;
pub(crate) use crate::support::{at, eventually, failure, impatient, record, soon, with};

/// A database that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Database {
    corner: Corner,
    url: String,
}

impl Database {
    /// One that nobody has used, on the server for tests; none if there is no server.
    pub(crate) fn fresh() -> Option<Self> {
        let corner = support::corner(Kind::Mongodb)?;
        Some(Self { url: corner.url(), corner })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A handle of its own on the collection.
    pub(crate) fn store(&self) -> MongodbStore {
        open(&self.url)
    }

    /// The database as the driver has it, with nothing between.
    pub(crate) async fn raw(&self) -> ::mongodb::Database {
        Client::with_uri_str(&self.url).await.unwrap().database(self.corner.name())
    }
}

/// A store at that URL.
pub(crate) fn open(url: &str) -> MongodbStore {
    MongodbStore::from_url(url).unwrap()
}

/// A server of a test's own, which it may break; none where none is installed.
pub(crate) fn private(options: &Options) -> Option<Mongodb> {
    support::private(start(options))
}

/// What every error of this store must be.
#[track_caller]
pub(crate) fn assert_tells(error: &Error, operation: &str, retryable: bool, words: &[&str]) {
    crate::support::assert_tells(("mongodb", PASSWORD), error, operation, retryable, words);
}
