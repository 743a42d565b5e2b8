//! The cycle on Neo4j beside its floor, and single calls beside ten thousand and a hundred thousand
//! parked runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dynamic_flow::{
    RunId, Timestamp,
    clock::{Clock as _, SystemClock},
    engine::RunStatus,
    hours, seconds,
    store::{Claim, Expect, Filter, Neo4jConfig, Neo4jStore, Queue, Record},
};
use neo4rs::{BoltMap, BoltType, ConfigBuilder, Graph, Query, Row as Answer};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    args::Args,
    cycles::{CONCURRENT, cycles, of_one, sealed},
    flow::{Bench, Order},
    sample::{Pairs, cpu, median},
    table::{Row, Table, time},
};

/// Where the server is. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_NEO4J_URL";
/// A cycle takes so many times what the floor does, at the most.
const MOST: f64 = 1.2;
/// A call beside the most runs takes so many times what it does beside the fewest, at the most.
const FLAT: f64 = 1.5;

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  Neo4j is not measured: {URL} is not set");
        return Ok(());
    };
    let mut config = Neo4jConfig::from_url(&url)?;
    config.namespace = format!("dflow_bench_{}_", std::process::id());
    let floor = runtime.block_on(Floor::new(&config))?;
    let store = Arc::new(Neo4jStore::new(config)?);
    let result = on(args, runtime, &store, &floor, table);
    runtime.block_on(floor.clear())?;
    result
}

fn on(
    args: &Args,
    runtime: &Runtime,
    store: &Arc<Neo4jStore>,
    floor: &Floor,
    table: &mut Table,
) -> Result<()> {
    let bench = runtime.block_on(Bench::over(store.clone()))?;
    let body = runtime.block_on(sealed(&bench))?;
    let numbers = AtomicUsize::new(1);
    for concurrent in CONCURRENT {
        let per_task = if concurrent == 1 { 50 } else { (400 / concurrent).max(4) };
        let batches = args.pick(5, 25);
        // The server makes and warms up the plans of statements when they come, too.
        for _ in 0..5 {
            runtime.block_on(floor.cycles(&body, concurrent, 8, &numbers))?;
            runtime.block_on(cycles(&bench, concurrent, 8, &numbers))?;
        }
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
        let row = Row::new(format!("Neo4j: a cycle, {concurrent} at once"), time(pairs.measured()));
        let mut row = row.floor(time(pairs.floor())).ratio(pairs.ratios()).n(&n);
        if concurrent != 16 {
            row = row.target(format!("at most {MOST} × the floor"), pairs.ratio() <= MOST);
        }
        table.add(row);
        let used = used / u32::try_from(batches * per_task * concurrent)?;
        let what = format!("Neo4j: CPU of a cycle, {concurrent} at once, client");
        table.add(Row::new(what, time(used)).n(n));
    }
    runtime.block_on(scale(args, &bench, table))
}

/// Nodes with an id and a body, through the same driver and as many connections.
#[derive(Clone)]
struct Floor {
    graph: Graph,
    namespace: String,
}

impl Floor {
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
    ) -> Result<Vec<Answer>> {
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

    /// Writes a new record of that number, reads it, and writes it two times more.
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
        self.ask(&update, [id(), body_of(&read.value)]).await?;
        self.ask(&update, [id(), body_of(body)]).await?;
        Ok(())
    }

    async fn cycles(
        &self,
        body: &[u8],
        concurrent: usize,
        per_task: usize,
        numbers: &AtomicUsize,
    ) -> Result<Duration> {
        let first = numbers.fetch_add(concurrent * per_task, Ordering::Relaxed);
        let body: Arc<[u8]> = body.into();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for task in 0..concurrent {
            let (floor, body) = (self.clone(), body.clone());
            tasks.spawn(async move {
                let mut times = Vec::with_capacity(per_task);
                for n in 0..per_task {
                    let began = Instant::now();
                    floor.cycle(first + task * per_task + n, &body).await?;
                    times.push(began.elapsed());
                }
                Ok::<_, crate::Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        Ok(of_one(began.elapsed(), &times, concurrent))
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

/// How many runs are parked, at the least and at the most.
fn sizes(args: &Args) -> [usize; 2] {
    if args.quick { [1_000, 10_000] } else { [10_000, 100_000] }
}

/// A call, and what it takes beside the fewest and the most runs.
type Calls = Vec<(&'static str, Duration)>;

async fn scale(args: &Args, bench: &Bench, table: &mut Table) -> Result<()> {
    let mut before: Option<Calls> = None;
    let mut parked = 0;
    for size in sizes(args) {
        let each = park(bench, parked, size).await?;
        let row = Row::new("Neo4j: insert, 64 at once", time(each));
        table.add(row.ratio(format!("{:.0} a second", 1.0 / each.as_secs_f64())).n(size - parked));
        parked = size;
        let calls = calls(args, bench).await?;
        match &before {
            None => before = Some(calls),
            Some(before) => {
                for ((what, few), (_, many)) in before.iter().zip(&calls) {
                    let ratio = many.as_secs_f64() / few.as_secs_f64();
                    let row = Row::new(format!("Neo4j: {what} beside {size}"), time(*many));
                    let row = row.floor(time(*few)).ratio(format!("{ratio:.2}"));
                    table.add(row.target(format!("at most {FLAT} ×"), ratio <= FLAT).n(size));
                }
            }
        }
    }
    Ok(())
}

/// Parks a run and copies it until there are so many, created long before, each with metadata of
/// its own. Gives how long one took.
async fn park(bench: &Bench, from: usize, to: usize) -> Result<Duration> {
    let key = bench.park(Order::new(0)).await?;
    let model = bench.store.get(key.run_id()).await?.ok_or("the parked run is not there")?;
    bench.finish(&key).await?;
    let start = SystemClock.now().before(hours(24 * 400));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let (store, model) = (bench.store.clone(), model.clone());
        tasks.spawn(async move {
            for n in (from + task..to).step_by(64) {
                let created = Timestamp::from_millis(start.as_millis() + n as i64 * 1000);
                let customer = format!("customer-{}", n % 1000).into();
                let metadata = [("customer".to_owned(), customer)].into();
                let record = Record { id: RunId::new(created)?, metadata, ..model.clone() };
                store.insert(record).await?;
            }
            Ok::<_, crate::Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(began.elapsed() / u32::try_from((to - from).max(1))?)
}

/// What single calls take, one after the other.
async fn calls(args: &Args, bench: &Bench) -> Result<Calls> {
    let times = args.pick(30, 200);
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
        ("a page, by deadline, few", Filter { expires_before: Some(now), ..any() }),
        ("a page, by deadline, many", Filter { expires_after: Some(now), ..any() }),
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
            let claimed = store.claim(claim(at)).await?;
            each.push(began.elapsed());
            for record in claimed {
                // As it was before, so that as many are parked for those who look next.
                let back = dynamic_flow::store::Change {
                    due_at: Some(Some(now.after(hours(24)))),
                    lease: Some(None),
                    status: Some(RunStatus::Waiting),
                    ..dynamic_flow::store::Change::at(now)
                };
                store.update(record.id, Expect::Any, back).await?;
            }
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
