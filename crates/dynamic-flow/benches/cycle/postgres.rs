//! The cycle on PostgreSQL beside its floor, and single calls beside ten thousand and a million
//! parked runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Manager, Pool};
use dynamic_flow::{
    Timestamp,
    clock::{Clock as _, SystemClock},
    engine::RunStatus,
    hours, seconds,
    store::{Claim, Filter, PostgresStore, Queue},
};
use tokio::runtime::Runtime;
use tokio_postgres::{Config, NoTls};

use crate::{
    Result,
    args::Args,
    cycles::{CONCURRENT, cycles, of_one, sealed},
    flow::{Bench, Order},
    sample::{Pairs, cpu, median},
    table::{Row, Table, time},
};

/// Where the server is, with the right to make schemas. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_POSTGRES_URL";
/// A cycle takes so many times what the floor does, at the most.
const MOST: f64 = 1.2;
/// A call beside the most runs takes so many times what it does beside the fewest, at the most.
const FLAT: f64 = 1.5;
/// The bytes of a parked run with an input of 4 KiB, at the most.
const BYTES: f64 = 2560.0;

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  PostgreSQL is not measured: {URL} is not set");
        return Ok(());
    };
    let schema = format!("dflow_bench_{}", std::process::id());
    let floor = runtime.block_on(Floor::new(&url, &schema))?;
    let separator = if url.contains('?') { '&' } else { '?' };
    let store = PostgresStore::from_url(format!("{url}{separator}schema_name={schema}"))?;
    let result = on(args, runtime, &Arc::new(store), &floor, table);
    runtime.block_on(floor.execute(&format!("DROP SCHEMA {schema} CASCADE")))?;
    result
}

fn on(
    args: &Args,
    runtime: &Runtime,
    store: &Arc<PostgresStore>,
    floor: &Floor,
    table: &mut Table,
) -> Result<()> {
    let bench = runtime.block_on(Bench::over(store.clone()))?;
    let body: Arc<[u8]> = runtime.block_on(sealed(&bench))?.into();
    let numbers = AtomicUsize::new(1);
    for concurrent in CONCURRENT {
        let per_task = if concurrent == 1 { 50 } else { (400 / concurrent).max(4) };
        let batches = args.pick(5, 25);
        runtime.block_on(floor.cycles(&body, concurrent, 4, &numbers))?;
        runtime.block_on(cycles(&bench, concurrent, 4, &numbers))?;
        let mut pairs = Pairs::default();
        let mut used = Duration::ZERO;
        for _ in 0..batches {
            let below = runtime.block_on(floor.cycles(&body, concurrent, per_task, &numbers))?;
            let before = cpu()?;
            let above = runtime.block_on(cycles(&bench, concurrent, per_task, &numbers))?;
            used += cpu()?.saturating_sub(before);
            pairs.push(below, above);
        }
        let n = format!("{batches} × {}", per_task * concurrent);
        let row =
            Row::new(format!("PostgreSQL: a cycle, {concurrent} at once"), time(pairs.measured()));
        let mut row = row.floor(time(pairs.floor())).ratio(pairs.ratios()).n(&n);
        if concurrent != 16 {
            row = row.target(format!("at most {MOST} × the floor"), pairs.ratio() <= MOST);
        }
        table.add(row);
        let used = used / u32::try_from(batches * per_task * concurrent)?;
        table.add(
            Row::new(
                format!("PostgreSQL: CPU of a cycle, {concurrent} at once, client"),
                time(used),
            )
            .n(n),
        );
    }
    runtime.block_on(scale(args, &bench, floor, table))
}

/// The same statements on a table of two columns, through the same driver and as many connections.
struct Floor {
    pool: Pool,
    schema: String,
}

impl Floor {
    async fn new(url: &str, schema: &str) -> Result<Self> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut size = dynamic_flow::store::PostgresConfig::default().pool_size;
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

    /// Writes a new record of that number, reads it, and writes it two times more.
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
        for body in [&read, body] {
            let client = self.pool.get().await?;
            let update = format!("UPDATE {schema}.floor SET body = $2 WHERE id = $1");
            let update = client.prepare_cached(&update).await?;
            client.execute(&update, &[&id, &body]).await?;
        }
        Ok(())
    }

    async fn cycles(
        &self,
        body: &Arc<[u8]>,
        concurrent: usize,
        per_task: usize,
        numbers: &AtomicUsize,
    ) -> Result<Duration> {
        let first = numbers.fetch_add(concurrent * per_task, Ordering::Relaxed);
        let began = Instant::now();
        let tasks: Vec<_> = (0..concurrent)
            .map(|task| {
                let floor = Self { pool: self.pool.clone(), schema: self.schema.clone() };
                let body = body.clone();
                tokio::spawn(async move {
                    let mut times = Vec::with_capacity(per_task);
                    for n in 0..per_task {
                        let began = Instant::now();
                        floor.cycle(first + task * per_task + n, &body).await?;
                        times.push(began.elapsed());
                    }
                    Ok::<_, crate::Failure>(times)
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        Ok(of_one(began.elapsed(), &times, concurrent))
    }
}

/// How many runs are parked, at the least and at the most.
fn sizes(args: &Args) -> [usize; 2] {
    [10_000, if args.quick { 100_000 } else { 1_000_000 }]
}

/// A call, and what it takes beside the fewest and the most runs.
type Calls = Vec<(&'static str, Duration)>;

async fn scale(args: &Args, bench: &Bench, floor: &Floor, table: &mut Table) -> Result<()> {
    let mut before: Option<Calls> = None;
    let mut parked = 0;
    for size in sizes(args) {
        let weight = floor.copy(bench, parked, size).await?;
        parked = size;
        let calls = calls(args, bench).await?;
        match &before {
            None => {
                let row = Row::new("PostgreSQL: stored for a parked run", format!("{weight:.0} B"));
                table.add(row.target(format!("at most {BYTES} B"), weight <= BYTES).n(size));
                before = Some(calls);
            }
            Some(before) => {
                for ((what, few), (_, many)) in before.iter().zip(&calls) {
                    let ratio = many.as_secs_f64() / few.as_secs_f64();
                    let row = Row::new(format!("PostgreSQL: {what} beside {size}"), time(*many));
                    let row = row.floor(time(*few)).ratio(format!("{ratio:.2}"));
                    table.add(row.target(format!("at most {FLAT} ×"), ratio <= FLAT).n(size));
                }
            }
        }
    }
    Ok(())
}

impl Floor {
    /// Parks a run, copies it until there are so many, and tells how many bytes each of them takes.
    async fn copy(&self, bench: &Bench, from: usize, to: usize) -> Result<f64> {
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
                     json_build_object('customer', 'customer-' || n % 1000), \
                     state || ''::bytea, inbox FROM {tables}, {runs} WHERE id = '{model}'; \
                 INSERT INTO {tables}_waits (run, tool_id, expires_at) \
                   SELECT {id}, tool_id, expires_at FROM {tables}_waits, {runs} \
                   WHERE run = '{model}'; \
                 INSERT INTO {tables}_metadata (run, entry) \
                   SELECT {id}, '[\"customer\",\"customer-' || n % 1000 || '\"]' FROM {runs}"
            ))
            .await?;
        let after: i64 = client.query_one(&size, &[]).await?.get(0);
        client
            .batch_execute(&format!(
                "VACUUM ANALYZE {tables}; VACUUM ANALYZE {tables}_waits; \
                 VACUUM ANALYZE {tables}_metadata; CHECKPOINT"
            ))
            .await?;
        bench.finish(&key).await?;
        Ok((after - before) as f64 / (to - from) as f64)
    }
}

/// What single calls take, one after the other.
async fn calls(args: &Args, bench: &Bench) -> Result<Calls> {
    let times = args.pick(50, 400);
    let store = &*bench.store;
    let now = SystemClock.now();
    let mut customer = Filter::default();
    customer.metadata.insert("customer".into(), "customer-5".into());
    let any = Filter::default;
    let mut calls = Vec::new();
    for (what, filter) in [
        ("a page, everything", any()),
        ("a page, by status", Filter { status: [RunStatus::Waiting].into(), ..any() }),
        ("a page, by rare status", Filter { status: [RunStatus::Failed].into(), ..any() }),
        ("a page, by flow", Filter { flow_id: Some("purchase".into()), ..any() }),
        ("a page, by tool", Filter { tool_id: Some("manager-approval".into()), ..any() }),
        ("a page, by deadline", Filter { expires_before: Some(now), ..any() }),
        ("a page, by metadata", customer),
    ] {
        let mut each = Vec::new();
        for _ in 0..times {
            let began = Instant::now();
            store.query(&filter, None, 50).await?;
            each.push(began.elapsed());
        }
        calls.push((what, median(&each)));
    }
    let claim = |now: Timestamp| Claim {
        now,
        queues: vec![Queue::of_flow(&"purchase".into())],
        owner: "bench".into(),
        lease: seconds(30),
        limit: 10,
    };
    for (what, at) in [("a claim, nothing due", now), ("a claim of ten", now.after(hours(48)))] {
        let mut each = Vec::new();
        for _ in 0..times {
            let began = Instant::now();
            store.claim(claim(at)).await?;
            each.push(began.elapsed());
        }
        calls.push((what, median(&each)));
    }
    let (mut suspends, mut resumes) = (Vec::new(), Vec::new());
    for n in 0..times {
        let began = Instant::now();
        let key = bench.park(Order::new(n)).await?;
        suspends.push(began.elapsed());
        let began = Instant::now();
        bench.finish(&key).await?;
        resumes.push(began.elapsed());
    }
    calls.push(("suspend", median(&suspends)));
    calls.push(("resume", median(&resumes)));
    Ok(calls)
}
