//! A store, a clock, processes that come and go, and people who ask them for things.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dynamic_flow::{
    Answer, Cancellation, Clock as _, ErrorKind, RunId, RunStatus, Timestamp,
    codec::{EncryptionKey, Keyring},
    hub::{Cleanup, RunOptions},
    minutes, seconds,
    store::{Filter, MemoryStore},
    testkit::ManualClock,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    dice::Dice,
    process::{Ground, LEASE, Life, Process},
    states,
    witness::{Known, Witness},
};

/// How much is begun in a simulation.
const ACTS: u64 = 120;
/// How many processes there are at once.
const PROCESSES: usize = 3;
const BEGIN: Timestamp = Timestamp::from_millis(1_795_420_800_000);

pub(crate) struct World {
    seed: u64,
    ground: Ground,
    keys: Keyring,
    processes: Vec<Process>,
    started: usize,
    /// What was begun and may not be over.
    going_on: Vec<(Life, JoinHandle<()>)>,
    pace: Pace,
}

/// How time goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Only while nobody does anything: no holder that lives loses its run, and no call is made
    /// again that something later shows to be over.
    Calm,
    /// At any moment: leases lapse while their holders work.
    Wild,
}

impl World {
    pub(crate) fn new(seed: u64, pace: Pace) -> Self {
        let dice = Dice::new(seed);
        let clock = ManualClock::new(BEGIN);
        let ground = Ground {
            store: Arc::new(MemoryStore::new()),
            witness: Witness::new(clock.clone(), pace),
            clock,
            dice,
            faulty: Arc::new(true.into()),
        };
        let keys = Keyring::new(EncryptionKey::generate().expect("a key"));
        Self { seed, ground, keys, processes: vec![], started: 0, going_on: vec![], pace }
    }

    pub(crate) fn clock(&self) -> ManualClock {
        self.ground.clock.clone()
    }

    /// Lets everything happen, and then everything come to an end.
    pub(crate) async fn live(mut self) {
        for _ in 0..ACTS {
            self.fill().await;
            self.act().await;
            for _ in 0..self.ground.dice.below(25) {
                tokio::task::yield_now().await;
            }
            self.ground.witness.check(self.seed);
        }
        self.end().await;
        self.ground.witness.check(self.seed);
    }

    async fn fill(&mut self) {
        while self.processes.len() < PROCESSES {
            self.started += 1;
            let name = format!("p{}", self.started);
            self.processes.push(Process::start(&self.ground, name, self.keys.clone()).await);
        }
    }

    /// Begins something, by chance.
    async fn act(&mut self) {
        let dice = self.ground.dice.clone();
        let process = dice.pick(&self.processes).expect("a process").clone();
        let life = process.life.clone();
        let witness = self.ground.witness.clone();
        match dice.below(100) {
            0..=5 => self.start_once(process),
            6..=19 => {
                let handle = dice.pick(&process.handles).expect("a flow").clone();
                let input = json!(dice.below(1000));
                self.begin(&life, async move {
                    let begun = witness.begin(&format!("{} runs {input}", process.life.name));
                    witness.outcome(begun, &handle.run(input).await);
                });
            }
            20..=54 => {
                let Some(known) = self.key() else { return };
                let answer = self.answer();
                match dice.below(4) {
                    0 => self.begin(&life, states::resume(process, known, answer)),
                    1 => self.begin(&life, accept(process, witness, known, answer)),
                    _ => self.begin(&life, resume(process, witness, known, answer)),
                }
            }
            55..=72 => self.begin(&life, work(process, witness)),
            73..=76 => self.rush().await,
            77..=81 => self.advance().await,
            82..=84 => self.kill(process).await,
            85 => {
                witness.note(&format!("{} shuts down", process.life.name));
                self.processes.retain(|other| other.life.name != process.life.name);
                self.begin(&life, async move {
                    process.hub.shutdown(Duration::ZERO).await;
                });
            }
            86..=90 => {
                let seed = dice.below(1000);
                self.begin(&life, states::suspend(process, seed));
            }
            91..=93 => self.begin(&life, states::claim(process)),
            _ => self.look_after(process),
        }
    }

    /// Starts a run that others may start, too, or have started.
    fn start_once(&mut self, process: Process) {
        let witness = self.ground.witness.clone();
        let number = self.ground.dice.below(12);
        let input = json!(number);
        let handle = process.handles[number as usize % process.handles.len()].clone();
        let run = RunId::derive(BEGIN, &input.to_string());
        self.begin(&process.life.clone(), async move {
            let begun = witness.begin(&format!("{} starts {run} once", process.life.name));
            let options = RunOptions::new().id(run);
            witness.outcome(begun, &handle.run_with(input, options).await);
        });
    }

    /// Begins something that is about a run as a whole.
    fn look_after(&mut self, process: Process) {
        let dice = self.ground.dice.clone();
        let witness = self.ground.witness.clone();
        let runs = witness.runs();
        let Some(run) = dice.pick(&runs).copied() else { return };
        let (life, name) = (process.life.clone(), process.life.name.clone());
        match dice.below(14) {
            0 | 1 => self.begin(&life, async move {
                let begun = witness.begin(&format!("{name} drives {run}"));
                witness.outcome(begun, &process.hub.drive(run).await);
            }),
            2 | 3 => self.begin(&life, async move {
                let begun = witness.begin(&format!("{name} retries {run}"));
                witness.outcome(begun, &process.hub.retry(run).await);
            }),
            4 => self.begin(&life, async move {
                witness.note(&format!("{name} cancels {run}"));
                match process.hub.cancel(run, Cancellation::new().by("jane")).await {
                    Ok(status) => witness.note(&format!("  {run} is {status} by cancel")),
                    Err(error) => witness.error(&error),
                }
            }),
            5 | 6 => {
                let Some(known) = self.key() else { return };
                self.begin(&life, async move {
                    witness.note(&format!("{name} reissues a key for {}", known.wait));
                    match process.hub.reissue(known.run, &known.wait).await {
                        Ok(key) => witness.given(known.run, &known.wait, &key),
                        Err(error) => witness.error(&error),
                    }
                });
            }
            7 => self.begin(&life, async move {
                witness.note(&format!("{name} reseals"));
                if let Err(error) = process.hub.reseal(None, 100).await {
                    witness.error(&error);
                }
            }),
            8 => self.begin(&life, async move {
                witness.note(&format!("{name} cleans up"));
                let running = Filter { status: [RunStatus::Running].into(), ..Filter::default() };
                // Those whose holders have died would be removed, and then nobody could go on with them.
                match process.hub.cleanup(&Cleanup::new().filter(running).dry_run()).await {
                    Ok(_) => {}
                    Err(error) => witness.error(&error),
                }
            }),
            9 | 10 => {
                let flow = dice.pick(&process.flows).expect("a flow").clone();
                self.begin(&life, async move {
                    witness.note(&format!("{name} moves {run} to its {}", flow.def().id));
                    match process.hub.upgrade(run, &flow).await {
                        Ok(()) => witness.note(&format!("  {run} is moved")),
                        Err(error) => witness.error(&error),
                    }
                });
            }
            _ => self.begin(&life, async move {
                let begun = witness.begin(&format!("{name} looks at {run}"));
                match process.hub.get(run).await {
                    Ok(view) => witness.view(begun, &view),
                    Err(error) => witness.error(&error),
                }
            }),
        }
    }

    fn begin(&mut self, by: &Life, what: impl Future<Output = ()> + Send + 'static) {
        self.going_on.push((by.clone(), tokio::spawn(what)));
    }

    fn key(&self) -> Option<Known> {
        let mut keys = self.ground.witness.keys();
        let index = self.ground.dice.below(keys.len().max(1) as u64);
        // The later a key was given, the likelier its wait is open.
        let index = index.max(self.ground.dice.below(keys.len().max(1) as u64));
        let index = usize::try_from(index).expect("an index");
        (index < keys.len()).then(|| keys.swap_remove(index))
    }

    fn answer(&self) -> Answer {
        let dice = &self.ground.dice;
        let answer = match dice.one_in(10) {
            true => Answer::new(json!("not a number")),
            false => Answer::new(json!(dice.below(10))),
        };
        match dice.one_in(2) {
            true => answer.request_id(format!("request {}", dice.below(10))),
            false => answer,
        }
    }

    /// Moves the clock: a little, or by more than a lease is long.
    async fn advance(&mut self) {
        let dice = self.ground.dice.clone();
        if self.pace == Pace::Calm {
            self.settle().await;
        }
        let by = match dice.below(4) {
            0 => seconds(dice.below(5)),
            1 => LEASE.saturating_add(seconds(1)),
            2 => minutes(dice.below(70)),
            _ => minutes(dice.below(400)),
        };
        self.move_to(self.ground.clock.now().after(by));
    }

    /// Moves the clock to a deadline that has passed for some of the processes and not for others,
    /// and lets all of them at its wait.
    async fn rush(&mut self) {
        let dice = self.ground.dice.clone();
        let deadlines = self.ground.witness.deadlines();
        let Some((known, deadline)) = dice.pick(&deadlines).cloned() else { return };
        if self.pace == Pace::Calm {
            self.settle().await;
        }
        self.move_to(deadline.before(Duration::from_millis(dice.below(3000))));
        for process in self.processes.clone() {
            let (life, witness) = (process.life.clone(), self.ground.witness.clone());
            match dice.one_in(2) {
                true => self.begin(&life, work(process, witness)),
                false => {
                    let answer = self.answer();
                    self.begin(&life, accept(process, witness, known.clone(), answer));
                }
            }
        }
    }

    fn move_to(&self, at: Timestamp) {
        let at = at.max(self.ground.clock.now());
        self.ground.witness.note(&format!("the clock moves to {at}"));
        self.ground.clock.set(at);
    }

    async fn kill(&mut self, process: Process) {
        self.ground.witness.note(&format!("{} is killed", process.life.name));
        process.kill();
        self.processes.retain(|other| other.life.name != process.life.name);
    }

    /// Waits until all is done that is not a dead process's; the clock moves a little, for those who
    /// wait for it.
    async fn settle(&mut self) {
        for _ in 0..10_000 {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.going_on.retain(|(by, task)| by.is_alive() && !task.is_finished());
            if self.going_on.is_empty() {
                return;
            }
            self.ground.clock.advance(Duration::from_millis(100));
        }
        self.ground.witness.fail("what was begun does not come to an end");
    }

    /// Lets nothing fail any more, and brings every run to its end.
    async fn end(&mut self) {
        self.ground.faulty.store(false, Ordering::Relaxed);
        self.ground.witness.note("from here on nothing fails");
        self.settle().await;
        for process in std::mem::take(&mut self.processes) {
            process.kill();
        }
        self.ground.clock.advance(minutes(5));
        let last = Process::newest(&self.ground, self.keys.clone()).await;
        let witness = self.ground.witness.clone();
        let mut seen = 0;
        while let Some(run) = witness.all_runs().get(seen).copied() {
            seen += 1;
            let mut is_over = false;
            for _ in 0..60 {
                witness.check(self.seed);
                let worked = last.hub.work_once().await.expect("a round of work");
                if worked.driven + worked.skipped > 0 {
                    continue;
                }
                let begun = witness.begin(&format!("the last looks at {run}"));
                let view = match last.hub.get(run).await {
                    Ok(view) => view,
                    // It died before its first commit, and has left no trace but its calls.
                    Err(error)
                        if error.kind() == ErrorKind::RunNotFound
                            && !witness.runs().contains(&run) =>
                    {
                        is_over = true;
                        break;
                    }
                    Err(error) => panic!("{error}"),
                };
                witness.view(begun, &view);
                if view.flow_id.as_str() == states::FLOW && !view.status.is_final() {
                    states::finish(&last, &view).await;
                    continue;
                }
                let outcome = match (view.status, view.waits.first()) {
                    (RunStatus::Expired, _) if view.flow_id.as_str() == states::FLOW => {
                        witness.last_view(&view);
                        is_over = true;
                        break;
                    }
                    (RunStatus::Failed | RunStatus::Expired, _) => last.hub.retry(run).await,
                    (RunStatus::Waiting, Some(wait)) => {
                        let key = last.hub.reissue(run, &wait.id).await.expect("a key");
                        witness.given(run, &wait.id, &key);
                        let answer = json!(5);
                        let resumed = last.hub.resume(&key, answer.clone()).await;
                        if resumed.is_ok() {
                            witness.accepted(run, &wait.id, &answer);
                        }
                        resumed
                    }
                    (RunStatus::Waiting, None) => {
                        let due = view.due_at.expect("a run that sleeps is due at some time");
                        let now = self.ground.clock.now();
                        self.ground.clock.advance(Duration::from_millis(
                            u64::try_from(due.as_millis() - now.as_millis()).unwrap_or(0),
                        ));
                        continue;
                    }
                    _ => {
                        witness.last_view(&view);
                        is_over = true;
                        break;
                    }
                };
                witness.outcome(begun, &outcome);
            }
            if !is_over {
                witness.fail(&format!("{run} can't be brought to its end"));
            }
        }
        for known in witness.keys() {
            let answer = Answer::new(json!(6));
            match last.hub.answer(&known.key, answer).await {
                Ok(_) => witness
                    .fail(&format!("{} of {} takes an answer at the end", known.wait, known.run)),
                Err(error) => witness.error(&error),
            }
        }
    }
}

async fn work(process: Process, witness: Witness) {
    witness.note(&format!("{} works", process.life.name));
    if let Err(error) = process.hub.work_once().await {
        witness.error(&error);
    }
}

async fn accept(process: Process, witness: Witness, known: Known, answer: Answer) {
    let Known { run, wait, key } = known;
    let (input, id) = (&answer.input, &answer.request_id);
    witness.note(&format!("{} answers {wait} of {run}: {input}, {id:?}", process.life.name));
    match process.hub.answer(&key, answer.clone()).await {
        Ok(accepted) => witness.told(&accepted, input),
        Err(error) => refused(&witness, input, &error),
    }
}

async fn resume(process: Process, witness: Witness, known: Known, answer: Answer) {
    let Known { run, wait, key } = known;
    let (input, id) = (&answer.input, &answer.request_id);
    let name = &process.life.name;
    let begun = witness.begin(&format!("{name} resumes {wait} of {run}: {input}, {id:?}"));
    let outcome = process.hub.resume(&key, answer.clone()).await;
    let accepted = match &outcome {
        Ok(_) => true,
        Err(error) => {
            error.is_answer_accepted()
                || matches!(error.kind(), ErrorKind::RunFailed | ErrorKind::RunExpired)
        }
    };
    if accepted {
        witness.accepted(run, &wait, input);
    }
    match &outcome {
        Err(error) if !accepted => refused(&witness, input, error),
        outcome => witness.outcome(begun, outcome),
    }
}

fn refused(witness: &Witness, input: &Value, error: &dynamic_flow::Error) {
    match error.kind() {
        ErrorKind::InputValidationError if !input.is_i64() && !input.is_u64() => {}
        _ => witness.error(error),
    }
}
