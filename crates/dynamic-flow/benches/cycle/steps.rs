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
    let (batches, batch) = (args.pick(5, 25), 20);
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
        // Neither always comes first.
        let (few, many) = if index % 2 == 0 {
            let few = resume(runtime, &few, of_few)?;
            (few, resume(runtime, &many, of_many)?)
        } else {
            let many = resume(runtime, &many, of_many)?;
            (resume(runtime, &few, of_few)?, many)
        };
        // The first of all works out what is kept for all others.
        if index > 0 {
            pairs.push(few, many);
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

/// The median of the resumes, on a task as a server would do it.
fn resume(
    runtime: &Runtime,
    handle: &Handle<u64, u64>,
    keys: Vec<SuspensionKey>,
) -> Result<Duration> {
    let handle = handle.clone();
    let work = runtime.spawn(async move {
        let mut times = Vec::with_capacity(keys.len());
        for key in &keys {
            times.push(answer(&handle, key).await?);
        }
        Ok::<_, crate::Failure>(median(&times))
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
