//! The Neo4j store against a real server.

mod graph;
mod ground;
mod outages;
mod plans;
mod proxy;
mod records;
mod refusals;
mod tls;

use std::time::Duration;

use dynamic_flow::{conformance_tests, store::Neo4jStore, testkit::conformance::Subject};

use self::ground::Ground;

/// A patient store: many at once may keep a busy machine for longer than anybody waits for a call.
async fn subject() -> Option<Subject> {
    let ground = Ground::new()?;
    let open = move || {
        let mut config = ground.config();
        config.operation_timeout = Duration::from_secs(60);
        Neo4jStore::new(config).expect("a store")
    };
    Some(Subject::new(open(), open))
}

conformance_tests!(conformance, super::subject);
