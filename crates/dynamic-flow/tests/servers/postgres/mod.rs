//! The PostgreSQL store against a real server.

mod bouncer;
mod faults;
mod health;
mod hints;
mod losses;
mod names;
mod proxy;
mod refusals;
mod support;
mod tls;
mod writes;

use dynamic_flow::testkit::conformance::Subject;

use self::support::Schema;

async fn subject() -> Option<Subject> {
    Schema::fresh().map(|schema| support::subject(schema, ""))
}

dynamic_flow::conformance_tests!(conformance, super::subject);
