//! Carrying runs over that an earlier version of a flow parked.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::Flow;
use crate::{
    Error, ErrorKind, Result, StepId, ToolError,
    engine::{Branch, FlowStamp, Snapshot, StepState, panicked},
    wait::ContentDigest,
};

/// What makes the state of an earlier version into that of this one.
#[derive(Clone)]
pub(super) struct Upgrade {
    from: ContentDigest,
    carry: Arc<Carry>,
}

type Carry = dyn Fn(&mut Snapshot) -> Result<(), ToolError> + Send + Sync;

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upgrade(from {})", self.from.0)
    }
}

impl<I, O> Flow<I, O> {
    /// Carries the state of runs over that were parked by the version of that fingerprint
    /// ([`Flow::fingerprint`], which [`RunView::fingerprint`](crate::hub::RunView) tells of each run).
    ///
    /// The closure changes the state in memory; whether this flow can go on with the result is
    /// checked as ever, before anything is consumed, and it is stored at the next commit. It may
    /// run more than once for a run and must give the same each time.
    ///
    /// ```
    /// use dynamic_flow::{Flow, wait::ContentDigest};
    ///
    /// // The fingerprint as the old version had it, for its code is gone by now.
    /// const OLD: &str = "15257949a2fdac8184e8e6b2d6dd7dad896384286b5ed66b2c8282336dc80d05";
    ///
    /// let new = Flow::input::<i64>("f")
    ///     .sleep("rest", dynamic_flow::hours(1))
    ///     .build()?
    ///     .upgrade(ContentDigest(OLD.into()), |state| state.rename_step("pause", "rest"));
    /// # let _ = new;
    /// # let old = Flow::input::<i64>("f").sleep("pause", dynamic_flow::hours(1)).build()?;
    /// # assert_eq!(old.fingerprint()?.0, OLD);
    /// # Ok::<(), dynamic_flow::Error>(())
    /// ```
    #[must_use]
    pub fn upgrade(
        mut self,
        from: ContentDigest,
        carry: impl Fn(&mut Snapshot) -> Result<(), ToolError> + Send + Sync + 'static,
    ) -> Self {
        self.upgrades.push(Upgrade { from, carry: Arc::new(carry) });
        self
    }

    fn upgrade_of(&self, snapshot: &Snapshot) -> Option<&Upgrade> {
        self.upgrades.iter().find(|upgrade| upgrade.from == snapshot.flow.fingerprint)
    }

    /// Whether there is an upgrade for the version that parked the run.
    pub(crate) fn upgrades_from(&self, snapshot: &Snapshot) -> bool {
        self.upgrade_of(snapshot).is_some()
    }

    /// The state as this version goes on with it.
    pub(crate) fn carry_over(&self, mut snapshot: Snapshot) -> Result<Snapshot> {
        if let Some(upgrade) = self.upgrade_of(&snapshot) {
            let carry = AssertUnwindSafe(|| (upgrade.carry)(&mut snapshot));
            let carried = catch_unwind(carry).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            carried.map_err(|error| {
                Error::new(
                    ErrorKind::FlowIncompatible,
                    format!("the upgrade could not carry the run over: {error}"),
                )
                .with_run(snapshot.run_id)
                .with("flow", &snapshot.flow.id)
            })?;
            // What is asked may be another question by now, and answers are held against it.
            let run = snapshot.run_id;
            snapshot.waits.iter_mut().for_each(|wait| wait.question = wait.asks(run));
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    /// Moves a run that stands in the step at `path` (`outer/inner`, without iterations) to a step
    /// of another name in the same body. A run that does not stand there stays as it is. The tool
    /// that the step calls keeps its id.
    ///
    /// # Errors
    /// Never at the moment; it fits the closure of [`Flow::upgrade`].
    pub fn rename_step(&mut self, path: &str, to: impl Into<StepId>) -> Result<(), ToolError> {
        let steps: Vec<&str> = path.split('/').collect();
        let to = to.into();
        if rename(&mut self.root, &steps, &to) {
            for wait in &mut self.waits {
                let stands = wait.position.0.len() >= steps.len()
                    && wait.position.0.iter().zip(&steps).all(|(part, step)| part.step == *step);
                if stands {
                    wait.position.0[steps.len() - 1].step = to.clone();
                }
            }
            self.flow.rename_step(path, &to);
        }
        Ok(())
    }
}

impl FlowStamp {
    /// Says of a renamed step, and of those inside it, where they stand now.
    fn rename_step(&mut self, path: &str, to: &StepId) {
        let around = path.rsplit_once('/').map_or("", |(around, _)| around);
        let separator = if around.is_empty() { "" } else { "/" };
        for stamp in &mut self.steps {
            if let Some(inside) = stamp.path.strip_prefix(path)
                && (inside.is_empty() || inside.starts_with('/'))
            {
                stamp.path = format!("{around}{separator}{to}{inside}");
            }
        }
    }
}

fn rename(branch: &mut Branch, path: &[&str], to: &StepId) -> bool {
    match (path, &mut branch.step) {
        ([last], Some(step)) if step == *last => {
            *step = to.clone();
            true
        }
        ([first, rest @ ..], Some(step)) if step == *first => match &mut branch.state {
            StepState::Inside { branches, .. } => {
                branches.iter_mut().fold(false, |any, inner| rename(inner, rest, to) | any)
            }
            _ => false,
        },
        _ => false,
    }
}
