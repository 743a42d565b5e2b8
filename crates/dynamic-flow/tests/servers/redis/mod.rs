//! The Redis store against real servers: one, and a cluster.

use dynamic_flow::{
    store::{RedisConfig, RedisStore},
    testkit::conformance::Subject,
};

use crate::support::{fresh, url};

/// A store in a namespace of its own, which is removed with it.
async fn subject_at(url: &str) -> Subject {
    let mut config = RedisConfig::from_url(url).unwrap();
    config.key_prefix = format!("{}:", fresh());
    let store = RedisStore::new(config.clone()).unwrap();
    Subject::new(store, move || RedisStore::new(config.clone()).unwrap())
}

/// On one server.
mod one {
    use super::*;

    async fn subject() -> Option<Subject> {
        Some(subject_at(&url("DFLOW_TEST_REDIS_URL")?).await)
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}

/// On a cluster.
mod cluster {
    use super::*;

    async fn subject() -> Option<Subject> {
        Some(subject_at(&url("DFLOW_TEST_REDIS_CLUSTER_URL")?).await)
    }

    dynamic_flow::conformance_tests!(conformance, super::subject);
}
