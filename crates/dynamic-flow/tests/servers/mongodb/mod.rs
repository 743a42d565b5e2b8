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
///
/// Patient with the server's heartbeats, too. When one is late, the driver breaks off the calls on
/// their way and sends their writes once more. MongoDB lets the second wait for the first, and
/// answers both alike; the server of the tests does so only once the first has ended, and would
/// write twice.
async fn subject() -> Option<Subject> {
    let database = Database::fresh()?;
    let patience = "operation_timeout=60s&connect_timeout=60s";
    let open = move || open(&with(database.url(), patience));
    Some(Subject::new(open(), open))
}

dynamic_flow::conformance_tests!(conformance, super::subject);
