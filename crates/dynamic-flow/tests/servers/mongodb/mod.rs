//! The MongoDB store against a real server.
//!
//! Where `DFLOW_TEST_MONGODB_URL` names a replica set of MongoDB, the conformance suite and all of
//! `collection` are about that one. Servers that a test breaks are its own: they speak MongoDB's
//! protocol, and prove how the store meets it.

mod breaks;
mod collection;
mod fake;
mod health;
mod proxy;
mod reach;
mod refusals;
mod support;
mod tls;

use dynamic_flow::testkit::conformance::Subject;

use self::support::{Database, open, with};

/// A store in a database of its own, on the server that was started for tests. It is patient: thirty
/// claimers at once may keep a busy machine for longer than anybody waits for a call.
async fn subject() -> Option<Subject> {
    let database = Database::fresh()?;
    let open = move || open(&with(database.url(), "operation_timeout=60s"));
    Some(Subject::new(open(), open))
}

dynamic_flow::conformance_tests!(conformance, super::subject);
