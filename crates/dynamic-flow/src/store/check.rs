//! What every store refuses alike, so that a run can move from any store to any other.

use crate::{
    Error, ErrorKind, Result,
    id::RunId,
    metadata::check as metadata,
    store::{Change, Claim, Filter, Lease, Queue, Record, WaitIndex},
};

/// The highest revision and epoch: what a signed 64-bit column holds.
pub const MAX_COUNTER: u64 = i64::MAX as u64;

impl Record {
    /// Says whether every store can hold the record; each calls it before it inserts.
    ///
    /// # Errors
    /// `InvalidArgument` for metadata over its bounds or with a number that is not finite, for
    /// U+0000 in any plain text, and for a revision or epoch over [`MAX_COUNTER`].
    pub fn check(&self) -> Result<()> {
        self.refuse().map_err(|error| error.with_run(self.id))
    }

    fn refuse(&self) -> Result<()> {
        counter("revision", self.revision.0)?;
        counter("epoch", self.epoch.0)?;
        plain("flow id", self.flow_id.as_str())?;
        queue(self.queue.as_ref())?;
        lease(self.lease.as_ref())?;
        waits(&self.waits)?;
        metadata(&self.metadata)
    }
}

impl Change {
    /// Says whether every store can make the change to that run; each calls it before it updates.
    ///
    /// # Errors
    /// `InvalidArgument`, as [`Record::check`] does.
    pub fn check(&self, run: RunId) -> Result<()> {
        self.refuse().map_err(|error| error.with_run(run))
    }

    fn refuse(&self) -> Result<()> {
        if let Some(epoch) = self.epoch {
            counter("epoch", epoch.0)?;
        }
        queue(self.queue.as_ref().and_then(Option::as_ref))?;
        lease(self.lease.as_ref().and_then(Option::as_ref))?;
        waits(self.waits.as_deref().unwrap_or_default())?;
        self.metadata.as_ref().map_or(Ok(()), metadata)
    }
}

impl Claim {
    /// Says whether every store can ask for it; each calls it before it claims.
    ///
    /// # Errors
    /// `InvalidArgument` for U+0000 in the owner or a queue.
    pub fn check(&self) -> Result<()> {
        plain("owner", &self.owner)?;
        self.queues.iter().try_for_each(|name| queue(Some(name)))
    }
}

impl Filter {
    /// Says whether every store can answer a query for a page of that size; each calls it first.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit of 0, and for what no record can hold: see [`Record::check`].
    pub fn check(&self, limit: usize) -> Result<()> {
        if limit == 0 {
            return Err(refuse("the limit of a page is at least 1"));
        }
        if let Some(id) = &self.flow_id {
            plain("flow id", id.as_str())?;
        }
        if let Some(id) = &self.tool_id {
            plain("tool id", id.as_str())?;
        }
        metadata(&self.metadata)
    }
}

fn queue(queue: Option<&Queue>) -> Result<()> {
    queue.map_or(Ok(()), |queue| plain("queue", &queue.0))
}

fn lease(lease: Option<&Lease>) -> Result<()> {
    lease.map_or(Ok(()), |lease| plain("owner", &lease.owner))
}

fn waits(waits: &[WaitIndex]) -> Result<()> {
    waits.iter().try_for_each(|wait| {
        plain("wait id", wait.id.as_str())?;
        plain("tool id", wait.tool_id.as_str())
    })
}

fn counter(what: &str, value: u64) -> Result<()> {
    if value > MAX_COUNTER {
        return Err(refuse(format!("a {what} is at most {MAX_COUNTER}")));
    }
    Ok(())
}

fn plain(what: &str, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(refuse(format!("a {what} must not hold U+0000")));
    }
    Ok(())
}

fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_at_least_one_row() {
        assert!(Filter::default().check(1).is_ok());
        assert!(Filter::default().check(0).is_err());
    }
}
