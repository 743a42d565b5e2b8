//! The PostgreSQL store against a real server.

mod support;

use dynamic_flow::testkit::conformance::Subject;

use self::support::Schema;

async fn subject() -> Option<Subject> {
    Schema::fresh().map(|schema| support::subject(schema, ""))
}

dynamic_flow::conformance_tests!(conformance, super::subject);

/// As behind a pooler: nothing is prepared, nothing outlives a transaction.
async fn unprepared() -> Option<Subject> {
    Schema::fresh().map(|schema| support::subject(schema, "prepared_statements=false"))
}

dynamic_flow::conformance_tests!(unprepared_conformance, super::unprepared);
