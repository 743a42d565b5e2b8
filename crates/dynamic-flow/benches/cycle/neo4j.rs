//! The cycle on Neo4j beside its floor, and single calls beside ten thousand and a hundred thousand
//! parked runs.

use std::sync::Arc;

use dynamic_flow::store::{Neo4jConfig, Neo4jStore};
use neo4rs::{BoltMap, BoltType, ConfigBuilder, Graph, Query, Row};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    floor::changed,
    flow::Bench,
    server::{Floor, Plan, copy},
    table::Table,
};

/// Where the server is. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_NEO4J_URL";

const PLAN: Plan = Plan {
    name: "Neo4j",
    batch: 50,
    batches: [5, 25],
    warm_up: 5,
    times: [30, 200],
    parked: [[1_000, 10_000], [10_000, 100_000]],
};

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  Neo4j is not measured: {URL} is not set");
        return Ok(());
    };
    let mut config = Neo4jConfig::from_url(&url)?;
    config.namespace = format!("dflow_bench_{}_", std::process::id());
    let floor = runtime.block_on(Nodes::new(&config))?;
    let stores =
        [Arc::new(Neo4jStore::new(config.clone())?) as _, Arc::new(Neo4jStore::new(config)?) as _];
    let result = PLAN.measure(args, runtime, stores, &floor, table);
    runtime.block_on(floor.clear())?;
    result
}

/// Nodes with an id and a body, through the same driver and as many connections.
#[derive(Clone)]
struct Nodes {
    graph: Graph,
    namespace: String,
}

impl Nodes {
    async fn new(config: &Neo4jConfig) -> Result<Self> {
        let builder = ConfigBuilder::new()
            .uri(&config.uri)
            .user(&config.username)
            .password(config.password.expose())
            .db(&*config.database)
            .max_connections(config.pool_size)
            .fetch_size(100);
        let graph = Graph::connect(builder.build()?)?;
        let it = Self { graph, namespace: config.namespace.clone() };
        let label = it.label();
        let create = format!(
            "CREATE CONSTRAINT `{label}` IF NOT EXISTS FOR (f:`{label}`) REQUIRE f.id IS UNIQUE"
        );
        it.ask(&create, []).await?;
        Ok(it)
    }

    fn label(&self) -> String {
        format!("{}Floor", self.namespace)
    }

    /// Runs a statement; its parameters come in one map, which is the fastest way.
    async fn ask<const N: usize>(
        &self,
        text: &str,
        params: [(&str, BoltType); N],
    ) -> Result<Vec<Row>> {
        let params = params.into_iter().map(|(name, value)| (name.into(), value));
        let params = params.collect::<BoltMap>();
        let query = Query::new(text.to_owned()).param("p", BoltType::Map(params));
        let mut stream = self.graph.execute(query).await?;
        let mut rows = Vec::new();
        while let Some(row) = stream.next().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    async fn clear(&self) -> Result<()> {
        let namespace = &self.namespace;
        let labels = ["SuspendedFlow", "Flow", "Tool", "Metadata", "SuspendedFlowSchema", "Floor"];
        for label in labels {
            let delete = format!(
                "MATCH (x:`{namespace}{label}`) \
                 CALL (x) {{ DETACH DELETE x }} IN TRANSACTIONS OF 5000 ROWS"
            );
            self.ask(&delete, []).await?;
        }
        let own = [("namespace", BoltType::from(&**namespace))];
        for (kind, owned) in [("CONSTRAINT", ""), ("INDEX", " AND owningConstraint IS NULL")] {
            let find = format!(
                "SHOW {kind}{} YIELD * WHERE name STARTS WITH $p.namespace{owned} RETURN name",
                if kind == "INDEX" { "ES" } else { "S" }
            );
            for row in self.ask(&find, own.clone()).await? {
                let name: String = row.get("name")?;
                self.ask(&format!("DROP {kind} `{name}`"), []).await?;
            }
        }
        Ok(())
    }
}

impl Floor for Nodes {
    async fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        let label = self.label();
        let id = || ("id", BoltType::from(format!("{number:036}")));
        let body_of = |body: &[u8]| ("body", BoltType::from(body.to_vec()));
        let insert = format!("CREATE (f:`{label}` {{id: $p.id, body: $p.body}}) RETURN true");
        self.ask(&insert, [id(), body_of(body)]).await?;
        let select = format!("MATCH (f:`{label}` {{id: $p.id}}) RETURN f.body AS body");
        let rows = self.ask(&select, [id()]).await?;
        let read: BoltType = rows.first().ok_or("not there")?.get("body")?;
        let BoltType::Bytes(read) = read else { return Err("no bytes".into()) };
        let update = format!("MATCH (f:`{label}` {{id: $p.id}}) SET f.body = $p.body RETURN true");
        self.ask(&update, [id(), body_of(&changed(&read.value))]).await?;
        self.ask(&update, [id(), body_of(body)]).await?;
        Ok(())
    }

    async fn park(&self, bench: &Bench, from: usize, to: usize) -> Result<Option<f64>> {
        copy(bench, from, to, 64).await?;
        // The Community edition can't be made to write all that it holds to where it is seen.
        Ok(None)
    }
}
