//! The Redis store against real servers: one, and a cluster.

mod cluster;
mod health;
mod index;
mod refusals;
mod rights;
mod support;
mod tls;
mod troubles;

use dynamic_flow::testkit::conformance::Subject;

/// On one server.
mod one {
    use super::*;

    async fn subject() -> Option<Subject> {
        Some(support::subject(&crate::support::url("DFLOW_TEST_REDIS_URL")?))
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}

/// On a cluster.
mod many {
    use super::*;

    async fn subject() -> Option<Subject> {
        Some(support::subject(&crate::support::url("DFLOW_TEST_REDIS_CLUSTER_URL")?))
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}
