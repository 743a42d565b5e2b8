//! The cycle on PostgreSQL beside its floor, and single calls beside ten thousand and a million
//! parked runs.

use std::sync::Arc;

use deadpool_postgres::{Manager, Pool};
use dynamic_flow::store::{PostgresConfig, PostgresStore};
use tokio::runtime::Runtime;
use tokio_postgres::{Config, NoTls};

use crate::{
    Result,
    args::Args,
    floor::changed,
    flow::{Bench, Order},
    server::{Floor, Plan},
    table::Table,
};

/// Where the server is, with the right to make schemas. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_POSTGRES_URL";

const PLAN: Plan = Plan {
    name: "PostgreSQL",
    batch: 50,
    batches: [5, 25],
    warm_up: 1,
    times: [50, 400],
    parked: [[10_000, 100_000], [10_000, 1_000_000]],
};

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  PostgreSQL is not measured: {URL} is not set");
        return Ok(());
    };
    let schema = format!("dflow_bench_{}", std::process::id());
    let floor = runtime.block_on(Rows::new(&url, &schema))?;
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}schema_name={schema}");
    let stores = [
        Arc::new(PostgresStore::from_url(&*url)?) as _,
        Arc::new(PostgresStore::from_url(&*url)?) as _,
    ];
    let result = PLAN.measure(args, runtime, stores, &floor, table);
    runtime.block_on(floor.execute(&format!("DROP SCHEMA {schema} CASCADE")))?;
    result
}

/// The same statements on a table of two columns, through the same driver and as many connections.
#[derive(Clone)]
struct Rows {
    pool: Pool,
    schema: String,
}

impl Rows {
    async fn new(url: &str, schema: &str) -> Result<Self> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut size = PostgresConfig::default().pool_size;
        for parameter in parameters.split('&') {
            if let Some(value) = parameter.strip_prefix("pool_size=") {
                size = value.parse()?;
            }
        }
        let config: Config = base.parse()?;
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(size).build()?;
        let floor = Self { pool, schema: schema.to_owned() };
        floor
            .execute(&format!(
                "CREATE SCHEMA {schema}; \
                 CREATE TABLE {schema}.floor (id bigint PRIMARY KEY, body bytea NOT NULL)"
            ))
            .await?;
        Ok(floor)
    }

    async fn execute(&self, script: &str) -> Result<()> {
        Ok(self.pool.get().await?.batch_execute(script).await?)
    }
}

impl Floor for Rows {
    async fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        let schema = &self.schema;
        let id = i64::try_from(number)?;
        let client = self.pool.get().await?;
        let insert = format!("INSERT INTO {schema}.floor (id, body) VALUES ($1, $2)");
        let insert = client.prepare_cached(&insert).await?;
        client.execute(&insert, &[&id, &body]).await?;
        drop(client);
        let client = self.pool.get().await?;
        let select = format!("SELECT body FROM {schema}.floor WHERE id = $1");
        let select = client.prepare_cached(&select).await?;
        let read: Vec<u8> = client.query_one(&select, &[&id]).await?.try_get(0)?;
        drop(client);
        for body in [changed(&read).as_slice(), body] {
            let client = self.pool.get().await?;
            let update = format!("UPDATE {schema}.floor SET body = $2 WHERE id = $1");
            let update = client.prepare_cached(&update).await?;
            client.execute(&update, &[&id, &body]).await?;
        }
        Ok(())
    }

    // A million of them, by statements of its own.
    async fn park(&self, bench: &Bench, from: usize, to: usize) -> Result<Option<f64>> {
        let key = bench.park(Order::new(0)).await?;
        let schema = &self.schema;
        let tables = format!("{schema}.suspended_flows");
        let model = key.run_id().to_string();
        let days = 400;
        // Created long before, a second after the other, each with metadata of its own.
        let id = format!(
            "(lpad(to_hex((extract(epoch FROM now() - interval '{days} days') * 1000)::bigint + n), \
             12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid"
        );
        let runs = format!("generate_series({from}, {to} - 1) AS n");
        let columns = "revision, epoch, updated_at, due_at, lease_until, attempts, inbox_len, \
                       flow_id, queue, status, lease_owner, waits";
        let size = format!(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c \
             WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' \
             AND c.relname LIKE 'suspended%'"
        );
        let client = self.pool.get().await?;
        let before: i64 = client.query_one(&size, &[]).await?.get(0);
        client
            .batch_execute(&format!(
                "INSERT INTO {tables} (id, {columns}, metadata, state, inbox) \
                   SELECT {id}, {columns}, \
                     json_build_object('customer', 'customer-' || n % 100), \
                     state || ''::bytea, inbox FROM {tables}, {runs} WHERE id = '{model}'; \
                 INSERT INTO {tables}_waits (run, tool_id, expires_at) \
                   SELECT {id}, tool_id, expires_at FROM {tables}_waits, {runs} \
                   WHERE run = '{model}'; \
                 INSERT INTO {tables}_metadata (run, entry) \
                   SELECT {id}, '[\"customer\",\"customer-' || n % 100 || '\"]' FROM {runs}"
            ))
            .await?;
        let after: i64 = client.query_one(&size, &[]).await?.get(0);
        // One by one: several together are a transaction, in which this can't be done.
        for table in ["", "_waits", "_metadata"] {
            client.batch_execute(&format!("VACUUM ANALYZE {tables}{table}")).await?;
        }
        client.batch_execute("CHECKPOINT").await?;
        bench.finish(&key).await?;
        Ok(Some((after - before) as f64 / (to - from) as f64))
    }
}
