//! What everybody was told, and what can't be true at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use dynamic_flow::{
    Clock as _, Error, ErrorKind, Receipt, Result, RunId, SuspensionKey, Timestamp, ToolContext,
    WaitId,
    hub::{Accepted, Outcome, RunView, StateClaim, Suspension},
    testkit::ManualClock,
    wait::{Closed, ContentDigest},
};
use serde_json::Value;

use crate::world::Pace;

/// Sees all that happens, and finds out whether a promise was broken.
#[derive(Clone)]
pub(crate) struct Witness {
    clock: ManualClock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    log: Vec<String>,
    broken: Vec<String>,
    /// In the order in which they were heard of.
    runs: Vec<(RunId, Run)>,
    /// By idempotency key.
    calls: BTreeMap<String, Call>,
    /// Whether no call may be made any more once something later is durable.
    calls_end: bool,
}

/// What is known of a run.
#[derive(Default)]
struct Run {
    waits: BTreeMap<WaitId, Wait>,
    /// How it ended, and when that was heard.
    end: Option<(String, usize)>,
    /// Whether somebody was told that they have completed the state.
    completed: bool,
    /// What the state is, if it is one of the lower half, by the wait that it was suspended with.
    states: BTreeMap<WaitId, i64>,
}

/// What is known of a wait.
#[derive(Default)]
struct Wait {
    keys: Vec<SuspensionKey>,
    expires_at: Option<Timestamp>,
    receipt: Option<Receipt>,
    /// The answer that its caller was told is accepted, and when that was heard.
    accepted: Option<(ContentDigest, usize)>,
}

/// A call of a tool.
struct Call {
    run: RunId,
    what: String,
    input: Value,
    returned: bool,
    /// Something later is durable.
    over: bool,
}

/// A key that somebody has, and of what.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) run: RunId,
    pub(crate) wait: WaitId,
    pub(crate) key: SuspensionKey,
}

/// When something was begun; what was heard by then is older.
#[derive(Clone, Copy)]
pub(crate) struct Begun(usize);

impl Witness {
    pub(crate) fn new(clock: ManualClock, pace: Pace) -> Self {
        let seen = Seen { calls_end: pace == Pace::Calm, ..Seen::default() };
        Self { clock, seen: Arc::new(Mutex::new(seen)) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn line(&self, what: &str) -> String {
        format!("{} {what}", self.clock.now())
    }

    pub(crate) fn note(&self, what: &str) {
        self.seen().log.push(self.line(what));
    }

    fn broken(&self, seen: &mut Seen, what: &str) {
        seen.log.push(self.line(&format!("BROKEN: {what}")));
        seen.broken.push(what.to_owned());
    }

    /// Notes that somebody begins something.
    pub(crate) fn begin(&self, what: &str) -> Begun {
        self.note(what);
        Begun(self.seen().log.len())
    }

    /// Tells all that happened, if a promise was broken.
    pub(crate) fn check(&self, seed: u64) {
        let seen = self.seen();
        if !seen.broken.is_empty() {
            let (log, broken) = (seen.log.join("\n"), seen.broken.join("\n"));
            drop(seen);
            panic!("{log}\n\nseed {seed}:\n{broken}");
        }
    }

    pub(crate) fn fail(&self, what: &str) {
        let mut seen = self.seen();
        self.broken(&mut seen, what);
    }

    /// A key was handed out.
    pub(crate) fn given(&self, run: RunId, wait: &WaitId, key: &SuspensionKey) {
        let mut seen = self.seen();
        seen.log.push(self.line(&format!("  a key for {wait}")));
        seen.wait(run, wait).keys.push(key.clone());
    }

    /// A state was suspended with that wait, and is durable.
    pub(crate) fn state_suspended(
        &self,
        run: RunId,
        wait: &WaitId,
        key: &SuspensionKey,
        state: i64,
    ) {
        self.seen().run(run).states.insert(wait.clone(), state);
        self.given(run, wait, key);
    }

    /// A state was given to somebody, with an input.
    pub(crate) fn state_given(&self, begun: Begun, claim: &StateClaim<i64>) {
        let (run, receipt) = (claim.run_id, &claim.receipt);
        self.note(&format!("  {} of {run} is given with {}", claim.state, claim.input));
        self.receipt(run, receipt);
        let mut seen = self.seen();
        if receipt.input != Some(ContentDigest::of(&claim.input).expect("a digest")) {
            self.broken(&mut seen, &format!("{run} is given with another input than was accepted"));
        }
        let known = seen.run(run);
        let (state, end) = (known.states.get(&receipt.wait_id).copied(), known.end.clone());
        if state.is_some_and(|state| state != claim.state) {
            self.broken(&mut seen, &format!("{run} was suspended as {state:?}"));
        }
        if let Some((end, heard)) = end
            && heard < begun.0
        {
            self.broken(&mut seen, &format!("{run} was {end} and is given once more"));
        }
    }

    /// Somebody is done with a state. Others may have heard of it before.
    pub(crate) fn state_completed(&self, run: RunId) {
        if std::mem::replace(&mut self.seen().run(run).completed, true) {
            self.fail(&format!("{run} was completed, and is once more"));
        }
        // As `drive` tells of it.
        self.ended(run, "completed with null".into());
    }

    pub(crate) fn keys(&self) -> Vec<Known> {
        let seen = self.seen();
        let waits = seen
            .runs
            .iter()
            .flat_map(|(run, known)| known.waits.iter().map(|(id, wait)| (*run, id.clone(), wait)));
        let keys = waits.flat_map(|(run, wait, known)| {
            let with_key = move |key: &SuspensionKey| (run, wait.clone(), key.clone());
            known.keys.iter().map(with_key)
        });
        keys.map(|(run, wait, key)| Known { run, wait, key }).collect()
    }

    /// Keys of waits that nobody has heard the end of, and when these expire.
    pub(crate) fn deadlines(&self) -> Vec<(Known, Timestamp)> {
        let open = |known: Known| {
            let mut seen = self.seen();
            let wait = seen.wait(known.run, &known.wait);
            let expires_at = wait.expires_at.filter(|_| wait.receipt.is_none())?;
            Some((known, expires_at))
        };
        self.keys().into_iter().filter_map(open).collect()
    }

    /// All runs that were heard of, be it by a call of one that died before it was durable.
    pub(crate) fn all_runs(&self) -> Vec<RunId> {
        self.seen().runs.iter().map(|(run, _)| *run).collect()
    }

    /// The runs that anybody was told of: they are durable.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        let seen = self.seen();
        let durable = seen.runs.iter().filter(|(_, known)| known.is_durable());
        durable.map(|(run, _)| *run).collect()
    }

    /// A tool is called.
    pub(crate) fn called(&self, by: &str, tool: &str, at: &ToolContext, input: &Value) {
        let mut seen = self.seen();
        let what = format!("{tool} of {}", at.position.steps());
        seen.log.push(self.line(&format!("  {by} calls {what} with {input} in {}", at.run_id)));
        seen.run(at.run_id);
        let call = seen.calls.entry(at.idempotency_key.clone()).or_insert_with(|| Call {
            run: at.run_id,
            what: what.clone(),
            input: input.clone(),
            returned: false,
            over: false,
        });
        let mut wrong = Vec::new();
        if (call.run, &call.what) != (at.run_id, &what) {
            wrong.push(format!("{what} has the idempotency key of {}", call.what));
        }
        if call.input != *input && !may_begin_anew(&what) {
            wrong.push(format!("{what} was called with {} and {input} by one key", call.input));
        }
        if call.over {
            wrong.push(format!("{what} was called when something later was durable"));
        }
        for wrong in wrong {
            self.broken(&mut seen, &wrong);
        }
    }

    /// A tool gives what it made.
    pub(crate) fn returned(&self, at: &ToolContext) {
        if let Some(call) = self.seen().calls.get_mut(&at.idempotency_key) {
            call.returned = true;
        }
    }

    /// Somebody heard what driving a run came to.
    pub(crate) fn outcome(&self, begun: Begun, result: &Result<Outcome>) {
        match result {
            Ok(Outcome::Suspended(suspension)) => self.suspended(begun, suspension),
            Ok(Outcome::Completed(it)) => {
                self.ended(it.run_id, format!("completed with {}", it.output));
            }
            Ok(Outcome::Rejected(it)) => {
                self.ended(it.run_id, format!("rejected with {}", it.value));
            }
            Err(error) => self.error(error),
        }
    }

    fn suspended(&self, begun: Begun, suspension: &Suspension) {
        let run = suspension.run_id;
        let ids: Vec<_> = suspension.waits.iter().map(|wait| wait.id.to_string()).collect();
        let mut seen = self.seen();
        seen.log.push(self.line(&format!("  {run} is parked, and asks {ids:?}")));
        if let Some((end, heard)) = seen.run(run).end.clone()
            && heard < begun.0
        {
            self.broken(&mut seen, &format!("{run} was {end} and is parked again"));
        }
        for wait in &suspension.waits {
            let known = seen.wait(run, &wait.id);
            let accepted = known.accepted.clone();
            known.keys.extend(wait.key.clone());
            known.expires_at = wait.expires_at;
            if let Some((_, heard)) = accepted
                && heard < begun.0
            {
                self.broken(&mut seen, &format!("{} was answered, and is asked", wait.id));
            }
        }
        if !ids.is_empty() {
            seen.all_over(run);
        }
    }

    fn ended(&self, run: RunId, how: String) {
        let mut seen = self.seen();
        seen.log.push(self.line(&format!("  {run} is {how}")));
        let heard = seen.log.len();
        seen.all_over(run);
        match seen.run(run).end.clone() {
            None => seen.run(run).end = Some((how, heard)),
            Some((known, _)) if known == how => {}
            Some((known, _)) => self.broken(&mut seen, &format!("{run} was {known} and is {how}")),
        }
    }

    /// Somebody heard of an error.
    pub(crate) fn error(&self, error: &Error) {
        self.note(&format!("  {error}"));
        if let (Some(run), Some(receipt)) = (error.run_id(), error.receipt()) {
            self.receipt(run, receipt);
        }
        match error.kind() {
            ErrorKind::RunCancelled => {
                if let Some(run) = error.run_id() {
                    self.ended(run, "cancelled".into());
                }
            }
            ErrorKind::StorageError if error.is_retryable() => {}
            // `resume` is not for states.
            ErrorKind::FlowNotRegistered
                if error.context_value("flow") == Some(crate::states::FLOW) => {}
            ErrorKind::AlreadyResumed
            | ErrorKind::SuspensionExpired
            | ErrorKind::FlowIncompatible
            | ErrorKind::RunBusy
            | ErrorKind::InvalidState
            | ErrorKind::RunFailed
            | ErrorKind::RunExpired
            | ErrorKind::LimitExceeded
            | ErrorKind::ShuttingDown => {}
            kind => self.fail(&format!("nobody should hear of {kind}: {error}")),
        }
    }

    /// Somebody saw a receipt.
    fn receipt(&self, run: RunId, receipt: &Receipt) {
        let mut seen = self.seen();
        let wait = seen.wait(run, &receipt.wait_id);
        let mut wrong = Vec::new();
        if let Some(known) = &wait.receipt
            && lasting(known) != lasting(receipt)
        {
            wrong.push(format!("{} took {known:?} and {receipt:?}", receipt.wait_id));
        }
        if let Some((digest, _)) = &wait.accepted
            && receipt.input.as_ref() != Some(digest)
        {
            wrong.push(format!("the accepted answer is not in {receipt:?}"));
        }
        wait.receipt.get_or_insert_with(|| receipt.clone());
        for wrong in wrong {
            self.broken(&mut seen, &wrong);
        }
    }

    /// Somebody was told that an answer was accepted.
    pub(crate) fn accepted(&self, run: RunId, wait: &WaitId, input: &Value) {
        let digest = ContentDigest::of(input).expect("a digest");
        let mut seen = self.seen();
        seen.log.push(self.line(&format!("  {wait} has accepted {input}")));
        let heard = seen.log.len();
        let known = seen.wait(run, wait);
        let other = known.accepted.as_ref().is_some_and(|(other, _)| *other != digest)
            || known.receipt.as_ref().is_some_and(|other| other.input.as_ref() != Some(&digest));
        known.accepted.get_or_insert((digest, heard));
        if other {
            self.broken(&mut seen, &format!("{wait} has accepted {input} beside something else"));
        }
    }

    pub(crate) fn told(&self, accepted: &Accepted, input: &Value) {
        self.accepted(accepted.run_id, &accepted.receipt.wait_id, input);
        self.receipt(accepted.run_id, &accepted.receipt);
    }

    /// Somebody looked at a run.
    pub(crate) fn view(&self, begun: Begun, view: &RunView) {
        for receipt in view.receipts.iter().chain(&view.accepted) {
            self.receipt(view.run_id, receipt);
        }
        let mut seen = self.seen();
        seen.log.push(self.line(&format!("  {} is {}", view.run_id, view.status)));
        for wait in &view.waits {
            let accepted = seen.wait(view.run_id, &wait.id).accepted.clone();
            if let Some((_, heard)) = accepted
                && heard < begun.0
            {
                self.broken(&mut seen, &format!("{} was answered, and is open", wait.id));
            }
        }
        if let Some((end, heard)) = seen.run(view.run_id).end.clone()
            && heard < begun.0
            && !end.starts_with(&view.status.to_string())
        {
            self.broken(&mut seen, &format!("{} was {end} and is {}", view.run_id, view.status));
        }
    }

    /// Holds what a run is at the end of all against what was heard of it.
    pub(crate) fn last_view(&self, view: &RunView) {
        if !view.status.is_final() {
            self.fail(&format!("{} is {} at the end", view.run_id, view.status));
        }
        let mut seen = self.seen();
        let accepted: Vec<_> = seen
            .run(view.run_id)
            .waits
            .iter()
            .filter_map(|(id, wait)| Some((id.clone(), wait.accepted.clone()?.0)))
            .collect();
        for (id, digest) in accepted {
            let taken = view.receipts.iter().find(|receipt| receipt.wait_id == id);
            let kept = taken.is_some_and(|receipt| {
                receipt.closed == Closed::Answered && receipt.input.as_ref() == Some(&digest)
            });
            if !kept {
                self.broken(&mut seen, &format!("the answer to {id} was lost: {taken:?}"));
            }
        }
    }
}

impl Run {
    fn is_durable(&self) -> bool {
        self.end.is_some() || !self.waits.is_empty()
    }
}

impl Seen {
    fn run(&mut self, id: RunId) -> &mut Run {
        let index = self.runs.iter().position(|(run, _)| *run == id).unwrap_or_else(|| {
            self.runs.push((id, Run::default()));
            self.runs.len() - 1
        });
        &mut self.runs[index].1
    }

    fn wait(&mut self, run: RunId, id: &WaitId) -> &mut Wait {
        self.run(run).waits.entry(id.clone()).or_default()
    }

    /// Something is durable that comes after all calls that have returned.
    fn all_over(&mut self, run: RunId) {
        if self.calls_end {
            let calls = self.calls.values_mut();
            let done = calls.filter(|call| call.run == run && call.returned);
            done.filter(|call| !may_begin_anew(&call.what)).for_each(|call| call.over = true);
        }
    }
}

/// Whether a retry may ask again before it calls this again, and be given another answer.
fn may_begin_anew(what: &str) -> bool {
    what.contains("in-time") || what.starts_with("book")
}

/// What of a receipt never changes: keys may be added to a wait whose answer is not worked in yet.
fn lasting(receipt: &Receipt) -> Receipt {
    let mut lasting = receipt.clone();
    lasting.keys.clear();
    lasting
}
