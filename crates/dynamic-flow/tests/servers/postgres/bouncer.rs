//! Behind PgBouncer, which lends connections for a transaction.

use std::sync::{Arc, LazyLock};

use dynamic_flow::{
    store::{Hint, Store as _},
    testkit::conformance::Subject,
};
use dynamic_flow_services::{
    Server,
    postgres::{self, Options, Postgres},
};
use tokio::sync::Mutex;

use super::support::{self, Schema, assert_tells, failure, open, record, with};

/// A server and what stands before it.
struct Pair {
    url: String,
    _bouncer: Server,
    _server: Postgres,
}

/// One pair for as long as some test uses it.
static PAIR: LazyLock<Mutex<std::sync::Weak<Pair>>> = LazyLock::new(Mutex::default);

async fn pair() -> Option<Arc<Pair>> {
    let mut pair = PAIR.lock().await;
    if let Some(pair) = pair.upgrade() {
        return Some(pair);
    }
    let server = support::private(&Options::default())?;
    let (bouncer, url) = match postgres::bouncer_before(&server) {
        Ok(started) => started,
        Err(error) if error.to_string().contains("not installed") => {
            crate::support::skip(&format!("{error}; `cargo xtask test` installs it"));
            return None;
        }
        Err(error) => panic!("{error:#}"),
    };
    let started = Arc::new(Pair { url, _bouncer: bouncer, _server: server });
    *pair = Arc::downgrade(&started);
    Some(started)
}

async fn subject() -> Option<Subject> {
    let pair = pair().await?;
    let schema = Schema::new(&pair.url);
    let url = with(&schema.url(), "prepared_statements=false");
    Some(Subject::new(open(&url), move || {
        let _kept = (&schema, &pair);
        open(&url)
    }))
}

dynamic_flow::conformance_tests!(conformance, super::subject);

#[tokio::test]
async fn there_are_no_hints_where_nothing_can_be_listened_for() {
    let Some(pair) = pair().await else { return };
    let store = open(&with(&pair.url, "prepared_statements=false"));
    assert!(Hint::ALL.into_iter().all(|hint| store.hints(hint).is_none()));
}

#[tokio::test]
async fn a_store_that_was_not_told_of_the_pooler_says_what_to_do() {
    let Some(pair) = pair().await else { return };
    let error = failure(open(&pair.url).insert(record(1))).await;
    assert_tells(&error, "insert", false, &["prepared_statements=false"]);
}
