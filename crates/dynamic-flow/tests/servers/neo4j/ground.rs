//! A namespace of one test's own on the shared server, and what is asked of the graph behind the
//! store's back.

use dynamic_flow::store::{Neo4jConfig, Neo4jStore};
use dynamic_flow_services::{
    Corner, Kind,
    neo4j::{self, Neo4j, Options},
};
use neo4rs::{ConfigBuilder, Graph, Query, Row};

use crate::support;

/// Where the shared server is.
const URL: &str = "DFLOW_TEST_NEO4J_URL";

/// The labels, without the namespace.
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
    _corner: Corner,
}

impl Ground {
    /// A fresh one; none where there is no server, which is then said.
    pub(crate) fn new() -> Option<Self> {
        support::corner(Kind::Neo4j).map(Self::of)
    }

    /// A fresh one on a private server of that URL, which goes with the test.
    pub(crate) fn at(url: &str) -> Self {
        Self::of(Corner::private(Kind::Neo4j, url.into()))
    }

    fn of(corner: Corner) -> Self {
        let config = Neo4jConfig::from_url(&corner.url()).expect("the server's URL");
        Self { config, _corner: corner }
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
