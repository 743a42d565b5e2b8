//! Drives a run under a lease until it is parked or has ended.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{
    HubEvent, Inner, Known,
    claims::Taken,
    driver::{Driver, End},
    outcome::{Outcome, outcome_of},
    take_up::{TakenUp, taken_up},
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codes,
    engine::{
        RunStatus, Snapshot,
        machine::Event,
        runner::{self, Drive},
    },
    id::{Epoch, RunId, SuspensionKey, WaitId},
};

/// How far a run was driven.
pub(super) enum Driven {
    /// Until it was parked, has ended or was let go; as it was committed.
    To {
        /// Its state.
        snapshot: Box<Snapshot>,
        /// The keys of the waits that were opened on the way.
        keys: Vec<(WaitId, SuspensionKey)>,
        /// When.
        at: Timestamp,
    },
    /// Until its state could not be committed, and never will be: it was failed as it was before.
    Uncommittable(Error),
}

impl Driven {
    /// What the run is doing now.
    pub(super) fn status(&self) -> RunStatus {
        match self {
            Self::To { snapshot, .. } => snapshot.parked_status(),
            Self::Uncommittable(_) => RunStatus::Failed,
        }
    }

    /// What the caller gets who asked for it to be driven.
    pub(super) fn outcome(self) -> Result<Outcome> {
        match self {
            Self::To { snapshot, .. } if snapshot.status == RunStatus::Running => Err(Error::new(
                ErrorKind::ShuttingDown,
                "the run was let go before its end; it is committed, and goes on with the next worker",
            )
            .with_run(snapshot.run_id)),
            Self::To { snapshot, keys, at } => outcome_of(&snapshot, at, keys),
            Self::Uncommittable(error) => Err(error),
        }
    }
}

/// Drives a run from its very start, of which nothing is stored yet, until it is parked or has ended.
///
/// The future must be polled to its end, so it belongs on a task of its own.
///
/// # Errors
/// Where it could not be driven, as for [`go_on`].
pub(super) async fn begin(hub: Arc<Inner>, flow: Arc<Known>, snapshot: Snapshot) -> Result<Driven> {
    let now = hub.clock.now();
    let driver = Driver::new(&hub, &flow, snapshot.run_id);
    run(snapshot, vec![(Event::Started, now), (Event::Tick, now)], driver).await
}

/// Drives a run whose lease this hub has taken until it is parked or has ended.
///
/// The future must be polled to its end, so it belongs on a task of its own.
///
/// # Errors
/// Where it could not be driven; it is then let go as it was taken. `RunBusy` where it is somebody
/// else's by now.
pub(super) async fn go_on(hub: Arc<Inner>, flow: Arc<Known>, opened: Opened) -> Result<Driven> {
    let taken = Taken::of(&opened.record);
    go_on_as(hub, flow, opened, taken).await
}

/// As [`go_on`], with a run that was taken in that way.
pub(super) async fn go_on_as(
    hub: Arc<Inner>,
    flow: Arc<Known>,
    opened: Opened,
    taken: Taken,
) -> Result<Driven> {
    let driven = drive(&hub, &flow, opened).await;
    match &driven {
        Err(error) if error.kind() != ErrorKind::RunBusy => hub.release(&taken).await,
        _ => hub.skips.forget(taken.id),
    }
    driven
}

async fn drive(hub: &Arc<Inner>, flow: &Arc<Known>, opened: Opened) -> Result<Driven> {
    let Opened { record, snapshot, inbox } = opened;
    let TakenUp { snapshot, events, superseded } =
        taken_up(flow, snapshot, &inbox, hub.clock.now())?;
    let driver = Driver::holding(hub, flow, &record, &snapshot, superseded);
    if let Some(lease) = &record.lease {
        hub.secure(record.id, record.epoch, lease.until).await?;
    }
    run(snapshot, events, driver).await
}

async fn run(
    snapshot: Snapshot,
    events: Vec<(Event, Timestamp)>,
    driver: Driver,
) -> Result<Driven> {
    let span = tracing::info_span!("run", run = %snapshot.run_id, flow = %driver.flow().def.id);
    run_in_span(snapshot, events, driver).instrument(span).await
}

async fn run_in_span(
    snapshot: Snapshot,
    events: Vec<(Event, Timestamp)>,
    mut driver: Driver,
) -> Result<Driven> {
    let (hub, flow, run_id) = (driver.hub().clone(), driver.flow().clone(), snapshot.run_id);
    hub.tell(HubEvent::RunStarted { run_id, flow_id: flow.def.id.clone() });
    let options = Drive {
        durability: hub.options.durability,
        linger: hub.options.linger,
        default_timeout: hub.options.default_timeout,
    };
    let driven =
        runner::drive(&flow.def, snapshot, events, options, hub.clock.as_ref(), &mut driver).await;
    let End { keys, epoch, written_at: at } = driver.end();
    match driven {
        Ok(snapshot) => {
            hub.tell(HubEvent::run_stopped(&snapshot, snapshot.parked_status()));
            Ok(Driven::To { snapshot: snapshot.into(), keys, at })
        }
        Err(error) => {
            let error = error.with_run(run_id);
            match epoch.filter(|_| is_uncommittable(error.kind())) {
                Some(epoch) if hub.set_uncommittable_aside(run_id, epoch, &error).await => {
                    Ok(Driven::Uncommittable(error))
                }
                _ => Err(error),
            }
        }
    }
}

/// Whether every further try to commit the state would fail in the same way.
fn is_uncommittable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StateTooLarge | ErrorKind::SerializationError | ErrorKind::InvalidArgument
    )
}

impl Inner {
    /// Fails a run whose state can't be committed, if this holder still has it; gives whether it did.
    async fn set_uncommittable_aside(&self, run: RunId, epoch: Epoch, error: &Error) -> bool {
        let setting_aside = async {
            let opened = Opened::unseal(&self.codec, self.vault.require(run).await?)?;
            if opened.record.epoch != epoch {
                return Ok(false);
            }
            let aside = self.set_aside(opened, codes::UNCOMMITTABLE, error.to_string()).await;
            aside.map(|()| true)
        };
        setting_aside.await.unwrap_or_else(|error: Error| {
            // Something may have been accepted at that very moment; the next worker sets it aside.
            tracing::warn!(%run, %error, "a run whose state can't be committed is left as it was");
            false
        })
    }
}
