//! Answers from several processes race for one key, and timeouts, cancellations and cleanups with
//! them: one wins, and all others hear who.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynamic_flow::{
    Answer, Cancellation, Error, ErrorKind, Flow, Metadata, Receipt, Result, RunId, RunStatus,
    Scalar, SuspensionKey, ToolError, hours,
    hub::{Cleanup, Handle, Outcome, PersistenceHub, RunOptions},
    minutes,
    store::{Filter, MemoryStore, Store},
    tool::{AwaitInput, tool_fn},
    wait::Closed,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{
    Ground, Place, Process, WrongBy, hub, on_each_store, say, setting, store, told,
};

on_each_store!(of_all_answers_one_is_accepted_and_all_others_hold_its_receipt);

const PROCESSES: usize = 4;
/// Of each process, in each round.
const ANSWERS: usize = 16;
/// Enough for everybody to win at times.
const ROUNDS: usize = 1000;
/// How many runs are parked beforehand at once.
const BATCH: usize = 25;

/// Who joins the race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Answers,
    /// Processes whose clock says that the deadline has passed; there is a default.
    Default,
    /// The same, and there is none.
    Timeout,
    Cancel,
    Cleanup,
}

impl Kind {
    fn of(round: usize) -> Self {
        match round % 8 {
            4 => Self::Default,
            5 => Self::Timeout,
            6 => Self::Cancel,
            7 => Self::Cleanup,
            _ => Self::Answers,
        }
    }

    /// The flow whose runs are raced for.
    fn flow(self) -> &'static str {
        match self {
            Self::Default => "race-default",
            Self::Timeout => "race-timeout",
            _ => "race",
        }
    }
}

/// A round, as the processes are told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Round {
    number: usize,
    kind: Kind,
    run: RunId,
    key: String,
}

/// What one of the racers heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Heard {
    /// Its answer was accepted.
    Accepted { request: String, receipt: Receipt },
    /// Its answer was accepted and the run driven to its end.
    Completed { request: String, output: String },
    /// Its answer was accepted, and the run cancelled after it.
    CancelledAfter { request: String },
    /// It came too late.
    Refused { receipt: Receipt },
    /// There is nothing for its key.
    Gone,
    /// A cleanup removed so many runs.
    Removed { runs: usize },
    /// A cancellation, or a timer, is done.
    Done,
}

/// What the racers of a process heard, and how often each.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    heard: Vec<(Heard, usize)>,
    /// How often the tool behind the wait ran here.
    ran: usize,
}

/// The hubs of one process.
#[derive(Clone)]
struct Racers {
    number: usize,
    on_time: PersistenceHub,
    late: PersistenceHub,
    ran: Arc<AtomicUsize>,
    handles: BTreeMap<&'static str, Handle<u64, String>>,
}

impl Racers {
    async fn new(store: Arc<dyn Store>, number: usize) -> Self {
        // A clock that is wrong by more than a lease would take runs from holders that live.
        let builder = || hub(store.clone()).retry_delay(Duration::ZERO).lease(hours(2));
        let on_time = builder().build().await.unwrap();
        let late = builder().clock(WrongBy(hours(1))).build().await.unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let mut handles = BTreeMap::new();
        for kind in [Kind::Answers, Kind::Default, Kind::Timeout] {
            let flow = flow(kind, &ran);
            handles.insert(kind.flow(), on_time.register(&flow).unwrap());
            late.register(&flow).unwrap();
        }
        Self { number, on_time, late, ran, handles }
    }

    /// Answers as often as it is to, with whoever else joins; gives what all heard.
    async fn race(&self, round: Round) -> Report {
        self.ran.store(0, Ordering::SeqCst);
        let others = match round.kind {
            Kind::Answers => 0,
            Kind::Cleanup => 1,
            _ => 2,
        };
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..ANSWERS + others {
            // Now these have a lead, now those, small or large: so all get to win, on any machine.
            let lead = round.number / 8 % 4;
            let n = if lead.is_multiple_of(2) { n } else { ANSWERS + others - 1 - n };
            let waits = others > 0 && (lead == 2 && n >= ANSWERS || lead == 3 && n < ANSWERS);
            let (racers, round) = (self.clone(), round.clone());
            tasks.spawn(async move {
                if waits {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                if n < ANSWERS {
                    racers.answer(&round, n).await
                } else {
                    racers.disturb(&round).await
                }
            });
        }
        let mut report = Report::default();
        while let Some(heard) = tasks.join_next().await {
            let heard = heard.unwrap();
            match report.heard.iter_mut().find(|(same, _)| *same == heard) {
                Some((_, count)) => *count += 1,
                None => report.heard.push((heard, 1)),
            }
        }
        report.ran = self.ran.load(Ordering::SeqCst);
        report
    }

    async fn answer(&self, round: &Round, n: usize) -> Heard {
        let key: SuspensionKey = round.key.parse().unwrap();
        let request = format!("{} of {}", n, self.number);
        let answer = Answer::new(json!(request)).request_id(&request);
        let times_out = matches!(round.kind, Kind::Default | Kind::Timeout);
        let hub = if times_out && n % 4 == 3 { &self.late } else { &self.on_time };
        if n.is_multiple_of(2) {
            match hub.resume(&key, answer).await {
                Ok(Outcome::Completed(done)) => {
                    Heard::Completed { request, output: done.output.as_str().unwrap().to_owned() }
                }
                Err(error) if error.kind() == ErrorKind::RunCancelled => {
                    Heard::CancelledAfter { request }
                }
                Err(error) => refused(&error),
                other => panic!("{other:?}"),
            }
        } else {
            loop {
                match hub.answer(&key, answer.clone()).await {
                    Ok(accepted) => {
                        assert!(!accepted.repeated);
                        return Heard::Accepted { request, receipt: accepted.receipt };
                    }
                    // Somebody is about to time the wait out; what comes of it is not known yet.
                    Err(error)
                        if times_out
                            && error.kind() == ErrorKind::SuspensionExpired
                            && error.receipt().is_none() =>
                    {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => return refused(&error),
                }
            }
        }
    }

    async fn disturb(&self, round: &Round) -> Heard {
        match round.kind {
            Kind::Answers => unreachable!("nobody else joins"),
            Kind::Default | Kind::Timeout => {
                of_no_account(self.late.drive(round.run).await, &[ErrorKind::RunExpired]);
                Heard::Done
            }
            Kind::Cancel => {
                let cancelled = self.on_time.cancel(round.run, Cancellation::new().by("ops")).await;
                of_no_account(cancelled, &[ErrorKind::InvalidState]);
                Heard::Done
            }
            Kind::Cleanup => {
                let number = Scalar::Int(i64::try_from(round.number).unwrap());
                let filter = Filter {
                    status: BTreeSet::from([RunStatus::Waiting]),
                    metadata: Metadata::from([("round".into(), number)]),
                    ..Filter::default()
                };
                let cleaned = self.on_time.cleanup(&Cleanup::new().filter(filter)).await.unwrap();
                assert!(cleaned.errors.is_empty(), "{cleaned:?}");
                Heard::Removed { runs: cleaned.deleted_count }
            }
        }
    }

    /// Parks a run for a round.
    async fn park(&self, number: usize) -> Round {
        let kind = Kind::of(number);
        let options = RunOptions::new().metadata("round", i64::try_from(number).unwrap());
        let run = self.handles[kind.flow()].run_with(number as u64, options).await;
        let Ok(Outcome::Suspended(parked)) = run else { panic!("{run:?}") };
        let key = parked.only().unwrap().key().unwrap().expose().to_string();
        Round { number, kind, run: parked.run_id, key }
    }
}

/// A wait, and a tool behind it that counts how often it runs.
fn flow(kind: Kind, ran: &Arc<AtomicUsize>) -> Flow<u64, String> {
    let question = AwaitInput::<String>::new("who");
    let question = match kind {
        Kind::Default => question.timeout(minutes(30)).default_value("nobody".into()),
        Kind::Timeout => question.timeout(minutes(30)),
        _ => question.no_timeout(),
    };
    let ran = ran.clone();
    Flow::input::<u64>(kind.flow())
        .await_input(question)
        .tool(tool_fn("tell", move |who: String| {
            ran.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, ToolError>(format!("it was {who}")) }
        }))
        .build()
        .unwrap()
}

fn refused(error: &Error) -> Heard {
    match (error.kind(), error.receipt()) {
        (ErrorKind::AlreadyResumed | ErrorKind::SuspensionExpired, Some(receipt)) => {
            Heard::Refused { receipt: receipt.clone() }
        }
        (ErrorKind::SuspensionKeyNotFound, _) => Heard::Gone,
        _ => panic!("{error:?}"),
    }
}

fn of_no_account<T>(result: Result<T>, kinds: &[ErrorKind]) {
    if let Err(error) = result {
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
}

/// A process of racers.
pub(crate) async fn racer() {
    let racers = Racers::new(store(), setting("NUMBER").unwrap()).await;
    say("ready");
    while let Some(line) = told() {
        let report = racers.race(serde_json::from_str(&line).unwrap()).await;
        say(&serde_json::to_string(&report).unwrap());
    }
}

/// Who won, over all rounds: how often each.
type Winners = BTreeMap<(Kind, String), usize>;

/// Holds together what all heard of a round and what is stored.
async fn check(racers: &Racers, round: &Round, reports: &[Report], winners: &mut Winners) {
    let context = || format!("{round:?}: {reports:?}");
    let mut accepted = Vec::new();
    let mut refused = 0;
    let mut gone = 0;
    let mut removed = 0;
    let mut receipts: Vec<&Receipt> = Vec::new();
    for (heard, count) in reports.iter().flat_map(|report| &report.heard) {
        match heard {
            Heard::Accepted { request, receipt } => {
                accepted.push(request);
                receipts.push(receipt);
            }
            Heard::Completed { request, output } => {
                assert_eq!(*output, format!("it was {request}"), "{}", context());
                accepted.push(request);
            }
            Heard::CancelledAfter { request } => accepted.push(request),
            Heard::Refused { receipt } => {
                refused += count;
                receipts.push(receipt);
            }
            Heard::Gone => gone += count,
            Heard::Removed { runs } => removed += runs * count,
            Heard::Done => {}
        }
    }
    assert_eq!(accepted.len() + refused + gone, PROCESSES * ANSWERS, "{}", context());
    let view = match racers.on_time.get(round.run).await {
        Err(error) if error.kind() == ErrorKind::RunNotFound => {
            assert_eq!(round.kind, Kind::Cleanup, "{}", context());
            assert_eq!((accepted.len(), refused, removed), (0, 0, 1), "{}", context());
            *winners.entry((round.kind, "removed".into())).or_default() += 1;
            return;
        }
        view => view.unwrap(),
    };
    assert_eq!((gone, removed), (0, 0), "{}", context());
    let [receipt] = &view.receipts[..] else { panic!("{view:?} {}", context()) };
    for other in receipts {
        assert_eq!(other, receipt, "{}", context());
    }
    let output = view.output.as_ref().and_then(|output| output.as_str());
    let ran: usize = reports.iter().map(|report| report.ran).sum();
    match (receipt.closed, round.kind) {
        (Closed::Answered, kind) => {
            let [winner] = accepted[..] else { panic!("not one: {}", context()) };
            assert_eq!(receipt.request_id.as_ref(), Some(winner), "{}", context());
            if kind == Kind::Cancel && view.status == RunStatus::Cancelled {
                assert!(ran <= 1, "{}", context());
            } else {
                assert_eq!(view.status, RunStatus::Completed, "{}", context());
                assert_eq!(output, Some(format!("it was {winner}").as_str()), "{}", context());
                assert!(ran <= 1, "{}", context());
            }
        }
        (Closed::Defaulted, Kind::Default) => {
            assert_eq!((accepted.len(), ran), (0, 1), "{}", context());
            assert_eq!(output, Some("it was nobody"), "{}", context());
        }
        (Closed::TimedOut, Kind::Timeout) => {
            assert_eq!((accepted.len(), ran), (0, 0), "{}", context());
            assert_eq!(view.status, RunStatus::Expired, "{}", context());
        }
        (Closed::Cancelled, Kind::Cancel) => {
            assert_eq!((accepted.len(), ran), (0, 0), "{}", context());
            assert_eq!(view.status, RunStatus::Cancelled, "{}", context());
        }
        _ => panic!("{receipt:?} {}", context()),
    }
    let who = format!("{:?}, then {}", receipt.closed, view.status);
    *winners.entry((round.kind, who)).or_default() += 1;
}

/// Parks runs, lets each be raced for, and checks what came of it.
async fn rounds(racers: &Racers, rounds: usize, mut race: impl AsyncFnMut(&Round) -> Vec<Report>) {
    let rounds = setting("DFLOW_ROUNDS").unwrap_or(rounds);
    let mut winners = Winners::new();
    for first in (0..rounds).step_by(BATCH) {
        let mut parked = Vec::new();
        for number in first..rounds.min(first + BATCH) {
            parked.push(racers.park(number).await);
        }
        let mut raced = Vec::new();
        for round in parked {
            let reports = race(&round).await;
            raced.push((round, reports));
        }
        // What was accepted and left to whoever comes.
        racers.on_time.work_once().await.unwrap();
        for (round, reports) in &raced {
            check(racers, round, reports, &mut winners).await;
        }
        racers.on_time.cleanup(&Cleanup::new().all()).await.unwrap();
    }
    if rounds >= ROUNDS {
        let seen: Vec<_> = winners.keys().map(|(kind, who)| (*kind, who.as_str())).collect();
        let expected = [
            (Kind::Answers, "Answered, then completed"),
            (Kind::Default, "Answered, then completed"),
            (Kind::Default, "Defaulted, then completed"),
            (Kind::Timeout, "Answered, then completed"),
            (Kind::Timeout, "TimedOut, then expired"),
            (Kind::Cancel, "Answered, then cancelled"),
            (Kind::Cancel, "Answered, then completed"),
            (Kind::Cancel, "Cancelled, then cancelled"),
            (Kind::Cleanup, "Answered, then completed"),
            (Kind::Cleanup, "removed"),
        ];
        for outcome in expected {
            assert!(seen.contains(&outcome), "nobody ever won so: {outcome:?} of {winners:?}");
        }
    }
}

fn of_all_answers_one_is_accepted_and_all_others_hold_its_receipt(ground: &Ground) {
    let place = Place::new(ground);
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|number| Process::start("racer", &place, &[("NUMBER", number.to_string())]))
        .collect();
    for process in &mut processes {
        assert_eq!(process.hear().as_deref(), Some("ready"));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let racers = Racers::new(place.store(), PROCESSES).await;
        rounds(&racers, ROUNDS / ground.step(), async |round| {
            let line = serde_json::to_string(round).unwrap();
            for process in &mut processes {
                process.tell(&line);
            }
            let reports = processes.iter_mut().map(|process| process.hear().expect("a report"));
            reports.map(|report| serde_json::from_str(&report).unwrap()).collect()
        })
        .await;
    });
    for process in &mut processes {
        process.end();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_in_memory() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut all = Vec::new();
    for number in 0..=PROCESSES {
        all.push(Racers::new(store.clone(), number).await);
    }
    let racers = all.pop().unwrap();
    rounds(&racers, ROUNDS, async |round| {
        futures::future::join_all(all.iter().map(|racers| racers.race(round.clone()))).await
    })
    .await;
}
