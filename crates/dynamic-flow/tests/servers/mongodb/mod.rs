//! The MongoDB store against a real server.

mod support;

use dynamic_flow::testkit::conformance::Subject;

use self::support::Database;
use crate::support::url;

/// A store in a database of its own, on the server that was started for tests.
async fn subject() -> Option<Subject> {
    let database = Database::fresh(&url("DFLOW_TEST_MONGODB_URL")?);
    Some(Subject::new(database.store(), move || database.store()))
}

dynamic_flow::conformance_tests!(conformance, super::subject);
