//! Resume after few and after many earlier steps: promised to be the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamic_flow::{
    Flow, SuspensionKey,
    codec::{EncryptionKey, Keyring},
    flow::MAX_STEPS,
    hub::{Handle, Outcome, PersistenceHub},
    store::MemoryStore,
    tool::AwaitInput,
};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    sample::{Pairs, median},
    table::{Row, Table, time},
};

const FEW: usize = 10;
/// As many as a flow may have, but for the wait and the step after it.
const MANY: usize = MAX_STEPS - 2;
/// How much of a difference is none.
const FLAT: f64 = 1.1;

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let (batches, batch) = (args.pick(5, 25), args.pick(10, 20));
    let keyring = Keyring::new(EncryptionKey::generate()?);
    let builder = PersistenceHub::builder(Arc::new(MemoryStore::new())).keyring(keyring);
    let hub = runtime.block_on(builder.build())?;
    let few = hub.register(flow("few", FEW)?)?;
    let many = hub.register(flow("many", MANY)?)?;
    let mut pairs = Pairs::default();
    let mut runs = Vec::new();
    for index in 0..=batches {
        let of_few = park(runtime, &few, batch)?.0;
        let (of_many, took) = park(runtime, &many, batch)?;
        runs.extend(took);
        let times = resume(runtime, (&few, of_few), (&many, of_many))?;
        // The first of all works out what is kept for all others.
        if index > 0 {
            pairs.push(times.0, times.1);
        }
    }
    table.add(
        Row::new(
            format!("resume after {MANY} earlier steps (floor: after {FEW})"),
            time(pairs.measured()),
        )
        .floor(time(pairs.floor()))
        .ratio(pairs.ratios())
        .target(format!("flat: at most {FLAT}"), pairs.ratio() <= FLAT)
        .n(format!("{batches} × {batch}")),
    );
    table.add(
        Row::new(format!("run {MANY} steps up to the wait"), time(median(&runs))).n(runs.len()),
    );
    Ok(())
}

fn flow(id: &str, earlier: usize) -> Result<Flow<u64, u64>> {
    let mut steps = Flow::input::<u64>(id);
    for n in 0..earlier {
        steps = steps.map(format!("step-{n:05}"), |n: u64| n + 1);
    }
    let question = AwaitInput::<u64>::new("how-many").prompt("How many?");
    Ok(steps.await_input(question).map("after", |n: u64| n * 2).build()?)
}

/// Keys, and how long it took to come by each.
type Parked = (Vec<SuspensionKey>, Vec<Duration>);
/// Runs of a flow, by their keys.
type Runs<'a> = (&'a Handle<u64, u64>, Vec<SuspensionKey>);

fn park(runtime: &Runtime, handle: &Handle<u64, u64>, count: usize) -> Result<Parked> {
    let mut parked = Parked::default();
    for _ in 0..count {
        let began = Instant::now();
        match runtime.block_on(handle.run(1))? {
            Outcome::Suspended(suspension) => parked.0.push(suspension.only()?.key()?.clone()),
            other => return Err(format!("not suspended: {other:?}").into()),
        }
        parked.1.push(began.elapsed());
    }
    Ok(parked)
}

/// The medians of the resumes, one of these and one of those in turns, each on a task as a server
/// would do it.
fn resume(runtime: &Runtime, these: Runs<'_>, those: Runs<'_>) -> Result<(Duration, Duration)> {
    let (these, those) = ((these.0.clone(), these.1), (those.0.clone(), those.1));
    let work = runtime.spawn(async move {
        let mut times = (Vec::new(), Vec::new());
        for (this, that) in these.1.iter().zip(&those.1) {
            times.0.push(answer(&these.0, this).await?);
            times.1.push(answer(&those.0, that).await?);
        }
        Ok::<_, crate::Failure>((median(&times.0), median(&times.1)))
    });
    runtime.block_on(work)?
}

async fn answer(handle: &Handle<u64, u64>, key: &SuspensionKey) -> Result<Duration> {
    let began = Instant::now();
    match handle.resume(key, serde_json::json!(21)).await? {
        Outcome::Completed(done) if done.output == 42 => Ok(began.elapsed()),
        other => Err(format!("not completed: {other:?}").into()),
    }
}
