//! Carrying runs over that an earlier version of a flow parked.

mod state;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub use self::state::RunState;
use super::Flow;
use crate::{
    Error, ErrorKind, Result, ToolError,
    engine::{Snapshot, panicked},
    wait::ContentDigest,
};

/// What makes the state of an earlier version into that of this one.
#[derive(Clone)]
pub(super) struct Upgrade {
    from: ContentDigest,
    carry: Arc<Carry>,
}

type Carry = dyn Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync;

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upgrade(from {})", self.from.0)
    }
}

impl<I, O> Flow<I, O> {
    /// Carries the state of runs over that were parked by the version of that fingerprint
    /// ([`Flow::fingerprint`], which [`RunView::fingerprint`](crate::hub::RunView) tells of each run).
    ///
    /// The closure changes the [state](RunState) in memory; whether this flow can go on with the result
    /// is checked as ever, before anything is consumed, and it is stored at the next commit, or when somebody
    /// looks at a question that it changes. It may
    /// run more than once for a run and must give the same each time. Where two versions differ in
    /// closures alone they have the same fingerprint, and an upgrade from that is applied to all runs, each
    /// time that one is opened: give one of the steps another id instead.
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
        carry: impl Fn(&mut RunState) -> Result<(), ToolError> + Send + Sync + 'static,
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
    pub(crate) fn carry_over(&self, snapshot: Snapshot) -> Result<Snapshot> {
        let Some(upgrade) = self.upgrade_of(&snapshot) else { return Ok(snapshot) };
        let mut state = RunState::new(snapshot);
        let carry = AssertUnwindSafe(|| (upgrade.carry)(&mut state));
        let carried = catch_unwind(carry).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match carried {
            Ok(()) => Ok(state.into_snapshot(&self.def)),
            Err(error) => Err(Error::new(
                ErrorKind::FlowIncompatible,
                format!("the upgrade could not carry the run over: {error}"),
            )
            .with_run(state.run_id())
            .with("flow", &self.def.id)),
        }
    }
}
