//! The Neo4j store against a real server.

mod graph;
mod ground;
mod outages;
mod plans;
mod proxy;
mod records;
mod refusals;
mod tls;

use dynamic_flow::{conformance_tests, testkit::conformance::Subject};

use self::ground::Ground;

async fn subject() -> Option<Subject> {
    let ground = Ground::new()?;
    let store = ground.store();
    Some(Subject::new(store, move || ground.store()))
}

conformance_tests!(conformance, super::subject);
