//! State that nobody could have written but a bug, or somebody who can write to a store without
//! encryption: whatever it says, it panics nowhere and hangs nobody up.
//!
//! A seed gives the same each time: `DFLOW_SEED=17` tries one, `DFLOW_SEEDS=5000` so many.

#[path = "simulation/dice.rs"]
mod dice;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use dice::Dice;
use dynamic_flow::{
    Answer, Cancellation, Error, ErrorKind, Flow, RunId, Schema, SuspensionKey, Timestamp,
    codec::{Binding, Codec, Part},
    days,
    hub::{HubOptions, Outcome, PersistenceHub, SuspensionRequest},
    minutes,
    store::{Filter, Lease, MemoryStore, Record, Store},
    testkit::ManualClock,
    tool::ToolRegistry,
    wait::ContentDigest,
};
use serde_json::{Map, Value, json};

const START: Timestamp = Timestamp::from_millis(1_795_420_800_000);

/// How many states are tried, if nothing else is said.
const SEEDS: u64 = 600;

/// All kinds of steps around two waits, with variables and values of all kinds.
const DOCUMENT: &str = "
flow: everything
steps:
  - id: remember
    let: { who: jane, sum: '${ value.n + 1 }' }
  - id: in-time
    timeout:
      after: 8h
      do:
        - id: tries
          retry:
            attempts: 3
            backoff: 1m
            do:
              - id: first
                await_input: { prompt: 'First, {{ vars.who }}?', schema: { type: integer }, timeout: 1h }
  - id: guarded
    try:
      - id: way
        switch:
          on: '${ value > 3 ? \"many\" : \"few\" }'
          cases:
            many:
              - id: inner
                flow:
                  flow: inner
                  steps:
                    - id: second
                      await_input: { prompt: 'Second?', show: '${ value }', schema: { type: integer } }
            few:
              - { id: broken, set: '${ 1 / (value - value) }' }
    catch:
      do:
        - { id: mended, set: '${ value.message }' }
  - { id: nap, wait: 2h }
  - id: both
    keep:
      - { id: twice, set: '${ input.n * 2 }' }
  - { id: end, set: { all: '${ value }', sum: '${ vars.sum }' } }
";

struct World {
    store: Arc<MemoryStore>,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()), clock: ManualClock::new(START) }
    }

    async fn hub(&self) -> PersistenceHub {
        let mut options = HubOptions::default();
        options.linger = Duration::ZERO;
        options.retry_delay = Duration::ZERO;
        let hub = PersistenceHub::builder(self.store.clone()).plaintext().options(options);
        hub.clock(self.clock.clone()).build().await.unwrap()
    }
}

/// A run as it was parked, and a key of its that is good.
struct Parked {
    name: &'static str,
    record: Record,
    key: SuspensionKey,
}

/// Runs that are parked in all sorts of ways.
async fn parked() -> Vec<Parked> {
    let world = World::new();
    let hub = world.hub().await;
    let earlier = ContentDigest("0".repeat(64));
    let flow = Flow::from_document(DOCUMENT, &ToolRegistry::new()).unwrap();
    let flow = flow.upgrade(earlier, |_| Ok(()));
    let handle = hub.register(&flow).unwrap();
    let mut all = Vec::new();
    let mut note = async |name, run: RunId, key: &SuspensionKey| {
        let record = world.store.get(run).await.unwrap().unwrap();
        all.push(Parked { name, record, key: key.clone() });
    };
    let Outcome::Suspended(first) = handle.run(json!({ "n": 4 })).await.unwrap() else {
        panic!("it asks");
    };
    let (run, key) = (first.run_id, first.only().unwrap().key().unwrap().clone());
    note("first", run, &key).await;
    hub.answer(&key, json!(7)).await.unwrap();
    note("answered", run, &key).await;
    let Outcome::Suspended(second) = hub.drive(run).await.unwrap() else { panic!("it asks") };
    let key = hub.reissue(run, &second.only().unwrap().id).await.unwrap();
    note("second", run, &key).await;
    let slept = hub.resume(&key, json!(8)).await.unwrap();
    assert!(matches!(slept, Outcome::Suspended(_)), "it sleeps");
    note("sleeping", run, &key).await;
    world.clock.advance(minutes(121));
    assert!(matches!(hub.drive(run).await.unwrap(), Outcome::Completed(_)));
    note("completed", run, &key).await;

    let Outcome::Suspended(late) = handle.run(json!({ "n": 5 })).await.unwrap() else {
        panic!("it asks");
    };
    let (run, key) = (late.run_id, late.only().unwrap().key().unwrap().clone());
    world.clock.advance(minutes(61));
    hub.drive(run).await.unwrap();
    note("pausing", run, &key).await;
    world.clock.advance(days(1));
    hub.drive(run).await.unwrap_err();
    note("expired", run, &key).await;

    let state = json!({ "page": 3, "of": [1, 2.5, null, "x"] });
    let suspended =
        hub.suspend(&state, SuspensionRequest::new("ask", Schema::any())).await.unwrap();
    note("state", suspended.run_id, &suspended.key).await;
    all
}

/// Changes something of a value, somewhere.
fn mangle(value: &mut Value, dice: &Dice) {
    let copy = part(value, dice).clone();
    let part = part_mut(value, dice);
    match (dice.below(6), &mut *part) {
        (0, Value::Array(items)) if !items.is_empty() => {
            let again = dice.pick(items).unwrap().clone();
            items.push(again);
        }
        (1, Value::Array(items)) if !items.is_empty() => {
            items.remove(index(dice, items.len()));
        }
        (0 | 1, Value::Object(fields)) if !fields.is_empty() => {
            let name = fields.keys().nth(index(dice, fields.len())).unwrap().clone();
            fields.remove(&name);
        }
        (0 | 1, Value::Number(number)) => {
            let number = number.as_i64().unwrap_or(0);
            *part = json!(number.wrapping_add(dice.below(3).cast_signed() - 1));
        }
        (2, _) => *part = copy,
        _ => *part = odd(dice),
    }
}

fn index(dice: &Dice, len: usize) -> usize {
    usize::try_from(dice.below(len as u64)).unwrap()
}

fn odd(dice: &Dice) -> Value {
    let text = ["", "main", "body", "everything", "tries", "first", "second", "in-time/tries"];
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(u32::MAX),
        7 => json!(253_402_300_800_000_i64),
        8 => json!([]),
        9 => Value::Object(Map::new()),
        10 => json!(0.5),
        _ => json!(dice.pick(&text).unwrap()),
    }
}

fn len(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// Some part of a value, at any depth.
fn part<'a>(value: &'a Value, dice: &Dice) -> &'a Value {
    let len = len(value);
    if len == 0 || dice.one_in(5) {
        return value;
    }
    match value {
        Value::Array(items) => part(&items[index(dice, len)], dice),
        Value::Object(fields) => part(fields.values().nth(index(dice, len)).unwrap(), dice),
        _ => value,
    }
}

fn part_mut<'a>(value: &'a mut Value, dice: &Dice) -> &'a mut Value {
    let len = len(value);
    if len == 0 || dice.one_in(8) {
        return value;
    }
    let at = index(dice, len);
    match value {
        Value::Array(items) => part_mut(&mut items[at], dice),
        Value::Object(fields) => part_mut(fields.values_mut().nth(at).unwrap(), dice),
        other => other,
    }
}

/// The record with a state, or with something accepted for it, that says something else.
fn mangled(parked: &Parked, dice: &Dice) -> Record {
    let codec = Codec::builder().plaintext().build().unwrap();
    let mut record = parked.record.clone();
    let inbox = !record.inbox.is_empty() && dice.one_in(2);
    let part = if inbox { Part::Inbox } else { Part::Snapshot };
    let binding = Binding { run: record.id, flow: &record.flow_id, part };
    let sealed = if inbox { &mut record.inbox[0] } else { &mut record.snapshot };
    let (mut state, sequence) = codec.open::<Value>(sealed, binding).unwrap();
    for _ in 0..=dice.below(3) {
        // A document that says something else is another flow, and they are tried elsewhere.
        let document = state.pointer("/flow/document").cloned();
        mangle(&mut state, dice);
        if let (Some(document), Some(there)) = (document, state.pointer_mut("/flow/document")) {
            *there = document;
        }
    }
    *sealed = codec.seal(&state, sequence, binding).unwrap();
    // The plain columns, too, as nothing seals them.
    if dice.one_in(4) {
        record.attempts = u32::MAX;
    }
    if dice.one_in(4) {
        record.due_at = Some(START);
    }
    if dice.one_in(4) {
        record.lease = Some(Lease { owner: String::new(), until: START });
    }
    record
}

/// What is done with it.
async fn attempt(record: Record, act: u64, parked: &Parked) {
    let world = World::new();
    world.store.insert(record).await.unwrap();
    let hub = world.hub().await;
    let run = parked.record.id;
    let key = &parked.key;
    match act {
        0 => told(hub.get(run).await),
        1 => told(hub.question(key).await),
        2 => told(hub.resume(key, json!(9)).await),
        3 => told(hub.answer(key, Answer::new(json!(9)).request_id("r")).await),
        4 => told(hub.drive(run).await),
        5 => told(hub.retry(run).await),
        6 => told(hub.cancel(run, Cancellation::new().by("joe")).await),
        7 => told(hub.reseal(None, 10).await),
        8 => told(hub.resume_state::<Value>(key, json!(9)).await),
        9 => {
            let flow = Flow::from_document(DOCUMENT, &ToolRegistry::new()).unwrap();
            told(hub.check(&flow).await);
            told(hub.upgrade(run, &flow).await);
        }
        _ => {
            for _ in 0..4 {
                world.clock.advance(days(1));
                told(hub.work_once().await);
            }
        }
    }
    told(hub.query(&Filter::default(), None, 10).await);
    // The thread that keeps leases sees that its hub is gone.
    drop(hub);
    world.clock.advance(days(1));
}

fn told<T>(result: Result<T, Error>) {
    let Err(error) = result else { return };
    assert!(!error.to_string().is_empty());
    assert_ne!(error.kind(), ErrorKind::Conflict, "{error}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn state_that_makes_no_sense_panics_nowhere_and_hangs_nobody_up() {
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = panics.clone();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        counted.fetch_add(1, Ordering::SeqCst);
        report(panic);
    }));
    let seeds = match number("DFLOW_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DFLOW_SEEDS").unwrap_or(SEEDS),
    };
    let all = Arc::new(runtime().block_on(parked()));
    for seed in seeds {
        let dice = Dice::new(seed);
        let which = index(&dice, all.len());
        let record = mangled(&all[which], &dice);
        for act in 0..=10 {
            let what = format!("seed {seed}: act {act} on {}", all[which].name);
            let (all, record) = (all.clone(), record.clone());
            let (done, is_done) = mpsc::channel();
            // On a thread of its own: what runs in circles could not be stopped.
            let trying = thread::spawn(move || {
                runtime().block_on(attempt(record, act, &all[which]));
                done.send(()).unwrap();
            });
            let timed_out = is_done.recv_timeout(Duration::from_secs(60));
            assert_ne!(timed_out, Err(mpsc::RecvTimeoutError::Timeout), "{what} hangs");
            assert!(trying.join().is_ok() && panics.load(Ordering::SeqCst) == 0, "{what} panicked");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}
