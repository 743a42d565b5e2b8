//! Accepting answers, and what a key entitles to.

use std::sync::Arc;

use super::{
    Inner, drive,
    inbox::{Accept, InboxItem},
    outcome::Accepted,
    pending::pending_receipt,
    requests::check_words,
    submit::Submitted,
    vault::Opened,
};
use crate::{
    Error, ErrorKind, Result,
    id::{FlowId, RunId, SuspensionKey},
    schema::Schema,
    wait::{Answer, Closed, Receipt, Wait},
};

impl Inner {
    /// Accepts an answer; with `of`, only to a run of that flow. Takes the lease if the run is to be
    /// driven and nobody has it.
    pub(super) async fn accept(
        self: &Arc<Self>,
        key: &SuspensionKey,
        answer: &Answer,
        of: Option<&FlowId>,
        drive: bool,
    ) -> Result<(Accepted, Submitted)> {
        let mut perhaps_accepted: Option<Receipt> = None;
        loop {
            let found = self.find(key).await?;
            let record = &found.opened().record;
            let run_id = record.id;
            if of.is_some_and(|flow| *flow != record.flow_id) {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    "the key is of a run of another flow; use a handle of that one, or the hub",
                )
                .with_run(run_id)
                .with("flow", &record.flow_id));
            }
            let (opened, wait) = match found {
                Found::Open(opened, wait) => (opened, wait),
                Found::Closed(opened, receipt) => {
                    let status = opened.record.status;
                    let told =
                        |repeated| Accepted { run_id, receipt: receipt.clone(), repeated, status };
                    if perhaps_accepted.is_some_and(|mine| mine.is_same_answer(&receipt)) {
                        return Ok((told(false), Submitted::Left));
                    }
                    if receipt.is_of(answer) {
                        return Ok((told(true), Submitted::Left));
                    }
                    return Err(refusal(receipt).with_run(run_id));
                }
            };
            let now = self.clock.now();
            if opened.record.status.is_final() {
                return Err(takes_no_answers(run_id));
            }
            if wait.is_over(now) {
                self.time_out(*opened, &wait, drive).await?;
                continue;
            }
            let flow = match (self.known_flow(&opened.snapshot), drive) {
                // A process that has the newer version goes on with it.
                (Ok(flow), false) if flow.is_outgrown(&opened.snapshot) => None,
                (Ok(flow), _) => Some(self.fit(&opened, flow)?),
                (Err(error), true) => return Err(error.with_run(run_id)),
                (Err(_), false) => None,
            };
            let carried = match &flow {
                Some(flow) => flow.carried(&opened.snapshot, &wait)?,
                None => None,
            };
            let asks = carried.as_ref().unwrap_or(&wait);
            let schema = match &flow {
                Some(flow) => flow.compiled(asks, &opened.snapshot.root),
                None => &wait.request.schema,
            };
            self.check_input(&wait, schema, answer).map_err(|error| error.with_run(run_id))?;
            let receipt = wait.answered(answer, now);
            let what = Accept::Answer {
                wait_id: wait.id.clone(),
                answer: answer.clone(),
                receipt: receipt.clone(),
            };
            match self.submit(*opened, InboxItem { at: now, what }, flow.filter(|_| drive)).await {
                Ok((status, submitted)) => {
                    let accepted = Accepted { run_id, receipt, repeated: false, status };
                    return Ok((accepted, submitted));
                }
                // Somebody was faster; look again at what they did. It may have been done to this
                // answer, if a try that seemed to fail has written it.
                Err(error) if error.is_conflict() => {
                    if error.is_perhaps_written() {
                        perhaps_accepted = Some(receipt);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds what a key entitles to. Every wrong key gets the same error.
    pub(super) async fn find(&self, key: &SuspensionKey) -> Result<Found> {
        let record = match self.vault.get(key.run_id()).await {
            Ok(Some(record)) => record,
            Ok(None) => return Err(SuspensionKey::not_found()),
            // Of a record that does not read back nobody knows whose key is right, and where it is
            // and what is wrong with it are nothing for whoever has made one up.
            Err(error) if error.kind() == ErrorKind::CorruptState => {
                let run = key.run_id();
                tracing::warn!(%run, %error, "a key was refused: the record of its run is damaged");
                return Err(SuspensionKey::not_found());
            }
            Err(error) => return Err(error),
        };
        let digest = key.digest();
        let indexed = record
            .waits
            .iter()
            .flat_map(|wait| &wait.keys)
            .fold(false, |found, key| key.matches(&digest) | found);
        let opened = match Opened::unseal(&self.codec, record) {
            Ok(opened) => opened,
            Err(error) if indexed => return Err(error),
            Err(_) => return Err(SuspensionKey::not_found()),
        };
        // With the keys that were added since: its receipt must be known to their holders, too.
        let wait = opened.wait_by_key(&digest).map(|wait| opened.with_added_keys(wait.clone()));
        let receipt = closed_by_key(&opened, &digest);
        if wait.is_none() && receipt.is_none() && !indexed {
            return Err(SuspensionKey::not_found());
        }
        opened.verify()?;
        let pending = || wait.as_ref().and_then(|wait| pending_receipt(&opened, wait));
        if let Some(receipt) = receipt.or_else(pending) {
            return Ok(Found::Closed(Box::new(opened), receipt));
        }
        match wait {
            Some(wait) => Ok(Found::Open(Box::new(opened), Box::new(wait))),
            None => Err(SuspensionKey::not_found()),
        }
    }

    /// Holds an answer against the schema of its wait, which somebody may have compiled already.
    pub(super) fn check_input(&self, wait: &Wait, schema: &Schema, answer: &Answer) -> Result<()> {
        self.check_bounds(&answer.input)?;
        check_words("by", answer.by.as_deref())?;
        check_words("request_id", answer.request_id.as_deref())?;
        schema.validate(&answer.input).map_err(|violations| {
            let n = violations.len();
            let what = if n == 1 { "in one place" } else { "in several places" };
            Error::new(
                ErrorKind::InputValidationError,
                format!("the input does not fit the schema {what}; the wait stays open"),
            )
            .with("wait", &wait.id)
            .with("violations", n)
            .with_violations(violations)
        })
    }

    /// Lets the deadline of a wait do what it does, so that the caller can be told.
    async fn time_out(self: &Arc<Self>, opened: Opened, wait: &Wait, drive: bool) -> Result<()> {
        let run_id = opened.record.id;
        let expired = || deadline_passed(run_id, wait);
        if !drive {
            return Err(expired());
        }
        let flow = self.fitting_flow(&opened).map_err(|_| expired())?;
        match self.take(opened).await {
            Ok(Some(opened)) => match drive::go_on(self.clone(), flow, opened).await {
                // What follows from it is the run's affair, not that of whoever came too late.
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::RunBusy => Ok(()),
                Err(error) => Err(error),
            },
            Ok(None) => Err(expired()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a key entitles to.
pub(super) enum Found {
    /// To answer an open wait.
    Open(Box<Opened>, Box<Wait>),
    /// To hear what closed the wait, or what was accepted for it and closes it.
    Closed(Box<Opened>, Receipt),
}

impl Found {
    /// The run.
    pub(super) fn opened(&self) -> &Opened {
        match self {
            Self::Open(opened, _) | Self::Closed(opened, _) => opened,
        }
    }
}

/// The refusal of an answer to a run that failed where it was committed last, with its waits open.
pub(super) fn takes_no_answers(run: RunId) -> Error {
    let message = "the run has failed and takes no answers until it is retried";
    Error::new(ErrorKind::InvalidState, message).with_run(run)
}

/// The refusal of what comes after the deadline, while nothing has taken its place.
pub(super) fn deadline_passed(run: RunId, wait: &Wait) -> Error {
    let message = match wait.request.default {
        Some(_) => "the deadline has passed; the wait's default takes the answer's place",
        None => "the deadline has passed",
    };
    Error::new(ErrorKind::SuspensionExpired, message).with_run(run).with("wait", &wait.id)
}

/// The receipt of the closed wait that a key of that digest could have answered.
fn closed_by_key(opened: &Opened, digest: &crate::id::KeyDigest) -> Option<Receipt> {
    opened.snapshot.receipts.iter().rev().find(|receipt| receipt.is_opened_by(digest)).cloned()
}

/// What the holder of a right key hears who came too late.
pub(super) fn refusal(receipt: Receipt) -> Error {
    let (kind, message) = match receipt.closed {
        Closed::TimedOut => (ErrorKind::SuspensionExpired, "the deadline has passed"),
        Closed::Answered => (ErrorKind::AlreadyResumed, "the wait was answered before"),
        Closed::Defaulted => {
            (ErrorKind::AlreadyResumed, "the deadline has passed and the default was taken")
        }
        Closed::Cancelled => (ErrorKind::AlreadyResumed, "the run was cancelled"),
        Closed::Superseded => (ErrorKind::AlreadyResumed, "the flow went on without an answer"),
    };
    Error::new(kind, message)
        .with("wait", &receipt.wait_id)
        .with("at", receipt.at)
        .with_receipt(receipt)
}
