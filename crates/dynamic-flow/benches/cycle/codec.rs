//! The codec alone, on the state of a run that is parked in the middle of the cycle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynamic_flow::{
    FlowId,
    codec::{Binding, Codec, Compression, Part},
    store::MemoryStore,
    testkit::engine::Snapshot,
};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    flow::{Bench, Order},
    sample::median,
    table::{Row, Table, time},
};

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let bench = runtime.block_on(Bench::over(Arc::new(MemoryStore::new())))?;
    let key = runtime.block_on(bench.park(Order::new(7)))?;
    let record = runtime.block_on(bench.store.get(key.run_id()))?.ok_or("no such record")?;
    let flow = FlowId::from("purchase");
    let binding = Binding { run: record.id, flow: &flow, part: Part::Snapshot };
    let keyring = || Codec::builder().keyring(bench.keyring.clone());
    let (snapshot, sequence): (Snapshot, u64) =
        keyring().build()?.open(&record.snapshot, binding)?;
    let json = serde_json::to_vec(&snapshot)?;
    let times = args.pick(500, 5000);
    let raw = Row::new("codec: the state of a parked run as raw JSON", bytes(json.len()));
    table.add(raw.ratio("1.00"));
    let stored = record.snapshot.0.len();
    let ratio = format!("{:.2}", stored as f64 / json.len() as f64);
    let row = Row::new("codec: what a hub stores of it, gzip, AES-256-GCM", bytes(stored));
    table.add(row.floor(bytes(json.len())).ratio(ratio));
    let plain = time_of(times, || serde_json::to_vec(&snapshot).map_err(Into::into))?;
    table.add(Row::new("codec: serde_json alone, write", time(plain)).n(times));
    let plain = time_of(times, || serde_json::from_slice::<Snapshot>(&json).map_err(Into::into))?;
    table.add(Row::new("codec: serde_json alone, read", time(plain)).n(times));
    for (name, builder) in [
        ("gzip, AES-256-GCM", keyring()),
        ("zstd, AES-256-GCM", keyring().compression(Compression::Zstd)),
        ("AES-256-GCM", keyring().compression(Compression::None)),
        ("plaintext, gzip", Codec::builder().plaintext()),
    ] {
        let codec = builder.build()?;
        let sealed = codec.seal(&snapshot, sequence, binding)?;
        let ratio = sealed.0.len() as f64 / json.len() as f64;
        let stored = Row::new(format!("codec: stored with {name}"), bytes(sealed.0.len()));
        table.add(stored.floor(bytes(json.len())).ratio(format!("{ratio:.2}")));
        let seal = time_of(times, || Ok(codec.seal(&snapshot, sequence, binding)?))?;
        table.add(Row::new(format!("codec: seal with {name}"), time(seal)).n(times));
        let open = time_of(times, || Ok(codec.open::<Snapshot>(&sealed, binding)?))?;
        table.add(Row::new(format!("codec: open with {name}"), time(open)).n(times));
    }
    Ok(())
}

fn bytes(count: usize) -> String {
    format!("{count} B")
}

fn time_of<T>(times: usize, mut work: impl FnMut() -> Result<T>) -> Result<Duration> {
    let mut measured = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        std::hint::black_box(work()?);
        measured.push(began.elapsed());
    }
    Ok(median(&measured))
}
