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
use dynamic_flow_services::Kind;

/// On one server.
mod one {
    use super::*;

    async fn subject() -> Option<Subject> {
        support::subject(Kind::Redis)
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}

/// On a cluster.
mod many {
    use super::*;

    async fn subject() -> Option<Subject> {
        support::subject(Kind::RedisCluster)
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}
