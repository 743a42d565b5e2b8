//! The cycle on Redis beside its floor, and single calls beside ten thousand and a million parked
//! runs.

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
    store::{Claim, Filter, Queue, Record, RedisConfig, RedisStore},
};
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection};
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
const URL: &str = "DFLOW_TEST_REDIS_URL";
/// A cycle takes so many times what the floor does, at the most.
const MOST: f64 = 1.2;
/// A call beside the most runs takes so many times what it does beside the fewest, at the most.
const FLAT: f64 = 1.5;
/// The bytes of a parked run with an input of 4 KiB, at the most.
const BYTES: f64 = 2560.0;
/// How many runs are written at once when very many are.
const AT_ONCE: usize = 512;

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  Redis is not measured: {URL} is not set");
        return Ok(());
    };
    let mut config = RedisConfig::from_url(&url)?;
    config.key_prefix = format!("dflow_bench_{}:", std::process::id());
    // Beside a million others a call may wait while one of them makes the server sync.
    config.operation_timeout = seconds(60);
    let floor = runtime.block_on(Floor::new(&url, &config.key_prefix))?;
    let store = RedisStore::new(config)?;
    let result = on(args, runtime, Arc::new(store), &floor, table);
    runtime.block_on(floor.clear())?;
    result
}

fn on(
    args: &Args,
    runtime: &Runtime,
    store: Arc<RedisStore>,
    floor: &Floor,
    table: &mut Table,
) -> Result<()> {
    let bench = runtime.block_on(Bench::over(store))?;
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
        let row = Row::new(format!("Redis: a cycle, {concurrent} at once"), time(pairs.measured()));
        let mut row = row.floor(time(pairs.floor())).ratio(pairs.ratios()).n(&n);
        if concurrent != 16 {
            row = row.target(format!("at most {MOST} × the floor"), pairs.ratio() <= MOST);
        }
        table.add(row);
        let used = used / u32::try_from(batches * per_task * concurrent)?;
        let row =
            Row::new(format!("Redis: CPU of a cycle, {concurrent} at once, client"), time(used));
        table.add(row.n(n));
    }
    runtime.block_on(scale(args, &bench, floor, table))
}

/// The same number of writes and reads of whole values, through the same driver.
#[derive(Clone)]
struct Floor {
    server: MultiplexedConnection,
    prefix: Arc<str>,
}

impl Floor {
    async fn new(url: &str, prefix: &str) -> Result<Self> {
        let base = url.split('?').next().unwrap_or_default();
        let server = Client::open(base)?.get_multiplexed_async_connection().await?;
        Ok(Self { server, prefix: prefix.into() })
    }

    /// Writes a new value of that number, reads it, and writes it two times more.
    async fn cycle(&mut self, number: usize, body: &[u8]) -> Result<()> {
        let key = format!("{}floor:{number}", self.prefix);
        let written: bool = self.server.set_nx(&key, body).await?;
        if !written {
            return Err("there is such a value".into());
        }
        let read: Vec<u8> = self.server.get(&key).await?;
        let _: () = self.server.set(&key, &read).await?;
        Ok(self.server.set(&key, body).await?)
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
                let (mut floor, body) = (self.clone(), body.clone());
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

    /// The bytes of memory that the server uses for data.
    async fn used(&self) -> Result<f64> {
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut self.server.clone()).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
        Ok(used.ok_or("the server does not tell what it uses")?.trim().parse()?)
    }

    /// Removes what was measured with.
    async fn clear(&self) -> Result<()> {
        let mut server = self.server.clone();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(10_000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut server).await?;
            if !keys.is_empty() {
                let _: () = server.unlink(keys).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
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
        let empty = floor.used().await?;
        copy(bench, parked, size).await?;
        let weight = (floor.used().await? - empty) / (size - parked) as f64;
        let row = Row::new("Redis: memory of a parked run", format!("{weight:.0} B"));
        table.add(row.target(format!("at most {BYTES} B"), weight <= BYTES).n(size - parked));
        parked = size;
        let calls = calls(args, bench).await?;
        let Some(before) = &before else {
            before = Some(calls);
            continue;
        };
        for ((what, few), (_, many)) in before.iter().zip(&calls) {
            let ratio = many.as_secs_f64() / few.as_secs_f64();
            let row = Row::new(format!("Redis: {what} beside {size}"), time(*many));
            let row = row.floor(time(*few)).ratio(format!("{ratio:.2}"));
            table.add(row.target(format!("at most {FLAT} ×"), ratio <= FLAT).n(size));
        }
    }
    Ok(())
}

/// Parks a run and copies it until there are so many, each created a second after the last, long
/// before, with metadata and a deadline of its own.
async fn copy(bench: &Bench, from: usize, to: usize) -> Result<()> {
    let key = bench.park(Order::new(0)).await?;
    let model = bench.store.get(key.run_id()).await?.ok_or("the parked run is not there")?;
    let start = SystemClock.now().before(hours(400 * 24)).as_millis();
    let mut writes = JoinSet::new();
    for n in from..to {
        let time = start + i64::try_from(n)? * 1000;
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&time.to_be_bytes()[2..]);
        bytes[6] = 0x70;
        bytes[8..].copy_from_slice(&(1_u64 << 63 | n as u64).to_be_bytes());
        let mut copy = Record { id: RunId::from_bytes(bytes), ..model.clone() };
        let later = |at: Timestamp| Timestamp::from_millis(at.as_millis() + n as i64 % 86_400_000);
        copy.due_at = copy.due_at.map(later);
        for wait in &mut copy.waits {
            wait.expires_at = wait.expires_at.map(later);
        }
        copy.metadata.insert("customer".into(), format!("customer-{}", n % 1000).into());
        let store = bench.store.clone();
        writes.spawn(async move { store.insert(copy).await });
        if writes.len() >= AT_ONCE {
            writes.join_next().await.ok_or("nobody writes")???;
        }
    }
    while let Some(written) = writes.join_next().await {
        written??;
    }
    bench.finish(&key).await
}

/// What single calls take, one after the other.
async fn calls(args: &Args, bench: &Bench) -> Result<Calls> {
    let times = args.pick(50, 400);
    let store = &*bench.store;
    let now = SystemClock.now();
    let any = Filter::default;
    let mut customer = any();
    customer.metadata.insert("customer".into(), "customer-5".into());
    let waiting = || Filter { status: [RunStatus::Waiting].into(), ..any() };
    let mut calls = Vec::new();
    for (what, filter) in [
        ("a page, everything", any()),
        ("a page, by status", waiting()),
        ("a page, by rare status", Filter { status: [RunStatus::Failed].into(), ..any() }),
        ("a page, by flow", Filter { flow_id: Some("purchase".into()), ..any() }),
        ("a page, by tool", Filter { tool_id: Some("manager-approval".into()), ..any() }),
        ("a page, by deadline", Filter { expires_before: Some(now), ..any() }),
        ("a page, by far deadline", Filter { expires_after: Some(now), ..any() }),
        ("a page, by metadata", customer.clone()),
        ("a page, by metadata and status", Filter { metadata: customer.metadata, ..waiting() }),
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
