//! What is measured on every server alike: the cycle beside its floor, and single calls beside few
//! and very many parked runs.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use dynamic_flow::{
    Clock as _, RunId, RunStatus, SystemClock, Timestamp, hours, seconds,
    store::{Change, Claim, Expect, Filter, Queue, Record, Store},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    args::Args,
    calls::{Beside, Calls},
    cycles::{CONCURRENT, crowd, cycles, sealed},
    flow::{Bench, Order},
    latency,
    sample::median,
    table::{Row, Table, time},
};

/// A cycle takes so many times what the floor does, at the most.
const MOST: f64 = 1.2;
/// A call beside the most runs takes so many times what it does beside the fewest, at the most.
const FLAT: f64 = 1.5;
/// The bytes of a parked run with an input of 4 KiB, at the most.
const BYTES: f64 = 2560.0;

/// What a record's life costs on a server with nothing around it, and how runs get there in
/// numbers.
pub(crate) trait Floor: Clone + Send + Sync + 'static {
    /// Writes a new record of that number, reads it, and writes it two times more.
    fn cycle(&self, number: usize, body: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Parks the runs of these numbers; gives the bytes of each, where the server tells.
    async fn park(&self, bench: &Bench, from: usize, to: usize) -> Result<Option<f64>>;
}

/// How much is measured; of two numbers, the first is for a quick look.
pub(crate) struct Plan {
    /// What the server is called.
    pub(crate) name: &'static str,
    /// Cycles in a batch, one after the other.
    pub(crate) batch: usize,
    /// How many batches.
    pub(crate) batches: [usize; 2],
    /// What is done before anything is measured, in batches of a few cycles: servers make
    /// connections and plans when they are first needed.
    pub(crate) warm_up: usize,
    /// How often each single call is made.
    pub(crate) times: [usize; 2],
    /// How many runs are parked, at the least and at the most.
    pub(crate) parked: [[usize; 2]; 2],
}

impl Plan {
    /// Measures a store beside its floor; of the two handles of it, the second one is for a worker
    /// like that of another process.
    pub(crate) fn measure<F: Floor>(
        &self,
        args: &Args,
        runtime: &Runtime,
        stores: [Arc<dyn Store>; 2],
        floor: &F,
        table: &mut Table,
    ) -> Result<()> {
        let bench = runtime.block_on(Bench::over(stores[0].clone()))?;
        let body: Arc<[u8]> = runtime.block_on(sealed(&bench))?.into();
        let calls = Arc::new(runtime.block_on(Calls::of_a_cycle())?);
        for concurrent in CONCURRENT {
            runtime.block_on(self.cycle(args, &bench, floor, &body, &calls, concurrent, table))?;
        }
        latency::measure(args, runtime, self.name, stores, table)?;
        runtime.block_on(self.scale(args, &bench, floor, table))
    }

    #[expect(clippy::too_many_arguments, reason = "called once, right above")]
    async fn cycle<F: Floor>(
        &self,
        args: &Args,
        bench: &Bench,
        floor: &F,
        body: &Arc<[u8]>,
        calls: &Arc<Calls>,
        concurrent: usize,
        table: &mut Table,
    ) -> Result<()> {
        // Each record has a number of its own, whatever it is measured for.
        static NUMBERS: AtomicUsize = AtomicUsize::new(1);
        let floors = async |per_task| {
            let (floor, body) = (floor.clone(), body.clone());
            let cycle = move |number| {
                let (floor, body) = (floor.clone(), body.clone());
                async move { floor.cycle(number, &body).await }
            };
            crowd(concurrent, per_task, &NUMBERS, cycle).await
        };
        let alone =
            async |per_task| calls.crowd(&bench.store, concurrent, per_task, &NUMBERS).await;
        let name = self.name;
        let per_task =
            if concurrent == 1 { self.batch } else { (self.batch * 8 / concurrent).max(4) };
        let batches = args.pick(self.batches[0], self.batches[1]);
        for _ in 0..self.warm_up {
            floors(8).await?;
            alone(8).await?;
            cycles(bench, concurrent, 8, &NUMBERS).await?;
        }
        let mut beside = Beside::default();
        let (mut used, mut used_below) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..batches {
            let below = floors(per_task).await?;
            let above = cycles(bench, concurrent, per_task, &NUMBERS).await?;
            let without_hub = alone(per_task).await?;
            used += above.cpu;
            used_below += below.cpu;
            beside.push(below.time, without_hub.time, above.time);
        }
        let n = format!("{batches} × {}", per_task * concurrent);
        let what = format!("{name}: a cycle, {concurrent} at once");
        let pairs = &beside.cycle;
        let row = Row::new(what, time(pairs.measured())).floor(time(pairs.floor()));
        let mut row = row.ratio(pairs.ratios()).n(&n);
        if concurrent != 16 {
            row = row.target(format!("at most {MOST} × the floor"), pairs.ratio() <= MOST);
        }
        table.add(row);
        beside.tell(name, concurrent, &n, table);
        let count = u32::try_from(batches * per_task * concurrent)?;
        let what = format!("{name}: CPU of a cycle, {concurrent} at once, client");
        table.add(Row::new(what, time(used / count)).floor(time(used_below / count)).n(n));
        Ok(())
    }

    async fn scale<F: Floor>(
        &self,
        args: &Args,
        bench: &Bench,
        floor: &F,
        table: &mut Table,
    ) -> Result<()> {
        let name = self.name;
        let mut before: Option<Times> = None;
        let mut parked = 0;
        for size in self.parked[usize::from(!args.quick)] {
            if let Some(weight) = floor.park(bench, parked, size).await? {
                let what = format!("{name}: stored for a parked run");
                let row = Row::new(what, format!("{weight:.0} B")).n(size - parked);
                table.add(row.target(format!("at most {BYTES} B"), weight <= BYTES));
            }
            parked = size;
            let calls = calls(bench, args.pick(self.times[0], self.times[1])).await?;
            let Some(before) = &before else {
                before = Some(calls);
                continue;
            };
            for ((what, few), (_, many)) in before.iter().zip(&calls) {
                let ratio = many.as_secs_f64() / few.as_secs_f64();
                let row = Row::new(format!("{name}: {what} beside {size}"), time(*many));
                let row = row.floor(time(*few)).ratio(format!("{ratio:.2}")).n(size);
                table.add(row.target(format!("at most {FLAT} ×"), ratio <= FLAT));
            }
        }
        Ok(())
    }
}

/// Parks a run and copies it through the store, so many at once, each created a second after the
/// last, long before, with metadata and a deadline of its own.
pub(crate) async fn copy(bench: &Bench, from: usize, to: usize, at_once: usize) -> Result<()> {
    let key = bench.park(Order::new(0)).await?;
    let model = bench.store.get(key.run_id()).await?.ok_or("the parked run is not there")?;
    let start = SystemClock.now().before(hours(400 * 24)).as_millis();
    let mut writes = JoinSet::new();
    for n in from..to {
        let created = Timestamp::from_millis(start + i64::try_from(n)? * 1000);
        let mut copy = Record { id: RunId::new(created)?, ..model.clone() };
        let later = |at: Timestamp| Timestamp::from_millis(at.as_millis() + n as i64 % 86_400_000);
        copy.due_at = copy.due_at.map(later);
        for wait in &mut copy.waits {
            wait.expires_at = wait.expires_at.map(later);
        }
        // A page of a customer's runs is full, however many there are.
        copy.metadata.insert("customer".into(), format!("customer-{}", n % 100).into());
        let store = bench.store.clone();
        writes.spawn(async move { store.insert(copy).await });
        if writes.len() >= at_once {
            writes.join_next().await.ok_or("nobody writes")???;
        }
    }
    while let Some(written) = writes.join_next().await {
        written??;
    }
    bench.finish(&key).await
}

/// A call, and what it takes.
type Times = Vec<(&'static str, Duration)>;

/// What single calls take, one after the other.
async fn calls(bench: &Bench, times: usize) -> Result<Times> {
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
        except: [].into(),
    };
    for (what, at) in [("a claim, nothing due", now), ("a claim of ten", now.after(hours(48)))] {
        let mut each = Vec::new();
        for _ in 0..times {
            let began = Instant::now();
            let claimed = store.claim(claim(at)).await?;
            each.push(began.elapsed());
            for record in claimed {
                // As it was before, so that as many are parked for those who look next.
                let back = Change {
                    due_at: Some(Some(now.after(hours(24)))),
                    lease: Some(None),
                    status: Some(RunStatus::Waiting),
                    ..Change::at(now)
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
