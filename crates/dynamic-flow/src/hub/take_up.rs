//! How a run is taken up where it was left: its state under the flow, and what was accepted meanwhile.

use super::{
    Known,
    inbox::{Accept, InboxItem},
};
use crate::{
    Result,
    clock::Timestamp,
    engine::{RunStatus, Snapshot, machine::Event},
    wait::Receipt,
};

/// A run as its next holder finds it.
pub(super) struct TakenUp {
    /// Its state under the flow.
    pub(super) snapshot: Snapshot,
    /// What happened to it meanwhile, and when.
    pub(super) events: Vec<(Event, Timestamp)>,
    /// What became of the waits that an upgrade has left behind; in the snapshot already.
    pub(super) superseded: Vec<Receipt>,
}

/// Takes a run up under a flow.
///
/// # Errors
/// `CorruptState` where what was answered is not what the wait asks.
pub(super) fn taken_up(
    flow: &Known,
    snapshot: Snapshot,
    inbox: &[InboxItem],
    now: Timestamp,
) -> Result<TakenUp> {
    let mut accepted = events_of(inbox, &snapshot)?;
    let mut snapshot = flow.carry_over(snapshot)?;
    let superseded = snapshot.close_orphans(now);
    // What was accepted counts from when it was accepted: no timer that was due later may come
    // first. Calls are not made anew only to be dropped by a cancellation.
    let from = accepted.iter().map(|(_, at)| *at).min().unwrap_or(now);
    let cancelled = accepted.iter().any(|(e, _)| matches!(e, Event::Cancelled(_)))
        && !accepted.iter().any(|(e, _)| matches!(e, Event::Answered { .. }));
    let mut events = Vec::with_capacity(accepted.len() + 2);
    let retried = accepted.iter().position(|(e, _)| *e == Event::Retried);
    if let Some(retried) = retried.filter(|_| snapshot.is_set_aside()) {
        // All is as it was committed last, whatever it was doing then. It stood still: timeouts
        // begin anew, before anything else that was accepted counts.
        snapshot.status = RunStatus::Running;
        snapshot.ended = None;
        accepted.remove(retried);
        events.push((Event::Retried, from));
    }
    events.extend((!cancelled).then_some((Event::Started, from)));
    events.extend(accepted);
    events.push((Event::Tick, now));
    Ok(TakenUp { snapshot, events, superseded })
}

/// What the machine hears of what was accepted for a run in that state.
pub(super) fn events_of(
    inbox: &[InboxItem],
    snapshot: &Snapshot,
) -> Result<Vec<(Event, Timestamp)>> {
    let mut events = Vec::with_capacity(inbox.len());
    for item in inbox {
        if let Accept::Answer { wait_id, receipt, .. } = &item.what
            && let Some(wait) = snapshot.wait(wait_id)
        {
            wait.check_asked(snapshot.run_id, receipt)?;
        }
        events.extend(item.event());
    }
    put_answers_in_time(&mut events);
    Ok(events)
}

/// Lets nothing that comes before an answer happen later than it. Clocks differ: what was accepted
/// first may say so, and would then let a deadline win over an answer that was in time.
fn put_answers_in_time(accepted: &mut [(Event, Timestamp)]) {
    let mut answered = None;
    for (event, at) in accepted.iter_mut().rev() {
        match (event, answered) {
            (Event::Answered { .. }, None) => answered = Some(*at),
            (Event::Answered { .. }, Some(later)) => answered = Some(later.min(*at)),
            (_, Some(answered)) => *at = answered.min(*at),
            (_, None) => {}
        }
    }
}
