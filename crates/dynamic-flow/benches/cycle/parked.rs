//! Very many parked runs: what they cost in memory, and what a claim and a page cost beside them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use dynamic_flow::{
    Clock as _, RunStatus, SystemClock, Timestamp, hours,
    hub::Handle,
    seconds,
    store::{Claim, FileStore, Filter, Queue, SqliteStore, Store},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    args::Args,
    flow::{Bench, Order, Processed, flow, park},
    sample::{median, resident},
    table::{Row, Table, time},
};

/// How many runs are parked at once.
const AT_ONCE: usize = 64;
/// How many of them have a deadline that is near.
const EARLY: usize = 200;
/// More bytes than this for a run, and a parked run costs memory. What is left is the allocator's
/// and the page cache of SQLite's, which do not grow on.
const NO_MEMORY: f64 = 16.0;
const CLAIM: Duration = Duration::from_millis(10);
const PAGE: Duration = Duration::from_millis(200);
/// How many runs a page has.
const ROWS: usize = 50;

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let sqlite = Arc::new(SqliteStore::new(args.dir.join("parked/flows.db")));
    on(args, runtime, "SQLite", sqlite, table)?;
    std::fs::remove_dir_all(args.dir.join("parked"))?;
    let file = Arc::new(FileStore::new(args.dir.join("parked")));
    on(args, runtime, "filesystem", file, table)
}

#[expect(clippy::needless_pass_by_value, reason = "the callers have different kinds of stores")]
fn on(
    args: &Args,
    runtime: &Runtime,
    name: &str,
    store: Arc<dyn Store>,
    table: &mut Table,
) -> Result<()> {
    let bench = runtime.block_on(Bench::over(store.clone()))?;
    let handle = bench.hub.register(flow("parked", 24)?)?;
    let early = bench.hub.register(flow("early", 1)?)?;
    runtime.block_on(park_all(&early, 0, EARLY))?;
    // The first half also pays for what is there once: threads, connections, caches, and what the
    // allocator keeps. The second half weighs what a run does.
    let half = args.parked / 2;
    let start = resident()? as f64;
    let began = Instant::now();
    runtime.block_on(park_all(&handle, EARLY, half))?;
    let before = resident()? as f64;
    runtime.block_on(park_all(&handle, EARLY + half, args.parked - half))?;
    let each = began.elapsed() / u32::try_from(args.parked)?;
    let after = resident()? as f64;
    let parked = args.parked + EARLY;
    let per_run = (after - before) / (args.parked - half) as f64;
    let row = Row::new(
        format!("{name}: memory of a parked run, second half"),
        format!("{per_run:.1} B ({:.1}, {:.1}, {:.1} MiB)", mib(start), mib(before), mib(after)),
    );
    // A few pages say nothing of a few runs.
    let none = per_run < NO_MEMORY || after - before < 1e6;
    table.add(row.target(format!("none: below {NO_MEMORY} B"), none).n(args.parked - half));
    let row = Row::new(format!("{name}: park, {AT_ONCE} at once"), time(each));
    table.add(row.ratio(format!("{:.0} a second", 1.0 / each.as_secs_f64())).n(args.parked));
    let row =
        Row::new(format!("{name}: disk of a parked run"), used(&args.dir.join("parked"), parked)?);
    table.add(row.n(parked));
    runtime.block_on(claims(args, name, store.as_ref(), parked, table))?;
    runtime.block_on(pages(args, name, store.as_ref(), parked, table))
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The space that the store takes on the disk, a run.
fn used(folder: &Path, parked: usize) -> Result<String> {
    let out = std::process::Command::new("du").arg("-sk").arg(folder).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let kib: f64 = text.split_whitespace().next().ok_or("du told nothing")?.parse()?;
    Ok(format!("{:.1} KiB", kib / parked as f64))
}

async fn park_all(handle: &Handle<Order, Processed>, first: usize, count: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE {
        let handle = handle.clone();
        tasks.spawn(async move {
            for number in (task..count).step_by(AT_ONCE) {
                park(&handle, Order::new(first + number)).await?;
            }
            Ok::<_, crate::Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn claims(
    args: &Args,
    name: &str,
    store: &dyn Store,
    parked: usize,
    table: &mut Table,
) -> Result<()> {
    let now = SystemClock.now();
    let claim = |now: Timestamp, limit: usize| Claim {
        now,
        queues: ["parked", "early"].map(|id| Queue::of_flow(&id.into())).to_vec(),
        owner: "bench".into(),
        lease: seconds(30),
        limit,
        except: [].into(),
    };
    for (what, at, limit, given) in [
        ("a claim, nothing due", now, 10, 0),
        ("a claim of one of those due", now.after(hours(2)), 1, 1),
        ("a claim of ten of those due", now.after(hours(2)), 10, 10),
    ] {
        let mut times = Vec::new();
        for _ in 0..args.pick(5, 15) {
            let began = Instant::now();
            let claimed = store.claim(claim(at, limit)).await?;
            times.push(began.elapsed());
            if claimed.len() != given {
                return Err(format!("{} were claimed, not {given}", claimed.len()).into());
            }
        }
        let row = Row::new(format!("{name}: {what}"), time(median(&times)));
        table.add(
            row.target(time(CLAIM), median(&times) <= CLAIM)
                .n(format!("{} beside {parked} runs", times.len())),
        );
    }
    Ok(())
}

async fn pages(
    args: &Args,
    name: &str,
    store: &dyn Store,
    parked: usize,
    table: &mut Table,
) -> Result<()> {
    let any = Filter::default;
    let soon = SystemClock.now().after(hours(2));
    let mut customer = any();
    customer.metadata.insert("customer".into(), "customer-5".into());
    for (what, filter, scans) in [
        ("everything", any(), false),
        ("by status", Filter { status: [RunStatus::Waiting].into(), ..any() }, false),
        ("by rare status", Filter { status: [RunStatus::Failed].into(), ..any() }, false),
        ("by flow, few", Filter { flow_id: Some("early".into()), ..any() }, false),
        ("by tool", Filter { tool_id: Some("manager-approval".into()), ..any() }, false),
        ("by deadline, few", Filter { expires_before: Some(soon), ..any() }, false),
        ("by metadata", customer, name == "filesystem"),
    ] {
        let mut times = Vec::new();
        // The first finds what it reads on the disk, the others in memory.
        for _ in 0..args.pick(3, 7) {
            let began = Instant::now();
            store.query(&filter, None, ROWS).await?;
            times.push(began.elapsed());
        }
        let mut row = Row::new(format!("{name}: a page, {what}"), time(median(&times)));
        if !scans {
            row = row.target(time(PAGE), median(&times) <= PAGE);
        } else {
            row = row.target("may scan", true);
        }
        table.add(row.n(format!("{} beside {parked} runs", times.len())));
    }
    Ok(())
}
