//! One cycle on each store, at 1, 16 and 64 concurrent runs, in turns with its floor.

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dynamic_flow::store::{FileStore, MemoryStore, SqliteStore, Store};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    calls::{Beside, Calls},
    floor::{FileFloor, Floor, MemoryFloor, SqliteFloor},
    flow::{Bench, Order},
    latency,
    sample::{cpu, median},
    table::{Row, Table, time},
};

/// How many runs are in work at once.
pub(crate) const CONCURRENT: [usize; 3] = [1, 16, 64];

/// After so many cycles a store is as it stays: a write-ahead log, for one, is written over from then
/// on, which is synced in less than half the time that it takes to make it longer.
const SETTLED: usize = 500;

/// What is expected of a store.
struct Targets {
    /// CPU of one cycle at 1.
    cpu: Option<Duration>,
    /// Time of one cycle at 1, in times of the floor.
    alone: Option<f64>,
    /// Throughput at 64, in times of the floor's at 1.
    crowd: Option<f64>,
}

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let none = Targets { cpu: None, alone: None, crowd: None };
    if args.wants("memory") {
        let targets = Targets { cpu: Some(Duration::from_micros(300)), ..none };
        let floor = MemoryFloor::default();
        let batch = 200;
        let store = Arc::new(MemoryStore::new());
        on(args, runtime, "memory", store.clone(), &floor, batch, &targets, table)?;
        latency::measure(args, runtime, "memory", [store.clone(), store], table)?;
    }
    if args.wants("file") {
        let targets = Targets { alone: Some(1.3), ..none };
        let floor = FileFloor::new(&folder(args, "floor")?)?;
        let store = || Arc::new(FileStore::new(args.dir.join("file")));
        on(args, runtime, "filesystem", store(), &floor, 32, &targets, table)?;
        latency::measure(args, runtime, "filesystem", [store(), store()], table)?;
    }
    if args.wants("sqlite") {
        let targets = Targets { alone: Some(1.3), crowd: Some(2.0), ..none };
        let floor = SqliteFloor::new(&folder(args, "sqlite-floor")?.join("floor.db"))?;
        let store = || Arc::new(SqliteStore::new(args.dir.join("sqlite/flows.db")));
        on(args, runtime, "SQLite", store(), &floor, 32, &targets, table)?;
        latency::measure(args, runtime, "SQLite", [store(), store()], table)?;
    }
    Ok(())
}

fn folder(args: &Args, name: &str) -> Result<std::path::PathBuf> {
    let folder = args.dir.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Measures one store; a batch at 1 is of so many cycles, and of more where more are at once.
#[expect(clippy::too_many_arguments, reason = "called three times, right above")]
fn on(
    args: &Args,
    runtime: &Runtime,
    name: &str,
    store: Arc<dyn Store>,
    floor: &dyn Floor,
    batch: usize,
    targets: &Targets,
    table: &mut Table,
) -> Result<()> {
    let bench = runtime.block_on(Bench::over(store))?;
    let body = runtime.block_on(sealed(&bench))?;
    let calls = Arc::new(runtime.block_on(Calls::of_a_cycle())?);
    let numbers = AtomicUsize::new(1);
    floors(floor, 1, SETTLED, &body, &numbers)?;
    runtime.block_on(cycles(&bench, 1, SETTLED, &numbers))?;
    let mut floor_alone = Duration::ZERO;
    for concurrent in CONCURRENT {
        let per_task = if concurrent == 1 { batch } else { (batch * 4 / concurrent).max(2) };
        let batches = args.pick(5, 25);
        // What is made once (threads, connections, statements, folders) is not what is measured.
        floors(floor, concurrent, 2, &body, &numbers)?;
        runtime.block_on(cycles(&bench, concurrent, 2, &numbers))?;
        let mut beside = Beside::default();
        let mut used = Duration::ZERO;
        for _ in 0..batches {
            let below = floors(floor, concurrent, per_task, &body, &numbers)?;
            let above = runtime.block_on(cycles(&bench, concurrent, per_task, &numbers))?;
            let alone = calls.crowd(&bench.store, concurrent, per_task, &numbers);
            let alone = runtime.block_on(alone)?;
            used += above.cpu;
            beside.push(below, alone.time, above.time);
        }
        let pairs = &beside.cycle;
        let count = batches * per_task * concurrent;
        let used = used / u32::try_from(count)?;
        if concurrent == 1 {
            floor_alone = pairs.floor();
        }
        let n = format!("{batches} × {}", per_task * concurrent);
        let mut row =
            Row::new(format!("{name}: a cycle, {concurrent} at once"), time(pairs.measured()))
                .floor(time(pairs.floor()))
                .ratio(pairs.ratios())
                .n(&n);
        if let (1, Some(most)) = (concurrent, targets.alone) {
            row = row.target(format!("at most {most} × the floor"), pairs.ratio() <= most);
        }
        table.add(row);
        beside.tell(name, concurrent, &n, table);
        let faster = floor_alone.as_secs_f64() / pairs.measured().as_secs_f64();
        let throughput = 1.0 / pairs.measured().as_secs_f64();
        if concurrent > 1 {
            let mut row = Row::new(
                format!("{name}: cycles a second, {concurrent} at once"),
                format!("{throughput:.0}"),
            )
            .floor(format!("{:.0} at 1", 1.0 / floor_alone.as_secs_f64()))
            .ratio(format!("{faster:.2}"));
            if let (64, Some(least)) = (concurrent, targets.crowd) {
                row = row.target(format!("at least {least} × the floor at 1"), faster >= least);
            }
            table.add(row);
        }
        let mut row =
            Row::new(format!("{name}: CPU of a cycle, {concurrent} at once"), time(used)).n(n);
        if let (1, Some(most)) = (concurrent, targets.cpu) {
            row = row.target(format!("at most {}", time(most)), used <= most);
        }
        table.add(row);
    }
    Ok(())
}

/// The sealed snapshot of a parked run: as many bytes as the floor writes each time.
pub(crate) async fn sealed(bench: &Bench) -> Result<Vec<u8>> {
    let key = bench.park(Order::new(0)).await?;
    let record = bench.store.get(key.run_id()).await?.ok_or("the parked run is not there")?;
    bench.finish(&key).await?;
    Ok(record.snapshot.0)
}

/// What one of many took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// The median where they come one after the other, the whole time divided by their number where
    /// they don't.
    pub(crate) time: Duration,
    /// Of all of them.
    pub(crate) cpu: Duration,
}

/// Makes so many cycles in each of so many tasks; see [`crowd`].
pub(crate) async fn cycles(
    bench: &Bench,
    concurrent: usize,
    per_task: usize,
    numbers: &AtomicUsize,
) -> Result<Took> {
    let bench = bench.clone();
    let cycle = move |number| {
        let (bench, order) = (bench.clone(), Order::new(number));
        async move { bench.cycle(order).await }
    };
    crowd(concurrent, per_task, numbers, cycle).await
}

/// Does something as often as that in each of so many tasks, each time with a new number. What it
/// takes to get the work ready is not measured.
pub(crate) async fn crowd<F: Future<Output = Result<()>> + Send + 'static>(
    concurrent: usize,
    per_task: usize,
    numbers: &AtomicUsize,
    work: impl Fn(usize) -> F,
) -> Result<Took> {
    let first = numbers.fetch_add(concurrent * per_task, Ordering::Relaxed);
    let of_task = |task| (0..per_task).map(|n| work(first + task * per_task + n)).collect();
    let works: Vec<Vec<F>> = (0..concurrent).map(of_task).collect();
    let used = cpu()?;
    let began = Instant::now();
    let tasks: Vec<_> = works
        .into_iter()
        .map(|works| {
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(works.len());
                for work in works {
                    let began = Instant::now();
                    work.await?;
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
    let time = of_one(began.elapsed(), &times, concurrent);
    Ok(Took { time, cpu: cpu()?.saturating_sub(used) })
}

/// The same of the floor, in threads.
fn floors(
    floor: &dyn Floor,
    concurrent: usize,
    per_task: usize,
    body: &[u8],
    numbers: &AtomicUsize,
) -> Result<Duration> {
    let first = numbers.fetch_add(concurrent * per_task, Ordering::Relaxed);
    let work = |task: usize| {
        let mut times = Vec::with_capacity(per_task);
        for n in 0..per_task {
            let began = Instant::now();
            floor.cycle(first + task * per_task + n, body)?;
            times.push(began.elapsed());
        }
        Ok::<_, crate::Failure>(times)
    };
    let began = Instant::now();
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..concurrent).map(|task| scope.spawn(move || work(task))).collect();
        let each = threads.into_iter().map(|thread| match thread.join() {
            Ok(times) => times,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        each.collect::<Result<Vec<_>>>()
    })?;
    Ok(of_one(began.elapsed(), &times.concat(), concurrent))
}

fn of_one(elapsed: Duration, times: &[Duration], concurrent: usize) -> Duration {
    match concurrent {
        1 => median(times),
        _ => elapsed / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX),
    }
}

/// Removes what an earlier measurement left.
pub(crate) fn clear(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(std::fs::create_dir_all(dir)?),
    }
}
