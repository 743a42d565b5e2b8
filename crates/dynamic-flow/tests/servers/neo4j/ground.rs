//! A namespace of one test's own on the shared server, and what is asked of the graph behind the
//! store's back.

use std::thread;

use dynamic_flow::store::{Neo4jConfig, Neo4jStore};
use dynamic_flow_services::neo4j::{self, Neo4j, Options};
use neo4rs::{ConfigBuilder, Graph, Query, Row};

use crate::support;

/// Where the shared server is.
const URL: &str = "DFLOW_TEST_NEO4J_URL";

/// The constraints and indexes, without the namespace.
const CONSTRAINTS: [&str; 5] = ["schema", "id", "flow", "tool", "metadata"];
const INDEXES: [&str; 7] =
    ["due", "status", "flow_status", "metadata_value", "waits", "deadlines", "metadata_run"];
const LABELS: [&str; 5] = ["SuspendedFlow", "Flow", "Tool", "Metadata", "SuspendedFlowSchema"];

/// A server of one test's own; none where there is none for all tests either, which is then said.
pub(crate) fn private(options: &Options) -> Option<Neo4j> {
    support::url(URL)?;
    neo4j::install(&dynamic_flow_services::cache().unwrap()).unwrap();
    Some(neo4j::start(options).unwrap())
}

/// A namespace, which on the shared server is removed, with all that is in it, when this is dropped.
pub(crate) struct Ground {
    config: Neo4jConfig,
    shared: bool,
}

impl Ground {
    /// A fresh one; none where there is no server, which is then said.
    pub(crate) fn new() -> Option<Self> {
        let it = Self::at(&support::url(URL)?);
        Some(Self::of(it.config()))
    }

    /// A fresh one on a private server of that URL, which goes with the test.
    pub(crate) fn at(url: &str) -> Self {
        let mut config = Neo4jConfig::from_url(url).expect("the server's URL");
        config.namespace = format!("{}_", support::fresh());
        Self { config, shared: false }
    }

    /// One on the shared server that is set up like this.
    pub(crate) fn of(config: Neo4jConfig) -> Self {
        Self { config, shared: true }
    }

    pub(crate) fn config(&self) -> Neo4jConfig {
        self.config.clone()
    }

    pub(crate) fn store(&self) -> Neo4jStore {
        Neo4jStore::new(self.config()).expect("a store")
    }

    /// A statement with the namespace in front of labels and types.
    pub(crate) fn named(&self, cypher: &str) -> String {
        let namespace = &self.config.namespace;
        let mut text = cypher.to_owned();
        for name in LABELS.iter().chain(&["OF", "WAITS_FOR", "HAS"]) {
            text = text.replace(&format!(":{name}"), &format!(":{namespace}{name}"));
        }
        // `:SuspendedFlow` is the beginning of `:SuspendedFlowSchema`, and `:Flow` of none.
        text.replace(&format!(":{namespace}{namespace}"), &format!(":{namespace}"))
    }

    /// Runs a statement behind the store's back; gives its rows.
    pub(crate) async fn ask(&self, cypher: &str) -> Vec<Row> {
        self.ask_with(Query::new(self.named(cypher))).await
    }

    pub(crate) async fn ask_with(&self, query: Query) -> Vec<Row> {
        rows(&driver(&self.config), query).await
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.shared {
            return;
        }
        let config = self.config.clone();
        // Tests end within their runtime, where nobody can wait for anything.
        let removal = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(remove(&config));
            std::io::Result::Ok(())
        });
        let removed = removal.join();
        if !thread::panicking() {
            removed.expect("the namespace can be removed").expect("a runtime");
        }
    }
}

/// A connection of the driver's own.
pub(crate) fn driver(config: &Neo4jConfig) -> Graph {
    let builder = ConfigBuilder::new()
        .uri(&config.uri)
        .user(&config.username)
        .password(config.password.expose())
        .db(&*config.database);
    Graph::connect(builder.build().expect("a configuration")).expect("a driver")
}

pub(crate) async fn rows(graph: &Graph, query: Query) -> Vec<Row> {
    let mut stream = graph.execute(query).await.expect("a statement");
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await.expect("a row") {
        rows.push(row);
    }
    rows
}

async fn remove(config: &Neo4jConfig) {
    let graph = driver(config);
    let namespace = &config.namespace;
    let statements = LABELS
        .map(|label| format!("MATCH (x:`{namespace}{label}`) DETACH DELETE x"))
        .into_iter()
        .chain(
            CONSTRAINTS
                .map(|it| format!("DROP CONSTRAINT `{namespace}suspended_flow_{it}` IF EXISTS")),
        )
        .chain(INDEXES.map(|it| format!("DROP INDEX `{namespace}suspended_flow_{it}` IF EXISTS")));
    for statement in statements {
        graph.run(Query::new(statement)).await.expect("what a test made can be removed");
    }
}
