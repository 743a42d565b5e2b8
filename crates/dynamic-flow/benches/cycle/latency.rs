//! From an answer to the first line after the wait, for who resumes the run and for who leaves it to
//! a worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamic_flow::{
    Clock as _, Flow, RunId, RunStatus, SuspensionKey, SystemClock, ToolError,
    codec::{EncryptionKey, Keyring, Sealed},
    hub::{Handle, HubOptions, Outcome, PersistenceHub},
    seconds,
    store::{Change, Claim, Expect, Hint, Queue, Record, Store},
    tool::{AwaitInput, tool_fn},
};
use tokio::{
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    Result,
    args::Args,
    flow::{Approval, Order, approval},
    sample::{median, percentile},
    table::{Row, Table, time},
};

/// Measures a store, of which two handles are given: the second one for a worker like that of
/// another process.
pub(crate) fn measure(
    args: &Args,
    runtime: &Runtime,
    name: &str,
    stores: [Arc<dyn Store>; 2],
    table: &mut Table,
) -> Result<()> {
    // On a task, as a server would do it.
    let plan = Plan { hinted: args.pick(100, 1000), polled: args.pick(20, 100) };
    let measured = runtime.block_on(runtime.spawn(async move { all(&plan, stores).await }))??;
    for Measured { who, how, times, floors } in measured {
        let (middle, floor) = (median(&times), median(&floors));
        let last = percentile(&times, 99);
        let what = format!("{name}: answer to first step, {who}");
        let row = Row::new(what, format!("{}, p99 {}", time(middle), time(last)));
        let mut row = row.n(times.len());
        // To be looked for from time to time costs in times of nothing.
        if how != How::Polled {
            let ratio = middle.as_secs_f64() / floor.as_secs_f64();
            row = row.floor(time(floor)).ratio(format!("{ratio:.2}"));
        }
        table.add(row);
    }
    Ok(())
}

/// How often it is answered, where the store gives hints and where workers poll.
struct Plan {
    hinted: usize,
    polled: usize,
}

struct Measured {
    who: &'static str,
    how: How,
    times: Vec<Duration>,
    floors: Vec<Duration>,
}

async fn all(plan: &Plan, [ours, theirs]: [Arc<dyn Store>; 2]) -> Result<Vec<Measured>> {
    let keyring = Keyring::new(EncryptionKey::generate()?);
    let (sender, mut begun) = unbounded_channel();
    let hub = async |store: &Arc<dyn Store>| {
        let builder = PersistenceHub::builder(store.clone()).keyring(keyring.clone());
        let hub = builder.build().await?;
        let handle = hub.register(flow(sender.clone())?)?;
        Ok::<_, crate::Failure>((hub, handle))
    };
    let (_, asker) = hub(&ours).await?;
    let floor = Floor::like(&ours, &asker, &mut begun).await?;
    let (times, floors) = samples(plan.hinted, &asker, &mut begun, &floor, How::Resumed).await?;
    let mut all = vec![Measured { who: "resumed", how: How::Resumed, times, floors }];
    let (same, its) = hub(&ours).await?;
    let (other, _) = hub(&theirs).await?;
    // A hub's own worker hears of what the hub accepts, whatever the store tells.
    let (elsewhere, count, how) = match theirs.hints(Hint::Due) {
        Some(_) => ("by another hub's worker", plan.hinted, How::Hinted),
        None => ("by another hub's worker, which polls", plan.polled, How::Polled),
    };
    for (worker, handle, who, count, how) in [
        (same, its, "by the same hub's worker", plan.hinted, How::Hinted),
        (other, asker, elsewhere, count, how),
    ] {
        let works = tokio::spawn({
            let worker = worker.clone();
            async move { worker.work().await }
        });
        let (times, floors) = samples(count, &handle, &mut begun, &floor, how).await?;
        all.push(Measured { who, how, times, floors });
        worker.shutdown(seconds(10)).await;
        works.await??;
    }
    Ok(all)
}

/// How a run goes on that is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// By who answers.
    Resumed,
    /// By a worker that hears of it.
    Hinted,
    /// By a worker that looks from time to time.
    Polled,
}

/// Runs of the flow that are answered one after the other, each after a turn of the floor.
async fn samples(
    count: usize,
    asker: &Handle<Order, Approval>,
    begun: &mut UnboundedReceiver<Instant>,
    floor: &Floor,
    how: How,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    /// What is made once (threads, connections, statements) is not what is measured.
    const WARM_UP: usize = 3;
    /// Its multiples fall evenly between the times at which a worker looks.
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    for n in 0..WARM_UP + count {
        let below = floor.turn(how != How::Resumed).await?;
        let key = park(asker, n).await?;
        if how == How::Polled {
            let spread = (n as f64 * GOLDEN).fract();
            tokio::time::sleep(HubOptions::default().poll_interval.mul_f64(spread)).await;
        }
        let answered = Instant::now();
        if how == How::Resumed {
            asker.resume(&key, approval()).await?;
        } else {
            asker.hub().answer(&key, approval()).await?;
        }
        let first = begun.recv().await.ok_or("nobody goes on")?;
        let first = first.checked_duration_since(answered).ok_or("that was an earlier run")?;
        if how == How::Hinted {
            // What is written at the end is not what the next one waits for.
            asker.hub().ended(key.run_id()).await?;
        }
        if n >= WARM_UP {
            times.push(first);
            floors.push(below);
        }
    }
    Ok((times, floors))
}

/// An order, a question, and a step that tells when it began.
fn flow(begun: UnboundedSender<Instant>) -> Result<Flow<Order, Approval>> {
    let question = AwaitInput::<Approval>::new("manager-approval").prompt("Approve it?");
    let flow = Flow::input::<Order>("answered").keep(|order| order.await_input(question));
    let flow = flow.tool(tool_fn("first", move |(_, approval): (Order, Approval)| {
        // Whoever measured it may be gone.
        let _ = begun.send(Instant::now());
        async move { Ok::<_, ToolError>(approval) }
    }));
    Ok(flow.build()?)
}

async fn park(handle: &Handle<Order, Approval>, number: usize) -> Result<SuspensionKey> {
    match handle.run(Order::new(number)).await? {
        Outcome::Suspended(suspension) => Ok(suspension.only()?.key()?.clone()),
        other => Err(format!("not suspended: {other:?}").into()),
    }
}

/// The calls that an answer makes to the store before the next step, with no hub around them.
struct Floor {
    store: Arc<dyn Store>,
    parked: Record,
}

impl Floor {
    /// On records like that of a run of the flow.
    async fn like(
        store: &Arc<dyn Store>,
        asker: &Handle<Order, Approval>,
        begun: &mut UnboundedReceiver<Instant>,
    ) -> Result<Self> {
        let key = park(asker, 0).await?;
        let parked = store.get(key.run_id()).await?.ok_or("the parked run is not there")?;
        asker.resume(&key, approval()).await?;
        begun.recv().await.ok_or("nobody goes on")?;
        Ok(Self { store: store.clone(), parked })
    }

    /// Reads a record and accepts something for it; with a worker, claims it, too.
    async fn turn(&self, claimed: bool) -> Result<Duration> {
        let (id, now) = (RunId::new(SystemClock.now())?, SystemClock.now());
        // Of no worker.
        let queue = Queue::of_flow(&"floor".into());
        let record = Record { id, queue: Some(queue.clone()), ..self.parked.clone() };
        self.store.insert(record).await?;
        let began = Instant::now();
        let read = self.store.get(id).await?.ok_or("the record is not there")?;
        let accepted = Change {
            status: Some(RunStatus::Ready),
            due_at: Some(Some(now)),
            inbox_push: vec![Sealed(vec![7; 400])],
            ..Change::at(now)
        };
        self.store.update(id, Expect::Revision(read.revision), accepted).await?;
        if claimed {
            let (owner, lease) = ("bench".to_owned(), seconds(30));
            let claim =
                Claim { now, queues: vec![queue], owner, lease, limit: 1, except: [].into() };
            if self.store.claim(claim).await?.len() != 1 {
                return Err("the record can't be claimed".into());
            }
        }
        let taken = began.elapsed();
        self.store.delete(id, Expect::Any).await?;
        Ok(taken)
    }
}
